"""What several parts of the page have in common: names of rounds, cells of tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from breakfix.report.headlines import figure, interval

Json = dict[str, Any]


def round_name(index: int) -> str:
    return "Untouched" if index == 0 else f"Round {index}"


def cell(estimate: Json | None, unit: str = "share") -> Json | None:
    """None where it was not measured."""
    if estimate is None:
        return None
    shown = {"value": figure(estimate["value"], unit), "interval": interval(estimate, unit)}
    counts = {"n": estimate["n"], "unscored": estimate["unscored"]}
    return {**shown, **counts, "proxy": estimate.get("proxy", False), "corrected": None}


def estimated(estimate: Json | None) -> Json | None:
    return estimate and {"value": figure(estimate["value"]), "interval": interval(estimate)}


def side_by_side(columns: Sequence[Json]) -> list[Json]:
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
