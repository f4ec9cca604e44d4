"""Examples → token rows for the trainers. Every token comes from `models.render`, the module that inference uses."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core import Example
from ..models.render import prompt_ids, training_row, turn_end
from .order import KIND
from .weights import weigh


@dataclass(frozen=True, slots=True)
class Shortened:
    """Example `id` was longer than `max_length` tokens and lost `lost` of them from the end of its reply."""

    id: str
    lost: int


def sft_rows(
    tokenizer: Any,
    examples: Iterable[Example],
    max_length: int,
    first_tokens: int | None = None,
    whole_share: float = 0.0,
    first_weight: float = 1.0,
    row_weight: Mapping[str, float] | None = None,
) -> tuple[list[dict[str, Any]], list[Shortened]]:
    """Rows {input_ids, labels, kind}; labels are -100 on the prompt. What a prompt alone fills is left out.

    `first_tokens`: only that many tokens of a reply are learnt, but for a share of `whole_share` of the rows (the same
    ones each time). Whether to refuse is said in the first tokens, and in a loss that is a mean over tokens they would
    count for little beside the words that follow. After 2406.05946 ("shallow" alignment), which weighs them
    up: `first_weight` does so in replies that are learnt whole, and with `row_weight` (by kind) adds token_weights to
    the rows (weights.py).
    """
    rows: list[dict[str, Any]] = []
    shortened: list[Shortened] = []
    complete: list[bool] = []
    end = len(turn_end(tokenizer))
    examples = list(examples)
    whole = _chosen({example.id for example in examples}, whole_share)
    for example in examples:
        prompt, completion = training_row(tokenizer, example.prompt, example.reply)
        if example.cut:
            completion = completion[:-end]
        if first_tokens is not None and example.id not in whole:
            completion = completion[:first_tokens]
        room = max_length - len(prompt)
        if len(completion) > room:
            shortened.append(Shortened(example.id, len(completion) - max(0, room)))
            completion = completion[: max(0, room)]
        if completion:
            rows.append(
                {"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion, KIND: example.kind}
            )
            complete.append(first_tokens is None or example.id in whole)
    weigh(
        rows,
        [row[KIND] for row in rows],
        complete,
        first=first_tokens or 0,
        first_weight=first_weight,
        row_weight=row_weight or {},
    )
    return rows, shortened


def _chosen(ids: set[str], share: float) -> set[str]:
    """A share of the rows, rounded up (a coin for each could leave none of a few); nearly the same ones each time."""
    return set(sorted(ids, key=lambda id: hashlib.sha256(id.encode()).digest())[: math.ceil(share * len(ids))])


def dpo_rows(
    tokenizer: Any, examples: Iterable[Example], max_length: int, completion_tokens: int
) -> tuple[list[dict[str, Any]], list[Shortened]]:
    """Rows {prompt_ids, chosen_ids, rejected_ids, kind}; both sides are cut to `completion_tokens`.

    A side that the token budget had cut stays open: the end of a turn is neither learnt nor unlearnt there.
    """
    end = turn_end(tokenizer)
    rows: list[dict[str, Any]] = []
    shortened: list[Shortened] = []
    for example in examples:
        if example.rejected is None:
            continue
        prompt = prompt_ids(tokenizer, example.prompt)
        room = min(completion_tokens, max_length - len(prompt))
        if room <= 0:
            shortened.append(Shortened(example.id, len(prompt)))
            continue
        sides = [
            (tokenizer(text, add_special_tokens=False)["input_ids"] + ([] if cut else end))[:room]
            for text, cut in ((example.reply, example.cut), (example.rejected, example.rejected_cut))
        ]
        rows.append({"prompt_ids": prompt, "chosen_ids": sides[0], "rejected_ids": sides[1], KIND: example.kind})
    return rows, shortened


def kto_rows(
    tokenizer: Any, examples: Iterable[Example], max_length: int, completion_tokens: int, seed: int
) -> tuple[list[dict[str, Any]], list[Shortened]]:
    """Rows {prompt_ids, completion_ids, label} in an order that mixes them: a reply to imitate is one (label true), a
    rejected reply another (false). Cut, and left open, as the sides of a pair are."""
    end = turn_end(tokenizer)
    rows: list[dict[str, Any]] = []
    shortened: list[Shortened] = []
    for example in examples:
        prompt = prompt_ids(tokenizer, example.prompt)
        room = min(completion_tokens, max_length - len(prompt))
        if room <= 0:
            shortened.append(Shortened(example.id, len(prompt)))
            continue
        sides = ((example.reply, example.cut, True), (example.rejected, example.rejected_cut, False))
        for text, cut, good in sides:
            if text:
                said = (tokenizer(text, add_special_tokens=False)["input_ids"] + ([] if cut else end))[:room]
                rows.append({"prompt_ids": prompt, "completion_ids": said, "label": good})
    random.Random(seed).shuffle(rows)
    return rows, shortened
