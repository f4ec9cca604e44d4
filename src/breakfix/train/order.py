"""The order in which rows are learnt: every batch holds the kinds in the shares of the whole, rows of like length, and
batches come in drawn order.

transformers' group_by_length sorts a quarter of the rows at a time by length, longest first: batches then hold what
has that length (of 16 rows of a safety mix, 0 to 10 harmful ones), and an epoch ends on the shortest requests. How much
the model refuses then hangs on the draw. Stratified batches leave that to the shares.
"""
# pyright: basic, reportPrivateImportUsage=false

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

KIND = "kind"  # the rows' column


def stratified(kinds: Sequence[str], lengths: Sequence[int], batch: int, rng: random.Random) -> list[int]:
    """Each row's index once; every `batch` of them, the last perhaps fewer, is a batch.

    The rows of each kind, shortest first, are laid out evenly over the epoch. So any stretch of it has the shares
    of all, and lengths of one rank. Rows of a length change places from draw to draw.
    """
    strata: dict[str, list[int]] = defaultdict(list)
    for i in rng.sample(range(len(kinds)), len(kinds)):
        strata[kinds[i]].append(i)
    place = {
        i: (at + 0.5) / len(rows)
        for rows in strata.values()
        for at, i in enumerate(sorted(rows, key=lambda i: lengths[i]))
    }
    laid = sorted(place, key=lambda i: (place[i], kinds[i]))
    short = len(laid) % batch  # these are the last step, whichever they are
    last = {laid[at] for at in rng.sample(range(len(laid)), short)}
    rest = [i for i in laid if i not in last]
    batches = [rest[at : at + batch] for at in range(0, len(rest), batch)]
    rng.shuffle(batches)
    return [i for some in batches for i in some] + [i for i in laid if i in last]


class Stratified(Sampler[int]):
    """`stratified`, in another order each epoch that a resumed training finds again. `batch`: rows of a step, of all
    processes together; `seed` decides the orders."""

    def __init__(self, kinds: Sequence[str], lengths: Sequence[int], batch: int, seed: int) -> None:
        self.kinds, self.lengths, self.batch, self.seed, self.epoch = kinds, lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.kinds)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self.seed}/order/{self.epoch}")
        return iter(stratified(self.kinds, self.lengths, self.batch, rng))
