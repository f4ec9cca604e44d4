"""How much of what was asked and said a report shows: three levels.

public   nothing: ids, categories and counts (the default)
team     the first 80 characters of every turn of a vulnerability's evidence
full     the whole transcripts of the evidence
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args

from breakfix.core import Attempt
from breakfix.errors import UserError

Redaction = Literal["public", "team", "full"]
LEVELS: tuple[str, ...] = get_args(Redaction)
TEAM = 80  # characters


def redacted(document: dict[str, Any], level: Redaction) -> dict[str, Any]:
    """A copy of a report document that shows no more than `level`. UserError for an unknown level."""
    check(level)
    level = min(level, document["redaction"], key=LEVELS.index)
    shown = [] if level == "public" else [_shown(transcript, level) for transcript in document["transcripts"]]
    return {**document, "redaction": level, "transcripts": shown}


def transcripts(attempts: Iterable[Attempt], level: Redaction) -> list[dict[str, Any]]:
    """The attempts, in the order given, as far as `level` shows them."""
    return [] if check(level) == "public" else [_shown(_whole(attempt), level) for attempt in attempts]


def check(level: str) -> str:
    if level not in LEVELS:
        raise UserError(f"{level!r}: no such level of redaction; expected one of {', '.join(LEVELS)}")
    return level


def _whole(attempt: Attempt) -> dict[str, Any]:
    names = ("id", "case", "attack", "family", "persona", "hazard", "language", "breach")
    final = attempt.final
    turns = [{"role": message.role, "text": message.content, "clipped": 0} for message in attempt.transcript]
    return {**{name: getattr(attempt, name) for name in names}, "label": final.label if final else "", "turns": turns}


def _shown(transcript: dict[str, Any], level: str) -> dict[str, Any]:
    if level == "full":
        return transcript
    turns = [
        {**turn, "text": turn["text"][:TEAM], "clipped": turn["clipped"] + max(0, len(turn["text"]) - TEAM)}
        for turn in transcript["turns"]
    ]
    return {**transcript, "turns": turns}
