"""The suite languages_dev: ten languages on the same contents, matched in form, nothing that is learnt from or frozen.

Failures show ids, never the text of a row.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from breakfix import frames, starter
from breakfix.config import Config, Suite
from breakfix.core import Case, Example, Expect, Split
from breakfix.curate import matched
from breakfix.curate.steps.decontaminate import Decontaminate
from breakfix.curate.steps.text import normal
from breakfix.errors import AssetError, DataError
from breakfix.evaluate.choose import steering
from breakfix.suites import load
from breakfix.taxonomy import hazards

NAME = "languages_dev"
PAIRS = 30
LANGUAGES = ["ar", "de", "en", "es", "fr", "hi", "it", "pt", "ru", "zh"]
NO_ROW = "child_sexual_exploitation"
LONGER = 1.35  # one of a pair is at most this much longer than the other, in letters


@pytest.fixture(scope="module")
def cases() -> tuple[Case, ...]:
    return load(Suite(name=NAME), seed=0).cases


def example(case: Case) -> Example:
    return Example(
        case.prompt,
        "",
        case.source,
        case.licence,
        case.hazard,
        starter.kind_of(case),
        language=case.language,
        family=case.family,
        parents=(case.id,),
    )


def twins(cases: tuple[Case, ...], language: str) -> list[tuple[Case, Case]]:
    """(harmful, its twin) of a language."""
    by_id = {case.id: case for case in cases}
    return [(by_id[case.twin], case) for case in cases if case.twin and case.language == language]


def test_thirty_pairs_in_each_language_of_the_starter_pack(cases: tuple[Case, ...]) -> None:
    assert sorted({case.language for case in starter.cases()}) == LANGUAGES
    counts = Counter((case.language, case.expect) for case in cases)
    assert counts == {(code, expect): PAIRS for code in LANGUAGES for expect in (Expect.REFUSE, Expect.COMPLY)}
    assert {(case.split, case.licence, case.source) for case in cases} == {(Split.DEV, "Apache-2.0", NAME)}
    assert len({normal(case.text) for case in cases}) == len(cases)


def test_it_is_spread_over_the_hazards(cases: tuple[Case, ...]) -> None:
    english = Counter(case.hazard for case in cases if case.language == "en")
    assert set(english) == set(hazards()) - {NO_ROW}
    assert max(english.values()) <= 8


def test_a_pair_is_one_family_in_all_its_languages(cases: tuple[Case, ...]) -> None:
    assert Counter(Counter(case.family for case in cases).values()) == {2 * len(LANGUAGES): PAIRS}
    for code in LANGUAGES:
        assert all((h.family, h.hazard, h.expect) == (b.family, b.hazard, Expect.REFUSE) for h, b in twins(cases, code))
    texts = {case.id: case.text for case in cases}
    for case in cases:
        others = {code: texts[case.id.replace("/en/", f"/{code}/")] for code in LANGUAGES if code != "en"}
        assert case.translations == (others if case.language == "en" else {})


def first(case: Case) -> str:
    return case.text[:1] if case.language == "zh" else case.text.split()[0]


@pytest.mark.parametrize("language", LANGUAGES)
def test_two_of_a_pair_are_alike_in_form(cases: tuple[Case, ...], language: str) -> None:
    """The same first word (sign in Chinese), the same last mark, the same length."""
    pairs = twins(cases, language)
    assert len(pairs) == PAIRS
    assert not [b.id for h, b in pairs if first(h) != first(b) or h.text[-1] != b.text[-1]]
    assert not [b.id for h, b in pairs if not 1 / LONGER <= len(b.text) / len(h.text) <= LONGER]
    differ = [len(h.text) - len(b.text) for h, b in pairs]
    assert max(sum(n > 0 for n in differ), sum(n < 0 for n in differ)) <= 0.75 * PAIRS
    assert abs(sum(differ)) <= 0.05 * sum(len(h.text) for h, _ in pairs)


def test_form_does_not_tell_harm(cases: tuple[Case, ...]) -> None:
    found = matched.report([example(case) for case in cases])
    assert found["form"]["low"] < 0.55 and found["form"]["auc"] < 0.6
    assert found["questions"]["harmful"] == found["questions"]["twin"] == pytest.approx(1 / 3)
    assert found["openings"] > 0.9
    assert found["words"]["auc"] < 0.7  # of other contents: each pair is its own


def test_nothing_of_it_is_learnt(cases: tuple[Case, ...]) -> None:
    """In no language: a row of one is compared with the texts of all."""
    settings = Config().curate
    rows = [example(case) for case in (*starter.cases(split=Split.TRAIN), *frames.cases())]
    step = Decontaminate(cases, ngram=settings.ngram, threshold=settings.near_duplicate)
    assert list(step.overlaps(rows)) == []


@pytest.mark.parametrize("other", ["starter_dev", "plain", "harmbench_val", "harmbench_test_standard", "strongreject"])
def test_it_overlaps_no_other_suite(cases: tuple[Case, ...], other: str) -> None:
    try:
        walls = load(Suite(name=other), seed=0).cases
    except AssetError as error:
        pytest.skip(str(error))
    step = Decontaminate(walls, ngram=8, threshold=0.6)
    assert [cases[hit.row].id for hit in step.overlaps([example(case) for case in cases])] == []


def test_rows_are_in_the_language_they_claim(cases: tuple[Case, ...]) -> None:
    py3langid = pytest.importorskip("py3langid")
    wrong = [case.id for case in cases if py3langid.classify(case.text)[0] != case.language]
    assert len(wrong) <= len(cases) / 100, wrong


def test_it_chooses_no_candidate() -> None:
    config = Config.model_validate({"evaluate": {"suites": [{"name": NAME}, {"name": "plain", "limit": 4}]}})
    assert {case.source for case in steering(config).requests} == {"starter"}


# ---- the format, by hand -----------------------------------------------------------------------------------------


def given(folder: Path, text: str) -> tuple[Case, ...]:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load(Suite(name=NAME, path=path), seed=0).cases


def test_ones_own_file(tmp_path: Path) -> None:
    found = given(tmp_path, "pairs: [{id: bread, hazard: hate, en: [Burn it., Bake it.], no: [Brenn det., Bak det.]}]")
    assert [case.id.removeprefix(f"{NAME}/bread/") for case in found] == ["en/h", "en/b", "no/h", "no/b"]
    assert [case.expect for case in found] == [Expect.REFUSE, Expect.COMPLY] * 2
    assert found[0].translations == {"no": "Brenn det."} and found[1].translations == {"no": "Bak det."}
    assert (found[3].twin, found[3].text, found[3].language) == (f"{NAME}/bread/no/h", "Bak det.", "no")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pairs: [", "not valid YAML"),
        ("[]", "expected a list under 'pairs'"),
        ("pairs: [{hazard: hate, en: [a, b]}]", "pair 1: expected an 'id'"),
        ("pairs: [{id: a, hazard: bad, en: [a, b]}]", "expected a 'hazard' of"),
        ("pairs: [{id: a, hazard: hate, EN: [a, b]}]", "'EN' is not a language code"),
        ("pairs: [{id: a, hazard: hate, en: [a]}]", "en: expected two texts"),
        ("pairs: [{id: a, hazard: hate, en: b}]", "en: expected two texts"),
        ("pairs: [{id: a, hazard: hate, en: [a, b]}, {id: a, hazard: hate, en: [c, d]}]", "pair 2: another one"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError) as error:
        given(tmp_path, text)
    assert says in str(error.value) and "mine.yaml" in str(error.value) and "\n" not in str(error.value)
