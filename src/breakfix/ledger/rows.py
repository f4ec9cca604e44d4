"""What the ledger itself hands out, beside the nouns of core.py: its account of stages, and events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage with one set of inputs.

    `digest` is that of the inputs. `started` (unix seconds) is when it was last begun; `starts` how often it was
    begun: more than once means that it was interrupted. `seconds` and `peak_mb` (largest resident memory of the
    process, MiB) are those of the start that finished, so they leave out what an interrupted start had done. `since`
    is when a stage of this name was first begun in this round, with whichever inputs: sorted by it, stages come in the
    order of the cycle, however they were interrupted and made anew.
    """

    round: int
    name: str
    digest: str
    record: dict[str, Any] | None
    started: float
    seconds: float | None
    peak_mb: float | None
    finished: bool
    starts: int = 1
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a loss, progress, a note, a suite that was skipped. `at` is unix seconds."""

    round: int
    stage: str
    kind: str
    payload: Mapping[str, Any]
    at: float
