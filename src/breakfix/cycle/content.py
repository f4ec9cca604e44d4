"""What stages read, by content: other rows, files, attacks or weights are other work, wherever they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from breakfix import frames, starter
from breakfix.config import Source, Suite
from breakfix.core import digest


def read(item: Source | Suite) -> dict[str, Any]:
    """A source or suite as a stage reads it: its settings, and in place of its path what is there, wherever that is."""
    local = item.path
    if local is None and isinstance(item, Source) and item.hub is not None and Path(item.hub).expanduser().exists():
        local = Path(item.hub).expanduser()
    settings = item.model_dump(mode="json", exclude={"path", "hub"} if local is not None else set())
    if local is None and isinstance(item, Source) and item.hub is None and item.name == frames.SOURCE:
        settings["content"] = digest(frames.cases())
    return settings if local is None else {**settings, "content": contents(local)}


def contents(path: Path) -> str:
    """The digest of a file, or of a folder's files: rows that were changed since are other rows."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    found: list[tuple[str, str]] = []
    for file in files:
        with file.open("rb") as stream:
            name = file.relative_to(path).as_posix() if file != path else file.suffix
            found.append((name, hashlib.file_digest(stream, "sha256").hexdigest()))
    return digest(found)


@cache
def pack() -> str:
    """The digest of the starter pack."""
    return digest(starter.cases())


def attacks(seen: Sequence[str], held_out: Sequence[str]) -> list[tuple[str, str, int]]:
    """(name, family, version) of every attack of these families, also of installed packages."""
    from breakfix.redteam import chosen

    used = [attack for side in chosen(seen, held_out) for attack in side]
    return sorted((attack.name, attack.family, getattr(attack, "version", 1)) for attack in used)


def weights(path: str) -> str:
    from breakfix.models.identity import weights_id

    return weights_id(path)
