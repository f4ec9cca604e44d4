"""How well harmful rows and their twins match: can a classifier that does not read for meaning tell them apart?

    form    sees length, punctuation, function words, the two opening words and the language, no matter of content.
            0.5 is the aim: then a model can't learn "How do I …?" as the sign of harm
            (Gururangan et al. 2018, 1803.02324, on artifacts that let a classifier of half the input succeed);
    words   sees which words stand there. It tells them apart, as it should: some words are harmful. Reported as it is.

Both are ridge regressions on the labels, scored on rows that they have not seen: a family (a filler pair, a topic)
lies whole in one of FOLDS folds. Intervals: percentiles over DRAWS bootstrap samples of families.
"""

# pyright: basic
# (scipy's sparse matrices are half untyped)

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from breakfix.core import Example, digest
from breakfix.curate.steps.text import asked, jaccard, runs, words

FOLDS = 5
DRAWS = 200
FEWEST = 10  # families: with fewer, nothing is said
SAMPLE = 300  # texts that diversity is measured on
MOST = 4000  # rows that are measured, drawn from all
RIDGE = 0.04  # of the rows; the AUCs move by less than 0.02 from a quarter to four times of it
LEAST_SPREAD = 0.2  # standard deviations below it count as it, or a word of two rows would outweigh one of hundreds
SIDES = ("harmful", "twin")
FUNCTION_WORDS = frozenset(
    "a an the this that these those i me my myself you your he him his she her it its we us our they them their one "
    "who whom whose which what when where why how and or but nor so if because although while until than as of at by "
    "for with without about against between into through before after to from up down in out on off over under again "
    "is are was were be been being am do does did have has had having can could should would may might must will shall "
    "not no don't isn't can't there here all any both each few more most other some such only own same too very just "
    "please somebody someone anybody anyone everybody everyone nobody".split()
)
_WORD = re.compile(r"[\w'’]+")


def report(rows: Sequence[Example]) -> dict[str, Any]:
    """For the record of curation; of `rows`, those that are harmful or twins (`rows`, by side).

    `form`, `words`, `length` (of words alone): {auc, low, high}, the chance that a harmful row scores higher than a
    twin (0.5 is chance), on `measured` of the rows; or None where there are too few families or only one side.
    `openings`, `languages`: the share of the two sides (0 to 1) that is the same in the distribution of the first two
    words, and of languages. `questions` (share with a question mark), `median_words`, `distinct_2`, `similarity`: by
    side.
    """
    sides = {side: [row for row in rows if row.kind == side] for side in SIDES}
    texts = {side: [asked(row.prompt) for row in some] for side, some in sides.items()}
    both = [row for some in sides.values() for row in some]
    measured = both if len(both) <= MOST else random.Random(0).sample(both, MOST)
    apart = _apart(measured)
    return {
        "rows": {side: len(some) for side, some in sides.items()},
        "families": len({_family(row) for row in both}),
        "measured": len(measured) if apart else 0,
        "form": apart.get("form"),
        "words": apart.get("words"),
        "length": apart.get("length"),
        "openings": _shared(*([_opening(text) for text in texts[side]] for side in SIDES)),
        "languages": _shared(*([row.language for row in sides[side]] for side in SIDES)),
        "questions": {side: sum(map(_asks, some)) / len(some) if some else None for side, some in texts.items()},
        "median_words": {side: _median([len(text.split()) for text in some]) for side, some in texts.items()},
        "distinct_2": {side: distinct_2(some) for side, some in texts.items()},
        "similarity": {side: similarity(some) for side, some in texts.items()},
    }


def _apart(rows: Sequence[Example]) -> dict[str, dict[str, float]]:
    """How well form, words, and length tell the rows' sides apart. Empty where that can't be said."""
    harmful = np.array([row.kind == "harmful" for row in rows], dtype=bool)
    families = np.unique([_family(row) for row in rows], return_inverse=True)[1]
    if len(set(families.tolist())) < FEWEST or len(set(harmful.tolist())) < len(SIDES):
        return {}
    texts = [asked(row.prompt) for row in rows]
    form = _matrix([_form(text, row.language) for text, row in zip(texts, rows, strict=True)])
    content = _matrix([dict.fromkeys(words(text), 1.0) for text in texts])
    lengths = np.array([len(text.split()) for text in texts], dtype=float)
    return {
        "form": _measured(_scores(form, harmful, families), harmful, families),
        "words": _measured(_scores(content, harmful, families), harmful, families),
        "length": _measured(lengths, harmful, families),
    }


def distinct_2(texts: Sequence[str]) -> float | None:
    """Different pairs of neighbouring words ÷ all of them, 0 to 1, over SAMPLE of the texts (it falls with their
    number). Li et al. 2016, 1510.03055. None where there are no pairs."""
    pairs = [pair for text in _drawn(texts) for pair in runs(words(text), 2)]
    return len(set(pairs)) / len(pairs) if pairs else None


def similarity(texts: Sequence[str]) -> float | None:
    """Mean Jaccard similarity of the words of two texts, 0 to 1, over SAMPLE of the texts. None for fewer than two."""
    sets = [frozenset(words(text)) for text in _drawn(texts)]
    found = [jaccard(one, two) for one, two in combinations(sets, 2)]
    return sum(found) / len(found) if found else None


def _drawn(texts: Sequence[str]) -> Sequence[str]:
    return texts if len(texts) <= SAMPLE else random.Random(0).sample(texts, SAMPLE)


def _family(row: Example) -> str:
    return row.family or (row.parents[0] if row.parents else row.id)


def _asks(text: str) -> bool:
    return any(sign in text for sign in "?？؟")


def _opening(text: str) -> str:
    return " ".join(words(text)[:2])


def _median(numbers: Sequence[int]) -> float | None:
    return float(np.median(numbers)) if numbers else None


def _shared(one: Sequence[str], two: Sequence[str]) -> float | None:
    """The overlap of two distributions, 0 to 1."""
    if not one or not two:
        return None
    a, b = Counter(one), Counter(two)
    return sum(min(a[key] / len(one), b[key] / len(two)) for key in a)


def _form(text: str, language: str) -> dict[str, float]:
    said = _WORD.findall(text)
    n = max(1, len(said))
    lower = [word.lower().replace("’", "'") for word in said]
    functions = Counter(word for word in lower if word in FUNCTION_WORDS)
    opening = _opening(text)
    shape = {f"sign {sign}": math.log1p(text.count(sign)) for sign in "?!.,:;-–'\"’()/\n¿؟？、，。।"}
    return {
        "characters": math.log1p(len(text)),
        "words": math.log1p(len(said)),
        "length of words": sum(map(len, said)) / n,
        "long words": sum(len(word) > 7 for word in said) / n,
        "capitals": sum(map(str.isupper, text)) / n,
        "lower start": float(text[:1].islower()),
        "digits": sum(map(str.isdigit, text)) / n,
        "function words": functions.total() / n,
        **shape,
        **{f"word {word}": math.log1p(count) for word, count in functions.items()},
        f"opens {opening}": 1.0,
        f"first {opening.partition(' ')[0]}": 1.0,
        f"ends {text.rstrip()[-1:]}": 1.0,
        f"language {language}": 1.0,
    }


def _matrix(rows: Sequence[Mapping[str, float]]) -> Any:
    """Rows × features, sparse; features that fewer than two rows have are left out, the others scaled to unit variance
    (and not centred: that would fill the matrix)."""
    from scipy.sparse import csr_matrix

    had = Counter(key for row in rows for key in row)
    place = {key: i for i, key in enumerate(sorted(key for key, n in had.items() if n > 1))}
    cells = [(i, place[key], value) for i, row in enumerate(rows) for key, value in row.items() if key in place]
    at, features, values = zip(*cells, strict=True) if cells else ((), (), ())
    matrix = csr_matrix((values, (at, features)), shape=(len(rows), len(place)), dtype=float)
    mean = np.asarray(matrix.mean(axis=0)).ravel()
    spread = np.sqrt(np.maximum(np.asarray(matrix.multiply(matrix).mean(axis=0)).ravel() - mean**2, 0))
    return csr_matrix(matrix.multiply(1 / np.maximum(spread, LEAST_SPREAD)))


def _scores(features: Any, harmful: Any, families: Any) -> Any:
    """Higher is more like harmful; every row scored by the fit on the folds that its family is not in."""
    from scipy.sparse.linalg import lsqr

    scores, folds = np.zeros(len(harmful)), _folds(families)
    for fold in range(FOLDS):
        here, rest = folds == fold, folds != fold
        if here.any() and rest.any():
            target = np.where(harmful[rest], 1.0, -1.0)
            middle = target.mean()
            weights = lsqr(features[rest], target - middle, damp=math.sqrt(RIDGE * rest.sum()), iter_lim=40)[0]
            scores[here] = features[here] @ weights + middle
    return scores


def _folds(families: Any) -> Any:
    """Fold of each row. Families are dealt out in an order that their numbers decide, so that nothing is random."""
    order = sorted(set(families.tolist()), key=lambda family: digest(["fold", family]))
    dealt = {family: i % FOLDS for i, family in enumerate(order)}
    return np.array([dealt[family] for family in families.tolist()])


def _measured(scores: Any, harmful: Any, families: Any) -> dict[str, float]:
    """The area under the ROC curve with its 95 % interval over families."""
    rng = np.random.default_rng(0)
    ranks = np.unique(scores, return_inverse=True)[1]
    members: list[Any] = [np.flatnonzero(families == family) for family in range(families.max() + 1)]
    drawn: list[float] = []
    for _ in range(DRAWS):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        auc = _auc(ranks[rows], harmful[rows])
        if auc is not None:
            drawn.append(auc)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"auc": _auc(ranks, harmful) or 0.0, "low": float(low), "high": float(high)}


def _auc(ranks: Any, harmful: Any) -> float | None:
    """P(a harmful row ranks higher than another) + ½ P(the same). `ranks`: whole numbers from 0. None for one side."""
    size = int(ranks.max()) + 1
    bad, good = np.bincount(ranks[harmful], minlength=size), np.bincount(ranks[~harmful], minlength=size)
    if not bad.sum() or not good.sum():
        return None
    below = np.cumsum(good) - good
    return float((bad * (below + good / 2)).sum() / (bad.sum() * good.sum()))
