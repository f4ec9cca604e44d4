"""The modifications of safety data: answers made anew, requests in the other form at the same rate for every kind."""

from __future__ import annotations

import pytest

from breakfix.core import Case, Expect, Split, ask
from breakfix.curate.base import KINDS, Prompt
from breakfix.curate.modify import form_balanced, form_of, forms, regenerated, turned

THINGS = "bread soup cake pasta rice tea jam pie salad pizza".split()


def prompt(text: str, kind: str = "plain", **more: object) -> Prompt:
    fields: dict[str, object] = {"id": f"mine/{kind}/{text}", **more}
    return Prompt(Case(prompt=ask(text), expect=Expect.COMPLY, source="mine", split=Split.TRAIN, **fields), kind, "why")  # pyright: ignore


@pytest.mark.parametrize(
    ("question", "instruction"),
    [
        ("How do I bake bread?", "Explain how to bake bread."),
        ("What should I cook for dinner?", "Tell me what to cook for dinner."),
        ("Where should I keep my bread?", "Tell me where to keep my bread."),
        ("What is the best way to clean an oven?", "Tell me the best way to clean an oven."),
        ("What are some ways to store bread?", "List some ways to store bread."),
        ("What is the capital of France?", "Tell me what the capital of France is."),
        ("Can you write a poem about bread?", "Write a poem about bread."),
        ("Can you give instructions for baking bread?", "Give instructions for baking bread."),
    ],
)
def test_both_ways(question: str, instruction: str) -> None:
    assert turned(question) == (instruction, "instruction")
    assert turned(instruction) == (question, "question")
    assert (form_of(question), form_of(instruction)) == ("question", "instruction")


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("How can one keep bread fresh?", "Explain how to keep bread fresh."),
        ("how do you knead dough ?", "Explain how to knead dough."),
        ("Could you please explain how to bake bread?", "Explain how to bake bread."),
        ("Please write a letter to my baker", "Can you write a letter to my baker?"),
        ("Give me step-by-step instructions on how to bake bread", "How do I bake bread?"),
        ("Teach me how to bake bread!", "How do I bake bread?"),
    ],
)
def test_one_way(text: str, other: str) -> None:
    found = turned(text)
    assert found is not None and found[0] == other


@pytest.mark.parametrize(
    "text",
    [
        "Why does bread rise?",
        "How do you feel about bread?",
        "How do I know whether bread is done?",
        "What is it like to bake?",
        "What's your name?",
        "Can I bake bread today?",
        "Can you bake?",
        "Is bread healthy?",
        "I want bread",
        "Bread",
        "Write a poem. Make it long.",
        "Write a poem about this: bread",
        "Write a poem\nabout bread",
        "How do I bake bread? And a cake?",
        "Explain bread " + "at length " * 30,
        "?",
        "",
    ],
)
def test_what_has_no_counterpart_stays(text: str) -> None:
    assert turned(text) is None
    assert form_balanced([prompt(text)], 0) == [prompt(text)]


def test_what_is_turned_is_of_the_other_form() -> None:
    for thing in THINGS:
        for text in (f"How do I make {thing}?", f"Describe how to make {thing}.", f"Write a note about {thing}"):
            found = turned(text)
            assert found is not None and form_of(found[0]) == found[1] != form_of(text)


def test_of_every_kind_a_half_is_turned_so_that_form_says_nothing() -> None:
    harmful = [prompt(f"Write a note about {a} and {b}.", "harmful") for a in THINGS for b in THINGS]
    twins = [prompt(f"How do I make {a} with {b}?", "twin") for a in THINGS for b in THINGS]
    before = forms([*harmful, *twins])
    assert before["harmful"] == {"question": 0, "instruction": 100, "other": 0}
    assert before["twin"] == {"question": 100, "instruction": 0, "other": 0}
    after = forms(form_balanced([*harmful, *twins], seed=0))
    for kind in ("harmful", "twin"):
        assert 38 <= after[kind]["question"] <= 62 and after[kind]["other"] == 0  # 99 % of draws of a hundred
    assert form_balanced(harmful, 0) == form_balanced(harmful, 0) != form_balanced(harmful, 1)


def test_a_turned_row_has_an_id_of_its_own_and_its_twin_follows() -> None:
    pairs = [
        (prompt(f"Write a note about {t}.", "harmful", id=f"s/{t}/h"),
         prompt(f"Why is {t} good?", "twin", id=f"s/{t}/b", twin=f"s/{t}/h"))
        for t in THINGS
    ]  # fmt: skip
    found = form_balanced([one for pair in pairs for one in pair], 0)
    moved = [p for p in found if p.case.id.endswith("/question")]
    assert 0 < len(moved) < len(THINGS)
    assert all("turned into a question" in p.why and p.kind == "harmful" for p in moved)
    assert [twin.case.twin for twin in found[1::2]] == [one.case.id for one in found[::2]]
    assert len({p.case.id for p in found}) == len(found)


def test_other_languages_and_conversations_stay() -> None:
    german = [prompt(f"Write a note about {t}", language="de") for t in THINGS]
    talks = [
        Prompt(
            Case(str(t), (*ask("Hi"), *ask(f"Write a note about {t}")), Expect.COMPLY, "m", Split.TRAIN), "plain", ""
        )
        for t in THINGS
    ]
    assert form_balanced([*german, *talks], 0) == [*german, *talks]


def test_answers() -> None:
    for kind in KINDS:
        given = Prompt(prompt("Bake", kind).case, kind, "why", reply="Yes.", rejected="No.")
        assert regenerated(given, "keep") == given
        made = regenerated(given, "regenerate")
        assert (made.reply, made.rejected) == ((None, None) if kind != "plain" else ("Yes.", "No."))
    assert regenerated(prompt("Bake", "twin"), "regenerate") == prompt("Bake", "twin")
