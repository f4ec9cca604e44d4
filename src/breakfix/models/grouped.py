"""Attention of one new token a row, where several query heads share a key head: the group becomes the query's length.

torch's kernel on a CPU is given each key head once for every query head that reads it, which is most of a decoding
step's time in attention. Of the same heads laid out as [rows, key heads, group, dim] it makes one pass: the same
numbers to the bit, six times sooner (128 rows, 9 heads on 3, 90 keys). What has more than one query a head, or is not
on a CPU, goes to transformers' own function.

`Beside`: what several rows begin with is held once, and read once a step for all of them: one attention over it, one
over a row's own keys, put together by their log-sum-exp (Hydragen, 2402.05099).
"""

# pyright: basic
# (transformers' registries are half untyped)

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .cache import new_cache

NAME = "grouped_sdpa"
_sees: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()  # model → whether `Beside` works with it


class Groups:
    """Rows of a batch by what they share: `rows`, group after group, of the sizes `sizes`. Others share nothing."""

    def __init__(self, members: Sequence[Sequence[int]]) -> None:
        self.sizes = [len(group) for group in members]
        self.rows = torch.tensor([row for group in members for row in group], dtype=torch.long)

    def keep(self, order: Sequence[int]) -> None:
        """Row `order[i]` is row i from now on; those that are not in it are gone."""
        to = dict(zip(order, range(len(order)), strict=True))
        old = [group.tolist() for group in self.rows.split(self.sizes)]
        Groups.__init__(self, [[to[row] for row in group if row in to] for group in old])


class Beside:
    """Of one layer: keys and values [1, key heads, P, dim] of each group, held beside the rows' own."""

    def __init__(self, groups: Groups, keys: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
        self.groups, self.keys, self.values = groups, keys, values

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        scale: float | None,
        **more: Any,
    ) -> torch.Tensor:
        """query [B, key heads, group, dim], the rest as in `attention`; what attends, laid out as the query."""
        if mask is not None and mask.dtype == torch.bool:
            mask = query.new_zeros(mask.shape).masked_fill_(~mask, float("-inf"))
        found, weight = _flash(query, key, value, mask, scale)
        rows = self.groups.rows
        asked, parts = query[rows].split(self.groups.sizes), list[tuple[torch.Tensor, torch.Tensor]]()
        for q, k, v in zip(asked, self.keys, self.values, strict=True):
            if n := len(q):
                one, seen = _flash(q.transpose(0, 1).flatten(1, 2)[None], k, v, None, scale)
                parts.append(
                    (one[0].unflatten(1, (n, -1)).transpose(0, 1), seen[0].unflatten(1, (n, -1)).transpose(0, 1))
                )
        if parts:
            share = (torch.cat([seen for _, seen in parts]) - weight[rows]).sigmoid()[..., None]
            own, common = found[rows].float(), torch.cat([one for one, _ in parts]).float()
            found = found.index_copy(0, rows, own.lerp(common, share).to(found.dtype))
        return found


def _flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(what attends, ln of the sum of exponentials [B, heads, T])"""
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, False, attn_mask=mask, scale=scale
    )


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """query [B, heads, T, dim], key and value [B, key heads, S, dim]; what attends, [B, T, heads, dim], as `sdpa`."""
    rows, heads, length, dim = query.shape
    if (beside := getattr(key, "beside", None)) is not None:
        group = query.view(rows, key.shape[1], heads // key.shape[1], dim)
        found = beside.attend(group, key, value, attention_mask, scaling, **more)
        return found.reshape(rows, 1, heads, dim), None
    grouped = length == 1 and heads > key.shape[1] and query.device.type == "cpu" and not dropout
    if not grouped or (attention_mask is not None and attention_mask.shape[1] != 1):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
    group = query.view(rows, key.shape[1], heads // key.shape[1], dim)
    found = torch.nn.functional.scaled_dot_product_attention(group, key, value, attn_mask=attention_mask, scale=scaling)
    return found.reshape(rows, 1, heads, value.shape[-1]), None


def use(model: Any) -> None:
    """Let a model that uses `sdpa` use this."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def sees(model: Any) -> bool:
    """Whether the model's attention comes here with the very keys that its cache gave, in every layer: tried once."""
    if model not in _sees:
        _sees[model] = model.config._attn_implementation == NAME and model.device.type == "cpu" and _try(model)
    return _sees[model]


def _try(model: Any) -> bool:
    class Seen(Beside):
        def attend(self, *args: Any, **more: Any) -> torch.Tensor:
            plain = all(more.get(name) is None for name in ("softcap", "s_aux", "position_bias"))
            seen.append(plain and args[1].shape == args[2].shape)
            return super().attend(*args)

    seen: list[bool] = []
    cache = new_cache(model.config, 1)
    layers: list[Any] = cache.layers
    for layer in layers:
        layer.beside = Seen(Groups([]), [], [])
    try:
        with torch.inference_mode():
            ids = torch.zeros(1, 1, dtype=torch.long, device=model.device)
            model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    except Exception:  # a model or a torch of another kind
        return False
    return len(seen) == len(layers) and all(seen)
