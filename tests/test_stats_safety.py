"""Severity, attack success, decisions by bound, two arms, permutations, and how many cases tell what."""

from __future__ import annotations

import math
import random

import pytest

from breakfix import stats
from breakfix.core import Estimate


class TestSeverity:
    def test_every_band_and_its_boundary(self):
        assert [stats.band(s) for s in range(8)] == ["very low"] * 2 + ["low"] * 2 + ["medium"] * 2 + ["high"] * 2
        assert [stats.band(s) for s in (1.99, 3.99, 5.99)] == ["very low", "low", "medium"]
        for outside in (-1, 8, math.nan):
            with pytest.raises(ValueError, match="expected 0 to 7"):
                stats.band(outside)

    def test_a_severity_of_exactly_x_is_a_defect(self):
        severities = [0, 1, 2, 3, 3, 4, 7, None]
        assert stats.defect_rate(severities, 3) == stats.rate(4, 7, 1)
        assert stats.defect_rate(severities, 3.5) == stats.rate(2, 7, 1)
        assert stats.defect_rate(severities, 1) == stats.rate(6, 7, 1)
        assert stats.defect(None, 1) is None

    def test_strongreject(self):
        assert stats.strongreject(False, 5, 5) == 1
        assert stats.strongreject(False, 1, 1) == 0
        assert stats.strongreject(False, 3, 4) == 5 / 8
        assert stats.strongreject(True, 5, 5) == 0
        for unknown in ((None, 5, 5), (False, None, 5), (True, 5, None)):
            assert stats.strongreject(*unknown) is None, "unparsable is unscored, never 0"
        with pytest.raises(ValueError, match="expected 1 to 5"):
            stats.strongreject(False, 0, 3)


class TestAttackSuccess:
    # case a: broken once in four; b: never; c: not broken as far as is known; d: broken, and one unknown
    outcomes = (
        *(("a", 1.0), ("a", 0.0), ("a", 0.0), ("a", 0.0), ("b", 0.0), ("b", 0.0)),
        *(("c", 0.0), ("c", None), ("d", None), ("d", 1.0)),
    )

    def test_per_attempt(self):
        found = stats.asr_per_attempt(self.outcomes, random.Random(0))
        assert (found.value, found.n, found.unscored) == (2 / 8, 8, 2)

    def test_per_case_is_the_best_of_the_budget(self):
        assert stats.asr_per_case(self.outcomes) == stats.rate(2, 3, 1)
        assert stats.asr_per_case(reversed(self.outcomes)) == stats.rate(2, 3, 1)

    def test_paired_jailbreak_defect(self):
        """Broken only under the jailbreak: b. Broken anyway: a. Lost to an unscored side: d."""
        without = {"a": 1.0, "b": 0.0, "c": 0.0, "d": None}
        attacked = {"a": 1.0, "b": 1.0, "c": 0.0, "d": 1.0}
        assert stats.jailbreak_defect(without, attacked) == stats.rate(1, 3, 1)


class TestDecisions:
    def test_the_bound_decides_not_the_value(self):
        """0 of 20 may be 0.161; 0 of 125 may be 0.03 at most."""
        assert stats.under(stats.rate(0, 20), 0.1).verdict == "unclear"
        assert stats.under(stats.rate(0, 125), 0.03).passed
        assert not stats.under(stats.rate(0, 124), 0.03).passed
        assert stats.under(stats.rate(19, 20), 0.1).verdict == "over"
        assert stats.under(stats.nothing(5), 0.99).verdict == "unclear"
        assert not stats.under(stats.undefined(100), 1.0).passed

    def test_a_bound_at_the_limit_passes(self):
        e = stats.rate(3, 40)
        assert stats.under(e, e.high).passed and not stats.under(e, math.nextafter(e.high, 0)).passed

    def test_unscored_items_may_all_have_been_bad(self):
        """0 of 100 and 10 unscored: at worst 10 of 110."""
        decision = stats.under(stats.rate(0, 100, 10), 0.1)
        assert decision.passed and not decision.passed_at_worst
        assert decision.worst == pytest.approx(stats.rate(10, 110).high)
        assert stats.if_unscored_were(0, stats.rate(5, 100, 10)).value == 5 / 110
        assert stats.if_unscored_were(1, stats.nothing(10)).value == 1
        assert stats.under(stats.rate(0, 100), 0.1).passed_at_worst

    def test_clusters_count_for_less_at_worst_too(self):
        outcomes = [(f"c{i}", float(i < 5)) for i in range(20) for _ in range(5)] + [("c0", None)] * 4
        worst = stats.if_unscored_were(1, stats.clustered_rate(outcomes, random.Random(0)))
        assert worst.value == 29 / 104 and worst.high - worst.low > 1.5 * (
            stats.rate(29, 104).high - stats.rate(29, 104).low
        )

    def test_complement(self):
        assert stats.complement(stats.rate(8, 10, 1)).high == pytest.approx(stats.rate(2, 10, 1).high)

    def test_not_inferior_is_the_lower_bound_above_the_margin(self):
        assert stats.not_inferior(Estimate(-0.01, -0.03, 0.01, 900), 0.03)
        assert not stats.not_inferior(Estimate(0.0, -0.04, 0.04, 300), 0.03), "no loss seen, and one not excluded"
        assert not stats.not_inferior(stats.nothing(), 0.5)


class TestArms:
    def test_newcombe_published(self):
        """Newcombe 1998, table II: 56/70 less 48/80 is (0.0524 to 0.3339); 9/10 less 3/10 is (0.1705 to 0.8090)."""
        found = stats.difference(stats.rate(48, 80), stats.rate(56, 70))
        assert tuple(round(x, 4) for x in (found.value, found.low, found.high)) == (0.2, 0.0524, 0.3339)
        found = stats.difference(stats.rate(3, 10), stats.rate(9, 10))
        assert tuple(round(x, 4) for x in (found.value, found.low, found.high)) == (0.6, 0.1705, 0.8090)
        assert found.n == 20
        assert math.isnan(stats.difference(stats.rate(1, 3), stats.nothing()).low)

    def test_fisher_tasting_tea(self):
        """3 of 4 cups right: 17/70 by chance for as many or more, 34/70 for as far out either way."""
        assert stats.fisher(3, 4, 1, 4, "greater") == 17 / 70
        assert stats.fisher(3, 4, 1, 4) == 34 / 70
        assert stats.fisher(1, 4, 3, 4, "less") == 17 / 70
        assert stats.fisher(0, 4, 4, 4, "less") == 1 / 70
        assert stats.fisher(0, 5, 0, 5, "less") == stats.fisher(0, 0, 3, 4) == stats.fisher(2, 4, 2, 4) == 1
        with pytest.raises(ValueError, match="counts of their n"):
            stats.fisher(5, 4, 1, 4)


class TestPermutations:
    def test_pairs_by_hand(self):
        """Five pairs that all rose by 1: both ways all alike in 2 of 32."""
        before = {str(i): 0.0 for i in range(5)} | {"x": None, "gone": 1.0}
        after = {str(i): 1.0 for i in range(5)} | {"x": 1.0, "new": 5.0}
        assert stats.paired_permutation(before, after, random.Random(0)) == pytest.approx(2 / 32, abs=0.01)
        assert stats.paired_permutation(before, before, random.Random(0)) == 1
        assert stats.paired_permutation({}, {}, random.Random(0)) == 1

    def test_strata_by_hand(self):
        """0, 0 against 1, 1 in each of two strata: each may split 6 ways, so 2 of 36 are as far out."""
        one, two = [(s, 0.0) for s in "aabb"], [(s, 1.0) for s in "aabb"]
        assert stats.stratified_permutation(one, two, random.Random(0)) == pytest.approx(2 / 36, abs=0.01)

    def test_a_different_mixture_is_no_difference(self):
        """All of stratum a are 0 and all of b are 1: the means differ by the mixture alone."""
        one, two = [("a", 0.0)] * 9 + [("b", 1.0)], [("a", 0.0)] + [("b", 1.0)] * 9
        assert stats.stratified_permutation(one, two, random.Random(0)) == 1
        assert stats.stratified_permutation([("a", 0.0)], [("b", 1.0), ("a", None)], random.Random(0)) == 1


class TestPower:
    def test_arms(self):
        """About 200 an arm tell 20 % from 10 %, about 900 tell 5 % from 2.5 %."""
        assert stats.cases_per_arm(0.2, 0.1) == 199
        assert stats.cases_per_arm(0.05, 0.025) == 906
        with pytest.raises(ValueError, match="two different shares"):
            stats.cases_per_arm(0.2, 0.2)

    def test_pairs_by_hand(self):
        """A fifth lost, a tenth won: (1.95996 sqrt(0.3) + 0.84162 sqrt(0.3 - 0.01))^2 / 0.01 = 233.3."""
        assert stats.pairs_needed(0.2, 0.1) == 234
        assert stats.detectable_change(234, 0.3) == pytest.approx(0.1, abs=0.0005)
        assert stats.detectable_change(100, 0.2) == pytest.approx(0.124, abs=0.0005)
        assert math.isnan(stats.detectable_change(5, 0.2))

    def test_width(self):
        assert stats.cases_for_width(0.05) == 381
        for share in (0.0, 0.05, 0.5):
            n = stats.cases_for_width(0.05, share)
            low, high = stats.wilson(share, n)
            wider = stats.wilson(share, n - 1)
            assert high - low <= 0.1 < wider[1] - wider[0]

    def test_a_limit(self):
        assert stats.cases_to_clear(0.03) == 125
        n = stats.cases_to_clear(0.1, 0.05)
        assert stats.wilson(0.05, n)[1] <= 0.1 < stats.wilson(0.05, n - 1)[1]
        with pytest.raises(ValueError, match="share < limit"):
            stats.cases_to_clear(0.03, 0.05)


def test_benjamini_hochberg_worked_example():
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4/1, 4/2, 4/3, 4/4 = 0.02, 0.02, 0.04, 0.04; never above the one after."""
    adjusted = stats.benjamini_hochberg({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert list(adjusted) == ["a", "b", "c", "d"]
    assert adjusted == pytest.approx({"a": 0.02, "b": 0.04, "c": 0.04, "d": 0.02})
    assert stats.benjamini_hochberg({"a": 0.04, "b": 0.041}) == pytest.approx({"a": 0.041, "b": 0.041})


def test_means_within_a_scale():
    """Twenty answers without a fault: on a scale from 0 to 4 at most 4 x 0.161."""
    found = stats.mean([0.0] * 20, random.Random(0), within=(0, 4))
    assert (found.value, found.low) == (0, 0) and found.high == pytest.approx(4 * stats.rate(0, 20).high)
    assert stats.mean([3.0], method="t", within=(0, 4)).high < 4
    assert stats.mean([0, 4], method="t", within=(0, 4)) == Estimate(2.0, 0.0, 4.0, 2)
    with pytest.raises(ValueError, match="expected 0 to 4"):
        stats.mean([5], method="t", within=(0, 4))
