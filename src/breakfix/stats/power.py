"""How many cases tell what."""

from __future__ import annotations

import math
from statistics import NormalDist

from breakfix.stats.base import Z


def detectable_drop(n: int, share: float, power: float = 0.8) -> float:
    """The smallest drop from `share` that two arms of n cases each tell apart (5 % two-sided, normal approximation of
    Fleiss, without continuity correction). nan where even a drop to 0 would not be told.

    200 cases tell 0.20 from 0.10. Pairs on the same cases tell more; this is the figure to state for a suite.
    """
    if n < 1 or not 0 < share <= 1:
        raise ValueError(f"n {n}, share {share}: expected at least one case and a share above 0, up to 1")
    if _needed(share, 0.0, power) > n:
        return math.nan
    low, high = 0.0, share  # of the second share: `low` is told apart, `high` is not
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if _needed(share, middle, power) <= n else (low, middle)
    return share - low


def _needed(one: float, two: float, power: float) -> float:
    """Cases in each arm."""
    if one == two:
        return math.inf
    both = (one + two) / 2
    null = Z * math.sqrt(2 * both * (1 - both))
    other = NormalDist().inv_cdf(power) * math.sqrt(one * (1 - one) + two * (1 - two))
    return ((null + other) / (one - two)) ** 2
