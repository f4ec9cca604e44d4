"""Quality of harmless rows that are learnt from: a few plain heuristics of form, in [0, 1].

Phi's data recipe keeps what a classifier finds educational (Gunasekar et al. 2023, 2306.11644). We have no such labels,
and a classifier without them would be a guess with decimals. Ours are rules of form as in Gopher's (Rae et al. 2021,
2112.11446), at the size of a reply. Each gives 1 or a part of it; the score is their product:

    length      words of the reply ÷ SHORT, at most 1; in scripts without spaces a word is two characters
    letters     share of letters among the characters that are no space ÷ 0.6, at most 1: tables of symbols, debris
    repetition  distinct word 3-grams ÷ all ÷ 0.7, at most 1: loops
    lines       distinct lines ÷ all: the same line again and again
    end         0.7 where the reply breaks off without a sign that ends a sentence, unless a token budget cut it

A reply of a few right words is worth having, too ("Paris."), so the default (`curate.quality`) is low.
"""

from __future__ import annotations

from collections.abc import Sequence

from breakfix.core import Dropped, Example
from breakfix.curate.steps.stream import Look, whole
from breakfix.curate.steps.text import runs, unspaced, words

SHORT = 4
LOW = "its reply is of low quality (form)"
_ENDS = tuple(".!?:;。！？।؟…)]}\"'”’»`*")


def score(reply: str, *, cut: bool = False) -> float:
    """0 to 1; 0 for an empty reply."""
    tokens = words(reply)
    solid = [c for c in reply if not c.isspace()]
    if not tokens or not solid:
        return 0.0
    length = min(1.0, len(tokens) / (2 * SHORT if unspaced(tokens) else SHORT))
    letters = min(1.0, sum(c.isalpha() for c in solid) / len(solid) / 0.6)
    grams = list(runs(tokens, 3))
    repetition = min(1.0, len(set(grams)) / len(grams) / 0.7) if len(grams) > 3 else 1.0
    lines = [line.strip() for line in reply.splitlines() if line.strip()]
    end = 1.0 if cut or reply.rstrip().endswith(_ENDS) or len(tokens) < 2 * SHORT else 0.7
    return length * letters * repetition * len(set(lines)) / len(lines) * end


class Quality:
    """Drops harmless rows with a reply whose score is below `least`. A row without a reply is let through: its reply is
    minted, and judged there; so is a harmful one, whose reply declines in set words."""

    name = "quality"

    def __init__(self, least: float) -> None:
        self.least = least

    def __call__(self, examples: Sequence[Example]) -> tuple[list[Example], list[Dropped]]:
        return whole(self, examples)

    def looker(self) -> Look:
        return lambda rows: ["" if self.fine(row) else LOW for row in rows]

    def fine(self, row: Example) -> bool:
        return row.kind == "harmful" or not row.reply or score(row.reply, cut=row.cut) >= self.least
