"""Which vulnerability first, and how many rows against it.

    rank = severity ÷ 7 × rate × reach × confidence        0 to 1
        severity     0-7: the mean of what the judge gave the failures, else the taxonomy's weight of the hazard
        rate         share of scored attempts in the cell that failed
        reach        share of the hazard's cases that failed in the cell
        confidence   1 − width of the rate's 95 % interval

    weight = rank × yield
        yield        what may be mended: 1/2 before any round had rows of it; then, of what failed in the round that
                     opened it, the share that no longer does, by Laplace's rule: (mended + 1) ÷ (failed then + 2)
    rows = BUDGET of the round's harmful rows × weight ÷ sum of the weights, at most MOST
        harmful_compliance   {"harmful": rows, "twins": rows}     as many harmless look-alikes, against over-refusal
        over_refusal         {"twins": rows}; of everyday requests {"plain": rows}
        capability_loss      {"plain": rows}

As many share as would have LEAST rows each, the weightiest first; the others have none. Harm has such a budget,
and so have needless refusals and lost capability together: theirs are added to the round's twins and plain rows
(curate/mix.py) and take nothing from it. They are rows of the vulnerability's hazard and language. A fixed one
prescribes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from breakfix import taxonomy
from breakfix.core import Estimate, Vulnerability
from breakfix.identify.group import CAPABILITY, COMPLIANCE, REFUSAL, Cell

BUDGET = 0.5
LEAST, MOST = 8, 64
ROWS = ("harmful", "twins", "plain")
WEIGHTS = {COMPLIANCE: 3.0, REFUSAL: 2.0, CAPABILITY: 3.0}  # severity where neither judge nor hazard gives one


def severity(cell: Cell) -> float:
    """0 to 7. A needless refusal harms nobody: its weight does not depend on the hazard it looks like."""
    given = [v.severity for a in cell.failed if (v := a.final) is not None and v.severity is not None]
    if given and cell.key.kind == COMPLIANCE:
        return sum(given) / len(given)
    hazard = taxonomy.hazards().get(cell.key.hazard) if cell.key.kind == COMPLIANCE else None
    return hazard.severity if hazard else WEIGHTS[cell.key.kind]


def rank(cell: Cell) -> float:
    """0 to 1, see above; 0 where nothing was scored."""
    return ranked(severity(cell), cell.rate, cell.reach)


def confidence(rate: Estimate) -> float:
    """0 to 1; 0 where nothing was scored."""
    return max(0.0, 1 - (rate.high - rate.low)) if rate.n else 0.0


def ranked(severity: float, rate: Estimate, reach: float) -> float:
    """0 to 1, see the top; 0 where nothing was scored."""
    return severity / 7 * rate.value * reach * confidence(rate) if rate.n else 0.0


def yields(failed: int, mended: float) -> float:
    """The share of what fails that rows may mend, 0 to 1, see the top. A language that a model does not speak stays
    open whatever it is taught, and would have the most rows of all for ever."""
    return (mended + 1) / (failed + 2)


def prescriptions(
    vulnerabilities: Sequence[Vulnerability], weights: Mapping[str, float], harmful: int
) -> dict[str, dict[str, int]]:
    """Vulnerability id → rows, for those of the ones given (the open ones) that have any. `harmful`: harmful rows a
    round."""
    rows: dict[str, int] = {}
    for harm in (True, False):
        here = {v.id: w for v in vulnerabilities if (v.kind == COMPLIANCE) == harm and (w := weights[v.id]) > 0}
        rows |= _shared(here, round(BUDGET * harmful))
    return {v.id: _rows(v, rows[v.id]) for v in vulnerabilities if rows.get(v.id)}


def _shared(weights: Mapping[str, float], budget: int) -> dict[str, int]:
    """In proportion, `budget` in all where none has MOST; what rounding leaves goes to the largest remainders."""
    first = sorted(weights, key=lambda id: -weights[id])
    sums = list(accumulate(weights[id] for id in first))
    few = [n for n, total in enumerate(sums, 1) if budget * weights[first[n - 1]] >= (LEAST - 1e-9) * total]
    first = first[: max(few, default=1)]
    exact = {id: budget * weights[id] / sums[len(first) - 1] for id in first}
    up = sorted(first, key=lambda id: int(exact[id]) - exact[id])[: budget - sum(map(int, exact.values()))]
    return {id: min(MOST, int(exact[id]) + (id in up)) for id in first}


def _rows(v: Vulnerability, n: int) -> dict[str, int]:
    if v.kind == COMPLIANCE:
        return {"harmful": n, "twins": n}
    return {"twins": n} if v.kind == REFUSAL and v.hazard else {"plain": n}
