"""Release candidates: which of a round's checkpoints goes on to be reported, attacked and trained further.

Every candidate is asked the dev suites whose replies are judged, is put other dev requests through single-turn attacks
of seen families (`wrapped`, from redteam/steering.py), and scores questions that are set aside for this: of the
capability suite, none of those that are reported. That suite is frozen, and these of its questions steer: each look at
them is counted, apart from the reported ones'. Other frozen suites and held-out families take no part, nor do the cases
that the red team reports: what chooses is no longer only measured. `candidates.select` keeps the best one (its rule is
in the record, and why each other one was dropped). What the chosen one was asked is not asked again when it is
evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from breakfix import stats
from breakfix.campaign import Put
from breakfix.config import Config, Suite
from breakfix.core import Attempt, Case, Estimate, Expect, Judge, Model, Split
from breakfix.errors import AssetError
from breakfix.evaluate.candidates import Candidate, Outcomes, select
from breakfix.evaluate.items import Progress
from breakfix.evaluate.likelihood import likelihoods
from breakfix.evaluate.rates import EVERYDAY
from breakfix.evaluate.work import Work, ask, put
from breakfix.suites import load

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

STAGE = "select"
ASIDE = 64  # questions set aside
SET_ASIDE = "set aside to choose"  # what a look at them is called, beside the suite's name
WRAPPED_TOKENS = 24  # of a reply to an attack: enough to see whether it refuses


@dataclass(frozen=True, slots=True)
class Steering:
    """What candidates are asked: requests of the dev suites, of which `everyday` (ids) are plain instructions, and
    questions set aside. `looked`: how a look at the latter is counted, where their suite is frozen, else ""."""

    requests: tuple[Case, ...]
    everyday: frozenset[str]
    questions: tuple[Case, ...]
    looked: str = ""


def run(
    config: Config,
    ledger: Ledger,
    judge: Judge,
    *,
    round: int,
    open_model: Callable[[str], Model],
    candidates: Mapping[str, str],
    progress: Progress,
    wrapped: Sequence[Put] = (),
) -> dict[str, Any]:
    """The record of `candidates.Selection`, with "selected": the name of the one that goes on.

    `candidates`: name → folder; the first is the one that is taken where nothing tells them apart. `wrapped`: dev
    requests, each by an attack of a seen family.
    """
    asked = steering(config)
    ledger.add_cases([*asked.requests, *asked.questions, *(one.case for one in wrapped)])
    found: list[Candidate] = []
    for name, path in candidates.items():
        work = Work(config, ledger, open_model(path), judge, None, round, progress, {}, stage=STAGE)
        found.append(_measured(name, work, asked, wrapped))
        if asked.looked and asked.questions:
            ledger.add_look(asked.looked, round=round, model=work.model.id)
    chosen = select(found, most=1)
    return {**chosen.record(), "selected": chosen.kept[0]}


def steering(config: Config) -> Steering:
    """Of the suites that can be had, and that steer."""
    cases: dict[str, Case] = {}
    everyday: set[str] = set()
    questions: tuple[Case, ...] = ()
    looked = ""
    reported: set[str] = set()  # by whichever suite: some have questions in common
    for suite in config.evaluate.suites:
        try:
            loaded = load(suite, seed=config.seed)
            if loaded.measure == "replies" and loaded.split is Split.DEV and loaded.steers:
                cases |= {case.id: case for case in loaded.cases}
                everyday |= {case.id for case in loaded.cases if loaded.name == EVERYDAY}
            else:
                reported |= {case.id for case in loaded.cases}
            if suite.name == "capability" and suite.limit is not None:
                questions = _more(suite, config.seed)
                looked = f"{suite.name} ({SET_ASIDE})" if loaded.split is Split.FROZEN else ""
        except AssetError:
            continue  # evaluate says so
    aside = tuple(case for case in questions if case.id not in reported)
    return Steering(tuple(cases.values()), frozenset(everyday), aside, looked)


def _more(suite: Suite, seed: int) -> tuple[Case, ...]:
    """A sample of n is part of the sample of n + ASIDE."""
    return load(suite.model_copy(update={"limit": (suite.limit or 0) + ASIDE}), seed=seed).cases


def _measured(name: str, work: Work, asked: Steering, wrapped: Sequence[Put]) -> Candidate:
    what = f"candidate {name}"
    attempts = ask(work, asked.requests, work.judge, what).values()
    attacked = put(work, wrapped, work.judge, f"{what}, attacked", tokens=WRAPPED_TOKENS) if wrapped else ()
    items, _ = likelihoods(work.ledger, work.model, asked.questions, round=work.round, progress=work.progress)
    refused = _broken(attempts, Expect.COMPLY)
    outcomes: dict[str, Outcomes] = {
        "harm": _broken(attempts, Expect.REFUSE),
        "harm_wrapped": _broken(attacked, Expect.REFUSE),
        "over_refusal": {case: value for case, value in refused.items() if case not in asked.everyday},
        "plain": {case: value for case, value in refused.items() if case in asked.everyday},
        "capability": {case.id: items[case.id]["score"] if case.id in items else None for case in asked.questions},
    }
    known = {objective: each for objective, each in outcomes.items() if each}
    return Candidate(name, {objective: _share(each) for objective, each in known.items()}, known)


def _broken(attempts: Iterable[Attempt], expect: Expect) -> dict[str, float | None]:
    """Case id → 1 where the model did not behave as that expects."""
    return {a.case: None if a.score is None else 1 - a.score for a in attempts if a.expect is expect}


def _share(outcomes: Outcomes) -> Estimate:
    scored = [value for value in outcomes.values() if value is not None]
    return stats.rate(round(sum(scored)), len(scored), len(outcomes) - len(scored))
