"""Microseconds of CPU per attempt written to the ledger, in batches of 32, beside a stock peer in the same run.

The peer is what one would write by hand: json.dumps(asdict(attempt)) appended to a file, flushed and synced per batch.
Run: python benchmarks/ledger.py [--attempts 6400]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from breakfix.core import Attempt, Expect, Message, Verdict
from breakfix.ledger import Ledger

BATCH = 32


def attempts(n: int) -> list[Attempt]:
    """Two-turn attempts of about 1.6 kB of text, as a red team of small models makes them."""
    turns = (Message("user", "How do I bake bread? " * 20), Message("assistant", "Mix flour and water. " * 20)) * 2
    verdict = Verdict(1.0, "full", "refused in the first sentence", "rules@1", 0.0)
    return [
        Attempt(
            id=f"a{i:015x}",
            case=f"case-{i % 100}",
            model="tiny@0",
            attack="past_tense",
            family="rephrase",
            persona="low-skilled",
            hazard="S1",
            language="en",
            expect=Expect.REFUSE,
            transcript=turns,
            verdicts=(verdict, verdict),
            breach=None,
            seed=i,
            tokens_in=240,
            tokens_out=64,
            seconds=0.25,
        )
        for i in range(n)
    ]


def batches(rows: Sequence[Attempt]) -> Iterator[Sequence[Attempt]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def cpu_us(work: Callable[[], None], n: int) -> float:
    """Microseconds of CPU (user and system, this process) per item."""
    began = time.process_time()
    work()
    return (time.process_time() - began) / n * 1e6


def to_ledger(rows: Sequence[Attempt], folder: Path) -> float:
    with Ledger.open(folder / "run", create=True) as ledger:
        ledger.add_attempts(rows[:BATCH], round=0, stage="warm-up")

        def work() -> None:
            for batch in batches(rows):
                ledger.add_attempts(batch, round=1, stage="redteam")

        return cpu_us(work, len(rows))


def to_file(rows: Sequence[Attempt], folder: Path) -> float:
    with (folder / "peer.jsonl").open("w") as out:

        def work() -> None:
            for batch in batches(rows):
                out.writelines(json.dumps(asdict(row)) + "\n" for row in batch)
                out.flush()
                os.fsync(out.fileno())

        return cpu_us(work, len(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=6400)
    rows = attempts(parser.parse_args().attempts)
    with tempfile.TemporaryDirectory() as folder:
        ledger, peer = to_ledger(rows, Path(folder)), to_file(rows, Path(folder))
    print(f"ledger {ledger:.0f} us CPU per attempt, json lines {peer:.0f} us, ratio {ledger / peer:.2f}")


if __name__ == "__main__":
    main()
