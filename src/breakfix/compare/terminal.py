"""A comparison as a table in the terminal: models as columns, figures as rows; plain text in a pipe.

The headline figures, and of the rest what changed significantly; `full` shows every row. What has no room beside the
reference gets a table of its own below: a figure is never cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from breakfix.compare.words import ARROWS, KEY, Footnotes, changed, counts, mark, rest, striking
from breakfix.report.headlines import figure, interval
from breakfix.report.plain import one_line

Json = Mapping[str, Any]
_GAP = 3  # characters between columns
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
    labels = [Text(f"{ARROWS[row['better']]} {row['label']}") for row in rows]
    made = [_column(columns[i], i, rows, footnotes) for i in range(len(columns))]
    room = width - max(label.cell_len for label in labels) - _GAP - _wide(made[0])
    shown: list[list[list[Text]]] = [[]]
    for column in made[1:]:
        if shown[-1] and sum(map(_wide, shown[-1])) + _wide(column) > room:
            shown.append([])
        shown[-1].append(column)
    return [_table(labels, [made[0], *some]) for some in shown]


def _table(labels: Sequence[Text], columns: Sequence[Sequence[Text]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column[0], no_wrap=True)
    for place, label in enumerate(labels, start=1):
        table.add_row(label, *(column[place] for column in columns))
    return table


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


def _wide(column: Sequence[Text]) -> int:
    return _GAP + max(line.cell_len for cell in column for line in cell.split("\n"))
