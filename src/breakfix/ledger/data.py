"""Training data and what it answers: examples by round and data set, what curation dropped, vulnerabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from breakfix.core import Dropped, Example, Vulnerability, digest
from breakfix.ledger import tables
from breakfix.ledger.codec import decode, encode
from breakfix.ledger.database import Database

_EXAMPLES, _USES, _DROPS = tables.examples.c, tables.example_uses.c, tables.drops.c
_VULNERABILITIES = tables.vulnerabilities.c


class Data(Database):
    """The part of the ledger that holds what was learnt from, and why."""

    def add_examples(self, examples: Sequence[Example], *, round: int, dataset: str) -> None:
        """Append rows to a data set, in order; a row that is given twice is in it twice. All of them or none."""
        with self.writing() as connection:
            digests = self._store(connection, examples)
            rows = [{"round": round, "dataset": dataset, "run": self.run, "example": key} for key in digests]
            self.add_keyed(connection, tables.example_uses, rows, within=(self.run,))

    def examples(self, *, round: int, dataset: str) -> Iterator[Example]:
        """The rows of a data set, in order."""
        joined = tables.example_uses.join(tables.examples, _USES.example == _EXAMPLES.digest)
        where = self.current(_USES.run, round=(_USES.round, round), dataset=(_USES.dataset, dataset))
        query = select(_USES.seq, _EXAMPLES.body).select_from(joined).where(*where)
        return (decode(Example, row.body) for row in self.pages(query, _USES.seq))

    def example(self, id: str) -> Example | None:
        """As it was last added (a dropped one, too): the same text may come again with other parents."""
        row = self.first(select(_EXAMPLES.body).where(_EXAMPLES.id == id).order_by(_EXAMPLES.seq.desc()))
        return decode(Example, row.body) if row is not None else None

    def add_drops(self, dropped: Sequence[Dropped], *, round: int) -> None:
        """Keep what a curation step took out, and why. All of them or none."""
        with self.writing() as connection:
            digests = self._store(connection, [drop.example for drop in dropped])
            rows = [
                {"round": round, "run": self.run, "step": drop.step, "reason": drop.reason, "example": key}
                for drop, key in zip(dropped, digests, strict=True)
            ]
            self.add_keyed(connection, tables.drops, rows, within=(self.run,))

    def drops(self, round: int) -> Iterator[Dropped]:
        joined = tables.drops.join(tables.examples, _DROPS.example == _EXAMPLES.digest)
        query = select(_DROPS.seq, _DROPS.step, _DROPS.reason, _EXAMPLES.body).select_from(joined)
        where = self.current(_DROPS.run, round=(_DROPS.round, round))
        for row in self.pages(query.where(*where), _DROPS.seq):
            yield Dropped(decode(Example, row.body), row.step, row.reason)

    def drop_counts(self, round: int) -> dict[tuple[str, str], int]:
        """(step, reason) → how many rows, in the order in which they first occurred."""
        where = self.current(_DROPS.run, round=(_DROPS.round, round))
        query = select(_DROPS.step, _DROPS.reason, func.count()).where(*where).group_by(_DROPS.step, _DROPS.reason)
        with self.reading() as connection:
            rows = connection.execute(query.order_by(func.min(_DROPS.seq))).all()
        return {(step, reason): count for step, reason, count in rows}

    def add_vulnerabilities(self, vs: Sequence[Vulnerability], *, round: int) -> None:
        """Keep what a round found, or found out about those it knew (a new status): the last one added stands."""
        rows = [{"round": round, "run": self.run, "id": v.id, "body": encode(v)} for v in vs]
        links = [{"parent": parent, "child": v.id, "kind": "vulnerability"} for v in vs for parent in v.evidence]
        with self.writing() as connection:
            self.add_keyed(connection, tables.vulnerabilities, rows, within=(self.run,))
            self.add(connection, tables.links, links)

    def vulnerabilities(self, round: int | None = None) -> list[Vulnerability]:
        """One per id, as the round (without one: the last round that named it) left it; in order of appearance."""
        where = self.current(_VULNERABILITIES.run, round=(_VULNERABILITIES.round, round))
        columns = (_VULNERABILITIES.seq, _VULNERABILITIES.round, _VULNERABILITIES.id, _VULNERABILITIES.body)
        rows = list(self.pages(select(*columns).where(*where), _VULNERABILITIES.seq))
        last: dict[str, Any] = dict.fromkeys(row.id for row in rows)
        last.update({row.id: row.body for row in sorted(rows, key=lambda row: (row.round, row.seq))})
        return [decode(Vulnerability, body) for body in last.values()]

    def _store(self, connection: Connection, examples: Sequence[Example]) -> list[str]:
        """Keep each row's text once; return the digests that data sets refer to, one per example."""
        ids, bodies = [example.id for example in examples], [encode(example) for example in examples]
        digests = [digest(body) for body in bodies]
        rows = [{"id": id, "digest": key, "body": body} for id, key, body in zip(ids, digests, bodies, strict=True)]
        self.add(connection, tables.examples, rows)
        links = [
            {"parent": parent, "child": id, "kind": "example"}
            for id, example in zip(ids, examples, strict=True)
            for parent in dict.fromkeys(example.parents)
        ]
        self.add(connection, tables.links, links)
        return digests
