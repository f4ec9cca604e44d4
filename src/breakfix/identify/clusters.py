"""Cells → parts: where the failures of a cell lie on few of its topics, each such topic is a weakness of its own.

A cell (kind × hazard × family × language) is cut only where its failures have structure:

    tree     its cases' requests, embedded, are joined by average linkage (scipy); every branch is a topic that might be
    scan     the branch whose cases fail more often than the cell's other cases with the least p (Fisher's exact test,
             one-sided; a case has failed where half of its scored attempts did) is a part, if p × number of branches
             < ALPHA; then what is left of the tree is scanned again (a tree-based scan statistic: Kulldorff, Fang and
             Walsh 2003, with Bonferroni's bound in place of their simulation)
    apart    a part whose two branches lie far from each other (mean silhouette of SEPARATE or more) is two
    other    what is in no part stays together

A cell that fails everywhere, or alike everywhere, stays whole, and so does one with too few cases or failures to tell;
these are not even embedded. Nothing here is random.
"""
# pyright: basic
# (scipy is untyped)

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from breakfix.core import Attempt, Case
from breakfix.errors import BreakfixError
from breakfix.identify.group import CAPABILITY, Cell, Pool, cell

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float32]]

LEAST_CASES = 6  # of a part, and as many outside it
LEAST_FAILED = 4  # cases of a part
ALPHA = 0.01
SEPARATE = 0.25
MOST_PARTS = 8
MOST_CASES = 2000  # of a cell: the tree's distances take 16 MB then
MOST_TEXTS = 3000  # embedded in a round: about a minute of a core
OTHER = "other topics"
ALIKE = "requests like each other"
_WORD = re.compile(r"[^\W\d_]{4,18}")
_COMMON = 0.15  # share of a part's cases that a word of its topic is in
CaseOf = Callable[[str], Case | None]


class Embeds(Protocol):
    """What models.embed.Embedder is: unit vectors, float32 [len(texts), size]."""

    def embed(self, texts: Sequence[str]) -> Array: ...


class Vectors:
    """Case ids → unit vectors of their requests (not of what attacks make of them); each text is embedded once.

    `opened` gives the embedder when one is first needed; `why` says why there are no vectors, "" where there are.
    """

    def __init__(self, case_of: CaseOf, opened: Callable[[], Embeds] | None, most: int = MOST_TEXTS) -> None:
        self.case_of, self.most = case_of, most
        self.why = "" if opened else "no embedding model was given"
        self._opened, self._embedder = opened, None
        self._known: dict[str, Array] = {}

    def of(self, ids: Sequence[str]) -> Array | None:
        """float32 [len(ids), size]; None where they can't be had (no embedder, a case that is unknown, too many)."""
        import numpy as np

        found = [self.case_of(id) for id in ids]
        texts = [one.text for one in found if one is not None]
        new = sorted({text for text in texts if text not in self._known})
        if self._opened is None or not ids or len(texts) < len(ids):
            return None
        if len(self._known) + len(new) > self.most:
            self.why = f"more than {self.most} requests would have to be embedded; some cells stay whole"
            return None
        if new:
            try:
                self._embedder = self._embedder or self._opened()
                self._known.update(zip(new, self._embedder.embed(new)))
            except BreakfixError as error:
                self.why, self._opened = str(error), None
                return None
        return np.stack([self._known[text] for text in texts])


def split(whole: Cell, vectors: Vectors, reached: Mapping[tuple[str, str], set[str]]) -> list[Cell]:
    """The cell's parts, each with its `topic`, and what is left as OTHER; the cell itself where it has no structure.

    `reached` is group.cases of the round's measured attempts.
    """
    failed = failing(whole.attempts)
    n, bad = len(failed), sum(failed.values())
    if whole.key.kind == CAPABILITY or not _may_differ(n, bad):
        return [whole]
    ids = sorted(failed)
    found = vectors.of(ids)
    if found is None:
        return [whole]
    parts = [[ids[i] for i in part] for part in scan(centred(found), [failed[id] for id in ids])]
    if not parts:
        return [whole]
    rest = [id for id in ids if not any(id in part for part in parts)]
    topics = [*(topic(part, [id for id in ids if id not in part], vectors.case_of) for part in parts), OTHER]
    cells = [part_of(whole, part, said, reached) for part, said in zip([*parts, rest], topics)]
    best = max(range(len(parts)), key=lambda i: len(cells[i].failed))
    outside = tuple(a for a in whole.lessons if a.case not in failed)
    cells[best] = replace(cells[best], lessons=(*cells[best].lessons, *outside))  # training cases are not measured
    return cells


def part_of(whole: Cell, cases: Iterable[str], said: str, reached: Mapping[tuple[str, str], set[str]]) -> Cell:
    """The attempts of a cell that are on these cases."""
    wanted = set(cases)
    pool = Pool([a for a in whole.attempts if a.case in wanted], [a for a in whole.lessons if a.case in wanted])
    return replace(cell(whole.key, pool, reached), topic=said)


def failing(attempts: Iterable[Attempt]) -> dict[str, bool]:
    """Case → did at least half of its scored attempts fail? Cases without a scored attempt are left out."""
    scores: dict[str, list[float]] = defaultdict(list)
    for attempt in attempts:
        if attempt.score is not None:
            scores[attempt.case].append(attempt.score)
    return {case: sum(score == 0 for score in given) * 2 >= len(given) for case, given in scores.items()}


def centred(vectors: Array) -> Array:
    """Minus their mean, and of length 1 again: what a cell's requests have in common tells nothing within it."""
    import numpy as np

    away = vectors - vectors.mean(0)
    return away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)


def scan(vectors: Array, failed: Sequence[bool]) -> list[list[int]]:
    """Rows of each part, of unit vectors [n, size] and which of them failed; the surest first, [] where none is."""
    from scipy.cluster.hierarchy import linkage

    tree = linkage(vectors, "average")
    branches: list[list[int]] = [[i] for i in range(len(failed))]
    for one, other, *_ in tree:
        branches.append(branches[int(one)] + branches[int(other)])
    children = {len(failed) + i: (int(row[0]), int(row[1])) for i, row in enumerate(tree)}
    left, parts = set(range(len(failed))), list[list[int]]()
    while len(parts) < MOST_PARTS and (best := _surest(branches, left, failed)) is not None:
        parts += _apart(best, branches, children, left, vectors, failed)
        left -= set(branches[best])
    return parts


def _may_differ(n: int, bad: int) -> bool:
    """Could failures be concentrated at all? A cell that fails nearly everywhere has no fine topic of LEAST_CASES."""
    return LEAST_CASES * 2 <= n <= MOST_CASES and bad >= LEAST_FAILED and n - bad >= LEAST_CASES


def _surest(branches: Sequence[list[int]], left: set[int], failed: Sequence[bool]) -> int | None:
    import numpy as np
    from scipy.stats import hypergeom

    size = np.array([sum(i in left for i in branch) for branch in branches])
    bad = np.array([sum(failed[i] for i in branch if i in left) for branch in branches])
    n, all_bad = len(left), sum(failed[i] for i in left)
    able = (size >= LEAST_CASES) & (n - size >= LEAST_CASES) & (bad >= LEAST_FAILED)
    if not able.any():
        return None
    p = np.where(able, hypergeom.sf(bad - 1, n, all_bad, size), 1.0)
    best = min(np.flatnonzero(able), key=lambda i: (p[i], -size[i], i))
    return int(best) if p[best] * int(able.sum()) < ALPHA else None


def _apart(
    node: int,
    branches: Sequence[list[int]],
    children: Mapping[int, tuple[int, int]],
    left: set[int],
    vectors: Array,
    failed: Sequence[bool],
) -> list[list[int]]:
    """The branch, or its two where these lie far apart and each is large enough; those likewise."""
    rows = sorted(i for i in branches[node] if i in left)
    if node not in children:
        return [rows]
    one, other = (sorted(i for i in branches[child] if i in left) for child in children[node])
    if not one or not other:
        return _apart(children[node][0 if one else 1], branches, children, left, vectors, failed)
    small = [side for side in (one, other) if len(side) < LEAST_CASES]
    if len(small) == 1:  # a straggler: look further down, and let it go with the larger side
        larger = children[node][0 if small[0] is other else 1]
        deeper = _apart(larger, branches, children, left, vectors, failed)
        return [rows] if len(deeper) == 1 else deeper
    enough = all(len(side) >= LEAST_CASES and sum(failed[i] for i in side) >= LEAST_FAILED for side in (one, other))
    if not enough or silhouette(vectors[one], vectors[other]) < SEPARATE:
        return [rows]
    return [part for child in children[node] for part in _apart(child, branches, children, left, vectors, failed)]


def silhouette(one: Array, other: Array) -> float:
    """Mean silhouette of two groups of two rows or more, -1 to 1 (Rousseeuw 1987), by the distance 1 - cosine."""
    import numpy as np

    means: list[Any] = []
    for mine, theirs in ((one, other), (other, one)):
        within = (1 - mine @ mine.T).sum(1) / (len(mine) - 1)
        across = (1 - mine @ theirs.T).mean(1)
        means.append((across - within) / np.maximum(np.maximum(across, within), 1e-9))
    return float(np.concatenate(means).mean())


def topic(part: Sequence[str], rest: Sequence[str], case_of: CaseOf) -> str:
    """One to three words that the requests of a part have and the others of its cell have not: "bread, dough".

    Score: share of the part's requests with the word × log(that ÷ the share of the others), as in c-TF-IDF
    (2203.05794) with requests counted instead of occurrences. Single words only: they name, and tell nothing further.
    """
    import math

    here, there = _documents(part, case_of), _documents(rest, case_of)
    scores: dict[str, float] = {}
    for word, count in here.items():
        share, other = count / len(part), (there[word] + 0.5) / (len(rest) + 1)
        if count >= 2 and share >= _COMMON and share > 2 * other:
            scores[word] = share * math.log(share / other)
    words: list[str] = []
    for word in sorted(scores, key=lambda word: (-scores[word], word)):
        if len(words) < 3 and not any(word[:5] == said[:5] for said in words):  # "lamp, lamps"
            words.append(word)
    return ", ".join(words) or ALIKE


def _documents(ids: Sequence[str], case_of: CaseOf) -> Counter[str]:
    """Word → how many of the cases' requests have it."""
    texts = (one.text for id in ids if (one := case_of(id)) is not None)
    return Counter(word for text in texts for word in set(_WORD.findall(text.lower())))
