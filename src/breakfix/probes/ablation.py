"""The refusal direction, taken out of a model's weights: how little of a model its refusals are.

Source: Arditi et al. 2024 (2406.11717): the difference between the mean states of harmful and of harmless requests, at
the last token of the prompt; weights orthogonalised to it can write nothing along it, in any layer. Ours: the layer is
chosen among some of the lower four fifths by what the model then says to harmful requests that are set aside, not by
the odds of refusal words; like theirs, no layer is taken that changes what is said to harmless ones (KL of the first
token above `MOST_KL` nats) while there is another. A head that shares its weights with the embeddings keeps them as
they were: the two part ways. Needs a model whose layers add what they write as it is (Llama, Qwen, Phi, Mistral and
kin; not Gemma 2 and 3, which norm it first).
"""
# pyright: basic
# (torch and transformers are half untyped)

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from breakfix.core import Case, Judge, Message, Sampling
from breakfix.evaluate.rates import FULL, NONE, PARTIAL
from breakfix.models.hf import HFModel, load_pretrained
from breakfix.models.identity import save_tokenizer
from breakfix.models.quiet import no_bars
from breakfix.models.states import last_states, spread
from breakfix.probes.base import MOST_KL, Unprobed
from breakfix.train import presets

LEARNT, ASIDE = 128, 16  # requests of each kind whose states are averaged, and that layers are chosen by
LAYERS, UPPER = 6, 0.8  # how many layers are tried at most, of the lower four fifths
TOKENS = 32  # of a reply to a request that is set aside
WRITERS = ("o_proj", "down_proj")
NORMED = ("post_feedforward_layernorm", "post_feedforward_layernorm_1")  # of layers that norm what they write
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Tried:
    """A layer (1 is the first): of harmful requests set aside the share refused without its direction (None: none could
    be judged), the KL on harmless ones, and the distance between the means in units of the states' length."""

    layer: int
    refused: float | None
    kl: float
    distance: float


@dataclass(frozen=True, slots=True)
class Direction:
    """`vector` [H] of length 1, of `chosen`; `refused`: the share of those set aside that was refused with it."""

    vector: Any
    chosen: Tried
    tried: tuple[Tried, ...]
    refused: float | None
    learnt: tuple[int, int]  # harmful, harmless


def find(
    model: HFModel,
    path: Path,
    harmful: Sequence[Case],
    harmless: Sequence[Case],
    judge: Judge,
    *,
    seed: int,
    progress: Progress,
) -> Direction:
    """Of the model at `path`, which `model` is. The cases are training ones. Raises Unprobed."""
    writers(model.model)  # first of all, whether it can be done
    drawn = random.Random(f"{seed}/ablation")
    bad, good = drawn.sample(list(harmful), len(harmful)), drawn.sample(list(harmless), len(harmless))
    aside = min(ASIDE, len(bad) // 2, len(good) // 2)
    if aside == 0:
        raise Unprobed("too few training requests to tell a direction from")
    asked, plain = bad[:aside], good[:aside]
    learn = (bad[aside : aside + LEARNT], good[aside : aside + LEARNT])
    depth = int(model.model.config.get_text_config().num_hidden_layers)
    layers = [layer for layer in spread(depth, LAYERS) if layer <= UPPER * depth] or [1]
    states = [last_states(model.model, ids_of(model, side), layers, pad=model.pad).astype(np.float64) for side in learn]
    means = states[0].mean(axis=0) - states[1].mean(axis=0)
    lengths = np.concatenate(states).std(axis=0)
    before, first = refused(model, asked, judge), _first(model, plain)
    tried: list[Tried] = []
    for place, layer in enumerate(layers):
        progress(f"ablation (seed {seed}), layer {layer}", place, len(layers))
        other = _in_float32(path, model)
        orthogonalise(other.model, _unit(means[place]))
        kl = float(torch.nn.functional.kl_div(_first(other, plain), first, log_target=True, reduction="batchmean"))
        apart = float(np.linalg.norm(means[place]) / np.linalg.norm(lengths[place]))
        tried.append(Tried(layer, refused(other, asked, judge), kl, apart))
        del other
    best = min(range(len(tried)), key=lambda i: _order(tried[i]))
    return Direction(_unit(means[best]), tried[best], tuple(tried), before, (len(learn[0]), len(learn[1])))


def _order(tried: Tried) -> tuple[bool, float, float]:
    return tried.kl > MOST_KL, 1.0 if tried.refused is None else tried.refused, tried.kl


def ablated(path: Path, out: Path, direction: Any) -> Path:
    """The model at `path` without the direction [H], in float32, as a folder of safetensors."""
    model, tokenizer = load_pretrained(path)
    orthogonalise(model, direction)
    with no_bars():
        model.save_pretrained(out)
        save_tokenizer(tokenizer, out)
    return out


def orthogonalise(model: Any, direction: Any) -> None:
    """In place: nothing that writes to the residual stream writes along `direction` [H] any more."""
    unit = torch.as_tensor(direction, device=model.device, dtype=torch.float64)
    _untie(model)
    for _, weight, axis in writers(model):
        held = weight.data.double()
        shape = [-1 if place == axis else 1 for place in range(held.ndim)]
        r = unit.view(shape)
        weight.data = (held - (held * r).sum(dim=axis, keepdim=True) * r).to(weight.dtype)


def along(model: Any, direction: Any) -> dict[str, float]:
    """Name → the largest component along the direction that this weight writes, in units of its largest entry."""
    unit = torch.as_tensor(direction, device=model.device, dtype=torch.float64)
    found: dict[str, float] = {}
    for name, weight, axis in writers(model):
        held = weight.data.double().movedim(axis, -1)
        found[name] = float((held @ unit).abs().max() / held.abs().max().clamp(min=1e-30))
    return found


def writers(model: Any) -> list[tuple[str, Any, int]]:
    """(name, weight, the axis that is the residual stream) of whatever writes to it. Raises Unprobed for a model of
    which that is not known."""
    width = model.config.get_text_config().hidden_size
    embed = model.get_input_embeddings()
    found: list[tuple[str, Any, int]] = [("embeddings", embed.weight, 1)]
    layers = getattr(model.base_model, "layers", None)
    if layers is None or embed.weight.shape[1] != width:
        raise Unprobed(f"how a {model.config.model_type} is built is not known to this probe")
    for number, layer in enumerate(layers):
        if any(hasattr(layer, name) for name in NORMED):
            raise Unprobed(f"a {model.config.model_type} norms what its layers write, so that weights can't be freed")
        mine = list(_of_layer(layer))
        written = {part for name, _, _ in mine for part in name.split(".")[-2:]}
        fused = presets.of(model.config) is not None  # else how a parameter of all experts lies is not known
        if not set(WRITERS) <= written or any(weight.ndim == 3 and not fused for _, weight, _ in mine):
            raise Unprobed(f"what the layers of a {model.config.model_type} write is not known to this probe")
        found += [(f"{number}.{name}", weight, axis) for name, weight, axis in mine]
    if wrong := [name for name, weight, axis in found if weight.shape[axis] != width]:
        raise Unprobed(f"{wrong[0]} of this {model.config.model_type} writes in a way that is not known to this probe")
    return found


def _of_layer(layer: Any) -> Iterator[tuple[str, Any, int]]:
    """Linear layers ([H, in], and their biases), and experts that are one parameter ([experts, H, in])."""
    for name, weight in layer.named_parameters():
        if set(name.split(".")[-2:]) & set(WRITERS):
            yield name, weight, 1 if weight.ndim == 3 else 0


def _untie(model: Any) -> None:
    """Give the head weights of its own: it reads the stream, and reads it as before."""
    head, embed = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is embed.weight:
        head.weight = torch.nn.Parameter(embed.weight.detach().clone(), requires_grad=embed.weight.requires_grad)
        model.config.tie_word_embeddings = False
        model.config.get_text_config().tie_word_embeddings = False


def refused(model: HFModel, cases: Sequence[Case], judge: Judge) -> float | None:
    """Share of the requests that it refuses; None where no reply could be judged."""
    replies = dict(model.generate([case.prompt for case in cases], Sampling(max_new_tokens=TOKENS)))
    rows = [(case, (*case.prompt, Message("assistant", replies[i].text))) for i, case in enumerate(cases)]
    labels = [verdict.label for verdict in judge.judge(rows)]
    scored = [label in (FULL, PARTIAL) for label in labels if label in (FULL, PARTIAL, NONE)]
    return sum(scored) / len(scored) if scored else None


def ids_of(model: HFModel, cases: Sequence[Case]) -> list[list[int]]:
    return [model.ids(model.tokenizer, case.prompt) for case in cases]


def _first(model: HFModel, cases: Sequence[Case]) -> torch.Tensor:
    """[cases, V]: log-probabilities of the reply's first token."""
    device = model.model.device
    with torch.inference_mode():
        rows = [
            model.model(input_ids=torch.tensor([ids], device=device), use_cache=False, logits_to_keep=1).logits[0, -1]
            for ids in ids_of(model, cases)
        ]
    return torch.stack(rows).float().log_softmax(dim=-1).cpu()


def _in_float32(path: Path, model: HFModel) -> HFModel:
    other, tokenizer = load_pretrained(path)
    return HFModel(other.to(model.model.device), tokenizer, f"{model.id}:tried", batch=model.batch)


def _unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)
