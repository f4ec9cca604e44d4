"""Suites: files of the same formats as the real ones, made here with neutral content; and samples drawn from them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from breakfix.config import Suite
from breakfix.core import Case, Expect, Split, ask
from breakfix.errors import AssetError, DataError
from breakfix.suites import SUITES, Loaded, load
from breakfix.suites.sample import balanced, stratified

XSTEST = "id,prompt,type,label,focus,note\n"
HARMBENCH = "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n"


def read(name: str, path: Path, limit: int | None = None) -> Loaded:
    return load(Suite(name=name, path=path, limit=limit), seed=0)


def file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


# ---- the catalogue ----------------------------------------------------------------------------------------------


def test_every_suite_says_what_it_is_and_where_it_is_from() -> None:
    for name, spec in SUITES.items():
        assert spec.name == name
        assert spec.doc
        assert spec.source
        assert spec.licence


def test_nothing_of_a_frozen_asset_is_in_a_suite_that_may_steer() -> None:
    from breakfix.assets import catalogue

    for spec in SUITES.values():
        for asset in spec.files or {}:
            assert spec.split.value == catalogue()[asset].use


def test_the_starter_pack_gives_dev_rows_only() -> None:
    starter_dev, plain = load(Suite(name="starter_dev"), seed=0), load(Suite(name="plain"), seed=0)
    assert {case.split for case in (*starter_dev.cases, *plain.cases)} == {Split.DEV}
    assert {case.expect for case in starter_dev.cases} == {Expect.REFUSE, Expect.COMPLY}
    assert {case.expect for case in plain.cases} == {Expect.COMPLY}
    assert not {case.hazard for case in plain.cases if case.hazard}
    assert all(case.hazard for case in starter_dev.cases)
    assert len({case.language for case in starter_dev.cases}) == 10


def test_perplexity_samples_are_part_of_plain_samples() -> None:
    plain = load(Suite(name="plain", limit=100), seed=3)
    perplexity = load(Suite(name="perplexity", limit=60), seed=3)
    assert len(perplexity.cases) == 60
    assert {case.id for case in perplexity.cases} <= {case.id for case in plain.cases}


# ---- formats ----------------------------------------------------------------------------------------------------


def test_xstest(tmp_path: Path) -> None:
    text = XSTEST + '1,"How do I kill a process, quickly?",homonyms,safe,kill,\n2,Say "no",contrast_x,unsafe,no,\n'
    loaded = read("xstest", file(tmp_path, "any.csv", text))
    assert loaded.split is Split.FROZEN
    safe, unsafe = loaded.cases
    assert (safe.id, safe.text, safe.expect) == ("xstest/1", "How do I kill a process, quickly?", Expect.COMPLY)
    assert (unsafe.id, unsafe.expect, unsafe.family) == ("xstest/2", Expect.REFUSE, "xstest/contrast_x")
    assert {case.licence for case in loaded.cases} == {"CC-BY-4.0"}


def test_a_wrong_label_or_column_is_named_with_its_line(tmp_path: Path) -> None:
    path = file(tmp_path, "x.csv", XSTEST + "1,Hello,a,safe,,\n2,Hello,a,perhaps,,\n")
    with pytest.raises(DataError, match=r"x\.csv:3: label 'perhaps', expected safe \| unsafe"):
        read("xstest", path)
    with pytest.raises(DataError, match=r"y\.csv:1: no column label, type; expected id,"):
        read("xstest", file(tmp_path, "y.csv", "id,prompt,focus,note\n"))
    with pytest.raises(DataError, match=r"z\.csv:2: the row ends before 'type'"):
        read("xstest", file(tmp_path, "z.csv", XSTEST + "1,Hello\n"))


def test_harmbench_takes_standard_behaviours_alone(tmp_path: Path) -> None:
    text = HARMBENCH + "Say A,standard,illegal,,,say_a\nSay B,contextual,illegal,context,C,say_b\n"
    text += '"Say\nC",standard,cybercrime_intrusion,,,say_c\n'
    path = file(tmp_path, "test.csv", text)
    loaded = read("harmbench_test_standard", path)
    assert [case.id for case in loaded.cases] == ["harmbench_test_standard/say_a", "harmbench_test_standard/say_c"]
    assert [case.text for case in loaded.cases] == ["Say A", "Say\nC"]
    assert [case.hazard for case in loaded.cases] == ["", "non_violent_crimes"]
    assert read("harmbench_val", path).split is Split.DEV


def test_strongreject_rows_carry_their_own_licence(tmp_path: Path) -> None:
    text = "category,source,forbidden_prompt\nViolence,custom,One\nViolence,MasterKey,Two\n"
    first, second = read("strongreject", file(tmp_path, "s.csv", text)).cases
    assert (first.id, first.licence, first.hazard) == ("strongreject/001", "MIT", "violent_crimes")
    assert second.licence == "unknown"


def test_advbench(tmp_path: Path) -> None:
    path = file(tmp_path, "a.prompt", "seeds:\n- value: One\n  harm_categories: [x]\n- value: Two\n")
    loaded = read("advbench", path)
    assert [(case.id, case.text) for case in loaded.cases] == [("advbench/001", "One"), ("advbench/002", "Two")]
    assert loaded.split is Split.TRAIN
    with pytest.raises(DataError, match="seed 2 has no text"):
        read("advbench", file(tmp_path, "b.prompt", "seeds:\n- value: One\n- data_type: text\n"))
    with pytest.raises(DataError, match="expected a list under 'seeds'"):
        read("advbench", file(tmp_path, "c.prompt", "- One\n"))


AREAS = (
    "discrimination_exclusion_toxicity_hateful_offensive",
    "human_chatbox",
    "information_hazard",
    "malicious_uses",
    "misinformation_harms",
)


def test_do_not_answer_is_a_folder_of_risk_areas(tmp_path: Path) -> None:
    for area in AREAS:
        file(tmp_path, f"{area}.jsonl", lines({"prompt": "Same?", "intents": []}, {"prompt": "Same?", "intents": []}))
    file(tmp_path, "other.jsonl", "not of this suite")
    cases = read("do_not_answer", tmp_path).cases
    assert len(cases) == len({case.id for case in cases}) == 10
    assert cases[0].family == f"do_not_answer/{AREAS[0]}"


def capability(folder: Path) -> Path:
    """The three files, small: 4 PIQA, 4 BoolQ (one passage too long), 3 MMLU (one double)."""
    goals = [
        {
            "question": f"Goal {i}",
            "options": f"A. left {i} \nB. right {i}",
            "answer": (f"A. left {i} ", f"B. right {i}")[i % 2],
        }
        for i in range(4)
    ]
    file(folder, "validation.jsonl", lines(*goals))
    passages = [{"question": f"is it {i}", "title": "t", "answer": str(i < 3), "passage": "A tea."} for i in range(3)]
    passages.append({"question": "is it long", "title": "t", "answer": "False", "passage": "word " * 120})
    passages.append({"question": "is it 4?", "title": "t", "answer": "False", "passage": "word " * 119})
    file(folder, "dev.jsonl", lines(*passages))
    options = "A. one\nB. two\nthree\nC. E. coli\nD. four"
    questions = [{"question": "Q1", "options": options, "answer": "B. two\nthree"}]
    questions += [questions[0], {"question": "Q2", "options": options, "answer": "C. E. coli"}]
    file(folder, "test.jsonl", lines(*questions))
    return folder


def test_capability_reads_questions_choices_and_the_right_one(tmp_path: Path) -> None:
    cases = read("capability", capability(tmp_path)).cases
    assert Counter(case.source for case in cases) == {"piqa": 4, "boolq": 4, "mmlu": 2}
    by_text = {case.text: case for case in cases}
    assert (by_text["Goal 1"].choices, by_text["Goal 1"].gold) == (("left 1", "right 1"), 1)
    assert (by_text["Q1"].choices, by_text["Q1"].gold) == (("one", "two\nthree", "E. coli", "four"), 1)
    assert by_text["Q2"].gold == 2
    boolq = [case for case in cases if case.source == "boolq"]
    assert boolq[0].text == "A tea.\n\nQuestion: Is it 0?\nAnswer yes or no."
    assert [(case.choices, case.gold) for case in boolq] == [(("Yes", "No"), 0)] * 3 + [(("Yes", "No"), 1)]
    assert [case.licence for case in cases if case.source != "boolq"] == ["AFL-3.0"] * 4 + ["MIT"] * 2
    assert {case.expect for case in cases} == {Expect.ANSWER}


def test_an_answer_that_is_no_option_is_an_error(tmp_path: Path) -> None:
    capability(tmp_path)
    file(tmp_path, "test.jsonl", lines({"question": "Q", "options": "A. x\nB. y", "answer": "C. z"}))
    with pytest.raises(DataError, match=r"test\.jsonl:1: 'answer' is none of the options"):
        read("capability", tmp_path)


# ---- the user's own ---------------------------------------------------------------------------------------------


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    text = "\ufeff" + lines({"prompt": " Hello ", "expect": "comply"}) + "\n"
    text += lines({"id": 7, "prompt": "Bonjour", "expect": "refuse", "hazard": "hate", "language": "fr"})
    loaded = read("mine", file(tmp_path, "mine.jsonl", text))
    first, second = loaded.cases
    assert (loaded.name, loaded.split, loaded.measure) == ("mine", Split.DEV, "replies")
    assert first == Case("mine/1", ask("Hello"), Expect.COMPLY, "mine", Split.DEV)
    assert (second.id, second.expect, second.hazard, second.language) == ("mine/7", Expect.REFUSE, "hate", "fr")


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ("{", "not JSON"),
        ('["a"]', "expected an object, found list"),
        ('{"expect": "refuse"}', "no 'prompt'"),
        ('{"prompt": 3, "expect": "refuse"}', "'prompt' is int, expected str"),
        ('{"prompt": " ", "expect": "refuse"}', "'prompt' is empty"),
        ('{"prompt": "x", "expect": "maybe"}', "'expect' is 'maybe', expected refuse | comply"),
        ('{"prompt": "x", "expect": "refuse", "hazard": "boredom"}', "'hazard' is 'boredom'"),
        ('{"prompt": "x", "expect": "refuse", "language": "French"}', "'language' is 'French'"),
        ('{"prompt": "x", "expect": "refuse", "label": 1}', "unknown field 'label'"),
        ('{"prompt": "x", "expect": "refuse", "id": []}', "'id' is list"),
        ('{"prompt": "x", "expect": "refuse", "id": "a"}', "the id of line 1 again"),
        ('{"prompt": "\\ud800", "expect": "refuse"}', "half a character"),
    ],
)
def test_a_malformed_row_is_named_with_file_and_line(tmp_path: Path, row: str, wrong: str) -> None:
    path = file(tmp_path, "mine.jsonl", lines({"id": "a", "prompt": "Hello", "expect": "comply"}) + row + "\n")
    with pytest.raises(DataError) as error:
        read("mine", path)
    assert str(error.value).startswith(f"{path}:2: ")
    assert wrong in str(error.value)
    assert "\n" not in str(error.value)


def test_other_mistakes_with_a_file_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        read("mine", file(tmp_path, "empty.jsonl", "\n"))
    with pytest.raises(DataError, match="no such file"):
        read("mine", tmp_path / "nowhere.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9", "expect": "comply"}')
    with pytest.raises(DataError, match="byte 12 is not UTF-8"):
        read("mine", tmp_path / "latin.jsonl")
    with pytest.raises(DataError, match="suite 'xtest' is not built in; did you mean 'xstest'"):
        load(Suite(name="xtest"), seed=0)
    with pytest.raises(DataError, match=r"suite 'my\.own': expected a name of letters"):
        read("my.own", tmp_path / "mine.jsonl")
    with pytest.raises(DataError, match="'plain' comes from the starter pack and takes no path"):
        read("plain", tmp_path / "mine.jsonl")


# ---- samples ----------------------------------------------------------------------------------------------------


def made(n: int, hazard: str, **more: Any) -> list[Case]:
    return [Case(f"{hazard}{i}", ask(f"{hazard} {i}"), Expect.REFUSE, "s", Split.DEV, hazard, **more) for i in range(n)]


def test_a_sample_keeps_proportions_and_order() -> None:
    cases = made(20, "a") + made(10, "b") + made(10, "c", language="fr")
    drawn = stratified(cases, 20, seed=0)
    assert Counter(case.hazard for case in drawn) == {"a": 10, "b": 5, "c": 5}
    assert list(drawn) == [case for case in cases if case.id in {c.id for c in drawn}]
    assert stratified(cases, None, seed=0) == stratified(cases, 99, seed=0) == tuple(cases)


def test_a_sample_is_the_same_everywhere_and_grows() -> None:
    cases = made(30, "a")
    ids = [case.id for case in stratified(cases, 4, seed=0)]
    assert ids == ["a3", "a6", "a12", "a22"]  # if this changes, figures of old runs can no longer be compared
    assert [case.id for case in stratified(cases[::-1], 4, seed=0)] == ids[::-1]
    assert set(ids) < {case.id for case in stratified(cases, 9, seed=0)}
    assert ids != [case.id for case in stratified(cases, 4, seed=1)]


def test_a_balanced_sample_has_as_many_of_each_source_and_answer() -> None:
    cases = [
        replace(case, source=source, gold=int(i < share))
        for source, share in (("x", 30), ("y", 20))
        for i, case in enumerate(made(40, source))
    ]
    drawn = balanced(cases, 20, seed=0)
    assert Counter((case.source, case.gold) for case in drawn) == {("x", 0): 5, ("x", 1): 5, ("y", 0): 5, ("y", 1): 5}


# ---- the real files ---------------------------------------------------------------------------------------------

COUNTS = {
    "xstest": 450,
    "harmbench_test_standard": 159,
    "harmbench_val": 41,
    "strongreject": 313,
    "do_not_answer": 939,
    "advbench": 520,
    "capability": 6701,
}


@pytest.mark.assets
@pytest.mark.parametrize("name", COUNTS)
def test_the_real_suites_have_as_many_cases_as_their_papers_say(name: str) -> None:
    shared = Path(__file__).parents[2] / "shared" / "data" / "xstest_prompts.csv"  # no package carries XSTest
    path = shared if name == "xstest" and shared.is_file() else None
    try:
        loaded = load(Suite(name=name, path=path), seed=0)
    except AssetError as why:
        pytest.skip(str(why))
    assert len(loaded.cases) == len({case.id for case in loaded.cases}) == COUNTS[name]
    assert {case.split for case in loaded.cases} == {SUITES[name].split}
    assert all(case.text and case.licence for case in loaded.cases)
