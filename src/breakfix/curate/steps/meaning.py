"""Decontamination by meaning: a training row that says in other words what a wall says.

Both are embedded (models/embed.py); a row goes when its cosine to a wall is `threshold` or more. What threshold: see
docs/curation.md, where paraphrases of walls and harmless neighbours are measured. Beside the rules of decontaminate.py,
not in their place: an embedding does not see a wall that stands inside a long row.

Walls of WORDS words or more only, and of the splits' requests: a passage of a reading test is not paraphrased.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from breakfix.core import Case, Dropped, Example, Expect
from breakfix.curate.steps.decontaminate import SHOWN, origin
from breakfix.curate.steps.text import asked, normal
from breakfix.curate.steps.vectors import Vectors

WORDS = 4
AT_ONCE = 1024  # rows × all walls: similarities held at a time
REQUESTS = frozenset({Expect.REFUSE, Expect.COMPLY})  # questions with one right answer share a form, not a meaning


class Meaning:
    """The step. `report` says what it did last: {threshold, walls, checked, dropped, by_wall, pairs}."""

    name = "meaning"

    def __init__(self, walls: Sequence[Case], vectors: Vectors, threshold: float) -> None:
        self.walls = [
            wall for wall in walls if wall.expect in REQUESTS and len(normal(asked(wall.prompt)).split()) >= WORDS
        ]
        self.vectors, self.threshold = vectors, threshold
        self.report: dict[str, Any] = {}

    def __call__(self, examples: Sequence[Example]) -> tuple[list[Example], list[Dropped]]:
        best, which = self.nearest([row.prompt[-1].content for row in examples])
        gone = {i: self.walls[int(which[i])] for i in np.flatnonzero(best >= self.threshold).tolist()}
        self.report = {
            "threshold": self.threshold,
            "embedder": self.vectors.id,
            "walls": len(self.walls),
            "checked": len(examples),
            "dropped": len(gone),
            "by_wall": dict(sorted(Counter(wall.source for wall in gone.values()).items())),
            "pairs": [
                {"row": origin(examples[i]), "wall": wall.id, "cosine": round(float(best[i]), 3)}
                for i, wall in list(gone.items())[:SHOWN]
            ],
        }
        kept = [row for i, row in enumerate(examples) if i not in gone]
        return kept, [Dropped(examples[i], self.name, f"means what {wall.source} asks") for i, wall in gone.items()]

    def nearest(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """([texts] the greatest cosine to a wall, [texts] that wall's place); -1 and 0 where there are no walls."""
        best, which = np.full(len(texts), -1, np.float32), np.zeros(len(texts), np.int64)
        if not self.walls or not texts:
            return best, which
        walls = self.vectors.of([asked(wall.prompt) for wall in self.walls])
        rows = self.vectors.of(texts)
        for start in range(0, len(texts), AT_ONCE):
            cosines = rows[start : start + AT_ONCE] @ walls.T
            which[start : start + AT_ONCE] = cosines.argmax(1)
            best[start : start + AT_ONCE] = cosines.max(1)
        return best, which
