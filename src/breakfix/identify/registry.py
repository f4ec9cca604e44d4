"""The vulnerabilities' life: ids V1, V2 ... that stay with their cases across rounds, and open → fixed → reopened.

    noise      what fails anywhere: the pooled failure rate of the round's cells of the same kind that are no weakness
               by their own figures (fewer than two failures, or below 10 %), at most 5 %. A judge's slips are in it,
               and so is what the model does now and then; the limit of 10 % is what fails above it: (rate − noise) ÷
               (1 − noise)
    opens      a cell, or a part of one (clusters.py), of which 10 % or more failed above noise, and two attempts at
               least, after what belongs to known vulnerabilities (identity.py) was taken out; and that noise does not
               explain: p < 0.05 by the exact binomial test, adjusted, after Benjamini and Hochberg, for all cells of
               the round
    is fixed   by its own attempts and by its neighbourhood:
               own       the rate's upper bound is below 10 %; or the rate above noise is below 10 % and the rate
                         significantly lower than in the round that opened it (p < 0.05: McNemar's exact test on the
                         same case and attack where most can be paired, else Fisher's exact test; adjusted likewise for
                         all open ones that were measured again)
               around    the lower bound of the neighbourhood's rate is not above 10 %
    reopens    a fixed one that would open again, with a rate whose lower bound is above 5 %; or where of what was asked
               around it the rate's lower bound is above 10 %
    stays      everything else, above all what was not attacked again

The own attempts are those of its regression suite, which is never extended, and all others that belong to it. The
neighbourhood is what was measured in the same round near the suite and is not in it, so that a suite that was learnt by
heart closes nothing: the other attempts that belong to it (new cases of its cell or topic), those on the suite's cases
under other attacks and in other languages, as far as they belong to no other vulnerability that is not fixed (which
tells of them itself), and what was asked around it (attempts of stage identify: probing.py). Where nothing of that was
measured, it speaks neither way: the suite decides.

Lost capability (group.py) opens where the change's whole interval is below 0, and is fixed once it is not, and the
change lies within the margin.

Not to be measured is no sign of health: what was not keeps its rate, and the round's record names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from breakfix.core import Attempt, Estimate, Status, Vulnerability, digest
from breakfix.identify import clusters
from breakfix.identify.clusters import Vectors
from breakfix.identify.group import CAPABILITY, KINDS, LEAST, Cell, Key, Pool, cases, cell, failures, matching
from breakfix.identify.identity import Belongs, belongings, key_of, number, of_its, pair, suite_cases, together
from breakfix.identify.names import name
from breakfix.identify.overlap import handed_on
from breakfix.identify.prescribe import rank, severity
from breakfix.stats import benjamini_hochberg, fisher, flips, mcnemar

LIMIT = 0.10
LEAST_FAILURES = 2
P = 0.05
PAIRED = 0.8  # share of a cell's scored attempts that must have a partner for a paired test
FEWEST_PAIRS = 6  # below it McNemar's test can't reach P
MOST_EVIDENCE = 200
MOST_SUITE = 500  # pairs; of more, a sample that the digests of their names draw
RELAPSE = 0.05
MOST_NOISE = 0.05  # where everything fails a little, that is a weakness and no noise


def weak(found: Cell, noise: float = 0.0) -> bool:
    """Is this a vulnerability by its own figures? `noise`: what fails anywhere, 0 to MOST_NOISE."""
    if found.key.kind == CAPABILITY:
        return found.rate.low > 0  # what is only beyond the margin keeps one open, and opens none
    return len(found.failed) >= LEAST_FAILURES and _above(found, noise) >= LIMIT


@dataclass(frozen=True, slots=True)
class Basis:
    """What a status was decided by. `then`: its attempts in the round that opened it; `p`: adjusted, that its rate did
    not fall (None where that was not tested); `around`: its neighbourhood's rate, `asked`: that of what identify asked
    of it; `handed`: other topic's id → attempts that count to that one in this round (overlap.py)."""

    now: Cell
    then: Sequence[Attempt]
    p: float | None
    around: Estimate | None
    asked: Estimate
    handed: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Noise:
    """What fails anywhere in a round, by kind (see the top; a kind of which nothing tells is missing), and the p below
    which a cell is not explained by it."""

    rates: Mapping[str, float]
    p: float

    @classmethod
    def of(cls, cells: Iterable[Cell]) -> Noise:
        """`cells`: the round's."""
        told = [one for one in cells if one.key.kind != CAPABILITY and one.rate.n]
        rates: dict[str, float] = {}
        for kind in {one.key.kind for one in told}:
            quiet = [one for one in told if one.key.kind == kind and not weak(one)]
            if quiet:
                share = sum(len(one.failed) for one in quiet) / sum(one.rate.n for one in quiet)
                rates[kind] = min(MOST_NOISE, share)
        found = benjamini_hochberg({str(i): _by(rates.get(one.key.kind), one) for i, one in enumerate(told)})
        return cls(rates, P * max(1, sum(p < P for p in found.values())) / max(1, len(told)))

    def rate(self, kind: str) -> float:
        return self.rates.get(kind, 0.0)

    def explains(self, found: Cell) -> bool:
        return _by(self.rates.get(found.key.kind), found) >= self.p


def _by(noise: float | None, found: Cell) -> float:
    """p that as many fail, or more, by noise alone; 0 where that is not known."""
    from scipy.stats import binom

    if noise is None or not found.failed:
        return 0.0 if noise is None else 1.0
    return float(cast("Any", binom).sf(len(found.failed) - 1, found.rate.n, noise))


def _above(found: Cell, noise: float) -> float:
    return (found.rate.value - noise) / (1 - noise) if found.rate.n else 0.0


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
    vectors = vectors or Vectors(lambda _: None, None)
    reached = cases(measured)
    cut: dict[Key, list[Cell]] = {}

    def parts(whole: Cell) -> list[Cell]:
        if whole.key not in cut:
            cut[whole.key] = clusters.split(whole, vectors, reached)
        return cut[whole.key]

    by_key = {found.key: found for found in cells}
    lasting = [v for v in known if v.kind != CAPABILITY]
    within = {v.id: list((absorbed or {}).get(v.id, ())) for v in lasting}
    gone = [one for some in within.values() for one in some]
    belongs = belongings([*lasting, *gone], by_key, parts, measured, lessons, vectors)
    belongs = {id: together([belongs[id], *(belongs[one.id] for one in some)]) for id, some in within.items()}
    belongs = handed_on(lasting, belongs, vectors)
    again = {v.id: _again(v, belongs, by_key, reached) for v in known}
    then = _openings([v for v in lasting if again[v.id] is not None], earlier, within)
    suited = [v if v.suite or v.id not in then else replace(v, suite=_suite(then[v.id])) for v in known]
    p = _improvements(suited, again, then)
    noise = Noise.of(cells)
    around = _around(suited, belongs, measured, nearby or {}, within)
    ranks: dict[str, float] = {}
    found: list[Vulnerability] = []
    unmeasured: list[str] = []
    for v in suited:
        now = again[v.id]
        if v.kind == CAPABILITY and now is None and v.family in compared:  # measured, and no longer worse
            lost = compared[v.family]
            found.append(replace(v, status=Status.FIXED, rate=lost, prescription={}, rank=0.0))
            ranks[v.id] = 0.0
            continue
        if now is None:
            unmeasured.append(v.id)
        ranks[v.id] = rank(now) if now is not None else 0.0
        asked = failures((nearby or {}).get(v.id, ()))
        if note is not None and now is not None:
            handed = belongs[v.id].handed if v.id in belongs else dict[str, int]()
            note(v.id, Basis(now, then.get(v.id, ()), p.get(v.id), around.get(v.id), asked, handed))
        after = v if now is None else _after(v, now, p.get(v.id, 1.0), noise, _bad(around.get(v.id)), _bad(asked))
        found.append(replace(after, rank=ranks[v.id]))
    fresh = _unclaimed(cells, found, belongs, parts, reached, within, noise)
    for one, new in enumerate(sorted(fresh, key=rank, reverse=True), 1 + max([highest, *map(number, known)])):
        v = _opened(f"V{one}", new, round)
        found.append(v)
        ranks[v.id] = v.rank
    return found, ranks, unmeasured


def _opened(id: str, one: Cell, round: int) -> Vulnerability:
    key = one.key
    return Vulnerability(
        id=id,
        kind=key.kind,
        name=name(key, one.topic, {a.language for a in one.attempts}),
        hazard=key.hazard,
        family=key.family,
        language=key.language,
        severity=severity(one),
        rate=one.rate,
        evidence=_evidence(one),
        prescription={},
        first_round=round,
        topic=one.topic,
        suite=_suite(one.attempts),
        reach=one.reach,
        rank=rank(one),
    )


def _suite(attempts: Iterable[Attempt]) -> tuple[tuple[str, str], ...]:
    """What failed and what did not: a suite of failures only would seem to heal by chance alone."""
    pairs = sorted({pair(a) for a in attempts})
    return tuple(sorted(sorted(pairs, key=digest)[:MOST_SUITE])) if len(pairs) > MOST_SUITE else tuple(pairs)


def _evidence(one: Cell) -> tuple[str, ...]:
    """Attempt ids; first those that may be learnt from."""
    return tuple(a.id for a in (*one.lessons, *one.failed))[:MOST_EVIDENCE]


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
    """Id → the failure rate of its neighbourhood, see the top."""
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


def _bad(found: Estimate | None) -> bool:
    return found is not None and found.n > 0 and found.low > LIMIT


def _unclaimed(
    cells: Sequence[Cell],
    known: Sequence[Vulnerability],
    belongs: Mapping[str, Belongs],
    parts: Callable[[Cell], Sequence[Cell]],
    reached: Mapping[tuple[str, str], set[str]],
    within: Mapping[str, Sequence[Vulnerability]],
    noise: Noise,
) -> list[Cell]:
    """What is weak in this round's cells and belongs to no known vulnerability.

    A cell that a vulnerability without a topic has is not cut, as long as that one is not fixed: its parts are the same
    weakness. Of a fixed one that stays fixed, a part may open.
    """
    whole = {key_of(one): v for v in known for one in within.get(v.id, ()) if not one.topic}
    whole |= {key_of(v): v for v in known if not v.topic}
    taken = {
        a.id
        for v in known
        if v.id in belongs and (v.topic or v.status is not Status.FIXED)
        for a in belongs[v.id].attempts
    }
    found: list[Cell] = []
    for one in cells:
        owner = whole.get(one.key)
        if one.key.kind == CAPABILITY:
            found += [one] if owner is None and weak(one) else []
            continue
        left = [a for a in one.attempts if a.id not in taken]
        if (owner is not None and owner.status is not Status.FIXED) or not left:
            continue
        own = parts(one) if len(left) == len(one.attempts) else parts_of_rest(one, left, parts, reached)
        own = [part for part in own if owner is None or part.topic not in ("", clusters.OTHER)]
        found += [part for part in own if part.rate.n >= LEAST and _opens(part, noise)]
    return found


def parts_of_rest(
    one: Cell,
    left: Sequence[Attempt],
    parts: Callable[[Cell], Sequence[Cell]],
    reached: Mapping[tuple[str, str], set[str]],
) -> list[Cell]:
    """The parts of a cell without what is taken. What is no topic of its own is OTHER: the topics are known already."""
    free = {a.id for a in left}
    found: list[Cell] = []
    for part in parts(one):
        rest = [a for a in part.attempts if a.id in free]
        whole = len(rest) == len(part.attempts)
        said = part.topic if part.topic and 2 * len(rest) >= len(part.attempts) else clusters.OTHER
        found.append(part if whole and part.topic else replace(cell(one.key, Pool(rest), reached), topic=said))
    return found


def _opens(found: Cell, noise: Noise) -> bool:
    return weak(found, noise.rate(found.key.kind)) and (found.key.kind == CAPABILITY or not noise.explains(found))


def _after(v: Vulnerability, now: Cell, p: float, noise: Noise, bad_around: bool, bad_asked: bool) -> Vulnerability:
    status = v.status
    if status is Status.FIXED:
        status = Status.REOPENED if (_opens(now, noise) and _relapsed(now)) or bad_asked else status
    elif fixed(now, p, noise.rate(v.kind)) and not bad_around:
        status = Status.FIXED
    evidence = _evidence(now) or v.evidence
    weight = severity(now) if now.failed else v.severity
    return replace(
        v, status=status, rate=now.rate, evidence=evidence, severity=weight, prescription={}, reach=now.reach
    )


def _relapsed(now: Cell) -> bool:
    return now.key.kind == CAPABILITY or now.rate.low > RELAPSE


def fixed(now: Cell, p: float, noise: float = 0.0) -> bool:
    """See the top. `p`: adjusted, that the rate did not fall since the round that opened it. `noise`: a rate."""
    if now.key.kind == CAPABILITY or now.rate.n == 0 or _above(now, noise) >= LIMIT:
        return False
    return now.rate.high < LIMIT or p < P


def improved(then: Sequence[Attempt], now: Sequence[Attempt]) -> float:
    """p that the failure rate did not fall: McNemar on (case, attack) where most pair up, else Fisher, one-sided."""
    before, after = _outcomes(then), _outcomes(now)
    scored_before = [x for x in before.values() if x is not None]
    scored_after = [x for x in after.values() if x is not None]
    lost, won, pairs, _ = flips(before, after)
    if pairs >= max(FEWEST_PAIRS, PAIRED * len(scored_after)):
        return mcnemar(lost, won) if won > lost else 1.0
    return fisher(scored_after.count(0), len(scored_after), scored_before.count(0), len(scored_before), "less")


def _outcomes(attempts: Sequence[Attempt]) -> Mapping[str, float | None]:
    """Case and attack → 1 handled well, 0 failed, None unknown."""
    return {f"{a.case}\n{a.attack}": a.score for a in attempts}
