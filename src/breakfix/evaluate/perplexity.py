"""How far a model has moved on everyday requests: its perplexity on the untouched model's own greedy answers.

    exp( - sum of log-likelihoods of the answers ÷ their tokens )

The answers are the untouched model's attempts of round 0, so round 0 gives the floor, and a model that
forgot how to answer, or refuses, finds them unlikely. Ours instead of a corpus: it needs no
data, and is blind to what the untouched model could not do. The end of the turn is not scored.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from breakfix.campaign import AsIs
from breakfix.core import Attempt, Case, Estimate, Model
from breakfix.evaluate.items import STAGE, Progress, measure
from breakfix.stats import nothing

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

KIND = "perplexity"
DRAWS = 2000


def references(
    ledger: Ledger, cases: Sequence[Case], asked: Mapping[str, Attempt], *, round: int
) -> dict[str, Attempt]:
    """Attempt id → the untouched model's answer to each case that has one, in the order of the cases: of this round
    (`asked`, by case id) in round 0, else of round 0 in the ledger."""
    attempts = asked.values() if round == 0 else ledger.attempts(round=0, stage=STAGE)
    of = {a.case: a for a in attempts if a.attack == AsIs.name and a.error is None}
    return {of[case.id].id: of[case.id] for case in cases if case.id in of}


def run(
    ledger: Ledger,
    model: Model,
    cases: Sequence[Case],
    asked: Mapping[str, Attempt],
    *,
    round: int,
    rng: random.Random,
    progress: Progress,
) -> tuple[dict[str, Estimate], float]:
    """({own_answers: perplexity}, seconds); nothing in it where round 0 has no answers. See `references` for `asked`.

    n counts answers; unscored are empty answers, and cases whose answer is missing.
    """
    answers = references(ledger, cases, asked, round=round)
    if not answers:
        return {}, 0.0
    items, seconds = measure(
        ledger,
        KIND,
        answers,
        lambda chunk: _score(model, chunk),
        content=lambda answer: answer.transcript,
        known=lambda item: item is not None and item[0] is not None,
        round=round,
        model=model,
        progress=progress,
    )
    pairs = [(logp, tokens) for logp, tokens in items.values() if logp is not None and tokens > 0]
    return {"own_answers": estimate(pairs, unscored=len(cases) - len(pairs), rng=rng)}, seconds


def _score(model: Model, answers: Sequence[Attempt]) -> list[tuple[float | None, int]]:
    """(log-likelihood or None, tokens) of each answer."""
    given = model.score([(a.transcript[:-1], a.transcript[-1].content) for a in answers])
    return [(logp if math.isfinite(logp) else None, tokens) for logp, tokens in given]


def estimate(pairs: Sequence[tuple[float, int]], *, unscored: int, rng: random.Random) -> Estimate:
    """Perplexity of (log-likelihood, tokens) of answers; interval: percentile bootstrap over answers, not tokens."""
    if not pairs:
        return nothing(unscored)
    value = _perplexity(pairs)
    if len(pairs) == 1:
        return Estimate(value, math.nan, math.nan, 1, unscored)
    draws = sorted(_perplexity(rng.choices(pairs, k=len(pairs))) for _ in range(DRAWS))
    low, high = draws[round(0.025 * (DRAWS - 1))], draws[round(0.975 * (DRAWS - 1))]
    return Estimate(value, low, high, len(pairs), unscored)


def _perplexity(pairs: Sequence[tuple[float, int]]) -> float:
    return math.exp(-sum(logp for logp, _ in pairs) / sum(tokens for _, tokens in pairs))
