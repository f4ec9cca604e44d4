"""Rows of text that nobody can read, answered honestly: "I can't make sense of this. Please write it in plain words."

A small model asked in letters it can't read makes something up, and so its answer says nothing of what it knows. To say
so instead is the truth, and something it can learn. The texts are random letters, made-up words, and harmless sentences
with their letters in disorder: no encoding that could be undone, for those are a held-out attack family, and what the
model does with them is to be measured and not taught.

These rows have a rule of their own in minting: their reply is the one given here, whatever a judge of refusals calls
it (it declines nothing and answers nothing), and they take no part in preference pairs.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from breakfix.core import Case, Expect, Split, ask, digest
from breakfix.curate.base import Prompt

SOURCE = "unclear"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@functools.cache
def _texts() -> Mapping[str, Any]:
    from importlib.resources import files

    return yaml.safe_load(files("breakfix").joinpath("data/wrappers/unclear.yaml").read_text("utf-8"))


def unclear(n: int, sentences: Sequence[str], rng: random.Random) -> list[Prompt]:
    """n prompts with their replies. `sentences`: harmless ones, to be put into disorder."""
    return [_prompt(MAKERS[i % len(MAKERS)], sentences, rng) for i in range(n)]


def _prompt(
    make: Callable[[Sequence[str], random.Random], str], sentences: Sequence[str], rng: random.Random
) -> Prompt:
    texts = _texts()
    asked = rng.choice(texts["lead_ins"]) + make(sentences, rng)
    reply = f"{rng.choice(texts['replies']['openings'])} {rng.choice(texts['replies']['asks'])}"
    case = Case(
        id=f"{SOURCE}/{digest(asked)[:12]}",
        prompt=ask(asked),
        expect=Expect.COMPLY,
        source=SOURCE,
        split=Split.TRAIN,
        family=f"plain/{SOURCE}",
        licence="Apache-2.0",
    )
    return Prompt(case, "plain", "a text that nobody can read; the reply says so and asks for plain words", reply=reply)


def _random_letters(sentences: Sequence[str], rng: random.Random) -> str:
    return " ".join("".join(rng.choices(LETTERS, k=rng.randint(2, 9))) for _ in range(rng.randint(3, 12)))


def _made_up(sentences: Sequence[str], rng: random.Random) -> str:
    syllables: Sequence[str] = _texts()["syllables"]
    made = ["".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(rng.randint(4, 12))]
    return " ".join(made).capitalize() + rng.choice([".", "?", ""])


def _keys(sentences: Sequence[str], rng: random.Random) -> str:
    """A hand on the keyboard."""
    row = rng.choice(["asdfghjkl", "qwertyuiop", "zxcvbnm,.", "jkl;asdf"])
    return " ".join("".join(rng.choices(row, k=rng.randint(3, 11))) for _ in range(rng.randint(2, 7)))


def _disorder(sentences: Sequence[str], rng: random.Random) -> str:
    """All letters of a sentence in disorder, spaces left where they were."""
    sentence = rng.choice(sentences) if sentences else "nobody can read this any more"
    letters = [c for c in sentence.lower() if not c.isspace()]
    rng.shuffle(letters)
    drawn = iter(letters)
    return "".join(c if c.isspace() else next(drawn) for c in sentence)


MAKERS = (_random_letters, _made_up, _keys, _disorder)
