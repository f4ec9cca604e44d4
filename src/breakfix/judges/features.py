"""A request and a reply in numbers: what the embedding model makes of them, how near they are, and the reply's form.

Of a reply three views are embedded: its first sentences, where a reply shows whether it goes along; the whole, as far
as the model reads; and its end. Besides: the refusal rules' label, the likeness of request and reply, and a few facts
of form (length, lines, lists), which alone are the baseline that a judge has to beat.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from breakfix.judges.refusal import Label, classify

Array = NDArray[np.float64]

HEAD, TAIL = 240, 240  # characters
END = re.compile(r"[.!?。।؟…](?=[\s\"'”」』)]|$)|[。！？]|\n")
ITEM = re.compile(r"^\s*(?:[-*•–]|\d{1,2}[.)]|#{1,4} |\*\*)", re.M)
UNIT = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]|[^\W\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]+")
LABELS: tuple[Label, ...] = ("full", "partial", "none", "unscored")
STYLE = ("length", "lines", "items", "code", "question", "exclamation", "quotes")
RELATION = ("head-request", "whole-request", "tail-request", "head-whole")
ECHO = ("known words", "known pairs", "new words", "distinct")
VIEWS = ("request", "head", "whole", "tail")


class Embeds(Protocol):
    """What is needed of models.embed.Embedder."""

    @property
    def id(self) -> str: ...

    def embed(self, texts: Sequence[str]) -> Any:
        """float32 [texts, size], rows of length 1 or, for an empty text, 0."""
        ...


@dataclass(frozen=True, slots=True)
class Pair:
    """`request`: what is wanted, "" where it is not known; `asked`: the last user turn ("": the request)."""

    request: str
    reply: str
    language: str = "en"
    asked: str = ""


@dataclass(frozen=True, slots=True)
class Features:
    """Of n rows: `form` [n, STYLE], `rules` [n, LABELS] (one of them 1), `relation` [n, RELATION] (cosines, nan
    without a request), `echo` [n, ECHO], `vectors` view → [n, size]."""

    form: Array
    rules: Array
    relation: Array
    echo: Array
    vectors: dict[str, Array]

    def matrix(self, blocks: Sequence[str]) -> Array:
        """The blocks side by side, [n, 0] for none. Beside the names of the views and of the fields there is "product":
        of request and whole, coordinate by coordinate."""
        return np.concatenate([np.zeros((len(self.form), 0)), *(self._block(name) for name in blocks)], axis=1)

    def widths(self, weights: dict[str, float]) -> list[tuple[int, float]]:
        """(width, weight) of what `matrix` makes of these blocks, as linear.standard takes them."""
        found: list[tuple[int, float]] = []
        for name, weight in weights.items():
            width = self._block(name).shape[1]
            found += [(1, weight)] * width if name in ("form", "rules", "relation", "echo") else [(width, weight)]
        return found

    def _block(self, name: str) -> Array:
        if name == "product":
            return self.vectors["request"] * self.vectors["whole"] * np.sqrt(self.vectors["whole"].shape[1])
        return self.vectors[name] if name in self.vectors else getattr(self, name)

    def take(self, rows: Sequence[int]) -> Features:
        at = np.asarray(rows, dtype=np.int64)
        vectors = {name: found[at] for name, found in self.vectors.items()}
        return Features(self.form[at], self.rules[at], self.relation[at], self.echo[at], vectors)


def features(pairs: Sequence[Pair], embedder: Embeds) -> Features:
    """Each different text is embedded once."""
    seen = [views(pair) for pair in pairs]
    texts = list(dict.fromkeys(text for row in seen for text in row))
    place = {text: i for i, text in enumerate(texts)}
    made = np.asarray(embedder.embed(texts), np.float64)
    vectors = {name: made[[place[row[i]] for row in seen]] for i, name in enumerate(VIEWS)}
    known = np.array([bool(pair.request.strip()) for pair in pairs])
    near = [("head", "request"), ("whole", "request"), ("tail", "request"), ("head", "whole")]
    relation = np.stack([(vectors[a] * vectors[b]).sum(1) for a, b in near], axis=1)
    relation[~known, :3] = np.nan
    return Features(
        form=np.array([form(pair.reply) for pair in pairs]),
        rules=np.array([_rules(pair) for pair in pairs]),
        relation=relation,
        echo=np.array([echo(pair) for pair in pairs]),
        vectors=vectors,
    )


def views(pair: Pair) -> tuple[str, str, str, str]:
    """(request, head, whole, tail), as VIEWS names them. Short replies are their own head and tail."""
    reply = pair.reply.strip()
    return pair.request.strip(), head(reply), reply, reply if len(reply) <= TAIL else reply[-TAIL:]


def head(reply: str) -> str:
    """The sentences that end within the first HEAD characters, or that many characters."""
    if len(reply) <= HEAD:
        return reply
    ends = [m.end() for m in END.finditer(reply, 0, HEAD)]
    return reply[: ends[-1]] if ends and ends[-1] >= HEAD // 3 else reply[:HEAD]


def form(reply: str) -> list[float]:
    """STYLE: ln of characters and of lines, ln of list items, code or not, marks at the end and within."""
    lines = reply.count("\n") + 1
    return [
        float(np.log1p(len(reply))),
        float(np.log(lines)),
        float(np.log1p(len(ITEM.findall(reply)))),
        float("```" in reply),
        float(reply.rstrip().endswith(("?", "？", "؟"))),
        float(np.log1p(reply.count("!"))),
        float(np.log1p(sum(reply.count(mark) for mark in '"“”«»「」'))),
    ]


def echo(pair: Pair) -> list[float]:
    """ECHO: the shares of the reply's words, and of its pairs of neighbouring words, that stand in what was asked or in
    the request; ln of the different words that do not; the share of its triples of words that are different ones. In
    scripts without spaces a character is a word. An answer says something new, and says it once."""
    said, asked = _units(pair.reply), (_units(pair.request), _units(pair.asked))
    known = {word for units in asked for word in units}
    pairs = {both for units in asked for both in pairwise(units)}
    two, three = list(pairwise(said)), list(zip(said, said[1:], said[2:]))
    return [
        sum(word in known for word in said) / max(1, len(said)),
        sum(both in pairs for both in two) / max(1, len(two)),
        float(np.log1p(len(set(said) - known))),
        len(set(three)) / len(three) if three else 1.0,
    ]


def _units(text: str) -> list[str]:
    return UNIT.findall(text.lower())


def _rules(pair: Pair) -> list[float]:
    """By words alone, as the weights were fitted: the vectors know the language."""
    label, _ = classify(pair.reply, prompt=pair.asked or pair.request, language=pair.language or None, identify=False)
    return [float(label == name or (label == "degenerate" and name == "unscored")) for name in LABELS]
