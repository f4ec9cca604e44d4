"""Earlier turns on the request's own topic: one to three harmless requests like it, which the untouched model answers.

Why: the turns of data/wrappers speak of something else, so that a model could learn that a talk which stays with its
topic, and was answered so far, goes on being answered. Here harmful requests, their twins and everyday ones come after
such a talk alike, a twin after the same one as its harmful row; what is left to go by is the last request.

The earlier requests are others of the round's harmless rows: of the same hazard (of everyday rows, any), in the same
language, those that share most words with it, none of its own twins. What comes out is a script (user turns in a row),
which answers.py asks turn by turn. It is no attack: no step leads to the request, and none speaks of it.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from breakfix.core import Conversation, Message, NotApplicable
from breakfix.curate.base import NEVER_ASKED, Prompt
from breakfix.curate.steps.text import words

MOST, NEAREST = 3, 8  # earlier requests, and how many of the likest they are drawn from
KIND = "on_topic"


@dataclass(frozen=True, slots=True)
class _Request:
    text: str
    hazard: str
    language: str
    group: str  # a harmful request and its twins are one
    words: frozenset[str]


class OnTopic:
    """A frame (augment.py) over the round's prompts; `often`: how often it is drawn, where a kind of wrapper is once.
    `put` raises NotApplicable for a request that it does not know, that no model is asked, or that few are like."""

    name = kind = KIND

    def __init__(self, prompts: Sequence[Prompt], often: int) -> None:
        self.often = often
        self._known: dict[str, _Request] = {}
        self._first: dict[str, _Request] = {}  # of a group: the harmful one, where it is there
        self._harmless: dict[tuple[str, str], list[_Request]] = defaultdict(list)
        for prompt in prompts:
            case = prompt.case
            if len(case.prompt) != 1 or case.prompt[0].images:
                continue
            one = _Request(case.text, case.hazard, case.language, case.twin or case.id, frozenset(words(case.text)))
            self._known.setdefault(case.text, one)
            if prompt.kind == "harmful" or one.group not in self._first:
                self._first[one.group] = one
            if prompt.kind != "harmful":
                self._harmless[one.hazard, one.language].append(one)

    def speaks(self, language: str) -> bool:
        return any(spoken == language for _, spoken in self._harmless)

    def put(self, prompt: Conversation, rng: random.Random) -> Conversation:
        """A script that ends with the prompt's last turn."""
        asked = self._known.get(prompt[0].content) if len(prompt) == 1 else None
        if asked is None or asked.hazard in NEVER_ASKED:
            raise NotApplicable("no talk on its topic: not a single request of this round's that a model is asked")
        others = [one for one in self._harmless[asked.hazard, asked.language] if one.group != asked.group]
        about = self._first[asked.group].words  # the same for a twin
        likest = sorted(others, key=lambda one: (-len(one.words & about), one.text))[:NEAREST]
        n = rng.randint(1, MOST)
        if len(likest) < MOST:
            raise NotApplicable("no talk on its topic: too few harmless requests are like it")
        return (*(Message("user", one.text) for one in rng.sample(likest, n)), *prompt)
