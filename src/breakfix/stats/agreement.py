"""Agreement of two who label the same items: Cohen's kappa, mean absolute error."""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from breakfix.core import Estimate
from breakfix.stats.base import DRAWS, Z, nothing, percentiles, undefined
from breakfix.stats.rates import kish, mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Weights = Literal["linear", "quadratic"]


def kappa(
    pairs: Iterable[tuple[Hashable | None, Hashable | None]],
    rng: random.Random | None = None,
    weights: Weights | None = None,
    draws: int = DRAWS,
    counts: Sequence[float] | None = None,
) -> Estimate:
    """Cohen's kappa (1960; weighted: 1968): agreement beyond chance, 1 perfect, 0 as by chance, -1 at worst.

    A pair with a None is unscored. `weights`: disagreement grows with the distance of the labels, which must be
    numbers, or with its square. Undefined (nan) where both only ever gave one and the same label.

    Interval: without `rng` by formula (Fleiss, Cohen, Everitt 1969) on the table with two items added, so that perfect
    agreement on few items is not certainty: one is spread over the cells where both agree, one over those where they
    do not (weighted: where they are neighbours). With `rng` percentiles of a bootstrap over items, and by formula
    where all agree. The formula holds its level better below 100 items. ValueError if weighted labels are not numbers.

    `counts`: how many each pair stands for, in a sample that is not even; the interval is then by formula, of as many
    items as `kish` makes of them.
    """
    import numpy as np

    given = list(pairs)
    each = [1.0] * len(given) if counts is None else list(counts)
    known = [(pair, count) for pair, count in zip(given, each, strict=True) if None not in pair]
    scored = [pair for pair, _ in known]
    unscored = len(given) - len(scored)
    if not scored:
        return nothing(unscored)
    labels = _labels((label for pair in scored for label in pair), weights)
    if len(labels) == 1:
        return undefined(len(scored), unscored)
    place = {label: i for i, label in enumerate(labels)}
    table = np.zeros((1, len(labels), len(labels)))
    even = 1.0 if counts is None else kish([count for _, count in known]) / sum(count for _, count in known)
    for (one, two), count in known:
        table[0, place[one], place[two]] += count * even
    credit = np.eye(len(labels)) if weights is None else _credit(labels, weights)
    value = float(_kappa(table, credit)[0])
    if rng is None or counts is not None or all(one == two for one, two in scored):
        low, high = _by_formula(table + _two_items(len(labels), weights), credit)
    else:
        generator = np.random.default_rng(rng.getrandbits(64))
        drawn = generator.multinomial(len(scored), table.ravel() / len(scored), size=draws)
        low, high = percentiles(_kappa(drawn.reshape(draws, *credit.shape).astype(float), credit).tolist())
    return Estimate(value, max(-1.0, min(low, value)), min(1.0, max(high, value)), len(scored), unscored)


def _labels(given: Iterable[Hashable], weights: Weights | None) -> list[Any]:
    """Each label once; numbers in rising order if they are weighted."""
    found = list(dict.fromkeys(given))
    if weights is None:
        return found
    numbers = [label for label in found if isinstance(label, int | float)]
    if len(numbers) < len(found):
        raise ValueError(f"weights {weights!r}: expected labels that are numbers")
    return sorted(numbers)


def _credit(numbers: Sequence[float], weights: Weights) -> Array:
    """(k, k): 1 for the same label, down to 0 for the two that are farthest apart."""
    import numpy as np

    apart = np.abs(np.subtract.outer(numbers, numbers)) ** (2.0 if weights == "quadratic" else 1.0)
    return 1 - apart / apart.max()


def _two_items(k: int, weights: Weights | None) -> Array:
    """(k, k)"""
    import numpy as np

    steps = np.abs(np.subtract.outer(range(k), range(k)))
    apart = steps > 0 if weights is None else steps == 1
    return (steps == 0) / k + apart / apart.sum()


def _kappa(tables: Array, credit: Array) -> Array:
    """(draws, k, k) counts to (draws,)."""
    import numpy as np

    n = tables.sum((1, 2))
    observed = (tables * credit).sum((1, 2)) / n
    chance = ((tables.sum(2) @ credit) * tables.sum(1)).sum(1) / n**2
    with np.errstate(invalid="ignore"):
        return np.where(chance < 1, (observed - chance) / (1 - chance), math.nan)


def _by_formula(table: Array, credit: Array) -> tuple[float, float]:
    import numpy as np

    n, value = float(table.sum()), float(_kappa(table, credit)[0])
    cells = table[0] / n
    rows, columns = cells.sum(1), cells.sum(0)
    chance = float(rows @ credit @ columns)
    expected = np.add.outer(credit @ columns, rows @ credit)
    square = float((cells * (credit - expected * (1 - value)) ** 2).sum()) - (value - chance * (1 - value)) ** 2
    spread = Z * math.sqrt(max(0.0, square) / n) / (1 - chance)
    return value - spread, value + spread


def mean_absolute_error(
    pairs: Iterable[tuple[float | None, float | None]],
    rng: random.Random | None = None,
    *,
    scale: float | None = None,
    draws: int = DRAWS,
) -> Estimate:
    """Mean of |judge - people| in the scale's own unit; a pair with a None is unscored.

    `scale` is the largest error there can be (7 for severities): with it, errors that are all alike are not certainty.
    Interval as in `mean`: a bootstrap, or without `rng` Student's t.
    """
    errors = (None if one is None or two is None else abs(one - two) for one, two in pairs)
    within = None if scale is None else (0.0, scale)
    return mean(errors, rng, method="t" if rng is None else "bootstrap", draws=draws, within=within)
