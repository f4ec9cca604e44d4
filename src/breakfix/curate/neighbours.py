"""The neighbours of a breach: the same request in other words, in another frame, in another language.

One failure says little about where the model is weak; what lies around it is likely to fail, too. A neighbour is a way
of putting *a* request, so that the harmful one and its benign twin are put in the same way.

    reworded     by rule or by a helper (paraphrase.py), in what the attack had put around the request
    framed       bare words of the request, in a training wrapper or another seen attack (augment.py)
    translated   the case's own, reviewed translation, where its twin has one in that language; not where the red team
                 holds out translations
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from breakfix.core import Case, Conversation, Message, NotApplicable
from breakfix.curate.augment import Frame
from breakfix.curate.mirror import is_script
from breakfix.curate.paraphrase import reworded
from breakfix.curate.rows import has_safe_answers

Rewrap = Callable[[str], Conversation | str]  # what the attack asked with this text in it, or why it can't be had
Words = Mapping[str, str]  # a request → a helper's words for it


@dataclass(frozen=True, slots=True)
class Neighbour:
    """How a case is put. `put` raises NotApplicable where it can't be."""

    how: str
    put: Callable[[Case], Conversation]
    language: str = ""


def neighbours(
    case: Case,
    twin: Case | None,
    frames: Sequence[Frame],
    rewrap: Rewrap,
    words: Words,
    rng: random.Random,
    translate: bool = True,
) -> Iterator[Neighbour]:
    """Ways of putting the case; the kinds of them in turn, beginning with one that is drawn."""
    seed = rng.randrange(2**31)
    both = sorted(set(case.translations) & set(twin.translations if twin else case.translations))
    spoken = [code for code in both if has_safe_answers(code)]
    rng.shuffle(spoken)
    fitting = [frame for frame in frames if frame.speaks(case.language)]
    rng.shuffle(fitting)
    if not translate:
        spoken = []
    first = seed % 3
    for turn in range(len(fitting) or 1):
        ways: list[Neighbour | None] = [None, None, None]
        if case.language == "en" or words:
            ways[0] = Neighbour("reworded", _reworded(rewrap, words, f"{seed}/{turn}"))
        if fitting:
            ways[1] = Neighbour(f"put into {fitting[turn].name}", _framed(fitting[turn], f"{seed}/{turn}"))
        if spoken:
            code = spoken.pop()
            ways[2] = Neighbour(f"translated into {code}", _translated(code), code)
        yield from filter(None, (*ways[first:], *ways[:first]))


def _reworded(rewrap: Rewrap, words: Words, seed: str) -> Callable[[Case], Conversation]:
    def put(case: Case) -> Conversation:
        said = words.get(case.text) if seed.endswith("/0") else None
        said = said or (reworded(case.text, random.Random(seed)) if case.language == "en" else None)
        if said is None:
            raise NotApplicable("no other words were found")
        wrapped = rewrap(said)
        if isinstance(wrapped, str) or is_script(wrapped):
            return (*case.prompt[:-1], Message("user", said))
        return wrapped

    return put


def _framed(frame: Frame, seed: str) -> Callable[[Case], Conversation]:
    return lambda case: frame.put(case.prompt, random.Random(seed))


def _translated(code: str) -> Callable[[Case], Conversation]:
    def put(case: Case) -> Conversation:
        return (*case.prompt[:-1], Message("user", case.translations[code]))

    return put
