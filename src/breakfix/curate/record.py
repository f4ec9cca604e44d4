"""What a round's curation made: kept in the ledger, and told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from breakfix.core import Example, Vulnerability
from breakfix.curate import evidence, matched
from breakfix.curate.augment import counts
from breakfix.curate.round import Round
from breakfix.curate.sources import Gathered

SHOWN_CUTS = 50


@dataclass(frozen=True)
class Made:
    """What a round's curation made, and of what."""

    sft: Sequence[Example]
    pairs: Sequence[Example]
    open_: Sequence[Vulnerability]
    gathered: Gathered
    found: evidence.Evidence
    wanted: Mapping[str, int]  # kind → rows
    replayed: int
    recovered: Mapping[str, int]


def keep(here: Round, made: Made) -> None:
    """Into the ledger: both sets, what was left out or cut on the way, and the cases that either comes from."""
    ledger, round = here.ledger, here.number
    named = {parent for row in (*made.sft, *(drop.example for drop in here.dropped)) for parent in row.parents}
    cases = chain((prompt.case for prompt in made.gathered.prompts), here.put)
    ledger.add_cases([case for case in cases if case.id in named])  # ends of their lineage
    ledger.add_drops(here.dropped, round=round)
    ledger.add_examples(made.sft, round=round, dataset="sft")
    ledger.add_examples(made.pairs, round=round, dataset="dpo")
    for cut in made.gathered.cuts[:SHOWN_CUTS]:
        ledger.add_event(round, "curate", "cut", asdict(cut))


def record(here: Round, made: Made, not_checked: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    sft, gathered, found = made.sft, made.gathered, made.found
    drops = Counter((drop.step, drop.reason) for drop in here.dropped)
    told = here.order.report()  # tells decontamination's report, too
    return {
        "rows": {"sft": len(sft), "dpo": len(made.pairs)},
        "mix": _count(sft, lambda e: e.kind),
        "by_source": _count(sft, lambda e: e.source),
        "by_hazard": _count(sft, lambda e: e.hazard or "none"),
        "by_language": _count(sft, lambda e: e.language),
        "licences": _count(sft, lambda e: e.licence),
        "from_vulnerabilities": {v.id: sum(v.id in e.parents for e in sft) for v in made.open_},
        "dropped": [{"step": step, "reason": reason, "n": n} for (step, reason), n in drops.items()],
        "own_replies": dict(sorted(here.labels.items())),
        "spare": here.spare,
        "matched": matched.report(sft),
        "wrapped": counts(sft) | {"not": dict(here.wrap.skipped)},
        "wanted": made.wanted,
        "replayed": made.replayed,
        "cut": len(gathered.cuts),
        "left_out": {source: dict(reasons) for source, reasons in gathered.left_out.items()},
        "forms": gathered.forms,
        "decontamination": {
            **here.clean.report,
            "clean": None if not_checked else True,
            "not_checked": [dict(row) for row in not_checked],
        },
        "evidence": {
            "rows": len(found.prompts),
            **{name: dict(getattr(found, name)) for name in ("barred", "no_twin", "neighbours", "no_neighbour")},
            "no_room": {kind: n for kind, n in here.crowded.items() if n},
        },
        "recovery": made.recovered,
        **told,
    }


def _count(rows: Sequence[Example], key: Callable[[Example], str]) -> dict[str, int]:
    return dict(sorted(Counter(map(key, rows)).items()))
