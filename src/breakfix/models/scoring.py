"""Log-likelihood of continuations, in batches. A prompt that several continuations share is computed once.

Each distinct prompt of a batch is prefilled once (left-padded), what it begins with like others only once for all
(`prefixes`); its cache rows are then repeated, one for each continuation, and the continuations run in one pass on top.
The first token of a continuation is judged by the prefill's last logits. Shapes: B prompts, R rows (continuations) of
a batch, T and C padded lengths, V vocabulary.
"""
# pyright: basic
# (torch's tensors and transformers' caches are half untyped)

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from .cache import is_plain, new_cache, turn
from .prefixes import Store, cuts, distinct
from .reading import Reading, Rows, find_or_read, read

Row = tuple[list[int], list[int]]


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
    mask_BT, positions_BT = prompts.mask_BW, prompts.positions_BT
    index = torch.tensor(owner, device=device)
    ids_RC = torch.tensor([t + [pad] * (length - len(t)) for t in texts], device=device)
    real_RC = torch.tensor([[1] * len(t) + [0] * (length - len(t)) for t in texts], device=device)
    logits_R1V = logits_BV[index, None]
    if length > 1:
        for layer in layers:
            layer.batch_select_indices(index)
        steps = torch.arange(length - 1, device=device)
        positions_RC = positions_BT[index, -1:] + 1 + steps
        if (limit := turn(model.config)) is not None:  # padding shall not count as length
            positions_RC = positions_RC.clamp(max=limit - 1)
        rest = model(
            input_ids=ids_RC[:, :-1],
            attention_mask=torch.cat([mask_BT[index], real_RC[:, :-1]], dim=1),
            position_ids=positions_RC,
            past_key_values=cache,
            use_cache=True,
        )
        logits_RCV = torch.cat([logits_R1V, rest.logits.float()], dim=1)
    else:
        logits_RCV = logits_R1V
    logps_RC = logits_RCV.gather(-1, ids_RC[..., None])[..., 0] - logits_RCV.logsumexp(dim=-1)
    return (logps_RC * real_RC).sum(dim=1).tolist()
