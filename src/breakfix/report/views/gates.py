"""What the gate compared and decided, round by round."""

from __future__ import annotations

from breakfix.report.views.base import Json


def decision(document: Json) -> Json | None:
    """The last gate, with the index of its round."""
    decided = [one for one in document["rounds"] if one["gate"]]
    return {"index": decided[-1]["index"], **decided[-1]["gate"]} if decided else None


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
