"""Two models on the same cases: how far apart, with an interval and a test. No model is run, nothing is read.

An outcome is what became of one thing that was asked, by its key (what was asked, of which case). Pairs are outcomes of
the same key. A case that was attacked in several ways has several: they are not independent, so intervals go by cases,
and tests swap them whole.

    shares, each case once    Bonett and Price's interval, McNemar's exact test (stats.paired_difference, stats.mcnemar)
    shares, cases several     Bonett and Price's, pairs ÷ the design effect of their cases (few cases, or all alike: a
                              case a pair); exact test by swapping the two models' outcomes case by case
    means, perplexity         bootstrap over cases (means of which nearly all moved alike: `_two_more`); the same test,
                              by random swaps where there are too many

Swapping is Fisher's randomisation (1935): were the models alike, either could have given either outcome. With each
case once and outcomes 0 or 1 it is McNemar's test.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from breakfix.core import Estimate
from breakfix.stats import Z, clustered_n, flips, mcnemar, nothing, paired_difference, paired_permutation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Kind = Literal["share", "mean", "perplexity"]
DRAWS = 2000
TESTABLE = 6  # pairs; of fewer, even if all change one way, p is above 0.05
VARIED = 6  # cases that did not move as most did; with fewer a bootstrap hardly ever draws what is rare
_CHUNK = 500


class Key(NamedTuple):
    """What was asked: the case, the attack that put it ("" for none), and the digest of the very words."""

    case: str
    attack: str
    asked: str


# Share: 1 it counts, 0 it does not. Mean: any number. Perplexity: (sum of ln p, tokens). None: it could not be scored.
Outcome = float | tuple[float, int] | None
Outcomes = Mapping[Key, Outcome]


@dataclass(frozen=True, slots=True)
class Change:
    """After minus before, on what both were asked. `p` is None where there are too few pairs to test.

    `estimate.unscored` counts pairs that were not scored in both; `alone` what only one of the two was asked.
    """

    estimate: Estimate
    p: float | None
    test: str
    alone: int


def change(kind: Kind, before: Outcomes, after: Outcomes, seed: str = "", *, span: float | None = None) -> Change:
    """`seed` makes bootstrap and random swaps repeatable. With no pair in common: the estimate of nothing.

    `span`: how far apart two outcomes of a mean can be (4 on a scale from 0 to 4); None: as far as any two were.
    """
    common = [key for key in before if key in after]
    alone = len(before) + len(after) - 2 * len(common)
    pairs = [(key.case, b, a) for key in common if (b := before[key]) is not None and (a := after[key]) is not None]
    unscored = len(common) - len(pairs)
    if not pairs:
        return Change(nothing(unscored), None, "", alone)
    once = len({case for case, _, _ in pairs}) == len(pairs)
    if kind == "share" and once:
        return _once({case: (_number(b), _number(a)) for case, b, a in pairs}, unscored, alone)
    rng = random.Random(f"{seed}/{kind}")
    if kind == "perplexity":
        return _perplexity([(_pair(b), _pair(a)) for _, b, a in pairs], unscored, alone, rng)
    if kind == "share":
        span = 1.0
    elif span is None:
        seen = [_number(outcome) for _, b, a in pairs for outcome in (b, a)]
        span = max(seen) - min(seen)
    return _clustered(kind, [(case, _number(a) - _number(b)) for case, b, a in pairs], span, unscored, alone, rng)


def _number(outcome: Outcome) -> float:
    assert isinstance(outcome, int | float)
    return float(outcome)


def _pair(outcome: Outcome) -> tuple[float, int]:
    assert isinstance(outcome, tuple)
    return outcome


def _once(pairs: Mapping[str, tuple[float, float]], unscored: int, alone: int) -> Change:
    before, after = ({case: pair[side] for case, pair in pairs.items()} for side in (0, 1))
    found, (lost, won, n, _) = paired_difference(before, after), flips(before, after)
    estimate = Estimate(found.value, found.low, found.high, n, unscored)
    return Change(estimate, mcnemar(lost, won) if n >= TESTABLE else None, "McNemar, exact", alone)


def _clustered(
    kind: Kind, differences: Sequence[tuple[str, float]], span: float, unscored: int, alone: int, rng: random.Random
) -> Change:
    """Mean of the differences of pairs, whose cases may have several."""
    sums: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for case, difference in differences:
        sums[case] = sums.get(case, 0.0) + difference
        sizes[case] = sizes.get(case, 0) + 1
    n, cases = len(differences), len(sums)
    value = math.fsum(sums.values()) / n
    moved = Counter(sums[case] / sizes[case] for case in sums)
    if kind == "share":
        given = [difference for _, difference in differences]
        low, high = _share(given, [(sums[case], sizes[case]) for case in sums], alike=len(moved) == 1)
    elif kind == "mean" and cases - max(moved.values()) < VARIED:
        low, high = _two_more([sums[case] * cases / n for case in sums], span)
    else:
        low, high = _bootstrap([sums[case] for case in sums], [sizes[case] for case in sums], rng)
    estimate = Estimate(value, min(low, value), max(high, value), n, unscored)
    p = swapped(list(sums.values()), rng) if cases >= TESTABLE else None
    return Change(estimate, p, "randomisation over cases", alone)


def _share(differences: Sequence[float], clusters: Sequence[tuple[float, int]], *, alike: bool) -> tuple[float, float]:
    """Bonett and Price's interval, of as many pairs as the cases (sum, size) are worth. Of few cases, or where they
    moved alike, a case counts as one pair, however many attempts it has: at worst, they all go together."""
    n = len(differences)
    lost, won = (sum(d * sign > 0 for d in differences) / n for sign in (-1, 1))
    spread = lost + won - (won - lost) ** 2
    pairs = float(len(clusters))
    if len(clusters) >= TESTABLE and not alike and spread > 0:
        pairs = clustered_n(clusters, spread)
    p_lost, p_won = ((share * pairs + 1) / (pairs + 2) for share in (lost, won))
    error = Z * math.sqrt((p_lost + p_won - (p_won - p_lost) ** 2) / (pairs + 2))
    return max(-1.0, p_won - p_lost - error), min(1.0, p_won - p_lost + error)


def _two_more(differences: Sequence[float], span: float) -> tuple[float, float]:
    """Bonett and Price's interval for a mean: as if of two cases more one had lost and one had won all that can be lost
    or won. With outcomes of 0 and 1 it is theirs; where no case moved, it is 2.8 ÷ (cases + 2) of the span either way.
    Without a span there is no telling."""
    if span <= 0:
        return math.nan, math.nan
    n = len(differences) + 2
    middle = math.fsum(differences) / n
    square = (math.fsum(d * d for d in differences) + 2 * span * span) / n - middle * middle
    spread = Z * math.sqrt(max(0.0, square) / n)
    return max(-span, middle - spread), min(span, middle + spread)


def _bootstrap(sums: Sequence[float], sizes: Sequence[int], rng: random.Random) -> tuple[float, float]:
    """Percentiles of sum ÷ size over cases drawn with replacement. One case has no interval."""
    import numpy as np

    if len(sums) == 1:
        return math.nan, math.nan
    s, n = np.array(sums, float), np.array(sizes, float)
    return _percentiles([(times @ s) / (times @ n) for times in _drawn(len(sums), rng)])


def _drawn(cases: int, rng: random.Random) -> list[Array]:
    """How often each case is drawn: chunks of (draws, cases)."""
    import numpy as np

    generator, even = np.random.default_rng(rng.getrandbits(64)), np.full(cases, 1 / cases)
    return [generator.multinomial(cases, even, size=_CHUNK).astype(float) for _ in range(DRAWS // _CHUNK)]


def _percentiles(draws: Sequence[Array]) -> tuple[float, float]:
    import numpy as np

    low, high = np.quantile(np.concatenate(draws), [0.025, 0.975])
    return float(low), float(high)


def _perplexity(
    pairs: Sequence[tuple[tuple[float, int], tuple[float, int]]], unscored: int, alone: int, rng: random.Random
) -> Change:
    """Difference of perplexities, exp(-sum of ln p ÷ tokens) each; drawn and swapped by answers."""
    import numpy as np

    logp, tokens = (np.array([[side[i] for side in pair] for pair in pairs], float) for i in (0, 1))  # (answers, 2)
    before, after = np.exp(-logp.sum(0) / tokens.sum(0))
    low = high = math.nan
    if len(set(pairs)) > 1 and any(b != a for b, a in pairs):  # all alike says nothing of what others would be
        drawn = (np.exp(-(times @ logp) / (times @ tokens)) for times in _drawn(len(pairs), rng))
        low, high = _percentiles([perplexities[:, 1] - perplexities[:, 0] for perplexities in drawn])
    p = swapped((logp[:, 1] - logp[:, 0]).tolist(), rng) if len(pairs) >= TESTABLE else None
    estimate = Estimate(float(after - before), low, high, len(pairs), unscored)
    return Change(estimate, p, "randomisation over cases", alone)


def swapped(sums: Sequence[float], rng: random.Random) -> float:
    """Two-sided p that the sum is as far from 0 as it is, if each summand could as well have the other sign.

    Exact for whole numbers (by counting all ways); else from random signs.
    """
    if all(float(s).is_integer() for s in sums):
        return _exact([int(s) for s in sums if s])
    cases = {str(i): s for i, s in enumerate(sums)}
    return paired_permutation(dict.fromkeys(cases, 0.0), cases, rng)


def _exact(sums: Sequence[int]) -> float:
    ways = {0: 1}
    for s in sums:
        following: dict[int, int] = {}
        for total, count in ways.items():
            for reached in (total + s, total - s):
                following[reached] = following.get(reached, 0) + count
        ways = following
    far = sum(count for total, count in ways.items() if abs(total) >= abs(sum(sums)))
    return far / 2 ** len(sums)
