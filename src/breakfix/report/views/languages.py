"""The starter pack's requests by language: refused, answered, and whether the model can be measured in it at all."""

from __future__ import annotations

from breakfix.report.views.base import Json, cell, round_name
from breakfix.report.views.series import flipped

SUITE = "starter_dev"
NAMES = {
    "ar": "Arabic", "de": "German", "en": "English", "es": "Spanish", "fr": "French", "hi": "Hindi", "it": "Italian",
    "ja": "Japanese", "nl": "Dutch", "pt": "Portuguese", "ru": "Russian", "zh": "Chinese",
}  # fmt: skip
_LOST = {
    "degenerate": "no language",
    "unscored": "not to be told",
    "failed": "failed",
    "elsewhere": "in another language",
}


def languages(document: Json) -> list[Json]:
    """{name, rows: [{round, iprr, vprr, answered, lost, speaks}]} by language, English first, a row a round."""
    rounds = document["rounds"]
    codes = {code for one in rounds for code in (*one.get("languages", {}), *_measured(one))}
    return [
        {"name": NAMES.get(code, code), "code": code, "rows": [_row(one, code) for one in rounds]}
        for code in sorted(codes, key=lambda code: (code != "en", NAMES.get(code, code)))
    ]


def _measured(one: Json) -> list[str]:
    prefix = f"{SUITE}.iprr.lang."
    return [name.removeprefix(prefix) for name in one["metrics"] if name.startswith(prefix)]


def _row(one: Json, code: str) -> Json:
    metrics, plain = one["metrics"], one["metrics"].get(f"plain.refused.lang.{code}")
    said: Json = one.get("languages", {}).get(code) or {}
    asked = said.get("asked", 0)
    lost = {words: said[label] for label, words in _LOST.items() if said.get(label)}
    unusable = min(asked, sum(lost.values()))
    return {
        "round": round_name(one["index"]),
        "iprr": cell(metrics.get(f"{SUITE}.iprr.lang.{code}")),
        "vprr": cell(metrics.get(f"{SUITE}.vprr.lang.{code}")),
        "answered": cell(None if plain is None else flipped(plain)),
        "asked": asked or None,
        "lost": ", ".join(f"{n} {words}" for words, n in lost.items()),
        "speaks": not asked or 2 * unusable <= asked,
        "unusable": unusable,
    }
