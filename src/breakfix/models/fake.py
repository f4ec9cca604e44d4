"""Models without weights: real implementations of `core.Model` for tests, dry runs and benchmarks.

`Scripted` says what it was told to say and fails loudly when asked anything else; `Echo` says the last user turn back;
`Refuser` refuses when a word is in the conversation. Same prompt, sampling and seed: same reply, whatever else is in
the batch (a `Scripted` list excepted: it answers in the order of asking). They keep `asked`, so that a test can look.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence

from breakfix.core import Conversation, Reply, Sampling, digest

REFUSALS = ("I'm sorry, but I can't help with that.", "I can't assist with this request.", "Sorry, I won't do that.")


class UnscriptedError(AssertionError):
    """A `Scripted` model was asked something that its script does not hold. A mistake in the test, never a verdict."""


class Fake:
    """What the fakes share: one reply at a time in the order of the batch, and a toy `score`."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.asked: list[Conversation] = []

    def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str | Reply:
        """The reply to one conversation."""
        raise NotImplementedError

    def generate(
        self, prompts: Sequence[Conversation], sampling: Sampling, seeds: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Reply]]:
        """Tokens are words. A reply longer than `max_new_tokens` words is cut there, and finishes with "length"."""
        for i, prompt in enumerate(prompts):
            self.asked.append(prompt)
            said = self.answer(prompt, sampling, seeds[i] if seeds is not None else 0)
            yield i, said if isinstance(said, Reply) else _cut(prompt, said, sampling.max_new_tokens)

    def score(self, pairs: Sequence[tuple[Conversation, str]]) -> list[tuple[float, int]]:
        """A word of the continuation costs ln 2 if it is in the prompt, else ln 10: (minus the sum, words)."""
        return [_score(prompt, continuation) for prompt, continuation in pairs]


class Scripted(Fake):
    """Says what it was told: a mapping from the last turn's text to the reply, or a list of replies in order.

    A reply may be a `Reply`, to play an error or a length. A list is used up; a mapping is not.
    """

    def __init__(self, replies: Mapping[str, str | Reply] | Sequence[str | Reply], id: str = "") -> None:
        if isinstance(replies, str):
            raise TypeError("replies: expected a mapping or a list of replies, got one string")
        self._replies = dict(replies) if isinstance(replies, Mapping) else list(replies)
        super().__init__(id or f"fake-scripted-{digest(self._replies)[:8]}")

    def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str | Reply:
        if isinstance(self._replies, list):
            if not self._replies:
                raise UnscriptedError(f"{self.id}: the script is used up (query {len(self.asked)})")
            return self._replies.pop(0)
        if prompt[-1].content not in self._replies:
            raise UnscriptedError(f"{self.id}: nothing scripted for the last turn of query {len(self.asked)}")
        return self._replies[prompt[-1].content]


class Echo(Fake):
    """Says the last user turn back."""

    def __init__(self, id: str = "fake-echo") -> None:
        super().__init__(id)

    def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str:
        return next(m.content for m in reversed(prompt) if m.role == "user")


class Refuser(Fake):
    """Refuses when `word` is anywhere in the conversation (case ignored), else gives `reply`.

    Greedy, it refuses in always the same words; with a temperature, in words drawn by the seed.
    """

    def __init__(self, word: str, reply: str = "Sure, here is how.", id: str = "") -> None:
        self.word, self.reply = word.lower(), reply
        super().__init__(id or f"fake-refuser-{digest([self.word, reply])[:8]}")

    def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str:
        if not any(self.word in m.content.lower() for m in prompt):
            return self.reply
        return random.Random(seed).choice(REFUSALS) if sampling.temperature > 0 else REFUSALS[0]


def _words(prompt: Conversation) -> list[str]:
    return [word for m in prompt for word in m.content.split()]


def _cut(prompt: Conversation, text: str, limit: int) -> Reply:
    read, words = len(_words(prompt)), text.split()
    if len(words) <= limit:
        return Reply(text, read, len(words))
    return Reply(" ".join(words[:limit]), read, limit, "length")


def _score(prompt: Conversation, continuation: str) -> tuple[float, int]:
    known, words = set(_words(prompt)), continuation.split()
    return -sum(math.log(2 if word in known else 10) for word in words), len(words)
