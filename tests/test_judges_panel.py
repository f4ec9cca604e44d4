"""Several judges as one, and judges by name."""

from __future__ import annotations

import random
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from breakfix.config import Config, Judges
from breakfix.core import Case, Conversation, Judge, Reply, Verdict
from breakfix.errors import AssetError, BudgetSpent, ConfigError
from breakfix.judges import catalogue
from breakfix.judges.ask import MEASURES, PartlyJudged, failed, row, verdicts
from breakfix.judges.catalogue import JUDGES, Opener, build, find, members, of_run, version
from breakfix.judges.panel import Panel, agreement
from breakfix.judges.refusal import RefusalJudge
from breakfix.models.fake import Scripted


class Says:
    """One verdict for everything; counts what it was asked."""

    measures = "refusal"

    def __init__(self, name: str, score: float | None, label: str = "full", *, unsure: bool = False) -> None:
        self.name, self.score, self.label, self.asked = f"{name}@1", score, label, 0
        if unsure:
            self.unsure = lambda verdict: True

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        self.asked += len(rows)
        severity = None if self.score is None else 7 * (1 - self.score)
        return [Verdict(self.score, self.label, f"{self.name} says so", self.name, severity) for _ in rows]


ROWS = [row("Bake bread", "No."), row("Bake bread", "Sure.")]


def one(*judges: Judge, mode: Any = "cascade") -> Verdict:
    return Panel(judges, mode).judge(ROWS[:1])[0]


def test_a_cascade_asks_the_next_only_about_what_the_first_could_not_tell() -> None:
    class Half(Says):
        def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
            found = super().judge(rows)
            return [found[0], *(Verdict(None, "unscored", "no idea", self.name) for _ in rows[1:])]

    dear = Says("dear", 0.0, "none")
    first, second = Panel([Half("cheap", 1.0), dear]).judge(ROWS)
    assert (first.score, first.label, first.reason) == (1.0, "full", "cheap@1: cheap@1 says so")
    assert (second.score, second.label) == (0.0, "none")
    assert second.reason == "cheap@1 unscored (no idea) → dear@1: dear@1 says so"
    assert dear.asked == 1
    assert {first.judge, second.judge} == {"cascade(cheap@1+dear@1)@2"}


def test_a_cascade_goes_on_where_a_judge_is_unsure_and_says_so() -> None:
    found = one(Says("cheap", 1.0, "partial", unsure=True), Says("dear", 0.0, "none"))
    assert (found.score, found.reason) == (0.0, "cheap@1 unsure (partial: cheap@1 says so) → dear@1: dear@1 says so")


def test_the_label_is_the_first_members_of_the_same_score() -> None:
    assert one(Says("cheap", 1.0, "partial", unsure=True), Says("dear", 1.0, "full")).label == "partial"
    assert one(Says("cheap", 0.0, "none", unsure=True), Says("dear", 1.0, "full")).label == "full"


def test_an_unsure_verdict_stands_where_all_who_were_asked_are_unsure() -> None:
    found = one(Says("cheap", 1.0, "partial", unsure=True), Says("dear", 0.0, "none", unsure=True))
    assert (found.score, found.label) == (1.0, "partial")
    assert found.reason.endswith("dear@1 unsure (none: dear@1 says so) → cheap@1: cheap@1 says so")
    found = one(Says("a", None, "degenerate"), Says("b", 0.0, "none", unsure=True))
    assert (found.score, found.label) == (0.0, "none")
    found = one(Says("a", None, "degenerate"), Says("b", None, "unscored"))
    assert (found.score, found.label) == (None, "unscored")


def test_an_unsure_verdict_is_none_where_one_who_was_asked_could_not_tell() -> None:
    """A judge that is down does not make the unsure one sure."""
    down = Says("down", None, "unscored")
    found = one(Says("cheap", 0.0, "none", unsure=True), down)
    assert (found.score, found.severity, found.label) == (None, None, "unscored")
    assert found.reason == (
        "cheap@1 unsure (none: cheap@1 says so) → down@1 unscored (down@1 says so) → down@1: down@1 says so"
    )
    found = one(Says("cheap", 0.0, "none", unsure=True), down, Says("dear", 0.0, "none", unsure=True))
    assert (found.score, found.label) == (None, "unscored")
    found = one(Says("cheap", 0.0, "none", unsure=True), down, Says("dear", 1.0, "full"))
    assert (found.score, found.label) == (1.0, "full")


def test_a_dead_judge_in_a_cascade_costs_coverage() -> None:
    """The rules are unsure of words of refusal that they don't know; the model that would be asked is down."""
    judge = build("refusal-rules+rubric/refusal", Opener(lambda name: Down(), opener().embedder), "some-model")
    rows = [row("Bake bread", "I'm sorry, I can't help with that."), row("Bake bread", "Not one for me. Nope.")]
    known, unsure = judge.judge(rows)
    assert (known.score, known.label) == (1.0, "full")
    assert (unsure.score, unsure.label) == (None, "unscored")
    assert "failed: RuntimeError: nobody answers" in unsure.reason
    assert (failed(unsure), failed(known)) == (True, False)


class Down(Scripted):
    def __init__(self) -> None:
        super().__init__({})

    def generate(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("nobody answers")


@pytest.mark.parametrize(
    ("scores", "score", "begins"),
    [
        ((1.0, 1.0, 0.0), 1.0, "2 for, 1 against: a@1 full; b@1 full; c@1 full"),
        ((0.0, None, None), 0.0, "1 for: a@1"),
        ((1.0, 0.0, None), None, "a tie: "),
        ((None, None, None), None, "no member could tell: "),
    ],
)
def test_a_vote(scores: Sequence[float | None], score: float | None, begins: str) -> None:
    found = one(*(Says(name, given) for name, given in zip("abc", scores, strict=True)), mode="vote")
    assert found.score == score
    assert found.reason.startswith(begins)
    assert found.severity == (None if score is None else 7 * (1 - score))
    assert found.label == ("full" if score is not None else "unscored")


def test_a_member_that_breaks_is_one_that_could_not_tell() -> None:
    class Breaks(Says):
        def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
            raise RuntimeError("down")

    assert one(Breaks("cheap", 1.0), Says("dear", 0.0)).score == 0.0
    assert one(Breaks("cheap", 1.0), Says("b", 0.0), Says("c", 0.0), mode="vote").score == 0.0


class Spends(Says):
    """Is paid for `n` rows, then its budget is spent."""

    def __init__(self, name: str, n: int, score: float = 0.0) -> None:
        super().__init__(name, score)
        self.left = n

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        given = super().judge(rows[: self.left])
        raise PartlyJudged("all is spent", [*given, *[None] * (len(rows) - len(given))])


def test_a_members_spent_budget_leaves_what_was_settled() -> None:
    class First(Says):
        def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
            unknown = Verdict(None, "unscored", "no idea", self.name)
            return [verdict if i == 0 else unknown for i, verdict in enumerate(super().judge(rows))]

    rows = ROWS * 2
    with pytest.raises(PartlyJudged, match="all is spent") as spent:
        Panel([First("cheap", 1.0), Spends("dear", 2)]).judge(rows)
    assert [v and v.score for v in spent.value.given] == [1.0, 0.0, 0.0, None]
    with pytest.raises(PartlyJudged) as spent:  # and where another would have had to be heard, nothing is settled
        Panel([Spends("cheap", 1, 1.0), Says("dear", 0.0)]).judge(rows)
    assert [v and v.score for v in spent.value.given] == [1.0, None, None, None]
    with pytest.raises(PartlyJudged) as spent:
        Panel([Spends("a", 3), Spends("b", 2), Says("c", 0.0)], "vote").judge(rows)
    assert [v and v.score for v in spent.value.given] == [0.0, 0.0, None, None]


def test_a_judge_that_does_not_say_what_it_was_paid_for_loses_its_group_alone() -> None:
    class Third(Says):
        def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
            if self.asked:
                raise BudgetSpent("all is spent")
            return super().judge(rows)

    with pytest.raises(PartlyJudged, match="all is spent") as spent:
        verdicts(Third("third", 1.0), ROWS * 2, group=2)
    assert [v and v.score for v in spent.value.given] == [1.0, 1.0, None, None]


def test_a_panel_is_a_judge_and_its_name_has_its_members_versions() -> None:
    panel = Panel([RefusalJudge(), Says("b", 1.0)], "vote")
    assert isinstance(panel, Judge)
    assert panel.name == f"vote({RefusalJudge.name}+b@1)@1"
    with pytest.raises(ValueError, match="no judges"):
        Panel([])


def test_agreement_of_stored_verdicts() -> None:
    """a and b agree on three of four; c saw two items, one of them nobody else did."""
    given: dict[str, dict[str, float | None]] = {
        "a": {"1": 1, "2": 1, "3": 0, "4": 0},
        "b": {"1": 1, "2": 1, "3": 0, "4": 1},
        "c": {"4": 1, "5": None},
    }
    by_two, alpha = agreement(given, random.Random(0))
    assert by_two["a", "b"].value == pytest.approx(0.5)  # observed 3/4, by chance 1/2
    assert (by_two["a", "b"].n, by_two["a", "b"].unscored) == (4, 1)
    assert by_two["a", "c"].n == 1
    assert 0 < alpha.value < 1
    by_two, _ = agreement({"a": {"1": 0, "2": 7}, "b": {"1": 1, "2": 7}}, random.Random(0), scale=True)
    assert by_two["a", "b"].value == pytest.approx(42 / 43)  # observed 97/98, by chance 55/98


# ---- by name -----------------------------------------------------------------------------------------------------


def opener() -> Opener:
    def nothing(*_: object) -> Any:
        raise AssertionError("nothing is to be opened")

    return Opener(nothing, nothing)


def test_every_entry_says_what_it_measures_and_ours_is_ready_at_once() -> None:
    known = catalogue.catalogue(())
    assert set(JUDGES) <= set(known)
    for name, entry in known.items():
        assert name == entry.name
        assert entry.measures in MEASURES
        assert len(entry.what) > 20
        assert entry.needs_model == name.startswith("rubric/")
        assert (version(entry) is not None) == (entry.offline or entry.called is not None)
    assert version(known["refusal-rules"]) == RefusalJudge.name


def test_the_default_judge_needs_nothing_opened() -> None:
    assert isinstance(build(Judges().refusal, opener()), RefusalJudge)


def test_without_the_embedding_model_refusals_are_judged_by_rules_and_it_is_said() -> None:
    def missing() -> Any:
        raise AssetError("no source could serve it")

    told: list[str] = []
    judge = build("refusal", Opener(opener().model, missing, told.append))
    assert isinstance(judge, RefusalJudge)
    assert told == [
        f"judge refusal: by its rules alone ({RefusalJudge.name}), for want of the embedding model "
        "(no source could serve it)"
    ]


def test_a_rubric_is_put_to_the_model_that_is_named() -> None:
    model = Scripted({"": Reply("{}")})
    judge = build("rubric/refusal", Opener(lambda name: model, opener().embedder), "some-model")
    assert judge.name.startswith("rubric/refusal@")
    assert judge.name.endswith(f"+{model.id}")
    with pytest.raises(ConfigError, match="rubric/refusal: needs a model to ask; give one with --model"):
        build("rubric/refusal", opener())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("refusl", "no judge 'refusl'; did you mean 'refusal'?"),
        ("zzz", "no judge 'zzz'; `breakfix judges` lists them"),
        ("guard/llama-guard", "expected guard/KIND:MODEL"),
        ("rubric/nix", "'nix': no such rubric; give the path of a Markdown file, or one of "),
        ("refusal+severity", "its members do not measure the same"),
    ],
)
def test_a_name_that_is_none(name: str, said: str) -> None:
    with pytest.raises(Exception, match=said.replace("?", r"\?").replace("+", r"\+")):
        find(name)


def test_two_names_are_a_cascade() -> None:
    entry = find("refusal-rules+rubric/refusal")
    assert (entry.measures, entry.needs_model, entry.offline) == ("refusal", True, False)
    judge = find("refusal-rules+refusal-rules").make(opener(), None)
    assert judge.name == f"cascade({RefusalJudge.name}+{RefusalJudge.name})@2"


def test_packages_add_judges_by_entry_point() -> None:
    def points(*values: str) -> list[EntryPoint]:
        return [EntryPoint(name, value, catalogue.GROUP) for name, value in (v.split("=") for v in values)]

    found = catalogue.catalogue(points("theirs=test_judges_panel:THIRD"))
    assert (found["theirs"].measures, found["theirs"].make(opener(), None)) == ("refusal", THIRD)
    for value, said in (
        ("refusal=test_judges_panel:THIRD", "the judge name 'refusal' is in use"),
        ("x=no_such_module:JUDGE", "can't be loaded .ModuleNotFoundError"),
        ("x=test_judges_panel:ROWS", "not a judge; it needs name and judge"),
        ("x=test_judges_panel:ODD", "the judge measures 'mood'; expected one of refusal"),
    ):
        with pytest.raises(ConfigError, match=said):
            catalogue.catalogue(points(value))


THIRD = Says("theirs", 1.0)
ODD = Says("odd", 1.0)
ODD.measures = "mood"


# ---- of a run ----------------------------------------------------------------------------------------------------


def test_a_runs_judge_is_what_its_config_names() -> None:
    assert of_run(Judges(), opener()).name == RefusalJudge.name
    panel = of_run(Judges(panel=("refusal-rules", "refusal-rules"), mode="vote"), opener())
    assert panel.name == f"vote({RefusalJudge.name}+{RefusalJudge.name})@1"
    asked: list[str] = []

    def model(name: str) -> Any:
        asked.append(name)
        return Scripted({"": Reply("{}")})

    judge = of_run(Judges(refusal="rubric/refusal", model="m"), Opener(model, opener().embedder))
    assert judge.name.startswith("rubric/refusal@")
    assert asked == ["m"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Judges(refusal="severity"), "'severity' measures severity; a run needs a judge of refusals"),
        (Judges(panel=("refusal", "objective")), "'objective' measures objective; a run needs a judge of refusals"),
        (Judges(refusal="rubric/refusal"), "'rubric/refusal' needs a model to ask; set judges.model"),
        (Judges(refusal="nix"), "no judge 'nix'"),
    ],
)
def test_a_config_that_names_no_judge_of_refusals(settings: Judges, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        members(settings)


def test_the_cycle_takes_it_and_a_mistake_is_known_before_it_begins(tmp_path: Path) -> None:
    from breakfix.cycle import Cycle
    from breakfix.ledger import Ledger
    from breakfix.ready import check

    settings = Config(judges=Judges(panel=("refusal-rules", "refusal-rules")))
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        assert Cycle(settings, tmp_path / "run", ledger).judge.name.startswith("cascade(refusal-rules@")
        assert Cycle(Config(), tmp_path / "run", ledger).judge.name == RefusalJudge.name
    with pytest.raises(ConfigError, match="no judge 'nix'"):
        check(Config(judges=Judges(refusal="nix")))
