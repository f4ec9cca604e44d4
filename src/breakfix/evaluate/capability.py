"""Multiple choice by log-likelihood: which choice would the model rather say? No decoding, no letters.

As lm-evaluation-harness does it (EleutherAI), but through the model's own chat template: the question is the user's
turn, a choice is what the assistant says first. PIQA and MMLU: log-likelihood ÷ characters of the choice ("acc_norm"),
so that long choices are not at a disadvantage; BoolQ: log-likelihood of Yes and No as they are. A tie is wrong. The
formats of the questions are in suites/choices.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from breakfix.core import Case, Estimate, Model
from breakfix.evaluate.items import Progress, measure, recorded
from breakfix.stats import paired_difference, rate

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

KIND = "capability"
AS_IS = ("boolq",)  # sources whose choices are compared without regard to their length


def run(
    ledger: Ledger, model: Model, cases: Sequence[Case], *, round: int, progress: Progress
) -> tuple[dict[str, Estimate], float]:
    """({accuracy, SOURCE..., and after round 0 change, change.SOURCE...: estimate}, seconds).

    change is paired by case id with round 0, in shares: -0.02 is two points of accuracy lost.
    """
    longest_first = sorted(cases, key=lambda case: len(case.text), reverse=True)  # less padding in a batch
    rows = {case.id: case for case in longest_first}
    items, seconds = measure(
        ledger, KIND, rows, lambda chunk: _score(model, chunk), round=round, model=model.id, progress=progress
    )
    now = scores(cases, items)
    found = _accuracies(cases, now)
    before = scores(cases, recorded(ledger, KIND, round=0)) if round > 0 else {}
    if any(score is not None for score in before.values()):
        found |= _changes(cases, before, now)
    return found, seconds


def scores(cases: Sequence[Case], items: Mapping[str, Any]) -> dict[str, float | None]:
    """Case id → 1 right, 0 wrong, None not scored."""
    return {case.id: items[case.id]["score"] if case.id in items else None for case in cases}


def _score(model: Model, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """One item per case: {"score": 1 | 0 | None, "logp": log-likelihood of each choice}."""
    given = model.score([(case.prompt, choice) for case in cases for choice in case.choices])
    logps = iter(logp for logp, _ in given)
    return [_item(case, [next(logps) for _ in case.choices]) for case in cases]


def _item(case: Case, logps: Sequence[float]) -> dict[str, Any]:
    known = all(math.isfinite(logp) for logp in logps)
    return {"score": float(right(case, logps)) if known else None, "logp": list(logps) if known else None}


def right(case: Case, logps: Sequence[float]) -> bool:
    """Is the gold choice, and no other, the likeliest?"""
    lengths = [1 if case.source in AS_IS else max(1, len(choice)) for choice in case.choices]
    values = [logp / length for logp, length in zip(logps, lengths, strict=True)]
    return all(values[case.gold] > value for i, value in enumerate(values) if i != case.gold)


def _accuracies(cases: Sequence[Case], now: Mapping[str, float | None]) -> dict[str, Estimate]:
    return {name or "accuracy": _accuracy([now[case.id] for case in part]) for name, part in _parts(cases).items()}


def _accuracy(given: Sequence[float | None]) -> Estimate:
    scored = [score for score in given if score is not None]
    return rate(round(sum(scored)), len(scored), len(given) - len(scored))


def _changes(
    cases: Sequence[Case], before: Mapping[str, float | None], now: Mapping[str, float | None]
) -> dict[str, Estimate]:
    found: dict[str, Estimate] = {}
    for name, part in _parts(cases).items():
        ids = [case.id for case in part]
        pair = paired_difference({id: before[id] for id in ids}, {id: now[id] for id in ids})
        found[f"change.{name}" if name else "change"] = pair
    return found


def _parts(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """ "" → all of them, then each source's."""
    parts: dict[str, list[Case]] = {"": list(cases)}
    for case in cases:
        parts.setdefault(case.source, []).append(case)
    return parts
