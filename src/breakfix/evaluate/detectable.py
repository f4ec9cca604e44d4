"""How small a change a suite could tell, stated beside its figures: "no difference" is not "the same".

Of each figure of a whole suite that is a share (5 % two-sided, 80 % power, see `stats.power`):

    n         scored cases; where they cluster, as many as they are worth
    from      the untouched model's share; ½ where that is not known, and then "assumed" is true
    drop      the smallest fall from it that two runs of n cases each would tell; null where not even one to 0 would be
    rise      likewise upwards
    pairs     after round 0: cases that were scored now and in round 0
    changed   the share of them that came out otherwise
    change    the smallest difference that these pairs would tell, if as many change again; null where none did
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from breakfix.campaign import AsIs
from breakfix.core import Attempt, Estimate
from breakfix.evaluate.capability import scores
from breakfix.evaluate.items import STAGE, recorded
from breakfix.evaluate.likelihood import KIND
from breakfix.evaluate.rates import outcomes
from breakfix.evaluate.work import Work
from breakfix.stats import detectable_change, detectable_drop, effective_n, flips
from breakfix.suites import Loaded

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

UNKNOWN = 0.5
SHARES = frozenset(
    (
        *("iprr", "vprr", "refused", "answered", "leaked", "dr1", "dr3"),
        *("accuracy", "accuracy.ambiguous", "accuracy.disambiguated", "preference", "acc", "acc_norm", "exact_match"),
    )
)
Side = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Untouched:
    """Round 0, as far as it is known: its metrics as JSON, and case id → attempt asked as it stands."""

    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    asked: Mapping[str, Attempt] = field(default_factory=dict[str, Attempt])

    @classmethod
    def of(cls, ledger: Ledger) -> Untouched:
        record = ledger.finished(0, STAGE) or {}
        asked = {a.case: a for a in ledger.attempts(round=0, stage=STAGE) if a.attack == AsIs.name}
        return cls(record.get("metrics", {}), asked)

    def share(self, metric: str) -> float | None:
        """None where it was not measured."""
        row: Mapping[str, Any] = self.metrics.get(metric, {})
        return row.get("value")


def stated(
    work: Work, suite: Loaded, figures: Mapping[str, Estimate], untouched: Untouched | None
) -> dict[str, dict[str, Any]]:
    """Figure (its name without the suite's) → see the top; nothing of a suite without shares. `untouched`: None in
    round 0, whose own figures are the untouched model's."""
    pairs = {} if untouched is None else _pairs(work, suite, untouched)
    found: dict[str, dict[str, Any]] = {}
    for metric, estimate in figures.items():
        name = metric.removeprefix(f"{suite.name}.")
        if not _whole(suite, name) or not estimate.n or (name == "iprr" and f"{suite.name}.answered" in figures):
            continue
        share = estimate.value if untouched is None else untouched.share(metric)
        found[name] = {**unpaired(estimate, share), **(paired(*pairs[metric]) if metric in pairs else {})}
    return found


def _whole(suite: Loaded, name: str) -> bool:
    if suite.measure == "lm-eval" and len({case.family for case in suite.cases}) == 1:
        return name.startswith(("acc", "exact_match"))  # with the names of filters behind
    return name in SHARES


def unpaired(estimate: Estimate, share: float | None) -> dict[str, Any]:
    """`share` None: not known."""
    start = UNKNOWN if share is None else share
    n = max(1, round(effective_n(estimate)))
    steps = {"drop": _step(n, start), "rise": _step(n, 1 - start)}
    return {"n": n, "from": start, "assumed": share is None, **steps}


def _step(n: int, share: float) -> float | None:
    step = detectable_drop(n, share) if share > 0 else math.nan
    return None if math.isnan(step) else step


def paired(before: Side, now: Side) -> dict[str, Any]:
    """Nothing where no case was scored on both sides."""
    lost, won, n, _ = flips(before, now)
    if not n:
        return {}
    changed = (lost + won) / n
    step = detectable_change(n, changed) if changed else math.nan
    return {"pairs": n, "changed": changed, "change": None if math.isnan(step) else step}


def _pairs(work: Work, suite: Loaded, untouched: Untouched) -> dict[str, tuple[Side, Side]]:
    """Metric → outcomes by case id in round 0 and now, of replies and of questions with choices."""
    if suite.measure == "replies":
        before, now = (outcomes(suite.name, suite.cases, asked) for asked in (untouched.asked, work.asked))
        return {metric: (before[metric], now[metric]) for metric in now}
    if suite.measure == "choices":
        items = (
            recorded(work.ledger, KIND, round=0),
            recorded(work.ledger, KIND, round=work.round, model=work.model.id),
        )
        before, now = (scores(suite.cases, some) for some in items)
        return {f"{suite.name}.accuracy": (before, now)}
    return {}
