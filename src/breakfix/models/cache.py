"""A KV cache for batched decoding: written in place, rows leave it when they are done.

transformers' DynamicCache concatenates at every step, which copies the whole cache once per token (600 MB a step for
128 rows of a 135M model). `Slab` allocates once. Layers of full attention are replaced, and those of a sliding window:
the model's own mask keeps to the window, so that holding all keys changes nothing. Chunked, linear or indexed layers
keep transformers' own, so every architecture still works.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer


class Slab(DynamicLayer):
    """Keys and values in one allocation of [rows, heads, room, dim]; `update` returns a view of what is filled."""

    _layer_type = None

    def __init__(self, room: int, rows: int | None = None, filled: int = 0) -> None:
        """`filled` places of `rows` rows are written a part at a time (`part`), before anything is appended."""
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.room, self.rows, self.filled = room, rows, filled
        self.beside: Any = None  # a `grouped.Beside`, which the keys then bring to attention

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        given, heads, _, dim = key_states.shape
        rows = self.rows or given
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
        if self.beside is not None:
            self.keys.beside = self.beside  # pyright: ignore[reportAttributeAccessIssue]
        return self.keys, self.values

    def end_with(self, keys: torch.Tensor, values: torch.Tensor, rows: slice) -> None:
        """The last of the places that are filled, of some rows; what is more than these is left out."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        n = min(keys.shape[2], self.filled)
        places = slice(self.filled - n, self.filled)
        self._k[rows, :, places], self._v[rows, :, places] = keys[:, :, -n:], values[:, :, -n:]

    def get_seq_length(self) -> int:
        return self.filled

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._k, self._v = self._k[indices], self._v[indices]
        self.keys, self.values = self._k[:, :, : self.filled], self._v[:, :, : self.filled]

    def move(self, to: torch.Tensor, rows: torch.Tensor, left: int) -> None:
        """Rows `rows` go to where others have left, `to`; the first `left` are all there are then."""
        for held in (self._k, self._v):
            held[to, :, : self.filled] = held[rows, :, : self.filled]
        self._k, self._v = self._k[:left], self._v[:left]

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Spread one row's cache over `repeats` rows (a shared prefix, computed once)."""
        self._k = self._k.repeat_interleave(repeats, dim=0)
        self._v = self._v.repeat_interleave(repeats, dim=0)
        self.keys, self.values = self._k[:, :, : self.filled], self._v[:, :, : self.filled]


def new_cache(config: PreTrainedConfig, room: int, rows: int | None = None, filled: int = 0) -> DynamicCache:
    """A cache for at most `room` positions; `rows` and `filled`: see `Slab`."""
    cache = DynamicCache(config=config)
    chunked = "chunked_attention" in (getattr(config.get_text_config(), "layer_types", None) or ())  # pyright: ignore
    plain = (DynamicLayer,) if chunked else (DynamicLayer, DynamicSlidingWindowLayer)
    cache.layers = [Slab(room, rows, filled) if type(layer) in plain else layer for layer in cache.layers]
    return cache


def is_plain(cache: DynamicCache) -> bool:
    """Whether every layer holds all keys (prompts may then be read a part at a time)."""
    return all(isinstance(layer, Slab) for layer in cache.layers)


def window(config: PreTrainedConfig) -> int | None:
    """Over how many positions the layer that looks back least far attends; None where all attend to everything.

    Masks count places in the cache: padding within a row would count as distance.
    """
    layers = DynamicCache(config=config).layers
    spans = [layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)]
    return min(spans, default=None)


def turn(config: PreTrainedConfig) -> int | None:
    """The length from which a long-rope model (Phi-3 128k) rotates *all* keys otherwise; None for every other model.

    It goes by the longest row of a forward pass. Keys that were cached below that length are wrong above it, and a
    short row is another row in the company of a long one: what is longer is therefore run alone, without a cache.
    """
    rope: Any = getattr(config.get_text_config(), "rope_parameters", None) or {}  # pyright: ignore
    return rope.get("original_max_position_embeddings") if rope.get("rope_type") == "longrope" else None


def room(model: Any) -> int:
    """Of how many tokens keys and values may be held: 1.5 GiB of them on a CPU, half of what is free on a GPU."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    bytes_a_token = 2 * config.num_hidden_layers * heads * dim * model.dtype.itemsize
    held = torch.cuda.mem_get_info()[0] // 2 if model.device.type == "cuda" else 3 * 2**29
    return max(1, held // bytes_a_token)
