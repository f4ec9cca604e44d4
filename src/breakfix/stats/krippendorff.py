"""Agreement of any number of raters, who need not all rate everything: Krippendorff's alpha."""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from breakfix.core import Estimate
from breakfix.stats.base import CHUNK, DRAWS, nothing, percentiles, undefined, wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Level = Literal["nominal", "ordinal", "interval"]


def krippendorff_alpha(
    units: Iterable[Sequence[Hashable | None]], level: Level, rng: random.Random, draws: int = DRAWS
) -> Estimate:
    """alpha = 1 - observed / expected disagreement (Krippendorff 2011): 1 perfect, 0 as by chance, below 0 worse.

    A unit is one item's ratings, None where a rater gave none. One with fewer than two ratings can't be paired and is
    unscored; `n` counts the others. Disagreement is 1 for different labels (nominal), the squared distance (interval),
    or the squared distance of the ranks (ordinal). Undefined (nan) where all ratings are the same.

    Interval: percentiles of a bootstrap that draws units, chance agreement drawn anew (Zapf et al. 2016). Where all
    units agree: at most Wilson's upper bound of 0 of n units disagree, by as much as unequal ratings do on average.
    None (bounds nan) where every draw is the same, as of units that all disagree alike: such units do not vary, which
    says nothing of how far others would.
    ValueError if ratings that are not nominal are no numbers.
    """
    import numpy as np

    given = [[rating for rating in unit if rating is not None] for unit in units]
    paired = [ratings for ratings in given if len(ratings) > 1]
    unscored = len(given) - len(paired)
    if not paired:
        return nothing(unscored)
    values = _values({rating for ratings in paired for rating in ratings}, level)
    if len(values) == 1:
        return undefined(len(paired), unscored)
    counts = np.zeros((len(paired), len(values)))
    for i, ratings in enumerate(paired):
        for rating in ratings:
            counts[i, values[rating]] += 1
    scores = np.array([float(v) if isinstance(v, int | float) else math.nan for v in values])
    value = float(_alpha(np.ones((1, len(paired))), counts, scores, level)[0])
    if all(len(set(ratings)) == 1 for ratings in paired):
        totals = counts.sum(0)
        unequal = 1 - float((totals * (totals - 1)).sum() / (totals.sum() * (totals.sum() - 1)))
        return Estimate(1.0, 1 - wilson(0.0, len(paired))[1] / unequal, 1.0, len(paired), unscored)
    low, high = percentiles(_bootstrap(counts, scores, level, rng, draws))
    if high - low < 1e-9:
        return Estimate(value, math.nan, math.nan, len(paired), unscored)
    return Estimate(value, min(low, value), min(1.0, max(high, value)), len(paired), unscored)


def _values(found: set[Hashable], level: Level) -> dict[Hashable, int]:
    """Rating → its column; in rising order but for nominal ones."""
    if level == "nominal":
        return {rating: i for i, rating in enumerate(found)}
    numbers = [rating for rating in found if isinstance(rating, int | float)]
    if len(numbers) < len(found):
        raise ValueError(f"level {level!r}: expected ratings that are numbers")
    return {rating: i for i, rating in enumerate(sorted(numbers))}


def _bootstrap(counts: Array, scores: Array, level: Level, rng: random.Random, draws: int) -> list[float]:
    import numpy as np

    generator = np.random.default_rng(rng.getrandbits(64))
    even = np.full(len(counts), 1 / len(counts))
    found: list[float] = []
    for start in range(0, draws, CHUNK):
        times = generator.multinomial(len(counts), even, size=min(CHUNK, draws - start))
        found += _alpha(times.astype(float), counts, scores, level).tolist()
    return found


def _alpha(times: Array, counts: Array, scores: Array, level: Level) -> Array:
    """times (draws, units), counts (units, values), scores (values,) to (draws,).

    The sum of (x - y)^2 over ordered pairs of m numbers is 2 (m sum x^2 - (sum x)^2). Ordinal distance is that of the
    middle ranks (ratings below, and half of those that are equal), which are other ones in every draw.
    """
    import numpy as np

    sizes = counts.sum(1)
    totals = times @ counts
    n = totals.sum(1)
    shares = times / (sizes - 1)
    if level == "nominal":
        within = shares @ (sizes**2 - (counts**2).sum(1))
        among = n**2 - (totals**2).sum(1)
    else:
        centred = np.broadcast_to(scores - scores.mean(), totals.shape)
        x = centred if level == "interval" else totals.cumsum(1) - totals / 2
        within = 2 * (shares * (sizes * (x**2 @ counts.T) - (x @ counts.T) ** 2)).sum(1)
        among = 2 * (n * (totals * x**2).sum(1) - (totals * x).sum(1) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(among > 1e-9 * n**2, 1 - (n - 1) * within / among, math.nan)
