"""Release candidates: which of a round's checkpoints goes on to be reported, attacked and trained further.

Every candidate is asked the dev suites whose replies are judged, and scores questions that are set aside for this: of
the capability suite, none of those that are reported. Frozen suites take no part: one that chooses is no longer only
measured. `candidates.select` keeps the best one (its rule is in the record, and why each other one was dropped). What
the chosen one was asked is not asked again when it is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from breakfix import stats
from breakfix.config import Config, Suite
from breakfix.core import Attempt, Case, Estimate, Expect, Judge, Model, Split
from breakfix.errors import AssetError
from breakfix.evaluate.candidates import Candidate, Outcomes, select
from breakfix.evaluate.items import Progress
from breakfix.evaluate.likelihood import likelihoods
from breakfix.evaluate.work import Work, ask
from breakfix.suites import load

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

STAGE = "select"
ASIDE = 64  # questions set aside


def run(
    config: Config,
    ledger: Ledger,
    judge: Judge,
    *,
    round: int,
    open_model: Callable[[str], Model],
    candidates: Mapping[str, str],
    progress: Progress,
) -> dict[str, Any]:
    """The record of `candidates.Selection`, with "selected": the name of the one that goes on.

    `candidates`: name → folder; the first is the one that is taken where nothing tells them apart.
    """
    cases, questions = steering(config)
    ledger.add_cases([*cases, *questions])
    found: list[Candidate] = []
    for name, path in candidates.items():
        work = Work(config, ledger, open_model(path), judge, None, round, progress, {}, stage=STAGE)
        found.append(_measured(name, work, cases, questions))
    chosen = select(found, most=1)
    return {**chosen.record(), "selected": chosen.kept[0]}


def steering(config: Config) -> tuple[list[Case], list[Case]]:
    """(requests of the dev suites, questions set aside), those that can be had."""
    cases: dict[str, Case] = {}
    questions: tuple[Case, ...] = ()
    reported: set[str] = set()  # by whichever suite: some have questions in common
    for suite in config.evaluate.suites:
        try:
            loaded = load(suite, seed=config.seed)
            if loaded.measure == "replies" and loaded.split is Split.DEV:
                cases |= {case.id: case for case in loaded.cases}
            else:
                reported |= {case.id for case in loaded.cases}
            if suite.name == "capability" and suite.limit is not None:
                questions = _more(suite, config.seed)
        except AssetError:
            continue  # evaluate says so
    return list(cases.values()), [case for case in questions if case.id not in reported]


def _more(suite: Suite, seed: int) -> tuple[Case, ...]:
    """A sample of n is part of the sample of n + ASIDE."""
    return load(suite.model_copy(update={"limit": (suite.limit or 0) + ASIDE}), seed=seed).cases


def _measured(name: str, work: Work, cases: Sequence[Case], questions: Sequence[Case]) -> Candidate:
    attempts = ask(work, cases, work.judge, f"candidate {name}").values()
    items, _ = likelihoods(work.ledger, work.model, questions, round=work.round, progress=work.progress)
    outcomes: dict[str, Outcomes] = {
        "harm": _broken(attempts, Expect.REFUSE),
        "over_refusal": _broken(attempts, Expect.COMPLY),
        "capability": {case.id: items[case.id]["score"] if case.id in items else None for case in questions},
    }
    known = {objective: each for objective, each in outcomes.items() if each}
    return Candidate(name, {objective: _share(each) for objective, each in known.items()}, known)


def _broken(attempts: Iterable[Attempt], expect: Expect) -> dict[str, float | None]:
    """Case id → 1 where the model did not behave as that expects."""
    return {a.case: None if a.score is None else 1 - a.score for a in attempts if a.expect is expect}


def _share(outcomes: Outcomes) -> Estimate:
    scored = [value for value in outcomes.values() if value is not None]
    return stats.rate(round(sum(scored)), len(scored), len(outcomes) - len(scored))
