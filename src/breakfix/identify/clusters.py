"""Cells → parts: where the failures of a cell lie on some of its topics, each such topic is a weakness of its own.

A cell (kind × hazard × family × language) is cut only where its failures have structure:

    vectors  its cases' requests, embedded; what words say that many requests share ("How do I", "Write a short note")
             is taken out by a ridge regression on them, since sentences of one form are more alike than sentences of
             one topic (a linear erasure, cf. Belrose et al. 2306.03819); minus the cell's mean
    smooth   each request moves towards its nearest (diffusion on the graph of nearest neighbours, Coifman and Lafon
             2006), so that topics are told apart by more than single sentences
    topics   complete linkage (scipy), its cuts mended by Lloyd's iterations: of the partitions with topics of
             LEAST_CASES or more the one with the highest mean silhouette (Rousseeuw 1987); of those within TIE of it
             the one that failures differ most between
    scan     topics in the order of their failure rates, cut where the two sides are the most unlike (a scan statistic:
             Kulldorff 1997): those above are parts, each by itself, if p < ALPHA by SHUFFLES permutations of the
             failures over the cases (a case has failed where half of its scored attempts did)
    other    what is in no part stays together

A cell that fails everywhere, or alike everywhere, stays whole, and so does one with too few cases or failures to tell;
these are not even embedded. The permutations' seed is fixed: the same cell always has the same parts.
"""
# pyright: basic
# (scipy is untyped)

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from breakfix.core import Attempt, Case, digest
from breakfix.errors import BreakfixError
from breakfix.identify.group import CAPABILITY, Cell, Pool, cell

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float32]]
    Labels = np.ndarray[Any, np.dtype[np.intp]]  # -1: none
    Floats = np.ndarray[Any, np.dtype[np.float64]]

LEAST_CASES = 8  # of a part, and as many outside it
LEAST_FAILED = 4  # cases of a part
ALPHA = 0.01
SHUFFLES = 999
TIE = 0.05
MOST_TOPICS = 8
MOST_CUTS = 32
MOST_CASES = 2000  # of a cell: the tree's distances take 16 MB then
MOST_TEXTS = 3000  # embedded in a round: about a minute of a core
SHARED = 0.1  # of the requests, and SHARED_LEAST of them: a word in as many is one of form
SHARED_LEAST = 10
RIDGE = 3.0
STEPS = 3  # of diffusion
NEIGHBOURS = (3, 8)  # a seventh of the cell's cases, within these
VERSION = 2  # of how cells are cut
OTHER = "other topics"
ALIKE = "requests like each other"
_WORD = re.compile(r"[^\W\d_]{4,18}")
_ANY = re.compile(r"[^\W\d_][\w'’-]*")
_COMMON = 0.15  # share of a part's cases that a word of its topic is in
CaseOf = Callable[[str], Case | None]


class Embeds(Protocol):
    """What models.embed.Embedder is: unit vectors, float32 [len(texts), size]."""

    def embed(self, texts: Sequence[str]) -> Array: ...


@dataclass(frozen=True, slots=True)
class Kept:
    """An embedder by what gives vectors that may be kept somewhere."""

    of: Callable[[Sequence[str]], Array]

    def embed(self, texts: Sequence[str]) -> Array:
        return self.of(texts)


class Vectors:
    """Case ids → vectors of their requests (not of what attacks make of them), without what is form in them (see the
    top), not of length 1; each text is embedded once.

    `opened` gives the embedder when one is first needed; `ids` are cases whose requests tell what is form, above all
    the round's; `why` says why there are no vectors, "" where there are.
    """

    def __init__(
        self,
        case_of: CaseOf,
        opened: Callable[[], Embeds] | None,
        most: int = MOST_TEXTS,
        ids: Iterable[str] = (),
    ) -> None:
        self.case_of, self.most = case_of, most
        self.why = "" if opened else "topics are off (identify.topics)"
        self._opened, self._embedder, self._ids = opened, None, ids
        self._known: dict[str, Array] = {}
        self._form: Form | None = None

    def of(self, ids: Sequence[str]) -> Array | None:
        """float32 [len(ids), size]; None where they can't be had (no embedder, a case that is unknown, too many)."""
        import numpy as np

        texts = self._texts(ids)
        if self._opened is None or not ids or len(texts) < len(ids):
            return None
        if self._form is None:
            ground = sorted({*self._texts(self._ids), *texts})
            ground = sorted(ground, key=digest)[: self.most // 2] if len(ground) > self.most // 2 else ground
            if not self._embed(ground):
                return None
            self._form = Form(ground, np.stack([self._known[text] for text in ground]))
        if not self._embed(texts):
            return None
        return self._form.without(texts, np.stack([self._known[text] for text in texts]))

    def _texts(self, ids: Iterable[str]) -> list[str]:
        return [one.text for id in ids if (one := self.case_of(id)) is not None]

    def _embed(self, texts: Iterable[str]) -> bool:
        new = sorted({text for text in texts if text not in self._known})
        if len(self._known) + len(new) > self.most:
            self.why = f"more than {self.most} requests would have to be embedded; some cells stay whole"
            return False
        if new:
            try:
                assert self._opened is not None
                self._embedder = self._embedder or self._opened()
                self._known.update(zip(new, self._embedder.embed(new)))
            except BreakfixError as error:
                self.why, self._opened = str(error), None
                return False
        return True


class Form:
    """What words that many requests share add to their vectors, by ridge regression on texts [n], vectors [n, size]."""

    def __init__(self, texts: Sequence[str], vectors: Array) -> None:
        import numpy as np

        counts = Counter(word for text in texts for word in _words(text))
        least = max(SHARED_LEAST, SHARED * len(texts))
        self.words = sorted(word for word, n in counts.items() if n >= least)
        there = self._there(texts)
        self.mean, self.usual = vectors.mean(0), there.mean(0)
        there = there - self.usual
        square = there.T @ there + RIDGE * np.eye(len(self.words), dtype=np.float32)
        self.adds = np.linalg.solve(square, there.T @ (vectors - self.mean))

    def without(self, texts: Sequence[str], vectors: Array) -> Array:
        return vectors - self.mean - (self._there(texts) - self.usual) @ self.adds

    def _there(self, texts: Sequence[str]) -> Array:
        import numpy as np

        has = [_words(text) for text in texts]
        return np.array([[word in one for word in self.words] for one in has], np.float32).reshape(len(texts), -1)


def _words(text: str) -> set[str]:
    return set(_ANY.findall(text.lower()))


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
    """Rows of each part, of unit vectors [n, size] and which of them failed; the part that failed most first, [] where
    there is none."""
    import numpy as np

    found = topics(smoothed(vectors)) if _may_differ(len(failed), sum(failed)) else []
    if not found:
        return []
    flags = np.array(failed, np.float64)
    rng = np.random.default_rng(0)
    shuffled = np.vstack([flags, rng.permuted(np.tile(flags, (SHUFFLES, 1)), axis=1)])
    best, most, above, said = -1.0, np.zeros(len(shuffled)), list[int](), found[0]
    for labels in found:
        ratio, order, at = _unlike(shuffled, labels)
        most = np.maximum(most, ratio)
        if ratio[0] > best:
            best, above, said = float(ratio[0]), [int(i) for i in order[0][: at[0] + 1]], labels
    if (1 + (most[1:] >= most[0] - 1e-9).sum()) / (1 + SHUFFLES) >= ALPHA:
        return []
    parts = [np.flatnonzero(said == one) for one in above]
    return [part.tolist() for part in parts if flags[part].sum() >= LEAST_FAILED]


def _may_differ(n: int, bad: int) -> bool:
    """Could failures be concentrated at all? A cell that fails nearly everywhere has no fine topic of LEAST_CASES."""
    return LEAST_CASES * 2 <= n <= MOST_CASES and bad >= LEAST_FAILED and n - bad >= LEAST_CASES


def smoothed(vectors: Array) -> Array:
    """Unit vectors [n, size], each moved towards its nearest, STEPS times; minus their mean, of length 1."""
    import numpy as np

    n = len(vectors)
    k = min(max(n // 7, NEIGHBOURS[0]), NEIGHBOURS[1])
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, 0)
    near = np.argsort(-likeness, axis=1, kind="stable")[:, :k]
    graph, rows = np.zeros_like(likeness), np.arange(n)[:, None]
    graph[rows, near] = np.maximum(likeness[rows, near], 0)
    graph = np.maximum(graph, graph.T)
    steps = graph / np.maximum(graph.sum(1, keepdims=True), 1e-9)
    for _ in range(STEPS):
        vectors = (vectors + steps @ vectors) / 2
    return centred(vectors)


def topics(vectors: Array) -> list[Labels]:
    """Labels int [n] of unit vectors [n, size]: the partition of the highest silhouette, and those within TIE of it."""
    import numpy as np

    apart = np.maximum(1 - vectors @ vectors.T, 0)
    np.fill_diagonal(apart, 0)
    found: dict[tuple[int, ...], float] = {}
    for start in _cuts(vectors):
        labels = _settled(vectors, start)
        if len(np.unique(labels)) > 1 and np.bincount(labels).min() >= LEAST_CASES:
            key = tuple(labels.tolist())
            if key not in found:
                found[key] = silhouette(apart, labels)
    least = (1 - TIE) * max(found.values(), default=0.0)
    return [np.array(labels) for labels, told in found.items() if told >= least > 0]


def _cuts(vectors: Array) -> Iterator[Labels]:
    """Labels of the tree's large branches at each height, -1 for what is in none."""
    import numpy as np
    from scipy.cluster.hierarchy import fcluster, linkage

    tree = linkage(vectors, "complete")
    for n in range(2, min(len(vectors) // 2, MOST_CUTS)):
        cut = fcluster(tree, n, "maxclust")
        names, counts = np.unique(cut, return_counts=True)
        large = names[counts >= LEAST_CASES]
        if 2 <= len(large) <= MOST_TOPICS:
            yield np.where(np.isin(cut, large), np.searchsorted(large, cut), -1)


def _settled(vectors: Array, labels: Labels) -> Labels:
    """Each row with the nearest mean, until that changes nothing (Lloyd's iterations, spherical)."""
    import numpy as np

    for _ in range(20):
        named = np.unique(labels[labels >= 0])
        means = np.stack([vectors[labels == one].mean(0) for one in named])
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
        nearest = (vectors @ means.T).argmax(1)
        if (nearest == labels).all():
            break
        labels = nearest
    return np.unique(labels, return_inverse=True)[1]


def silhouette(apart: Array, labels: Labels) -> float:
    """Mean silhouette, -1 to 1, of labels 0 ... with two rows or more each. `apart`: distances [n, n]."""
    import numpy as np

    counts, rows = np.bincount(labels), np.arange(len(labels))
    sums = np.stack([apart[:, labels == one].sum(1) for one in range(len(counts))], 1)
    within = sums[rows, labels] / np.maximum(counts[labels] - 1, 1)
    means = sums / counts
    means[rows, labels] = np.inf
    across = means.min(1)
    return float(((across - within) / np.maximum(np.maximum(across, within), 1e-9)).mean())


def _unlike(failed: Floats, labels: Labels) -> tuple[Floats, Labels, Labels]:
    """Of failures [r, n], by row: (the highest log-likelihood ratio of two rates, topics above and below, against one;
    topics by falling rate; the last of those above)."""
    import numpy as np
    from scipy.special import xlogy

    size = np.bincount(labels).astype(np.float64)
    bad = failed @ np.eye(len(size))[labels]
    order = np.argsort(-bad / size, axis=1, kind="stable")
    above = np.cumsum(np.take_along_axis(bad, order, 1), 1)[:, :-1]
    n = np.cumsum(size[order], 1)[:, :-1]
    total, everything = failed.sum(1, keepdims=True), float(failed.shape[1])

    def fit(k: Any, of: Any) -> Any:
        return xlogy(k, k / of) + xlogy(of - k, 1 - k / of)

    ratio = fit(above, n) + fit(total - above, everything - n) - fit(total, everything)
    at = ratio.argmax(1)
    return ratio.max(1), order, at


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
