"""Heat maps as tables: failures by hazard and attack family, by hazard and language, of each round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from breakfix.report.headlines import words
from breakfix.report.views.base import Json, round_name
from breakfix.taxonomy import hazards

FEW = 10  # scored attempts: with fewer, the interval is about 50 points wide or more
_STEPS = (0.05, 0.2, 0.4, 0.6, 0.8)  # from which share on a cell has the next colour
ALL = "all"


def matrix(document: Json, kind: str, by: str) -> list[Json]:
    """{round, heads, rows: [{name, cells}]} of each round that has cells of this kind. `by`: family | language. The
    first column and the last row are of all."""
    return [
        {"round": round_name(one["index"]), **_table(found, by, document["run"]["families"])}
        for one in document["rounds"]
        if (found := [cell for cell in one.get("cells", ()) if cell["kind"] == kind])
    ]


def _table(cells: Iterable[Json], by: str, families: Json) -> Json:
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for one in cells:
        for row in (one["hazard"], ALL):
            for column in (one[by], ALL):
                into = sums[row, column]
                for place, name in enumerate(("failed", "n", "unscored")):
                    into[place] += one[name]
    rows = [h for h in (*hazards(), *sorted({r for r, _ in sums} - {*hazards(), ALL})) if (h, ALL) in sums]
    side: Callable[[str], Any] = (
        (lambda name: (families.get(name) == "held_out", name != "direct", name))
        if by == "family"
        else (lambda name: (name != "en", name))
    )
    columns = sorted({c for _, c in sums if c != ALL}, key=side)
    heads = [{"name": _head(name, by), "held_out": families.get(name) == "held_out"} for name in columns]
    filled = [
        {"name": _row(row), "cells": [_cell(sums.get((row, column))) for column in (ALL, *columns)]}
        for row in (*rows, ALL)
    ]
    return {"heads": heads, "rows": filled}


def _row(name: str) -> str:
    return "All" if name == ALL else words(name) or "No hazard"


def _head(name: str, by: str) -> str:
    return words(name) if by == "family" else name


def _cell(counts: list[int] | None) -> Json | None:
    """None where nothing was asked; `share` None where nothing could be scored."""
    if counts is None:
        return None
    failed, n, unscored = counts
    share = failed / n if n else None
    level = "" if share is None else sum(share >= step for step in _STEPS)
    return {"share": share, "n": n, "asked": n + unscored, "level": level, "few": n < FEW}
