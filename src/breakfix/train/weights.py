"""Some tokens weigh more in the loss of SFT than others: exactly, whatever the batches and their parts.

TRL's loss is the sum of the tokens' losses ÷ the trained tokens of the batch. Here it is the weighted sum ÷ the same
number, with weights whose mean over the whole data set is 1: the loss keeps its scale, batches keep their share, and
parts of a batch still add up. A data set whose weights are all alike is trained as it is without any.
"""
# pyright: basic
# (torch and transformers are half untyped)

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

COLUMN = "token_weights"  # of a row, and of a batch


def weigh(
    rows: Sequence[dict[str, Any]],
    kinds: Sequence[str],
    whole: Sequence[bool],
    *,
    first: int,
    first_weight: float,
    row_weight: Mapping[str, float],
) -> None:
    """Give each row its weights, one a token, unless all are alike.

    A row weighs as its kind does; the first `first` trained tokens of one that is learnt whole weigh `first_weight`
    times that. After 2406.05946, which weighs them in the constraint of its loss.
    """
    found = [
        _weights(row["labels"], row_weight.get(kind, 1.0), first if all else 0, first_weight)
        for row, kind, all in zip(rows, kinds, whole, strict=True)
    ]
    trained = [weight for row in found for weight in row if weight]
    if len(set(trained)) < 2:
        return
    mean = sum(trained) / len(trained)
    for row, weights in zip(rows, found, strict=True):
        row[COLUMN] = [weight / mean for weight in weights]


def _weights(labels: Sequence[int], weight: float, first: int, more: float) -> list[float]:
    """0 where nothing is trained."""
    found: list[float] = []
    seen = 0
    for label in labels:
        seen += label != -100
        found.append(0.0 if label == -100 else weight * (more if seen <= first else 1.0))
    return found


class Collate:
    """TRL's collator, and the weights beside the tokens: batch[COLUMN], float32 [rows, width]."""

    def __init__(self, stock: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self.stock = stock

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.stock(examples)
        weights = torch.zeros(batch["input_ids"].shape)
        for row, example in zip(weights, examples, strict=True):
            row[: len(example[COLUMN])] = torch.tensor(example[COLUMN])
        return {**batch, COLUMN: weights}


class Weighed:
    """Callable like the model; the log-probabilities that it gives are weighted. Everything else is the model's own."""

    def __init__(self, model: Any, weights: torch.Tensor) -> None:
        self._model, self._weights = model, weights

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, **inputs: Any) -> Any:
        output = self._model(**inputs)
        weights = self._weights[:, -output.log_probs.shape[1] :]  # the first token of a row is not predicted
        return dataclasses.replace(output, log_probs=output.log_probs * weights.to(output.log_probs))
