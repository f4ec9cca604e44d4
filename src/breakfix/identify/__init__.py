"""Identify: failures become named vulnerabilities that prescribe the next round's data, and the gate decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, cast

from breakfix.config import Config
from breakfix.core import Attempt, Case, Estimate, Split, Status, Vulnerability
from breakfix.errors import UserError
from breakfix.identify import edits, gate, group, prescribe, probing, registry
from breakfix.identify.clusters import Embeds, Vectors
from breakfix.identify.why import Whys
from breakfix.ledger import Ledger
from breakfix.stats import from_json

STAGES = ("evaluate", "redteam")
RULES = 3  # of how vulnerabilities live, rank and prescribe; a round identified by others is identified anew
PEOPLE = "human"  # the stage of what people did by hand, whenever they liked


def run(
    config: Config,
    ledger: Ledger,
    *,
    round: int,
    tools: probing.Tools | None = None,
    progress: probing.Progress = probing.quiet,
    embedder: Callable[[], Embeds] | None = None,
) -> dict[str, Any]:
    """Read what evaluate and redteam left in the ledger, write the vulnerabilities, return the stage's record.

    `tools`: to ask the round's model (probing.py); without them nothing is asked. `embedder`: opens the embedding model
    that cells are cut into parts with (clusters.py); where it can't be had (AssetError) they stay whole.

    "vulnerabilities" are the ids of the open ones, the gravest first; "not_measured": those of earlier rounds that this
    one did not measure; "why": the numbers that each status was decided by (why.py); "scored": how many scored attempts
    they were sought in: of none, nothing is known; "left_out": attempts that count for none, by reason; "whole_cells":
    why cells stayed whole that might have had parts, "" where none did for another reason than its failures. Raises
    UserError where the round has attempts of several models.
    """
    case_of = cache(ledger.case)
    now = _attempts(ledger, round)
    if len({a.model for a in now}) > 1:
        raise UserError(_several_models(ledger, round))
    metrics = _metrics(ledger, round)
    grouped = group.group(now, case_of)
    worse, compared = group.capability(metrics, config.gate.capability_margin)
    known = edits.known(ledger, round)
    vectors = Vectors(case_of, embedder, ids={a.case for a in grouped.measured})

    def earlier(number: int) -> list[Attempt]:
        return group.group(_attempts(ledger, number), case_of).measured

    whys = Whys()
    found, ranks, unmeasured = registry.update(
        known,
        [*grouped.cells, *worse],
        grouped.measured,
        grouped.lessons,
        earlier,
        round=round,
        compared=compared,
        vectors=vectors,
        highest=edits.highest(ledger, before=round),
        absorbed=edits.absorbed(ledger, round),
        nearby=_nearby(config, ledger, known, tools, round, progress),
        note=whys.note,
    )
    tried = _tried(ledger, round)
    weights = {id: rank * (whys.yields(id) if tried[id] else prescribe.yields(0, 0)) for id, rank in ranks.items()}
    found = _prescribed(found, ranks, weights, config)
    if tools is not None:
        found = probing.run(config, ledger, found, tools, round=round, progress=progress)
    ledger.add_vulnerabilities(found, round=round)
    stalled = round >= 2 and _stalled(now, _attempts(ledger, round - 2), case_of)
    open_ = [v.id for v in found if v.status is not Status.FIXED]
    return {
        "vulnerabilities": open_,
        **_changes(known, found),
        "ranks": {id: ranks[id] for id in open_},
        "not_measured": unmeasured,
        "why": whys.record(known, found, unmeasured, tried),
        "scored": sum(a.score is not None for a in grouped.measured),
        "left_out": dict(grouped.left_out),
        "whole_cells": vectors.why,
        "gate": gate.decide(config.gate, metrics, found, round=round, stalled=stalled),
    }


def _stalled(now: Sequence[Attempt], before: Sequence[Attempt], case_of: Callable[[str], Case | None]) -> bool:
    """By cases that are not learnt from: what was learnt by heart is no progress."""

    def kept_apart(attempts: Sequence[Attempt]) -> list[Attempt]:
        return [a for a in attempts if (case := case_of(a.case)) is not None and case.split is not Split.TRAIN]

    return gate.no_progress(kept_apart(now), kept_apart(before))


def _nearby(
    config: Config,
    ledger: Ledger,
    known: Sequence[Vulnerability],
    tools: probing.Tools | None,
    round: int,
    progress: probing.Progress,
) -> dict[str, list[Attempt]]:
    """What is asked around the known ones before their status is decided; without `tools`, what was asked before."""
    if tools is not None and known:
        grave = sorted(known, key=lambda v: (v.status is Status.FIXED, -v.rank))
        try:
            probing.around(config, ledger, grave, tools, round=round, progress=progress)
        except probing.Unopened:
            return {}  # probing.run says why
    return probing.near(ledger, round)


def _attempts(ledger: Ledger, round: int) -> list[Attempt]:
    """Of both stages, and what people did to the same model; in an order that no interruption changes. Without their
    transcripts, of which nothing is read here and which take most of the memory."""

    def of(stage: str) -> Iterator[Attempt]:
        return (replace(a, transcript=()) for a in ledger.attempts(round=round, stage=stage))

    found = {a.id: a for stage in STAGES for a in sorted(of(stage), key=lambda a: a.id)}
    models = {a.model for a in found.values()}
    return [*found.values(), *(a for a in of(PEOPLE) if a.model in models)]


def _several_models(ledger: Ledger, round: int) -> str:
    of = {stage: sorted({a.model for a in ledger.attempts(round=round, stage=stage)}) for stage in STAGES}
    told = ", ".join(f"of {stage} {' and '.join(models)}" for stage, models in of.items() if models)
    anew = " and ".join(f"`breakfix {stage} RUN --round {round}`" for stage in STAGES)
    return f"round {round} has measured several models ({told}); a round is of one: {anew} measure it"


def _metrics(ledger: Ledger, round: int) -> dict[str, Estimate]:
    record = ledger.finished(round, "evaluate") or {}
    return {name: from_json(row) for name, row in cast("dict[str, Any]", record.get("metrics") or {}).items()}


def _tried(ledger: Ledger, round: int) -> Counter[str]:
    """Id → how many of the rounds until now had rows of it, by what was prescribed and what people made of that."""
    made, found = edits.read(ledger), Counter[str]()
    for earlier in range(round):
        rows = {v.id: dict(v.prescription) for v in edits.standing(ledger, earlier, made)}
        edited = (ledger.finished(earlier + 1, "curate") or {}).get("prescription", {})
        for change in edited.get("changes", ()):
            if change["what"] == "taken out":
                rows.pop(change["id"], None)
            elif change["what"] in prescribe.ROWS:
                rows.setdefault(change["id"], {})[change["what"]] = change["now"]
        found.update(id for id, some in rows.items() if any(some.values()))
    return found


def _prescribed(
    found: Sequence[Vulnerability], ranks: Mapping[str, float], weights: Mapping[str, float], config: Config
) -> list[Vulnerability]:
    """By rank, the open ones with what they prescribe, the fixed ones last."""
    open_ = [v for v in found if v.status is not Status.FIXED]
    rows = prescribe.prescriptions(open_, weights, config.curate.harmful)
    done = [replace(v, prescription=rows.get(v.id, {})) for v in found]
    return sorted(done, key=lambda v: (v.status is Status.FIXED, -ranks[v.id]))


def _changes(known: Sequence[Vulnerability], found: Sequence[Vulnerability]) -> dict[str, int]:
    before = {v.id: v.status for v in known}
    changed = [v for v in found if before.get(v.id) is not v.status]
    return {
        "opened": sum(v.id not in before for v in changed),
        "fixed": sum(v.status is Status.FIXED for v in changed),
        "reopened": sum(v.status is Status.REOPENED for v in changed),
    }
