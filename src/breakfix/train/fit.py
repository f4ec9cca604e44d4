"""One fit by TRL: SFT, DPO or KTO, LoRA or all weights; checked before its first step, watched, and saved whole."""
# pyright: basic, reportPrivateImportUsage=false
# (trl, peft and datasets are half untyped and export lazily)

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets.utils.logging import disable_progress_bar
from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback, TrainerCallback
from transformers.utils import logging as transformers_logging

from ..config import Config
from ..core import Example
from ..errors import UserError
from ..models.hf import load_pretrained
from ..models.identity import save_tokenizer
from ..models.render import training_row
from . import options, presets
from .alarms import Alarm, Alarms, Aside, Replies
from .kto import Kto
from .launch import gathered, processes, sharded, stops_nowhere, threads
from .preflight import FIRST, TrainingRefused, check_first_loss, check_rows, check_template
from .rates import beta, learning_rate
from .recipes import learnt as learnt_from
from .rows import dpo_rows, kto_rows, sft_rows
from .trainers import Epochs

Log = Callable[[int, int, dict[str, float]], None]
KEPT = ("loss", "grad_norm", "learning_rate", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected",
        "mean_token_accuracy", "entropy", "rewards/chosen", "rewards/rejected", "kl")  # fmt: skip


def fit(
    kind: str,
    config: Config,
    policy: Path,
    examples: Sequence[Example],
    out: Path,
    log: Log,
    *,
    reference: str | Path | None = None,
    before: Mapping[str, Any] | None = None,
    references: Path | None = None,
    learnt: Collection[str] | None = None,
) -> dict[str, Any]:
    """Train, and save merged weights in `out` (safetensors). Goes on from the last checkpoint in `out`, if any.

    `kind`: sft, dpo or kto. `reference`: the model that the latter two keep near; None: the policy as it is now.
    `references`: a folder where DPO keeps what the reference makes of its pairs, and finds it (references.py).
    `before`: the record of the fit that made the policy, if there was one just before. `learnt`: recipes.learnt of all
    that the round learns from (None: of the examples), whose prompts are no measure of it. An alarm (alarms.py) may end
    it early; then `out` has the weights of the last checkpoint before it, or the policy's. UserError where the loss is
    no number.
    """
    _quiet()
    torch.set_num_threads(threads(config.hardware, processes()))
    model, tokenizer = load_pretrained(policy)
    rows, shortened = _rows(kind, config, tokenizer, examples)
    preflight = _preflight(kind, tokenizer, examples, rows, config.train.dpo.max_length)
    lora = options.lora(config, model) if config.train.method == "lora" else None
    watch = _Watch(log)
    with warnings.catch_warnings(), presets.settled(model):
        warnings.simplefilter("ignore")
        known = None if references is None else options.references(config, reference or policy, references)
        trainer = options.trainer(kind, config, model, tokenizer, rows, lora, out, reference, known)
        if config.train.stop_on_alarm and sharded(trainer):
            raise stops_nowhere(config.train.launch_config)
        trainer.remove_callback(PrinterCallback)  # prints every log line to stdout
        trainer.add_callback(watch)
        trainer.add_callback(Epochs(trainer))
        if kind != "sft":
            preflight["first_loss"] = _first_loss(kind, config, trainer, reference)
        taught = learnt_from(examples) if learnt is None else set(learnt)
        alarms = _alarms(kind, config, tokenizer, taught, log, before, reference, out)
        if alarms is not None:
            trainer.add_callback(alarms)
        began = time.monotonic()
        ended = trainer.train(resume_from_checkpoint=_checkpoint(out))
    seconds = time.monotonic() - began
    stopped = alarms.stopped if alarms is not None and not sharded(trainer) else None
    kept = _kept(kind, config, trainer, out, stopped, ended.training_loss)
    _save(_merged(trainer, policy, lora, kept), tokenizer, out, lambda: _no_number(kind, config, trainer))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "rows": len(rows),
        "shortened": [{"id": s.id, "lost": s.lost} for s in shortened],
        "steps": trainer.state.global_step,
        "seconds": seconds,
        "learning_rate": learning_rate(kind, config, model),
        **({} if kind == "sft" else {"beta": beta(config)}),
        "loss": {"first": losses[0] if losses else None, "last": losses[-1] if losses else None},
        "preflight": preflight,
        **({} if alarms is None else alarms.record()),
        **({} if kept is None else {"stopped": {"kept_step": kept}}),
        "family": presets.facts(model.config),
        "trl": options.libraries(),
    }


def _quiet() -> None:
    """`log` tells how far it is; TRL and transformers shall not, too."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    disable_progress_bar()
    transformers_logging.disable_progress_bar()


def _preflight(kind: str, tokenizer: Any, examples: Sequence[Example], rows: Any, longest: int) -> dict[str, Any]:
    """What the checks of the rows found, before there is a trainer."""
    if kind == "sft":
        return check_rows(tokenizer, examples, rows)
    if not rows:
        raise TrainingRefused(
            f"no row of {kind} has room for a reply; expected at least one; raise dpo.max_length (it is {longest})"
        )
    pairs = [example for example in examples if kind == "kto" or example.rejected is not None]
    closed = [training_row(tokenizer, example.prompt, example.reply) for example in pairs]
    check_template(tokenizer, pairs, [[*row.prompt, *row.completion] for row in closed])
    return {"rows": len(rows)}


def _alarms(
    kind: str,
    config: Config,
    tokenizer: Any,
    learnt: Collection[str],
    log: Log,
    before: Mapping[str, Any] | None,
    reference: str | Path | None,
    out: Path,
) -> Alarms | None:
    if not config.train.alarms:
        return None
    return Alarms(
        kind,
        log,
        beta=beta(config),
        aside=Aside(tokenizer, learnt, bf16=options.in_bf16(config.hardware)) if processes() == 1 else None,
        before=Replies.of(before or {}),
        start=0.0 if reference is None else None,
        stop=config.train.stop_on_alarm,
        folder=out,
        keeps=int(os.environ.get("RANK", "0")) == 0,
    )


def _kept(kind: str, config: Config, trainer: Any, out: Path, stopped: Alarm | None, loss: float) -> int | None:
    """The step whose weights are kept where an alarm ended the training; None: it went to its end. UserError where the
    loss is no number."""
    if stopped is not None:
        return _back(kind, config, trainer, out, stopped)
    if not math.isfinite(loss):
        raise _no_number(kind, config, trainer)
    return None


def _save(merged: Any, tokenizer: Any, out: Path, wrong: Callable[[], UserError]) -> None:
    """Write the merged weights (None: another process does); `wrong` is raised where they are no numbers."""
    if merged is None:
        return
    if not all(bool(weight.isfinite().all()) for weight in merged.parameters()):  # no loss tells of the last step
        raise wrong()
    merged.save_pretrained(out)
    save_tokenizer(tokenizer, out)


def _back(kind: str, config: Config, trainer: Any, out: Path, alarm: Alarm) -> int:
    """Give the trainer's model the weights of its last whole checkpoint, and say of which step; 0: there is none.

    UserError where the loss is no number and no checkpoint was saved before that.
    """
    found = _checkpoint(out)
    if found is not None:
        trainer._load_from_checkpoint(found)
        return int(found.rsplit("-", 1)[1])
    if alarm.name != "loss":
        return 0
    raise _no_number(kind, config, trainer)


def _merged(trainer: Any, policy: Path, lora: LoraConfig | None, kept: int | None) -> Any:
    """What is to be saved, whole, on the first process; None on the others. `kept` is 0: the policy as it was."""
    if kept != 0:
        return gathered(trainer, lambda: _fresh(policy, lora), last=kept is None)
    return load_pretrained(policy)[0] if trainer.accelerator.is_main_process else None


def _no_number(kind: str, config: Config, trainer: Any) -> UserError:
    part, rate = "sft" if kind == "sft" else "dpo", learning_rate(kind, config, trainer.model)
    return UserError(
        f"training ({kind}) went wrong by step {trainer.state.global_step}: the loss is not a number; lower "
        f"train.{part}.learning_rate (it is {rate:.2g}), then run again"
    )


def _finite(checkpoint: Path) -> bool:
    """Whether all its weights are numbers."""
    from safetensors.torch import load_file

    return all(
        bool(tensor.isfinite().all())
        for file in checkpoint.glob("*.safetensors")
        for tensor in load_file(file).values()
    )


def _rows(kind: str, config: Config, tokenizer: Any, examples: Sequence[Example]) -> Any:
    """(rows, what was shortened)"""
    sft, dpo = config.train.sft, config.train.dpo
    if kind == "sft":
        return sft_rows(
            tokenizer,
            examples,
            sft.max_length,
            sft.first_tokens,
            sft.whole_share,
            sft.first_weight,
            {**sft.row_weight},
        )
    if kind == "kto":
        return kto_rows(tokenizer, examples, dpo.max_length, dpo.completion_tokens, config.seed)
    return dpo_rows(tokenizer, examples, dpo.max_length, dpo.completion_tokens)


def _first_loss(kind: str, config: Config, trainer: Any, reference: str | Path | None) -> float:
    """Checked, unless the reference is another model: then nothing but that it is a number can be."""
    loss, weight = first_loss(trainer)
    if reference is not None:
        if not math.isfinite(loss):
            raise TrainingRefused(f"the first {kind.upper()} loss is {loss}; expected a number; look at the reference")
        return loss
    if kind == "kto":
        return check_first_loss(loss, weight / 2, "half the weight of a row", "KTO")
    expected, written = FIRST[config.train.dpo.loss]
    name = "DPO" if config.train.dpo.loss == "sigmoid" else config.train.dpo.loss
    return check_first_loss(loss, expected(beta(config)), written, name)


def first_loss(trainer: Any) -> tuple[float, float]:
    """(the preference loss on the first batch before any step, the SFT term left out; mean weight of its rows, 1 but in
    KTO). In the precision of the steps to come, as the reference's: in bfloat16 a long reply is a nat off float32."""
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    if isinstance(trainer, Kto):
        good = batch["label"].float().mean().item()
        with torch.no_grad(), trainer.accelerator.autocast():
            loss = float(trainer.compute_loss(trainer.model, batch))
        return loss, good * trainer.desirable_weight + (1 - good) * trainer.undesirable_weight
    types, weights = trainer.loss_types, trainer.loss_weights
    trainer.loss_types, trainer.loss_weights = types[:1], [1.0]
    try:
        with torch.no_grad(), trainer.accelerator.autocast():
            return float(trainer.compute_loss(trainer.model, batch)), 1.0
    finally:
        trainer.loss_types, trainer.loss_weights = types, weights


def _fresh(policy: Path, lora: LoraConfig | None) -> Any:
    """The model as it was before training, on the CPU, with adapters that are yet to be filled."""
    model, _ = load_pretrained(policy)
    return model if lora is None else get_peft_model(model, lora)


def _checkpoint(out: Path) -> str | None:
    """The last whole checkpoint whose weights are numbers, if training was interrupted. A checkpoint's trainer state is
    written last."""
    found = [p for p in out.glob("checkpoint-*") if _is_json(p / "trainer_state.json")]
    last_first = sorted(found, key=lambda p: int(p.name.split("-")[-1]), reverse=True)
    return next((str(p) for p in last_first if _finite(p)), None)


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
