"""A worker of `train/launch.py` whose model is sharded by FSDP2 though there is no GPU: accelerate shards on GPUs only,
torch's `fully_shard` on any device. `accelerate launch ... -m fsdp_on_cpu JOB`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch.distributed
from accelerate import DistributedType, PartialState

from breakfix.train import launch


def _gloo(self: Any, *_: Any, **__: Any) -> tuple[str, DistributedType]:
    return "gloo", DistributedType.MULTI_GPU


if __name__ == "__main__":
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    torch.distributed.init_process_group("gloo")
    PartialState._prepare_backend = _gloo  # type: ignore[method-assign]
    raise SystemExit(launch.main(Path(sys.argv[1])))
