"""Figures with intervals, and tests of before against after. 95 % everywhere; the random generator is passed in.

Unknown is not zero: an outcome of None could not be scored, is in no numerator and no denominator, and is counted in
`Estimate.unscored`. Where nothing was scored, value and bounds are nan, which compares as false with every limit (no
gate passes on it) and is null in JSON (`as_json`). Where items were scored and do not define the figure, it is nan with
their n.

    rates         shares (Wilson), shares clustered by case, shares of uneven samples, means
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
from breakfix.stats.arms import difference, fisher
from breakfix.stats.base import LEVEL, Z, as_json, complement, effective_n, from_json, nothing, undefined, wilson
from breakfix.stats.confusion import Confusion
from breakfix.stats.corrected import better_than_a_coin, corrected_rate, weighted
from breakfix.stats.decide import Decision, if_unscored_were, not_inferior, under
from breakfix.stats.krippendorff import krippendorff_alpha
from breakfix.stats.multiple import benjamini_hochberg, holm
from breakfix.stats.pairs import flips, mcnemar, paired_difference
from breakfix.stats.permutation import paired_permutation, stratified_permutation
from breakfix.stats.power import (
    cases_for_width,
    cases_per_arm,
    cases_to_clear,
    detectable_change,
    detectable_drop,
    pairs_needed,
)
from breakfix.stats.rates import clustered_n, clustered_rate, kish, mean, rate, weighted_rate
from breakfix.stats.safety import (
    asr_per_attempt,
    asr_per_case,
    band,
    broken_cases,
    defect,
    defect_rate,
    jailbreak_defect,
    strongreject,
)

__all__ = [
    "LEVEL",
    "Confusion",
    "Decision",
    "Z",
    "as_json",
    "asr_per_attempt",
    "asr_per_case",
    "band",
    "benjamini_hochberg",
    "better_than_a_coin",
    "broken_cases",
    "cases_for_width",
    "cases_per_arm",
    "cases_to_clear",
    "clustered_n",
    "clustered_rate",
    "complement",
    "corrected_rate",
    "defect",
    "defect_rate",
    "detectable_change",
    "detectable_drop",
    "difference",
    "effective_n",
    "fisher",
    "flips",
    "from_json",
    "holm",
    "if_unscored_were",
    "jailbreak_defect",
    "kappa",
    "kish",
    "krippendorff_alpha",
    "mcnemar",
    "mean",
    "mean_absolute_error",
    "not_inferior",
    "nothing",
    "paired_difference",
    "paired_permutation",
    "pairs_needed",
    "rate",
    "stratified_permutation",
    "strongreject",
    "undefined",
    "under",
    "weighted",
    "weighted_rate",
    "wilson",
]
