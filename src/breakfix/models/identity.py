"""What identifies a model: the digest of all that decides what it says. No torch needed to know it."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

# weights; configs (of the model, its generation, its tokenizer, its adapter); the tokenizer, in any of its forms; the
# chat template, where it has a file of its own
DECISIVE = ("*.safetensors", "*config.json", "tokenizer*", "vocab*", "merges.txt", "added_tokens.json",
            "special_tokens_map.json", "*.model", "*.jinja", "additional_chat_templates/*.jinja")  # fmt: skip


def save_tokenizer(tokenizer: Any, folder: str | Path) -> None:
    """Save a tokenizer as it would be saved with a network: transformers writes into its config whether it was loaded
    without one, and the same model would have another identity."""
    if "local_files_only" in tokenizer.init_kwargs:
        tokenizer.init_kwargs["local_files_only"] = False
    tokenizer.save_pretrained(folder)


def weights_id(path: str | Path | None) -> str:
    """KIND@DIGEST of a model or adapter: the kind that its config names (llama, lora), for people; sha256 of the files
    above, first 12 hex digits. The same files are the same model, whatever their folder is called.

    A hub id, which is no folder, is its own identity.
    """
    folder = Path(str(path))
    if not folder.is_dir():
        return str(path)
    files = sorted({file for pattern in DECISIVE for file in folder.glob(pattern) if file.is_file()})
    return f"{_kind(folder)}@{_digest(folder, tuple((f, f.stat().st_mtime_ns, f.stat().st_size) for f in files))}"


def _kind(folder: Path) -> str:
    for name, key in (("config.json", "model_type"), ("adapter_config.json", "peft_type")):
        try:
            return str(json.loads((folder / name).read_text(encoding="utf-8"))[key]).lower()
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return "model"


@lru_cache(maxsize=32)
def _digest(folder: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    sha = hashlib.sha256()
    for file, _, _ in files:
        sha.update(file.relative_to(folder).as_posix().encode())
        with file.open("rb") as handle:
            sha.update(hashlib.file_digest(handle, "sha256").digest())
    return sha.hexdigest()[:12]
