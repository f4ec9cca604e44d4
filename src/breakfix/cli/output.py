"""What commands print: results on stdout, the rest on stderr; text from elsewhere made harmless to look at."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from breakfix.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 160  # columns, where there is no terminal to ask
_GAP = 2  # characters between columns


def console() -> Console:
    """On stdout. No colour without a terminal, or with NO_COLOR."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE
    return Console(width=width, highlight=False)


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = (), groups: Sequence[int] = ()
) -> None:
    """Print rows of cells, which may have line ends in them. Where they don't fit, the widest columns fold. `styles`:
    one per row. `groups`: how many columns belong together, the first of which name the row; where there is no room for
    all groups, the last ones stand below, beside the first again."""
    from rich.text import Text

    from breakfix.report import grid

    cells = [["\n".join(map(line, cell.split("\n"))) for cell in row] for row in (header, *rows)]
    columns = [[Text(cell) for cell in column] for column in zip(*cells, strict=True)]
    starts = [*accumulate(groups or (len(columns),), initial=0)]
    key, *others = (columns[start:end] for start, end in pairwise(starts))
    to = console()
    for place, shown in enumerate(grid.tables(key, others, to.width, gap=_GAP, styles=styles)):
        to.print(*([""] if place else []), shown, sep="\n")


def as_json(value: Any) -> None:
    """Print JSON: ASCII, so that it is inert in a terminal and survives any pipe."""
    print(json.dumps(value, indent=1, default=str))


def note(text: str) -> None:
    """A line on stderr."""
    print(line(text), file=sys.stderr, flush=True)


def line(text: str) -> str:
    """On one line, with control characters, escape sequences and bidirectional overrides made visible."""
    from breakfix.report.plain import one_line

    return one_line(text)


@contextlib.contextmanager
def to_stderr() -> Generator[None]:
    """Whatever a library prints meanwhile must not get between us and who reads our stdout."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def save(path: Path, text: str) -> None:
    """Write a file, whole or not at all: of a link, the file that it leads to. A pipe or a device takes the text as it
    comes; /dev/stdout is stdout, whatever that was sent to. UserError where it can't be written, DiskFull where there
    is no room."""
    from breakfix.ledger.room import room

    try:
        with room(path):
            if path == Path("/dev/stdout"):
                print(text, end="", flush=True)
            elif path.exists() and not path.is_file():  # a folder, which refuses, among them
                path.write_text(text, encoding="utf-8")
            else:
                _replace(Path(os.path.realpath(path)), text)
    except OSError as error:
        raise UserError(f"{path}: can't be written ({error.strerror}); give another path") from error


def _replace(path: Path, text: str) -> None:
    work = path.with_name(f".{path.name}.new")
    try:
        work.write_text(text, encoding="utf-8")
        work.replace(path)
    finally:
        with contextlib.suppress(OSError):
            work.unlink(missing_ok=True)


def minutes(seconds: float | None) -> str:
    """754.2 → '12 min 34 s'"""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"


def summary(record: dict[str, Any]) -> Iterator[str]:
    """A stage's record in lines: estimates on one line each, long lists as their length."""
    yield from _lines(record, "")


def _lines(value: dict[str, Any], indent: str) -> Iterator[str]:
    for key, item in value.items():
        if isinstance(item, dict) and item and not _is_estimate(cast("dict[str, Any]", item)):
            yield line(f"{indent}{key}:") if not indent else f"{indent}{line(str(key))}:"
            yield from _lines(cast("dict[str, Any]", item), indent + "  ")
        elif isinstance(item, list) and item and all(isinstance(one, dict) for one in cast("list[Any]", item)):
            yield f"{indent}{line(str(key))}:"
            yield from (f"{indent}  {_pairs(one)}" for one in cast("list[dict[str, Any]]", item))
        else:
            yield f"{indent}{line(str(key))}: {_value(item)}"


def _is_estimate(value: dict[str, Any]) -> bool:
    return {"value", "low", "high", "n"} <= set(value)


def _pairs(row: dict[str, Any]) -> str:
    return ", ".join(f"{line(str(key))} {_value(item)}" for key, item in row.items())


def _value(item: Any) -> str:
    if item is None or item in ({}, []):
        return "–"
    if isinstance(item, dict):
        e = cast("dict[str, Any]", item)
        unscored = f", {e['unscored']} unscored" if e.get("unscored") else ""
        return f"{_value(e['value'])} ({_value(e['low'])} to {_value(e['high'])}), n {e['n']}{unscored}"
    if isinstance(item, (list, tuple)):
        items = cast("Sequence[Any]", item)
        return ", ".join(map(_value, items)) if len(items) <= 12 else f"{len(items)} items"
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, float):
        return f"{item:.4g}"
    return line(str(item))
