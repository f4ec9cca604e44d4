"""The same attack around a harmless request, so that what is wrapped around a request does not come to mean "refuse".

One turn: the twin's words in place of the request's. Several turns: each of the user's is mirrored, and what the model
had replied to them is left out, for it belongs to the harmful request. Such a conversation is a script (user turns in a
row); the untouched model is asked it turn by turn when replies are made (answers.py). Turns that the attack or the case
had given stay.
"""

from __future__ import annotations

import re
from itertools import pairwise

from breakfix.core import Attempt, Case, Conversation, Message
from breakfix.curate.steps.text import words
from breakfix.judges.refusal import load_rules

UNCLEAR = "several turns: one of them speaks of the request in words of its own"
_WORD = re.compile(r"\w[\w'’-]*")


def mirrored(attempt: Attempt, at: int, case: Case, text: str) -> Conversation | str:
    """What the attack asked before turn `at` of the transcript, with `text` in place of the case's request; or, in
    words, why that can't be had."""
    asked = attempt.transcript[:at]
    if not asked or case.text not in asked[-1].content:
        return "the request does not stand literally in what the attack asked"
    if len(asked) == len(case.prompt) and asked[-1].content == case.text:
        return "asked as it is: the twin itself is in the pool"
    own = {attempt.place(turn) for turn in range(len(attempt.verdicts))}
    turns: list[Message] = []
    for i, message in enumerate(asked):
        if message.role != "user":
            turns.extend([message] if i not in own else [])
            continue
        said = _turn(message.content, case.text, text)
        if said is None:
            return UNCLEAR
        turns.append(Message("user", said, message.images if i < len(asked) - 1 else ()))
    return tuple(turns)


def is_script(prompt: Conversation) -> bool:
    """Whether replies are missing in it: user turns in a row."""
    return any(one.role == two.role == "user" for one, two in pairwise(prompt))


def _turn(turn: str, request: str, text: str) -> str | None:
    """A user's turn about the other request; None where it can't be said. A turn that has no word of it is kept."""
    if request in turn:
        return turn.replace(request, text)
    content = _content(request)
    spans = [m.span() for m in _WORD.finditer(turn) if m[0].casefold() in content]
    if not spans:
        return turn
    start, end = spans[0][0], spans[-1][1]
    small = [word for word in words(turn[start:end]) if word not in content]
    if len(small) > len(spans):  # the request's words stand apart, with others between them: no one place for ours
        return None
    topic = [word for word in _WORD.findall(text) if word.casefold() in _content(text)][:8]
    return turn[:start] + " ".join(topic) + turn[end:] if topic else None


def _content(text: str) -> set[str]:
    """The words that say what it is about: of four letters and more, and not in the judge's list of general ones."""
    general = load_rules().words.is_generic
    return {word.casefold() for word in _WORD.findall(text) if len(word) > 3 and not general(word.casefold())}
