"""Two groups of different cases. Where the cases are the same, `pairs` tells more."""

from __future__ import annotations

import math
from typing import Literal

from breakfix.core import Estimate


def difference(before: Estimate, after: Estimate) -> Estimate:
    """After minus before, of two independent figures; n is of both together.

    Interval: distances to the bounds, added in squares. For two of `rate` that is Newcombe's hybrid score interval
    (1998, method 10); for others (clustered, corrected, means) it is MOVER (Zou and Donner 2008).
    """
    value = after.value - before.value
    below = math.hypot(after.value - after.low, before.high - before.value)
    above = math.hypot(after.high - after.value, before.value - before.low)
    n, unscored = before.n + after.n, before.unscored + after.unscored
    return Estimate(value, value - below, value + above, n, unscored)


def fisher(good: int, n: int, good_then: int, n_then: int, side: Literal["less", "greater", "both"] = "both") -> float:
    """Exact p that `good` of n and `good_then` of `n_then` have the same share (Fisher 1935), in whole numbers.

    less: as few as `good` or fewer; greater: as many or more; both: all splits that are as unlikely or more so.
    """
    if not (0 <= good <= n and 0 <= good_then <= n_then):
        raise ValueError(f"{good} of {n}, {good_then} of {n_then}: expected counts of their n")
    total = good + good_then
    ways = {k: math.comb(n, k) * math.comb(n_then, total - k) for k in range(max(0, total - n_then), min(n, total) + 1)}
    if side == "less":
        taken = [w for k, w in ways.items() if k <= good]
    elif side == "greater":
        taken = [w for k, w in ways.items() if k >= good]
    else:
        taken = [w for w in ways.values() if w <= ways[good]]
    return sum(taken) / math.comb(n + n_then, total)
