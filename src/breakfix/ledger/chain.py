"""The hash chain over the ledger: every row that is added is covered by a digest that covers all rows before it.

A transaction that adds rows adds one link, in the same transaction: {table: the digests of its rows, in the order in
which they were added}. A link's own digest is that of the link before it and of what it says, so that a row can't be
changed, removed, added or moved without breaking it or the chain from there on; which row it was, its digest tells.

The first link says which rows were there before there was a chain (`UNCHAINED`: table → its highest seq then; of
tables without seq the keys): of those nothing is known. A new ledger has none. Who can write the whole ledger anew can
make a whole chain anew, or cut its end off: the digest of the last link (`breakfix verify` shows it), kept elsewhere,
tells.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from operator import itemgetter
from typing import Any

from sqlalchemy import Column, Connection, Float, Select, Table, select

from breakfix.ledger import dialect, tables

UNCHAINED = "unchained"
SIZE = 32  # hex digits of a row's digest (128 bits)

_HEAD = select(tables.chain.c.digest).order_by(tables.chain.c.seq.desc()).limit(1)
Row = Mapping[str, Any]
Digester = Callable[[Sequence[Row]], list[str]]


@cache
def digester(table: Table) -> Digester:
    """Rows (columns by name), as they are added or as they are read back → their digests, the same both times."""
    given = [column.name for column in columns(table) if column.name != "body"]
    floats = [column.name for column in columns(table) if isinstance(column.type, Float)]
    get, name, has_body = itemgetter(*given), table.name, "body" in table.c

    def of(rows: Sequence[Row]) -> list[str]:
        if floats:  # an integer comes back as a float
            rows = [{**row, **{key: float(row[key]) for key in floats}} for row in rows]
        if has_body:
            return [sha256(f"{name}{get(row)!a}\n{row['body']}".encode()).hexdigest()[:SIZE] for row in rows]
        return [sha256(f"{name}{get(row)!a}".encode()).hexdigest()[:SIZE] for row in rows]

    return of


@cache
def columns(table: Table) -> tuple[Column[Any], ...]:
    """What a row's digest covers: all but seq, which the database gives."""
    return tuple(column for column in table.c if column.name != "seq")


def seal(before: str, body: str) -> str:
    """A link's digest. `before`: that of the link before it, "" for the first."""
    return sha256(f"{before}\n{body}".encode()).hexdigest()


class Added:
    """The rows that one transaction adds."""

    def __init__(self) -> None:
        self._digests: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._digests)

    def note(self, connection: Connection, table: Table, rows: Sequence[Row], n: int) -> None:
        """`n` of these rows, in their order, were new, and are now in the database."""
        if n == 0:
            return
        if n != len(rows):  # some were there: read those that were not, which are the last
            found = connection.execute(_last(table).limit(n)).mappings().all()
            rows = [dict(row) for row in reversed(found)]
        self._digests.setdefault(table.name, []).extend(digester(table)(rows))

    def link(self, connection: Connection, before: str | None) -> str:
        """Add the link; returns its digest. `before`: the digest of the last link, None where it has to be read."""
        last = connection.execute(_HEAD).scalar() if before is None else before
        body = json.dumps({name: "".join(digests) for name, digests in self._digests.items()}, separators=(",", ":"))
        digest = seal(last or "", body)
        connection.exec_driver_sql(dialect.insert_link(connection.dialect.name), (body, digest))
        return digest


@cache
def _last(table: Table) -> Select[*tuple[Any, ...]]:
    return select(*columns(table)).order_by(table.c.seq.desc())
