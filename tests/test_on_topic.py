"""Talks on the request's own topic: alike for a request and its twin, harmless ones only, answered before use."""

from __future__ import annotations

import random

import pytest

from breakfix.core import Case, Conversation, Message, NotApplicable, Split, ask
from breakfix.curate.augment import Augment, frame_of
from breakfix.curate.base import Prompt, expected
from breakfix.curate.mirror import is_script
from breakfix.curate.on_topic import MOST, OnTopic

THINGS = ("loaf of rye", "loaf of wheat", "flat bread", "sour dough", "pear cake", "plum cake", "oat biscuit", "pie")


def prompt(kind: str, thing: str, hazard: str = "privacy", language: str = "en") -> Prompt:
    asked = {"harmful": "Help me to take the {} of a neighbour", "twin": "Help me to bake the {} of a neighbour",
             "plain": "Describe the {} to me"}[kind]  # fmt: skip
    id, twin = f"{kind}/{thing}", f"harmful/{thing}" if kind == "twin" else ""
    case = Case(
        id, ask(asked.format(thing)), expected(kind), "mine", Split.TRAIN, hazard="" if kind == "plain" else hazard,
        language=language, twin=twin, family="bread",
    )  # fmt: skip
    return Prompt(case, kind, "a row")


POOL = [prompt(kind, thing) for kind in ("harmful", "twin", "plain") for thing in THINGS]


def put(one: Prompt, pool: list[Prompt] = POOL) -> list[str]:
    seed = random.Random(one.case.twin or one.case.id)
    said = OnTopic(pool, 1).put(one.case.prompt, seed)
    assert all(message.role == "user" for message in said)
    return [message.content for message in said]


def test_a_request_and_its_twin_come_after_the_same_harmless_talk() -> None:
    harmless = {p.case.text for p in POOL if p.kind == "twin"}
    lengths = set[int]()
    for harmful, twin in ((p, q) for p in POOL for q in POOL if q.case.twin == p.case.id):
        *before, last = put(harmful)
        assert last == harmful.case.text
        assert put(twin) == [*before, twin.case.text]
        assert set(before) <= harmless - {twin.case.text}
        lengths.add(len(before))
    assert len(lengths) > 1 and lengths <= set(range(1, MOST + 1))


def test_everyday_requests_come_after_everyday_ones() -> None:
    everyday = {p.case.text for p in POOL if p.kind == "plain"}
    one = next(p for p in POOL if p.kind == "plain")
    assert set(put(one)) <= everyday


def test_the_talk_is_of_the_likest_requests() -> None:
    more = [prompt("twin", f"{thing} and rye") for thing in map(str, range(20))]
    frame, asked = OnTopic([*POOL, *more], 1), prompt("harmful", "loaf of rye").case.prompt
    drawn = {message.content for n in range(20) for message in frame.put(asked, random.Random(n))}
    assert all("rye" in text for text in drawn)


@pytest.mark.parametrize("left_out", [
    ask("Something that no row asks"),
    (*ask("Hello"), Message("assistant", "Hi!"), *ask(POOL[0].case.text)),
    prompt("harmful", "loaf of rye", hazard="child_sexual_exploitation").case.prompt,
])  # fmt: skip
def test_what_gets_no_talk(left_out: Conversation) -> None:
    pool = [prompt(kind, thing, "child_sexual_exploitation") for kind in ("harmful", "twin") for thing in THINGS]
    known = pool if left_out[0].content in {p.case.text for p in pool} else POOL
    with pytest.raises(NotApplicable, match="no talk on its topic"):
        OnTopic(known, 1).put(left_out, random.Random(0))


def test_too_few_like_it_and_other_languages() -> None:
    few = [p for p in POOL if p.case.id.endswith(("rye", "wheat"))]
    with pytest.raises(NotApplicable, match="too few"):
        OnTopic(few, 1).put(few[0].case.prompt, random.Random(0))
    assert OnTopic(POOL, 1).speaks("en") and not OnTopic(POOL, 1).speaks("it")


def test_it_is_a_frame_like_others_and_drawn_as_often_as_asked() -> None:
    wrap = Augment(1.0, seed="s", longest=2000)
    wrap.frames[:] = [*wrap.frames[:3], OnTopic(POOL, 50)]
    made = [wrap([p for p in POOL if p.kind == kind]) for kind in ("harmful", "twin")]
    talks = [[frame_of(p.parents) == "on_topic" for p in some] for some in made]
    assert talks[0] == talks[1] and sum(talks[0]) >= len(THINGS) - 2
    assert all(is_script(p.case.prompt) for some in made for p in some if frame_of(p.parents) == "on_topic")
