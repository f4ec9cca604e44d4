"""A KV cache for batched decoding: written in place, rows leave it when they are done.

transformers' DynamicCache concatenates at every step, which copies the whole cache once per token (600 MB a step for
128 rows of a 135M model). `Slab` allocates once. Only plain full-attention layers are replaced; sliding-window,
linear or indexed layers keep transformers' own, so every architecture still works.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedConfig
from transformers.cache_utils import DynamicCache, DynamicLayer


class Slab(DynamicLayer):
    """Keys and values in one allocation of [rows, heads, room, dim]; `update` returns a view of what is filled."""

    _layer_type = None

    def __init__(self, room: int) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.room, self.filled = room, 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        rows, heads, _, dim = key_states.shape
        self._k = key_states.new_zeros(rows, heads, self.room, dim)
        self._v = value_states.new_zeros(rows, heads, self.room, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.filled + key_states.shape[-2]
        self._k[:, :, self.filled : end] = key_states
        self._v[:, :, self.filled : end] = value_states
        self.filled = end
        self.keys, self.values = self._k[:, :, :end], self._v[:, :, :end]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.filled

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._k, self._v = self._k[indices], self._v[indices]
        self.keys, self.values = self._k[:, :, : self.filled], self._v[:, :, : self.filled]

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Spread one row's cache over `repeats` rows (a shared prefix, computed once)."""
        self._k = self._k.repeat_interleave(repeats, dim=0)
        self._v = self._v.repeat_interleave(repeats, dim=0)
        self.keys, self.values = self._k[:, :, : self.filled], self._v[:, :, : self.filled]


def new_cache(config: PreTrainedConfig, room: int) -> DynamicCache:
    """A cache for at most `room` positions."""
    cache = DynamicCache(config=config)
    cache.layers = [Slab(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def is_plain(cache: DynamicCache) -> bool:
    """Whether every layer is full attention (a shared prefix may then be repeated, and 4-D masks passed)."""
    return all(isinstance(layer, Slab) for layer in cache.layers)
