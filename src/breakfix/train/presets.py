"""What is known of model families: which weights LoRA adapts, what must not learn, how a turn ends.

A family goes by the `model_type` of its config. `train.lora.targets: auto` takes the family's targets; of a model that
is not known, all linear layers. They are those of "LoRA Without Regret" (Thinking Machines 2025): every matrix between
the embeddings and the head, which are left as they are. Experts that transformers keeps as one three-dimensional
parameter are no modules, and are named as parameters (peft's `target_parameters`).
"""
# pyright: basic
# (transformers' configs and peft's are half untyped)

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_SPLIT = (*_ATTENTION, "gate_proj", "up_proj", "down_proj")
_FUSED = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
_BALANCE = ("router_aux_loss_coef", "output_router_logits")
_EXPERTS = ("experts.gate_up_proj", "experts.down_proj")


@dataclass(frozen=True, slots=True)
class Preset:
    """`targets`: modules that LoRA adapts, `parameters`: fused experts, likewise. `router`: the class of what sends
    tokens to experts; it keeps its weights, and chooses as in inference while the rest is trained. `turn_end`: how the
    family's templates end a turn."""

    name: str
    targets: tuple[str, ...]
    turn_end: tuple[str, ...]
    parameters: tuple[str, ...] = ()
    router: str = ""


PRESETS = {
    "phi3": Preset("Phi-3 and Phi-4-mini", _FUSED, ("<|end|>",)),
    "phimoe": Preset("Phi-3.5-MoE", _ATTENTION, ("<|end|>",), _EXPERTS, "PhimoeTopKRouter"),
    "llama": Preset("Llama", _SPLIT, ("<|eot_id|>", "<|im_end|>", "</s>")),
    "qwen2": Preset("Qwen2 and Qwen2.5", _SPLIT, ("<|im_end|>",)),
    "qwen3": Preset("Qwen3", _SPLIT, ("<|im_end|>",)),
    "qwen3_moe": Preset("Qwen3-MoE", _ATTENTION, ("<|im_end|>",), _EXPERTS, "Qwen3MoeTopKRouter"),
    "gemma2": Preset("Gemma 2", _SPLIT, ("<end_of_turn>",)),
    "gemma3_text": Preset("Gemma 3", _SPLIT, ("<end_of_turn>",)),
    "mistral": Preset("Mistral", _SPLIT, ("</s>",)),
    "mixtral": Preset("Mixtral", _ATTENTION, ("</s>",), _EXPERTS, "MixtralTopKRouter"),
}


def of(config: Any) -> Preset | None:
    """The preset of a model's config; None where the family is not known."""
    return PRESETS.get(config.get_text_config().model_type)


def lora(targets: str | tuple[str, ...], dropout: float, model: Any) -> dict[str, Any]:
    """`target_modules` and `target_parameters` of a LoraConfig, for `train.lora.targets`.

    ConfigError where the fused experts of `auto` meet a dropout, which peft can't apply to them, and where a target is
    no layer of the model.
    """
    if targets not in ("auto", "all-linear"):
        _check(targets, model)
    if targets != "auto":
        return {"target_modules": targets if isinstance(targets, str) else list(targets)}
    preset = of(model.config)
    if preset is None:
        return {"target_modules": "all-linear"}
    if preset.parameters and dropout:
        raise ConfigError(
            f"train.lora.dropout is {dropout}; the experts of {preset.name} take none; set it to 0, or name "
            f"train.lora.targets without them: [{', '.join(preset.targets)}]"
        )
    return {"target_modules": list(preset.targets), "target_parameters": list(preset.parameters) or None}


def _check(targets: str | tuple[str, ...], model: Any) -> None:
    """As peft takes them: a text is a pattern of whole names, of a list each is the end of some."""
    layers = {name for name, m in model.named_modules() if getattr(getattr(m, "weight", None), "ndim", 0) == 2}
    for target in [targets] if isinstance(targets, str) else targets:
        try:
            pattern = re.compile(target if isinstance(targets, str) else rf"(.*\.)?{re.escape(target)}")
            found = {name for name, _ in model.named_modules() if pattern.fullmatch(name)}
        except re.error:
            found = set[str]()
        if not found or not found <= layers:
            there = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in layers}))
            raise ConfigError(
                f"train.lora.targets: {target!r} is no layer of this model, which has {there}; give a list of some of "
                "these, auto, all-linear, or a pattern of whole names"
            )


@contextmanager
def settled(model: Any) -> Iterator[None]:
    """Meanwhile a mixture of experts is trained with its routing as it is at inference.

    Phimoe's router draws its experts at random in training mode: the first loss of DPO would not be ln 2, and no two
    passes of a token agree. And a loss that balances the load of experts is of pre-training; with frozen routers it
    would only pull at what comes before them. The config is then as it was, for it is saved with the weights; TRL would
    leave them to generate without a cache.
    """
    preset, config = of(model.config), model.config.get_text_config()
    routers = [m for m in model.modules() if preset and preset.router and type(m).__name__ == preset.router]
    before = {name: getattr(config, name) for name in (*_BALANCE, "use_cache") if hasattr(config, name)}
    for name in before.keys() & _BALANCE:
        setattr(config, name, type(before[name])(0))
    for router in routers:
        router.eval().requires_grad_(False)
        router.train = lambda mode=True, router=router: router
    try:
        yield
    finally:
        for router in routers:
            del router.train
        for name, value in before.items():
            setattr(config, name, value)


def facts(config: Any) -> dict[str, Any]:
    """What decides how a model is trained, for the record: the preset (None: not known), and what its config says."""
    text, preset = config.get_text_config(), of(config)
    rope = getattr(text, "rope_parameters", None) or {}
    spans = [n for n in (getattr(text, "sliding_window", None),) if n and _slides(text)]
    experts = getattr(text, "num_local_experts", None) or getattr(text, "num_experts", None)
    found = {
        "preset": preset.name if preset else None,
        "type": text.model_type,
        "tied_embeddings": bool(text.tie_word_embeddings),
        "sliding_window": spans[0] if spans else None,
        "long_rope_from": rope.get("original_max_position_embeddings") if rope.get("rope_type") == "longrope" else None,
        "experts": experts,
    }
    return {name: value for name, value in found.items() if value is not None or name == "preset"}


def _slides(config: Any) -> bool:
    kinds = getattr(config, "layer_types", None)
    return kinds is None or "sliding_attention" in kinds
