"""Commands that look at a run: status, report, trace, verify; and the one that upgrades its ledger."""

from __future__ import annotations

import fcntl
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakfix.cli import output, places
from breakfix.cli.commands import Arguments, UsageError
from breakfix.errors import RunBusy

if TYPE_CHECKING:
    from breakfix.ledger import StageRow

MOST = 6  # of a kind, below each entry of a lineage, without --all
DEPTH = 2  # steps away from what was asked for, without --all or --depth
_YES_NO = {"finished": ("not finished", "finished"), "pair": ("", "with a rejected answer")}
TAMPERED = 10  # the exit code of `breakfix verify` where something does not hold


def status(arguments: Arguments) -> int:
    """breakfix status"""
    from breakfix.ledger import Ledger

    run = places.find(arguments.run)
    with Ledger.open(run, write=False) as ledger:
        rows = ledger.stages()
    pid = holder(run)
    stages = account(rows, busy=pid is not None, now=time.time())
    if arguments.json:
        output.as_json({"run": str(run), "pid": pid, "stages": stages})
        return 0
    print(f"{output.line(str(run))}: {f'in use by process {pid}' if pid is not None else 'not running'}")
    if not stages:
        print("nothing is measured yet")
        return 0
    output.table(
        ("round", "stage", "state", "time"),
        [(str(s["round"]), s["stage"], s["state"], output.minutes(s["seconds"])) for s in stages],
    )
    return 0


def account(rows: Sequence[StageRow], *, busy: bool, now: float) -> list[dict[str, Any]]:
    """Each stage as it was last asked for: done, running (of a busy run, the one begun last, and the stage that it is
    a part of), or interrupted; `seconds` it took, or runs by now (None where it was interrupted)."""
    current = {(row.round, row.name): row for row in rows}.values()
    open_ = [row for row in current if not row.finished]
    last = max(open_, key=lambda row: row.started, default=None) if busy else None
    found: list[dict[str, Any]] = []
    for row in sorted(current, key=lambda row: (row.round, row.since)):
        runs = last is not None and not row.finished and row.round == last.round and last.name.startswith(row.name)
        state = "done" if row.finished else "running" if runs else "interrupted"
        seconds = row.seconds if row.finished else now - row.started if runs else None
        found.append({"round": row.round, "stage": row.name, "state": state, "seconds": seconds, "starts": row.starts})
    return found


def holder(run: Path) -> int | None:
    """The process that writes to the run, if one does: 0 where it can't be told which."""
    try:
        descriptor = os.open(run / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        said = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        return int(said) if said.isdecimal() else 0
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def report(arguments: Arguments) -> int:
    """breakfix report"""
    from breakfix.ledger import Ledger
    from breakfix.report import build, markdown, page, picture, render, to_json
    from breakfix.report.views import languages

    if arguments.languages and arguments.json:
        raise UsageError("--languages is a table, which --json does not print; leave one of them out")
    run = places.find(arguments.run)
    with Ledger.open(run, write=False) as ledger:
        document = build(ledger, arguments.redaction)
    if arguments.redaction != "public" and not arguments.json and arguments.html is None:
        output.note(f"--redaction {arguments.redaction} changes nothing here: what was said is in --html and --json")
    written: Path | None = arguments.html
    if written is not None:
        output.save(written, page(document))
    if arguments.chart is not None:
        output.save(arguments.chart, picture(document))
    if arguments.markdown is not None:
        output.save(arguments.markdown, languages.markdown(document) if arguments.languages else markdown(document))
    if arguments.json:
        print(to_json(document), end="")
        return 0
    if arguments.languages:
        _languages(document)
        return 0
    kept = run / "report.html"
    render(document, output.console(), html=written or (kept if kept.is_file() else None))
    return 0


def _languages(document: dict[str, Any]) -> None:
    from breakfix.report.views import languages

    rows = languages.table(document)
    if not rows:
        print("no request of ours was asked by language yet; measure languages_dev or starter_dev")
        return
    output.table(languages.HEADER, rows, groups=(1, 2, 2, 2))
    print("\n".join(["", *languages.notes(document)]))


def trace(arguments: Arguments) -> int:
    """breakfix trace"""
    from breakfix.identify import edits
    from breakfix.ledger import Ledger

    with Ledger.open(places.find(arguments.run, arguments.id), write=False) as ledger:
        node = ledger.trace(arguments.id)
        into = edits.merged(edits.read(ledger)).get(arguments.id)
    if into is not None:
        output.note(f"{arguments.id} was merged into {into}; `breakfix trace {into}` has what came after")
    depth = arguments.depth or (None if arguments.all or arguments.json else DEPTH)
    if depth is not None:
        node = near(node, depth)
    if arguments.json:
        output.as_json(node)
        return 0
    print("\n".join(tree(node, None if arguments.all else MOST)))
    if depth is not None and (further := node.get("further")):
        more = f"{further} more {'entry' if further == 1 else 'entries'}"
        print(f"further away: {more}; --depth {depth + 1} goes one step more, --all has everything")
    return 0


def verify(arguments: Arguments) -> int:
    """breakfix verify"""
    from breakfix.ledger import Ledger
    from breakfix.verify import verify

    run = places.find(arguments.run).resolve()
    pid = holder(run)
    if pid is not None:
        raise RunBusy(f"{run}: in use by process {pid}, which adds to it; verify it when that has ended")
    with Ledger.open(run, write=False) as ledger:
        found = verify(ledger, run)
    if arguments.json:
        output.as_json(found)
        return 0 if found["ok"] else TAMPERED
    for one in found["found"]:
        print(output.line(f"{one['what']} {one['name']}: {one['problem']}"))
    for name in found["not_here"]:
        output.note(f"{name}: not here any more; its weights can't be checked")
    n = found["looked_at"]
    if n["unchained"]:
        output.note(f"{n['unchained']} rows are older than the chain, which began when the ledger was upgraded: "
                    "of these only texts that have a digest of their own are checked")  # fmt: skip
    told = f"{len(found['found'])} not as written" if found["found"] else "all as written"
    print(f"{output.line(str(run))}: {told}; {n['rows']} rows in {n['links']} links, {n['blobs']} blobs, "
          f"{n['checkpoints']} checkpoints; the chain ends with {n['head']}")  # fmt: skip
    return 0 if found["ok"] else TAMPERED


def near(root: dict[str, Any], depth: int) -> dict[str, Any]:
    """A lineage to so many steps; at its root, where there is more, `further`: how many entries."""
    shown: set[str] = set()
    sides = {direction: _near(root, direction, depth, shown) for direction in ("parents", "children")}
    further = len({node["id"] for side in sides for node in _all(root, side)} - shown)
    return {**root, **sides, **({"further": further} if further else {})}


def _near(root: dict[str, Any], direction: str, depth: int, shown: set[str]) -> list[dict[str, Any]]:
    """What is `repeated` in the whole may be nearer here than where it is told: told here, then, and once."""
    told = {node["id"]: node for node in _all(root, direction) if not node.get("repeated")}
    left: dict[str, int] = {}  # steps that were left where it was told

    def copied(node: dict[str, Any], steps: int) -> dict[str, Any]:
        id = node["id"]
        before, further = left.get(id, -1), told.get(id, node)[direction]
        shown.add(id)
        left[id] = max(steps, before)
        below = [copied(one, steps - 1) for one in further] if steps > max(before, 0) else []
        bare = {key: value for key, value in node.items() if key != "repeated"}
        return {**bare, direction: below, **({"repeated": True} if further and before >= max(steps, 1) else {})}

    return copied(root, depth)[direction]


def _all(node: dict[str, Any], direction: str) -> Iterator[dict[str, Any]]:
    yield node
    for one in node[direction]:
        yield from _all(one, direction)


def tree(node: dict[str, Any], most: int | None = None) -> Iterator[str]:
    """The lineage in lines: what it came from (◀), what came of it (▶). `most` of a kind below each; the others are
    counted."""
    yield _label(node)
    shown = {_label(node)}
    for arrow, direction in (("◀", "parents"), ("▶", "children")):
        yield from _branches(node[direction], direction, arrow, "  ", most, shown)


def _branches(
    nodes: Sequence[dict[str, Any]], direction: str, arrow: str, indent: str, most: int | None, shown: set[str]
) -> Iterator[str]:
    counts: Counter[str] = Counter()
    for node in nodes:
        counts[node["kind"]] += 1
        if most is not None and counts[node["kind"]] > most:
            continue
        label = _label(node)
        yield f"{indent}{arrow} {label}{' (see above)' if node.get('repeated') and label in shown else ''}"
        shown.add(label)
        yield from _branches(node[direction], direction, arrow, indent + "  ", most, shown)
    for kind, n in counts.items():
        if most is not None and n > most:
            yield f"{indent}{arrow} … {n - most} more of kind {kind}; --all lists them"


def _label(node: dict[str, Any]) -> str:
    first = sorted(node["summary"].items(), key=lambda fact: fact[0] != "result")
    facts = ", ".join(filter(None, (_fact(name, value) for name, value in first)))
    return output.line(f"{node['kind']} {node['id']}" + (f"  [{facts}]" if facts else ""))


def _fact(name: str, value: Any) -> str:
    """In words; "" for what is for machines, or said otherwise."""
    if name in ("inputs", "breach", "error"):
        return ""
    if name == "result":
        return str(value)
    if isinstance(value, bool):
        return _YES_NO.get(name, (f"no {name}", name))[value]
    return f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"


def ledger(arguments: Arguments) -> int:
    """breakfix ledger upgrade"""
    from breakfix.ledger import upgrade

    old, new = upgrade(arguments.run)
    print(f"{output.line(str(arguments.run))}: version {old}, as it should be" if old == new else
          f"{output.line(str(arguments.run))}: upgraded from version {old} to {new}")  # fmt: skip
    return 0
