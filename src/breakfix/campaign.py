"""Put cases to a model through attacks: batching, budgets, judging and resuming in one place, for evaluate and redteam.

All live attacks advance in lockstep, so each turn is one batched `generate` per model over everything that waits.
Replies stream: they are judged in groups of `GROUP` as they arrive, sent into their attacks, and what is finished is
recorded at once; of an attempt that goes on the replies so far are kept: a kill loses at most the group in flight.
Every attempt's id is known before it is paid for, and every attempt has its own generator of randomness and its own
seeds: its result does not depend on what else runs.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from breakfix.core import (
    LEAD,
    Answer,
    Ask,
    Attack,
    Attempt,
    Case,
    Conversation,
    Judge,
    Message,
    Model,
    NotApplicable,
    Paid,
    Reply,
    Sampling,
    Verdict,
    digest,
)
from breakfix.errors import BudgetSpent, ConfigError, ModelError
from breakfix.judges.ask import heard

GROUP = 16  # replies judged, and attempts recorded, at a time
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
class Budget:
    """Limits; None is no limit. Helper queries are not counted.

    `attempt`: target queries per attempt; an attack that wants more ends there, and is recorded with what it has.
    `total`: target queries in this run; an attempt is only begun if it can be finished within it. `seconds`: wall
    clock; the run stops at the next reply, and attempts that are not finished are not recorded.
    """

    attempt: int | None = None
    total: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        limits = (("attempt", self.attempt, 1), ("total", self.total, 0), ("seconds", self.seconds, 0))
        for name, value, least in limits:
            if value is not None and value < least:
                raise ConfigError(f"budget {name}: {value} is too small; give {least} or more, or leave it out")


NO_LIMIT = Budget()


@dataclass(frozen=True, slots=True)
class NotRun:
    """A put that gave no attempt, and why. `case` is an id, `attack` a name."""

    case: str
    attack: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. `attempts` in the order of the puts, those that were `known` (`reused` of them) included.

    `skipped`: the attack can't be put to the case. `unrun`: the budget ended first. `queries` and `helper_queries`
    are what this run asked, `tokens_*` what it paid for both together, `seconds` its wall clock.
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


Known = Callable[[Sequence[str]], Mapping[str, Attempt]]
Record = Callable[[Sequence[Attempt]], None]
Recall = Callable[[Sequence[str]], Iterable[Paid]]
Keep = Callable[[Sequence[Paid]], None]
Progress = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    pass


def _nothing(ids: Sequence[str]) -> Iterable[Paid]:
    return ()


def _forget(paid: Sequence[Paid]) -> None:
    pass


def run(
    puts: Sequence[Put],
    target: Model,
    judge: Judge,
    *,
    sampling: Sampling,
    seed: int,
    known: Known,
    record: Record,
    recall: Recall = _nothing,
    keep: Keep = _forget,
    helper: Model | None = None,
    budget: Budget = NO_LIMIT,
    progress: Progress = _silent,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Every put that is not `known` yet, tried, judged and given to `record` (up to `GROUP` attempts at a time).

    Replies of attempts that go on, and those that a judge with a budget had no more money for, are given to `keep`;
    what `recall` gives of them (by attempt ids) is not asked again.
    Puts with the same id are one attempt. A model's failure becomes an attempt with `error`; leave such attempts out
    of `known` to try them again. A judge that raises gives an unscored verdict. `progress(done, total)` counts puts.
    Raises UserError from model, judge or `record`; anything else that escapes is a bug.
    """
    ids = {attempt_id(put, target, judge, sampling, seed, helper, budget): put for put in puts}
    found = known(list(ids))
    done = {key: found[key] for key in ids if key in found}
    queue = deque(_Live(key, put, seed, budget) for key, put in ids.items() if key not in done)
    waiting = [live.id for live in queue]
    paid = {(p.attempt, p.query, p.prompt): p for p in (recall(waiting) if waiting else ())}
    work = _Run(target, judge, sampling, helper, budget, record, keep, progress, clock, len(ids), queue, done, paid)
    reused = len(done)
    work.go()
    return Outcome(
        attempts=tuple(work.done[key] for key in ids if key in work.done),
        skipped=tuple(work.skipped),
        unrun=tuple(work.unrun),
        queries=work.queries,
        tokens_in=work.tokens_in,
        tokens_out=work.tokens_out,
        seconds=clock() - work.began,
        helper_queries=work.helper_queries,
        reused=reused,
    )


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


@dataclass(frozen=True, slots=True)
class _Turn:
    """Where the target stood after a reply: what it saw and said, and for each turn that it produced in it a verdict
    and its place in the transcript. `cut`: indices of those that the token budget ended."""

    transcript: Conversation = ()
    verdicts: tuple[Verdict, ...] = ()
    places: tuple[int, ...] = ()
    cut: tuple[int, ...] = ()


class _Live:
    """An attempt under way."""

    def __init__(self, id: str, put: Put, seed: int, budget: Budget) -> None:
        self.id, self.put = id, put
        self.seed = seed_of(seed, put.case, put.attack)
        self.flow: Generator[Ask, Answer, None] | None = None
        self.ask = Ask(())
        self.turns: list[_Turn] = []
        self.limit = budget.attempt
        most: int | None = getattr(put.attack, "queries", None)
        bounds = [bound for bound in (most, budget.attempt) if bound is not None]
        self.need = min(bounds) if bounds else 1  # an attack that states no bound is cut off where the budget ends
        self.asked = self.queries = self.tokens_in = self.tokens_out = 0
        self.seconds = self.took = 0.0  # of the model, in all and for the last reply

    def send(self, answer: Answer | None) -> Ask:
        """Start the attack (None) or tell it the answer: what it asks next. Raises StopIteration at its end."""
        if self.flow is None or answer is None:
            self.flow = self.put.attack(self.put.case, random.Random(self.seed))
            return next(self.flow)
        return self.flow.send(answer)

    def next_seed(self) -> int:
        self.asked += 1
        return (self.seed + self.asked - 1) % 2**31

    def shown(self, reply: Reply) -> Conversation:
        """The ask's conversation with the reply; a prefill and what was added to it are one turn."""
        prompt = self.ask.prompt
        if _prefilled(prompt):
            return (*prompt[:-1], Message("assistant", prompt[-1].content + reply.text, prompt[-1].images))
        return (*prompt, Message("assistant", reply.text))

    def before(self) -> _Turn:
        """The longest state that what is asked now goes on from; an attack that backtracks goes on from an earlier
        state, or from none."""
        prompt = self.ask.prompt[:-1] if _prefilled(self.ask.prompt) else self.ask.prompt
        going_on = [t for t in self.turns if prompt[: len(t.transcript)] == t.transcript]
        return max(going_on, key=lambda t: len(t.transcript)) if going_on else _Turn()

    def heard(self, transcript: Conversation, verdict: Verdict, *, cut: bool) -> None:
        if isinstance(self.ask, Lead):
            verdict = Verdict(None, LEAD, f"leads up to the request (judged {verdict.label})", verdict.judge)
        before = self.before()
        cuts = (*before.cut, len(before.verdicts)) if cut else before.cut
        self.turns.append(_Turn(transcript, (*before.verdicts, verdict), (*before.places, len(transcript) - 1), cuts))

    def attempt(self, model: str, error: str | None) -> Attempt:
        """The record. With an error the transcript is the conversation that failed, or () if it was the helper's."""
        case, attack = self.put.case, self.put.attack
        turn = self.turns[-1] if self.turns else _Turn()
        if error is not None and self.ask.to == "target":
            turn = replace(self.before(), transcript=self.ask.prompt)
        return Attempt(
            id=self.id,
            case=case.id,
            model=model,
            attack=attack.name,
            family=attack.family,
            persona=attack.persona,
            hazard=case.hazard,
            language=self.language(turn.transcript),
            expect=case.expect,
            transcript=turn.transcript,
            verdicts=turn.verdicts,
            breach=next((i for i, verdict in enumerate(turn.verdicts) if verdict.score == 0), None),
            seed=self.seed,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            seconds=self.seconds,
            error=error,
            turns=turn.places,
            cut=turn.cut,
        )

    def language(self, transcript: Conversation) -> str:
        """What the request was made in. An attack around another one (`within`) may hide what tells: it is asked."""
        within: Callable[[Case, random.Random], Case] | None = getattr(self.put.attack, "within", None)
        if within is not None:
            return within(self.put.case, random.Random(self.seed)).language
        return language(self.put.case, transcript)

    def paid(self, reply: Reply, verdict: Verdict | None = None) -> Paid:
        """The record of the reply to what was asked last."""
        return Paid(self.id, self.asked - 1, digest(self.ask.prompt), reply, self.took, verdict)


@dataclass
class _Run:
    """The state of one `run`: puts go queue → open (waiting for target or helper) → done, skipped or unrun."""

    target: Model
    judge: Judge
    sampling: Sampling
    helper: Model | None
    budget: Budget
    record: Record
    keep: Keep
    progress: Progress
    clock: Callable[[], float]
    total: int
    queue: deque[_Live]
    done: dict[str, Attempt]
    paid: Mapping[tuple[str, int, str], Paid]  # what an earlier run had heard: (attempt, query, prompt) → reply
    open: dict[str, _Live] = field(default_factory=dict[str, _Live])
    for_target: list[_Live] = field(default_factory=list[_Live])
    for_helper: list[_Live] = field(default_factory=list[_Live])
    finished: list[Attempt] = field(default_factory=list[Attempt])
    heard: list[Paid] = field(default_factory=list[Paid])
    skipped: list[NotRun] = field(default_factory=list[NotRun])
    unrun: list[NotRun] = field(default_factory=list[NotRun])
    queries: int = 0
    helper_queries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    promised: int = 0  # target queries that open attempts may still ask
    began: float = 0.0

    def go(self) -> None:
        self.began = self.clock()
        self.progress(len(self.done), self.total)
        while (self.queue or self.open) and not self._late():
            self._admit()
            self._ask_helper()
            self._ask_target()
        for live in [*self.open.values(), *self.queue]:
            self.unrun.append(_not_run(live, "time budget"))
        self._flush()

    def _late(self) -> bool:
        return self.budget.seconds is not None and self.clock() - self.began >= self.budget.seconds

    def _admit(self) -> None:
        """Begin puts, in order, while what they may ask fits into the total budget."""
        while self.queue:
            if self.budget.total is not None and self.queries + self.promised + self.queue[0].need > self.budget.total:
                if self.open:
                    return  # they may end early, and free some
                self.unrun.append(_not_run(self.queue.popleft(), "query budget"))
                continue
            live = self.queue.popleft()
            self.open[live.id] = live
            self.promised += live.need
            self._advance(live, None)

    def _advance(self, live: _Live, answer: Answer | None) -> None:
        """Send the answer into the attack (None starts it), and queue what it asks next."""
        try:
            live.ask = live.send(answer)
        except StopIteration:
            self._finish(live) if live.turns else self._skip(live, "the attack asked the target nothing")
        except NotApplicable as why:
            self._skip(live, str(why))
        else:
            if live.ask.to == "helper":
                self.for_helper.append(live)
            elif live.limit is not None and live.queries >= live.limit:
                self._finish(live)
            else:
                self.for_target.append(live)

    def _ask_helper(self) -> None:
        """Until nobody waits for the helper: then the target's batch is as full as it can be."""
        while self.for_helper:
            batch, self.for_helper = self.for_helper, []
            for live, reply, paid in self._heard_helper(batch):
                if self._late():
                    return
                if reply is None:
                    self._advance(live, Answer(None))
                elif reply.finish == "error":
                    self._finish(live, f"helper: {reply.error}")
                else:
                    self._advance(live, Answer(reply.text))
                    self._note(live, paid)
        self._flush()

    def _heard_helper(self, batch: list[_Live]) -> Iterator[tuple[_Live, Reply | None, Paid | None]]:
        if self.helper is None:
            yield from ((live, None, None) for live in batch)
            return
        again, new = self._recalled(batch)
        yield from ((live, paid.reply, None) for live, paid in again)
        self.helper_queries += len(new)
        for live, reply in self._stream(self.helper, new, HELPER_SAMPLING):
            yield live, reply, live.paid(reply)

    def _ask_target(self) -> None:
        """One batch over everything that waits, judged group by group as the replies arrive. What an earlier run had
        heard goes first, so that those attempts, too, are in the batch with what they ask next."""
        if self._late():
            return
        again, batch = self._recalled(self.for_target)
        self.for_target = []
        if again:
            self.for_target = batch
            judged = {live.id: paid.verdict for live, paid in again if paid.verdict and paid.verdict.score is not None}
            self._settle([(self._counted(live, paid.reply), paid.reply) for live, paid in again], judged)
            return
        if self.budget.total is not None:
            room = self.budget.total - self.queries
            for live in batch[room:]:
                self._close(live)
                self.unrun.append(_not_run(live, "query budget"))
            batch = batch[:room]
        group: list[tuple[_Live, Reply]] = []
        try:
            for live, reply in self._stream(self.target, batch, self.sampling):
                self.queries += 1
                group.append((self._counted(live, reply), reply))
                if self._late():
                    break
                if len(group) == GROUP:
                    now, group = group, []
                    self._settle(now)
        except BudgetSpent:  # of the target; what it was paid for is judged and recorded
            self._settle(group)
            raise
        self._settle(group)

    def _recalled(self, batch: list[_Live]) -> tuple[list[tuple[_Live, Paid]], list[_Live]]:
        """(those whose next reply an earlier run had heard, with it; the others)."""
        if not self.paid:
            return [], batch
        again: list[tuple[_Live, Paid]] = []
        new: list[_Live] = []
        for live in batch:
            paid = self.paid.get((live.id, live.asked, digest(live.ask.prompt)))
            if paid is None:
                new.append(live)
            else:
                live.next_seed()
                live.took = paid.seconds
                live.seconds += live.took
                again.append((live, paid))
        return again, new

    def _stream(self, model: Model, batch: list[_Live], sampling: Sampling) -> Iterator[tuple[_Live, Reply]]:
        """Replies as they arrive, then an error for each row the model failed on. Time is shared out by arrival."""
        if not batch:
            return
        waiting, why = dict(enumerate(batch)), "the model gave no reply"
        last = self.clock()
        try:
            seeds = [live.next_seed() for live in batch]
            for i, reply in model.generate([live.ask.prompt for live in batch], sampling, seeds):
                live, now = waiting.pop(i), self.clock()
                live.took = now - last
                live.seconds, last = live.seconds + live.took, now
                self.tokens_in, self.tokens_out = self.tokens_in + reply.tokens_in, self.tokens_out + reply.tokens_out
                yield live, reply
                last = self.clock()  # judging is not the model's time
        except ModelError as failure:
            why = str(failure) or type(failure).__name__
        for live in waiting.values():
            yield live, Reply("", finish="error", error=why)

    def _counted(self, live: _Live, reply: Reply) -> _Live:
        self.promised -= 1 if live.queries < live.need else 0
        live.queries += 1
        live.tokens_in, live.tokens_out = live.tokens_in + reply.tokens_in, live.tokens_out + reply.tokens_out
        return live

    def _settle(self, group: list[tuple[_Live, Reply]], judged: Mapping[str, Verdict] | None = None) -> None:
        """Judge a group of replies, let their attacks go on, and record what came to its end. `judged`: the replies are
        an earlier run's, and these verdicts (by attempt) with them. Where the judge's budget ends, what it was paid for
        counts, and the other replies are kept."""
        for live, reply in group:
            if reply.finish == "error":
                self._finish(live, reply.error or "the model failed")
        rows = [(live, live.shown(reply), reply) for live, reply in group if reply.finish != "error"]
        known = judged or {}
        unknown = [(live, transcript) for live, transcript, _ in rows if live.id not in known]
        given, spent = heard(self.judge, [(live.put.case, transcript) for live, transcript in unknown])
        told = {live.id: verdict for (live, _), verdict in zip(unknown, given, strict=True)} | dict(known)
        for live, transcript, reply in rows:
            verdict = told[live.id]
            new = judged is None or (verdict is not None and live.id not in known)
            ends = verdict is not None and getattr(live.put.attack, "queries", None) == 1
            paid = live.paid(reply, verdict) if new and not ends else None
            if verdict is not None:
                live.heard(transcript, verdict, cut=reply.finish == "length")
                self._advance(live, Answer(reply.text, verdict))
            self._note(live, paid)
        self._flush()
        if spent is not None:
            raise spent

    def _note(self, live: _Live, paid: Paid | None) -> None:
        """Keep what was heard of an attempt that goes on. Of one that ended there is the attempt."""
        if paid is not None and live.id in self.open:
            self.heard.append(paid)
            if len(self.heard) == GROUP:
                self._flush()

    def _close(self, live: _Live) -> None:
        if live.flow is not None:
            live.flow.close()
        del self.open[live.id]
        self.promised -= max(0, live.need - live.queries)

    def _finish(self, live: _Live, error: str | None = None) -> None:
        self._close(live)
        self.finished.append(live.attempt(self.target.id, error))
        if len(self.finished) == GROUP:
            self._flush()

    def _skip(self, live: _Live, reason: str) -> None:
        self._close(live)
        self.skipped.append(_not_run(live, reason))

    def _flush(self) -> None:
        if self.finished:
            self.record(tuple(self.finished))
            self.done.update((attempt.id, attempt) for attempt in self.finished)
            self.finished.clear()
        if self.heard:
            self.keep(tuple(self.heard))
            self.heard.clear()
        self.progress(len(self.done) + len(self.skipped), self.total)


def _prefilled(prompt: Conversation) -> bool:
    return bool(prompt) and prompt[-1].role == "assistant"


def language(case: Case, transcript: Conversation) -> str:
    """The language that the request was made in: a translation's, where one of them stands in the transcript."""
    asked = {message.content for message in transcript if message.role == "user"}
    return next((lang for lang, text in case.translations.items() if text in asked), case.language)


def _not_run(live: _Live, reason: str) -> NotRun:
    return NotRun(live.put.case.id, live.put.attack.name, reason)
