"""The same arithmetic with fewer passes over memory: LoRA layers and RMS norms of a model that is trained on a CPU.

On two cores a third of a training step is not products but copies: under autocast the frozen weights are rounded to
bfloat16 at every forward, an adapter's input to float32 and back, and each elementary operation of a norm reads and
writes everything once more. `lean(model)`: within, adapters (plain LoRA on frozen linear layers) and the norms of
decoder layers run as one operation each, with a backward of their own, and the frozen weights' bfloat16 form is kept.
In float32 the loss and gradients are those of the stock layers; under autocast they are rounded less often.
"""
# pyright: basic, reportPrivateImportUsage=false
# (peft is half untyped)

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch.nn.functional import linear

TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # children that are given the same input
LARGEST = 2**30  # bytes of frozen weights that are kept in bfloat16 besides: a second copy of them
_found: weakref.WeakKeyDictionary[Any, list[tuple[Any, Callable[..., Any]]]] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def lean(model: Any) -> Generator[None]:
    """Within: `model` (on a CPU) runs its adapters and norms in one operation each. Others run as they are."""
    if model not in _found:
        _found[model] = _layers(model)
    before = [vars(module).get("forward") for module, _ in _found[model]]
    for module, forward in _found[model]:
        module.forward = forward
    try:
        yield
    finally:
        for (module, _), own in zip(_found[model], before, strict=True):
            if own is None:
                del module.forward
            else:
                module.forward = own


def _layers(model: Any) -> list[tuple[Any, Callable[..., Any]]]:
    """(module, the forward that it gets), for those whose arithmetic is known."""
    if next(model.parameters()).device.type != "cpu":
        return []
    groups = _groups(model)
    keep = 2 * sum(module.base_layer.weight.numel() for group in groups for module in group) <= LARGEST
    found: list[tuple[Any, Callable[..., Any]]] = []
    for group in groups:
        adapters = _Adapters(group, keep=keep)
        found += [(module, functools.partial(adapters.forward, at)) for at, module in enumerate(group)]
    for layers in (module for module in model.modules() if isinstance(module, torch.nn.ModuleList)):
        norms = [child for layer in layers for child in layer.children() if type(child).__name__.endswith("RMSNorm")]
        found += [(norm, functools.partial(_normed, norm)) for norm in norms if _same_norm(norm)]
    return found


# ---- adapters


class _Adapters:
    """Adapted layers that are given the same input one after the other, as q, k and v are: run together.

    Their frozen weights lie side by side in the dtype of products, rounded once for as long as they stay as they are.
    """

    def __init__(self, modules: list[Any], *, keep: bool) -> None:
        self.modules, self.keep = modules, keep
        self.kept: tuple[Any, torch.Tensor] | None = None
        self.x: torch.Tensor | None = None  # the input that `ready` was made of
        self.ready: dict[int, torch.Tensor] = {}

    def forward(self, at: int, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Of layer `at`: x [*, in] → [*, out], in the dtype of products."""
        module = self.modules[at]
        if args or kwargs or module.merged:
            return type(module).forward(module, x, *args, **kwargs)
        if x is not self.x or at not in self.ready:
            dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
            together = self.keep and any(one.base_layer.weight.dtype != dtype for one in self.modules)
            which = list(range(len(self.modules))) if together else [at]
            made = _run([self.modules[i] for i in which], self._weight(which, dtype), x.to(dtype), dtype)
            self.x, self.ready = x, dict(zip(which, made, strict=True))
        found = self.ready.pop(at)
        if not self.ready:
            self.x = None
        return found

    def _weight(self, which: list[int], dtype: torch.dtype) -> torch.Tensor:
        weights = [self.modules[i].base_layer.weight.detach() for i in which]
        if len(which) < len(self.modules) or not self.keep or weights[0].dtype == dtype:
            return torch.cat([weight.to(dtype) for weight in weights]) if len(which) > 1 else weights[0].to(dtype)
        state = (dtype, *((weight.data_ptr(), self.modules[i].base_layer.weight._version)
                          for i, weight in zip(which, weights, strict=True)))  # fmt: skip
        if self.kept is None or self.kept[0] != state:
            self.kept = state, torch.cat([weight.to(dtype) for weight in weights])
        return self.kept[1]


def _run(modules: list[Any], weight: torch.Tensor, x: torch.Tensor, dtype: torch.dtype) -> Sequence[torch.Tensor]:
    """The outputs of all of them for x [*, in]; `weight` is [all their outs, in]."""
    sizes = [module.base_layer.out_features for module in modules]
    biases = [module.base_layer.bias for module in modules]
    bias = None
    if any(one is not None for one in biases):
        zeros = [x.new_zeros(size) if one is None else one.detach().to(dtype) for one, size in zip(biases, sizes)]
        bias = torch.cat(zeros)
    if modules[0].disable_adapters:
        return linear(x, weight, bias).split(sizes, -1)
    names = [next(iter(module.lora_A)) for module in modules]
    scalings = [module.scaling[name] for module, name in zip(modules, names, strict=True)]
    parts = [part[name].weight for module, name in zip(modules, names) for part in (module.lora_A, module.lora_B)]
    made: Any = _Adapter.apply(x, weight, bias, scalings, *parts)
    return made


class _Adapter(torch.autograd.Function):
    """x Wᵀ + bias + scaling (x Aᵀ) Bᵀ, W and bias frozen. x [*, in], A [r, in], B [out, r] of each layer → [*, out]."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        scalings: Sequence[float],
        *parts: torch.Tensor,
    ) -> Any:
        downs, ups = parts[::2], parts[1::2]
        ctx.scalings, ctx.dtypes = scalings, [part.dtype for part in parts]
        ctx.outs, ctx.ranks = [up.shape[0] for up in ups], [up.shape[1] for up in ups]
        rows = x.reshape(-1, x.shape[-1])
        down = torch.cat(downs).to(x.dtype)
        up = torch.block_diag(*(up * by for up, by in zip(ups, scalings, strict=True))).to(x.dtype)
        narrow = linear(rows, down)
        y = linear(rows, weight, bias).addmm_(narrow, up.t())
        ctx.save_for_backward(rows, weight, down, up, narrow)
        return tuple(part.view(*x.shape[:-1], -1) for part in y.split(ctx.outs, -1))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        rows, weight, down, up, narrow = ctx.saved_tensors
        flat = [grad.reshape(-1, grad.shape[-1]) for grad in grads]
        out = torch.cat(flat, -1) if len(flat) > 1 else flat[0]
        thin = out @ up
        shape = (*grads[0].shape[:-1], rows.shape[-1])
        for_x = (out @ weight).addmm_(thin, down).view(shape) if ctx.needs_input_grad[0] else None
        for_downs = (thin.t() @ rows).split(ctx.ranks)
        blocks = (block.split(ctx.ranks, 1)[i] for i, block in enumerate((out.t() @ narrow).split(ctx.outs)))
        for_ups = [block * by for block, by in zip(blocks, ctx.scalings, strict=True)]
        pairs = (part for pair in zip(for_downs, for_ups, strict=True) for part in pair)
        return for_x, None, None, None, *(part.to(dtype) for part, dtype in zip(pairs, ctx.dtypes, strict=True))


def _plain(module: Any) -> bool:
    """Whether this is LoRA as in 2106.09685 on a frozen linear layer, and nothing else."""
    if type(module) is not LoraLinear:
        return False
    names = list(module.lora_A)
    if len(names) != 1 or list(module.active_adapters) != names or module.lora_variant or module.fan_in_fan_out:
        return False
    base, a, b = module.base_layer, module.lora_A[names[0]], module.lora_B[names[0]]
    linears = all(type(part) is torch.nn.Linear for part in (base, a, b))
    whole = isinstance(module.lora_dropout[names[0]], torch.nn.Identity)
    return linears and whole and a.bias is None and b.bias is None and not base.weight.requires_grad


def _groups(model: Any) -> list[list[Any]]:
    """Adapted layers by what they are given."""
    found: list[list[Any]] = []
    for module in model.modules():
        plain = {name: child for name, child in module.named_children() if _plain(child)}
        for names in TOGETHER:
            if all(name in plain for name in names):
                found.append([plain.pop(name) for name in names])
        found += [[child] for child in plain.values()]
    return found


# ---- norms


def _same_norm(norm: Any) -> bool:
    """Whether this is x / rms(x) · weight; Gemma's, for one, is not."""
    weight, eps = getattr(norm, "weight", None), getattr(norm, "variance_epsilon", None)
    if weight is None or eps is None or weight.dtype != torch.float32 or len(list(norm.parameters())) != 1:
        return False
    x = torch.linspace(-2, 3, 2 * len(weight)).view(2, -1)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        return bool(torch.allclose(type(norm).forward(norm, x), _normed(norm, x), rtol=1e-5, atol=1e-6))


def _normed(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """The norm's forward; under autocast in the dtype of the products that it is for."""
    if x.dtype != torch.float32:
        return type(norm).forward(norm, x)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    made: Any = _Norm.apply(x, norm.weight, norm.variance_epsilon, dtype)
    return made


class _Norm(torch.autograd.Function):
    """x / √(mean x² + eps) · weight, in `dtype`. x [*, n] float32, weight [n]."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:  # type: ignore[override]
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = size.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:  # type: ignore[override]
        x, weight, scale = ctx.saved_tensors
        grad = grad.float()
        for_weight = (grad * x * scale).sum(tuple(range(x.dim() - 1))) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, for_weight, None, None
        scaled = grad * weight
        inner = torch.linalg.vecdot(scaled, x).unsqueeze(-1)
        inner = inner.mul_(scale.square().mul_(-1 / x.shape[-1]))
        return scaled.addcmul_(x, inner).mul_(scale), for_weight, None, None
