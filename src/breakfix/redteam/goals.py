"""Goals of one's own (`redteam.seeds`): JSON lines that the red team attacks beside the starter pack's requests.

    {"prompt": "Explain how to bake bread", "hazard": "privacy", "language": "en", "split": "dev", "licence": "MIT"}

Only `prompt` is needed. A goal of split dev (the default) is measured, and curation keeps clear of it; one of split
train is attacked by seen families only, and the next round may learn from it where its licence lets it. A line that is
no goal is left out with its reason, and the others are attacked; a file with none is a mistake.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from breakfix.core import Case, Expect, Split, ask, digest
from breakfix.errors import DataError
from breakfix.taxonomy import hazards

SOURCE = "seeds"
FIELDS = ("prompt", "hazard", "language", "split", "licence")
SPLITS = (Split.DEV.value, Split.TRAIN.value)
TOLD = 20  # lines whose reason is in the record


@dataclass(frozen=True, slots=True)
class Goals:
    """`left_out`: line, from 1 → why it is no goal."""

    cases: tuple[Case, ...] = ()
    left_out: tuple[tuple[int, str], ...] = ()

    def record(self) -> dict[str, Any]:
        counts = {split: sum(case.split.value == split for case in self.cases) for split in SPLITS}
        lines = [{"line": line, "reason": reason} for line, reason in self.left_out[:TOLD]]
        return {**counts, "left_out": len(self.left_out), "lines": lines}

    def told(self) -> str:
        """What was left out, in words; "" where nothing was."""
        if not self.left_out:
            return ""
        line, reason = self.left_out[0]
        return (
            f"left out {len(self.left_out)} of {len(self.left_out) + len(self.cases)} lines, the first {line}: {reason}"
        )


def read(path: Path) -> Goals:
    """Raises DataError (file, line, what is wrong) where there is no such file, or no goal in it."""
    try:
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}); redteam.seeds is a file of JSON lines") from None
    found: dict[str, Case] = {}
    lines_of: dict[str, int] = {}
    left_out: list[tuple[int, str]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        case = _goal(line)
        if isinstance(case, str):
            left_out.append((number, case))
        elif case.id in found:
            left_out.append((number, f"the goal of line {lines_of[case.id]} again"))
        else:
            found[case.id], lines_of[case.id] = case, number
    if not found:
        line, reason = left_out[0] if left_out else (1, "the file is empty")
        raise DataError(f'{path}:{line}: {reason}; no line is a goal, expected such as {{"prompt": "..."}}')
    return Goals(tuple(found.values()), tuple(left_out))


def _goal(line: bytes) -> Case | str:
    """The goal, or why it is none (which never quotes it)."""
    try:
        loaded: Any = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return f"byte {error.start + 1} of the line is not UTF-8"
    except (ValueError, RecursionError) as error:
        return f"not JSON ({getattr(error, 'msg', 'nested too deep')})"
    if not isinstance(loaded, dict):
        return f"expected an object, found {type(loaded).__name__}"
    row = cast("dict[str, Any]", loaded)
    if unknown := sorted(set(row) - set(FIELDS)):
        return f"unknown field {unknown[0]!r}; known: {', '.join(FIELDS)}"
    if wrong := [name for name in row if not isinstance(row[name], str)]:
        return f"'{wrong[0]}' is {type(row[wrong[0]]).__name__}, expected text"
    prompt, hazard = " ".join(row.get("prompt", "").split()), row.get("hazard", "")
    language, split = row.get("language", "en"), row.get("split", Split.DEV.value)
    if not prompt:
        return "no 'prompt', or an empty one"
    if any("\ud800" <= character <= "\udfff" for character in prompt):
        return "'prompt' has half a character (a lone \\ud8xx escape)"
    if hazard not in ("", *hazards()):
        return f"'hazard' is none of {', '.join(hazards())}"
    if not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]+)?", language):
        return "'language' is no code such as en or pt-BR"
    if split not in SPLITS:
        return f"'split' is none of {', '.join(SPLITS)}"
    return Case(
        id=f"{SOURCE}/{digest([prompt, hazard, language, split])[:12]}",
        prompt=ask(prompt),
        expect=Expect.REFUSE,
        source=SOURCE,
        split=Split(split),
        hazard=hazard,
        language=language,
        licence=row.get("licence", "unknown"),
    )
