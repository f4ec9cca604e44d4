"""Checks before the first step, each of them a trap that has cost somebody a run (see the README of any trainer).

Raises TrainingRefused (a UserError, one line) where training would silently teach the wrong thing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core import Example
from ..errors import UserError
from ..models.render import closed_ids, stop_ids, turn_end

LN2 = math.log(2)
TOLERANCE = 0.03  # of the first preference loss, where that is more than 1; reference and policy run in other precision
# By TRL's name: the loss of a pair on which policy and reference agree, and how it is written. β is what varies.
FIRST: Mapping[str, tuple[Callable[[float], float], str]] = {
    "sigmoid": (lambda beta: LN2, "ln 2"),
    "sigmoid_norm": (lambda beta: LN2, "ln 2"),
    "aot": (lambda beta: LN2, "ln 2"),
    "hinge": (lambda beta: 1.0, "1"),
    "ipo": (lambda beta: 1 / (4 * beta**2), "(1 / 2β)²"),
    "nca_pair": (lambda beta: 2 * LN2, "2 ln 2"),
    "bco_pair": (lambda beta: 2 * LN2, "2 ln 2"),
    "sppo_hard": (lambda beta: 1 / (2 * beta**2), "2 (1 / 2β)²"),
    "apo_zero": (lambda beta: 1.0, "1"),
    "apo_down": (lambda beta: 1.0, "1"),
}


class TrainingRefused(UserError):
    """The rows or the template would train something else than what was asked for."""


def check_rows(tokenizer: Any, examples: Sequence[Example], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """SFT: something is trained, the turn end carries loss, tokens agree with the template. Returns what was seen.

    `rows` are those of `examples`, in order; an example may have none.
    """
    if not rows:
        raise TrainingRefused("no training rows are left; expected at least one; look at `dropped` in the report")
    trained = sum(sum(label != -100 for label in row["labels"]) for row in rows)
    if trained == 0:
        raise TrainingRefused(f"{len(rows)} rows carry no trained token; expected some; check train.sft.max_length")
    stops = stop_ids(tokenizer)
    end = turn_end(tokenizer)
    if not stops & set(end):
        raise TrainingRefused("the template's turn end is not a stop token; the trained model would never stop")
    closed = sum(any(label in stops for label in row["labels"]) for row in rows)
    if closed == 0:
        raise TrainingRefused("no row trains the end-of-turn token; expected some; every reply was cut or masked")
    check_template(tokenizer, examples, [row["input_ids"] for row in rows])
    return {
        "rows": len(rows),
        "tokens": sum(len(row["input_ids"]) for row in rows),
        "trained_tokens": trained,
        "rows_with_turn_end": closed,
        "turn_end": tokenizer.convert_ids_to_tokens(end[:1])[0],
    }


def check_template(tokenizer: Any, examples: Sequence[Example], rows: Sequence[Sequence[int]]) -> None:
    """Every row is what the template makes of its example, closed, or the beginning of that (a reply may be cut).

    A row begins with the tokens of inference. A template may write a finished turn otherwise than it opens one, may
    trim what is said, or rewrite earlier turns: the model would then learn what no conversation ever shows it. Where
    only the text's division into tokens differs, inference's is right, and nothing is wrong.
    """
    spare = len(examples) - len(rows)  # examples that left no row
    todo = iter(examples)
    for row in rows:
        example = next(todo)
        first, place = example, _differs(tokenizer, example, row)
        while place is not None and spare > 0:
            spare, example = spare - 1, next(todo)
            place = None if _differs(tokenizer, example, row) is None else place
        if place is not None:
            raise TrainingRefused(
                f"row {first.id}: training and inference tokens differ from token {place} on; the chat template writes "
                "a closed turn otherwise than it is generated; give a model whose template does not, or mend it"
            )


def _differs(tokenizer: Any, example: Example, row: Sequence[int]) -> int | None:
    """The first token (from 0) of the row that is not the template's; None if it all is."""
    whole, ids = closed_ids(tokenizer, example.prompt, example.reply), list(row)
    if whole[: len(ids)] == ids:
        return None
    said = tokenizer.decode(ids).rstrip("\ufffd")  # where a cut fell within a character
    if tokenizer.decode(whole).startswith(said):
        return None
    pairs = zip(ids, whole)
    return next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), min(len(ids), len(whole)))


def check_first_loss(loss: float, expected: float = LN2, written: str = "ln 2", name: str = "DPO") -> float:
    """Before any step policy and reference agree, so the loss is known: ln 2 = 0.6931 of DPO. Returns the loss.

    Of KTO it is half the weight of a row, on average: no reply differs from the reference, and so does no other.
    """
    if not math.isfinite(loss) or abs(loss - expected) > TOLERANCE * max(1.0, expected):
        raise TrainingRefused(
            f"the first {name} loss is {loss:.4f}, expected {written} = {expected:.4f}; policy and reference are not "
            "the same weights"
        )
    return loss
