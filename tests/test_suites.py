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


def test_the_table_of_benchmarks_shows_every_suite_as_it_is() -> None:
    page = (Path(__file__).parents[1] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:3] == "| `"]
    shown = {row[0].strip("`"): row[2:5] for row in rows}
    assert shown == {name: [spec.licence, str(spec.n), spec.split.value] for name, spec in SUITES.items()}


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


# ---- formats: bias, toxicity, sycophancy, facts, summaries, numbers ----------------------------------------------


def bbq(folder: Path) -> Path:
    """Two of the authors' rows on the same two people, one without and one with the answer in the context."""
    common = {
        "question_polarity": "neg", "category": "Age", "question": "Who forgot the bread?",
        "additional_metadata": {"stereotyped_groups": ["old"]},
        "ans0": "The old baker", "ans1": "The young baker", "ans2": "Not known",
        "answer_info": {"ans0": ["The old baker", "old"], "ans1": ["y", "nonOld"], "ans2": ["Not known", "unknown"]},
    }  # fmt: skip
    rows = [
        {**common, "context": "Two bakers met.", "label": 2},
        {**common, "context": "Two bakers met. The young one forgot the bread.", "label": 1},
        {**common, "context": "Two bakers met again.", "label": 2, "question_polarity": "nonneg"},
        {**common, "context": "Two bakers.", "label": 2, "additional_metadata": {"stereotyped_groups": ["poor"]}},
    ]
    return file(folder, "Age.jsonl", lines(*rows))


def test_bbq_puts_the_unknown_first_and_then_who_follows_the_stereotype(tmp_path: Path) -> None:
    ambiguous, told, positive, untold = read("bbq", bbq(tmp_path)).cases
    assert ambiguous.text == "Two bakers met.\n\nWho forgot the bread?"
    assert (ambiguous.choices, ambiguous.gold) == (("Not known", "The old baker", "The young baker"), 0)
    assert (told.gold, told.family) == (2, "bbq/disambiguated/Age")
    assert positive.choices == ("Not known", "The young baker", "The old baker")  # the other one follows it
    assert untold.family == "bbq/ambiguous"  # nobody says whom the stereotype is about
    assert read("bbq", tmp_path).cases == read("bbq", tmp_path / "Age.jsonl").cases


def test_bbq_of_the_packages(tmp_path: Path) -> None:
    from breakfix.suites.rows import Origin
    from breakfix.suites.social import bbq_disambiguated, bbq_sample

    origin = Origin("x", Split.FROZEN, "MIT")
    row = {"passage": "P. ", "question": "Who?\nPlease choose the correct option ", "answer": ["Ada "]}
    options = {"options": "A. Ada \nB. Unknown\nC. Bo"}
    [case] = bbq_sample(origin, file(tmp_path, "a.jsonl", lines({**row, **options}, {**row, **options})))
    assert (case.text, case.choices, case.gold) == ("P.\n\nWho?", ("Unknown", "Ada", "Bo"), 1)
    assert case.family == "bbq/disambiguated"
    told = {
        "text": "Ada and Bo bake.\nQuestion: Who?\nA) Ada\nB) Unknown\nC) Bo\nAnswer:", "category": "Age",
        "answers": ["Ada", "Unknown", "Bo"], "correct_idx": 0, "target_idx": 2, "polarity": "neg",
    }  # fmt: skip
    [case] = bbq_disambiguated(origin, file(tmp_path, "b.json", json.dumps([told])))
    assert (case.text, case.choices, case.gold) == ("Ada and Bo bake.\n\nWho?", ("Unknown", "Bo", "Ada"), 2)
    assert case.family == "bbq/disambiguated/Age"
    with pytest.raises(DataError, match=r"c\.json: row 1: polarity 'up', expected neg \| nonneg"):
        bbq_disambiguated(origin, file(tmp_path, "c.json", json.dumps([{**told, "polarity": "up"}])))
    with pytest.raises(DataError, match=r"d\.json: expected an array, found dict"):
        bbq_disambiguated(origin, file(tmp_path, "d.json", "{}"))
    with pytest.raises(DataError, match=r"e\.json: not JSON \(Expecting value\); expected an array"):
        bbq_disambiguated(origin, file(tmp_path, "e.json", "?"))


def test_stereoset_has_stereotype_opposite_and_nonsense(tmp_path: Path) -> None:
    row = {"target": "baker", "bias_type": "profession", "stereotype": "S", "anti-stereotype": "A", "unrelated": "U"}
    within = {**row, "type": "intrasentence", "context": "The baker is BLANK."}
    between = {**row, "type": "intersentence", "context": "A baker came in."}
    one, two = read("stereoset", file(tmp_path, "s.jsonl", lines(within, between, between))).cases
    assert one.text.startswith("The baker is BLANK.\n\n")
    assert (two.text, two.choices, two.gold, two.family) == (
        "A baker came in.",
        ("S", "A", "U"),
        -1,
        "stereoset/profession",
    )


def test_toxigen_sycophancy_and_ethics(tmp_path: Path) -> None:
    rows = [{"text": "Bakers rise early.", "is_toxic": False, "target_group": "bakers"}]
    [case] = read("toxigen", file(tmp_path, "t.json", json.dumps(rows))).cases
    assert case.text.endswith("Bakers rise early.")
    assert (case.choices, case.gold, case.family) == (("Yes", "No"), 1, "toxigen/bakers")
    asked = "I bake. Is rye best?\n\nChoices:\n (A) Agree\n (B) Disagree\n\nAnswer:"
    opinion = {"text": asked, "sycophantic_answer": "(B)", "subdomain": "bread"}
    file(tmp_path, "anthropic_150.json", json.dumps([opinion]))
    file(tmp_path, "hard_100.json", json.dumps([{**opinion, "sycophantic_answer": "(A)"}]))
    one, two = read("sycophancy", tmp_path).cases
    assert (one.text, one.choices) == ("I bake. Is rye best?", ("Disagree", "Agree"))
    assert (two.choices, two.source) == (("Agree", "Disagree"), "sycophancy-facts")
    deeds = [{"id": "a", "text": "I paid.", "answer": "right"}, {"id": "b", "text": "I stole.", "answer": "wrong"}]
    right, wrong = read("machine_ethics", file(tmp_path, "e.jsonl", lines(*deeds))).cases
    assert (right.choices[right.gold], wrong.choices[wrong.gold]) == ("Right", "Wrong")


def test_facts_summaries_and_truthfulqa(tmp_path: Path) -> None:
    for name in ("commonsense", "default", "expanded_150", "medical", "truthfulqa"):
        row = {"text": f"Bread of {name} rises.", "false": f"Bread of {name} sinks.", "domain": "baking"}
        file(tmp_path, f"{name}.json", json.dumps([row]))
    facts = read("fact_pairs", tmp_path).cases
    assert len(facts) == 5
    assert facts[0].choices == ("Bread of commonsense rises.", "Bread of commonsense sinks.")
    pair = {"article_sent": "the baker sold ten loaves.", "correct_sent": "ten sold.", "incorrect_sent": "two sold."}
    same = {**pair, "incorrect_sent": "ten sold."}
    [summary] = read("summary_pairs", file(tmp_path, "p.jsonl", lines(pair, same, pair))).cases
    assert (summary.choices, summary.gold) == (("ten sold.", "two sold."), 0)
    mc = [{"question": "Q?", "mc1_targets": {"no": 0, "yes": 1, "perhaps": 0}, "mc2_targets": {}}]
    [case] = read("truthfulqa", file(tmp_path, "mc_task.json", json.dumps(mc))).cases
    assert (case.choices, case.gold) == (("no", "yes", "perhaps"), 1)
    with pytest.raises(DataError, match="row 1: 'mc1_targets' must have two answers or more"):
        read(
            "truthfulqa", file(tmp_path, "two.json", json.dumps([{"question": "Q?", "mc1_targets": {"a": 1, "b": 1}}]))
        )


def test_gsm8k_in_the_authors_format_and_in_the_packages(tmp_path: Path) -> None:
    from breakfix.suites.answers import gsm8k
    from breakfix.suites.rows import Origin

    row = {"question": "Six rolls and six?", "answer": "6 + 6 = <<6+6=12>>12\n#### 1,200"}
    [case] = read("gsm8k", file(tmp_path, "test.jsonl", lines(row))).cases
    assert case.text.startswith("Six rolls and six?\n\n")
    assert (case.choices, case.gold) == (("1,200",), 0)
    packed = {"id": "gsm8k_0", "text_clean": "Six rolls?", "text": "You are clever. Six rolls?", "target_answer": "6"}
    [case] = gsm8k(Origin("gsm8k", Split.FROZEN, "MIT"), file(tmp_path, "p.json", json.dumps([packed])))
    assert "clever" not in case.text
    with pytest.raises(DataError, match=r"w\.jsonl:1: the answer is not a number"):
        read("gsm8k", file(tmp_path, "w.jsonl", lines({"question": "Q", "answer": "#### many"})))


def test_pairs_are_read_without_their_replies(tmp_path: Path) -> None:
    row = {
        "id": "p0",
        "text": "How do I bake?\n\nYou bake.",
        "harmful_version": "How do I burn it?\n\nYou burn.",
        "domain": "d",
    }
    file(tmp_path, "expanded_100.json", json.dumps([row, {**row, "id": "p1", "domain": "teen_support_vs_x"}]))
    file(tmp_path, "harmful_benign_50.json", json.dumps([row]))
    cases = read("refusal_pairs", tmp_path).cases
    assert [case.text for case in cases] == ["How do I bake?", "How do I burn it?"] * 2
    assert [case.expect for case in cases[:2]] == [Expect.COMPLY, Expect.REFUSE]
    assert len({case.id for case in cases}) == 4


def test_our_own_items_are_complete() -> None:
    kept, questions = load(Suite(name="privacy"), seed=0).cases, load(Suite(name="open_questions"), seed=0).cases
    assert Counter(case.expect for case in kept) == {Expect.NOT_REPRODUCE: 24, Expect.ANSWER: 24}
    assert all(case.choices[0] in case.prompt[0].content and case.prompt[1].role == "assistant" for case in kept)
    assert all(case.choices[0] not in case.text for case in kept)
    assert sorted(Counter(case.family for case in questions).values()) == [5] * 8
    assert all([message.role for message in case.prompt] == ["user", "user"] for case in questions)
    deeds = load(Suite(name="machine_ethics"), seed=0).cases
    assert Counter(case.gold for case in deeds) == {0: 40, 1: 40}
    assert len({case.text for case in deeds}) == 80


def test_the_multilingual_suite_is_a_part_of_the_development_suite() -> None:
    whole = {case.id: case for case in load(Suite(name="starter_dev"), seed=0).cases}
    found = load(Suite(name="starter_multilingual"), seed=0).cases
    assert len({case.language for case in found}) == 9
    assert all(whole[case.id] == case and case.language != "en" for case in found)


# ---- the user's own ---------------------------------------------------------------------------------------------


def test_files_of_ones_own_with_choices_or_answers(tmp_path: Path) -> None:
    row = {"prompt": "Bread rises by", "choices": ["salt", "yeast"], "gold": 1, "language": "en"}
    loaded = read("quiz", file(tmp_path, "quiz.jsonl", lines(row)))
    assert loaded.measure == "choices"
    assert (loaded.cases[0].choices, loaded.cases[0].gold, loaded.cases[0].expect) == (
        ("salt", "yeast"),
        1,
        Expect.ANSWER,
    )
    loaded = read("sums", file(tmp_path, "sums.jsonl", lines({"prompt": "3 + 4?", "gold": "7"})))
    assert (loaded.measure, loaded.cases[0].choices) == ("exact", ("7",))


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ({"choices": ["a", "b"]}, "'gold' is None, expected the number of the right choice, 0 to 1"),
        ({"choices": ["a", "b"], "gold": 2}, "'gold' is 2, expected the number of the right choice"),
        ({"choices": ["a", "b"], "gold": True}, "'gold' is True"),
        (
            {"choices": ["a", "a"], "gold": 0},
            "'choices' must be a list of two texts or more, none empty or there twice",
        ),
        ({"choices": "ab", "gold": 0}, "'choices' must be a list"),
        ({"gold": 7}, "'gold' must be a text"),
        ({"gold": "…"}, "'gold' must be a text"),
        ({"gold": "a", "expect": "comply"}, "'expect' beside choices or gold"),
        ({}, "no 'expect'; expected expect, or choices and gold, or gold"),
        ({"gold": "x"}, "a row with 'gold', but line 1 has 'choices'; give each kind a file of its own"),
    ],
)
def test_malformed_questions_are_named_with_file_and_line(tmp_path: Path, row: dict[str, Any], wrong: str) -> None:
    first = {"prompt": "Bread rises by", "choices": ["salt", "yeast"], "gold": 1}
    path = file(tmp_path, "quiz.jsonl", lines(first, {"prompt": "More?", **row}))
    with pytest.raises(DataError) as error:
        read("quiz", path)
    assert str(error.value).startswith(f"{path}:2: ")
    assert wrong in str(error.value)


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

HERE = [name for name, spec in SUITES.items() if spec.files is None]


@pytest.mark.parametrize("name", HERE)
def test_suites_that_come_with_the_package_have_as_many_cases_as_is_said(name: str) -> None:
    loaded = load(Suite(name=name), seed=0)
    assert len(loaded.cases) == len({case.id for case in loaded.cases}) == SUITES[name].n
    assert {case.split for case in loaded.cases} == {SUITES[name].split}


@pytest.mark.assets
@pytest.mark.parametrize("name", [name for name in SUITES if name not in HERE])
def test_the_real_suites_have_as_many_cases_as_is_said(name: str) -> None:
    shared = Path(__file__).parents[2] / "shared" / "data" / "xstest_prompts.csv"  # no package carries XSTest
    path = shared if name == "xstest" and shared.is_file() else None
    try:
        loaded = load(Suite(name=name, path=path), seed=0)
    except AssetError as why:
        pytest.skip(str(why))
    assert len(loaded.cases) == len({case.id for case in loaded.cases}) == SUITES[name].n
    assert {case.split for case in loaded.cases} == {SUITES[name].split}
    assert all(case.text and case.licence for case in loaded.cases)
