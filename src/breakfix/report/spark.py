"""A vulnerability's rate over the rounds as a small SVG, drawn by hand: there may be hundreds of them, and each of
Vega's takes a tenth of a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from breakfix.report.headlines import figure, interval
from breakfix.report.plain import one_line

LEFT, TOP, HEIGHT = 40, 10, 84
STEP, LEAST_WIDTH = 56, 150
_COLOURS = {"open": "var(--bad)", "reopened": "var(--bad)", "fixed": "var(--good)"}


def history(rows: Sequence[Mapping[str, Any]], rounds: Mapping[int, str], title: str, limit: float = 0.1) -> Markup:
    """`rows`: a vulnerability's history, as in the document; `rounds`: index → name. The dashed line is the limit."""
    step = STEP if len(rounds) > 3 else LEAST_WIDTH / max(1, len(rounds) - 1)
    right = LEFT + step * max(1, len(rounds) - 1) + 28
    at = {index: LEFT + 14 + step * place for place, index in enumerate(rounds)}
    parts = [_line("grid", LEFT, right, _y(share), _y(share)) + _label(share) for share in (0, 0.5, 1)]
    parts.append(_line("limit", LEFT, right, _y(limit), _y(limit)))
    known = [row for row in rows if row.get("measured", True) and row["rate"]["value"] is not None]
    places = [(at[row["round"]], row) for row in known if row["round"] in at]
    if len(places) > 1:
        path = " ".join(f"{x:.1f},{_y(row['rate']['value']):.1f}" for x, row in places)
        parts.append(Markup('<polyline points="{}"/>').format(path))
    parts += [_mark(x, row) for x, row in places]
    below = Markup('<text class="x" x="{:.1f}" y="{}">{}</text>')
    names = {index: "untouched" if index == 0 else name.rpartition(" ")[2] for index, name in rounds.items()}
    parts += [below.format(x, TOP + HEIGHT + 18, names[index]) for index, x in at.items()]
    return Markup(
        '<svg class="spark" role="img" viewBox="0 0 {w:.0f} {h}" style="max-width: {w:.0f}px"><title>{title}</title>'
        "<desc>{told}</desc>{parts}</svg>"
    ).format(
        w=right + 6,
        h=TOP + HEIGHT + 24,
        title=one_line(title),
        told=one_line("; ".join(_said(row, rounds) for row in rows), 2000),
        parts=Markup("").join(parts),
    )


def _line(css: str, x1: float, x2: float, y1: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(css, x1, x2, y1, y2)


def _label(share: float) -> Markup:
    return Markup('<text x="{}" y="{:.1f}">{}</text>').format(LEFT - 6, _y(share) + 4, f"{share:.0%}")


def _y(share: float) -> float:
    return TOP + HEIGHT * (1 - min(1.0, max(0.0, share)))


def _mark(x: float, row: Mapping[str, Any]) -> Markup:
    rate, colour = row["rate"], _COLOURS.get(row["status"], "var(--muted)")
    fill = "var(--paper)" if row["status"] == "fixed" else colour  # told apart without colour, too
    known = rate["low"] is not None and rate["high"] is not None
    whisker = _line("whisker", x, x, _y(rate["high"]), _y(rate["low"])) if known else Markup("")
    dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4.5" fill="{}" stroke="{}"/>')
    return whisker + dot.format(x, _y(rate["value"]), fill, colour)


def _said(row: Mapping[str, Any], rounds: Mapping[int, str]) -> str:
    name = rounds.get(row["round"], f"round {row['round']}")
    if not row.get("measured", True):
        return f"{name}: not measured, {row['status']}"
    rate = row["rate"]
    return f"{name}: {figure(rate['value'])} ({interval(rate)}), n = {rate['n']}, {row['status']}"
