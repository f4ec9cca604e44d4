"""One fit by TRL: SFT or DPO, LoRA or all weights. This file knows TRL's options; nothing else does.

Automatic learning rates are what dev runs on a 135M model found for hundreds of steps (LOG, 2026-11-25). They fall with
the model's width as was measured for Llama ("LoRA Without Regret", Thinking Machines 2025): width ** -0.775.
"""
# pyright: basic, reportPrivateImportUsage=false
# (trl, peft and datasets are half untyped and export lazily)

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback, TrainerCallback
from transformers.utils import logging as transformers_logging
from trl import DPOConfig, SFTConfig

from ..config import Config, Hardware
from ..core import Example
from ..models.hf import cores, load_pretrained
from ..models.precision import probe
from ..models.render import training_row
from . import presets
from .launch import gathered, share
from .preflight import check_first_loss, check_rows, check_template
from .rows import dpo_rows, sft_rows
from .trainers import Dpo, Sft

Log = Callable[[int, int, dict[str, float]], None]
RATES = {("sft", "lora"): 2e-3, ("sft", "full"): 4e-5, ("dpo", "lora"): 1e-4, ("dpo", "full"): 2e-6}  # at WIDTH
WIDTH, FALL = 576, 0.775
KEPT = ("loss", "grad_norm", "learning_rate", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected",
        "mean_token_accuracy", "entropy")  # fmt: skip


def fit(kind: str, config: Config, policy: Path, examples: Sequence[Example], out: Path, log: Log) -> dict[str, Any]:
    """Train, and save merged weights in `out` (safetensors). Goes on from the last checkpoint in `out`, if any."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")  # `log` tells how far it is; TRL and transformers shall not, too
    disable_progress_bar()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(config.hardware.threads or cores())
    model, tokenizer = load_pretrained(policy)
    settings = config.train.sft if kind == "sft" else config.train.dpo
    if kind == "sft":
        rows, shortened = sft_rows(
            tokenizer, examples, settings.max_length, config.train.sft.first_tokens, config.train.sft.whole_share
        )
        preflight: dict[str, Any] = check_rows(tokenizer, examples, rows)
    else:
        rows, shortened = dpo_rows(tokenizer, examples, settings.max_length, config.train.dpo.completion_tokens)
        preflight = {"rows": len(rows)}
        pairs = [example for example in examples if example.rejected is not None]
        whole = [training_row(tokenizer, example.prompt, example.reply) for example in pairs]
        check_template(tokenizer, pairs, [[*row.prompt, *row.completion] for row in whole])
    lora = _lora(config, model) if config.train.method == "lora" else None
    watch = _Watch(log)
    with warnings.catch_warnings(), presets.settled(model):
        warnings.simplefilter("ignore")
        trainer = _trainer(kind, config, model, tokenizer, rows, lora, out)
        trainer.remove_callback(PrinterCallback)  # prints every log line to stdout
        trainer.add_callback(watch)
        if kind == "dpo":
            preflight["first_loss"] = check_first_loss(first_loss(trainer))
        began = time.monotonic()
        trainer.train(resume_from_checkpoint=_checkpoint(out))
    seconds = time.monotonic() - began
    merged = gathered(trainer, lambda: _fresh(policy, lora))
    if merged is not None:
        merged.save_pretrained(out)
        tokenizer.save_pretrained(out)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "rows": len(rows),
        "shortened": [{"id": s.id, "lost": s.lost} for s in shortened],
        "steps": trainer.state.global_step,
        "seconds": seconds,
        "learning_rate": learning_rate(kind, config, model),
        "loss": {"first": losses[0] if losses else None, "last": losses[-1] if losses else None},
        "preflight": preflight,
        "family": presets.facts(model.config),
        "trl": _version(),
    }


def first_loss(trainer: Any) -> float:
    """The sigmoid part of DPO's loss on the first batch, before any step."""
    batch = next(iter(trainer.get_train_dataloader()))
    types, weights = trainer.loss_types, trainer.loss_weights
    trainer.loss_types, trainer.loss_weights = ["sigmoid"], [1.0]
    try:
        with torch.no_grad():
            return float(trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch)))
    finally:
        trainer.loss_types, trainer.loss_weights = types, weights


def _trainer(kind: str, config: Config, model: Any, tokenizer: Any, rows: Any, lora: Any, out: Path) -> Any:
    settings: Any = config.train.sft if kind == "sft" else config.train.dpo
    steps = max(1, math.ceil(len(rows) / settings.batch * settings.epochs))
    warmup = config.train.sft.warmup_ratio if kind == "sft" else 0.05
    common: dict[str, Any] = {
        "output_dir": str(out),
        "learning_rate": learning_rate(kind, config, model),
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": share(settings.batch),
        "max_length": None,
        "remove_unused_columns": False,
        "gradient_checkpointing": False,
        "bf16": torch.cuda.is_available() or in_bf16(config.hardware),
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": False,
        "seed": config.seed,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 5,
        "save_strategy": "steps",
        "save_steps": max(10, steps // 3),
        "save_total_limit": 1,
        "warmup_steps": max(1, int(warmup * steps)),
    }
    data = Dataset.from_list(list(rows))
    if kind == "sft":
        args = SFTConfig(
            **common,
            train_sampling_strategy="group_by_length",
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        return Sft(model=model, args=args, train_dataset=data, processing_class=tokenizer, peft_config=lora)
    dpo = config.train.dpo
    each = share(dpo.batch)
    passes = 2 if common["use_cpu"] and each % 2 == 0 else 1  # a pair is two rows: half the memory
    common |= {"per_device_train_batch_size": each // passes, "gradient_accumulation_steps": passes}
    args = DPOConfig(
        **common,
        beta=dpo.beta,
        loss_type=["sigmoid", "sft"] if dpo.sft_weight else ["sigmoid"],
        loss_weights=[1.0, dpo.sft_weight] if dpo.sft_weight else None,
        precompute_ref_log_probs=True,
        precompute_ref_batch_size=2 * dpo.batch,
    )
    return Dpo(model=model, args=args, train_dataset=data, processing_class=tokenizer, peft_config=lora)


def learning_rate(kind: str, config: Config, model: Any) -> float:
    """The config's, else that of the method, lower for wider models (never higher for narrower ones)."""
    settings = config.train.sft if kind == "sft" else config.train.dpo
    width = model.config.get_text_config().hidden_size
    return settings.learning_rate or RATES[kind, config.train.method] * min(1.0, (WIDTH / width) ** FALL)


def in_bf16(hardware: Hardware) -> bool:
    """Whether matrix products run in bfloat16 (autocast: weights, optimiser and norms stay float32)."""
    if hardware.precision != "auto":
        return hardware.precision == "bf16"
    return probe(hardware.threads or cores()).bf16_wins


def _lora(config: Config, model: Any) -> LoraConfig:
    lora = config.train.lora
    targets = presets.lora(lora.targets, lora.dropout, model)
    return LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, task_type="CAUSAL_LM", **targets)


def _fresh(policy: Path, lora: LoraConfig | None) -> Any:
    """The model as it was before training, on the CPU, with adapters that are yet to be filled."""
    model, _ = load_pretrained(policy)
    return model if lora is None else get_peft_model(model, lora)


def _checkpoint(out: Path) -> str | None:
    """The last whole checkpoint, if training was interrupted. A checkpoint's trainer state is written last."""
    found = [p for p in out.glob("checkpoint-*") if _is_json(p / "trainer_state.json")]
    return str(max(found, key=lambda p: int(p.name.split("-")[-1]))) if found else None


def _is_json(path: Path) -> bool:
    """Whether the file is there, and whole."""
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return True


class _Watch(TrainerCallback):
    """Tells `log` of every step and every logged figure."""

    def __init__(self, log: Log) -> None:
        self.tell = log

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.tell(state.global_step, state.max_steps, {})

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        figures = {k: float(v) for k, v in (logs or {}).items() if k in KEPT}
        if figures:
            self.tell(state.global_step, state.max_steps, figures)


def _version() -> str:
    from importlib.metadata import version

    return f"trl {version('trl')}, peft {version('peft')}, transformers {version('transformers')}"
