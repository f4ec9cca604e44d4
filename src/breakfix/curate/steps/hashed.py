"""Sets of shingles as numbers, many texts at once: hashing, exact overlaps, and an index that misses nothing.

What `text.shingles` and `text.letters` say in strings for one text is said here in 48-bit hashes for a batch; two
shingles of a comparison fall together once in 10^10 comparisons or so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
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

    def some(self, which: Ints) -> Sets:
        """Those of these texts, in this order."""
        sizes = self.sizes[which]
        return Sets(self.values[ranges(self.offsets[which], sizes)], np.concatenate([[0], np.cumsum(sizes)]))


# ---- hashing -----------------------------------------------------------------------------------------------------


def mixed(x: Hashes) -> Hashes:
    """Every bit depends on every bit (the finaliser of splitmix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def constants(n: int) -> Hashes:
    """n odd numbers without a pattern, the same everywhere."""
    return mixed(np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)


class _Words(dict[str, bytes]):
    """Word → 64 bits. Forgets all when it has grown large."""

    def __missing__(self, word: str) -> bytes:
        if len(self) >= 1 << 20:
            self.clear()
        self[word] = made = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return made


_WORDS = _Words()


@lru_cache(maxsize=1 << 14)  # one step after the other asks for the same texts
def _words(normal: str) -> bytes:
    return b"".join(map(_WORDS.__getitem__, normal.split()))


def tokens(normals: Sequence[str]) -> tuple[Hashes, Ints]:
    """(the hashes of all words, in order [total]; how many each text has [len(normals)])."""
    each = [_words(text) for text in normals]
    lengths = np.fromiter(map(len, each), np.int64, len(each)) // 8
    return np.frombuffer(b"".join(each), "<u8").astype(np.uint64, copy=False), lengths


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
    found = np.zeros(len(room), np.uint64)
    for k, factor in enumerate(constants(n)):
        found[: max(0, len(room) - k)] += room[k:] * factor
    count = padded - n + 1
    return mixed(found[ranges(starts, count)]), np.repeat(np.arange(len(lengths)), count)


def distinct(values: Hashes) -> Hashes:
    """Sorted, once each: np.unique is several times slower (it goes by a hash table)."""
    ordered = np.sort(values)
    return ordered[_new(ordered)]


def _new(ordered: Hashes) -> NDArray[np.bool_]:
    """Where a value is not the one before."""
    return np.concatenate([np.ones(min(1, len(ordered)), np.bool_), ordered[1:] != ordered[:-1]])


def sets(hashes: Hashes, owners: Ints, n: int) -> Sets:
    """Of each of n texts (MOST at most) what it holds. `owners` [len(hashes)]: the text's number."""
    key = distinct((owners.astype(np.uint64) << np.uint64(BITS)) | (hashes >> np.uint64(64 - BITS)))
    offsets = np.searchsorted(key >> np.uint64(BITS), np.arange(n + 1, dtype=np.uint64))
    return Sets(key & MASK, offsets.astype(np.int64))


def shingle_sets(normals: Sequence[str]) -> Sets:
    """`text.shingles` of texts that are normalised already."""
    cjk = np.array([not text.isascii() and unspaced(text.split()) for text in normals], np.bool_)
    found: list[tuple[Hashes, Ints]] = []
    for which, n in ((np.flatnonzero(~cjk), 3), (np.flatnonzero(cjk), 5)):
        hashes, owners = windows(*tokens([normals[i] for i in which.tolist()]), n)
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
    elements of x, y has one: only the texts that hold one of x's rarest so many are looked at (prefix filtering,
    Chaudhuri et al. 2006; Bayardo et al. 2007), and of these only those are compared that would be alike if they had
    all of x's other elements, too. No estimate is involved, and common phrases cost nothing.

    Postings (shingle, row) are sorted runs of 64-bit numbers, merged as they grow (a log-structured merge tree). Each
    shingle leaves a mark besides: what has too few that are marked is turned away at a look.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.rows = 0
        self._runs: list[Hashes] = []
        self._marks, self._bits = np.zeros(1 << 16, np.bool_), 16
        self._values, self._offsets = np.zeros(1024, np.uint64), np.zeros(1025, np.int64)

    @property
    def sets(self) -> Sets:
        return Sets(self._values[: self._offsets[self.rows]], self._offsets[: self.rows + 1])

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
        self._mark(used + len(new.values))
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]))

    def _mark(self, postings: int) -> None:
        """Marks the last run's shingles. There is room for two marks a posting and more."""
        if 2 * postings > len(self._marks):
            self._bits = (2 * postings).bit_length()
            self._marks = np.zeros(1 << self._bits, np.bool_)
            for run in self._runs:
                self._marks[self._slot(run)] = True
        else:
            self._marks[self._slot(self._runs[-1])] = True

    def _slot(self, postings: Hashes) -> Ints:
        return (postings >> np.uint64(64 - self._bits)).astype(np.int64)

    def alike(self, asked: Sets) -> tuple[Ints, Ints]:
        """(place in `asked`, row) of every pair at the threshold or above, in order."""
        mine = self.sets
        found = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for low, high in _chunks(asked.sizes) if self._runs else ():
            part = asked.part(low, high)
            for i, j in self._candidates(part):
                common = shared(part, i, mine, j)
                like = common / (part.sizes[i] + mine.sizes[j] - common) >= self.threshold
                found.append((low + i[like], j[like]))
        return np.concatenate([i for i, _ in found]), np.concatenate([j for _, j in found])

    def _candidates(self, asked: Sets) -> Iterator[tuple[Ints, Ints]]:
        """Pairs that may be alike, once each and in order; some asked texts at a time."""
        sizes, least = asked.sizes, _least(asked.sizes, self.threshold)
        query, text = _posting(asked.values), np.repeat(np.arange(len(sizes)), sizes)
        known = self._marks[self._slot(query)]
        count = np.bincount(text[known], minlength=len(sizes))
        count[count < least] = 0
        known &= count[text] > 0
        query, text = query[known], text[known]
        low, spans = self._spans(query)
        frequency = spans.sum(0)
        order = np.sort(_packed(text, np.minimum(frequency, 0xFFFFF), np.arange(len(text))))
        rank = np.arange(len(text)) - (np.cumsum(count) - count)[text]
        spare = least - 1  # x's elements that are not looked up
        chosen = (order & ROW_MASK).astype(np.int64)[rank < (count - spare)[text]]
        chosen = chosen[frequency[chosen] > 0]
        mine = np.diff(self._offsets[: self.rows + 1])
        found = np.bincount(text[chosen], frequency[chosen], len(sizes)).astype(np.int64)
        for first, last in _chunks(found):
            some = chosen[slice(*np.searchsorted(text[chosen], [first, last]))]
            pairs = [np.zeros(0, np.uint64)]
            for run, start, size in zip(self._runs, low, spans, strict=True):
                rows = run[ranges(start[some], size[some])] & ROW_MASK
                pairs.append(rows | (np.repeat(text[some], size[some]).astype(np.uint64) << np.uint64(32)))
            ordered = np.sort(np.concatenate(pairs))
            at = np.flatnonzero(_new(ordered))
            held = np.diff(np.append(at, len(ordered)))
            i, j = (
                (ordered[at] >> np.uint64(32)).astype(np.int64),
                (ordered[at] & np.uint64(0xFFFFFFFF)).astype(np.int64),
            )
            a, b = sizes[i], mine[j]
            may = np.minimum(a, b) >= self.threshold * np.maximum(a, b) - 1e-9
            may &= held + spare[i] >= self.threshold / (1 + self.threshold) * (a + b) - 1e-6
            yield i[may], j[may]

    def _spans(self, query: Hashes) -> tuple[Ints, Ints]:
        """[runs, len(query)]: where the postings of each begin in each run, and how many they are."""
        order = np.sort(query | np.arange(len(query), dtype=np.uint64))
        place, key = (order & ROW_MASK).astype(np.int64), order & ~ROW_MASK
        new = _new(key)
        once, which = key[new], np.cumsum(new) - 1
        low, spans = np.empty((2, len(self._runs), len(query)), np.int64)
        for n, run in enumerate(self._runs):
            start = np.searchsorted(run, once)
            low[n, place] = start[which]
            spans[n, place] = (np.searchsorted(run, once | ROW_MASK, side="right") - start)[which]
        return low, spans


def _least(sizes: Ints, threshold: float) -> Ints:
    """How many elements a text must share with one that is like it; 1 or more."""
    return np.maximum(1, np.ceil(threshold * sizes - 1e-9).astype(np.int64))


def _packed(text: Ints, frequency: Ints, place: Ints) -> Hashes:
    """Numbers that sort by text, then by frequency: 16 bits, 20 and 28."""
    parts = (text.astype(np.uint64) << np.uint64(BITS)) | (frequency.astype(np.uint64) << ROW_BITS)
    return parts | place.astype(np.uint64)


def crowded(of: Sets, threshold: float) -> Ints:
    """The texts (MOST at most) that share enough with the others together to be like one of them."""
    text = np.repeat(np.arange(len(of.sizes), dtype=np.uint64), of.sizes)
    ordered = np.sort((of.values << np.uint64(64 - BITS)) | text)
    same = ~_new(ordered >> np.uint64(64 - BITS))
    same[:-1] |= same[1:]
    texts = (ordered[same] & np.uint64(MOST - 1)).astype(np.int64)
    return np.flatnonzero(np.bincount(texts, minlength=len(of.sizes)) >= _least(of.sizes, threshold))


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
