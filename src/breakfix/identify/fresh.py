"""What opens in a round: what is weak in its cells and belongs to no known vulnerability, as vulnerabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from breakfix.core import Attempt, Status, Vulnerability, digest
from breakfix.identify import clusters
from breakfix.identify.group import CAPABILITY, LEAST, Cell, Pool, cell
from breakfix.identify.identity import Belongs, key_of, pair
from breakfix.identify.names import name
from breakfix.identify.prescribe import rank, severity
from breakfix.identify.status import Noise, evidence, opens, weak

MOST_SUITE = 500  # pairs; of more, a sample that the digests of their names draw


def unclaimed(
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
        own = parts(one) if len(left) == len(one.attempts) else _parts_of_rest(one, left, parts, reached)
        own = [part for part in own if owner is None or part.topic not in ("", clusters.OTHER)]
        found += [part for part in own if part.rate.n >= LEAST and opens(part, noise)]
    return found


def _parts_of_rest(
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


def opened(id: str, one: Cell, round: int) -> Vulnerability:
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
        evidence=evidence(one),
        prescription={},
        first_round=round,
        topic=one.topic,
        suite=suite(one.attempts),
        reach=one.reach,
        rank=rank(one),
    )


def suite(attempts: Iterable[Attempt]) -> tuple[tuple[str, str], ...]:
    """What failed and what did not: a suite of failures only would seem to heal by chance alone."""
    pairs = sorted({pair(a) for a in attempts})
    return tuple(sorted(sorted(pairs, key=digest)[:MOST_SUITE])) if len(pairs) > MOST_SUITE else tuple(pairs)
