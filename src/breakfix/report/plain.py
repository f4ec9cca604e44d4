"""Hostile text made harmless to look at. Escaping for HTML is left to the template; this is about what escaping leaves.

Control characters (ANSI escapes among them), bidirectional overrides, invisible and unassigned characters, and lone
surrogates become visible marks; what is too long is clipped, with a note that says how much is missing.
"""

from __future__ import annotations

import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_KEPT = "\n\t\u200c\u200d"  # the joiners are part of how Persian, Hindi and emoji are written
_MARKS = 3  # combining marks in a row; more of them run over the neighbouring lines


def plain(text: str, limit: int = 20_000) -> str:
    """`text` with every character visible, at most `limit` characters of it."""
    clipped = text[:limit]
    shown = "".join(_visible(char) for char in _few_marks(clipped.replace("\r\n", "\n")))
    missing = len(text) - len(clipped)
    return f"{shown} … [{missing:,} more characters, in the ledger]" if missing else shown


def one_line(text: str, limit: int = 500) -> str:
    """The same, on one line: ↵ for the end of one."""
    return plain(text, limit).replace("\n", "↵").replace("\t", " ")


def _visible(char: str) -> str:
    if char in _KEPT or unicodedata.category(char) not in _HIDDEN:
        return char
    return f"⟨U+{ord(char):04X}⟩"


def _few_marks(text: str) -> str:
    if text.isascii():
        return text
    kept: list[str] = []
    run = 0
    for char in text:
        run = run + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        if run <= _MARKS:
            kept.append(char)
    return "".join(kept)
