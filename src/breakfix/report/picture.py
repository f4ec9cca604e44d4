"""The headline figures over the rounds as one SVG file, for a README, a model card or a slide."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from breakfix.errors import UserError
from breakfix.report import charts
from breakfix.report.plain import one_line
from breakfix.report.views import gates, series


def picture(document: Mapping[str, Any]) -> str:
    """Of a report document: rates with 95 % bands, a panel a subject, the gate's limits dashed. In light colours,
    and in dark ones where the reader's screen is dark. UserError where no round was measured."""
    found = dict(document)
    panels = [
        charts.Lines(panel.title, points, panel.whole, gates.limit(found, panel.limit) if panel.limit else None)
        for panel in series.PANELS
        if (points := series.over_rounds(found, panel))
    ]
    if not panels:
        raise UserError("nothing to draw: no round was measured yet; `breakfix status` shows what is done")
    return _coloured(charts.sheet(panels, f"{one_line(document['run']['name'])}, by round", series.rounds(found)))


def _coloured(drawing: str) -> str:
    """Names of colours → the page's light colours, as any program reads them; a style for dark screens besides, which
    only browsers know."""
    style = files("breakfix").joinpath("data", "report", "style.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]+);", block)) for block in re.findall(r":root \{[^}]*\}", style)[:2]
    )
    used = sorted(set(re.findall(r"var\(--([a-z0-9]+)\)", drawing)))
    rules = "".join(
        f'[{what}="{light[name]}"] {{ {what}: {dark[name]} }} ' for name in used for what in ("fill", "stroke")
    )
    for name in used:
        drawing = drawing.replace(f"var(--{name})", light[name])
    head, end, rest = drawing.partition(">")
    return f"{head}{end}<style>@media (prefers-color-scheme: dark) {{ {rules}}}</style>{rest}"
