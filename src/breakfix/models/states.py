"""What a model's layers hold of a prompt at its last token, before it speaks: vectors for probes.

The tokens that all prompts begin with are run once (as in decode.py), and no logits are made. Shapes: B prompts of a
batch, T their tokens after the shared ones, L layers, H width.
"""
# pyright: basic
# (torch's tensors and transformers' caches are half untyped)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .cache import new_cache, turn, window
from .prefixes import SHARED_MIN, shared_prefix


def spread(layers: int, most: int) -> list[int]:
    """Up to `most` of the layers 1 to `layers`, evenly, the last one among them; the lowest quarter is left out."""
    first = max(1, layers // 4)
    upper = list(range(first, layers + 1))
    if len(upper) <= most:
        return upper
    return sorted({upper[round(i * (len(upper) - 1) / (most - 1))] for i in range(most)})


def last_states(
    model: Any, prompts: Sequence[list[int]], layers: Sequence[int], *, pad: int, tokens_a_batch: int = 4096
) -> NDArray[np.float32]:
    """[prompts, layers, H]: the hidden states after each of `layers` (1 is the first, 0 the embeddings)."""
    found = np.zeros((len(prompts), len(layers), model.config.get_text_config().hidden_size), np.float32)
    shared = _shared(model, prompts)
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    with torch.inference_mode():
        while order:
            width = len(prompts[order[0]]) - shared
            rows, order = order[: max(1, tokens_a_batch // width)], order[max(1, tokens_a_batch // width) :]
            states = _batch(model, [prompts[i] for i in rows], shared, layers, pad)
            found[rows] = states.float().cpu().numpy()
    return found


def _shared(model: Any, prompts: Sequence[list[int]]) -> int:
    """How many tokens all begin with; 0 where a cache would change what the model makes of them."""
    longest = max(map(len, prompts), default=0)
    near, limit = window(model.config), turn(model.config)
    if len(prompts) < 2 or (near is not None and longest > near) or (limit is not None and longest > limit):
        return 0
    common = shared_prefix(prompts)
    return common if common >= SHARED_MIN else 0


def _batch(model: Any, prompts: list[list[int]], shared: int, layers: Sequence[int], pad: int) -> torch.Tensor:
    """[B, L, H]"""
    device, backbone = model.device, model.base_model
    rest = [prompt[shared:] for prompt in prompts]
    width = max(map(len, rest))
    ids_BT = torch.tensor([row + [pad] * (width - len(row)) for row in rest], device=device)
    real = torch.tensor([[1] * (shared + len(row)) + [0] * (width - len(row)) for row in rest], device=device)
    more: dict[str, Any] = {"use_cache": False}
    if shared:
        cache = new_cache(model.config, shared + width)
        backbone(input_ids=torch.tensor([prompts[0][:shared]], device=device), past_key_values=cache, use_cache=True)
        held: list[Any] = cache.layers
        for layer in held:
            layer.batch_repeat_interleave(len(prompts))
        positions = torch.arange(shared, shared + width, device=device)[None].expand(len(prompts), -1)
        more = {"past_key_values": cache, "use_cache": True, "position_ids": positions}
    out = backbone(input_ids=ids_BT, attention_mask=real, output_hidden_states=True, **more)
    last = torch.tensor([len(row) - 1 for row in rest], device=device)
    at = torch.arange(len(rest), device=device)
    return torch.stack([out.hidden_states[layer][at, last] for layer in layers], dim=1)
