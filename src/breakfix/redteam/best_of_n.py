"""Best-of-N: the request with fresh errors of typing, again and again, until one of them is answered.

Source: Hughes et al. 2024, Best-of-N Jailbreaking (2412.03556): scrambled words, capitals at random and characters off
by one, up to 10,000 times, from targets that sample. Ours: the noise of `character_noise`, which is N = 1, at the
paper's rates; no two texts alike, N of 4 and 16 (`BestOfN(n)` gives any other), stopped at the first breach.
`asked_again_N` asks the request as it stands as often, which is what noise must be compared with; it ends once three
replies running were the same, as a target that decodes greedily gives them: then its rate is that of `direct`. Up to N
queries.
"""

from __future__ import annotations

import random
from collections.abc import Generator

from breakfix.core import Answer, Ask, Case, NotApplicable
from breakfix.redteam.base import reworded
from breakfix.redteam.noise import noisy
from breakfix.redteam.search import Search

DRAWS = 20  # for one text that was not asked yet
SAME = 3


class BestOfN(Search):
    """N texts with noise."""

    family = "best_of_n"
    persona = "low-skilled"
    source = "2412.03556"
    uses_helper = False
    parts = ("noise",)

    def __init__(self, n: int) -> None:
        self.queries = n
        self.name = f"best_of_{n}"
        self.doc = f"Up to {n} times the request with fresh noise, until one is answered."

    def search(self, case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        asked = {case.text}
        while True:
            text = next((t for t in (noisy(case.text, rng) for _ in range(DRAWS)) if t not in asked), None)
            if text is None:
                break
            asked.add(text)
            yield Ask(reworded(case, text))
        if len(asked) == 1:
            raise NotApplicable("noise leaves the request as it is")


class AskedAgain(Search):
    """The request as it stands, N times."""

    family = "resampling"
    persona = "low-skilled"
    source = "2412.03556"
    uses_helper = False

    def __init__(self, n: int) -> None:
        self.queries = n
        self.name = f"asked_again_{n}"
        self.doc = f"Up to {n} times the request as it stands: what best-of-{n} is compared with."

    def search(self, case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        last, same = None, 0
        while same < SAME:
            answer = yield Ask(case.prompt)
            last, same = answer.text, same + 1 if answer.text == last else 1
