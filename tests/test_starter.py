"""The starter pack holds what its data card says: counts, no doubles, walls between splits, languages, nothing frozen.

Failures show ids, never the text of a row.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from breakfix import starter
from breakfix.core import Case, Expect, Split
from breakfix.errors import DataError
from breakfix.taxonomy import GROUPS, hazards, load

XSTEST = Path(__file__).parents[2] / "shared" / "data" / "xstest_prompts.csv"
PROTECTED = "child_sexual_exploitation"
LANGUAGE_ERRORS = 0.05  # py3langid is wrong on a few short rows


@pytest.fixture(scope="module")
def pack() -> list[Case]:
    return starter.cases()


def normal(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.lower()).strip()


def side(case: Case) -> tuple[str, Split, str]:
    return case.hazard, case.split, case.language


def grams(text: str, n: int = 8) -> set[tuple[str, ...]]:
    words = normal(text).split()
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


# ---- the real pack -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hazard", sorted(hazards()))
def test_every_hazard_has_enough_rows(pack: list[Case], hazard: str):
    kinds = Counter(starter.kind_of(c) for c in pack if c.hazard == hazard and c.language == "en")
    assert kinds["harmful"] == 0 if hazard == PROTECTED else kinds["harmful"] >= 20
    assert kinds["twin"] >= 30
    assert kinds["plain"] == 0


def test_no_harmful_row_about_children_in_any_language(pack: list[Case]):
    assert not [c.id for c in pack if c.hazard == PROTECTED and c.expect is not Expect.COMPLY]


def test_plain_rows_are_many_and_in_both_splits():
    assert len(starter.cases(kind="plain", language="en", split=Split.TRAIN)) >= 1600
    assert len(starter.cases(kind="plain", split=Split.DEV)) >= 100


@pytest.mark.parametrize("language", ["es", "fr", "de", "it", "pt", "zh", "ru", "ar", "hi"])
def test_plain_rows_to_learn_from_in_every_language(language: str):
    assert len(starter.cases(kind="plain", language=language, split=Split.TRAIN)) >= 12


def test_eight_languages_have_twenty_rows(pack: list[Case]):
    languages = Counter(c.language for c in pack if c.family.startswith("lang/"))
    assert len([n for n in languages.values() if n >= 20]) >= 8


def test_no_two_rows_say_the_same(pack: list[Case]):
    by_text: defaultdict[str, list[str]] = defaultdict(list)
    for case in pack:
        by_text[normal(case.text)].append(case.id)
    assert not [ids for ids in by_text.values() if len(ids) > 1]


def test_plain_rows_to_learn_from_share_no_eight_words_with_dev_ones():
    dev = set[tuple[str, ...]]().union(*(grams(c.text) for c in starter.cases(kind="plain", split=Split.DEV)))
    assert dev
    assert not [c.id for c in starter.cases(kind="plain", split=Split.TRAIN) if grams(c.text) & dev]


def test_families_don_t_cross_the_wall(pack: list[Case]):
    splits: defaultdict[str, set[Split]] = defaultdict(set)
    for case in pack:
        splits[case.family].add(case.split)
    assert not [family for family, found in splits.items() if len(found) > 1]
    assert {s for found in splits.values() for s in found} == {Split.TRAIN, Split.DEV}


def test_a_twin_is_on_its_harmful_case_s_side(pack: list[Case]):
    by_id = {c.id: c for c in pack}
    twins = [c for c in pack if c.twin]
    assert len(twins) > 500
    assert {by_id[c.twin].expect for c in twins} == {Expect.REFUSE} and {c.expect for c in twins} == {Expect.COMPLY}
    assert not [c.id for c in twins if side(by_id[c.twin]) != side(c)]


def test_every_field_is_filled(pack: list[Case]):
    known = set(hazards())
    assert not [c.id for c in pack if not (c.id.startswith("starter/") and c.family and c.family in c.id)]
    assert not [c.id for c in pack if c.hazard not in known and (c.hazard or starter.kind_of(c) != "plain")]
    assert {(c.source, c.licence, c.persona) for c in pack} == {("starter", "Apache-2.0", "")}
    assert not [c.id for c in pack if c.text != c.text.strip() or len(c.text) < 4]
    assert not [c.id for c in pack if [m.role for m in c.prompt] != ["user"]]


def test_translations_are_the_other_languages_rows(pack: list[Case]):
    by_id = {c.id: c.text for c in pack}
    english = [c for c in pack if c.family.startswith("lang/") and c.language == "en"]
    assert english
    for case in english:
        stem = case.id.removesuffix("en")
        assert not [stem + code for code, text in case.translations.items() if by_id[stem + code] != text]
    ids = {c.id for c in english}
    assert not [c.id for c in pack if c.translations and c.id not in ids]


def test_rows_are_in_the_language_they_claim(pack: list[Case]):
    py3langid = pytest.importorskip("py3langid")
    rows = [c for c in pack if c.family.startswith("lang/")]
    assert rows
    named = {c.id: py3langid.classify(c.text)[0] for c in rows}
    named = {id: {"ary": "ar", "arz": "ar"}.get(code, code) for id, code in named.items()}  # spoken Arabics
    wrong = [f"{c.id}: {named[c.id]}" for c in rows if named[c.id] != c.language]
    assert len(wrong) <= LANGUAGE_ERRORS * len(rows), wrong


def test_nothing_of_xstest_is_in_it(pack: list[Case]):
    if not XSTEST.exists():
        pytest.skip("no XSTest CSV here")
    with XSTEST.open(newline="", encoding="utf-8") as stream:
        prompts = [row["prompt"] for row in csv.DictReader(stream)]
    texts, runs = {normal(p) for p in prompts}, set[tuple[str, ...]]().union(*(grams(p) for p in prompts))
    assert len(texts) > 400
    shared = [c.id for c in pack if normal(c.text) in texts or grams(c.text) & runs]
    assert not shared


def test_order_and_ids_don_t_change_between_calls(pack: list[Case]):
    assert [c.id for c in starter.cases()] == [c.id for c in pack]
    french = [c.id for c in starter.cases(split=Split.DEV, kind="harmful", language="fr")]
    assert french == [c.id for c in pack if side(c)[1:] == (Split.DEV, "fr") and c.expect is Expect.REFUSE]


# ---- the format, by hand -----------------------------------------------------------------------------------------


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_a_family_becomes_cases(tmp_path: Path):
    rows = "harmful: [H one, H two], benign: [B one, B two, B three]"
    write(tmp_path, "x.yaml", f"hazard: privacy\nfamilies:\n  - {{id: doors, split: dev, {rows}}}\n")
    found = starter.read(tmp_path)
    stem = "starter/privacy/doors/"
    assert [c.id.removeprefix(stem) for c in found] == ["h01", "h02", "b01", "b02", "b03"]
    assert [c.twin.removeprefix(stem) for c in found] == ["", "", "h01", "h02", "h01"]
    assert [starter.kind_of(c) for c in found] == ["harmful", "harmful", "twin", "twin", "twin"]
    assert {(c.split, c.family, c.language) for c in found} == {(Split.DEV, "privacy/doors", "en")}


def test_a_plain_family_has_no_hazard(tmp_path: Path):
    write(tmp_path, "plain.yaml", "hazard: ''\nfamilies:\n  - {id: tea, split: train, plain: [How long?]}\n")
    (case,) = starter.read(tmp_path)
    assert (case.id, case.family, case.hazard, starter.kind_of(case)) == (
        "starter/plain/tea/p01",
        "plain/tea",
        "",
        "plain",
    )


def test_plain_families_may_be_in_several_files(tmp_path: Path):
    for name, family in (("plain.yaml", "tea"), ("plain_2.yaml", "milk")):
        write(tmp_path, name, f"hazard: ''\nfamilies:\n  - {{id: {family}, split: train, plain: [Is {family} hot?]}}\n")
    assert [c.id for c in starter.read(tmp_path)] == ["starter/plain/tea/p01", "starter/plain/milk/p01"]
    write(tmp_path, "plain_3.yaml", "hazard: ''\nfamilies:\n  - {id: tea, split: train, plain: [Whose cup?]}\n")
    with pytest.raises(DataError, match=r"plain_3\.yaml: 'starter/plain/tea/p01' is already in plain\.yaml"):
        starter.read(tmp_path)


def test_a_row_in_two_languages_becomes_two_cases(tmp_path: Path):
    harmful = "{id: a, split: train, hazard: hate, kind: harmful, en: Bad, no: Ond}"
    benign = "{id: b, split: train, hazard: hate, kind: benign, en: Good, no: God}"
    write(tmp_path, "languages.yaml", f"rows:\n  - {harmful}\n  - {benign}\n")
    found = {c.id.removeprefix("starter/lang/"): c for c in starter.read(tmp_path)}
    assert list(found) == ["a/en", "a/no", "b/en", "b/no"]  # "no" is Norwegian, not YAML's False
    assert found["a/en"].translations == {"no": "Ond"} and not found["a/no"].translations
    assert found["b/no"].twin == "starter/lang/a/no"
    assert found["a/no"].family == "lang/a" and found["a/no"].language == "no"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hazard: [", "x.yaml: not valid YAML"),
        ("- a", "x.yaml: expected keys 'hazard' and 'families', or 'rows'"),
        ("hazard: hate\nfamilies: [{id: a}]", "x.yaml: a: missing 'split'"),
        ("hazard: hate\nfamilies: [{id: a, split: frozen}]", "x.yaml: hate/a: split 'frozen', expected train | dev"),
        ("hazard: hate\nfamilies: [{id: a, split: dev, bening: [b]}]", "x.yaml: a: unknown 'bening'"),
        ("hazard: hate\nfamilies: [{id: a, split: dev, benign: b}]", "'benign' must be a list of non-empty strings"),
        ("hazard: hate\nfamilies: [{id: a, split: dev, benign: ['']}]", "'benign' must be a list of non-empty strings"),
        (
            "rows: [{id: a, split: dev, hazard: hate, kind: bad, en: x}]",
            "lang/a: kind 'bad', expected harmful | benign",
        ),
        ("rows: [{id: a, split: dev, hazard: hate, kind: benign, note: x}]", "'note' is not a language code"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(tmp_path: Path, text: str, says: str):
    with pytest.raises(DataError, match=re.escape(says)) as raised:
        starter.read(write(tmp_path, "x.yaml", text))
    assert "\n" not in str(raised.value)


def test_a_family_in_two_files_is_refused(tmp_path: Path):
    text = "hazard: hate\nfamilies: [{id: a, split: dev, benign: [b]}]"
    write(tmp_path, "1.yaml", text)
    write(tmp_path, "2.yaml", text.replace("[b]", "[c]"))
    with pytest.raises(DataError, match=r"2\.yaml: 'starter/hate/a/b01' is already in 1\.yaml"):
        starter.read(tmp_path)


def test_an_unknown_kind_is_the_user_s_mistake():
    with pytest.raises(DataError, match=r"kind 'benign', expected harmful \| twin \| plain"):
        starter.cases(kind="benign")


# ---- taxonomy ----------------------------------------------------------------------------------------------------


def test_the_taxonomy_has_ailuminate_s_twelve_hazards():
    assert len(hazards()) == 12
    groups = Counter(h.group for h in hazards().values())
    assert groups == {"physical": 5, "nonphysical": 5, "contextual": 2} and set(groups) == set(GROUPS)
    assert all(h.name and len(h.definition) > 80 and len(h.good_answer) > 40 for h in hazards().values())
    assert hazards()[PROTECTED].severity == max(h.severity for h in hazards().values()) == 7


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("group: hot", "group: cold"), "group 'cold'"),
        (("severity: 1", "severity: 9"), "severity 9, expected a whole number, 0 to 7"),
        (("name: A", "nmae: A"), "missing or unknown fields: name, nmae"),
    ],
)
def test_a_wrong_taxonomy_is_refused(change: tuple[str, str], says: str):
    text = "hazards: [{id: a, name: A, group: hot, definition: d, good_answer: g, severity: 1}]"
    good = text.replace("hot", "physical")
    assert list(load(good)) == ["a"]
    wrong = (text if "group" in says else good).replace(*change)
    with pytest.raises(DataError, match=re.escape(says)):
        load(wrong)
