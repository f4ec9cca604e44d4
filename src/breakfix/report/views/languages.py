"""Our own requests by language: answered, refused, the change since the untouched model, and whether the model can be
measured in it at all. For the page (`languages`), and as one table, from the untouched model to the last round
(`table`).
"""

from __future__ import annotations

from typing import Any

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


def markdown(document: Json) -> str:
    rows = [HEADER, ("---",) * len(HEADER), *table(document)]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", *notes(document)]) + "\n"


def notes(document: Json) -> list[str]:
    """What the table is of, and how to read it."""
    rounds = [round_name(one["index"]).lower() for one in document["rounds"] if one.get("by_language")]
    across = f"{rounds[0]} → {rounds[-1]}" if len(rounds) > 1 else "".join(rounds)
    return [
        f"Requests of {source(document)}, asked directly; {across}; per cent with 95 % intervals, "
        "n in brackets; change: paired, in points.",
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
    cells = {name: _figures([one.get(name) for one in ends]) for name in ("answered", "refused", "speaks")}
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


def _figures(estimates: list[Json | None]) -> str:
    """ "90 (74 to 97) → 20 (9 to 38) [30]": per cent; n once where it did not change."""
    known = [None if one is None or one["value"] is None else one for one in estimates]
    shown = [
        f"{_percent(one, 'value')} ({_percent(one, 'low')} to {_percent(one, 'high')})" if one else "–" for one in known
    ]
    counts = list(dict.fromkeys(str(one["n"]) for one in known if one))
    return " → ".join(shown) + (f" [{', '.join(counts)}]" if counts else "")


def _percent(estimate: Json, name: str) -> str:
    return f"{100 * estimate[name]:.0f}"


def _points(estimate: Any) -> str:
    """ "−43 (−60 to −20)"; a dash where it was not measured."""
    if estimate is None or estimate["value"] is None:
        return "–"
    low, value, high = (f"{100 * estimate[name]:+.0f}" for name in ("low", "value", "high"))
    return f"{value} ({low} to {high})".replace("-", "\N{MINUS SIGN}")
