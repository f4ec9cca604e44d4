# pyright: basic
# pyarrow has no types
"""Parquet and Arrow files → (where, row), a batch of rows in memory at a time. `where` is "FILE row N", from 1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from breakfix.errors import DataError

BATCH = 1024  # rows
Rows = Iterator[tuple[str, Any]]


def parquet(path: Path) -> Rows:
    """Raises DataError where the file is no Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield from _rows(path, file.iter_batches(batch_size=BATCH))
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not Parquet ({' '.join(str(error).split())[:120]})") from None


def arrow(path: Path) -> Rows:
    """The stream that `datasets` writes, or a file (Feather). Raises DataError where it is neither."""
    import pyarrow as pa

    with path.open("rb") as file:
        begin = file.read(6)
    try:
        with pa.memory_map(str(path)) as mapped:
            if begin == b"ARROW1":
                reader = pa.ipc.open_file(mapped)
                yield from _rows(path, (reader.get_batch(i) for i in range(reader.num_record_batches)))
            else:
                yield from _rows(path, pa.ipc.open_stream(mapped))
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not Arrow ({' '.join(str(error).split())[:120]})") from None


def _rows(path: Path, batches: Iterable[Any]) -> Rows:
    number = 0
    for batch in batches:
        for at in range(0, batch.num_rows, BATCH):
            for row in batch.slice(at, BATCH).to_pylist():
                number += 1
                yield f"{path} row {number}", row
