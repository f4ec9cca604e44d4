"""Batched decoding near the machine's roof, for any transformers causal LM.

What makes it fast on a CPU: prompts sorted by length, and read a few together; what some of them begin with (system
prompt, template, shots) computed once (`prefixes`); one allocation for keys and values (`cache.Slab`); attention by
groups (`grouped`); logits for the last position only; rows that have ended leave the batch. Each row draws from its own
generator, so a sample does not depend on its neighbours.
Shapes: B rows still decoding, T prompt tokens, V vocabulary.
"""
# pyright: basic
# (torch's tensors and transformers' caches are half untyped)

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from ..core import Sampling
from .cache import is_plain, new_cache, turn, window
from .grouped import Beside, Groups, sees
from .prefixes import Store, cuts, distinct, together
from .reading import READ, Reading, Rows, find_or_read, read

HELD = 3  # of the tokens whose keys and values may be held, one in so many may be what prompts share
GROUP = 500  # keys that a group must save every step to be held beside the cache: its attention is a call of its own


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
    plain = is_plain(new_cache(model.config, 1))
    shared = dict(zip(order, cuts([prompts[i] for i in order]), strict=True)) if plain else {}
    store = Store(min(tokens // HELD, distinct(prompts, shared))) if plain else None
    order = together(prompts, shared) if plain else order
    while order:
        longest = max(len(prompts[i]) for i in order[:batch])
        room = max(1, (tokens - (store.most if store else 0)) // (longest + sampling.max_new_tokens))
        rows, order = order[: min(batch, room)], order[min(batch, room) :]
        with torch.inference_mode():
            past = find_or_read(model, store, prompts, {i: shared[i] for i in rows}, pad) if store else {}
            rows = sorted(rows, key=lambda i: len(past.get(i, ())) - len(prompts[i]))
            chosen, known = [prompts[i] for i in rows], [past.get(i, []) for i in rows]
            state = _Batch(model, chosen, known, store, sampling.max_new_tokens, pad)
            generators = [torch.Generator().manual_seed(seeds[i]) for i in rows] if sampling.temperature > 0 else []
            for row, said, stopped in _batch(state, len(rows), sampling, generators, stops):
                yield Finished(rows[row], said, stopped)


class _Batch:
    """The state of one batch: cache, mask of the filled positions [B, T+new], next position of each row [B].

    What rows share is held once, beside the cache, where that pays; else a copy for each row, in the cache.
    """

    def __init__(
        self, model: Any, prompts: list[list[int]], past: list[list[int]], store: Store | None, max_new: int, pad: int
    ) -> None:
        self.model, self.prompts, self.past, self.store, self.pad = model, prompts, past, store, pad
        self.groups, beside = _beside(model, prompts, past, max_new, store) if store else (None, [])
        own = [p[len(known) :] for p, known in zip(prompts, past, strict=True)] if self.groups else prompts
        rows = Rows(own, [[] for _ in own], pad, model.device)
        self.cache = new_cache(model.config, rows.width + max_new, len(prompts), rows.width if store else 0)
        self.layers: list[Any] = self.cache.layers
        for layer, held in zip(self.layers, beside, strict=False):
            layer.beside = held
        self.ids, self.mask, self.positions = rows.ids_BT, rows.mask_BW, rows.positions_BT
        self.next = torch.tensor([len(prompt) for prompt in prompts], device=model.device)

    def read(self) -> torch.Tensor:
        """The prompts: logits [B, V] for the first new token. `READ` rows at a time where the cache allows."""
        if self.store is None:
            return self.forward()
        found = list[torch.Tensor]()
        for first in range(0, len(self.prompts), READ):
            at = slice(first, first + READ)
            rows = Rows(self.prompts[at], self.past[at], self.pad, self.model.device)
            layers = [Reading(i, rows, self.store, slab=slab, at=at) for i, slab in enumerate(self.layers)]
            found.append(read(self.model, rows, layers))
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

    def keep(self, order: list[int]) -> None:
        """The rows that stay, as `_staying` orders them."""
        rows = torch.tensor(order, device=self.ids.device)
        to = (rows != torch.arange(len(order), device=rows.device)).nonzero()[:, 0]
        for layer in self.layers:
            if self.store is not None:
                layer.move(to, rows[to], len(order))
            else:
                layer.batch_select_indices(rows)
        if self.groups is not None:
            self.groups.keep(order)
        self.ids, self.mask, self.next = self.ids[rows], self.mask[rows], self.next[rows]
        self.positions = self.positions[rows]


def _beside(
    model: Any, prompts: list[list[int]], past: list[list[int]], max_new: int, store: Store
) -> tuple[Groups | None, list[Beside]]:
    """Groups of rows with the same past, and that past of each layer, where it pays to hold it once."""
    members: dict[tuple[int, ...], list[int]] = {}
    for row, known in enumerate(past):
        if known:
            members.setdefault(tuple(known), []).append(row)
    saved = sum(len(known) * (len(rows) - 1) for known, rows in members.items())
    reach = window(model.config)
    near = reach is None or max(map(len, prompts)) + max_new <= reach
    if not members or saved < GROUP * len(members) or not near or not sees(model):
        return None, []
    groups, places = Groups(list(members.values())), [torch.tensor(known) for known in members]
    return groups, [
        Beside(groups, *([held[at].transpose(0, 1)[None].contiguous() for at in places] for held in layer))
        for layer in store.layers()
    ]


def _staying(staying: list[int]) -> list[int]:
    """Ascending places of the rows that stay, so ordered that the last ones fill the gaps: few are moved."""
    left = len(staying)
    there, late = {place for place in staying if place < left}, [place for place in staying if place >= left]
    return [place if place in there else late.pop() for place in range(left)]


def _batch(
    state: _Batch, rows: int, sampling: Sampling, generators: list[torch.Generator], stops: set[int]
) -> Iterator[tuple[int, list[int], bool]]:
    live = list(range(rows))
    said: list[list[int]] = [[] for _ in range(rows)]
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
            staying = _staying(staying)
            state.keep(staying)
            tokens, live = tokens[staying], [live[i] for i in staying]
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
