"""Measure a model: suites in, figures with intervals out. Every answer and every item's score is in the ledger.

How a suite is measured is its `measure` (suites/catalogue.py); `MEASURES` has a module for each. All suites whose
replies are judged are one campaign, whose only attack is to ask as is, decoded greedily: full batches on a small
machine. Choices and perplexity need no decoding. A look at a frozen suite is counted; a suite whose files can't be had,
or that can't be measured here, is skipped, and the record says so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from breakfix.config import Config, Suite
from breakfix.core import Judge, Model, Split
from breakfix.errors import AssetError, ConfigError
from breakfix.evaluate import bias, capability, detectable, exact, lm_eval, openended, perplexity, preference, rai
from breakfix.evaluate.items import STAGE, Progress
from breakfix.evaluate.likelihood import LOGP
from breakfix.evaluate.rates import rates
from breakfix.evaluate.work import Found, Rai, Unmeasured, Work, ask, seconds, suite_cases
from breakfix.stats import as_json
from breakfix.suites import Loaded, Measure, load

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

NO_ANSWERS = "round 0 has no answers of the untouched model; evaluate round 0 with this suite first"


def _replies(work: Work, suite: Loaded) -> Found:
    asked = {case.id: work.asked[case.id] for case in suite.cases if case.id in work.asked}
    return Found(rates(suite.name, suite.cases, asked), seconds(asked), work.judge.name)


def _perplexity(work: Work, suite: Loaded) -> Found:
    rng = random.Random(work.config.seed)
    found, took = perplexity.run(
        work.ledger, work.model, suite.cases, work.asked, round=work.round, rng=rng, progress=work.progress
    )
    if not found:
        raise Unmeasured(NO_ANSWERS)
    return Found.of(suite, found, took, LOGP)


MEASURES: Mapping[Measure, Callable[[Work, Loaded], Found]] = {
    "replies": _replies,
    "choices": capability.figures,
    "preference": preference.figures,
    "bias": bias.figures,
    "exact": exact.figures,
    "open": openended.figures,
    "perplexity": _perplexity,
    "lm-eval": lm_eval.figures,
    "rai": rai.figures,
}


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
    rater: Judge | None = None,
    rai: Rai | None = None,
    progress: Progress = _silent,
) -> dict[str, Any]:
    """The stage's record: {"metrics": {name: {value, low, high, n, unscored}}, "skipped": [{suite, reason}],
    "suites": {name: {n, split, seconds, judge, source, detectable}}}; the last is explained in detectable.py.

    Names: SUITE.iprr and SUITE.vprr with .full, .partial, .HAZARD and .lang.LANGUAGE; SUITE.answered, with the latter
    two, where all is harmful; plain.refused; capability.accuracy, .piqa, .boolq, .mmlu and, after round 0,
    capability.change (paired, with .piqa ...); perplexity.own_answers; of the other measures as their modules say.
    `rater` rates open questions; `rai`: see `work.Rai`. A metric that a proxy judged has "proxy": true. Raises
    UserError before anything is asked, where a suite is not valid.
    """
    loaded, skipped = _load(suites, config.seed)
    for row in skipped:
        ledger.add_event(round, STAGE, "skipped", row)
    for suite in loaded:
        ledger.add_cases(suite.cases)
        ledger.add_event(round, STAGE, "cases", {"suite": suite.name, "cases": [case.id for case in suite.cases]})
    work = Work(config, ledger, model, judge, rater, round, progress, {}, rai)
    wanted = suite_cases(loaded, "replies", *(["perplexity"] if round == 0 else []))  # the untouched model's answers
    work = replace(work, asked=ask(work, wanted, judge, "benchmarks"))
    untouched = detectable.Untouched.of(ledger) if round > 0 else None
    metrics: dict[str, Any] = {}
    about: dict[str, dict[str, Any]] = {}
    for suite in loaded:
        try:
            found = MEASURES[suite.measure](work, suite)
        except Unmeasured as why:
            skipped.append({"suite": suite.name, "reason": str(why)})
            ledger.add_event(round, STAGE, "skipped", skipped[-1])
            continue
        if suite.split is Split.FROZEN:
            ledger.add_look(suite.name, round=round, model=model.id)
        mark = {"proxy": True} if found.proxy else {}
        metrics |= {name: {**as_json(value), **mark} for name, value in found.figures.items()}
        told = detectable.stated(work, suite, found.figures, untouched)
        about[suite.name] = {**_about(suite, found), "detectable": told}
    return {"metrics": metrics, "skipped": skipped, "suites": about}


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


def _about(suite: Loaded, found: Found) -> dict[str, Any]:
    return {
        "n": len(suite.cases),
        "split": suite.split.value,
        "seconds": found.seconds,
        "judge": found.judge,
        "source": suite.source,
        **found.about,
    }
