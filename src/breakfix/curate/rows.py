"""One row of somebody's data → a checked `Prompt`. The same rules for a JSONL file and for a hub data set.

    prompt    text, what the user asks                              required
    kind      harmful | twin | plain                                required, unless the source's config says it
    reply     the reply to learn; without one it is minted
    rejected  a reply to move away from
    hazard    a taxonomy id (data/taxonomy.yaml); "" where none applies
    language  a code such as en; default en
    licence   default: the source's

Columns of other names are mapped by the source's `fields` (our name → theirs); unknown columns are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from breakfix import safe_answers, taxonomy
from breakfix.config import FIELDS, Source
from breakfix.core import Case, Split, ask, digest
from breakfix.curate.base import KINDS, Prompt, expected
from breakfix.errors import DataError


@dataclass(frozen=True, slots=True)
class Cut:
    """A text that was too long, and was cut: characters before and after."""

    where: str
    field: str
    before: int
    after: int


def prompt_of(row: Any, source: Source, where: str, longest: int) -> tuple[Prompt, list[Cut]]:
    """The row as a prompt, and what was cut to `longest` characters. Raises DataError "WHERE: what is wrong"."""
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: expected an object with the keys prompt and kind, got {type(row).__name__}")
    fields = _fields(cast("Mapping[str, Any]", row), source, where)
    kind = fields["kind"] or source.kind or ""
    if kind not in KINDS:
        said = f"kind {kind!r}" if kind else "no kind"
        raise DataError(f"{where}: {said}; expected harmful, twin or plain (or set the source's `kind`)")
    cuts = [
        Cut(where, name, len(fields[name]), longest)
        for name in ("prompt", "reply", "rejected")
        if len(fields[name]) > longest
    ]
    text = {name: fields[name][:longest].strip() for name in ("prompt", "reply", "rejected")}
    language = fields["language"] or "en"
    _check(kind, fields["hazard"], language, bool(text["reply"]), where)
    case = Case(
        id=f"{source.name}/{digest([text['prompt'], kind])[:12]}",
        prompt=ask(text["prompt"]),
        expect=expected(kind),
        source=source.name,
        split=Split.TRAIN,
        hazard=fields["hazard"],
        language=language,
        licence=fields["licence"] or source.licence,
    )
    why = f"{kind} row of {source.name}" + (f" ({', '.join(cut.field for cut in cuts)} cut)" if cuts else "")
    return Prompt(case, kind, why, reply=text["reply"] or None, rejected=text["rejected"] or None), cuts


def _fields(row: Mapping[str, Any], source: Source, where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in FIELDS:
        column = source.fields.get(name, name)
        if name in source.fields and column not in row:
            raise DataError(f"{where}: no column {column!r} for {name}; the row has {', '.join(map(str, row))}")
        value = row.get(column)
        if value is not None and not isinstance(value, str):
            raise DataError(f"{where}: {column} should be text, got {type(value).__name__}")
        if value and any("\ud800" <= character <= "\udfff" for character in value):
            raise DataError(f"{where}: {column} has half a character (a lone \\ud8xx escape); write it as UTF-8")
        found[name] = value or ""
    if not found["prompt"].strip():
        raise DataError(f"{where}: {source.fields.get('prompt', 'prompt')} is missing or empty; expected what is asked")
    return found


def _check(kind: str, hazard: str, language: str, replied: bool, where: str) -> None:
    if hazard and hazard not in taxonomy.hazards():
        raise DataError(f"{where}: hazard {hazard!r} is not in the taxonomy; known are {', '.join(taxonomy.hazards())}")
    if not re.fullmatch(r"[a-z]{2,3}(-\w+)*", language):
        raise DataError(f"{where}: language {language!r} is not a code such as en or pt-BR")
    if kind == "harmful" and not replied and not has_safe_answers(language):
        known = ", ".join(sorted(safe_answers.load()))
        raise DataError(f"{where}: no safe answers in language {language!r}; give a reply, or use one of {known}")


def has_safe_answers(language: str) -> bool:
    return language.split("-")[0].lower() in safe_answers.load()
