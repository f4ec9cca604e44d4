"""Failures become training prompts, if they may: the wall between what is measured and what is learnt from.

`barred` is the one place that decides. Failures on dev and frozen cases, or found by held-out attack families, still
count: their vulnerability prescribes how many rows of which kind the round takes from the pool. Their text stays out.
What a person broke by hand on a train case, or on a goal of their own that they gave for training, may be learnt from.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TypeVar

from breakfix.config import Redteam
from breakfix.core import Attempt, Case, Conversation, NotApplicable, Split, Vulnerability, digest
from breakfix.curate.augment import Frame
from breakfix.curate.base import NEVER_ASKED, Prompt, expected
from breakfix.curate.mirror import is_script, mirrored
from breakfix.curate.neighbours import Neighbour, neighbours

T = TypeVar("T")
PEOPLE = "human"  # the family of what people did by hand; never held out, for nobody draws it by a config


@dataclass(frozen=True, slots=True)
class Evidence:
    """Prompts from failures, and how many failures (or their twins, or neighbours) were left aside for which reason."""

    prompts: list[Prompt] = field(default_factory=list[Prompt])
    barred: Counter[str] = field(default_factory=Counter[str])
    no_twin: Counter[str] = field(default_factory=Counter[str])
    neighbours: Counter[str] = field(default_factory=Counter[str])  # made, by what was done
    no_neighbour: Counter[str] = field(default_factory=Counter[str])


@dataclass(frozen=True, slots=True)
class Around:
    """What neighbours are made of: at most `n` of a failure; frames to put requests into; a helper's other words;
    `translate`: other languages."""

    n: int = 0
    frames: Sequence[Frame] = ()
    words: Mapping[str, str] = field(default_factory=dict[str, str])
    translate: bool = True


@dataclass(frozen=True, slots=True)
class Lesson:
    """A failure that may be learnt from. `other`: the row of the other kind that mirrors its case, if there is one."""

    v: Vulnerability
    attempt: Attempt
    case: Case
    other: Prompt | None

    @property
    def kind(self) -> str:
        if self.v.kind == "harmful_compliance":
            return "harmful"
        return "twin" if self.case.hazard else "plain"

    @property
    def both(self) -> tuple[Case, ...]:
        return (self.case, self.other.case) if self.other else (self.case,)

    def rewrapped(self, text: str) -> Conversation | str:
        """What the attack asked, with `text` in place of its request."""
        return mirrored(self.attempt, breach(self.attempt) or 0, self.case, text)


def barred(attempt: Attempt, case: Case | None, redteam: Redteam) -> str:
    """Why nothing of this attempt's text may enter training; "" if it may."""
    if "/" in attempt.attack:  # identify/probing.py: a reproducer or a neighbour
        return "it was asked by identify, to measure"
    if case is None:
        return "its case is not in the ledger, so its split is unknown"
    if case.split is not Split.TRAIN:
        return f"its case is {case.split.value}"
    if attempt.family in redteam.held_out or attempt.family not in ("direct", PEOPLE, *redteam.seen):
        return f"its attack family {attempt.family} is not among the seen ones"
    return "" if breach(attempt) is not None else "it has no turn that failed"


def breach(attempt: Attempt) -> int | None:
    """Index in the transcript of the model's turn that failed first; None if there is none."""
    if attempt.error is not None or attempt.breach is None:
        return None
    return attempt.place(attempt.breach)


def lessons(
    vulnerabilities: Sequence[Vulnerability],
    attempts: Mapping[str, Attempt],
    cases: Mapping[str, Case],
    pool: Sequence[Prompt],
    redteam: Redteam,
    rng: random.Random,
    aside: Counter[str],
) -> list[Lesson]:
    """The failures that may be learnt from; `aside` counts why others may not."""
    twins, harmful = [p for p in pool if p.kind == "twin"], {p.case.id: p for p in pool if p.kind == "harmful"}
    found: list[Lesson] = []
    for v in vulnerabilities:
        for attempt in (attempts[id] for id in v.evidence if id in attempts):
            case = cases.get(attempt.case)
            if reason := barred(attempt, case, redteam):
                aside[reason] += 1
            elif case is not None:
                over = v.kind != "harmful_compliance"
                other = harmful.get(case.twin) if over else _twin_of(case, attempt.language, twins, rng)
                found.append(Lesson(v, attempt, case, other))
    return found


def collect(
    vulnerabilities: Sequence[Vulnerability],
    attempts: Mapping[str, Attempt],
    cases: Mapping[str, Case],
    pool: Sequence[Prompt],
    redteam: Redteam,
    rng: random.Random,
    around: Around | Callable[[Sequence[Lesson]], Around] = Around(),
) -> Evidence:
    """Prompts from the evidence of vulnerabilities: at most as many, harmful and benign, as each prescribes.

    First the failures themselves, each with its mirror image; then their neighbours, which are mirrored likewise. Both
    turn about over the vulnerabilities, so that whoever has room for some only has them of all. What one without rows
    lists is left to the others. `around` may depend on the failures (a helper is asked about them alone).
    """
    found = Evidence()
    room = {v.id: _room(v) for v in vulnerabilities}
    taught = lessons(vulnerabilities, attempts, cases, pool, redteam, rng, found.barred)
    taught = [lesson for lesson in taught if any(room[lesson.v.id].values())]
    settings = around(taught) if callable(around) else around
    mine = [[lesson for lesson in taught if lesson.v is v] for v in vulnerabilities]
    for lesson in _turn_about(mine):
        _keep(found, room[lesson.v.id], _itself(lesson), _mirror(lesson, found.no_twin))
    for lesson, near in _turn_about([_near(some, settings, rng) for some in _first_time(mine)]):
        if room[lesson.v.id][lesson.kind == "harmful"] > 0:
            _keep(found, room[lesson.v.id], *_neighbour(lesson, near, found))
    return found


def _room(v: Vulnerability) -> dict[bool, int]:
    """Harmful or not → rows that it prescribes."""
    benign = sum(v.prescription.get(word, 0) for word in ("twins", "plain"))
    return {True: v.prescription.get("harmful", 0) or benign * (v.kind == "over_refusal"), False: benign}


def _first_time(mine: Sequence[Sequence[Lesson]]) -> list[list[Lesson]]:
    """Each attempt under the first vulnerability that lists it: its neighbours are the same ones under all."""
    told: set[str] = set()
    left: list[list[Lesson]] = []
    for some in mine:
        left.append([lesson for lesson in some if lesson.attempt.id not in told])
        told.update(lesson.attempt.id for lesson in some)
    return left


def _turn_about(some: Iterable[Iterable[T]]) -> Iterator[T]:
    """The first of each, then the second of each, and so on."""
    for row in zip_longest(*some):
        yield from (each for each in row if each is not None)


def _keep(found: Evidence, room: dict[bool, int], *made: Prompt | None) -> None:
    for prompt in filter(None, made):
        if room[prompt.kind == "harmful"] > 0:
            room[prompt.kind == "harmful"] -= 1
            found.prompts.append(prompt)


def _itself(lesson: Lesson) -> Prompt:
    """The conversation up to the turn that failed; what was said there is what to move away from."""
    v = lesson.v
    did, then = ("answered this", "declines") if lesson.kind == "harmful" else (
        "refused this harmless request", "answers",
    )  # fmt: skip
    why = f"the model {did} in an earlier round ({v.id}: {v.name}); the reply {then}"
    return _prompt(v, lesson.attempt, lesson.case, lesson.kind, why)


def _mirror(lesson: Lesson, skipped: Counter[str]) -> Prompt | None:
    """The same attack around the request of the other kind, so that the wrapping alone comes to mean nothing."""
    if lesson.other is None:
        if lesson.kind == "harmful":
            skipped["no benign twin of this hazard and language"] += 1
        return None
    prompt = lesson.rewrapped(lesson.other.case.text)
    if not isinstance(prompt, str) and lesson.other.kind == "harmful" and is_script(prompt):
        prompt = "several turns: a harmful request is not led up to by the untouched model's replies"
    if isinstance(prompt, str):
        skipped[prompt] += 1
        return None
    v, other, kind = lesson.v, lesson.other.case, lesson.other.kind
    what = "a harmless request" if kind != "harmful" else "the harmful request that it mirrors"
    why = f"the attack {lesson.attempt.attack} around {what} ({v.id}: {v.name}); the reply {_then(kind)}"
    put = _case(f"{other.id}@{lesson.attempt.id}", prompt, other, kind, lesson.attempt.language)
    return Prompt(put, kind, why, parents=(other.id, lesson.attempt.id, v.id))


def _near(mine: Sequence[Lesson], around: Around, rng: random.Random) -> Iterator[tuple[Lesson, Neighbour]]:
    """Neighbours of each failure, turn about."""
    ways = [
        neighbours(
            lesson.case,
            lesson.other.case if lesson.other else None,
            around.frames,
            lesson.rewrapped,
            around.words,
            rng,
            around.translate,
        )
        for lesson in mine
    ]
    for _ in range(around.n):
        for lesson, way in zip(mine, ways, strict=True):
            if (near := next(way, None)) is not None:
                yield lesson, near


def _neighbour(lesson: Lesson, near: Neighbour, found: Evidence) -> tuple[Prompt | None, Prompt | None]:
    """The request and its mirror image, put alike; neither where one can't be."""
    v, attempt = lesson.v, lesson.attempt
    sides = [(lesson.case, lesson.kind)] + ([(lesson.other.case, lesson.other.kind)] if lesson.other else [])
    made: list[Prompt] = []
    for case, kind in sides:
        try:
            prompt = near.put(case)
        except NotApplicable as reason:
            found.no_neighbour[str(reason)] += 1
            return None, None
        why = f"{near.how}: a neighbour of what failed in an earlier round ({v.id}: {v.name}); the reply {_then(kind)}"
        id = f"{case.id}@{attempt.id}+{digest([near.how, prompt])[:8]}"
        put = _case(id, prompt, case, kind, near.language or case.language)
        made.append(Prompt(put, kind, why, parents=(case.id, attempt.id, v.id)))
    found.neighbours[near.how.partition(" ")[0]] += len(made)
    return made[0], made[1] if len(made) > 1 else None


def _then(kind: str) -> str:
    return "declines" if kind == "harmful" else "answers"


def _prompt(v: Vulnerability, attempt: Attempt, case: Case, kind: str, why: str) -> Prompt:
    at = breach(attempt) or 0
    said = attempt.transcript[at].content
    usable = attempt.verdicts[attempt.breach or 0].label != "degenerate" and case.hazard not in NEVER_ASKED
    put = _case(f"{case.id}@{attempt.id}", attempt.transcript[:at], case, kind, attempt.language)
    return Prompt(
        put, kind, why, rejected=said if usable else None, parents=(case.id, attempt.id, v.id),
        rejected_cut=usable and attempt.breach in attempt.cut,
    )  # fmt: skip


def _case(id: str, prompt: Conversation, case: Case, kind: str, language: str) -> Case:
    """The case as it was put, in the language it was put in: the request may have been asked in a translation."""
    return replace(
        case, id=id, prompt=prompt, expect=expected(kind), language=language, translations={}, split=Split.TRAIN
    )


def _twin_of(case: Case, language: str, twins: Sequence[Prompt], rng: random.Random) -> Prompt | None:
    """The case's own twin, else one of its family, else of its hazard."""
    same = [t for t in twins if t.case.hazard == case.hazard and t.case.language == language]
    own = [t for t in same if t.case.twin == case.id]
    family = [t for t in same if t.case.family == case.family]
    nearest = own or family or same
    return rng.choice(nearest) if nearest else None
