"""The document that every form of the report is made of: collected from the ledger, plain JSON values.

Its shape is data/report.schema.json, named "breakfix-report/1": names and meanings in it do not change under that
name. Unknown is null, never 0. A stage that did not finish in a round leaves null where its part would be.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from breakfix.identify import edits
from breakfix.report.judges import Cards, corrected
from breakfix.report.languages import by_language
from breakfix.report.redaction import Redaction, check, transcripts
from breakfix.report.tally import GENERATING, MEASURING, Tally, cells, languages, tally
from breakfix.report.weaknesses import weaknesses

if TYPE_CHECKING:  # SQLAlchemy is heavy, and a report of a stored document needs none
    from breakfix.ledger import Ledger, StageRow

SCHEMA = "breakfix-report/1"
Json = dict[str, Any]
Tallies = dict[tuple[int, str], Tally]  # (round, stage) → what was counted in it
_TRAINING = ("sft", "dpo", "kto")
_DATA = (
    "rows",
    "mix",
    "by_source",
    "by_hazard",
    "by_language",
    "from_vulnerabilities",
    "licences",
    "decontamination",
    "own_replies",
    "matched",
)


def build(ledger: Ledger, redaction: Redaction = "public") -> Json:
    """Everything that a report shows of a run, finished or not. UserError for an unknown level of redaction."""
    check(redaction)
    stages = _current(ledger.stages())
    indices = sorted({row.round for row in stages})
    tallies = _tallies(ledger, stages)
    who = _who_judged(stages, tallies)
    cards = Cards()
    spoken = by_language({round: one for (round, stage), one in tallies.items() if stage == "evaluate"})
    found = edits.known(ledger, max(indices, default=0) + 1)
    evidence = [id for v in found for id in (v.reproducer, *v.evidence) if id]
    document = {
        "schema": SCHEMA,
        "redaction": redaction,
        "run": _run(ledger, stages),
        "rounds": [
            {
                **_round(ledger, index, [row for row in stages if row.round == index], cards, tallies),
                "by_language": spoken.get(index, {}),
            }
            for index in indices
        ],
        "judges": [cards.shown(judge) for judge in sorted({judge for names in who.values() for judge in names})],
        "vulnerabilities": weaknesses(ledger, found, indices, stages),
        "looks": ledger.looks(),
        "transcripts": transcripts(ledger.known(evidence).values(), redaction) if redaction != "public" else [],
        "notes": [
            {"round": event.round, "stage": event.stage, "text": str(event.payload.get("text", ""))}
            for event in ledger.events(kind="note")
        ],
    }
    return cast("Json", _known(document))


def to_json(document: Json) -> str:
    """JSON text, ASCII (whatever a model said survives any pipe and is inert in a terminal), without NaN."""
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def schema() -> Json:
    """The published JSON schema (draft 2020-12) of the document."""
    return json.loads(resources.files("breakfix").joinpath("data", "report.schema.json").read_text(encoding="utf-8"))


def _current(rows: Sequence[StageRow]) -> list[StageRow]:
    """One row per round and stage: as it was last asked for; in the order in which they first began."""
    last = {(row.round, row.name): row for row in rows}
    return sorted(last.values(), key=lambda row: (row.round, row.since))


def _run(ledger: Ledger, stages: Sequence[StageRow]) -> Json:
    facts: Mapping[str, Any] = {}
    for event in ledger.events(kind="facts"):
        facts = event.payload
    started = min((row.since for row in stages), default=None)
    return {
        "name": facts.get("name", ledger.folder.name),
        "model": facts.get("model", "unknown"),
        "started": None if started is None else datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "breakfix_version": facts.get("breakfix_version", "unknown"),
        "versions": facts.get("versions", {}),
        "machine": facts.get("machine", {}),
        "families": facts.get("families", {}),
        "max_new_tokens": facts.get("max_new_tokens", {}),
    }


def _who_judged(stages: Sequence[StageRow], tallies: Tallies) -> dict[tuple[int, str], set[str]]:
    """(round, stage) → the judges (name@version) of its attempts and suites."""
    found: dict[tuple[int, str], set[str]] = defaultdict(set)
    for row in stages:
        if (row.round, row.name) in tallies:
            found[row.round, row.name].update(tallies[row.round, row.name].judges)
        suites: Mapping[str, Json] = (row.record or {}).get("suites", {}) if row.name == "evaluate" else {}
        judges = [str(suite.get("judge", "")) for suite in suites.values()]
        if row.name == "redteam":
            second: Json = (row.record or {}).get("achieved") or {}
            judges.append(str(second.get("judge")))
        found[row.round, row.name].update(judge for judge in judges if "@" in judge)  # else likelihoods are compared
    return found


def _tallies(ledger: Ledger, stages: Sequence[StageRow]) -> Tallies:
    """What people did by hand is no stage."""
    named = [(row.round, row.name) for row in stages if row.name in GENERATING]
    by_hand = [(round, "human") for round in sorted({row.round for row in stages})]
    return {at: tally(ledger.attempts(round=at[0], stage=at[1])) for at in dict.fromkeys([*named, *by_hand])}


def _round(ledger: Ledger, index: int, stages: Sequence[StageRow], cards: Cards, tallies: Tallies) -> Json:
    records = {row.name: row.record for row in stages if row.record is not None}
    evaluated, red_team = records.get("evaluate", {}), records.get("redteam", {})
    identified, trained = records.get("identify"), records.get("train")
    metrics = {**evaluated.get("metrics", {}), **red_team.get("metrics", {})}
    suites = evaluated.get("suites", {})
    attacked = tallies[index, "redteam"].judges if (index, "redteam") in tallies else ()
    return {
        "index": index,
        "metrics": metrics,
        "corrected": corrected(cards, metrics, suites, attacked),
        "suites": suites,
        "cells": cells(ledger, [tallies[index, stage] for stage in MEASURING if (index, stage) in tallies]),
        "languages": languages(tallies.get((index, "evaluate"))),
        "stages": [_stage(row, tallies) for row in stages],
        "data": _data(ledger, index, records.get("curate")),
        "train": None if trained is None else {k: _brief(trained[k]) for k in _TRAINING if trained.get(k)},
        "probe": _probe(trained),
        "selection": _selection(records.get("select"), trained),
        "gate": None if identified is None else identified.get("gate"),
        "skipped": _skipped(evaluated, red_team),
    }


def _probe(trained: Json | None) -> Json | None:
    """None, too, where there was too little to learn from."""
    found = (trained or {}).get("probe", {})
    return found if "metrics" in found else None


def _selection(selected: Json | None, trained: Json | None) -> Json | None:
    """None, too, where it is one of checkpoints that training has left behind since."""
    if not selected or not trained or set(selected["candidates"]) != set(trained["candidates"]):
        return None
    said, here = dict(selected), Path(trained["model"]).parent.name
    return said if said.pop("training", here) == here else None


def _stage(row: StageRow, tallies: Tallies) -> Json:
    tokens_in, tokens_out = _tokens(row, tallies)
    return {
        "name": row.name,
        "finished": row.finished,
        "seconds": row.seconds,
        "peak_mb": row.peak_mb,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "cached": (row.record or {}).get("reused"),
    }


def _tokens(row: StageRow, tallies: Tallies) -> tuple[int | None, int | None]:
    """As the stage counted them; else those of the attempts it used; for training, (those of its rows, None)."""
    record = row.record or {}
    if "tokens_in" in record or "tokens_out" in record:
        return record.get("tokens_in"), record.get("tokens_out")
    if (counted := tallies.get((row.round, row.name))) is not None:
        return counted.tokens_in, counted.tokens_out
    parts: list[Json] = [record, *(record.get(kind) or {} for kind in _TRAINING)]  # a part is a stage of its own, too
    checks: list[Json] = [part.get("preflight") or {} for part in parts]
    counts = [check["tokens"] for check in checks if "tokens" in check]
    return (sum(counts) if counts else None), None


def _brief(value: Any) -> Any:
    """A training record without its long parts: a list of records becomes their number."""
    if isinstance(value, dict):
        return {key: _brief(item) for key, item in cast("Json", value).items()}
    if isinstance(value, list) and any(isinstance(item, dict) for item in cast("list[Any]", value)):
        return len(cast("list[Any]", value))
    return cast("Any", value)


def _data(ledger: Ledger, index: int, record: Json | None) -> Json | None:
    if record is None:
        return None
    counts = ledger.drop_counts(index)
    dropped = [{"step": step, "reason": reason, "n": n} for (step, reason), n in counts.items()]
    edited = {"prescription": record["prescription"]} if "prescription" in record else {}
    return {**{name: record.get(name, {}) for name in _DATA}, **edited, "dropped": dropped or record.get("dropped", [])}


_SPENT = "the budget was spent"


def _skipped(evaluated: Json, attacked: Json) -> list[Json]:
    """What was not measured, and why: suites (n is null), and attacks that could not be put to a case (n of them)."""
    suites = [{"stage": "evaluate", **row, "n": None} for row in evaluated.get("skipped", [])]
    reasons = dict(attacked.get("skipped", {}))
    if attacked.get("unrun"):  # older records do not say which budget
        reasons |= {f"not run: {why}": n for why, n in attacked.get("unrun_by", {_SPENT: attacked["unrun"]}).items()}
    return suites + [{"stage": "redteam", "suite": "", "reason": reason, "n": n} for reason, n in reasons.items()]


def _known(value: Any) -> Any:
    """Plain JSON values throughout, with null for nan and the infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _known(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _known(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_known(item) for item in cast("Sequence[Any]", value)]
    return value
