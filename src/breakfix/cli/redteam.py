"""`breakfix redteam`: the stage, and the catalogue of attacks. The rest: attack_sets.py, attack_table.py, human.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from breakfix.cli import output
from breakfix.cli.commands import Arguments, UsageError
from breakfix.cli.targets import HELP, round_of

_WITH = {  # option → those of which one must be given beside it
    "markdown": ("list", "table"),
    "with_replies": ("save",),
    "split": ("human",),
    "max_new_tokens": ("human", "replay"),
}
_DOES = ("list", "table", "save", "replay", "human")


def redteam(arguments: Arguments) -> int:
    """breakfix redteam"""
    _check(arguments)
    if arguments.list:
        return _list(arguments)
    if arguments.table is not None:
        from breakfix.cli import attack_table

        return attack_table.table(arguments)
    if arguments.target is None:
        raise UsageError(f"the following arguments are required: RUN_OR_CONFIG; --list shows the attacks; {HELP}")
    if arguments.replay is not None:
        from breakfix.cli import attack_sets

        return attack_sets.replay(arguments)
    if arguments.human:
        from breakfix.cli import human

        return human.human(arguments)
    round_of(arguments)
    if arguments.save is not None:
        from breakfix.cli import attack_sets

        return attack_sets.save(arguments)
    from breakfix.cli import runs

    arguments.target = Path(arguments.target)
    return runs.stage(arguments)


def _check(arguments: Arguments) -> None:
    """Options that don't go together."""
    given = [name for name in _DOES if getattr(arguments, name)]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]} are two things; give one of them; {HELP}")
    for name, others in _WITH.items():
        if getattr(arguments, name) and not set(given) & set(others):
            beside = " or ".join(f"--{other}" for other in others)
            raise UsageError(f"--{name.replace('_', '-')} goes with {beside}; {HELP}")
    if given and arguments.again:
        raise UsageError(f"--again is of the stage, and does not go with --{given[0]}; {HELP}")


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
        [(*map(str, (row[key] for key in ("name", "family", "persona"))), *_figures(row), _what(row)) for row in rows],
    )
    print("also: compositions of two, such as base64+role_play")
    return 0


def _figures(row: dict[str, Any]) -> tuple[str, str, str]:
    turns, access, queries = ("–" if row[key] is None else str(row[key]) for key in ("turns", "access", "queries"))
    return turns, access, queries


def _what(row: dict[str, Any]) -> str:
    return " ".join(filter(None, (row["what"], row["paper"] and f"({row['paper']})")))
