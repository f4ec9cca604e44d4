"""TRL's trainers, told to take rows that are already tokens and to score completion positions only.

TRL scores every position, prompt and padding included, wherever Triton is missing (trl/trainer/utils.py, 1.16); on a
CPU that is a fifth of the work and most of the memory. `compact_head` switches the same code to the positions that
carry loss; `tests/test_train.py` shows that the loss and gradients are those of the stock trainer.
"""
# pyright: basic, reportPrivateImportUsage=false
# (trl is half untyped and exports lazily)

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

import trl.trainer.utils as trl_utils
from datasets import Dataset
from trl import DPOTrainer, SFTTrainer

from .prefix import SharedPrefix


@contextlib.contextmanager
def compact_head() -> Generator[None]:
    """Let TRL's fused LM head score only labelled positions on this device too."""
    stock = trl_utils._use_triton
    trl_utils._use_triton = lambda device: True
    try:
        yield
    finally:
        trl_utils._use_triton = stock


class Sft(SFTTrainer):
    """SFTTrainer on rows {input_ids, labels}."""

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        shared: Any = SharedPrefix(model)
        with compact_head():
            return super().compute_loss(shared, *args, **kwargs)


class Dpo(DPOTrainer):
    """DPOTrainer on rows {prompt_ids, chosen_ids, rejected_ids}."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(dataset, Dataset) and "prompt_ids" in dataset.column_names:
            return dataset
        return super()._prepare_dataset(dataset, *args, **kwargs)

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        shared: Any = SharedPrefix(model)
        with compact_head():
            return super().compute_loss(shared, *args, **kwargs)

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        with compact_head():
            return super().compute_ref_log_probs(SharedPrefix(model), inputs)
