"""The vulnerabilities of the report's document: what each means in plain words, why it is open or fixed, what was made
of it, and what its evidence is, without what was said (redaction.py).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from breakfix import taxonomy
from breakfix.core import Attempt, Estimate, Status, Vulnerability
from breakfix.identify import edits
from breakfix.identify.group import CAPABILITY, COMPLIANCE
from breakfix.identify.names import PUT, spoken
from breakfix.identify.status import LIMIT
from breakfix.report.headlines import figure, interval
from breakfix.stats import as_json

if TYPE_CHECKING:
    from breakfix.ledger import Ledger, StageRow

Json = dict[str, Any]
EVIDENCE = 5  # attempts that are described one by one
ROWS = 12  # training rows that are named
_PLAIN = ("id", "kind", "name", "hazard", "family", "language", "severity", "first_round", "topic")
_ROLES = ("user", "assistant")


def weaknesses(
    ledger: Ledger, found: Sequence[Vulnerability], indices: Sequence[int], stages: Sequence[StageRow]
) -> list[Json]:
    """One entry a vulnerability, as the last round that named it and people since left it (`found`), with its history
    over all rounds."""
    records = {row.round: row.record or {} for row in stages if row.name == "identify"}
    history, last = _history(ledger, indices, records)
    rows, notes, searches = _rows(ledger, found, stages), _notes(ledger, stages), _searches(ledger)
    _begin(history, last, found, edits.read(ledger))
    wanted = [id for v in found for id in (*v.evidence[:EVIDENCE], v.reproducer) if id]
    known = ledger.known(wanted)
    pooled = {case for v in found if not v.language for case, _ in v.suite}
    languages = ledger.languages(sorted(pooled))
    return [
        {
            **{name: getattr(v, name) for name in _PLAIN},
            "means": means(v, last.get(v.id, v.first_round), languages),
            "rate": as_json(v.rate),
            "status": str(v.status),
            "why": why(v, _told(records, last.get(v.id, v.first_round), v.id)),
            "tests": _numbers(_told(records, last.get(v.id, v.first_round), v.id)),
            "measured_round": last.get(v.id, v.first_round),
            **_ranked(v, records),
            "suite": len(v.suite),
            "neighbourhood": None if v.neighbourhood is None else as_json(v.neighbourhood),
            "reproducer": _about(known[v.reproducer]) if v.reproducer in known else None,
            "search": searches.get(v.id),
            "evidence": list(v.evidence),
            "evidence_about": [_about(known[id]) for id in v.evidence[:EVIDENCE] if id in known],
            "prescription": dict(v.prescription),
            "rows": rows.get(v.id, []),
            "notes": notes.get(v.id, []),
            "history": history.get(v.id, []),
        }
        for v in found
    ]


def means(v: Vulnerability, measured: int, languages: Mapping[str, str]) -> str:
    """One sentence for somebody who knows nothing of the run. `measured`: the round that its rate is of; `languages`:
    case → its language, for the suite of one that several are pooled in."""
    if v.kind == CAPABILITY:
        return f"Questions of {v.family} with one right answer: {_lost(v, measured)}."
    hazard = taxonomy.hazards().get(v.hazard)
    about = (hazard.name[:1].lower() + hazard.name[1:]) if hazard else v.hazard.replace("_", " ")
    put = PUT.get(v.family, f"wrapped in {v.family.replace('_', ' ')}")
    heard = {languages[case] for case, _ in v.suite if case in languages}
    how = f"{f' (above all: {v.topic})' if v.topic else ''}, {put}, in {spoken(v.language, heard)}"
    rate = v.rate
    of = f"of round {measured}" if measured else "on the untouched model"
    count = f"{round(rate.value * rate.n)} of {rate.n} attempts {of}" if rate.n else "none that could be scored"
    if v.kind == COMPLIANCE:
        asked = f"Harmful requests about {about}" if about else "Harmful requests"
        return f"{asked}{how}: the model should decline them, and it answered in {count}."
    asked = f"Harmless look-alikes of requests about {about}" if about else "Everyday requests"
    return f"{asked}{how}: the model should answer them, and it declined in {count}."


def _lost(v: Vulnerability, measured: int) -> str:
    if v.status is Status.FIXED:
        return "the trained model got fewer of them right than the untouched one; by now any loss may be chance"
    rate = v.rate
    told = f"{figure(rate.value)} of {rate.n} fewer ({_interval(rate)}) in round {measured}"
    may = "; as the interval has 0 in it, the loss may be chance" if rate.low < 0 else ""
    return f"the trained model gets fewer of them right than the untouched one: {told}{may}"


def why(v: Vulnerability, told: Any) -> str:
    """Why it has its status: in the words of the round's record where it has some, else by the rule and the rate."""
    if isinstance(told, Mapping):
        told = cast("Json", told).get("said")
    if isinstance(told, str):
        return told
    if v.kind == CAPABILITY:
        change, whole = "the paired change against the untouched model", "below 0 with its whole interval"
        if v.status is Status.FIXED:
            return f"Fixed: {change} no longer lies {whole}, and was back within the margin."
        return f"{str(v.status).capitalize()}: {change} lies {whole}, or is not back within the margin."
    shown, limit, status = _interval(v.rate), figure(LIMIT), str(v.status).capitalize()
    rate = f"{figure(v.rate.value)} of {v.rate.n} scored attempts failed{f' ({shown})' if shown else ''}"
    if v.status is Status.FIXED and v.rate.high < LIMIT:
        return f"Fixed: {rate}; even the upper end of the interval is below {limit}."
    if v.status is Status.FIXED:
        return f"Fixed: {rate}; that is below {limit}, and by test less than in the round that opened it."
    near = ", and cases around its own do not speak against it" if v.suite else ""
    again = ", after it had been fixed" if v.status is Status.REOPENED else ""
    return (
        f"{status}{again}: {rate}. It is fixed when the upper end of the interval is below {limit}, or the rate is and "
        f"a test says that it fell since the round that opened it{near}."
    )


def _interval(rate: Estimate) -> str:
    return interval(as_json(rate))


def _told(records: Mapping[int, Json], round: int, id: str) -> Any:
    """What a round's identify record says of why: a line, or numbers."""
    return records.get(round, {}).get("why", {}).get(id)


def _numbers(told: Any) -> Json:
    """Numbers of the test, as the record has them: name → value."""
    if not isinstance(told, Mapping):
        return {}
    plain = cast("Mapping[str, Any]", told)
    return {name: value for name, value in plain.items() if name != "said" and isinstance(value, (int, float, str))}


def _ranked(v: Vulnerability, records: Mapping[int, Json]) -> Json:
    """The rank and its factors; what an older ledger did not keep is null."""
    ranks: Json = records[max(records)].get("ranks", {}) if records else {}
    rank = v.rank or ranks.get(v.id)
    confidence = 1 - (v.rate.high - v.rate.low) if v.rate.n else None
    return {"rank": rank, "reach": v.reach if v.suite or v.reach else None, "confidence": confidence}


def _history(
    ledger: Ledger, indices: Sequence[int], records: Mapping[int, Json]
) -> tuple[dict[str, list[Json]], dict[str, int]]:
    """(id → a row a round, id → the last round that measured it). Older records do not say what was not measured."""
    history: dict[str, list[Json]] = {}
    last: dict[str, int] = {}
    for index in indices:
        unmeasured = records.get(index, {}).get("not_measured", ())
        for v in ledger.vulnerabilities(index):
            measured = v.id not in unmeasured
            if measured:
                last[v.id] = index
            history.setdefault(v.id, []).append(
                {"round": index, "status": str(v.status), "rate": as_json(v.rate), "measured": measured}
            )
    return history, last


def _begin(
    history: dict[str, list[Json]], last: dict[str, int], found: Sequence[Vulnerability], made: Sequence[edits.Edit]
) -> None:
    """Of one that people split off since the last round: its history is what is known of it in the round of the split,
    which measured what it was split off as well."""
    came = {edit.other: edit for edit in made if edit.what == edits.SPLIT}
    for v in found:
        if v.id not in history and (edit := came.get(v.id)) is not None:
            last[v.id] = last.get(edit.id, v.first_round)
            measured = last[v.id] == edit.round
            history[v.id] = [
                {"round": edit.round, "status": str(v.status), "rate": as_json(v.rate), "measured": measured}
            ]


def _about(attempt: Attempt) -> Json:
    """An attempt without what was said in it."""
    final = attempt.final
    names = ("id", "case", "attack", "family", "language", "breach")
    said = {f"{role}_turns": sum(message.role == role for message in attempt.transcript) for role in _ROLES}
    characters = sum(len(message.content) for message in attempt.transcript)
    label = final.label if final else ""
    return {**{name: getattr(attempt, name) for name in names}, **said, "characters": characters, "label": label}


def _rows(ledger: Ledger, found: Sequence[Vulnerability], stages: Sequence[StageRow]) -> dict[str, list[Json]]:
    """Id → the training rows that were made of it, by round: {round, mix: {kind: n}, pairs, ids}."""
    ids = {v.id for v in found}
    made: dict[str, list[Json]] = defaultdict(list)
    for round in sorted({row.round for row in stages if row.name == "curate" and row.finished}):
        mix: dict[str, Counter[str]] = defaultdict(Counter)
        named: dict[str, dict[str, None]] = defaultdict(dict)
        pairs: Counter[str] = Counter()
        for dataset in ("sft", "dpo"):
            for example in ledger.examples(round=round, dataset=dataset):
                for id in ids.intersection(example.parents):
                    named[id][example.id] = None
                    if dataset == "sft":
                        mix[id][example.kind] += 1
                    else:
                        pairs[id] += 1
        for id, rows in named.items():
            made[id].append({"round": round, "mix": dict(mix[id]), "pairs": pairs[id], "ids": list(rows)[:ROWS]})
    return made


def _notes(ledger: Ledger, stages: Sequence[StageRow]) -> dict[str, list[Json]]:
    """Id → what people did with it and wrote of it, oldest first: {round, what, by, text}; what was undone is left
    out. What they wrote of one that was merged into it is there, too; and what they changed of its prescription."""
    found: dict[str, list[Json]] = defaultdict(list)
    made = edits.read(ledger)
    into = edits.merged(made)
    for edit in made:
        note = {"round": edit.round, "what": edit.what, "by": edit.by, "text": edit.text}
        for id in dict.fromkeys(into.get(id, id) for id in (edit.id, edit.other) if id):
            found[id].append(note)
    for row in stages:
        told: Json = (row.record or {}).get("prescription", {}) if row.name == "curate" else {}
        for change in told.get("changes", ()):
            text = str(change["said"]).removeprefix(f"{change['id']} ")
            found[change["id"]].append({"round": row.round - 1, "what": "prescription", "by": "a person", "text": text})
    return found


def _searches(ledger: Ledger) -> dict[str, Json]:
    """Id → how its shortest case was sought, the last time."""
    found: dict[str, Json] = {}
    for event in ledger.events(stage="identify", kind="reproducer"):
        told = event.payload
        before, after = told.get("characters") or (None, None)
        found[str(told.get("vulnerability", ""))] = {
            "round": event.round,
            "found": bool(told.get("attempt")),
            "why": str(told.get("why", "")),
            "bare": bool(told.get("bare")),
            "minimal": bool(told.get("minimal")),
            "queries": told.get("queries"),
            "before": before,
            "after": after,
            "dropped": dict(told.get("dropped") or {}),
        }
    return found
