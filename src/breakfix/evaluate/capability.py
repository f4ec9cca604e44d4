"""Multiple choice by log-likelihood: which choice would the model rather say? No decoding, no letters.

How choices are compared is in likelihood.py, the formats of the questions in suites/choices.py. A tie is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from breakfix.core import Case, Estimate, Model
from breakfix.evaluate.items import Progress
from breakfix.evaluate.likelihood import LOGP, earlier, likeliest, likelihoods, weighed
from breakfix.evaluate.work import Found, Unmeasured, Work
from breakfix.stats import paired_difference, rate
from breakfix.suites import Loaded

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

MOST = 24  # parts of one source that are shown apart


def figures(work: Work, suite: Loaded) -> Found:
    """SUITE.accuracy and its parts, and after round 0 SUITE.change; see `run`."""
    if not all(len(case.choices) > 1 for case in suite.cases):
        raise Unmeasured(f"{suite.source} has no wrong answers to choose from; give the path of the authors' file")
    found, seconds = run(work.ledger, work.model, suite.cases, round=work.round, progress=work.progress)
    return Found.of(suite, found, seconds, LOGP)


def run(
    ledger: Ledger, model: Model, cases: Sequence[Case], *, round: int, progress: Progress
) -> tuple[dict[str, Estimate], float]:
    """({accuracy, PART..., and after round 0 change, change.PART...: estimate}, seconds).

    change is paired by case id with round 0, in shares: -0.02 is two points of accuracy lost. A part is a source, or
    where there is one source accuracy.FAMILY.
    """
    items, seconds = likelihoods(ledger, model, cases, round=round, progress=progress)
    now = scores(cases, items)
    found = _accuracies(cases, now)
    before = scores(cases, earlier(ledger)) if round > 0 else {}
    if any(score is not None for score in before.values()):
        found |= _changes(cases, before, now)
    return found, seconds


def scores(cases: Sequence[Case], items: Mapping[str, Any]) -> dict[str, float | None]:
    """Case id → 1 right, 0 wrong, None not scored."""
    return {case.id: items[case.id]["score"] if case.id in items else None for case in cases}


def right(case: Case, logps: Sequence[float]) -> bool:
    """Is the gold choice, and no other, the likeliest?"""
    return likeliest(weighed(case, logps)) == case.gold


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
        if not name.startswith("accuracy."):
            ids = [case.id for case in part]
            pair = paired_difference({id: before[id] for id in ids}, {id: now[id] for id in ids})
            found[f"change.{name}" if name else "change"] = pair
    return found


def _parts(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """ "" → all of them, then each source's; of one source each family's, where they are several and not too many."""
    parts: dict[str, list[Case]] = {"": list(cases)}
    sources, families = {case.source for case in cases}, {case.family for case in cases}
    if len(sources) > 1:
        for case in cases:
            parts.setdefault(case.source, []).append(case)
    elif 1 < len(families) <= MOST:
        for case in cases:
            parts.setdefault(f"accuracy.{case.family.rpartition('/')[2]}", []).append(case)
    return parts
