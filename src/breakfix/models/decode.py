"""Batched decoding near the machine's roof, for any transformers causal LM.

What makes it fast on a CPU: prompts sorted by length, and read a few together; the tokens that all prompts share
(system prompt, template) computed once; one allocation for keys and values (`cache.Slab`); attention by groups
(`grouped`); logits for the last position only; rows that have ended leave the batch. Each row draws from its own
generator, so a sample does not depend on its neighbours.
Shapes: B rows still decoding, T prompt tokens after the shared prefix, P shared prefix, V vocabulary.
"""
# pyright: basic
# (torch's tensors and transformers' caches are half untyped)

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from ..core import Sampling
from .cache import is_plain, new_cache, parts, turn, window

SHARED_MIN = 8  # a shared prefix shorter than this is not worth a pass of its own
READ = 32  # prompts that are read together: their padding is short, and so is what is held for them


class Finished(NamedTuple):
    """Row `index` of the prompts ended: its new tokens (turn end left out), and whether it stopped by itself."""

    index: int
    tokens: list[int]
    stopped: bool


def decode(
    model: Any,
    prompts: Sequence[list[int]],
    sampling: Sampling,
    seeds: Sequence[int],
    *,
    stops: set[int],
    pad: int,
    batch: int,
    tokens: int,
) -> Iterator[Finished]:
    """Yield each prompt's continuation as it ends. Longest prompts first, so that memory trouble shows at the start.

    At most `batch` rows decode together, and at most `tokens` of them, prompts and replies, are cached.
    """
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    limit = turn(model.config)
    while order and limit is not None and len(prompts[order[0]]) + sampling.max_new_tokens > limit:
        row, *order = order
        yield Finished(row, *_alone(model, prompts[row], sampling, seeds[row], stops))
    while order:
        room = max(1, tokens // (len(prompts[order[0]]) + sampling.max_new_tokens))
        rows, order = order[: min(batch, room)], order[min(batch, room) :]
        chosen = [prompts[i] for i in rows]
        generators = [torch.Generator().manual_seed(seeds[i]) for i in rows] if sampling.temperature > 0 else []
        with torch.inference_mode():
            for row, said, stopped in _batch(model, chosen, sampling, generators, stops, pad):
                yield Finished(rows[row], said, stopped)


def shared_prefix(prompts: Sequence[list[int]]) -> int:
    """Tokens that all prompts begin with; at least one token of each prompt is left for its own pass."""
    first, last = min(prompts), max(prompts)
    limit = min(len(p) for p in prompts) - 1
    common = 0
    while common < limit and first[common] == last[common]:
        common += 1
    return common


class _Batch:
    """The state of one batch: cache, mask of the filled positions [B, P+T+new], next position of each row [B]."""

    def __init__(self, model: Any, prompts: list[list[int]], max_new: int, pad: int) -> None:
        self.model = model
        device = model.device
        room = max(len(p) for p in prompts) + max_new
        self.cache = new_cache(model.config, room)
        self.layers: list[Any] = self.cache.layers
        reach = window(model.config)
        near = is_plain(self.cache) and (reach is None or room <= reach)
        shared = shared_prefix(prompts) if near and len(prompts) > 1 else 0
        shared = shared if shared >= SHARED_MIN else 0
        if shared:
            ids = torch.tensor([prompts[0][:shared]], device=device)
            model(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
            for layer in self.layers:
                layer.batch_repeat_interleave(len(prompts))
        rest = [p[shared:] for p in prompts]
        width = max(len(p) for p in rest)
        self.ids = torch.tensor([[pad] * (width - len(p)) + p for p in rest], device=device)
        ones = torch.ones(len(prompts), shared, dtype=torch.long, device=device)
        real = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in rest], device=device)
        self.mask = torch.cat([ones, real], dim=1)
        positions = self.mask.cumsum(dim=1) - 1
        self.next = positions[:, -1] + 1
        self.positions = positions[:, shared:].clamp(min=0)
        self.widths = [len(p) for p in rest]

    def read(self) -> torch.Tensor:
        """The prompts: logits [B, V] for the first new token. `READ` rows at a time where the cache allows."""
        if not is_plain(self.cache) or len(self.widths) <= READ:
            return self.forward()
        shared, width, found = self.layers[0].filled, self.ids.shape[1], list[torch.Tensor]()
        for first in range(0, len(self.widths), READ):
            rows = slice(first, first + READ)
            cut = width - max(self.widths[rows])  # padding that none of these rows needs
            out = self.model(
                input_ids=self.ids[rows, cut:],
                attention_mask=torch.cat([self.mask[rows, :shared], self.mask[rows, shared + cut :]], dim=1),
                position_ids=self.positions[rows, cut:],
                past_key_values=parts(self.cache, self.model.config, len(self.widths), rows, shared + cut),
                use_cache=True,
                logits_to_keep=1,
            )
            found.append(out.logits[:, -1].float())
        for layer in self.layers:
            layer.filled = shared + width
        return torch.cat(found)

    def forward(self) -> torch.Tensor:
        """Logits [B, V] (float32) for the token after what has been fed so far."""
        out = self.model(
            input_ids=self.ids,
            attention_mask=self.mask,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1].float()

    def feed(self, tokens: torch.Tensor) -> None:
        """Append one token a row [B]."""
        self.ids = tokens[:, None]
        self.mask = torch.nn.functional.pad(self.mask, (0, 1), value=1)
        self.positions = self.next[:, None]
        self.next = self.next + 1

    def keep(self, rows: torch.Tensor) -> None:
        """Let all rows but these leave the batch."""
        for layer in self.layers:
            layer.batch_select_indices(rows)
        self.ids, self.mask, self.next = self.ids[rows], self.mask[rows], self.next[rows]
        self.positions = self.positions[rows]


def _batch(
    model: Any,
    prompts: list[list[int]],
    sampling: Sampling,
    generators: list[torch.Generator],
    stops: set[int],
    pad: int,
) -> Iterator[tuple[int, list[int], bool]]:
    state = _Batch(model, prompts, sampling.max_new_tokens, pad)
    live = list(range(len(prompts)))
    said: list[list[int]] = [[] for _ in prompts]
    for step in range(sampling.max_new_tokens):
        logits = state.forward() if step else state.read()
        tokens = _pick(logits, sampling, [generators[i] for i in live] if generators else [])
        staying: list[int] = []
        for place, token in enumerate(tokens.tolist()):
            row = live[place]
            if token in stops:
                yield row, said[row], True
                continue
            said[row].append(token)
            if step == sampling.max_new_tokens - 1:
                yield row, said[row], False
            else:
                staying.append(place)
        if not staying:
            return
        if len(staying) < len(live):
            index = torch.tensor(staying, device=tokens.device)
            state.keep(index)
            tokens, live = tokens[index], [live[i] for i in staying]
        state.feed(tokens)


def _alone(model: Any, prompt: list[int], sampling: Sampling, seed: int, stops: set[int]) -> tuple[list[int], bool]:
    """One row without a cache: all of it is run again for every token (see `cache.turn`)."""
    generators = [torch.Generator().manual_seed(seed)] if sampling.temperature > 0 else []
    said: list[int] = []
    with torch.inference_mode():
        while len(said) < sampling.max_new_tokens:
            ids = torch.tensor([prompt + said], device=model.device)
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1].float()
            token = int(_pick(logits, sampling, generators))
            if token in stops:
                return said, True
            said.append(token)
    return said, False


def _pick(logits: torch.Tensor, sampling: Sampling, generators: list[torch.Generator]) -> torch.Tensor:
    """Next token of each row [B]: greedy, or one draw from the row's own generator within the top-p nucleus."""
    if sampling.temperature <= 0:
        return logits.argmax(dim=-1)
    ranked, order = (logits / sampling.temperature).softmax(dim=-1).sort(dim=-1, descending=True)
    total = ranked.cumsum(dim=-1)
    ranked = ranked.masked_fill(total - ranked >= sampling.top_p, 0.0)
    edges = ranked.cumsum(dim=-1)
    draws = torch.stack([torch.rand((), generator=g) for g in generators]).to(logits.device)
    places = torch.searchsorted(edges, (draws * edges[:, -1])[:, None], right=True).clamp(max=edges.shape[-1] - 1)
    return order.gather(1, places)[:, 0]
