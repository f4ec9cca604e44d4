"""A user's own suite: JSON lines of one of three kinds, all rows of the same kind.

    {"prompt": "How do I whittle a knife?", "expect": "comply", "hazard": "violent_crimes"}      replies, judged
    {"prompt": "Bread rises because of", "choices": ["yeast", "salt"], "gold": 0}                choices, by likelihood
    {"prompt": "What is 3 + 4?", "gold": "7"}                                                    replies that hold gold

`expect` is refuse | comply; `gold` the number of the right choice, from 0, or the text that a right reply holds (of a
number: its last number). Any row may have id, hazard and language. Every row is checked before the first is put to a
model. Its split is dev: it may steer a round, and curation keeps whatever resembles it out of the training data.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, cast

from breakfix.core import Case, Expect, Split
from breakfix.errors import DataError
from breakfix.suites.rows import Origin, json_rows
from breakfix.taxonomy import hazards

FIELDS = ("id", "prompt", "expect", "choices", "gold", "hazard", "language")
EXPECT = {"refuse": Expect.REFUSE, "comply": Expect.COMPLY}
Kind = Literal["replies", "choices", "exact"]


def read(name: str, path: Path) -> tuple[list[Case], Kind]:
    """(the file's cases, ids prefixed with the suite's name; of which kind they are). Raises DataError (file, line,
    what is wrong)."""
    origin = Origin(name, Split.DEV, "unknown")
    lines: dict[str, int] = {}
    first: tuple[Kind, int] | None = None
    cases: list[Case] = []
    for line, row in json_rows(path, {"prompt": str}):
        kind = _kind(f"{path}:{line}", row)
        case = _case(origin, f"{path}:{line}", line, row, kind)
        if case.id in lines:
            raise DataError(f"{path}:{line}: the id of line {lines[case.id]} again; ids must be unique")
        lines[case.id] = line
        first = first or (kind, line)
        if kind != first[0]:
            have = f"line {first[1]} has '{_KINDS[first[0]]}'"
            raise DataError(f"{path}:{line}: a row with '{_KINDS[kind]}', but {have}; give each kind a file of its own")
        cases.append(case)
    if first is None:
        raise DataError(
            f"{path}: no rows; expected one JSON object a line, with prompt and expect, or choices, or gold"
        )
    return cases, first[0]


_KINDS: dict[Kind, str] = {"replies": "expect", "choices": "choices", "exact": "gold"}


def _kind(where: str, row: dict[str, Any]) -> Kind:
    if unknown := sorted(set(row) - set(FIELDS)):
        raise DataError(f"{where}: unknown field '{unknown[0]}'; known: {', '.join(FIELDS)}")
    if "expect" in row and ("choices" in row or "gold" in row):
        raise DataError(f"{where}: 'expect' beside choices or gold; give one or the other")
    if "choices" in row:
        return "choices"
    if "gold" in row:
        return "exact"
    if "expect" not in row:
        raise DataError(f"{where}: no 'expect'; expected expect, or choices and gold, or gold")
    return "replies"


def _case(origin: Origin, where: str, line: int, row: dict[str, Any], kind: Kind) -> Case:
    if not row["prompt"].strip():
        raise DataError(f"{where}: 'prompt' is empty")
    if any("\ud800" <= character <= "\udfff" for character in row["prompt"]):
        raise DataError(f"{where}: 'prompt' has half a character (a lone \\ud8xx escape); write it as UTF-8")
    if kind == "replies" and row["expect"] not in EXPECT:
        raise DataError(f"{where}: 'expect' is '{row['expect']}', expected {' | '.join(EXPECT)}")
    hazard, language = row.get("hazard") or "", row.get("language") or "en"
    if hazard not in ("", *hazards()):
        raise DataError(f"{where}: 'hazard' is '{hazard}', expected one of {', '.join(hazards())}, or none")
    if not isinstance(language, str) or not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]+)?", language):
        raise DataError(f"{where}: 'language' is '{language}', expected a code such as en or pt-BR")
    id = row.get("id")
    if id is not None and (not isinstance(id, str | int) or not str(id).strip()):
        raise DataError(f"{where}: 'id' is {type(id).__name__} or empty, expected text or a whole number")
    label = str(line) if id is None else str(id).strip()
    more: dict[str, Any] = {"hazard": hazard, "language": language}
    if kind == "replies":
        return origin.case(label, row["prompt"], EXPECT[row["expect"]], **more)
    choices, gold = _choices(where, row) if kind == "choices" else ((_gold(where, row),), 0)
    return origin.case(label, row["prompt"], Expect.ANSWER, choices=choices, gold=gold, **more)


def _choices(where: str, row: dict[str, Any]) -> tuple[tuple[str, ...], int]:
    given: Any = row["choices"]
    choices = cast("list[Any]", given) if isinstance(given, list) else []
    if len(choices) < 2 or not all(isinstance(c, str) and c.strip() for c in choices) or len({*choices}) < len(choices):
        raise DataError(f"{where}: 'choices' must be a list of two texts or more, none empty or there twice")
    gold: Any = row.get("gold")
    if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < len(choices):
        raise DataError(
            f"{where}: 'gold' is {gold!r}, expected the number of the right choice, 0 to {len(choices) - 1}"
        )
    return tuple(map(str, choices)), gold


def _gold(where: str, row: dict[str, Any]) -> str:
    gold: Any = row["gold"]
    if not isinstance(gold, str) or not any(character.isalnum() for character in gold):
        raise DataError(f"{where}: 'gold' must be a text (a number in quotes, too), or the row needs 'choices'")
    return gold
