"""Lineage: from a training row back to the vulnerability, attempt and case that caused it, and on to its training.

    case ◀─ attempt ◀─ vulnerability ◀─ example ◀─ "round N train" ◀─ what that round did next (evaluate, redteam ...)
              └─▶ model            └─◀ "round N gate"

How models, data sets, stages and gates of rounds hang together: rounds.py.

A node is {id, kind, summary, parents, children}, plain JSON. A summary has ids, labels and counts, never what was said.
Parents of parents and children of children are followed; a node that occurs again has `repeated: true` and ends there.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from typing import Any, Literal

from sqlalchemy import func, select

from breakfix.core import Attempt
from breakfix.errors import LedgerError
from breakfix.ledger import tables
from breakfix.ledger.codec import decode
from breakfix.ledger.rounds import Ref, Rounds, place

Node = dict[str, Any]
Direction = Literal["parents", "children"]
BEGINNING = 4  # characters of an id that are enough to say which is meant
_ROUNDS = ("stage", "data", "model", "gate", "prescription")

_SUMMARY = {  # the fields that are shown as they are: none of them holds text that a model or a source wrote
    "case": ("source", "split", "expect", "hazard", "language", "persona", "family", "licence", "twin"),
    "example": ("source", "kind", "hazard", "language", "family", "licence"),
    "vulnerability": ("kind", "hazard", "family", "language", "severity", "status", "first_round"),
    "attempt": ("case", "model", "attack", "family", "persona", "hazard", "language", "expect", "breach", "seed"),
}
_BODIES = {
    "example": tables.examples,
    "attempt": tables.attempts,
    "vulnerability": tables.vulnerabilities,
    "case": tables.cases,
}


class Lineage(Rounds):
    """The part of the ledger that says what came from what."""

    def lineage(self, id: str) -> Node:
        """The tree around `id`: of an example, attempt, case, vulnerability or model, or "round 1 gate", "round 1 sft",
        "round 1 train". LedgerError if the ledger has none such."""
        self._measured = None
        ref = self._find(id)
        if ref[0] == "unknown" and (named := self.named(id)) is not None:
            ref = named
        if ref[0] == "unknown":
            what = f"{id}: no example, attempt, case, vulnerability or model in {self.folder} has this id"
            hint = "`breakfix report` names the vulnerabilities, and their trace all else; 'round 1 gate' is a decision"
            near = self._nearest(id)
            raise LedgerError(f"{what}; {f'did you mean {near}?' if near else hint}")
        up, down = self._walk(ref, "parents", set()), self._walk(ref, "children", set())
        return {**up, "children": down["children"]}

    def _walk(self, ref: Ref, direction: Direction, seen: set[Ref]) -> Node:
        node: Node = {"id": ref[1], "kind": ref[0], "summary": self._summary(ref), "parents": [], "children": []}
        if ref in seen:
            return {**node, "repeated": True}
        seen.add(ref)
        nearer = self._parents if direction == "parents" else self._children
        node[direction] = [self._walk(other, direction, seen) for other in nearer(ref)]
        return node

    def _find(self, id: str) -> Ref:
        return next(((kind, id) for kind in _BODIES if self._body(kind, id) is not None), ("unknown", id))

    def _nearest(self, id: str) -> str | None:
        """One that begins so, where that is enough to tell; else one that differs in little."""
        known = self.names()
        for table in _BODIES.values():
            c = table.c.id
            alike = func.length(c).between(len(id) - 2, len(id) + 2)
            if len(id) >= BEGINNING:
                alike |= c.startswith(id, autoescape=True)
            with self.reading() as connection:
                known += connection.execute(select(c).where(alike).distinct().order_by(c)).scalars()
        if len(id) >= BEGINNING and (longer := next((one for one in known if one.startswith(id)), None)):
            return longer
        said = {one.lower(): one for one in known}
        cutoff = 0.8 if len(id) > BEGINNING else 0.5  # ids of hex digits are all a little alike
        return next((said[one] for one in difflib.get_close_matches(id.lower(), said, n=1, cutoff=cutoff)), None)

    def _body(self, kind: str, id: str) -> Node | None:
        """The record, as plain JSON, as it was last added."""
        c = _BODIES[kind].c
        row = self.first(select(c.body).where(c.id == id).order_by(c.seq.desc()))
        return json.loads(row.body) if row is not None else None

    def _parents(self, ref: Ref) -> list[Ref]:
        kind, id = ref
        if kind in _ROUNDS:
            return self.round_parents(ref)
        body = self._body(kind, id) if kind in _BODIES else None
        if body is None:
            return []
        if kind == "attempt":
            return [("case", body["case"]), ("model", body["model"])]
        if kind == "case":
            return [("case", body["twin"])] if body["twin"] else []
        return self._linked(id)

    def _linked(self, child: str) -> list[Ref]:
        links = tables.links.c
        rows = self.pages(select(links.seq, links.parent).where(links.child == child), links.seq)
        return [self._find(row.parent) for row in rows]

    def _children(self, ref: Ref) -> list[Ref]:
        kind, id = ref
        if kind in _ROUNDS:
            return self.round_children(ref) + (self._after(id) if kind == "stage" else [])
        links = tables.links.c
        rows = self.pages(select(links.seq, links.kind, links.child).where(links.parent == id), links.seq)
        found = [(row.kind, row.child) for row in rows]
        extra: dict[str, Callable[[str], list[Ref]]] = {"case": self._attempts_of, "example": self._trainings_of}
        more = self.round_children(ref) if kind == "vulnerability" else []
        return (extra[kind](id) if kind in extra else []) + found + more

    def _attempts_of(self, case: str) -> list[Ref]:
        c = tables.attempts.c
        rows = self.pages(select(c.seq, c.id).where(c.case_id == case), c.seq)
        return [("attempt", id) for id in dict.fromkeys(row.id for row in rows)]

    def _trainings_of(self, example: str) -> list[Ref]:
        """The train stages of the rounds whose data sets have it: by name, "train" or "train..."."""
        uses, examples, stages = tables.example_uses, tables.examples, tables.stages
        joined = uses.join(examples, uses.c.example == examples.c.digest).join(stages, stages.c.round == uses.c.round)
        query = select(stages.c.round, stages.c.name).select_from(joined).distinct()
        where = (examples.c.id == example, stages.c.name.startswith("train"), *self.current(uses.c.run))
        with self.reading() as connection:
            rows = connection.execute(query.where(*where).order_by(stages.c.round, stages.c.name)).all()
        return [("stage", f"round {round} {name}") for round, name in rows]

    def _after(self, stage: str) -> list[Ref]:
        """The stages of its round that began after it had ended: what judged the weights it made. Only for training."""
        round, name = place(stage)
        starts, ends, stages = tables.stage_starts.c, tables.stage_ends.c, tables.stages.c
        mine = select(ends.at).join_from(tables.stage_ends, tables.stages)
        ended = self.first(mine.where(stages.round == round, stages.name == name).order_by(ends.at.desc()))
        if ended is None or not name.startswith("train"):
            return []
        later = select(stages.name).join_from(tables.stages, tables.stage_starts).distinct()
        where = (stages.round == round, stages.name != name, starts.at >= ended.at)
        with self.reading() as connection:
            return [("stage", f"round {round} {row.name}") for row in connection.execute(later.where(*where)).all()]

    def _summary(self, ref: Ref) -> Node:
        kind, id = ref
        if kind in _ROUNDS:
            return self._stage_summary(id) if kind == "stage" else self.round_summary(ref)
        body = self._body(kind, id) if kind in _BODIES else None
        if body is None:
            return {}
        summary = {name: body[name] for name in _SUMMARY[kind] if body.get(name) not in (None, "")}
        return summary | _COUNTS.get(kind, _nothing)(body)

    def _stage_summary(self, id: str) -> Node:
        round, name = place(id)
        stages, ends = tables.stages, tables.stage_ends
        query = select(stages.c.digest, ends.c.seconds).select_from(stages.outerjoin(ends))
        where = (stages.c.round == round, stages.c.name == name)
        row = self.first(query.where(*where).order_by(ends.c.at.desc().nulls_last()))
        if row is None:
            return {}
        return {"inputs": row.digest, "finished": row.seconds is not None, "seconds": row.seconds}


def _nothing(body: Node) -> Node:
    return {}


def _attempt_counts(body: Node) -> Node:
    attempt = decode(Attempt, json.dumps(body))
    held = "not scored" if attempt.score is None else "held"
    result = held if attempt.breach is None or attempt.score is None else f"broke in turn {attempt.breach + 1}"
    return {"turns": len(attempt.verdicts), "error": attempt.error is not None, "result": result}


def _example_counts(body: Node) -> Node:
    return {"pair": body["rejected"] is not None}


def _vulnerability_counts(body: Node) -> Node:
    rate = body["rate"]
    return {"rate": rate["value"], "n": rate["n"], "unscored": rate["unscored"], "evidence": len(body["evidence"])}


_COUNTS: dict[str, Callable[[Node], Node]] = {
    "attempt": _attempt_counts,
    "example": _example_counts,
    "vulnerability": _vulnerability_counts,
}
