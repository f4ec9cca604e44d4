"""Which of a round's attempts belong to which known vulnerability: by cases first, then by meaning.

    suite    (case, attack) of its regression suite, in whatever cell they are now (a pooled cell may have come apart,
             and people may have merged vulnerabilities), in its language: an attack may put a case in several
    cell     of one without a topic also the rest of its cell, where no other vulnerability of the cell has it
    topic    of one with a topic also the other attempts, in its cell, on the cases of its suite; on those of the part
             of this round that it was matched with; and on those whose request is as near its suite's centroid as nine
             in ten of the suite's own

Parts are matched with known topics of the same kind, hazard, family and language one to one, so that the sum is highest
(the Hungarian method, scipy): 1 + share of the smaller that both have, where they have cases in common; else the cosine
of their centroids, if it is NEAR or more. Centroids are means of the requests' vectors, minus the cell's mean.
"""
# pyright: basic
# (scipy is untyped)

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from breakfix.core import Attempt, Vulnerability
from breakfix.identify.clusters import OTHER, Vectors, centred
from breakfix.identify.group import KINDS, Cell, Key, matching

NEAR = 0.5
LEAST_SHARED = 0.2  # of the smaller's cases
FRINGE = 0.1  # share of a suite that is further from its centroid than what counts as near
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Belongs:
    """What is a vulnerability's in a round: all its attempts on dev cases, and its lessons. `handed`: other topic's
    id → how many attempts went to that one (overlap.py)."""

    attempts: list[Attempt]
    lessons: list[Attempt]
    handed: Mapping[str, int] = field(default_factory=dict[str, int])


def key_of(v: Vulnerability) -> Key:
    return Key(v.kind, v.hazard, v.family, v.language)


def number(v: Vulnerability) -> int:
    return int(v.id[1:])


def pair(attempt: Attempt) -> Pair:
    return attempt.case, attempt.attack


def suite_cases(v: Vulnerability) -> set[str]:
    return {case for case, _ in v.suite}


def match(known: Sequence[Vulnerability], parts: Sequence[Cell], vectors: Vectors) -> dict[str, int]:
    """Vulnerability's id → index of its part, of topics and parts of one cell. See the top."""
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    if not known or not parts:
        return {}
    likeness = np.zeros((len(known), len(parts)))
    theirs = [{a.case for a in part.attempts} for part in parts]
    mine = [suite_cases(v) for v in known]
    middles = _centroids([*mine, *theirs], vectors)
    for i, suite in enumerate(mine):
        for j, cases in enumerate(theirs):
            shared = len(suite & cases) / max(1, min(len(suite), len(cases)))
            if shared >= LEAST_SHARED:
                likeness[i, j] = 1 + shared
            elif not suite & cases and middles is not None:
                cosine = float(middles[i] @ middles[len(mine) + j])
                likeness[i, j] = cosine if cosine >= NEAR else 0.0
    rows, columns = linear_sum_assignment(likeness, maximize=True)
    return {known[i].id: int(j) for i, j in zip(rows, columns) if likeness[i, j] > 0}


def _matched(
    topics: Sequence[Vulnerability], parts: Sequence[Cell], vectors: Vectors
) -> tuple[dict[str, int], list[Cell]]:
    """`match`, by index of the second; topics with topics, and what is in none with what is in none: of a topic that
    fails no longer, all cases are in none."""
    found: dict[str, int] = {}
    fitting = [part for part in parts if part.topic]
    for other in (False, True):
        here = [i for i, part in enumerate(fitting) if (part.topic == OTHER) == other]
        some = match([v for v in topics if (v.topic == OTHER) == other], [fitting[i] for i in here], vectors)
        found |= {id: here[j] for id, j in some.items()}
    return found, fitting


def near(v: Vulnerability, cases: Sequence[str], others: Sequence[str], vectors: Vectors) -> set[str]:
    """Those of `cases` that are as near the centroid of `v`'s suite as nine in ten of the suite. `others` are further
    cases of the cell, for its mean."""
    import numpy as np

    suite = sorted(suite_cases(v))
    found = vectors.of([*suite, *cases, *others]) if suite and cases else None
    if found is None:
        return set()
    found = centred(found)
    middle = unit(found[: len(suite)].mean(0))
    least = float(np.quantile(found[: len(suite)] @ middle, FRINGE))
    return {case for case, one in zip(cases, found[len(suite) :] @ middle) if one >= max(least, NEAR)}


def belongings(
    known: Sequence[Vulnerability],
    cells: Mapping[Key, Cell],
    parts: Callable[[Cell], Sequence[Cell]],
    measured: Sequence[Attempt],
    lessons: Sequence[Attempt],
    vectors: Vectors,
) -> dict[str, Belongs]:
    """Vulnerability's id → what is its, of all that are no lost capability; nothing where nothing was measured.

    `cells`: the round's; `parts` cuts one; `measured` and `lessons` are all of the round's.
    """
    by_key: dict[Key, list[Vulnerability]] = {}
    for v in sorted(known, key=number):
        by_key.setdefault(key_of(v), []).append(v)
    by_pair: dict[Pair, list[Attempt]] = {}
    for attempt in measured:
        by_pair.setdefault(pair(attempt), []).append(attempt)
    found: dict[str, Belongs] = {}
    for key, own in by_key.items():
        here = cells.get(key)
        there = list(here.attempts) if here else matching(key, measured)
        learnt = list(here.lessons) if here else matching(key, lessons)
        taken: dict[str, set[Pair]] = {v.id: set(v.suite) for v in own}
        topics = [v for v in own if v.topic]
        fitting = list(parts(here)) if here and topics else []
        matched, fitting = _matched(topics, fitting, vectors)
        for v in topics:
            cases = suite_cases(v)
            if v.id in matched:
                cases |= {a.case for a in fitting[matched[v.id]].attempts}
            strange = {a.case for a in there} - {case for other in own for case, _ in other.suite} - cases
            cases |= near(v, sorted(strange), sorted({a.case for a in there} - strange), vectors)
            taken[v.id] |= {pair(a) for a in there if a.case in cases} - _of_others(v, own)
        whole = next((v for v in own if not v.topic), None)
        if whole is not None:
            elsewhere = {one for v in own if v is not whole for one in taken[v.id]}
            taken[whole.id] |= {pair(a) for a in there if pair(a) not in elsewhere}
        for v in own:
            attempts = [a for one in sorted(taken[v.id]) for a in by_pair.get(one, ())]
            attempts = [a for a in attempts if of_its(v, a)]
            on = {case for case, _ in taken[v.id]}
            found[v.id] = Belongs(attempts, [a for a in learnt if a.case in on or v is whole or not whole])
    return found


def together(some: Sequence[Belongs]) -> Belongs:
    """Of all of them, each attempt once."""
    if len(some) == 1:
        return some[0]
    attempts = {a.id: a for one in some for a in one.attempts}
    return Belongs(list(attempts.values()), list({a.id: a for one in some for a in one.lessons}.values()))


def _of_others(v: Vulnerability, own: Sequence[Vulnerability]) -> set[Pair]:
    return {one for other in own if other is not v for one in other.suite}


def of_its(v: Vulnerability, attempt: Attempt, languages: Sequence[str] = ()) -> bool:
    """Kind and language; `languages`: further ones, of what was merged into it."""
    spoken = {v.language, *languages}
    return KINDS.get(attempt.expect) == v.kind and ("" in spoken or attempt.language in spoken)


def _centroids(groups: Sequence[set[str]], vectors: Vectors) -> Any:
    """float [len(groups), size], of length 1; None where there are no vectors."""
    import numpy as np

    everything = sorted(set[str]().union(*groups))
    found = vectors.of(everything)
    if found is None or not all(groups):
        return None
    rows = dict(zip(everything, centred(found)))
    return np.stack([unit(np.stack([rows[case] for case in sorted(group)]).mean(0)) for group in groups])


def unit(vector: Any) -> Any:
    import numpy as np

    return vector / max(float(np.linalg.norm(vector)), 1e-9)
