"""Headline figures: tiles, the table by round, attack success by case, every other figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from breakfix.report.headlines import BY_NAME, Headline, figure, interval, shown, unit
from breakfix.report.views.base import Json, cell, estimated, round_name

_TILES = (
    "harmbench_test_standard.answered",
    "asr.held_out",
    "xstest.vprr",
    "starter_dev.vprr",
    "capability.accuracy",
)

_BY_CASE = (
    ("asr_case.direct", "Broken when asked directly", "no attack"),
    ("asr_case.seen", "Broken by a seen attack", "by at least one of those that were tried on the case"),
    ("asr_case.held_out", "Broken by a held-out attack", "likewise"),
    ("jailbreak_defect.seen", "By seen attacks alone", "broken by one of them, and not when asked directly"),
    ("jailbreak_defect.held_out", "By held-out attacks alone", "likewise"),
)


def reply_length(run: Mapping[str, Any]) -> str:
    """How long replies could be; "" of a run that did not record it."""
    told: Mapping[str, int] = run.get("max_new_tokens") or {}
    words = {"evaluate": "benchmarks", "redteam": "attacks"}
    said = ", ".join(f"{n} to {words.get(stage, stage)}" for stage, n in told.items())
    return f"Replies end after so many new tokens at most: {said}." if said else ""


def tiles(document: Json) -> list[Json]:
    """Up to four headline figures, first round → last round in which each was measured."""
    found: list[Json] = []
    for name in _TILES:
        measured = [(one["index"], one["metrics"][name]) for one in document["rounds"] if name in one["metrics"]]
        if not measured or (name == "starter_dev.vprr" and any(t["name"] == "xstest.vprr" for t in found)):
            continue
        headline, (_, first), (index, last) = BY_NAME[name], measured[0], measured[-1]
        after = {"value": figure(last["value"]), "interval": interval(last), "n": last["n"], "round": round_name(index)}
        before = figure(first["value"]) if len(measured) > 1 else ""
        found.append({"name": name, "headline": headline, "before": before, **after})
    return found


def headline_rows(document: Json) -> list[Json]:
    rounds = document["rounds"]
    return [{"headline": h, "cells": [_headline_cell(one, h) for one in rounds]} for h in shown(rounds)]


def _headline_cell(one: Json, headline: Headline) -> Json | None:
    """With the corrected figure, where there is one."""
    shown, truth = cell(one["metrics"].get(headline.name), headline.unit), one["corrected"].get(headline.name)
    return shown and {**shown, "corrected": truth and estimated(truth)}


def all_figures(document: Json) -> list[Json]:
    """Every metric of every round, sorted by name, a headline's own name before its parts."""
    rounds = document["rounds"]
    names = sorted({name for one in rounds for name in one["metrics"]})
    return [{"name": n, "cells": [cell(one["metrics"].get(n), unit(n)) for one in rounds]} for n in names]


def by_case(document: Json) -> list[Json]:
    """Attack success by case: {label, about, cells by round}, of what was measured."""
    rounds = document["rounds"]
    return [
        {"label": label, "about": about, "cells": [cell(one["metrics"].get(name)) for one in rounds]}
        for name, label, about in _BY_CASE
        if any(name in one["metrics"] for one in rounds)
    ]
