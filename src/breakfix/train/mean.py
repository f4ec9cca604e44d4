"""The mean of two checkpoints' weights, a release candidate that costs no training.

Fine-tuned weights that started from the same ones often do better averaged than either (model soups, Wortsman et al.
2022, arXiv 2203.05482; between a model before and after fine-tuning: WiSE-FT, arXiv 2109.01903). Ours: the model that
a round started from and the one it ended with, half and half. Tensor by tensor: two models need not fit in memory.
"""

# pyright: basic
# (safetensors has no types)

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..errors import UserError

WEIGHTS = "*.safetensors"
NOT_KEPT = ("checkpoint-*", "*.bin", "*.pt", "*.pth")  # of a trainer's folder


def mean(before: Path, after: Path, out: Path) -> None:
    """Write to `out`, a new folder, what is in `after` with the mean of both as weights, in after's types.

    Raises UserError where the two do not hold the same tensors.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    where = {key: file for file in sorted(before.glob(WEIGHTS)) for key in safe_open(file, "pt").keys()}  # noqa: SIM118
    shutil.copytree(after, out, ignore=shutil.ignore_patterns(*NOT_KEPT, WEIGHTS))
    for file in sorted(after.glob(WEIGHTS)):
        mixed: dict[str, torch.Tensor] = {}
        with safe_open(file, "pt") as weights:
            for key in weights.keys():  # noqa: SIM118
                new = weights.get_tensor(key)
                old = _tensor(where, key, before)
                if old.shape != new.shape:
                    raise UserError(f"{before}: {key} is {tuple(old.shape)}, in {after} it is {tuple(new.shape)}")
                mixed[key] = torch.lerp(old.float(), new.float(), 0.5).to(new.dtype)
        save_file(mixed, out / file.name, metadata={"format": "pt"})


def _tensor(where: dict[str, Path], key: str, folder: Path) -> Any:
    from safetensors import safe_open

    if key not in where:
        raise UserError(f"{folder}: no tensor {key}; the mean is of two checkpoints of one model")
    with safe_open(where[key], "pt") as weights:
        return weights.get_tensor(key)
