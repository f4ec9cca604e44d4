"""Any task of lm-evaluation-harness (EleutherAI), run by the harness itself on a `core.Model`.

The harness writes the prompts, few-shot examples as turns, compares and scores; the model is asked through `score` and
`generate`, and so through its own chat template, as `lm_eval --apply_chat_template --fewshot_as_multiturn` does. Ours
differs: intervals are this project's (Wilson, or a bootstrap where scores are not 0 and 1) and not standard errors; a
question on which the model failed is unscored instead of wrong. What the model answered is in the ledger, request by
request, so that a task that was broken off goes on where it was. Log-likelihoods of whole texts (wikitext) can't be had
through a chat template: such tasks are skipped.
"""

# pyright: basic, reportMissingImports=false
# the harness has no types worth the name

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from breakfix.core import Estimate
from breakfix.evaluate.items import STAGE, precision, recorded, remembered
from breakfix.evaluate.work import Found, Unmeasured, Work
from breakfix.models.quiet import no_bars
from breakfix.stats import mean, nothing, paired_difference, rate, undefined
from breakfix.suites import Loaded, harness

REQUESTS = "lm-eval requests"  # the kind of the events that hold what the model answered


def figures(work: Work, suite: Loaded) -> Found:
    """SUITE.METRIC (with .FILTER where the harness filters replies), of a group .METRIC.TASK too; .change.METRIC after
    round 0, where scores are 0 and 1."""
    began = time.monotonic()
    tasks = harness.tasks(suite.name, suite.path)
    if any(task.OUTPUT_TYPE == "loglikelihood_rolling" for task in tasks.values()):
        raise Unmeasured("the task asks for the likelihood of whole texts, which a chat model can't be asked for")
    wanted: dict[str, list[int]] = {task: [] for task in tasks}
    for case in suite.cases:
        task, _, number = case.id.removeprefix(f"{suite.name}/").rpartition("/")
        wanted[task].append(int(number))
    wanted = {task: numbers for task, numbers in wanted.items() if numbers}
    from breakfix.evaluate.harness_model import HarnessModel

    by_greedy = {name for name, task in tasks.items() if task.OUTPUT_TYPE == "loglikelihood"}
    lm = HarnessModel(
        work.model,
        by_greedy,
        lambda done, total: work.progress(suite.name, done, total),
        remembered(work.ledger, REQUESTS, work.model),
        lambda found: _keep(work, found),
    )
    results = _evaluate(lm, {task: tasks[task] for task in wanted}, wanted, work.config.seed)
    for why, n in lm.failures.items():
        payload = {"kind": suite.name, "model": work.model.id, "n": n, "why": why}
        work.ledger.add_event(work.round, STAGE, "failed", payload)
    lost = {f"{suite.name}/{task}/{wanted[task][number]}" for task, number in lm.failed}
    items = dict(_items(suite.name, results["samples"], lost))
    work.ledger.add_event(work.round, STAGE, suite.name, {"model": work.model.id, "items": items})
    found = _figures(suite, items, random.Random(work.config.seed))
    found |= _totals(results, tasks, found, {case.id for case in suite.cases}, lost)
    if work.round > 0:
        found |= _changes(recorded(work.ledger, suite.name, round=0), items)
    return Found.of(suite, found, time.monotonic() - began, f"lm-evaluation-harness {_version()}")


def _keep(work: Work, found: Mapping[str, Any]) -> None:
    """As `items.measure` does, with the digest of a request as its id."""
    about = {"model": work.model.id, "precision": precision(work.model)}
    asked = {key: key for key in found}
    work.ledger.add_event(work.round, STAGE, REQUESTS, {**about, "items": dict(found), "asked": asked})


def _version() -> str:
    from importlib.metadata import version

    return version("lm_eval")


def _evaluate(lm: Any, tasks: dict[str, Any], wanted: dict[str, list[int]], seed: int) -> Any:
    """As `lm_eval.simple_evaluate` does, without what it reads of the machine."""
    from lm_eval.evaluator import evaluate

    for task in tasks.values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=seed)
    with no_bars():
        return evaluate(
            lm=lm,
            task_dict={"tasks": tasks},
            samples=wanted,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=True,
            fewshot_as_multiturn=True,
        )


# ---- what came out ----------------------------------------------------------------------------------------------


def _items(suite: str, samples: dict[str, list[Any]], lost: set[str]) -> Iterator[tuple[str, dict[str, float | None]]]:
    """(case id, metric → its score; None where the model failed). Metrics that are not numbers are left out."""
    found: dict[str, dict[str, float | None]] = {}
    for task, rows in samples.items():
        for row in rows:
            id = f"{suite}/{task}/{row['doc_id']}"
            filtered = "" if row["filter"] == "none" else f".{row['filter']}"
            for metric in row["metrics"]:
                value = row[metric]
                if isinstance(value, int | float) or hasattr(value, "item"):
                    number = float(value)
                    scored = id not in lost and math.isfinite(number)
                    found.setdefault(id, {})[f"{metric}{filtered}"] = number if scored else None
    yield from found.items()


def _figures(suite: Loaded, items: dict[str, dict[str, float | None]], rng: random.Random) -> dict[str, Estimate]:
    """Over all questions that have the metric; and by task, where there are several."""
    groups: dict[str, dict[str, float | None]] = {}
    several = len({case.family for case in suite.cases}) > 1
    for case in suite.cases:
        for metric, value in items.get(case.id, {}).items():
            groups.setdefault(metric, {})[case.id] = value
            if several:
                groups.setdefault(f"{metric}.{case.family.rpartition('/')[2]}", {})[case.id] = value
    return {name: _estimate(list(values.values()), rng) for name, values in groups.items()}


def _estimate(values: Sequence[float | None], rng: random.Random) -> Estimate:
    scored = [value for value in values if value is not None]
    if not scored:
        return nothing(len(values))
    if all(value in (0.0, 1.0) for value in scored):
        return rate(round(sum(scored)), len(scored), len(values) - len(scored))
    return mean(values, rng)


def _totals(
    results: Any, tasks: dict[str, Any], found: dict[str, Estimate], asked: set[str], lost: set[str]
) -> dict[str, Estimate]:
    """Figures that are no mean of questions' scores (BLEU, F1, perplexity), as the harness gives them, without an
    interval; not defined where the model failed on a question, for then the harness counted what nobody said."""
    totals: dict[str, Estimate] = {}
    for task, row in results["results"].items():
        for name, value in row.items():
            metric, _, filtered = name.partition(",")
            if not filtered or "_stderr" in metric or not isinstance(value, int | float):
                continue
            name = metric if filtered == "none" else f"{metric}.{filtered}"
            how = getattr(tasks[task].aggregation().get(metric), "__name__", "mean")
            if name in found and how == "mean":
                continue
            ids = [id for id in asked if f"/{task}/" in id]
            failed = sum(id in lost for id in ids)
            n, key = len(ids) - failed, name if len(results["results"]) == 1 else f"{name}.{task}"
            totals[key] = undefined(n, failed) if failed else Estimate(float(value), math.nan, math.nan, n)
    return totals


def _changes(before: dict[str, Any], now: dict[str, dict[str, float | None]]) -> dict[str, Estimate]:
    """Paired with round 0, of metrics whose scores are 0 and 1."""
    found: dict[str, Estimate] = {}
    for metric in dict.fromkeys(name for scores in now.values() for name in scores):
        pairs = [{id: scores.get(metric) for id, scores in side.items() if id in now} for side in (before, now)]
        if pairs[0] and all(value in (None, 0.0, 1.0) for side in pairs for value in side.values()):
            found[f"change.{metric}"] = paired_difference(*pairs)
    return found
