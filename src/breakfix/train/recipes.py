"""What a candidate of a round is trained on and by: the round's config and rows, changed as its recipe says. Pure."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ..config import Config, Recipe
from ..core import Example

KINDS = ("harmful", "twin", "plain")


def changed(config: Config, recipe: Recipe) -> Config:
    """The config that the candidate is trained by."""
    seed = config.seed if recipe.seed is None else recipe.seed
    return config.model_copy(update={"train": config.train.changed(recipe), "seed": seed})


def same_sft(config: Config, other: Config, recipe: Recipe) -> bool:
    """Whether a candidate's SFT is the round's own, so that only what comes after it has to be trained."""
    return config.train.sft == other.train.sft and config.seed == other.seed and not recipe.shares


def subset(examples: Sequence[Example], shares: Mapping[str, float]) -> list[Example]:
    """As many of the examples as can have these shares by kind, in their order; nearly the same ones for near shares.

    Kinds that have no share given fill the rest, in the proportion in which they are there. {"harmful": 0.25} of 30
    harmful rows, 30 twins and 30 plain ones: 20, 30 and 30.
    """
    there = Counter(example.kind for example in examples)
    others = {kind: n for kind, n in there.items() if kind not in shares}
    rest = max(0.0, 1 - sum(shares.values()))
    wanted = {kind: share for kind, share in shares.items() if share > 0 and there[kind]}
    wanted |= {kind: rest * n / sum(others.values()) for kind, n in others.items() if rest > 0}
    if not wanted:
        return []
    whole = sum(wanted.values())  # below 1 where a kind that has a share is not there
    total = min(there[kind] * whole / share for kind, share in wanted.items())
    kept: set[int] = set()
    for kind, share in wanted.items():
        rows = sorted((i for i, e in enumerate(examples) if e.kind == kind), key=lambda i: (_drawn(examples[i].id), i))
        kept.update(rows[: math.floor(total * share / whole + 1e-9)])
    return [example for i, example in enumerate(examples) if i in kept]


def unpaired(sft: Iterable[Example], pairs: Sequence[Example], most: int) -> list[Example]:
    """Rows for KTO that have no pair: at most `most` of the SFT rows, harmful and benign in equal number, whose prompt
    is in no pair, and ends with what a user says (not with a reply begun the wrong way, as curate/recovery.py has it).
    Without `rejected`, whatever they had: each is an example of a good reply."""
    known = {example.prompt for example in pairs}
    alone = sorted(
        (e for e in sft if e.prompt not in known and e.prompt[-1].role == "user"), key=lambda e: _drawn(e.id)
    )
    harmful = [example for example in alone if example.kind == "harmful"]
    benign = [example for example in alone if example.kind != "harmful"]
    n = min(len(harmful), len(benign), most // 2)
    drawn = [row for two in zip(harmful[:n], benign[:n], strict=True) for row in two]
    return [replace(row, rejected=None, rejected_cut=False) for row in drawn]


def learnt(examples: Iterable[Example]) -> set[str]:
    """What tells that a case is learnt from: the ids that rows came from (in a frame, or begun, a row's text is not its
    case's), and all that their prompts say."""
    return {key for e in examples for key in (*e.parents, *(message.content for message in e.prompt))}


def _drawn(id: str) -> bytes:
    return hashlib.sha256(f"subset/{id}".encode()).digest()
