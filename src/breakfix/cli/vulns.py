"""`breakfix vulns`: the vulnerabilities of a run as a round and people since have left them: all by rank, or one whole.

What an attempt says is shown with `--reveal` alone, with control characters and the like made visible.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakfix.cli import output, places
from breakfix.cli.commands import Arguments
from breakfix.errors import UserError

if TYPE_CHECKING:
    from breakfix.core import Vulnerability
    from breakfix.ledger import Ledger

Json = dict[str, Any]
STATUSES = ("open", "fixed", "reopened")
_LISTED = ("id", "status", "name", "kind", "hazard", "family", "language", "topic", "severity", "rate", "reach",
           "confidence", "rank", "suite", "neighbourhood", "first_round", "measured_round", "assignee",
           "history")  # fmt: skip


def all_of_them(arguments: Arguments) -> int:
    """breakfix vulns list"""
    from breakfix.ledger import Ledger

    run = places.find(arguments.run)
    with Ledger.open(run, write=False) as ledger:
        round, found = document(ledger, run, arguments.round)
        scored: int | None = (ledger.finished(round, "identify") or {}).get("scored")  # None: of an older run
    shown = [{name: v[name] for name in _LISTED} for v in found if arguments.status in (None, v["status"])]
    if arguments.markdown is not None:
        output.save(arguments.markdown, markdown(run, round, shown))
    if arguments.json:
        output.as_json({"run": str(run), "round": round, "vulnerabilities": shown})
        return 0
    of = f" that {'is' if len(shown) == 1 else 'are'} {arguments.status}" if arguments.status else ""
    many = f"{len(shown)} {'vulnerability' if len(shown) == 1 else 'vulnerabilities'}"
    print(f"{output.line(str(run))}, round {round}: {many}{of}{_sought(scored)}")
    if shown:
        output.table(("id", "status", "failed", "95 %", "n", "name"), [_row(v) for v in shown])
    return 0


def _sought(scored: int | None) -> str:
    """What no vulnerability is worth: without a scored attempt nothing is known."""
    if scored is None:
        return ""
    return f"; sought in {scored} scored attempts" if scored else "; no attempt was scored, so nothing is known"


def one(arguments: Arguments) -> int:
    """breakfix vulns show"""
    from breakfix.ledger import Ledger
    from breakfix.report.redaction import transcripts

    run = places.find(arguments.run, arguments.id)
    if arguments.reproduce:
        _reproduce(run, arguments.id)
    with Ledger.open(run, write=False) as ledger:
        round, found = document(ledger, run, None, arguments.id)
        v = found[0]
        if arguments.reveal:
            ids = [v["reproducer"]["id"]] if v["reproducer"] else v["evidence"][:1]
            v = {**v, "transcripts": transcripts(ledger.known(ids).values(), "full")}
    if arguments.json:
        output.as_json({"run": str(run), "round": round, **v})
    else:
        print("\n".join(map(output.line, _page(v, run))))
    return 0


def document(ledger: Ledger, run: Path, round: int | None, id: str | None = None) -> tuple[int, list[Json]]:
    """(the round, its vulnerabilities by rank, the fixed ones last): the report's entries, with the assignee and with
    people's edits. `id`: that one alone. LedgerError where no round was identified, UserError for an unknown id."""
    from breakfix.identify import edits
    from breakfix.report.views.vulnerabilities import gravest_first
    from breakfix.report.weaknesses import weaknesses

    made = edits.read(ledger)
    round = identified(ledger, run, round)
    standing = edits.standing(ledger, round, made)
    if id is not None:
        standing = [named(id, standing, made)]
    current = {(row.round, row.name): row for row in ledger.stages() if row.round <= round}
    rounds = sorted({row.round for row in current.values() if row.name == "identify" and row.finished})
    held = edits.assignees(made)
    rows = weaknesses(ledger, standing, rounds, list(current.values()))
    rows = [{**row, "assignee": held.get(row["id"], "")} for row in rows]
    return round, gravest_first(rows)


def identified(ledger: Ledger, run: Path, round: int | None = None) -> int:
    """The last round whose weaknesses were named, or `round` itself. LedgerError where there is none."""
    from breakfix.errors import LedgerError

    rounds = sorted({row.round for row in ledger.stages() if row.name == "identify" and row.finished})
    if not rounds:
        raise LedgerError(f"{run}: no round's weaknesses are named yet; `breakfix run {run}` goes on to where they are")
    if round is not None and round not in rounds:
        raise LedgerError(f"{run}: round {round} is not identified; it has {', '.join(map(str, rounds))}")
    return rounds[-1] if round is None else round


def named(id: str, standing: Sequence[Vulnerability], made: Sequence[Any]) -> Vulnerability:
    """The vulnerability of that id. UserError, with the nearest, where there is none."""
    from breakfix.identify import edits

    by_id = {v.id: v for v in standing}
    if id in by_id:
        return by_id[id]
    into = edits.merged(made).get(id)
    if into is not None:
        raise UserError(f"{id} was merged into {into}; give that")
    near = difflib.get_close_matches(id.upper(), by_id, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(list(by_id)[:12])}" if by_id else ""
    raise UserError(f"{id}: no such vulnerability; {hint or 'the run has none'}")


def _reproduce(run: Path, id: str) -> None:
    """Seek the shortest case now, with calls to the model of the last round that was identified."""
    from breakfix.cycle import Cycle
    from breakfix.identify import edits, probing
    from breakfix.ledger import Ledger

    config, _ = places.read(run, None)
    with output.to_stderr(), Ledger.open(run.resolve()) as ledger:
        round = identified(ledger, run)
        v = named(id, edits.standing(ledger, round), edits.read(ledger))
        cycle = Cycle(config, run.resolve(), ledger, say=output.note)
        told = probing.reproduce(config, ledger, [v], cycle.tools(round), round=round).get(v.id)
    if told is None:
        none = (
            "identify.queries is 0 in the config" if not config.identify.queries else "it has no failure to start from"
        )
        output.note(f"{v.id}: nothing was asked; {none}")
    else:
        output.note(f"{v.id}: {f'the shortest case is attempt {told.attempt}' if told.attempt else told.why}; "
                    f"{told.queries} calls")  # fmt: skip


_HEADER = ("id", "status", "severity", "failed", "95 %", "n", "reach", "assignee", "history", "name")


def _cells(v: Json) -> tuple[str, ...]:
    from breakfix.report.headlines import figure, interval

    rate = v["rate"]
    return (v["id"], v["status"], f"{v['severity']:.1f}", figure(rate["value"]), interval(rate), str(rate["n"]),
            figure(v["reach"]), v["assignee"] or "–", _history(v), v["name"])  # fmt: skip


def _row(v: Json) -> tuple[str, ...]:
    """For the terminal: what is no figure of its attempts stands below the name."""
    cells = dict(zip(_HEADER, _cells(v), strict=True))
    held = f"; {v['assignee']} looks after it" if v["assignee"] else ""
    below = f"{cells['history']}; severity {cells['severity']}, reach {cells['reach']}{held}"
    return (*(cells[name] for name in ("id", "status", "failed", "95 %", "n")), f"{cells['name']}\n{below}")


def _history(v: Json) -> str:
    """'open · open · fixed'; a round that did not measure it is in brackets."""
    return " · ".join(row["status"] if row["measured"] else f"({row['status']})" for row in v["history"])


def markdown(run: Path, round: int, rows: Sequence[Json]) -> str:
    """A table of all."""
    lines = [f"# Vulnerabilities of {_plain(run.name)}, round {round}", ""]
    lines += [f"| {' | '.join(_HEADER)} |", f"|{'---|' * len(_HEADER)}"]
    lines += [f"| {' | '.join(map(_plain, _cells(v)))} |" for v in rows]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Inert in Markdown."""
    shown = output.line(text).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{c}" if c in "\\|`*_[]" else c for c in shown)


def _page(v: Json, run: Path) -> Iterator[str]:
    from breakfix.report.headlines import figure, interval

    rate, near = v["rate"], v["neighbourhood"]
    yield f"{v['id']}  {v['name']}"
    yield f"  {v['means']}"
    yield f"  {v['why']}"
    yield f"status: {v['status']}; by round: {_history(v)}"
    what = "lost" if v["kind"] == "capability_loss" else "failed"
    of = "questions" if v["kind"] == "capability_loss" else "scored attempts"
    yield f"{what}: {figure(rate['value'])} ({interval(rate) or 'no interval'}) of {rate['n']} {of}, " \
          f"{rate['unscored']} unscored, round {v['measured_round']}"  # fmt: skip
    yield (
        f"rank: {_number(v['rank'])} = severity {v['severity']:.2f} ÷ 7 × rate {_number(rate['value'])} × "
        f"reach {_number(v['reach'])} × confidence {_number(v['confidence'])}"
    )
    yield f"regression suite: {v['suite']} pairs of case and attack"
    if near is not None:
        yield f"around it: {figure(near['value'])} of {near['n']} failed"
    yield f"prescribed rows: {', '.join(f'{n} {kind}' for kind, n in v['prescription'].items()) or 'none'}"
    for row in v["rows"]:
        mix = ", ".join(f"{n} {kind}" for kind, n in row["mix"].items())
        yield f"rows made in round {row['round']}: {mix}; {row['pairs']} pairs"
    yield f"assigned to: {v['assignee'] or 'nobody'}"
    for row in v["notes"]:
        yield f"round {row['round']}, {row['by']}: {row['what']}: {row['text']}"
    yield from _shortest(v)
    first = f" ({', '.join(v['evidence'][:3])}{' …' if len(v['evidence']) > 3 else ''})" if v["evidence"] else ""
    many = f"{len(v['evidence'])} {'attempt' if len(v['evidence']) == 1 else 'attempts'}"
    earlier = " of an earlier round" if v["evidence"] and rate["n"] and not rate["value"] else ""
    yield f"evidence: {many} that failed{earlier}{first}"
    for transcript in v.get("transcripts", ()):
        yield f"attempt {transcript['id']}:"
        yield from (f"  {turn['role']}: {turn['text']}" for turn in transcript["turns"])
    if "transcripts" not in v and v["evidence"]:
        yield f"its words: breakfix vulns show {v['id']} {run} --reveal"


def _shortest(v: Json) -> Iterator[str]:
    search = v["search"]
    if search is None:
        yield "shortest case: not sought"
    elif not search["found"]:
        yield f"shortest case: none; {search['why']} ({search['queries']} calls)"
    else:
        whole = "nothing more can go" if search["minimal"] else "the calls ended first"
        bare = "; the request alone breaks" if search["bare"] else ""
        yield f"shortest case: {search['after']} characters of {search['before']}, {whole}{bare} " \
              f"({search['queries']} calls)"  # fmt: skip


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
