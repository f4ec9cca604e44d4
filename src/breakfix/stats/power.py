"""How many cases tell what: 5 % two-sided, 80 % power unless another is asked for, normal approximations."""

from __future__ import annotations

import math
from statistics import NormalDist

from breakfix.stats.base import Z, items


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


def cases_per_arm(one: float, two: float, power: float = 0.8) -> int:
    """Cases in each of two arms that tell one share from the other (Fleiss, without continuity correction)."""
    if not (0 <= one <= 1 and 0 <= two <= 1 and one != two):
        raise ValueError(f"{one} and {two}: expected two different shares from 0 to 1")
    return math.ceil(_needed(one, two, power))


def _needed(one: float, two: float, power: float) -> float:
    """Cases in each arm."""
    if one == two:
        return math.inf
    both = (one + two) / 2
    null = Z * math.sqrt(2 * both * (1 - both))
    other = NormalDist().inv_cdf(power) * math.sqrt(one * (1 - one) + two * (1 - two))
    return ((null + other) / (one - two)) ** 2


def pairs_needed(lost: float, won: float, power: float = 0.8) -> int:
    """Pairs that tell a share of `lost` from one of `won` by McNemar's test (Miettinen 1968; Connor 1987)."""
    if not (lost >= 0 and won >= 0 and lost + won <= 1 and lost != won):
        raise ValueError(f"lost {lost}, won {won}: expected two different shares, together up to 1")
    return math.ceil(_pairs(lost + won, abs(lost - won), power))


def detectable_change(n: int, changed: float, power: float = 0.8) -> float:
    """The smallest difference of two shares that n pairs tell, if a share `changed` of the pairs changes one way or the
    other. nan where it would not be told even if all changed the same way.

    100 pairs of which a fifth changes tell 0.124. To be stated for a suite that is measured before and after.
    """
    if n < 1 or not 0 < changed <= 1:
        raise ValueError(f"n {n}, changed {changed}: expected at least one pair and a share above 0, up to 1")
    if _pairs(changed, changed, power) > n:
        return math.nan
    low, high = 0.0, changed  # `high` is told, `low` is not
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if _pairs(changed, middle, power) <= n else (middle, high)
    return high


def _pairs(changed: float, apart: float, power: float) -> float:
    other = NormalDist().inv_cdf(power) * math.sqrt(changed - apart * apart)
    return ((Z * math.sqrt(changed) + other) / apart) ** 2


def cases_for_width(half: float, share: float = 0.5) -> int:
    """Cases of which Wilson's interval is at most ± half wide. ± 0.05 takes 381 at a share of 0.5."""
    if not (0 < half < 0.5 and 0 <= share <= 1):
        raise ValueError(f"half {half}, share {share}: expected a half width between 0 and 0.5, a share from 0 to 1")
    return math.ceil(items(share, 2 * half) - 1e-9)


def cases_to_clear(limit: float, share: float = 0.0) -> int:
    """Cases with which the upper bound of `share` is at most the limit: z^2 L (1 - L) / (L - share)^2.

    0 of 125 clears 0.03; a gate with this limit needs that many at least.
    """
    if not 0 <= share < limit < 1:
        raise ValueError(f"share {share}, limit {limit}: expected 0 <= share < limit < 1")
    return math.ceil(Z * Z * limit * (1 - limit) / (limit - share) ** 2)
