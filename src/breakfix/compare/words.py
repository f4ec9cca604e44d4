"""How a comparison's cells read, the same in every form of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from breakfix.report.headlines import interval

Json = dict[str, Any]
ARROWS = {"lower": "↓", "higher": "↑", None: " "}
SIGNIFICANT = ("better", "worse", "differs")
KEY = (
    "↓ lower is better, ↑ higher is better; 95 % intervals. Under a figure: its change from the first column on what "
    "both were asked (of shares, in points), with the change's interval; better, worse or differs where the test says "
    "so at 5 %, adjusted (Holm) for all tests of the table. No such word: no significant change, which is no proof "
    "that there is none."
)


def signed(value: float | None, unit: str) -> str:
    """A change: 0.0312 → '+3.1' (points), for numbers '+0.03'; none at all → '0.0'; unknown → '–'."""
    if value is None:
        return "–"
    shown = f"{100 * value:+.1f}" if unit == "share" else f"{value:+.2f}"
    shown = shown if value else shown.removeprefix("+")
    return shown.replace("-", "\N{MINUS SIGN}")


def changed(cell: Mapping[str, Any], unit: str) -> str:
    """'−67.3 (−74.0 to −59.2)'; nothing where it was not compared."""
    change = cell["change"]
    if change is None:
        return ""
    bounds = interval(change, unit)
    return signed(change["value"], unit) + (f" ({bounds})" if bounds else "")


def counts(cell: Mapping[str, Any]) -> str:
    """'n 159, 3 unscored'; the pairs, where they are fewer; whether a proxy judged."""
    estimate, change = cell["estimate"], cell["change"]
    parts = [*(["proxy"] if cell["proxy"] else []), f"n {estimate['n']}"]
    if estimate["unscored"]:
        parts.append(f"{estimate['unscored']} unscored")
    if change is not None and change["n"] != estimate["n"]:
        parts.append(f"{change['n']} paired")
    return ", ".join(parts)


def mark(cell: Mapping[str, Any]) -> str:
    """better, worse or differs, where that is significant."""
    return cell["verdict"] if cell["verdict"] in SIGNIFICANT else ""


def striking(row: Mapping[str, Any]) -> bool:
    """Whether some column differs significantly from the first."""
    return any(mark(cell) for cell in row["cells"])


class Footnotes:
    """Reasons, each with a number, in the order they came up."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def number(self, cell: Mapping[str, Any]) -> int | None:
        """The number of the reason why a cell was not compared or tested; None where it was."""
        if not cell["why"]:
            return None
        if cell["why"] not in self.reasons:
            self.reasons.append(cell["why"])
        return self.reasons.index(cell["why"]) + 1


def rest(sections: Sequence[Mapping[str, Any]]) -> str:
    """What a table that shows only what is striking leaves out: '30 more rows without a significant change'."""
    left = sum(not striking(row) for section in sections for row in section["rows"])
    return f"{left} more rows without a significant change" if left else ""
