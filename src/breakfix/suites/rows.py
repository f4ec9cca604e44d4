"""Reading other people's files: rows with their line, and errors that name file and line and never quote content."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from breakfix.core import Case, Expect, Split, ask
from breakfix.errors import DataError


@dataclass(frozen=True, slots=True)
class Origin:
    """What all cases of a file share. `name` is that of the suite, or of one of its parts; ids begin with it."""

    name: str
    split: Split
    licence: str

    def case(self, id: str, text: str, expect: Expect, **more: Any) -> Case:
        """A one-turn case; `more` are further fields of `core.Case`, and win over what is shared."""
        shared: dict[str, Any] = {"source": self.name, "split": self.split, "licence": self.licence}
        shared["prompt"] = ask(text.strip())
        return Case(id=f"{self.name}/{id}", expect=expect, **{**shared, **more})


def read_text(path: Path) -> str:
    """Raises DataError where there is no such file, or it is not UTF-8."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected the suite's data there")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None


def csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line where the row ends, row). Raises DataError where a column is missing or a row has too few fields."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), restval=None)
    if missing := set(columns) - set(reader.fieldnames or ()):
        raise DataError(f"{path}:1: no column {', '.join(sorted(missing))}; expected {', '.join(columns)}")
    for row in reader:
        if lacking := [name for name in columns if row[name] is None]:
            raise DataError(f"{path}:{reader.line_num}: the row ends before '{lacking[0]}'")
        yield reader.line_num, row


def json_rows(path: Path, fields: Mapping[str, type | tuple[type, ...]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of each line that is not blank. Raises DataError where a field is missing or of another type."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, _json_row(f"{path}:{number}", line, fields)


def json_list(path: Path, fields: Mapping[str, type | tuple[type, ...]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, object) of a file that is one JSON array of objects. Raises DataError as `json_rows` does."""
    try:
        loaded = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({getattr(error, 'msg', 'nested too deep')}); expected an array") from None
    if not isinstance(loaded, list):
        raise DataError(f"{path}: expected an array, found {type(loaded).__name__}")
    for number, row in enumerate(cast("list[Any]", loaded), start=1):
        yield number, _checked(f"{path}: row {number}", row, fields)


def _json_row(where: str, line: str, fields: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    try:
        loaded = json.loads(line)
    except (ValueError, RecursionError) as error:
        why = getattr(error, "msg", "nested too deep")
        raise DataError(f"{where}: not JSON ({why}); expected one object a line") from None
    return _checked(where, loaded, fields)


def _checked(where: str, loaded: Any, fields: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    if not isinstance(loaded, dict):
        raise DataError(f"{where}: expected an object, found {type(loaded).__name__}")
    row = cast("dict[str, Any]", loaded)
    for name, kind in fields.items():
        if name not in row:
            raise DataError(f"{where}: no '{name}'; expected the fields {', '.join(fields)}")
        if not isinstance(row[name], kind):
            raise DataError(f"{where}: '{name}' is {type(row[name]).__name__}, expected {_names(kind)}")
    return row


def _names(kind: type | tuple[type, ...]) -> str:
    return " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
