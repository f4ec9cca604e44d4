"""Vulnerabilities over the rounds: the table, the page of each, and how many are open."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from breakfix.report import spark
from breakfix.report.views.base import Json, cell, round_name

TRANSCRIPTS = 5  # of a vulnerability's evidence that its page shows; the document has all
_LACKING: Json = {  # what a document that was made before has not
    "means": "", "why": "", "tests": {}, "topic": "", "suite": 0, "reach": None, "rank": None, "confidence": None,
    "neighbourhood": None, "reproducer": None, "search": None, "evidence_about": [], "rows": [], "notes": [],
}  # fmt: skip
STATUSES = {"open": ("Open", "var(--s2)"), "reopened": ("Reopened", "var(--bad)"), "fixed": ("Fixed", "var(--s3)")}


def vulnerabilities(document: Json) -> list[Json]:
    """The gravest first. `by_round` has what each round found, or None."""
    indices = [one["index"] for one in document["rounds"]]
    rows = gravest_first(document["vulnerabilities"])
    return [{**v, "anchor": anchor(v["id"]), "by_round": _history(v, indices)} for v in rows]


def gravest_first(found: Iterable[Json]) -> list[Json]:
    """In the order of every list of them: what is open first, then by rank, else by severity and rate."""
    return sorted(found, key=lambda v: (v["status"] == "fixed", -_weight(v)))


def anchor(id: str) -> str:
    return "vulnerability-" + re.sub(r"[^A-Za-z0-9-]", "", id)


def _weight(v: Json) -> float:
    rank = v.get("rank")
    return rank if rank is not None else v["severity"] / 7 * (v["rate"]["value"] or 0.0)


def pages(document: Json) -> list[Json]:
    """What the page of each shows beside its entry in the document: chart, rate, factors of the rank, transcripts."""
    names = {one["index"]: round_name(one["index"]) for one in document["rounds"]}
    by_id = {transcript["id"]: transcript for transcript in document["transcripts"]}
    found: list[Json] = []
    for v in vulnerabilities(document):
        reproducer: Json = v.get("reproducer") or {}
        shown = [by_id[id] for id in v["evidence"] if id in by_id and id != reproducer.get("id")]
        found.append(
            {
                **_LACKING,
                **v,
                "chart": spark.history(v["history"], names, f"{v['id']}: share of attempts that failed, by round"),
                "since": unmeasured(v),
                "measured": round_name(v.get("measured_round", v["first_round"])),
                "cell": cell(v["rate"]),
                "factors": _factors(v),
                "near": cell(v.get("neighbourhood")),
                "shortest": by_id.get(reproducer.get("id", "")),
                "transcripts": shown[:TRANSCRIPTS],
            }
        )
    return found


def _factors(v: Json) -> list[Json]:
    """severity ÷ 7 × rate × reach × confidence = rank, each as {name, value}; "not recorded" of an older ledger."""

    def told(value: float | None) -> str:
        return "not recorded" if value is None else f"{value:.2f}"

    return [
        {"name": "severity ÷ 7", "value": f"{v['severity'] / 7:.2f}"},
        {"name": "rate", "value": told(v["rate"]["value"])},
        {"name": "reach", "value": told(v.get("reach"))},
        {"name": "confidence", "value": told(v.get("confidence"))},
    ]


def burn_down(document: Json) -> Json | None:
    """{bars: rows of a stack by round and status, rows: a table's: {round, open, reopened, fixed, new, unmeasured}}."""
    found: list[Json] = []
    for one in document["rounds"]:
        now = [(v, h) for v in document["vulnerabilities"] for h in v["history"] if h["round"] == one["index"]]
        if now:
            counts = Counter(h["status"] for _, h in now)
            new = sum(v["first_round"] == one["index"] for v, _ in now)
            missing = sum(not h.get("measured", True) for _, h in now)
            row = {status: counts[status] for status in STATUSES}
            found.append({"round": round_name(one["index"]), **row, "new": new, "unmeasured": missing})
    if not found:
        return None
    bars = [
        {"label": row["round"], "part": label, "colour": colour, "n": row[status]}
        for row in found
        for status, (label, colour) in STATUSES.items()
        if row[status]
    ]
    legend = [{"label": label, "colour": colour} for label, colour in STATUSES.values()]
    return {"bars": bars, "rows": found, "legend": legend}


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
