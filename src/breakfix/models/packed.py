"""Weights laid out once as oneDNN wants them, instead of at every product: the same numbers to the bit, sooner.

torch's bf16 linear on a CPU reorders the weight each time it is called; for the few rows of a decoding step that is a
good part of the work (a fifth at 128 rows, more than a third at 32). What torch.compile does when it freezes a model,
without compiling. Where gradients are wanted the plain product runs.
"""

# pyright: basic, reportPrivateImportUsage=false
# torch's operators have no types

from __future__ import annotations

import functools
from typing import Any

import torch

LARGEST = 2**30  # bytes of weights: the layout is a second copy of them
ROWS = 128  # the number of rows that the layout is chosen for; others work as well


def pack(model: Any) -> int:
    """Give every linear layer of a bf16 model on a CPU its laid-out copy; how many got one (0: nothing was changed)."""
    layers = [module for module in model.modules() if type(module) is torch.nn.Linear]
    size = sum(layer.weight.numel() * layer.weight.element_size() for layer in layers)
    if model.device.type != "cpu" or model.dtype != torch.bfloat16 or size > LARGEST:
        return 0
    try:
        with torch.inference_mode():
            copies = [torch.ops.mkldnn._reorder_linear_weight(layer.weight, ROWS) for layer in layers]
            for layer, copy in list(zip(layers, copies, strict=True))[:1]:
                _product(layer, copy, torch.zeros(1, layer.in_features, dtype=torch.bfloat16))
    except (RuntimeError, AttributeError, NotImplementedError):  # a torch without oneDNN, or with other operators
        return 0
    for layer, copy in zip(layers, copies, strict=True):
        layer.forward = functools.partial(_forward, layer, copy)
    return len(layers)


def _forward(layer: torch.nn.Linear, copy: torch.Tensor, input: torch.Tensor) -> torch.Tensor:
    if torch.is_grad_enabled() or input.dtype != torch.bfloat16:
        return torch.nn.functional.linear(input, layer.weight, layer.bias)
    return _product(layer, copy, input)


def _product(layer: torch.nn.Linear, copy: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, copy, layer.bias, "none", [], "")
