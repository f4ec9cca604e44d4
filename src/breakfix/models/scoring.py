"""Log-likelihood of continuations, in batches. A prompt that several continuations share is computed once.

Each distinct prompt of a batch is prefilled once (left-padded), what it begins with like others only once for all
(`prefixes`); its cache rows are then repeated, one for each continuation, and continuations of about the same length
run in one pass on top.
The first token of a continuation is judged by the prefill's last logits. Shapes: B prompts, R rows (continuations) of
a batch, T and C padded lengths, V vocabulary.
"""
# pyright: basic
# (torch's tensors and transformers' caches are half untyped)

from __future__ import annotations

import contextlib
import copy
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import torch

from .cache import is_plain, new_cache, turn
from .prefixes import Store, cuts, distinct
from .reading import Reading, Rows, find_or_read, read

Row = tuple[list[int], list[int]]
AT_ONCE = 64  # rows of logits in float32
SHORTER = 0.6  # a continuation shorter than this, compared with the longest, runs in another pass


def score_pairs(model: Any, rows: Sequence[Row], *, pad: int, tokens_a_batch: int = 4096) -> list[tuple[float, int]]:
    """(sum of natural-log probabilities, tokens) of each row's continuation given its prompt. Empty ones score 0."""
    by_prompt: dict[tuple[int, ...], list[int]] = defaultdict(list)
    scores: dict[int, float] = {}
    limit = turn(model.config)
    with torch.inference_mode():
        for i, (prompt, text) in enumerate(rows):
            if limit is not None and len(prompt) + len(text) > limit:
                scores[i] = _score_alone(model, prompt, text)
            else:
                by_prompt[tuple(prompt)].append(i)
        whole = [list(prompt) for prompt in by_prompt]
        marks = dict(enumerate(cuts(whole)))
        places = {prompt: place for place, prompt in enumerate(by_prompt)}
        plain = is_plain(new_cache(model.config, 1))
        store = Store(min(2 * tokens_a_batch, distinct(whole, marks))) if plain else None
        for prompts in _batches(by_prompt, tokens_a_batch):
            some = {places[p]: marks[places[p]] for p in prompts}
            past = find_or_read(model, store, whole, some, pad) if store else {}
            members = [i for p in prompts for i in by_prompt[p]]
            owner = [place for place, p in enumerate(prompts) for _ in by_prompt[p]]
            sums = _score_batch(
                model,
                Rows([whole[i] for i in some], [past.get(i, []) for i in some], pad, model.device),
                store,
                owner,
                [rows[i][1] for i in members],
                pad,
            )
            scores.update(zip(members, sums, strict=True))
    return [(scores[i], len(rows[i][1])) for i in range(len(rows))]


def _batches(by_prompt: dict[tuple[int, ...], list[int]], tokens: int) -> Iterator[list[tuple[int, ...]]]:
    """Distinct prompts, longest first, so that rows × length stays under `tokens`."""
    batch: list[tuple[int, ...]] = []
    rows = 0
    for prompt in sorted(by_prompt, key=len, reverse=True):
        rows += len(by_prompt[prompt])
        if batch and rows * len(batch[0]) > tokens:
            yield batch
            batch, rows = [], len(by_prompt[prompt])
        batch.append(prompt)
    if batch:
        yield batch


def _score_alone(model: Any, prompt: list[int], text: list[int]) -> float:
    """One row in one pass (see `cache.turn`)."""
    ids = torch.tensor([prompt + text], device=model.device)
    logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
    return float(logits.log_softmax(dim=-1).gather(-1, ids[0, len(prompt) :, None]).sum())


def _score_batch(
    model: Any, prompts: Rows, store: Store | None, owner: list[int], texts: list[list[int]], pad: int
) -> list[float]:
    device = model.device
    B, length = len(prompts.ids_BT), max(1, max(map(len, texts)))
    cache = new_cache(model.config, prompts.width + length, B, prompts.width if store else 0)
    layers: list[Any] = cache.layers
    held = [Reading(i, prompts, store, slab=slab, at=slice(0, B)) for i, slab in enumerate(layers)] if store else layers
    logits_BV = read(model, prompts, held)
    index = torch.tensor(owner, device=device)
    firsts = torch.tensor([text[0] if text else pad for text in texts], device=device)
    sums = _log_probs(logits_BV[index], firsts).tolist()
    for rows in _alike(texts):
        if len(texts[rows[0]]) > 1:
            some = [texts[i] for i in rows]
            later = _later(model, prompts, layers, index[torch.tensor(rows, device=device)], some, pad)
            for i, logp in zip(rows, later, strict=True):
                sums[i] += logp
    return [logp if text else 0.0 for logp, text in zip(sums, texts, strict=True)]


def _alike(texts: list[list[int]]) -> Iterator[list[int]]:
    """Rows whose continuations are about as long, so that little is padding; longest first."""
    rows: list[int] = []
    for i in sorted(range(len(texts)), key=lambda i: len(texts[i]), reverse=True):
        if rows and len(texts[i]) < SHORTER * len(texts[rows[0]]):
            yield rows
            rows = []
        rows.append(i)
    if rows:
        yield rows


def _later(
    model: Any, prompts: Rows, layers: list[Any], index: torch.Tensor, texts: list[list[int]], pad: int
) -> list[float]:
    """What the tokens after the first add, row by row; `index` [R]: their prompts; `layers`: the cache of these."""
    device, length = model.device, max(map(len, texts))
    cache = new_cache(model.config, 1)
    own = [copy.copy(layer) for layer in layers]
    for layer in own:
        layer.batch_select_indices(index)
    cache.layers[:] = own
    ids_RC = torch.tensor([t + [pad] * (length - len(t)) for t in texts], device=device)
    real_RC = torch.tensor([[k < len(t) for k in range(length)] for t in texts], device=device)
    positions_RC = prompts.positions_BT[index, -1:] + 1 + torch.arange(length - 1, device=device)
    if (limit := turn(model.config)) is not None:  # padding shall not count as length
        positions_RC = positions_RC.clamp(max=limit - 1)
    later_RC = real_RC[:, 1:]  # the places that say how likely the next token is, and the next tokens themselves
    with _head_sees(model, later_RC) as seen:
        logits = model(
            input_ids=ids_RC[:, :-1],
            attention_mask=torch.cat([prompts.mask_BW[index], real_RC[:, :-1].long()], dim=1),
            position_ids=positions_RC,
            past_key_values=cache,
            use_cache=True,
        ).logits
    found = _log_probs(logits if seen else logits[later_RC], ids_RC[:, 1:][later_RC]).double()
    return found.new_zeros(len(texts)).index_add_(0, later_RC.nonzero()[:, 0], found).tolist()


@contextlib.contextmanager
def _head_sees(model: Any, places_RC: torch.Tensor) -> Generator[bool]:
    """Within, the language-model head is given the places [R, C] that count, one after the other, and the model returns
    their logits [N, V] alone: with a large vocabulary and padded rows most of the work would be for the rest. Yields
    whether it is so; a model that has no plain head gives all."""
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        yield False
        return
    handle = head.register_forward_pre_hook(lambda _, given: (given[0][places_RC],))
    try:
        yield True
    finally:
        handle.remove()


def _log_probs(logits_NV: torch.Tensor, ids_N: torch.Tensor) -> torch.Tensor:
    """[N], float32, a few rows at a time: float32 copies of all logits would not stay in the cache."""
    parts = zip(logits_NV.split(AT_ONCE), ids_N.split(AT_ONCE), strict=True)
    found = [(x := some.float()).gather(-1, ids[:, None])[:, 0] - x.logsumexp(-1) for some, ids in parts]
    return torch.cat(found) if found else logits_NV.new_zeros(0, dtype=torch.float32)
