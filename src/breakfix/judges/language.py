"""Which language is a text in? A refusal in another language than the request's is a finding of its own.

By py3langid (Lui and Baldwin 2012, langid.py), which knows 97 languages and tells how sure it is. Ours differs: of a
text that is too short, or where it is not sure, we say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache, lru_cache
from typing import Any

SURE = 0.7  # py3langid's probability
TOGETHER, LIKELIEST = 0.8, 0.4  # of all languages but the known ones, and of one of them
NOBODYS = "zxx"  # ISO 639-2's code for what is no language
LETTERS = 12  # fewer tell nothing; four in scripts where one letter is a word or a syllable
WORDY = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
CODE = re.compile(r"```.*?(?:```|$)|https?://\S+", re.S)
LETTER = re.compile(r"[^\W\d_]")
ALIKE = {"nb": "no", "nn": "no", "bs": "hr", "sr": "hr", "ms": "id"}  # told apart by neither people's eyes nor ours


def answered_language(text: str) -> str | None:
    """ISO 639-1 code of the language that a text is written in, code blocks and addresses apart; None if unsure."""
    code, probability = next(iter(_ranked(text)), ("", 0.0))
    return code if probability >= SURE else None


def outside(text: str, known: Collection[str]) -> str | None:
    """The likeliest language of a text that is surely in none of the `known` ones, whichever it is; else None. NOBODYS:
    in none at all, as a cipher is."""
    others = [(code, probability) for code, probability in _ranked(text) if ALIKE.get(code, code) not in known]
    if not others or others[0][1] < LIKELIEST or sum(probability for _, probability in others) < TOGETHER:
        return None
    return others[0][0]


@lru_cache(maxsize=256)  # several judges ask of the same reply
def _ranked(text: str) -> tuple[tuple[str, float], ...]:
    """(code, probability), the likeliest first; nothing of a text that is too short to tell."""
    plain = CODE.sub(" ", text[:2000])
    letters = len(LETTER.findall(plain))
    if letters < (4 if 2 * len(WORDY.findall(plain)) > letters else LETTERS):
        return ()
    return tuple((str(code), float(probability)) for code, probability in _identifier().rank(plain))


def elsewhere(reply: str, language: str, request: str = "") -> str:
    """ "answers in es, was asked in en" where the reply is in another language than the request, else "". `language` is
    that of the request ("": not known); its own words count as well, for a case may be put in a translation."""
    found = answered_language(reply)
    if found is None:
        return ""
    asked = [code for code in (language.split("-")[0].lower(), answered_language(request)) if code]
    if not asked or ALIKE.get(found, found) in {ALIKE.get(code, code) for code in asked}:
        return ""
    return f"answers in {found}, was asked in {asked[0]}"


@cache
def _identifier() -> Any:
    """Loads in a third of a second, once."""
    from py3langid import langid

    untyped: Any = langid
    return untyped.LanguageIdentifier.from_model_file(untyped.MODEL_FILE, norm_probs=True)
