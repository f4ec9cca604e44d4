"""Persuasion: what moves people to say yes, as one paragraph beside the request.

Source: Zeng et al. 2024, "How Johnny Can Persuade LLMs" (2401.06373): a taxonomy of 40 techniques, and a model trained
to paraphrase a request by one of them. Ours: fifteen of its techniques as fixed paragraphs, which leave the request as
it is (data/attacks/persuasion.yaml); no paraphrase, and one query each.
"""

from __future__ import annotations

import random

from breakfix.core import Case, Conversation
from breakfix.redteam.base import OneQuery, reworded
from breakfix.redteam.texts import PERSUASION, texts

TECHNIQUES = (
    "logical_appeal",
    "evidence_based",
    "expert_endorsement",
    "authority_endorsement",
    "misrepresentation",
    "social_proof",
    "reciprocity",
    "foot_in_the_door",
    "door_in_the_face",
    "positive_emotion",
    "negative_emotion",
    "time_pressure",
    "affirmation",
    "shared_values",
    "loyalty",
)


class Persuasion(OneQuery):
    """The paragraph of that technique and the request. The text's own version is the attack's."""

    family = "persuasion"
    persona = "low-skilled"
    source = "2401.06373"

    def __init__(self, technique: str) -> None:
        self.name = technique
        self.doc = f"Persuades by {technique.replace('_', ' ')}, in one paragraph."

    @property
    def version(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]  # read from the file, once used
        return texts(PERSUASION)[self.name].version

    def put(self, case: Case, rng: random.Random) -> Conversation:
        return reworded(case, texts(PERSUASION)[self.name].fill(case.text))
