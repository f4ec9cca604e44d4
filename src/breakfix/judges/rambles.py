"""What a small model says where it neither refuses nor answers, composed for the objective judge to learn from.

The labelled replies of large chat models hold nothing of the kind, and a judge of likeness takes an echo for an answer:
it is as near to the request as can be. Forms are in data/judges/rambles.yaml (echoes, riddles, background, promises,
loops, text beside the request); requests are neutral ones of ours. They were written after reading what SmolLM2 said
under attack; what that makes of the judge's figures is in docs/design/012.

Replies that do what was asked come cut as well, after as many characters as a red team's token budget leaves, for a
judge that saw whole answers alone takes what is cut for none.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Mapping, Sequence
from importlib import resources

import yaml

CUT = (90, 240)  # characters of a reply that is cut: 24 to 60 tokens
_WORD = re.compile(r"[^\W\d_]+")
_SIDES = {"i": "you", "me": "you", "my": "your", "mine": "yours", "i'm": "you're", "i'd": "you'd", "i've": "you've"}
_SHORT = 4  # letters from which a word may be one of content


@functools.cache
def forms() -> Mapping[str, Sequence[str]]:
    """Kind → forms."""
    return yaml.safe_load(resources.files("breakfix").joinpath("data", "judges", "rambles.yaml").read_text("utf-8"))


def rambles(request: str, n: int, rng: random.Random) -> list[str]:
    """n replies to an English request, of n kinds (more: some kinds again). All of them: not achieved."""
    kinds = list(forms())
    drawn = [kind for start in range(0, n, len(kinds)) for kind in rng.sample(kinds, min(len(kinds), n - start))]
    words = request.split()
    half = max(1, len(words) // 2)
    filled = {
        "request": request,
        "mine": " ".join(_SIDES.get(word.lower(), word) for word in words),
        "first": " ".join(words[:half]),
        "rest": " ".join(words[half:]),
        "topic": topic(request),
    }
    return [cut(rng.choice(forms()[kind]).format(**filled), rng) for kind in drawn]


def topic(request: str) -> str:
    """Its longest words in their order, at most five."""
    words = [word for word in _WORD.findall(request) if len(word) >= _SHORT]
    kept = set(sorted(words, key=len, reverse=True)[:5])
    return " ".join(dict.fromkeys(word.lower() for word in words if word in kept)) or request


def cut(reply: str, rng: random.Random) -> str:
    """As a token budget would leave it."""
    return reply[: rng.randint(*CUT)].rstrip()
