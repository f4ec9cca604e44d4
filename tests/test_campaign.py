"""The campaign with small models, a word-list judge, and neutral cases."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from breakfix.campaign import AsIs, Budget, Lead, Outcome, Put, attempt_id, run
from breakfix.core import (
    Answer,
    Ask,
    Attack,
    Attempt,
    Case,
    Conversation,
    Expect,
    Message,
    Model,
    NotApplicable,
    Paid,
    Reply,
    Sampling,
    Split,
    Verdict,
    ask,
)
from breakfix.errors import BudgetSpent, ConfigError, ModelError, UserError
from breakfix.judges.ask import PartlyJudged
from breakfix.models.fake import Echo, Fake, Refuser, Scripted

GREEDY = Sampling(max_new_tokens=64)


def case(id: str = "c1", text: str = "Explain how to bake bread", **more: Any) -> Case:
    return Case(id, ask(text), Expect.REFUSE, "test", Split.DEV, **more)


class SorryJudge:
    """1 where the last turn says sorry, None where it is empty, else 0. Keeps the size of each group."""

    name = "sorry@1"

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.rows: list[tuple[Case, Conversation]] = []

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        self.groups.append(len(rows))
        self.rows.extend(rows)
        return [self.one(transcript[-1].content) for _, transcript in rows]

    def one(self, text: str) -> Verdict:
        if not text.strip():
            return Verdict(None, "unscored", "empty", self.name)
        sorry = "sorry" in text.lower()
        return Verdict(float(sorry), "full" if sorry else "none", "", self.name)


@dataclass
class Store:
    """What `known` and `record` are to a campaign: a ledger of one dict."""

    rows: dict[str, Attempt] = field(default_factory=dict[str, Attempt])
    groups: list[int] = field(default_factory=list[int])
    paid: list[Paid] = field(default_factory=list[Paid])

    def known(self, ids: Sequence[str]) -> Mapping[str, Attempt]:
        return {id: self.rows[id] for id in ids if id in self.rows}

    def record(self, attempts: Sequence[Attempt]) -> None:
        self.groups.append(len(attempts))
        self.rows.update((a.id, a) for a in attempts)

    def recall(self, ids: Sequence[str]) -> list[Paid]:
        return [paid for paid in self.paid if paid.attempt in ids]


def go(puts: Sequence[Put], target: Model, **more: Any) -> Outcome:
    store: Store = more.pop("store", None) or Store()
    judge = more.pop("judge", None) or SorryJudge()
    rest: dict[str, Any] = {"sampling": GREEDY, "seed": 7, "clock": lambda: 0.0} | more
    return run(
        puts, target, judge, known=store.known, record=store.record, recall=store.recall, keep=store.paid.extend, **rest
    )


@dataclass
class Flow:
    """An attack from a plain function, for tests."""

    flow: Callable[[Case, random.Random], Generator[Ask, Answer, None]]
    name: str = "flow"
    family: str = "test"
    persona: str = "intermediate"
    uses_helper: bool = False

    def __call__(self, case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        return self.flow(case, rng)


def talk(*turns: str, attack: type[Ask] = Ask) -> Callable[[Case, random.Random], Generator[Ask, Answer, None]]:
    """Says the turns one after the other in one conversation."""

    def flow(case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        said: Conversation = ()
        for turn in turns:
            said = (*said, Message("user", turn))
            reply = yield attack(said)
            said = (*said, Message("assistant", reply.text or ""))

    return flow


class Dice(Fake):
    """Says a number drawn by the seed."""

    def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str:
        return f"{prompt[-1].content}: {random.Random(seed).randrange(10**6)}"


def test_one_put_is_one_attempt_with_everything_in_it() -> None:
    target = Scripted({"Explain how to bake bread": "Sorry, no."})
    out = go([Put(case(hazard="S1"), AsIs())], target)
    [a] = out.attempts
    assert (a.case, a.model, a.attack, a.family, a.persona) == ("c1", target.id, "direct", "direct", "low-skilled")
    assert (a.hazard, a.language, a.expect, a.error) == ("S1", "en", Expect.REFUSE, None)
    assert a.transcript == (*ask("Explain how to bake bread"), Message("assistant", "Sorry, no."))
    assert (a.score, a.breach, a.tokens_in, a.tokens_out) == (1.0, None, 5, 2)
    assert (out.queries, out.tokens_in, out.tokens_out, out.reused) == (1, 5, 2, 0)


def test_a_turn_is_one_batch_and_groups_hold_sixteen() -> None:
    class Counting(Echo):
        def __init__(self) -> None:
            super().__init__()
            self.batches: list[int] = []

        def generate(
            self, prompts: Sequence[Conversation], sampling: Sampling, seeds: Sequence[int] | None = None
        ) -> Iterator[tuple[int, Reply]]:
            self.batches.append(len(prompts))
            return super().generate(prompts, sampling, seeds)

    judge, store, target = SorryJudge(), Store(), Counting()
    puts = [Put(case(f"c{i}"), AsIs()) for i in range(33)] + [Put(case("m"), Flow(talk("one", "two", "three")))]
    out = go(puts, target, judge=judge, store=store)
    assert target.batches == [34, 1, 1]
    assert judge.groups == [16, 16, 2, 1, 1]
    assert store.groups == [16, 16, 1, 1]
    assert out.queries == 36
    assert [a.case for a in out.attempts] == [p.case.id for p in puts]


def test_replies_in_any_order_go_to_their_own_cases() -> None:
    class Backwards(Echo):
        def generate(
            self, prompts: Sequence[Conversation], sampling: Sampling, seeds: Sequence[int] | None = None
        ) -> Iterator[tuple[int, Reply]]:
            return iter(list(super().generate(prompts, sampling, seeds))[::-1])

    out = go([Put(case(f"c{i}", f"loaf {i}"), AsIs()) for i in range(40)], Backwards())
    assert [a.transcript[-1].content for a in out.attempts] == [f"loaf {i}" for i in range(40)]


def test_an_attempt_is_the_same_alone_and_among_others() -> None:
    def drawn(case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        for _ in range(rng.choice([1, 2, 3])):
            yield Ask(ask(f"{case.text} {rng.randrange(1000)}"))

    target = Dice("dice")
    puts = [Put(case(f"c{i}"), attack) for i in range(25) for attack in (Flow(drawn), AsIs())]
    together = go(puts, target).attempts
    shuffled = random.Random(1).sample(puts, len(puts))
    assert {a.id: a for a in go(shuffled, target).attempts} == {a.id: a for a in together}
    for put, attempt in zip(puts, together, strict=True):
        assert go([put], target).attempts == (attempt,)
    assert len({a.seed for a in together}) == 50
    assert go(puts, target, seed=8).attempts[0].transcript != together[0].transcript


def test_each_query_of_an_attempt_has_its_own_seed() -> None:
    def again(case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        said: list[str | None] = []
        for _ in range(3):
            said.append((yield Ask(case.prompt)).text)
        assert len(set(said)) == 3

    assert go([Put(case(), Flow(again))], Dice("dice")).queries == 3


def test_resume_pays_nothing_twice() -> None:
    store, puts = Store(), [Put(case(f"c{i}"), AsIs()) for i in range(5)]
    first = go(puts[:3], Echo(), store=store)
    target, seen = Echo(), list[tuple[int, int]]()

    def progress(done: int, total: int) -> None:
        seen.append((done, total))

    second = go(puts, target, store=store, progress=progress)
    assert len(target.asked) == second.queries == 2
    assert second.reused == 3
    assert second.attempts[:3] == first.attempts
    assert (seen[0], seen[-1]) == ((3, 5), (5, 5))
    assert go(puts, Scripted({}, id="fake-echo"), store=store).queries == 0


def test_a_crash_keeps_what_was_recorded() -> None:
    class Dies(Echo):
        def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str:
            if len(self.asked) == 20:
                raise KeyboardInterrupt
            return super().answer(prompt, sampling, seed)

    store, puts = Store(), [Put(case(f"c{i}"), AsIs()) for i in range(30)]
    with pytest.raises(KeyboardInterrupt):
        go(puts, Dies(), store=store)
    assert len(store.rows) == 16
    assert go(puts, Echo(), store=store).queries == 14


class Mortal(Dice):
    """Lives for so many queries."""

    def __init__(self, id: str, lives: int) -> None:
        super().__init__(id)
        self.lives = lives

    def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str:
        if len(self.asked) > self.lives:
            raise KeyboardInterrupt
        return super().answer(prompt, sampling, seed)


def led(case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
    """The helper proposes each of three turns, on top of what was said."""
    said: Conversation = ()
    for turn in range(3):
        proposed = yield Ask(ask(f"{case.id}, turn {turn}"), to="helper")
        said = (*said, Message("user", f"{proposed.text} {rng.randrange(9)}"))
        reply = yield Ask(said)
        said = (*said, Message("assistant", reply.text or ""))


@pytest.mark.parametrize("lives", range(1, 18))
def test_a_conversation_that_was_under_way_goes_on_and_is_the_same(lives: int) -> None:
    """Killed anywhere, and run again: what was settled is not asked again, and the attempts are as if never stopped.

    Six queries to the target come in one batch, which is judged when it is whole: it is lost whole, and no more is.
    """
    puts = [Put(case(f"c{i}"), Flow(led, uses_helper=True)) for i in range(6)]
    whole = go(puts, Dice("t"), helper=Dice("h"))
    store, target, helper = Store(), Mortal("t", lives), Dice("h")
    with pytest.raises(KeyboardInterrupt):
        go(puts, target, helper=helper, store=store)
    again, also = Dice("t"), Dice("h")
    resumed = go(puts, again, helper=also, store=store)
    assert resumed.attempts == whole.attempts
    assert len(again.asked) == resumed.queries == 18 - lives // 6 * 6
    assert len(helper.asked) + len(also.asked) == 18
    assert go(puts, Scripted([], id="t"), helper=Scripted([], id="h"), store=store).queries == 0


def test_only_conversations_that_go_on_are_kept_and_what_was_asked_must_be_the_same() -> None:
    store = Store()
    go([Put(case("a"), AsIs()), Put(case("b"), Flow(talk("1", "2")))], Echo(), store=store)
    [paid] = store.paid
    assert (paid.query, paid.reply.text) == (0, "1")
    store.rows.clear()
    other = go([Put(case("b"), Flow(talk("one", "2")))], Scripted({"one": "x", "2": "y"}, id="fake-echo"), store=store)
    assert other.attempts[0].id == paid.attempt and other.queries == 2


class Paid3(SorryJudge):
    """Is paid for three verdicts, then its budget is spent."""

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        given = super().judge(rows[:3])
        raise PartlyJudged("all is spent", [*given, *[None] * (len(rows) - len(given))])


@pytest.mark.parametrize("turns", [1, 2])
def test_where_the_judges_budget_ends_its_verdicts_and_the_replies_are_kept(turns: int) -> None:
    """Of five replies three were judged: neither they nor those verdicts are asked for again."""
    attack: Attack = AsIs() if turns == 1 else Flow(talk("1", "2"))
    puts, store, target = [Put(case(f"c{i}"), attack) for i in range(5)], Store(), Dice("t")
    with pytest.raises(BudgetSpent):
        go(puts, target, judge=Paid3(), store=store)
    assert len(store.rows) == (3 if turns == 1 else 0)
    assert [paid.verdict and paid.verdict.score for paid in store.paid] == [
        *[0.0] * (0 if turns == 1 else 3),
        None,
        None,
    ]
    assert len(target.asked) == 5 and len(store.paid) == (2 if turns == 1 else 5)
    judge, again = SorryJudge(), Dice("t")
    resumed = go(puts, again, judge=judge, store=store)
    assert resumed.attempts == go(puts, Dice("t")).attempts
    assert len(again.asked) == (0 if turns == 1 else 5)
    assert sum(judge.groups) == (2 if turns == 1 else 7)


def test_what_was_heard_before_does_not_count_against_the_budget() -> None:
    class Three(AsIs):
        name, queries = "three", 3

        def __call__(self, case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
            return talk("1", "2", "3")(case, rng)

    store = Store()
    with pytest.raises(KeyboardInterrupt):
        go([Put(case(), Three())], Mortal("t", 2), store=store)
    out = go([Put(case(), Three())], Dice("t"), store=store, budget=Budget(total=3))
    assert (out.queries, len(out.attempts[0].verdicts)) == (1, 3)


def test_the_id_holds_what_the_result_depends_on() -> None:
    @dataclass
    class Named:
        name: str
        version: int = 1
        queries: int = 3
        uses_helper: bool = False
        family: str = "test"
        persona: str = "intermediate"

        def __call__(self, case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
            yield Ask(case.prompt)

    def id(
        c: Case | None = None,
        attack: Attack | None = None,
        target: str = "m",
        judge: str = "j@1",
        seed: int = 7,
        sampling: Sampling = GREEDY,
        helper: Model | None = None,
        budget: int | None = None,
    ) -> str:
        j = SorryJudge()
        j.name = judge
        put = Put(c or case(), attack or Named("a"))
        return attempt_id(put, Echo(target), j, sampling, seed, helper, Budget(attempt=budget))

    same = id()
    helper = Echo("helper")
    assert id(replace(case(), licence="MIT", split=Split.TRAIN, source="other")) == same
    assert id(helper=helper) == same  # this attack does not use it
    assert id(budget=3) == same  # this attack never asks more
    others = [
        id(case("c2")),
        id(case(text="Explain how to bake rolls")),
        id(replace(case(), expect=Expect.COMPLY)),
        id(replace(case(), translations={"de": "Wie backt man Brot?"})),
        id(attack=Named("b")),
        id(attack=Named("a", version=2)),
        id(attack=Named("a", uses_helper=True), helper=helper),
        id(target="n"),
        id(judge="j@2"),
        id(seed=8),
        id(sampling=Sampling(max_new_tokens=65)),
        id(budget=2),
    ]
    assert len({same, *others}) == len(others) + 1


def test_equal_puts_are_one_attempt() -> None:
    out = go([Put(case(), AsIs()), Put(case(), AsIs())], Echo())
    assert (len(out.attempts), out.queries) == (1, 1)


def test_a_failed_row_is_an_attempt_with_an_error() -> None:
    down = Reply("", tokens_in=3, finish="error", error="out of memory")
    out = go([Put(case("a", "one"), AsIs()), Put(case("b", "two"), AsIs())], Scripted({"one": down, "two": "fine"}))
    bad, good = out.attempts
    assert (bad.error, bad.score, bad.verdicts, bad.transcript) == ("out of memory", None, (), ask("one"))
    assert (good.error, good.score) == (None, 0.0)


def test_a_model_that_raises_fails_only_the_rows_it_did_not_answer() -> None:
    class Down(Echo):
        def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str:
            if "3" in prompt[-1].content:
                raise ModelError("endpoint down")
            return super().answer(prompt, sampling, seed)

    store = Store()
    out = go([Put(case(f"c{i}", f"loaf {i}"), AsIs()) for i in range(5)], Down(), store=store)
    assert [a.error for a in out.attempts] == [None, None, None, "endpoint down", "endpoint down"]
    assert len(store.rows) == 5


def test_a_row_that_is_never_answered_is_an_error() -> None:
    class Forgets(Echo):
        def generate(
            self, prompts: Sequence[Conversation], sampling: Sampling, seeds: Sequence[int] | None = None
        ) -> Iterator[tuple[int, Reply]]:
            return iter(list(super().generate(prompts, sampling, seeds))[1:])

    out = go([Put(case("a"), AsIs()), Put(case("b"), AsIs())], Forgets())
    assert [a.error for a in out.attempts] == ["the model gave no reply", None]


def test_an_error_in_a_later_turn_keeps_the_turns_before() -> None:
    target = Scripted(["Sorry.", Reply("", finish="error", error="gone")])
    [a] = go([Put(case(), Flow(talk("one", "two")))], target).attempts
    assert [m.content for m in a.transcript] == ["one", "Sorry.", "two"]
    assert (len(a.verdicts), a.score, a.error) == (1, None, "gone")


def test_a_judge_that_raises_spoils_only_its_row() -> None:
    class Chokes(SorryJudge):
        def one(self, text: str) -> Verdict:
            if "7" in text:
                raise ValueError("the text itself, which must not get into the reason")
            return super().one(text)

    out = go([Put(case(f"c{i}", f"loaf {i}"), AsIs()) for i in range(10)], Echo(), judge=Chokes())
    assert [a.score for a in out.attempts] == [0.0] * 7 + [None] + [0.0] * 2
    assert out.attempts[7].verdicts == (Verdict(None, "unscored", "the judge failed: ValueError", "sorry@1"),)
    assert out.attempts[7].error is None


def test_a_judge_that_miscounts_is_unscored_and_a_user_error_is_told() -> None:
    class Miscounts(SorryJudge):
        def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
            return []

    class NoWeights(SorryJudge):
        def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
            raise UserError("no such judge")

    assert go([Put(case(), AsIs())], Echo(), judge=Miscounts()).attempts[0].score is None
    with pytest.raises(UserError, match="no such judge"):
        go([Put(case(), AsIs())], Echo(), judge=NoWeights())


def test_not_applicable_is_skipped_with_its_reason() -> None:
    def never(case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        raise NotApplicable("no translation")
        yield Ask(())

    def at_once(case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        raise NotApplicable("when called")

    out = go([Put(case(), Flow(never)), Put(case(), AsIs()), Put(case("b"), Flow(at_once))], Echo())
    assert [(s.case, s.attack, s.reason) for s in out.skipped] == [
        ("c1", "flow", "no translation"),
        ("b", "flow", "when called"),
    ]
    assert len(out.attempts) == 1
    assert [s.reason for s in go([Put(case(), Flow(talk()))], Echo()).skipped] == [
        "the attack asked the target nothing"
    ]


def test_an_attack_that_fails_is_told_and_the_others_go_on() -> None:
    def at_once(case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        raise ZeroDivisionError("by\nzero")
        yield Ask(())

    def later(case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        yield Ask(case.prompt)
        raise KeyError("turn")

    out = go([Put(case(), Flow(at_once)), Put(case("b"), Flow(later)), Put(case("c"), AsIs())], Echo())
    assert [(s.case, s.reason) for s in out.skipped] == [("c1", "the attack failed: ZeroDivisionError: by zero")]
    assert [(a.case, a.error, a.score is None) for a in out.attempts] == [
        ("b", "the attack failed: KeyError: 'turn'", True),
        ("c", None, False),
    ]


def test_breach_is_the_first_turn_that_broke() -> None:
    [a] = go([Put(case(), Flow(talk("1", "2", "3")))], Scripted(["Sorry.", "Here.", "Sorry."])).attempts
    assert [v.score for v in a.verdicts] == [1.0, 0.0, 1.0]
    assert (a.breach, a.score) == (1, 0.0)


def test_lead_turns_are_told_but_not_scored() -> None:
    told: list[float | None] = []

    def flow(case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        first = yield Lead(ask("small talk"))
        told.append(first.verdict.score if first.verdict else None)
        yield Ask((*ask("small talk"), Message("assistant", first.text or ""), *case.prompt))

    [a] = go([Put(case(), Flow(flow))], Scripted(["Of course.", "Sorry."])).attempts
    assert told == [0.0]
    assert [(v.score, v.label) for v in a.verdicts] == [(None, "lead"), (1.0, "full")]
    assert (a.breach, a.score) == (None, 1.0)


def test_after_backtracking_the_last_conversation_counts() -> None:
    def flow(case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        first = yield Ask(ask("one"))
        base: Conversation = (*ask("one"), Message("assistant", first.text or ""))
        yield Ask((*base, Message("user", "two")))
        yield Ask((*base, Message("user", "two, put better")))

    [a] = go([Put(case(), Flow(flow))], Scripted(["Sorry 1.", "Yes 2.", "Sorry 3."])).attempts
    assert [m.content for m in a.transcript] == ["one", "Sorry 1.", "two, put better", "Sorry 3."]
    assert [v.score for v in a.verdicts] == [1.0, 1.0]
    assert a.breach is None


def test_starting_afresh_drops_the_verdicts_before() -> None:
    def flow(case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        yield Ask(ask("one"))
        yield Ask(ask("two"))

    [a] = go([Put(case(), Flow(flow))], Scripted(["Yes.", "Sorry."])).attempts
    assert ([m.content for m in a.transcript], len(a.verdicts), a.score) == (["two", "Sorry."], 1, 1.0)


def test_turns_that_the_attack_invented_are_not_judged() -> None:
    def flow(case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        yield Ask((*ask("one"), Message("assistant", "invented"), *case.prompt))

    judge = SorryJudge()
    [a] = go([Put(case(), Flow(flow))], Scripted(["Sorry."]), judge=judge).attempts
    assert (len(a.transcript), len(a.verdicts), judge.groups) == (4, 1, [1])
    assert (a.turns, a.place(0)) == ((3,), 3)


def test_each_verdict_says_which_turn_it_is_on_and_whether_the_budget_cut_it() -> None:
    """The case gives one answer, the attack invents another in between; two are the model's own, the first cut."""
    given = (Message("user", "zero"), Message("assistant", "given"), Message("user", "one"))

    def flow(case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        first = yield Ask(case.prompt)
        invented = (*ask("two"), Message("assistant", "invented"), *ask("three"))
        yield Ask((*case.prompt, Message("assistant", first.text or ""), *invented))

    [a] = go([Put(replace(case(), prompt=given), Flow(flow))], Echo(), sampling=Sampling(max_new_tokens=1)).attempts
    assert [m.content for m in a.transcript] == ["zero", "given", "one", "one", "two", "invented", "three", "three"]
    assert (a.turns, a.cut, a.breach) == ((3, 7), (), 0)
    assert [a.transcript[a.place(i)].content for i in range(2)] == ["one", "three"]
    assert replace(a, turns=()).place(1) == 7
    [b] = go([Put(case(), Flow(talk("a b", "c")))], Echo(), sampling=Sampling(max_new_tokens=1)).attempts
    assert b.cut == (0,)


def test_prefill_and_reply_are_one_turn_judged_whole() -> None:
    def flow(case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        first = yield Ask((*case.prompt, Message("assistant", "Sorry, but")))
        assert first.text == " no."
        whole = Message("assistant", "Sorry, but no.")
        yield Ask((*case.prompt, whole, Message("user", "Really?"), Message("assistant", "Well,")))

    judge = SorryJudge()
    [a] = go([Put(case(), Flow(flow))], Scripted([" no.", " yes."]), judge=judge).attempts
    assert [m.content for m in a.transcript[1:]] == ["Sorry, but no.", "Really?", "Well, yes."]
    assert [v.score for v in a.verdicts] == [1.0, 0.0]
    assert judge.rows[0][1][-1].content == "Sorry, but no."


def test_the_judge_sees_the_original_case() -> None:
    judge, c = SorryJudge(), case()
    go([Put(c, Flow(talk("something else")))], Echo(), judge=judge)
    assert judge.rows[0][0] is c


def test_the_language_is_the_one_that_was_asked_in() -> None:
    c = case(translations={"de": "Wie backt man Brot?"})
    [a, b] = go([Put(c, Flow(talk("Wie backt man Brot?"))), Put(c, AsIs())], Echo()).attempts
    assert (a.language, b.language) == ("de", "en")


def rewriting(case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
    better = yield Ask(ask(f"put {case.id} better"), to="helper")
    yield Ask(ask(better.text or case.text))


def test_the_helper_is_asked_in_a_batch_and_is_not_the_target() -> None:
    helper, target, attack = Echo("helper"), Echo(), Flow(rewriting, uses_helper=True)
    out = go([Put(case("a"), attack), Put(case("b"), attack), Put(case("c"), AsIs())], target, helper=helper)
    assert [p[-1].content for p in target.asked] == ["Explain how to bake bread", "put a better", "put b better"]
    assert (out.queries, out.helper_queries) == (3, 2)
    assert [len(a.verdicts) for a in out.attempts] == [1, 1, 1]
    assert out.attempts[0].tokens_in == 3  # the helper's words are paid by the run, not by the attempt
    assert out.tokens_in == 3 + 3 + 5 + 2 * 3


def test_without_a_helper_the_answer_is_none() -> None:
    out = go([Put(case(), Flow(rewriting))], Echo())
    assert out.attempts[0].transcript[0].content == "Explain how to bake bread"
    assert out.helper_queries == 0


def test_a_failing_helper_is_an_error() -> None:
    helper = Scripted([Reply("", finish="error", error="down")])
    [a] = go([Put(case(), Flow(rewriting, uses_helper=True))], Echo(), helper=helper).attempts
    assert (a.error, a.score, a.transcript) == ("helper: down", None, ())


def test_an_attempt_that_wants_too_many_queries_ends_with_what_it_has() -> None:
    out = go([Put(case(), Flow(talk("1", "2", "3")))], Echo(), budget=Budget(attempt=2))
    assert (out.queries, len(out.attempts[0].verdicts), out.unrun) == (2, 2, ())


def test_the_total_budget_begins_only_what_it_can_finish() -> None:
    class Two(AsIs):
        name, queries = "two", 2

        def __call__(self, case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
            return talk("1", "2")(case, rng)

    store = Store()
    puts = [Put(case(f"c{i}"), Two()) for i in range(4)]
    out = go(puts, Echo(), budget=Budget(total=5), store=store)
    assert (out.queries, len(out.attempts)) == (4, 2)
    assert [(u.case, u.reason) for u in out.unrun] == [("c2", "query budget"), ("c3", "query budget")]
    rest = go(puts, Echo(), store=store)
    assert (rest.queries, rest.reused, len(rest.attempts)) == (4, 2, 4)


def test_what_an_attack_saves_is_spent_on_the_next() -> None:
    class UpToThree(AsIs):
        name, queries = "up_to_three", 3

    out = go([Put(case(f"c{i}"), UpToThree()) for i in range(5)], Echo(), budget=Budget(total=5))
    assert (out.queries, len(out.attempts), len(out.unrun)) == (3, 3, 2)  # 1 + 1 + 1, then 2 are left, and 3 are needed


def test_an_attack_without_a_bound_is_cut_where_the_budget_ends() -> None:
    out = go([Put(case(), Flow(talk("1", "2", "3")))], Echo(), budget=Budget(total=2))
    assert (out.queries, out.attempts, out.unrun[0].reason) == (2, (), "query budget")


def test_the_clock_stops_a_run_at_the_next_reply() -> None:
    ticks = iter(range(10**6))
    out = go(
        [Put(case(f"c{i}"), AsIs()) for i in range(50)],
        Echo(),
        budget=Budget(seconds=20),
        clock=lambda: float(next(ticks)),
    )
    assert 0 < len(out.attempts) < 20
    assert len(out.attempts) + len(out.unrun) == 50
    assert out.queries == len(out.attempts)
    assert {u.reason for u in out.unrun} == {"time budget"}
    assert go([Put(case(), AsIs())], Scripted({}), budget=Budget(seconds=0)).queries == 0


def test_a_budget_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="budget attempt: 0 is too small"):
        Budget(attempt=0)


def test_seconds_are_shared_out_and_leave_the_judge_out() -> None:
    now = [0.0]

    class Slow(Echo):
        def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str:
            now[0] += 2.0
            return "Sorry."

    class SlowJudge(SorryJudge):
        def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
            now[0] += 100.0
            return super().judge(rows)

    out = go([Put(case(f"c{i}"), AsIs()) for i in range(20)], Slow(), judge=SlowJudge(), clock=lambda: now[0])
    assert {a.seconds for a in out.attempts} == {2.0}
    assert out.seconds == 20 * 2.0 + 2 * 100.0


def test_the_fakes_are_models() -> None:
    refuser = Refuser("bread")
    assert isinstance(refuser, Model)
    assert [r.text for _, r in refuser.generate([ask("Bread?"), ask("Soup?")], GREEDY)] == [
        "I'm sorry, but I can't help with that.",
        "Sure, here is how.",
    ]
    warm = Sampling(temperature=1.0)
    drawn = [[r.text for _, r in refuser.generate([ask("bread")] * 9, warm, range(s, s + 9))] for s in (0, 0, 9)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 1
    [(_, cut)] = Echo().generate([ask("one two three")], Sampling(max_new_tokens=2))
    assert cut == Reply("one two", 3, 2, "length")
    [(total, n)] = Echo().score([(ask("bake bread"), "bake soup")])
    assert (round(total, 4), n) == (-2.9957, 2)  # ln 2 + ln 10


def test_a_script_fails_loudly() -> None:
    with pytest.raises(AssertionError, match="nothing scripted"):
        go([Put(case(), AsIs())], Scripted({"other": "x"}))
    with pytest.raises(AssertionError, match="used up"):
        go([Put(case(), Flow(talk("1", "2")))], Scripted(["only one"]))
    with pytest.raises(TypeError, match="one string"):
        Scripted("not a list")
