"""Automatic learning rates and β, by method, loss and size of the model.

Learning rates are what dev runs on a 135M model found for hundreds of steps (LOG, 2026-11-25). They fall with
the model's width as was measured for Llama and Qwen ("LoRA Without Regret", Thinking Machines 2025; tinker-cookbook's
hyperparam_utils): rate ~ (2000 / width) ** 0.781, of Qwen 0.0775. docs/post-training.md compares them with published
ones, and says why β is the same at every width (0.1 from 7B to 70B in Tülu 2, 2311.10702).
"""
# pyright: basic

from __future__ import annotations

from typing import Any

from ..config import Config

RATES = {("sft", "lora"): 2e-3, ("sft", "full"): 4e-5, ("dpo", "lora"): 1e-4, ("dpo", "full"): 2e-6}  # at WIDTH
WIDTH = 576
STUDIED, FALL, FALL_OF = 2000, 0.781, {"qwen": 0.0775}  # the width at which families agree, and exponents
BETAS = {"sigmoid_norm": 5.0}  # of a margin per token, as in Tülu 3 (2411.15124)
BETA = 0.1


def learning_rate(kind: str, config: Config, model: Any) -> float:
    """The config's, else the automatic one, times `rate`."""
    settings = config.train.sft if kind == "sft" else config.train.dpo
    text = model.config.get_text_config()
    found = settings.learning_rate or automatic_rate(kind, config.train.method, text.model_type, text.hidden_size)
    return found * settings.rate


def automatic_rate(kind: str, method: str, family: str, width: int) -> float:
    """By method, lower for wider models (never higher for narrower ones). `family`: the model type of a config."""
    fall = next((own for name, own in FALL_OF.items() if family.startswith(name)), FALL)
    scale = (WIDTH / STUDIED) ** (FALL - fall) * (WIDTH / width) ** fall  # all families are alike at STUDIED
    return RATES["sft" if kind == "sft" else "dpo", method] * min(1.0, scale)


def beta(config: Config) -> float:
    """The config's, else the automatic one: by loss, and the same at every width."""
    dpo = config.train.dpo
    if dpo.beta is not None:
        return dpo.beta
    return BETA if config.train.preference == "kto" else BETAS.get(dpo.loss, BETA)
