"""Is a run as it was written? Its ledger's rows and chain, its blobs, and the weights of its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from breakfix.cycle import inside
from breakfix.ledger import Ledger
from breakfix.models.identity import weights_id

Json = dict[str, Any]


def verify(ledger: Ledger, run: Path) -> Json:
    """{"run", "ok", "found": [{what, name, problem}], "looked_at": {rows, unchained, links, blobs, checkpoints, head},
    "not_here": checkpoints whose folder is gone}. Nothing is changed, no model is loaded."""
    found, counts = ledger.check()
    checkpoints = list(_checkpoints(ledger, run))
    there = [(folder, expected) for folder, expected in checkpoints if folder.is_dir()]
    for folder, expected in there:
        actual = weights_id(folder)
        if actual != expected:
            problem = f"changed: {actual}, and not the {expected} that was trained"
            found.append({"what": "checkpoint", "name": folder.relative_to(run).as_posix(), "problem": problem})
    gone = [folder.relative_to(run).as_posix() for folder, _ in checkpoints if not folder.is_dir()]
    looked_at = {**counts, "checkpoints": len(there)}
    return {"run": str(run), "ok": not found, "found": found, "looked_at": looked_at, "not_here": gone}


def _checkpoints(ledger: Ledger, run: Path) -> Iterator[tuple[Path, str]]:
    """(folder, what identified its weights when it was trained or measured)"""
    for row in ledger.stages():
        if row.name != "train" or row.record is None or "weights" not in row.record:
            continue
        yield _inside(run, row.record["model"]), row.record["weights"]
        chosen = (ledger.finished(row.round, "select") or {}).get("selected", "model")
        candidate = row.record.get("candidates", {}).get(chosen)
        current = (ledger.finished(row.round, "train") or {}).get("model") == row.record["model"]
        measured = next(ledger.attempts(round=row.round, stage="evaluate"), None)
        if current and candidate not in (None, row.record["model"]) and measured is not None:
            yield _inside(run, candidate), measured.model.partition(":")[0]  # without its precision


def _inside(run: Path, folder: str) -> Path:
    """Below the run, also where the run was moved since."""
    found = Path(inside(run, Path(folder)))
    return found if found.is_relative_to(run) else run.joinpath(*found.parts[-3:])
