"""Text as the steps compare it: normalised words, runs of words, shingles.

Compatibility forms are folded (NFKC), case and punctuation go, invisible characters vanish. Scripts without spaces
(Chinese, Japanese, Thai) have one "word" a character; a run of n words is then one of 2 n characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

from breakfix.core import Conversation

_UNSPACED = re.compile(r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")


class _Letters(dict[int, str]):
    """Code point → what becomes of the character: itself, a space, or nothing."""

    def __missing__(self, code: int) -> str:
        category = unicodedata.category(chr(code))
        made = "" if category == "Cf" else chr(code) if category[0] in "LNM" else " "
        self[code] = made  # Cf: zero-width joiners and the like, which would cut a word in two
        return made


_LETTERS = _Letters()


def words(text: str) -> list[str]:
    """The normalised words, in order."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_LETTERS)
    return (folded if folded.isascii() else _UNSPACED.sub(r" \1 ", folded)).split()


@lru_cache(maxsize=1 << 14)  # one step after the other asks for the same texts
def normal(text: str) -> str:
    """Equal for texts that differ only in case, punctuation, spacing or compatibility forms."""
    return " ".join(words(text))


def conversation(prompt: Conversation) -> str:
    """A conversation's identity, normalised turn by turn."""
    return "\n".join(f"{message.role}: {normal(message.content)}" for message in prompt)


def asked(prompt: Conversation) -> str:
    """What was put to the model: every turn but the assistant's."""
    return "\n".join(message.content for message in prompt if message.role != "assistant")


def unspaced(tokens: Sequence[str]) -> bool:
    """Whether most of the text is in a script without spaces."""
    return sum(bool(_UNSPACED.fullmatch(token)) for token in tokens) * 2 > len(tokens)


def runs(tokens: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """Every n tokens in a row. Nothing where there are fewer."""
    for i in range(len(tokens) - n + 1):
        yield tuple(tokens[i : i + n])


def shingles(text: str) -> frozenset[str]:
    """Word 3-grams, or character 5-grams in scripts without spaces; a shorter text is one shingle."""
    tokens = words(text)
    size = 5 if unspaced(tokens) else 3
    return frozenset(" ".join(run) for run in runs(tokens, size)) or frozenset([" ".join(tokens)])


def letters(text: str) -> frozenset[str]:
    """Character 5-grams of the normalised text: more forgiving of a changed word than word 3-grams."""
    whole = normal(text)
    return frozenset(whole[i : i + 5] for i in range(max(1, len(whole) - 4)))


def jaccard(one: frozenset[str], two: frozenset[str]) -> float:
    """Shared ÷ all, 0 to 1; of two empty sets 0."""
    return len(one & two) / len(one | two) if one or two else 0.0
