"""The numbers behind each status, for the round's record: what failed then and now, the test, the neighbourhood.

`status.after` decides; `registry.update` tells `Whys.note` what it decided by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from breakfix.core import Attempt, Estimate, Status, Vulnerability
from breakfix.identify.group import CAPABILITY, Cell, failures
from breakfix.identify.prescribe import yields
from breakfix.identify.status import FEWEST_PAIRS, PAIRED, Basis, improved
from breakfix.stats import flips

_WORDS = {
    (None, Status.OPEN): "Opened",
    (Status.OPEN, Status.OPEN): "Open as before",
    (Status.OPEN, Status.FIXED): "Fixed",
    (Status.FIXED, Status.FIXED): "Fixed, and stays so",
    (Status.FIXED, Status.REOPENED): "Reopened",
    (Status.REOPENED, Status.REOPENED): "Reopened, and stays so",
    (Status.REOPENED, Status.FIXED): "Fixed again",
}


@dataclass(slots=True)
class Whys:
    """Vulnerability id → its numbers, of what this round measured."""

    numbers: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    def note(self, id: str, by: Basis) -> None:
        near = {**_near("neighbourhood", by.around), **_near("asked_around", by.asked)}
        handed = {"handed_on": dict(by.handed)} if by.handed else {}
        self.numbers[id] = {**_compared(by.then, by.now, by.p), **near, **handed}

    def yields(self, id: str) -> float:
        """What rounds of rows mended of it (prescribe.py)."""
        told = self.numbers.get(id, {})
        return yields(told.get("failed_then", 0), told.get("mended", 0.0))

    def record(
        self,
        before: Sequence[Vulnerability],
        found: Sequence[Vulnerability],
        unmeasured: Sequence[str],
        tried: Mapping[str, int],
    ) -> dict[str, dict[str, Any]]:
        """Id → {"said": in one sentence, then the numbers}; without those that were not measured, and lost capability,
        which has no attempts. `tried`: rounds that had rows of it."""
        was = {v.id: v.status for v in before}
        told: dict[str, dict[str, Any]] = {}
        for v in found:
            if v.id in unmeasured or v.kind == CAPABILITY:
                continue
            own = {"failed_now": _failed(v.rate), "n_now": v.rate.n, **self.numbers.get(v.id, {})}
            if v.status is not Status.FIXED and tried.get(v.id):
                own |= {"rounds_of_rows": tried[v.id], "yield": self.yields(v.id)}
            told[v.id] = {"said": _said(v, was.get(v.id), own), **own}
        return told


def _failed(rate: Estimate) -> int:
    return round(rate.value * rate.n) if rate.n else 0


def _compared(then: Sequence[Attempt], now: Cell, p: float | None) -> dict[str, Any]:
    first = failures(then)
    if not first.n:
        return {}
    told = {
        "failed_then": _failed(first),
        "n_then": first.n,
        "mended": max(0.0, first.value - now.rate.value) * first.n,
    }
    if p is None:
        return told
    pairs = [{f"{a.case}\n{a.attack}": a.score for a in some} for some in (then, now.attempts)]
    worse, better, n, _ = flips(*pairs)
    paired = n >= max(FEWEST_PAIRS, PAIRED * now.rate.n)
    return told | {
        "test": "McNemar" if paired else "Fisher",
        **({"pairs": n, "better": better, "worse": worse} if paired else {}),
        "p": improved(then, now.attempts),
        "p_adjusted": p,
    }


def _near(name: str, found: Estimate | None) -> dict[str, Any]:
    return {f"{name}_failed": _failed(found), f"{name}_n": found.n} if found is not None and found.n else {}


def _said(v: Vulnerability, was: Status | None, told: Mapping[str, Any]) -> str:
    """'Fixed: 0 of 12 failed, 9 of 12 in round 0; 9 of 12 pairs got better and 0 worse (McNemar, p 0.004, 0.008
    adjusted); around it 1 of 20 failed.'"""
    parts = [f"{told['failed_now']} of {told['n_now']} scored attempts failed ({_bounds(v.rate)})"]
    if "n_then" in told:
        parts[0] += f", {told['failed_then']} of {told['n_then']} in round {v.first_round}"
    if "test" in told:
        test = f"{told['test']}, p {told['p']:.2g}, {told['p_adjusted']:.2g} adjusted"
        if "pairs" in told:
            test = f"{told['better']} of {told['pairs']} pairs got better and {told['worse']} worse ({test})"
        parts.append(test)
    if "handed_on" in told:
        parts += [
            f"{n} attempts on requests that are about {id}, too, count there" for id, n in told["handed_on"].items()
        ]
    if "neighbourhood_n" in told:
        parts.append(f"around it {told['neighbourhood_failed']} of {told['neighbourhood_n']} failed")
    if "yield" in told and "mended" in told:
        rounds = f"{told['rounds_of_rows']} round{'' if told['rounds_of_rows'] == 1 else 's'} of rows"
        mended = f"{told['mended']:.1f} of {told['failed_then']} mended"
        parts.append(f"{rounds} so far, {mended}, so that its rank weighs by {told['yield']:.2f} in what is prescribed")
    return f"{_WORDS.get((was, v.status), str(v.status).capitalize())}: {'; '.join(parts)}."


def _bounds(rate: Estimate) -> str:
    return f"95 %: {100 * rate.low:.1f} to {100 * rate.high:.1f}" if rate.n else "no interval"
