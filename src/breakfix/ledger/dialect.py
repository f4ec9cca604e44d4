"""The one file that knows SQLite from Postgres: how to connect, to add a row only once, to refuse changes, and what
an error of the database means to the user.

SQLite runs in WAL mode (readers do not wait for the writer) with synchronous=FULL: a commit that returned survives a
power cut. Transactions are opened by us, not by Python's sqlite3, whose own rules would leave CREATE TABLE outside.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, Insert, QueuePool, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from breakfix.errors import LedgerError, RunBusy, UserError
from breakfix.ledger.room import disk_full

_BUSY_SECONDS = 30.0  # only threads of the one writer ever wait for each other
_NO_ROOM = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "53100")
_NOT_A_LEDGER = ("SQLITE_NOTADB", "SQLITE_CORRUPT")


def connect(file: Path, url: str | None, *, write: bool) -> Engine:
    """An engine on the SQLite file, or on the database that `url` names (then `file` is not used)."""
    if url is not None:
        return _elsewhere(url)
    engine = create_engine("sqlite://", creator=_opener(file, write=write), poolclass=QueuePool)
    event.listen(engine, "begin", _begin)
    return engine


def _elsewhere(url: str) -> Engine:
    try:
        return create_engine(url)
    except (ArgumentError, ImportError) as error:  # an error of the URL may quote its password: it is not repeated
        raise LedgerError(
            f"the ledger's database URL can't be used ({type(error).__name__}); expected "
            "postgresql+psycopg://user@host/name, and psycopg installed"
        ) from None


def _opener(file: Path, *, write: bool) -> Callable[[], sqlite3.Connection]:
    address = f"file:{quote(str(file.absolute()))}{'' if write else _reading(file)}"

    def connect_once() -> sqlite3.Connection:
        connection = sqlite3.connect(
            address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        pragmas = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON") if write else ("query_only=ON",)
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
        return connection

    return connect_once


def _reading(file: Path) -> str:
    """A WAL database needs files beside it, even to be read; on a read-only disk it can do without if all is in it."""
    log = file.with_name(file.name + "-wal")
    whole = not log.exists() or log.stat().st_size == 0
    return "?immutable=1" if whole and not os.access(file.parent, os.W_OK) else "?mode=ro"


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


@cache
def insert_new(name: str, table: Table) -> Insert:
    """INSERT that leaves a row out if a unique one like it is there. `name` is the dialect's."""
    return _dialect(name).insert(table).on_conflict_do_nothing()


def insert_link(name: str) -> str:
    """The INSERT of a row of `chain` (body, digest) in the driver's own words: every transaction runs it."""
    return f"INSERT INTO chain (body, digest) VALUES ({'?, ?' if name == 'sqlite' else '%s, %s'})"


def _dialect(name: str) -> Any:
    known = {"sqlite": sqlite, "postgresql": postgresql}
    if name not in known:
        raise LedgerError(f"{name}: the ledger can't be kept in this database; expected sqlite or postgresql")
    return known[name]


def append_only(name: str, table: str) -> list[str]:
    """The statements after which the database refuses to change or remove rows of `table`."""
    _dialect(name)
    if name == "sqlite":
        return [
            f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
            "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
            for verb in ("UPDATE", "DELETE")
        ]
    return [
        "CREATE OR REPLACE FUNCTION ledger_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$",
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only()",
    ]


def plain_error(error: DBAPIError, where: Path) -> UserError | None:
    """What the user can mend, in words; None if it is our bug."""
    code = str(getattr(error.orig, "sqlite_errorname", None) or getattr(error.orig, "sqlstate", None) or "")
    if code in _NO_ROOM:
        return disk_full(where)
    if code.startswith(_NOT_A_LEDGER):
        return LedgerError(f"{where}: its ledger.db is damaged or not a ledger; restore it from a copy")
    if code.startswith("SQLITE_BUSY"):
        return RunBusy(f"{where}: its ledger.db is held by another program; close that and try again")
    if code.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "08")):
        return LedgerError(f"{where}: the ledger can't be opened ({code}); check that it is there and who may write")
    if not code and isinstance(error, OperationalError):
        return LedgerError(f"{where}: the ledger's database can't be reached; check that it runs, and its URL")
    return None
