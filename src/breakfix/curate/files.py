"""A file of rows → (where, row), one at a time: JSON lines, JSON, CSV, TSV, Parquet, Arrow.

`where` is FILE:LINE, or "FILE row N" where a format has no lines (from 1). The ending says the format, also under .gz,
.bz2 and .xz; a source's `format` says it where the ending does not. Memory is bounded: by one row, by a batch of
Parquet's or Arrow's rows, or (JSON arrays alone) by the file, which may then have 256 MiB.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from breakfix.curate import columnar
from breakfix.errors import DataError

Rows = Iterator[tuple[str, Any]]
ENDINGS: Mapping[str, str] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
    ".arrow": "arrow", ".feather": "arrow",
}  # fmt: skip
PACKED: Mapping[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PAR1", "Parquet"),
    (b"ARROW1", "Arrow"),
    (b"\xff\xff\xff\xff", "Arrow"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"PK\x03\x04", "zip"),
    (b"\x28\xb5\x2f\xfd", "zstandard"),
)
BLANK = b"\xef\xbb\xbf \t\r\n"  # what may stand before JSON: a byte order mark, spaces
LONGEST_LINE = 64 << 20  # bytes; of CSV, characters of a field
LARGEST_ARRAY = 256 << 20  # bytes


def rows(path: Path, format: str | None = None) -> Rows:
    """Every row of the file. Raises DataError (file, line, what is wrong), each time when it comes to it."""
    if path.is_dir():
        raise DataError(f"{path}: a folder; a source's `path` is a file (for a folder, give it as `hub`)")
    if not path.is_file():
        raise DataError(f"{path}: no such file; a source's `path` is a file of rows ({', '.join(READERS)})")
    packed = path.suffix.lower() in PACKED
    ending = (path.with_suffix("") if packed else path).suffix.lower()
    known = format or ENDINGS.get(ending)
    if known is None:
        endings = ", ".join(ENDINGS)
        raise DataError(f"{path}: a file of unknown format; expected {endings}, or set the source's `format`")
    if packed and known in ("parquet", "arrow"):
        raise DataError(f"{path}: {known} is compressed inside; unpack the file")
    try:
        yield from READERS[known](path)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path}: can't be read ({' '.join(str(error).split())[:120]})") from None


def document(path: Path) -> Rows:
    """(path, the whole) of a file that is one JSON document."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with _open(path) as file:
        raw = file.read(LARGEST_ARRAY + 1)
    if len(raw) > LARGEST_ARRAY:
        raise DataError(f"{path}: one JSON document of more than {LARGEST_ARRAY >> 20} MiB; save it as JSON lines")
    yield str(path), _parsed(_text(raw, path, 0, 1), str(path))


def _open(path: Path) -> IO[bytes]:
    """The file, unpacked. Raises DataError where its first bytes are those of another format."""
    with path.open("rb") as file:
        begin = file.read(8)
    packed = PACKED.get(path.suffix.lower())
    if packed is None:
        for magic, name in MAGIC:
            if begin.startswith(magic):
                mend = f"`format: {name.lower()}`" if name in ("Parquet", "Arrow") else "its ending"
                raise DataError(f"{path}: its first bytes are those of a {name} file, not of text; say so by {mend}")
        return path.open("rb")
    return cast("IO[bytes]", packed(path, "rb"))


def _text(raw: bytes, path: Path, at: int, line: int) -> str:
    """UTF-8. `at`: bytes before it."""
    try:
        return raw.decode("utf-8-sig" if at == 0 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {at + error.start}); line {line} is to be saved as UTF-8") from None


def _lines(file: IO[bytes], path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line without its end)."""
    at = number = 0
    while raw := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(raw) > LONGEST_LINE:
            raise DataError(f"{path}:{number}: longer than {LONGEST_LINE >> 20} MiB; expected one row a line")
        yield number, _text(raw, path, at, number).rstrip("\r\n")
        at += len(raw)


def _jsonl(path: Path) -> Rows:
    with _open(path) as file:
        for number, line in _lines(file, path):
            if line.strip():
                yield f"{path}:{number}", _parsed(line, f"{path}:{number}")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise DataError(f"{where}: nested too deep; expected one flat object a line") from None
    except json.JSONDecodeError as error:
        at = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}"
        raise DataError(f"{where}: not JSON ({error.msg}, {at})") from None
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{where}: not JSON ({str(error)[:80]})") from None


def _json(path: Path) -> Rows:
    """An array of objects; also JSON lines, which many call .json."""
    with _open(path) as file:
        begin = next((part for block in iter(lambda: file.read(1 << 16), b"") if (part := block.lstrip(BLANK))), b"")
    if not begin.startswith(b"["):
        with _open(path) as file:
            start = next((line for _, line in _lines(file, path) if line.strip()), "").strip()
        if start in ("", "{"):  # an object over several lines
            said = "empty" if not start else "one object"
            raise DataError(f"{path}: {said}; expected an array of objects, or one object a line")
        yield from _jsonl(path)
        return
    for _, array in document(path):
        yield from ((f"{path} row {number}", row) for number, row in enumerate(array, 1))


def _csv(path: Path, delimiter: str = ",") -> Rows:
    csv.field_size_limit(LONGEST_LINE)  # the library's own is 131,072
    with _open(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            header = next(reader, list[str]())
            if twice := [name for name in header if header.count(name) > 1]:
                raise DataError(f"{path}:1: column {twice[0]!r} is there twice; give each a name of its own")
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(f"{path}:{reader.line_num}: {len(row)} fields, but the header has {len(header)}")
                yield f"{path}:{reader.line_num}", dict(zip(header, row, strict=True))
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: not {'CSV' if delimiter == ',' else 'TSV'} ({error})") from None
        except UnicodeDecodeError:
            raise DataError(f"{path}: not UTF-8 (after line {reader.line_num}); save it as UTF-8") from None


def _tsv(path: Path) -> Rows:
    return _csv(path, "\t")


READERS: Mapping[str, Callable[[Path], Rows]] = {
    "jsonl": _jsonl,
    "json": _json,
    "csv": _csv,
    "tsv": _tsv,
    "parquet": columnar.parquet,
    "arrow": columnar.arrow,
}
