"""Sets of shingles as numbers, many texts at once: hashing, exact overlaps, and an index that misses nothing.

What `text.shingles` and `text.letters` say in strings for one text is said here in 48-bit hashes for a batch; two
shingles of a comparison fall together once in 10^10 comparisons or so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from breakfix.curate.steps.text import unspaced

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]
_Number = TypeVar("_Number", bound=np.generic)
BITS = 48  # of a set's element: the 16 above number the text within a batch
MOST = 1 << 16  # texts in a batch
MASK = np.uint64((1 << BITS) - 1)
ROW_BITS = np.uint64(28)  # of a posting: the row; the 36 above are of the shingle
ROW_MASK = np.uint64((1 << 28) - 1)
AT_ONCE = 1 << 21  # elements gathered together


@dataclass(frozen=True, slots=True)
class Sets:
    """`values` [total]: each text's elements, sorted, once each; text i has those from `offsets[i]` to the next."""

    values: Hashes
    offsets: Ints

    @property
    def sizes(self) -> Ints:
        return np.diff(self.offsets)

    def part(self, start: int, stop: int) -> Sets:
        low, high = self.offsets[start], self.offsets[stop]
        return Sets(self.values[low:high], self.offsets[start : stop + 1] - low)


# ---- hashing -----------------------------------------------------------------------------------------------------


def mixed(x: Hashes) -> Hashes:
    """Every bit depends on every bit (the finaliser of splitmix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def constants(n: int) -> Hashes:
    """n odd numbers without a pattern, the same everywhere."""
    return mixed(np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)


class _Words(dict[str, int]):
    """Word → 64 bits. Forgets all when it has grown large."""

    def __missing__(self, word: str) -> int:
        if len(self) >= 1 << 20:
            self.clear()
        made = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        self[word] = made
        return made


_WORDS = _Words()


def tokens(texts: Sequence[Sequence[str]]) -> tuple[Hashes, Ints]:
    """(the hashes of all words, in order [total]; how many each text has [len(texts)])."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    flat = map(_WORDS.__getitem__, chain.from_iterable(texts))
    return np.fromiter(flat, np.uint64, int(lengths.sum())), lengths


def characters(texts: Sequence[str]) -> tuple[Hashes, Ints]:
    """Likewise of characters, which are their own hashes."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64), lengths


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """starts[0], starts[0]+1 … of lengths[0], then starts[1] …: [sum of lengths]."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


def windows(flat: Hashes, lengths: Ints, n: int) -> tuple[Hashes, Ints]:
    """(hash, which text) of every n elements in a row; a text of fewer has one window, filled up with zeros."""
    padded = np.maximum(lengths, n)
    starts = np.cumsum(padded) - padded
    room = np.zeros(int(padded.sum()), np.uint64)
    room[ranges(starts, lengths)] = flat
    count = padded - n + 1
    first = ranges(starts, count)
    found = np.zeros(len(first), np.uint64)
    for k, factor in enumerate(constants(n)):
        found += room[first + k] * factor
    return mixed(found), np.repeat(np.arange(len(lengths)), count)


def distinct(values: Hashes) -> Hashes:
    """Sorted, once each: np.unique is several times slower (it goes by a hash table)."""
    ordered = np.sort(values)
    return ordered[np.concatenate([np.ones(min(1, len(ordered)), np.bool_), ordered[1:] != ordered[:-1]])]


def sets(hashes: Hashes, owners: Ints, n: int) -> Sets:
    """Of each of n texts (MOST at most) what it holds. `owners` [len(hashes)]: the text's number."""
    key = distinct((owners.astype(np.uint64) << np.uint64(BITS)) | (hashes >> np.uint64(64 - BITS)))
    offsets = np.searchsorted(key >> np.uint64(BITS), np.arange(n + 1, dtype=np.uint64))
    return Sets(key & MASK, offsets.astype(np.int64))


def shingle_sets(normals: Sequence[str]) -> Sets:
    """`text.shingles` of texts that are normalised already."""
    split = [text.split() for text in normals]
    cjk = np.array([not text.isascii() and unspaced(of) for text, of in zip(normals, split, strict=True)], np.bool_)
    found: list[tuple[Hashes, Ints]] = []
    for which, n in ((np.flatnonzero(~cjk), 3), (np.flatnonzero(cjk), 5)):
        hashes, owners = windows(*tokens([split[i] for i in which]), n)
        found.append((hashes, which[owners]))
    return sets(np.concatenate([h for h, _ in found]), np.concatenate([o for _, o in found]), len(normals))


def letter_sets(normals: Sequence[str]) -> Sets:
    """`text.letters` of texts that are normalised already."""
    hashes, owners = windows(*characters(normals), 5)
    return sets(hashes, owners, len(normals))


# ---- exact overlaps ----------------------------------------------------------------------------------------------


def shared(one: Sets, i: Ints, two: Sets, j: Ints) -> Ints:
    """[pairs]: how many elements text i[k] of `one` and text j[k] of `two` have in common."""
    found = np.zeros(len(i), np.int64)
    sizes = one.sizes[i] + two.sizes[j]
    for low, high in _chunks(sizes):
        left, right = _gathered(one, i[low:high]), _gathered(two, j[low:high])
        at = np.searchsorted(right, left)
        at[at == len(right)] = 0
        same = left[right[at] == left] if len(right) else left[:0]
        found[low:high] = np.bincount((same >> np.uint64(BITS)).astype(np.int64), minlength=high - low)
    return found


def _chunks(sizes: Ints) -> Iterator[tuple[int, int]]:
    """Slices of at most MOST pairs and about AT_ONCE elements."""
    ends, low = np.cumsum(sizes), 0
    while low < len(sizes):
        before = ends[low - 1] if low else 0
        high = max(low + 1, min(low + MOST, int(np.searchsorted(ends, before + AT_ONCE, side="right"))))
        yield low, high
        low = high


def _gathered(of: Sets, which: Ints) -> Hashes:
    """The elements of these texts, each with its place in `which` above them: sorted."""
    sizes = of.sizes[which]
    place = np.repeat(np.arange(len(which), dtype=np.uint64), sizes) << np.uint64(BITS)
    return of.values[ranges(of.offsets[which], sizes)] | place


# ---- an index ----------------------------------------------------------------------------------------------------


class Index:
    """Texts' sets, asked for those whose Jaccard similarity to a given one is `threshold` or more. It finds them all.

    Two sets x and y that are so alike share threshold × |x| elements at least. So of any |x| - ⌈threshold × |x|⌉ + 1
    elements of x, y has one: only the texts that hold one of x's rarest so many are compared (prefix filtering,
    Chaudhuri et al. 2006; Bayardo et al. 2007). No estimate is involved, and common phrases cost nothing.

    Postings (shingle, row) are sorted runs of 64-bit numbers, merged as they grow (a log-structured merge tree).
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.rows = 0
        self._runs: list[Hashes] = []
        self._values, self._offsets = np.zeros(1024, np.uint64), np.zeros(1025, np.int64)

    @property
    def sets(self) -> Sets:
        return Sets(self._values, self._offsets[: self.rows + 1])

    def add(self, new: Sets) -> None:
        """Rows get the numbers from `rows` on."""
        n, used = len(new.sizes), int(self._offsets[self.rows])
        self._values = _grown(self._values, used + len(new.values))
        self._offsets = _grown(self._offsets, self.rows + n + 1)
        self._values[used : used + len(new.values)] = new.values
        self._offsets[self.rows + 1 : self.rows + n + 1] = used + new.offsets[1:]
        row = np.repeat(np.arange(self.rows, self.rows + n, dtype=np.uint64), new.sizes)
        self._runs.append(np.sort(_posting(new.values) | row))
        self.rows += n
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]))

    def alike(self, asked: Sets) -> tuple[Ints, Ints]:
        """(place in `asked`, row) of every pair at the threshold or above, in order."""
        if not self._runs or not len(asked.values):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        i, j = self._candidates(asked)
        mine = self.sets
        a, b = asked.sizes[i], mine.sizes[j]
        near = np.minimum(a, b) >= self.threshold * np.maximum(a, b) - 1e-9
        i, j, a, b = i[near], j[near], a[near], b[near]
        common = shared(asked, i, mine, j)
        like = common / (a + b - common) >= self.threshold
        return i[like], j[like]

    def _candidates(self, asked: Sets) -> tuple[Ints, Ints]:
        """Pairs that share one of the rarest elements of the asked text, once each."""
        query = _posting(asked.values)
        order = np.argsort(query)
        spans: list[tuple[Ints, Ints]] = []
        frequency = np.zeros(len(query), np.int64)
        for run in self._runs:
            low, count = np.empty(len(query), np.int64), np.empty(len(query), np.int64)
            low[order] = start = np.searchsorted(run, query[order])
            count[order] = np.searchsorted(run, query[order] | ROW_MASK, side="right") - start
            spans.append((low, count))
            frequency += count
        sizes = asked.sizes
        text = np.repeat(np.arange(len(sizes)), sizes)
        first = sizes - np.ceil(self.threshold * sizes - 1e-9).astype(np.int64) + 1
        rarest = np.lexsort((frequency, text))
        rank = np.arange(len(query)) - asked.offsets[text]
        chosen = rarest[(rank < first[text]) & (frequency[rarest] > 0)]
        found = [np.zeros(0, np.uint64)]
        for run, (low, count) in zip(self._runs, spans, strict=True):
            some = chosen[count[chosen] > 0]
            rows = run[ranges(low[some], count[some])] & ROW_MASK
            found.append(rows | (np.repeat(text[some], count[some]).astype(np.uint64) << np.uint64(32)))
        pairs = distinct(np.concatenate(found))
        return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _posting(values: Hashes) -> Hashes:
    return (values >> np.uint64(BITS - 36)) << ROW_BITS


def _grown(array: NDArray[_Number], needed: int) -> NDArray[_Number]:
    if needed <= len(array):
        return array
    new = np.zeros(max(needed, len(array) * 3 // 2), array.dtype)
    new[: len(array)] = array
    return new


class Table:
    """Known hashes, each with the least number (of a wall) it was given with."""

    SLOTS = 22  # bits of a first look, which turns most away

    def __init__(self, hashes: Hashes, numbers: Ints) -> None:
        order = np.lexsort((numbers, hashes))
        self._hashes, first = np.unique(hashes[order], return_index=True)
        self._numbers = numbers[order][first]
        self._first = np.zeros(1 << self.SLOTS, np.bool_)
        self._first[self._slot(self._hashes)] = True

    def find(self, hashes: Hashes) -> tuple[Ints, Ints]:
        """(places of those that are known, their numbers)."""
        places = np.flatnonzero(self._first[self._slot(hashes)])
        asked = hashes[places]
        at = np.minimum(np.searchsorted(self._hashes, asked), max(0, len(self._hashes) - 1))
        known = self._hashes[at] == asked if len(self._hashes) else np.zeros(len(asked), np.bool_)
        return places[known], self._numbers[at[known]]

    def _slot(self, hashes: Hashes) -> Ints:
        return (hashes >> np.uint64(64 - self.SLOTS)).astype(np.int64)
