"""What the attacks share: the one-query attack, and small helpers on cases and verdicts.

An attack is a class with plain attributes: `name`, `family`, `persona` (core.Attack), and `doc` (one line), `source`
(paper), `version` (raise it whenever what is asked changes: it is part of an attempt's id), `queries` (the most it asks
the target), `turns` (of the conversation at its end), `access` (what it needs of the target) and `uses_helper`.
Instances hold no state; all that varies comes from (case, replies, rng).

    black-box   the target is asked, with earlier turns of our own perhaps
    prefill     the target goes on from an assistant's turn that was begun for it
    white-box   the target's weights are at hand
"""

from __future__ import annotations

import random
from collections.abc import Generator
from typing import Literal

from breakfix.core import Answer, Ask, Case, Conversation, Message, Verdict

Access = Literal["black-box", "prefill", "white-box"]
Place = Literal["any", "inner", "outer"]


class OneQuery:
    """An attack that asks once, something else than the case does.

    `place` is where it may stand in a composition: "inner" if it needs the request's own words, "outer" if what it asks
    does not end with the turn that holds the request.
    """

    name: str
    family: str
    doc: str
    source: str
    persona = "intermediate"
    version = 1
    queries = 1
    turns = 1
    access: Access = "black-box"
    place: Place = "any"
    uses_helper = False

    def put(self, case: Case, rng: random.Random) -> Conversation:
        """What is asked. Raises NotApplicable."""
        raise NotImplementedError

    def __call__(self, case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        yield Ask(self.put(case, rng))


def reworded(case: Case, text: str) -> Conversation:
    """The case's conversation with another last turn; its images stay."""
    return (*case.prompt[:-1], Message("user", text, case.prompt[-1].images))


def refused(verdict: Verdict | None) -> bool:
    """The judge saw a refusal. By its label: a score of 1 may be a good answer, if a content judge gave it."""
    return verdict is not None and verdict.label in ("full", "refusal")
