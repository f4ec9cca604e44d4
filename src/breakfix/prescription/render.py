"""The ledger's prescription as commented YAML, with the numbers behind it, and what people have to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from breakfix.config import Config
from breakfix.core import Estimate, Status, Vulnerability, canonical
from breakfix.identify import edits
from breakfix.identify.group import CAPABILITY
from breakfix.identify.prescribe import BUDGET, LEAST, MOST, confidence
from breakfix.prescription.entries import ANY, WORDS, frames, limits, ours

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

WIDE = float("inf")
_HEAD = """\
What round {next} learns against what round {round} found. To change that, edit this file and start `breakfix run RUN`,
or `breakfix curate RUN --round {next}`. Left as it is, or deleted, it changes nothing. See docs/vulnerabilities.md.

    rank   = severity ÷ 7 × rate × reach × confidence   (1 − the width of the rate's 95 % interval)
    weight = rank × yield: 0.5 before any round had rows of it; then (mended + 1) ÷ (failed then + 2), of what failed
             in the round that opened it
    rows   = {share:g} × {harmful} (curate.harmful) × weight ÷ sum of the weights, at most {most}, for as many as would
             have {least} each; the others have none. Needless refusals and lost capability share as many
             again: these rows are added to a round's, by a fifth at most

harmful, twins, plain: rows, from 0 on; an entry without them, or that is taken out, has none. They say where a
  round's rows come from, and how many are made of failures; how many a round has is the config's to say (curate).
  At most, in all: {limits}.
languages: those of its rows; [] is any.
wrappers: any, or those alone that rows of its hazard and languages are put into, of
  {wrappers}.
  Held-out families are not among them: they are only ever measured.
name and why are for reading; `breakfix vulns rename` gives another name."""
_WRITTEN = "tells whether the file was changed since; leave it"
_REPLAY = "of each kind's rows, those that earlier rounds learnt from: a sample"
_FIXED = "rows made for these that come again before any others of that sample"
_PEOPLE = "what rows alone may not settle; for reading"


def render(ledger: Ledger, config: Config, round: int) -> str:
    """By what the round left and people's edits since."""
    made = edits.read(ledger)
    standing = edits.standing(ledger, round, made)
    own = ours(standing, config, round)
    head = _HEAD.format(
        next=round + 1, round=round, share=BUDGET, harmful=config.curate.harmful, least=LEAST, most=MOST,
        limits=", ".join(f"{n} {word}" for word, n in limits(config, own).items()), wrappers=_folded([*frames(config)]),
    )  # fmt: skip
    by_id = {v.id: v for v in standing}
    whys = (ledger.finished(round, "identify") or {}).get("why", {})
    lines = [f"# {line}".rstrip() for line in head.splitlines()]
    lines += ["", f"written: {_quoted(own.digest)} # {_WRITTEN}", f"round: {round}", ""]
    lines.append("vulnerabilities:" if own.entries else "vulnerabilities: []")
    for entry in own.entries:
        v = by_id[entry.id]
        lines += [
            f"  - id: {v.id}",
            f"    name: {_quoted(v.name)}",
            f"    why: {_quoted(_why(v, whys.get(v.id, {}), entry.rows))}",
        ]
        lines += [f"    {word}: {entry.rows[word]}" for word in WORDS if word in entry.rows]
        lines += [f"    languages: [{', '.join(map(_quoted, entry.languages))}]", f"    wrappers: {ANY}"]
    share = yaml.safe_dump(own.replay).splitlines()[0]
    lines += ["", f"replay: {share} # {_REPLAY}", f"fixed:{'' if own.again else ' []'} # {_FIXED}"]
    lines += [f"  - {{id: {id}, name: {_quoted(by_id[id].name)}, rows: {n}}}" for id, n in own.again.items()]
    left = list(_people(ledger, config, standing, round, edits.assignees(made)))
    lines += ["", f"people:{'' if left else ' []'} # {_PEOPLE}"]
    lines += [f"  - {{id: {id}, why: {_quoted(why)}}}" for id, why in left]
    return "\n".join(lines) + "\n"


def _why(v: Vulnerability, why: Mapping[str, Any], rows: Mapping[str, int]) -> str:
    """'open since round 0; rank 0.213 = severity 6.00 ÷ 7 × rate 0.800 (0.650 to 0.900, n 40) × ...; no rows: ...'"""
    since = f"{v.status} since round {v.first_round}" if v.status is Status.OPEN else str(v.status)
    if not v.rate.n:
        return f"{since}; nothing of it could be scored"
    rate = _shown(v.rate)
    if not v.rank and not v.rate.value:
        return f"{since}; none of it failed in the round that measured it last, so it has no rows; {rate}"
    if not v.rank:
        return f"{since}; not measured in this round, so it has no rows; {rate} when it was"
    told = f" × yield {why['yield']:.2f} of {_rounds(why['rounds_of_rows'])}" if "yield" in why else ""
    return (
        f"{since}; rank {v.rank:.3f} = severity {v.severity:.2f} ÷ 7 × {rate} × reach {v.reach:.3f} × "
        f"confidence {confidence(v.rate):.3f}{told}"
        f"{'' if rows else '; no rows: those that weigh more have them all'}"
    )


def _rounds(n: int) -> str:
    return f"{n} round{'' if n == 1 else 's'} of rows"


def _shown(rate: Estimate) -> str:
    return f"rate {rate.value:.3f} ({rate.low:.3f} to {rate.high:.3f}, n {rate.n})"


def _people(
    ledger: Ledger, config: Config, standing: Sequence[Vulnerability], round: int, who: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """(id, what needs a person)"""
    rows = {r: (ledger.finished(r, "curate") or {}).get("from_vulnerabilities", {}) for r in range(1, round + 1)}
    for v in (v for v in standing if v.status is not Status.FIXED):
        had = {r: n[v.id] for r, n in rows.items() if n.get(v.id)}
        if v.status is Status.REOPENED:
            yield v.id, "it was fixed and is back: what mended it once did not hold"
        elif len(had) > 1:
            times = f"{', '.join(map(str, list(had)[:-1]))} and {list(had)[-1]}"
            yield v.id, f"open since round {v.first_round}, though rounds {times} had {sum(had.values())} rows of it"
        if v.kind == CAPABILITY:
            yield v.id, "a suite got worse; which skill was lost, and which rows bring it back, its score does not say"
        elif v.rate.n and confidence(v.rate) < 0.5:
            bounds = f"{100 * v.rate.low:.0f} to {100 * v.rate.high:.0f} %"
            yield v.id, f"{v.rate.n} scored attempts tell little ({bounds}): ask more (redteam.cases, redteam.per_case)"
        if v.rate.unscored > v.rate.n:
            yield v.id, f"{v.rate.unscored} of {v.rate.n + v.rate.unscored} replies could not be judged: look at them"
        if v.family and canonical(v.family) in config.redteam.held_out:
            yield v.id, f"found by {v.family}, which is held out: its words are not learnt, only rows of its hazard are"
        if who.get(v.id):
            yield v.id, f"assigned to {who[v.id]}"


def _folded(names: Sequence[str]) -> str:
    lines = [""]
    for name in names:
        lines = [*lines, ""] if len(lines[-1]) + len(name) > 108 else lines
        lines[-1] += f"{', ' if lines[-1] else ''}{name}"
    return ",\n  ".join(lines)


def _quoted(text: str) -> str:
    return yaml.safe_dump(text, allow_unicode=True, width=WIDE, default_style='"').rstrip("\n")
