"""What a campaign is given and gives back: puts, budgets, outcomes; and what identifies an attempt."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from breakfix.core import (
    Answer,
    Ask,
    Attack,
    Attempt,
    Case,
    Conversation,
    Judge,
    Model,
    NotApplicable,
    Paid,
    Sampling,
    digest,
)
from breakfix.errors import ConfigError

GROUP = 16  # replies judged, and attempts recorded, at a time
WINDOW = 4096  # attempts under way: several of a model's batches, so that none goes out half full
CHUNK = 500  # puts that are looked up in the ledger at a time
SCOPES = ("case", "attack", "persona")
BROKEN = "the case was broken before"
HELPER_SAMPLING = Sampling(max_new_tokens=256, temperature=0.7, top_p=0.95)


class AsIs:
    """The attack that is none: the case's prompt as it stands. Evaluate's only one, and red teaming's baseline.

    Beside what `core.Attack` asks for, attacks may say: `version` (part of an attempt's id; 1 if absent), `queries`
    (the most it asks the target; unbounded if absent), `uses_helper` (True if absent) and `within(case, rng)`: the case
    as an attack inside it puts it, by the same draws as the call makes.
    """

    name = "direct"
    family = "direct"
    persona = "low-skilled"
    doc = "The request as it stands."
    source = "baseline"
    version = 1
    queries = 1
    access = "black-box"
    uses_helper = False

    def __call__(self, case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        yield Ask(case.prompt)


@dataclass(frozen=True, slots=True)
class Lead(Ask):
    """A turn that only leads up to the request (small talk before it, say).

    The attack is told the judge's verdict on it, but the attempt records it as unscored: to answer a harmless question
    is no breach, and a judge that tells refusing from complying can't know that the request was not made yet.
    """


@dataclass(frozen=True, slots=True)
class Put:
    """One thing to do: a case through an attack."""

    case: Case
    attack: Attack


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one case, attack or persona: target queries; tokens and seconds of all models. None is no limit."""

    queries: int | None = None
    tokens: int | None = None
    seconds: float | None = None

    @property
    def any(self) -> bool:
        return self != Limits()


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits; None is no limit. Helper queries are not counted.

    `attempt`: target queries per attempt; an attack that wants more ends there, and is recorded with what it has.
    `total`: target queries in this run; an attempt is only begun if it can be finished within it. `tokens`: read and
    written, of target and helper. `seconds`: wall clock. Where these two end the run stops at the next reply. `case`,
    `attack` and `persona` hold for each of them (spending.py). Attempts that a limit other than `attempt` leaves
    unfinished are not recorded: they would be other attempts than their ids say. Their replies are kept.
    """

    attempt: int | None = None
    total: int | None = None
    seconds: float | None = None
    tokens: int | None = None
    case: Limits = Limits()
    attack: Limits = Limits()
    persona: Limits = Limits()

    def __post_init__(self) -> None:
        limits: list[tuple[str, float | None, float]] = [("attempt", self.attempt, 1), ("total", self.total, 0)]
        limits += [("seconds", self.seconds, 0), ("tokens", self.tokens, 0)]
        for scope, one in zip(SCOPES, (self.case, self.attack, self.persona), strict=True):
            given = (("queries", one.queries), ("tokens", one.tokens), ("seconds", one.seconds))
            limits += [(f"{scope}.{name}", value, 1 if name != "seconds" else 0) for name, value in given]
        for name, value, least in limits:
            if value is not None and value < least:
                raise ConfigError(f"budget {name}: {value} is too small; give {least} or more, or leave it out")


NO_LIMIT = Budget()


@dataclass(frozen=True, slots=True)
class NotRun:
    """A put that gave no attempt, and why. `case` is an id, `attack` a name; `queries`: what it had asked the target
    when it was cut, 0 where it was never begun."""

    case: str
    attack: str
    reason: str
    queries: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. `attempts` in the order of the puts, those that were `known` (`reused` of them) included.

    `skipped`: the attack can't be put to the case. `unrun`: a budget ended first, or the case was broken before.
    `queries` and `helper_queries` are what this run asked, `tokens_*` what it paid for both together, `seconds` its
    wall clock. `finished` counts attempts; `skips`, `unruns` and, of the latter, `cuts` (had begun) count by reason.
    `helper`: asks for which there was no helper (missing), and replies with nothing in them (empty) or that failed.

    Of a run that does not hold them `attempts`, `skipped` and `unrun` are (): there are the counts.
    """

    attempts: tuple[Attempt, ...]
    skipped: tuple[NotRun, ...]
    unrun: tuple[NotRun, ...]
    queries: int
    tokens_in: int
    tokens_out: int
    seconds: float
    helper_queries: int = 0
    reused: int = 0
    finished: int = 0
    skips: Mapping[str, int] = field(default_factory=dict[str, int])
    unruns: Mapping[str, int] = field(default_factory=dict[str, int])
    cuts: Mapping[str, int] = field(default_factory=dict[str, int])
    helper: Mapping[str, int] = field(default_factory=dict[str, int])


Known = Callable[[Sequence[str]], Mapping[str, Attempt]]
Record = Callable[[Sequence[Attempt]], None]
Recall = Callable[[Sequence[str]], Iterable[Paid]]
Keep = Callable[[Sequence[Paid]], None]
Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    pass


def nothing(ids: Sequence[str]) -> Iterable[Paid]:
    return ()


def forget(paid: Sequence[Paid]) -> None:
    pass


def unused(attempts: Sequence[Attempt]) -> None:
    pass


def applies(attack: Attack, case: Case) -> bool:
    """Whether the attack can be put to the case: it is asked for its first move, which costs nothing."""
    try:
        flow = attack(case, random.Random(0))
        next(flow, None)
        flow.close()
    except NotApplicable:
        return False
    return True


def attempt_id(
    put: Put, target: Model, judge: Judge, sampling: Sampling, seed: int, helper: Model | None, budget: Budget
) -> str:
    """The attempt's identity, known before it is paid for: whatever its result and its record depend on.

    Of the case: what model, judge and record see of it, and not its source, licence, split, family or twin. The
    helper only where the attack may use one; the budget only where it can cut the attack short.
    """
    case, attack = put.case, put.attack
    may_ask = helper is not None and getattr(attack, "uses_helper", True)
    most: int | None = getattr(attack, "queries", None)
    cut = budget.attempt if budget.attempt is not None and (most is None or budget.attempt < most) else None
    seen = [case.id, case.prompt, case.expect, case.hazard, case.language, case.choices, case.gold]
    return (
        "a"
        + digest(
            {
                "target": target.id,
                "helper": [helper.id, HELPER_SAMPLING] if helper is not None and may_ask else None,
                "case": [*seen, dict(case.translations)],
                "attack": [attack.name, getattr(attack, "version", 1), cut],
                "sampling": sampling,
                "seed": seed,
                "judge": judge.name,
            }
        )[:16]
    )


def seed_of(seed: int, case: Case, attack: Attack) -> int:
    """The seed of an attempt, 0 to 2**31 - 1. Its k-th query is generated with this plus k, modulo 2**31."""
    return int(digest([seed, case.id, attack.name])[:8], 16) % 2**31


def language(case: Case, transcript: Conversation) -> str:
    """The language that the request was made in: a translation's, where one of them stands in the transcript."""
    asked = {message.content for message in transcript if message.role == "user"}
    return next((lang for lang, text in case.translations.items() if text in asked), case.language)
