"""The run's configuration: frozen, validated, stored with every round. YAML in, one `Config` out.

Unknown keys are refused with the nearest known one. Every field has a default, so `breakfix init` can write a file
that shows them all. Relative paths are taken from the folder that holds the YAML.
"""

from __future__ import annotations

from .data import FIELDS, Curate, Source
from .measuring import Budget, Evaluate, Gate, Identify, Judges, Limits, Redteam, Spend, Suite
from .read import load, parse
from .run import Config, Endpoint, Hardware
from .section import Kind, Section
from .training import BUILT_IN, Dpo, Lora, Recipe, Sft, Train

__all__ = [
    "BUILT_IN",
    "FIELDS",
    "Budget",
    "Config",
    "Curate",
    "Dpo",
    "Endpoint",
    "Evaluate",
    "Gate",
    "Hardware",
    "Identify",
    "Judges",
    "Kind",
    "Limits",
    "Lora",
    "Recipe",
    "Redteam",
    "Section",
    "Sft",
    "Source",
    "Spend",
    "Suite",
    "Train",
    "load",
    "parse",
]
