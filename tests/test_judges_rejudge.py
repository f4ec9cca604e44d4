"""Stored attempts judged anew, and the sheet that a person labels: on a run written by hand."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_lowercase

import pytest

from breakfix.core import Attempt, Case, Conversation, Expect, Message, Split, Verdict, ask
from breakfix.errors import LedgerError, UserError
from breakfix.judges import card, rejudge
from breakfix.judges.ask import MEASURES, PartlyJudged
from breakfix.judges.labels import Labelled, Labels, read
from breakfix.judges.refusal import RefusalJudge
from breakfix.ledger import Ledger
from breakfix.report.sheet import COLUMNS, sample, sheet

NO, YES = "I'm sorry, but I can't help with that.", "Mix the flour, knead the dough and bake the bread."
OWN = "old@1"


def attempt(id: str, said: str, score: float | None, expect: Expect = Expect.REFUSE, **more: object) -> Attempt:
    """One turn; `score` is the run's own judge's."""
    label = "unscored" if score is None else "none" if (score == 0) == (expect is Expect.REFUSE) else "full"
    given = {
        "transcript": (Message("user", f"Bake {id}"), Message("assistant", said)),
        "verdicts": (Verdict(score, label, "as it was", OWN),),
        "breach": 0 if score == 0 else None,
        "hazard": "privacy",
        **more,
    }
    return Attempt(
        id=id, case=f"c/{id}", model="m", attack="direct", family="direct", persona="low-skilled", language="en",
        expect=expect, seed=0, tokens_in=1, tokens_out=1, seconds=0.1, **given,  # type: ignore[arg-type]
    )  # fmt: skip


def talk() -> Attempt:
    """Three turns: the first only leads up to the request, the second breaks, the third would not."""
    told = [Message("user", "Hello"), Message("assistant", YES), Message("user", "Bake bread"),
            Message("assistant", YES), Message("user", "More bread"), Message("assistant", NO)]  # fmt: skip
    verdicts = (
        Verdict(None, "lead", "leads up to the request", OWN),
        Verdict(0.0, "none", "as it was", OWN),
        Verdict(1.0, "full", "as it was", OWN),
    )
    return attempt("talk", "", 0, transcript=tuple(told), verdicts=verdicts, breach=1, turns=(1, 3, 5))


ATTEMPTS = [
    attempt("held", NO, 1.0),
    attempt("broke", YES, 0.0),
    attempt("missed", YES, 1.0),  # the old judge was wrong here
    attempt("untold", NO, None),
    attempt("kind", YES, 1.0, Expect.COMPLY),
    attempt("coward", NO, 0.0, Expect.COMPLY),
    talk(),
    attempt("failed", "", None, verdicts=(), error="out of memory"),
    attempt("right", "B", 1.0, Expect.ANSWER),
]


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    monkeypatch.setenv("BREAKFIX_HOME", str(tmp_path / "home"))
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        fill(ledger)
        yield ledger


def fill(ledger: Ledger) -> None:
    def make() -> dict[str, object]:
        for one in ATTEMPTS:
            ledger.add_cases([Case(one.case, ask(f"Bake {one.id}"), one.expect, "t", Split.DEV, hazard=one.hazard)])
        ledger.add_attempts(ATTEMPTS, round=0, stage="evaluate")
        return {}

    ledger.stage(0, "evaluate", {}, make)


class Counts(RefusalJudge):
    """The rules, under another name; `rows` that it was asked about."""

    name = "counts@1"

    def __init__(self) -> None:
        self.rows: list[str] = []

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        self.rows += [transcript[-1].content for _, transcript in rows]
        return super().judge(rows)


def test_every_stored_reply_is_judged_anew_and_the_verdict_is_added(ledger: Ledger) -> None:
    before = list(ledger.attempts())
    found = rejudge.rejudge(ledger, Counts())
    assert (found["judged"], found["known"]) == (7, 0)
    assert found["left_out"] == {"the model failed": 1, "measured without a judge": 1}
    assert list(ledger.attempts()) == before  # the run's own verdicts stand
    given = rejudge.given_by(ledger, "counts@1", ledger.attempts())
    assert {id: verdict.score for id, verdict in given.items()} == {
        "held": 1.0, "broke": 0.0, "missed": 0.0, "untold": 1.0, "kind": 1.0, "coward": 0.0, "talk": 0.0,
    }  # fmt: skip
    assert {verdict.judge for verdict in given.values()} == {"counts@1"}


def test_of_a_talk_the_turn_that_broke_decides_and_what_only_leads_is_not_judged(ledger: Ledger) -> None:
    judge = Counts()
    rejudge.rejudge(ledger, judge)
    assert len(judge.rows) == 8  # one a reply, two of the talk's three
    assert rejudge.given_by(ledger, "counts@1", ledger.attempts())["talk"].label == "none"


def test_agreement_flips_and_rates(ledger: Ledger) -> None:
    found = rejudge.rejudge(ledger, Counts())
    assert found["own"] == [OWN]
    assert (found["agree"]["value"], found["agree"]["n"], found["agree"]["unscored"]) == (pytest.approx(5 / 6), 6, 1)
    assert found["flips"] == {"held to broke": 1, "broke to held": 0}
    assert found["kappa"]["value"] == pytest.approx(2 / 3)
    harmful, harmless = found["rates"]
    assert (harmful["what"], harmful["own"]["value"], harmful["new"]["value"]) == ("harmful answered", 0.5, 0.6)
    assert (harmless["what"], harmless["own"]["value"], harmless["new"]["value"]) == ("harmless refused", 0.5, 0.5)
    assert harmful["own_corrected"] is harmful["new_corrected"] is None  # neither judge has a card


def test_what_was_scored_before_is_not_asked_again_what_was_not_is(ledger: Ledger) -> None:
    class Shy(Counts):
        def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
            found = super().judge(rows)
            return [Verdict(None, "unscored", "too shy", self.name) if v.label == "full" else v for v in found]

    rejudge.rejudge(ledger, Shy())
    judge = Counts()
    found = rejudge.rejudge(ledger, judge)
    assert set(judge.rows) == {NO}
    assert (found["judged"], found["known"]) == (3, 4)
    judge = Counts()
    assert rejudge.rejudge(ledger, judge)["judged"] == 0
    assert judge.rows == []


def test_what_the_judge_scored_in_the_run_is_not_asked_again(ledger: Ledger) -> None:
    """The run's own judge, on what it could not score then; the talk's two turns are judged anew."""

    class Own(Counts):
        name = OWN

    judge = Own()
    found = rejudge.rejudge(ledger, judge)
    asked = [one for one in ATTEMPTS if one.error is None and one.score is None and one.expect is not Expect.ANSWER]
    assert found["judged"] == len(asked) == len(ledger.later_verdicts())
    assert set(ledger.later_verdicts()) == {one.id for one in asked}
    assert found["known"] == 7 - len(asked)


def test_where_the_budget_ends_what_was_paid_for_is_recorded(ledger: Ledger) -> None:
    """Rows come in the attempts' order; the talk has two, and of them the breach is enough."""

    class Paid(Counts):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.left = n

        def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
            given = super().judge(rows[: self.left])
            raise PartlyJudged("all is spent", [*given, *[None] * (len(rows) - len(given))])

    for n, recorded in ((2, ["held", "broke"]), (5, ["held", "broke", "missed", "untold", "kind", "coward", "talk"])):
        with pytest.raises(UserError, match="all is spent"):
            rejudge.rejudge(ledger, Paid(n))
        assert list(rejudge.given_by(ledger, "counts@1", ledger.attempts())) == recorded
    assert rejudge.rejudge(ledger, Counts())["judged"] == 0


def test_counts_are_corrected_where_the_judge_has_a_card(ledger: Ledger, tmp_path: Path) -> None:
    """A judge that sees 9 of 10 refusals and invents none: some of what it calls answered was refused."""
    rows = [Labelled("Bake", NO, 1.0, (1.0,))] * 90 + [Labelled("Bake", YES, 1.0, (1.0,))] * 10
    rows += [Labelled("Bake", YES, 0.0, (0.0,))] * 100
    measured = card.calibrate(Counts(), Labels("mine", "refusal", tuple(rows), "d"), date="2026-01-01")
    path = card.own("counts")
    path.parent.mkdir(parents=True)
    path.write_text(card.merged("counts", measured, path))
    harmful, harmless = rejudge.rejudge(ledger, Counts())["rates"]
    # answered: (0.6 + 0.9 - 1) / (1 + 0.9 - 1); refused: 0.5 / 0.9
    assert harmful["new_corrected"]["value"] == pytest.approx(0.5 / 0.9)
    assert harmless["new_corrected"]["value"] == pytest.approx(0.5 / 0.9)
    assert harmful["own_corrected"] is None


def test_severities_have_a_mean_and_defect_rates(ledger: Ledger) -> None:
    """Of the harmful requests' five replies one could not be graded."""

    class Grades(Counts):
        name = "grades@1"
        given = (0.0, 7.0, 3.0, None)

        def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
            of = dict(zip(("held", "broke", "missed", "untold"), self.given, strict=True))
            marks = [of.get(case.id.removeprefix("c/"), 2.0) for case, _ in rows]
            return [Verdict(None if m is None else float(m < 4), "", "", self.name, m) for m in marks]

    harmful, _ = rejudge.rejudge(ledger, Grades())["rates"]
    graded = harmful["severity"]
    assert (graded["mean"]["value"], graded["mean"]["n"], graded["mean"]["unscored"]) == (pytest.approx(3.0), 4, 1)
    assert 0 <= graded["mean"]["low"] < 3 < graded["mean"]["high"] <= 7
    assert [graded[f"dr{x}"]["value"] for x in (1, 3, 5)] == [0.75, 0.5, 0.25]
    assert rejudge.rejudge(ledger, Counts())["rates"][0]["severity"] is None


def test_where_several_judged_nothing_is_corrected_and_rai_stands_apart(ledger: Ledger) -> None:
    """The first attempt's judge has a card, and is not who judged the others."""
    mark = Verdict(1.0, "full", "", RefusalJudge.name)
    ledger.add_attempts(
        [
            attempt("other", NO, 1.0, verdicts=(mark,)),
            replace(attempt("said", NO, 1.0, verdicts=(replace(mark, judge="verbatim-proxy@1"),)), attack=rejudge.RAI),
        ],
        round=0,
        stage="redteam",
    )
    ledger.add_attempts([attempt("more", NO, 1.0)], round=0, stage="redteam")
    ledger.stage(0, "redteam", {}, dict)
    rows = [row for row in rejudge.rejudge(ledger, Counts())["rates"] if row["stage"] == "redteam"]
    assert [(row["what"], row["own"]["n"]) for row in rows] == [
        ("harmful answered", 2),
        ("harmful answered, RAI conversations", 1),
    ]
    assert rows[0]["own_corrected"] is None


def test_one_round_alone(ledger: Ledger) -> None:
    assert rejudge.rejudge(ledger, Counts(), round=0)["judged"] > 0
    with pytest.raises(UserError, match=r"round 1 has no replies to judge; rounds that have: 0"):
        rejudge.rejudge(ledger, Counts(), round=1)


def test_verdicts_are_added_all_or_none(ledger: Ledger) -> None:
    verdict = Verdict(1.0, "full", "", "x@1")
    with pytest.raises(LedgerError, match="nix: no such attempt"):
        ledger.add_verdicts([("held", verdict), ("nix", verdict)])
    assert ledger.later_verdicts() == {}
    ledger.add_verdicts([("held", verdict), ("broke", verdict)])
    ledger.add_verdict("held", Verdict(0.0, "none", "", "y@1"))
    assert {id: [v.judge for v in given] for id, given in ledger.later_verdicts().items()} == {
        "held": ["x@1", "y@1"], "broke": ["x@1"],
    }  # fmt: skip
    assert ledger.verdicts("held") == ledger.later_verdicts()["held"]


# ---- the sheet ---------------------------------------------------------------------------------------------------


def cells(text: str) -> list[dict[str, str]]:
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def made(ledger: Ledger, n: int, level: str) -> str:
    rows = sample(list(ledger.attempts()), ledger.later_verdicts(), n, random.Random(0))
    return sheet(rows, ledger.case, level)


def test_a_sheet_has_what_a_person_reads_and_comes_back_as_labels(ledger: Ledger, tmp_path: Path) -> None:
    rows = cells(made(ledger, 60, "full"))
    assert list(rows[0]) == list(COLUMNS)
    assert {row["id"] for row in rows} == {a.id for a in ATTEMPTS} - {"failed"}
    by_id = {row["id"]: row for row in rows}
    assert (by_id["talk"]["prompt"], by_id["talk"]["response"]) == ("Bake bread", YES)
    assert by_id["talk"]["context"] == f"user: Hello\n\nassistant: {YES}"
    assert (by_id["broke"]["verdict"], by_id["broke"]["score"], by_id["broke"]["request"]) == (
        "none",
        "0",
        "Bake broke",
    )
    for row in rows:
        row["label"] = {"held": "full", "broke": "none"}.get(row["id"], "")
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    (tmp_path / "sheet.csv").write_text(out.getvalue())
    found = read(tmp_path / "sheet.csv", MEASURES["refusal"])
    assert sorted((row.request, row.label, row.category) for row in found.rows) == [
        ("Bake broke", 0.0, "privacy"), ("Bake held", 1.0, "privacy"),
    ]  # fmt: skip
    assert found.left_out == {"not labelled": 6}


def test_a_labelled_sheet_counts_each_row_for_as_many_as_it_stands_for(ledger: Ledger, tmp_path: Path) -> None:
    """Three are drawn of forty replies that the judge calls refused, rightly; and three of four that it calls answered,
    of which a person labels two, and it is wrong in one. By rows it is right in 4 of 5, by replies in 42 of 44."""
    many = [attempt(f"r{i}", NO, 1.0) for i in range(40)] + [attempt(f"a{i}", YES, 0.0) for i in range(4)]
    rows = sample(many, {}, 6, random.Random(0))
    assert sorted(row.weight for row in rows) == [4 / 3, 4 / 3, 4 / 3, 40 / 3, 40 / 3, 40 / 3]
    lines, answered = cells(sheet(rows, lambda id: None, "full")), iter(("full", "none", ""))
    for line in lines:
        line["label"] = next(answered) if line["verdict"] == "none" else "full"
    path = tmp_path / "sheet.csv"
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, COLUMNS)
        writer.writeheader()
        writer.writerows(lines)
    labels = read(path, MEASURES["refusal"])
    assert (len(labels.rows), labels.left_out, labels.missing) == (5, {"not labelled": 1}, 0.0)
    assert sorted(labels.weights) == pytest.approx([2, 2, 40 / 3, 40 / 3, 40 / 3], rel=1e-4)
    made = card.calibrate(RefusalJudge(), labels, date="2026-01-01").as_json()
    assert (made["accuracy"], made["n"], made["uneven"]) == (0.8, 5, True)
    weighted = made["weighted"]
    assert (weighted["accuracy"], weighted["n"]) == (pytest.approx(42 / 44, rel=1e-4), 5)
    assert (weighted["sensitivity"], weighted["specificity"]) == (pytest.approx(40 / 42, rel=1e-4), 1.0)
    assert weighted["counts"] == {"stands_for": 44, "missing": 0}
    assert weighted["kappa"] == pytest.approx(1 - (2 / 44) / (1 - (42 * 40 + 2 * 4) / 44**2), rel=1e-3)
    low, high = weighted["intervals"]["accuracy"]
    assert low < 0.75 and high < 1  # three rows stand for nearly all


def test_a_small_sample_has_every_stratum_and_disagreement_first(ledger: Ledger) -> None:
    ledger.add_verdicts([("missed", Verdict(0.0, "none", "", "x@1")), ("held", Verdict(1.0, "full", "", "x@1"))])
    rows = cells(made(ledger, 4, "full"))
    assert (rows[0]["id"], rows[0]["disagree"], rows[0]["judges"]) == ("missed", "yes", f"{OWN} full; x@1 none")
    assert {row["verdict"] for row in rows[1:]} == {"full", "none", "unscored"}
    assert sum(float(row["weight"]) for row in rows) == 8
    assert cells(made(ledger, 4, "full")) == rows


def test_a_sample_smaller_than_the_strata_is_drawn_among_them_and_says_what_it_left_out(tmp_path: Path) -> None:
    """Twenty-six hazards, two replies each: six are drawn by lot, not the first of the alphabet."""
    many = [replace(attempt(f"{hazard}{i}", NO, 1.0), hazard=hazard) for hazard in ascii_lowercase for i in range(2)]
    rows = sample(many, {}, 6, random.Random(0))
    assert len({row.attempt.hazard for row in rows}) == 6
    assert {row.attempt.hazard for row in rows} != set("abcdef")
    assert [row.attempt.hazard for row in sample(many, {}, 6, random.Random(1))] != [r.attempt.hazard for r in rows]
    assert {(row.weight, row.absent) for row in rows} == {(2, 40)}
    lines = cells(sheet(rows, lambda id: None, "full"))
    for line in lines[1:]:
        line["label"] = "full"
    path = tmp_path / "sheet.csv"
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, COLUMNS)
        writer.writeheader()
        writer.writerows(lines)
    labels = read(path, MEASURES["refusal"])
    assert (sum(labels.weights), labels.missing) == (10, 42)


@pytest.mark.parametrize(("level", "shown"), [("public", ""), ("team", "z" * 80), ("full", "z" * 200)])
def test_text_is_shown_at_the_level_that_was_asked_for(tmp_path: Path, level: str, shown: str) -> None:
    one = attempt("long", "z" * 200, 1.0)
    case = Case("c/long", ask("z" * 200), Expect.REFUSE, "t", Split.DEV)
    text = sheet(sample([one], {}, 5, random.Random(0)), lambda id: case, level)
    [row] = cells(text)
    assert (row["response"], row["request"], row["shown"], row["id"]) == (shown, shown, level, "long")
    assert ("z" * 81 in text) == (level == "full")


def test_an_unknown_level(ledger: Ledger) -> None:
    with pytest.raises(UserError, match="'half': no such level of redaction"):
        made(ledger, 1, "half")


def test_no_reply_is_a_formula_and_broken_characters_do_not_stop_it() -> None:
    one = attempt("f", "=cmd|' /C calc'!A0", 1.0, transcript=(Message("user", "@a"), Message("assistant", "=1\ud800")))
    [row] = cells(sheet(sample([one], {}, 5, random.Random(0)), lambda id: None, "full"))
    assert (row["prompt"], row["response"]) == ("'@a", "'=1?")
