"""What a judge's count says of the truth, once the judge itself has been measured."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from breakfix.core import Estimate
from breakfix.stats.base import DRAWS, Z, effective_n, nothing, percentiles, undefined


def corrected_rate(
    observed: Estimate,
    sensitivity: Estimate,
    specificity: Estimate,
    rng: random.Random | None = None,
    draws: int = DRAWS,
) -> Estimate:
    """The true share of yes behind the share that a fallible judge counted (Rogan and Gladen 1978), within 0 and 1:

        (observed + specificity - 1) / (sensitivity + specificity - 1)

    n and unscored are `observed`'s. nan where it can't be excluded, at 95 %, that the judge is no better than a coin
    (sensitivity + specificity ≤ 1): such a judge says nothing of the truth. An estimate whose bounds are its value
    counts as known exactly. How much the three are worth is read from their intervals (`effective_n`), so that rates
    clustered by case may be given.

    The interval holds the judge's own uncertainty. Without `rng` by formula (Lang and Reiczigel 2014); with it,
    percentiles of draws of all three from their Beta distributions (Jeffreys).

    True only where the judge errs here as it did where it was measured. One that differs by category: correct each
    with its own figures, then `weighted`.
    """
    if not observed.n or math.isnan(observed.value):
        return nothing(observed.unscored)
    if not better_than_a_coin(sensitivity, specificity):
        return undefined(observed.n, observed.unscored)
    value = _truth(observed.value, sensitivity.value, specificity.value)
    if rng is None:
        low, high = _by_formula(observed, sensitivity, specificity)
    else:
        low, high = percentiles(_drawn(observed, sensitivity, specificity, rng, draws))
    return Estimate(value, min(low, value), max(high, value), observed.n, observed.unscored)


def better_than_a_coin(sensitivity: Estimate, specificity: Estimate) -> bool:
    """Is sensitivity + specificity - 1 (Youden's J) above 0 with its whole interval? nan is no."""
    spread = math.hypot(sensitivity.value - sensitivity.low, specificity.value - specificity.low)
    return sensitivity.value + specificity.value - 1 > spread


def _truth(observed: float, sensitivity: float, specificity: float) -> float:
    return min(1.0, max(0.0, (observed + specificity - 1) / (sensitivity + specificity - 1)))


def _by_formula(observed: Estimate, sensitivity: Estimate, specificity: Estimate) -> tuple[float, float]:
    a, a_square = _moved(observed, Z * Z)
    se, se_square = _moved(sensitivity, 2.0)
    sp, sp_square = _moved(specificity, 2.0)
    youden = se + sp - 1
    truth = (a + sp - 1) / youden
    error = math.sqrt(a_square + truth**2 * se_square + (1 - truth) ** 2 * sp_square) / youden
    middle = truth + 2 * Z * Z * (truth * se_square - (1 - truth) * sp_square)
    return max(0.0, min(1.0, middle - Z * error)), max(0.0, min(1.0, middle + Z * error))


def _moved(share: Estimate, added: float) -> tuple[float, float]:
    """(the share, its squared standard error) with `added` items more, half of them yes."""
    n = effective_n(share)
    if math.isinf(n):
        return share.value, 0.0
    p = (n * share.value + added / 2) / (n + added)
    return p, p * (1 - p) / (n + added)


def _drawn(
    observed: Estimate, sensitivity: Estimate, specificity: Estimate, rng: random.Random, draws: int
) -> list[float]:
    """Draws in which the judge is no better than a coin are left out."""

    def draw(share: Estimate) -> float:
        n = effective_n(share)
        return share.value if math.isinf(n) else rng.betavariate(n * share.value + 0.5, n * (1 - share.value) + 0.5)

    drawn = ((draw(observed), draw(sensitivity), draw(specificity)) for _ in range(draws))
    return [_truth(a, se, sp) for a, se, sp in drawn if se + sp > 1]


def weighted(parts: Sequence[tuple[float, Estimate]]) -> Estimate:
    """The mean of independent figures, each with its weight (above 0; only their ratios count).

    Interval: distances to the bounds, added in squares (MOVER: Zou, Huang, Zhang 2009). nan if one part is.
    ValueError if a weight is not above 0.
    """
    if any(weight <= 0 for weight, _ in parts):
        raise ValueError(f"weights {[weight for weight, _ in parts]}: expected numbers above 0")
    n, unscored = sum(e.n for _, e in parts), sum(e.unscored for _, e in parts)
    if not n:
        return nothing(unscored)
    total = math.fsum(weight for weight, _ in parts)
    shares = [(weight / total, e) for weight, e in parts]
    value = math.fsum(share * e.value for share, e in shares)
    below = math.hypot(*(share * (e.value - e.low) for share, e in shares))
    above = math.hypot(*(share * (e.high - e.value) for share, e in shares))
    return Estimate(value, value - below, value + above, n, unscored)
