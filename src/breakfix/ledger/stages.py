"""Stages: made once per inputs. What is finished is returned; what is not is made, stored, and only then marked."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import and_, func, select

from breakfix.core import digest
from breakfix.ledger import tables
from breakfix.ledger.codec import encode
from breakfix.ledger.database import Database, Query, Record
from breakfix.ledger.rows import StageRow
from breakfix.ledger.usage import peak_mb, reset_peak

_STAGES, _STARTS, _ENDS = tables.stages.c, tables.stage_starts.c, tables.stage_ends.c


class Stages(Database):
    """The part of the ledger that knows which work is done."""

    def stage(self, round: int, name: str, inputs: Mapping[str, Any], make: Callable[[], Record]) -> Record:
        """What `make` made of these inputs: from the ledger if that was finished once, else by calling it now.

        `inputs` and the record are JSON values; the record comes back as the ledger holds it (tuples are lists), the
        same now and after a restart. Rows that `make` adds belong to this run (see database.py); it must add those it
        reuses too (`known` attempts): adding again costs little. If `make` raises, the stage stays unfinished and is
        made again when it is next asked for.
        """
        run = self._identify(round, name, digest(dict(inputs)))
        found = self.first(select(_ENDS.body).where(_ENDS.stage == run))
        if found is not None:
            self._ask_again(round, name, run)
            return json.loads(found.body)
        began = self._begin(run)
        with self._inside(run):
            body = encode(make())
        with self.writing() as connection:
            now = self.clock()
            end = {"stage": run, "at": now, "seconds": max(0.0, now - began), "peak_mb": peak_mb(), "body": body}
            self.add(connection, tables.stage_ends, [end])
        return json.loads(body)

    def stages(self) -> list[StageRow]:
        """Every stage with every set of inputs, in the order they were last asked for."""
        with self.reading() as connection:
            rows = connection.execute(_rows()).all()
        since: dict[tuple[int, str], float] = {}
        for row in rows:
            since[row.round, row.name] = min(row.first, since.get((row.round, row.name), row.first))
        return [
            StageRow(
                row.round,
                row.name,
                row.digest,
                json.loads(row.body) if row.body is not None else None,
                row.started,
                row.seconds,
                row.peak_mb,
                row.body is not None,
                row.starts,
                since[row.round, row.name],
            )
            for row in rows
        ]

    def finished(self, round: int, name: str) -> Record | None:
        """The record of this stage as it was last asked for and finished; None if it never was."""
        query = _rows().where(_STAGES.round == round, _STAGES.name == name, _ENDS.body.is_not(None))
        with self.reading() as connection:
            rows = connection.execute(query).all()
        return json.loads(rows[-1].body) if rows else None

    def _identify(self, round: int, name: str, key: str) -> int:
        with self.writing() as connection:
            self.add(connection, tables.stages, [{"round": round, "name": name, "digest": key}])
            same = and_(_STAGES.round == round, _STAGES.name == name, _STAGES.digest == key)
            return connection.execute(select(_STAGES.seq).where(same)).scalar_one()

    def _ask_again(self, round: int, name: str, run: int) -> None:
        """Note that finished work is wanted again, unless it is what was asked for last."""
        starts = select(_STARTS.stage).join_from(tables.stage_starts, tables.stages)
        last = self.first(starts.where(_STAGES.round == round, _STAGES.name == name).order_by(_STARTS.seq.desc()))
        if last is None or last.stage != run:
            self._note_start(run, self.clock(), made=False)

    def _begin(self, run: int) -> float:
        began = self.clock()
        self._note_start(run, began, made=True)
        if not self._runs:  # a stage within a stage reports the peak since the outer one began
            reset_peak()
        return began

    def _note_start(self, run: int, at: float, *, made: bool) -> None:
        with self.writing() as connection:
            self.add(connection, tables.stage_starts, [{"stage": run, "at": at, "made": made}])

    @contextmanager
    def _inside(self, run: int) -> Generator[None]:
        self._runs.append(run)
        try:
            yield
        finally:
            self._runs.pop()
            self._written.pop(run, None)  # made again, it counts from the start


def _rows() -> Query:
    """The columns of StageRow, with `body` for the record; ordered by when each was last asked for."""
    begun = (
        select(
            _STARTS.stage,
            func.max(_STARTS.seq).label("asked"),
            func.max(_STARTS.at).filter(_STARTS.made).label("started"),
            func.min(_STARTS.at).label("first"),
            func.count().filter(_STARTS.made).label("starts"),
        )
        .group_by(_STARTS.stage)
        .subquery()
    )
    columns = (_STAGES.round, _STAGES.name, _STAGES.digest, _ENDS.body, _ENDS.seconds, _ENDS.peak_mb)
    joined = tables.stages.join(begun, begun.c.stage == _STAGES.seq).outerjoin(tables.stage_ends)
    return select(*columns, begun.c.first, begun.c.started, begun.c.starts).select_from(joined).order_by(begun.c.asked)
