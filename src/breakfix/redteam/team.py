"""A round's red team at work: its puts, all at once or group by group, within its budgets, into the ledger.

What is kept of an attempt is one small `Row`; the attempts themselves are in the ledger.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from breakfix import campaign, config
from breakfix.campaign import AsIs, Put, mend
from breakfix.core import Attack, Attempt, Case, Judge, Model, Paid, Sampling
from breakfix.redteam.choice import CASES, choose

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

STAGE = "redteam"
CHOICE = "choice"  # the kind of event that says what was chosen for a group of cases, and from which verdicts
HELPER = "helper: "  # what the error of an attempt begins with whose helper failed


@dataclass(frozen=True, slots=True)
class Row:
    """What figures need of an attempt. `score` as its own; `queries`: what it asked the target; `once`: its attack
    never asks more than one."""

    case: str
    family: str
    persona: str
    hazard: str
    language: str
    score: float | None
    queries: int = 1
    once: bool = True


@dataclass
class Before:
    """What an interrupted start of this stage had paid for. `whole`: attempts that did not fail."""

    whole: int = 0
    queries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0

    def add(self, attempt: Attempt) -> None:
        self.whole += attempt.error is None
        self.queries += campaign.queries(attempt)
        self.tokens_in += attempt.tokens_in
        self.tokens_out += attempt.tokens_out
        self.seconds += attempt.seconds


@dataclass
class Team:
    """One stage's work on one model. `puts` are all that it was to do, in order."""

    config: config.Config
    ledger: Ledger
    model: Model
    judge: Judge
    helper: Model | None
    round: int
    progress: Callable[[int, int], None]
    before: Before = field(default_factory=Before)
    puts: dict[tuple[str, str], Put] = field(default_factory=dict[tuple[str, str], Put])
    rows: dict[tuple[str, str], Row] = field(default_factory=dict[tuple[str, str], Row])
    outcomes: list[campaign.Outcome] = field(default_factory=list[campaign.Outcome])
    short: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])  # attack → why → attempts
    longer: Counter[str] = field(default_factory=Counter[str])  # attack → attempts that went on (after a refusal, say)
    several: int = 0  # attempts that had several turns, as many as their attack states, or more
    again: list[str] = field(default_factory=list[str])  # ids of attempts that were known
    heard: dict[str, list[Paid]] | None = None  # attempt → what an interrupted start had heard of it

    def __post_init__(self) -> None:
        for attempt in self.ledger.attempts(round=self.round, stage=STAGE):
            self.before.add(attempt)
        settings = self.config.redteam.budget
        case, attack, persona = (
            campaign.Limits(one.queries, one.tokens, one.seconds)
            for one in (settings.case, settings.attack, settings.persona)
        )
        self.scopes = campaign.Budget(case=case, attack=attack, persona=persona)
        self.spending = campaign.Spending(self.scopes)

    def put(self, puts: Sequence[Put], total: int) -> None:
        """Put them, and record what comes of it. `total`: about as many as there are in all."""
        new = {key: put for put in puts if (key := (put.case.id, put.attack.name)) not in self.puts}
        self.puts.update(new)
        before = sum(one.finished + sum(one.skips.values()) for one in self.outcomes)
        cases = {put.case.id: put.case for put in new.values()}
        self.outcomes.append(
            campaign.run(
                list(new.values()),
                self.model,
                self.judge,
                sampling=Sampling(max_new_tokens=self.config.redteam.max_new_tokens),
                seed=self.config.attack_seed,
                known=mend.known(self.ledger, self.judge, cases.__getitem__, round=self.round, stage=STAGE),
                record=self._record,
                use=self._use,
                recall=self._recall,
                keep=lambda paid: self.ledger.add_paid(paid, round=self.round, stage=STAGE),
                helper=self.helper,
                budget=self._budget(),
                spending=self.spending,
                stop_at_breach=self.config.redteam.stop_at_breach,
                hold=False,
                progress=lambda done, _: self.progress(before + done, max(before + done, total)),
            )
        )

    def choose(self, sides: Mapping[str, Sequence[Attack]], dev: Sequence[Case], train: Sequence[Case]) -> None:
        """The cases in groups, dev first: families chosen for each by what they broke in those before it. `sides`: the
        attacks by side, of which train cases meet the seen ones only."""
        how = {"how": self.config.redteam.choice, "seed": self.config.attack_seed}
        events = self.ledger.events(self.round, STAGE, CHOICE)
        noted = {one.payload["group"]: one.payload for one in events if how.items() <= one.payload.items()}
        attacks = {attack.name: attack for side in sides.values() for attack in side} | {AsIs.name: AsIs()}
        per_case = self.config.redteam.per_case
        total = len(dev) * (1 + per_case * len(sides)) + len(train) * (1 + per_case)
        groups = [(cases, list(sides)) for cases in _groups(dev)] + [(cases, ["seen"]) for cases in _groups(train)]
        drawn = Counter[str]()
        for number, (cases, wanted) in enumerate(groups):
            found = self.found()
            if number in noted:
                of = {case.id: case for case in cases}
                puts = [Put(of[case], attacks[attack]) for case, attack in noted[number]["puts"]]
            else:
                puts = [put for side in wanted for put in self._chosen(number, side, cases, sides[side], found, drawn)]
                said = {**how, "group": number, "puts": [[p.case.id, p.attack.name] for p in puts], "from": found}
                self.ledger.add_event(self.round, STAGE, CHOICE, said)
            drawn.update(put.attack.name for put in puts)
            self.put(puts, total)

    def _chosen(
        self,
        number: int,
        side: str,
        cases: Sequence[Case],
        attacks: Sequence[Attack],
        found: Mapping[str, tuple[int, int]],
        drawn: Counter[str],
    ) -> list[Put]:
        how = self.config.redteam.choice
        assert how != "even"
        rng = random.Random(f"{self.config.attack_seed}/redteam/choice/{side}/{number}")
        return choose(cases, attacks, rng, self.config.redteam.per_case, how, found, Counter(drawn))

    def found(self) -> dict[str, tuple[int, int]]:
        """Family → attempts that broke their case, and that did not; without the direct request."""
        broke, held = Counter[str](), Counter[str]()
        for row in self.rows.values():
            if row.family != AsIs.family and row.score is not None:
                (broke if row.score == 0 else held)[row.family] += 1
        return {family: (broke[family], held[family]) for family in sorted(broke | held)}

    def finish(self) -> None:
        """Those that were known are this round's, too. Noted at the end alone: what this stage used before that, it had
        paid for."""
        for start in range(0, len(self.again), campaign.CHUNK):
            some = self.ledger.known(self.again[start : start + campaign.CHUNK])
            self.ledger.add_attempts(list(some.values()), round=self.round, stage=STAGE)

    def figures(self) -> dict[str, Any]:
        """The part of the stage's record that says what was done, and at what cost."""
        outcomes, before = self.outcomes, self.before
        unrun = _sum(one.unruns for one in outcomes)
        helper = _sum(one.helper for one in outcomes)
        asked = sum(one.helper_queries for one in outcomes)
        return {
            "skipped": _sum(one.skips for one in outcomes),
            "unrun": sum(unrun.values()),
            "unrun_by": unrun,
            "cut_by": _sum(one.cuts for one in outcomes),
            "attempts": sum(one.finished for one in outcomes),
            "reused": max(0, sum(one.reused for one in outcomes) - before.whole),
            "queries": sum(one.queries for one in outcomes) + before.queries,
            "tokens_in": sum(one.tokens_in for one in outcomes) + before.tokens_in,
            "tokens_out": sum(one.tokens_out for one in outcomes) + before.tokens_out,
            "seconds": sum(one.seconds for one in outcomes) + before.seconds,
            "turns_verified": self.several,
            "turns_short": {attack: dict(sorted(why.items())) for attack, why in sorted(self.short.items())},
            "turns_longer": dict(sorted(self.longer.items())),
            **({"helper": {"asked": asked, **helper}} if self.helper is not None else {}),
        }

    def ordered(self, cases: Sequence[Case]) -> list[Row]:
        """The rows on these cases, in the order of the puts."""
        wanted = {case.id for case in cases}
        return [self.rows[key] for key in self.puts if key in self.rows and key[0] in wanted]

    def attempts(self, cases: Sequence[Case]) -> list[Attempt]:
        """The attempts on these cases, from the ledger; once `finish` has been called. Those that broke are whole, the
        others without what was said, which nobody reads any more."""
        wanted = {case.id for case in cases}
        every = self.ledger.attempts(round=self.round, stage=STAGE)
        some = (a for a in every if a.case in wanted and (a.case, a.attack) in self.rows)
        return [a if a.score == 0 else replace(a, transcript=()) for a in some]

    def _budget(self) -> campaign.Budget:
        """What is left of the round's, beside the limits of cases, attacks and personas."""
        settings, before, scopes = self.config.redteam, self.before, self.scopes
        queries, tokens, seconds = settings.max_queries, settings.budget.run.tokens, settings.budget.run.seconds
        spent = sum(one.queries for one in self.outcomes) + before.queries
        used = sum(one.tokens_in + one.tokens_out for one in self.outcomes) + before.tokens_in + before.tokens_out
        took = sum(one.seconds for one in self.outcomes) + before.seconds
        return campaign.Budget(
            total=None if queries is None else max(0, queries - spent),
            tokens=None if tokens is None else max(0, tokens - used),
            seconds=None if seconds is None else max(0.0, seconds - took),
            case=scopes.case,
            attack=scopes.attack,
            persona=scopes.persona,
        )

    def _record(self, attempts: Sequence[Attempt]) -> None:
        self.ledger.add_attempts(attempts, round=self.round, stage=STAGE)
        self._note(attempts)

    def _use(self, attempts: Sequence[Attempt]) -> None:
        self.again += [attempt.id for attempt in attempts]
        self._note(attempts)

    def _note(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            key = (sys.intern(attempt.case), sys.intern(attempt.attack))
            words = (attempt.family, attempt.persona, attempt.hazard, attempt.language)
            family, persona, hazard, language = map(sys.intern, words)
            once = getattr(self.puts[key].attack, "queries", None) == 1
            self.rows[key] = Row(
                key[0], family, persona, hazard, language, attempt.score, campaign.queries(attempt), once
            )
            self._count_turns(attempt, self.puts[key])

    def _count_turns(self, attempt: Attempt, put: Put) -> None:
        stated: int | None = getattr(put.attack, "turns", None)
        if stated is None:
            return
        had = turns(attempt, put.case)
        if had < stated:
            self.short.setdefault(attempt.attack, Counter())[_why(attempt)] += 1
            return
        self.several += stated > 1
        if had > stated:
            self.longer[attempt.attack] += 1

    def _recall(self, ids: Sequence[str]) -> list[Paid]:
        """Read once: what is heard from now on is of attempts that are under way here."""
        if self.heard is None:
            self.heard = {}
            for paid in self.ledger.under_way():
                self.heard.setdefault(paid.attempt, []).append(paid)
        return [paid for id in ids for paid in self.heard.pop(id, ())]


def turns(attempt: Attempt, case: Case) -> int:
    """The user's in the conversation, without those that the case itself begins with."""
    given = sum(message.role == "user" for message in case.prompt) - 1
    return sum(message.role == "user" for message in attempt.transcript) - given


def _why(attempt: Attempt) -> str:
    if attempt.error is None:
        return "ended early"
    return "the helper failed" if attempt.error.startswith(HELPER) else "the model failed"


def _groups(cases: Sequence[Case]) -> Iterator[Sequence[Case]]:
    for start in range(0, len(cases), CASES):
        yield cases[start : start + CASES]


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total = Counter[str]()
    for some in counts:
        total.update(some)
    return dict(total)
