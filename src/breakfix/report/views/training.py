"""Training data, what training reported, release candidates and the yardstick."""

from __future__ import annotations

from typing import cast

from breakfix.report.views.base import Json, estimated, round_name, side_by_side

_KINDS = ("harmful", "twin", "plain", "general")


def mix(document: Json) -> list[Json]:
    """Rows of the training data by kind, of the rounds that had any."""
    found = [one for one in document["rounds"] if one["data"]]
    kinds = dict.fromkeys([*_KINDS, *(kind for one in found for kind in one["data"]["mix"])])
    return [
        {"label": round_name(one["index"]), "part": kind, "colour": f"var(--s{place})", "n": one["data"]["mix"][kind]}
        for one in found
        for place, kind in enumerate(kinds, start=1)
        if kind in one["data"]["mix"]
    ]


def composition(document: Json) -> list[Json]:
    """Tables of the training data: {title, rows: [{name, values by round}]}, of the rounds that had data."""
    found = [one["data"] for one in document["rounds"] if one["data"]]
    titles = {
        "rows": "Rows",
        "mix": "Kind",
        "by_source": "Source",
        "by_language": "Language",
        "by_hazard": "Hazard",
        "from_vulnerabilities": "Made for a vulnerability",
        "licences": "Licence",
        "decontamination": "Overlap with test suites",
        "own_replies": "The untouched model's own answers",
        "matched": "Harmful rows against their twins",
    }
    shown = [{**data, "decontamination": _overlap(data["decontamination"])} for data in found]
    parts = {title: [data.get(part, {}) for data in shown] for part, title in titles.items()}
    return [{"title": title, "rows": side_by_side(columns)} for title, columns in parts.items()]


def prescribed(document: Json) -> list[Json]:
    """Rounds whose prescription a person changed: {round, file, sha256, said}."""
    return [
        {"round": round_name(one["index"]), "file": told["file"], "sha256": told["sha256"],
         "said": "; ".join(change["said"] for change in told["changes"])}
        for one in document["rounds"]
        if one["data"] and (told := one["data"].get("prescription"))
    ]  # fmt: skip


def _overlap(record: Json) -> Json:
    """The record of decontamination in words: `clean` is not known where a suite could not be had."""
    words: Json = {}
    if "clean" in record:
        words["clean"] = "not known" if record["clean"] is None else record["clean"]
    if "not_checked" in record:
        words["not_checked"] = [row["suite"] for row in record["not_checked"]] or "nothing"
    if "pairs" in record:
        words["pairs"] = [f"{pair['row']} ({pair['rule']}: {pair['wall']})" for pair in record["pairs"]] or "none"
    return {**record, **words}


def drops(document: Json) -> list[Json]:
    """What curation took out: {step, reason, counts by round}."""
    found = [one["data"]["dropped"] for one in document["rounds"] if one["data"]]
    keys = dict.fromkeys((d["step"], d["reason"]) for column in found for d in column)
    by = [{(d["step"], d["reason"]): d["n"] for d in column} for column in found]
    return [{"step": s, "reason": r, "counts": [column.get((s, r)) for column in by]} for s, r in keys]


def training(document: Json) -> list[Json]:
    """What the training stages reported, as rows {name, values by round}, of the rounds that trained."""
    return side_by_side([one["train"] for one in document["rounds"] if one["train"]])


OBJECTIVES = {
    "harm": "Harm",
    "harm_wrapped": "Harm, seen attacks",
    "over_refusal": "Look-alikes refused",
    "plain": "Everyday refused",
    "capability": "Capability",
}


def selections(document: Json) -> Json:
    """Release candidates of the rounds that had several: {heads, rows: {round, name, cells, said}}. Heads are of the
    objectives that any candidate has a figure of."""
    rows: list[Json] = []
    found: list[Json] = [one["selection"] or {"candidates": {}, "dropped": []} for one in document["rounds"]]
    known = {objective for each in found for figures in each["candidates"].values() for objective in figures}
    shown = [objective for objective in OBJECTIVES if objective in known]
    for one, each in zip(document["rounds"], found, strict=True):
        why: dict[str, str] = {drop["name"]: f"no: {drop['reason']}" for drop in each["dropped"]}
        for name, figures in cast("dict[str, Json]", each["candidates"]).items():
            cells = [estimated(figures.get(objective)) for objective in shown]
            rows.append({"round": one["index"], "name": name, "cells": cells, "said": why.get(name, "yes")})
    return {"heads": [OBJECTIVES[objective] for objective in shown], "rows": rows}


def probe(document: Json) -> Json | None:
    """The yardstick: {said, names, rows: {name, cells}}, the probe's share of each metric and the rounds' beside it."""
    found = next((one["probe"] for one in document["rounds"] if one.get("probe")), None)
    if found is None:
        return None
    rows = [
        {
            "name": name,
            "cells": [estimated(share), *(estimated(one["metrics"].get(name)) for one in document["rounds"])],
        }
        for name, share in found["metrics"].items()
    ]
    learnt = found["learnt"]["harmful"] + found["learnt"]["benign"]
    return {
        "said": f"layer {found['layer']} of {found['layers']}, fitted on {learnt} prompts of round 1",
        "names": ["probe", *(round_name(one["index"]) for one in document["rounds"])],
        "rows": rows,
    }
