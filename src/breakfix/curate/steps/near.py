"""Near-duplicates by MinHash (Broder 1997; in data pipelines: Lee et al. 2022, 2107.06499). The first one stays.

Ours differs: candidates from the LSH index are compared by their true Jaccard similarity, so the threshold is exact;
and rows are compared within one label only, for a benign twin mirrors its harmful row on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from breakfix.core import Dropped, Example
from breakfix.curate.steps.text import asked, jaccard, shingles

PERMUTATIONS = 128
MARGIN = 0.75  # candidates are looked for down to this share of the threshold: MinHash is an estimate
NEAR = "near-duplicate of an earlier row"


class Near:
    """Drops a row whose shingles are like an earlier one's, of the same label, by `threshold` (0 to 1) or more."""

    name = "near"

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def __call__(self, examples: Sequence[Example]) -> tuple[list[Example], list[Dropped]]:
        indexes = {True: Index(self.threshold), False: Index(self.threshold)}
        kept: list[Example] = []
        dropped: list[Dropped] = []
        for example in examples:
            index, found = indexes[example.kind == "harmful"], shingles(asked(example.prompt))
            if index.like(found) is not None:
                dropped.append(Dropped(example, self.name, NEAR))
            else:
                index.add(len(kept), found)
                kept.append(example)
        return kept, dropped


class Index:
    """Sets of shingles under integer keys, asked for the most similar one."""

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHashLSH

        self.threshold = threshold
        self._lsh: Any = MinHashLSH(threshold=max(0.1, threshold * MARGIN), num_perm=PERMUTATIONS)
        self._sets: dict[int, frozenset[str]] = {}
        self._largest = 0

    def add(self, key: int, found: frozenset[str]) -> None:
        self._lsh.insert(key, sketch(found))
        self._sets[key] = found
        self._largest = max(self._largest, len(found))

    def all_like(self, found: frozenset[str], sketched: Any = None) -> list[int]:
        """Keys at the threshold or above, in order. A set too large to be like any (a long passage) isn't hashed."""
        if self.too_large(found):
            return []
        keys: Iterable[int] = self._lsh.query(sketched or sketch(found))
        return sorted(key for key in keys if jaccard(found, self._sets[key]) >= self.threshold)

    def too_large(self, found: frozenset[str]) -> bool:
        return len(found) * self.threshold > self._largest

    def like(self, found: frozenset[str]) -> int | None:
        return next(iter(self.all_like(found)), None)


@cache
def _empty() -> Any:
    """Its permutations are the same for every MinHash, and to draw them costs more than to hash a short text."""
    from datasketch import MinHash

    return MinHash(num_perm=PERMUTATIONS)


def sketch(found: frozenset[str]) -> Any:
    """The MinHash of a set (about 0.4 ms for a hundred shingles)."""
    made: Any = _empty().copy()
    made.update_batch([shingle.encode() for shingle in sorted(found)])
    return made
