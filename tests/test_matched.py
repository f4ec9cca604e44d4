"""How well harmful rows and twins match, on rows whose form or words are made to tell them apart, or not to."""

from __future__ import annotations

import numpy as np
import pytest

from breakfix.core import Example, ask
from breakfix.curate import matched

THINGS = "bread soup cake rice pasta salad stew pie jam tea toast porridge curry sauce cheese butter".split()
HARMFUL = "burn spoil ruin waste steal break crush spill".split()
BENIGN = "bake serve cook taste share slice chill smell".split()


def row(text: str, kind: str, family: str, language: str = "en") -> Example:
    return Example(ask(text), "", "test", "MIT", "", kind, language=language, family=family)


def both(harmful: str, benign: str) -> list[Example]:
    """A pair of rows for each thing and pair of verbs; {v} and {t} are their places."""
    return [
        row(text.format(v=verb, t=thing), kind, thing)
        for thing in THINGS
        for h, b in zip(HARMFUL, BENIGN, strict=True)
        for text, verb, kind in ((harmful, h, "harmful"), (benign, b, "twin"))
    ]


def test_form_that_tells_them_apart_is_found():
    found = matched.report(both("How do I {v} the {t}?", "Please {v} some {t} for us all."))
    assert found["form"]["auc"] > 0.99 and found["form"]["low"] > 0.95
    assert found["length"]["auc"] == 0.0  # by words alone, the longer are the harmless: of a pair always the same one
    assert found["openings"] == 0.0
    assert found["questions"] == {"harmful": 1.0, "twin": 0.0}
    assert found["median_words"] == {"harmful": 6.0, "twin": 7.0}


def test_matched_rows_differ_in_words_alone():
    found = matched.report(both("How do I {v} the {t}?", "How do I {v} the {t}?"))
    assert 0.4 < found["form"]["auc"] < 0.6  # the verbs' lengths are all that is left
    assert found["words"]["auc"] > 0.99
    assert found["length"] == {"auc": 0.5, "low": 0.5, "high": 0.5}
    assert found["openings"] == found["languages"] == pytest.approx(1.0)
    assert found["rows"] == {"harmful": 128, "twin": 128} and found["families"] == 16 and found["measured"] == 256


def test_a_language_of_one_side_is_a_sign():
    rows = both("How do I {v} the {t}?", "How do I {v} the {t}?")
    rows = [row(e.prompt[0].content, e.kind, e.family, "fr" if e.kind == "twin" else "en") for e in rows]
    found = matched.report(rows)
    assert found["languages"] == 0.0 and found["form"]["auc"] > 0.99


def test_plain_rows_are_not_looked_at_and_too_little_is_unknown():
    rows = both("How do I {v} the {t}?", "How do I {v} the {t}?")
    few = [e for e in rows if e.family in THINGS[:3]]
    found = matched.report([*few, row("Hello", "plain", "x")])
    assert found["families"] == 3 and found["rows"] == {"harmful": 24, "twin": 24}
    assert found["form"] is found["words"] is found["length"] is None
    one_side = matched.report([e for e in rows if e.kind == "harmful"])
    assert one_side["form"] is one_side["openings"] is None and one_side["rows"]["twin"] == 0
    assert one_side["questions"] == {"harmful": 1.0, "twin": None} and one_side["measured"] == 0
    assert matched.report([])["families"] == 0


def test_the_same_rows_give_the_same_report():
    rows = both("How do I {v} the {t}?", "Please {v} the {t}.")
    assert matched.report(rows) == matched.report(rows)


def test_the_auc_by_hand():
    def auc(*ranks: int) -> float | None:
        return matched._auc(np.array(ranks), np.array([True, True, False, False]))  # pyright: ignore[reportPrivateUsage]

    assert auc(2, 3, 0, 1) == 1.0
    assert auc(0, 1, 2, 3) == 0.0
    assert auc(0, 3, 1, 2) == 0.5
    assert auc(1, 1, 1, 1) == 0.5
    assert auc(1, 2, 1, 0) == 0.875  # wins 3 of 4, one of them half


def test_diversity_by_hand():
    assert matched.distinct_2(["bake the bread", "bake the cake"]) == 0.75  # "bake the" is there twice
    assert matched.similarity(["bake the bread", "bake the cake"]) == 0.5
    assert matched.similarity(["bread"]) is matched.distinct_2(["bread"]) is None
