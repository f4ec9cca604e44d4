"""The untouched model's own replies to training prompts: what a harmless request is answered with (so that training
does not pull the model towards somebody else's style), and what a harmful one is moved away from.

They are attempts like any other, recorded under the stage "curate": a prompt that was answered in an earlier round, or
before a kill, is not asked again. Greedy, and short (config.curate.reply_tokens): a reply that was cut there is taken
back to the end of its last sentence, or the model would learn to stop in the middle of one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from breakfix import campaign
from breakfix.core import Attempt, Case, Judge, Model, Sampling
from breakfix.curate.base import Progress
from breakfix.ledger import Ledger

_ENDS = re.compile(r"(?:(?<!\d)[.!?…]['\"”’)\]*]*(?=\s|$)|[。！？।؟]|(?<=\S)(?=\n))")
SHORTEST = 12  # characters that must be left of a reply that was cut


@dataclass(frozen=True, slots=True)
class Reply:
    """What the untouched model said. `text` is whole sentences, `raw` all of it; `label` is the judge's word."""

    text: str
    raw: str
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
    return {attempt.case: _reply(attempt, tokens) for attempt in outcome.attempts if attempt.error is None}


def _reply(attempt: Attempt, tokens: int) -> Reply:
    raw = attempt.transcript[-1].content.strip()
    verdict = attempt.final
    text = whole_sentences(raw) if attempt.tokens_out >= tokens else raw
    return Reply(text, raw, verdict.label if verdict else "unscored", attempt.id)


def whole_sentences(text: str) -> str:
    """Up to the end of the last whole sentence or line; "" if too little is left. "3." ends no sentence."""
    ends = [match.end() for match in _ENDS.finditer(text)]
    whole = text[: ends[-1]].rstrip() if ends else ""
    return whole if len(whole) >= SHORTEST else ""
