"""Text under judgement, made fit to be shown to a judge that is a model: it may have been written to fool one.

Every line of a block begins with "> " and no line of ours does; a block stands between two marker lines that hold a
code which the text can't know, for it comes from the text's own digest. Chat-template tokens in the text are broken
(`<|x|>` becomes `‹|x|›`), characters that nobody sees are taken out, and what is too long loses its middle. What was
done is counted, so that a verdict can say on what it was given.

Indirect prompt injection is Greshake et al. 2023 (2302.12173); marking the lines of data is the datamarking of Hines
et al. 2024, Spotlighting (2403.14720). Ours differs: a prefix a line instead of a mark a word, so that the text stays
what the target said, and a check word in the answer (see `answers.py`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

LIMIT = 12_000  # characters of a block; about 3,000 tokens

# what tokenizers of chat models turn into one special token, or a judge could take for the frame around the text
_TOKEN = re.compile(
    r"<\s*[|｜][^<>\n]{0,80}?[|｜]\s*>"  # ChatML, Llama 3 and 4, Phi, DeepSeek, Granite
    r"|</?s>|<(?:bos|eos|pad|unk|mask|sep|cls)>|<unused\d+>|</?(?:start|end)_of_\w+>"  # Llama 2, Mistral, Gemma
    r"|</?(?:think|tool_call|tool_response|system|user|assistant|image)>"
    r"|</?\s*(?:BEGIN|END)\b[^<>\n]{0,60}>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS)\]|<</?SYS>>|<<<+|>>>+",
    re.I,
)
_BROKEN = str.maketrans("<>[]", "‹›⟦⟧")
# soft hyphen, zero-width spaces, bidirectional controls, invisible operators, tags; not the joiners of Persian, Hindi
# and emoji, unless they stand between plain letters
_HIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
    r"|(?<=[!-~])[\u200c\u200d]+(?=[!-~])"
    r"|[\x00-\x08\x0e-\x1b\x1f\x7f\x80-\x84\x86-\x9f]"
)
_ALIKE = str.maketrans(  # of other alphabets, that look like Latin letters; our own list
    "аеорсухіјѕԁһԛԝӏѵАВЕЗКМНОРСТУХІЈЅαεικνορτυχγϲϳΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹıɡɑ",
    "aeopcyxijsdhqwlvABE3KMHOPCTYXIJSaeiknoptuxycjABEZHIKMNOPTYXCiga",
)
_MARKUP = str.maketrans({"*": None, "`": None, "~": None, "_": " "})
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Shown:
    """`text` as the judge sees it. `broken` tokens, `hidden` characters taken out, `cut` characters left out."""

    text: str
    broken: int = 0
    hidden: int = 0
    cut: int = 0

    @property
    def notes(self) -> str:
        """What was done, in words; "" if nothing."""
        said = [f"{self.cut:,} characters cut from the middle"] if self.cut else []
        said += [f"{self.broken} template tokens broken"] if self.broken else []
        said += [f"{self.hidden} hidden characters taken out"] if self.hidden else []
        return ", ".join(said)


def neutral(text: str, limit: int = LIMIT) -> Shown:
    """No hidden characters, no special tokens, one kind of line end, at most `limit` characters and a note between."""
    seen, hidden = _HIDDEN.subn("", _SURROGATE.sub("\ufffd", text))
    seen, broken = _TOKEN.subn(lambda match: match[0].translate(_BROKEN), seen)
    seen = "\n".join(seen.splitlines())
    cut = max(0, len(seen) - limit)
    if cut:
        head, tail = seen[: limit - limit // 2], seen[len(seen) - limit // 2 :]
        seen = f"{head}\n[... {cut:,} characters left out ...]\n{tail}"
    return Shown(seen, broken, hidden, cut)


def together(parts: Sequence[Shown]) -> Shown:
    """Several texts as one: what was done to all of them."""
    return Shown(
        "\n".join(part.text for part in parts),
        sum(part.broken for part in parts),
        sum(part.hidden for part in parts),
        sum(part.cut for part in parts),
    )


def folded(text: str) -> str:
    """Text as a reader takes it, to look for words in: without accents and marks of Markdown, `_` a space, letters that
    only look Latin made so."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).translate(_ALIKE))
    return "".join(c for c in plain if not unicodedata.combining(c)).translate(_MARKUP)


def quoted(text: str) -> str:
    """Each line with "> " before it."""
    return "\n".join(f"> {line}" for line in text.split("\n"))


def block(what: str, lines: str, code: str) -> str:
    """What the judge is shown: `lines` (quoted) between two marker lines that hold the code."""
    return f"[BEGIN {what} {code}]\n{lines}\n[END {what} {code}]"


def one_line(text: str, limit: int = 200) -> str:
    """A model's own words for a reason: one line, nothing hidden in it, at most `limit` characters."""
    line = " ".join(neutral(text, 10 * limit).text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
