"""A judge against people: figures worked by hand, or published with their data."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from breakfix import stats
from breakfix.core import Estimate
from breakfix.stats import Confusion

TABLE = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section E: four observers, twelve units
OBSERVERS = [
    (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
    (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
]
UNITS = list(zip(*OBSERVERS, strict=True))


def known(value: float) -> Estimate:
    return Estimate(value, value, value, 0)


class TestConfusion:
    judged = Confusion.of(
        [(True, True)] * 8 + [(True, False)] * 1 + [(False, True)] * 2 + [(False, False)] * 9 + [(None, True)] * 3
    )

    def test_counts(self):
        assert self.judged == Confusion(tp=8, fp=1, fn=2, tn=9, unscored_yes=3, unscored_no=0)
        assert (self.judged.n, self.judged.unscored) == (20, 3)

    def test_shares_are_wilsons_and_count_their_own_unscored(self):
        assert self.judged.accuracy() == stats.rate(17, 20, 3)
        assert self.judged.sensitivity() == stats.rate(8, 10, 3)
        assert self.judged.specificity() == stats.rate(9, 10, 0)
        assert self.judged.precision() == stats.rate(8, 9)

    def test_f1_by_hand(self):
        """16 / 19; the share 8 / 11 has the bounds 0.4344 and 0.9025, of which 2 s / (1 + s)."""
        f1 = self.judged.f1()
        assert (f1.value, f1.n, f1.unscored) == (pytest.approx(16 / 19), 20, 3)
        assert (round(f1.low, 3), round(f1.high, 3)) == (0.606, 0.949)

    def test_a_judge_that_never_spoke_is_unknown_not_bad(self):
        silent = Confusion.of([(None, True), (None, False)])
        for figure in (silent.accuracy(), silent.f1(), silent.sensitivity(), silent.specificity()):
            assert math.isnan(figure.value) and figure.n == 0
        assert silent.accuracy().unscored == 2
        nobody_said_yes = Confusion(0, 0, 0, 5)
        assert math.isnan(nobody_said_yes.f1().value) and nobody_said_yes.f1().n == 5


class TestKappa:
    def test_by_hand(self):
        """Observed 35/50, by chance 0.5 x 0.6 + 0.5 x 0.4 = 0.5: kappa 0.4."""
        found = stats.kappa([*TABLE, (None, "yes"), ("no", None)])
        assert (found.value, found.n, found.unscored) == (pytest.approx(0.4), 50, 2)
        assert found.low == pytest.approx(0.139, abs=0.02) and found.high == pytest.approx(0.64, abs=0.02)

    def test_bootstrap_and_formula_agree(self):
        one, two = stats.kappa(TABLE * 4), stats.kappa(TABLE * 4, random.Random(0))
        assert one.value == two.value
        assert (one.low, one.high) == pytest.approx((two.low, two.high), abs=0.02)
        assert stats.kappa(TABLE, random.Random(3)) == stats.kappa(TABLE, random.Random(3))

    def test_agreement_on_few_items_is_not_certainty(self):
        few, many = stats.kappa([(0, 0), (1, 1)] * 5), stats.kappa([(0, 0), (1, 1)] * 500)
        assert few.value == many.value == few.high == 1
        assert few.low < 0.7 and 0.97 < many.low < 1
        assert stats.kappa([(0, 0), (1, 1)] * 5, random.Random(0)) == few

    def test_one_label_only_defines_nothing(self):
        found = stats.kappa([("no", "no")] * 9 + [(None, "no")])
        assert math.isnan(found.value) and (found.n, found.unscored) == (9, 1)
        assert stats.kappa([(None, 1)]).n == 0

    def test_weights_by_hand(self):
        """0-0, 0-2, 2-2, 4-2. Distances 0, 2, 0, 2 (mean 1); by chance: 0, 0, 2, 4 against 0, 2, 2, 2: mean 1.5."""
        pairs = [(0, 0), (0, 2), (2, 2), (4, 2)]
        by_chance = [abs(a - b) for a, b in itertools.product([0, 0, 2, 4], [0, 2, 2, 2])]
        assert sum(by_chance) / 16 == 1.5
        assert stats.kappa(pairs, weights="linear").value == pytest.approx(1 - 1 / 1.5)
        assert stats.kappa(pairs, weights="quadratic").value == pytest.approx(
            1 - 2 / (sum(x * x for x in by_chance) / 16)
        )

    def test_weights_are_of_the_values_not_of_their_order(self):
        """7 for 0 is worse than 1 for 0, also where nothing lies between."""
        near, far = [(0, 0), (1, 1), (7, 7), (0, 1)], [(0, 0), (1, 1), (7, 7), (0, 7)]
        assert stats.kappa(near, weights="linear").value > 0.9 > stats.kappa(far, weights="linear").value
        with pytest.raises(ValueError, match="labels that are numbers"):
            stats.kappa([("full", "none"), ("none", "none")], weights="linear")


class TestAlpha:
    @pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
    def test_published(self, level: stats.Level, alpha: float):
        found = stats.krippendorff_alpha(UNITS, level, random.Random(0))
        assert round(found.value, 3) == alpha
        assert (found.n, found.unscored) == (11, 1), "one unit has a single rating"
        assert found.low < found.value - 0.05 and found.value < found.high <= 1
        assert found == stats.krippendorff_alpha(UNITS, level, random.Random(0))

    @pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
    def test_as_by_the_definition(self, level: stats.Level):
        rng = random.Random(7)
        for _ in range(20):
            units = [[rng.choice([0, 1, 2, 4, 7, None]) for _ in range(rng.randint(1, 4))] for _ in range(12)]
            found = stats.krippendorff_alpha(units, level, rng, draws=1)
            assert found.value == pytest.approx(by_definition(units, level))

    def test_words_are_nominal(self):
        words = [["full", "full"], ["none", "none"], ["none", "partial"], ["full", "full"]]
        assert 0 < stats.krippendorff_alpha(words, "nominal", random.Random(0)).value < 1
        with pytest.raises(ValueError, match="ratings that are numbers"):
            stats.krippendorff_alpha(words, "ordinal", random.Random(0))

    def test_agreement_on_few_units_is_not_certainty(self):
        """0 of 10 units disagree: at most 0.2775 (Wilson), of 200 unequal pairs among 20 x 19."""
        found = stats.krippendorff_alpha([[0, 0], [1, 1]] * 5, "interval", random.Random(0))
        assert (found.value, found.high) == (1, 1)
        assert found.low == pytest.approx(1 - stats.rate(0, 10).high / (200 / 380))

    @pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
    def test_units_that_disagree_alike_have_no_interval(self, level: stats.Level):
        """Every unit is one 1 and one 0: all draws are the same, which is no certainty."""
        for n, alpha in ((10, 1 - 1 / (10 / 19)), (1, 0.0)):
            found = stats.krippendorff_alpha([[1, 0]] * n, level, random.Random(0))
            assert (found.value, found.n) == (pytest.approx(alpha), n)
            assert math.isnan(found.low) and math.isnan(found.high)
            assert stats.as_json(found)["low"] is None

    def test_nothing_to_pair_or_one_rating_only(self):
        rng = random.Random(0)
        assert stats.krippendorff_alpha([[1, None], [None, 2]], "nominal", rng).unscored == 2
        same = stats.krippendorff_alpha([[1, 1], [1, 1, 1]], "nominal", rng)
        assert math.isnan(same.value) and same.n == 2


def by_definition(units: list[list[int | None]], level: str) -> float:
    """1 - D_o / D_e over pairs, without any shortcut."""
    rated = [[r for r in unit if r is not None] for unit in units]
    rated = [unit for unit in rated if len(unit) > 1]
    everything = [r for unit in rated for r in unit]

    def apart(a: int, b: int) -> float:
        if level == "nominal":
            return float(a != b)
        if level == "interval":
            return float((a - b) ** 2)
        low, high = min(a, b), max(a, b)
        between = sum(low <= r <= high for r in everything)
        return (between - (everything.count(low) + everything.count(high)) / 2) ** 2

    n = len(everything)
    observed = sum(sum(apart(a, b) for a, b in itertools.permutations(u, 2)) / (len(u) - 1) for u in rated) / n
    expected = sum(apart(a, b) for a, b in itertools.permutations(everything, 2)) / n / (n - 1)
    return 1 - observed / expected


class TestMeanAbsoluteError:
    def test_by_hand(self):
        found = stats.mean_absolute_error([(3, 5), (4, 4), (7, 6), (None, 2), (1, None)])
        assert (found.value, found.n, found.unscored) == (1.0, 3, 2)
        assert found == stats.mean([2, 0, 1, None, None], method="t")

    def test_no_error_on_few_items_is_not_certainty(self):
        found = stats.mean_absolute_error([(3, 3)] * 20, random.Random(0), scale=7)
        assert (found.value, found.low) == (0, 0)
        assert found.high == pytest.approx(7 * stats.rate(0, 20).high)

    def test_stays_on_the_scale(self):
        found = stats.mean_absolute_error([(0, 7), (0, 0)], scale=7)
        assert (found.low, found.high) == (0, 7)
        with pytest.raises(ValueError, match="expected 0 to 4"):
            stats.mean_absolute_error([(0, 7)], scale=4)


class TestCorrectedRate:
    def test_rogan_gladen_by_hand(self):
        """0.26 counted by a judge of 0.8 and 0.9: (0.26 - 0.1) / 0.7."""
        found = stats.corrected_rate(stats.rate(26, 100, 4), known(0.8), known(0.9))
        assert (found.value, found.n, found.unscored) == (pytest.approx(0.16 / 0.7), 100, 4)

    def test_a_faultless_judge_changes_nothing(self):
        found = stats.corrected_rate(stats.rate(26, 100), known(1.0), known(1.0))
        assert found.value == 0.26
        assert (found.low, found.high) == pytest.approx((stats.rate(26, 100).low, stats.rate(26, 100).high), abs=0.005)

    def test_lang_and_reiczigel_by_hand(self):
        """27 of 650 counted, sensitivity 50 of 100, specificity 199 of 200. With z^2 = 3.8415: p' = 28.9207 / 653.8415,
        Se' = 51 / 102, Sp' = 200 / 202; the truth would be (p' + Sp' - 1) / (Se' + Sp' - 1)."""
        found = stats.corrected_rate(stats.rate(27, 650), stats.rate(50, 100), stats.rate(199, 200))
        p, se, sp = 28.920729 / 653.841459, 51 / 102, 200 / 202
        truth = (p + sp - 1) / (se + sp - 1)
        v_p, v_se, v_sp = p * (1 - p) / 653.841459, se * (1 - se) / 102, sp * (1 - sp) / 202
        error = math.sqrt(v_p + truth**2 * v_se + (1 - truth) ** 2 * v_sp) / (se + sp - 1)
        middle = truth + 2 * 3.841459 * (truth * v_se - (1 - truth) * v_sp)
        assert found.value == pytest.approx((27 / 650 - 0.005) / 0.495)
        assert (found.low, found.high) == pytest.approx((middle - 1.959964 * error, middle + 1.959964 * error))

    def test_a_judge_known_badly_widens_the_interval(self):
        observed = stats.rate(130, 500)
        widths = [
            e.high - e.low
            for e in (
                observed,
                stats.corrected_rate(observed, known(0.8), known(0.9)),
                stats.corrected_rate(observed, stats.rate(400, 500), stats.rate(450, 500)),
                stats.corrected_rate(observed, stats.rate(40, 50), stats.rate(45, 50)),
            )
        ]
        assert widths == sorted(widths)

    def test_draws_and_formula_agree(self):
        given = stats.rate(130, 500), stats.rate(160, 200), stats.rate(180, 200)
        one, two = stats.corrected_rate(*given), stats.corrected_rate(*given, random.Random(0))
        assert one.value == two.value
        assert (one.low, one.high) == pytest.approx((two.low, two.high), abs=0.02)

    def test_fewer_counted_than_the_judge_errs_is_none(self):
        found = stats.corrected_rate(stats.rate(3, 100), stats.rate(80, 100), stats.rate(90, 100))
        assert (found.value, found.low) == (0, 0) and 0 < found.high < 0.1

    @pytest.mark.parametrize(("found", "left"), [(5, 5), (4, 3), (6, 6)])
    def test_a_judge_like_a_coin_says_nothing(self, found: int, left: int):
        figure = stats.corrected_rate(stats.rate(50, 100), stats.rate(found, 10), stats.rate(left, 10))
        assert math.isnan(figure.value) and math.isnan(figure.high) and figure.n == 100
        assert not figure.high <= 0.5, "no gate passes on it"

    def test_an_unmeasured_judge_or_nothing_counted(self):
        assert math.isnan(stats.corrected_rate(stats.rate(5, 10), stats.nothing(), known(0.9)).value)
        assert stats.corrected_rate(stats.nothing(7), known(0.8), known(0.9)).unscored == 7

    def test_attempts_that_cluster_count_for_less(self):
        clustered = [(f"c{i}", float(i < 10)) for i in range(40) for _ in range(5)]
        observed = stats.clustered_rate(clustered, random.Random(0))
        assert stats.effective_n(stats.rate(50, 200)) == pytest.approx(200)
        assert 30 < stats.effective_n(observed) < 55
        wide = stats.corrected_rate(observed, known(0.9), known(0.9))
        narrow = stats.corrected_rate(stats.rate(50, 200), known(0.9), known(0.9))
        assert wide.value == narrow.value and wide.high - wide.low > 1.8 * (narrow.high - narrow.low)

    def test_a_judge_that_differs_by_category(self):
        """Each category by its own judge, then the mean: 3/4 of 0.2 and 1/4 of 0.6."""
        easy, hard = stats.rate(260, 1000), stats.rate(500, 1000)
        parts = [
            (3.0, stats.corrected_rate(easy, known(0.9), known(0.9))),
            (1.0, stats.corrected_rate(hard, known(0.7), known(0.8))),
        ]
        found = stats.weighted(parts)
        assert (found.value, found.n) == (pytest.approx(0.75 * 0.2 + 0.25 * 0.6), 2000)
        assert found.high - found.value < 0.75 * (parts[0][1].high - 0.2) + 0.25 * (parts[1][1].high - 0.6)
        assert math.isnan(stats.weighted([*parts, (1.0, stats.nothing())]).value)
        with pytest.raises(ValueError, match="above 0"):
            stats.weighted([(0.0, easy)])
