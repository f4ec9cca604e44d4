"""One model as a column: its figures as they were recorded, and the outcomes behind them, from a ledger.

The figures are those of the stages' records, so that a comparison never shows another number than the report. Outcomes
are counted anew from attempts and items, by the functions that made the figures (evaluate/rates.py, redteam/run.py).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from breakfix import starter
from breakfix.campaign import AsIs
from breakfix.compare.paired import Key, Kind, Outcome, Outcomes
from breakfix.core import Attempt, Case, Estimate, Split, Verdict, digest
from breakfix.errors import LedgerError
from breakfix.evaluate import LOGP, capability, perplexity
from breakfix.evaluate.items import recorded
from breakfix.evaluate.rates import outcomes
from breakfix.redteam.run import groups
from breakfix.stats import as_json, clustered_rate
from breakfix.suites import SUITES

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

Json = dict[str, Any]
Noted = Mapping[str, set[str]]  # suite → the cases that it put


@dataclass(frozen=True, slots=True)
class Items:
    """The outcomes behind one figure, and who judged them (name@version)."""

    kind: Kind
    outcomes: Outcomes
    judges: frozenset[str]


@dataclass(frozen=True, slots=True)
class Column:
    """`name` heads the column; `metrics` are estimates as JSON; `items` those of them whose outcomes are known.

    `about` is for people: what the column is made of, and the settings that decide what a figure means.
    """

    name: str
    metrics: Mapping[str, Json]
    items: Mapping[str, Items]
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])


def read(
    ledger: Ledger, round: int, name: str, held_out: Iterable[str], about: Mapping[str, Any], judge: str = ""
) -> Column:
    """The column of a round's model. `judge` (name@version): replies are counted by its verdicts, the run's own or
    those that were added later (`breakfix judges rejudge`); a reply that it has not judged is unscored.

    LedgerError where the round's evaluation has not finished.
    """
    evaluated = ledger.finished(round, "evaluate")
    if evaluated is None:
        run = ledger.folder
        raise LedgerError(f"{run}: round {round} has not been evaluated; `breakfix status {run}` shows what there is")
    attacked: Json = ledger.finished(round, "redteam") or {}
    asked = [a for a in ledger.attempts(round=round, stage="evaluate") if a.attack == AsIs.name]
    attacks = list(ledger.attempts(round=round, stage="redteam")) if attacked else []
    if judge:
        later = ledger.later_verdicts()
        asked, attacks = ([_judged(a, judge, later.get(a.id, ())) for a in some] for some in (asked, attacks))
    noted = {str(e.payload["suite"]): set(e.payload["cases"]) for e in ledger.events(round, "evaluate", "cases")}
    replies = _replies(ledger, evaluated["suites"], noted, {attempt.case: attempt for attempt in asked})
    broken = _attacks(ledger, attacks, set(held_out))
    scored = {
        **_choices(ledger, evaluated["suites"], noted, round),
        **_perplexities(ledger, evaluated["suites"], round),
    }
    metrics = {**evaluated["metrics"], **attacked.get("metrics", {})}
    if judge:
        metrics |= {metric: as_json(_estimate(items)) for metric, items in {**replies, **broken}.items()}
    found = {metric: items for metric, items in {**replies, **broken, **scored}.items() if metric in metrics}
    facts = {
        "model": _model(ledger, [*asked, *attacks], round),
        "judges": sorted({judge for items in found.values() for judge in items.judges} - {LOGP}),
        "suites": {suite: {"n": row["n"], "split": row["split"]} for suite, row in evaluated["suites"].items()},
        "skipped": [{"suite": row["suite"], "reason": row["reason"]} for row in evaluated.get("skipped", [])],
    }
    return Column(name, metrics, found, {**about, **facts})


def _judged(attempt: Attempt, judge: str, later: Sequence[Verdict]) -> Attempt:
    """The attempt with that judge's verdict alone; unscored where it gave none."""
    if attempt.error is not None or {verdict.judge for verdict in attempt.verdicts} == {judge}:
        return attempt
    given = [verdict for verdict in later if verdict.judge == judge]
    verdict = given[-1] if given else Verdict(None, "unscored", "not judged by it", judge)
    turns = (attempt.place(0),) if attempt.verdicts else ()
    breach = 0 if verdict.score == 0 else None
    return replace(attempt, verdicts=(verdict,), breach=breach, turns=turns, cut=())


def _estimate(items: Items) -> Estimate:
    """As evaluate and the red team estimate shares."""
    told = ((key.case, outcome if isinstance(outcome, float) else None) for key, outcome in items.outcomes.items())
    return clustered_rate(told, random.Random(0))


def _replies(ledger: Ledger, suites: Json, noted: Noted, asked: Mapping[str, Attempt]) -> dict[str, Items]:
    cases = list(_cases(ledger, asked))
    found: dict[str, Items] = {}
    for suite in suites:
        members = [case for case in cases if _belongs(case, suite, noted)]
        for metric, counted in outcomes(suite, members, asked).items():
            attempts = [asked[id] for id in counted]
            found[metric] = _items({_key(asked[id], ""): outcome for id, outcome in counted.items()}, attempts)
    return found


def _belongs(case: Case, suite: str, noted: Noted) -> bool:
    """Whether a case was put for a suite. Runs of before that was noted: its source says so, but for the starter
    pack's, which is two suites."""
    if suite in noted:
        return case.id in noted[suite]
    if case.source == "starter":
        return suite == ("plain" if starter.kind_of(case) == "plain" else "starter_dev")
    spec = SUITES.get(suite)
    return case.source == suite or (spec is not None and case.source in (spec.files or {}))


def _attacks(ledger: Ledger, attempts: Sequence[Attempt], held_out: set[str]) -> dict[str, Items]:
    """What broke (1), as the red team's figures count it: on dev cases."""
    dev = {case.id for case in _cases(ledger, {attempt.case for attempt in attempts}) if case.split is Split.DEV}
    return {
        metric: _items({_key(a, a.attack): None if a.score is None else 1.0 - a.score for a in some}, some)
        for metric, some in groups([a for a in attempts if a.case in dev], held_out).items()
    }


def _items(found: Mapping[Key, Outcome], attempts: Iterable[Attempt]) -> Items:
    return Items("share", found, frozenset(v.judge for attempt in attempts for v in attempt.verdicts))


def _key(attempt: Attempt, attack: str) -> Key:
    """By what the model was first asked: another seed, or an attack's other version, asks something else."""
    asked = attempt.transcript[: attempt.place(0)] if attempt.verdicts else attempt.transcript
    return Key(attempt.case, attack, digest(asked)[:16])


def _choices(ledger: Ledger, suites: Json, noted: Noted, round: int) -> dict[str, Items]:
    items = recorded(ledger, capability.KIND, round=round)
    cases = list(_cases(ledger, items))
    found: dict[str, Items] = {}
    for suite in suites:
        spec = SUITES.get(suite)
        if spec is None or spec.measure != "choices":
            continue
        members = [case for case in cases if _belongs(case, suite, noted)]
        parts = {"accuracy": members} | {s: [c for c in members if c.source == s] for s in {c.source for c in members}}
        for part, some in parts.items():
            scores: dict[Key, Outcome] = {_question(case): items[case.id]["score"] for case in some}
            found[f"{suite}.{part}"] = Items("share", scores, frozenset([LOGP]))
    return found


def _question(case: Case) -> Key:
    return Key(case.id, "", digest([case.prompt, case.choices, case.gold])[:16])


def _perplexities(ledger: Ledger, suites: Mapping[str, Any], round: int) -> dict[str, Items]:
    """By answer: an answer's id says whose it is, and to what."""
    measured = [suite for suite in suites if (spec := SUITES.get(suite)) is not None and spec.measure == "perplexity"]
    if not measured:
        return {}
    answers: dict[Key, Outcome] = {
        Key(id, "", ""): None if logp is None or tokens == 0 else (logp, tokens)
        for id, (logp, tokens) in recorded(ledger, perplexity.KIND, round=round).items()
    }
    return {f"{suite}.own_answers": Items("perplexity", answers, frozenset([LOGP])) for suite in measured}


def _cases(ledger: Ledger, ids: Iterable[str]) -> Iterator[Case]:
    return (case for id in ids if (case := ledger.case(id)) is not None)


def _model(ledger: Ledger, attempts: Sequence[Attempt], round: int) -> str:
    """The model's id: of its attempts, or of its items where it was only scored."""
    if attempts:
        return attempts[-1].model
    events = (event for kind in (capability.KIND, perplexity.KIND) for event in ledger.events(round, "evaluate", kind))
    return next((str(event.payload["model"]) for event in events), "unknown")
