"""What the parts of the ledger share: transactions, adding rows once, reading in pages, and which rows are current.

Two rules make an append-only store fit for work that is killed, repeated and changed:

- *Written again is written once.* A row's key is its content, the run it belongs to, and how many times that run has
  written it since it was begun. A stage that is made again writes the same rows and adds nothing, while a run that
  writes a row twice has it twice.
- *The run last asked for is the current one.* If a stage is asked for with other inputs, rows that were written under
  the old inputs stay, but readers leave them out; ask with the old inputs and they are back. Rows that were written
  outside any stage always count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Engine, Row, Select, Table, func, select
from sqlalchemy.exc import DBAPIError

from breakfix import runfolder
from breakfix.core import digest
from breakfix.errors import LedgerError
from breakfix.ledger import dialect, tables
from breakfix.ledger.chain import Added
from breakfix.ledger.lock import Lock
from breakfix.ledger.room import room

_PAGE = 500  # rows or ids per query; SQLite takes at most 32766 parameters
Record = dict[str, Any]
Query = Select[*tuple[Any, ...]]


@contextmanager
def opened(run: Path, url: str | None, *, write: bool, create: bool = False) -> Generator[Engine]:
    """An engine on the run's database; if it may write, with the run's lock held until the end."""
    _require_folder(run, url, create=create)
    lock = Lock(run) if write else None
    try:
        with plain_errors(run):
            engine = dialect.connect(run / runfolder.LEDGER, url, write=write)
            try:
                yield engine
            finally:
                engine.dispose()
    finally:
        if lock is not None:
            lock.release()


def _require_folder(run: Path, url: str | None, *, create: bool) -> None:
    if create:
        try:
            with room(run):
                run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(f"{run}: the run folder can't be made ({error.strerror}); give another") from error
    elif url is None or not run.is_dir():
        runfolder.require(run, "the folder of a run")


@contextmanager
def plain_errors(run: Path) -> Generator[None]:
    """Say in one line what the user can mend about an error of the database; let others through."""
    try:
        yield
    except DBAPIError as error:
        plain = dialect.plain_error(error, run)
        if plain is None:
            raise
        raise plain from error


class Database:
    """The run's database. `clock` gives unix seconds."""

    def __init__(self, engine: Engine, folder: Path, *, write: bool, clock: Callable[[], float]) -> None:
        self.engine = engine
        self.folder = folder
        self.clock = clock
        self._write = write
        self._runs: list[int] = []  # stages.seq of the stages being made, innermost last
        self._written: dict[int, Counter[str]] = {}  # by run: how often each row was written since it was begun
        self._turn = RLock()  # the chain has one end: threads that write wait for each other
        self._added = Added()
        self._chained: str | None = None  # the digest of the chain's last link, once it is known

    @property
    def run(self) -> int:
        """The run that rows belong to now: stages.seq, 0 outside any stage."""
        return self._runs[-1] if self._runs else 0

    def require_write(self) -> None:
        if not self._write:
            raise LedgerError(f"{self.folder}: opened for reading only; open it for writing to add to it")

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """One transaction: all of it is durable at the end, or none of it is there. Its rows are one link of the
        chain."""
        self.require_write()
        with self._turn:
            self._added, chained = Added(), self._chained
            with plain_errors(self.folder), self.engine.begin() as connection:
                yield connection
                if self._added:
                    chained = self._added.link(connection, chained)
            self._chained = chained

    @contextmanager
    def reading(self) -> Generator[Connection]:
        with plain_errors(self.folder), self.engine.connect() as connection:
            yield connection

    def add(self, connection: Connection, table: Table, rows: Sequence[Record]) -> None:
        """Add the rows that are not there yet."""
        if rows:
            insert = dialect.insert_new(self.engine.dialect.name, table)
            n = connection.execute(insert, rows, execution_options={"preserve_rowcount": True}).rowcount
            self._added.note(connection, table, rows, n)

    def add_keyed(self, connection: Connection, table: Table, rows: Sequence[Record], within: Sequence[Any]) -> None:
        """Add rows with a `key`: digest of `within` and the row, and the how-manieth time this run writes it."""
        written, now = self._written.setdefault(self.run, Counter()), Counter[str]()
        keyed: list[Record] = []
        for row in rows:
            key = digest([table.name, *within, {k: v for k, v in row.items() if k not in ("run", "at")}])
            keyed.append({**row, "key": digest([key, written[key] + now[key]])})
            now[key] += 1
        self.add(connection, table, keyed)
        written.update(now)

    def first(self, query: Query) -> Row[*tuple[Any, ...]] | None:
        with self.reading() as connection:
            return connection.execute(query.limit(1)).first()

    def pages(self, query: Query, seq: Column[int]) -> Iterator[Row[*tuple[Any, ...]]]:
        """The query's rows in order of `seq`, which must be its first column. No transaction stays open between pages,
        so a slow reader never holds up the writer's log."""
        last = 0
        while True:
            with self.reading() as connection:
                rows = connection.execute(query.where(seq > last).order_by(seq).limit(_PAGE)).all()
            yield from rows
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    def by_ids(self, query: Query, column: Column[str], ids: Sequence[str]) -> Iterator[Row[*tuple[Any, ...]]]:
        """The query's rows whose `column` is one of `ids`, in no particular order."""
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), _PAGE):
            with self.reading() as connection:
                rows = connection.execute(query.where(column.in_(wanted[start : start + _PAGE]))).all()
            yield from rows

    def current(self, run: Column[int], **equal: tuple[Column[Any], Any]) -> list[ColumnElement[bool]]:
        """Conditions: the row's run is not superseded, and every (column, value) agrees where the value is not None."""
        conditions = [column == value for column, value in equal.values() if value is not None]
        old = self._superseded()
        return [*conditions, run.not_in(old)] if old else conditions

    def _superseded(self) -> list[int]:
        """Runs whose stage was asked for with other inputs since."""
        stages, starts = tables.stages.c, tables.stage_starts.c
        last = func.max(starts.seq)
        query = select(stages.round, stages.name, stages.seq).join_from(tables.stages, tables.stage_starts)
        with self.reading() as connection:
            rows = connection.execute(query.group_by(stages.round, stages.name, stages.seq).order_by(last)).all()
        newest: Mapping[tuple[int, str], int] = {(round, name): run for round, name, run in rows}
        return sorted({run for _, _, run in rows} - set(newest.values()))
