"""Cells are cut into topics where their failures lie on some of them; vectors are made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from breakfix.config import Config
from breakfix.core import ask
from breakfix.identify import run
from breakfix.identify.clusters import Form, Vectors, centred, scan, silhouette
from breakfix.ledger import Ledger
from test_identify import attempt, case


def about(*sizes: int) -> np.ndarray:
    """Rows about as many directions, float32 [sum, 8], of length 1 and minus their mean."""
    rows = np.random.default_rng(0).normal(0, 0.1, (sum(sizes), 8)).astype(np.float32)
    for one, size in enumerate(sizes):
        rows[sum(sizes[:one]) : sum(sizes[:one]) + size, one] += 1
    return centred(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_the_topic_that_fails_is_a_part() -> None:
    parts = scan(about(12, 12), [True] * 12 + [False] * 12)
    assert [sorted(part) for part in parts] == [list(range(12))]


def test_topics_that_fail_alike_beside_one_that_does_not_are_a_part_each() -> None:
    parts = scan(about(12, 12, 12, 12), [True] * 36 + [False] * 12)
    assert sorted(sorted(part) for part in parts) == [[*range(12)], [*range(12, 24)], [*range(24, 36)]]


@pytest.mark.parametrize("seed", range(3))
def test_a_cell_that_fails_alike_everywhere_stays_whole(seed: int) -> None:
    failed = np.random.default_rng(seed).permutation([True] * 24 + [False] * 24)
    assert scan(about(12, 12, 12, 12), [bool(one) for one in failed]) == []


def test_what_fails_everywhere_or_nowhere_has_no_part() -> None:
    assert scan(about(12, 12), [True] * 24) == []
    assert scan(about(12, 12), [False] * 24) == []


def test_too_few_have_no_part() -> None:
    assert scan(about(4, 4), [True] * 4 + [False] * 4) == []


def test_topics_far_apart_have_a_high_silhouette() -> None:
    rows = about(12, 12)
    apart = 1 - rows @ rows.T
    assert silhouette(apart, np.repeat([0, 1], 12)) > 0.5
    assert abs(silhouette(apart, np.tile([0, 1], 12))) < 0.2


TOPICS = ("bread", "bees", "trains", "violins", "tides", "chess", "gardens", "glass")


class Made:
    """A sentence's form says three times as much in its vector as its topic."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        rows = [[3.0 * ("Tell" in t), 3.0 * ("Write" in t), *(float(one in t) for one in TOPICS)] for t in texts]
        return np.array(rows, np.float32)


def test_sentences_of_one_form_are_not_alike_for_that() -> None:
    said = [f"{form} of {topic} {i * 'x'}" for form in ("Tell", "Write") for topic in TOPICS for i in range(3)]
    cases = {text: replace(case(text), prompt=ask(text)) for text in said}
    found = Vectors(cases.get, Made, ids=said).of(said)
    assert found is not None
    near = centred(found) @ centred(found).T
    same = np.array([[one.split()[2] == other.split()[2] for other in said] for one in said])
    form = np.array([[one[0] == other[0] for other in said] for one in said])
    assert near[same].min() > near[~same & form].max()


def test_without_words_in_common_nothing_is_form() -> None:
    rows = about(6, 6)
    form = Form([f"{chr(97 + i) * 5}" for i in range(12)], rows)
    assert form.words == [] and np.allclose(form.without(["aaaaa"], rows[:1]), rows[:1] - rows.mean(0), atol=1e-6)


class Told:
    """A topic is a direction; a form says nothing."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        noise = np.random.default_rng(0).normal(0, 0.05, (len(texts), len(TOPICS)))
        return (noise + [[float(one in t) for one in TOPICS] for t in texts]).astype(np.float32)


def test_topics_of_a_cell_are_vulnerabilities_that_are_mended_one_by_one(tmp_path: Path) -> None:
    """Four topics in a cell; the first two fail, then only the second."""
    about = [(replace(case(f"{t}{i}"), prompt=ask(f"{t} {i * 'x'}")), t) for t in TOPICS[:4] for i in range(12)]
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        ledger.add_cases([one for one, _ in about])

        def story(round: int, *weak: str) -> list[tuple[str, str, str]]:
            made = [attempt(one, 0.0 if t in weak else 1.0) for one, t in about]
            ledger.add_attempts(made, round=round, stage="redteam")
            assert run(Config(), ledger, round=round, embedder=Told)["whole_cells"] == ""
            return sorted((v.id, v.topic, str(v.status)) for v in ledger.vulnerabilities(round=round))

        assert story(0, *TOPICS[:2]) == [("V1", "bread", "open"), ("V2", "bees", "open")]
        assert story(1, TOPICS[1]) == [("V1", "bread", "fixed"), ("V2", "bees", "open")]
        assert story(2, *TOPICS[:2]) == [("V1", "bread", "reopened"), ("V2", "bees", "open")]
