"""Columns → one JSON document, which the table, the page and the LaTeX are made of. No ledger, no model.

The first column is the reference: every other one is compared with it, pair by pair. Its shape is
data/compare.schema.json, named "breakfix-compare/1". Unknown is null, never 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from breakfix import __version__
from breakfix.compare.columns import Column
from breakfix.compare.measures import SECTIONS, Measure, measures
from breakfix.compare.outcomes import Items
from breakfix.compare.paired import TESTABLE, Change, change
from breakfix.stats import LEVEL, as_json, from_json, holm

SCHEMA = "breakfix-compare/1"
ALPHA = 1 - LEVEL
Json = dict[str, Any]


def build(columns: Sequence[Column], notes: Sequence[str] = ()) -> Json:
    """The document. ValueError for fewer than two columns."""
    if len(columns) < 2:
        raise ValueError(f"{len(columns)} columns: expected two or more")
    rows = measures({name for column in columns for name in column.metrics})
    return {
        "schema": SCHEMA,
        "breakfix_version": __version__,
        "columns": [{"name": column.name, **column.about} for column in columns],
        "sections": [
            _section(name, title, some, columns)
            for name, title in SECTIONS.items()
            if (some := [row for row in rows if row.section == name])
        ],
        "notes": [*_differences(columns), *notes],
    }


def to_json(document: Json) -> str:
    """JSON text, ASCII, without NaN."""
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def schema() -> Json:
    """The published JSON schema (draft 2020-12) of the document."""
    return json.loads(resources.files("breakfix").joinpath("data", "compare.schema.json").read_text(encoding="utf-8"))


def _section(name: str, title: str, rows: Sequence[Measure], columns: Sequence[Column]) -> Json:
    """p values are adjusted for all tests of the section, those of all its columns together."""
    cells = {(row.name, place): _cell(row, columns[0], columns[place]) for row in rows for place in range(len(columns))}
    tests = {key: cell["p"] for key, cell in cells.items() if cell["p"] is not None}
    adjusted = holm({f"{place} {row}": p for (row, place), p in tests.items()})
    better = {row.name: row.better for row in rows}
    for row, place in tests:
        cell = cells[row, place]
        cell["p_adjusted"] = adjusted[f"{place} {row}"]
        cell["verdict"] = _verdict(cell["change"]["value"], cell["p_adjusted"], better[row])
    return {
        "name": name,
        "title": title,
        "tests": len(tests),
        "rows": [
            {
                "name": row.name,
                "label": row.label,
                "better": row.better,
                "unit": row.unit,
                "cells": [cells[row.name, place] for place in range(len(columns))],
            }
            for row in rows
        ],
    }


def _cell(row: Measure, first: Column, column: Column) -> Json:
    """What one column has of a row, and how it differs from the reference (null in the reference itself)."""
    found = _empty(column.metrics.get(row.name))
    if column is first or found["estimate"] is None:
        return found
    before, after = first.items.get(row.name), column.items.get(row.name)
    why = _incomparable(row.name in first.metrics, before, after)
    if why or before is None or after is None:
        return {**found, "why": why}
    kind = "mean" if "mean" in (before.kind, after.kind) else after.kind  # graded on one side is graded
    made = change(kind, before.outcomes, after.outcomes, row.name, span=after.span or before.span)
    if made.estimate.n == 0:
        return {**found, "alone": made.alone, "why": _nothing_paired(made)}
    why = "" if made.p is not None else f"fewer than {TESTABLE} to test"
    return {**found, "change": as_json(made.estimate), "p": made.p, "test": made.test, "alone": made.alone, "why": why}


def _empty(estimate: Mapping[str, Any] | None) -> Json:
    shown = None if estimate is None else as_json(from_json(estimate))
    nothing = dict.fromkeys(("change", "p", "p_adjusted", "verdict"))
    proxy = bool(estimate and estimate.get("proxy"))
    return {"estimate": shown, **nothing, "test": "", "alone": 0, "proxy": proxy, "why": ""}


def _incomparable(measured: bool, before: Items | None, after: Items | None) -> str:
    """Why two figures can't be compared; nothing where they can."""
    if not measured:
        return "not measured in the first column"
    if before is None or after is None:
        return "single outcomes are not recorded"
    if before.judges and after.judges and before.judges != after.judges:
        return f"judged by {_names(before)} and by {_names(after)}"
    return ""


def _names(items: Items) -> str:
    return " + ".join(sorted(items.judges))


def _nothing_paired(made: Change) -> str:
    if made.estimate.unscored == made.alone == 0:
        return "nothing was asked"
    if made.estimate.unscored:
        return "no pair of which both are scored"
    return "no case in common: other cases, or asked in other words"


def _verdict(difference: float, p: float, better: str | None) -> str:
    """better | worse | differs (no direction is better) | same (no significant difference: not proof of none)."""
    if p >= ALPHA or difference == 0:
        return "same"
    if better is None:
        return "differs"
    return "better" if (difference > 0) == (better == "higher") else "worse"


def _differences(columns: Sequence[Column]) -> list[str]:
    """What else than the model differs between columns, and so may explain what their figures differ by."""
    first, found = columns[0], list[str]()
    for column in columns[1:]:
        for before, after in _judged_apart(first, column):
            found.append(
                f"{first.name} was judged by {before}, {column.name} by {after}: their figures are shown and not "
                "compared, for a difference of judges is not one of models. `breakfix judges rejudge RUN --judge NAME` "
                "judges stored replies anew; then compare with --judge NAME@VERSION"
            )
        settings, other = _settings(first), _settings(column)
        for name in dict.fromkeys([*settings, *other]):
            if settings.get(name) != other.get(name):
                found.append(
                    f"{name}: {settings.get(name)} for {first.name}, {other.get(name)} for {column.name}; "
                    "what differs may be due to that"
                )
    skipped: dict[tuple[str, str], list[str]] = {}
    for column in columns:
        for row in column.about.get("skipped", ()):
            skipped.setdefault((row["suite"], row["reason"]), []).append(column.name)
    return found + [f"{suite} was skipped ({', '.join(names)}): {why}" for (suite, why), names in skipped.items()]


def _judged_apart(first: Column, column: Column) -> list[tuple[str, str]]:
    """The judges of figures that both columns have, where they are not the same."""
    both = [(first.items[name], column.items[name]) for name in first.items if name in column.items]
    return list(dict.fromkeys((_names(b), _names(a)) for b, a in both if _incomparable(True, b, a)))


def _settings(column: Column) -> Json:
    return column.about.get("settings", {})
