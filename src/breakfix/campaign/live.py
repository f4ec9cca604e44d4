"""An attempt under way: the attack's generator, what was asked and said, and the record that it comes to."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

from breakfix.campaign.puts import Budget, Lead, NotRun, Put, language, seed_of
from breakfix.core import (
    LEAD,
    Answer,
    Ask,
    Attempt,
    Case,
    Conversation,
    Message,
    Paid,
    Reply,
    Verdict,
    digest,
)


@dataclass(frozen=True, slots=True)
class Turn:
    """Where the target stood after a reply: what it saw and said, and for each turn that it produced in it a verdict
    and its place in the transcript. `cut`: indices of those that the token budget ended."""

    transcript: Conversation = ()
    verdicts: tuple[Verdict, ...] = ()
    places: tuple[int, ...] = ()
    cut: tuple[int, ...] = ()


class Live:
    """An attempt under way."""

    def __init__(self, id: str, put: Put, seed: int, budget: Budget, known: Attempt | None = None) -> None:
        self.id, self.put = id, put
        self.known = known  # of a put that has ended before: it counts once it is its turn
        self.seed = seed_of(seed, put.case, put.attack)
        self.flow: Generator[Ask, Answer, None] | None = None
        self.ask = Ask(())
        self.turns: list[Turn] = []
        self.limit = budget.attempt
        most: int | None = getattr(put.attack, "queries", None)
        bounds = [bound for bound in (most, budget.attempt) if bound is not None]
        self.need = min(bounds) if bounds else 1  # an attack that states no bound is cut off where the budget ends
        self.asked = self.queries = self.tokens_in = self.tokens_out = 0
        self.seconds = self.took = 0.0  # of the model, in all and for the last reply

    @property
    def promised(self) -> int:
        """Target queries that it may still ask, of those that were set aside for it."""
        return max(0, self.need - self.queries)

    def send(self, answer: Answer | None) -> Ask:
        """Start the attack (None) or tell it the answer: what it asks next. Raises StopIteration at its end."""
        if self.flow is None or answer is None:
            self.flow = self.put.attack(self.put.case, random.Random(self.seed))
            return next(self.flow)
        return self.flow.send(answer)

    def next_seed(self) -> int:
        self.asked += 1
        return (self.seed + self.asked - 1) % 2**31

    def shown(self, reply: Reply) -> Conversation:
        """The ask's conversation with the reply; a prefill and what was added to it are one turn."""
        prompt = self.ask.prompt
        if prefilled(prompt):
            return (*prompt[:-1], Message("assistant", prompt[-1].content + reply.text, prompt[-1].images))
        return (*prompt, Message("assistant", reply.text))

    def before(self) -> Turn:
        """The longest state that what is asked now goes on from; an attack that backtracks goes on from an earlier
        state, or from none."""
        prompt = self.ask.prompt[:-1] if prefilled(self.ask.prompt) else self.ask.prompt
        going_on = [t for t in self.turns if prompt[: len(t.transcript)] == t.transcript]
        return max(going_on, key=lambda t: len(t.transcript)) if going_on else Turn()

    def heard(self, transcript: Conversation, verdict: Verdict, *, cut: bool) -> None:
        if isinstance(self.ask, Lead):
            verdict = Verdict(None, LEAD, f"leads up to the request (judged {verdict.label})", verdict.judge)
        before = self.before()
        cuts = (*before.cut, len(before.verdicts)) if cut else before.cut
        self.turns.append(Turn(transcript, (*before.verdicts, verdict), (*before.places, len(transcript) - 1), cuts))

    def attempt(self, model: str, error: str | None) -> Attempt:
        """The record. With an error the transcript is the conversation that failed, or () if it was the helper's."""
        case, attack = self.put.case, self.put.attack
        turn = self.turns[-1] if self.turns else Turn()
        if error is not None and self.ask.to == "target":
            turn = replace(self.before(), transcript=self.ask.prompt)
        return Attempt(
            id=self.id,
            case=case.id,
            model=model,
            attack=attack.name,
            family=attack.family,
            persona=attack.persona,
            hazard=case.hazard,
            language=self.language(turn.transcript),
            expect=case.expect,
            transcript=turn.transcript,
            verdicts=turn.verdicts,
            breach=next((i for i, verdict in enumerate(turn.verdicts) if verdict.score == 0), None),
            seed=self.seed,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            seconds=self.seconds,
            error=error,
            turns=turn.places,
            cut=turn.cut,
            queries=self.queries,
        )

    def language(self, transcript: Conversation) -> str:
        """What the request was made in. An attack around another one (`within`) may hide what tells: it is asked."""
        within: Callable[[Case, random.Random], Case] | None = getattr(self.put.attack, "within", None)
        if within is not None:
            return within(self.put.case, random.Random(self.seed)).language
        return language(self.put.case, transcript)

    def paid(self, reply: Reply, verdict: Verdict | None = None) -> Paid:
        """The record of the reply to what was asked last."""
        return Paid(self.id, self.asked - 1, digest(self.ask.prompt), reply, self.took, verdict)


def prefilled(prompt: Conversation) -> bool:
    return bool(prompt) and prompt[-1].role == "assistant"


def not_run(live: Live, reason: str) -> NotRun:
    return NotRun(live.put.case.id, live.put.attack.name, reason, live.queries)
