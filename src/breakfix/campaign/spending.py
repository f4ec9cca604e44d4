"""What a campaign has spent, by case, attack and persona, and whether an attempt may begin or go on within its budget.

Queries are the target's; an attempt is only begun where all that it may ask fits beside what open attempts may still
ask. Tokens (read and written) and seconds (of the models' time) count target and helper, and are known once they are
spent: a limit is passed by what was in flight, and the attempt whose turn it then is ends unfinished.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from breakfix.campaign.puts import SCOPES, Budget, Limits, Put
from breakfix.core import Attempt

Whose = tuple[str, str, str]  # case id, attack's name, persona: in the order of SCOPES


@dataclass(slots=True)
class Cost:
    queries: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def over(self, limits: Limits) -> str:
        """What is used up, in a word; "" where nothing is."""
        if limits.tokens is not None and self.tokens >= limits.tokens:
            return "token"
        return "time" if limits.seconds is not None and self.seconds >= limits.seconds else ""


class Spending:
    """The account of one run, or of several that share limits and come one after the other.

    Attempts that were known count with what they once cost, so that a run which was interrupted keeps to the limits
    as one that was not.
    """

    def __init__(self, budget: Budget) -> None:
        limits: tuple[Limits, ...] = (budget.case, budget.attack, budget.persona)
        self.limits = [(i, scope, one) for i, (scope, one) in enumerate(zip(SCOPES, limits, strict=True)) if one.any]
        self.by_reply = any(one.tokens is not None or one.seconds is not None for _, _, one in self.limits)
        self.spent: dict[tuple[str, str], Cost] = {}
        self.promised = Counter[tuple[str, str]]()  # target queries that open attempts may still ask

    def refuses(self, put: Put, need: int) -> tuple[str, bool]:
        """(which budget keeps the put from being begun, or ""; whether it may fit once open attempts have ended)."""
        later = ""
        for key, limits, name in self._accounts(whose(put)):
            spent = self.spent.get(key, _NOTHING)
            if what := spent.over(limits):
                return f"{what} budget of {name}", False
            if limits.queries is not None:
                if spent.queries + need > limits.queries:
                    return f"query budget of {name}", False
                if spent.queries + self.promised[key] + need > limits.queries:
                    later = f"query budget of {name}"
        return later, bool(later)

    def stops(self, put: Put, promised: int) -> str:
        """Which budget keeps an open attempt from asking the target once more, or "". `promised`: what it has left."""
        for key, limits, name in self._accounts(whose(put)):
            spent = self.spent.get(key, _NOTHING)
            if what := spent.over(limits):
                return f"{what} budget of {name}"
            if not promised and limits.queries is not None and spent.queries + self.promised[key] >= limits.queries:
                return f"query budget of {name}"
        return ""

    def promise(self, put: Put, queries: int) -> None:
        for key, _, _ in self._accounts(whose(put)):
            self.promised[key] += queries

    def add(self, which: Whose, queries: int, tokens: int, seconds: float) -> None:
        for key, _, _ in self._accounts(which):
            cost = self.spent.setdefault(key, Cost())
            cost.queries += queries
            cost.tokens += tokens
            cost.seconds += seconds

    def known(self, attempt: Attempt) -> None:
        which = attempt.case, attempt.attack, attempt.persona
        self.add(which, queries(attempt), attempt.tokens_in + attempt.tokens_out, attempt.seconds)

    def _accounts(self, which: Whose) -> Iterator[tuple[tuple[str, str], Limits, str]]:
        for i, scope, limits in self.limits:
            yield (scope, which[i]), limits, "the case" if scope == "case" else f"{scope} {which[i]}"


def queries(attempt: Attempt) -> int:
    """What it asked the target; at least that, where the ledger is from before they were counted."""
    return len(attempt.verdicts) + (attempt.error is not None) if attempt.queries is None else attempt.queries


def whose(put: Put) -> Whose:
    return put.case.id, put.attack.name, put.attack.persona


_NOTHING = Cost()
