"""A request about two topics that fails because of the one is no sign that the other is open.

Topics of one cell (clusters.py) are parts of it: a request is in one suite only, even if it is about two. Once the one
is mended, such requests go on failing with the other. So where a topic fails on less than half, and another one of its
cell on half or more: its requests in the order of their cosine to the nearest of those others' centroids, cut where the
two sides' failure rates are the most unlike (a scan statistic, as in clusters.py). Those nearer are the other's in this
round if p < P by SHUFFLES permutations of the cases. A topic that is open itself fails far from the others, too: either
nothing is cut, or what is left fails as before.
"""
# pyright: basic
# (scipy is untyped)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from breakfix.core import Vulnerability
from breakfix.identify.clusters import LEAST_CASES, OTHER, Vectors, centred
from breakfix.identify.group import Key, failures
from breakfix.identify.identity import Belongs, key_of, suite_cases, together, unit

P = 0.05
SHUFFLES = 999
HALF = 0.5


def handed_on(known: Sequence[Vulnerability], belongs: Mapping[str, Belongs], vectors: Vectors) -> dict[str, Belongs]:
    """Vulnerability's id → what is its in this round, after requests about two topics went to the one that fails."""
    by_key: dict[Key, list[Vulnerability]] = {}
    for v in known:
        if v.topic not in ("", OTHER) and v.suite:
            by_key.setdefault(key_of(v), []).append(v)
    found = dict(belongs)
    for own in by_key.values():
        rates = {v.id: failures(belongs[v.id].attempts) for v in own}
        failing_ = [v for v in own if rates[v.id].n and rates[v.id].value >= HALF]
        for v in own:
            if failing_ and rates[v.id].n and 0 < rates[v.id].value < HALF:
                _hand_on(v, failing_, found, vectors)
    return found


def _hand_on(v: Vulnerability, others: Sequence[Vulnerability], found: dict[str, Belongs], vectors: Vectors) -> None:
    """Changes `found`."""
    scores: dict[str, list[float]] = {}
    for a in found[v.id].attempts:
        if a.score is not None:
            scores.setdefault(a.case, []).append(a.score)
    ids = sorted(scores)
    near = _nearest(ids, [suite_cases(other) - set(ids) for other in others], vectors)
    if near is None:
        return
    cosines, whose = near
    cut = shared(cosines, [scores[id].count(0) for id in ids], [len(scores[id]) for id in ids])
    gone = {ids[i]: others[whose[i]].id for i in cut}
    if not gone or len(ids) - len(gone) < LEAST_CASES:
        return
    handed: dict[str, int] = {}
    for other in others:
        theirs = [a for a in found[v.id].attempts if gone.get(a.case) == other.id]
        if theirs:
            handed[other.id] = len(theirs)
            found[other.id] = together([found[other.id], Belongs(theirs, [])])
    kept = [a for a in found[v.id].attempts if a.case not in gone]
    found[v.id] = replace(found[v.id], attempts=kept, handed=handed)


def _nearest(ids: Sequence[str], suites: Sequence[set[str]], vectors: Vectors) -> tuple[Any, Any] | None:
    """(cosine to the nearest centroid of a suite, which one) of each case; None where there are no vectors."""
    import numpy as np

    everything = sorted({*ids, *set().union(*suites)})
    rows = vectors.of(everything)
    if rows is None or not all(suites):
        return None
    of = dict(zip(everything, centred(rows)))
    middles = np.stack([unit(np.stack([of[case] for case in sorted(suite)]).mean(0)) for suite in suites])
    cosines = np.stack([of[id] for id in ids]) @ middles.T
    return cosines.max(1), cosines.argmax(1)


def shared(cosines: Sequence[float], failed: Sequence[int], scored: Sequence[int]) -> list[int]:
    """Indices of the first cases by falling cosine, up to where failures end; [] where they do not lie there beyond
    chance. `failed` of `scored` attempts of each case."""
    import numpy as np
    from scipy.special import xlogy

    order = np.argsort(-np.asarray(cosines), kind="stable")
    if len(order) < 2 or not any(failed):
        return []
    rng = np.random.default_rng(0)
    rows = np.vstack([order, rng.permuted(np.tile(order, (SHUFFLES, 1)), axis=1)])
    bad, n = (np.cumsum(np.array(some, np.float64)[rows], 1) for some in (failed, scored))
    above, below = bad[:, :-1], bad[:, -1:] - bad[:, :-1]
    before, after = n[:, :-1], n[:, -1:] - n[:, :-1]

    def fit(k: Any, of: Any) -> Any:
        return xlogy(k, k / of) + xlogy(of - k, 1 - k / of)

    ratio = np.where(above / before > below / after, fit(above, before) + fit(below, after), -np.inf)
    most = ratio.max(1)
    if (1 + (most[1:] >= most[0] - 1e-9).sum()) / (1 + SHUFFLES) >= P:
        return []
    return sorted(int(i) for i in order[: ratio[0].argmax() + 1])
