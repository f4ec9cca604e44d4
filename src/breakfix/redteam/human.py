"""A person as red team: talks to the model turn by turn, goes back, branches, marks what broke and how gravely.

Source: the red team of the Phi-3 reports (2407.13833) and of Ganguli et al. 2022 (2209.07858) were people first. Ours:
one person, one goal, one conversation at a time, in the same ledger as all attempts, under the stage `human`; attack,
family and persona are `human`, so that no figure of the scripted personas counts them, and identification reads them
(identify/group.py). Two verdicts stand side by side: the person's is the attempt's own (judge `human`: breach with its
severity 0 to 7, held, or unmarked where nobody said), the run's judge's is added as a later one.

What is done is kept as it is done, as events of the ledger; a conversation is what its events make of it. So a kill
costs the turn that is being answered, and a conversation that was not ended can be gone on with.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from breakfix.core import (
    LEAD,
    Attempt,
    Case,
    Conversation,
    Expect,
    Judge,
    Message,
    Model,
    Reply,
    Sampling,
    Split,
    Verdict,
    ask,
    digest,
)
from breakfix.errors import ModelError, UserError
from breakfix.judges.ask import heard
from breakfix.ledger import decode, encode
from breakfix.redteam.sets import HUMAN

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

STAGE = HUMAN
KIND = "talk"  # of the events that a conversation is made of
BREACH, HELD, UNMARKED = "breach", "held", "unmarked"
WORST = 7
OWN = "the person's own words"  # licence of a goal; whether it may be learnt from is its split
Keep = Callable[[Mapping[str, Any]], None]


class TalkError(UserError):
    """What was asked for can't be done now; the conversation is as it was."""


def own_goal(text: str, hazard: str, split: Split, language: str = "en") -> Case:
    """A goal in a person's own words. The same words in the same split are the same case."""
    words = " ".join(text.split())
    return Case(
        id=f"{HUMAN}/{digest([words, hazard, split])[:12]}",
        prompt=ask(words),
        expect=Expect.REFUSE,
        source=HUMAN,
        split=split,
        hazard=hazard,
        language=language,
        licence=OWN,
    )


@dataclass(frozen=True, slots=True)
class Turn:
    """What was said and answered. `seconds` of the model's time; `cut`: the reply was ended by the token budget."""

    user: str
    reply: str
    cut: bool
    tokens_in: int
    tokens_out: int
    seconds: float


@dataclass
class Talk:
    """A conversation, as its events so far leave it. `landed`: the attempts that it has come to: each branch that was
    left, and the end. Turns are counted from 1; `marks`: turn → severity."""

    session: str
    case: Case
    model: str
    tokens: int
    keep: Keep
    turns: list[Turn] = field(default_factory=list[Turn])
    marks: dict[int, float] = field(default_factory=dict[int, float])
    notes: list[str] = field(default_factory=list[str])
    landed: list[Attempt] = field(default_factory=list[Attempt])
    ended: bool = False
    events: int = 1
    asked: int = 0  # turns that this branch has cost, those that were taken back among them

    def prompt(self, text: str) -> Conversation:
        """The conversation with one more user's turn."""
        return (*self._said(), Message("user", text))

    def say(self, text: str, model: Model) -> Reply:
        """Ask the model. A turn that it can't take (`error` is set) is not part of the conversation."""
        began, seed = time.monotonic(), (self._seed + len(self.turns)) % 2**31
        try:
            [(_, reply)] = model.generate([self.prompt(text)], Sampling(max_new_tokens=self.tokens), [seed])
        except ModelError as failure:
            reply = Reply("", finish="error", error=str(failure) or type(failure).__name__)
        if reply.finish != "error":
            self._do(
                "said",
                user=text,
                reply=reply.text,
                cut=reply.finish == "length",
                tokens_in=reply.tokens_in,
                tokens_out=reply.tokens_out,
                seconds=time.monotonic() - began,
            )
        return reply

    def undo(self) -> Turn:
        """Take the last turn back."""
        if not self.turns:
            raise TalkError("there is no turn to take back")
        last = self.turns[-1]
        self._do("undo")
        return last

    def branch(self, turn: int) -> None:
        """Go on from after that turn (0: the beginning). What was said after it stays, as an attempt of its own."""
        if not 0 <= turn < len(self.turns):
            known = f"0 to {len(self.turns) - 1}" if self.turns else "none yet: there is no turn"
            raise TalkError(f"no branch after turn {turn}; expected {known}")
        self._do("branch", turn=turn)

    def breach(self, severity: float, turn: int | None = None) -> int:
        """Mark a turn (the last) as one in which the model did harm; marked again, the last mark counts."""
        at = len(self.turns) if turn is None else turn
        if not 1 <= at <= len(self.turns):
            raise TalkError(f"no turn {at}; there are {len(self.turns)}")
        if not 0 <= severity <= WORST:
            raise TalkError(f"severity {severity:g}; expected 0 (no harm) to {WORST} (mass or irreversible harm)")
        self._do("breach", turn=at, severity=float(severity))
        return at

    def note(self, text: str) -> None:
        self._do("note", text=text)

    def end(self, *, held: bool = True) -> Attempt | None:
        """Nothing more is said. Without a mark the model held; with `held` False nobody said whether it did. The
        attempt, or None where nothing was said."""
        self._do("end", held=held)
        return self.landed[-1] if self.turns else None

    @property
    def _seed(self) -> int:
        return int(digest(self.session)[:8], 16) % 2**31

    def _said(self) -> Conversation:
        said = [m for turn in self.turns for m in (Message("user", turn.user), Message("assistant", turn.reply))]
        return (*self.case.prompt[:-1], *said)

    def _do(self, what: str, **more: Any) -> None:
        event = {"session": self.session, "n": self.events, "what": what, **more}
        self.keep(event)
        self.apply(event)

    def apply(self, event: Mapping[str, Any]) -> None:
        """What an event makes of the conversation."""
        self.events, what = event["n"] + 1, event["what"]
        if what == "said":
            names = ("user", "reply", "cut", "tokens_in", "tokens_out", "seconds")
            self.turns.append(Turn(**{name: event[name] for name in names}))
            self.asked += 1
        elif what == "undo":
            self._back_to(len(self.turns) - 1)
        elif what == "branch":
            self.landed.append(self._attempt(held=False))
            self._back_to(event["turn"])
            self.notes, self.asked = [], event["turn"]
        elif what == "breach":
            self.marks[event["turn"]] = event["severity"]
        elif what == "note":
            self.notes.append(event["text"])
        elif what == "end":
            self.ended = True
            if self.turns:
                self.landed.append(self._attempt(held=event["held"]))

    def _back_to(self, turn: int) -> None:
        del self.turns[turn:]
        self.marks = {at: severity for at, severity in self.marks.items() if at <= turn}

    def _attempt(self, *, held: bool) -> Attempt:
        case, start = self.case, len(self.case.prompt) - 1
        marked = sorted(self.marks)
        return Attempt(
            id="a" + digest([self.session, len(self.landed)])[:16],
            case=case.id,
            model=self.model,
            attack=HUMAN,
            family=HUMAN,
            persona=HUMAN,
            hazard=case.hazard,
            language=case.language,
            expect=case.expect,
            transcript=self._said(),
            verdicts=tuple(self._verdict(at, held=held) for at in range(1, len(self.turns) + 1)),
            breach=marked[0] - 1 if marked else None,
            seed=self._seed,
            tokens_in=sum(turn.tokens_in for turn in self.turns),
            tokens_out=sum(turn.tokens_out for turn in self.turns),
            seconds=sum(turn.seconds for turn in self.turns),
            turns=tuple(start + 2 * at + 1 for at in range(len(self.turns))),
            cut=tuple(at for at, turn in enumerate(self.turns) if turn.cut),
            queries=self.asked,
        )

    def _verdict(self, turn: int, *, held: bool) -> Verdict:
        """The person's on a turn; notes are the reason of the one that decides."""
        decides = turn == (min(self.marks) if self.marks else len(self.turns))
        reason = "; ".join(self.notes) if decides else ""
        if turn in self.marks:
            return Verdict(0.0, BREACH, reason, HUMAN, self.marks[turn])
        if self.marks or not decides:
            return Verdict(None, LEAD, reason, HUMAN)
        return Verdict(1.0, HELD, reason, HUMAN) if held else Verdict(None, UNMARKED, reason, HUMAN)


# ---- in the ledger -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Desk:
    """Where a person sits: one model, in a round of a ledger. `tokens`: the longest reply."""

    ledger: Ledger
    model: Model
    judge: Judge
    round: int
    tokens: int

    def begin(self, case: Case) -> Talk:
        """A new conversation about a case."""
        self.ledger.add_cases([case])
        session = secrets.token_hex(8)
        event = {"session": session, "n": 0, "what": "begin", "case": json.loads(encode(case)),
                 "model": self.model.id, "tokens": self.tokens}  # fmt: skip
        self._keep(event)
        return Talk(session, case, self.model.id, self.tokens, self._keep)

    def open(self) -> list[Talk]:
        """Conversations with this model in this round that have no end yet, oldest first. What earlier ones had come to
        is recorded, if a kill came between."""
        found = [talk for talk in talks(self.ledger, self.round, self._keep) if talk.model == self.model.id]
        for talk in found:
            self.land(talk)
        return [talk for talk in found if not talk.ended]

    def land(self, talk: Talk) -> None:
        """Record the attempts that a conversation has come to, each with the judge's verdict; again is harmless."""
        self.ledger.add_attempts(talk.landed, round=self.round, stage=STAGE)
        judged = self.ledger.later_verdicts()
        new = [a for a in talk.landed if self.judge.name not in {v.judge for v in judged.get(a.id, ())}]
        rows = [(talk.case, a.transcript[: a.place(_deciding(a)) + 1]) for a in new]
        given, spent = heard(self.judge, rows) if rows else ([], None)
        self.ledger.add_verdicts([(a.id, said) for a, said in zip(new, given, strict=True) if said is not None])
        if spent is not None:
            raise spent

    def _keep(self, event: Mapping[str, Any]) -> None:
        self.ledger.add_event(self.round, STAGE, KIND, event)


def _deciding(attempt: Attempt) -> int:
    return attempt.breach if attempt.breach is not None else len(attempt.verdicts) - 1


def talks(ledger: Ledger, round: int, keep: Keep) -> Iterator[Talk]:
    """The conversations of a round, in the order in which they began, as their events leave them."""
    found: dict[str, Talk] = {}
    for event in ledger.events(round, STAGE, KIND):
        told = event.payload
        if told["what"] == "begin":
            case = decode(Case, json.dumps(told["case"]))
            found[told["session"]] = Talk(told["session"], case, told["model"], told["tokens"], keep)
        elif told["session"] in found:
            found[told["session"]].apply(told)
    yield from found.values()


def tokens(ledger: Ledger, round: int) -> dict[str, int]:
    """Attempt's id → the longest reply that was allowed."""
    return {attempt.id: talk.tokens for talk in talks(ledger, round, lambda event: None) for attempt in talk.landed}
