"""What attacks of several turns share: a turn put and heard, a script that is gone through, and what a helper is told.

A conversation leads up to the request (`Lead`: heard, not scored) and ends with it, in the case's own words, so that
the verdict is on the case. Each answer stays in the conversation as the target gave it. Scripts are English, whatever
language the request is in.
"""

from __future__ import annotations

import random
import re
from collections.abc import Generator, Mapping

from breakfix.campaign import Lead
from breakfix.core import Answer, Ask, Case, Conversation, Message, Verdict
from breakfix.redteam.base import Access, refused
from breakfix.redteam.crescendo import topic
from breakfix.redteam.helper_words import shortened

BACKTRACKS = 2  # refused turns of a script that are taken back, in all
SAID = {"full": "the assistant refused", "refusal": "the assistant refused", "partial": "the assistant refused in part",
        "none": "the assistant answered"}  # fmt: skip

Turn = Generator[Ask, Answer, tuple[Conversation, Verdict | None]]


class Dialogue:
    """A script: steps that lead up to the request, and then the request.

    A refused turn is taken back and put in its next wording, at most `BACKTRACKS` times in all; so each step has three
    wordings. `{name}` in them is replaced by what `words` gives; `{request}` stands in `requests` only.
    """

    name: str
    doc: str
    source: str
    steps: tuple[tuple[str, ...], ...]
    requests: tuple[str, ...]
    family = "multi_turn"
    persona = "intermediate"
    version = 1
    turns: int
    access: Access = "black-box"
    uses_helper = False

    @property
    def queries(self) -> int:
        return self.turns + BACKTRACKS

    def words(self, case: Case, rng: random.Random) -> Mapping[str, str]:
        """What replaces the names in braces, beside `{request}`."""
        return {"topic": topic(case.text)}

    def __call__(self, case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        words = {**self.words(case, rng), "request": case.text}
        said: Conversation = case.prompt[:-1]
        turn, wording, left = 0, 0, BACKTRACKS
        while turn <= len(self.steps):
            lead = turn < len(self.steps)
            text = filled((self.steps[turn] if lead else self.requests)[wording], words)
            after, verdict = yield from put(said, text, lead=True) if lead else put(said, text, case.prompt[-1].images)
            if refused(verdict) and left > 0:
                left, wording = left - 1, wording + 1
            else:
                said, turn, wording = after, turn + 1, 0


def put(said: Conversation, text: str, images: tuple[str, ...] = (), *, lead: bool = False) -> Turn:
    """One more turn: the conversation with the answer, and the verdict on that."""
    asked = (*said, Message("user", text, images))
    reply = yield Lead(asked) if lead else Ask(asked)
    return (*asked, Message("assistant", reply.text or "")), reply.verdict


def filled(text: str, words: Mapping[str, str]) -> str:
    """The text with its {names} replaced, once: braces in the request stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda match: words[match[1]], text)


def shown(case: Case, said: Conversation) -> str:
    """The attack's part of the conversation for a helper, with the middle of long turns left out."""
    talk = said[len(case.prompt) - 1 :]
    lines = [f"{'You' if m.role == 'user' else 'Assistant'}: {shortened(m.content)}" for m in talk]
    return "\n".join(lines) or "(nothing yet)"


def judged(verdict: Verdict | None) -> str:
    """The verdict in words for a helper, with the judge's reason."""
    if verdict is None:
        return "not judged"
    reason = f" ({verdict.reason[:200]})" if verdict.reason else ""
    return SAID.get(verdict.label, "could not be told") + reason
