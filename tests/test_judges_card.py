"""A judge against people, on rows that can be counted by hand; cards that are merged and shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from breakfix.core import Case, Conversation, Verdict
from breakfix.errors import DataError, UserError
from breakfix.judges import card
from breakfix.judges.ask import MEASURES, row, said, verdicts
from breakfix.judges.labels import Labelled, Labels, read
from breakfix.judges.refusal import RefusalJudge


class ByWord:
    """Refuses where the reply says so, can't tell where it says "hm"; a severity is the reply's number of words."""

    name = "by-word@1"

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        return [self._one(transcript[-1].content) for _, transcript in rows]

    def _one(self, text: str) -> Verdict:
        if text == "hm":
            return Verdict(None, "unscored", "hm", self.name)
        return Verdict(float(text == "no"), "full", "by word", self.name, float(len(text.split())))


def labels(*given: tuple[str, float], measure: str = "refusal", **more: str) -> Labels:
    rows = tuple(Labelled("Bake", reply, label, (label,), **more) for reply, label in given)
    return Labels("mine.jsonl", measure, rows, "d" * 64)


def test_people_who_disagree_evenly_are_in_their_own_agreement(tmp_path: Path) -> None:
    """Two people; of 30 replies they say the same of 20, and of 10 not. No label is left for these ten."""
    said = [["full", "full"]] * 10 + [["none", "none"]] * 10 + [["full", "none"]] * 10
    lines = [json.dumps({"prompt": "Bake", "response": f"no {i}", "labels": two}) for i, two in enumerate(said)]
    (tmp_path / "two.jsonl").write_text("\n".join(lines))
    made = read(tmp_path / "two.jsonl", MEASURES["refusal"])
    assert (len(made.rows), made.left_out) == (20, {"people disagree evenly": 10})
    people = card.calibrate(ByWord(), made, date="2026-01-01").as_json()["people"]
    # 10 of 30 pairs are unequal; of all 60 labels, 30 of each, 30 * 30 * 2 of 60 * 59 ordered pairs are
    assert (people["alpha"], people["n"]) == (pytest.approx(1 - (10 / 30) / (1800 / 3540)), 30)


# 4 of 10 right yes, 1 missed, 1 invented, 2 right no, 2 unscored (one a yes)
TEN = [("no", 1.0)] * 4 + [("yes", 1.0), ("no", 0.0)] + [("yes", 0.0)] * 2 + [("hm", 1.0), ("hm", 0.0)]


def test_figures_of_yes_and_no() -> None:
    found = card.calibrate(ByWord(), labels(*TEN), date="2026-01-01")
    figures = {name: round(e.value, 4) for name, e in found.overall.figures.items()}
    # kappa: observed 6/8, by chance (5*5 + 3*3)/64
    assert figures == {"accuracy": 0.75, "f1": 0.8, "kappa": 0.4667, "sensitivity": 0.8, "specificity": 0.6667}
    assert (found.overall.n, found.overall.unscored) == (8, 2)
    assert found.overall.counts == {"tp": 4, "fp": 1, "fn": 1, "tn": 2, "unscored_yes": 1, "unscored_no": 1}
    shown = found.as_json()
    assert shown["accuracy"] == 0.75
    assert shown["intervals"]["accuracy"][0] < 0.75 < shown["intervals"]["accuracy"][1]
    assert (shown["labels"], shown["judge"], shown["date"]) == ("mine.jsonl", "by-word@1", "2026-01-01")


def test_cards_of_rules_that_were_made_with_the_rows_in_view_say_so() -> None:
    for name in ("refusal-rules", "refusal"):
        rows = json.loads((Path(card.__file__).parents[1] / "data" / "cards" / f"{name}.json").read_text("utf-8"))
        found = [r for r in rows["calibrations"] if r["labels"] == "pyrit-refusal" and "rules@1" not in r["judge"]]
        assert found
        assert all(r["note"].startswith("Not blind: ") for r in found), name


def test_figures_on_a_scale() -> None:
    rows = [("a", 1.0), ("a b", 2.0), ("a b c", 1.0), ("hm", 3.0)]
    found = card.calibrate(ByWord(), labels(*rows, measure="severity"), date="2026-01-01")
    assert found.overall.figures["mae"].value == pytest.approx(2 / 3)
    assert (found.overall.n, found.overall.unscored, found.overall.counts) == (3, 1, {})
    assert found.as_json()["alpha"] is not None


def test_what_says_nothing_is_null_and_never_0() -> None:
    found = card.calibrate(ByWord(), labels(("hm", 1.0)), date="2026-01-01").as_json()
    assert [found[name] for name in ("n", "unscored", "accuracy", "kappa", "f1")] == [0, 1, None, None, None]
    only_yes = card.calibrate(ByWord(), labels(("no", 1.0), ("no", 1.0)), date="2026-01-01").as_json()
    assert (only_yes["accuracy"], only_yes["kappa"], only_yes["specificity"]) == (1.0, None, None)
    json.dumps(found, allow_nan=False)


def test_by_category_language_source_and_model() -> None:
    rows = (
        *labels(("no", 1.0), ("yes", 0.0), category="tea", language="en").rows,
        *labels(("no", 0.0), category="bread", language="de").rows,
        *labels(("hm", 1.0)).rows,
    )
    shown = card.calibrate(ByWord(), Labels("x", "refusal", rows, "d"), date="2026-01-01").as_json()
    assert {name: part["accuracy"] for name, part in shown["by_category"].items()} == {
        "unknown": None, "bread": 0.0, "tea": 1.0,
    }  # fmt: skip
    assert sorted(shown["by_language"]) == ["de", "en", "unknown"]
    assert "by_model" not in shown


def test_people_who_disagree_are_shown() -> None:
    rows = tuple(Labelled("Bake", "no", 1.0, raters) for raters in ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0)))
    found = card.calibrate(ByWord(), Labels("x", "refusal", rows, "d"), date="2026-01-01")
    assert found.as_json()["people"]["n"] == 3
    assert found.as_json()["people"]["alpha"] < 1


def test_the_same_rows_give_the_same_card() -> None:
    one, two = (card.calibrate(ByWord(), labels(*TEN), date="2026-01-01").as_json() for _ in range(2))
    assert one == two


def test_what_a_verdict_says_depends_on_what_is_measured() -> None:
    """To refuse is yes for a judge of refusals; to break is yes for the others."""
    held, broke = Verdict(1.0, "full", "", "j@1", 2.0), Verdict(0.0, "none", "", "j@1", None)
    told = {name: (said(held, measure), said(broke, measure)) for name, measure in MEASURES.items()}
    assert told["refusal"] == (1.0, 0.0)
    assert told["objective"] == told["third_party"] == (0.0, 1.0)
    assert told["severity"] == (2.0, None)
    assert said(Verdict(None, "unscored", "", "j@1"), MEASURES["objective"]) is None


class Breaks:
    """Fails on whatever mentions soup, and with it on the whole group."""

    name = "breaks@1"

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        if any("soup" in transcript[-1].content for _, transcript in rows):
            raise RuntimeError("no")
        return [Verdict(1.0, "full", "", self.name) for _ in rows]


class TooFew:
    name = "too-few@1"

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        return []


class NeedsMore:
    name = "needs-more@1"

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        raise UserError("give a model")


def test_a_judge_that_breaks_is_no_verdict_and_spoils_no_other() -> None:
    rows = [row("Cook", reply) for reply in ("bread", "soup", "tea")]
    assert [verdict.score for verdict in verdicts(Breaks(), rows)] == [1.0, None, 1.0]
    assert verdicts(Breaks(), rows)[1].reason == "the judge failed: RuntimeError"
    assert [verdict.label for verdict in verdicts(TooFew(), rows)] == ["unscored"] * 3
    with pytest.raises(UserError, match="give a model"):
        verdicts(NeedsMore(), rows)


def test_progress_counts_rows() -> None:
    seen: list[int] = []
    verdicts(RefusalJudge(), [row("Cook", "Sure.")] * 5, group=2, progress=seen.append)
    assert seen == [2, 4, 5]


# ---- cards on disk -----------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BREAKFIX_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "cards").mkdir(parents=True)
    return tmp_path / "home" / "cards"


def test_a_card_is_kept_and_the_same_measurement_is_there_once(home: Path) -> None:
    path = card.own("rubric/tea+by word")
    assert path == home / "rubric--tea--by--word.json"
    for date in ("2026-01-01", "2026-01-02"):
        path.write_text(card.merged("rubric/tea", card.calibrate(ByWord(), labels(*TEN), date=date), path))
    [one] = card.cards()["rubric/tea"]
    assert (one["date"], one["from"], one["n"]) == ("2026-01-02", "yours", 8)
    path.write_text(card.merged("rubric/tea", card.calibrate(ByWord(), labels(*TEN[:6]), date="2026-01-03"), path))
    assert len(card.cards()["rubric/tea"]) == 1  # the same file's name and digest here
    found = card.calibrated("by-word@1")
    assert found is not None
    counts = card.confusion(found)
    assert counts is not None and counts.tp == 4
    assert card.calibrated("by-word@2") is None


def test_a_file_that_is_no_card_is_named(home: Path) -> None:
    (home / "odd.json").write_text('{"name": "odd"}')
    with pytest.raises(DataError, match=r"odd\.json: not a judge's card"):
        card.cards()


def test_where_cards_lie_without_a_home_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BREAKFIX_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert card.home() == tmp_path / "breakfix" / "cards"


def test_the_shipped_card_of_the_default_judge_is_of_its_present_version(home: Path) -> None:
    best = card.best(card.cards()["refusal-rules"], RefusalJudge.name)
    assert best is not None
    assert best["command"] == "breakfix judges calibrate pyrit-refusal --judge refusal-rules"
    assert best["accuracy"] >= 0.95
    assert (best["n"], best["unscored"], best["from"]) == (169, 0, "shipped")


@pytest.mark.assets
def test_the_shipped_card_is_what_calibrating_gives_now(home: Path) -> None:
    from breakfix.judges.labels import load

    found = card.calibrate(RefusalJudge(), load("pyrit-refusal", "refusal"), date="").as_json()
    kept = card.best(card.cards()["refusal-rules"], RefusalJudge.name)
    assert kept is not None
    assert {name: kept[name] for name in ("digest", "counts", "accuracy", "kappa", "by_source")} == {
        name: found[name] for name in ("digest", "counts", "accuracy", "kappa", "by_source")
    }
