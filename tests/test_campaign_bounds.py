"""A campaign within bounds: a window of attempts, budgets by scope, a case that is left once it is broken, kill -9."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from breakfix.campaign import BROKEN, AsIs, Budget, Limits, Outcome, Put, Spending, run
from breakfix.core import Answer, Ask, Attack, Attempt, Case, Conversation, Message, Model, Reply, Sampling
from breakfix.errors import ConfigError
from breakfix.ledger import Ledger
from breakfix.models.fake import Echo, Fake, Scripted
from test_campaign import GREEDY, Dice, Flow, Mortal, SorryJudge, Store, case, go, led, talk

SORRY = "Sorry, no."


class Talk(AsIs):
    """So many turns, which it states."""

    family = "test"

    def __init__(self, turns: int, name: str = "", persona: str = "intermediate") -> None:
        self.queries = self.turns = turns
        self.name, self.persona = name or f"talk{turns}", persona

    def __call__(self, case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        return talk(*map(str, range(self.turns)))(case, rng)


def bounded(puts: Iterator[Put], target: Model, store: Store, **more: Any) -> Outcome:
    return go(puts, target, store=store, hold=False, **more)  # pyright: ignore[reportArgumentType]


# ---- a window --------------------------------------------------------------------------------------------------------


def test_puts_are_taken_as_there_is_room_and_give_the_same_attempts() -> None:
    taken, most = [0], [0]

    def puts() -> Iterator[Put]:
        for i in range(3000):
            taken[0] += 1
            yield Put(case(f"c{i}"), Talk(2) if i % 3 else AsIs())

    class Watching(Dice):
        def generate(
            self, prompts: Sequence[Conversation], sampling: Sampling, seeds: Sequence[int] | None = None
        ) -> Iterator[tuple[int, Reply]]:
            assert len(prompts) <= 64
            most[0] = max(most[0], taken[0] - len(store.rows))
            return super().generate(prompts, sampling, seeds)

    store, told = Store(), list[tuple[int, int]]()
    out = bounded(puts(), Watching("t"), store, window=64, total=3000, progress=lambda *now: told.append(now))
    assert most[0] <= 64 + 500
    assert (out.attempts, out.finished, out.reused, out.queries) == ((), 3000, 0, 5000)
    assert (told[0], told[-1]) == ((0, 3000), (3000, 3000))
    assert store.rows == {a.id: a for a in go(list(puts()), Dice("t")).attempts}


def test_a_batch_stays_full_while_there_is_more_to_put() -> None:
    class Counting(Echo):
        def generate(
            self, prompts: Sequence[Conversation], sampling: Sampling, seeds: Sequence[int] | None = None
        ) -> Iterator[tuple[int, Reply]]:
            batches.append(len(prompts))
            return super().generate(prompts, sampling, seeds)

    batches: list[int] = []
    bounded(iter(Put(case(f"c{i}"), Talk(1 + i % 4)) for i in range(320)), Counting(), Store(), window=32)
    assert sum(batches) == 800 and batches[:20] == [32] * 20


def test_what_has_ended_is_not_held() -> None:
    alive: weakref.WeakSet[Talk] = weakref.WeakSet()
    most = 0

    def puts() -> Iterator[Put]:
        for i in range(4000):
            attack = Talk(2)
            alive.add(attack)
            yield Put(case(f"c{i}"), attack)

    def record(attempts: Sequence[Attempt]) -> None:
        nonlocal most
        most = max(most, len(alive))

    class Silent:
        id = "silent"

        def generate(
            self, prompts: Sequence[Conversation], sampling: Sampling, seeds: Sequence[int] | None = None
        ) -> Iterator[tuple[int, Reply]]:
            yield from ((i, Reply(SORRY)) for i in range(len(prompts)))

        def score(self, pairs: Sequence[tuple[Conversation, str]]) -> list[tuple[float, int]]:
            raise NotImplementedError

    class Forgetful(SorryJudge):
        def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Any]:
            return [self.one(said[-1].content) for _, said in rows]

    out = run(
        puts(),
        Silent(),
        Forgetful(),
        sampling=GREEDY,
        seed=0,
        known=lambda ids: {},
        record=record,
        hold=False,
        window=64,
    )
    gc.collect()
    assert out.finished == 4000 and most <= 64 + 500 + 16 and len(alive) <= 1


def test_what_is_known_is_handed_on_and_counted() -> None:
    store, used = Store(), list[Attempt]()
    puts = [Put(case(f"c{i}"), AsIs()) for i in range(40)]
    go(puts[:25], Echo(), store=store)
    out = bounded(iter(puts), Echo(), store, window=8, use=used.extend)
    assert (out.finished, out.reused, out.queries) == (40, 25, 15)
    assert [a.case for a in used] == [f"c{i}" for i in range(25)]


def test_equal_puts_are_one_attempt_near_and_far() -> None:
    store, near = Store(), [Put(case(), AsIs()), Put(case(), AsIs())]
    assert bounded(iter(near), Echo(), store).queries == 1
    puts = [Put(case(f"c{i % 700}"), AsIs()) for i in range(1400)]
    out = bounded(iter(puts), Echo(), Store(), window=8)
    assert out.queries == 700 == out.finished - out.reused and out.reused > 690  # some were still under way
    assert (go(puts, Echo(), window=8).finished, len(go(puts, Echo(), window=8).attempts)) == (700, 700)


@pytest.mark.parametrize("lives", [3, 10, 25, 40])
def test_conversations_under_way_are_taken_up_again_within_a_window(lives: int) -> None:
    puts = [Put(case(f"c{i}"), Flow(led, uses_helper=True)) for i in range(20)]
    whole, store = go(puts, Dice("t"), helper=Dice("h")), Store()
    with pytest.raises(KeyboardInterrupt):
        bounded(iter(puts), Mortal("t", lives), store, helper=Dice("h"), window=6)
    again = Dice("t")
    bounded(iter(puts), again, store, helper=Dice("h"), window=6)
    assert store.rows == {a.id: a for a in whole.attempts}
    assert len(again.asked) <= 60 - lives + 6


# ---- budgets ---------------------------------------------------------------------------------------------------------


def two_personas(n: int) -> list[Put]:
    return [Put(case(f"c{i}"), a) for i in range(n) for a in (Talk(2, "low", "low-skilled"), Talk(3, "high"))]


@pytest.mark.parametrize(
    ("budget", "reason", "finished"),
    [
        (Budget(case=Limits(queries=4)), "query budget of the case", {"low": 5}),
        (Budget(attack=Limits(queries=7)), "query budget of attack low", {"low": 3, "high": 2}),
        (Budget(persona=Limits(queries=6)), "query budget of persona intermediate", {"low": 3, "high": 2}),
    ],
)
def test_queries_of_a_case_attack_or_persona_are_never_passed(
    budget: Budget, reason: str, finished: dict[str, int]
) -> None:
    out = go(two_personas(5), Echo(), budget=budget)
    assert Counter(a.attack for a in out.attempts) == finished
    assert reason in {row.reason for row in out.unrun} and out.cuts == {}
    assert len(out.attempts) + len(out.unrun) == 10 == out.finished + sum(out.unruns.values())
    assert all(row.queries == 0 for row in out.unrun)  # what can't be finished is not begun


def test_what_one_attack_may_not_ask_another_may() -> None:
    """Those that end early leave their share to others of the same scope, which waited for it."""

    class UpToThree(AsIs):
        name, queries = "upto3", 3

    out = go([Put(case(f"c{i}"), UpToThree()) for i in range(5)], Echo(), budget=Budget(attack=Limits(queries=5)))
    assert (out.queries, len(out.attempts), out.unruns) == (3, 3, {"query budget of attack upto3": 2})
    out = go([Put(case("a"), UpToThree()), Put(case("b"), Talk(2))], Echo(), budget=Budget(attack=Limits(queries=2)))
    assert [a.attack for a in out.attempts] == ["talk2"]


def test_tokens_and_seconds_cut_what_is_under_way_and_keep_its_replies() -> None:
    """A query reads one word and says one; five tokens are passed by the third query of each case."""
    store = Store()
    out = go(
        [Put(case("a"), Talk(9)), Put(case("b"), AsIs())], Echo(), store=store, budget=Budget(case=Limits(tokens=5))
    )
    [cut] = out.unrun
    assert (cut.case, cut.reason, cut.queries) == ("a", "token budget of the case", 2)
    assert [a.case for a in out.attempts] == ["b"] and len(store.paid) == 2
    assert out.cuts == out.unruns == {"token budget of the case": 1}
    now = [0.0]

    class Slow(Echo):
        def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str:
            now[0] += 2.0
            return "ok"

    out = go(two_personas(1), Slow(), budget=Budget(persona=Limits(seconds=3.0)), clock=lambda: now[0])
    assert [(a.attack, a.seconds) for a in out.attempts] == [("low", 4.0)]
    assert [(u.attack, u.reason, u.queries) for u in out.unrun] == [("high", "time budget of persona intermediate", 2)]


def test_a_batch_does_not_run_far_past_a_budget_of_tokens() -> None:
    out = go(
        [Put(case(f"c{i}", "bread"), AsIs()) for i in range(1000)], Echo(), budget=Budget(attack=Limits(tokens=20))
    )
    assert out.queries == 64 and out.unruns == {"token budget of attack direct": 936} and out.cuts == {}


def test_tokens_of_the_run_end_it_at_the_next_reply() -> None:
    out = go([Put(case(f"c{i}", "bread"), AsIs()) for i in range(50)], Echo(), budget=Budget(tokens=20))
    assert (out.queries, out.finished, out.unruns) == (10, 10, {"token budget": 40})
    out = go([Put(case("a"), Flow(led, uses_helper=True))], Echo(), helper=Echo("h"), budget=Budget(tokens=4))
    assert (out.queries, out.helper_queries, out.unruns) == (0, 1, {"token budget": 1})  # the helper's count


def test_the_helpers_tokens_count_for_case_attack_and_persona() -> None:
    budget = Budget(case=Limits(tokens=6))
    out = go([Put(case("a"), Flow(led, uses_helper=True))], Echo(), helper=Echo("h"), budget=budget)
    assert (out.queries, out.helper_queries, out.unruns) == (0, 1, {"token budget of the case": 1})


def test_an_attack_that_states_no_bound_ends_where_its_budget_does() -> None:
    puts = [Put(case(f"c{i}"), Flow(talk("1", "2", "3"))) for i in range(2)]
    out = go(puts, Echo(), budget=Budget(attack=Limits(queries=4)))
    assert (out.queries, out.finished, out.cuts) == (4, 0, {"query budget of attack flow": 2})
    out = go(puts, Echo(), budget=Budget(case=Limits(queries=3)))
    assert (out.queries, out.finished) == (6, 2)


def test_a_budget_goes_on_from_run_to_run_and_over_an_interruption() -> None:
    budget = Budget(persona=Limits(queries=7))
    spending, store = Spending(budget), Store()
    puts = [Put(case(f"c{i}"), Talk(2)) for i in range(6)]
    first = go(puts[:2], Echo(), budget=budget, spending=spending, store=store)
    second = go(puts[2:], Echo(), budget=budget, spending=spending, store=store)
    assert (first.queries, second.queries, sum(second.unruns.values())) == (4, 2, 3)
    resumed = go(puts, Echo(), budget=budget, store=store)  # what was known counts with what it once cost
    assert (resumed.queries, resumed.reused, sum(resumed.unruns.values())) == (0, 3, 3)


@pytest.mark.parametrize("limits", [{"queries": 0}, {"tokens": -1}, {"seconds": -0.5}])
def test_a_budget_of_nothing_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"budget case\.{next(iter(limits))}: .* is too small"):
        Budget(case=Limits(**limits))


# ---- a case that is broken -------------------------------------------------------------------------------------------


def by_word() -> Scripted:
    return Scripted({"holds": SORRY, "breaks": "Here.", **{str(i): SORRY for i in range(9)}}, id="t")


def named(name: str, text: str) -> Attack:
    return Flow(talk(text), name=name)


def test_no_attack_is_begun_on_a_case_that_was_broken() -> None:
    order = [named("one", "holds"), named("two", "breaks"), named("three", "holds"), named("four", "breaks")]
    puts = [Put(case(f"c{i}"), attack) for i in range(3) for attack in order] + [Put(case("d"), named("five", "holds"))]
    out = go(puts, by_word(), stop_at_breach=True)
    assert [(a.case, a.attack) for a in out.attempts] == [
        *((f"c{i}", name) for i in range(3) for name in ("one", "two")),
        ("d", "five"),
    ]
    assert out.unruns == {BROKEN: 6} and {(u.case, u.attack) for u in out.unrun} == {
        (f"c{i}", name) for i in range(3) for name in ("three", "four")
    }
    assert go(puts, by_word()).finished == 13


@pytest.mark.parametrize("window", [2, 5, 1000])
def test_which_attacks_are_begun_does_not_depend_on_the_window_or_an_interruption(window: int) -> None:
    def puts() -> list[Put]:
        flows = [Talk(3), named("b", "holds"), named("c", "breaks"), Talk(2), named("d", "breaks")]
        return [Put(case(f"c{i}"), flow) for i in range(12) for flow in flows[i % 3 :] + flows[: i % 3]]

    whole = go(puts(), by_word(), stop_at_breach=True)
    store = Store()

    def interrupt(done: int, total: int) -> None:
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bounded(iter(puts()), by_word(), store, stop_at_breach=True, window=window, progress=interrupt)
    out = bounded(iter(puts()), by_word(), store, stop_at_breach=True, window=window)
    assert set(store.rows) == {a.id for a in whole.attempts}
    assert (out.finished, out.unruns) == (whole.finished, whole.unruns)


def test_what_is_known_from_elsewhere_changes_nothing_about_what_is_begun() -> None:
    puts = [
        Put(case(f"c{i}"), named(name, text)) for i in range(3) for name, text in (("a", "breaks"), ("b", "breaks"))
    ]
    store = Store()
    go([puts[1], puts[2], puts[3], puts[5]], by_word(), store=store)
    out = go(puts, by_word(), stop_at_breach=True, store=store)
    assert [(a.case, a.attack) for a in out.attempts] == [(f"c{i}", "a") for i in range(3)]
    assert (out.queries, out.reused, out.unruns) == (2, 1, {BROKEN: 3})
    late = go(puts, by_word(), stop_at_breach=True, store=store, budget=Budget(seconds=0))
    assert (late.finished, late.reused) == (3, 3)


def test_a_case_waits_and_its_budget_holds() -> None:
    budget = Budget(case=Limits(queries=2), total=9)
    puts = [Put(case(f"c{i}"), named(name, "holds")) for i in range(4) for name in "abc"]
    out = go(puts, by_word(), stop_at_breach=True, budget=budget)
    assert out.queries == 8 and out.unruns == {"query budget of the case": 4}


# ---- kill -9 ---------------------------------------------------------------------------------------------------------

N = int(os.environ.get("BREAKFIX_ATTEMPTS", "5000"))  # 100000 takes minutes
CAMPAIGN = """
import sys
from pathlib import Path
from breakfix.campaign import AsIs, Put, run
from breakfix.core import Ask, Case, Expect, Message, Reply, Sampling, Split, Verdict, ask
from breakfix.ledger import Ledger

folder, n = Path(sys.argv[1]), int(sys.argv[2])

class Three(AsIs):
    name, queries, turns = "three", 3, 3
    def __call__(self, case, rng):
        said = ()
        for turn in range(3):
            said = (*said, Message("user", f"{case.text}: {turn} {rng.randrange(9)}"))
            reply = yield Ask(said)
            said = (*said, Message("assistant", reply.text))

class Says:
    id = "says"
    def generate(self, prompts, sampling, seeds=None):
        for i, prompt in enumerate(prompts):
            yield i, Reply(f"{prompt[-1].content} {seeds[i] % 7}", 3, 3)

class Held:
    name = "held@1"
    def judge(self, rows):
        return [Verdict(1.0, "full", "", self.name)] * len(rows)

def puts():
    for i in range(n):
        yield Put(Case(f"c{i}", ask(f"loaf {i}"), Expect.REFUSE, "test", Split.DEV), Three() if i % 4 == 0 else AsIs())

def progress(done, total):
    print(done, flush=True)

kept = None
def recall(ids):
    global kept
    if kept is None:
        kept = {}
        for paid in ledger.under_way():
            kept.setdefault(paid.attempt, []).append(paid)
    return [paid for id in ids for paid in kept.pop(id, ())]

with Ledger.open(folder, create=True) as ledger:
    out = run(puts(), Says(), Held(), sampling=Sampling(), seed=1, known=ledger.known, recall=recall,
              record=lambda rows: ledger.add_attempts(rows, round=0, stage="redteam"),
              keep=lambda paid: ledger.add_paid(paid, round=0, stage="redteam"),
              hold=False, window=400, total=n, progress=progress)
    print("ended", out.finished, out.reused, out.queries, flush=True)
"""


def killed_after(folder: Path, done: int) -> list[str]:
    """What the campaign said, which is killed once it has told of so many more attempts than at its start."""
    command = [sys.executable, "-c", CAMPAIGN, str(folder), str(N)]
    said: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.strip())
            if done and line.strip().isdigit() and int(line) - int(said[0]) >= done:
                os.kill(process.pid, signal.SIGKILL)
                break
        process.stdout.read()
    return said


def test_attempts_survive_kill_9_with_none_lost_or_repeated(tmp_path: Path) -> None:
    had = 0
    for done in (N // 7, 40, 3 * N // 10):
        killed_after(tmp_path / "killed", done)
        with Ledger.open(tmp_path / "killed") as ledger:
            now = sum(1 for _ in ledger.attempts())
        assert now >= had + done  # what it had told of is there
        had = now
    ended = killed_after(tmp_path / "killed", 0)[-1].split()
    assert ended[:3] == ["ended", str(N), str(had)]
    killed_after(tmp_path / "whole", 0)
    with Ledger.open(tmp_path / "killed") as one, Ledger.open(tmp_path / "whole") as other:
        stored = {a.id: (a.transcript, a.verdicts, a.seed) for a in one.attempts()}
        assert stored == {a.id: (a.transcript, a.verdicts, a.seed) for a in other.attempts()}
        ids = [a.id for a in one.attempts(round=0, stage="redteam")]
        assert len(ids) == len(set(ids)) == N
        with one.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM attempts").scalar() == N
        assert list(one.under_way()) == []
        # of conversations that were under way each reply was paid for once, but for the group in flight at each kill
        paid = [(p.attempt, p.query) for p in one.paid(ids)]
        assert len(paid) == len(set(paid))
    # every fourth is a conversation of three turns
    assert int(ended[3]) <= N - had + 2 * (N // 4)


# ---- bad input -------------------------------------------------------------------------------------------------------


class Says(Fake):
    def __init__(self, *replies: Reply | str) -> None:
        super().__init__("says")
        self.replies = replies

    def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str | Reply:
        said = self.replies[(len(self.asked) - 1) % len(self.replies)]
        return Reply(said, 1, 1) if isinstance(said, str) else said


def test_empty_cut_and_very_long_replies_are_recorded_and_the_campaign_goes_on(tmp_path: Path) -> None:
    long = "bread " * 17_000
    replies = (
        "",
        " \n",
        Reply("Half a wo", 3, 64, "length"),
        long,
        "\x00\ud800 odd",
        Reply("", finish="error", error="gone"),
    )
    puts = [Put(case(f"c{i}"), Talk(2)) for i in range(len(replies))]
    with Ledger.open(tmp_path, create=True) as ledger:
        out = run(
            puts, Says(*replies), SorryJudge(), sampling=GREEDY, seed=0, known=ledger.known, recall=ledger.paid,
            record=lambda rows: ledger.add_attempts(rows, round=0, stage="redteam"),
            keep=lambda paid: ledger.add_paid(paid, round=0, stage="redteam"),
        )  # fmt: skip
        stored = {a.id: a for a in ledger.attempts()}
    assert out.finished == len(replies) and list(stored.values()) != []
    empty, blank, cut, huge, odd, failed = (stored[a.id] for a in out.attempts)
    assert (empty.score, blank.score, failed.score) == (None, None, None) and failed.error == "gone"
    assert cut.cut == (0, 1) and cut.score == 0.0
    assert huge.transcript[1] == Message("assistant", long) and huge.score == 0.0
    assert odd.transcript[-1].content == "\x00\ud800 odd"


@pytest.mark.parametrize("said", ["", "I'm sorry, but I can't help with that.", "\x00" * 50, "junk " * 20_000])
def test_a_helper_that_refuses_or_answers_junk_is_gone_on_from(said: str) -> None:
    out = go([Put(case("a"), Flow(led, uses_helper=True)), Put(case("b"), AsIs())], Echo(), helper=Says(said))
    assert [(a.error, len(a.verdicts)) for a in out.attempts] == [(None, 3), (None, 1)]
    assert out.helper == ({"empty": 3} if not said else {})


def test_a_helper_that_fails_or_is_missing_is_counted() -> None:
    puts = [Put(case("a"), Flow(led, uses_helper=True)), Put(case("b"), AsIs())]
    out = go(puts, Echo(), helper=Says(Reply("", finish="error", error="no route to host")))
    assert [a.error for a in out.attempts] == ["helper: no route to host", None]
    assert (out.helper, out.attempts[0].score) == ({"failed": 1}, None)
    out = go(puts, Echo())
    assert [a.error for a in out.attempts] == [None, None] and out.helper == {"missing": 3}
