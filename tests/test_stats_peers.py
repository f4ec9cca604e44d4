"""The same figures by scipy and statsmodels."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats import inter_rater, multitest, power, proportion
from statsmodels.stats.contingency_tables import mcnemar

from breakfix import stats


def tables(n: int, most: int) -> list[tuple[int, int, int, int]]:
    """(good, n, good_then, n_then), corners among them."""
    rng = random.Random(5)
    drawn = [(rng.randint(1, most), rng.randint(1, most)) for _ in range(n)]
    return [(0, 7, 0, 5), (7, 7, 0, 5), *((rng.randint(0, a), a, rng.randint(0, b), b) for a, b in drawn)]


@pytest.mark.parametrize(("good", "n", "good_then", "n_then"), tables(40, 90))
def test_shares_and_two_arms(good: int, n: int, good_then: int, n_then: int):
    now, then = stats.rate(good, n), stats.rate(good_then, n_then)
    assert (now.low, now.high) == pytest.approx(proportion.proportion_confint(good, n, method="wilson"), abs=1e-12)
    low, high = proportion.confint_proportions_2indep(good, n, good_then, n_then, method="newcomb")
    found = stats.difference(then, now)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    table = [[good, n - good], [good_then, n_then - good_then]]
    for side, name in (("both", "two-sided"), ("less", "less"), ("greater", "greater")):
        assert stats.fisher(good, n, good_then, n_then, side) == pytest.approx(
            scipy_stats.fisher_exact(table, name).pvalue, abs=1e-9
        )


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (10, 2), (1, 7), (40, 55), (3, 3)])
def test_mcnemar(lost: int, won: int):
    expected = mcnemar([[5, lost], [won, 5]], exact=True).pvalue if lost + won else 1.0
    assert stats.mcnemar(lost, won) == pytest.approx(expected)


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
def test_kappa(weights: stats.Weights | None):
    """Value and, on the table with its two items more, the interval."""
    rng = random.Random(2)
    pairs = [(a, min(4, max(0, a + rng.choice([0, 0, 0, 1, -1, 2])))) for a in rng.choices(range(5), k=80)]
    table = np.zeros((5, 5))
    for a, b in pairs:
        table[a, b] += 1
    found = stats.kappa(pairs, weights=weights)
    assert found.value == pytest.approx(inter_rater.cohens_kappa(table, wt=weights).kappa)
    apart = np.abs(np.subtract.outer(range(5), range(5)))
    table += np.eye(5) / 5 + (np.where(apart > 0, 1 / 20, 0) if weights is None else np.where(apart == 1, 1 / 8, 0))
    peer = inter_rater.cohens_kappa(table, wt=weights)
    assert (found.low, found.high) == pytest.approx((peer.kappa_low, peer.kappa_upp))


@pytest.mark.parametrize("seed", range(5))
def test_many_tests(seed: int):
    rng = random.Random(seed)
    p = {str(i): rng.random() ** 3 for i in range(9)}
    for ours, theirs in ((stats.holm, "holm"), (stats.benjamini_hochberg, "fdr_bh")):
        expected = multitest.multipletests(list(p.values()), method=theirs)[1]
        assert list(ours(p).values()) == pytest.approx(list(expected))


def test_means():
    rng = random.Random(1)
    values = [rng.gauss(2, 1) for _ in range(40)]
    found = stats.mean(values, method="t")
    interval = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    boot = stats.mean(values, random.Random(0), draws=4000)
    peer = scipy_stats.bootstrap(
        (values,), np.mean, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (boot.low, boot.high) == pytest.approx((peer.low, peer.high), abs=0.03)


def test_permutations():
    rng = random.Random(4)
    before = {str(i): rng.gauss(0, 1) for i in range(25)}
    after = {case: value + rng.gauss(0.4, 1) for case, value in before.items()}
    one, two = list(before.values()), list(after.values())
    options = {"n_resamples": 20_000, "vectorized": True, "rng": np.random.default_rng(0)}

    def apart(x: object, y: object, axis: int) -> object:
        return np.mean(x, axis=axis) - np.mean(y, axis=axis)

    peer = scipy_stats.permutation_test((one, two), apart, permutation_type="samples", **options).pvalue
    assert stats.paired_permutation(before, after, random.Random(0)) == pytest.approx(peer, abs=0.015)
    peer = scipy_stats.permutation_test((one, two), apart, permutation_type="independent", **options).pvalue
    found = stats.stratified_permutation([("", x) for x in one], [("", y) for y in two], random.Random(0))
    assert found == pytest.approx(peer, abs=0.02)


def test_power_of_two_arms():
    """The same formula; and by the arcsine, another approximation: within three in a hundred."""
    peer = proportion.samplesize_proportions_2indep_onetail(0.1, 0.1, 0.8, alpha=0.05)
    assert stats.cases_per_arm(0.2, 0.1) == pytest.approx(peer, abs=1)
    effect = proportion.proportion_effectsize(0.2, 0.1)
    peer = power.NormalIndPower().solve_power(effect, alpha=0.05, power=0.8)
    assert stats.cases_per_arm(0.2, 0.1) == pytest.approx(peer, rel=0.03)
