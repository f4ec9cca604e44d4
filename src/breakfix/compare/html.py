"""A comparison as one HTML file: no script, no network; the report's style, cleaning and escaping (report/html.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from breakfix.compare.words import ARROWS, KEY, Footnotes, changed, counts, mark
from breakfix.report.charts import Point, changes
from breakfix.report.headlines import figure, interval
from breakfix.report.html import POLICY, environment
from breakfix.report.plain import one_line

Json = Mapping[str, Any]
_DRAWN = 40  # rows of a chart; of longer sections only the table is shown


def page(document: Json) -> str:
    """The HTML text. Write it as UTF-8."""
    made = environment()
    made.filters.update(figure=figure, p=_p)
    first, *others = (one_line(column["name"], 60) for column in document["columns"])
    return made.get_template("compare.html.j2").render(
        policy=POLICY,
        document=document,
        title=f"{', '.join(others)} beside {first}",
        sections=[_section(section, document["columns"]) for section in document["sections"]],
        reading=KEY,
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _section(section: Json, columns: Sequence[Json]) -> Json:
    footnotes = Footnotes()
    rows = [
        {**row, "arrow": ARROWS[row["better"]], "cells": [_cell(cell, row["unit"], footnotes) for cell in row["cells"]]}
        for row in section["rows"]
    ]
    points = _points(section["rows"], columns)
    return {
        **section,
        "rows": rows,
        "reasons": footnotes.reasons,
        "chart": _chart(points, section["title"]),
        "legend": [{"label": s, "colour": c} for s, c in {p.series: p.colour for p in points}.items()],
    }


def _cell(cell: Json, unit: str, footnotes: Footnotes) -> Json:
    if cell["estimate"] is None:
        return cell
    said = {"bounds": interval(cell["estimate"], unit), "counts": counts(cell), "changed": changed(cell, unit)}
    return {**cell, **said, "mark": mark(cell), "number": footnotes.number(cell)}


def _points(rows: Sequence[Json], columns: Sequence[Json]) -> list[Point]:
    """The changes of shares, row by row, in the columns' colours."""
    found: list[Point] = []
    for row in rows[: len(rows) if len(rows) <= _DRAWN else 0]:
        for place, cell in enumerate(row["cells"]):
            if cell["change"] is not None and row["unit"] == "share":
                label, colour = f"{ARROWS[row['better']]} {row['label']}", f"var(--s{(place - 1) % 6 + 1})"
                point = Point.of(cell["change"], label, columns[place]["name"], colour)
                found += [point] if point is not None else []
    return found


def _chart(points: Sequence[Point], title: str) -> Markup | None:
    return changes(points, f"{title}: change from the first column") if points else None
