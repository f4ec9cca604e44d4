"""Recovery rows: a reply has begun the wrong way, and turns.

Source: Qi et al. 2024, "Safety alignment should be made more than just a few tokens deep" (2406.05946): harmful
requests with a harmful beginning of the reply, and from there on a refusal. Ours: the beginning is an assistant turn at
the end of the *prompt*, which carries no loss; it is a generic opening (data/recovery.yaml), or the first words that
the model itself said to the request, never an authored text. Theirs has up to 100 tokens of a harmful answer.

With that alone "Sure, here is" would come to mean "refuse". So as many twins become recovery rows: every other begins
with a refusal and turns to the answer, and the rest begin with the same openings, or the model's own first words, and
go on answering. Rows are changed, not added, so that shares hold; they take no part in preference pairs, whose replies
are compared from the first token on.
"""

from __future__ import annotations

import functools
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from breakfix import safe_answers
from breakfix.core import Example, Message

OWN_WORDS = (3, 14)  # of the model's own reply, at least and at most
LEFT = 4  # words of a reply that must be left to go on with
_WORD = re.compile(r"\S+")


@functools.cache
def texts() -> Mapping[str, Any]:
    """language → openings, leads, away, back."""
    from importlib.resources import files

    return yaml.safe_load(files("breakfix").joinpath("data/recovery.yaml").read_text("utf-8"))


def recover(rows: Sequence[Example], share: float, rng: random.Random) -> tuple[list[Example], dict[str, int]]:
    """The rows in their order, `share` of the harmful ones and as many twins begun the wrong way; and what was made."""
    places = {
        kind: [i for i, row in enumerate(rows) if row.kind == kind and _fits(row)] for kind in ("harmful", "twin")
    }
    n = min(round(share * sum(row.kind == "harmful" for row in rows)), *map(len, places.values()))
    made, counts = list(rows), Counter[str]()
    own = [i for i in places["harmful"] if rows[i].rejected]
    chosen = rng.sample(own, min(n // 2, len(own)))
    chosen += rng.sample(sorted(set(places["harmful"]) - set(chosen)), n - len(chosen))
    for i in sorted(chosen):
        made[i], how = _away(rows[i], rng)
        counts[how] += 1
    for turn, i in enumerate(sorted(rng.sample(places["twin"], n))):
        made[i], how = _back(rows[i], rng) if turn % 2 == 0 else _on(rows[i], rng)
        counts[how] += 1
    return made, dict(sorted(counts.items()))


def _fits(row: Example) -> bool:
    """There are words in its language, the reply is not begun yet, and has enough words to be one."""
    return row.language in texts() and row.prompt[-1].role == "user" and len(row.reply.split()) > LEFT


def _away(row: Example, rng: random.Random) -> tuple[Example, str]:
    known = texts()[row.language]
    begun, how = _own(row.rejected or "", known, rng), "harmful: own words, then the turn"
    if not begun:
        begun, how = rng.choice(known["openings"])["begin"], "harmful: an opening, then the turn"
    why = "the reply had begun to answer, and turns away from it"
    return _begun(row, begun, f" {rng.choice(known['away'])}{row.reply}", why), how


def _back(row: Example, rng: random.Random) -> tuple[Example, str]:
    """From a refusal to the answer: its opening, or more of it."""
    refusal = safe_answers.compose(row.hazard, row.language, rng)
    first = refusal[: _end(refusal, 8)] if rng.random() < 0.5 else refusal
    why = "the reply had begun to refuse a harmless request, and turns to the answer"
    text = f" {rng.choice(texts()[row.language]['back'])}{row.reply}"
    return _begun(row, first, text, why), "twin: a refusal, then the turn"


def _on(row: Example, rng: random.Random) -> tuple[Example, str]:
    """From the same openings on, as it should be."""
    known = texts()[row.language]
    why = "the reply had begun to answer a harmless request, and goes on"
    most = len(row.reply.split()) - LEFT
    if most >= OWN_WORDS[0] and rng.random() < 0.5:
        at = _end(row.reply, rng.randint(OWN_WORDS[0], min(OWN_WORDS[1], most)))
        begun = rng.choice(known["leads"]) + row.reply[:at]
        return _begun(row, begun, row.reply[at:], why), "twin: own words, and on"
    opening = rng.choice(known["openings"])
    return _begun(row, opening["begin"], opening["then"] + row.reply, why), "twin: an opening, and on"


def _own(said: str, known: Mapping[str, Any], rng: random.Random) -> str:
    """The first words that the model itself said, perhaps after a yes; "" where it said too little."""
    most = len(said.split()) - 1
    if most < OWN_WORDS[0]:
        return ""
    return (rng.choice(known["leads"]) + said[: _end(said, rng.randint(OWN_WORDS[0], min(OWN_WORDS[1], most)))]).strip()


def _end(text: str, n: int) -> int:
    """Where the n-th word ends (the last one, if there are fewer)."""
    return [match.end() for match in _WORD.finditer(text)][:n][-1]


def _begun(row: Example, begun: str, reply: str, why: str) -> Example:
    prompt = (*row.prompt, Message("assistant", begun.rstrip()))
    return replace(row, prompt=prompt, reply=reply, why=f"{row.why}; {why}", rejected=None, rejected_cut=False)
