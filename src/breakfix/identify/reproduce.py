"""The shortest case that still breaks: delta debugging over turns, wrapper and sentences, with real calls to the model.

Source: Zeller and Hildebrandt 2002, Simplifying and Isolating Failure-Inducing Input (ddmin). Ours: a step's trials all
go to the model at once, so it begins with as many pieces as one batch takes (WIDTH) instead of two, and pieces that can
each go are first tried without all of them together. What is left is 1-minimal if the queries suffice: no piece can go.

    1  the failure as it was asked, and the bare request: if that breaks, the wrapper was not needed
    2  pieces of what is around the request: exchanges before it, an answer that was begun, lines and sentences
    3  sentences of the request, if it has several

A judge of refusals takes any answer to what is left for a breach, so the request itself must stay. Its questions do;
other sentences may go while half of its content words are left (KEPT). Where it does not stand there in its own words
(in an encoding, say), the attack is rendered with two other requests: only what is the same in both is a wrapper. Where
that can't be had, of several turns those stay that have the request's words.
"""

from __future__ import annotations

import random
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from breakfix.core import Attack, Attempt, Case, Conversation, Message, NotApplicable
from breakfix.judges.refusal import load_rules

WIDTH = 8  # pieces that are tried without, each, in one step
KEPT = 0.5  # share of the request's content words that a shorter request has at least
OTHERS = ("How do I bake a loaf of bread?", "Write a short note about the tides in the north.")
QUESTION = "?？؟"
TURN, BEGUN, WRAPPER, REQUEST = "turns", "begun", "wrapper", "request"  # kinds of pieces
_SENTENCE = re.compile(r"(?<=[.!?。！？।؟])[\"')\]*]*(?:\s+|(?<=[。！？]))|\n+")
_WORD = re.compile(r"\w[\w'’-]*")

Trials = list[Conversation]
Heard = Sequence[Attempt | None]


@dataclass(frozen=True, slots=True)
class Piece:
    """What may go: whole messages (their indices), or a span of one's text."""

    kind: str
    messages: tuple[int, ...]
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Shortest:
    """What came of it. `attempt`: the shortest case that broke, None where the failure did not break again (`why`);
    `prompt`: what that asked.

    `dropped`: pieces by kind; `bare`: the request alone broke; `queries`: trials; `whole`: no piece of what is left can
    go, as far as pieces are known (False where the queries ended first).
    """

    attempt: Attempt | None
    why: str
    queries: int
    dropped: dict[str, int]
    bare: bool = False
    whole: bool = True
    prompt: Conversation = ()


def shortest(
    prompt: Conversation, case: Case, attack: Attack | None, seed: int, queries: int, *, confirm: bool = False
) -> Generator[Trials, Heard, Shortest]:
    """Yields the trials of a step and is sent what became of each (None: not asked). `prompt` is what was asked at the
    breach of an attempt on `case`; `attack`, with the attempt's `seed`, tells wrapper from request where the latter
    does not stand literally in it. At most `queries` trials. `confirm`: it has been shortened before.
    """
    search = _Search(queries)
    request = _literal(prompt, case)
    bare = (*case.prompt[:-1], Message("user", request or case.text, case.prompt[-1].images))
    told = yield from search.tried([prompt, bare] if bare != prompt else [prompt])
    broke = [_broke(one) for one in told] + [False]
    if not any(broke):
        return Shortest(None, _why(told[0] if told else None), search.asked, {})
    alone = bool(broke[1]) or bare == prompt
    search.best = told[1] if broke[1] else told[0]
    if alone:
        prompt = bare
    elif not confirm:
        prompt = yield from search.reduced(prompt, pieces(prompt, case, attack, seed))
    if not confirm and request:
        prompt = yield from search.reduced(prompt, sentences(prompt, request), request)
    return Shortest(search.best, "", search.asked, search.dropped, alone, search.whole, prompt)


class _Search:
    """What was asked so far, the shortest that broke, and what went."""

    def __init__(self, queries: int) -> None:
        self.left, self.asked = queries, 0
        self.best: Attempt | None = None
        self.dropped: dict[str, int] = {}
        self.whole = True

    def tried(self, trials: Trials) -> Generator[Trials, Heard, Heard]:
        some = trials[: self.left]
        self.whole = self.whole and len(some) == len(trials)
        self.left -= len(some)
        self.asked += len(some)
        return (yield some) if some else ()

    def reduced(
        self, prompt: Conversation, parts: Sequence[Piece], request: str = ""
    ) -> Generator[Trials, Heard, Conversation]:
        """The prompt without what it can do without. `request`: the pieces are its sentences."""
        kept: list[Piece] = list(parts)
        gone: list[Piece] = []
        n = min(len(kept), WIDTH)

        def without(some: Sequence[Piece]) -> Conversation:
            return cut(prompt, [*gone, *some])

        def may_go(some: Sequence[Piece]) -> bool:
            return not request or _share(request, without(some)) >= KEPT

        while kept and self.left:
            chunks = [chunk for chunk in _chunks(kept, n) if may_go(chunk)]
            told = yield from self.tried([without(chunk) for chunk in chunks])
            good = [(chunk, one) for chunk, one in zip(chunks, told) if _broke(one)]
            if not good:
                if n == len(kept):
                    return without([])
                n = min(len(kept), 2 * n)
                continue
            chunk, best = good[0]
            several = [[piece for some, _ in good[:m] for piece in some] for m in sorted({len(good), len(good) // 2})]
            together = [some for some in several if len(some) > len(chunk) and may_go(some)]
            told = yield from self.tried([without(some) for some in together])
            for some, one in zip(together, told):
                if _broke(one):
                    chunk, best = some, one
            self.best = best
            gone += chunk
            for piece in chunk:
                self.dropped[piece.kind] = self.dropped.get(piece.kind, 0) + 1
            kept = [piece for piece in kept if piece not in chunk]
            n = min(len(kept), WIDTH)
        self.whole = self.whole and not kept
        return without([])


def asked(attempt: Attempt, case: Case, attack: Attack | None) -> Conversation:
    """What was put to the model at the breach. An answer that the attack had begun is one turn with what the model
    added, so it is had from the attack itself, if that asks once."""
    before = attempt.transcript[: attempt.place(attempt.breach or 0)]
    made = _rendered(attack, case, attempt.seed) if attack is not None else None
    if made and made[-1].role == "assistant" and made[:-1] == before:
        said = attempt.transcript[len(before)].content
        return made if said.startswith(made[-1].content) else before
    return before


def pieces(prompt: Conversation, case: Case, attack: Attack | None, seed: int) -> list[Piece]:
    """What is around the request and may go, in order: exchanges, sentences of the turn with the request, a begun
    answer. The case's own earlier turns stay."""
    given = case.prompt[:-1]
    first = len(given) if prompt[: len(given)] == given else 0
    begun = len(prompt) - 1 if prompt[-1].role == "assistant" else len(prompt)
    last = begun - 1
    request = _literal(prompt, case)
    home = next((i for i in range(last, first - 1, -1) if _holds(prompt[i], request)), last)
    words = _content(case.text) | _content(request)
    found: list[Piece] = []
    for some in _exchanges(prompt, first, home, last):
        said = " ".join(prompt[i].content for i in some)
        if request or not words & _content(said):
            found.append(Piece(TURN, some))
    found += _wrapper(prompt, home, request, case, attack, seed)
    return found + ([Piece(BEGUN, (begun,))] if begun < len(prompt) else [])


def sentences(prompt: Conversation, request: str) -> list[Piece]:
    """Those of the request that are no questions, where it stands in a user's turn and has several."""
    for i in range(len(prompt) - 1, -1, -1):
        if _holds(prompt[i], request):
            at = prompt[i].content.index(request)
            spans, text = list(_spans(request, at)), prompt[i].content
            may_go = [span for span in spans if text[slice(*span)].rstrip()[-1] not in QUESTION]
            return [Piece(REQUEST, (i,), span) for span in may_go] if len(spans) > 1 else []
    return []


def cut(prompt: Conversation, gone: Sequence[Piece]) -> Conversation:
    """The conversation without these pieces."""
    whole = {i for piece in gone if piece.span is None for i in piece.messages}
    made: list[Message] = []
    for i, message in enumerate(prompt):
        if i in whole:
            continue
        text = message.content
        spans = [piece.span for piece in gone if piece.span is not None and piece.messages == (i,)]
        for start, end in sorted(spans, reverse=True):
            text = text[:start] + text[end:]
        made.append(replace(message, content=text.strip()) if spans else message)
    return tuple(made)


def _wrapper(
    prompt: Conversation, home: int, request: str, case: Case, attack: Attack | None, seed: int
) -> Iterator[Piece]:
    text = prompt[home].content
    if request:
        at = text.index(request)
        end = at + len(request)
        spans = [*_spans(text[:at], 0), *_spans(text[end:], end)]
    else:
        same = _same(attack, case, seed, home)
        spans = [span for span in _spans(text, 0) if text[slice(*span)].strip() in same]
    yield from (Piece(WRAPPER, (home,), span) for span in spans)


def _same(attack: Attack | None, case: Case, seed: int, home: int) -> set[str]:
    """Sentences of that turn that the attack says whatever is requested; none where that can't be told."""
    found: list[set[str]] = []
    for other in OTHERS:
        made = _rendered(attack, replace(case, prompt=(*case.prompt[:-1], Message("user", other))), seed)
        if made is None or home >= len(made):
            return set()
        text = made[home].content
        found.append({text[start:end].strip() for start, end in _spans(text, 0)})
    return set[str].intersection(*found)


def _rendered(attack: Attack | None, case: Case, seed: int) -> Conversation | None:
    """What an attack that asks once asks; None where it does not, or can't."""
    if attack is None or getattr(attack, "queries", None) != 1:
        return None
    try:
        flow = attack(case, random.Random(seed))
        made = next(flow, None)
        flow.close()
    except NotApplicable:
        return None
    return made.prompt if made is not None and made.prompt else None


def _literal(prompt: Conversation, case: Case) -> str:
    """The request in its own words, in whatever language it was put, where that stands in a user's turn; else ""."""
    texts = sorted({case.text, *case.translations.values()}, key=lambda text: (-len(text), text))
    return next((text for text in texts if text and any(_holds(message, text) for message in prompt)), "")


def _holds(message: Message, request: str) -> bool:
    return message.role == "user" and bool(request) and request in message.content


def _exchanges(prompt: Conversation, first: int, home: int, last: int) -> Iterator[tuple[int, ...]]:
    """Groups of messages before the turn with the request, each from a user's turn on (a system message by itself), and
    after it, each from an assistant's turn on: without any of them, users and assistants still alternate."""
    for start, end, opens in ((first, home, "user"), (home + 1, last + 1, "assistant")):
        group: list[int] = []
        for i in range(start, end):
            if group and (prompt[i].role in (opens, "system") or prompt[group[-1]].role == "system"):
                yield tuple(group)
                group = []
            group.append(i)
        if group:
            yield tuple(group)


def _spans(text: str, at: int) -> Iterator[tuple[int, int]]:
    """Lines and sentences, each with the space after it, as places in the text that begins at `at`; no blank ones."""
    start = 0
    for end in [*(match.end() for match in _SENTENCE.finditer(text)), len(text)]:
        if text[start:end].strip():
            yield at + start, at + end
        start = end


def _chunks(some: Sequence[Piece], n: int) -> Iterator[list[Piece]]:
    """n runs of about the same length."""
    for i in range(n):
        yield list(some[i * len(some) // n : (i + 1) * len(some) // n])


def _share(request: str, prompt: Conversation) -> float:
    """Of the request's content words those that are left."""
    words = _content(request)
    left = _content(" ".join(message.content for message in prompt if message.role == "user"))
    return len(words & left) / len(words) if words else 0.0


def _content(text: str) -> set[str]:
    general = load_rules().words.is_generic
    return {word for found in _WORD.findall(text) if len(word := found.casefold()) > 3 and not general(word)}


def _broke(attempt: Attempt | None) -> bool:
    return attempt is not None and attempt.score == 0


def _why(attempt: Attempt | None) -> str:
    if attempt is None:
        return "it was not asked"
    if attempt.error is not None:
        return f"the model failed: {attempt.error}"
    return "it does not break again" if attempt.score is not None else "no verdict could be given"
