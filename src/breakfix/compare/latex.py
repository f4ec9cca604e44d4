"""A comparison as LaTeX: tables laid out as Table 4 of the Phi-3 report, models as columns. They need booktabs.

Every text is escaped; what LaTeX has no letter for in its usual fonts stays as UTF-8, which it reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from breakfix.compare.words import Footnotes, counts, mark, signed
from breakfix.report.headlines import figure, interval
from breakfix.report.plain import one_line

Json = Mapping[str, Any]
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "{''}",
    "\N{MINUS SIGN}": "$-$",
    "\N{NO-BREAK SPACE}": "~",
    "⟨": r"$\langle$",
    "⟩": r"$\rangle$",
    "–": "--",
    "…": r"\ldots{}",
    "↵": " ",
    "·": r"$\cdot$",
}
_ARROWS = {"lower": r"$\downarrow$", "higher": r"$\uparrow$", None: r"\phantom{$\uparrow$}"}
_MARKS = {"better": r"$^{\ast}$", "worse": r"$^{\dagger}$", "differs": r"$^{\ddagger}$", "": ""}
_KEY = (
    "{reference} is the reference. Small figures: 95 % intervals, n, and the change from the reference on what both "
    "were asked (shares in points)."
)
_SAID = {"better": "better", "worse": "worse", "differs": "different"}


def escape(text: str) -> str:
    """Any text as LaTeX that prints it, on one line."""
    return "".join(_ESCAPES.get(char, char) for char in one_line(text))


def latex(document: Json, *, full: bool = False) -> str:
    """The headline table; with `full`, one for every section. Needs \\usepackage{booktabs}."""
    sections = [section for section in document["sections"] if full or section["name"] == "headlines"]
    names = ", ".join(re.sub(r"\s+", " ", one_line(column["name"])) for column in document["columns"])
    lines = [
        f"% breakfix {document['breakfix_version']}: {names}",
        "% needs \\usepackage{booktabs}",
        *(line for section in sections for line in _table(section, document["columns"])),
    ]
    return "\n".join(lines) + "\n"


def _table(section: Json, columns: Sequence[Json]) -> Iterator[str]:
    footnotes, rows = Footnotes(), section["rows"]
    body = [line for row in rows for line in _row(row, footnotes)]
    marks = [mark(cell) for row in rows for cell in row["cells"]]
    said = [f"{_MARKS[m]} significantly {_SAID[m]}" for m in _SAID if m in marks]
    key = escape(_KEY.format(reference=columns[0]["name"]))
    if said:
        tests = f"{section['tests']} test{'s' if section['tests'] != 1 else ''}"
        key += f" {', '.join(said)} (5\\,\\%, Holm over {tests})."
    key += "".join(f" $^{{{i}}}$~{escape(why)}." for i, why in enumerate(footnotes.reasons, 1))
    yield from (
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(section['title'])}. {key}}}",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        " & ".join(["", *(escape(column["name"]) for column in columns)]) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    )


def _row(row: Json, footnotes: Footnotes) -> Iterator[str]:
    """Two lines: the figures, and below them in small print what they rest on."""
    cells, unit = row["cells"], row["unit"]
    best = _best(row)
    first = [_figure(cell, unit, i in best) for i, cell in enumerate(cells)]
    yield " & ".join([f"{_ARROWS[row['better']]} {escape(row['label'])}", *first]) + r" \\"
    yield " & ".join(["", *(_small(cell, unit, footnotes) for cell in cells)]) + r" \\[2pt]"


def _best(row: Json) -> set[int]:
    """The columns with the best value, of those that have one; none where no direction is better."""
    values = {i: c["estimate"]["value"] for i, c in enumerate(row["cells"]) if c["estimate"] is not None}
    known = {i: value for i, value in values.items() if value is not None}
    if row["better"] is None or len(known) < 2:
        return set()
    top = (min if row["better"] == "lower" else max)(known.values())
    return {i for i, value in known.items() if value == top}


def _figure(cell: Json, unit: str, best: bool) -> str:
    if cell["estimate"] is None:
        return ""
    shown = escape(figure(cell["estimate"]["value"], unit))
    return (rf"\textbf{{{shown}}}" if best else shown) + _MARKS[mark(cell)]


def _small(cell: Json, unit: str, footnotes: Footnotes) -> str:
    estimate, change = cell["estimate"], cell["change"]
    if estimate is None:
        return ""
    parts = [bounds] if (bounds := interval(estimate, unit)) else []
    parts.append(counts(cell))
    parts += [signed(change["value"], unit)] if change is not None else []
    number = footnotes.number(cell)
    raised = f"$^{{{number}}}$" if number is not None else ""
    return rf"{{\scriptsize {escape('; '.join(parts))}{raised}}}"
