"""What a remote model was paid: tokens and money, with a budget for each over the whole run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from breakfix.config import Endpoint
from breakfix.models.wire import Outcome

MILLION = 1_000_000


@dataclass(slots=True)
class Spent:
    """Requests that were answered, tokens read and written. `unmetered`: answers that did not say what they cost; they
    are in no other figure."""

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    unmetered: int = 0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Spent:
        return cls(*(int(record.get(name, 0)) for name in ("requests", "tokens_in", "tokens_out", "unmetered")))

    def add(self, outcome: Outcome) -> None:
        if outcome.kind != "answered":
            return
        self.requests += 1
        self.tokens_in += outcome.reply.tokens_in
        self.tokens_out += outcome.reply.tokens_out
        if outcome.reply.finish != "error" and not outcome.metered:
            self.unmetered += 1

    def cost(self, prices: Endpoint) -> float | None:
        """In the prices' currency; None where there are no prices, or what is paid is not known."""
        if prices.price_in is None or prices.price_out is None or self.unmetered:
            return None
        return (self.tokens_in * prices.price_in + self.tokens_out * prices.price_out) / MILLION

    def over(self, endpoint: Endpoint) -> str | None:
        """Why no more may be spent; None while it may."""
        if (endpoint.max_tokens is not None or endpoint.max_cost is not None) and self.unmetered:
            return "its answers do not say how many tokens they cost, so that its budget can't be kept; take it out"
        tokens, cost = self.tokens_in + self.tokens_out, self.cost(endpoint)
        if endpoint.max_tokens is not None and tokens >= endpoint.max_tokens:
            return f"{tokens} tokens are spent, of max_tokens {endpoint.max_tokens}; raise it"
        if endpoint.max_cost is not None and cost is not None and cost >= endpoint.max_cost:
            return f"{cost:.4g} is spent, of max_cost {endpoint.max_cost:.4g}; raise it"
        return None

    def record(self, model: str, endpoint: Endpoint) -> dict[str, Any]:
        return {"model": model, **asdict(self), "cost": self.cost(endpoint)}
