"""Reading prompts: one pass over what is not known of some rows, whatever is known of each of them.

What is read goes to a store, where other prompts find it, or to the cache of a batch.
"""
# pyright: basic
# (torch's tensors and transformers' caches are half untyped)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from .cache import Slab, new_cache
from .prefixes import Store

READ = 32  # prompts that are read together: their padding is short, and so is what is held for them


class Rows:
    """Of which some tokens are read in one pass: `prompts`, and the places of what is known of each in a store.

    Rows end together, at `width`, with no gap within, so that a sliding window is none the wiser. The pass has the last
    T places of all; what is known of these is run again, and thrown away. B rows, W the width, P the places from which
    on nothing is known of any row.
    """

    def __init__(self, prompts: Sequence[list[int]], past: Sequence[list[int]], pad: int, device: Any) -> None:
        own = [len(prompt) - len(places) for prompt, places in zip(prompts, past, strict=True)]
        self.width, T = max(map(len, prompts)), max(own)
        self.first, P = self.width - T, self.width - min(own) if any(past) else 0
        ids, places, real = list[list[int]](), list[list[int]](), list[list[bool]]()
        for prompt, known, n in zip(prompts, past, own, strict=True):
            gap = self.width - len(prompt)
            ids.append([pad] * (T - n) + prompt[len(known) :])
            places.append(([0] * gap + known + [0] * n)[:P])
            real.append([False] * gap + [True] * len(prompt))
        self.ids_BT = torch.tensor(ids, device=device)
        self.mask_BW = torch.tensor(real, device=device).long()
        self.positions_BT = (self.mask_BW.cumsum(dim=1) - 1).clamp(min=0)[:, self.first :]
        self.places_BP = torch.tensor(places, dtype=torch.long, device=device).view(len(ids), P)
        starts = torch.tensor([T - n for n in own], device=device)
        self.own_BT = torch.arange(T, device=device) >= starts[:, None]

    def laid(self, new: torch.Tensor, held: torch.Tensor | None) -> torch.Tensor:
        """[B, heads, W, dim]: what is known of the rows, in `held` [size, heads, dim], and what the pass made of the
        others' tokens, in `new` [B, heads, T, dim]."""
        first, P = self.first, self.places_BP.shape[1]
        if held is None or not P:
            return new
        old, own = held[self.places_BP].transpose(1, 2), self.own_BT[:, None, : P - first, None]
        both = torch.where(own, new[:, :, : P - first], old[:, :, first:])
        return torch.cat([old[:, :, :first], both, new[:, :, P - first :]], dim=2)


class Reading(DynamicLayer):
    """Layer `index` of the cache while `rows` are read. What the model makes of them goes to `places` of the store, or
    to rows `at` of `slab`: the last of them that it holds when prompts end."""

    _layer_type = None

    def __init__(
        self,
        index: int,
        rows: Rows,
        store: Store,
        places: torch.Tensor | None = None,
        slab: Slab | None = None,
        at: slice = slice(0),
    ) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.index, self.rows, self.store, self.places, self.slab, self.at = index, rows, store, places, slab, at
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        held = self.store.held(self.index)
        keys = self.rows.laid(key_states, held[0] if held else None)
        values = self.rows.laid(value_states, held[1] if held else None)
        if self.slab is not None:
            self.slab.end_with(keys, values, self.at)
        if self.places is not None:
            own = self.rows.own_BT
            self.store.put(self.index, self.places, *(x.transpose(1, 2)[own] for x in (key_states, value_states)))
        return keys, values

    def get_seq_length(self) -> int:
        return self.rows.first


def find_or_read(
    model: Any, store: Store, prompts: Sequence[list[int]], marks: dict[int, list[int]], pad: int
) -> dict[int, list[int]]:
    """Where the store has what each of these rows shares with others; what it does not have yet is read."""
    store.turn += 1
    past = {i: store.find(prompts[i][: marks[i][-1]]) if marks[i] else [] for i in marks}
    ahead = {i: [cut for cut in marks[i] if cut > len(past[i])] for i in marks}
    while rows := [i for i in marks if ahead[i]]:
        parts = {tuple(prompts[i][: ahead[i].pop(0)]): past[i] for i in rows}
        _learn(model, store, sorted(((list(p), places) for p, places in parts.items()), key=_unread), pad)
        for i in rows:
            past[i] = store.find(prompts[i][: marks[i][-1]])
            ahead[i] = [cut for cut in ahead[i] if cut > len(past[i])]
    return past


def _unread(part: tuple[list[int], list[int]]) -> int:
    return len(part[1]) - len(part[0])


def _learn(model: Any, store: Store, parts: list[tuple[list[int], list[int]]], pad: int) -> None:
    """Read beginnings of prompts, each with the places of what is known of it; where there is room, they are kept."""
    for first in range(0, len(parts), READ):
        kept = [(prompt, past, store.take(len(prompt) - len(past))) for prompt, past in parts[first : first + READ]]
        kept = [(prompt, past, places) for prompt, past, places in kept if places is not None]
        if not kept:
            return
        rows = Rows([prompt for prompt, _, _ in kept], [past for _, past, _ in kept], pad, model.device)
        places = torch.tensor([place for _, _, places in kept for place in places], device=model.device)
        layers = new_cache(model.config, 1).layers
        read(model, rows, [Reading(i, rows, store, places=places) for i in range(len(layers))])
        for prompt, past, new in kept:
            store.learn(past, prompt[len(past) :], new)


def read(model: Any, rows: Rows, layers: Sequence[Any]) -> torch.Tensor:
    """One pass over what is not known of `rows`, into layers of a cache: logits [B, V] (float32) of what follows."""
    cache = DynamicCache(config=model.config)
    cache.layers[:] = layers
    out = model(
        input_ids=rows.ids_BT,
        attention_mask=rows.mask_BW,
        position_ids=rows.positions_BT,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return out.logits[:, -1].float()
