"""Exact duplicates: the same prompt, but for case, punctuation and spacing. The first one stays.

The same prompt as harmful *and* as benign is a contradiction, not a duplicate: the later one goes, with that reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from breakfix.core import Dropped, Example
from breakfix.curate.steps.text import conversation

SAME = "same prompt as an earlier row"
CONTRADICTION = "same prompt as an earlier row with the opposite label"


class Exact:
    """Keeps the first row of each prompt."""

    name = "exact"

    def __call__(self, examples: Sequence[Example]) -> tuple[list[Example], list[Dropped]]:
        labels: dict[str, bool] = {}
        kept: list[Example] = []
        dropped: list[Dropped] = []
        for example in examples:
            key, harmful = conversation(example.prompt), example.kind == "harmful"
            if key not in labels:
                labels[key] = harmful
                kept.append(example)
            else:
                dropped.append(Dropped(example, self.name, SAME if labels[key] == harmful else CONTRADICTION))
        return kept, dropped
