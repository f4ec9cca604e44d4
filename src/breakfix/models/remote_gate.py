"""How many requests may be under way at an endpoint, when the next may leave, and when to give up. No I/O, no clock.

As TCP does it (Jacobson 1988): one request at first, one more for every answer until the endpoint first asks for less
(busy) or is late; then the limit halves, and rises by one for as many answers as it is large. What was sent before a
limit was halved does not halve it again. A pause that the endpoint asks for (Retry-After), or that a broken connection
suggests, holds for all; it doubles with every failure in a row, and is drawn at random from its upper half, so that
clients part.

It closes, and what waits becomes errors without being sent, where asking on is of no use: nobody is let in (a wrong
key, say) and no request was answered before, or thrice in a row; it was busy, late or away more often in a row than a
row may be tried again (thrice at least); or three rows in a row used up their tries. The next call tries again, with
one request and without patience.
"""

from __future__ import annotations

import random

from breakfix.models.wire import Outcome

LONGEST_PAUSE = 30.0  # seconds, of those that we choose ourselves
IN_A_ROW = 3


class Gate:
    """`limit`: requests under way at once, from 1 to `most`. `until`: when the next may leave. `closed`: why none may.

    Times are seconds of the caller's clock. `unit`: seconds of the shortest pause.
    """

    def __init__(self, most: int, retries: int, rng: random.Random, unit: float = 0.5) -> None:
        self.most, self.retries, self.unit = most, retries, unit
        self.limit, self.until, self.under_way = 1.0, 0.0, 0
        self.closed: str | None = None
        self.answers = 0  # so far, in all
        self._rng = rng
        self._patience, self._hope = retries, max(retries, IN_A_ROW - 1)  # tries of a row, failures in a row
        self._steep = float(most)  # up to here the limit rises by one per answer
        self._halved = -1.0  # when
        self._strikes = self._denials = self._lost = 0  # in a row
        self._asked = 0.0  # until when the endpoint itself asked to wait

    @property
    def room(self) -> bool:
        return self.under_way < int(self.limit)

    def reopen(self) -> None:
        """Before a call: what was closed is tried again, carefully."""
        if self.closed is not None:
            self.closed, self.limit, self.until = None, 1.0, self._asked
            self._patience, self._hope, self._strikes = 0, 0, 0
            self._denials, self._lost = IN_A_ROW - 1, IN_A_ROW - 1

    def heard(self, outcome: Outcome, *, sent: float, now: float) -> None:
        """Take note of what came of a request."""
        if outcome.kind == "answered":
            self.answers += 1
            self._strikes = self._denials = self._lost = 0
            self._patience, self._hope = self.retries, max(self.retries, IN_A_ROW - 1)
            self.limit = min(float(self.most), self.limit + (1 if self.limit < self._steep else 1 / self.limit))
        elif outcome.kind == "denied":
            self._denials += 1
            if self.answers == 0 or self._denials >= IN_A_ROW:
                self.closed = outcome.reply.error
        elif outcome.kind != "broken":
            self._slow_down(outcome, sent=sent, now=now)

    def _slow_down(self, outcome: Outcome, *, sent: float, now: float) -> None:
        if sent > self._halved:
            self.limit = max(1.0, self.limit / 2)
            self._steep, self._halved = self.limit, now
            self._strikes += 1
            if self._strikes > self._hope:
                self.closed = outcome.reply.error
        if outcome.wait is not None:
            self._asked = max(self._asked, now + outcome.wait)
            self.until = max(self.until, self._asked)
        elif outcome.kind != "late":
            self.until = max(self.until, now + self.pause(self._strikes))

    def pause(self, failures: int) -> float:
        """Seconds to wait after that many failures in a row."""
        longest = min(LONGEST_PAUSE, self.unit * 2.0 ** max(0, failures - 1))
        return longest * self._rng.uniform(0.5, 1.0)

    def again(self, outcome: Outcome, *, tries: int, now: float) -> float | None:
        """When a row may be tried again after its `tries`-th failure; None where it has failed for good."""
        if outcome.kind in ("answered", "denied") or self.closed is not None:
            return None
        if tries > self._patience:
            self._lost += 1
            if self._lost >= IN_A_ROW:
                self.closed = outcome.reply.error
            return None
        shared = outcome.kind in ("busy", "away")  # `until` says when; first in, first out again
        return 0.0 if shared else now + self.pause(tries)
