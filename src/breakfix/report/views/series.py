"""Points of the charts: bars by part and round, lines over the rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from breakfix.report.charts import Point
from breakfix.report.headlines import words
from breakfix.report.views.base import Json, round_name
from breakfix.taxonomy import hazards

_ROUNDS_IN_BARS = 5  # more of them and a bar is too thin to see: the untouched model and the last ones are drawn

HELD_OUT = " · held out"
_NO_PARTS = ("", "full", "partial")  # kinds of refusal


def drawn(rounds: Sequence[Json]) -> list[Json]:
    """The rounds that bar charts show."""
    return list(rounds) if len(rounds) <= _ROUNDS_IN_BARS else [rounds[0], *rounds[1 - _ROUNDS_IN_BARS :]]


def colour(position: int, of: int) -> str:
    """The untouched model is grey; then from pale to strong, and the last round is always the strongest."""
    return "var(--c0)" if position == 0 else f"var(--c{_ROUNDS_IN_BARS - of + position})"


def key(document: Json) -> list[Json]:
    """The legend of the bar charts."""
    shown = drawn(document["rounds"])
    return [{"label": round_name(r["index"]), "colour": colour(i, len(shown))} for i, r in enumerate(shown)]


def by_part(document: Json, prefix: str, *, flip: bool = False) -> list[Point]:
    """Bars of the metrics `prefix`+part (parts without a dot), by part, a bar a round. `flip`: 1 minus the figure.

    In the order in which `parts` has them.
    """
    shown = drawn(document["rounds"])
    points: list[Point] = []
    for part in parts(document, prefix):
        for position, one in enumerate(shown):
            estimate = one["metrics"].get(prefix + part)
            if estimate is not None:
                label, at = _label(document, prefix, part), colour(position, len(shown))
                found = flipped(estimate) if flip else estimate
                points += _some(Point.of(found, label, round_name(one["index"]), at))
    return points


def parts(document: Json, prefix: str) -> list[str]:
    """What a metric was split into. Hazards as in the taxonomy, so that charts of them agree; attack families seen
    first, then held out; what is neither, by name."""
    found = {n.removeprefix(prefix) for one in document["rounds"] for n in one["metrics"] if n.startswith(prefix)}
    order = [*hazards(), *sorted(found, key=lambda part: (document["run"]["families"].get(part) == "held_out", part))]
    return [part for part in dict.fromkeys(order) if part in found and part not in _NO_PARTS and "." not in part]


def _label(document: Json, prefix: str, part: str) -> str:
    side = document["run"]["families"].get(part) if prefix == "asr.family." else None
    return words(part).partition(" (")[0] + (HELD_OUT if side == "held_out" else "")


def flipped(estimate: Json) -> Json:
    """The same figure of the opposite: refused → answered."""

    def other(x: float | None) -> float | None:
        return None if x is None else 1 - x

    low, high = other(estimate["high"]), other(estimate["low"])
    return {**estimate, "value": other(estimate["value"]), "low": low, "high": high}


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart over the rounds. `series`: label → metric; what begins with "1 - " is the share of the opposite."""

    title: str
    series: Mapping[str, str]
    limit: str = ""
    whole: bool = True


PANELS = (
    Panel(
        "Harmful requests answered",
        {
            "HarmBench (frozen)": "harmbench_test_standard.answered",
            "development suite": "1 - starter_dev.iprr",
            "XSTest (frozen)": "1 - xstest.iprr",
        },
        "harm",
    ),
    Panel(
        "Harmless look-alikes refused",
        {"development suite": "starter_dev.vprr", "XSTest (frozen)": "xstest.vprr"},
        "over_refusal",
    ),
    Panel("Everyday requests refused", {"everyday requests": "plain.refused"}, "plain"),
    Panel("Attack success", {"direct": "asr.direct", "seen": "asr.seen", "held out": "asr.held_out"}),
    Panel(
        "Objective achieved",
        {"direct": "achieved.direct", "seen": "achieved.seen", "held out": "achieved.held_out"},
    ),
    Panel("Capability (cut axis)", {"questions": "capability.accuracy"}, whole=False),
)


def rounds(document: Json) -> list[str]:
    """What the axis of the rounds says at each."""
    return ["untouched", *(str(one["index"]) for one in document["rounds"][1:])]


def over_rounds(document: Json, panel: Panel) -> list[Point]:
    """Points of the panel's metrics in every round; the colours are --s1, --s2, ... in the order of the series."""
    found: list[Point] = []
    for position, (label, metric) in enumerate(panel.series.items(), start=1):
        name = metric.removeprefix("1 - ")
        for x, one in enumerate(document["rounds"]):
            if name in one["metrics"]:
                estimate = one["metrics"][name] if name == metric else flipped(one["metrics"][name])
                found += _some(Point.of(estimate, round_name(one["index"]), label, f"var(--s{position})", x))
    return found


def _some(point: Point | None) -> list[Point]:
    return [] if point is None else [point]


def legend(points: Sequence[Point]) -> list[Json]:
    colours = {point.series: point.colour for point in points}
    return [{"label": label, "colour": colour} for label, colour in colours.items()]
