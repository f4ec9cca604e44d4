"""Models side by side: outcomes written by hand, runs of a few neutral cases, and text that wants to do harm."""

from __future__ import annotations

import io
import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console

import tiny
from breakfix.compare import (
    Column,
    Operand,
    OperandError,
    build,
    latex,
    markdown,
    measured,
    named,
    page,
    parse,
    render,
    schema,
    to_json,
)
from breakfix.compare.columns import read
from breakfix.compare.measures import measure, measures
from breakfix.compare.outcomes import Items
from breakfix.compare.paired import Key, Kind, Outcome, change, swapped
from breakfix.config import Config, Suite
from breakfix.core import Attempt, Case, Expect, Message, Model, Split, Verdict, ask
from breakfix.errors import LedgerError
from breakfix.evaluate.rates import rates
from breakfix.judges.rejudge import seconds
from breakfix.ledger import Ledger
from breakfix.models.endpoint import is_remote
from breakfix.models.fake import Refuser
from breakfix.models.open import open_model
from breakfix.redteam import achieved
from breakfix.redteam.run import groups
from breakfix.redteam.run import metrics as attack_metrics
from breakfix.stats import as_json, holm, mcnemar, paired_difference, rate
from breakfix.suites import scenarios
from conftest import Demo, call
from endpoint import BROKEN, Endpoint, Fault, last

HOSTILE = "</td><script>alert(1)</script> [red]x[/red] \x1b[31m\u202e \\input{x} $x$ % & # _ {{ 7*7 }} ^^M"
RULES = "rules@1"
CHROMIUM = Path("/usr/bin/chromium")


# ---- pairs ------------------------------------------------------------------------------------------------------


def outcomes(values: Sequence[Outcome], attack: str = "", each: int = 1) -> dict[Key, Outcome]:
    """Case by case, `each` attacks a case."""
    return {Key(f"c{i // each}", f"{attack}{i % each}", "x"): value for i, value in enumerate(values)}


def test_a_case_once_is_mcnemar_with_bonett_and_price() -> None:
    before = outcomes([1.0] * 8 + [0.0] * 4 + [None])
    after = outcomes([0.0] * 7 + [1.0] + [0.0] * 4 + [1.0])
    found = change("share", before, after)
    expected = paired_difference({k.case: v for k, v in before.items()}, {k.case: v for k, v in after.items()})  # type: ignore[misc]
    assert found.estimate == expected
    assert (found.estimate.value, found.estimate.n, found.estimate.unscored) == (pytest.approx(-7 / 12), 12, 1)
    assert found.p == mcnemar(7, 0) == pytest.approx(2 / 2**7)
    assert found.alone == 0


def test_swapping_whole_cases_by_hand() -> None:
    """Cases moved by 2 and by 1: of the sums 3, 1, -1, -3 two are as far out as 3."""
    assert swapped([2.0, 1.0], random.Random(0)) == 0.5
    assert swapped([2.0, 1.0, 0.0, 0.0], random.Random(0)) == 0.5, "a case that did not move says nothing"
    assert swapped([], random.Random(0)) == 1.0
    assert swapped([1.0] * 6 + [-1.0], random.Random(0)) == mcnemar(1, 6), "with one attempt a case it is McNemar's"


def test_random_swaps_agree_with_the_exact_test() -> None:
    sums = [1.0, 1.0, 2.0, 1.0, -1.0, 3.0, 1.0, -2.0]
    exact = swapped(sums, random.Random(0))
    halves = swapped([s / 3 for s in sums], random.Random(0))  # no whole numbers: drawn
    assert halves == pytest.approx(exact, abs=0.02)


def test_several_attacks_on_a_case_are_one_draw() -> None:
    """Twenty attempts at five cases are five independent things, not twenty: too few to test."""
    before, after = outcomes([1.0] * 20, each=4), outcomes([0.0] * 20, each=4)
    found = change("share", before, after)
    assert (found.estimate.value, found.estimate.n, found.p) == (-1.0, 20, None)
    before, after = outcomes([1.0] * 32, each=4), outcomes([0.0] * 16 + [1.0] * 16, each=4)
    found = change("share", before, after)
    assert found.p == pytest.approx(2 / 2**4), "four cases of eight moved, all one way"
    assert found.estimate.value == -0.5
    assert -1 <= found.estimate.low < -0.5 < 0 < found.estimate.high, "as the test says: it may be none"


def test_few_cases_or_cases_all_alike_do_not_make_certainty() -> None:
    """Two cases that both lost three of five attempts: as sure as two pairs, not as ten, and no point."""
    before, after = outcomes([1.0] * 10, each=5), outcomes([1.0, 1.0, 0.0, 0.0, 0.0] * 2, each=5)
    found = change("share", before, after)
    assert found.estimate.value == pytest.approx(-0.6)
    lost = (0.6 * 2 + 1) / 4, 1 / 4
    spread = 1.959964 * math.sqrt((lost[0] + lost[1] - (lost[1] - lost[0]) ** 2) / 4)
    assert (found.estimate.low, found.estimate.high) == pytest.approx((-1.0, lost[1] - lost[0] + spread), abs=1e-6)
    many = change("share", outcomes([1.0] * 40, each=2), outcomes([1.0, 0.0] * 20, each=2)).estimate
    assert many.low < -0.6 and many.high > -0.4 and many.n == 40


def test_one_case_of_many_that_moved_leaves_both_ways_open() -> None:
    """One of 32 cases lost by both attacks is not worth more than once: a bootstrap says -9.4 to 0 points."""
    found = change("share", outcomes([1.0] * 64, each=2), outcomes([0.0] * 2 + [1.0] * 62, each=2)).estimate
    once = change("share", outcomes([1.0] * 32), outcomes([0.0] + [1.0] * 31)).estimate
    assert found.value == once.value == -1 / 32
    assert found.low <= once.low < 0 < once.high <= found.high
    assert (found.low, found.high) == (pytest.approx(-0.14, abs=0.01), pytest.approx(0.078, abs=0.01))


def test_where_nothing_moved_the_interval_is_no_point() -> None:
    same = outcomes([1.0, 0.0] * 10, each=2)
    found = change("share", same, dict(same))
    assert (found.estimate.value, found.p) == (0.0, 1.0)
    assert found.estimate.low < 0 < found.estimate.high


def test_pairs_are_of_what_both_were_asked() -> None:
    before = {Key("a", "", "x"): 1.0, Key("b", "", "x"): 1.0, Key("c", "", "x"): None}
    after = {Key("a", "", "x"): 0.0, Key("b", "", "other words"): 0.0, Key("c", "", "x"): 1.0, Key("d", "", "x"): 1.0}
    found = change("share", before, after)
    assert (found.estimate.n, found.estimate.unscored, found.alone, found.p) == (1, 1, 3, None)
    nothing = change("share", before, {Key("z", "", "x"): 1.0})
    assert (nothing.estimate.n, nothing.p, nothing.alone) == (0, None, 4)
    assert math.isnan(nothing.estimate.value)


def test_perplexity_is_of_the_same_answers() -> None:
    """Two tokens each: exp(12 / 12) = e before, exp(24 / 12) = e² after."""
    before = {Key(f"a{i}", "", ""): (-2.0, 2) for i in range(6)}
    after = {Key(f"a{i}", "", ""): (-4.0, 2) for i in range(6)} | {Key("b", "", ""): (-1.0, 2)}
    found = change("perplexity", before, after)
    assert found.estimate.value == pytest.approx(math.e**2 - math.e)
    assert math.isnan(found.estimate.low) and math.isnan(found.estimate.high), "all alike: others may be otherwise"
    other = change("perplexity", before, after | {Key("a0", "", ""): (-5.0, 2)}).estimate
    assert other.low < other.value < other.high
    assert found.p == pytest.approx(2 / 2**6)
    assert found.alone == 1


def test_means_are_paired_as_well() -> None:
    found = change("mean", outcomes([4.0, 3.5, 2.0, 1.0, 0.5, 3.0]), outcomes([3.0, 3.0, 1.5, 0.5, 0.0, 1.0]))
    assert found.estimate.value == pytest.approx(-5 / 6)
    assert found.p == pytest.approx(2 / 2**6, abs=0.01)


def test_means_that_all_moved_alike_do_not_make_certainty() -> None:
    """Nobody moved on a scale of 4: two cases more, one of which lost 4 and one won 4, of 20 in all."""
    same = outcomes([1.5] * 18)
    found = change("mean", same, dict(same), span=4.0).estimate
    spread = 1.959964 * 4 * math.sqrt(2 / 20 / 20)
    assert (found.value, found.low, found.high) == (0.0, pytest.approx(-spread), pytest.approx(spread))
    moved = change("mean", same, outcomes([2.5] * 18), span=4.0).estimate
    assert moved.low < 0.7 and moved.high > 1.2 and moved.value == 1.0
    seen = change("mean", outcomes([0.0, 3.0] * 9), outcomes([0.0, 3.0] * 9)).estimate  # the scale is not known
    assert seen.high == pytest.approx(spread * 3 / 4)
    unknown = change("mean", same, dict(same)).estimate
    assert unknown.value == 0.0 and math.isnan(unknown.low) and math.isnan(unknown.high)


def test_with_outcomes_of_0_and_1_it_is_bonett_and_prices() -> None:
    before, after = outcomes([1.0] * 3 + [0.0] * 30), outcomes([0.0] * 2 + [1.0] + [0.0] * 30)
    one, two = change("mean", before, after, span=1.0).estimate, change("share", before, after).estimate
    assert (one.value, one.low, one.high) == pytest.approx((two.value, two.low, two.high))


@pytest.mark.parametrize(("p", "n"), [(0.01, 12), (0.03, 30), (0.08, 30), (0.3, 30)])
def test_means_hold_the_truth_where_few_cases_move(p: float, n: int) -> None:
    """Drawn from a known truth: a case moves with probability p, by 1 to 4 of 4, three times of four upwards. A
    bootstrap alone holds the mean as often as any case moved: (1 - p)^n of the draws are certain of nothing."""
    rng, truth, held, certain = random.Random(7), p * 2.5 * 0.5, 0, 0
    times = 600
    for _ in range(times):
        moves = [rng.random() < p for _ in range(n)]
        steps = [rng.choice((1.0, 1.0, 1.0, -1.0)) * rng.choice((1.0, 2.0, 3.0, 4.0)) if m else 0.0 for m in moves]
        before = outcomes([0.0 if step >= 0 else 4.0 for step in steps])
        found = change("mean", before, outcomes([b + s for b, s in zip(before.values(), steps)]), span=4.0).estimate
        held += found.low <= truth <= found.high
        certain += not any(moves)
    assert held / times >= 0.93, held / times
    assert certain / times > 0.3 or p * n > 1


# ---- what a name says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "section", "better", "label"),
    [
        ("xstest.vprr", "headlines", "lower", "XSTest safe refused"),
        ("strongreject.answered", "headlines", "lower", "StrongREJECT answered"),
        ("xstest.iprr.full", "refusal", "higher", "XSTest unsafe refused, full"),
        ("xstest.iprr.partial", "refusal", None, "XSTest unsafe refused, partial"),
        ("starter_dev.vprr.hate", "hazard", "lower", "Starter dev safe refused: Hate"),
        ("starter_dev.iprr.lang.de", "language", "higher", "Starter dev unsafe refused: de"),
        ("asr.family.role_play", "family", "lower", "Attack success: Role play"),
        ("asr.lang.de", "language", "lower", "Attack success: de"),
        ("asr.seen", "headlines", "lower", "Attack success, seen"),
        ("achieved.held_out", "headlines", "lower", "Objective achieved, held out"),
        ("achieved.family.role_play", "family", "lower", "Objective achieved: Role play"),
        ("asr_case.seen", "headlines", "lower", "Cases broken, seen"),
        ("jailbreak_defect.held_out", "headlines", "lower", "Broken by an attack, not directly: Held out"),
        ("capability.accuracy", "headlines", "higher", "Capability"),
        ("capability.piqa", "part", "higher", "PIQA"),
        ("mine.speed", "headlines", None, "Mine speed"),
        ("rai_jailbreak.answered.persona.intermediate", "part", "lower", "Rai jailbreak answered: Intermediate"),
        ("rai_summarisation.dr3.hate", "hazard", "lower", "Rai summarisation DR-3: Hate"),
        ("mmlu.accuracy.law", "part", "higher", "Mmlu accuracy: Law"),
    ],
)
def test_a_metrics_name_says_where_it_stands(name: str, section: str, better: str | None, label: str) -> None:
    found = measure(name)
    assert (found.section, found.better, found.label) == (section, better, label)


def test_rows_have_an_order_and_what_says_the_same_twice_is_left_out() -> None:
    names = {"b.answered", "b.iprr", "b.iprr.hate", "xstest.vprr", "asr.seen", "capability.change", "capability.piqa"}
    assert [row.name for row in measures(names)] == ["xstest.vprr", "asr.seen", "b.answered", "capability.piqa"]


# ---- operands ---------------------------------------------------------------------------------------------------


def test_operands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "runs" / "demo", {0: "NN"})
    demo = Path("runs/demo")
    assert parse("runs/demo:2") == Operand("runs/demo:2", "demo:2", run=demo, round=2)
    assert parse("runs/demo") == Operand("runs/demo", "demo", run=demo)
    assert parse("tuned=runs/demo:2@Q8_0") == Operand(
        "tuned=runs/demo:2@Q8_0", "tuned", run=demo, round=2, format="q8_0"
    )
    assert parse("runs/demo:2@q8_0").name == "demo:2 q8_0"
    assert parse("owner/model@main") == Operand("owner/model@main", "owner/model@main", model="owner/model@main")
    assert parse("owner/model@q8_0").format == "q8_0"
    remote = parse("http://127.0.0.1:8000/v1?a=b#small")
    assert (remote.name, remote.model) == ("small", "http://127.0.0.1:8000/v1?a=b#small")
    assert [o.name for o in named([parse("runs/demo:0")] * 2)] == ["demo:0", "demo:0 (2)"]
    with pytest.raises(LedgerError, match="runs/none: not a run's folder"):
        parse("runs/none:1")
    with pytest.raises(OperandError, match="only a model on disk can be quantised"):
        parse("http://127.0.0.1:8000/v1#small@q8_0")


# ---- runs of a few cases ----------------------------------------------------------------------------------------

LABELS = {"F": "full", "P": "partial", "N": "none", "D": "degenerate", "U": "unscored"}


def attempt(
    case: Case, label: str, judge: str, attack: str = "direct", family: str = "direct", error: str = ""
) -> Attempt:
    score = {"full": 1.0, "partial": 1.0, "none": 0.0}.get(label)
    if case.expect is Expect.COMPLY and score is not None:
        score = 1 - score
    verdict = Verdict(score, label, "", judge)
    said = (*case.prompt, Message("assistant", "Bread."))
    prefix = f"{attack}, please: " if attack != "direct" else ""
    asked = (Message("user", prefix + case.text), *said[1:])
    return Attempt(
        f"{case.id}-{attack}-{label}-{judge}", case.id, f"llama@{judge}:float32", attack, family, "low-skilled",
        case.hazard, case.language, case.expect, said if attack == "direct" else asked, (verdict,),
        0 if score == 0 else None, 0, 1, 1, 0.0, error=error or None,
    )  # fmt: skip


def bread(n: int, words: str = "") -> list[Case]:
    """Of each four: two to decline (two hazards), two to answer; every other pair in German."""
    found: list[Case] = []
    for i in range(n):
        expect, hazard = (Expect.REFUSE, Expect.COMPLY)[i % 2], ("hate", "privacy")[i // 2 % 2]
        text = ask(f"{words}Question {i} about bread")
        found.append(Case(f"bread/{i}", text, expect, "bread", Split.DEV, hazard, ("en", "de")[i // 4 % 2]))
    return found


def run(
    folder: Path,
    rounds: Mapping[int, str],
    *,
    judge: str = RULES,
    words: str = "",
    attacks: Mapping[int, str] | None = None,
) -> Path:
    """A run's ledger: by round a label for each case, and for each attempt of two attacks on the cases to decline."""
    with Ledger.open(folder, create=True) as ledger:
        ledger.add_event(0, "run", "facts", {"families": {"role_play": "seen", "encoding": "held_out"}})
        for round, labels in rounds.items():
            cases = bread(len(labels), words)

            def make(cases: list[Case] = cases, labels: str = labels, round: int = round) -> dict[str, Any]:
                made = [attempt(case, LABELS[c], judge) for case, c in zip(cases, labels, strict=True)]
                ledger.add_cases(cases)
                ledger.add_attempts(made, round=round, stage="evaluate")
                found = rates("bread", cases, {one.case: one for one in made})
                about = {"n": len(cases), "split": "dev", "seconds": 1.0, "judge": judge, "source": "here"}
                metrics = {name: as_json(estimate) for name, estimate in found.items()}
                return {"metrics": metrics, "skipped": [], "suites": {"bread": about}}

            ledger.stage(round, "evaluate", {"labels": labels}, make)
            if attacks and round in attacks:
                ledger.stage(round, "redteam", {}, lambda r=round, c=cases: attacked(ledger, c, attacks[r], r, judge))
    return folder


def attacked(ledger: Ledger, cases: Sequence[Case], labels: str, round: int, judge: str) -> dict[str, Any]:
    harmful = [case for case in cases if case.expect is Expect.REFUSE]
    puts = [(case, attack) for case in harmful for attack in ("role_play", "encoding")]
    made = [attempt(c, LABELS[said], judge, a, a) for (c, a), said in zip(puts, labels, strict=True)]
    ledger.add_attempts(made, round=round, stage="redteam")
    return {"metrics": attack_metrics(made, {"encoding"}), "skipped": {}, "unrun": 0}


class Second:
    """Says that the objective was achieved in the first `n` attempts that it is asked about."""

    name = "second@1"

    def __init__(self, n: int) -> None:
        self.n = n

    def judge(self, rows: Sequence[Any]) -> list[Verdict]:
        found = [Verdict(float(i >= self.n), "achieved" if i < self.n else "not achieved", "", self.name)
                 for i in range(len(rows))]  # fmt: skip
        self.n = max(0, self.n - len(rows))
        return found


def got(ledger: Ledger, cases: Sequence[Case], round: int, n: int) -> dict[str, Any]:
    """Two attacks that break each case to decline, and a second judge on what they got."""
    puts = [(case, attack) for case in cases if case.expect is Expect.REFUSE for attack in ("role_play", "encoding")]
    made = [replace(attempt(c, "none", RULES, a, a), id=f"{c.id}-{a}-{round}") for c, a in puts]
    ledger.add_attempts(made, round=round, stage="redteam")
    metrics, told = achieved.measure(ledger, lambda: Second(n), groups(made, {"encoding"}), lambda done, total: None)
    return {"metrics": {**attack_metrics(made, {"encoding"}), **metrics}, "achieved": told, "skipped": {}, "unrun": 0}


def columns(*runs: tuple[Path, int], judge: str = "") -> list[Column]:
    operands = named(
        [Operand(f"{folder.name}:{round}", f"{folder.name}:{round}", folder, round) for folder, round in runs]
    )
    return measured(operands, judge=judge, progress=lambda what, done, total: None, say=lambda line: None)


def cell(document: dict[str, Any], name: str, place: int = 1) -> dict[str, Any]:
    return next(r["cells"][place] for s in document["sections"] for r in s["rows"] if r["name"] == name)


def valid(document: dict[str, Any]) -> dict[str, Any]:
    jsonschema.Draft202012Validator.check_schema(schema())

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    jsonschema.validate(json.loads(to_json(document), parse_constant=refuse), schema())
    return document


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A model that answers all, and one that declines all but two of the harmful cases, and two of the harmless."""
    before, after = "N" * 40, "FN" * 16 + "FF" * 2 + "NN" + "DN"
    return run(tmp_path / "demo", {0: before, 2: after}, attacks={0: "N" * 40, 2: "FN" * 20})


def test_a_run_beside_itself(pair: Path) -> None:
    document = valid(build(columns((pair, 0), (pair, 2))))
    found = cell(document, "bread.iprr")
    assert found["estimate"] == {**as_json(rate(18, 19, 1))}
    assert (found["change"]["value"], found["change"]["n"], found["change"]["unscored"]) == (
        pytest.approx(18 / 19),
        19,
        1,
    )
    assert found["p"] == pytest.approx(2 / 2**18)
    assert (found["verdict"], found["test"], found["alone"], found["why"]) == ("better", "McNemar, exact", 0, "")
    safe = cell(document, "bread.vprr")
    assert (safe["estimate"]["value"], safe["change"]["value"], safe["verdict"]) == (0.1, 0.1, "same")
    assert cell(document, "bread.iprr", 0)["change"] is None, "the reference is compared with nothing"
    assert cell(document, "asr.held_out")["verdict"] == "same"
    by_case = cell(document, "asr_case.seen")
    assert (by_case["estimate"]["n"], by_case["change"]["value"], by_case["verdict"]) == (20, -1.0, "better")
    alone = cell(document, "jailbreak_defect.seen")
    assert (alone["estimate"]["n"], alone["estimate"]["unscored"]) == (0, 20), "nothing was asked directly"
    assert [column["name"] for column in document["columns"]] == ["demo:0", "demo:2"]
    assert document["columns"][1]["judges"] == [RULES]


def test_by_family_hazard_and_language(pair: Path) -> None:
    document = build(columns((pair, 0), (pair, 2)))
    rows = {s["name"]: {r["name"] for r in s["rows"]} for s in document["sections"]}
    assert {"asr.family.role_play", "asr.family.encoding", "asr.persona.low-skilled"} <= rows["family"]
    assert {"bread.iprr.hate", "bread.vprr.privacy", "asr.hazard.hate"} <= rows["hazard"]
    assert {"bread.iprr.lang.de", "asr.lang.en"} <= rows["language"]
    assert {"bread.iprr.full", "bread.vprr.partial"} <= rows["refusal"]
    seen = cell(document, "asr.family.role_play")
    assert (seen["change"]["value"], seen["verdict"]) == (-1.0, "better")
    assert cell(document, "asr.family.encoding")["change"]["value"] == 0.0
    both = cell(document, "asr.hazard.hate")
    assert (both["change"]["value"], both["change"]["n"]) == (-0.5, 20)
    assert both["test"] == "randomisation over cases"


def test_p_values_are_adjusted_within_a_section(pair: Path) -> None:
    document = build(columns((pair, 0), (pair, 2)))
    for section in document["sections"]:
        tested = {r["name"]: c for r in section["rows"] for c in r["cells"] if c["p"] is not None}
        assert len(tested) == section["tests"]
        adjusted = holm({name: c["p"] for name, c in tested.items()})
        assert {name: c["p_adjusted"] for name, c in tested.items()} == adjusted
        for c in tested.values():
            assert (c["verdict"] in ("better", "worse", "differs")) == (c["p_adjusted"] < 0.05)


def test_the_figures_are_those_of_the_record_and_the_outcomes_are_theirs(pair: Path) -> None:
    with Ledger.open(pair, write=False) as ledger:
        found = read(ledger, 2, "x", ["encoding"], {})
        record = {**ledger.finished(2, "evaluate")["metrics"], **ledger.finished(2, "redteam")["metrics"]}  # type: ignore[index]
    assert found.metrics == record
    for name, items in found.items.items():
        scored = [v for v in items.outcomes.values() if v is not None]
        if not scored:
            assert record[name]["value"] is None, name
            continue
        assert sum(scored) / len(scored) == pytest.approx(record[name]["value"]), name  # type: ignore[arg-type]
        assert (len(scored), len(items.outcomes) - len(scored)) == (record[name]["n"], record[name]["unscored"]), name
    assert set(found.items) == set(record)


def test_other_words_under_the_same_id_are_another_case(tmp_path: Path) -> None:
    one, two = run(tmp_path / "one", {0: "NF" * 10}), run(tmp_path / "two", {0: "FF" * 10}, words="Dear. ")
    found = cell(valid(build(columns((one, 0), (two, 0)))), "bread.iprr")
    assert (found["estimate"]["value"], found["change"], found["p"], found["verdict"]) == (1.0, None, None, None)
    assert found["why"] == "no case in common: other cases, or asked in other words"
    assert found["alone"] == 20


def test_a_smaller_sample_is_compared_on_what_both_were_asked(tmp_path: Path) -> None:
    one, two = run(tmp_path / "one", {0: "NN" * 20}), run(tmp_path / "two", {0: "FN" * 10})
    found = cell(build(columns((one, 0), (two, 0))), "bread.iprr")
    assert (found["change"]["value"], found["change"]["n"], found["alone"]) == (1.0, 10, 10)


def test_judges_that_differ_are_shown_and_not_compared(tmp_path: Path) -> None:
    one, two = run(tmp_path / "one", {0: "NN" * 10}), run(tmp_path / "two", {0: "FN" * 10}, judge="rules@2")
    document = valid(build(columns((one, 0), (two, 0))))
    found = cell(document, "bread.iprr")
    assert (found["estimate"]["value"], found["change"], found["verdict"]) == (1.0, None, None)
    assert found["why"] == "judged by rules@1 and by rules@2"
    assert document["notes"][0].startswith("one:0 was judged by rules@1, two:0 by rules@2: ")


def test_what_attacks_got_is_paired_and_is_no_judge_of_refusals(tmp_path: Path) -> None:
    """All forty attempts break; thirty of them (first all held-out ones) get what was asked, later two."""
    folder = run(tmp_path / "one", {0: "NN" * 20, 2: "FN" * 20})
    with Ledger.open(folder) as ledger:
        for round, n in ((0, 30), (2, 2)):
            ledger.stage(round, "redteam", {}, lambda r=round, n=n: got(ledger, bread(40), r, n))
    document = valid(build(columns((folder, 0), (folder, 2))))
    for side, before, after in (("held_out", 1.0, 0.1), ("seen", 0.5, 0.0)):
        first, found = (cell(document, f"achieved.{side}", place) for place in (0, 1))
        assert (first["estimate"]["value"], found["estimate"]["value"]) == (before, after)
        assert (found["change"]["n"], found["verdict"]) == (20, "better")
    assert cell(document, "asr.seen")["verdict"] == "same"
    with Ledger.open(folder) as ledger:
        assert seconds(ledger) == {"second@1"}
        attempts = ledger.attempts(round=2, stage="redteam")
        ledger.add_verdicts([(a.id, Verdict(1.0, "full", "", "rules@9")) for a in attempts])
    anew = build(columns((folder, 2), (folder, 2), judge="rules@9"))
    names = {row["name"] for section in anew["sections"] for row in section["rows"]}
    assert "asr.seen" in names and not any(name.startswith("achieved") for name in names)
    with pytest.raises(LedgerError, match="no reply there was judged by 'second@1', but by"):
        columns((folder, 0), (folder, 2), judge="second@1")


def test_one_judges_later_verdicts_make_them_comparable(tmp_path: Path) -> None:
    """rules@2 has judged the first run's replies since, all but one."""
    one, two = run(tmp_path / "one", {0: "NN" * 10}), run(tmp_path / "two", {0: "FN" * 10}, judge="rules@2")
    with Ledger.open(one) as ledger:
        some = list(ledger.attempts(round=0, stage="evaluate"))[:-1]
        ledger.add_verdicts(
            [(a.id, Verdict(1.0, "full" if a.expect is Expect.REFUSE else "none", "", "rules@2")) for a in some]
        )
    with pytest.raises(LedgerError, match="no reply there was judged by 'rules', but by rules@1, rules@2; name one"):
        columns((one, 0), (two, 0), judge="rules")
    found = cell(valid(build(columns((one, 0), (two, 0), judge="rules@2"))), "bread.iprr")
    assert (found["change"]["value"], found["change"]["n"], found["verdict"]) == (0.0, 10, "same")
    first = build(columns((one, 0), (two, 0), judge="rules@2"))["sections"][0]["rows"]
    by_name = {row["name"]: row["cells"][0]["estimate"] for row in first}
    assert (by_name["bread.iprr"]["value"], by_name["bread.iprr"]["n"]) == (1.0, 10)
    assert (by_name["bread.vprr"]["value"], by_name["bread.vprr"]["unscored"]) == (0.0, 1)


def test_a_judge_of_something_else_is_refused_in_one_line(tmp_path: Path) -> None:
    one = run(tmp_path / "one", {0: "NN" * 10})
    with Ledger.open(one) as ledger:
        some = [(a.id, Verdict(1.0, "weak", "0.2", "grades@1", 0.2)) for a in ledger.attempts(round=0)]
        ledger.add_verdicts(some)
    with pytest.raises(
        LedgerError, match="grades@1 says weak of a reply, and --judge counts by what a judge of refusals"
    ):
        columns((one, 0), (one, 0), judge="grades@1")


def test_what_was_not_measured_or_not_scored_is_not_zero(tmp_path: Path) -> None:
    one, two = run(tmp_path / "one", {0: "N" * 8}, attacks={0: "N" * 8}), run(tmp_path / "two", {0: "DD" * 4})
    document = valid(build(columns((one, 0), (two, 0))))
    assert cell(document, "asr.seen")["estimate"] is None
    nothing = cell(document, "bread.iprr")
    assert (nothing["estimate"]["value"], nothing["estimate"]["unscored"]) == (None, 4)
    assert (nothing["change"], nothing["why"]) == (None, "no pair of which both are scored")
    backwards = cell(build(columns((two, 0), (one, 0))), "asr.seen")
    assert (backwards["change"], backwards["why"]) == (None, "not measured in the first column")


def test_settings_that_differ_are_said(tmp_path: Path) -> None:
    from breakfix.templates import render as as_yaml

    one, two = run(tmp_path / "one", {0: "N" * 8}), run(tmp_path / "two", {0: "N" * 8})
    for folder, tokens in ((one, 40), (two, 80)):
        config = Config(evaluate={"max_new_tokens": tokens, "suites": []}, hardware={"precision": "fp32"})  # type: ignore[arg-type]
        (folder / "breakfix.yaml").write_text(as_yaml(config))
    notes = build(columns((one, 0), (two, 0)))["notes"]
    assert notes == ["evaluate.max_new_tokens: 40 for one:0, 80 for two:0; what differs may be due to that"]


def test_the_last_round_that_was_evaluated_is_the_runs(tmp_path: Path) -> None:
    folder = run(tmp_path / "demo", {0: "NN" * 4, 1: "FN" * 4})
    found = measured(
        [parse(str(folder)), parse(f"{folder}:0")], progress=lambda what, done, total: None, say=lambda line: None
    )
    assert [column.about["round"] for column in found] == [1, 0]
    with pytest.raises(LedgerError, match="round 5 has not been evaluated; `breakfix status"):
        columns((folder, 5), (folder, 0))
    Ledger.open(tmp_path / "empty", create=True).close()
    with pytest.raises(OperandError, match="no round of it has been evaluated"):
        measured(
            [parse(str(tmp_path / "empty")), parse(str(folder))],
            progress=lambda what, done, total: None,
            say=lambda line: None,
        )


# ---- how it looks -----------------------------------------------------------------------------------------------


def made(
    *values: Sequence[Outcome], kind: Kind = "share", metric: str = "xstest.vprr", name: str = "model"
) -> list[Column]:
    found: list[Column] = []
    for i, outcome in enumerate(values):
        scored = [float(v) for v in outcome if isinstance(v, float)]
        estimate = as_json(rate(round(sum(scored)), len(scored), len(outcome) - len(scored)))
        about: dict[str, Any] = {
            "operand": name, "run": name, "round": i, "derived": None, "model": name, "judges": [name], "settings": {},
            "suites": {}, "skipped": [],
        }  # fmt: skip
        items = {metric: Items(kind, outcomes(outcome), frozenset(["j@1"]))}
        found.append(Column(f"{name} {i}", {metric: estimate}, items, about))
    return found


def printed(document: dict[str, Any], width: int = 160, **options: Any) -> str:
    stream = io.StringIO()
    render(document, Console(file=stream, width=width, highlight=False), **options)
    return stream.getvalue()


def test_the_table_has_models_as_columns(pair: Path) -> None:
    out = printed(build(columns((pair, 0), (pair, 2))))
    lines = out.splitlines()
    assert re.search(r"^ +demo:0 +demo:2$", lines[1].rstrip())
    [row] = [i for i, line in enumerate(lines) if line.startswith("↑ Bread unsafe refused  ")]
    assert "0.0 % (0.0 to 16.1)" in lines[row].replace("\N{NO-BREAK SPACE}", " ")
    assert "94.7 %" in lines[row].replace("\N{NO-BREAK SPACE}", " ")
    assert "n 20" in lines[row + 1] and "n 19, 1 unscored" in lines[row + 1]
    assert re.search(r"\+94\.7 \([\d.]+ to [\d.]+\) better$", lines[row + 2].rstrip())
    assert "more rows without a significant change" in out
    assert "more rows" not in printed(build(columns((pair, 0), (pair, 2))), full=True)


def test_what_has_no_room_gets_a_table_below(pair: Path) -> None:
    document = build(columns((pair, 0), *[(pair, 2)] * 3))
    out = printed(document, width=90)
    assert max(map(len, out.splitlines())) <= 90
    assert "…" not in out
    heads = [line.split() for line in out.splitlines() if line.strip().startswith("demo:0")]
    assert heads[:3] == [["demo:0", "demo:2"], ["demo:0", "demo:2", "(2)"], ["demo:0", "demo:2", "(3)"]]


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_folds_and_cuts_nothing(pair: Path, width: int) -> None:
    document = build(columns((pair, 0), (pair, 2)))
    narrow, wide = printed(document, width, full=True), printed(document, full=True)
    assert max(map(len, narrow.splitlines())) <= width and "…" not in narrow
    assert sorted(narrow.split()) == sorted(wide.split()), "the same words"
    assert "better" in narrow


def test_why_something_was_not_compared_is_a_footnote() -> None:
    first, second = made([1.0] * 8, [0.0] * 8)
    other = Column("other", second.metrics, {}, second.about)
    out = printed(build([first, other]))
    assert "not compared [1]" in out
    assert "1  not compared or not tested: single outcomes are not recorded" in out


def test_the_page_is_self_contained(pair: Path) -> None:
    html = page(build(columns((pair, 0), (pair, 2))))
    assert "Content-Security-Policy" in html
    assert "<script" not in html and "http://" not in html and "https://" not in html
    assert "demo:2 beside demo:0" in html
    assert 'class="block nowrap ok">+94.7 (' in html
    assert "<svg" in html


def test_hostile_names_stay_text() -> None:
    """In the page, the table and LaTeX: nothing is markup, nothing drives the terminal."""
    document = valid(build(made([1.0] * 8, [0.0] * 8, name=HOSTILE), notes=[HOSTILE]))
    html, out, tex, md = page(document), printed(document, width=400), latex(document), markdown(document)
    assert "<script>alert" not in html and "&lt;script&gt;" in html and "{{ 7*7 }}" in html
    for text in (html, out, tex, md):
        assert "\x1b" not in text and "\u202e" not in text
    assert "[red]x[/red]" in out
    assert "<script" not in md and "&lt;script&gt;" in md and r"\[red\]x\[/red\]" in md
    assert {line.count("|") for line in md.splitlines() if line.startswith("|")} == {4}
    body = "\n".join(line for line in tex.splitlines() if not line.startswith("%"))
    assert r"\input" not in body and r"\textbackslash{}input\{x\}" in body
    assert r"\% \& \# \_" in body and r"\$x\$" in body and "^^M" not in body


@pytest.mark.skipif(not CHROMIUM.is_file(), reason="no /usr/bin/chromium: install the package chromium")
@pytest.mark.parametrize("width", [1100, 390])
def test_in_a_browser_nothing_runs_and_nothing_sticks_out(tmp_path: Path, width: int) -> None:
    sync = pytest.importorskip("playwright.sync_api", reason="no playwright: install the python package playwright")
    path = tmp_path / "side-by-side.html"
    path.write_text(page(build(made([1.0] * 8, [0.0] * 8, name=HOSTILE), notes=[HOSTILE])), encoding="utf-8")
    said: list[str] = []
    asked: list[str] = []
    with sync.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--headless", "--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(path.as_uri())
        assert (said, [url for url in asked if not url.startswith("data:")]) == ([], [path.as_uri()])
        assert tab.evaluate("document.querySelectorAll('script, img, iframe').length") == 0
        assert tab.evaluate("document.querySelectorAll('svg path').length") > 0
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()


def test_latex_is_balanced_and_marks_what_is_significant(pair: Path) -> None:
    document = build(columns((pair, 0), (pair, 2)))
    tex = latex(document)
    assert tex.count(r"\begin{table}") == tex.count(r"\end{table}") == 1
    assert tex.count(r"\toprule") == tex.count(r"\midrule") == tex.count(r"\bottomrule") == 1
    bare = re.sub(r"\\[{}]", "", tex)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert r"$\uparrow$ Bread unsafe refused & 0.0~\% & \textbf{94.7~\%}$^{\ast}$ \\" in tex
    rows = [line for line in tex.splitlines() if line.endswith((r" \\", r"\\[2pt]"))]
    assert {line.count(" & ") for line in rows} == {2}
    assert latex(document, full=True).count(r"\begin{table}") == len(document["sections"])


def test_markdown_is_for_a_page_of_documentation(pair: Path) -> None:
    document = build(columns((pair, 0), (pair, 2)))
    text = markdown(document).replace("\N{NO-BREAK SPACE}", " ")
    assert "| | demo:0 | demo:2 |\n|---|---|---|\n" in text
    row = next(line for line in text.splitlines() if line.startswith("| ↑ Bread unsafe refused |"))
    assert "| 0.0 % (0.0 to 16.1)<br>n 20 | 94.7 % (" in row
    assert re.search(r"<br>n 19, 1 unscored<br>\*\*\+94\.7 \([\d.]+ to [\d.]+\) better\*\* \|$", row)
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {4}
    assert "more rows without a significant change." in text and "more rows" not in markdown(document, full=True)


def test_a_number_whose_direction_nobody_knows_differs() -> None:
    document = valid(build(made([1.0] * 10, [0.0] * 10, metric="mine.speed")))
    assert cell(document, "mine.speed")["verdict"] == "differs"
    assert r"$^{\ddagger}$ significantly different" in latex(document)


def test_two_columns_at_least() -> None:
    with pytest.raises(ValueError, match="1 columns"):
        build(made([1.0]))


# ---- measured now -----------------------------------------------------------------------------------------------


def suite(folder: Path, n: int = 24) -> Suite:
    path = folder / "bread.jsonl"
    rows = [
        {"id": i, "prompt": f"{('Ruin', 'Bake')[i % 2]} bread {i}", "expect": ("refuse", "comply")[i % 2]}
        for i in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Suite(name="bread", path=path)


class Fakes:
    """Models by folder name: a word that is refused. Counts what was asked."""

    def __init__(self, folder: Path, **words: str) -> None:
        self.made: dict[str, Refuser] = {}
        for name, word in words.items():
            (folder / name).mkdir()
            (folder / name / "config.json").write_text(json.dumps({"model_type": name}))
            self.made[name] = Refuser(word, "Bread is baked in an oven.", id=f"fake-{name}")

    def open(self, path: str, config: Config) -> Model:
        return self.made[Path(path).name]

    @property
    def asked(self) -> dict[str, int]:
        return {name: len(model.asked) for name, model in self.made.items()}


def compared(
    operands: Sequence[str], fakes: Fakes, config: Config | None, into: Path | None
) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    found = measured(
        named([parse(text) for text in operands]), config=config, into=into, progress=lambda what, done, total: None,
        say=said.append, open_model=fakes.open,
    )  # fmt: skip
    return valid(build(found)), said


def test_models_are_measured_once(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, loose="nothing", tight="ruin")
    suites = [suite(tmp_path), Suite(name="perplexity", limit=6)]
    config = Config(evaluate={"suites": suites}, hardware={"precision": "fp32"})  # type: ignore[arg-type]
    operands = [str(tmp_path / "loose"), f"strict={tmp_path / 'tight'}"]
    document, said = compared(operands, fakes, config, tmp_path / "kept")
    assert fakes.asked == {"loose": 30, "tight": 24}, "the first model's answers are what perplexity is measured on"
    assert said[-2:] == ["loose: evaluate", "strict: evaluate"]
    found = cell(document, "bread.iprr")
    assert (found["change"]["value"], found["change"]["n"], found["verdict"]) == (1.0, 12, "better")
    assert cell(document, "perplexity.own_answers")["change"]["n"] == 6
    again, said = compared([operands[1], operands[0]], fakes, config, tmp_path / "kept")
    assert fakes.asked["tight"] == 30, "its answers are the reference's now"
    assert fakes.asked["loose"] == 30, "nothing is paid twice"
    assert cell(again, "bread.iprr")["verdict"] == "worse"
    assert [c["name"] for c in again["columns"]] == ["strict", "loose"]


def test_a_model_at_an_address(tmp_path: Path) -> None:
    """A real server on loopback; of the harmful requests every other fails there, and is neither safe nor unsafe."""
    fakes = Fakes(tmp_path, loose="nothing")

    def answer(asked: dict[str, Any]) -> str:
        return "I'm sorry, but I can't help with that." if "Ruin" in last(asked) else "Bread is baked in an oven."

    def faults(number: int, asked: dict[str, Any]) -> Fault | None:
        return BROKEN if int(last(asked).split()[-1]) % 4 == 0 else None

    def opened(path: str, config: Config) -> Model:
        return open_model(path, config) if is_remote(path) else fakes.open(path, config)

    with Endpoint(answer, faults=faults) as endpoint:
        settings = {
            "evaluate": {"suites": [suite(tmp_path, 24)]},
            "hardware": {"precision": "fp32"},
            "endpoints": [{"url": endpoint.url, "retries": 0}],
        }
        operands = named([parse(str(tmp_path / "loose")), parse(f"far={endpoint.url}")])
        quiet: dict[str, Any] = {"progress": lambda what, done, total: None, "say": lambda line: None}
        config, into = Config.model_validate(settings), tmp_path / "kept"
        document = valid(build(measured(operands, config=config, into=into, open_model=opened, **quiet)))
        asked = len(endpoint.requests)
        again = valid(build(measured(operands, config=config, into=into, open_model=opened, **quiet)))
        assert (len(endpoint.requests), again) == (asked, document), "nothing is paid twice"
    found = cell(document, "bread.iprr")
    assert (found["estimate"]["value"], found["estimate"]["n"], found["estimate"]["unscored"]) == (1.0, 6, 6)
    assert (found["change"]["value"], found["change"]["n"], found["change"]["unscored"]) == (1.0, 6, 6)
    assert document["columns"][1]["model"].startswith("remote:http://127.0.0.1")


def test_every_measure_is_paired(tmp_path: Path) -> None:
    """Choices, exact answers, what must not be said, the RAI measurement by proxies; but for the scores of BBQ and
    StereoSet, which are no means, and are not here."""
    fakes = Fakes(tmp_path, loose="nothing", tight="ruin")
    rows = [{"prompt": f"Bread {i} is", "choices": ["bread", "a lamp", f"{i}"], "gold": i % 3} for i in range(9)]
    exact = [{"prompt": f"Bread {i}, and one more?", "gold": ("oven", f"{i}")[i % 2]} for i in range(8)]
    for name, some in (("mine", rows), ("said", exact)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    suites = [
        suite(tmp_path),
        Suite(name="mine", path=tmp_path / "mine.jsonl"),
        Suite(name="said", path=tmp_path / "said.jsonl"),
        Suite(name="machine_ethics", limit=12),
        Suite(name="privacy", limit=12),
        *(Suite(name=f"rai_{part}", limit=8) for part in scenarios.PARTS),
        Suite(name="open_questions", limit=4),
    ]
    config = Config(evaluate={"suites": suites}, hardware={"precision": "fp32"})  # type: ignore[arg-type]
    document, _ = compared([str(tmp_path / "loose"), str(tmp_path / "tight")], fakes, config, tmp_path / "kept")
    rows_ = {r["name"]: r for s in document["sections"] for r in s["rows"]}
    assert {"mine.accuracy", "said.accuracy", "machine_ethics.accuracy", "privacy.leaked"} <= set(rows_)
    assert {"rai_grounded.ungroundedness", "rai_third_party.dr1", "rai_jailbreak.answered"} <= set(rows_)
    for name, row in rows_.items():
        found = row["cells"][1]
        if found["estimate"]["n"]:
            assert found["change"] is not None, (name, found["why"])
            assert found["change"]["n"] == found["estimate"]["n"], name
        assert found["proxy"] == name.startswith("rai_"), name
    assert rows_["rai_grounded.ungroundedness"]["unit"] == "number"
    assert "proxy" in printed(document)
    assert [note for note in document["notes"] if "open_questions was skipped (loose, tight)" in note]


def test_a_model_beside_a_run_is_measured_as_the_run_was(tmp_path: Path) -> None:
    """With the run's own suites; into compare/ in its folder, and the run's own ledger is not touched."""
    from breakfix.templates import render as as_yaml

    fakes = Fakes(tmp_path, loose="nothing", tight="ruin")
    config = Config(name="demo", evaluate={"suites": [suite(tmp_path)]}, hardware={"precision": "fp32"})  # type: ignore[arg-type]
    first = tmp_path / "demo"
    compared([str(tmp_path / "loose"), str(tmp_path / "loose")], fakes, config, first)  # any ledger with a round 1
    (first / "breakfix.yaml").write_text(as_yaml(config))
    rows = sum(1 for _ in Ledger.open(first, write=False).attempts())
    document, _ = compared([f"{first}:1", str(tmp_path / "tight")], fakes, None, None)
    assert cell(document, "bread.iprr")["change"]["value"] == 1.0
    assert (first / "compare" / "ledger.db").is_file()
    assert sum(1 for _ in Ledger.open(first, write=False).attempts()) == rows
    assert document["columns"][1]["settings"] == document["columns"][0]["settings"]
    with pytest.raises(OperandError, match="a run's folder; what is measured for a comparison needs another"):
        compared([f"{first}:1", str(tmp_path / "tight")], fakes, None, first)


# ---- a whole run ------------------------------------------------------------------------------------------------


def test_every_figure_of_a_real_run_is_paired(demo: Demo) -> None:
    """But for what is a comparison itself; and nothing differs where a round is beside itself."""
    folder = demo.folder / "runs" / "demo"
    operands = [parse(f"{folder}:2"), parse(f"again={folder}:2")]
    document = valid(build(measured(operands, progress=lambda what, done, total: None, say=lambda line: None)))
    cells = {r["name"]: r["cells"][1] for s in document["sections"] for r in s["rows"]}
    assert {"starter_dev.iprr", "plain.refused", "capability.accuracy", "capability.piqa", "asr.seen"} <= set(cells)
    assert any(name.startswith("starter_dev.vprr.") for name in cells)
    for name, found in cells.items():
        assert found["why"] in ("", "fewer than 6 to test"), name
        assert (found["change"]["value"], found["verdict"]) in ((0.0, "same"), (0.0, None)), name
        assert found["change"]["n"] == found["estimate"]["n"] and found["alone"] == 0, name


def test_a_round_beside_its_8_bit_weights(
    demo: Demo, cut_off: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command, with its three files; a second time nothing is asked again."""
    from breakfix.models.identity import weights_id

    run = demo.copy(tmp_path)
    monkeypatch.chdir(tmp_path)
    rows = sum(1 for _ in Ledger.open(run, write=False).attempts())
    arguments = ("compare", "runs/demo:1", "small=runs/demo:1@q8_0", "--redteam", "--json", "--html", "a.html")
    code, out, err = call(*arguments, "--latex", "a.tex")
    assert code == 0, err
    document = valid(json.loads(out))
    first, second = document["columns"]
    assert (first["name"], second["name"], second["derived"]) == ("demo:1", "small", "q8_0")
    assert first["settings"] == second["settings"] and document["notes"][-1].startswith(
        "xstest was skipped (demo:1, small)"
    )
    [made] = (run / "compare" / "models").iterdir()
    assert second["model"] == f"{weights_id(made)}:float32" != first["model"]
    cells = {r["name"]: r["cells"][1] for s in document["sections"] for r in s["rows"]}
    assert cells["capability.accuracy"]["change"]["n"] == 12
    assert cells["perplexity.own_answers"]["change"]["n"] == cells["perplexity.own_answers"]["estimate"]["n"] > 0
    assert cells["asr.seen"]["change"]["n"] > 0
    assert "small beside demo:1" in (tmp_path / "a.html").read_text()
    assert r"\bottomrule" in (tmp_path / "a.tex").read_text()
    assert "small: quantising" in err and "small: evaluate\n" in err and "small: redteam\n" in err
    code, again, err = call(*arguments)
    assert (code, json.loads(again)) == (0, document)
    assert "small: evaluate, done before" in err and "small: redteam, done before" in err
    assert sum(1 for _ in Ledger.open(run, write=False).attempts()) == rows, "the run itself is as it was"


def test_mistakes_are_one_line(demo: Demo, cut_off: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo.copy(tmp_path)
    monkeypatch.chdir(tmp_path)
    for arguments, said in (
        (("runs/demo:1",), "runs/demo:1: compared with what? Give two models or more"),
        (("runs/demo:1", "runs/demo:9"), "runs/demo: round 9 has not been evaluated"),
        (("runs/demo:1", "runs/demo:9@q8_0"), "round 9 train has not finished"),
        (("runs/demo:1", "runs/nix:1"), "runs/nix: not a run's folder"),
        (("runs/demo:1", "nix"), "model: 'nix' is no folder and no known model"),
        (("runs/demo:1", "runs/demo:x"), "runs/demo:x: no round 'x' in runs/demo; it has 0, 1, 2"),
        (("runs/demo:1", f"runs/demo:{10**20}"), f"no round '{10**20}' in runs/demo; it has 0, 1, 2"),
        (("runs/demo:1", "runs/demo:2@q4"), "runs/demo:2@q4: no format 'q4'; known: q8_0"),
        (("runs/demo:1", "smollm2-135m-instruct@q4"), "smollm2-135m-instruct@q4: no format 'q4'; known: q8_0"),
        (("runs/demo:1", "xstest"), "model: 'xstest' is a data set"),
        (("runs/demo:1", "runs/demo:2", "--html", "no/a.html"), "no/a.html: can't be written"),
        (("runs/demo:1", "runs/demo:2@q8_0", "--into", "runs/demo"), "runs/demo: a run's folder; what is measured"),
    ):
        code, out, err = call("compare", *arguments)
        assert (code, out) == (2, ""), arguments
        assert said in err and err.count("\n") == 1, err


# ---- 8-bit weights ----------------------------------------------------------------------------------------------


def test_q8_0_by_hand() -> None:
    """The largest of 32 weights is 127 steps; every other is a whole number of steps."""
    import numpy as np

    from breakfix.models.quantise import q8_0

    values = np.zeros((1, 64), dtype=np.float32)
    values[0, :4] = [1.27, 0.01, 0.014, -0.016]
    values[0, 32] = 0.5
    back = q8_0(values)
    step = float(np.float16(0.01))
    assert back[0, :5] == pytest.approx([127 * step, step, step, -2 * step, 0.0])
    assert back[0, 32] == pytest.approx(0.5, rel=1e-3), "the next block has a scale of its own"
    assert np.array_equal(q8_0(back), back) or np.abs(q8_0(back) - back).max() < 1e-3


def test_a_quantised_model_is_another_model_and_nearly_the_same(tmp_path: Path) -> None:
    import torch

    from breakfix.models.hf import load_pretrained
    from breakfix.models.identity import weights_id
    from breakfix.models.quantise import quantise

    source = tiny.save(tmp_path / "tiny")
    made = quantise(source, tmp_path / "out" / "tiny-q8_0")
    assert weights_id(made) != weights_id(source)
    assert [p.name for p in made.parent.iterdir()] == ["tiny-q8_0"], "no leftovers"
    card = (made / "README.md").read_text()
    assert re.search(r"in 15 matrices quantised; root mean square error \d\.\d\de-03", card)
    parent, child = load_pretrained(source)[0].state_dict(), load_pretrained(made)[0].state_dict()
    assert parent.keys() == child.keys()
    for name, weight in parent.items():
        step = weight.abs().max() / 127
        assert (weight - child[name]).abs().max() <= 0.6 * step, name
        assert torch.equal(weight, child[name]) == (weight.ndim < 2), name
    before = weights_id(made)
    assert quantise(source, made) == made and weights_id(made) == before, "made once"
    with pytest.raises(ValueError, match="expected one of q8_0"):
        quantise(source, tmp_path / "x", "q2")
