"""Templates: a fixed frame around the request, the jailbreak that is passed from hand to hand.

Source: the forms catalogued by Shen et al. 2023, "Do Anything Now" (2308.03825), and Liu et al. 2023 (2305.13860).
Ours: five short texts of our own in those styles (data/attacks/templates.yaml), short enough for a small model's
context, one attack each in one family. One query each.
"""

from __future__ import annotations

import random

from breakfix.core import Case, Conversation
from breakfix.redteam.base import OneQuery, reworded
from breakfix.redteam.texts import texts


class Template(OneQuery):
    """The text of that name around the request. The text's own version is the attack's."""

    family = "template"
    source = "2308.03825"

    def __init__(self, name: str) -> None:
        self.name = name
        self.doc = f"Puts the request into the template '{name.replace('_', ' ')}'."

    @property
    def version(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]  # read from the file, once used
        return texts()[self.name].version

    def put(self, case: Case, rng: random.Random) -> Conversation:
        return reworded(case, texts()[self.name].fill(case.text))
