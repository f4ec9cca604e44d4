"""Near-duplicates, by the Jaccard similarity of word 3-grams (Broder 1997; in data pipelines: Lee et al. 2022,
2107.06499). The first one stays.

Ours differs: no MinHash estimates anything. `hashed.Index` finds every pair at the threshold, which is exact. Rows are
compared within one label only, for a benign twin mirrors its harmful row on purpose.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from breakfix.core import Dropped, Example
from breakfix.curate.steps.hashed import Index, Ints, Sets, crowded, shingle_sets
from breakfix.curate.steps.stream import Look, whole
from breakfix.curate.steps.text import asked, normal

NEAR = "near-duplicate of an earlier row"
FAMILY = "its family has enough rows that are nearly like it"
AT_ONCE = 1024  # rows of a batch that are compared with each other


class Copies:
    """Drops a row when `most` earlier rows of its group, which were kept, are like it by `threshold` (0 to 1) or more.

    `text` is what is compared; a row whose text is "" is let through, and so is one whose group is None.
    """

    def __init__(
        self,
        name: str,
        threshold: float,
        reason: str,
        *,
        most: int = 1,
        text: Callable[[Example], str] = lambda row: asked(row.prompt),
        group: Callable[[Example], Hashable] = lambda row: row.kind == "harmful",
    ) -> None:
        self.name, self.threshold, self.reason, self.most = name, threshold, reason, most
        self.text, self.group = text, group

    def __call__(self, examples: Sequence[Example]) -> tuple[list[Example], list[Dropped]]:
        return whole(self, examples)

    def looker(self) -> Look:
        index, numbers = Index(self.threshold), dict[Hashable, int]()
        groups = np.zeros(1024, np.int64)  # of the index's rows

        def look(rows: Sequence[Example]) -> list[str]:
            nonlocal groups
            texts = [self.text(row) for row in rows]
            group = [self.group(row) for row in rows]
            which = [i for i, text in enumerate(texts) if text and group[i] is not None]
            mine = np.array([numbers.setdefault(group[i], len(numbers)) for i in which], np.int64)
            found = shingle_sets([normal(texts[i]) for i in which])
            reasons = [""] * len(rows)
            for start in range(0, len(which), AT_ONCE):
                stop = min(start + AT_ONCE, len(which))
                part, of = found.part(start, stop), mine[start:stop]
                gone = self._gone(index, groups, part, of)
                for i in np.flatnonzero(gone).tolist():
                    reasons[which[start + i]] = self.reason
                kept = np.flatnonzero(~gone)
                if index.rows + len(kept) > len(groups):
                    groups = np.concatenate([groups, np.zeros(len(groups) + len(kept), np.int64)])
                groups[index.rows : index.rows + len(kept)] = of[kept]
                index.add(part.some(kept))
            return reasons

        return look

    def _gone(self, index: Index, groups: Ints, part: Sets, of: Ints) -> NDArray[np.bool_]:
        """[len(part)]: which are dropped. `of` [len(part)] and `groups` [rows of the index]: the groups."""
        i, j = index.alike(part)
        earlier = np.bincount(i[groups[j] == of[i]], minlength=len(of))
        gone = earlier >= self.most
        left = np.flatnonzero(~gone)
        left = left[crowded(part.some(left), self.threshold)]
        own = Index(self.threshold)
        own.add(part.some(left))
        beside: dict[int, list[int]] = defaultdict(list)
        for a, b in zip(*(left[place].tolist() for place in own.alike(own.sets)), strict=True):
            if b < a and of[a] == of[b]:
                beside[a].append(b)
        for a, others in beside.items():
            gone[a] = earlier[a] + sum(not gone[b] for b in others) >= self.most
        return gone


class Near(Copies):
    """Drops a row whose shingles are like an earlier one's, of the same label, by `threshold` (0 to 1) or more."""

    def __init__(self, threshold: float) -> None:
        super().__init__("near", threshold, NEAR)


class Family(Copies):
    """Of rows of one family, kind and language that are alike by LOOSE or more, `most` stay: a frame with many fillers
    teaches the frame. Rows without a family are no family."""

    LOOSE = 0.5

    def __init__(self, most: int) -> None:
        super().__init__(
            "family",
            self.LOOSE,
            FAMILY,
            most=most,
            group=lambda row: (row.family, row.kind, row.language) if row.family else None,
        )
