"""Vulnerabilities over the rounds."""

from __future__ import annotations

from collections.abc import Sequence

from breakfix.report.views.base import Json, cell, round_name


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
