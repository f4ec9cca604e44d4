"""How likely a model finds each choice of a question: measured once an item, kept in the ledger, for all measures that
compare choices (capability, preference, bias).

As lm-evaluation-harness does it (EleutherAI), but through the model's own chat template: the question is the user's
turn, a choice is what the assistant says first. A choice's value is its log-likelihood ÷ its characters ("acc_norm"),
so that long choices are not at a disadvantage; where the choices are single words of a fixed set (Yes and No, Right and
Wrong, Agree and Disagree), the log-likelihood as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from breakfix.core import Case, Model
from breakfix.evaluate.items import Progress, measure, recorded

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

KIND = "capability"  # of the events; older ledgers have it for multiple choice
LOGP = "log-likelihood"  # stands for the judge where none is asked
AS_IS = ("boolq", "toxigen", "machine_ethics")  # sources whose choices are compared without regard to their length
FIXED = ({"Agree", "Disagree"},)  # sets of choices that are, wherever they stand


def likelihoods(
    ledger: Ledger, model: Model, cases: Sequence[Case], *, round: int, progress: Progress
) -> tuple[dict[str, Any], float]:
    """({case id: {"score": 1 | 0 | None, "logp": log-likelihood of each choice, or None}}, seconds)."""
    longest_first = sorted(cases, key=lambda case: len(case.text), reverse=True)  # less padding in a batch
    rows = {case.id: case for case in longest_first}
    return measure(
        ledger,
        KIND,
        rows,
        lambda chunk: _score(model, chunk),
        content=lambda case: [case.prompt, case.choices, case.gold, case.source],
        known=lambda item: item is not None and item["logp"] is not None,
        round=round,
        model=model,
        progress=progress,
    )


def earlier(ledger: Ledger) -> dict[str, Any]:
    """What round 0 recorded, of all items."""
    return recorded(ledger, KIND, round=0)


def values(case: Case, items: Mapping[str, Any]) -> list[float] | None:
    """The value of each choice; None where the model failed, or gave no number."""
    logps = items[case.id]["logp"] if case.id in items else None
    return None if logps is None else weighed(case, logps)


def weighed(case: Case, logps: Sequence[float]) -> list[float]:
    """Log-likelihoods by length, or as they are."""
    if case.source in AS_IS or set(case.choices) in FIXED:
        return list(logps)
    return [logp / max(1, len(choice)) for logp, choice in zip(logps, case.choices, strict=True)]


def likeliest(found: Sequence[float]) -> int | None:
    """The place of the one choice that is likelier than all others; None for a tie."""
    best = max(found)
    return found.index(best) if list(found).count(best) == 1 else None


def _score(model: Model, cases: Sequence[Case]) -> list[dict[str, Any]]:
    given = model.score([(case.prompt, choice) for case in cases for choice in case.choices])
    logps = iter(logp for logp, _ in given)
    return [_item(case, [next(logps) for _ in case.choices]) for case in cases]


def _item(case: Case, logps: Sequence[float]) -> dict[str, Any]:
    if not all(math.isfinite(logp) for logp in logps):
        return {"score": None, "logp": None}
    right = float(likeliest(weighed(case, logps)) == case.gold) if case.gold >= 0 else None
    return {"score": right, "logp": list(logps)}
