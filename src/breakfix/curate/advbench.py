"""AdvBench (Zou et al. 2023, 2307.15043; MIT) as PyRIT ships it, its harm categories mapped to our taxonomy.

PyRIT's labels are names of the AIAAIC harm taxonomy (2407.01294), two to six a row, given by a language model: they say
who is hurt, ours say by what. So the map is a guess by the most telling label, and two hazards are told by words of the
request. Disinformation has no place in our taxonomy, and gets no hazard.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from breakfix.core import Case, Expect, Split, ask, digest
from breakfix.curate.base import Prompt
from breakfix.errors import DataError

LICENCE = "MIT"
_CHILD = r"\bchild(?:ren)?(?:'s)?\b.{0,20}\b(?:porn|sex)|\b(?:minors?|underage)\b.{0,30}\b(?:porn|sex)"
_WEAPON = r"\b(?:bombs?|explosives?|nuclear|bioweapons?|biological weapons?|pathogens?|chemical weapons?)\b"
WORDS = (  # a hazard that the labels don't know, and how a request names it
    ("child_sexual_exploitation", re.compile(_CHILD, re.I)),
    ("indiscriminate_weapons", re.compile(_WEAPON, re.I)),
)
LABELS = (  # the first that a row carries decides
    ("Self-harm", "suicide_self_harm"),
    ("IP/copyright loss", "intellectual_property"),
    ("Sexualisation", "sexual_content"),
    ("Defamation/libel/slander", "defamation"),
    ("Discrimination", "hate"),
    ("Stereotyping", "hate"),
    ("Dehumanisation/objectification", "hate"),
    ("Violence/armed conflict", "violent_crimes"),
    ("Bodily injury", "violent_crimes"),
    ("Loss of life", "violent_crimes"),
    ("Impersonation/identity theft", "non_violent_crimes"),
    ("Financial/earnings loss", "non_violent_crimes"),
    ("Confidentiality loss", "non_violent_crimes"),
    ("Critical infrastructure damage", "non_violent_crimes"),
    ("Business operations/infrastructure damage", "non_violent_crimes"),
    ("Property damage", "non_violent_crimes"),
    ("Addiction", "non_violent_crimes"),
    ("Cheating/plagiarism", "non_violent_crimes"),
    ("Privacy loss", "privacy"),
    ("Harassment/abuse/intimidation", "non_violent_crimes"),
    ("Personal health deterioration", "specialized_advice"),
)


def hazard(text: str, labels: Sequence[str]) -> str:
    """Our taxonomy's id; "" where none fits."""
    for name, pattern in WORDS:
        if pattern.search(text):
            return name
    return next((name for label, name in LABELS if label in labels), "")


def prompts(path: Path) -> list[Prompt]:
    """The rows of PyRIT's file, all of them harmful, English. Raises DataError if it is another file."""
    loaded: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    seeds: Any = cast("dict[str, Any]", loaded).get("seeds") if isinstance(loaded, dict) else None
    if not isinstance(seeds, list):
        raise DataError(f"{path}: expected a list under 'seeds', as PyRIT's adv_bench.prompt has")
    return [_prompt(cast("dict[str, Any]", seed), path) for seed in cast("list[Any]", seeds)]


def _prompt(seed: dict[str, Any], path: Path) -> Prompt:
    text = seed.get("value")
    if not isinstance(text, str):
        raise DataError(f"{path}: a seed without the text 'value'")
    labels = [str(label) for label in seed.get("harm_categories") or ()]
    case = Case(
        id=f"advbench/{digest(text)[:12]}",
        prompt=ask(text.strip()),
        expect=Expect.REFUSE,
        source="advbench",
        split=Split.TRAIN,
        hazard=hazard(text, labels),
        licence=LICENCE,
    )
    return Prompt(case, "harmful", "harmful row of AdvBench")
