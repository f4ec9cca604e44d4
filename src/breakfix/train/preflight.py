"""Checks before the first step, each of them a trap that has cost somebody a run (see the README of any trainer).

Raises TrainingRefused (a UserError, one line) where training would silently teach the wrong thing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..core import Example
from ..errors import UserError
from ..models.render import prompt_ids, stop_ids, training_row, turn_end

LN2_TOLERANCE = 0.02


class TrainingRefused(UserError):
    """The rows or the template would train something else than what was asked for."""


def check_rows(tokenizer: Any, examples: Sequence[Example], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """SFT: tokens agree with inference, the turn end carries loss, something is trained. Returns what was seen."""
    if not rows:
        raise TrainingRefused("no training rows are left; expected at least one; look at `dropped` in the report")
    trained = sum(sum(label != -100 for label in row["labels"]) for row in rows)
    if trained == 0:
        raise TrainingRefused(f"{len(rows)} rows carry no trained token; expected some; check train.sft.max_length")
    first = examples[0]
    whole, prompt = training_row(tokenizer, first.prompt, first.reply), prompt_ids(tokenizer, first.prompt)
    if whole.prompt != prompt:
        raise TrainingRefused(
            f"row {first.id}: training and inference tokens differ; the chat template is inconsistent"
        )
    stops = stop_ids(tokenizer)
    end = turn_end(tokenizer)
    if not stops & set(end):
        raise TrainingRefused("the template's turn end is not a stop token; the trained model would never stop")
    closed = sum(any(label in stops for label in row["labels"]) for row in rows)
    if closed == 0:
        raise TrainingRefused("no row trains the end-of-turn token; expected some; every reply was cut or masked")
    return {
        "rows": len(rows),
        "tokens": sum(len(row["input_ids"]) for row in rows),
        "trained_tokens": trained,
        "rows_with_turn_end": closed,
        "turn_end": tokenizer.convert_ids_to_tokens(end[:1])[0],
    }


def check_first_loss(loss: float) -> float:
    """DPO: before any step policy and reference agree, so the sigmoid loss is ln 2 = 0.6931. Returns the loss."""
    if not math.isfinite(loss) or abs(loss - math.log(2)) > LN2_TOLERANCE:
        raise TrainingRefused(
            f"the first DPO loss is {loss:.4f}, expected ln 2 = 0.6931; policy and reference are not the same weights"
        )
    return loss
