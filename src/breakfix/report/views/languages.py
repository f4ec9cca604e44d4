"""Our own requests by language: answered, refused, the change since the untouched model, and whether the model can be
measured in it at all. For the page (`languages`), and as one table, from the untouched model to the last round
(`table`).
"""

from __future__ import annotations

from typing import Any

from breakfix.report.headlines import figure, interval
from breakfix.report.languages import FEW, SPEAKS, speaks
from breakfix.report.views.base import Json, cell, round_name
from breakfix.report.views.series import flipped

NAMES = {
    "ar": "Arabic", "de": "German", "en": "English", "es": "Spanish", "fr": "French", "hi": "Hindi", "it": "Italian",
    "ja": "Japanese", "nl": "Dutch", "pt": "Portuguese", "ru": "Russian", "zh": "Chinese",
}  # fmt: skip
SILENT = "does not speak it"
_LOST = {
    "degenerate": "no language",
    "unscored": "not to be told",
    "failed": "failed",
    "elsewhere": "in another language",
}
HEADER = ("language", "harmful answered ↓", "change", "twins refused ↓", "change", "in the language ↑", "")


def languages(document: Json) -> list[Json]:
    """{name, code, rows: [{round, answered, refused, everyday, spoken, change, lost, speaks}]}, English first, a row a
    round. `speaks` is None where too little was said to tell."""
    rounds = [one for one in document["rounds"] if one.get("by_language")]
    return [
        {"name": NAMES.get(code, code), "code": code, "rows": [_row(one, code) for one in rounds]}
        for code in _codes(rounds)
    ]


def source(document: Json) -> str:
    """The suite that the figures are of; "" where there are none."""
    return next((row["of"] for one in document["rounds"] for row in one.get("by_language", {}).values()), "")


def table(document: Json) -> list[tuple[str, ...]]:
    """Rows under HEADER: untouched → last round that measured languages, with intervals and n; paired changes."""
    rounds = [one for one in document["rounds"] if one.get("by_language")]
    ends = [rounds[0], rounds[-1]] if len(rounds) > 1 else rounds
    return [_across([one["by_language"].get(code) or {} for one in ends], code) for code in _codes(rounds)]


def notes(document: Json) -> list[str]:
    """What the table is of, and how to read it."""
    rounds = [round_name(one["index"]).lower() for one in document["rounds"] if one.get("by_language")]
    across = f"{rounds[0]} → {rounds[-1]}" if len(rounds) > 1 else "".join(rounds)
    return [
        f"Requests of {source(document)}, asked directly; {across}; 95 % intervals, n in brackets; change: paired, in "
        "points.",
        f"In the language: of replies to harmless requests of which it can be told. Below {100 * SPEAKS:.0f} % the "
        "model does not speak it, and its refusals there say nothing of safety. "
        f"Fewer than {FEW} replies tell nothing.",
    ]


def _codes(rounds: list[Json]) -> list[str]:
    codes = {code for one in rounds for code in one["by_language"]}
    return sorted(codes, key=lambda code: (code != "en", NAMES.get(code, code)))


def _row(one: Json, code: str) -> Json:
    found: Json = one["by_language"].get(code) or {}
    plain, said = found.get("plain"), found.get("said", {})
    change: Json = found.get("change") or {}
    return {
        "round": round_name(one["index"]),
        "answered": cell(found.get("answered")),
        "refused": cell(found.get("refused")),
        "everyday": cell(None if plain is None else flipped(plain)),
        "spoken": cell(found.get("speaks")),
        "change": {name: _points(change[name]) if name in change else "" for name in ("answered", "refused")},
        "lost": ", ".join(f"{said[label]} {words}" for label, words in _LOST.items() if said.get(label)),
        "speaks": speaks(found.get("speaks")),
    }


def _across(ends: list[Json], code: str) -> tuple[str, ...]:
    cells = {name: " → ".join(_figure(one.get(name)) for one in ends) for name in ("answered", "refused", "speaks")}
    change: Json = ends[-1].get("change") or {}
    told = [speaks(one.get("speaks")) for one in ends]
    said = SILENT if told[-1] is False else "did not speak it" if told[0] is False else ""
    return (
        NAMES.get(code, code),
        cells["answered"],
        _points(change.get("answered")),
        cells["refused"],
        _points(change.get("refused")),
        cells["speaks"],
        said if None not in told else said or "too few replies to tell",
    )


def _figure(estimate: Json | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "–"
    return f"{figure(estimate['value'])} ({interval(estimate)}) [{estimate['n']}]"


def _points(estimate: Any) -> str:
    """ "−43 (−60 to −20)"; a dash where it was not measured."""
    if estimate is None or estimate["value"] is None:
        return "–"
    low, value, high = (f"{100 * estimate[name]:+.0f}" for name in ("low", "value", "high"))
    return f"{value} ({low} to {high})".replace("-", "\N{MINUS SIGN}")
