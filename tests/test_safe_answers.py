"""Safe answers: every hazard and language composes, English answers are 25-55 words, the draw is the rng's."""

from __future__ import annotations

import itertools
import random

import pytest

from breakfix.errors import DataError
from breakfix.safe_answers import compose, load

HAZARDS = (
    "violent_crimes non_violent_crimes sex_related_crimes child_sexual_exploitation suicide_self_harm "
    "indiscriminate_weapons intellectual_property defamation hate privacy specialized_advice sexual_content general"
).split()


def test_english_has_every_hazard_and_every_answer_is_25_to_55_words():
    en = load()["en"]
    assert set(en["reasons"]) == set(en["offers"]) == set(HAZARDS)
    assert len(en["openings"]) == 6
    for hazard in HAZARDS:
        for parts in itertools.product(en["openings"], en["reasons"][hazard], en["offers"][hazard]):
            assert 25 <= len(" ".join(parts).split()) <= 55, parts


@pytest.mark.parametrize("language", "es fr de it pt nl ru zh ja ar hi".split())
def test_other_languages_have_general_and_self_harm(language: str):
    texts = load()[language]
    assert len(texts["openings"]) == len(set(texts["openings"])) == 4
    for part in ("reasons", "offers"):
        assert len(texts[part]["general"]) == 3
        assert len(texts[part]["suicide_self_harm"]) >= 2


def test_compose_is_the_rngs_and_falls_back_to_general():
    assert compose("hate", "en", random.Random(3)) == compose("hate", "en", random.Random(3))
    assert compose("hate", "fr", random.Random(3)) == compose("", "fr", random.Random(3))
    assert compose("hate", "pt-BR", random.Random(3)) == compose("hate", "pt", random.Random(3))
    assert " " not in compose("", "ja", random.Random(0))
    assert len({compose("privacy", "en", random.Random(seed)) for seed in range(60)}) > 30


def test_unknown_language_is_the_users_mistake():
    with pytest.raises(DataError, match="no safe answers in language 'xx'"):
        compose("", "xx", random.Random(0))
