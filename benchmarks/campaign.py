"""What a campaign itself costs: CPU time per mocked attempt, and memory over many of them with a real ledger.

    python benchmarks/campaign.py [attempts]            CPU of one turn and of four, recorded into lists
    python benchmarks/campaign.py --ledger [attempts]   with a real SQLite ledger, from an iterator: memory on the way
    python benchmarks/campaign.py --each [cases]        CPU of each attack, the worst first

The model is a script, the judge says the same of everything. The aim is below 1 ms, and 2 ms is the most that the
project allows itself. With --ledger, of 100,000 attempts by default, a quarter of them of several turns, memory is read
after 10,000, 50,000 and all: what a campaign holds must not grow after the first. The same is then run again, from the
ledger alone. With --each every attack of the catalogue is put to requests of the starter pack (200), and those of PyRIT
and garak where they are installed; one that asks more than once counts by query. No helper: scripts take its place.
"""

from __future__ import annotations

import itertools
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from breakfix import starter
from breakfix.campaign import Outcome, Put, applies, run
from breakfix.core import Attack, Attempt, Case, Conversation, Expect, Paid, Reply, Sampling, Split, Verdict, ask
from breakfix.ledger import Ledger
from breakfix.redteam import ATTACKS, adapters

MARKS = (10_000, 50_000, 100_000)
ROUND = 0
MOST = 1.0  # ms of CPU, for a query


class Same:
    """Says always the same, and keeps nothing."""

    id = "same"

    def generate(
        self, prompts: Sequence[Conversation], sampling: Sampling, seeds: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Reply]]:
        reply = Reply("Mix flour, water, salt and yeast; let it rise; bake it.", 8, 11)
        yield from ((i, reply) for i in range(len(prompts)))

    def score(self, pairs: Sequence[tuple[Conversation, str]]) -> list[tuple[float, int]]:
        raise NotImplementedError


class Trivial:
    """Behaved, whatever was said."""

    name = "trivial@1"
    verdict = Verdict(1.0, "none", "", name)

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        return [self.verdict] * len(rows)


def puts(n: int, attacks: Sequence[str]) -> Iterator[Put]:
    """n puts of as many cases, through the attacks in turn."""
    for i, attack in zip(range(n), itertools.cycle(attacks), strict=False):
        case = Case(f"c{i}", ask(f"Explain how to bake bread no. {i}"), Expect.REFUSE, "bench", Split.DEV)
        yield Put(case, ATTACKS[attack])


def measure(attack: str, n: int) -> float:
    """CPU seconds per attempt."""
    rows, heard = list[Attempt](), list[Paid]()
    began = time.process_time()
    outcome = run(
        list(puts(n, [attack])), Same(), Trivial(), sampling=Sampling(), seed=0,
        known=lambda ids: {}, record=rows.extend, keep=heard.extend,
    )  # fmt: skip
    spent = time.process_time() - began
    assert len(rows) == len(outcome.attempts) == n
    return spent / n


def each(n: int) -> None:
    """CPU by attack, through a campaign of its own on up to n cases that it can be put to."""
    attacks: dict[str, Attack] = dict(ATTACKS)
    for family, package in adapters.PACKAGES.items():
        if adapters.available(family):
            attacks |= adapters.load(family).attacks
        else:
            print(f"without {package.called}, which is not installed")
    cases = starter.cases()
    random.Random(0).shuffle(cases)
    rows = [(name, *_each(attack, cases, n)) for name, attack in attacks.items()]
    rows.sort(key=lambda row: -row[1] / max(1.0, row[2]))
    print(f"{'attack':55} {'ms a query':>10} {'queries':>8} {'ms an attempt':>14} {'attempts':>9}")
    for name, spent, queries, attempts in rows:
        print(f"{name:55} {spent / max(1.0, queries):10.3f} {queries:8.1f} {spent:14.3f} {attempts:9}")
    over = sum(spent / max(1.0, queries) > MOST for _, spent, queries, _ in rows)
    print(f"{len(rows)} attacks; above {MOST} ms a query: {over}")


def _each(attack: Attack, cases: Sequence[Case], n: int) -> tuple[float, float, int]:
    """(CPU ms an attempt, queries an attempt, attempts)"""
    fit = list(itertools.islice((case for case in cases if applies(attack, case)), n))  # what is read once is read here
    began = time.process_time()
    outcome = run(
        [Put(case, attack) for case in fit], Same(), Trivial(), sampling=Sampling(), seed=0,
        known=lambda ids: {}, record=lambda attempts: None,
    )  # fmt: skip
    done = max(1, outcome.finished)
    return (time.process_time() - began) / done * 1e3, outcome.queries / done, outcome.finished


def many(ledger: Ledger, n: int, marks: Sequence[int]) -> Outcome:
    """n attempts into the ledger. Prints the memory that is in use when each of `marks` have ended."""
    left = list(marks)

    def progress(done: int, total: int) -> None:
        while left and done >= left[0]:
            print(f"  {left.pop(0):7} attempts: {memory():5.0f} MiB in use, {peak():5.0f} MiB at most", flush=True)

    return run(
        puts(n, ["direct", "base64", "role_play", "crescendo"]), Same(), Trivial(), sampling=Sampling(), seed=0,
        known=ledger.known, record=lambda attempts: ledger.add_attempts(attempts, round=ROUND, stage="redteam"),
        keep=lambda paid: ledger.add_paid(paid, round=ROUND, stage="redteam"),
        hold=False, total=n, progress=progress,
    )  # fmt: skip


def with_ledger(n: int) -> None:
    marks = [mark for mark in MARKS if mark < n] + [n]
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "run", create=True) as ledger:
        for what in ("asked", "known"):
            began, wall = time.process_time(), time.monotonic()
            outcome = many(ledger, n, marks)
            spent = (time.process_time() - began) / n
            assert outcome.finished == n and outcome.reused == (n if what == "known" else 0)
            print(f"{n} {what}: {spent * 1e6:.0f} µs CPU per attempt, {time.monotonic() - wall:.0f} s", flush=True)


def memory() -> float:
    """MiB that the process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    if "--ledger" in sys.argv:
        with_ledger(numbers[0] if numbers else MARKS[-1])
        return
    if "--each" in sys.argv:
        each(numbers[0] if numbers else 200)
        return
    n = numbers[0] if numbers else 5000
    for attack in ("direct", "base64", "crescendo"):
        print(f"{attack:10} {measure(attack, n) * 1e6:7.0f} µs CPU per attempt ({n} attempts)")
    print(f"peak memory {peak():.0f} MiB")


if __name__ == "__main__":
    main()
