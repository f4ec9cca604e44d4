"""Figures with intervals, and tests of before against after. 95 % everywhere; the random generator is passed in.

Unknown is not zero: an outcome of None could not be scored, is in no numerator and no denominator, and is counted in
`Estimate.unscored`. Where nothing was scored, value and bounds are nan, which compares as false with every limit (no
gate passes on it) and is null in JSON (`as_json`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, Literal

from breakfix.core import Estimate

LEVEL = 0.95
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)  # 1.95996
_DRAWS = 2000
_CHUNK = 200  # bootstrap draws at a time, so that thousands of cases stay within a few MB


def nothing(unscored: int = 0) -> Estimate:
    """The estimate of what was never scored."""
    return Estimate(math.nan, math.nan, math.nan, 0, unscored)


def rate(good: int, n: int, unscored: int = 0) -> Estimate:
    """A share, good ÷ n, with the Wilson score interval (Wilson 1927; Brown, Cai, DasGupta 2001).

    Never narrower than it should be at 0 or n, unlike the normal approximation: 0 of 20 is 0 (0 to 0.161).
    ValueError if good is not in 0..n.
    """
    if not 0 <= good <= n or unscored < 0:
        raise ValueError(f"{good} of {n}, {unscored} unscored: expected 0 <= good <= n and unscored >= 0")
    if n == 0:
        return nothing(unscored)
    low, high = _wilson(good / n, n)
    return Estimate(good / n, 0.0 if good == 0 else low, 1.0 if good == n else high, n, unscored)


def _wilson(share: float, n: float) -> tuple[float, float]:
    spread = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    middle, scale = share + Z * Z / (2 * n), 1 + Z * Z / n
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def clustered_rate(outcomes: Iterable[tuple[str, float | None]], rng: random.Random, draws: int = _DRAWS) -> Estimate:
    """The mean of outcomes in 0..1, each with its case id, where a case may have several: attempts at one case are
    not independent. `n` and `unscored` count attempts.

    Interval: percentiles of a bootstrap that draws whole cases (Field and Welsh 2007). With one attempt a case, each 0
    or 1, it is Wilson's. Where all outcomes agree a bootstrap would claim certainty: then it is Wilson's with the
    number of cases as n.
    """
    clusters, unscored = _clusters(outcomes)
    scored = [value for values in clusters.values() for value in values]
    if not scored:
        return nothing(unscored)
    value, binary = sum(scored) / len(scored), all(v in (0.0, 1.0) for v in scored)
    if binary and len(clusters) == len(scored):
        return rate(round(sum(scored)), len(scored), unscored)
    if len(clusters) == 1 or min(scored) == max(scored):
        low, high = _wilson(value, len(clusters))
    else:
        low, high = _bootstrap([(sum(v), len(v)) for v in clusters.values()], rng, draws)
    return Estimate(value, min(low, value), max(high, value), len(scored), unscored)


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
    for start in range(0, draws, _CHUNK):
        times = generator.multinomial(len(clusters), even, size=min(_CHUNK, draws - start))
        means += ((times @ sums) / (times @ sizes)).tolist()
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mean(
    values: Iterable[float | None],
    rng: random.Random | None = None,
    *,
    method: Literal["bootstrap", "t"] = "bootstrap",
    draws: int = _DRAWS,
) -> Estimate:
    """The mean of any numbers (losses, scores from 0 to 4) with a percentile bootstrap or Student's t interval.

    One value has no interval (bounds nan). ValueError if the bootstrap is given no generator.
    """
    given = list(values)
    scored = [float(value) for value in given if value is not None]
    unscored = len(given) - len(scored)
    if not scored:
        return nothing(unscored)
    middle = math.fsum(scored) / len(scored)
    if len(scored) == 1:
        return Estimate(middle, math.nan, math.nan, 1, unscored)
    if method == "t":
        low, high = _t_interval(scored, middle)
    elif rng is None:
        raise ValueError("a bootstrap needs a random generator")
    else:
        low, high = _bootstrap([(value, 1) for value in scored], rng, draws)
    return Estimate(middle, low, high, len(scored), unscored)


def _t_interval(values: Sequence[float], middle: float) -> tuple[float, float]:
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    n = len(values)
    error = math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (n - 1) / n)
    spread = float(stdtrit(n - 1, 0.5 + LEVEL / 2)) * error
    return middle - spread, middle + spread


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


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """p values adjusted for their number (Holm 1979): compare each with 0.05 as it is. Same keys, same order."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, key in enumerate(sorted(p, key=lambda key: p[key])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[key]))
        adjusted[key] = highest
    return {key: adjusted[key] for key in p}


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


def as_json(estimate: Estimate) -> dict[str, Any]:
    """{value, low, high, n, unscored}; nan and the infinities are null."""

    def known(x: float) -> float | None:
        return x if math.isfinite(x) else None

    e = estimate
    return {"value": known(e.value), "low": known(e.low), "high": known(e.high), "n": e.n, "unscored": e.unscored}


def from_json(row: Mapping[str, Any]) -> Estimate:
    """What `as_json` wrote; null is nan."""

    def number(x: float | None) -> float:
        return math.nan if x is None else float(x)

    figures = (number(row[name]) for name in ("value", "low", "high"))
    return Estimate(*figures, n=int(row["n"]), unscored=int(row.get("unscored", 0)))
