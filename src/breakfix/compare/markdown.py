"""A comparison as Markdown, for a page of documentation: the rows that the terminal shows, models as columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from breakfix.compare.words import ARROWS, KEY, Footnotes, changed, counts, mark, rest, striking
from breakfix.report.headlines import figure, interval
from breakfix.report.markdown import escape

Json = Mapping[str, Any]


def markdown(document: Json, *, full: bool = False) -> str:
    """Headline figures, and of the rest what changed significantly; with `full` every row."""
    return "\n".join(_lines(document, full)) + "\n"


def _lines(document: Json, full: bool) -> Iterator[str]:
    footnotes = Footnotes()
    for section in document["sections"]:
        whole = full or section["name"] == "headlines"
        rows = [row for row in section["rows"] if whole or striking(row)]
        if rows:
            few = f" ({len(rows)} of {len(section['rows'])} rows)" if len(rows) < len(section["rows"]) else ""
            yield f"**{escape(section['title'])}**{few}"
            yield ""
            yield from _table(document["columns"], rows, footnotes)
            yield ""
    left = "" if full else rest([s for s in document["sections"] if s["name"] != "headlines"])
    notes = [f"{left}." if left else "", *(f"[{i}] {why}." for i, why in enumerate(footnotes.reasons, 1))]
    for note in (*notes, *document["notes"], KEY):
        if note:
            yield escape(note)
            yield ""
    models = (f"{column['name']}: {column['model']}" for column in document["columns"])
    yield escape(f"Models: {'; '.join(models)}. breakfix {document['breakfix_version']}.")


def _table(columns: Sequence[Json], rows: Sequence[Json], footnotes: Footnotes) -> Iterator[str]:
    yield f"| | {' | '.join(escape(column['name']) for column in columns)} |"
    yield f"|---|{'---|' * len(columns)}"
    for row in rows:
        cells = (_cell(cell, row["unit"], footnotes) for cell in row["cells"])
        label = f"{ARROWS[row['better']]} {row['label']}".strip()
        yield f"| {escape(label)} | {' | '.join(cells)} |"


def _cell(cell: Json, unit: str, footnotes: Footnotes) -> str:
    estimate = cell["estimate"]
    if estimate is None:
        return ""
    bounds, said, number = interval(estimate, unit), mark(cell), footnotes.number(cell)
    lines = [figure(estimate["value"], unit) + (f" ({bounds})" if bounds else ""), counts(cell)]
    if cell["change"] is not None or number is not None:
        lines.append(f"{changed(cell, unit) or 'not compared'} {said}".strip())
    shown = [escape(line) for line in lines]
    shown[2:] = [f"**{line}**" if said else line for line in shown[2:]]
    return "<br>".join(shown) + (f" \\[{number}\\]" if number is not None else "")
