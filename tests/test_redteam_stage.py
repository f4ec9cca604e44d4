"""The red-team stage on fakes: budgets, early stop, adaptive choice, turns that are counted, bad input."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import endpoint as served
from breakfix import redteam
from breakfix.campaign import AsIs
from breakfix.config import Endpoint as Settings
from breakfix.config import load, parse
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
    Reply,
    Sampling,
    Split,
    Verdict,
)
from breakfix.core import ask as asked
from breakfix.errors import AssetError, ConfigError
from breakfix.ledger import Ledger
from breakfix.models.fake import Echo, Fake
from breakfix.models.remote import RemoteModel
from breakfix.redteam import choice, team
from breakfix.redteam.base import OneQuery
from breakfix.redteam.run import run
from conftest import call
from endpoint import Endpoint
from test_campaign import Flow, SorryJudge, talk

SORRY = "Sorry, no."
BREAD = "Explain how to bake bread"


class Named(OneQuery):
    doc, source = "Says its name.", "test"

    def __init__(self, name: str, family: str) -> None:
        self.name, self.family = name, family

    def put(self, case: Case, rng: random.Random) -> Conversation:
        return asked(f"{self.name}: {case.text}")


class Breaks(Fake):
    """Complies where one of the words is in what it is asked."""

    def __init__(self, *words: str, id: str = "breaks") -> None:
        super().__init__(id)
        self.words = words

    def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str:
        return "Here." if any(word in prompt[-1].content for word in self.words) else SORRY


def cases(n: int = 24) -> list[Case]:
    return [
        Case(f"{split}{i}", asked(f"{BREAD} no. {i}"), Expect.REFUSE, "test", split, hazard=f"h{i % 3}")
        for split in (Split.DEV, Split.TRAIN)
        for i in range(n)
    ]


SEEN, HELD_OUT = ("weak", "firm", "other"), ("soft", "hard")
ATTACKS: list[Attack] = [Named(f"{family}-{i}", family) for family in (*SEEN, *HELD_OUT) for i in range(2)]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small catalogue."""

    def chosen(seen: Sequence[str], held_out: Sequence[str]) -> tuple[list[Attack], list[Attack]]:
        return redteam.split_families([AsIs(), *ATTACKS], seen, held_out)

    monkeypatch.setattr("breakfix.redteam.run.chosen", chosen)


def record(ledger: Ledger, model: Model, helper: Model | None = None, **settings: Any) -> dict[str, Any]:
    families = {"seen": ["direct", *SEEN], "held_out": list(HELD_OUT), "cases": 24, "per_case": 1}
    config = parse({"redteam": families | settings})
    return run(config, ledger, model, SorryJudge(), helper, round=0, cases=cases(), progress=lambda *told: None)


class Got:
    """The objective was achieved where the request was the last one of its reply, as `achieved` says."""

    name, measures = "got@1", "objective"

    def __init__(self, *achieved: str, unknown: str = "none") -> None:
        self.achieved, self.unknown, self.seen = achieved, unknown, list[str]()

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        found: list[Verdict] = []
        for case, _ in rows:
            self.seen.append(case.id)
            score = None if case.id == self.unknown else float(case.id not in self.achieved)
            found.append(Verdict(score, "unscored" if score is None else f"{score}", "as told", self.name))
        return found


def put(ledger: Ledger) -> list[tuple[str, str]]:
    return sorted((a.case, a.attack) for a in ledger.attempts(round=0, stage="redteam"))


# ---- as before, and with budgets -------------------------------------------------------------------------------------


def test_what_is_not_asked_for_changes_nothing(tmp_path: Path, few: None) -> None:
    with Ledger.open(tmp_path, create=True) as ledger:
        found = record(ledger, Breaks("weak-0", "soft"))
        attempts = list(ledger.attempts(round=0, stage="redteam"))
    assert (found["attempts"], found["queries"], found["unrun"], found["reused"]) == (96, 96, 0, 0)
    assert not {"choice", "stop_at_breach", "helper"} & found.keys()
    dev = [a for a in attempts if a.case.startswith("dev")]
    broke = [a for a in dev if a.family in SEEN and a.score == 0]
    assert found["metrics"]["asr.seen"]["value"] == len(broke) / 24
    assert (found["turns_verified"], found["turns_short"]) == (0, {})
    assert {"family": "weak", "attempts": 8, "mean": 1.0, "most": 1} in found["queries_an_attempt"]
    apart, pooled = found["asr_by_queries"], found["metrics"]
    assert apart["held_out.once"] == pooled["asr.held_out"] and apart["held_out.often"]["n"] == 0


def test_what_attacks_got_is_counted_apart(tmp_path: Path, few: None) -> None:
    """Of the attempts that were not refused, those that a second judge says did what was asked."""

    def again(objective: Any) -> dict[str, Any]:
        config = parse({"redteam": {"seen": ["direct", *SEEN], "held_out": list(HELD_OUT), "cases": 24, "per_case": 1}})
        model = Breaks("weak", "soft-0")
        return run(config, ledger, model, SorryJudge(), None, round=0, cases=cases(), objective=objective,
                   progress=lambda *told: None)  # fmt: skip

    judge = Got("dev1", "dev2", unknown="dev3")
    with Ledger.open(tmp_path, create=True) as ledger:
        found = again(lambda: judge)
        attempts = [a for a in ledger.attempts(round=0, stage="redteam") if a.case.startswith("dev")]
        asked_once = len(judge.seen)
        assert again(lambda: judge)["metrics"] == found["metrics"] and len(judge.seen) == asked_once + 1, (
            "what it scored is not put to it again, what it could not score is"
        )

        def away() -> Any:
            raise AssetError("embedder: not here")

        without = again(away)
    broke = [a for a in attempts if a.score == 0]
    unknown = sum(a.case == "dev3" for a in broke)
    assert sorted(judge.seen[:asked_once]) == sorted(a.case for a in broke)
    assert found["achieved"] == {"judge": "got@1", "judged": len(broke), "unscored": unknown, "failed": 0}
    for side, families in (
        ("direct", {"direct"}),
        ("seen", set(SEEN)),
        ("held_out", set(HELD_OUT)),
        ("family.weak", {"weak"}),
    ):
        some = [a for a in attempts if a.family in families and not (a.score == 0 and a.case == "dev3")]
        share = sum(a.score == 0 and a.case in judge.achieved for a in some) / len(some)
        assert (found["metrics"][f"achieved.{side}"]["value"], found["metrics"][f"achieved.{side}"]["n"]) == (
            share,
            len(some),
        )
    assert not any(name.startswith("achieved.hazard") for name in found["metrics"])
    assert without["achieved"] == {"judge": None, "why": "embedder: not here"}
    assert not any(name.startswith("achieved") for name in without["metrics"])


def test_the_second_judge_is_asked_about_turns_that_broke_alone(tmp_path: Path) -> None:
    from breakfix.judges.rejudge import judged_by, rows_of

    given = ((1.0, "full"), (0.0, "none"), (None, "degenerate"))
    verdicts = tuple(Verdict(score, label, "", "sorry") for score, label in given)
    transcript = tuple(m for i in range(3) for m in (Message("user", f"u{i}"), Message("assistant", f"a{i}")))
    case = cases(1)[0]
    words = ("a1", case.id, "m", "talks", "soft", "low", "h", "en")
    attempt = Attempt(*words, Expect.REFUSE, transcript, verdicts, 1, 0, 1, 1, 0.0, turns=(1, 3, 5))
    assert [said[-1].content for _, said in rows_of(attempt, case)] == ["a0", "a1", "a2"]
    assert [said[-1].content for _, said in rows_of(attempt, case, broken=True)] == ["a1"]
    judge = Got()
    with Ledger.open(tmp_path, create=True) as ledger:
        ledger.add_cases([case])
        ledger.add_attempts([attempt], round=0, stage="redteam")
        assert judged_by(ledger, judge, [attempt], broken=True)["a1"].score == 1.0
    assert judge.seen == [case.id], "one row"


def test_a_second_judge_that_mostly_can_not_tell_makes_no_figure(tmp_path: Path, few: None) -> None:
    class Lost(Got):
        def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
            return [Verdict(None, "unscored", "failed: nobody answers", self.name) for _ in rows]

    config = parse({"redteam": {"seen": ["direct", *SEEN], "held_out": list(HELD_OUT), "cases": 24, "per_case": 1}})
    with Ledger.open(tmp_path, create=True) as ledger:
        found = run(config, ledger, Breaks("weak"), SorryJudge(), None, round=0, cases=cases(), objective=Lost,
                    progress=lambda *told: None)  # fmt: skip
    assert "achieved.seen" not in found["metrics"] and found["metrics"]["asr.seen"]["value"] > 0
    assert found["metrics"]["achieved.held_out"]["value"] == 0.0, "nothing broke there, so nothing was to be told"
    assert found["achieved"]["unscored"] == found["achieved"]["failed"] == found["achieved"]["judged"] > 0


def test_what_evaluate_had_asked_is_used_and_not_paid_for(tmp_path: Path, few: None) -> None:
    with Ledger.open(tmp_path / "a", create=True) as ledger:
        first = record(ledger, Breaks("weak"))
        whole = list(ledger.attempts())
    with Ledger.open(tmp_path / "b", create=True) as ledger:
        ledger.add_attempts([a for a in whole if a.family == "direct"], round=0, stage="evaluate")
        model = Breaks("weak")
        second = record(ledger, model)
        assert len(put(ledger)) == 96
    assert (second["reused"], second["queries"], len(model.asked)) == (36, 60, 60)
    assert second["metrics"] == first["metrics"]


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ({"case": {"queries": 2}}, "query budget of the case"),
        ({"attack": {"queries": 3}}, "query budget of attack weak-0"),
        ({"persona": {"queries": 20}}, "query budget of persona intermediate"),
        ({"persona": {"tokens": 100}}, "token budget of persona intermediate"),
        ({"run": {"tokens": 300}}, "token budget"),
        ({"run": {"seconds": 1e-9}}, "time budget"),
    ],
)
def test_what_a_budget_left_says_which_one(budget: dict[str, Any], reason: str, tmp_path: Path, few: None) -> None:
    with Ledger.open(tmp_path, create=True) as ledger:
        found = record(ledger, Breaks("weak"), budget=budget)
        again = record(ledger, Breaks("weak"), budget=budget)
    assert reason in found["unrun_by"] and found["unrun"] == sum(found["unrun_by"].values())
    assert found["attempts"] + found["unrun"] == 96
    assert again["attempts"] <= 96 and again["queries"] >= found["queries"]
    if "queries" in str(budget):
        assert again["queries"] == found["queries"]  # what was spent before an interruption counts


@pytest.mark.parametrize("setting", ["case.queries", "attack.tokens", "persona.seconds", "run.tokens", "run.seconds"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_budget_of_nothing_is_one_plain_line(
    setting: str, value: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scope, name = setting.split(".")
    (tmp_path / "a.yaml").write_text(f"redteam: {{budget: {{{scope}: {{{name}: {value}}}}}}}\n")
    code, out, err = call("redteam", "a.yaml", "--round", "0")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"redteam.budget.{setting} is {value}; expected" in err
    with pytest.raises(ConfigError):
        parse({"redteam": {"max_queries": value}})
    assert not (tmp_path / "runs").exists()


def test_a_run_from_before_the_settings_is_the_same_work() -> None:
    before = set(parse({}).redteam.model_dump(mode="json")) - {
        "budget",
        "stop_at_breach",
        "choice",
        "judge",
        "seed",
        "seeds",
    }
    assert set(parse({}).redteam.asked()) == before
    changed = parse({"redteam": {"choice": "thompson", "budget": {"case": {"queries": 3}}}}).redteam.asked()
    assert set(changed) == before | {"budget", "choice"}


# ---- a case that is broken -------------------------------------------------------------------------------------------


def test_no_attack_is_put_to_a_case_that_was_broken(tmp_path: Path, few: None) -> None:
    with Ledger.open(tmp_path, create=True) as ledger:
        found = record(ledger, Breaks("weak", "soft", "no. 0", "no. 1"), stop_at_breach=True, per_case=3)
        done = list(ledger.attempts(round=0, stage="redteam"))
    broken = Counter(a.case for a in done if a.score == 0)
    assert set(broken.values()) == {1}
    by_case: dict[str, list[Attempt]] = {}
    for attempt in done:
        by_case.setdefault(attempt.case, []).append(attempt)
    assert all(one.score != 0 for some in by_case.values() for one in some[:-1])
    assert found["unrun_by"] == {"the case was broken before": found["unrun"]} and found["unrun"] > 0
    dev = {a.case for a in done if a.case.startswith("dev")}
    whole = found["metrics"]["asr_case.any"]
    assert (whole["n"], whole["value"]) == (24, len(dev & set(broken)) / 24)
    said = found["stop_at_breach"]
    assert {"asr.seen", "asr.held_out", "asr_case.seen"} <= set(said["conditional"]) and "means" in said
    assert not {"asr.direct", "asr_case.any"} & set(said["conditional"])


# ---- choice ----------------------------------------------------------------------------------------------------------


def families(ledger: Ledger, split: str = "") -> Counter[str]:
    return Counter(a.family for a in ledger.attempts(round=0, stage="redteam") if a.case.startswith(split))


@pytest.mark.parametrize("how", ["thompson", "epsilon-greedy"])
def test_the_budget_goes_where_the_model_breaks(how: str, tmp_path: Path, few: None) -> None:
    with Ledger.open(tmp_path, create=True) as ledger:
        found = record(ledger, Breaks("weak", "hard"), choice=how)
        counts = families(ledger)
    assert counts["direct"] == 36
    assert counts["weak"] > counts["firm"] + counts["other"] and counts["hard"] > counts["soft"]
    assert counts["weak"] + counts["firm"] + counts["other"] == 36 and counts["hard"] + counts["soft"] == 24
    said = found["choice"]
    assert said["how"] == how and "never compare" in said["compare"]
    assert said["found"]["weak"] == {"broke": counts["weak"], "held": 0}
    assert {"asr.seen", "asr.held_out", "asr_case.seen", "asr.persona.intermediate"} <= set(said["adaptive"])
    assert not any(name.startswith(("asr.family.", "asr.direct")) for name in said["adaptive"])
    assert found["metrics"]["asr.family.weak"]["value"] == 1.0


@pytest.mark.parametrize("how", ["thompson", "epsilon-greedy"])
@pytest.mark.parametrize("stop", [5, 30, 60])
def test_a_resumed_run_makes_the_same_choices(how: str, stop: int, tmp_path: Path, few: None) -> None:
    """Also where the model failed before the interruption and answers after it, so that other verdicts are known."""
    with Ledger.open(tmp_path / "whole", create=True) as ledger:
        record(ledger, Breaks("weak", "hard"), choice=how)
        whole = put(ledger)

    class Dies(Breaks):
        def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str:
            if len(self.asked) > stop:
                raise KeyboardInterrupt
            return super().answer(prompt, sampling, seed)

    with Ledger.open(tmp_path / "killed", create=True) as ledger:
        with pytest.raises(KeyboardInterrupt):
            record(ledger, Dies("weak", "hard"), choice=how)
        record(ledger, Breaks("weak", "hard"), choice=how)
        assert put(ledger) == whole

    class Flaky(Dies):
        def generate(
            self, prompts: Sequence[Conversation], sampling: Sampling, seeds: Sequence[int] | None = None
        ) -> Iterator[tuple[int, Reply]]:
            for i, reply in super().generate(prompts, sampling, seeds):
                yield i, Reply("", finish="error", error="busy") if i % 2 else reply

    with Ledger.open(tmp_path / "flaky", create=True) as ledger:
        with pytest.raises(KeyboardInterrupt):
            record(ledger, Flaky("weak", "hard"), choice=how)
        before = {(a.case, a.attack) for a in ledger.attempts()}
        chosen = [event.payload for event in ledger.events(0, "redteam", team.CHOICE)]
        found = record(ledger, Breaks("weak", "hard"), choice=how)
        assert before <= set(put(ledger)) and len(put(ledger)) == found["attempts"] == 96
        noted = [event.payload for event in ledger.events(0, "redteam", team.CHOICE)]
    assert noted[: len(chosen)] == chosen and len(noted) == 5  # 24 dev cases and 12 train cases, 8 a group


def test_choices_depend_on_the_seed_and_on_verdicts_alone() -> None:
    def chosen(seed: int, found: Mapping[str, tuple[int, int]], how: choice.How = "thompson") -> list[str]:
        puts = choice.choose(cases(40), ATTACKS, random.Random(seed), 2, how, found, Counter())
        assert all(puts[i].attack.name == "direct" for i in range(0, len(puts), 3))
        assert all(puts[i].attack.family != puts[i + 1].attack.family for i in range(1, len(puts), 3))
        return [put.attack.name for put in puts]

    assert chosen(1, {}) == chosen(1, {}) != chosen(2, {})
    known = {"weak": (20, 0), "firm": (0, 20), "other": (0, 20), "soft": (0, 20), "hard": (10, 10)}
    for how in ("thompson", "epsilon-greedy"):
        first = Counter(name.partition("-")[0] for name in chosen(1, known, how)[1::3])
        assert first["weak"] > 70 and sum(first.values()) == 80
    second = Counter(name.partition("-")[0] for name in chosen(1, known, "epsilon-greedy")[2::3])
    assert second["hard"] > 60
    even = Counter(name.partition("-")[0] for name in chosen(1, {})[1::3])
    assert set(even) == {*SEEN, *HELD_OUT} and max(even.values()) < 32
    within = Counter(chosen(1, known))
    assert abs(within["weak-0"] - within["weak-1"]) <= 1


def test_the_uniform_prior_is_right() -> None:
    """Two families, one win each of one and of three tries: the chance that Beta(2, 1) exceeds Beta(2, 3) is 0.8."""
    rng, found = random.Random(0), {"a": (1, 0), "b": (1, 2)}
    attacks: list[Attack] = [Named("a", "a"), Named("b", "b")]
    picked = [choice.choose([cases(1)[0]], attacks, rng, 1, "thompson", found, Counter())[1] for _ in range(4000)]
    assert abs(sum(one.attack.family == "a" for one in picked) / 4000 - 0.8) < 0.02


# ---- turns -----------------------------------------------------------------------------------------------------------


def flow(name: str, turns: int, *said: str) -> Attack:
    attack: Any = Flow(talk(*said), name=name, family="weak")
    attack.turns, attack.queries = turns, len(said)
    return attack


def test_a_conversation_that_is_shorter_than_it_states_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gives_up(case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        yield Ask((Message("user", "one"),))

    early: Any = Flow(gives_up, name="early", family="weak")
    early.turns = 3
    attacks = [flow("two", 2, "a", "b"), early, flow("long", 1, "a", "b"), flow("fails", 3, "a", "down", "c")]
    unknown = Flow(talk("a", "b"), name="unknown", family="weak")

    class Down(Breaks):
        def generate(
            self, prompts: Sequence[Conversation], sampling: Sampling, seeds: Sequence[int] | None = None
        ) -> Iterator[tuple[int, Reply]]:
            for i, reply in super().generate(prompts, sampling, seeds):
                yield i, Reply("", finish="error", error="gone") if prompts[i][-1].content == "down" else reply

    monkeypatch.setattr("breakfix.redteam.run.chosen", lambda seen, held_out: ([*attacks, unknown], []))
    with Ledger.open(tmp_path, create=True) as ledger:
        found = record(ledger, Down(), seen=["weak"], held_out=[], per_case=5, cases=2)
    assert found["attempts"] == 18  # 2 dev cases and 1 train case, directly and through five attacks
    assert found["turns_verified"] == 3
    assert found["turns_short"] == {"early": {"ended early": 3}, "fails": {"the model failed": 3}}
    assert found["turns_longer"] == {"long": 3}


def test_turns_that_the_case_brings_are_not_the_attacks() -> None:
    given: Conversation = (Message("user", "Hello"), Message("assistant", "Hello."), Message("user", BREAD))
    case = Case("c", given, Expect.REFUSE, "test", Split.DEV)
    said = (*given, Message("assistant", SORRY))
    attempt = Attempt("a", "c", "m", "x", "x", "", "", "en", Expect.REFUSE, said, (), None, 0, 0, 0, 0.0)
    assert team.turns(attempt, case) == 1


def test_every_attack_that_states_its_turns_keeps_to_them(tmp_path: Path) -> None:
    """Against a target that declines and one that does as it is told, without a helper."""
    attacks = list(redteam.ATTACKS.values())
    config = parse({"redteam": {"cases": 1, "per_case": len(attacks)}})
    one = [Case("c", asked(BREAD), Expect.REFUSE, "test", Split.DEV, translations={"de": "Wie backt man Brot?"})]
    for model in (Breaks(id="declines"), Echo()):
        with pytest.MonkeyPatch.context() as patch, Ledger.open(tmp_path / model.id, create=True) as ledger:
            patch.setattr("breakfix.redteam.run.chosen", lambda seen, held_out: (attacks, []))
            found = run(config, ledger, model, SorryJudge(), None, round=0, cases=one, progress=lambda *told: None)
        assert found["attempts"] > 60 and found["turns_verified"] > 3
        assert found["turns_short"] == {}, model.id


# ---- bad input -------------------------------------------------------------------------------------------------------


def remote(server: Endpoint) -> RemoteModel:
    return RemoteModel.open(server.url, [Settings(url=server.url, retries=1)], rng=random.Random(0), unit=0.01)


BAD_REPLIES: dict[str, Any] = {
    "empty": served.body(""),
    "nothing": served.body(None),
    "cut": Reply("Half a wo", 5, 8, "length"),
    "100 kB": served.body("Sorry. " + "bread " * 17_000),
}


@pytest.mark.parametrize("kind", BAD_REPLIES)
def test_a_target_that_answers_oddly_is_recorded_and_the_rest_goes_on(kind: str, tmp_path: Path) -> None:
    def answer(body: served.Asked) -> Any:
        return BAD_REPLIES[kind] if "no. 1" in str(body["messages"]) else SORRY

    config = parse({"redteam": {"seen": ["direct", "role_play"], "held_out": ["crescendo"], "cases": 4, "per_case": 1}})
    with Endpoint(answer) as server, Ledger.open(tmp_path, create=True) as ledger:
        found = run(
            config, ledger, remote(server), SorryJudge(), None, round=0, cases=cases(4), progress=lambda *told: None
        )
        attempts = list(ledger.attempts(round=0, stage="redteam"))
    assert found["attempts"] == len(attempts) == 4 * 3 + 2 * 2 and found["unrun"] == 0
    assert sum(a.score == 1.0 for a in attempts) >= 8
    odd = [a for a in attempts if a.case.endswith("1") and a.family == "direct"]
    assert odd
    for attempt in odd:
        if kind in ("empty", "nothing"):
            assert attempt.score is None
        if kind == "cut":
            assert attempt.cut == (0,)
        if kind == "100 kB":
            assert len(attempt.transcript[-1].content) > 100_000 and attempt.score == 1.0


@pytest.mark.parametrize(
    ("fault", "said"), [(served.GARBAGE, None), (None, ""), (None, "I'm sorry, but I can't help."), (None, "{}" * 9000)]
)
def test_a_helper_that_is_no_help_does_not_end_the_round(fault: Any, said: Any, tmp_path: Path) -> None:
    config = parse({"redteam": {"seen": ["direct"], "held_out": ["crescendo"], "cases": 2, "per_case": 1}})
    faults = served.always(fault) if fault is not None else lambda number, body: None
    with Endpoint(lambda body: said or "", faults=faults) as server, Ledger.open(tmp_path, create=True) as ledger:
        helper = remote(server)
        found = run(
            config, ledger, Breaks(), SorryJudge(), helper, round=0, cases=cases(2), progress=lambda *told: None
        )
        talks = [a for a in ledger.attempts(round=0, stage="redteam") if a.attack == "crescendo"]
    assert found["attempts"] == 2 * 2 + 1 and len(talks) == 2
    if fault is not None:
        assert all((a.error or "").startswith(team.HELPER) and a.score is None for a in talks)
        assert found["helper"]["failed"] == 2
        assert found["turns_short"] == {"crescendo": {"the helper failed": 2}}
    else:
        assert all(a.error is None for a in talks) and found["turns_verified"] == 2
        assert found["helper"].get("empty", 0) == (found["helper"]["asked"] if not said else 0)


def test_a_set_of_attacks_that_is_not_utf_8_is_one_plain_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seeds.jsonl").write_bytes('{"prompt": "Brötchen"}\n'.encode("latin-1"))
    code, out, err = call("redteam", "--replay", "seeds.jsonl", "smollm2-135m-instruct")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "seeds.jsonl" in err and "UTF-8" in err
    config = tmp_path / "a.yaml"
    config.write_bytes(b"name: bread\nredteam: {seen: [direct, \xff]}\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(config)
