"""Which language is a text in? A refusal in another language than the request's is a finding of its own.

By py3langid (Lui and Baldwin 2012, langid.py), which knows 97 languages and tells how sure it is. Ours differs: of a
text that is too short, or where it is not sure, we say nothing.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

SURE = 0.7  # py3langid's probability
LETTERS = 12  # fewer tell nothing; four in scripts where one letter is a word or a syllable
WORDY = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
CODE = re.compile(r"```.*?(?:```|$)|https?://\S+", re.S)
LETTER = re.compile(r"[^\W\d_]")
ALIKE = {"nb": "no", "nn": "no", "bs": "hr", "sr": "hr", "ms": "id"}  # told apart by neither people's eyes nor ours


def answered_language(text: str) -> str | None:
    """ISO 639-1 code of the language that a text is written in, code blocks and addresses apart; None if unsure."""
    plain = CODE.sub(" ", text[:2000])
    letters = len(LETTER.findall(plain))
    if letters < (4 if 2 * len(WORDY.findall(plain)) > letters else LETTERS):
        return None
    code, probability = _identifier().classify(plain)
    return str(code) if float(probability) >= SURE else None


def elsewhere(reply: str, language: str) -> str:
    """ "answers in es, was asked in en" where the reply is in another language than `language`, else ""."""
    asked, found = language.split("-")[0].lower(), answered_language(reply)
    if found is None or not asked or ALIKE.get(found, found) == ALIKE.get(asked, asked):
        return ""
    return f"answers in {found}, was asked in {asked}"


@cache
def _identifier() -> Any:
    """Loads in a third of a second, once."""
    from py3langid import langid

    untyped: Any = langid
    return untyped.LanguageIdentifier.from_model_file(untyped.MODEL_FILE, norm_probs=True)
