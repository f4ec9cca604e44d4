"""What a round has as a whole, for lineage: its model, data sets, stages, gate, and the prescription that people
changed, and how they hang together.

    "round 0 gate" ─▶ "round 1 curate" ─▶ "round 1 sft" ─▶ "round 1 train" ─▶ model ─▶ "round 1 evaluate" ─▶ ...
    "round 0 prescription" ─▲

A model is known by its id, as attempts have it. Rows and attempts of a round are not named here one by one: a data set
has the vulnerabilities that its rows answer, a model the stages that it was measured in.
"""

from __future__ import annotations

import json
import re
from typing import Any

from sqlalchemy import func, select

from breakfix.ledger import tables
from breakfix.ledger.database import Database

Ref = tuple[str, str]  # (kind, id)
MEASURING = ("evaluate", "redteam")
_NAMED = re.compile(r"round (\d{1,6}) (\S.*)")


class Rounds(Database):
    """Nodes of a round: kinds stage, data, model, gate and prescription."""

    _measured: dict[int, str] | None = None  # what `_models` found; a trace begins with None

    def named(self, id: str) -> Ref | None:
        """The node that is called so: "round 1 gate", "round 1 sft", "round 1 train", or a model's id."""
        if (found := _NAMED.fullmatch(id)) is None:
            model = self._as_measured(id)
            return ("model", model) if model in self._models().values() else None
        round, name = int(found[1]), found[2]
        if name == "gate":
            return ("gate", id) if self._gate(round) else None
        if name == "prescription":
            return ("prescription", id) if self._prescription(round) else None
        if name in self._datasets(round):
            return "data", id
        return ("stage", id) if name in self._stage_names(round) else None

    def names(self) -> list[str]:
        """Of all the nodes that `named` knows."""
        stages = self._stages()
        rounds = dict.fromkeys(round for round, _ in stages)
        whole = [ref for round in rounds for ref in (*self._gate_refs(round), *self._prescription_refs(round))]
        data = [ref for round in rounds for ref in self._data_refs(round)]
        return [
            *self._models().values(),
            *(id for _, id in (*whole, *data)),
            *(f"round {r} {name}" for r, name in stages),
        ]

    def round_parents(self, ref: Ref) -> list[Ref]:
        kind, id = ref
        if kind == "model":
            rounds = [round for round, model in self._models().items() if model == id and round]
            return [stage for round in rounds for stage in self._stage_refs(round, "train")]
        round, name = place(id)
        if kind == "gate":
            open_ = [("vulnerability", v) for v in self._vulnerabilities_of(round)]
            return [*open_, *self._stage_refs(round, *MEASURING)]
        if kind == "prescription":
            changed = dict.fromkeys(change["id"] for change in self._changes(round) if change["id"])
            return [("vulnerability", v) for v in changed]
        if kind == "data":
            return [*self._answered(round, name), *self._stage_refs(round, "curate")]
        if name == "curate":
            return [*self._gate_refs(round - 1), *self._prescription_refs(round - 1)]
        if name == "train":
            began = (self._record(round, "train") or {}).get("started_from")
            began = self._models().get(round - 1) if began is None else self._as_measured(began)
            return [*self._data_refs(round), *([("model", began)] if began else [])]
        return self._model_refs(round) if name in MEASURING else []

    def round_children(self, ref: Ref) -> list[Ref]:
        kind, id = ref
        if kind == "vulnerability":
            rounds = sorted({round for round, name in self._stages() if name == "identify"})
            gates = [("gate", f"round {round} gate") for round in rounds if id in self._vulnerabilities_of(round)]
            changed = [r for r in rounds if any(change["id"] == id for change in self._changes(r))]
            return [*gates, *(ref for r in changed for ref in self._prescription_refs(r))]
        if kind == "model":
            measured = [round for round, model in self._models().items() if model == id]
            here = [stage for round in measured for stage in self._stage_refs(round, *MEASURING)]
            return here + self._trained_from(id, measured)
        round, name = place(id)
        if kind in ("gate", "prescription"):
            return self._stage_refs(round + 1, "curate")
        if kind == "data":
            return self._stage_refs(round, "train")
        if name == "curate":
            return self._data_refs(round)
        if name == "train":
            return self._model_refs(round) if round in self._models() else []
        return self._gate_refs(round) if name in MEASURING else []

    def round_summary(self, ref: Ref) -> dict[str, Any]:
        kind, id = ref
        if kind == "model":
            rounds = [round for round, model in self._models().items() if model == id]
            return {"rounds": ", ".join(map(str, rounds))} if rounds else {}
        round, name = place(id)
        if kind == "data":
            return {"rows": self._datasets(round)[name]}
        if kind == "prescription":
            said = "; ".join(change["said"] for change in self._changes(round))
            return {"changed_by": "a person", "changes": said, "sha256": (self._prescription(round) or {})["sha256"]}
        gate = self._gate(round) or {}
        failed = sum(not reason["ok"] for reason in gate["reasons"])
        own = {"outcome": gate["loop"]["outcome"]} if "loop" in gate else {}
        return {"decision": gate["decision"], "conditions": len(gate["reasons"]), "failed": failed, **own}

    def _record(self, round: int, name: str) -> dict[str, Any] | None:
        """As `finished` of stages.py, which this can't import: the record of the run that was last asked for."""
        stages, starts, ends = tables.stages.c, tables.stage_starts.c, tables.stage_ends.c
        joined = tables.stages.join(tables.stage_ends).join(tables.stage_starts, starts.stage == stages.seq)
        query = select(ends.body).select_from(joined).where(stages.round == round, stages.name == name)
        row = self.first(query.order_by(starts.seq.desc()))
        return None if row is None else json.loads(row.body)

    def _gate(self, round: int) -> dict[str, Any] | None:
        return (self._record(round, "identify") or {}).get("gate")

    def _gate_refs(self, round: int) -> list[Ref]:
        return [("gate", f"round {round} gate")] if self._gate(round) else []

    def _prescription(self, round: int) -> dict[str, Any] | None:
        """Of a prescription that people changed: what the curation that learnt by it recorded."""
        return (self._record(round + 1, "curate") or {}).get("prescription")

    def _prescription_refs(self, round: int) -> list[Ref]:
        return [("prescription", f"round {round} prescription")] if self._prescription(round) else []

    def _changes(self, round: int) -> list[dict[str, Any]]:
        return (self._prescription(round) or {"changes": []})["changes"]

    def _vulnerabilities_of(self, round: int) -> list[str]:
        """The open ones, which the gate was told of."""
        return list((self._record(round, "identify") or {}).get("vulnerabilities", []))

    def _stages(self) -> list[tuple[int, str]]:
        c = tables.stages.c
        with self.reading() as connection:
            rows = connection.execute(select(c.round, c.name).distinct().order_by(c.round)).all()
        return [(round, name) for round, name in rows]

    def _stage_names(self, round: int) -> set[str]:
        return {name for number, name in self._stages() if number == round}

    def _stage_refs(self, round: int, *names: str) -> list[Ref]:
        there = self._stage_names(round)
        return [("stage", f"round {round} {name}") for name in names if name in there]

    def _models(self) -> dict[int, str]:
        """Round → the model that it measured."""
        if self._measured is not None:
            return self._measured
        uses, attempts = tables.attempt_uses, tables.attempts
        joined = uses.join(attempts, uses.c.attempt == attempts.c.id)
        query = select(attempts.c.body).select_from(joined).order_by(uses.c.seq)
        found: dict[int, str] = {}
        with self.reading() as connection:
            rounds = connection.execute(select(uses.c.round).distinct().order_by(uses.c.round)).scalars().all()
        current = self.current(uses.c.run)
        for round in rounds:
            row = self.first(query.where(uses.c.round == round, uses.c.stage.in_(MEASURING), *current))
            if row is not None:
                found[round] = json.loads(row.body)["model"]
        self._measured = found
        return found

    def _as_measured(self, weights: str) -> str:
        """llama@0123 → llama@0123:bfloat16, where a round measured that: attempts say the precision, too."""
        found = (model for model in self._models().values() if weights in (model, model.partition(":")[0]))
        return next(found, weights)

    def _model_refs(self, round: int) -> list[Ref]:
        model = self._models().get(round)
        return [] if model is None else [("model", model)]

    def _trained_from(self, model: str, measured: list[int]) -> list[Ref]:
        """The trainings that began with this model: as they say, else those of the round after it."""
        found: list[Ref] = []
        for round in sorted({round for round, name in self._stages() if name == "train"}):
            began = (self._record(round, "train") or {}).get("started_from")
            if (began is not None and self._as_measured(began) == model) or (began is None and round - 1 in measured):
                found.append(("stage", f"round {round} train"))
        return found

    def _datasets(self, round: int) -> dict[str, int]:
        """Data set → rows."""
        c = tables.example_uses.c
        query = select(c.dataset, func.count().label("n")).where(*self.current(c.run, round=(c.round, round)))
        with self.reading() as connection:
            rows = connection.execute(query.group_by(c.dataset).order_by(func.min(c.seq))).all()
        return {row.dataset: row.n for row in rows}

    def _data_refs(self, round: int) -> list[Ref]:
        return [("data", f"round {round} {name}") for name in self._datasets(round)]

    def _answered(self, round: int, dataset: str) -> list[Ref]:
        """The vulnerabilities that rows of a data set came from."""
        uses, examples, links, found = tables.example_uses, tables.examples, tables.links, tables.vulnerabilities
        joined = (
            uses.join(examples, uses.c.example == examples.c.digest)
            .join(links, links.c.child == examples.c.id)
            .join(found, found.c.id == links.c.parent)
        )
        where = self.current(uses.c.run, round=(uses.c.round, round), dataset=(uses.c.dataset, dataset))
        query = select(found.c.id).select_from(joined).where(*where).distinct().order_by(found.c.id)
        with self.reading() as connection:
            return [("vulnerability", id) for id in connection.execute(query).scalars()]


def place(id: str) -> tuple[int, str]:
    """'round 3 train' → (3, 'train')"""
    _, round, name = id.split(" ", 2)
    return int(round), name
