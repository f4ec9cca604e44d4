"""Pairs whose two replies begin alike are no pairs: what pushes the one down pulls the other along.

Source: Razin et al. 2024, "Unintentional unalignment: likelihood displacement in DPO" (2410.08847). They rank pairs by
the CHES score, which compares the two replies' hidden states in the policy, and leave out the most alike. Ours needs no
model and no forward pass: the edit similarity (1 − edits ÷ the longer's length) of the first pieces, as many as the
preference loss sees tokens (`train.dpo.completion_tokens`). It sees shared words only: of two replies in other words
with one meaning it says nothing, and CHES does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from breakfix.core import Dropped, Example
from breakfix.curate.steps.text import words

STEP = "alike"
_PIECE = re.compile(r"[\w'’]+|[^\w\s]")


def similarity(one: str, two: str, pieces: int) -> float:
    """0 (nothing in common) to 1 (the same), over the first `pieces` words and marks of each; case counts."""
    first, second = _pieces(one)[:pieces], _pieces(two)[:pieces]
    longer = max(len(first), len(second))
    return 1 - _edits(first, second) / longer if longer else 1.0


def apart(rows: Sequence[Example], pieces: int, most: float) -> tuple[list[Example], list[Dropped]]:
    """The rows in their order, those whose replies are alike by `most` or more without the one to move away from.

    They stay rows to imitate. What is dropped is the pair, with its reason.
    """
    kept: list[Example] = []
    dropped: list[Dropped] = []
    for row in rows:
        if row.rejected is not None and similarity(row.reply, row.rejected, pieces) >= most:
            dropped.append(Dropped(row, STEP, "no pair: the two replies begin too much alike"))
            row = replace(row, rejected=None, rejected_cut=False)
        kept.append(row)
    return kept, dropped


def _pieces(text: str) -> list[str]:
    """Words and marks; a character each in scripts without spaces, where `words` makes more of them than we do."""
    found = _PIECE.findall(text)
    split = words(text)
    return split if len(split) > 2 * len(found) else found


def _edits(one: Sequence[str], two: Sequence[str]) -> int:
    """Levenshtein distance."""
    row = list(range(len(two) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(two, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]
