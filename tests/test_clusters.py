"""Cells are cut into topics where their failures lie on few of them; vectors are made by hand."""

from __future__ import annotations

import numpy as np

from breakfix.identify.clusters import centred, scan, silhouette


def two_topics(n: int) -> np.ndarray:
    """n rows about each of two directions, float32 [2n, 8], of length 1 and minus their mean."""
    rows = np.random.default_rng(0).normal(0, 0.1, (2 * n, 8)).astype(np.float32)
    rows[:n, 0] += 1
    rows[n:, 1] += 1
    return centred(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_the_topic_that_fails_is_a_part() -> None:
    parts = scan(two_topics(12), [True] * 12 + [False] * 12)
    assert [sorted(part) for part in parts] == [list(range(12))]


def test_what_fails_everywhere_or_nowhere_has_no_part() -> None:
    assert scan(two_topics(12), [True] * 24) == []
    assert scan(two_topics(12), [False] * 24) == []


def test_too_few_have_no_part() -> None:
    assert scan(two_topics(4), [True] * 4 + [False] * 4) == []


def test_topics_far_apart_have_a_high_silhouette() -> None:
    rows = two_topics(12)
    assert silhouette(rows[:12], rows[12:]) > 0.5
    assert abs(silhouette(rows[::2], rows[1::2])) < 0.2
