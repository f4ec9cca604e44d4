"""The vulnerabilities' life: ids V1, V2 ... that stay with their cases across rounds, and open → fixed → reopened.

What opens them, what closes them: status.py. Which attempts are theirs: identity.py and overlap.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from breakfix.core import Attempt, Estimate, Status, Vulnerability
from breakfix.identify import clusters, fresh
from breakfix.identify.clusters import Vectors
from breakfix.identify.group import CAPABILITY, KINDS, Cell, Key, Pool, cases, cell, failures, matching
from breakfix.identify.identity import Belongs, belongings, key_of, number, of_its, pair, suite_cases, together
from breakfix.identify.overlap import handed_on
from breakfix.identify.prescribe import rank
from breakfix.identify.status import Basis, Noise, after, improved
from breakfix.stats import benjamini_hochberg


def update(
    known: Sequence[Vulnerability],
    cells: Sequence[Cell],
    measured: Sequence[Attempt],
    lessons: Sequence[Attempt],
    earlier: Callable[[int], Sequence[Attempt]],
    *,
    round: int,
    compared: Mapping[str, Estimate],
    vectors: Vectors | None = None,
    nearby: Mapping[str, Sequence[Attempt]] | None = None,
    highest: int = 0,
    absorbed: Mapping[str, Sequence[Vulnerability]] | None = None,
    note: Callable[[str, Basis], None] | None = None,
) -> tuple[list[Vulnerability], dict[str, float], list[str]]:
    """(all vulnerabilities as this round leaves them, without prescriptions; id → rank; the ids of those that it did
    not measure: their rate is an earlier one's). New ones are numbered by rank.

    `measured` are the round's attempts on dev cases, `lessons` its failures on training cases, `earlier` gives an
    earlier round's attempts on dev cases; `compared`: capability suites that were measured against round 0, and what
    each lost. `vectors` of requests; without, every cell stays whole. `nearby`: id → what was asked around it in this
    round.

    `known` may have been merged, split and renamed by people: what belongs to one is told by its suite first; names
    stay as they are, and several may be of one cell. `highest`: the number that new ones come after. `absorbed`: id →
    those that were merged into it: what would belong to them is its. `note` is told what each status that was decided
    was decided by (why.py).
    """
    vectors, nearby = vectors or Vectors(lambda _: None, None), nearby or {}
    reached = cases(measured)
    by_key = {found.key: found for found in cells}
    lasting = [v for v in known if v.kind != CAPABILITY]
    within = {v.id: list((absorbed or {}).get(v.id, ())) for v in lasting}

    @cache
    def cut(key: Key) -> list[Cell]:
        return clusters.split(by_key[key], vectors, reached)

    def parts(whole: Cell) -> list[Cell]:
        return cut(whole.key)

    belongs = _belongings(lasting, within, by_key, parts, measured, lessons, vectors)
    again = {v.id: _again(v, belongs, by_key, reached) for v in known}
    then = _openings([v for v in lasting if again[v.id] is not None], earlier, within)
    suited = [v if v.suite or v.id not in then else replace(v, suite=fresh.suite(then[v.id])) for v in known]
    p = _improvements(suited, again, then)
    around = _around(suited, belongs, measured, nearby, within)
    noise = Noise.of(cells)
    found: list[Vulnerability] = []
    unmeasured: list[str] = []
    for v in suited:
        if (now := again[v.id]) is not None:
            handed = belongs[v.id].handed if v.id in belongs else dict[str, int]()
            asked = failures(nearby.get(v.id, ()))
            basis = Basis(now, then.get(v.id, ()), p.get(v.id), around.get(v.id), asked, handed)
            found.append(after(v, basis, noise))
            if note is not None:
                note(v.id, basis)
        elif v.kind == CAPABILITY and v.family in compared:  # measured, and no longer worse
            found.append(replace(v, status=Status.FIXED, rate=compared[v.family], prescription={}, rank=0.0))
        else:
            found.append(replace(v, rank=0.0))
            unmeasured.append(v.id)
    new = sorted(fresh.unclaimed(cells, found, belongs, parts, reached, within, noise), key=rank, reverse=True)
    first = 1 + max([highest, *map(number, known)])
    found += [fresh.opened(f"V{number}", one, round) for number, one in enumerate(new, first)]
    return found, {v.id: v.rank for v in found}, unmeasured


def _belongings(
    known: Sequence[Vulnerability],
    within: Mapping[str, Sequence[Vulnerability]],
    by_key: Mapping[Key, Cell],
    parts: Callable[[Cell], Sequence[Cell]],
    measured: Sequence[Attempt],
    lessons: Sequence[Attempt],
    vectors: Vectors,
) -> dict[str, Belongs]:
    """Id → what is its: its own, that of what was merged into it, and what topics that overlap hand on."""
    gone = [one for some in within.values() for one in some]
    belongs = belongings([*known, *gone], by_key, parts, measured, lessons, vectors)
    belongs = {id: together([belongs[id], *(belongs[one.id] for one in some)]) for id, some in within.items()}
    return handed_on(known, belongs, vectors)


def _again(
    v: Vulnerability,
    belongs: Mapping[str, Belongs],
    cells: Mapping[Key, Cell],
    reached: Mapping[tuple[str, str], set[str]],
) -> Cell | None:
    """What this round measured of a known vulnerability; None where that is nothing."""
    if v.kind == CAPABILITY:
        return cells.get(key_of(v))
    own = belongs[v.id]
    one = cell(key_of(v), Pool(own.attempts, own.lessons), reached)
    return replace(one, topic=v.topic) if one.rate.n else None


def _openings(
    known: Sequence[Vulnerability],
    earlier: Callable[[int], Sequence[Attempt]],
    within: Mapping[str, Sequence[Vulnerability]],
) -> dict[str, list[Attempt]]:
    """Id → its attempts in the round that opened it. One earlier round at a time is in memory."""
    found: dict[str, list[Attempt]] = {}
    for first in sorted({v.first_round for v in known}):
        attempts = earlier(first)
        by_pair: dict[tuple[str, str], list[Attempt]] = {}
        for attempt in attempts:
            by_pair.setdefault(pair(attempt), []).append(attempt)
        for v in (v for v in known if v.first_round == first):
            mine = (a for one in v.suite for a in by_pair.get(one, ())) if v.suite else matching(key_of(v), attempts)
            found[v.id] = [a for a in mine if of_its(v, a, _languages(v, within))]
    return found


def _languages(v: Vulnerability, within: Mapping[str, Sequence[Vulnerability]]) -> list[str]:
    """Those of what was merged into it."""
    return [one.language for one in within.get(v.id, ())]


def _improvements(
    known: Sequence[Vulnerability], again: Mapping[str, Cell | None], then: Mapping[str, Sequence[Attempt]]
) -> dict[str, float]:
    """Id → p that its rate did not fall, adjusted for how many are open and were measured again, whatever their rates:
    to count only those that look better would be no adjustment."""
    p: dict[str, float] = {}
    for v in known:
        now = again[v.id]
        if now is not None and v.status is not Status.FIXED and v.kind != CAPABILITY:
            p[v.id] = improved(then[v.id], now.attempts)
    return benjamini_hochberg(p)


def _around(
    known: Sequence[Vulnerability],
    belongs: Mapping[str, Belongs],
    measured: Sequence[Attempt],
    nearby: Mapping[str, Sequence[Attempt]],
    within: Mapping[str, Sequence[Vulnerability]],
) -> dict[str, Estimate]:
    """Id → the failure rate of its neighbourhood, see status.py."""
    told = {v.id: {a.id for a in belongs[v.id].attempts} for v in known if v.id in belongs}
    on: dict[tuple[str, str], list[Attempt]] = {}
    for attempt in measured:
        on.setdefault((KINDS[attempt.expect], attempt.case), []).append(attempt)
    elsewhere = {v.id: told[v.id] for v in known if v.id in told and v.status is not Status.FIXED}
    owners: dict[str, int] = {}
    for ids in elsewhere.values():
        for id in ids:
            owners[id] = owners.get(id, 0) + 1
    found: dict[str, Estimate] = {}
    for v in known:
        if v.id not in told:
            continue
        pairs, mine, more = set(v.suite), elsewhere.get(v.id, set[str]()), _languages(v, within)
        near = {a.id: a for a in belongs[v.id].attempts if pair(a) not in pairs}
        for case in sorted(suite_cases(v)):
            for a in on.get((v.kind, case), ()):
                own = pair(a) in pairs and of_its(v, a, more)
                if not own and owners.get(a.id, 0) == (a.id in mine):
                    near[a.id] = a
        near |= {a.id: a for a in nearby.get(v.id, ())}
        found[v.id] = failures(near.values())
    return found
