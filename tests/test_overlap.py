"""Requests about two topics go to the one that fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from breakfix.core import Attempt, Case, Expect, Split, Verdict, Vulnerability, ask
from breakfix.identify.clusters import OTHER, Vectors
from breakfix.identify.identity import Belongs
from breakfix.identify.overlap import handed_on, shared
from breakfix.stats import rate
from nouns import ATTEMPT

BREAD, BOTH, BEES = range(14), range(14, 18), range(18, 32)


class Known:
    """A case's text is its number: bread to the left, bees to the right, and between them what is about both."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        across = {**dict.fromkeys(BREAD, 0.0), **dict.fromkeys(BOTH, 0.6), **dict.fromkeys(BEES, 1.5)}
        jitter = np.random.default_rng(0).normal(0, 0.05, 64)
        angles = np.array([across[int(text)] + jitter[int(text)] for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def case_of(id: str) -> Case:
    return Case(id, ask(id), Expect.REFUSE, "test", Split.DEV, "hate")


def attempt(i: int, failed: bool, n: int) -> Attempt:
    verdict = Verdict(float(not failed), "none" if failed else "full", "", "j@1")
    return replace(ATTEMPT, id=f"{i}-{n}", case=str(i), attack=f"direct-{n}", hazard="hate", verdicts=(verdict,))


def topic(id: str, said: str, cases: Sequence[int]) -> Vulnerability:
    suite = tuple((str(i), f"direct-{n}") for i in cases for n in (0, 1))
    return Vulnerability(
        id, "harmful_compliance", said, "hate", "direct", "en", 4.0, rate(5, 10), (), {}, topic=said, suite=suite
    )


def told(failing: set[int], cases: Sequence[int]) -> Belongs:
    return Belongs([attempt(i, i in failing, n) for i in cases for n in (0, 1)], [])


def known(second: str = "bees") -> list[Vulnerability]:
    return [topic("V1", "bread", [*BREAD, *BOTH]), topic("V2", second, BEES)]


def after(failing: set[int], second: str = "bees") -> dict[str, set[int]]:
    own = {"V1": told(failing, [*BREAD, *BOTH]), "V2": told(failing, BEES)}
    found = handed_on(known(second), own, Vectors(case_of, Known))
    return {id: {int(a.case) for a in one.attempts} for id, one in found.items()}


def test_what_still_fails_with_the_other_topic_is_handed_on() -> None:
    found = after({*BOTH, *BEES})
    assert found == {"V1": set(BREAD), "V2": {*BOTH, *BEES}}
    own = {"V1": told({*BOTH, *BEES}, [*BREAD, *BOTH]), "V2": told({*BEES}, BEES)}
    assert handed_on(known(), own, Vectors(case_of, Known))["V1"].handed == {"V2": 8}


def test_nothing_is_handed_on_to_a_topic_that_fails_no_longer() -> None:
    assert after({*BOTH})["V1"] == {*BREAD, *BOTH}


def test_a_topic_that_fails_itself_keeps_its_own() -> None:
    assert after({*BREAD, *BOTH, *BEES})["V1"] == {*BREAD, *BOTH}
    assert after({*range(0, 14, 3), 14, *BEES})["V1"] == {*BREAD, *BOTH}  # here and there


def test_what_is_in_no_topic_takes_nothing() -> None:
    assert after({*BOTH, *BEES}, second=OTHER)["V1"] == {*BREAD, *BOTH}


def test_without_vectors_nothing_changes() -> None:
    own = {"V1": told({*BOTH, *BEES}, [*BREAD, *BOTH]), "V2": told({*BEES}, BEES)}
    assert handed_on(known(), own, Vectors(case_of, None)) == own


def test_the_scan_by_hand() -> None:
    """Of 16 cases the two nearest failed twice each: 1 of 120 orders has them first."""
    cosines = [i / 16 for i in range(16)]
    twice = [2] * 16
    assert shared(cosines, [0] * 14 + [2, 2], twice) == [14, 15]
    assert shared(cosines, [2, 2] + [0] * 14, twice) == []  # the farthest
    assert shared(cosines, [0] * 15 + [2], twice) == []  # one of 16 is first by chance too often
    assert shared(cosines, [0] * 16, twice) == []
    assert shared(cosines[:1], [1], [2]) == []
