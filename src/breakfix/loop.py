"""What becomes of a round (setting `gate.policy`), judged by the numbers that the gate saw.

    continue   the next round begins with this round's model, whatever the gate says; PASS ends the loop
    accept     a round is accepted, or reverted: the next one then begins with the model of the last accepted round.
               What the reverted round found is learnt from all the same. The loop stops at PASS, at STALLED, and as
               STALLED when PATIENCE rounds in a row were reverted; FAIL is its end when the rounds are spent.

A round is reverted for any number that

    breaks     a line of over-refusal, plain requests, capability or coverage that fails now and held in the accepted
               round (or was not looked at there)
    is worse   a line that fails in both, whose value now lies beyond the bound that it had in the accepted round: of
               harm, too
    is lost    a vulnerability that fails the gate, was fixed in the accepted round, and has reopened

Round 0, the untouched model, is accepted. Harm above its limit reverts nothing by itself: that is what rounds are for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from breakfix.core import Status, digest
from breakfix.identify import gate
from breakfix.ledger import Ledger

PATIENCE = 2  # rounds: as many as the gate looks back for STALLED
GUARDS = ("over-refusal", "plain", "capability", "coverage")
Record = dict[str, Any]


def go(
    play: Callable[[int], Record],
    rounds: int,
    say: Callable[[str], None],
    after_round: Callable[[int], object] | None = None,
) -> Record:
    """Rounds 0 … `rounds`, until one ends the loop. `play` makes a round, or reads it back, and returns its identify
    record, the last of which is returned."""
    record: Record = {}
    for round in range(rounds + 1):
        record = play(round)
        if after_round is not None:
            after_round(round)
        if told := said(record):
            say(f"round {round}: {told}")
        if round and decision(record) == "PASS":
            say(f"round {round}: the gate passes")
        if round and stop(record):
            break
    return record


def stop(record: Record) -> str | None:
    """PASS or STALLED where this identify record ends the loop."""
    own: Record | None = record["gate"].get("loop")
    if own is not None:
        return own["stop"]
    return "PASS" if record["gate"]["decision"] == "PASS" else None


def decision(record: Record) -> str:
    """PASS, FAIL or STALLED: the loop's last word where it has one, else the gate's."""
    return stop(record) or record["gate"]["decision"]


def base(ledger: Ledger, policy: str, round: int) -> int:
    """The round whose model the round after `round` begins with."""
    while policy == "accept" and round and _outcome(ledger, round) == "reverted":
        round -= 1
    return round


def inputs(ledger: Ledger, policy: str, round: int) -> Record:
    """What identify's record depends on besides what identify itself reads: nothing under `continue`."""
    if policy == "continue" or round == 0:
        return {}
    against = base(ledger, policy, round - 1)
    return {"policy": policy, "against": against, "accepted": digest(ledger.finished(against, "identify"))}


def settle(ledger: Ledger, policy: str, round: int, record: Record) -> Record:
    """An identify record, under `accept` with what becomes of the round as record["gate"]["loop"]."""
    if policy == "continue" or round == 0:
        return record
    against = base(ledger, policy, round - 1)
    then = ledger.finished(against, "identify") or {"gate": {"reasons": []}}
    fixed = {v.id for v in ledger.vulnerabilities(round=against) if v.status is Status.FIXED}
    reopened = {v.id for v in ledger.vulnerabilities(round=round) if v.status is Status.REOPENED}
    own = judged(record["gate"], then["gate"], round=round, against=against, lost=fixed & reopened)
    return {**record, "gate": {**record["gate"], "loop": own}}


def judged(now: Record, then: Record, *, round: int, against: int, lost: Collection[str] = ()) -> Record:
    """{"outcome": accepted | reverted, "against", "because", "next", "stop", "said"}.

    `now` and `then` are the gate's records of this round and of the last accepted one, `against`; `lost` the ids of
    fixed vulnerabilities that reopened.

    "because" holds the numbers that revert the round (as the gate has them; "why": breaks | worse | lost; "was": their
    value and bound then, None where unknown), "next" the round whose model the next one begins with, "said" all of it
    on one line.
    """
    because = [] if now["decision"] == "PASS" else list(_because(now, then, lost))
    told = f"reverted to round {against}: {'; '.join(map(_line, because))}" if because else "accepted"
    stalled = now["decision"] == "STALLED" or (bool(because) and round - against >= PATIENCE)
    return {
        "outcome": "reverted" if because else "accepted",
        "against": against,
        "because": because,
        "next": against if because else round,
        "stop": "PASS" if now["decision"] == "PASS" else "STALLED" if stalled else None,
        "said": told + (", and the loop stops: it has stalled" if stalled else ""),
    }


def said(record: Record) -> str:
    """What became of a round, on one line, with the numbers that did it; "" under `continue`."""
    return record["gate"].get("loop", {}).get("said", "")


def _because(now: Record, then: Record, lost: Collection[str]) -> Iterator[Record]:
    before: Mapping[str, Record] = {reason["name"]: reason for reason in then["reasons"]}
    for reason in now["reasons"]:
        name, kind = reason["name"], gate.kind(reason["name"])
        if reason["ok"]:
            continue
        was = before.get(name)
        if kind == "vulnerability":
            why = "lost" if gate.vulnerability(name) in lost else None
        elif was is not None and not was["ok"]:
            why = "worse" if _beyond(kind, reason["value"], was["bound"]) else None
        else:
            why = "breaks" if kind in GUARDS else None
        if why is not None:
            told = None if was is None else {"value": was["value"], "bound": was["bound"]}
            yield {**reason, "why": why, "was": told}


def _beyond(kind: str, value: float | None, bound: float | None) -> bool:
    """Worse than the interval of the accepted round allows for. What is not known is not known to be worse."""
    if value is None or bound is None:
        return False
    return value < bound if kind in gate.FLOORS else value > bound


def _outcome(ledger: Ledger, round: int) -> str | None:
    record = ledger.finished(round, "identify") or {}
    return record.get("gate", {}).get("loop", {}).get("outcome")


_WHY = {"breaks": "breaks its limit", "worse": "is worse", "lost": "was fixed, and reopened"}


def _line(reason: Record) -> str:
    """'xstest.vprr breaks its limit (bound 0.52, limit 0.4; was 0.31)'"""
    was = "" if reason["was"] is None or reason["was"]["bound"] is None else f"; was {reason['was']['bound']:.3g}"
    bound = "not measured" if reason["bound"] is None else f"bound {reason['bound']:.3g}"
    return f"{reason['name']} {_WHY[reason['why']]} ({bound}, limit {reason['limit']:.3g}{was})"
