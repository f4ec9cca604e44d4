"""Figures that can be checked by hand or against a table."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys

import pytest

from breakfix import stats
from breakfix.core import Estimate


def rounded(estimate: Estimate, digits: int = 3) -> tuple[float, float, float]:
    return round(estimate.value, digits), round(estimate.low, digits), round(estimate.high, digits)


def test_wilson_by_table():
    assert rounded(stats.rate(8, 10)) == (0.8, 0.490, 0.943)
    assert rounded(stats.rate(0, 20)) == (0.0, 0.0, 0.161)
    assert rounded(stats.rate(20, 20, unscored=3)) == (1.0, 0.839, 1.0)
    assert stats.rate(20, 20, unscored=3).unscored == 3


@pytest.mark.parametrize(("good", "n", "unscored"), [(-1, 3, 0), (4, 3, 0), (1, 3, -1)])
def test_a_rate_must_be_one(good: int, n: int, unscored: int):
    with pytest.raises(ValueError, match="expected 0 <= good <= n"):
        stats.rate(good, n, unscored)


def test_nothing_scored_is_nan_counts_the_unscored_and_is_null_in_json():
    rng = random.Random(0)
    for estimate in (
        stats.rate(0, 0, 2),
        stats.clustered_rate([("a", None), ("b", None)], rng),
        stats.mean([None, None], rng),
        stats.paired_difference({"a": 1.0}, {"b": 1.0}),
    ):
        assert math.isnan(estimate.value) and math.isnan(estimate.low) and math.isnan(estimate.high)
        assert (estimate.n, estimate.unscored) == (0, 2)
        assert not estimate.high < 0.3, "no gate passes on it"
        text = json.dumps(stats.as_json(estimate), allow_nan=False)
        assert json.loads(text) == {"value": None, "low": None, "high": None, "n": 0, "unscored": 2}
        assert stats.as_json(stats.from_json(json.loads(text))) == stats.as_json(estimate)


def test_one_attempt_a_case_is_wilson_and_needs_no_randomness():
    rng = random.Random(0)
    outcomes = [(f"c{i}", float(i < 8)) for i in range(10)]
    assert stats.clustered_rate([*outcomes, ("c11", None)], rng) == stats.rate(8, 10, unscored=1)
    assert rng.random() == random.Random(0).random()


def test_attempts_at_one_case_are_not_independent():
    """Ten cases, eight attempts each, all attempts at a case alike: worth ten observations, not eighty."""
    outcomes = [(f"c{i}", float(i < 5)) for i in range(10) for _ in range(8)]
    estimate = stats.clustered_rate(outcomes, random.Random(1))
    assert (estimate.value, estimate.n) == (0.5, 80)
    naive = stats.rate(40, 80)
    assert estimate.high - estimate.low > 2 * (naive.high - naive.low)
    assert estimate == stats.clustered_rate(outcomes, random.Random(1))


@pytest.mark.parametrize(("broke", "effect"), [(1, 64 / 63), (2, 64 / 31)])
def test_clustered_attempts_by_hand(broke: int, effect: float):
    """Of two attempts at each of 32 cases one broke, or both of one case, which count as one: the squared distances of
    the cases' sums, 1 - 1/32 and 4 - 4/32, times 32/31, ÷ 64 attempts, ÷ 1/64 x 63/64 and 1/32 x 31/32. And t of 31
    degrees of freedom is 2.0395.
    """
    found = stats.clustered_rate([(str(i // 2), float(i < broke)) for i in range(64)], random.Random(0))
    low, high = stats.wilson(broke / 64, 64 / effect * (1.959964 / 2.039513) ** 2)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))
    assert found.high > stats.rate(broke, 64).high


def test_graded_outcomes_are_not_as_uncertain_as_yes_and_no():
    rng = random.Random(2)
    given = [(str(i // 2), 0.5 + rng.choice([-0.1, 0.1])) for i in range(200)]
    found = stats.clustered_rate(given, random.Random(0))
    assert 0.02 < found.high - found.low < 0.06


def test_never_broken_is_not_certainty():
    outcomes = [(f"c{i}", 0.0) for i in range(20) for _ in range(4)]
    assert rounded(stats.clustered_rate(outcomes, random.Random(0))) == (0.0, 0.0, 0.161)
    one_case = stats.clustered_rate([("a", 0.0), ("a", 1.0)], random.Random(0))
    assert one_case.low < 0.1 and one_case.high > 0.9


def test_mean_with_students_t_by_table():
    """1..5: mean 3, standard error sqrt(2.5 / 5) = 0.7071, t(4) = 2.7764."""
    assert rounded(stats.mean([1, 2, 3, 4, 5, None], method="t")) == (3.0, 1.037, 4.963)
    assert stats.mean([1, 2, 3, 4, 5, None], method="t").unscored == 1


def test_mean_with_bootstrap():
    values = [float(i % 10) for i in range(400)]
    by_bootstrap, by_t = stats.mean(values, random.Random(0)), stats.mean(values, method="t")
    assert by_bootstrap.value == 4.5
    assert by_bootstrap.low == pytest.approx(by_t.low, abs=0.05)
    assert by_bootstrap.high == pytest.approx(by_t.high, abs=0.05)
    with pytest.raises(ValueError, match="needs a random generator"):
        stats.mean(values)
    assert math.isnan(stats.mean([1.0], random.Random(0)).high)


def paired(lost: int, won: int, same: int) -> tuple[dict[str, float | None], dict[str, float | None]]:
    before = [1.0] * lost + [0.0] * won + [1.0] * same
    after = [0.0] * lost + [1.0] * won + [1.0] * same
    return {str(i): x for i, x in enumerate(before)}, {str(i): x for i, x in enumerate(after)}


def test_pairs_are_matched_by_case():
    before, after = paired(10, 2, 38)
    assert stats.flips(before, dict(reversed(after.items()))) == (10, 2, 50, 0)
    before["0"] = None
    after["new"] = 1.0
    assert stats.flips(before, after) == (9, 2, 49, 2)


def test_paired_difference_by_hand():
    """lost 11/52, won 3/52: middle -8/52, spread 1.95996 sqrt((14/52 - (8/52)^2) / 52)."""
    estimate = stats.paired_difference(*paired(10, 2, 38))
    assert rounded(estimate) == (-0.16, -0.289, -0.019)
    still = stats.paired_difference(*paired(0, 0, 30))
    assert still.value == 0 and still.low < -0.05 and still.high > 0.05


def test_mcnemar_by_hand():
    assert stats.mcnemar(10, 2) == stats.mcnemar(2, 10) == 2 * (1 + 12 + 66) / 4096
    assert round(stats.mcnemar(10, 2), 4) == 0.0386
    assert stats.mcnemar(0, 0) == stats.mcnemar(3, 3) == 1.0
    assert stats.mcnemar(2000, 2000) == 1.0
    with pytest.raises(ValueError, match="expected counts"):
        stats.mcnemar(-1, 2)


def test_holm_worked_example():
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 = 0.02, 0.03, 0.06, 0.04, and never below the one before."""
    adjusted = stats.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert list(adjusted) == ["a", "b", "c", "d"]
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert stats.holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert stats.holm({}) == {}


def test_detectable_drop():
    """About 200 cases an arm tell 20 % from 10 %, about 900 tell 5 % from 2.5 %."""
    assert stats.detectable_drop(200, 0.2) == pytest.approx(0.1, abs=0.001)
    assert stats.detectable_drop(906, 0.05) == pytest.approx(0.025, abs=0.0002)
    assert math.isnan(stats.detectable_drop(10, 0.1))
    with pytest.raises(ValueError, match="share above 0"):
        stats.detectable_drop(10, 0.0)


def test_import_is_light():
    code = "import sys, breakfix.stats; print([m for m in ('numpy', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
