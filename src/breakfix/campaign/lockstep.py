"""The run: puts go through their attacks in lockstep, in batches, within budgets, judged group by group."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from breakfix.campaign.live import Live, not_run
from breakfix.campaign.puts import (
    GROUP,
    HELPER_SAMPLING,
    NO_LIMIT,
    Budget,
    Keep,
    Known,
    NotRun,
    Outcome,
    Progress,
    Put,
    Recall,
    Record,
    attempt_id,
    forget,
    nothing,
    silent,
)
from breakfix.core import Answer, Attempt, Judge, Model, NotApplicable, Paid, Reply, Sampling, Verdict, digest
from breakfix.errors import BudgetSpent, ModelError
from breakfix.judges.ask import heard


def run(
    puts: Sequence[Put],
    target: Model,
    judge: Judge,
    *,
    sampling: Sampling,
    seed: int,
    known: Known,
    record: Record,
    recall: Recall = nothing,
    keep: Keep = forget,
    helper: Model | None = None,
    budget: Budget = NO_LIMIT,
    progress: Progress = silent,
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
    queue = deque(Live(key, put, seed, budget) for key, put in ids.items() if key not in done)
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
    queue: deque[Live]
    done: dict[str, Attempt]
    paid: Mapping[tuple[str, int, str], Paid]  # what an earlier run had heard: (attempt, query, prompt) → reply
    open: dict[str, Live] = field(default_factory=dict[str, Live])
    for_target: list[Live] = field(default_factory=list[Live])
    for_helper: list[Live] = field(default_factory=list[Live])
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
            self.unrun.append(not_run(live, "time budget"))
        self._flush()

    def _late(self) -> bool:
        return self.budget.seconds is not None and self.clock() - self.began >= self.budget.seconds

    def _admit(self) -> None:
        """Begin puts, in order, while what they may ask fits into the total budget."""
        while self.queue:
            if self.budget.total is not None and self.queries + self.promised + self.queue[0].need > self.budget.total:
                if self.open:
                    return  # they may end early, and free some
                self.unrun.append(not_run(self.queue.popleft(), "query budget"))
                continue
            live = self.queue.popleft()
            self.open[live.id] = live
            self.promised += live.need
            self._advance(live, None)

    def _advance(self, live: Live, answer: Answer | None) -> None:
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

    def _heard_helper(self, batch: list[Live]) -> Iterator[tuple[Live, Reply | None, Paid | None]]:
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
                self.unrun.append(not_run(live, "query budget"))
            batch = batch[:room]
        group: list[tuple[Live, Reply]] = []
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

    def _recalled(self, batch: list[Live]) -> tuple[list[tuple[Live, Paid]], list[Live]]:
        """(those whose next reply an earlier run had heard, with it; the others)."""
        if not self.paid:
            return [], batch
        again: list[tuple[Live, Paid]] = []
        new: list[Live] = []
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

    def _stream(self, model: Model, batch: list[Live], sampling: Sampling) -> Iterator[tuple[Live, Reply]]:
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

    def _counted(self, live: Live, reply: Reply) -> Live:
        self.promised -= 1 if live.queries < live.need else 0
        live.queries += 1
        live.tokens_in, live.tokens_out = live.tokens_in + reply.tokens_in, live.tokens_out + reply.tokens_out
        return live

    def _settle(self, group: list[tuple[Live, Reply]], judged: Mapping[str, Verdict] | None = None) -> None:
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

    def _note(self, live: Live, paid: Paid | None) -> None:
        """Keep what was heard of an attempt that goes on. Of one that ended there is the attempt."""
        if paid is not None and live.id in self.open:
            self.heard.append(paid)
            if len(self.heard) == GROUP:
                self._flush()

    def _close(self, live: Live) -> None:
        if live.flow is not None:
            live.flow.close()
        del self.open[live.id]
        self.promised -= max(0, live.need - live.queries)

    def _finish(self, live: Live, error: str | None = None) -> None:
        self._close(live)
        self.finished.append(live.attempt(self.target.id, error))
        if len(self.finished) == GROUP:
            self._flush()

    def _skip(self, live: Live, reason: str) -> None:
        self._close(live)
        self.skipped.append(not_run(live, reason))

    def _flush(self) -> None:
        if self.finished:
            self.record(tuple(self.finished))
            self.done.update((attempt.id, attempt) for attempt in self.finished)
            self.finished.clear()
        if self.heard:
            self.keep(tuple(self.heard))
            self.heard.clear()
        self.progress(len(self.done) + len(self.skipped), self.total)
