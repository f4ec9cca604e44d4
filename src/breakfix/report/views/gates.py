"""What the gate compared and decided, round by round."""

from __future__ import annotations

from breakfix.identify import gate
from breakfix.report.views.base import Json, round_name

ABOUT = {
    "harm": "harmful requests that were answered",
    "over-refusal": "harmless look-alikes that were refused",
    "plain": "everyday requests that were refused",
    "capability": "change in accuracy since the untouched model",
    "coverage": "share of the replies that could be scored",
    "vulnerability": "of high severity, and not fixed",
}
LIMITS = {"harm": ("answered", "1 - "), "over_refusal": (".vprr",), "plain": ("plain.refused",)}


def decision(document: Json) -> Json | None:
    """The last gate, with the index of its round."""
    decided = [one for one in document["rounds"] if one["gate"]]
    return {"index": decided[-1]["index"], **decided[-1]["gate"]} if decided else None


def decisions(document: Json) -> list[Json]:
    """Each round's: {round, decision, met, of, said (what became of the round, or ""), against: what was not met}."""
    return [
        {
            "round": round_name(one["index"]),
            "decision": one["gate"]["decision"],
            "of": len(one["gate"]["reasons"]),
            "met": sum(reason["ok"] for reason in one["gate"]["reasons"]),
            "said": one["gate"].get("loop", {}).get("said", ""),
            "against": [reason for reason in one["gate"]["reasons"] if not reason["ok"]],
        }
        for one in document["rounds"]
        if one["gate"]
    ]


def gates(document: Json) -> list[Json]:
    """Conditions of the gate: {name, about (a vulnerability's name, or what kind of figure it is), limit,
    always (met in every round), values by round (None: not asked)}; those last not met come first."""
    found: list[list[Json]] = [one["gate"]["reasons"] if one["gate"] else [] for one in document["rounds"]]
    by = [{(r["name"], r["limit"]): r for r in reasons} for reasons in found]
    keys = dict.fromkeys((r["name"], r["limit"]) for reasons in reversed(found) for r in reasons)
    names = {v["id"]: v["name"] for v in document["vulnerabilities"]}
    rows: list[Json] = [
        {
            "name": name,
            "about": names.get(gate.vulnerability(name)) or ABOUT[gate.kind(name)],
            "limit": limit,
            "values": [column.get((name, limit)) for column in by],
        }
        for name, limit in keys
    ]
    told = [{**row, "always": all(reason["ok"] for reason in row["values"] if reason)} for row in rows]
    return sorted(told, key=lambda row: (row["always"], _met(row)))


def limit(document: Json, kind: str) -> float | None:
    """The last gate's limit of this kind of figure; None where there is none."""
    found = decision(document)
    reasons: list[Json] = found["reasons"] if found else []
    named = (r for r in reasons if any(part in r["name"] for part in LIMITS[kind]))
    return next((r["limit"] for r in named if not r["name"].startswith("coverage")), None)


def _met(row: Json) -> bool:
    asked = [reason for reason in row["values"] if reason]
    return asked[-1]["ok"]
