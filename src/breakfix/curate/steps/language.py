"""Language: a row says which one it is in, and twins, safe answers and balance go by it. What is in another goes.

By py3langid, as judges/language.py uses it. Tolerant: a text of fewer than LONG letters (four times fewer in scripts
where a letter is a syllable) tells nothing here, nor does one of which the two halves do not agree.
"""

from __future__ import annotations

from collections.abc import Sequence

from breakfix.core import Dropped, Example
from breakfix.curate.steps.stream import Look, whole
from breakfix.judges.language import CODE, LETTER, WORDY, elsewhere

LONG = 40
OTHER = "its text is in another language than it says"


class Language:
    """Drops a row whose last request is surely in another language than the row says."""

    name = "language"

    def __call__(self, examples: Sequence[Example]) -> tuple[list[Example], list[Dropped]]:
        return whole(self, examples)

    def looker(self) -> Look:
        return lambda rows: [OTHER if foreign(row.prompt[-1].content, row.language) else "" for row in rows]


def foreign(text: str, language: str) -> bool:
    """Whether the text is surely in another language than this."""
    plain = CODE.sub(" ", text[:2000])
    letters = len(LETTER.findall(plain)) + 3 * len(WORDY.findall(plain))
    if letters < LONG or not elsewhere(plain, language):
        return False
    middle = plain.find(" ", len(plain) // 2)
    halves = (plain[:middle], plain[middle:]) if middle > 0 else (plain,)
    return all(elsewhere(half, language) for half in halves)
