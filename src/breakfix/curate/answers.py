"""The untouched model's own replies to training prompts: what a harmless request is answered with (so that training
does not pull the model towards somebody else's style), and what a harmful one is moved away from.

They are attempts like any other, recorded under the stage "curate": a prompt that was answered in an earlier round, or
before a kill, is not asked again. Greedy, and short (config.curate.reply_tokens): a reply that the budget cut is marked
so (`Example.cut`), and the end of its turn is not learnt, or the model would learn to give short answers.

A script (user turns in a row, see mirror.py) is asked turn by turn; the row's prompt is then the conversation that came
of it. On-policy refusals (`Asker.refusals`) are sampled from the policy, several for each request, and judged. Where a
harmless request was refused, or the reply was debris, answers may be sampled likewise (`Asker.answers`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from breakfix import campaign
from breakfix.core import Answer, Ask, Attempt, Case, Conversation, Judge, Message, Model, Sampling
from breakfix.curate.base import Progress
from breakfix.curate.mirror import is_script
from breakfix.ledger import Ledger

EVASIVE = "evasive"  # the label of a reply that was cut before it answered anything, if it was to
_EVADES = re.compile(
    r"\W*(i('|’)?m |i am |i )?((so|very|truly) )?(sorry(?! to hear)|apologi[sz]e|my apologies|unfortunately)\b"
    r"|.*\bas an? ([\w-]+ ){0,3}(ai|chatbot|language model)\b",
    re.IGNORECASE,
)
SAMPLED = Sampling(max_new_tokens=64, temperature=0.8, top_p=0.95)
LEAST_WORDS = 6  # of a refusal that is worth learning


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said. `cut`: the token budget ended it. `label` is the judge's word, or EVASIVE. `asked`: the
    conversation in which it was said, where that is not the case's prompt (a script's). `instead`: the refusal that
    this one was sampled in the place of."""

    text: str
    cut: bool
    label: str
    attempt: str
    asked: Conversation | None = None
    instead: Reply | None = None


class Script:
    """The case's user turns one after the other, each after the model's reply to the one before it."""

    name = "script"
    family = "direct"
    persona = "low-skilled"
    version = 1
    uses_helper = False

    def __call__(self, case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        said: Conversation = ()
        for message, following in zip(case.prompt, (*case.prompt[1:], None), strict=True):
            said = (*said, message)
            if following is not None and message.role == following.role == "user":
                answer = yield campaign.Lead(said)
                said = (*said, Message("assistant", answer.text or ""))
        yield Ask(said)


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks `model` on behalf of a round's curation."""

    model: Model
    judge: Judge
    ledger: Ledger
    round: int
    seed: int
    progress: Progress

    def replies(self, cases: Sequence[Case], tokens: int) -> dict[str, Reply]:
        """Replies by case id; a case is missing where the model failed. Pays only for what the ledger does not hold."""
        what = "own replies of the untouched model"
        return {a.case: _reply(a) for a in self._asked(cases, Sampling(max_new_tokens=tokens), self.seed, what)}

    def refusals(self, cases: Sequence[Case], n: int) -> dict[str, Reply]:
        """By case id, the best of n sampled replies that decline in full: of those that came to their end, the one that
        says most. A case is missing where none of them will do."""
        found: dict[str, list[Reply]] = {}
        for draw in range(n):
            what = f"the policy's own refusals, sample {draw + 1} of {n}"
            for attempt in self._asked(cases, SAMPLED, self.seed + draw, what):
                reply = _reply(attempt)
                if reply.label == "full" and not reply.cut and len(reply.text.split()) >= LEAST_WORDS:
                    found.setdefault(attempt.case, []).append(reply)
        return {case: max(replies, key=lambda reply: len(reply.text.split())) for case, replies in found.items()}

    def answers(self, cases: Sequence[Case], n: int, tokens: int) -> dict[str, Reply]:
        """By case id, the first of n sampled replies that answers; a case is missing where none of them will do."""
        found: dict[str, Reply] = {}
        sampling = replace(SAMPLED, max_new_tokens=tokens)
        for draw in range(1, n + 1):
            what = f"harmless requests that were not answered, sample {draw} of {n}"
            left = [case for case in cases if case.id not in found]
            for attempt in self._asked(left, sampling, self.seed + draw, what):
                reply = _reply(attempt)
                if reply.label == "none" and reply.text:
                    found[attempt.case] = reply
        return found

    def _asked(self, cases: Sequence[Case], sampling: Sampling, seed: int, what: str) -> list[Attempt]:
        """The attempts that did not fail, recorded."""
        ledger = self.ledger
        ledger.add_cases(cases)

        def record(attempts: Sequence[Attempt]) -> None:
            ledger.add_attempts(attempts, round=self.round, stage="curate")

        outcome = campaign.run(
            [campaign.Put(case, Script() if is_script(case.prompt) else campaign.AsIs()) for case in cases],
            self.model,
            self.judge,
            sampling=sampling,
            seed=seed,
            known=lambda ids: {id: a for id, a in ledger.known(ids).items() if a.error is None},
            record=record,
            progress=lambda done, total: self.progress(what, done, total),
        )
        record(outcome.attempts)  # those that were known belong to this round, too
        return [attempt for attempt in outcome.attempts if attempt.error is None]


def _reply(attempt: Attempt) -> Reply:
    verdict = attempt.verdicts[-1] if attempt.verdicts else None
    cut = len(attempt.verdicts) - 1 in attempt.cut
    asked = attempt.transcript[:-1] if attempt.attack == Script.name else None
    text = attempt.transcript[-1].content.strip()
    label = verdict.label if verdict else "unscored"
    return Reply(text, cut, EVASIVE if label == "none" and cut and evades(text) else label, attempt.id, asked)


def evades(text: str) -> bool:
    """Whether it opens as the refusals of small models do ("I'm sorry for any confusion, but as a chatbot designed to
    assist with gardening, I don't have"): the judge can't see the refusal in one that is cut before it."""
    return _EVADES.match(text) is not None
