"""What every figure shares: the level, figures of nothing, how much an interval is worth, JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import NormalDist
from typing import Any

from breakfix.core import Estimate

LEVEL = 0.95
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)  # 1.95996
DRAWS = 2000
CHUNK = 200  # bootstrap draws at a time, so that thousands of cases stay within a few MB


def nothing(unscored: int = 0) -> Estimate:
    """The estimate of what was never scored."""
    return Estimate(math.nan, math.nan, math.nan, 0, unscored)


def undefined(n: int, unscored: int = 0) -> Estimate:
    """A figure that n scored items do not define (agreement where everybody always said the same, say)."""
    return Estimate(math.nan, math.nan, math.nan, n, unscored)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Bounds of Wilson's score interval; n need not be whole."""
    spread = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    middle, scale = share + Z * Z / (2 * n), 1 + Z * Z / n
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def items(share: float, width: float) -> float:
    """The n of which Wilson's interval has this width; inf for width 0, 0 for 1 or more.

    With v = 4 p (1 - p), u = z^2 / n and w the squared width: (1 - w) u^2 + (v - 2 w) u - w = 0.
    """
    w = width * width
    if w == 0 or w >= 1:
        return math.inf if w == 0 else 0.0
    b = 4 * share * (1 - share) - 2 * w
    return Z * Z * 2 * (1 - w) / (math.sqrt(b * b + 4 * (1 - w) * w) - b)


def effective_n(share: Estimate) -> float:
    """How many independent items would give an interval as wide as this one; at most n.

    n itself for `rate`; fewer for attempts that cluster in cases. inf where the bounds are the value: known exactly.
    """
    n = items(share.value, share.high - share.low)
    return n if math.isinf(n) else min(float(share.n), n)


def complement(share: Estimate) -> Estimate:
    """1 - share: what was not refused, of what was refused."""
    return Estimate(1 - share.value, 1 - share.high, 1 - share.low, share.n, share.unscored)


def percentiles(draws: Iterable[float]) -> tuple[float, float]:
    """The middle 95 % of what a bootstrap drew; draws that are nan are left out, and all of them give nan."""
    import numpy as np

    known = [x for x in draws if not math.isnan(x)]
    if not known:
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


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
