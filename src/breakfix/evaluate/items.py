"""Figures of single items, kept in the ledger as events: resumed runs go on, and rounds are compared item by item.

An item is paid for once: also where a stage is made anew under other inputs (another suite, `--again`), what was found
by the same model in the same precision, of the very same content, is taken over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from breakfix.core import Model, digest
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


def precision(model: Model) -> str | None:
    """The number format in which it reckons; None of one that does not say."""
    return getattr(model, "precision", None)


def remembered(ledger: Ledger, kind: str, model: Model) -> dict[str, Any]:
    """Digest of what was asked → what was found, by this model in this precision, whatever became of the stage."""
    found: dict[str, Any] = {}
    for event in ledger.events(stage=STAGE, kind=kind, superseded=True):
        if (event.payload["model"], event.payload.get("precision")) == (model.id, precision(model)):
            asked: Mapping[str, str] = event.payload.get("asked", {})  # older ledgers do not say
            items: Mapping[str, Any] = event.payload["items"]
            found.update({asked[id]: item for id, item in items.items() if id in asked})
    return found


def measure(
    ledger: Ledger,
    kind: str,
    rows: Mapping[str, T],
    make: Callable[[Sequence[T]], Sequence[Any]],
    *,
    content: Callable[[T], Any],
    known: Callable[[Any], bool],
    round: int,
    model: Model,
    progress: Progress,
) -> tuple[dict[str, Any], float]:
    """({id: what `make` found, a JSON value}, seconds). What is recorded already is not made again.

    `content`: all of a row that the item depends on, as JSON; `known`: whether an item says something (a failure to
    score is tried again when the stage is made anew). Items of a chunk on which the model failed are not in the result;
    the failure is an event, and they are tried again when the stage is.
    """
    began = time.monotonic()
    found = {id: item for id, item in recorded(ledger, kind, round=round, model=model.id).items() if id in rows}
    asked = {id: digest(content(row)) for id, row in rows.items() if id not in found}

    def keep(items: Mapping[str, Any]) -> None:
        about = {"model": model.id, "precision": precision(model)}
        ledger.add_event(round, STAGE, kind, {**about, "items": items, "asked": {id: asked[id] for id in items}})
        found.update(items)

    before = remembered(ledger, kind, model) if asked else {}
    if same := {id: before[key] for id, key in asked.items() if known(before.get(key))}:
        keep(same)
    todo = [id for id in rows if id not in found]
    for start in range(0, len(todo), CHUNK):
        progress(kind, len(rows) - len(todo) + start, len(rows))
        ids = todo[start : start + CHUNK]
        try:
            items = dict(zip(ids, make([rows[id] for id in ids]), strict=True))
        except ModelError as error:
            about = {"kind": kind, "model": model.id, "n": len(ids), "why": str(error)}
            ledger.add_event(round, STAGE, "failed", about)
            continue
        keep(items)
    progress(kind, len(rows), len(rows))
    return found, time.monotonic() - began
