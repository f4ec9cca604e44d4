"""What the HTML page shows, worked out from the document: tiles, points of charts, rows of tables. No HTML in here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from breakfix.report.charts import Point
from breakfix.report.headlines import BY_NAME, Headline, figure, interval, shown, unit, words
from breakfix.taxonomy import hazards

Json = dict[str, Any]
_TILES = (
    "harmbench_test_standard.answered",
    "asr.held_out",
    "xstest.vprr",
    "starter_dev.vprr",
    "capability.accuracy",
)
_ROUNDS_IN_BARS = 5  # more of them and a bar is too thin to see: the untouched model and the last ones are drawn
HELD_OUT = " · held out"
_BY_CASE = (
    ("asr_case.direct", "Broken when asked directly", "no attack"),
    ("asr_case.seen", "Broken by a seen attack", "by at least one of those that were tried on the case"),
    ("asr_case.held_out", "Broken by a held-out attack", "likewise"),
    ("jailbreak_defect.seen", "By seen attacks alone", "broken by one of them, and not when asked directly"),
    ("jailbreak_defect.held_out", "By held-out attacks alone", "likewise"),
)
FIGURES = {  # of a judge's card: name → label and unit
    "accuracy": ("Accuracy", "share"),
    "kappa": ("κ", "number"),
    "sensitivity": ("Sensitivity", "share"),
    "specificity": ("Specificity", "share"),
    "mae": ("Mean error", "number"),
    "alpha": ("α", "number"),
}
_KINDS = ("harmful", "twin", "plain", "general")


def round_name(index: int) -> str:
    return "Untouched" if index == 0 else f"Round {index}"


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


def decision(document: Json) -> Json | None:
    """The last gate, with the index of its round."""
    decided = [one for one in document["rounds"] if one["gate"]]
    return {"index": decided[-1]["index"], **decided[-1]["gate"]} if decided else None


def headline_rows(document: Json) -> list[Json]:
    rounds = document["rounds"]
    return [{"headline": h, "cells": [_headline_cell(one, h) for one in rounds]} for h in shown(rounds)]


def _headline_cell(one: Json, headline: Headline) -> Json | None:
    """With the corrected figure, where there is one."""
    shown, truth = cell(one["metrics"].get(headline.name), headline.unit), one["corrected"].get(headline.name)
    return shown and {**shown, "corrected": truth and _estimated(truth)}


def all_figures(document: Json) -> list[Json]:
    """Every metric of every round, sorted by name, a headline's own name before its parts."""
    rounds = document["rounds"]
    names = sorted({name for one in rounds for name in one["metrics"]})
    return [{"name": n, "cells": [cell(one["metrics"].get(n), unit(n)) for one in rounds]} for n in names]


def cell(estimate: Json | None, unit: str = "share") -> Json | None:
    """None where it was not measured."""
    if estimate is None:
        return None
    shown = {"value": figure(estimate["value"], unit), "interval": interval(estimate, unit)}
    counts = {"n": estimate["n"], "unscored": estimate["unscored"]}
    return {**shown, **counts, "proxy": estimate.get("proxy", False), "corrected": None}


def drawn(rounds: Sequence[Json]) -> list[Json]:
    """The rounds that bar charts show."""
    return list(rounds) if len(rounds) <= _ROUNDS_IN_BARS else [rounds[0], *rounds[1 - _ROUNDS_IN_BARS :]]


def colour(position: int, of: int) -> str:
    """The untouched model is grey; then from pale to strong, and the last round is always the strongest."""
    return "var(--c0)" if position == 0 else f"var(--c{_ROUNDS_IN_BARS - of + position})"


def key(document: Json) -> list[Json]:
    """The legend of the bar charts."""
    shown = drawn(document["rounds"])
    return [{"label": round_name(r["index"]), "colour": colour(i, len(shown))} for i, r in enumerate(shown)]


def by_part(document: Json, prefix: str, *, flip: bool = False) -> list[Point]:
    """Bars of the metrics `prefix`+part (parts without a dot), by part, a bar a round. `flip`: 1 minus the figure.

    In the order in which `parts` has them.
    """
    shown = drawn(document["rounds"])
    points: list[Point] = []
    for part in parts(document, prefix):
        for position, one in enumerate(shown):
            estimate = one["metrics"].get(prefix + part)
            if estimate is not None:
                label, at = _label(document, prefix, part), colour(position, len(shown))
                found = flipped(estimate) if flip else estimate
                points += _some(Point.of(found, label, round_name(one["index"]), at))
    return points


def parts(document: Json, prefix: str) -> list[str]:
    """What a metric was split into. Hazards as in the taxonomy, so that charts of them agree; attack families seen
    first, then held out; what is neither, by name."""
    found = {n.removeprefix(prefix) for one in document["rounds"] for n in one["metrics"] if n.startswith(prefix)}
    order = [*hazards(), *sorted(found, key=lambda part: (document["run"]["families"].get(part) == "held_out", part))]
    return [part for part in dict.fromkeys(order) if part in found and part and "." not in part]


def _label(document: Json, prefix: str, part: str) -> str:
    side = document["run"]["families"].get(part) if prefix == "asr.family." else None
    return words(part).partition(" (")[0] + (HELD_OUT if side == "held_out" else "")


def flipped(estimate: Json) -> Json:
    """The same figure of the opposite: refused → answered."""

    def other(x: float | None) -> float | None:
        return None if x is None else 1 - x

    low, high = other(estimate["high"]), other(estimate["low"])
    return {**estimate, "value": other(estimate["value"]), "low": low, "high": high}


def over_rounds(document: Json, names: Iterable[str]) -> list[Point]:
    """Points of the named metrics in every round; the colours are --s1, --s2, ... in the order of the names."""
    return [
        point
        for position, name in enumerate(names, start=1)
        for x, one in enumerate(document["rounds"])
        if name in one["metrics"]
        for point in _some(Point.of(one["metrics"][name], round_name(one["index"]), name, f"var(--s{position})", x))
    ]


def _some(point: Point | None) -> list[Point]:
    return [] if point is None else [point]


def legend(points: Sequence[Point]) -> list[Json]:
    colours = {point.series: point.colour for point in points}
    return [{"label": BY_NAME[n].label if n in BY_NAME else n, "colour": c} for n, c in colours.items()]


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
    return [{"title": title, "rows": _side_by_side(columns)} for title, columns in parts.items()]


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
            cells = [_estimated(figures.get(objective)) for objective in shown]
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
            "cells": [_estimated(share), *(_estimated(one["metrics"].get(name)) for one in document["rounds"])],
        }
        for name, share in found["metrics"].items()
    ]
    learnt = found["learnt"]["harmful"] + found["learnt"]["benign"]
    return {
        "said": f"layer {found['layer']} of {found['layers']}, fitted on {learnt} prompts of round 1",
        "names": ["probe", *(round_name(one["index"]) for one in document["rounds"])],
        "rows": rows,
    }


def _estimated(estimate: Json | None) -> Json | None:
    return estimate and {"value": figure(estimate["value"]), "interval": interval(estimate)}


def training(document: Json) -> list[Json]:
    """What the training stages reported, as rows {name, values by round}, of the rounds that trained."""
    return _side_by_side([one["train"] for one in document["rounds"] if one["train"]])


def _side_by_side(columns: Sequence[Json]) -> list[Json]:
    flat = [dict(_flat(column)) for column in columns]
    names = dict.fromkeys(name for column in flat for name in column)
    return [{"name": name, "values": [column.get(name) for column in flat]} for name in names]


def _flat(record: Json, before: str = "") -> Iterator[tuple[str, Any]]:
    """{"sft": {"loss": 1.2}} → ("sft: loss", 1.2)"""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(cast("Json", value), f"{before}{name}: ")
        else:
            yield f"{before}{name}", value


def gates(document: Json) -> list[Json]:
    """Conditions of the gate: {name, limit, values by round (None: not asked)}; those last not met come first."""
    found: list[list[Json]] = [one["gate"]["reasons"] if one["gate"] else [] for one in document["rounds"]]
    by = [{(r["name"], r["limit"]): r for r in reasons} for reasons in found]
    keys = dict.fromkeys((r["name"], r["limit"]) for reasons in reversed(found) for r in reasons)
    rows = [
        {"name": name, "limit": limit, "values": [column.get((name, limit)) for column in by]} for name, limit in keys
    ]
    return sorted(rows, key=_met)


def _met(row: Json) -> bool:
    asked = [reason for reason in row["values"] if reason]
    return asked[-1]["ok"]


def drops(document: Json) -> list[Json]:
    """What curation took out: {step, reason, counts by round}."""
    found = [one["data"]["dropped"] for one in document["rounds"] if one["data"]]
    keys = dict.fromkeys((d["step"], d["reason"]) for column in found for d in column)
    by = [{(d["step"], d["reason"]): d["n"] for d in column} for column in found]
    return [{"step": s, "reason": r, "counts": [column.get((s, r)) for column in by]} for s, r in keys]


def vulnerabilities(document: Json) -> list[Json]:
    """What is open first, then by severity and rate. `by_round` has what each round found out, or None."""
    order = {"reopened": 0, "open": 0, "fixed": 1}
    rows = sorted(document["vulnerabilities"], key=lambda v: (order[v["status"]], -v["severity"] * _at_least(v)))
    indices = [one["index"] for one in document["rounds"]]
    return [{**v, "by_round": _history(v, indices)} for v in rows]


def _at_least(vulnerability: Json) -> float:
    return vulnerability["rate"]["value"] or 0.0


def _history(vulnerability: Json, indices: Sequence[int]) -> list[Json | None]:
    """`since`: of a round that did not measure it, the last one that did; "" of one that did."""
    by: dict[int, Json] = {}
    last = vulnerability["first_round"]
    for one in vulnerability["history"]:
        last = one["round"] if one.get("measured", True) else last
        since = "" if last == one["round"] else round_name(last).lower()
        by[one["round"]] = {"status": one["status"], "since": since, **(cell(one["rate"]) or {})}
    return [by.get(index) for index in indices]


def unmeasured(vulnerability: Json) -> str:
    """'not measured since round 1', of one whose rate is not the last round's; else ""."""
    history = _history(vulnerability, [one["round"] for one in vulnerability["history"][-1:]])
    return f"not measured since {history[0]['since']}" if history and history[0] and history[0]["since"] else ""


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


def by_case(document: Json) -> list[Json]:
    """Attack success by case: {label, about, cells by round}, of what was measured."""
    rounds = document["rounds"]
    return [
        {"label": label, "about": about, "cells": [cell(one["metrics"].get(name)) for one in rounds]}
        for name, label, about in _BY_CASE
        if any(name in one["metrics"] for one in rounds)
    ]


def judges(document: Json) -> Json:
    """{figures: labels of those that some card has, rows: [{judge, kind, said, n, note, cells in their order}]}."""
    cards = [one["card"] for one in document["judges"] if one["card"]]
    names = [name for name in FIGURES if any(name in card["figures"] for card in cards)]
    return {"figures": [FIGURES[name][0] for name in names], "rows": [_judge(one, names) for one in document["judges"]]}


def _judge(one: Json, names: Sequence[str]) -> Json:
    card: Json = one["card"] or {"figures": {}, "n": None, "labels": one["why"], "note": ""}
    cells = [judge_cell(card["figures"].get(name), name) for name in names]
    about = {"judge": one["judge"], "kind": one["kind"], "said": card["labels"]}
    note = "; ".join(filter(None, (one["why"] if one["card"] else "", card["note"])))
    return {**about, "n": card["n"], "note": note, "cells": cells}


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


def times(document: Json) -> list[Json]:
    """Stages in order, with the share that each took of the longest."""
    stages: list[Json] = [
        {"round": round_name(o["index"]), **stage} for o in document["rounds"] for stage in o["stages"]
    ]
    longest = max((stage["seconds"] or 0.0 for stage in stages), default=0.0) or 1.0
    return [{**stage, "share": (stage["seconds"] or 0.0) / longest} for stage in stages]
