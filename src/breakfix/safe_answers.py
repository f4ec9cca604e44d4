"""Breakfix refusals: short answers that decline, say why, and offer what can be offered. Texts: data/safe_answers.yaml.

An answer is opening + reason + offer, each drawn for the hazard, or from the language's "general" where it has none.
English answers are 25-55 words, so that a small model can learn them whole and a 64-token reply holds one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from breakfix.errors import DataError

UNSPACED = frozenset({"zh", "ja"})


@cache
def load() -> Mapping[str, Any]:
    """language → {openings: [...], reasons: {hazard: [...]}, offers: {hazard: [...]}}."""
    return yaml.safe_load(files("breakfix").joinpath("data/safe_answers.yaml").read_text("utf-8"))["languages"]


def compose(hazard: str, language: str, rng: random.Random) -> str:
    """A refusal of a request of this hazard ("" = general) in this language (ISO 639-1; "es-MX" is read as "es").

    Draws three times from `rng`, whatever the hazard. Raises DataError for a language without answers.
    """
    known = load()
    code = language.split("-")[0].lower()
    if code not in known:
        raise DataError(f"no safe answers in language {language!r}; expected one of {', '.join(sorted(known))}")
    texts = known[code]
    parts = [rng.choice(texts["openings"]), _draw(texts["reasons"], hazard, rng), _draw(texts["offers"], hazard, rng)]
    return ("" if code in UNSPACED else " ").join(parts)


def _draw(by_hazard: Mapping[str, Sequence[str]], hazard: str, rng: random.Random) -> str:
    return rng.choice(by_hazard.get(hazard) or by_hazard["general"])
