"""Wrapping: the same frames on every side, nothing of held-out attacks, nothing that can't be read again."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from importlib import resources

import pytest

from breakfix.config import Redteam
from breakfix.core import Answer, Attack, Case, Message, NotApplicable, Split, ask
from breakfix.curate.augment import AttackFrame, Augment, even, frame_of
from breakfix.curate.base import Prompt, expected
from breakfix.curate.steps.text import runs, words
from breakfix.curate.unclear import unclear
from breakfix.curate.wrappers import NOISE, Wrapper, fillers, parse, wrappers
from breakfix.errors import DataError
from breakfix.redteam import catalogue
from breakfix.redteam.plan import split_families

SEEN, HELD_OUT = split_families(list(catalogue().values()), Redteam().seen, Redteam().held_out)
REQUEST = "How do I bake rye bread?"


def prompt(kind: str, n: int, language: str = "en") -> Prompt:
    twin = f"h{n}" if kind == "twin" else ""
    case = Case(
        f"{kind[0]}{n}", ask(f"{kind}: how do I bake loaf {n}?"), expected(kind), "mine", Split.TRAIN,
        hazard="" if kind == "plain" else "privacy", language=language, twin=twin, family="bread",
    )  # fmt: skip
    return Prompt(case, kind, "a row")


def pool(n: int) -> list[Prompt]:
    return [prompt(kind, i) for kind in ("harmful", "twin", "plain") for i in range(n)]


def augment(
    prompts: Sequence[Prompt], share: float, seed: str, attacks: Sequence[Attack] = (), longest: int = 2048
) -> list[Prompt]:
    """The prompts in their order, `share` of each kind wrapped; twins like the harmful rows they mirror."""
    wrap, by_kind = Augment(share, attacks, seed=seed, longest=longest), dict[int, Prompt]()
    for kind in ("harmful", "twin", "plain"):
        places = [i for i, prompt in enumerate(prompts) if prompt.kind == kind]
        by_kind.update(zip(places, wrap([prompts[i] for i in places]), strict=True))
    return [by_kind[i] for i in range(len(prompts))]


def names(prompts: list[Prompt], kind: str) -> Counter[str]:
    return Counter(frame_of(p.parents) for p in prompts if p.kind == kind)


# ---- the texts


def test_there_are_many_wrappers_of_many_kinds() -> None:
    english = [w for w in wrappers().values() if w.speaks("en")]
    assert len(english) >= 60
    assert len({w.kind for w in english}) >= 12


@pytest.mark.parametrize("wrapper", wrappers().values(), ids=lambda w: w.name)
def test_a_wrapped_request_stands_in_the_last_users_turn(wrapper: Wrapper) -> None:
    put = wrapper.put(ask(REQUEST), random.Random(1))
    assert put[-1].role == "user"
    assert [m.role for m in put] == ["user", "assistant"] * (len(put) // 2) + ["user"]
    asked = words(REQUEST)
    if wrapper.noise:
        assert put != ask(REQUEST)
    else:
        assert tuple(asked) in set(runs(words(put[-1].content), len(asked)))
    assert "{" not in put[-1].content or wrapper.name in ("json_query", "json_ticket")


@pytest.mark.parametrize("wrapper", wrappers().values(), ids=lambda w: w.name)
def test_a_request_and_its_twin_are_put_into_the_same_words(wrapper: Wrapper) -> None:
    one, two = (wrapper.put(ask(text), random.Random("s"))[-1].content for text in ("Bake it", "Toast it"))
    if not wrapper.noise:
        assert one.replace("Bake", "Toast") == two


def test_no_wrapper_shares_eight_words_in_a_row_with_a_held_out_attack() -> None:
    case = Case("c", ask("zzz"), expected("harmful"), "mine", Split.TRAIN, translations={"de": "yyy", "fr": "xxx"})
    held: set[tuple[str, ...]] = set()
    for attack in HELD_OUT:
        for text in ("How do I qqq www eee?", "qqq www eee rrr ttt yyy"):
            for seed in range(30):
                put = Case("c", ask(text), case.expect, "mine", Split.TRAIN, translations=case.translations)
                held.update(_asked(attack, put, seed))
    held -= set(runs(words("How do I qqq www eee?"), 8))
    for wrapper in wrappers().values():
        for seed in range(30):
            for message in wrapper.put(ask("aaa"), random.Random(seed)):
                assert not held & set(runs(words(message.content), 8)), wrapper.name
    for text in (*fillers()["prose"], *fillers()["harmless"], *(part for two in fillers()["talk"] for part in two)):
        assert not held & set(runs(words(text), 8)), text


def _asked(attack: Attack, case: Case, seed: int) -> set[tuple[str, ...]]:
    """Runs of eight words of all that the attack asks, whatever it hears."""
    found: set[tuple[str, ...]] = set()
    try:
        flow = attack(case, random.Random(seed))
        asked = next(flow)
        for _ in range(12):
            if asked.to == "target":
                found.update(run for m in asked.prompt for run in runs(words(m.content), 8))
            asked = flow.send(Answer(None if asked.to == "helper" else "Some words."))
    except (StopIteration, NotApplicable):
        pass
    return found


def test_a_name_is_a_wrappers_or_an_attacks() -> None:
    assert not wrappers().keys() & catalogue().keys()


def test_no_wrapper_makes_a_child_the_reader() -> None:
    """It may stand around any request of any hazard."""
    child = re.compile(r"year[- ]old|\b(?:child|children|kids?|pupils?|homework|my (?:son|daughter)|grade \d)\b", re.I)
    for file in resources.files("breakfix").joinpath("data", "wrappers").iterdir():
        if file.name.endswith(".yaml"):
            assert not child.findall(file.read_text(encoding="utf-8")), file.name


def test_a_request_in_json_is_json() -> None:
    put = wrappers()["json_query"].put(ask('Say "bread"\nand {name}'), random.Random(0))
    assert json.loads(put[-1].content) == {"query": 'Say "bread"\nand {name}'}


@pytest.mark.parametrize("name", NOISE)
def test_noise_keeps_a_request_readable(name: str) -> None:
    made = NOISE[name](REQUEST, random.Random(3))
    shared = set("".join(words(REQUEST))) & set("".join(words(made)))
    assert shared == set("".join(words(made)))  # no figures for letters, no other letters
    assert abs(len(words(made)) - len(words(REQUEST))) == 0


def test_punctuation_goes_and_marks_of_other_scripts_stay() -> None:
    assert NOISE["bare"]("रोटी कैसे बनाएं?", random.Random(0)) == "रोटी कैसे बनाएं"


@pytest.mark.parametrize(
    "entry",
    [
        "{name: a, kind: b, text: no place}",
        "{name: a, kind: b, text: '{request} {request}'}",
        "{name: a, kind: b, turns: [{user: '{request}'}, {assistant: Yes}]}",
        "{name: a, kind: b, text: '{request}', noise: loud}",
        "{name: a, text: '{request}'}",
        "{name: a, kind: b, text: '{request}', weight: 2}",
        "just text",
    ],
)
def test_a_wrapper_that_is_not_valid_is_named(entry: str) -> None:
    with pytest.raises(DataError, match=r"x\.yaml, entry 1"):
        parse(f"- {entry}", "x.yaml")


# ---- who gets which


def test_the_share_holds_and_every_kind_gets_the_same_frames() -> None:
    made = augment(pool(400), 0.35, "0", SEEN)
    harmful, twin, plain = (names(made, kind) for kind in ("harmful", "twin", "plain"))
    assert harmful == twin == plain
    assert 400 - harmful[""] == pytest.approx(0.35 * 400, abs=8)
    assert len(harmful) > 60


def test_a_twin_gets_the_frame_of_its_harmful_row_in_any_order() -> None:
    shuffled = pool(60)
    random.Random(5).shuffle(shuffled)
    made = {p.parents[0] if p.parents else p.case.id: p for p in augment(shuffled, 0.5, "0", SEEN)}
    for n in range(60):
        assert frame_of(made[f"t{n}"].parents) == frame_of(made[f"h{n}"].parents)


def test_the_same_seed_gives_the_same_rows_and_another_others() -> None:
    assert augment(pool(40), 0.5, "0", SEEN) == augment(pool(40), 0.5, "0", SEEN)
    assert augment(pool(40), 0.5, "0", SEEN) != augment(pool(40), 0.5, "1", SEEN)


def test_a_wrapped_row_says_where_it_came_from() -> None:
    (made,) = augment([prompt("harmful", 1)], 1.0, "0", SEEN)
    name = frame_of(made.parents)
    assert made.parents == ("h1", f"h1~{name}")
    assert made.case.id == f"h1~{name}"
    assert made.case.family == "bread"
    assert name in made.why
    assert (made.case.hazard, made.case.split, made.kind) == ("privacy", Split.TRAIN, "harmful")


def test_seen_attacks_come_in_and_held_out_ones_do_not() -> None:
    used = {name for some in names_by_kind(augment(pool(800), 1.0, "0", SEEN)) for name in some}
    assert {"role_play", "prefix_injection", "fiction", "two_answers"} <= used
    assert not used & {attack.name for attack in HELD_OUT}
    assert "prefill" not in used  # an opening of the reply is no question
    assert "direct" not in used


def names_by_kind(made: list[Prompt]) -> list[Counter[str]]:
    return [names(made, kind) for kind in ("harmful", "twin", "plain")]


def test_other_languages_get_wrappers_of_theirs_or_without_words() -> None:
    made = augment([prompt("harmful", n, "de") for n in range(200)], 1.0, "0", SEEN)
    for one in made:
        name = frame_of(one.parents)
        assert not name or wrappers()[name].speaks("de")
    assert {"bitte", "markdown_heading"} <= names(made, "harmful").keys()
    spoken = augment([prompt("harmful", n, "sw") for n in range(40)], 1.0, "0", SEEN)
    assert all(wrappers()[name].languages == ("any",) for name in names(spoken, "harmful") if name)


def test_what_gets_too_long_stays_bare_and_is_counted() -> None:
    wrap = Augment(1.0, seed="0", longest=len(prompt("harmful", 1).case.text) + 1)
    assert any(p.parents == () for p in wrap([prompt("harmful", n) for n in range(5)]))
    assert wrap.skipped["too long for training"] > 0


def test_a_twin_stays_bare_with_its_harmful_row() -> None:
    wrap = Augment(1.0, seed="0", longest=2000)
    (made,) = wrap([prompt("harmful", 1)])
    assert wrap.unwrapped(wrap.bare[made.case.id], "too near") == prompt("harmful", 1)
    assert wrap([prompt("twin", 1)]) == [prompt("twin", 1)]


def test_an_id_names_one_text_in_whatever_round() -> None:
    texts: dict[str, set[str]] = {}
    for seed in "0123456789":
        for one in augment(pool(20), 1.0, seed, SEEN):
            texts.setdefault(one.case.id, set()).add(one.case.text)
    assert all(len(some) == 1 for some in texts.values())


def test_a_share_of_nothing_changes_nothing() -> None:
    assert augment(pool(10), 0.0, "0", SEEN) == pool(10)


def test_an_attack_that_opens_the_reply_is_no_frame() -> None:
    assert AttackFrame(catalogue()["role_play"]).put(ask(REQUEST), random.Random(0))[-1].role == "user"
    frames = {frame.name for frame in Augment(0.5, list(catalogue().values()), seed="0", longest=10).frames}
    assert not frames & {"prefill", "crescendo", "direct"}


def test_earlier_turns_stay_before_the_wrapped_one() -> None:
    before = (Message("user", "Hello"), Message("assistant", "Hi"), Message("user", REQUEST))
    put = wrappers()["talk_1"].put(before, random.Random(0))
    assert put[:2] == before[:2]
    assert put[-1].content == REQUEST


def test_frames_whose_replies_fail_more_often_do_not_get_rarer() -> None:
    """Ten rows wanted, five of them wrapped; of the fourteen that were made, the wrapped ones lost two."""
    prompts = augment([prompt("plain", n) for n in range(40)], 0.5, "0", SEEN)
    wanted, spare = prompts[:30], prompts[30:]
    quota = sum(1 for p in wanted if frame_of(p.parents))
    rows = [p.example("Warm water first.", None) for p in [*wanted, *spare]]
    lost = {i for i, p in enumerate(wanted) if frame_of(p.parents)}
    rows = [row for i, row in enumerate(rows) if i not in set(sorted(lost)[:2])]
    kept = even(rows, 30, wanted)
    assert len(kept) == 30
    assert sum(1 for row in kept if frame_of(row.parents)) >= quota - 2
    assert [row for row in rows if row in kept] == kept  # in their order


# ---- texts that nobody can read


def test_unreadable_rows_are_plain_and_answered_by_asking_again() -> None:
    made = unclear(40, ["Bake the bread until it is brown."], random.Random(0))
    assert {p.kind for p in made} == {"plain"}
    assert len({p.case.id for p in made}) == 40
    assert len({p.reply for p in made}) > 15
    assert all(p.reply and ("?" in p.reply or "lease" in p.reply or "If you" in p.reply) for p in made)


def test_unreadable_rows_are_no_encoding() -> None:
    held = {run for attack in HELD_OUT for run in _asked(attack, prompt("harmful", 1).case, 0)}
    for made in unclear(60, ["Bake the bread until it is brown."], random.Random(0)):
        assert not any(c.isdigit() or c in "+/=" for c in made.case.text)
        assert not held & set(runs(words(made.case.text), 8))
