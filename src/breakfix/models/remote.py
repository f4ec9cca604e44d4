"""A model behind an OpenAI-compatible endpoint, as a `core.Model`: batched and synchronous, its concurrency inside.

`generate` hands rows to threads, one request each, as many at once as the endpoint bears (remote_gate.py), and yields
replies as they arrive. They run ahead of the caller by few replies only, since a kill loses what was not taken yet.
Whatever goes wrong at the other end is a reply with finish "error"; what is raised is BudgetSpent, after all that was
under way has been yielded.

The key is in the headers of requests and nowhere else: threads catch all that the HTTP library raises, and what the
server says is searched for it (endpoint.Secrets).
"""

from __future__ import annotations

import heapq
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from breakfix.config import Endpoint
from breakfix.core import Conversation, Reply, Sampling
from breakfix.errors import BudgetSpent, ModelError
from breakfix.models import endpoint as addresses
from breakfix.models.line import Failure, Line, tls_context
from breakfix.models.remote_gate import Gate
from breakfix.models.spending import Spent
from breakfix.models.wire import FILTERED, Outcome, failed, model_names, refused, request, understand

AHEAD = 16  # replies that wait for the caller, besides as many as may be under way
TOLD = 16  # replies after which the ledger is told what was spent
TICK = 0.5  # seconds between looks for requests that are overdue


class RemoteModel:
    """`id` is endpoint and name; `spent` counts tokens. May be asked from several threads, and while a `generate` is
    under way.

    `unit` (seconds of the shortest pause) and `rng` (jitter) are for tests.
    """

    def __init__(
        self, address: addresses.Address, endpoint: Endpoint, *, rng: random.Random | None = None, unit: float = 0.5
    ) -> None:
        """Raises ConfigError where the environment lacks the key that the settings name."""
        self.address, self.endpoint = address, endpoint
        self.id = addresses.identity(address, endpoint)
        self.spent = Spent()
        self.gate = Gate(endpoint.concurrency, endpoint.retries, rng or random.Random(), unit)
        self.change = threading.Condition()  # guards gate, spent, and the state of every call
        self._url = addresses.chat_url(address, endpoint)
        self._secrets = addresses.Secrets(address, endpoint)
        self._tls = tls_context(address.base)
        self._idle: list[Line] = []
        self._told, self._hearer = Spent(), _nobody
        weakref.finalize(self, _close, self._idle)

    @classmethod
    def open(cls, name: str, endpoints: Sequence[Endpoint] = (), **options: Any) -> RemoteModel:
        """`name` is an address, http://host:8000/v1#NAME. Nothing is sent yet. Raises ConfigError."""
        return cls(addresses.address(name), addresses.check(name, endpoints), **options)

    def whole(self, template: str | None = None) -> Answering:
        """This model as a guard, which is given a whole conversation, whoever spoke last. The chat template is the
        server's; `template` can't be sent."""
        return Answering(self)

    def generate(
        self,
        prompts: Sequence[Conversation],
        sampling: Sampling,
        seeds: Sequence[int] | None = None,
        *,
        whole: bool = False,
    ) -> Iterator[tuple[int, Reply]]:
        """See core.Model. Raises BudgetSpent, and nothing else of the endpoint's."""
        rows: list[_Row] = []
        for i, prompt in enumerate(prompts):
            why = refused(prompt, self.endpoint, whole)
            if why is not None:
                yield i, Reply("", finish="error", error=why)
                continue
            seed = seeds[i] if seeds is not None else None
            rows.append(_Row(i, prompt, request(self.address.model, prompt, sampling, seed, self.endpoint, whole)))
        call = _Call(self, rows, sampling.max_new_tokens)
        gone = False
        try:
            for number, found in enumerate(call.replies(), 1):
                yield found
                if number % TOLD == 0:
                    self._tell()
        except GeneratorExit:  # the caller has gone, and perhaps its ledger, too
            gone = True
            raise
        finally:
            call.stop()
            if not gone:
                self._tell()
        if call.unpaid is not None:
            raise BudgetSpent(f"{self.address}: {call.unpaid} in `endpoints`; then the same command goes on")

    def resume(self, spent: Mapping[str, Any], tell: Callable[[Mapping[str, Any]], None]) -> None:
        """Go on from what was spent before ({} for nothing); `tell` hears the totals every few replies, in the thread
        that takes them."""
        self.spent, self._told, self._hearer = Spent.of(spent), Spent.of(spent), tell

    @property
    def bill(self) -> str:
        """What was spent in all, in words; "" where nothing was asked."""
        spent = self.spent
        if not spent.requests:
            return ""
        cost = spent.cost(self.endpoint)
        said = f"{spent.requests} answers, {spent.tokens_in} tokens read, {spent.tokens_out} written"
        said += f", {spent.unmetered} answers that did not say" if spent.unmetered else ""
        return f"{self.address}: {said}" + ("" if cost is None else f"; it cost {cost:.4g}")

    def hello(self) -> Hello:
        """Ask for the list of models: is it there, does it take the key, does it have the model? Generates nothing."""
        line, address = self.line(), str(self.address)
        found = line.ask(f"{self.address.base}/models")
        line.close()
        key = addresses.key_variable(self.address, self.endpoint) is not None
        if isinstance(found, Failure):
            return Hello(address, key, why=found.why, advice="start the server, or look at the address")
        if found.status in (401, 403):
            why = f"HTTP {found.status}: it does not let us in " + ("with the key" if key else "without a key")
            return Hello(address, key, why=why, advice="export OPENAI_API_KEY, or name api_key_env in `endpoints`")
        if found.status in (502, 503, 504) or 300 <= found.status < 400:  # others fail to list models, and work
            return Hello(
                address, key, why=f"HTTP {found.status}", advice="look at the server's log, and at the address"
            )
        names = model_names(found.body) if found.status == 200 else None
        mine = {self.address.model, f"{self.address.model}:latest"}  # Ollama's names have a tag
        return Hello(address, key, names or (), not mine.isdisjoint(names) if names is not None else None)

    def score(self, pairs: Sequence[tuple[Conversation, str]]) -> list[tuple[float, int]]:
        """Chat endpoints give no log-likelihoods of a given text. Raises ModelError."""
        raise ModelError(f"{self.address}: a remote model can't score given texts, only reply")

    def _tell(self) -> None:
        with self.change:
            spent = replace(self.spent)
        if spent != self._told:
            self._told = spent
            self._hearer(spent.record(self.id, self.endpoint))

    def ask(self, line: Line, row: _Row, limit: int) -> Outcome:
        """One request, by a line of `line()`."""
        found = line.ask(self._url, row.body)
        if isinstance(found, Failure):
            return failed(found.kind, f"{self.address}: {found.why}")
        body = self._secrets.scrub(found.body.decode("utf-8", "replace")).encode()  # before any of it is cut
        outcome = understand(found.status, found.headers, body, row.prompt, limit)
        text, error = self._secrets.scrub(outcome.reply.text), outcome.reply.error
        if error is not None:
            error = self._secrets.scrub(error if error.startswith(FILTERED) else f"{self.address}: {error}")
        return replace(outcome, reply=replace(outcome.reply, text=text, error=error))

    def line(self) -> Line:
        """One whose connection is open still, or a new one."""
        try:
            return self._idle.pop()
        except IndexError:
            return Line(self._secrets, self.endpoint.timeout, self._tls, local=self.address.local)

    def back(self, line: Line) -> None:
        self._idle.append(line)


@dataclass(frozen=True, slots=True)
class Hello:
    """What an endpoint said. `why`: it can't be used, "" if it can. `listed`: it has the model; None where it does not
    say which it has."""

    address: str
    key: bool
    models: tuple[str, ...] = ()
    listed: bool | None = None
    why: str = ""
    advice: str = ""


def _nobody(totals: Mapping[str, Any]) -> None:
    pass


class Answering:
    """A remote model that continues nothing: see `RemoteModel.whole`. It spends from the same budget."""

    def __init__(self, model: RemoteModel) -> None:
        self.model, self.id = model, model.id

    def generate(
        self, prompts: Sequence[Conversation], sampling: Sampling, seeds: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Reply]]:
        return self.model.generate(prompts, sampling, seeds, whole=True)

    def score(self, pairs: Sequence[tuple[Conversation, str]]) -> list[tuple[float, int]]:
        return self.model.score(pairs)


def _close(lines: list[Line]) -> None:
    while lines:
        lines.pop().close()


@dataclass(order=True)
class _Row:
    """One prompt of a call, ordered by when it may be sent (`due`; the caller's clock), then by its index."""

    due: float = field(init=False, default=0.0)
    index: int
    prompt: Conversation = field(compare=False)
    body: bytes = field(compare=False)
    tries: int = field(init=False, default=0, compare=False)


class _Call:
    """One `generate`: its rows wait, are under way, or are done and wait for the caller. `unpaid`: why the budget ended
    it. Threads are the call's own; all of its state is guarded by the model's `change`."""

    def __init__(self, model: RemoteModel, rows: list[_Row], limit: int) -> None:
        self.model, self.limit = model, limit
        self.change, self.gate = model.change, model.gate
        self.waiting = rows
        self.total = len(rows)
        self.under_way: dict[int, Line] = {}
        self.done: deque[tuple[int, Reply]] = deque()
        self.threads: list[threading.Thread] = []
        self.stopped = False
        self.unpaid: str | None = None
        heapq.heapify(self.waiting)
        with self.change:
            self.gate.reopen()

    def replies(self) -> Iterator[tuple[int, Reply]]:
        while (found := self._take()) is not None:
            yield found

    def _take(self) -> tuple[int, Reply] | None:
        """The next reply; None at the end."""
        with self.change:
            self._man()
            while not self.done:
                if not self.waiting and not self.under_way:
                    return None
                self.change.wait(TICK)
                for line in self.under_way.values():
                    if time.monotonic() > line.deadline:
                        line.cut()
            self.change.notify_all()  # there is room to run ahead again
            return self.done.popleft()

    def stop(self) -> None:
        """Send nothing more, and end what is under way."""
        with self.change:
            self.stopped = True
            self.waiting.clear()
            for line in self.under_way.values():
                line.cut()
            self.change.notify_all()
        until = time.monotonic() + 1.0
        for thread in self.threads:  # they end at once, unless the system still looks for the host
            thread.join(max(0.0, until - time.monotonic()))

    def _man(self) -> None:
        """As many threads as may have work, or as the system gives. Raises ModelError if it gives none."""
        while len(self.threads) < min(self.total, int(self.gate.limit)) and self.waiting:
            thread = threading.Thread(target=self._work, daemon=True, name="breakfix-remote")
            try:
                thread.start()
            except RuntimeError as error:
                if self.threads:
                    return
                raise ModelError(f"{self.model.address}: no thread can be started to ask it ({error})") from None
            self.threads.append(thread)

    def _work(self) -> None:
        """What a thread does: one row after the other, until there is none."""
        line = self.model.line()
        while (row := self._next(line)) is not None:
            sent = time.monotonic()
            try:
                outcome = self.model.ask(line, row, self.limit)
            except Exception as error:  # a bug of ours; without its message, which may hold anything
                outcome = failed("answered", f"{self.model.address}: {type(error).__name__} while asking")
            self._heard(row, outcome, sent)
            line.mend()
        self.model.back(line)

    def _next(self, line: Line) -> _Row | None:
        with self.change:
            while True:
                self._drop()
                if self.stopped or (not self.waiting and not self.under_way):
                    self.change.notify_all()
                    return None
                now, pause = time.monotonic(), None
                if self.waiting and self.gate.room and len(self.done) + len(self.under_way) < AHEAD + self.gate.limit:
                    pause = max(self.waiting[0].due, self.gate.until) - now
                    if pause <= 0:
                        return self._send(line)
                self.change.wait(pause)

    def _drop(self) -> None:
        """Rows that will not be sent: no money is left for them, or the endpoint takes none."""
        if self.waiting and self.unpaid is None:
            self.unpaid = self.model.spent.over(self.model.endpoint)
        if self.unpaid is not None:
            self.waiting.clear()
        elif self.gate.closed is not None and self.waiting:
            why = f"not sent: {self.gate.closed}"
            self.done.extend((row.index, Reply("", finish="error", error=why)) for row in sorted(self.waiting))
            self.waiting.clear()
            self.change.notify_all()

    def _send(self, line: Line) -> _Row:
        row = heapq.heappop(self.waiting)
        row.tries += 1
        self.gate.under_way += 1
        self.under_way[row.index] = line
        return row

    def _heard(self, row: _Row, outcome: Outcome, sent: float) -> None:
        with self.change:
            self.gate.under_way -= 1
            del self.under_way[row.index]
            self.model.spent.add(outcome)
            if not self.stopped:
                now = time.monotonic()
                self.gate.heard(outcome, sent=sent, now=now)
                again = self.gate.again(outcome, tries=row.tries, now=now)
                if again is None:
                    self.done.append((row.index, outcome.reply))
                else:
                    row.due = again
                    heapq.heappush(self.waiting, row)
                self._man()
            self.change.notify_all()
