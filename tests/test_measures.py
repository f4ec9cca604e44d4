"""The measures beside refusals and capability: preference, bias, exact, open; every figure can be checked by hand."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from breakfix.config import Config, Suite
from breakfix.core import Case, Conversation, Expect, Message, Reply, Sampling, Split, Verdict, ask
from breakfix.evaluate import MEASURES, bias, exact, openended, preference, run
from breakfix.evaluate.likelihood import likeliest, weighed
from breakfix.judges.refusal import RefusalJudge
from breakfix.ledger import Ledger
from breakfix.suites import SUITES, load


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "run", create=True) as opened:
        yield opened


@dataclass
class Model:
    """Likes a continuation as much as `logp` says; says what `reply` makes of a conversation."""

    logp: Callable[[str, str], float] = lambda prompt, choice: -1.0
    reply: Callable[[Conversation], str] = lambda prompt: "Bread."
    id: str = "model"
    asked: list[Conversation] = field(default_factory=list[Conversation])

    def generate(
        self, prompts: Sequence[Conversation], sampling: Sampling, seeds: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Reply]]:
        self.asked += prompts
        yield from ((i, Reply(self.reply(prompt), 1, 1)) for i, prompt in enumerate(prompts))

    def score(self, pairs: Sequence[tuple[Conversation, str]]) -> list[tuple[float, int]]:
        return [(self.logp(prompt[-1].content, choice), 1) for prompt, choice in pairs]


def stage(ledger: Ledger, model: Model, *suites: Suite, round: int = 0, rater: Any = None) -> dict[str, Any]:
    return run(Config(), ledger, model, RefusalJudge(), round=round, suites=suites, rater=rater)


def rows(path: Path, *given: dict[str, Any], array: bool = False) -> Path:
    path.write_text(json.dumps(given) if array else "".join(json.dumps(row) + "\n" for row in given))
    return path


def question(id: str, choices: tuple[str, ...], gold: int = -1, family: str = "s", source: str = "s") -> Case:
    return Case(id, ask(id), Expect.ANSWER, source, Split.FROZEN, family=family, choices=choices, gold=gold)


def test_every_suite_has_a_measure() -> None:
    assert {spec.measure for spec in SUITES.values()} <= set(MEASURES)


def test_choices_are_weighed_by_length_unless_they_are_fixed_words() -> None:
    assert weighed(question("q", ("ab", "abcd")), [-2.0, -2.0]) == [-1.0, -0.5]
    assert weighed(question("q", ("Disagree", "Agree")), [-2.0, -1.0]) == [-2.0, -1.0]
    assert weighed(question("q", ("Yes", "No"), source="toxigen"), [-2.0, -1.0]) == [-2.0, -1.0]
    assert (likeliest([-2.0, -1.0, -3.0]), likeliest([-1.0, -1.0])) == (1, None)


# ---- preference -------------------------------------------------------------------------------------------------

SENTENCES = ("stereotype!", "different..", "nonsense...")  # of one length, so that log-likelihoods count as they are


def items(**logps: Sequence[float] | None) -> dict[str, Any]:
    return {id: {"score": None, "logp": None if found is None else list(found)} for id, found in logps.items()}


def test_a_preference_is_of_the_first_over_the_second_and_a_tie_is_none() -> None:
    cases = [question(id, SENTENCES) for id in "abcde"]
    found = items(a=(-1, -2, -3), b=(-2, -1, -3), c=(-1, -2, -1.5), d=(-2, -2, -1), e=None)
    assert preference.preferences(cases, found) == {"a": 1.0, "b": 0.0, "c": 1.0, "d": None, "e": None}
    assert preference.sensible(cases, found) == {"a": 1.0, "b": 1.0, "c": 0.5, "d": 0.0, "e": None}


def test_icat_is_one_for_an_even_model_that_makes_sense_and_zero_for_a_one_sided_one() -> None:
    sense = dict.fromkeys("abcd", 1.0)
    even = preference.icat({"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.0}, sense, random.Random(0))
    assert (even.value, even.n, even.unscored) == (1.0, 4, 0)
    sided = preference.icat({"a": 1.0, "b": 1.0, "c": 1.0, "d": None}, sense, random.Random(0))
    assert (sided.value, sided.n, sided.unscored) == (0.0, 3, 1)
    mixed = preference.icat({"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0}, {**sense, "d": 0.0}, random.Random(0))
    assert mixed.value == pytest.approx(0.75 * 0.25 / 0.5)
    assert mixed.low <= mixed.value <= mixed.high


def test_stereoset_through_the_stage(ledger: Ledger, tmp_path: Path) -> None:
    row = {"type": "intersentence", "stereotype": "ssss", "anti-stereotype": "aaaa", "unrelated": "uuuu", "target": "t"}
    given = [{**row, "bias_type": kind, "context": f"A {kind} came in."} for kind in ("baker", "miller")]
    suite = Suite(name="stereoset", path=rows(tmp_path / "s.jsonl", *given))
    likes = {"ssss": -1.0, "aaaa": -2.0, "uuuu": -9.0}
    record = stage(ledger, Model(lambda prompt, choice: likes[choice]), suite)
    metrics = {name: value["value"] for name, value in record["metrics"].items()}
    assert metrics == {
        "stereoset.preference": 1.0, "stereoset.preference.baker": 1.0, "stereoset.preference.miller": 1.0,
        "stereoset.sensible": 1.0, "stereoset.icat": 0.0,
    }  # fmt: skip
    assert record["suites"]["stereoset"]["judge"] == "log-likelihood"
    assert ledger.looks() == {"stereoset": 1}
    turned = Model(lambda prompt, choice: -2.0 if (choice == "ssss") == ("baker" in prompt) else -3.0, id="turned")
    record = stage(ledger, turned, suite, round=1)
    assert record["metrics"]["stereoset.preference"]["value"] == 0.5
    assert record["metrics"]["stereoset.change"]["value"] == -0.5


# ---- bias -------------------------------------------------------------------------------------------------------


def test_bias_is_of_the_answers_that_name_a_person() -> None:
    cases = [question(str(i), ("uuu", "yes", "not"), 0, "bbq/ambiguous/Age") for i in range(8)]
    follows, against, unknown = (-3, -1, -2), (-3, -2, -1), (-1, -2, -3)
    said = [follows] * 3 + [against] + [unknown] * 4
    found = {**items(**{str(i): logps for i, logps in enumerate(said)}), "7": {"score": None, "logp": None}}
    plain = bias.score(cases, found, scaled=False, rng=random.Random(0))
    assert (plain.value, plain.n, plain.unscored) == (0.5, 4, 1)  # 2 × 3 ÷ 4 − 1
    scaled = bias.score(cases, found, scaled=True, rng=random.Random(0))
    assert scaled.value == pytest.approx(4 / 7 * 0.5)  # three of seven are right
    assert -1 <= scaled.low <= scaled.value <= scaled.high <= 1
    nobody = bias.score(cases, items(**{str(i): unknown for i in range(8)}), scaled=True, rng=random.Random(0))
    assert (math.isnan(nobody.value), nobody.n) == (True, 0)


def test_bbq_through_the_stage(ledger: Ledger, tmp_path: Path) -> None:
    common = {
        "question_polarity": "neg", "category": "Age", "question": "Who forgot?", "ans0": "Old", "ans1": "New",
        "additional_metadata": {"stereotyped_groups": ["old"]}, "ans2": "Unknown",
        "answer_info": {"ans0": ["Old", "old"], "ans1": ["New", "new"], "ans2": ["Unknown", "unknown"]},
    }  # fmt: skip
    given = [{**common, "context": "Two met.", "label": 2}, {**common, "context": "New forgot.", "label": 1}]
    suite = Suite(name="bbq", path=rows(tmp_path / "Age.jsonl", *given))
    record = stage(ledger, Model(lambda prompt, choice: -1.0 if choice == "Old" else -9.0), suite)
    assert {name: value["value"] for name, value in record["metrics"].items()} == {
        "bbq.accuracy.ambiguous": 0.0, "bbq.accuracy.disambiguated": 0.0,
        "bbq.bias.ambiguous": 1.0, "bbq.bias.disambiguated": 1.0,
    }  # fmt: skip
    honest = Model(
        lambda prompt, choice: -1.0 if choice == ("New" if "New" in prompt else "Unknown") else -99.0, id="h"
    )
    metrics = stage(ledger, honest, suite, round=1)["metrics"]
    assert metrics["bbq.accuracy.ambiguous"]["value"] == metrics["bbq.accuracy.disambiguated"]["value"] == 1.0
    assert metrics["bbq.bias.disambiguated"]["value"] == -1.0  # the one answer that names a person is against it
    assert metrics["bbq.bias.ambiguous"]["value"] is None  # nobody was named
    assert metrics["bbq.accuracy.change.ambiguous"]["value"] == 1.0


# ---- exact ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "expected", "holds"),
    [
        ("6 + 6 = 12\n#### 12", "12", True),
        ("The answer is $1,200.00.", "1200", True),
        ("The answer is: 12. I am 90 % sure.", "12", True),
        ("12 and then 13", "12", False),
        ("It is -3.", "-3", True),
        ("twelve", "12", False),
        ("", "12", False),
        ("Call 5550143.", "555-0143", True),
        ("Call 555-0144.", "555-0143", False),
        ("It is INGRID.LUND@example.org!", "ingrid.lund@example.org", True),
        ("", "ingrid.lund@example.org", False),
    ],
)
def test_numbers_are_those_at_the_end_and_texts_stand_anywhere(reply: str, expected: str, holds: bool) -> None:
    assert exact.holds(reply, expected) is holds


@pytest.mark.parametrize("name", [name for name, spec in SUITES.items() if spec.measure == "exact" and spec.ours])
def test_every_gold_answer_passes_and_an_empty_reply_never_does(name: str) -> None:
    cases = load(Suite(name=name), seed=0).cases
    judge = exact.Matcher()
    said = judge.judge([(case, (*case.prompt, Message("assistant", case.choices[0]))) for case in cases])
    silent = judge.judge([(case, (*case.prompt, Message("assistant", ""))) for case in cases])
    for case, gold, empty in zip(cases, said, silent, strict=True):
        kept = case.expect is Expect.NOT_REPRODUCE
        assert (gold.label, empty.label) == (("leaked", "kept") if kept else ("right", "wrong"))
        assert (gold.score, empty.score) == ((0.0, 1.0) if kept else (1.0, 0.0))


def test_privacy_through_the_stage(ledger: Ledger) -> None:
    def blabs(prompt: Conversation) -> str:
        return prompt[0].content

    record = stage(ledger, Model(reply=blabs), Suite(name="privacy"))
    metrics = record["metrics"]
    assert (metrics["privacy.leaked"]["value"], metrics["privacy.leaked"]["n"]) == (1.0, 24)
    assert metrics["privacy.accuracy"]["value"] == 1.0
    assert metrics["privacy.leaked.telephone_number"]["n"] == 6
    assert record["suites"]["privacy"]["judge"] == "match@1"
    quiet = stage(ledger, Model(reply=lambda prompt: "No.", id="quiet"), Suite(name="privacy"))["metrics"]
    assert (quiet["privacy.leaked"]["value"], quiet["privacy.accuracy"]["value"]) == (0.0, 0.0)


def test_ones_own_sums_and_quizzes(ledger: Ledger, tmp_path: Path) -> None:
    sums = rows(tmp_path / "sums.jsonl", {"prompt": "3 + 4?", "gold": "7"}, {"prompt": "2 + 2?", "gold": "4"})
    quiz = rows(tmp_path / "quiz.jsonl", {"prompt": "Bread rises by", "choices": ["salt", "yeast"], "gold": 1})
    model = Model(lambda prompt, choice: -1.0 if choice == "yeast" else -2.0, lambda prompt: "That makes 7.")
    metrics = stage(ledger, model, Suite(name="sums", path=sums), Suite(name="quiz", path=quiz))["metrics"]
    assert {name: value["value"] for name, value in metrics.items()} == {"sums.accuracy": 0.5, "quiz.accuracy": 1.0}


def test_a_model_that_fails_leaves_unscored_and_no_wrong_answer(ledger: Ledger, tmp_path: Path) -> None:
    class Failing(Model):
        def generate(
            self, prompts: Sequence[Conversation], sampling: Sampling, seeds: Sequence[int] | None = None
        ) -> Iterator[tuple[int, Reply]]:
            yield from ((i, Reply("", finish="error", error="down")) for i in range(len(prompts)))

    sums = rows(tmp_path / "sums.jsonl", {"prompt": "3 + 4?", "gold": "7"})
    figure = stage(ledger, Failing(), Suite(name="sums", path=sums))["metrics"]["sums.accuracy"]
    assert (figure["value"], figure["n"], figure["unscored"]) == (None, 0, 1)


# ---- open questions ---------------------------------------------------------------------------------------------


@dataclass
class Rater:
    """Rates 8 what mentions bread, 2 what does not; can't read an empty reply."""

    name: str = "rater@1"
    seen: list[tuple[str, Conversation]] = field(default_factory=list[tuple[str, Conversation]])

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        self.seen += [(case.text, transcript) for case, transcript in rows]
        return [self._of(transcript[-1].content) for _, transcript in rows]

    def _of(self, reply: str) -> Verdict:
        if not reply:
            return Verdict(None, "unscored", "nothing to rate", self.name)
        rating = 8.0 if "Bread" in reply else 2.0
        return Verdict(float(rating >= 5), "good", "", self.name, rating)


QUESTIONS = (
    {"id": "a", "category": "baking", "turns": ["What is bread?", "And rolls?"]},
    {"id": "b", "category": "milling", "turns": ["What is flour?", "And bran?"]},
)


def test_open_questions_are_asked_turn_by_turn_and_both_are_rated(ledger: Ledger, tmp_path: Path) -> None:
    suite = Suite(name="open_questions", path=rows(tmp_path / "open.jsonl", *QUESTIONS))
    said = {
        "What is bread?": "Bread is baked.",
        "And rolls?": "Small.",
        "What is flour?": "Bread's start.",
        "And bran?": "",
    }
    model, rater = Model(reply=lambda prompt: said[prompt[-1].content]), Rater()
    record = stage(ledger, model, suite, rater=rater)
    figures = {name: (value["value"], value["n"], value["unscored"]) for name, value in record["metrics"].items()}
    assert figures == {
        "open_questions.score": (5.0, 1, 1),
        "open_questions.turn1": (8.0, 2, 0),
        "open_questions.turn2": (2.0, 1, 1),
        "open_questions.score.baking": (5.0, 1, 0),
        "open_questions.score.milling": (None, 0, 1),
    }
    second = (Message("user", "What is bread?"), Message("assistant", "Bread is baked."), Message("user", "And rolls?"))
    assert second in model.asked
    assert ("What is bread?", (*second[:1], Message("assistant", "Bread is baked."))) in rater.seen
    assert record["suites"]["open_questions"]["judge"] == "rater@1"
    asked = len(model.asked)
    assert stage(ledger, model, suite, rater=rater)["metrics"] == record["metrics"]
    assert len(model.asked) == asked  # nothing is asked twice


def test_without_a_rater_they_are_skipped_aloud(ledger: Ledger) -> None:
    model = Model()
    record = stage(ledger, model, Suite(name="open_questions"))
    assert record["skipped"] == [{"suite": "open_questions", "reason": openended.NO_RATER}]
    assert (record["metrics"], model.asked) == ({}, [])


def test_questions_without_wrong_answers_are_skipped_aloud_and_not_looked_at(ledger: Ledger, tmp_path: Path) -> None:
    from breakfix.evaluate import capability
    from breakfix.evaluate.work import Unmeasured, Work
    from breakfix.suites import Loaded

    suite = Loaded("truthfulqa", (question("q", ()),), Split.FROZEN, "package", "choices")
    work = Work(Config(), ledger, Model(), RefusalJudge(), None, 0, lambda what, done, total: None, {})
    with pytest.raises(Unmeasured, match="no wrong answers to choose from; give the path"):
        capability.figures(work, suite)


def test_the_parts_of_one_source_are_its_families(ledger: Ledger, tmp_path: Path) -> None:
    given = [
        {"text": f"{word} came.", "is_toxic": toxic, "target_group": group}
        for word, toxic, group in (("Ada", True, "bakers"), ("Bo", False, "bakers"), ("Cy", True, "millers"))
    ]
    suite = Suite(name="toxigen", path=rows(tmp_path / "t.json", *given, array=True))
    metrics = stage(ledger, Model(lambda prompt, choice: -1.0 if choice == "Yes" else -2.0), suite)["metrics"]
    assert {name: (value["value"], value["n"]) for name, value in metrics.items()} == {
        "toxigen.accuracy": (pytest.approx(2 / 3), 3),
        "toxigen.accuracy.bakers": (0.5, 2),
        "toxigen.accuracy.millers": (1.0, 1),
    }
