"""The untouched model's own replies to training prompts: what a harmless request is answered with (so that training
does not pull the model towards somebody else's style), and what a harmful one is moved away from.

They are attempts like any other, recorded under the stage "curate": a prompt that was answered in an earlier round, or
before a kill, is not asked again. Greedy, and short (config.curate.reply_tokens): a reply that the budget cut is marked
so (`Example.cut`), and the end of its turn is not learnt, or the model would learn to give short answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from breakfix import campaign
from breakfix.core import Attempt, Case, Judge, Model, Sampling
from breakfix.curate.base import Progress
from breakfix.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Reply:
    """What the untouched model said. `cut`: the token budget ended it. `label` is the judge's word."""

    text: str
    cut: bool
    label: str
    attempt: str


def own_replies(
    cases: Sequence[Case],
    model: Model,
    judge: Judge,
    ledger: Ledger,
    *,
    round: int,
    tokens: int,
    seed: int,
    progress: Progress,
) -> dict[str, Reply]:
    """Replies by case id; a case is missing where the model failed. Pays only for what the ledger does not hold."""
    direct = campaign.AsIs()
    ledger.add_cases(cases)

    def record(attempts: Sequence[Attempt]) -> None:
        ledger.add_attempts(attempts, round=round, stage="curate")

    outcome = campaign.run(
        [campaign.Put(case, direct) for case in cases],
        model,
        judge,
        sampling=Sampling(max_new_tokens=tokens),
        seed=seed,
        known=lambda ids: {id: a for id, a in ledger.known(ids).items() if a.error is None},
        record=record,
        progress=lambda done, total: progress("own replies of the untouched model", done, total),
    )
    record(outcome.attempts)  # those that were known belong to this round, too
    return {attempt.case: _reply(attempt) for attempt in outcome.attempts if attempt.error is None}


def _reply(attempt: Attempt) -> Reply:
    verdict = attempt.final
    text = attempt.transcript[-1].content.strip()
    return Reply(text, bool(attempt.cut), verdict.label if verdict else "unscored", attempt.id)
