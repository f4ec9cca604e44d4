"""Texts' embeddings, kept on disk by content: a wall is embedded once on a machine, a training row once.

A safetensors file for each embedder below the cache folder: digests [n, 16] and vectors [n, size] in float16, newest
last. It is a cache: what can't be read is made anew, and of two writers the last one stays.
"""
# pyright: basic
# (safetensors is half untyped)

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from breakfix.judges.features import Embeds

MOST = 1 << 17  # texts that are kept


class Vectors:
    """`of(texts)`: unit vectors. `embedder` is loaded when a text is first not known; `id` names it.

    `made`: how many texts were embedded, not read.
    """

    def __init__(self, id: str, embedder: Callable[[], Embeds], folder: Path | None) -> None:
        self.id, self._load = id, embedder
        self.path = folder and folder / f"{re.sub(r'[^A-Za-z0-9.@-]', '_', id)}.safetensors"
        self.made = 0
        self._embedder: Embeds | None = None
        self._known: dict[bytes, NDArray[np.float16]] | None = None

    def of(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[texts, size], rows of length 1 (0 for an empty text)."""
        if self._known is None:
            self._known = self._read()
        keys = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
        new = {key: text for key, text in zip(keys, texts) if key not in self._known}
        if new:
            if self._embedder is None:
                self._embedder = self._load()
            found = np.asarray(self._embedder.embed(list(new.values())), np.float16)
            self._known.update(zip(new, found))
            self.made += len(new)
            self._write(self._known)
        if not keys:
            return np.zeros((0, 1), np.float32)
        told = np.array([self._known[key] for key in keys], np.float32)
        lengths = np.linalg.norm(told, axis=1, keepdims=True)  # float16 is off by a thousandth
        return told / np.maximum(lengths, np.float32(1e-9))

    def _read(self) -> dict[bytes, NDArray[np.float16]]:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            held: Any = load_file(str(self.path)) if self.path and self.path.is_file() else None
            return {} if held is None else {bytes(k): v for k, v in zip(held["digests"], held["vectors"])}
        except (OSError, SafetensorError, KeyError):
            return {}

    def _write(self, known: dict[bytes, NDArray[np.float16]]) -> None:
        from safetensors.numpy import save_file

        if self.path is None:
            return
        keys = list(known)[-MOST:]
        digests = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), 16)
        work = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"digests": digests.copy(), "vectors": np.stack([known[key] for key in keys])}, str(work))
            work.replace(self.path)
        except OSError:  # a cache that can't be written costs time, not the run
            with suppress(OSError):
                work.unlink()
