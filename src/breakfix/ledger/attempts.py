"""Attempts, verdicts that were given later, and the cases that were put.

An attempt is stored once, under its id, however many rounds and stages use it, and is on disk when `add_attempts`
returns. If the model failed (`error` is set) or the judge did (`unjudged`), the same attempt may be made again: the one
that did not fail is added, and is the one that is read from then on. Otherwise the first one that was stored stands. Of
an attempt that is under way the replies so far are kept (`add_paid`), as events that belong to no run: whoever takes it
up again may use them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, select

from breakfix.core import Attempt, Case, Paid, Verdict, digest
from breakfix.errors import LedgerError
from breakfix.ledger import tables
from breakfix.ledger.codec import decode, encode
from breakfix.ledger.database import Database, Query

_ATTEMPTS, _USES, _VERDICTS, _CASES = tables.attempts.c, tables.attempt_uses.c, tables.verdicts.c, tables.cases.c
_EVENTS = tables.events.c
_PAID = "paid"  # the kind of event that holds replies of attempts under way


class Attempts(Database):
    """The part of the ledger that holds what was asked and said."""

    def add_attempt(self, attempt: Attempt, *, round: int, stage: str) -> None:
        """Durable at return; adding it again changes nothing. For more than one, `add_attempts` is far cheaper."""
        self.add_attempts([attempt], round=round, stage=stage)

    def add_attempts(self, attempts: Sequence[Attempt], *, round: int, stage: str) -> None:
        """All of them or, if this raises, none."""
        uses = [{"round": round, "stage": stage, "run": self.run, "attempt": a.id} for a in attempts]
        with self.writing() as connection:
            self.add(connection, tables.attempts, _rows(attempts))
            self.add(connection, tables.attempt_uses, uses)

    def mend(self, attempts: Sequence[Attempt]) -> None:
        """Keep attempts that had failed and now did not, under their ids. Who uses them stays as it is."""
        with self.writing() as connection:
            self.add(connection, tables.attempts, _rows(attempts))

    def attempt(self, id: str) -> Attempt | None:
        return self.known([id]).get(id)

    def known(self, ids: Sequence[str]) -> dict[str, Attempt]:
        """Those of `ids` that are in the ledger, in the order of `ids`, from whichever round and stage."""
        query = _best(select(_ATTEMPTS.id, _ATTEMPTS.body))
        found = {row.id: row.body for row in self.by_ids(query, _ATTEMPTS.id, ids)}
        return {id: decode(Attempt, found[id]) for id in dict.fromkeys(ids) if id in found}

    def attempts(self, *, round: int | None = None, stage: str | None = None) -> Iterator[Attempt]:
        """Each once, in the order they were added. With a round or stage: those that its current run used."""
        if round is None and stage is None:
            rows = self.pages(_best(select(_ATTEMPTS.seq, _ATTEMPTS.id, _ATTEMPTS.body)), _ATTEMPTS.seq)
        else:
            joined = tables.attempt_uses.join(tables.attempts, _USES.attempt == _ATTEMPTS.id)
            query = _best(select(_USES.seq, _ATTEMPTS.id, _ATTEMPTS.body).select_from(joined))
            where = self.current(_USES.run, round=(_USES.round, round), stage=(_USES.stage, stage))
            rows = self.pages(query.where(*where), _USES.seq)
        seen: set[str] = set()
        for row in rows:
            if row.id not in seen:
                seen.add(row.id)
                yield decode(Attempt, row.body)

    def add_paid(self, paid: Sequence[Paid], *, round: int, stage: str) -> None:
        """Keep replies of attempts that are under way. All of them or none."""
        row = {"round": round, "stage": stage, "kind": _PAID, "run": 0, "at": self.clock()}
        with self.writing() as connection:
            self.add_keyed(connection, tables.events, [{**row, "body": encode({_PAID: list(paid)})}], within=())

    def paid(self, ids: Sequence[str]) -> list[Paid]:
        """What was kept of these attempts (by id), oldest first; of those that have ended since, too."""
        wanted, query = set(ids), select(_EVENTS.seq, _EVENTS.body).where(_EVENTS.kind == _PAID)
        rows = self.pages(query, _EVENTS.seq)
        found = (decode(dict[str, list[Paid]], row.body)[_PAID] for row in rows)
        return [one for some in found for one in some if one.attempt in wanted]

    def under_way(self) -> Iterator[Paid]:
        """What was kept of attempts that have not ended (or failed), oldest first: all that a killed run can take up
        again. One pass; what was kept of the others is left out page by page."""
        for row in self.pages(select(_EVENTS.seq, _EVENTS.body).where(_EVENTS.kind == _PAID), _EVENTS.seq):
            paid = decode(dict[str, list[Paid]], row.body)[_PAID]
            query = select(_ATTEMPTS.id).where(_ATTEMPTS.failed.is_(False))
            ended = {one.id for one in self.by_ids(query, _ATTEMPTS.id, [one.attempt for one in paid])}
            yield from (one for one in paid if one.attempt not in ended)

    def add_verdict(self, attempt_id: str, verdict: Verdict) -> None:
        """For more than one, `add_verdicts` is far cheaper."""
        self.add_verdicts([(attempt_id, verdict)])

    def add_verdicts(self, given: Sequence[tuple[str, Verdict]]) -> None:
        """Judge attempts again: adds to what was said, never replaces it. All of them or, if this raises, none.

        LedgerError if there is no such attempt.
        """
        ids = [id for id, _ in given]
        there = {row.id for row in self.by_ids(select(_ATTEMPTS.id), _ATTEMPTS.id, ids)}
        if missing := [id for id in ids if id not in there]:
            raise LedgerError(f"{missing[0]}: no such attempt in {self.folder}; add the attempt first")
        with self.writing() as connection:
            rows = [{"attempt": id, "body": encode(verdict)} for id, verdict in given]
            self.add_keyed(connection, tables.verdicts, rows, within=())

    def later_verdicts(self) -> dict[str, list[Verdict]]:
        """Attempt's id → the verdicts that were added later, oldest first; attempts without one are left out."""
        found: dict[str, list[Verdict]] = {}
        for row in self.pages(select(_VERDICTS.seq, _VERDICTS.attempt, _VERDICTS.body), _VERDICTS.seq):
            found.setdefault(row.attempt, []).append(decode(Verdict, row.body))
        return found

    def verdicts(self, attempt_id: str) -> list[Verdict]:
        """Those that were added later, oldest first; the attempt holds its own."""
        query = select(_VERDICTS.seq, _VERDICTS.body).where(_VERDICTS.attempt == attempt_id)
        return [decode(Verdict, row.body) for row in self.pages(query, _VERDICTS.seq)]

    def add_case(self, case: Case) -> None:
        self.add_cases([case])

    def add_cases(self, cases: Sequence[Case]) -> None:
        """Keep the cases as they are now; a case that was changed since it was last added is kept as well."""
        stored: dict[str, str] = self._case_digests([case.id for case in cases])
        rows: list[dict[str, Any]] = []
        for case in cases:
            body = encode(case)
            key = digest(body)
            if stored.get(case.id) != key:
                rows.append({"id": case.id, "digest": key, "body": body})
                stored[case.id] = key
        with self.writing() as connection:
            self.add(connection, tables.cases, rows)

    def case(self, id: str) -> Case | None:
        """As it was last added."""
        row = self.first(select(_CASES.body).where(_CASES.id == id).order_by(_CASES.seq.desc()))
        return decode(Case, row.body) if row is not None else None

    def splits(self, ids: Sequence[str]) -> dict[str, str]:
        """Case id → its split, as the case was last added; those that are not in the ledger are left out."""
        return self._of_cases("split", ids)

    def languages(self, ids: Sequence[str]) -> dict[str, str]:
        """Case id → its language, likewise."""
        return self._of_cases("language", ids)

    def _of_cases(self, field: str, ids: Sequence[str]) -> dict[str, str]:
        rows = self.by_ids(select(_CASES.seq, _CASES.id, _CASES.body), _CASES.id, ids)
        return {row.id: json.loads(row.body)[field] for row in sorted(rows, key=lambda row: row.seq)}

    def _case_digests(self, ids: Sequence[str]) -> dict[str, str]:
        rows = self.by_ids(select(_CASES.seq, _CASES.id, _CASES.digest), _CASES.id, ids)
        return {row.id: row.digest for row in sorted(rows, key=lambda row: row.seq)}


def _rows(attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
    failed = ((a, a.error is not None or bool(a.unjudged)) for a in attempts)
    return [{"id": a.id, "failed": lost, "case_id": a.case, "body": encode(a)} for a, lost in failed]


def _best(query: Query) -> Query:
    """Leave out a failed attempt that was made again without failing."""
    again = tables.attempts.alias()
    mended: ColumnElement[bool] = (
        select(again.c.seq).where(again.c.id == _ATTEMPTS.id, again.c.failed.is_(False)).exists()
    )
    return query.where(_ATTEMPTS.failed.is_(False) | ~mended)
