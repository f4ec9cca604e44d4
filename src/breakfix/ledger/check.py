"""Is the ledger as it was written? Every digest in it is computed anew: the chain's, the rows', the blobs'."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Table, inspect, select

from breakfix.core import digest
from breakfix.errors import LedgerError
from breakfix.ledger import chain, tables
from breakfix.ledger.blobs import Blobs
from breakfix.ledger.database import Database

Finding = dict[str, Any]
_AHEAD = 1000  # rows: as far as a hole in a table is looked over
_CONTENT = ("cases", "examples")  # tables with a column that is the digest of the body


class Check(Database):
    """The part of the ledger that distrusts it."""

    _blobs: Blobs

    def check(self) -> tuple[list[Finding], dict[str, Any]]:
        """(what is not as it was written, how much was looked at).

        A finding is {"what": row | link | blob, "name", "problem": changed | missing | added | ...}. Counts: "rows",
        "unchained" (of these nothing is known but what they say of themselves), "links", "blobs"; "head", the digest
        of the chain's last link.
        """
        with self.reading() as connection:
            if not inspect(connection).has_table(tables.chain.name):
                raise LedgerError(
                    f"{self.folder}: its ledger has no chain yet; `breakfix ledger upgrade {self.folder}` begins one, "
                    "which covers what is added from then on"
                )
        found, links, expected, unchained, head = self._links()
        rows = before = 0
        for table in tables.metadata.sorted_tables:
            if table.name != tables.chain.name:
                here, n, old = self._rows(table, expected.get(table.name, []), unchained.get(table.name))
                found += here
                rows, before = rows + n, before + old
        blobs, n = self._files()
        return found + blobs, {"rows": rows, "unchained": before, "links": links, "blobs": n, "head": head}

    def _links(self) -> tuple[list[Finding], int, dict[str, list[str]], Mapping[str, Any], str]:
        """(links that do not hold, how many there are, table → the digests of its rows in order, what was there before
        the chain, the last link's digest)"""
        found: list[Finding] = []
        expected: dict[str, list[str]] = {}
        unchained: Mapping[str, Any] = {}
        before, n = "", 0
        c = tables.chain.c
        for row in self.pages(select(c.seq, c.body, c.digest), c.seq):
            n += 1
            said = _said(row.body)
            if chain.seal(before, row.body) != row.digest or said is None:
                found.append(_finding(f"chain link {row.seq}", "changed, or one before it is gone", "link"))
            if n == 1:
                unchained = (said or {}).get(chain.UNCHAINED, {})
            for name, digests in (said or {}).items():
                if isinstance(digests, str):
                    parts = range(0, len(digests), chain.SIZE)
                    expected.setdefault(name, []).extend(digests[at : at + chain.SIZE] for at in parts)
            before = row.digest
        if n == 0:
            found.append(_finding("chain link 1", "missing: the chain has no beginning", "link"))
        return found, n, expected, unchained, before

    def _rows(self, table: Table, expected: Sequence[str], unchained: Any) -> tuple[list[Finding], int, int]:
        """(what does not hold, rows, how many of them were there before the chain)"""
        of, numbered = chain.digester(table), "seq" in table.c
        key = table.c.seq if numbered else next(iter(table.primary_key))
        found: list[Finding] = []
        names: list[str] = []  # of the chained rows
        digests: list[str] = []
        old = 0
        for row in self.pages(select(key.label("at_key"), *chain.columns(table)), key):
            values = row._asdict()  # pyright: ignore[reportPrivateUsage]  # public, by SQLAlchemy's manual
            name = _name(table, row.at_key, values)
            if table.name in _CONTENT and digest(values["body"]) != values["digest"]:
                found.append(_finding(name, "changed: its text is not what its digest says"))
            if unchained is not None and (row.at_key <= unchained if numbered else row.at_key in unchained):
                old += 1
                continue
            names.append(name)
            digests += of([values])
        told = {finding["name"] for finding in found}
        compare = _in_order if numbered else _in_any_order
        found += [finding for finding in compare(table.name, names, digests, expected) if finding["name"] not in told]
        return found, old + len(names), old

    def _files(self) -> tuple[list[Finding], int]:
        """(blobs that do not hold, how many there are)"""
        found: list[Finding] = []
        n = 0
        for place in self._blobs.all():
            n += 1
            with place.open("rb") as stream:
                sha = hashlib.file_digest(stream, "sha256").hexdigest()
            if sha != place.name:
                name = place.relative_to(self.folder).as_posix()
                found.append(_finding(name, f"changed: its digest is {sha}", "blob"))
        return found, n


def _said(body: str) -> dict[str, Any] | None:
    try:
        said: Any = json.loads(body)
    except ValueError:
        return None
    return cast("dict[str, Any]", said) if isinstance(said, dict) else None


def _name(table: Table, key: int, row: Mapping[str, Any]) -> str:
    """'attempts row 17 (a1b2)', 'stages row 3 (round 1 train)'"""
    label = str(row.get("id") or row.get("attempt") or row.get("child") or "")
    if not label and "name" in row:
        label = f"round {row['round']} {row['name']}"
    return f"{table.name} row {key}" + (f" ({label})" if label else "")


def _in_order(table: str, names: Sequence[str], digests: Sequence[str], expected: Sequence[str]) -> Iterator[Finding]:
    """Rows against the digests that were noted when they were added, both in the order of adding."""
    i = j = 0
    while i < len(digests) or j < len(expected):
        if i < len(digests) and j < len(expected) and digests[i] == expected[j]:
            i, j = i + 1, j + 1
        elif i == len(digests) or (j < len(expected) and digests[i] in expected[j + 1 : j + _AHEAD]):
            after = f"after {names[i - 1]}" if i else "at the beginning"
            yield _finding(f"{table}, a row {after}", "missing")
            j += 1
        elif j == len(expected) or expected[j] in digests[i + 1 : i + _AHEAD]:
            yield _finding(names[i], "added outside breakfix")
            i += 1
        else:
            yield _finding(names[i], "changed")
            i, j = i + 1, j + 1


def _in_any_order(
    table: str, names: Sequence[str], digests: Sequence[str], expected: Sequence[str]
) -> Iterator[Finding]:
    """The same for a table whose rows have no order of their own."""
    left = set(expected)
    odd = [name for name, found in zip(names, digests, strict=True) if found not in left]
    gone = len(left - set(digests)) - len(odd)
    yield from (_finding(name, "changed, or added outside breakfix") for name in odd)
    if gone > 0:
        yield _finding(f"{table}, {gone} of its rows", "missing")


def _finding(name: str, problem: str, what: str = "row") -> Finding:
    return {"what": what, "name": name, "problem": problem}
