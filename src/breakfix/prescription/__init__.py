"""RUN/round-N/prescription.yaml: what the round after N curates against what round N found, to be read and edited.

Identify writes it. Left as it is, or deleted, the next round does what the ledger says; edited, the file wins, and the
record of that round's curation says what was changed. Once people have changed it, it is never written over. The format
is explained on the file's top and in docs/vulnerabilities.md, the formula in identify/prescribe.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakfix.config import Config
from breakfix.core import Vulnerability, digest
from breakfix.errors import DataError
from breakfix.identify import edits
from breakfix.prescription import files
from breakfix.prescription.entries import ANY, WORDS, Entry, frames, ours
from breakfix.prescription.reader import Reader
from breakfix.prescription.render import render

if TYPE_CHECKING:
    from breakfix.curate.base import Plan
    from breakfix.ledger import Ledger

NAME, NEWER = "prescription.yaml", "prescription.new.yaml"
KEPT = "prescription.{n}.yaml"


@dataclass(frozen=True, slots=True)
class Edited:
    """A prescription that people changed: the round's vulnerabilities with its rows, what else it says, and what
    differs from the ledger's: [{id, what, was, now}]."""

    file: Path
    text: str
    standing: list[Vulnerability]
    plan: Plan
    changes: list[dict[str, Any]]

    @property
    def inputs(self) -> dict[str, Any]:
        """What identifies it besides `standing`."""
        plan = self.plan
        if not (plan.languages or plan.wrappers or plan.again or plan.replay is not None):
            return {}
        return {"plan": digest([dict(plan.languages), dict(plan.wrappers), plan.replay, dict(plan.again)])}

    def told(self, ledger: Ledger) -> dict[str, Any]:
        """For the record of the curation that it leads to; the file is kept in the ledger."""
        kept = ledger.put_blob(self.text.encode())
        shown = [{**change, "said": said(change)} for change in self.changes]
        return {"file": f"{self.file.parent.name}/{self.file.name}", "sha256": kept, "changes": shown}


def path(run: Path, round: int) -> Path:
    return run / f"round-{round}" / NAME


def write(run: Path, ledger: Ledger, config: Config, round: int) -> str:
    """Write the file of a round that was identified, unless people changed the one that is there: then the new one goes
    beside it, if it is another. Returns what a user should know of that; "" where that is nothing."""
    own, text = path(run, round), render(ledger, config, round)
    try:
        there = files.read(own) if own.exists() else None
    except DataError:
        return ""  # curation says so
    if there == text:
        return ""
    if there is None or not files.is_edited(there):
        files.save(own, text)
        return ""
    if files.written(there) in ("", files.written(text)):
        return ""
    files.save(own.with_name(NEWER), text)
    return f"{own} was changed by a person and stays; what round {round} prescribes by now is {NEWER} beside it"


def install(file: Path, run: Path, ledger: Ledger, config: Config, round: int) -> str:
    """Put a file in the place of a round's own, once it is known to be sound. One there that people changed is kept
    beside it. Returns what a user should know. Raises DataError, as `read`."""
    own, found = path(run, round), read(file, ledger, config, round)
    if own.exists() and own.resolve() == file.resolve():
        return ""
    text = files.unsigned(found.text)
    there = files.read(own) if own.exists() else ""
    if text == there:
        return ""
    kept = ""
    if there and files.is_edited(there):
        name = next(name for n in range(1, 10_000) if not own.with_name(name := KEPT.format(n=n)).exists())
        files.save(own.with_name(name), there)
        kept = f"; the one that was there is {name} now"
    files.save(own, text)
    return f"{file} is {own} now{kept}"


def edited(run: Path, ledger: Ledger, config: Config, round: int) -> Edited | None:
    """What people made of a round's prescription; None where they changed nothing, or there is no file. Raises
    DataError: the file, the line, what was expected."""
    own = path(run, round)
    if not own.exists() or not files.is_edited(files.read(own)):
        return None
    found = read(own, ledger, config, round)
    return found if found.changes else None


def read(file: Path, ledger: Ledger, config: Config, round: int) -> Edited:
    """The file against what the ledger prescribes. Raises DataError."""
    from breakfix.curate.base import Plan

    made, text = edits.read(ledger), files.read(file)
    standing = edits.standing(ledger, round, made)
    own = ours(standing, config, round)
    given = Reader(file, standing, edits.merged(made), config, own).prescription(files.node(file, text))
    now, before = {e.id: e for e in given.entries}, {e.id: e for e in own.entries}
    changes = [change for e in own.entries for change in _changes(e, now.get(e.id))]
    changes += [{"id": id, "what": "rows again", "was": 0, "now": n} for id, n in given.again.items() if n]
    if given.replay != own.replay:
        changes.append({"id": "", "what": "replay", "was": own.replay, "now": given.replay})
    kinds = frames(config)
    plan = Plan(
        languages={id: e.languages for id, e in now.items() if set(e.languages) != set(before[id].languages)},
        wrappers={id: tuple(kinds[name] for name in e.wrappers) for id, e in now.items() if e.wrappers},
        replay=given.replay if given.replay != own.replay else None,
        again={id: n for id, n in given.again.items() if n},
        where={id: f"{file}:{e.line}: {id}" for id, e in now.items()},
    )
    rows = {id: dict(e.rows) for id, e in now.items()}
    after = [replace(v, prescription=rows.get(v.id, {})) if v.id in before else v for v in standing]
    return Edited(file, text, after, plan, changes)


def _changes(was: Entry, now: Entry | None) -> Iterator[dict[str, Any]]:
    if now is None:
        yield {"id": was.id, "what": "taken out", "was": dict(was.rows), "now": {}}
        return
    for word in WORDS:
        if was.rows.get(word, 0) != now.rows.get(word, 0):
            yield {"id": was.id, "what": word, "was": was.rows.get(word, 0), "now": now.rows.get(word, 0)}
    if set(was.languages) != set(now.languages):
        yield {"id": was.id, "what": "languages", "was": list(was.languages), "now": list(now.languages)}
    if now.wrappers:
        yield {"id": was.id, "what": "wrappers", "was": [], "now": list(now.wrappers)}


def said(change: Mapping[str, Any]) -> str:
    """'V1 harmful 32 → 10'; 'V3 taken out'"""

    def short(value: Any) -> str:
        return f"{value:g}" if isinstance(value, (int, float)) else ", ".join(map(str, value)) or ANY

    if change["what"] == "taken out":
        return f"{change['id']} taken out"
    return f"{change['id']} {change['what']} {short(change['was'])} → {short(change['now'])}".strip()
