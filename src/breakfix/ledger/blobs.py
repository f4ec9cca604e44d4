"""Files by digest: RUN/blobs/ab/abcdef..., for what is too large for a row (images, reports, adapters).

A blob is written beside its place, synced, and renamed into it: what lies under its digest is always whole. What a
killed process left half-written lies in blobs/tmp, and the next writer sweeps it (it holds the run's lock).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from breakfix.errors import LedgerError
from breakfix.ledger.room import room

_CHUNK = 1 << 20  # bytes read at once


class Blobs:
    """The blobs under `root`. The folder is made with the first blob."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, data: bytes | Path) -> str:
        """Store bytes, or a copy of a file; return the sha256 (hex). Durable at return. May raise DiskFull."""
        with room(self._root):
            temporary = self._new()
            try:
                name = _write(temporary, data)
                self._place(temporary, self._at(name))
            finally:
                temporary.unlink(missing_ok=True)
        return name

    def path(self, digest: str) -> Path:
        """Where a blob lies. LedgerError if it is not there."""
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):  # never let data name a path
            raise LedgerError(f"{digest[:80]!r} is not the digest of a file; expected 64 hex digits")
        place = self._at(digest)
        if not place.is_file():
            raise LedgerError(f"{place}: the file is missing; copy the run's blobs folder again, or re-run its stage")
        return place

    def all(self) -> list[Path]:
        """Every blob, whatever is in it."""
        return sorted(p for p in self._root.glob("??/*") if p.is_file())

    def sweep(self) -> None:
        """Remove what killed writers left. Only for the holder of the run's lock."""
        for left in (self._root / "tmp").glob("*"):
            left.unlink()

    def _at(self, digest: str) -> Path:
        return self._root / digest[:2] / digest

    def _new(self) -> Path:
        folder = self._root / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder)
        os.close(handle)
        return Path(name)

    def _place(self, temporary: Path, place: Path) -> None:
        if place.is_file():
            return
        place.parent.mkdir(exist_ok=True)
        os.chmod(temporary, 0o444)
        os.replace(temporary, place)
        _sync(place.parent)
        _sync(self._root)


def _write(place: Path, data: bytes | Path) -> str:
    sha = hashlib.sha256()
    with place.open("wb") as out:
        for chunk in _chunks(data):
            sha.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return sha.hexdigest()


def _chunks(data: bytes | Path) -> Iterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    with data.open("rb") as source:
        while chunk := source.read(_CHUNK):
            yield chunk


def _sync(folder: Path) -> None:
    """Make a rename durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
