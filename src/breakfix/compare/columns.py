"""One model as a column: its figures as they were recorded, and the outcomes behind them, from a ledger.

The figures are those of the stages' records, so that a comparison never shows another number than the report. Outcomes
are counted anew from attempts and items, by the functions that made the figures (evaluate/rates.py, redteam/run.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from breakfix import starter
from breakfix.compare.outcomes import APART, Asked, Items, key_of, of_suite
from breakfix.compare.paired import Key, Outcome
from breakfix.core import Attempt, Case, Estimate, Expect, Split, Verdict, digest
from breakfix.errors import LedgerError
from breakfix.evaluate import likelihood, perplexity
from breakfix.evaluate.items import recorded
from breakfix.evaluate.rates import FULL, NONE, PARTIAL
from breakfix.judges.rejudge import given_by, seconds
from breakfix.redteam import achieved
from breakfix.redteam.run import SIDES, by_case, groups
from breakfix.stats import as_json, clustered_rate
from breakfix.suites import SUITES

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

Json = dict[str, Any]
Noted = Mapping[str, set[str]]  # suite → the cases that it put


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
    put = list(ledger.attempts(round=round, stage="evaluate"))
    attacks = list(ledger.attempts(round=round, stage="redteam")) if attacked else []
    got = _achieved(ledger, attacks, set(held_out), attacked)
    anew = False  # whether replies are counted by another judge than the record's
    if judge:
        later = ledger.later_verdicts()
        _require(judge, [*put, *attacks], later, ledger)
        own = [*put, *attacks]
        put, attacks = ([_judged(a, judge, later.get(a.id, ())) for a in some] for some in (put, attacks))
        anew = any(now is not then for now, then in zip([*put, *attacks], own, strict=True))
    metrics = {**evaluated["metrics"], **attacked.get("metrics", {})}
    model = _model(ledger, [*put, *attacks], round)

    @cache
    def by_kind(kind: str) -> Json:
        return recorded(ledger, kind, round=round, model=model)

    found = _suites(ledger, round, evaluated["suites"], put, by_kind, metrics, anew=anew)
    broken = _attacks(ledger, attacks, set(held_out))
    found |= {m: items for m, items in broken.items() if m in metrics and (anew or items.fits(metrics[m]))}
    if anew:  # whose broken attempts are others than those that the second judge was asked about
        metrics = {m: row for m, row in metrics.items() if not m.startswith(f"{achieved.PREFIX}.")}
    found |= {m: items for m, items in got.items() if m in metrics and items.fits(metrics[m])}
    if anew:
        metrics |= {m: as_json(_estimate(items)) for m, items in found.items() if items.judges == frozenset([judge])}
    facts = {
        "model": model or "unknown",
        "judges": sorted({name for items in found.values() for name in items.judges} - {likelihood.LOGP}),
        "suites": {suite: {"n": row["n"], "split": row["split"]} for suite, row in evaluated["suites"].items()},
        "skipped": [{"suite": row["suite"], "reason": row["reason"]} for row in evaluated.get("skipped", [])],
    }
    return Column(name, metrics, found, {**about, **facts})


def _require(judge: str, attempts: Sequence[Attempt], later: Mapping[str, Sequence[Verdict]], ledger: Ledger) -> None:
    """LedgerError where that judge has judged none of these attempts, or judges something else than refusals, which is
    what figures of replies are counted by."""
    known = {v.judge for a in attempts if _refusal(a) for v in (*a.verdicts, *later.get(a.id, ()))} - seconds(ledger)
    if known and judge not in known:
        raise LedgerError(
            f"{ledger.folder}: no reply there was judged by {judge!r}, but by {', '.join(sorted(known))}; name one of "
            "these, or judge the stored replies anew: `breakfix judges rejudge`"
        )

    given = (v for a in attempts if _refusal(a) for v in (*a.verdicts, *later.get(a.id, ())))
    labels = {v.label for v in given if v.judge == judge and v.score is not None}
    if labels - {FULL, PARTIAL, NONE}:
        raise LedgerError(
            f"{ledger.folder}: {judge} says {', '.join(sorted(labels))} of a reply, and --judge counts by what a judge "
            "of refusals says: full, partial or none; name one, or see what it found: `breakfix judges rejudge`"
        )


def _refusal(attempt: Attempt) -> bool:
    """Whether a judge of refusals has judged it: others are no matter of refusing or complying."""
    return attempt.expect in (Expect.REFUSE, Expect.COMPLY) and attempt.attack not in APART


def _judged(attempt: Attempt, judge: str, later: Sequence[Verdict]) -> Attempt:
    """The attempt with that judge's verdict alone; unscored where it gave none. The run's own counts where it was that
    judge's, unless the judge failed then and told later."""
    if not _refusal(attempt) or attempt.error is not None:
        return attempt
    given = [verdict for verdict in later if verdict.judge == judge]
    given = [verdict for verdict in given if verdict.score is not None] or given
    own = {verdict.judge for verdict in attempt.verdicts} == {judge}
    if own and (attempt.score is not None or not given or given[-1].score is None):
        return attempt
    verdict = given[-1] if given else Verdict(None, "unscored", "not judged by it", judge)
    turns = (attempt.place(0),) if attempt.verdicts else ()
    breach = 0 if verdict.score == 0 else None
    return replace(attempt, verdicts=(verdict,), breach=breach, turns=turns, cut=())


def _estimate(items: Items) -> Estimate:
    """As evaluate and the red team estimate shares."""
    told = ((key.case, outcome if isinstance(outcome, float) else None) for key, outcome in items.outcomes.items())
    return clustered_rate(told, random.Random(0))


def _suites(
    ledger: Ledger,
    round: int,
    suites: Json,
    put: Sequence[Attempt],
    by_kind: Callable[[str], Json],
    metrics: Json,
    *,
    anew: bool,
) -> dict[str, Items]:
    noted = {str(e.payload["suite"]): set(e.payload["cases"]) for e in ledger.events(round, "evaluate", "cases")}
    attempts = {(attempt.attack, attempt.case): attempt for attempt in put}
    asked = Asked(attempts, by_kind)
    ids = (
        {case for _, case in attempts}
        | set(asked.items(likelihood.KIND))
        | {id for some in noted.values() for id in some}
    )
    cases = list(_cases(ledger, sorted(ids)))
    found = _perplexities(suites, asked)
    for suite in suites:
        members = [case for case in cases if _belongs(case, suite, noted)]
        found |= of_suite(suite, members, asked, metrics, anew=anew) if members else {}
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
    """What broke (1), as the red team's figures count it: on dev cases, by attempt and by case."""
    by_metric = groups(_on_dev(ledger, attempts), held_out)
    found = {
        metric: Items(
            "share",
            {key_of(a, a.case, a.attack): None if a.score is None else 1.0 - a.score for a in some},
            _who(some),
        )
        for metric, some in by_metric.items()
    }
    broken = by_case(by_metric)
    for side, cases in broken.items():
        some = by_metric[f"asr.{side}"]
        keys = _budgets(side, some)
        found[f"asr_case.{side}"] = Items("share", {keys[case]: cases[case] for case in cases}, _who(some))
        if side in SIDES:
            alone = {keys[case]: _alone(broken["direct"].get(case), cases[case]) for case in cases}
            judges = _who([*some, *by_metric["asr.direct"]])
            found[f"jailbreak_defect.{side}"] = Items("share", dict[Key, Outcome](alone), judges)
    return found


def _on_dev(ledger: Ledger, attempts: Sequence[Attempt]) -> list[Attempt]:
    dev = {case.id for case in _cases(ledger, {attempt.case for attempt in attempts}) if case.split is Split.DEV}
    return [attempt for attempt in attempts if attempt.case in dev]


def _achieved(ledger: Ledger, attempts: Sequence[Attempt], held_out: set[str], record: Json) -> dict[str, Items]:
    """What got what it was after (1), as the red team's figures count it: by its own two judges, whoever else was asked
    later."""
    about: Json = record.get("achieved") or {}
    judge: str | None = about.get("judge")
    if judge is None:
        return {}
    given = given_by(ledger, judge, [attempt for attempt in attempts if attempt.score == 0])
    by_metric = achieved.named(groups(_on_dev(ledger, attempts), held_out))
    told = achieved.outcomes([a for some in by_metric.values() for a in some], given)
    return {
        metric: Items("share", {key_of(a, a.case, a.attack): told[a.id] for a in some}, _who(some) | {judge})
        for metric, some in by_metric.items()
    }


def _who(attempts: Sequence[Attempt]) -> frozenset[str]:
    return frozenset(verdict.judge for attempt in attempts for verdict in attempt.verdicts)


def _budgets(side: str, attempts: Sequence[Attempt]) -> dict[str, Key]:
    """Case → its key: by all that was asked of it, for another budget of attacks breaks more or fewer cases."""
    asked: dict[str, list[tuple[str, str]]] = {}
    for a in attempts:
        asked.setdefault(a.case, []).append((a.attack, key_of(a, a.case, a.attack).asked))
    return {case: Key(case, side, digest(sorted(some))[:16]) for case, some in asked.items()}


def _alone(directly: float | None, attacked: float | None) -> float | None:
    """1 where a case broke under attack and not when asked directly."""
    return None if directly is None or attacked is None else float(attacked > directly)


def _perplexities(suites: Json, asked: Asked) -> dict[str, Items]:
    """By answer: an answer's id says whose it is, and to what."""
    measured = [suite for suite in suites if suite in SUITES and SUITES[suite].measure == "perplexity"]
    answers: dict[Key, Outcome] = {
        Key(id, "", ""): None if logp is None or tokens == 0 else (logp, tokens)
        for id, (logp, tokens) in asked.items(perplexity.KIND).items()
    }
    return {f"{suite}.own_answers": Items("perplexity", answers, frozenset([likelihood.LOGP])) for suite in measured}


def _cases(ledger: Ledger, ids: Iterable[str]) -> Iterator[Case]:
    return (case for id in ids if (case := ledger.case(id)) is not None)


def _model(ledger: Ledger, attempts: Sequence[Attempt], round: int) -> str | None:
    """The model's id: of its attempts, or of its items where it was only scored."""
    if attempts:
        return attempts[-1].model
    events = (e for kind in (likelihood.KIND, perplexity.KIND) for e in ledger.events(round, "evaluate", kind))
    return next((str(event.payload["model"]) for event in events), None)
