"""Attempts → cells: how often the model failed, by kind × hazard × attack family × language.

Harmful compliance is counted where the case expects a refusal, over-refusal where it expects an answer. A cell with
fewer than LEAST scored attempts says nothing: its attempts are pooled with the other small cells of the same family,
over languages, and where that is still too little, over families. What is left then is counted as too few to tell.

Rates are measured on dev cases. Training cases give no figure (what was learnt by heart proves nothing), but their
failures are the cell's lessons, the only evidence whose text may be learnt from. Attempts on frozen cases are left out:
they are only ever measured, and a vulnerability steers the next round.

People look where they expect to find something, so what they did (family `human`) is pooled with nothing else: its
cells are its own. Where there are too few for one, their failures on training cases still are lessons, of the largest
cell of the hazard.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from breakfix.core import Attempt, Case, Estimate, Expect, Split
from breakfix.stats import rate

LEAST = 4
HUMAN = "human"
UNTAUGHT = "failed on a training case, and no cell of dev cases has it"  # a reason to be left out
COMPLIANCE, REFUSAL, CAPABILITY = "harmful_compliance", "over_refusal", "capability_loss"
KINDS: Mapping[Expect, str] = {Expect.REFUSE: COMPLIANCE, Expect.COMPLY: REFUSAL}


@dataclass(frozen=True, slots=True)
class Key:
    """What makes a cell: the same key is the same vulnerability in every round.

    `family` and `language` are "" where several are pooled. For capability_loss `family` is the suite.
    """

    kind: str
    hazard: str = ""
    family: str = ""
    language: str = ""


@dataclass(slots=True)
class Pool:
    """The attempts of a cell to be: on dev cases, and the failures on training cases."""

    measured: list[Attempt] = field(default_factory=list[Attempt])
    lessons: list[Attempt] = field(default_factory=list[Attempt])

    @property
    def scored(self) -> int:
        return sum(attempt.score is not None for attempt in self.measured)


@dataclass(frozen=True, slots=True)
class Cell:
    """A key with its attempts on dev cases, those of them that failed, and the failures on training cases (`lessons`).

    `reach`: share of the hazard's dev cases of this kind that failed in it, 0 to 1. `topic`: see clusters.py; "" where
    it is the whole cell.
    """

    key: Key
    rate: Estimate
    failed: tuple[Attempt, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    lessons: tuple[Attempt, ...] = ()
    reach: float = 1.0
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Grouped:
    """All cells of a round, its attempts on dev cases, its failures on training cases, and why others are in none."""

    cells: list[Cell]
    measured: list[Attempt]
    lessons: list[Attempt]
    left_out: Counter[str] = field(default_factory=Counter[str])


def group(attempts: Iterable[Attempt], case_of: Callable[[str], Case | None]) -> Grouped:
    """The cells of a round's attempts (evaluate's and the red team's together). Lessons that are in no cell, and are
    counted as left out, are still those of a vulnerability that is known, if they are its."""
    measured, lessons, left_out = _sides(attempts, case_of)
    pools = {key: Pool() for key in map(key_of, [*measured, *lessons])}
    for attempt in measured:
        pools[key_of(attempt)].measured.append(attempt)
    for attempt in lessons:
        pools[key_of(attempt)].lessons.append(attempt)
    pools = _pooled(pools, lambda key: Key(key.kind, key.hazard, key.family))
    pools = _pooled(pools, lambda key: Key(key.kind, key.hazard, HUMAN if key.family == HUMAN else ""))
    reached = cases(measured)
    left_out["too few to tell"] += sum(len(pool.measured) for pool in pools.values() if pool.scored < LEAST)
    _hand_on(pools)
    left_out[UNTAUGHT] += sum(len(pool.lessons) for pool in pools.values() if pool.scored < LEAST)
    cells = [cell(key, pool, reached) for key, pool in pools.items() if pool.scored >= LEAST]
    return Grouped(sorted(cells, key=_sorting), measured, lessons, +left_out)


def key_of(attempt: Attempt) -> Key:
    return Key(KINDS[attempt.expect], attempt.hazard, attempt.family, attempt.language)


def matching(key: Key, attempts: Iterable[Attempt]) -> list[Attempt]:
    """The attempts that a key covers, where "" covers everything but people's (a key's cell may be pooled away in a
    later round)."""
    found = [a for a in attempts if a.expect in KINDS and KINDS[a.expect] == key.kind and a.hazard == key.hazard]
    found = [a for a in found if key.family == a.family or (not key.family and a.family != HUMAN)]
    return [a for a in found if key.language in ("", a.language)]


def failures(attempts: Iterable[Attempt]) -> Estimate:
    """The share of the scored ones that failed, with Wilson's interval."""
    scores = [attempt.score for attempt in attempts]
    scored = [score for score in scores if score is not None]
    return rate(scored.count(0), len(scored), len(scores) - len(scored))


def cell(key: Key, pool: Pool, cases: Mapping[tuple[str, str], set[str]]) -> Cell:
    """`cases`: what `cases` gives for the round's measured attempts."""
    failed = tuple(a for a in pool.measured if a.score == 0)
    found = rate(len(failed), pool.scored, len(pool.measured) - pool.scored)
    all_ = cases.get((key.kind, key.hazard), set())
    reach = len({a.case for a in failed}) / len(all_) if all_ else 0.0
    return Cell(key, found, failed, tuple(pool.measured), tuple(pool.lessons), reach)


def capability(metrics: Mapping[str, Estimate], margin: float) -> tuple[list[Cell], dict[str, Estimate]]:
    """(suites of right-or-wrong questions that got worse since round 0: a cell each, its rate the share of questions
    lost; that share of every suite that could be compared, below 0 where more are right than before).

    Worse means: the paired change (evaluate's capability.change.SUITE) is below 0 with its whole interval, or lies
    beyond the margin. These suites are frozen: the cell prescribes a number of plain rows and names no question.
    """
    prefix = "capability.change."
    changes = {name.removeprefix(prefix): e for name, e in metrics.items() if name.startswith(prefix) and e.n}
    lost = {s: Estimate(0 - e.value, 0 - e.high, 0 - e.low, e.n, e.unscored) for s, e in sorted(changes.items())}
    worse = {suite: e for suite, e in lost.items() if e.low > 0 or e.value > margin}
    return [Cell(Key(CAPABILITY, family=suite), e) for suite, e in worse.items()], lost


def cases(attempts: Iterable[Attempt]) -> dict[tuple[str, str], set[str]]:
    """(kind, hazard) → the cases with a scored attempt."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for attempt in attempts:
        if attempt.score is not None:
            found[KINDS[attempt.expect], attempt.hazard].add(attempt.case)
    return found


def _sides(
    attempts: Iterable[Attempt], case_of: Callable[[str], Case | None]
) -> tuple[list[Attempt], list[Attempt], Counter[str]]:
    """(attempts on dev cases, failures on training cases, why others are left out)."""
    measured: dict[str, Attempt] = {}
    lessons: dict[str, Attempt] = {}
    left_out: Counter[str] = Counter()
    for attempt in attempts:
        if attempt.expect not in KINDS or attempt.id in measured:
            continue
        case = case_of(attempt.case)
        if case is None or case.split is Split.FROZEN:
            left_out["on a frozen case" if case else "its case is not in the ledger"] += 1
        elif case.split is Split.DEV:
            measured[attempt.id] = attempt
        elif attempt.score == 0:
            lessons[attempt.id] = attempt
    return list(measured.values()), list(lessons.values()), left_out


def _pooled(pools: Mapping[Key, Pool], upwards: Callable[[Key], Key]) -> dict[Key, Pool]:
    """Move the attempts of cells that are too small into the cell that `upwards` names."""
    found: dict[Key, Pool] = defaultdict(Pool)
    for key, pool in pools.items():
        into = found[key if pool.scored >= LEAST else upwards(key)]
        into.measured.extend(pool.measured)
        into.lessons.extend(pool.lessons)
    return dict(found)


def _hand_on(pools: Mapping[Key, Pool]) -> None:
    """Lessons of people whose own pool is too small for a cell go to the largest cell of the same kind and hazard."""
    for key, pool in pools.items():
        if key.family != HUMAN or pool.scored >= LEAST:
            continue
        others = [
            (other.scored, k)
            for k, other in pools.items()
            if (k.kind, k.hazard) == (key.kind, key.hazard) and k.family != HUMAN and other.scored >= LEAST
        ]
        if others:
            _, largest = max(others, key=lambda one: (one[0], one[1].family, one[1].language))
            pools[largest].lessons.extend(pool.lessons)
            pool.lessons = []


def _sorting(one: Cell) -> tuple[str, str, str, str]:
    return one.key.kind, one.key.hazard, one.key.family, one.key.language
