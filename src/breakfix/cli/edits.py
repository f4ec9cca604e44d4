"""What people change about vulnerabilities: `breakfix vulns rename`, note, assign, merge, split, undo
(identify/edits.py)."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakfix import runfolder
from breakfix.cli import output, places
from breakfix.cli.commands import Arguments
from breakfix.cli.vulns import identified, named
from breakfix.errors import UserError

if TYPE_CHECKING:
    from breakfix.core import Attempt, Estimate, Vulnerability
    from breakfix.identify.edits import Edit, Part
    from breakfix.ledger import Ledger


@dataclass(frozen=True, slots=True)
class _Desk:
    """A run opened for edits: its last round, and what stands in it."""

    ledger: Ledger
    round: int
    made: list[Edit]
    standing: list[Vulnerability]
    by: str

    def find(self, id: str) -> Vulnerability:
        return named(id, self.standing, self.made)

    def add(self, what: str, id: str, text: str, **more: Any) -> None:
        from breakfix.identify import edits

        edits.add(self.ledger, edits.Edit(0, what, id, self.round, self.by, text, **more))


def rename(arguments: Arguments) -> int:
    """breakfix vulns rename"""
    name = _said(arguments.name, "a name", arguments)
    with _desk(arguments) as desk:
        v = desk.find(arguments.id)
        desk.add("rename", v.id, name)
    print(output.line(f"{v.id}: {name}"))
    return 0


def note(arguments: Arguments) -> int:
    """breakfix vulns note"""
    text = _said(arguments.text, "a note", arguments)
    with _desk(arguments) as desk:
        v = desk.find(arguments.id)
        desk.add("note", v.id, text)
    print(f"{v.id}: noted")
    return 0


def assign(arguments: Arguments) -> int:
    """breakfix vulns assign"""
    who = _said(arguments.who, "who looks after it", arguments) if arguments.who.strip() else ""
    with _desk(arguments) as desk:
        v = desk.find(arguments.id)
        desk.add("assign", v.id, who)
    print(output.line(f"{v.id}: {f'{who} looks after it' if who else 'nobody looks after it'}"))
    return 0


def merge(arguments: Arguments) -> int:
    """breakfix vulns merge"""
    from breakfix.identify import edits

    with _desk(arguments) as desk:
        v, gone = desk.find(arguments.id), desk.find(arguments.other)
        reason = edits.mergeable(v, gone)
        if reason:
            raise UserError(f"{v.id} and {gone.id} can't be merged: {reason}")
        desk.add("merge", v.id, f"{gone.id} ({gone.name}) became part of {v.id}", other=gone.id)
    print(f"{v.id}: has {gone.id} in it from now on")
    return 0


def split(arguments: Arguments) -> int:
    """breakfix vulns split"""
    from breakfix.identify import edits

    if (arguments.cases is None) == (arguments.topic is None):
        raise UserError("split by what? give either --cases ID,ID or --topic WORD")
    with _desk(arguments) as desk:
        v = desk.find(arguments.id)
        if not v.suite:
            raise UserError(
                f"{v.id}: it has no regression suite that could be split (lost capability, or an older run)"
            )
        chosen, topic = _chosen(v, desk.ledger, arguments)
        new = f"V{edits.highest(desk.ledger) + 1}"
        made = _parted(v, desk, chosen, topic)
        name = " ".join((arguments.name or "").split()) or f"{v.name}: {topic}"
        text = f"{new} was split off {v.id}: {topic} ({len(made['pairs'])} of {len(v.suite)} pairs)"
        desk.add("split", v.id, text, other=new, name=name, topic=topic, **made)
    print(output.line(f"{new}: {name}; {len(made['pairs'])} of the {len(v.suite)} pairs of {v.id}"))
    return 0


def undo(arguments: Arguments) -> int:
    """breakfix vulns undo"""
    from breakfix.identify import edits

    with _desk(arguments) as desk:
        if not desk.made:
            raise UserError("nothing to undo: no edit is in force")
        last = desk.made[-1]
        if last.what in edits.SHAPING and last.round < desk.round:
            raise UserError(
                f"the last edit ({last.what} of {last.id}) stays: round {last.round + 1} has begun with it; "
                "make another edit that sets it right"
            )
        edits.undo(desk.ledger, last, desk.by)
    print(output.line(f"{last.id}: {last.what} taken back ({last.text})"))
    return 0


@contextmanager
def _desk(arguments: Arguments) -> Generator[_Desk]:
    from breakfix.identify import edits
    from breakfix.ledger import Ledger

    run = places.find(arguments.run, getattr(arguments, "id", ""))
    with Ledger.open(run) as ledger:
        round, made = identified(ledger, run), edits.read(ledger)
        by = " ".join((arguments.by or "").split()) or _user()
        yield _Desk(ledger, round, made, edits.standing(ledger, round, made), by)
        _prescribe(run, ledger, round)


def _prescribe(run: Path, ledger: Ledger, round: int) -> None:
    """The round's prescription anew, where there is one."""
    from breakfix import prescription

    if not prescription.path(run, round).exists():
        return
    try:
        told = prescription.write(run, ledger, places.read(run, None)[0], round)
    except UserError as error:
        told = f"the edit is made; the prescription could not be written anew ({error})"
    if told:
        output.note(told)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        return "somebody"


def _said(text: str, what: str, arguments: Arguments) -> str:
    """On one line. UserError where it has no words, or is a run's folder and nothing else was given as that: the words
    were forgotten, and the edit would go to the latest run."""
    if arguments.run is None and runfolder.is_run(text):
        raise UserError(f"{text} is a run; give {what} after it")
    text = " ".join(text.split())
    if not text:
        raise UserError(f"{what} of no words; give some")
    return text


def _chosen(v: Vulnerability, ledger: Ledger, arguments: Arguments) -> tuple[Callable[[str], bool], str]:
    """(whether a case is to be taken out, the new topic). UserError for cases that are not in its suite, and where
    all or nothing would be taken out."""
    case_of = cache(ledger.case)
    mine = sorted({case for case, _ in v.suite})
    word = " ".join((arguments.topic or "").split())

    def has(case: str) -> bool:
        found = case_of(case)
        return found is not None and word.lower() in found.text.lower()

    if arguments.topic is not None:
        _said(arguments.topic, "a topic", arguments)
        taken, wanted = {case for case in mine if has(case)}, f"with {word!r} in the request"
    else:
        taken, wanted = {id.strip() for id in arguments.cases.split(",") if id.strip()}, "among those given"
        strange = sorted(taken - set(mine))
        if strange:
            raise UserError(f"{strange[0]}: not a case of the suite of {v.id}; it has {', '.join(mine[:6])}"
                            f"{f' and {len(mine) - 6} more' if len(mine) > 6 else ''}")  # fmt: skip
    if not taken or len(taken) == len(mine):
        raise UserError(f"{v.id}: {'no' if not taken else 'every'} case of its suite is {wanted}; "
                        "a split leaves some on either side")  # fmt: skip
    if arguments.topic is not None:
        return has, word
    from breakfix.identify.clusters import ALIKE, topic

    words = topic(sorted(taken), [case for case in mine if case not in taken], case_of)
    return taken.__contains__, words if words != ALIKE else "chosen cases"


def _parted(v: Vulnerability, desk: _Desk, chosen: Callable[[str], bool], topic: str) -> dict[str, Any]:
    """What an Edit holds of a split: pairs, family, language, out, left."""
    from breakfix.stats import rate

    out = tuple(pair for pair in v.suite if chosen(pair[0]))
    pairs, found = set(out), _measured(v, desk)
    taken = [a for a in found if (a.case, a.attack) in pairs]
    evidence = desk.ledger.known(list(v.evidence))
    mine = tuple(id for id, a in evidence.items() if chosen(a.case))
    failed, unscored = sum(a.score == 0 for a in taken), sum(a.score is None for a in taken)
    n = len(taken) - unscored
    was = round(v.rate.value * v.rate.n) if v.rate.n else 0
    rest_n = max(0, v.rate.n - n)
    rest = rate(min(rest_n, max(0, was - failed)), rest_n, max(0, v.rate.unscored - unscored))
    more = {}
    for where in ("family", "language"):
        here = {getattr(a, where) for a in taken}
        if len(here) == 1 and getattr(v, where) not in ("", *here):  # of what was merged from elsewhere
            more[where] = here.pop()
    return {"pairs": out, **more, "out": _part(v, rate(failed, n, unscored), mine),
            "left": _part(v, rest, tuple(id for id in v.evidence if id not in set(mine)))}  # fmt: skip


def _part(v: Vulnerability, found: Estimate, evidence: tuple[str, ...]) -> Part:
    from breakfix.identify.edits import Part

    return Part(found, v.severity, evidence)


def _measured(v: Vulnerability, desk: _Desk) -> Sequence[Attempt]:
    """Its suite's attempts in the last round that measured it."""
    from breakfix.identify import PEOPLE, STAGES

    suite = set(v.suite)
    for number in range(desk.round, -1, -1):
        found = {a.id: a for stage in (*STAGES, PEOPLE) for a in desk.ledger.attempts(round=number, stage=stage)
                 if (a.case, a.attack) in suite}  # fmt: skip
        if found:
            return list(found.values())
    return []
