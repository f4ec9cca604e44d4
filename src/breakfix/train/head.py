"""The last step of a language model with a frozen head on a CPU: log-probabilities of labels, in few passes.

TRL's `ChunkedLogProbFunction` in a form for few rows: logits are kept for the backward pass instead of being computed
again, their gradient goes through the head in the precision of all other products, and the head's rounded weights are
kept as well. The same figures (tests/test_train_speed.py); entropy, which TRL only logs, carries no gradient.
"""
# pyright: basic, reportPrivateImportUsage=false
# (trl is half untyped)

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import linear
from torch.utils.weak import WeakTensorKeyDictionary
from trl.kernels import ChunkedLogProbFunction

KEPT = 2**28  # bytes of logits that are kept for the backward pass; of more rows TRL computes them again
AT_ONCE = 64  # rows: their float32 logits stay in the cache
_rounded: Any = WeakTensorKeyDictionary()  # weight → (its version, its rounded form)


class FewRows:
    """Stands in for TRL's function, where it can."""

    @staticmethod
    def apply(
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        temperature: float,
        chunk: int,
        softcap: float | None,
        scale: float,
        outputs: tuple[str, ...],
    ) -> Any:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        usual = bias is None and softcap is None and temperature == scale == 1 and "log_sum_sq_probs" not in outputs
        few = len(targets) * len(weight) * dtype.itemsize <= KEPT
        if device != "cpu" or weight.requires_grad or not usual or not few or not len(targets):
            stock: Any = ChunkedLogProbFunction.apply
            return stock(hidden, weight, bias, targets, temperature, chunk, softcap, scale, outputs)
        made: Any = _LogProbs.apply(hidden, _in(dtype, weight), targets)
        log_probs, entropy, mean, first = made
        given = {"entropy": entropy, "mean_logits": mean, "is_top1": first}
        return log_probs, *(given.get(name) if name in outputs else None for name in
                            ("entropy", "log_sum_sq_probs", "mean_logits", "is_top1"))  # fmt: skip


def _in(dtype: torch.dtype, weight: torch.Tensor) -> torch.Tensor:
    """The frozen weight in `dtype`, rounded once."""
    if weight.dtype == dtype:
        return weight.detach()
    if weight not in _rounded or _rounded[weight][0] != weight._version or _rounded[weight][1].dtype != dtype:
        _rounded[weight] = weight._version, weight.detach().to(dtype)
    return _rounded[weight][1]


class _LogProbs(torch.autograd.Function):
    """hidden [n, h], weight [v, h], targets [n] → (log-probability, entropy, mean logit, whether it is the first)."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> Any:  # type: ignore[override]
        logits = linear(hidden.to(weight.dtype), weight)
        found: list[tuple[torch.Tensor, ...]] = []
        for some, labels in zip(logits.split(AT_ONCE), targets.split(AT_ONCE), strict=True):
            some = some.float()
            size = some.logsumexp(-1)
            log_prob = some.gather(-1, labels[:, None])[:, 0] - size
            mean, first = some.mean(-1), some.argmax(-1) == labels
            weighed = torch.linalg.vecdot(torch.softmax(some, -1), some)
            found.append((log_prob, size - weighed, mean, first, size))
        log_prob, entropy, mean, first, size = (torch.cat(parts) for parts in zip(*found, strict=True))
        ctx.save_for_backward(logits, weight, targets, size)
        ctx.dtype = hidden.dtype
        ctx.mark_non_differentiable(entropy, mean, first)
        ctx.set_materialize_grads(False)
        return log_prob, entropy, mean, first

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor | None, *_: Any) -> Any:  # type: ignore[override]
        logits, weight, targets, size = ctx.saved_tensors
        if grad is None:
            return None, None, None
        for_logits = torch.empty_like(logits)
        parts = (x.split(AT_ONCE) for x in (for_logits, logits, targets, size, grad))
        for out, some, labels, lse, g in zip(*parts, strict=True):
            p = some.float().sub_(lse[:, None]).exp_().mul_(-g[:, None])
            out.copy_(p.scatter_add_(-1, labels[:, None], g[:, None]))
        return (for_logits @ weight).to(ctx.dtype), None, None
