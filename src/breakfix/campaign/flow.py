"""Where each put of a run stands: taken, begun within its budgets, waiting for a model, ended and recorded."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from breakfix.campaign.live import Live, not_run
from breakfix.campaign.puts import (
    BROKEN,
    CHUNK,
    GROUP,
    Budget,
    Keep,
    Known,
    NotRun,
    Progress,
    Put,
    Recall,
    Record,
)
from breakfix.campaign.spending import Spending, whose
from breakfix.core import Answer, Attempt, Judge, Model, NotApplicable, Paid, Reply, Sampling


@dataclass
class Flow:
    """The state of one run: puts go queue → open (waiting for target or helper) → done, skipped or unrun. Those that
    must wait for others to end (of their case, or of a budget) are held. What asks the models is in lockstep.py."""

    target: Model
    judge: Judge
    sampling: Sampling
    seed: int
    helper: Model | None
    budget: Budget
    spending: Spending
    stop_at_breach: bool
    hold: bool
    window: int
    puts: Iterator[Put]
    identify: Callable[[Put], str]
    known: Known
    record: Record
    recall: Recall
    keep: Keep
    use: Record
    progress: Progress
    clock: Callable[[], float]
    total: int | None = None
    queue: deque[Live] = field(default_factory=deque[Live])
    held: deque[Live] = field(default_factory=deque[Live])
    open: dict[str, Live] = field(default_factory=dict[str, Live])
    ids: dict[str, None] = field(default_factory=dict[str, None])  # of puts taken; without `hold`, that have not ended
    done: dict[str, Attempt] = field(default_factory=dict[str, Attempt])  # with `hold`
    # what an earlier run had heard: attempt → (query, prompt) → reply
    paid: dict[str, dict[tuple[int, str], Paid]] = field(default_factory=dict[str, dict[tuple[int, str], Paid]])
    for_target: list[Live] = field(default_factory=list[Live])
    for_helper: list[Live] = field(default_factory=list[Live])
    ended: list[Attempt] = field(default_factory=list[Attempt])
    heard: list[Paid] = field(default_factory=list[Paid])
    skipped: list[NotRun] = field(default_factory=list[NotRun])
    unrun: list[NotRun] = field(default_factory=list[NotRun])
    skips: Counter[str] = field(default_factory=Counter[str])
    unruns: Counter[str] = field(default_factory=Counter[str])
    cuts: Counter[str] = field(default_factory=Counter[str])
    helped: Counter[str] = field(default_factory=Counter[str])
    broken: set[str] = field(default_factory=set[str])  # cases, where their breach stops others
    busy: set[str] = field(default_factory=set[str])  # cases with an open attempt, likewise
    taken: int = 0  # puts
    finished: int = 0  # attempts, those that were known (reused) included
    reused: int = 0
    queries: int = 0
    helper_queries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    promised: int = 0  # target queries that open attempts may still ask
    began: float = 0.0

    def _over(self) -> str:
        """Which budget of the whole run has ended, or "" """
        if self.budget.seconds is not None and self.clock() - self.began >= self.budget.seconds:
            return "time budget"
        spent = self.budget.tokens is not None and self.tokens_in + self.tokens_out >= self.budget.tokens
        return "token budget" if spent else ""

    def _leave(self, reason: str) -> None:
        """The budget has ended: nothing more is begun. What is known of the puts that were not taken yet counts."""
        for live in list(self.open.values()):
            self._cut(live, reason)
        self._take()
        while self.held or self.queue:
            while self.held or self.queue:
                live = (self.held or self.queue).popleft()
                broken = live.put.case.id in self.broken
                if live.known is not None and not broken:
                    self._use([live.known])
                else:
                    self._not_run(live, BROKEN if broken else reason)
            self._take()

    def _take(self) -> None:
        """Take puts while there is room; those that are known are done, the others queue."""
        new: list[Live] = []
        while len(self.queue) + len(self.held) + len(self.open) < self.window:
            puts = list(islice(self.puts, CHUNK))
            if not puts:
                break
            new += self._looked_up(puts)
        if new:
            for paid in self.recall([live.id for live in new]):
                self.paid.setdefault(paid.attempt, {})[paid.query, paid.prompt] = paid

    def _looked_up(self, puts: Sequence[Put]) -> list[Live]:
        """Those that are not known, in the queue. Where breaches stop others, known ones queue as well: which ones
        count must not depend on what is known."""
        taken = {id: put for put in puts if (id := self.identify(put)) not in self.ids}
        self.taken += len(taken)
        self.total = self.total and self.total - len(puts) + len(taken)
        found = self.known(list(taken))
        lives = [
            Live(id, put, self.seed, self.budget, found.get(id))
            for id, put in taken.items()
            if self.stop_at_breach or id not in found
        ]
        self.ids.update(dict.fromkeys(taken))
        if not self.stop_at_breach:
            self._use([found[id] for id in taken if id in found])
        self.queue.extend(lives)
        return [live for live in lives if live.known is None]

    def _use(self, attempts: Sequence[Attempt]) -> None:
        """These are known, and count as if they had been begun and ended."""
        self.finished += len(attempts)
        self.reused += len(attempts)
        for attempt in attempts:
            self._note_breach(attempt)
            self.spending.known(attempt)
            if self.hold:
                self.done[attempt.id] = attempt
            else:
                del self.ids[attempt.id]
        if attempts:
            self.use(tuple(attempts))

    def _admit(self) -> None:
        """Begin puts, in order, while there is room, and while what they may ask fits into the budget."""
        again, self.held = self.held, deque[Live]()
        for live in again:
            self._begin(live)
        while self.queue and len(self.open) + len(self.held) < self.window:
            if self.open and self.queue[0].known is None and self._total_refuses(self.queue[0]):
                return  # they may end early, and free some
            self._begin(self.queue.popleft())

    def _total_refuses(self, live: Live) -> bool:
        return self.budget.total is not None and self.queries + self.promised + live.need > self.budget.total

    def _begin(self, live: Live) -> None:
        """Begin the put, or hold it, or leave it."""
        case = live.put.case.id
        if case in self.broken:
            self._not_run(live, BROKEN)
            return
        if case in self.busy:
            self.held.append(live)
            return
        if live.known is not None:
            self._use([live.known])
            return
        reason, later = self.spending.refuses(live.put, live.need)
        if not reason and self._total_refuses(live):
            reason, later = "query budget", bool(self.open)
        if reason:
            self.held.append(live) if later else self._not_run(live, reason)
            return
        self.open[live.id] = live
        self.promised += live.need
        self.spending.promise(live.put, live.need)
        if self.stop_at_breach:
            self.busy.add(case)
        self._advance(live, None)

    def _advance(self, live: Live, answer: Answer | None) -> None:
        """Send the answer into the attack (None starts it), and queue what it asks next."""
        try:
            live.ask = live.send(answer)
        except StopIteration:
            self._finish(live) if live.turns else self._skip(live, "the attack asked the target nothing")
        except NotApplicable as why:
            self._skip(live, str(why))
        except Exception as error:  # another's code: the others go on
            reason = f"the attack failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            self._finish(live, reason) if live.turns else self._skip(live, reason)
        else:
            if live.ask.to == "helper":
                self.for_helper.append(live)
            elif live.limit is not None and live.queries >= live.limit:
                self._finish(live)
            else:
                self.for_target.append(live)

    def _spent(self, live: Live, reply: Reply, queries: int) -> None:
        if self.spending.limits:
            self.spending.add(whose(live.put), queries, reply.tokens_in + reply.tokens_out, live.took)

    def _unpromise(self, live: Live, queries: int) -> None:
        self.promised -= queries
        self.spending.promise(live.put, -queries)

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
        self._unpromise(live, live.promised)
        self.busy.discard(live.put.case.id)
        self.paid.pop(live.id, None)

    def _finish(self, live: Live, error: str | None = None) -> None:
        self._close(live)
        attempt = live.attempt(self.target.id, error)
        self._note_breach(attempt)
        self.ended.append(attempt)
        if len(self.ended) == GROUP:
            self._flush()

    def _note_breach(self, attempt: Attempt) -> None:
        if self.stop_at_breach and attempt.score == 0:
            self.broken.add(attempt.case)

    def _skip(self, live: Live, reason: str) -> None:
        self._close(live)
        self.skips[reason] += 1
        self._forget(live)
        if self.hold:
            self.skipped.append(not_run(live, reason))

    def _cut(self, live: Live, reason: str) -> None:
        """A budget ends the attempt, which is not recorded; the replies so far are kept."""
        self._close(live)
        self._not_run(live, reason)

    def _not_run(self, live: Live, reason: str) -> None:
        self.unruns[reason] += 1
        self._forget(live)
        if live.queries:
            self.cuts[reason] += 1
        if self.hold:
            self.unrun.append(not_run(live, reason))

    def _forget(self, live: Live) -> None:
        self.paid.pop(live.id, None)
        if not self.hold:
            del self.ids[live.id]

    def _flush(self) -> None:
        if self.ended:
            self.record(tuple(self.ended))
            self.finished += len(self.ended)
            if self.hold:
                self.done.update((attempt.id, attempt) for attempt in self.ended)
            else:
                for attempt in self.ended:
                    del self.ids[attempt.id]
            self.ended.clear()
        if self.heard:
            self.keep(tuple(self.heard))
            self.heard.clear()
        self._tell()

    def _tell(self) -> None:
        self.progress(self.finished + self.skips.total(), self.taken if self.total is None else self.total)
