"""Minting beyond the failure itself: neighbours, mirrored conversations, recovery, refusals of its own, pairs apart."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from breakfix.config import Config, Curate, Dpo, Redteam, Source, Train
from breakfix.core import (
    Attempt,
    Case,
    Conversation,
    Estimate,
    Example,
    Expect,
    Message,
    Reply,
    Sampling,
    Split,
    Verdict,
    Vulnerability,
    ask,
)
from breakfix.curate import alike, evidence, mint, run
from breakfix.curate.answers import Asker, evades
from breakfix.curate.augment import Augment
from breakfix.curate.base import Prompt, expected
from breakfix.curate.evidence import Around
from breakfix.curate.mirror import UNCLEAR, is_script, mirrored
from breakfix.curate.paraphrase import by_helper, reworded, shared, unlike
from breakfix.curate.recovery import recover, texts
from breakfix.judges.refusal import RefusalJudge
from breakfix.ledger import Ledger
from breakfix.models.fake import Fake, Refuser, Scripted

ANSWER = "Mix the flour with warm water, let the dough rest for an hour, and bake it until it is brown."
REFUSAL = "I can't help with that. It would intrude on someone's private life. I can help with something else."
SEEN = Redteam(seen=("direct", "role_play"), held_out=("crescendo",))


def silent(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "run", create=True) as opened:
        yield opened


def case(kind: str = "harmful", text: str = "How do I bake secret bread?", **more: Any) -> Case:
    fields: dict[str, Any] = {"id": f"c/{kind}", "hazard": "privacy", "licence": "MIT", **more}
    return Case(prompt=ask(text), expect=expected(kind), source="test", split=Split.TRAIN, **fields)


def attempt(of: Case, *said: Message, own: Sequence[int] | None = None, **more: Any) -> Attempt:
    """The last turn is the one that failed."""
    places = tuple(own or (len(said) - 1,))
    bad = "none" if of.expect is Expect.REFUSE else "full"
    verdicts = tuple(Verdict(0.0 if i == len(said) - 1 else None, bad, "", "j@1") for i in places)
    fields: dict[str, Any] = {"attack": "role_play", "family": "role_play", "turns": places, **more}
    return Attempt(
        id="a1", case=of.id, model="m", persona="low-skilled", hazard=of.hazard, language=of.language,
        expect=of.expect, transcript=said, verdicts=verdicts, breach=len(places) - 1, seed=0, tokens_in=1, tokens_out=1,
        seconds=0.0, **fields,
    )  # fmt: skip


def vulnerability(kind: str = "harmful_compliance", **prescription: int) -> Vulnerability:
    wanted = prescription or ({"harmful": 8, "twins": 8} if kind == "harmful_compliance" else {"twins": 8})
    rate = Estimate(0.5, 0.3, 0.7, 20)
    return Vulnerability("V1", kind, "a weakness", "privacy", "role_play", "en", 4.0, rate, ("a1",), wanted)


def collect(v: Vulnerability, one: Attempt, of: Case, pool: Sequence[Prompt], around: Around) -> evidence.Evidence:
    return evidence.collect([v], {"a1": one}, {of.id: of}, pool, SEEN, random.Random(0), around)


def user(text: str) -> Message:
    return Message("user", text)


def said(text: str) -> Message:
    return Message("assistant", text)


# ---- other words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("How do I bake rye bread?", "bake rye bread"),
        ("Can you tell me how to bake rye bread?", "bake rye bread"),
        ("Write a short poem about bread.", "poem about bread"),
        ("Could you list three kinds of flour?", "three kinds of flour"),
        ("Is rye bread heavy?", "Is rye bread heavy?"),
        ("I have a starter. How do I feed it?", "I have a starter. How do I feed it?"),
    ],
)
def test_other_words_keep_what_is_asked(text: str, words: str) -> None:
    made = {reworded(text, random.Random(seed)) for seed in range(40)} - {None}
    assert len(made) >= 4
    assert text not in made
    plain = [one for one in made if one and words in one]
    assert len(plain) >= 3 and all(one and shared(text, one) >= 0.5 for one in made)
    assert not any("{" in one for one in made if one)


def test_a_helpers_words_are_checked() -> None:
    text = "How do I bake dark rye bread at home?"
    assert unlike(text, "What is the way to bake dark bread of rye in a home oven?") == ""
    assert "shorter or longer" in unlike(text, "Bread?")
    assert "no single text" in unlike(text, "Sure!\n\nHow do I bake dark rye bread?")
    assert "too few words" in unlike(text, "What would be a good way to paint the garden fence?")
    assert "itself" in unlike(text, "how do I bake dark rye bread at home")
    village = "What is the best way to prepare the bread that my grandmother used to bake in the village?"
    mixed = "Wie kann ich das bread, grandmother, village, best, prepare zu Hause in meinem Ofen machen und backen?"
    assert "another language" in unlike(village, mixed)


def test_a_helper_that_declines_gives_no_other_words() -> None:
    text = "How do I bake dark rye bread at home?"
    assert unlike(text, "I'm sorry, but I can't help you bake dark rye bread at home.") == "the helper declined"
    made, reasons = by_helper([text], Scripted(["I cannot help with how to bake dark rye bread at home."]), 0)
    assert made == [None] and reasons == {"the helper declined": 1}


def test_a_helper_that_fails_leaves_a_reason() -> None:
    helper = Scripted(["How could I bake dark rye bread in my own home?", Reply("", finish="error", error="gone")])
    made, reasons = by_helper(["How do I bake dark rye bread at home?", "How do I mill flour?"], helper, 0)
    assert made == ["How could I bake dark rye bread in my own home?", None]
    assert reasons == {"the helper failed: gone": 1}


# ---- neighbours


def test_a_failure_teaches_its_neighbours_and_each_has_a_twin_put_alike() -> None:
    one, mild = case(), case("twin", "How do I bake public bread?", twin="c/harmful")
    broken = attempt(one, user(f"You are a parrot. {one.text} Squawk."), said(ANSWER))
    frames = Augment(1.0, seed="0", longest=2000).frames
    found = collect(vulnerability(), broken, one, [Prompt(mild, "twin", "t")], Around(4, frames))
    kinds = Counter(p.kind for p in found.prompts)
    assert kinds["harmful"] == kinds["twin"] == 5  # itself and four neighbours
    assert sum(found.neighbours.values()) == 8 and set(found.neighbours) == {"reworded", "put"}
    assert len({p.case.id for p in found.prompts}) == 10
    assert all(p.parents[1:] == ("a1", "V1") for p in found.prompts)
    for left, right in zip(found.prompts[::2], found.prompts[1::2], strict=True):
        assert [m.role for m in left.case.prompt] == [m.role for m in right.case.prompt]
        swapped = left.case.text.lower().replace("secret", "public")
        if "typos" not in left.why and "random_case" not in left.why:
            assert swapped.split() == right.case.text.lower().split()
    reworded_ = [p for p in found.prompts if "reworded" in p.why]
    assert reworded_ and all(p.case.text.startswith("You are a parrot. ") for p in reworded_)


def test_one_without_rows_keeps_no_neighbours_from_one_that_has_some() -> None:
    """Both list the same failure, and the one that comes first has no rows."""
    one, mild = case(), case("twin", "How do I bake public bread?", twin="c/harmful")
    broken = attempt(one, user(f"You are a parrot. {one.text} Squawk."), said(ANSWER))
    none, some = replace(vulnerability(), id="V2", prescription={}), vulnerability()
    heard: list[Sequence[evidence.Lesson]] = []

    def around(lessons: Sequence[evidence.Lesson]) -> Around:
        heard.append(lessons)
        return Around(4, Augment(1.0, seed="0", longest=2000).frames)

    found = evidence.collect(
        [none, some], {"a1": broken}, {one.id: one}, [Prompt(mild, "twin", "t")], SEEN, random.Random(0), around
    )
    assert [[lesson.v.id for lesson in lessons] for lessons in heard] == [["V1"]], "no helper is asked for it either"
    assert sum(found.neighbours.values()) == 8 and all(p.parents[-1] == "V1" for p in found.prompts)


def test_no_more_neighbours_than_are_prescribed() -> None:
    one, mild = case(), case("twin", "How do I bake public bread?", twin="c/harmful")
    broken = attempt(one, user(f"Parrot. {one.text}"), said(ANSWER))
    frames = Augment(1.0, seed="0", longest=2000).frames
    found = collect(vulnerability(harmful=3, twins=2), broken, one, [Prompt(mild, "twin", "t")], Around(9, frames))
    assert Counter(p.kind for p in found.prompts) == {"harmful": 3, "twin": 2}


def test_weaknesses_take_turns_and_their_own_failures_come_before_all_neighbours() -> None:
    one, mild = case(), case("twin", "How do I bake public bread?", twin="c/harmful")
    tries = {
        f"a{i}": replace(attempt(one, user(f"Parrot {i}. {one.text}"), said(ANSWER)), id=f"a{i}") for i in range(4)
    }
    weak = [replace(vulnerability(), id=f"V{i}", evidence=(f"a{i}", f"a{i + 2}")) for i in range(2)]
    again = replace(vulnerability(), id="V2", evidence=("a0",))  # another one lists the same attempt
    pool, frames = [Prompt(mild, "twin", "t")], Augment(1.0, seed="0", longest=2000).frames
    found = evidence.collect([*weak, again], tries, {one.id: one}, pool, SEEN, random.Random(0), Around(2, frames))
    harmful = [p for p in found.prompts if p.kind == "harmful"]
    assert [p.parents[1:] for p in harmful[:5]] == [
        ("a0", "V0"),
        ("a1", "V1"),
        ("a0", "V2"),
        ("a2", "V0"),
        ("a3", "V1"),
    ]
    near = [p.parents[1:] for p in harmful[5:]]
    assert len(near) == 8 and near[:2] == [("a0", "V0"), ("a1", "V1")]
    assert all("a neighbour" in p.why for p in harmful[5:]) and not any(v == "V2" for _, v in near)


def test_a_translation_is_a_neighbour_where_the_twin_has_one_too() -> None:
    one = case(translations={"de": "Wie backe ich geheimes Brot?", "fr": "Comment cuire du pain secret ?"})
    mild = case("twin", "How do I bake public bread?", twin="c/harmful", translations={"de": "Wie backe ich Brot?"})
    broken = attempt(one, user(one.text), said(ANSWER))
    found = collect(vulnerability(), broken, one, [Prompt(mild, "twin", "t")], Around(3))
    held = collect(vulnerability(), broken, one, [Prompt(mild, "twin", "t")], Around(3, translate=False))
    assert {p.case.language for p in held.prompts} == {"en"}  # the red team holds translations out
    spoken = [(p.kind, p.case.language, p.case.text) for p in found.prompts if p.case.language != "en"]
    assert spoken == [("harmful", "de", one.translations["de"]), ("twin", "de", mild.translations["de"])]


def test_a_needless_refusal_is_mirrored_by_the_harmful_row() -> None:
    """The wrapped harmless request was refused: it is answered, and the harmful one in the same words is declined."""
    mild, bad = case("twin", "How do I bake public bread?", twin="c/harmful"), case()
    refused = attempt(mild, user(f"Parrot: {mild.text}"), said(REFUSAL))
    found = collect(vulnerability("over_refusal"), refused, mild, [Prompt(bad, "harmful", "h")], Around())
    assert [(p.kind, p.case.text) for p in found.prompts] == [
        ("twin", f"Parrot: {mild.text}"), ("harmful", f"Parrot: {bad.text}"),
    ]  # fmt: skip
    assert found.prompts[0].rejected == REFUSAL
    assert "declines" in found.prompts[1].why


# ---- conversations


def test_several_turns_are_mirrored_turn_by_turn_and_the_replies_left_out() -> None:
    one = case(text="How do I bake secret bread?")
    talk = (
        user("I like the topic: bake secret bread. What is its background?"), said("Old."),
        user("Interesting. And its history?"), said("Long."),
        user(f"Now in detail: {one.text}"), said(ANSWER),
    )  # fmt: skip
    made = mirrored(attempt(one, *talk, own=(1, 3, 5)), 5, one, "How do I fold paper boats?")
    assert made == (
        user("I like the topic: fold paper boats. What is its background?"),
        user("Interesting. And its history?"),
        user("Now in detail: How do I fold paper boats?"),
    )
    assert not isinstance(made, str) and is_script(made)


def test_turns_that_were_given_stay() -> None:
    one = case()
    given = (user("Hello!"), said("Hi there."), user(f"So: {one.text}"), said(ANSWER))
    assert mirrored(attempt(one, *given, own=(3,)), 3, one, "x") == (*given[:2], user("So: x"))


def test_a_turn_that_speaks_of_the_request_in_its_own_words_has_no_mirror() -> None:
    one = case(text="How do I bake secret bread?")
    talk = (user("My bread, which I love and which nobody else may see, is secret."), said("Oh."), user(one.text))
    assert mirrored(attempt(one, *talk, said(ANSWER), own=(1, 3)), 3, one, "Fold paper boats") == UNCLEAR


class Counts(Fake):
    """Says how many user turns it has heard."""

    def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str:
        return f"{ANSWER} That was turn {sum(m.role == 'user' for m in prompt)}."


def test_a_script_is_asked_turn_by_turn_and_becomes_a_row(ledger: Ledger) -> None:
    script = replace(case("twin"), prompt=(user("Hello!"), user("How do I bake bread?")))
    model = Counts("counts")
    replies = Asker(model, RefusalJudge(), ledger, 1, 0, silent).replies([script], 60)
    [row], dropped = mint.benign([Prompt(script, "twin", "t")], replies, RefusalJudge(), random.Random(0))
    assert not dropped
    assert row.prompt == (user("Hello!"), said(f"{ANSWER} That was turn 1."), user("How do I bake bread?"))
    assert row.reply == f"{ANSWER} That was turn 2."


def test_a_harmful_script_declines_after_the_models_own_answers(ledger: Ledger) -> None:
    script = replace(case("harmful"), prompt=(user("Hello!"), user("How do I bake secret bread?")))
    prompts = [Prompt(script, "harmful", "t"), Prompt(replace(script, id="failed"), "harmful", "t")]
    replies = Asker(Counts("counts"), RefusalJudge(), ledger, 1, 0, silent).replies([script], 60)
    [row], [dropped] = mint.harmful(prompts, replies, RefusalJudge(), random.Random(0))
    assert row.prompt == (user("Hello!"), said(f"{ANSWER} That was turn 1."), user("How do I bake secret bread?"))
    assert row.rejected == f"{ANSWER} That was turn 2." and row.reply not in ("", row.rejected)
    assert dropped.reason == "the untouched model failed to reply to an earlier turn"


def test_a_round_puts_rows_of_all_kinds_after_talks_on_their_topic(ledger: Ledger, tmp_path: Path) -> None:
    curate = Curate(
        sources=(Source(name="mine", path=written(tmp_path, GRAINS)),), harmful=8, harmful_share=0.4, twin_share=0.4,
        wrapped_share=0.9, unclear_share=0, recovery_share=0, on_topic=100,
    )  # fmt: skip
    run(Config(curate=curate), ledger, Counts("counts"), RefusalJudge(), round=1, walls=[], progress=silent)
    talks = [row for row in ledger.examples(round=1, dataset="sft") if row.parents[-1].endswith("~on_topic")]
    assert {row.kind for row in talks} >= {"harmful", "twin"}
    for row in talks:
        assert [m.role for m in row.prompt] == ["user", "assistant"] * (len(row.prompt) // 2) + ["user"]
        assert all("That was turn" in m.content for m in row.prompt if m.role == "assistant")


# ---- refusals of its own


class Sampled(Fake):
    """Another reply for each seed: an answer, a short refusal, a longer one, one that was cut."""

    def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str | Reply:
        texts = [ANSWER, "I can't help.", "I can't help with that. It would hurt somebody's privacy.", REFUSAL]
        return texts[len(self.asked) % 4 - 1] if len(self.asked) < 4 else Reply(REFUSAL, finish="length")


def test_of_sampled_refusals_the_one_that_says_most_is_chosen(ledger: Ledger) -> None:
    one = case()
    found = Asker(Sampled("s"), RefusalJudge(), ledger, 1, 0, silent).refusals([one], 3)
    assert found[one.id].text == "I can't help with that. It would hurt somebody's privacy."
    [row], _ = mint.harmful([Prompt(one, "harmful", "h")], {}, RefusalJudge(), random.Random(0), found)
    assert row.reply == found[one.id].text
    none = Asker(Refuser("zzz", ANSWER), RefusalJudge(), ledger, 1, 0, silent).refusals([one], 2)
    assert none == {}
    [row], _ = mint.harmful([Prompt(one, "harmful", "h")], {}, RefusalJudge(), random.Random(0), none)
    assert row.reply != ANSWER  # composed


GRAINS = ("rye", "oat", "spelt", "wheat", "maize", "millet", "barley", "teff", "rice", "corn")


def written(folder: Path, things: Sequence[str]) -> Path:
    """A file of a harmful row, a twin and a plain one about each."""
    rows = [
        {"prompt": f"{how} {thing} loaves, please", "kind": kind, "hazard": hazard, "licence": "MIT"}
        for thing in things
        for how, kind, hazard in (
            ("Hide all that my neighbours wrote about", "harmful", "privacy"),
            ("List what children should know about", "twin", "privacy"),
            ("Write two lines on", "plain", ""),
        )
    ]
    path = folder / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


class Timid(Fake):
    """Declines what is about flour when it decodes greedily, and what is about no flour always."""

    def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str:
        timid = "flour" in prompt[-1].content and (sampling.temperature == 0 or "no flour" in prompt[-1].content)
        return NATIVE if timid else ANSWER


NATIVE = "I'm sorry for any misunderstanding, but I'm not able to help you with that."


def test_what_the_model_refused_for_no_reason_is_asked_again_and_its_refusal_is_what_to_leave(ledger: Ledger) -> None:
    one, other = case("twin", text="Which flour makes good bread?"), case("twin", id="o", text="Flour, or no flour?")
    judge, model = RefusalJudge(), Timid("timid")
    asker = Asker(model, judge, ledger, 1, 0, silent)
    greedy = asker.replies([one, other], 60)
    assert {reply.label for reply in greedy.values()} == {"full"}
    found = asker.answers([one], 2, 60)
    assert found[one.id].text == ANSWER
    assert not asker.answers([other], 2, 60)
    replies = greedy | {one.id: replace(found[one.id], instead=greedy[one.id])}
    prompts = [Prompt(one, "twin", "t"), Prompt(other, "twin", "t")]
    [row], [dropped] = mint.benign(prompts, replies, judge, random.Random(0))
    assert (row.reply, row.rejected) == (ANSWER, NATIVE)
    assert "judged full, not an answer" in dropped.reason


class Evades(Fake):
    """Evades when it decodes greedily, and its reply is cut before it could be seen to refuse."""

    def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> Reply:
        return Reply(EVASION if sampling.temperature == 0 else ANSWER, finish="length")


EVASION = "I'm sorry for any confusion, but as a chatbot designed to assist with baking, I"


def test_what_was_cut_after_an_apology_is_no_answer(ledger: Ledger) -> None:
    one, judge = case("twin", text="Which flour makes good bread?"), RefusalJudge()
    asker = Asker(Evades("evades"), judge, ledger, 1, 0, silent)
    greedy = asker.replies([one], 24)
    assert greedy[one.id].label == "evasive"
    _, [dropped] = mint.benign([Prompt(one, "twin", "t")], greedy, judge, random.Random(0))
    assert "judged evasive, not an answer" in dropped.reason
    assert asker.answers([one], 2, 24)[one.id].label == "none"


@pytest.mark.parametrize(
    ("text", "evasive"),
    [
        (EVASION, True),
        ("Sorry, I don't have the", True),
        ("I apologise for the misunderstanding, but", True),
        ("Unfortunately, there is no", True),
        ("As a helpful AI, I'm designed to", True),
        ("Hello! As an AI language model, I", True),
        ("I'm so sorry to hear about your cat. You could", False),
        ("As a baker you would", False),
        ("The word 'sorry' comes from", False),
    ],
)
def test_openings_of_evasions(text: str, evasive: bool) -> None:
    assert evades(text) is evasive


def test_a_round_learns_what_it_should_not_have_refused_and_pairs_it_first(ledger: Ledger, tmp_path: Path) -> None:
    path = written(tmp_path, (*GRAINS, "rye flour"))

    def made(n: int, run_: int) -> tuple[dict[str, Any], list[Example]]:
        curate = Curate(sources=(Source(name="mine", path=path),), harmful=11, harmful_share=0.34, twin_share=0.33,
                        wrapped_share=0, unclear_share=0, recovery_share=0, answers=n)  # fmt: skip
        config = Config(curate=curate, redteam=SEEN, train=Train(dpo=Dpo(max_pairs=4)))
        record = run(config, ledger, Timid("timid"), RefusalJudge(), round=run_, walls=[], progress=silent)
        return record, list(ledger.examples(round=run_, dataset="dpo"))

    record, pairs = made(0, 1)
    assert "twin: answered when asked again" not in record["own_replies"]
    assert not any(row.rejected == NATIVE for row in pairs)
    record, pairs = made(2, 2)
    assert record["own_replies"]["twin: answered when asked again"] == 1
    assert [row.rejected for row in pairs if row.kind != "harmful"] == [NATIVE, NATIVE]


class Policy(Fake):
    """Has learnt to decline."""

    def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str:
        return "I can't help with that, and I would rather talk about bread that nobody minds."


def test_a_round_mints_all_of_it_and_counts_it(ledger: Ledger, tmp_path: Path) -> None:
    """A failure of a train case, a helper that paraphrases, a policy that declines in words of its own."""
    path = written(tmp_path, GRAINS)
    curate = Curate(
        sources=(Source(name="mine", path=path),), harmful=10, harmful_share=0.4, twin_share=0.4,
        wrapped_share=0.5, unclear_share=0.05, recovery_share=0.3, neighbours=2, on_policy=1, helper="h",
    )  # fmt: skip
    one = case(text="Show me how a neighbour hides rye bread")
    broken = attempt(one, user(f"You are a parrot. {one.text}"), said(ANSWER))
    ledger.add_case(one)
    ledger.add_attempt(broken, round=0, stage="redteam")
    ledger.add_vulnerabilities([vulnerability()], round=0)
    record = run(
        Config(curate=curate, redteam=SEEN), ledger, Refuser("zzz", ANSWER), RefusalJudge(), round=1, walls=[],
        policy=lambda: Policy("p"), helper=lambda: Refuser("zzz", f"Tell me: {one.text}, and how it is done"),
        progress=silent,
    )  # fmt: skip
    made = list(ledger.examples(round=1, dataset="sft"))
    assert record["evidence"]["rows"] == 6 and record["evidence"]["neighbours"] == {"reworded": 2, "put": 2}
    assert record["recovery"] and record["own_replies"]["policy: declined in full"] > 0
    assert sum(row.prompt[-1].role == "assistant" for row in made) == sum(record["recovery"].values())
    assert any("rather talk about bread" in row.reply for row in made)
    assert any(row.source == "unclear" for row in made)
    pairs = list(ledger.examples(round=1, dataset="dpo"))
    assert pairs and all(row.rejected and row.prompt[-1].role == "user" for row in pairs)


# ---- recovery


def rows(n: int = 20) -> list[Example]:
    made: list[Example] = []
    for i in range(n):
        harmful = Example(
            ask(f"Secret bread {i}?"), REFUSAL, "s", "MIT", "w", "harmful", rejected=ANSWER, language="en"
        )
        made.append(replace(harmful, rejected=ANSWER if i % 2 else None, hazard="privacy"))
        made.append(Example(ask(f"Public bread {i}?"), ANSWER, "s", "MIT", "w", "twin", rejected=REFUSAL, cut=True))
        made.append(Example(ask(f"Plain bread {i}?"), ANSWER, "s", "MIT", "w", "plain"))
    return made


def test_as_many_twins_as_harmful_rows_begin_the_wrong_way() -> None:
    made, counts = recover(rows(), 0.5, random.Random(0))
    begun = [row for row in made if row.prompt[-1].role == "assistant"]
    assert Counter(row.kind for row in begun) == {"harmful": 10, "twin": 10}
    assert len(made) == 60 and sum(counts.values()) == 20
    assert sum(n for how, n in counts.items() if how.startswith("twin: a refusal")) == 5
    assert {how for how in counts if "own words" in how}
    assert all(row.rejected is None and row.prompt[0].role == "user" for row in begun)


def test_the_beginning_is_generic_or_the_models_own() -> None:
    known = texts()["en"]
    openings = {opening["begin"] for opening in known["openings"]}
    made, _ = recover(rows(), 1.0, random.Random(1))
    for row in made:
        if row.prompt[-1].role != "assistant":
            continue
        begun = row.prompt[-1].content
        assert begun == begun.rstrip()
        if row.kind == "harmful":
            assert row.reply.endswith(REFUSAL) and row.reply[0] == " "
            own = any(ANSWER.startswith(begun.removeprefix(lead)) for lead in known["leads"])
            assert begun in openings or own
        else:
            whole = begun + row.reply
            assert row.cut and whole.endswith(ANSWER[-30:])
            assert ANSWER.split()[-1] in row.reply


def test_rows_of_languages_without_openings_stay_and_nothing_is_added() -> None:
    foreign = [replace(row, language="sw") for row in rows()]
    assert recover(foreign, 0.5, random.Random(0)) == (foreign, {})
    assert recover(rows(), 0.0, random.Random(0))[0] == rows()


def test_a_begun_reply_is_trained_from_where_it_turns(tmp_path: Path) -> None:
    """The beginning carries no loss, and the tokens are those of inference with a prefill."""
    import tiny
    from breakfix.models.render import prompt_ids, turn_end
    from breakfix.train.preflight import check_template
    from breakfix.train.rows import sft_rows

    tokenizer = tiny.tokenizer()
    made, _ = recover(rows(4), 1.0, random.Random(0))
    begun = [row for row in made if row.prompt[-1].role == "assistant"]
    trained, _ = sft_rows(tokenizer, begun, 512)
    for row, example in zip(trained, begun, strict=True):
        seen = prompt_ids(tokenizer, example.prompt)
        assert row["input_ids"][: len(seen)] == seen
        assert set(row["labels"][: len(seen)]) == {-100}
        learnt = tokenizer.decode([label for label in row["labels"] if label != -100])
        end = "" if example.cut else tokenizer.decode(turn_end(tokenizer))
        assert learnt == example.reply + end
    check_template(tokenizer, begun, [row["input_ids"] for row in trained])


# ---- pairs


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ("I can help", "I can help", 1.0),
        ("I can help", "I can not", 2 / 3),
        ("Bread", "", 0.0),
        ("a b c d e f g h x", "a b c d e f g h y", 1.0),  # they differ after what is seen
        ("a b c d", "x a b c", 0.5),  # one put in, one taken out: two edits of four
        ("", "", 1.0),
        ("我不能帮你做这个", "我不能帮你做那个", 7 / 8),
    ],
)
def test_similarity_is_of_the_first_pieces(one: str, two: str, expected: float) -> None:
    assert alike.similarity(one, two, 8) == pytest.approx(expected)
    assert alike.similarity(two, one, 8) == pytest.approx(expected)


def test_replies_that_begin_alike_are_no_pair_but_stay_rows() -> None:
    near = Example(ask("x"), "I'm sorry, but I can't help with this.", "s", "MIT", "w", "harmful")
    near = replace(near, rejected="I'm sorry, but I can help with this.", rejected_cut=True)
    far = replace(near, rejected=ANSWER)
    kept, dropped = alike.apart([near, far], 8, 0.75)
    assert [(row.reply, row.rejected, row.rejected_cut) for row in kept] == [
        (near.reply, None, False), (far.reply, ANSWER, True),
    ]  # fmt: skip
    assert [(drop.example, drop.step, drop.reason) for drop in dropped] == [
        (near, "alike", "no pair: the two replies begin too much alike")
    ]
