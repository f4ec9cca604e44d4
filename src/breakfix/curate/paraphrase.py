"""A request in other words: by rule (frames swapped, synonyms from a table), or by a helper whose words are checked.

Rules are English (data/paraphrases.yaml): "How do I X?" → "Tell me how to X."; "Write X." → "Could you write
X?"; whatever fits neither gets words before or after it. They keep the words that carry the meaning, so a paraphrase
keeps its label; a rule can't find words that no table has. A helper model can, and may change the meaning or refuse:
its words are held to the language, the length and the content words of the request.
"""

from __future__ import annotations

import functools
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from breakfix.core import Model, Sampling, ask
from breakfix.curate.steps.text import normal, words
from breakfix.judges.language import answered_language
from breakfix.judges.refusal import classify

SWAPS = 2  # most words that get a synonym
KEPT = 0.5  # share of the request's content words that a rule's paraphrase has at least
SHARED = 0.25  # likewise a helper's
LENGTH = (0.4, 2.5)  # of the request's words
HELPER = Sampling(max_new_tokens=96, temperature=0.7, top_p=0.95)
BRIEF = (
    "Say the following request in other words. Keep its meaning and its language, and do not answer it. Reply with the "
    "new request only.\n\n{request}"
)
_LEAD = r"(?:(?:please|can you|could you|would you|i want to know|i need to know|tell me|explain|show me|teach me)\s+)*"
_WHO = r"(?:to|(?:do|does|can|could|would|should|might)\s+(?:i|you|we|one|someone|somebody|people))"
_HOW = re.compile(rf"^{_LEAD}how\s+{_WHO}\s+(?P<x>.+)$", re.I | re.S)
_BEFORE = r"(?:(?:please|can you|could you|would you|i need you to|i want you to|i would like you to)\s+)*"
_SENTENCE = re.compile(r"[.!?]\s+\S")


@functools.cache
def _rules() -> Mapping[str, Any]:
    from importlib.resources import files

    return yaml.safe_load(files("breakfix").joinpath("data/paraphrases.yaml").read_text("utf-8"))


@functools.cache
def _order() -> re.Pattern[str]:
    verbs = "|".join(sorted(_rules()["verbs"], key=len, reverse=True))
    return re.compile(rf"^{_BEFORE}(?P<v>{verbs})\s+(?P<x>.+)$", re.I | re.S)


def reworded(text: str, rng: random.Random) -> str | None:
    """The request in another frame, some words swapped for synonyms; None where nothing else came of it. English."""
    kind, fields = _parts(text)
    frames = [frame for frame in _rules()[kind] if normal(_filled(frame, fields)) != normal(text)]
    made = _swapped(_filled(rng.choice(frames), fields), rng)
    return made if normal(made) != normal(text) and shared(text, made) >= KEPT else None


def _parts(text: str) -> tuple[str, dict[str, str]]:
    """The frame's kind (how, order, other), and what goes into one."""
    plain = " ".join(text.split())
    bare = plain.rstrip(" .?!")
    if not _SENTENCE.search(plain):
        if match := _HOW.match(bare):
            return "how", {"x": match["x"]}
        if match := _order().match(bare):
            verb = match["v"].lower()
            return "order", {"x": match["x"], "v": verb, "V": verb.capitalize()}
    return "other", {"q": plain if plain[-1:] in ".?!…" else plain + "."}


def _filled(frame: str, fields: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w)\}", lambda match: fields[match[1]], frame)


def _swapped(text: str, rng: random.Random) -> str:
    synonyms: Mapping[str, Sequence[str]] = _rules()["synonyms"]
    pieces = re.split(r"(\W+)", text)
    places = [i for i, piece in enumerate(pieces) if piece in synonyms]
    for i in rng.sample(places, min(len(places), rng.randint(0, SWAPS))):
        pieces[i] = rng.choice(synonyms[pieces[i]])
    return "".join(pieces)


def shared(one: str, two: str) -> float:
    """Share of the first text's content words (4 letters and more) that the second has, too; 1 where it has none."""
    content = {word for word in words(one) if len(word) > 3}
    return len(content & set(words(two))) / len(content) if content else 1.0


def by_helper(texts: Sequence[str], helper: Model, seed: int) -> tuple[list[str | None], Counter[str]]:
    """A paraphrase of each text, or None; and how many of the helper's would not do, by reason."""
    said: list[str | None] = [None] * len(texts)
    reasons: Counter[str] = Counter()
    prompts = [ask(BRIEF.replace("{request}", text)) for text in texts]
    for i, reply in helper.generate(prompts, HELPER, [(seed + i) % 2**31 for i in range(len(texts))]):
        made = reply.text.strip().strip('"').strip()
        why = f"the helper failed: {reply.error}" if reply.finish == "error" else unlike(texts[i], made)
        if why:
            reasons[why] += 1
        else:
            said[i] = made
    return said, reasons


def unlike(text: str, made: str) -> str:
    """Why `made` is no paraphrase of the text, or ""."""
    if not made or "\n\n" in made:
        return "the helper gave no single text"
    if not LENGTH[0] <= len(words(made)) / max(1, len(words(text))) <= LENGTH[1]:
        return "the helper's text is much shorter or longer"
    spoken, asked = answered_language(made), answered_language(text)
    if spoken and asked and spoken != asked:
        return "the helper's text is in another language"
    if shared(text, made) < SHARED:
        return "the helper's text shares too few words with the request"
    if normal(made) == normal(text):
        return "the helper's text is the request itself"
    if classify(made, identify=False)[0] in ("full", "partial"):
        return "the helper declined"
    return ""
