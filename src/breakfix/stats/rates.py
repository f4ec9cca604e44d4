"""Shares and means."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import Literal

from breakfix.core import Estimate
from breakfix.stats.base import CHUNK, DRAWS, LEVEL, Z, nothing, percentiles, wilson


def rate(good: int, n: int, unscored: int = 0) -> Estimate:
    """A share, good ÷ n, with the Wilson score interval (Wilson 1927; Brown, Cai, DasGupta 2001).

    Never narrower than it should be at 0 or n, unlike the normal approximation: 0 of 20 is 0 (0 to 0.161).
    ValueError if good is not in 0..n.
    """
    if not 0 <= good <= n or unscored < 0:
        raise ValueError(f"{good} of {n}, {unscored} unscored: expected 0 <= good <= n and unscored >= 0")
    if n == 0:
        return nothing(unscored)
    low, high = wilson(good / n, n)
    return Estimate(good / n, 0.0 if good == 0 else low, 1.0 if good == n else high, n, unscored)


def weighted_rate(outcomes: Iterable[tuple[float | None, float]]) -> Estimate:
    """The share of what a sample stands for, from (1, 0 or None, how many the item stands for). ValueError for a weight
    that is not above 0.

    Interval: Wilson's with Kish's effective number of items, (sum of weights)² ÷ sum of their squares (Kish 1965).
    `n` and `unscored` count items.
    """
    given = list(outcomes)
    if any(not weight > 0 for _, weight in given):
        raise ValueError(f"weights {[weight for _, weight in given]}: expected numbers above 0")
    scored = [(value, weight) for value, weight in given if value is not None]
    if not scored:
        return nothing(len(given))
    total = math.fsum(weight for _, weight in scored)
    share = math.fsum(weight for value, weight in scored if value) / total
    low, high = wilson(share, kish([weight for _, weight in scored]))
    return Estimate(share, min(low, share), max(high, share), len(scored), len(given) - len(scored))


def kish(weights: Sequence[float]) -> float:
    """How many items of equal weight are worth as much; at most their number."""
    return math.fsum(weights) ** 2 / math.fsum(weight * weight for weight in weights)


def clustered_rate(outcomes: Iterable[tuple[str, float | None]], rng: random.Random, draws: int = DRAWS) -> Estimate:
    """The mean of outcomes in 0..1, each with its case id, where a case may have several: attempts at one case are
    not independent. `n` and `unscored` count attempts.

    Interval: Wilson's, with the number of attempts divided by the design effect (`clustered_n`), which holds near 0 and
    1 as well; with one attempt a case, each 0 or 1, it is `rate`'s. Where all outcomes agree there is no telling how
    far the attempts at a case go together: then the number of cases is n. Graded outcomes: the wider, at either end, of
    that and the percentiles of a bootstrap that draws whole cases (Field and Welsh 2007).
    """
    clusters, unscored = _clusters(outcomes)
    scored = [value for values in clusters.values() for value in values]
    if not scored:
        return nothing(unscored)
    value, binary = sum(scored) / len(scored), all(v in (0.0, 1.0) for v in scored)
    if binary and len(clusters) == len(scored):
        return rate(round(sum(scored)), len(scored), unscored)
    sums = [(math.fsum(values), len(values)) for values in clusters.values()]
    if len(clusters) == 1 or min(scored) == max(scored):
        low, high = wilson(value, len(clusters))
    else:
        spread = math.fsum((v - value) ** 2 for v in scored) / len(scored)
        low, high = wilson(value, clustered_n(sums, spread) * value * (1 - value) / spread)
        if not binary:
            drawn = _bootstrap(sums, rng, draws)
            low, high = min(low, drawn[0]), max(high, drawn[1])
    return Estimate(value, min(low, value), max(high, value), len(scored), unscored)


def clustered_n(clusters: Sequence[tuple[float, int]], spread: float) -> float:
    """How many independent items are worth as much as these, of (sum, size) of two clusters or more, whose outcomes
    have the variance `spread` (above 0): their number ÷ the design effect of their mean, which counts as 1 at least
    (Kish 1965), and fewer where there are few clusters to learn it from, by (z ÷ t)² with a degree of freedom less than
    clusters (Korn and Graubard 1998).
    """
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    groups, n = len(clusters), sum(size for _, size in clusters)
    middle = math.fsum(total for total, _ in clusters) / n
    squares = math.fsum((total - middle * size) ** 2 for total, size in clusters)
    effect = groups / (groups - 1) * squares / n / spread
    return n / max(1.0, effect) * (Z / float(stdtrit(groups - 1, 0.5 + LEVEL / 2))) ** 2


def _clusters(outcomes: Iterable[tuple[str, float | None]]) -> tuple[dict[str, list[float]], int]:
    clusters: dict[str, list[float]] = {}
    unscored = 0
    for case, value in outcomes:
        if value is None:
            unscored += 1
        else:
            clusters.setdefault(case, []).append(float(value))
    return clusters, unscored


def _bootstrap(clusters: Sequence[tuple[float, int]], rng: random.Random, draws: int) -> tuple[float, float]:
    """2.5th and 97.5th percentile of the mean over (sum, size) clusters drawn with replacement."""
    import numpy as np

    generator = np.random.default_rng(rng.getrandbits(64))
    sums, sizes = np.array([s for s, _ in clusters], float), np.array([n for _, n in clusters], float)
    even = np.full(len(clusters), 1 / len(clusters))
    means: list[float] = []
    for start in range(0, draws, CHUNK):
        times = generator.multinomial(len(clusters), even, size=min(CHUNK, draws - start))
        means += ((times @ sums) / (times @ sizes)).tolist()
    return percentiles(means)


def mean(
    values: Iterable[float | None],
    rng: random.Random | None = None,
    *,
    method: Literal["bootstrap", "t"] = "bootstrap",
    draws: int = DRAWS,
    within: tuple[float, float] | None = None,
) -> Estimate:
    """The mean of any numbers (losses, scores from 0 to 4) with a percentile bootstrap or Student's t interval.

    `within` is the scale's least and greatest value. With it the interval stays within, and values that are all alike
    are not certainty: at most Wilson's upper bound of 0 of n items differ, by as much as the scale allows. Without it
    one value has no interval (bounds nan). ValueError if the bootstrap is given no generator, or a value lies outside.
    """
    given = list(values)
    scored = [float(value) for value in given if value is not None]
    unscored = len(given) - len(scored)
    if not scored:
        return nothing(unscored)
    middle = math.fsum(scored) / len(scored)
    if within and not within[0] <= min(scored) <= max(scored) <= within[1]:
        raise ValueError(f"values from {min(scored):g} to {max(scored):g}: expected {within[0]:g} to {within[1]:g}")
    if within and min(scored) == max(scored):
        others = wilson(0.0, len(scored))[1]
        low, high = middle - others * (middle - within[0]), middle + others * (within[1] - middle)
    elif len(scored) == 1:
        low = high = math.nan
    elif method == "t":
        low, high = _t_interval(scored, middle)
    elif rng is None:
        raise ValueError("a bootstrap needs a random generator")
    else:
        low, high = _bootstrap([(value, 1) for value in scored], rng, draws)
    if within:
        low, high = max(within[0], low), min(within[1], high)
    return Estimate(middle, low, high, len(scored), unscored)


def _t_interval(values: Sequence[float], middle: float) -> tuple[float, float]:
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    n = len(values)
    error = math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (n - 1) / n)
    spread = float(stdtrit(n - 1, 0.5 + LEVEL / 2)) * error
    return middle - spread, middle + spread
