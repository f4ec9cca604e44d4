"""`Ledger`: the run folder as one object. RUN/ledger.db, RUN/blobs/ab/abcdef..., RUN/.lock."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from breakfix.ledger import schema
from breakfix.ledger.attempts import Attempts
from breakfix.ledger.blobs import Blobs
from breakfix.ledger.check import Check
from breakfix.ledger.data import Data
from breakfix.ledger.database import opened
from breakfix.ledger.lineage import Lineage
from breakfix.ledger.notes import Notes
from breakfix.ledger.stages import Stages


class Ledger(Stages, Attempts, Data, Notes, Lineage, Check):
    """The append-only record of a run. `with Ledger.open(run, create=True) as ledger: ...`

    One process writes (the lock), any number read meanwhile. What an `add_...` returned for is on disk.
    Any method may raise DiskFull; nothing of that call is stored then, and all that was before is intact.
    """

    _stack: ExitStack
    _blobs: Blobs

    @classmethod
    def open(
        cls,
        run: Path,
        *,
        create: bool = False,
        write: bool = True,
        url: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Open a run folder; with `create`, make it if it isn't there. `clock` gives unix seconds.

        `url` keeps the rows in another database (SQLAlchemy's form: postgresql+psycopg://...); blobs and the lock
        stay in the folder, so writers that share a database must share the folder too.

        Raises RunBusy if another process writes to it, LedgerError if it is not a run's folder or its ledger has
        another version (see `upgrade`).
        """
        if create and not write:
            raise ValueError("a ledger that is opened for reading can't be created")
        with ExitStack() as stack:
            engine = stack.enter_context(opened(run, url, write=write, create=create))
            if create:
                schema.create_if_empty(engine)
            schema.require_head(engine, run, write=write)
            ledger = cls(engine, run, write=write, clock=clock)
            ledger._blobs = Blobs(run / "blobs")
            if write:
                ledger._blobs.sweep()
            ledger._stack = stack.pop_all()
        return ledger

    def close(self) -> None:
        """Let go of the database and the lock. Twice is harmless."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def put_blob(self, data: bytes | Path) -> str:
        """Store bytes, or a copy of a file; returns the sha256 (hex)."""
        self.require_write()
        return self._blobs.put(data)

    def blob_path(self, digest: str) -> Path:
        """Where the blob lies (read-only). LedgerError if it doesn't."""
        return self._blobs.path(digest)

    def trace(self, id: str) -> dict[str, Any]:
        """Where an example, attempt, case or vulnerability came from, and what came from it: see lineage.py."""
        return self.lineage(id)
