"""A suffix that was found by GCG, put behind the request: the attack, and the file that it comes from.

Source: GCG (Zou et al. 2023, 2307.15043). Ours: nothing is searched for here. A suffix is found once, offline, on one
model's gradients (`breakfix probe-weights`, probes/gcg.py), for several training cases together, and kept as JSON. On
the model that it was found on it is a white-box attack; on any other it is black-box, and says how far such suffixes
carry over. No suffix ships with the package, so that the attack is in no catalogue. One query.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

from breakfix.core import Case, Conversation, digest
from breakfix.errors import DataError
from breakfix.redteam.base import Access, OneQuery, reworded

FORMAT = "breakfix-suffix/1"
FAMILY = "gcg_suffix"


@dataclass(frozen=True, slots=True)
class Suffix:
    """`text` was found on `model` (its id) so that its replies to the training cases `cases` (ids) begin with `target`.

    `loss`: nats per token of the target, mean over the cases, with the suffix, `loss_before` with the one that the
    search began with (`begun`). `losses`: after each step, the best so far. `said`: of how many cases the target was
    the likeliest reply. `seed`, `steps`, `candidates` (a step), `tokens` (of the suffix): the search.
    """

    text: str
    model: str
    target: str
    cases: tuple[str, ...]
    seed: int
    steps: int
    candidates: int
    tokens: int
    begun: str
    loss_before: float
    loss: float
    losses: tuple[float, ...]
    said: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Suffix:
        """Of plain JSON values."""
        values: dict[str, Any] = {k: tuple(cast("list[Any]", v)) if isinstance(v, list) else v for k, v in row.items()}
        return cls(**values)


class GcgSuffix(OneQuery):
    """Puts a suffix behind the request. Its name holds the suffix's digest: another suffix, other attempts.

    `target`: the id of the model that is asked; where it is the suffix's own, the attack counts as white-box.
    """

    family = FAMILY
    doc = "A suffix of a few tokens, found on a model's gradients, behind the request."
    source = "2307.15043"

    def __init__(self, text: str, model: str = "", target: str = "") -> None:
        self.text = text
        self.name = f"{FAMILY}_{digest(text)[:8]}"
        self.access: Access = "white-box" if model and model == target else "black-box"

    @classmethod
    def of(cls, suffix: Suffix, target: str = "") -> GcgSuffix:
        return cls(suffix.text, suffix.model, target)

    def put(self, case: Case, rng: random.Random) -> Conversation:
        return reworded(case, joined(case.text, self.text))


def joined(request: str, suffix: str) -> str:
    """The request, a space and the suffix, which may bring the space with it."""
    return request + ("" if suffix[:1].isspace() else " ") + suffix


def as_json(suffix: Suffix) -> str:
    return json.dumps({"format": FORMAT, **asdict(suffix)}, indent=1) + "\n"


def read(path: Path) -> Suffix:
    """Raises DataError in one line where the file is none that `as_json` wrote."""
    expected = f"expected a suffix file ({FORMAT}), as `breakfix probe-weights MODEL --probes gcg` writes"
    try:
        loaded: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}); {expected}") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON; {expected}") from error
    row = cast("dict[str, Any]", loaded) if isinstance(loaded, dict) else {}
    if row.pop("format", None) != FORMAT or set(row) != {field.name for field in fields(Suffix)}:
        raise DataError(f"{path}: {expected}")
    if not isinstance(row["text"], str) or not row["text"].strip():
        raise DataError(f"{path}: the suffix is {row['text']!r}; {expected}")
    return Suffix.of(row)
