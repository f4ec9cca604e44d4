"""Figures with intervals, and tests of before against after. 95 % everywhere; the random generator is passed in.

Unknown is not zero: an outcome of None could not be scored, is in no numerator and no denominator, and is counted in
`Estimate.unscored`. Where nothing was scored, value and bounds are nan, which compares as false with every limit (no
gate passes on it) and is null in JSON (`as_json`). Where items were scored and do not define the figure, it is nan with
their n.

    rates         shares (Wilson), shares clustered by case, means
    pairs         the same cases before and after: flips, difference, McNemar
    arms          two groups of cases: difference, Fisher; permutation: tests of means
    multiple      Holm, Benjamini-Hochberg
    confusion     a yes/no judge against people; agreement, krippendorff: kappa, MAE, alpha
    corrected     the truth behind a fallible judge's count
    safety        severity and DR-x, StrongREJECT, attack success, paired jailbreak defect
    decide        bounds against limits; power: how many cases tell what

Formulas, choices and sources: docs/design/010-statistics.md.
"""

from breakfix.stats.agreement import kappa, mean_absolute_error
from breakfix.stats.base import LEVEL, Z, as_json, effective_n, from_json, nothing, undefined, wilson
from breakfix.stats.confusion import Confusion
from breakfix.stats.corrected import better_than_a_coin, corrected_rate, weighted
from breakfix.stats.krippendorff import krippendorff_alpha
from breakfix.stats.multiple import holm
from breakfix.stats.pairs import flips, mcnemar, paired_difference
from breakfix.stats.power import detectable_drop
from breakfix.stats.rates import clustered_rate, mean, rate

__all__ = [
    "LEVEL",
    "Confusion",
    "Z",
    "as_json",
    "better_than_a_coin",
    "clustered_rate",
    "corrected_rate",
    "detectable_drop",
    "effective_n",
    "flips",
    "from_json",
    "holm",
    "kappa",
    "krippendorff_alpha",
    "mcnemar",
    "mean",
    "mean_absolute_error",
    "nothing",
    "paired_difference",
    "rate",
    "undefined",
    "weighted",
    "wilson",
]
