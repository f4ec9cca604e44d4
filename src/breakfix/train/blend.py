"""Weights between two checkpoints of one model, or beyond them: release candidates that cost no training.

    blended = before + α (after - before)        α 0: before; 0.5: the mean; 1: after; above 1: extrapolated

Fine-tuned weights that started from the same ones often do better averaged than either (model soups, Wortsman et al.
2022, arXiv 2203.05482; between a model before and after fine-tuning: WiSE-FT, arXiv 2109.01903); beyond the end, a
change that was too small is continued (task arithmetic, 2212.04089). Ours: the model that a round started from and the
one it ended with. Of a merged LoRA adapter this is the same as scaling the adapter by α.
"""

# pyright: basic
# (safetensors has no types)

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

from ..errors import UserError

WEIGHTS = "*.safetensors"
NOT_KEPT = ("checkpoint-*", "alarms.json", "*.bin", "*.pt", "*.pth")  # of a trainer's folder


def blend(before: Path, after: Path, alpha: float, out: Path) -> None:
    """Write to `out`, a new folder, what is in `after` with blended weights, in after's types.

    One tensor at a time is in memory: each file is written as it goes, with the header of after's. Raises UserError
    where the two do not hold the same tensors.
    """
    from safetensors import safe_open

    where = {key: file for file in sorted(before.glob(WEIGHTS)) for key in safe_open(file, "pt").keys()}  # noqa: SIM118
    shutil.copytree(after, out, ignore=shutil.ignore_patterns(*NOT_KEPT, WEIGHTS))
    for file in sorted(after.glob(WEIGHTS)):
        with safe_open(file, "pt") as weights, (out / file.name).open("wb") as stream:
            stream.write(_header(file))
            for key in weights.offset_keys():
                new = weights.get_tensor(key)
                old = _tensor(where, key, before)
                if old.shape != new.shape:
                    raise UserError(f"{before}: {key} is {tuple(old.shape)}, in {after} it is {tuple(new.shape)}")
                stream.write(_bytes(_between(old, new, alpha)))


def _between(old: Any, new: Any, alpha: float) -> Any:
    import torch

    return torch.lerp(old.float(), new.float(), alpha).to(new.dtype) if new.is_floating_point() else new


def _header(file: Path) -> bytes:
    """Length (8 bytes) and JSON of names, types, shapes and offsets: all that stands before the tensors' bytes."""
    with file.open("rb") as stream:
        length = stream.read(8)
        return length + stream.read(struct.unpack("<Q", length)[0])


def _bytes(tensor: Any) -> memoryview:
    import torch

    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def _tensor(where: dict[str, Path], key: str, folder: Path) -> Any:
    from safetensors import safe_open

    if key not in where:
        raise UserError(f"{folder}: no tensor {key}; what is blended are two checkpoints of one model")
    with safe_open(where[key], "pt") as weights:
        return weights.get_tensor(key)
