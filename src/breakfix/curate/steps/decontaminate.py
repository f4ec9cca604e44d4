"""Decontamination: nothing that is measured (dev and frozen cases, the walls) may be learnt from.

A training row overlaps a wall where
    exact      a turn that is asked is the wall's prompt, but for case, punctuation and spacing;
    ngram      they share `ngram` words in a row (Brown et al. 2020, 2005.14165, took 13; ours is stricter), in scripts
               without spaces twice as many characters; a reply that the data brings along is checked, too;
    contained  the wall's prompt is shorter than that, and stands whole in what is asked (from 4 words on);
    near       the Jaccard similarity of their character 5-grams is 0.6 or more (or `threshold`, if that is less): a
               prompt of nine words with one changed is still caught. On the starter pack and AdvBench against nine
               suites, 0.6 takes out one row that the other rules miss; 0.4 takes out harmless ones that share no more
               than "What is the difference between".
The walls are indexed once, by hashes, and the rows stream past them. What is reworded altogether has none of these in
common with the wall: that is steps/meaning.py.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from breakfix.core import Case, Dropped, Example
from breakfix.curate.steps.hashed import Index, Ints, Table, constants, letter_sets, mixed, tokens, windows
from breakfix.curate.steps.stream import BATCH, Look
from breakfix.curate.steps.text import asked, normal, unspaced

RULES = ("exact", "ngram", "contained", "near")
SHORTEST = 4  # words: a shorter prompt ("Tell me more") stands in anything, and counts only where it is the whole turn
EDITED = 0.6  # Jaccard of character 5-grams
SHOWN = 50  # pairs that the report names


@dataclass(frozen=True, slots=True)
class Overlap:
    """A training row (its place) and the wall it overlaps."""

    row: int
    rule: str
    wall: str
    source: str


class Decontaminate:
    """The step. `report` says what it did last."""

    name = "decontaminate"

    def __init__(self, walls: Sequence[Case], *, ngram: int, threshold: float) -> None:
        self.walls, self.ngram, self.threshold = walls, ngram, threshold
        self.report: dict[str, Any] = {}

    def __call__(self, examples: Sequence[Example]) -> tuple[list[Example], list[Dropped]]:
        hits = {overlap.row: overlap for overlap in self.overlaps(examples)}
        dropped = [
            Dropped(examples[row], self.name, f"overlaps {hit.source} ({hit.rule})") for row, hit in hits.items()
        ]
        self.report = self._report(examples, hits)
        return [example for row, example in enumerate(examples) if row not in hits], dropped

    def looker(self) -> Look:
        """For rows that stream (steps/stream.py); `report` stays as it is."""

        def look(rows: Sequence[Example]) -> list[str]:
            reasons = [""] * len(rows)
            for hit in self.overlaps(rows):
                reasons[hit.row] = f"overlaps {hit.source} ({hit.rule})"
            return reasons

        return look

    def overlaps(self, examples: Sequence[Example]) -> Iterator[Overlap]:
        """The rows that overlap, in order, each with the plainest rule that says so and the first wall by that."""
        if not self.walls:
            return
        for start in range(0, len(examples), BATCH):
            batch = examples[start : start + BATCH]
            best = np.full(len(batch), _NONE)
            for rows, rules, walls in self._walls.hits(batch):
                np.minimum.at(best, rows, (rules << 32) | walls)
            for row in np.flatnonzero(best < _NONE).tolist():
                wall = self.walls[int(best[row]) & 0xFFFFFFFF]
                yield Overlap(start + row, RULES[int(best[row]) >> 32], wall.id, wall.source)

    @cached_property
    def _walls(self) -> _Walls:
        return _Walls(self.walls, self.ngram, min(self.threshold, EDITED))

    def _report(self, examples: Sequence[Example], hits: dict[int, Overlap]) -> dict[str, Any]:
        rules, sources = Counter(o.rule for o in hits.values()), Counter(o.source for o in hits.values())
        return {
            "walls": len(self.walls),
            "checked": len(examples),
            "dropped": len(hits),
            "by_rule": {rule: rules[rule] for rule in RULES if rules[rule]},
            "by_wall": dict(sorted(sources.items())),
            "pairs": [
                {"row": origin(examples[row]), "wall": hit.wall, "rule": hit.rule}
                for row, hit in list(hits.items())[:SHOWN]
            ],
        }


_NONE = np.int64(1) << 62
_Hits = Iterator[tuple[Ints, int, Ints]]  # rows, the rule's place in RULES, walls


class _Walls:
    """The walls, indexed: by whole prompts, by runs of words, by shingles."""

    def __init__(self, walls: Sequence[Case], ngram: int, threshold: float) -> None:
        self.ngram = ngram
        texts = [(n, normal(text)) for n, w in enumerate(walls) for text in (asked(w.prompt), *w.translations.values())]
        self.numbers = np.array([n for n, _ in texts], np.int64)
        self.whole: dict[str, int] = {}
        for n, text in texts:
            self.whole.setdefault(text, n)
        alike: dict[tuple[int, int], list[tuple[int, str]]] = defaultdict(list)  # (rule, words) → walls
        for n, text in texts:
            split = text.split()
            size = self._size(split)
            if len(split) >= min(size, SHORTEST):
                alike[1 if len(split) >= size else 2, min(size, len(split))].append((n, text))
        self.runs: dict[tuple[int, int], Table] = {}
        for (rule, size), some in alike.items():
            hashes, places = windows(*tokens([text for _, text in some]), size)
            self.runs[rule, size] = Table(hashes, np.array([n for n, _ in some], np.int64)[places])
        self.near = Index(threshold)
        for start in range(0, len(texts), BATCH):
            self.near.add(letter_sets([text for _, text in texts[start : start + BATCH]]))

    def _size(self, split: Sequence[str]) -> int:
        return self.ngram * 2 if unspaced(split) else self.ngram

    def hits(self, rows: Sequence[Example]) -> _Hits:
        """Every overlap of a batch, several of a row if there are."""
        turns = [(i, m.content) for i, row in enumerate(rows) for m in row.prompt if m.role != "assistant"]
        normals = [normal(text) for _, text in turns]
        exact = [(i, self.whole[text]) for (i, _), text in zip(turns, normals, strict=True) if text in self.whole]
        yield np.array([i for i, _ in exact], np.int64), 0, np.array([n for _, n in exact], np.int64)
        replies = [(i, normal(row.reply)) for i, row in enumerate(rows) if row.reply]
        owners = np.array([i for i, _ in turns] + [i for i, _ in replies], np.int64)
        yield from self._runs([*normals, *(text for _, text in replies)], owners, len(turns))
        i, j = self.near.alike(letter_sets([normal(asked(row.prompt)) for row in rows]))
        yield i, 3, self.numbers[j]

    def _runs(self, texts: Sequence[str], owners: Ints, asked: int) -> _Hits:
        """By runs of words. `owners` [texts]: their rows; the first `asked` texts are turns, the rest replies."""
        flat, lengths = tokens(texts)
        text = np.repeat(np.arange(len(texts)), lengths)
        left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(flat))  # words from here to the text's end
        run = np.zeros(len(flat), np.uint64)
        longest = min(max((words for _, words in self.runs), default=0), len(flat))
        for k, factor in enumerate(constants(longest)):
            run[: len(flat) - k] += flat[k:] * factor
            for rule in (1, 2):
                if (rule, k + 1) in self.runs:
                    may = left > k if rule == 1 else (left > k) & (text < asked)
                    places = np.flatnonzero(may)
                    found, walls = self.runs[rule, k + 1].find(mixed(run[places]))
                    yield owners[text[places[found]]], rule, walls


def origin(example: Example) -> str:
    """What a report calls the row: the id of the case it came from."""
    return example.parents[0] if example.parents else example.id
