"""A config as TRL's trainers and options; this file knows them, nothing else does.

Losses are TRL's: DPO (2305.18290), IPO (2310.12036), APO (2408.06266) and others, each with the SFT term.
"""
# pyright: basic, reportPrivateImportUsage=false
# (trl, peft and datasets are half untyped and export lazily)

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, KTOConfig, SFTConfig

from ..config import Config, Hardware
from ..errors import ConfigError
from ..models.hf import load_pretrained
from ..models.identity import weights_id
from ..models.precision import probe
from . import presets
from .kto import Kto, balance
from .launch import processes, share, threads
from .rates import beta, learning_rate
from .references import References
from .trainers import Dpo, Sft
from .weights import COLUMN, Collate


def trainer(
    kind: str,
    config: Config,
    model: Any,
    tokenizer: Any,
    rows: Any,
    adapters: LoraConfig | None,
    out: Path,
    reference: str | Path | None = None,
    kept: References | None = None,
) -> Any:
    """Of `rows` (rows.py) and a `reference`, the policy itself if None; `kept` is for DPO."""
    options = _options(kind, config, model, len(rows), out)
    data = Dataset.from_list(list(rows))
    parts: dict[str, Any] = {
        "model": model,
        "train_dataset": data,
        "processing_class": tokenizer,
        "peft_config": adapters,
    }
    if kind == "sft":
        made = Sft(args=SFTConfig(**options, dataset_kwargs={"skip_prepare_dataset": True}), **parts)
        if COLUMN in data.column_names:
            made.data_collator = Collate(made.data_collator)
        return made
    options |= _of_preferences(kind, config)
    anchor = None if reference is None else load_pretrained(reference)[0]
    if kind == "kto":
        good, bad = balance(rows)
        args = KTOConfig(**options, desirable_weight=good, undesirable_weight=bad)
        return _alone(Kto(ref_model=anchor, args=args, **parts))
    dpo = config.train.dpo
    args = DPOConfig(
        **options,
        loss_type=[dpo.loss, "sft"] if dpo.sft_weight else [dpo.loss],
        loss_weights=[1.0, dpo.sft_weight] if dpo.sft_weight else None,
    )
    if kept is not None:
        parts["references"] = kept
    return _alone(Dpo(ref_model=anchor, args=args, **parts))


def lora(config: Config, model: Any) -> LoraConfig:
    settings = config.train.lora
    targets = presets.lora(settings.targets, settings.dropout, model)
    sizes = {"r": settings.r, "lora_alpha": settings.alpha, "lora_dropout": settings.dropout}
    return LoraConfig(**sizes, task_type="CAUSAL_LM", **targets)


def references(config: Config, reference: str | Path, folder: Path) -> References | None:
    """None for a model that is known by name only: what it stands for may change."""
    if not Path(reference).is_dir():
        return None
    precision = "bf16" if in_bf16(config.hardware) else "fp32"
    return References(folder, (weights_id(reference), precision, libraries()))


def in_bf16(hardware: Hardware) -> bool:
    """Whether training's matrix products run in bfloat16 (autocast: weights, optimiser and norms stay float32): as the
    config says, or else on a GPU that can, and on a CPU where the probe says so."""
    if hardware.precision != "auto":
        return hardware.precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return probe(threads(hardware, processes())).bf16_wins


def libraries() -> str:
    from importlib.metadata import version

    return f"trl {version('trl')}, peft {version('peft')}, transformers {version('transformers')}"


def _batch(kind: str, config: Config) -> int:
    """Rows of a step; a pair of the config is two of KTO's."""
    return config.train.sft.batch if kind == "sft" else config.train.dpo.batch * (2 if kind == "kto" else 1)


def _options(kind: str, config: Config, model: Any, rows: int, out: Path) -> dict[str, Any]:
    """What SFT, DPO and KTO are told alike."""
    settings = config.train.sft if kind == "sft" else config.train.dpo
    batch = _batch(kind, config)
    steps = max(1, math.ceil(rows / batch * settings.epochs))
    warmup = config.train.sft.warmup_ratio if kind == "sft" else 0.05
    return {
        "output_dir": str(out),
        "learning_rate": learning_rate(kind, config, model),
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": share(batch),
        "max_length": None,
        "remove_unused_columns": False,
        "gradient_checkpointing": False,
        "bf16": in_bf16(config.hardware),
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": False,
        "seed": config.seed,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 5,
        "logging_nan_inf_filter": False,  # a loss that is no number is to be seen
        "save_strategy": "steps",
        "save_steps": max(10, steps // 3),
        "save_total_limit": 1,
        "warmup_steps": min(max(1, int(warmup * steps)), steps - 1)
        if warmup
        else 0,  # a first step of 0 teaches nothing
    }


def _of_preferences(kind: str, config: Config) -> dict[str, Any]:
    """What DPO and KTO are told besides, over what `_options` has. ConfigError for a batch that can't be shared."""
    batch = _batch(kind, config)
    each = share(batch)
    least = 2 if kind == "kto" else 1  # whose estimate of the distance takes another row's reply
    if each < least:
        raise ConfigError(
            f"train.dpo.batch is {config.train.dpo.batch}, which {processes()} processes can't share: kto needs a pair "
            f"for each; give {processes()} or a multiple"
        )
    halved = not torch.cuda.is_available() and each % 2 == 0 and each // 2 >= least
    passes = 2 if halved else 1  # a pair is two rows: half the memory
    return {
        "per_device_train_batch_size": each // passes,
        "gradient_accumulation_steps": passes,
        "beta": beta(config),
        "precompute_ref_log_probs": True,
        "precompute_ref_batch_size": 2 * batch,
    }


def _alone(trainer: Any) -> Any:
    """Without the reference model, whose log-probabilities are in the rows by now."""
    anchor, trainer.ref_model = trainer.ref_model, None
    if anchor is not None and anchor in trainer.accelerator._models:
        trainer.accelerator._models.remove(anchor)
    return trainer
