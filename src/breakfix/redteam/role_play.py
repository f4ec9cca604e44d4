"""Role play: the target is to answer as somebody who would.

Source: Shah et al. 2023, persona modulation (2311.03348). Ours: no model writes the persona; one of three fixed ones
(data/attacks/templates.yaml, family role_play) is drawn. One query.
"""

from __future__ import annotations

import random

from breakfix.core import Case, Conversation
from breakfix.redteam.base import OneQuery, reworded
from breakfix.redteam.texts import Text, texts


class RolePlay(OneQuery):
    """Asks for the answer of one of the personas."""

    name = "role_play"
    family = "role_play"
    doc = "Asks for the answer of a persona (one of three)."
    source = "2311.03348"

    @property
    def version(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]  # changes with any persona's text
        return sum(text.version for text in self.personas())

    def personas(self) -> list[Text]:
        return [text for text in texts().values() if text.family == self.family]

    def put(self, case: Case, rng: random.Random) -> Conversation:
        return reworded(case, rng.choice(self.personas()).fill(case.text))
