"""What happened on the way (events), and how often each frozen suite was looked at."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import select

from breakfix.ledger import tables
from breakfix.ledger.codec import encode
from breakfix.ledger.database import Database
from breakfix.ledger.rows import Event

_EVENTS, _LOOKS = tables.events.c, tables.looks.c
_LOOK = "look"  # the kind of event that says under which inputs


class Notes(Database):
    """The part of the ledger that holds losses, progress, notes, skipped suites, and looks."""

    def add_event(self, round: int, stage: str, kind: str, payload: Mapping[str, Any]) -> None:
        """`payload` is a JSON object. A stage that is made again and says the same adds nothing."""
        self._add_event(round, stage, kind, payload, self.run)

    def _add_event(self, round: int, stage: str, kind: str, payload: Mapping[str, Any], run: int) -> None:
        row = {"round": round, "stage": stage, "kind": kind, "run": run, "body": encode(payload)}
        with self.writing() as connection:
            self.add_keyed(connection, tables.events, [{**row, "at": self.clock()}], within=(run,))

    def add_spent(self, totals: Mapping[str, Any]) -> None:
        """What was spent on a remote model (`model`) in this run so far. It counts whatever becomes of the stage."""
        self._add_event(0, "run", "spent", totals, 0)

    def spent(self, model: str) -> Mapping[str, Any]:
        """The last of `add_spent` on that model; {} where there is none."""
        rows = [event.payload for event in self.events(0, "run", "spent") if event.payload["model"] == model]
        return rows[-1] if rows else {}

    def events(
        self, round: int | None = None, stage: str | None = None, kind: str | None = None, *, superseded: bool = False
    ) -> Iterator[Event]:
        """In the order they were added; None takes any. `superseded`: with those under inputs changed since."""
        columns = (_EVENTS.seq, _EVENTS.round, _EVENTS.stage, _EVENTS.kind, _EVENTS.body, _EVENTS.at)
        equal = {"round": (_EVENTS.round, round), "stage": (_EVENTS.stage, stage), "kind": (_EVENTS.kind, kind)}
        wanted = [column == value for column, value in equal.values() if value is not None]
        query = select(*columns).where(*(wanted if superseded else self.current(_EVENTS.run, **equal)))
        for row in self.pages(query, _EVENTS.seq):
            yield Event(row.round, row.stage, row.kind, json.loads(row.body), row.at)

    def add_look(self, suite: str, *, round: int, model: str) -> None:
        """Count a look at a frozen suite: once per suite, round, model and inputs of the stage, however often that is
        resumed."""
        with self.writing() as connection:
            row = {"suite": suite, "round": round, "model": model, "at": self.clock()}
            self.add(connection, tables.looks, [row])
        self.add_event(round, "run", _LOOK, {"suite": suite, "model": model})

    def looks(self) -> dict[str, int]:
        """Suite → how many looks, over all rounds, those under inputs that were changed since included (of older
        ledgers, whose table alone has them, one per suite, round and model)."""
        query = select(_EVENTS.seq, _EVENTS.round, _EVENTS.run, _EVENTS.body).where(_EVENTS.kind == _LOOK)
        told = [(json.loads(row.body), row) for row in self.pages(query, _EVENTS.seq)]
        known = {(body["suite"], row.round, body["model"], row.run) for body, row in told}
        with self.reading() as connection:
            rows = connection.execute(select(_LOOKS.suite, _LOOKS.round, _LOOKS.model)).all()
        looks = [*known, *({tuple(row) for row in rows} - {look[:3] for look in known})]
        return dict(sorted(Counter(str(look[0]) for look in looks).items()))
