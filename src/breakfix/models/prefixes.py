"""What prompts begin with alike: where it is worth a reading of its own, and the keys and values that are kept of it.

A prompt's *cuts* are the lengths up to which it is read together with others: [30, 330] for a system turn that all
prompts have and a template that twenty have. `Store` knows a token by all tokens before it and itself, as a radix tree
does (RadixAttention, 2312.07104), in pages of one token: a row's past is a list of places, whatever it was read with.
"""
# pyright: basic
# (torch's tensors and transformers' caches are half untyped)

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch

SHARED_MIN = 8  # a shared prefix shorter than this is not worth a pass of its own
WORTH = 64  # nor one that saves fewer tokens than this: a pass costs as much, whatever it reads


def cuts(prompts: Sequence[list[int]]) -> list[list[int]]:
    """Ascending lengths, for each prompt; at least one token of it is left for its own pass."""
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    common = [_common(prompts[a], prompts[b]) for a, b in pairwise(order)]
    found: list[list[int]] = [[] for _ in prompts]
    waiting = [(0, len(order), 0)]  # runs of prompts in their order, and how much of them is cut already
    while waiting:
        first, last, above = waiting.pop()
        if last - first < 2:
            continue
        depth = min(common[first : last - 1])
        if depth - above >= SHARED_MIN and (last - first - 1) * (depth - above) >= WORTH:
            above = depth
            for place in order[first:last]:
                found[place].append(depth)
        edges = [first, *(at + 1 for at in range(first, last - 1) if common[at] == depth), last]
        waiting += [(a, b, above) for a, b in pairwise(edges)]
    return found


def distinct(prompts: Sequence[list[int]], cuts: Mapping[int, list[int]]) -> int:
    """Tokens of all that the cuts of prompts (by their index) mark, each counted once."""
    found = {tuple(prompts[i][:b]): b - a for i, marks in cuts.items() for a, b in pairwise([0, *marks])}
    return sum(found.values())


def together(prompts: Sequence[list[int]], cuts: Mapping[int, list[int]]) -> list[int]:
    """Longest first; but a prompt that is for the most part shared goes with those that share it."""
    longest: dict[tuple[int, ...], int] = {}
    whose: dict[int, tuple[int, ...]] = {}
    for i, marks in cuts.items():
        whose[i] = tuple(prompts[i][: marks[-1]]) if marks and 2 * marks[-1] > len(prompts[i]) else ()
        longest[whose[i]] = max(longest.get(whose[i], 0), len(prompts[i]))
    return sorted(
        cuts, key=lambda i: (-(longest[whose[i]] if whose[i] else len(prompts[i])), whose[i], -len(prompts[i]))
    )


def shared_prefix(prompts: Sequence[list[int]]) -> int:
    """Tokens that all prompts begin with; at least one token of each prompt is left for its own pass."""
    return _common(min(prompts), max(prompts)) if len(prompts) > 1 else 0


def _common(a: list[int], b: list[int]) -> int:
    """How many tokens both begin with, the last of neither among them."""
    low, high = 0, min(len(a), len(b)) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low


class Store:
    """Keys and values of at most `most` tokens. What was not wanted for longest makes room."""

    def __init__(self, most: int) -> None:
        self.most, self.size = most, 0  # tokens there is room for, at most and by now
        self.turn = 0
        self._held: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._known: dict[tuple[int, int], int] = {}  # (place of the token before, token) → its place
        self._wanted: dict[int, int] = {}  # place → the turn that wanted it last
        self._free: list[int] = []

    def find(self, prompt: list[int]) -> list[int]:
        """Places of the longest beginning that is known."""
        at, found = -1, list[int]()
        for token in prompt:
            place = self._known.get((at, token))
            if place is None:
                break
            self._wanted[place] = self.turn
            found.append(at := place)
        return found

    def take(self, tokens: int) -> list[int] | None:
        """As many free places, or None if this turn wants all there are."""
        if len(self._free) < tokens and self.size < self.most:
            size = min(self.most, max(2 * self.size, self.size + tokens))
            self._free += range(self.size, size)
            self.size = size
        if len(self._free) < tokens:
            self._forget(tokens - len(self._free))
        if len(self._free) < tokens:
            return None
        taken, self._free = self._free[:tokens], self._free[tokens:]
        return taken

    def learn(self, past: list[int], tokens: list[int], places: list[int]) -> None:
        """The keys and values of `tokens`, which follow what is at `past`, are at `places` from now on."""
        at = past[-1] if past else -1
        for token, place in zip(tokens, places, strict=True):
            found = self._known.setdefault((at, token), place)
            if found != place:
                self._free.append(place)
            self._wanted[found] = self.turn
            at = found

    def _forget(self, tokens: int) -> None:
        """No token is wanted later than the one before it: none loses its past."""
        turns = Counter(self._wanted.values())
        before = 0
        for turn in sorted(turns):
            if tokens <= 0 or turn == self.turn:
                break
            before, tokens = turn + 1, tokens - turns[turn]
        gone = {place for place, turn in self._wanted.items() if turn < before}
        self._known = {key: place for key, place in self._known.items() if place not in gone}
        self._wanted = {place: turn for place, turn in self._wanted.items() if turn >= before}
        self._free += sorted(gone)

    def held(self, layer: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Keys and values of a layer by place, [size, heads, dim] each; None before anything was read."""
        return self._held.get(layer)

    def layers(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [self._held[layer] for layer in sorted(self._held)]

    def put(self, layer: int, places: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Places [n], keys and values [n, heads, dim]."""
        held = self._held.get(layer)
        if held is None or len(held[0]) < self.size:
            grown = keys.new_zeros(self.size, *keys.shape[1:]), values.new_zeros(self.size, *values.shape[1:])
            for new, old in zip(grown, held or (), strict=False):
                new[: len(old)] = old
            held = self._held[layer] = grown
        held[0][places], held[1][places] = keys, values
