"""Decontamination: nothing that is measured (dev and frozen cases, the walls) may be learnt from.

A training row overlaps a wall where
    exact      a turn that is asked is the wall's prompt, but for case, punctuation and spacing;
    ngram      they share `ngram` words in a row (Brown et al. 2020, 2005.14165, took 13; ours is stricter), in scripts
               without spaces twice as many characters; a reply that the data brings along is checked, too;
    contained  the wall's prompt is shorter than that, and stands whole in what is asked (from 4 words on);
    near       the Jaccard similarity of their character 5-grams is 0.6 or more (or `threshold`, if that is less),
               found by MinHash as in near.py: a prompt of nine words with one changed is still caught. On the starter
               pack and AdvBench against nine suites, 0.6 takes out one row that the other rules miss; 0.4 takes out
               harmless ones that share no more than "What is the difference between".
The walls stream past an index of the training rows, so a suite of long passages costs time, not memory.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from breakfix.core import Case, Dropped, Example
from breakfix.curate.steps.near import Index, sketch
from breakfix.curate.steps.text import asked, letters, normal, runs, unspaced, words

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
        self._sketches: dict[str, Any] = {}  # of the walls' texts, for the second look

    def __call__(self, examples: Sequence[Example]) -> tuple[list[Example], list[Dropped]]:
        first: dict[int, Overlap] = {}
        for overlap in self.overlaps(examples):
            known = first.setdefault(overlap.row, overlap)
            if RULES.index(overlap.rule) < RULES.index(known.rule):  # the plainest reason is the one to give
                first[overlap.row] = overlap
        dropped = [
            Dropped(examples[row], self.name, f"overlaps {hit.source} ({hit.rule})")
            for row, hit in sorted(first.items())
        ]
        self.report = self._report(examples, first)
        return [example for row, example in enumerate(examples) if row not in first], dropped

    def overlaps(self, examples: Sequence[Example]) -> Iterator[Overlap]:
        """Every (row, wall) that overlap, by the first rule that says so; in the order of the walls."""
        index = _Rows(examples, self.ngram, self.threshold, self._sketches)
        for wall in self.walls:
            told: set[int] = set()
            for text in (asked(wall.prompt), *wall.translations.values()):
                for row, rule in index.overlapping(text):
                    if row not in told:
                        told.add(row)
                        yield Overlap(row, rule, wall.id, wall.source)

    def _report(self, examples: Sequence[Example], first: dict[int, Overlap]) -> dict[str, Any]:
        rules, sources = Counter(o.rule for o in first.values()), Counter(o.source for o in first.values())
        return {
            "walls": len(self.walls),
            "checked": len(examples),
            "dropped": len(first),
            "by_rule": {rule: rules[rule] for rule in RULES if rules[rule]},
            "by_wall": dict(sorted(sources.items())),
            "pairs": [
                {"row": _origin(examples[row]), "wall": hit.wall, "rule": hit.rule}
                for row, hit in sorted(first.items())[:SHOWN]
            ],
        }


class _Rows:
    """The training rows, indexed: by whole turns, by runs of words, by shingles."""

    def __init__(self, examples: Sequence[Example], ngram: int, threshold: float, sketches: dict[str, Any]) -> None:
        self.ngram, self.sketches = ngram, sketches
        self.whole: dict[str, set[int]] = defaultdict(set)
        self.any: dict[tuple[str, ...], set[int]] = defaultdict(set)  # runs in what is asked and in given replies
        self.in_asked: dict[tuple[str, ...], set[int]] = defaultdict(set)
        self.near = Index(min(threshold, EDITED))
        for row, example in enumerate(examples):
            self._add(row, example)

    def _add(self, row: int, example: Example) -> None:
        turns = [message.content for message in example.prompt if message.role != "assistant"]
        for turn in turns:
            tokens = words(turn)
            self.whole[" ".join(tokens)].add(row)
            self._runs(row, tokens, self.any)
            for size in range(SHORTEST, self._size(tokens)):
                for run in runs(tokens, size):
                    self.in_asked[run].add(row)
        self._runs(row, words(example.reply), self.any)
        self.near.add(row, letters("\n".join(turns)))

    def _runs(self, row: int, tokens: Sequence[str], into: dict[tuple[str, ...], set[int]]) -> None:
        for run in runs(tokens, self._size(tokens)):
            into[run].add(row)

    def _size(self, tokens: Sequence[str]) -> int:
        return self.ngram * 2 if unspaced(tokens) else self.ngram

    def overlapping(self, text: str) -> Iterator[tuple[int, str]]:
        """(row, rule), a row once for each rule that says so."""
        tokens = words(text)
        size = self._size(tokens)
        yield from ((row, "exact") for row in sorted(self.whole.get(normal(text), ())))
        if len(tokens) >= size:
            hit = {row for run in runs(tokens, size) for row in self.any.get(run, ())}
            yield from ((row, "ngram") for row in sorted(hit))
        elif len(tokens) >= SHORTEST:
            yield from ((row, "contained") for row in sorted(self.in_asked.get(tuple(tokens), ())))
        found = letters(text)
        if not self.near.too_large(found):
            if text not in self.sketches:
                self.sketches[text] = sketch(found)
            yield from ((row, "near") for row in self.near.all_like(found, self.sketches[text]))


def _origin(example: Example) -> str:
    return example.parents[0] if example.parents else example.id
