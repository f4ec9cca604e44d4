"""What DPO's reference makes of the pairs, kept on disk by content: a resumed or repeated run need not run it again.

One JSON file for each (reference model, rows, precision): {"chosen": [...], "rejected": [...]}, log-probabilities in
nats, summed over the reply's tokens, in the order of the rows.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IDS = ("prompt_ids", "chosen_ids", "rejected_ids")


@dataclass(frozen=True, slots=True)
class References:
    """`reference`: all that decides the figures but the rows: the model's identity, precision, versions."""

    folder: Path
    reference: tuple[str, ...]

    def find(self, rows: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]] | None:
        """(chosen, rejected), if they were computed before; None where the file is missing or not whole."""
        try:
            found = json.loads(self._file(rows).read_text(encoding="utf-8"))
            chosen, rejected = ([float(value) for value in found[side]] for side in ("chosen", "rejected"))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        whole = len(chosen) == len(rejected) == len(rows) and all(map(math.isfinite, (*chosen, *rejected)))
        return (chosen, rejected) if whole else None

    def keep(self, rows: Sequence[Mapping[str, Any]], chosen: Sequence[float], rejected: Sequence[float]) -> None:
        """Raises OSError where there is no room."""
        file = self._file(rows)
        self.folder.mkdir(parents=True, exist_ok=True)
        work = file.with_suffix(".new")
        work.write_text(json.dumps({"chosen": list(chosen), "rejected": list(rejected)}), encoding="utf-8")
        work.replace(file)

    def _file(self, rows: Sequence[Mapping[str, Any]]) -> Path:
        text = json.dumps([self.reference, [[list(row[ids]) for ids in IDS] for row in rows]])
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
