"""breakfix redteam: the stage; or the catalogue of attacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from breakfix.cli import output
from breakfix.cli.commands import Arguments, UsageError

if TYPE_CHECKING:
    from pathlib import Path


def redteam(arguments: Arguments) -> int:
    """breakfix redteam"""
    if arguments.list:
        return _list(arguments)
    for given, name in ((arguments.target, "RUN_OR_CONFIG"), (arguments.round, "--round")):
        if given is None:
            raise UsageError(
                f"the following arguments are required: {name}; --list shows the attacks; see `breakfix redteam --help`"
            )
    if arguments.markdown is not None:
        raise UsageError("--markdown FILE goes with --list; see `breakfix redteam --help`")
    from breakfix.cli import runs

    return runs.stage(arguments)


def _list(arguments: Arguments) -> int:
    from breakfix.redteam import listing

    if arguments.target is not None or arguments.round is not None:
        raise UsageError("--list shows the catalogue, which is of no run; leave the run and --round out")
    path: Path | None = arguments.markdown
    if path is not None:
        output.save(path, listing.page())
        output.note(f"wrote {path}")
        return 0
    rows = listing.rows()
    if arguments.json:
        output.as_json(rows)
        return 0
    output.table(
        ("name", "family", "persona", "turns", "access", "queries", "what (paper)"),
        [(*map(str, (row[key] for key in ("name", "family", "persona"))), *_figures(row), _words(row)) for row in rows],
    )
    print("also: compositions of two, such as base64+role_play")
    return 0


def _figures(row: dict[str, Any]) -> tuple[str, str, str]:
    turns, access, queries = ("–" if row[key] is None else str(row[key]) for key in ("turns", "access", "queries"))
    return turns, access, queries


def _words(row: dict[str, Any]) -> str:
    return " ".join(filter(None, (row["what"], row["paper"] and f"({row['paper']})")))
