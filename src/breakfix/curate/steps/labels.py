"""Label errors: rows called harmless that look harmful among their neighbours, and the reverse.

Confident learning (Northcutt et al. 2021, 1911.00068). A linear classifier on embeddings gives each row the probability
of either label, from a fit on the other folds. A label's threshold is the mean probability of it over the rows that
bear it; a row counts as an error where the other label's probability is at its threshold or above, and its own is below
its own. Ours differs: two labels, and the rows are listed by how far they are from it, not removed by default. A benign
twin is made to look like a harmful request, so that what is flagged here is often a hard row and not a wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from breakfix.core import Dropped, Example
from breakfix.curate.steps.decontaminate import SHOWN, origin
from breakfix.curate.steps.vectors import Vectors
from breakfix.judges.linear import fit_labels

FOLDS = 5
L2 = 0.01
LEAST = 20  # rows of either label: with fewer there is nothing to be confident of
WRONG = "its label is probably wrong"
LABELS = ("benign", "harmful")


class LabelErrors:
    """The step. `drop` False: it only reports, and keeps every row."""

    name = "labels"

    def __init__(self, vectors: Vectors, *, drop: bool, seed: int = 0) -> None:
        self.vectors, self.drop, self.seed = vectors, drop, seed
        self.report: dict[str, Any] = {}

    def __call__(self, examples: Sequence[Example]) -> tuple[list[Example], list[Dropped]]:
        harmful = np.array([row.kind == "harmful" for row in examples], np.bool_)
        if min(harmful.sum(), (~harmful).sum()) < LEAST:
            self.report = {"checked": 0, "flagged": 0, "why_not": f"fewer than {LEAST} harmful or harmless rows"}
            return list(examples), []
        vectors = self.vectors.of([row.prompt[-1].content for row in examples]).astype(np.float64)
        chance = out_of_fold(vectors, harmful, self.seed)
        flagged = errors(chance, harmful)
        self.report = {
            "checked": len(examples),
            "flagged": len(flagged),
            "by_kind": {kind: n for kind in sorted({row.kind for row in examples})
                        if (n := sum(examples[i].kind == kind for i in flagged))},
            "rows": [
                {"row": origin(examples[i]), "kind": examples[i].kind, "harmful": round(float(chance[i]), 3)}
                for i in flagged[:SHOWN]
            ],
        }  # fmt: skip
        gone = set(flagged) if self.drop else set[int]()
        kept = [row for i, row in enumerate(examples) if i not in gone]
        return kept, [Dropped(examples[i], self.name, WRONG) for i in sorted(gone)]


def out_of_fold(vectors: NDArray[np.float64], harmful: NDArray[np.bool_], seed: int) -> NDArray[np.float64]:
    """[n]: the probability of "harmful", from a fit without the row's own fold. Both labels in each fold."""
    rng = np.random.default_rng(seed)
    fold = np.zeros(len(harmful), np.int64)
    for label in (False, True):
        places = rng.permutation(np.flatnonzero(harmful == label))
        fold[places] = np.arange(len(places)) % FOLDS
    chance = np.zeros(len(harmful))
    share = max(float(harmful.mean()), 1e-9)
    for k in range(FOLDS):
        rest, mine = fold != k, fold == k
        told = [LABELS[int(h)] for h in harmful[rest]]
        counts = np.where(harmful[rest], 0.5 / share, 0.5 / (1 - share))  # a rare label is no less likely for that
        model = fit_labels(vectors[rest], told, LABELS, [(vectors.shape[1], 10.0)], l2=L2, counts=counts.tolist())
        chance[mine] = model.probabilities(vectors[mine])[:, 1]
    return chance


def errors(chance: NDArray[np.float64], harmful: NDArray[np.bool_]) -> list[int]:
    """Places of the rows in the confident joint's off-diagonal, the surest first."""
    high, low = float(chance[harmful].mean()), float((1 - chance[~harmful]).mean())
    as_harmful, as_benign = chance >= high, (1 - chance) >= low
    wrong = np.where(harmful, as_benign & ~as_harmful, as_harmful & ~as_benign)
    places = np.flatnonzero(wrong)
    return places[np.argsort(-np.abs(chance[places] - harmful[places]), kind="stable")].tolist()
