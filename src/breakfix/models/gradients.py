"""What a model's own gradients say of a few tokens in its prompt: which others would make a given reply likelier.

Source: GCG (Zou et al. 2023, 2307.15043), whose two products these are: the gradient of the reply's loss with respect
to a one-hot token at each place, and the loss of many candidates. Ours: both in float32 whatever the model is held in
(a bfloat16 or packed one gets a float32 copy: differences between candidates are finer than its rounding), and what
stands before the suffix is read once for all candidates.
Shapes: S places of the suffix, V vocabulary, H width, N candidates, T tokens of the reply.
"""
# pyright: basic
# (torch's tensors and transformers' caches are half untyped)

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import ModelError
from . import grouped
from .cache import is_plain, new_cache, turn, window
from .hf import HFModel
from .memory import out_of_memory
from .prefixes import SHARED_MIN


@dataclass(frozen=True, slots=True)
class Slot:
    """A prompt with a place for S tokens: those before it and after it (up to where the model speaks), and what the
    reply is to begin with, T of them."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    target: tuple[int, ...]


class Gradients:
    """Of one model. `tokens`: most tokens scored together; it halves by itself when memory runs out."""

    tokens = 8192

    def __init__(self, model: HFModel) -> None:
        self.model = exact(model.model)
        embed = self.model.get_input_embeddings()
        with torch.no_grad():  # through the layer itself, which may scale what it looks up
            self.table = embed(torch.arange(embed.num_embeddings, device=self.model.device)).float()

    def gradient(self, slot: Slot, suffix: Sequence[int]) -> tuple[torch.Tensor, float]:
        """([S, V]: the loss's slope towards each token at each place, the loss itself: nats per token of the reply)."""
        ids = torch.tensor([[*slot.before, *suffix, *slot.after, *slot.target[:-1]]], device=self.model.device)
        target = torch.tensor(slot.target, device=self.model.device)
        with torch.enable_grad():
            embeds = self.table[ids].requires_grad_()
            out = self.model(inputs_embeds=embeds, use_cache=False, logits_to_keep=len(target))
            loss = torch.nn.functional.cross_entropy(out.logits[0].float(), target)
            [slope_TH] = torch.autograd.grad(loss, embeds)
        start = len(slot.before)
        return slope_TH[0, start : start + len(suffix)] @ self.table.T, loss.item()

    def losses(self, slot: Slot, suffixes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of suffixes [N, S]: ([N] loss in nats per token of the reply, [N] whether greedy decoding would say it)."""
        found: list[tuple[torch.Tensor, torch.Tensor]] = []
        length, at = len(slot.before) + suffixes.shape[1] + len(slot.after) + len(slot.target) - 1, 0
        while at < len(suffixes):
            rows = suffixes[at : at + max(1, self.tokens // length)]
            try:
                with torch.no_grad():
                    found.append(self._score(slot, rows.to(self.model.device), length))
            except Exception as error:
                if not out_of_memory(error):
                    raise
                if self.tokens < length:
                    raise ModelError(f"out of memory scoring a row of {length} tokens") from error
                self.tokens //= 2
                continue
            at += len(rows)
        return torch.cat([loss for loss, _ in found]).cpu(), torch.cat([said for _, said in found]).cpu()

    def _score(self, slot: Slot, rows_NS: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        device, n = rows_NS.device, len(rows_NS)
        tail = torch.tensor([*slot.after, *slot.target[:-1]], device=device)
        ids = torch.cat([rows_NS, tail.expand(n, -1)], dim=1)
        more: dict[str, Any] = {"use_cache": False}
        if (cache := self._read(slot.before, length, n)) is not None:
            places = torch.arange(len(slot.before), length, device=device).expand(n, -1)
            ones = torch.ones(n, length, dtype=torch.long, device=device)
            more = {"past_key_values": cache, "use_cache": True, "position_ids": places, "attention_mask": ones}
        else:
            ids = torch.cat([torch.tensor(slot.before, device=device).expand(n, -1), ids], dim=1)
        target = torch.tensor(slot.target, device=device).expand(n, -1)
        logits_NTV = self.model(input_ids=ids, logits_to_keep=target.shape[1], **more).logits.float()
        logps = logits_NTV.gather(-1, target[..., None])[..., 0] - logits_NTV.logsumexp(dim=-1)
        return -logps.mean(dim=1), (logits_NTV.argmax(dim=-1) == target).all(dim=1)

    def _read(self, before: Sequence[int], length: int, rows: int) -> Any:
        """A cache of what stands before the suffix, for so many rows; None where it would not pay or not be the same.

        See `cache`: models of a sliding window or a long rope see a long row otherwise.
        """
        near, limit = window(self.model.config), turn(self.model.config)
        cache = new_cache(self.model.config, length)
        short = (near is None or length <= near) and (limit is None or length <= limit)
        if len(before) < SHARED_MIN or not short or not is_plain(cache):
            return None
        ids = torch.tensor([list(before)], device=self.model.device)
        self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        layers: list[Any] = cache.layers
        for layer in layers:
            layer.batch_repeat_interleave(rows)
        return cache


def exact(model: Any) -> Any:
    """A transformers model in float32 whose weights take no gradients: itself, if it is held in float32, else a copy
    (packed products and the like stay behind)."""
    if model.dtype != torch.float32:
        model = _copy(model)
    return model.requires_grad_(False).eval()


def _copy(model: Any) -> Any:
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(model.config)
    attention = "sdpa" if config._attn_implementation == grouped.NAME else config._attn_implementation
    made = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)
    made.load_state_dict(model.state_dict())
    return made.to(model.device)
