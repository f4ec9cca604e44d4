"""KTO by TRL: replies that are good, and replies that are not, which need not come in pairs (2402.01306).

TRL's KTOTrainer (1.16: trl/trainer/kto_trainer.py) on rows that are already tokens. It estimates the distance from the
reference on replies to other prompts: those of the same batch, moved on by one. So rows come in one order, mixed.
"""
# pyright: basic, reportPrivateImportUsage=false
# (trl is half untyped and exports lazily)

from __future__ import annotations

from typing import Any

from datasets import Dataset
from trl import KTOTrainer

from .trainers import Preferred


class Kto(Preferred, KTOTrainer):
    """KTOTrainer on rows {prompt_ids, completion_ids, label}; label: the reply is a good one."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        if not (isinstance(dataset, Dataset) and "prompt_ids" in dataset.column_names):
            return super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        if not self.calculate_KL:
            return dataset
        size, said = args.per_device_train_batch_size, dataset["completion_ids"]
        batches = [list(said[at : at + size]) for at in range(0, len(said), size)]
        moved = [reply for batch in batches for reply in (batch[-1], *batch[:-1])]
        return dataset.add_column("KL_completion_ids", moved)


def balance(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """(weight of good replies, of others), so that both sides count alike (eq. 8 of the paper, its lower bound)."""
    good = sum(row["label"] for row in rows)
    bad = len(rows) - good
    if not good or not bad:
        return 1.0, 1.0
    return min(1.0, bad / good), min(1.0, good / bad)
