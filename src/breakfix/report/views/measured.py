"""What was measured and with which judges, and what was not."""

from __future__ import annotations

from collections.abc import Sequence

from breakfix.report.headlines import figure, interval
from breakfix.report.views.base import Json, round_name

FIGURES = {  # of a judge's card: name → label and unit
    "accuracy": ("Accuracy", "share"),
    "kappa": ("κ", "number"),
    "sensitivity": ("Sensitivity", "share"),
    "specificity": ("Specificity", "share"),
    "mae": ("Mean error", "number"),
    "alpha": ("α", "number"),
}


def skips(document: Json) -> list[Json]:
    """What was not measured, or not checked against: {stage, suite, reason, rounds: [(name, n)]}; a reason once, with
    its rounds."""
    rows: dict[tuple[str, str, str], list[tuple[str, int | None]]] = {}
    for one in document["rounds"]:
        for skip in one["skipped"]:
            at = (skip["stage"], skip["suite"], skip["reason"])
            rows.setdefault(at, []).append((round_name(one["index"]), skip["n"]))
        for row in not_checked(one):
            at = ("curate", row["suite"], f"training data was not checked against it ({row['reason']})")
            rows.setdefault(at, []).append((round_name(one["index"]), None))
    return [{"stage": k[0], "suite": k[1], "reason": k[2], "rounds": rounds} for k, rounds in rows.items()]


def not_checked(one: Json) -> list[Json]:
    """The suites that a round's training data could not be checked against: {suite, reason}."""
    data: Json = one["data"] or {}
    return data.get("decontamination", {}).get("not_checked", [])


def judges(document: Json) -> Json:
    """{figures: labels of those that some card has, rows: [{judge, kind, said, n, note, cells in their order}]}, a row
    for each set of labels."""
    cards = [card for one in document["judges"] for card in cards_of(one)]
    names = [name for name in FIGURES if any(name in card["figures"] for card in cards)]
    rows = [_judge(one, card, names) for one in document["judges"] for card in cards_of(one) or [None]]
    return {"figures": [FIGURES[name][0] for name in names], "rows": rows}


def cards_of(one: Json) -> list[Json]:
    """Of an entry of the document's `judges`: what figures are corrected by first."""
    return [one["card"], *one["others"]] if one["card"] else []


def _judge(one: Json, card: Json | None, names: Sequence[str]) -> Json:
    about = {"judge": one["judge"], "kind": one["kind"]}
    if card is None:
        return {**about, "said": one["why"], "n": None, "note": "", "cells": [None] * len(names)}
    note = "; ".join(filter(None, (one["why"], card["note"])))
    cells = [judge_cell(card["figures"].get(name), name) for name in names]
    return {**about, "said": card["labels"], "n": card["n"], "note": note, "cells": cells}


def judge_cell(estimate: Json | None, name: str) -> Json | None:
    unit = FIGURES[name][1]
    return estimate and {"value": figure(estimate["value"], unit), "interval": interval(estimate, unit)}


def calibrated(document: Json) -> list[str]:
    """What the corrected figures assume of each judge that has some, in words."""
    if not any(one["corrected"] for one in document["rounds"]):
        return []
    of_refusals = [one for one in document["judges"] if one["card"] and one["card"]["measures"] == "refusal"]
    cards = [(one["judge"], one["card"]["figures"]) for one in of_refusals]
    return [
        f"{judge} takes {figure(1 - found['sensitivity']['value'])} of refusals for answers, and "
        f"{figure(1 - found['specificity']['value'])} of answers for refusals"
        for judge, found in cards
        if _known(found, "sensitivity") and _known(found, "specificity")
    ]


def _known(figures: Json, name: str) -> bool:
    return name in figures and figures[name]["value"] is not None


def suites(document: Json) -> list[Json]:
    """The last round's: {name, split, n, seconds, judge, told}. `told` is what its cases could tell, a line a figure:
    'vprr: 20.0 % from 10.0 % or 31.4 %; on the same cases 7.1 points'."""
    found: dict[str, Json] = document["rounds"][-1]["suites"] if document["rounds"] else {}
    about = ("split", "n", "seconds", "judge")
    return [
        {
            "name": name,
            **{key: suite.get(key) for key in about},
            "told": [f"{figure}: {_step(told)}" for figure, told in suite.get("detectable", {}).items()],
        }
        for name, suite in found.items()
    ]


def _step(told: Json) -> str:
    start = told["from"]
    ends = [start - told["drop"]] if told["drop"] is not None else []
    ends += [start + told["rise"]] if told["rise"] is not None else []
    known = "an assumed " if told["assumed"] else ""
    said = f"{known}{figure(start)} from {' or '.join(map(figure, ends)) or 'no other share'}"
    change = told.get("change")
    return said if change is None else f"{said}; on the same cases {100 * change:.1f} points"
