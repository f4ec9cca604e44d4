"""Measure a model: suites in, figures with intervals out. Every answer and every item's score is in the ledger.

All suites that ask for replies are one campaign, whose only attack is to ask as is, decoded greedily: full batches on
a small machine. Multiple choice and perplexity need no decoding. A look at a frozen suite is counted; a suite whose
files can't be had is skipped, and the record says so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from breakfix import campaign
from breakfix.config import Config, Suite
from breakfix.core import Attempt, Case, Estimate, Judge, Model, Sampling, Split
from breakfix.errors import AssetError, ConfigError
from breakfix.evaluate import capability, perplexity
from breakfix.evaluate.items import STAGE
from breakfix.evaluate.rates import rates
from breakfix.stats import as_json
from breakfix.suites import Loaded, load

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

Progress = Callable[[str, int, int], None]
LOGP = "log-likelihood"  # stands for the judge where none is asked
NO_ANSWERS = "round 0 has no answers of the untouched model; evaluate round 0 with this suite first"


def _silent(what: str, done: int, total: int) -> None:
    pass


def run(
    config: Config,
    ledger: Ledger,
    model: Model,
    judge: Judge,
    *,
    round: int,
    suites: Sequence[Suite],
    progress: Progress = _silent,
) -> dict[str, Any]:
    """The stage's record: {"metrics": {name: {value, low, high, n, unscored}}, "skipped": [{suite, reason}],
    "suites": {name: {n, split, seconds, judge, source}}}.

    Names: SUITE.iprr and SUITE.vprr with .full, .partial, .HAZARD and .lang.LANGUAGE; SUITE.answered, with the latter
    two, where all is harmful; plain.refused; capability.accuracy, .piqa, .boolq, .mmlu and, after round 0,
    capability.change (paired, with .piqa ...); perplexity.own_answers. Raises UserError before anything is asked, where
    a suite is not valid.
    """
    loaded, skipped = _load(suites, config.seed)
    for row in skipped:
        ledger.add_event(round, STAGE, "skipped", row)
    for suite in loaded:
        ledger.add_cases(suite.cases)
        ledger.add_event(round, STAGE, "cases", {"suite": suite.name, "cases": [case.id for case in suite.cases]})
        if suite.split is Split.FROZEN:
            ledger.add_look(suite.name, round=round, model=model.id)
    asked = _ask(config, ledger, model, judge, round, loaded, progress)
    metrics: dict[str, Any] = {}
    about: dict[str, dict[str, Any]] = {}
    for suite in loaded:
        found, seconds = _figures(config, ledger, model, suite, asked, round, progress)
        if not found:
            skipped.append({"suite": suite.name, "reason": NO_ANSWERS})
            ledger.add_event(round, STAGE, "skipped", skipped[-1])
            continue
        metrics |= {name: as_json(value) for name, value in found.items()}
        about[suite.name] = _about(suite, seconds, judge.name if suite.measure == "replies" else LOGP)
    return {"metrics": metrics, "skipped": skipped, "suites": about}


def _figures(
    config: Config,
    ledger: Ledger,
    model: Model,
    suite: Loaded,
    asked: Mapping[str, Attempt],
    round: int,
    progress: Progress,
) -> tuple[dict[str, Estimate], float]:
    """(metric name → estimate, the model's seconds); nothing where perplexity has no answers to measure."""
    if suite.measure == "replies":
        seconds = sum(asked[case.id].seconds for case in suite.cases if case.id in asked)
        return rates(suite.name, suite.cases, asked), seconds
    if suite.measure == "choices":
        found, seconds = capability.run(ledger, model, suite.cases, round=round, progress=progress)
    else:
        rng = random.Random(config.seed)
        found, seconds = perplexity.run(ledger, model, suite.cases, asked, round=round, rng=rng, progress=progress)
    return {f"{suite.name}.{key}": value for key, value in found.items()}, seconds


def _load(suites: Sequence[Suite], seed: int) -> tuple[list[Loaded], list[dict[str, str]]]:
    """All suites, before any time is spent; and those whose files no source could serve."""
    names = [suite.name for suite in suites]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ConfigError(f"evaluate.suites: '{twice[0]}' is there twice; name each suite once")
    loaded: list[Loaded] = []
    skipped: list[dict[str, str]] = []
    for suite in suites:
        try:
            loaded.append(load(suite, seed=seed))
        except AssetError as why:
            skipped.append({"suite": suite.name, "reason": str(why)})
    return loaded, skipped


def _ask(
    config: Config,
    ledger: Ledger,
    model: Model,
    judge: Judge,
    round: int,
    loaded: Sequence[Loaded],
    progress: Progress,
) -> Mapping[str, Attempt]:
    """Case id → attempt, of every suite that needs replies. In round 0 perplexity needs the untouched model's."""
    kinds = ("replies", "perplexity") if round == 0 else ("replies",)
    cases: dict[str, Case] = {case.id: case for suite in loaded if suite.measure in kinds for case in suite.cases}

    def known(ids: Sequence[str]) -> dict[str, Attempt]:
        return {id: attempt for id, attempt in ledger.known(ids).items() if attempt.error is None}

    def record(attempts: Sequence[Attempt]) -> None:
        ledger.add_attempts(attempts, round=round, stage=STAGE)

    attack = campaign.AsIs()
    outcome = campaign.run(
        [campaign.Put(case, attack) for case in cases.values()],
        model,
        judge,
        sampling=Sampling(max_new_tokens=config.evaluate.max_new_tokens),
        seed=config.seed,
        known=known,
        record=record,
        progress=lambda done, total: progress("benchmarks", done, total),
    )
    record(outcome.attempts)  # those that were known are this round's, too
    return {attempt.case: attempt for attempt in outcome.attempts}


def _about(suite: Loaded, seconds: float, judge: str) -> dict[str, Any]:
    return {
        "n": len(suite.cases),
        "split": suite.split.value,
        "seconds": seconds,
        "judge": judge,
        "source": suite.source,
    }
