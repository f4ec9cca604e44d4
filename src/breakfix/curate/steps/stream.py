"""Steps over more rows than fit in memory: a batch at a time, and each row is decided once.

A step that remembers earlier rows keeps hashes of them, never the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

from breakfix.core import Dropped, Example

BATCH = 4096
Look = Callable[[Sequence[Example]], list[str]]


class Streaming(Protocol):
    """`looker()` begins anew: a function that is given the rows batch by batch, in order, and says why each is dropped
    ("": it is kept)."""

    name: str

    def looker(self) -> Look: ...


def batches(rows: Iterable[Example]) -> Iterator[list[Example]]:
    """The rows in lists of BATCH."""
    left = iter(rows)
    while batch := list(islice(left, BATCH)):
        yield batch


def whole(step: Streaming, rows: Sequence[Example]) -> tuple[list[Example], list[Dropped]]:
    """The step as `core.Step` has it: on rows that are all here."""
    kept: list[Example] = []
    dropped: list[Dropped] = []
    for outcome in sift([step], rows):
        if isinstance(outcome, Dropped):
            dropped.append(outcome)
        else:
            kept.append(outcome)
    return kept, dropped


def sift(steps: Sequence[Streaming], rows: Iterable[Example]) -> Iterator[Example | Dropped]:
    """Every row once, kept or dropped: what a batch loses by the first step, then by the second …, then what is left of
    it, in order."""
    lookers = [(step.name, step.looker()) for step in steps]
    for batch in batches(rows):
        for name, look in lookers:
            reasons = look(batch)
            yield from (Dropped(row, name, reason) for row, reason in zip(batch, reasons, strict=True) if reason)
            batch = [row for row, reason in zip(batch, reasons, strict=True) if not reason]
        yield from batch
