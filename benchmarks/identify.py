"""Identification of rounds of many attempts: seconds and memory.

    python benchmarks/identify.py [attempts]      100,000 by default, in each of three rounds

The rounds' attempts are those of benchmarks/report.py, on cases of which a tenth may be learnt from and a twentieth are
frozen. Nearly every cell of 11 hazards × 12 families × 10 languages fails, so that there are about as many
vulnerabilities as there can be. In round 0 all of them open; later rounds find them again, test each against the round
that opened it, and look two rounds back. Requests have vectors made here, so that cells are cut as with an embedding
model; what one takes to embed is not in it. Building the ledger is not timed, the stage's own rows are. The aim, of
any round: 3 minutes and 3 GB.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from breakfix import identify
from breakfix.config import Config
from breakfix.core import Case, Expect, Split, ask
from breakfix.ledger import Ledger
from breakfix.taxonomy import hazards
from report import CASES, ROUNDS, red_team

BREADS = ("rye", "oat", "corn", "spelt", "wheat", "barley", "millet", "potato")
SIZE = 64


class Vectors:
    """A request's bread, and a little noise that its text decides."""

    def embed(self, texts: Sequence[str]) -> Any:
        axes = np.random.default_rng(0).normal(size=(len(BREADS), SIZE))
        rows = [axes[BREADS.index(text.split()[4])] + _noise(text) for text in texts]
        found = np.array(rows, dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def _noise(text: str) -> Any:
    return np.random.default_rng(crc32(text.encode())).normal(size=SIZE)


def cases() -> list[Case]:
    names = list(hazards())
    splits = [Split.TRAIN] * 2 + [Split.FROZEN] + [Split.DEV] * 17
    return [
        Case(f"c{i}", ask(f"How do I bake {BREADS[i % 8]} bread no. {i}?"), Expect.REFUSE, "bench", splits[i % 20],
             names[i % 11])
        for i in range(CASES)
    ]  # fmt: skip


def main() -> None:
    words = [word for word in sys.argv[1:] if word.isdigit()]
    n = int(words[0]) if words else 100_000
    slowest, open_ = 0.0, 0
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "run", create=True) as ledger:
        ledger.add_cases(cases())
        for round in range(ROUNDS):
            red_team(ledger, round, n)
            wall, cpu = time.monotonic(), time.process_time()

            def make(round: int = round) -> dict[str, Any]:
                return identify.run(Config(), ledger, round=round, embedder=Vectors)

            record = ledger.stage(round, "identify", {}, make)
            wall, cpu = time.monotonic() - wall, time.process_time() - cpu
            slowest, open_ = max(slowest, wall), len(record["vulnerabilities"])
            print(f"round {round}: {wall:.1f} s ({cpu:.1f} s CPU), {open_} open, {record['opened']} of them new, "
                  f"{peak():.0f} MiB at most so far", flush=True)  # fmt: skip
    print(f"{n} attempts a round, {open_} vulnerabilities: {slowest:.1f} s at most, {peak():.0f} MiB at most")


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
