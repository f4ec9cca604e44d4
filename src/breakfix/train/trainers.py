"""TRL's trainers, told to take rows that are already tokens and to score completion positions only.

TRL scores every position, prompt and padding included, wherever Triton is missing (trl/trainer/utils.py, 1.16); on a
CPU that is a fifth of the work and most of the memory. `compact_head` switches the same code to the positions that
carry loss; `tests/test_train_speed.py` shows that the loss and gradients are those of the stock trainer.
"""
# pyright: basic, reportPrivateImportUsage=false
# (trl is half untyped and exports lazily)

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
import trl.trainer.utils as trl_utils
from datasets import Dataset
from transformers import TrainerCallback
from trl import DPOTrainer, SFTTrainer

from .head import FewRows
from .launch import beside, in_pieces
from .lean import lean
from .order import KIND, Stratified
from .prefix import once
from .references import References
from .weights import COLUMN, Weighed


@contextlib.contextmanager
def compact_head() -> Generator[None]:
    """Let TRL's fused LM head score only labelled positions on this device too, in few passes."""
    stock: Any = trl_utils._use_triton, trl_utils._ChunkedLogProbFunction
    trl_utils._use_triton, trl_utils._ChunkedLogProbFunction = lambda device: True, FewRows
    try:
        yield
    finally:
        trl_utils._use_triton, trl_utils._ChunkedLogProbFunction = stock


@contextlib.contextmanager
def sparing(model: Any) -> Generator[None]:
    """Within: no work that changes nothing in the loss."""
    with compact_head(), contextlib.ExitStack() as stack:
        for way in () if in_pieces(model) or _checkpointing(model) else (once, lean):
            stack.enter_context(way(model))
        yield


def _checkpointing(model: Any) -> bool:
    """Whether layers run again in the backward pass, when the stock ones are back."""
    new = getattr(model, "is_activation_checkpointing", None)  # transformers 5.20 on
    return bool(getattr(model, "is_gradient_checkpointing", False) if new is None else new)


MOST_TOKENS = 2048  # in one pass on a CPU, padding included: about 4 GB of activations for a model of 135M


def pieces(inputs: dict[str, Any], most: int) -> list[dict[str, Any]]:
    """The batch in parts of at most `most` tokens (one row at least), so that long rows cost time and not memory."""
    rows, width = inputs["input_ids"].shape
    each = max(1, most // width)
    return [
        {k: v[at : at + each] if torch.is_tensor(v) and v.shape[:1] == (rows,) else v for k, v in inputs.items()}
        for at in range(0, rows, each)
    ]


class Ordered:
    """A trainer whose rows come in batches that hold the kinds in their shares (order.py): a step's rows are the same
    however many processes share them (but in an epoch's last, short step, which accelerate fills up for several from
    the epoch's first rows). Goes before the trainer's class. `lengthy`: the column of tokens that is long."""

    args: Any
    train_dataset: Any
    lengthy: str
    order: Stratified | None = None

    def _get_train_sampler(self, train_dataset: Any = None) -> Stratified:
        rows, args = self.train_dataset if train_dataset is None else train_dataset, self.args
        kinds = rows[KIND] if KIND in rows.column_names else [""] * len(rows)
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        self.order = Stratified(kinds, [len(ids) for ids in rows[self.lengthy]], batch, args.seed)
        return self.order


class Epochs(TrainerCallback):
    """Tells the order of the rows which epoch it is. transformers does where one process trains from the start; what it
    makes to go on within an epoch, for several processes, hides the sampler from it."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if (order := getattr(self.trainer, "order", None)) is not None:
            order.set_epoch(int(state.epoch or 0))


class Sft(Ordered, SFTTrainer):
    """SFTTrainer on rows {input_ids, labels}, and perhaps token_weights (weights.py)."""

    lengthy = "input_ids"

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """The loss is a sum over trained tokens ÷ their number in the batch: the parts' losses and gradients add up."""
        whole = num_items_in_batch is None or not self.args.use_cpu or self.args.world_size > 1
        parts = [inputs] if whole else pieces(inputs, MOST_TOKENS)
        losses = [super(Sft, self).training_step(model, part, num_items_in_batch) for part in parts]
        return torch.stack(losses).sum()

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        weights, rest = inputs.get(COLUMN), {key: value for key, value in inputs.items() if key != COLUMN}
        weighed: Any = model if weights is None else Weighed(model, weights)
        with sparing(self.accelerator.unwrap_model(model)):
            return super().compute_loss(weighed, rest, *args, **kwargs)


class Preferred:
    """What TRL's trainers of preferences, DPOTrainer and KTOTrainer, have in common here; goes before one of them."""

    args: Any
    accelerator: Any

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        with sparing(self.accelerator.unwrap_model(model)):
            return super().compute_loss(model, *args, **kwargs)  # type: ignore[misc]

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        with sparing(self.accelerator.unwrap_model(model)):
            return super().compute_ref_log_probs(model, inputs)  # type: ignore[misc]

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """The first process writes the figures into a file, which the others read; rows in memory would give it a
        name of its own in each."""
        if self.accelerator.num_processes > 1:
            folder = beside(Path(str(self.args.output_dir)))
            folder.mkdir(parents=True, exist_ok=True)
            dataset._get_cache_file_path = lambda fingerprint: str(folder / f"references-{fingerprint}.arrow")
        return super()._precompute_ref_logps(dataset, *args, **kwargs)  # type: ignore[misc]


class Dpo(Ordered, Preferred, DPOTrainer):
    """DPOTrainer on rows {prompt_ids, chosen_ids, rejected_ids}. `references`: keeps the figures of the reference."""

    lengthy = "prompt_ids"

    def __init__(self, *args: Any, references: References | None = None, **kwargs: Any) -> None:
        self.references = references
        super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(dataset, Dataset) and "prompt_ids" in dataset.column_names:
            return dataset
        return super()._prepare_dataset(dataset, *args, **kwargs)

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        if self.references is None:
            return super()._precompute_ref_logps(dataset, *args, **kwargs)
        rows = list(dataset)
        found = self.references.find(rows)
        if found is None:
            made = super()._precompute_ref_logps(dataset, *args, **kwargs)
            if self.accelerator.is_main_process:
                self.references.keep(rows, made["ref_chosen_logps"], made["ref_rejected_logps"])
            return made
        chosen, rejected = found
        return dataset.add_column("ref_chosen_logps", chosen).add_column("ref_rejected_logps", rejected)
