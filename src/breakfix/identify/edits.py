"""What people change about vulnerabilities: rename, note, assign, merge, split, and undo. Kept over later rounds.

Edits are events of the ledger (kind "vulnerability", stage "people"), which no stage's inputs supersede; nothing that a
round wrote is changed. An edit belongs to the last round that was identified when it was made: it is put on top of what
that round left, and the next round begins with the outcome.

    rename   the name, for good: rounds don't make it anew
    merge    V3 V5: V3 has both regression suites and both evidences; V5 is neither counted, ranked, prescribed nor
             gated from then on
    split    some pairs of V3's regression suite become that of a new one; V3 keeps the rest
    note     a remark
    assign   who looks after it; "" nobody
    undo     the last edit that is in force. A rename, merge or split that a later round has begun with stays: that
             round's figures are made with it, so another edit has to follow
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from breakfix.core import Estimate, Vulnerability, digest
from breakfix.identify.group import CAPABILITY
from breakfix.identify.prescribe import MOST, ranked
from breakfix.stats import as_json, from_json, rate

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

STAGE, KIND = "people", "vulnerability"
RENAME, NOTE, ASSIGN, MERGE, SPLIT, UNDO = "rename", "note", "assign", "merge", "split", "undo"
SHAPING = frozenset({RENAME, MERGE, SPLIT})  # what a later round begins with
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Part:
    """What a split makes of a vulnerability's figures, on each side: {rate, severity, evidence}."""

    rate: Estimate
    severity: float
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Edit:
    """`id` is the vulnerability; `text` the name, note or assignee, or what was done in words. `n` counts edits from 1,
    `round` is the last that was identified, `at` unix seconds. `other`: of a merge the one that goes, of a split the
    new one. Of a split: its `pairs` and where they lie (`family`, `language`, `topic`), and the figures of what is
    taken out and of what is left."""

    n: int
    what: str
    id: str
    round: int
    by: str
    text: str = ""
    other: str = ""
    pairs: tuple[Pair, ...] = ()
    name: str = ""
    family: str = ""
    language: str = ""
    topic: str = ""
    out: Part | None = None
    left: Part | None = None
    at: float = 0.0


def add(ledger: Ledger, edit: Edit) -> None:
    """`edit.n` and `edit.at` are the ledger's to give."""
    payload: dict[str, Any] = {"n": 1 + sum(1 for _ in ledger.events(stage=STAGE, kind=KIND))}
    for name in ("what", "id", "by", "text", "other", "name", "family", "language", "topic"):
        payload |= {name: getattr(edit, name)} if getattr(edit, name) or name in ("id", "text") else {}
    if edit.pairs:
        payload["pairs"] = [list(pair) for pair in edit.pairs]
    for name, part in (("out", edit.out), ("left", edit.left)):
        if part is not None:
            payload[name] = {"rate": as_json(part.rate), "severity": part.severity, "evidence": list(part.evidence)}
    ledger.add_event(edit.round, STAGE, KIND, payload)


def undo(ledger: Ledger, edit: Edit, by: str) -> None:
    """Take back an edit that is in force."""
    payload = {"n": 1 + sum(1 for _ in ledger.events(stage=STAGE, kind=KIND)), "what": UNDO, "id": edit.id, "by": by,
               "text": f"{edit.what} taken back", "of": edit.n}  # fmt: skip
    ledger.add_event(edit.round, STAGE, KIND, payload)


def read(ledger: Ledger) -> list[Edit]:
    """Those in force, oldest first."""
    found: dict[int, Edit] = {}
    for event in ledger.events(stage=STAGE, kind=KIND):
        told = event.payload
        if told["what"] == UNDO:
            found.pop(told["of"], None)
        else:
            found[told["n"]] = _read(told, event.round, event.at)
    return list(found.values())


def _read(told: Mapping[str, Any], round: int, at: float) -> Edit:
    words = {name: str(told.get(name, "")) for name in ("what", "id", "by", "text", "other", "name", "family",
                                                        "language", "topic")}  # fmt: skip
    parts = {
        name: Part(from_json(part["rate"]), part["severity"], tuple(part["evidence"]))
        for name in ("out", "left")
        if (part := told.get(name)) is not None
    }
    pairs = tuple((str(case), str(attack)) for case, attack in cast("Sequence[Pair]", told.get("pairs", ())))
    return Edit(told["n"], round=round, at=at, pairs=pairs, out=parts.get("out"),
                left=parts.get("left"), **words)  # fmt: skip


def before(edits: Sequence[Edit], round: int) -> str:
    """What identifies a round's work by the edits that it begins with; "" where there is none."""
    rows = [[e.what, e.id, e.other, e.text, e.pairs] for e in edits if e.what in SHAPING and e.round < round]
    return digest(rows) if rows else ""


def standing(ledger: Ledger, round: int, edits: Sequence[Edit] | None = None) -> list[Vulnerability]:
    """The vulnerabilities as that round left them, and people's edits since."""
    mine = [edit for edit in (read(ledger) if edits is None else edits) if edit.round == round]
    return apply(ledger.vulnerabilities(round=round), mine)


def known(ledger: Ledger, round: int) -> list[Vulnerability]:
    """What a round begins with: as the rounds before it left them, with people's edits."""
    edits, last = read(ledger), dict[str, Vulnerability]()
    for number in range(round):
        last |= {v.id: v for v in ledger.vulnerabilities(round=number)}
        last = {v.id: v for v in apply(list(last.values()), [e for e in edits if e.round == number])}
    return list(last.values())


def absorbed(ledger: Ledger, round: int) -> dict[str, list[Vulnerability]]:
    """Id of a vulnerability that a round begins with → those that were merged into it, as they stood then: it has their
    cells and topics, too."""
    edits, last, found = read(ledger), dict[str, Vulnerability](), dict[str, list[Vulnerability]]()
    for number in range(round):
        last |= {v.id: v for v in ledger.vulnerabilities(round=number)}
        for edit in (e for e in edits if e.round == number):
            if edit.what == MERGE and edit.id in last and edit.other in last and edit.id != edit.other:
                found.setdefault(edit.id, []).extend([last[edit.other], *found.pop(edit.other, [])])
            last = {v.id: v for v in apply(list(last.values()), [edit])}
    return found


def highest(ledger: Ledger, before: int | None = None) -> int:
    """The highest number that any vulnerability has or had: ids are never given again. `before`: in earlier rounds, and
    by splits of any, those that were undone too."""
    rounds = (None,) if before is None else tuple(range(before))
    ids = [v.id for number in rounds for v in ledger.vulnerabilities(number)]
    ids += [other for event in ledger.events(stage=STAGE, kind=KIND) if (other := event.payload.get("other"))]
    return max((int(id[1:]) for id in ids), default=0)


def merged(edits: Sequence[Edit]) -> dict[str, str]:
    """Id → the one it was merged into in the end."""
    into = {edit.other: edit.id for edit in edits if edit.what == MERGE}

    def end(id: str) -> str:
        return end(into[id]) if id in into else id

    return {id: end(id) for id in into}


def assignees(edits: Sequence[Edit]) -> dict[str, str]:
    return {edit.id: edit.text for edit in edits if edit.what == ASSIGN}


def notes(edits: Sequence[Edit], id: str) -> list[Edit]:
    return [edit for edit in edits if id in (edit.id, edit.other) and edit.what != ASSIGN]


def apply(vulnerabilities: Sequence[Vulnerability], edits: Sequence[Edit]) -> list[Vulnerability]:
    """The vulnerabilities with the edits made, in order; new ones at the end. What names one that is not there does
    nothing. Pure."""
    found = {v.id: v for v in vulnerabilities}
    for edit in edits:
        v = found.get(edit.id)
        if v is None:
            continue
        if edit.what == RENAME:
            found[v.id] = replace(v, name=edit.text)
        elif edit.what == MERGE and edit.other in found:
            found[v.id] = joined(v, found.pop(edit.other))
        elif edit.what == SPLIT and edit.other not in found:
            found[v.id], found[edit.other] = parted(v, edit)
    return list(found.values())


def joined(v: Vulnerability, gone: Vulnerability) -> Vulnerability:
    """Both in one, under the first's id, name and status; open again if the other was."""
    failed = [round(one.rate.value * one.rate.n) if one.rate.n else 0 for one in (v, gone)]
    both = rate(sum(failed), v.rate.n + gone.rate.n, v.rate.unscored + gone.rate.unscored)
    weights = [one or 1 for one in failed] if sum(failed) else [1, 1]
    severity = (v.severity * weights[0] + gone.severity * weights[1]) / sum(weights)
    reach = min(1.0, v.reach + gone.reach) if v.hazard == gone.hazard else max(v.reach, gone.reach)
    words = dict.fromkeys([*v.prescription, *gone.prescription])
    status = gone.status if v.status == "fixed" else v.status
    return replace(
        v,
        severity=severity,
        rate=both,
        evidence=tuple(dict.fromkeys([*v.evidence, *gone.evidence])),
        suite=tuple(sorted({*v.suite, *gone.suite})),
        prescription={word: min(MOST, v.prescription.get(word, 0) + gone.prescription.get(word, 0)) for word in words},
        status=status,
        first_round=min(v.first_round, gone.first_round),
        reach=reach,
        rank=ranked(severity, both, reach),
        reproducer=v.reproducer or gone.reproducer,
    )


def parted(v: Vulnerability, edit: Edit) -> tuple[Vulnerability, Vulnerability]:
    """(what is left, what was taken out). Reach and prescribed rows go by the failures of each."""
    assert edit.out is not None and edit.left is not None
    failed = [part.rate.value * part.rate.n if part.rate.n else 0.0 for part in (edit.left, edit.out)]
    share = [one / sum(failed) if sum(failed) else 0.5 for one in failed]
    out = set(edit.pairs)
    new = replace(
        v,
        id=edit.other,
        name=edit.name or v.name,
        family=edit.family or v.family,
        language=edit.language or v.language,
        topic=edit.topic,
        suite=tuple(sorted(out)),
        neighbourhood=None,
    )
    rest = replace(v, suite=tuple(pair for pair in v.suite if pair not in out))
    made = [
        replace(
            one,
            rate=part.rate,
            severity=part.severity,
            evidence=part.evidence,
            reach=v.reach * some,
            rank=ranked(part.severity, part.rate, v.reach * some),
            prescription={word: max(1, round(n * some)) for word, n in v.prescription.items()},
            reproducer=v.reproducer if v.reproducer in part.evidence else "",
        )
        for one, part, some in zip((rest, new), (edit.left, edit.out), share, strict=True)
    ]
    return made[0], made[1]


def mergeable(v: Vulnerability, gone: Vulnerability) -> str:
    """Why they can't be merged; "" if they can."""
    if v.id == gone.id:
        return "it is one already"
    if v.kind != gone.kind:
        return f"{v.id} is {_said(v.kind)}, {gone.id} {_said(gone.kind)}; only those of a kind can be merged"
    return "lost capability is told by suite, each by itself" if v.kind == CAPABILITY else ""


def _said(kind: str) -> str:
    return kind.replace("_", " ")
