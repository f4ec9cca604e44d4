"""The hazards a case can belong to: the twelve of MLCommons AILuminate v1.0 (arXiv 2503.05731).

They are written down in data/taxonomy.yaml. Ids and definitions are ours; AILuminate's three groups are kept.
`severity` is our own default weight for ranking, used where no judge has given a severity.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, cast

import yaml

from breakfix.errors import DataError

GROUPS = ("physical", "nonphysical", "contextual")


@dataclass(frozen=True, slots=True)
class Hazard:
    """One category of harm. `severity`: 0 (none) to 7 (mass or irreversible harm), the default weight of one breach."""

    id: str
    name: str
    group: str
    definition: str
    good_answer: str
    severity: int


@cache
def hazards() -> Mapping[str, Hazard]:
    """id → hazard, in AILuminate's order. Read once from the package's own file."""
    text = resources.files("breakfix").joinpath("data", "taxonomy.yaml").read_text(encoding="utf-8")
    return MappingProxyType(load(text))


def load(text: str) -> dict[str, Hazard]:
    """Hazards from YAML text (a list under `hazards`). Raises DataError: wrong field, group, severity, double id."""
    loaded = yaml.safe_load(text)
    rows = cast("dict[str, Any]", loaded).get("hazards") if isinstance(loaded, dict) else None
    if not isinstance(rows, list):
        raise DataError("taxonomy: expected a list under 'hazards'")
    found: dict[str, Hazard] = {}
    for row in cast("list[dict[str, Any]]", rows):
        hazard = _hazard(row)
        if hazard.id in found:
            raise DataError(f"taxonomy: hazard '{hazard.id}' is there twice; ids must be unique")
        found[hazard.id] = hazard
    return found


def _hazard(row: dict[str, Any]) -> Hazard:
    fields = {f.name for f in dataclasses.fields(Hazard)}
    if set(row) != fields:
        wrong = ", ".join(sorted(set(row) ^ fields))
        raise DataError(f"taxonomy: hazard '{row.get('id', '?')}' has missing or unknown fields: {wrong}")
    hazard = Hazard(**row)
    if hazard.group not in GROUPS:
        raise DataError(f"taxonomy: hazard '{hazard.id}': group '{hazard.group}', expected {' | '.join(GROUPS)}")
    if hazard.severity not in range(8):
        raise DataError(
            f"taxonomy: hazard '{hazard.id}': severity {hazard.severity!r}, expected a whole number, 0 to 7"
        )
    return hazard
