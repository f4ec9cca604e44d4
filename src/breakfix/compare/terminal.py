"""A comparison as a table in the terminal: models as columns, figures as rows; plain text in a pipe.

The headline figures, and of the rest what changed significantly; `full` shows every row. What has no room beside the
reference gets a table of its own below: nothing is cut (report/grid.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from breakfix.compare.words import ARROWS, KEY, Footnotes, changed, counts, mark, rest, striking
from breakfix.report import grid
from breakfix.report.headlines import figure, interval
from breakfix.report.plain import one_line

Json = Mapping[str, Any]
_STYLES = {"better": "green", "worse": "red", "differs": "yellow", "": "dim"}


def render(document: Json, console: Console, *, full: bool = False) -> None:
    """Print a document. Names in it are text, never markup."""
    footnotes = Footnotes()
    parts: list[RenderableType] = []
    for section in document["sections"]:
        whole = full or section["name"] == "headlines"
        rows = [row for row in section["rows"] if whole or striking(row)]
        if rows:
            about = f" ({len(rows)} of {len(section['rows'])} rows)" if len(rows) < len(section["rows"]) else ""
            parts += [Text(section["title"] + about, style="bold")]
            parts += [*_tables(document["columns"], rows, console.width, footnotes), Text()]
    left = "" if full else rest([s for s in document["sections"] if s["name"] != "headlines"])
    parts += [Text(f"{left} (--full, JSON and HTML have them)", style="dim"), Text()] if left else []
    parts += [Text(f"{i}  not compared or not tested: {one_line(why)}") for i, why in enumerate(footnotes.reasons, 1)]
    parts += [Text(one_line(note), style="yellow") for note in document["notes"]]
    parts.append(Text(KEY, style="dim"))
    console.print(Group(*parts))


def _tables(columns: Sequence[Json], rows: Sequence[Json], width: int, footnotes: Footnotes) -> list[Table]:
    labels = [Text(), *(Text(f"{ARROWS[row['better']]} {row['label']}") for row in rows)]
    reference, *others = (_column(about, place, rows, footnotes) for place, about in enumerate(columns))
    return grid.tables([labels, reference], [[column] for column in others], width)


def _column(about: Json, place: int, rows: Sequence[Json], footnotes: Footnotes) -> list[Text]:
    """Its name, and a cell per row."""
    return [Text(one_line(about["name"], 60)), *(_cell(row["cells"][place], row["unit"], footnotes) for row in rows)]


def _cell(cell: Json, unit: str, footnotes: Footnotes) -> Text:
    """Figure and interval; counts; the change. Empty where it was not measured."""
    estimate = cell["estimate"]
    if estimate is None:
        return Text("")
    bounds = interval(estimate, unit)
    shown = Text(figure(estimate["value"], unit) + (f" ({bounds})" if bounds else ""))
    shown.append(f"\n{counts(cell)}", style="yellow" if estimate["unscored"] else "dim")
    number = footnotes.number(cell)
    raised = f" [{number}]" if number is not None else ""
    if cell["change"] is not None or raised:
        said = f"{changed(cell, unit)} {mark(cell)}".strip() or "not compared"
        shown.append(f"\n{said}{raised}", style=_STYLES[mark(cell)])
    return shown
