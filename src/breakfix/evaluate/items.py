"""Figures of single items, kept in the ledger as events: resumed runs go on, and rounds are compared item by item."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from breakfix.errors import ModelError

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

T = TypeVar("T")
STAGE = "evaluate"
CHUNK = 32  # items scored and recorded together
Progress = Callable[[str, int, int], None]


def recorded(ledger: Ledger, kind: str, *, round: int, model: str | None = None) -> dict[str, Any]:
    """Item id → what was recorded of it in that round, by that model (None: by whichever was the last)."""
    found: dict[str, Any] = {}
    for event in ledger.events(round, STAGE, kind):
        if model is None or event.payload["model"] == model:
            found.update(event.payload["items"])
    return found


def measure(
    ledger: Ledger,
    kind: str,
    rows: Mapping[str, T],
    make: Callable[[Sequence[T]], Sequence[Any]],
    *,
    round: int,
    model: str,
    progress: Progress,
) -> tuple[dict[str, Any], float]:
    """({id: what `make` found, a JSON value}, seconds). What is recorded already is not made again.

    Items of a chunk on which the model failed are not in the result; the failure is an event, and they are tried
    again when the stage is.
    """
    began = time.monotonic()
    found = {id: item for id, item in recorded(ledger, kind, round=round, model=model).items() if id in rows}
    todo = [id for id in rows if id not in found]
    for start in range(0, len(todo), CHUNK):
        progress(kind, len(rows) - len(todo) + start, len(rows))
        ids = todo[start : start + CHUNK]
        try:
            items = dict(zip(ids, make([rows[id] for id in ids]), strict=True))
        except ModelError as error:
            ledger.add_event(round, STAGE, "failed", {"kind": kind, "model": model, "n": len(ids), "why": str(error)})
            continue
        ledger.add_event(round, STAGE, kind, {"model": model, "items": items})
        found.update(items)
    progress(kind, len(rows), len(rows))
    return found, time.monotonic() - began
