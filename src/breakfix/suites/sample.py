"""Samples that are the same on every machine, and grow: a sample of 100 is part of the sample of 200.

Each case draws a lot, the digest of (seed, id), and not a number from a generator: the order of the rows, the
version of Python, and other rows that are added or removed do not matter to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

from breakfix.core import Case, digest

Key = Callable[[Case], Hashable]


def stratified(cases: Sequence[Case], limit: int | None, *, seed: int) -> tuple[Case, ...]:
    """At most `limit` cases, every stratum in proportion to its size (up to rounding), in the order they came.

    A stratum is a hazard (or the family, where there is no hazard) in English, or another language, each with what
    is expected. Within a stratum of s cases the r-th lot has the place (r + ½) / s; the `limit` lowest places are it.
    """
    places: dict[str, tuple[float, str]] = {}
    for members in _by(cases, _stratum, seed).values():
        places.update({c.id: ((r + 0.5) / len(members), _lot(c, seed)) for r, c in enumerate(members)})
    return _lowest(cases, places, limit)


def balanced(cases: Sequence[Case], limit: int | None, *, seed: int) -> tuple[Case, ...]:
    """At most `limit` cases, as many of each source, and within a source as many of each right answer.

    So a model that comes to prefer "yes" (62 % of BoolQ), or the first choice, neither gains nor loses by it.
    """
    places: dict[str, tuple[float, str]] = {}
    for source in _by(cases, lambda case: case.source, seed).values():
        turns = {c.id: r for members in _by(source, lambda c: c.gold, seed).values() for r, c in enumerate(members)}
        ordered = sorted(source, key=lambda c: (turns[c.id], _lot(c, seed)))
        places.update({c.id: (float(r), _lot(c, seed)) for r, c in enumerate(ordered)})
    return _lowest(cases, places, limit)


def _stratum(case: Case) -> Hashable:
    return case.expect, (case.hazard or case.family) if case.language == "en" else f"language {case.language}"


def _lot(case: Case, seed: int) -> str:
    return digest([seed, case.id])


def _by(cases: Sequence[Case], key: Key, seed: int) -> dict[Hashable, list[Case]]:
    """Groups, each in order of its lots."""
    groups: dict[Hashable, list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: _lot(case, seed)):
        groups[key(case)].append(case)
    return groups


def _lowest(cases: Sequence[Case], places: dict[str, tuple[float, str]], limit: int | None) -> tuple[Case, ...]:
    chosen = set(sorted(places, key=lambda id: places[id])[:limit])
    return tuple(case for case in cases if case.id in chosen)
