"""A run's folder, told from any other. Imports nothing that takes time: commands ask before they start."""

from __future__ import annotations

import difflib
from pathlib import Path

from breakfix.errors import LedgerError

LEDGER = "ledger.db"


def is_run(folder: Path | str) -> bool:
    """Whether there is a ledger in it."""
    return (Path(folder) / LEDGER).is_file()


def require(folder: Path, give: str) -> None:
    """LedgerError where it is not a run's; `give`: what to give instead."""
    if not is_run(folder):
        raise LedgerError(f"{folder}: not a run's folder (there is no {LEDGER} in it); give {give}")


def meant(path: Path) -> str:
    """Of a path that is not there, though runs lie beside it: the nearest of those; "" where none do. A mistyped run
    looks like a hub id."""
    runs = [ledger.parent.name for ledger in path.parent.glob(f"*/{LEDGER}")]
    near = difflib.get_close_matches(path.name, runs, n=1, cutoff=0)
    return str(path.parent / near[0]) if near and not path.exists() else ""
