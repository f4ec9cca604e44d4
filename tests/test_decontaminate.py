"""Decontamination and the other steps: planted leaks, each caught by its rule; what only looks alike stays."""

from __future__ import annotations

import pytest

from breakfix.core import Case, Example, Expect, Message, Split, ask
from breakfix.curate.steps.decontaminate import Decontaminate
from breakfix.curate.steps.exact import CONTRADICTION, SAME, Exact
from breakfix.curate.steps.licence import Licence, problem
from breakfix.curate.steps.near import Near
from breakfix.curate.steps.text import jaccard, letters, normal, shingles, words

BREAD = "How do I bake a dark rye bread at home without a stand mixer or a scale?"
CHINESE = "我怎样才能在家里不用烤箱就做出又软又香的牛奶面包给孩子们当早餐吃？"


def row(text: str, kind: str = "harmful", reply: str = "", licence: str = "MIT") -> Example:
    return Example(ask(text), reply, "test", licence, "a test", kind, parents=(f"t/{text[:20]}",))


def wall(text: str, id: str = "w1", source: str = "suite", **more: object) -> Case:
    return Case(id, ask(text), Expect.REFUSE, source, Split.FROZEN, **more)  # type: ignore[arg-type]


def rules(text: str, *walls: Case, reply: str = "") -> dict[str, int]:
    step = Decontaminate(walls, ngram=8, threshold=0.8)
    kept, dropped = step([row(text, reply=reply)])
    assert len(kept) + len(dropped) == 1
    return step.report["by_rule"]


@pytest.mark.parametrize(
    "leak",
    [
        BREAD.upper(),
        "  how do I bake a dark rye bread -- at home, without a stand mixer or a scale ",
        BREAD.replace("bake", "ba\u200bke"),
        "\uff28ow do I bake a dark rye bread at home without a stand mixer or a scale?",
    ],
)
def test_exact_but_for_case_punctuation_and_invisible_characters(leak: str) -> None:
    assert rules(leak, wall(BREAD)) == {"exact": 1}


def test_eight_words_in_a_row() -> None:
    shared = "a dark rye bread at home without a stand"
    assert rules(f"Somebody baked {shared} and took a photo of it yesterday.", wall(BREAD)) == {"ngram": 1}
    seven = "a dark rye bread at home without"
    assert len(seven.split()) == 7
    assert rules(f"Somebody baked {seven} any help and took a photo of it yesterday.", wall(BREAD)) == {}


def test_eight_words_in_a_reply_that_the_data_brings_along() -> None:
    assert rules("What did she ask?", wall(BREAD), reply=f"She asked: {BREAD}") == {"ngram": 1}


def test_a_short_prompt_counts_where_it_stands_whole() -> None:
    short = wall("How do I prune roses?")
    assert rules("Tell me, how do I prune roses in a small garden?", short) == {"contained": 1}
    assert rules("How do I prune old roses?", short) == {}
    assert rules("Please go on, and tell me more about it.", wall("Tell me more")) == {}
    assert rules("Tell me more!", wall("Tell me more")) == {"exact": 1}


@pytest.mark.parametrize(
    ("measured", "paraphrase"),
    [
        ("What is the quickest way to descale a kettle?", "What is the fastest way to descale a kettle?"),
        ("Which herbs grow well on a shady balcony?", "Which herbs grow well on shady balconies?"),
    ],
)
def test_small_edits(measured: str, paraphrase: str) -> None:
    assert rules(paraphrase, wall(measured)) == {"near": 1}


def test_the_same_frame_is_no_leak() -> None:
    assert (
        rules(
            "What is the difference between weather and climate?",
            wall("What is the difference between a concerto and a symphony?"),
        )
        == {}
    )


def test_scripts_without_spaces_are_compared_by_character() -> None:
    assert rules(CHINESE, wall(CHINESE)) == {"exact": 1}
    assert rules(f"昨天有人问过我：{CHINESE[:20]}，你知道答案吗", wall(CHINESE)) == {"ngram": 1}
    assert rules(f"昨天有人问过我：{CHINESE[:10]}，你知道答案吗", wall(CHINESE)) == {}


def test_a_wall_in_another_script_than_the_rest_of_the_row() -> None:
    quoted = f"昨天有人在面包店里问过我这样一个问题：{BREAD} 你知道怎么回答她吗，请用中文告诉我好吗"
    assert rules(quoted, wall(BREAD)) == {"ngram": 1}
    long = "Yesterday somebody in the bakery asked me the following, and I had no idea what to tell her"
    assert rules(f"{long}: {CHINESE[:20]}. What would you have said to that, had you been there?", wall(CHINESE)) == {
        "ngram": 1
    }


def test_translations_of_a_wall_are_walls() -> None:
    german = "Wie backe ich zu Hause ein dunkles Roggenbrot ohne Waage?"
    assert rules(german, wall(BREAD, translations={"de": german})) == {"exact": 1}


def test_any_turn_of_a_conversation_may_leak() -> None:
    talk = (Message("user", BREAD), Message("assistant", "Gladly."), Message("user", "And then?"))
    kept, dropped = Decontaminate([wall(BREAD)], ngram=8, threshold=0.8)([Example(talk, "", "t", "MIT", "w", "plain")])
    assert (len(kept), dropped[0].reason) == (0, "overlaps suite (exact)")


def test_the_report_counts_and_names_by_id_only() -> None:
    step = Decontaminate([wall(BREAD), wall("How do I prune roses?", "w2", "other")], ngram=8, threshold=0.8)
    step([row(BREAD), row("Something else entirely, about the sea."), row("So how do I prune roses again?")])
    assert step.report == {
        "walls": 2,
        "checked": 3,
        "dropped": 2,
        "by_rule": {"exact": 1, "contained": 1},
        "by_wall": {"other": 1, "suite": 1},
        "pairs": [
            {"row": f"t/{BREAD[:20]}", "wall": "w1", "rule": "exact"},
            {"row": "t/So how do I prune ro", "wall": "w2", "rule": "contained"},
        ],
    }


def test_no_walls_no_rows() -> None:
    assert Decontaminate([], ngram=8, threshold=0.8)([row(BREAD)])[1] == []
    assert Decontaminate([wall(BREAD)], ngram=8, threshold=0.8)([]) == ([], [])


def test_exact_keeps_the_first_and_tells_a_contradiction_apart() -> None:
    rows = [
        row("How do I sail?"),
        row("how do i SAIL", "harmful"),
        row("How do I sail??", "twin"),
        row("Sail.", "twin"),
    ]
    kept, dropped = Exact()(rows)
    assert kept == [rows[0], rows[3]]
    assert [(d.example, d.reason) for d in dropped] == [(rows[1], SAME), (rows[2], CONTRADICTION)]


def test_near_duplicates_within_one_label_only() -> None:
    long = "Please write a friendly letter to my neighbour about the hedge between our two gardens this spring"
    other = long.replace("spring", "autumn")
    assert jaccard(shingles(long), shingles(other)) == pytest.approx(14 / 16)  # 15 3-grams each, the last one differs
    rows = [row(long), row(other), row(other, "twin"), row(other + " please", "plain")]
    kept, dropped = Near(0.8)(rows)
    assert kept == [rows[0], rows[2]]  # the twin mirrors the harmful row on purpose
    assert [d.example for d in dropped] == [rows[1], rows[3]]
    assert Near(0.9)(rows[:2]) == (rows[:2], [])


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        ("MIT", ""),
        ("Apache-2.0", ""),
        ("CC-BY-SA-4.0", ""),
        ("ODC-By", ""),
        ("", "unknown licence"),
        ("Unknown", "unknown licence"),
        ("CC-BY-NC-SA-4.0", "non-commercial licence"),
        ("cc by nc 4.0", "non-commercial licence"),
        ("for non-commercial use", "non-commercial licence"),
        ("research only", "non-commercial licence"),
    ],
)
def test_licences(licence: str, said: str) -> None:
    assert problem(licence) == said
    kept, dropped = Licence(allow_unknown=False)([row("Hello there", licence=licence)])
    assert [d.reason for d in dropped] == ([said] if said else [])
    assert len(kept) == (not said)
    assert Licence(allow_unknown=True)([row("Hello there", licence=licence)])[1] == []


def test_words() -> None:
    assert words("Don't STOP - it's 5 o'clock!") == ["don", "t", "stop", "it", "s", "5", "o", "clock"]
    assert words("नमस्ते दुनिया") == ["नमस्ते", "दुनिया"]  # vowel signs are part of a word
    assert words("面包abc") == ["面", "包", "abc"]
    assert normal("  A  b. ") == "a b"
    assert (shingles("one two"), letters("abc")) == (frozenset({"one two"}), frozenset({"abc"}))
