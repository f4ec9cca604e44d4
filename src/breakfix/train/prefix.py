"""The tokens that all rows of a batch begin with (system prompt, template) run once a step, not once a row; exactly.

`SharedPrefix(model)` stands in for the model in a TRL trainer's loss. The prefix runs with batch size 1 *with*
gradient, its keys and values are expanded over the batch (autograd sums them back), and the rest runs on top: loss and
gradients are those of the plain forward (tests/test_train.py), for SmolLM2's 31-token preamble at a third less work.
Our own, after prefix sharing in DPO (2410.20305), which shares a pair's prompt; here the whole batch shares it.
Only models whose cache is plain full attention and that are given right-padded rows; others run as they are.
"""
# pyright: basic
# (transformers' caches are half untyped)

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

WORTH = 8  # tokens


class SharedPrefix:
    """Callable like the model; everything else is the model's own."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, **inputs: Any) -> Any:
        shared = self._shared(inputs)
        if shared < WORTH:
            return self._model(**inputs)
        ids = inputs["input_ids"]
        cache = DynamicCache(config=self._model.config)
        self._backbone()(input_ids=ids[:1, :shared], past_key_values=cache, use_cache=True)
        layers: list[Any] = cache.layers
        for layer in layers:
            layer.keys = layer.keys.expand(ids.shape[0], -1, -1, -1)
            layer.values = layer.values.expand(ids.shape[0], -1, -1, -1)
        rest = {
            **inputs,
            "input_ids": ids[:, shared:],
            "labels": inputs["labels"][:, shared:],
            "past_key_values": cache,
        }
        return _padded(self._model(**rest), shared)

    def _backbone(self) -> Any:
        inner = self._model.get_base_model() if hasattr(self._model, "get_base_model") else self._model
        return inner.base_model

    def _shared(self, inputs: dict[str, Any]) -> int:
        """Leading tokens that every row has in common, all of them without a label and followed by one without."""
        ids, labels = inputs.get("input_ids"), inputs.get("labels")
        if ids is None or labels is None or ids.shape[0] < 2 or self._checkpointing():
            return 0
        if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=self._model.config).layers):
            return 0
        same = (ids == ids[:1]).all(dim=0) & (labels == -100).all(dim=0)
        differs = (~same).nonzero()
        length = int(differs[0]) if len(differs) else 0
        return max(0, length - 1)

    def _checkpointing(self) -> bool:
        new = getattr(self._model, "is_activation_checkpointing", None)  # transformers 5.20 on
        return bool(getattr(self._model, "is_gradient_checkpointing", False) if new is None else new)


def _padded(output: Any, shared: int) -> Any:
    """The per-token fields, with zeros where the prefix was (as TRL's fused head gives for unlabelled positions)."""
    changes = {
        field.name: torch.nn.functional.pad(value, (shared, 0))
        for field in dataclasses.fields(output)
        if isinstance(value := getattr(output, field.name), torch.Tensor) and value.dim() == 2
    }
    return dataclasses.replace(output, **changes)
