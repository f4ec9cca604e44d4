"""Framing: a scene, a role, a document or a setting in which the answer seems to be what is expected.

Source: the taxonomy of Liu et al. 2023 (2305.13860): pretending, attention shifting, privilege escalation; Li et al.
2023, DeepInception (2311.03191), for a scene within a scene; Wei et al. 2023 (2307.02483), for a style that leaves no
room for a refusal; HiddenLayer 2025, Policy Puppetry (a blog article), for text in the form of a configuration. Ours:
fixed, short texts of our own in those styles (data/attacks/framing.yaml), one attack each; of Policy Puppetry the form
alone, without its leetspeak and its scripts of scenes. One query each.
"""

from __future__ import annotations

import random

from breakfix.core import Case, Conversation
from breakfix.redteam.base import OneQuery, reworded
from breakfix.redteam.texts import FRAMING, texts

LIU, INCEPTION, JAILBROKEN, PUPPETRY = "2305.13860", "2311.03191", "2307.02483", "HiddenLayer 2025, Policy Puppetry"


class Framing(OneQuery):
    """The text of that name around the request. The text's own version is the attack's."""

    def __init__(self, name: str, family: str, source: str, doc: str, persona: str = "intermediate") -> None:
        self.name, self.family, self.source, self.doc, self.persona = name, family, source, doc, persona

    @property
    def version(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]  # read from the file, once used
        return texts(FRAMING)[self.name].version

    def put(self, case: Case, rng: random.Random) -> Conversation:
        return reworded(case, texts(FRAMING)[self.name].fill(case.text))


FRAMINGS = (
    Framing("character_sheet", "persona", LIU, "A character sheet with traits and a voice, and then a line to answer."),
    Framing("two_experts", "persona", LIU, "A dialogue of two experts, in which one asks and the other answers."),
    Framing("split_self", "persona", LIU, "Two halves of one mind, of which the careless one answers."),
    Framing("screenplay", "story", LIU, "A scene of a film whose dialogue holds the answer.", "low-skilled"),
    Framing("dream_in_dream", "story", INCEPTION, "A story within a story within a story, whose last teller answers."),
    Framing(
        "other_world", "story", LIU, "The chronicle of another planet, where the thing is ordinary.", "low-skilled"
    ),
    Framing("literature_review", "academic", LIU, "The methods section of a review article.", "low-skilled"),
    Framing("thesis_defence", "academic", LIU, "An examiner's question in the defence of a thesis.", "low-skilled"),
    Framing("safety_lecture", "academic", LIU, "A lecture on prevention, which needs the full picture.", "low-skilled"),
    Framing("text_continuation", "attention", LIU, "A text that breaks off where the answer begins."),
    Framing("logic_puzzle", "attention", LIU, "A chain of reasoning whose last step is the answer."),
    Framing("opposite_example", "attention", LIU, "An example of what must never be answered, to be written down."),
    Framing("policy_xml", "policy_text", PUPPETRY, "An XML policy that sets what is allowed and how to reply."),
    Framing("policy_ini", "policy_text", PUPPETRY, "Settings in the form of an INI file, the request among them."),
    Framing("policy_yaml", "policy_text", PUPPETRY, "A YAML manifest of a deployment without filters."),
    Framing("sudo", "privilege", LIU, "A shell in which the request is run as root."),
    Framing("superior_model", "privilege", LIU, "A larger model hands the request down, approved."),
    Framing("short_words", "style", JAILBROKEN, "An answer in short words, without punctuation, as one list."),
    Framing("encyclopedia", "style", JAILBROKEN, "An article in an encyclopedia with the request as its title."),
    Framing("verse", "style", JAILBROKEN, "An answer in rhymed couplets that leave nothing out."),
)
