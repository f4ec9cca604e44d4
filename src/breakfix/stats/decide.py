"""Figures against limits. A bound decides, not the value: a small sample can't pass by luck."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from breakfix.core import Estimate
from breakfix.stats.base import effective_n, nothing, wilson


@dataclass(frozen=True, slots=True)
class Decision:
    """Of a share where low is good. `bound` is its upper bound; `worst` what that would be if every unscored item had
    been bad. under: `bound` is at most the limit; over: even the lower bound is above it; unclear: too few cases to
    tell, or nothing was measured.
    """

    verdict: Literal["under", "over", "unclear"]
    bound: float
    worst: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.verdict == "under"

    @property
    def passed_at_worst(self) -> bool:
        """Whatever the unscored items were."""
        return self.passed and self.worst <= self.limit


def under(share: Estimate, limit: float) -> Decision:
    """Is a share (low is good) under its limit? For one where high is good: its `complement` against 1 - floor."""
    verdict = "under" if share.high <= limit else "over" if share.low > limit else "unclear"
    return Decision(verdict, share.high, if_unscored_were(1, share).high, limit)


def if_unscored_were(outcome: Literal[0, 1], share: Estimate) -> Estimate:
    """The share if every unscored item had been 0 or 1 (Manski's bounds, with Wilson's interval around each).

    Where attempts cluster, all items count for as much less as the scored ones do (`effective_n`).
    """
    n = share.n + share.unscored
    if not n or (share.n and math.isnan(share.value)):
        return nothing(share.unscored)
    yes = (share.n * share.value if share.n else 0.0) + share.unscored * outcome
    worth = min(1.0, effective_n(share) / share.n) if share.n else 1.0
    low, high = wilson(yes / n, n * worth)
    return Estimate(yes / n, low, high, n)


def not_inferior(change: Estimate, margin: float) -> bool:
    """Is what is better when high (capability) at most `margin` lower than before, at one-sided 2.5 %?

    `change` is after minus before: `paired_difference` on the same cases, else `difference`. For what is better when
    low: before minus after. nan is no.
    """
    return change.low >= -margin
