"""Attack success by family and persona, of several models side by side, from what their red teams left in the ledger.

Dev cases only. Seen families stand beside those held out; the request as it stands is of neither side. An attempt is
one attack on one case, whatever it asked: how many queries it took is given beside, and attacks that may ask often
(searches, dialogues) have a total apart from those that ask once. Intervals are clustered by case (stats).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from breakfix.campaign import AsIs, queries
from breakfix.core import Attempt, Estimate, Paid, Split
from breakfix.redteam import catalogue
from breakfix.stats import as_json, asr_per_attempt

DIRECT, SEEN, HELD_OUT = "direct", "seen", "held out"
SIDES = (DIRECT, SEEN, HELD_OUT)
ONCE, OFTEN = "all that ask once", "all that ask several times"


@dataclass(frozen=True, slots=True)
class Figure:
    """Of one model. `queries`: (mean, most) that an attempt asked the target; (0, 0) where there is no attempt."""

    rate: Estimate
    queries: tuple[float, int]

    def record(self) -> dict[str, Any]:
        return {**as_json(self.rate), "queries": {"mean": self.queries[0], "most": self.queries[1]}}


@dataclass(frozen=True, slots=True)
class Row:
    """`family`: or one of the totals ONCE and OFTEN, whose `persona` is "". `figures`: one a model."""

    side: str
    family: str
    persona: str
    figures: tuple[Figure, ...]

    def record(self, names: Sequence[str]) -> dict[str, Any]:
        figures = {name: figure.record() for name, figure in zip(names, self.figures, strict=True)}
        return {"side": self.side, "family": self.family, "persona": self.persona, "models": figures}


def rows(attacked: Sequence[tuple[Iterable[Attempt], Mapping[str, str]]], held_out: Iterable[str]) -> list[Row]:
    """By side, each begun by its totals; families in the order of their names. `attacked`: per model its attempts, and
    case id → split."""
    outside = set(held_out)
    groups: list[dict[tuple[str, str, str], list[Attempt]]] = []
    for attempts, splits in attacked:
        found: dict[tuple[str, str, str], list[Attempt]] = {}
        for a in attempts:
            if splits.get(a.case) != Split.DEV.value:
                continue
            side = DIRECT if a.family == AsIs.family else HELD_OUT if a.family in outside else SEEN
            found.setdefault((side, a.family, a.persona), []).append(a)
        groups.append(found)
    keys = sorted({key for found in groups for key in found}, key=lambda key: (SIDES.index(key[0]), *key[1:]))
    often = {a.attack for found in groups for some in found.values() for a in some if queries(a) > 1}
    often |= {attack.name for attack in catalogue().values() if getattr(attack, "queries", None) != 1}
    made: list[Row] = []
    for side in SIDES:
        own = [key for key in keys if key[0] == side]
        if side != DIRECT:
            parts: tuple[tuple[str, Callable[[Attempt], bool]], ...] = (
                (ONCE, lambda a: a.attack not in often),
                (OFTEN, lambda a: a.attack in often),
            )
            for name, wanted in parts:
                some = [[a for key in own for a in found.get(key, ()) if wanted(a)] for found in groups]
                if any(some):
                    made.append(Row(side, name, "", tuple(map(_figure, some))))
        made += [Row(*key, tuple(_figure(found.get(key, [])) for found in groups)) for key in own]
    return made


def counted(attempts: Sequence[Attempt], kept: Iterable[Paid]) -> list[Attempt]:
    """With `queries` also in a ledger from before they were counted: the replies that were `kept` of an attempt while
    it went on (there must have been no helper, whose replies were kept likewise), and the one that it ended with."""
    went_on: dict[str, set[int]] = {}
    for paid in kept:
        went_on.setdefault(paid.attempt, set()).add(paid.query)
    return [
        attempt
        if attempt.queries is not None
        else replace(attempt, queries=max(queries(attempt), len(went_on.get(attempt.id, ())) + 1))
        for attempt in attempts
    ]


def page(made: Sequence[Row], names: Sequence[str], about: Sequence[str], command: str) -> str:
    """Markdown. `about`: a line on each model."""
    heads = "".join(f" {name} | queries |" for name in names)
    lines = [
        "# Attack success by family and persona",
        "",
        "Share of attempts on dev cases that broke the model, with 95 % intervals clustered by case; n: scored ones.",
        "Queries: what an attempt asked the target, mean and most. No text of families *held out* is learnt from.",
        "",
        *(f"- {line}" for line in about),
        "",
        f"Made by `{command}`.",
        "",
        f"| side | family | persona |{heads}",
        f"|---|---|---|{'---|---|' * len(names)}",
    ]
    for row in made:
        family = f"**{row.family}**" if not row.persona else f"`{row.family}`"
        told = "".join(f" {words(figure.rate)} | {asked(figure)} |" for figure in row.figures)
        lines.append(f"| {row.side} | {family} | {row.persona} |{told}")
    return "\n".join(lines) + "\n"


def words(rate: Estimate) -> str:
    if not rate.n:
        return f"–, {rate.unscored} unscored" if rate.unscored else "–"
    told = f"{100 * rate.value:.0f} % ({100 * rate.low:.0f} to {100 * rate.high:.0f}), n {rate.n}"
    return told + (f", {rate.unscored} unscored" if rate.unscored else "")


def asked(figure: Figure) -> str:
    mean, most = figure.queries
    return "–" if not most else f"{most}" if mean == most else f"{mean:.1f}, most {most}"


def _figure(attempts: Sequence[Attempt]) -> Figure:
    broke = ((a.case, None if a.score is None else 1.0 - a.score) for a in attempts)
    counts = [queries(a) for a in attempts]
    took = (sum(counts) / len(counts), max(counts)) if counts else (0.0, 0)
    return Figure(asr_per_attempt(broke, random.Random(0)), took)
