"""What identifies a model: the digest of its weights. No torch needed to know it."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path


def weights_id(path: str | Path | None) -> str:
    """Folder name and digest of a model or adapter: sha256 of its safetensors and configs, first 12 hex digits.

    A hub id, which is no folder, is its own identity.
    """
    folder = Path(str(path))
    if not folder.is_dir():
        return str(path)
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*config.json")])
    return f"{folder.name}@{_digest(tuple((f, f.stat().st_mtime_ns, f.stat().st_size) for f in files))}"


@lru_cache(maxsize=32)
def _digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    sha = hashlib.sha256()
    for file, _, _ in files:
        sha.update(file.name.encode())
        with file.open("rb") as handle:
            sha.update(hashlib.file_digest(handle, "sha256").digest())
    return sha.hexdigest()[:12]
