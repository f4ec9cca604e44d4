"""Before against after on the same cases."""

from __future__ import annotations

import math
from collections.abc import Mapping

from breakfix.core import Estimate
from breakfix.stats.base import Z, nothing


def flips(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> tuple[int, int, int, int]:
    """Pairs by case id, yes is 1: (only before, only after, scored in both, not scored in both).

    A case that is in only one of the two counts as not scored in both.
    """
    pairs = [(before.get(case), after.get(case)) for case in dict.fromkeys([*before, *after])]
    scored = [(b, a) for b, a in pairs if b is not None and a is not None]
    lost, won = sum(b > a for b, a in scored), sum(a > b for b, a in scored)
    return lost, won, len(scored), len(pairs) - len(scored)


def paired_difference(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> Estimate:
    """Share after minus share before, on the same cases (outcomes 0, 1 or None by case id); from -1 to 1.

    Interval: Bonett and Price 2012 (adjusted Wald: half a pair is added to each of the four cells), which keeps its
    level from about ten pairs on and does not collapse where no case changed.
    """
    lost, won, n, unscored = flips(before, after)
    if n == 0:
        return nothing(unscored)
    p_lost, p_won = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    spread = Z * math.sqrt((p_lost + p_won - (p_won - p_lost) ** 2) / (n + 2))
    middle = p_won - p_lost
    return Estimate((won - lost) / n, max(-1.0, middle - spread), min(1.0, middle + spread), n, unscored)


def mcnemar(lost: int, won: int) -> float:
    """Two-sided exact p that as many cases change one way as the other (McNemar 1947): see `flips`. None changed: 1."""
    if lost < 0 or won < 0:
        raise ValueError(f"{lost} and {won}: expected counts of cases that changed")
    changed = lost + won
    ways = tail = 1  # of k changes one way, and of at most k; whole numbers, so exact
    for k in range(min(lost, won)):
        ways = ways * (changed - k) // (k + 1)
        tail += ways
    return min(1.0, 2 * tail / 2**changed)
