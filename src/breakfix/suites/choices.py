"""Multiple-choice questions: what is asked, and the continuations whose log-likelihood is compared.

Formats (one user turn; the choice is what the assistant would say first):

    piqa    the goal as it stands                                      the two solutions
    mmlu    the question as it stands ("cloze": no letters)            the four options
    boolq   passage, blank line, "Question: …?", "Answer yes or no."   Yes, No
    openbookqa      as mmlu
    truthfulqa      the question as it stands                          the answers of MC1
    fact_pairs      "Tell me a fact (SUBJECT)."                        the true statement, the false one
    summary_pairs   the sentence, "Say this in fewer words."           the summary that it supports, the other

Small chat models can't use option letters (MMLU by letter is chance below about 1B), and need no "Answer:" where the
template already opens the assistant's turn. To stay short, BoolQ passages and MMLU questions are of less than
`MAX_WORDS` words (2,549 of 3,270 and 2,652 of 2,850 rows are left): comparable between rounds, not with leader boards.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from breakfix.core import Case, Expect, digest
from breakfix.errors import DataError
from breakfix.suites.rows import Origin, json_list, json_rows

MAX_WORDS = 120
_FIELDS = {"question": str, "options": str, "answer": str}


def piqa(origin: Origin, path: Path) -> list[Case]:
    return _with_options(origin, path)


def mmlu(origin: Origin, path: Path) -> list[Case]:
    return _with_options(origin, path)


def mmlu_whole(origin: Origin, path: Path) -> list[Case]:
    """Also the questions that are too long for a quick measurement."""
    return _with_options(origin, path, longest=None)


def openbookqa(origin: Origin, path: Path) -> list[Case]:
    return _with_options(origin, path)


def truthfulqa(origin: Origin, path: Path) -> list[Case]:
    """The questions alone: this file has right answers and no wrong ones, so nothing can be chosen between."""
    return [_case(origin, row["question"], (), -1) for _, row in json_rows(path, {"question": str, "answer": list})]


def truthfulqa_mc1(origin: Origin, path: Path) -> list[Case]:
    """The authors' mc_task.json: an array of question, mc1_targets (answer → 1 for the right one, else 0)."""
    cases: list[Case] = []
    for number, row in json_list(path, {"question": str, "mc1_targets": dict}):
        targets = cast("dict[str, Any]", row["mc1_targets"])
        if len(targets) < 2 or list(targets.values()).count(1) != 1:
            raise DataError(f"{path}: row {number}: 'mc1_targets' must have two answers or more, one of them with 1")
        cases.append(_case(origin, row["question"], tuple(targets), list(targets.values()).index(1)))
    return cases


def fact_pairs(origin: Origin, path: Path) -> list[Case]:
    """The subject is the family. Both statements are of one form, so length tells little."""
    return [
        replace(
            _case(origin, f"Tell me a fact ({row['domain']}).", (row["text"], row["false"]), 0),
            family=f"{origin.name}/{row['domain']}",
        )
        for _, row in json_list(path, {"text": str, "false": str, "domain": str})
    ]


def summary_pairs(origin: Origin, path: Path) -> list[Case]:
    """Rows whose two summaries are the same, and doubles, are left out."""
    cases: dict[str, Case] = {}
    for _, row in json_rows(path, {"article_sent": str, "correct_sent": str, "incorrect_sent": str}):
        choices = (row["correct_sent"].strip(), row["incorrect_sent"].strip())
        if choices[0] != choices[1]:
            case = _case(origin, f"{row['article_sent'].strip()}\n\nSay this in fewer words.", choices, 0)
            cases.setdefault(case.id, case)
    return list(cases.values())


def boolq(origin: Origin, path: Path) -> list[Case]:
    """`answer` is the text True or False."""
    cases: dict[str, Case] = {}
    for line, row in json_rows(path, {"question": str, "answer": str, "passage": str}):
        if row["answer"] not in ("True", "False"):
            raise DataError(f"{path}:{line}: answer '{row['answer']}', expected True | False")
        if len(row["passage"].split()) < MAX_WORDS:
            question = row["question"].strip().rstrip("?")
            text = f"{row['passage'].strip()}\n\nQuestion: {question[:1].upper()}{question[1:]}?\nAnswer yes or no."
            case = _case(origin, text, ("Yes", "No"), 0 if row["answer"] == "True" else 1)
            cases.setdefault(case.id, case)
    return list(cases.values())


def _with_options(origin: Origin, path: Path, *, longest: int | None = MAX_WORDS) -> list[Case]:
    """Doubles, and rows where two options are the same (nothing could be right), are left out."""
    cases: dict[str, Case] = {}
    for line, row in json_rows(path, _FIELDS):
        options, gold = _options(row)
        if gold < 0:
            raise DataError(f"{path}:{line}: 'answer' is none of the options, or more than one")
        short = longest is None or len(row["question"].split()) < longest
        if short and len(set(options)) == len(options):
            case = _case(origin, row["question"], options, gold)
            cases.setdefault(case.id, case)
    return list(cases.values())


def _options(row: dict[str, Any]) -> tuple[tuple[str, ...], int]:
    """("A. x\\nB. y", "B. y") → (("x", "y"), 1). An option may itself hold line breaks. -1: no single right one."""
    lettered = [option.strip() for option in re.split(r"\n(?=[A-D]\. )", row["options"])]
    answer = row["answer"].strip()
    gold = lettered.index(answer) if lettered.count(answer) == 1 else -1
    return tuple(re.sub(r"^[A-D]\.\s*", "", option) for option in lettered), gold


def _case(origin: Origin, text: str, choices: tuple[str, ...], gold: int) -> Case:
    """Ids are content addresses: what is known of a question is never taken for another wording of it."""
    key = digest([text, choices])[:12]
    return origin.case(key, text, Expect.ANSWER, family=origin.name, choices=choices, gold=gold)
