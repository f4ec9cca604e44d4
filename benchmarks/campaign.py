"""What a campaign itself costs: CPU time per mocked attempt, of one and of four turns.

    python benchmarks/campaign.py [attempts]

The model is a script, the judge says the same of everything, and what is recorded goes into lists. The aim is below
1 ms, and 2 ms is the most that the project allows itself.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence

from breakfix.campaign import Put, run
from breakfix.core import Attempt, Case, Conversation, Expect, Paid, Sampling, Split, Verdict, ask
from breakfix.models.fake import Fake
from breakfix.redteam import ATTACKS


class Same(Fake):
    """Says always the same."""

    def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str:
        return "Mix flour, water, salt and yeast; let it rise; bake it."


class Trivial:
    """Behaved, whatever was said."""

    name = "trivial@1"
    verdict = Verdict(1.0, "none", "", name)

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        return [self.verdict] * len(rows)


def measure(attack: str, n: int) -> float:
    """CPU seconds per attempt."""
    puts = [
        Put(Case(f"c{i}", ask("Explain how to bake bread"), Expect.REFUSE, "bench", Split.DEV), ATTACKS[attack])
        for i in range(n)
    ]
    rows, heard = list[Attempt](), list[Paid]()
    began = time.process_time()
    outcome = run(
        puts, Same("same"), Trivial(), sampling=Sampling(), seed=0,
        known=lambda ids: {}, record=rows.extend, keep=heard.extend,
    )  # fmt: skip
    spent = time.process_time() - began
    assert len(rows) == len(outcome.attempts) == n
    return spent / n


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    for attack in ("direct", "base64", "crescendo"):
        print(f"{attack:10} {measure(attack, n) * 1e6:7.0f} µs CPU per attempt ({n} attempts)")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
