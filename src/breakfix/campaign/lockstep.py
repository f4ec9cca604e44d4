"""The run: attacks go on in lockstep, each turn one batch over everything that waits, judged group by group."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from functools import partial

from breakfix.campaign.flow import Flow
from breakfix.campaign.live import Live
from breakfix.campaign.puts import (
    GROUP,
    HELPER_SAMPLING,
    NO_LIMIT,
    WINDOW,
    Budget,
    Keep,
    Known,
    Outcome,
    Progress,
    Put,
    Recall,
    Record,
    attempt_id,
    forget,
    nothing,
    silent,
    unused,
)
from breakfix.campaign.spending import Spending
from breakfix.core import Answer, Judge, Model, Paid, Reply, Sampling, Verdict, digest
from breakfix.errors import BudgetSpent, ModelError
from breakfix.judges.ask import heard

FEW = 4 * GROUP  # attempts in a batch, where each reply tells whether a budget has ended


def run(
    puts: Iterable[Put],
    target: Model,
    judge: Judge,
    *,
    sampling: Sampling,
    seed: int,
    known: Known,
    record: Record,
    recall: Recall = nothing,
    keep: Keep = forget,
    use: Record = unused,
    helper: Model | None = None,
    budget: Budget = NO_LIMIT,
    spending: Spending | None = None,
    stop_at_breach: bool = False,
    hold: bool = True,
    window: int = WINDOW,
    total: int | None = None,
    progress: Progress = silent,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Every put that is not `known` yet, tried, judged and given to `record` (up to `GROUP` attempts at a time).

    Replies of attempts that go on, and those that a judge with a budget had no more money for, are given to `keep`;
    what `recall` gives of them (by attempt ids) is not asked again. Attempts that were known are given to `use`.
    A model's failure becomes an attempt with `error`; leave such attempts out of `known` to try them again. A judge
    that raises gives an unscored verdict. `spending` has what earlier runs spent of the same budget.

    At most `window` attempts are under way; puts are taken, and looked up, as there is room, and with `hold` False
    nothing is kept of what has ended: memory is then bounded, however many puts there are. Puts with the same id are
    one attempt; without `hold`, where they are further apart than the window, the second one is `known`.

    `stop_at_breach`: once an attempt broke its case, no other one is begun on it. One at a time is then under way on a
    case, in the order of the puts, so that which ones are begun does not depend on what else runs.

    `progress(done, total)` counts puts; `total` is needed where `puts` has no length.
    Raises UserError from model, judge or `record`; anything else that escapes is a bug.
    """
    identify = partial(
        attempt_id, target=target, judge=judge, sampling=sampling, seed=seed, helper=helper, budget=budget
    )
    work = _Run(
        target=target, judge=judge, sampling=sampling, seed=seed, helper=helper, budget=budget,
        spending=spending or Spending(budget), stop_at_breach=stop_at_breach, hold=hold, window=window,
        puts=iter(puts), identify=identify, known=known, record=record, recall=recall, keep=keep, use=use,
        progress=progress, clock=clock,
    )  # fmt: skip
    work.total = len(puts) if total is None and isinstance(puts, Sized) else total
    return work.go()


class _Run(Flow):
    """Asks the models for what waits, and lets the attacks hear it."""

    def go(self) -> Outcome:
        self.began = self.clock()
        self._take()
        self._tell()
        while (self.queue or self.held or self.open) and not self._over():
            self._admit()
            self._ask_helper()
            self._ask_target()
            self._take()
        self._leave(self._over())
        self._flush()
        return Outcome(
            attempts=tuple(self.done[id] for id in self.ids if id in self.done),
            skipped=tuple(self.skipped),
            unrun=tuple(self.unrun),
            queries=self.queries,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            seconds=self.clock() - self.began,
            helper_queries=self.helper_queries,
            reused=self.reused,
            finished=self.finished,
            skips=dict(self.skips),
            unruns=dict(self.unruns),
            cuts=dict(self.cuts),
            helper=dict(self.helped),
        )

    def _ask_helper(self) -> None:
        """Until nobody waits for the helper: then the target's batch is as full as it can be."""
        while self.for_helper:
            batch, self.for_helper = self.for_helper, []
            for live, reply, paid in self._heard_helper(batch):
                if self._over():
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
            self.helped["missing"] += len(batch)
            yield from ((live, None, None) for live in batch)
            return
        again, new = self._recalled(batch)
        for live, paid in again:
            self._spent(live, paid.reply, 0)
            yield live, paid.reply, None
        self.helper_queries += len(new)
        for live, reply in self._stream(self.helper, new, HELPER_SAMPLING):
            if reply.finish == "error" or not reply.text.strip():
                self.helped["failed" if reply.finish == "error" else "empty"] += 1
            self._spent(live, reply, 0)
            yield live, reply, live.paid(reply)

    def _ask_target(self) -> None:
        """One batch over everything that waits, judged group by group as the replies arrive. What an earlier run had
        heard goes first, so that those attempts, too, are in the batch with what they ask next."""
        if self._over():
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
                self._cut(live, "query budget")
            batch = batch[:room]
        if self.spending.limits:
            batch = self._allowed(batch)
        self._ask(batch)

    def _allowed(self, batch: list[Live]) -> list[Live]:
        """Without those whose case, attack or persona has used up its budget. Where that is only known after each
        reply, no more than a few groups: the others wait for the next batch."""
        if self.spending.by_reply:
            batch, self.for_target = batch[:FEW], batch[FEW:]
        allowed: list[Live] = []
        for live in batch:
            if why := self.spending.stops(live.put, live.promised):
                self._cut(live, why)
                continue
            if not live.promised:  # of an attack that states no bound, or asks more than it stated
                live.need = live.queries + 1
                self.promised += 1
                self.spending.promise(live.put, 1)
            allowed.append(live)
        return allowed

    def _ask(self, batch: list[Live]) -> None:
        group: list[tuple[Live, Reply]] = []
        try:
            for live, reply in self._stream(self.target, batch, self.sampling):
                self.queries += 1
                group.append((self._counted(live, reply), reply))
                if self._over():
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
            kept = self.paid.get(live.id)
            paid = kept.get((live.asked, digest(live.ask.prompt))) if kept else None
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
            live.took = 0.0
            yield live, Reply("", finish="error", error=why)

    def _counted(self, live: Live, reply: Reply) -> Live:
        self._unpromise(live, min(1, live.promised))
        live.queries += 1
        live.tokens_in, live.tokens_out = live.tokens_in + reply.tokens_in, live.tokens_out + reply.tokens_out
        self._spent(live, reply, 1)
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
