"""What the stages took."""

from __future__ import annotations

from breakfix.report.views.base import Json, round_name


def times(document: Json) -> list[Json]:
    """Stages in order, with the share that each took of the longest."""
    stages: list[Json] = [
        {"round": round_name(o["index"]), **stage} for o in document["rounds"] for stage in o["stages"]
    ]
    longest = max((stage["seconds"] or 0.0 for stage in stages), default=0.0) or 1.0
    return [{**stage, "share": (stage["seconds"] or 0.0) / longest} for stage in stages]
