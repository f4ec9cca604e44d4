"""Tests of means (scores, losses) that assume no distribution. Two-sided; 1.0 where there is nothing to compare.

p = (1 + draws as far out as what was seen) / (1 + draws), which is never 0 (Phipson and Smyth 2010).
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from breakfix.stats.base import CHUNK

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]

DRAWS = 10_000


def paired_permutation(
    before: Mapping[str, float | None], after: Mapping[str, float | None], rng: random.Random, draws: int = DRAWS
) -> float:
    """p that the same cases have the same mean before and after: each pair may be the other way round (Fisher 1935).

    Pairs with a None, and cases that are in only one of the two, are left out.
    """
    import numpy as np

    both = ((before[case], after[case]) for case in before if case in after)
    changes = np.array([a - b for b, a in both if b is not None and a is not None])
    if not changes.any():
        return 1.0
    generator = np.random.default_rng(rng.getrandbits(64))
    drawn = [(generator.integers(0, 2, (size, len(changes))) * 2 - 1.0) @ changes for size in _chunks(draws)]
    return _p(float(changes.sum()), np.concatenate(drawn))


def stratified_permutation(
    one: Iterable[tuple[Hashable, float | None]],
    two: Iterable[tuple[Hashable, float | None]],
    rng: random.Random,
    draws: int = DRAWS,
) -> float:
    """p that two groups of (stratum, value) have the same means: values change groups within their stratum (hazard,
    language), so that groups of different mixture may be compared. None is left out, as is a stratum with one group.
    """
    import numpy as np

    strata: dict[Hashable, tuple[list[float], list[float]]] = {}
    for side, values in enumerate((one, two)):
        for stratum, value in values:
            if value is not None:
                strata.setdefault(stratum, ([], []))[side].append(float(value))
    generator = np.random.default_rng(rng.getrandbits(64))
    seen, drawn = 0.0, np.zeros(draws)
    for left, right in strata.values():
        if left and right:
            pool = np.array([*left, *right])
            pool -= pool.mean()
            seen += float(pool[len(left) :].sum())
            rows = (np.broadcast_to(pool, (size, len(pool))) for size in _chunks(draws))
            drawn += np.concatenate([generator.permuted(row, axis=1)[:, len(left) :].sum(1) for row in rows])
    return _p(seen, drawn)


def _chunks(draws: int) -> list[int]:
    return [min(CHUNK, draws - start) for start in range(0, draws, CHUNK)]


def _p(seen: float, drawn: Array) -> float:
    """Sums that differ by rounding alone are as far out."""
    import numpy as np

    far = np.abs(drawn) >= abs(seen) * (1 - 1e-9) - 1e-12
    return (1 + int(far.sum())) / (1 + len(drawn))
