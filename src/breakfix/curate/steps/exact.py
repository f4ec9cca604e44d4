"""Exact duplicates: the same prompt, but for case, punctuation and spacing. The first one stays.

The same prompt as harmful *and* as benign is a contradiction, not a duplicate: the later one goes, with that reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from breakfix.core import Dropped, Example
from breakfix.curate.steps.stream import Look, whole
from breakfix.curate.steps.text import conversation

SAME = "same prompt as an earlier row"
CONTRADICTION = "same prompt as an earlier row with the opposite label"


class Exact:
    """Keeps the first row of each prompt."""

    name = "exact"

    def __call__(self, examples: Sequence[Example]) -> tuple[list[Example], list[Dropped]]:
        return whole(self, examples)

    def looker(self) -> Look:
        labels: dict[bytes, bool] = {}  # 16 bytes of a prompt, for a million prompts have to fit

        def look(rows: Sequence[Example]) -> list[str]:
            reasons: list[str] = []
            for row in rows:
                key = blake2b(conversation(row.prompt).encode("utf-8", "surrogatepass"), digest_size=16).digest()
                harmful = row.kind == "harmful"
                if key not in labels:
                    labels[key] = harmful
                    reasons.append("")
                else:
                    reasons.append(SAME if labels[key] == harmful else CONTRADICTION)
            return reasons

        return look
