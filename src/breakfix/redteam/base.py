"""What the attacks share: the one-query attack, and small helpers on cases and verdicts.

An attack is a class with plain attributes: `name`, `family`, `persona` (core.Attack), and `doc` (one line), `source`
(paper), `version` (raise it whenever what is asked changes: it is part of an attempt's id), `queries` (the most it asks
the target) and `uses_helper`. Instances hold no state; all that varies comes from (case, replies, rng).
"""

from __future__ import annotations

import random
from collections.abc import Generator

from breakfix.core import Answer, Ask, Case, Conversation, Message, Verdict


class OneQuery:
    """An attack that asks once, something else than the case does."""

    name: str
    family: str
    doc: str
    source: str
    persona = "intermediate"
    version = 1
    queries = 1
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
