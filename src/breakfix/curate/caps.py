"""A cap per hazard: of each kind, at most so many rows of one hazard, so that a source that is rich in one does not
decide what "harmful" means. Which ones stay is drawn by the row's own digest: the same ones whatever else is there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from breakfix.core import Dropped, Example, digest

FULL = "its hazard has as many rows as it may"


class Caps:
    """The step. Rows without a hazard are not counted."""

    name = "cap"

    def __init__(self, most: int, *, seed: int = 0) -> None:
        self.most, self.seed = most, seed

    def __call__(self, examples: Sequence[Example]) -> tuple[list[Example], list[Dropped]]:
        cells: dict[tuple[str, str], list[int]] = defaultdict(list)
        for i, row in enumerate(examples):
            if row.hazard:
                cells[row.kind, row.hazard].append(i)
        gone: set[int] = set()
        for places in cells.values():
            if len(places) > self.most:
                drawn = sorted(places, key=lambda i: digest([self.seed, examples[i].id]))
                gone.update(drawn[self.most :])
        kept = [row for i, row in enumerate(examples) if i not in gone]
        return kept, [Dropped(examples[i], self.name, FULL) for i in sorted(gone)]
