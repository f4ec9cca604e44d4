"""breakfix judges as a user meets it: every help has an example, every example runs, every mistake is one line."""

from __future__ import annotations

import errno
import io
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import breakfix
from breakfix.cli.commands import COMMANDS
from breakfix.core import Verdict
from breakfix.errors import DataError
from breakfix.judges.refusal import RefusalJudge
from breakfix.ledger import Ledger
from conftest import call, environment
from test_judges_rejudge import NO, YES, fill

CHILDREN = {child.name: child for child in COMMANDS["judges"].children}
ROWS = [
    {"prompt": "Bake bread", "response": NO},
    {"prompt": "Bake bread", "response": YES},
    {"prompt": "Bake bread", "response": ""},
    {"prompt": "Bake bread", "response": f"{NO} But first, mix flour and water, then knead the dough slowly and well."},
    {"prompt": "Bake bread", "response": "ขอโทษครับ ฉันช่วยเรื่องนี้ไม่ได้"},
]
LABELS = ["full", "none", "degenerate", "partial", "unscored"]


@pytest.fixture
def here(tmp_path: Path, cut_off: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run, rows and labels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BREAKFIX_HOME", str(tmp_path / "home"))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    labelled = [{**row, "label": label, "category": "tea"} for row, label in zip(ROWS, LABELS, strict=True)]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled))
    with Ledger.open(tmp_path / "runs" / "demo", create=True) as ledger:
        fill(ledger)
    (tmp_path / "runs" / "demo" / "breakfix.yaml").write_text("name: demo\n")
    return tmp_path


def ok(*arguments: str) -> str:
    code, out, err = call("judges", *arguments)
    assert code == 0, err
    return out


def test_the_list_says_what_each_judge_is_worth(here: Path) -> None:
    rows = {row["name"]: row for row in json.loads(ok("--json"))}
    assert {"refusal", "refusal-classifier", "objective", "severity", "rubric/refusal"} <= set(rows)
    assert rows["refusal-rules"]["version"] == RefusalJudge.name
    assert rows["refusal-rules"]["card"]["accuracy"] >= 0.95
    assert rows["rubric/refusal"]["needs_model"]
    out = " ".join(ok().split())
    assert f"(pyrit-refusal, n 169, {RefusalJudge.name})" in out
    assert "not measured" in out


def test_the_version_in_the_list_is_the_last_that_was_measured(here: Path) -> None:
    """A card keeps older versions; of one day and as many rows, the one that was added last is what runs."""
    cards = Path(breakfix.__file__).parent / "data" / "cards"
    kept = json.loads((cards / "refusal.json").read_text("utf-8"))["calibrations"]
    rows = {row["name"]: row for row in json.loads(ok("--json"))}
    assert rows["refusal"]["version"] == rows["refusal"]["card"]["judge"] == kept[-1]["judge"]
    assert RefusalJudge.name in rows["refusal"]["version"]


@pytest.mark.parametrize("name", ["refusal", "refusal-rules", "refusal-classifier"])
def test_a_card_begins_with_the_version_that_holds_now_and_marks_the_others(here: Path, name: str) -> None:
    first, *rest = ok("card", name).split("\n\n")
    [now] = first.splitlines()
    version = now.removeprefix(f"{name}, now ")
    told = [part.splitlines()[0] for part in rest if not part.startswith("rows ")]
    assert version != now and f", {version}, shipped" in told[0] and len(told) > 1
    assert all(("(an older version)" in line) == (f", {version}," not in line) for line in told)


@pytest.mark.parametrize("width", ["60", "80"])
def test_the_tables_of_a_card_fit_the_terminal(here: Path, monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    monkeypatch.setenv("COLUMNS", width)
    parts = [part.splitlines() for part in ok("card", "refusal").split("\n\n")]
    tables = [part[2:] if part[1:2] and part[1].startswith("measures") else part for part in parts[1:]]
    lines = [line for table in tables for line in table if not line.startswith("Not blind")]
    assert max(map(len, lines)) <= int(width)
    assert all(any(name in line for line in lines) for name in ("accuracy", "kappa", "sensitivity", "specificity"))


@pytest.mark.parametrize("name", CHILDREN)
def test_every_help_ends_with_an_example_and_the_example_runs(here: Path, name: str) -> None:
    child = CHILDREN[name]
    out = ok(name, "--help")
    assert out.startswith(f"usage: breakfix judges {name}")
    assert out.endswith(f"Example:  {child.example}\n")
    assert all(argument.options.get("help") for argument in child.arguments)
    words = shlex.split(child.example)
    assert words[:3] == ["breakfix", "judges", name]
    code, out, err = call(*words[1:])
    assert code == 0, err
    assert out.strip() or (here / "sheet.csv").is_file()


def test_rows_are_judged_in_their_order_one_json_object_a_line(here: Path) -> None:
    lines = [json.loads(line) for line in ok("run", "refusal", "rows.jsonl", "--json").splitlines()]
    assert [line["label"] for line in lines] == LABELS
    assert [line["score"] for line in lines] == [1.0, 0.0, None, 1.0, None]
    assert all(line["reason"] and line["judge"] == RefusalJudge.name and line["severity"] is None for line in lines)
    assert ok("run", "refusal", "rows.jsonl").splitlines()[0] == "full refusal at character 4"


def test_rows_come_from_stdin_too_and_may_expect_an_answer(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [{**ROWS[0], "expect": "comply"}, {**ROWS[1], "expect": "comply", "language": "en", "category": None}]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(map(json.dumps, given))))
    lines = [json.loads(line) for line in ok("run", "refusal", "-", "--json").splitlines()]
    assert [(line["label"], line["score"]) for line in lines] == [("full", 0.0), ("none", 1.0)]


def test_a_judge_that_fails_on_every_row_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Down:
        name = "down@1"

        def judge(self, rows: Any) -> Any:
            raise RuntimeError("nobody answers")

    monkeypatch.setattr("breakfix.cli.judges._open", lambda *_: Down())
    code, out, err = call("judges", "run", "refusal", "rows.jsonl", "--json")
    assert (code, len(out.splitlines())) == (1, len(ROWS))
    assert err == "breakfix: the judge failed on 5 of 5 rows; the first: the judge failed: RuntimeError\n"

    class Often(RefusalJudge):
        def judge(self, rows: Any) -> Any:
            given = super().judge(rows)
            return [given[0], *(Verdict(None, "unscored", "failed: timed out", self.name) for _ in rows[1:])]

    monkeypatch.setattr("breakfix.cli.judges._open", lambda *_: Often())
    code, out, err = call("judges", "run", "refusal", "rows.jsonl", "--json")
    assert (code, err) == (0, "breakfix: the judge failed on 4 of 5 rows; the first: failed: timed out\n")


def test_rows_that_can_not_be_judged_are_no_failure_of_the_judge(here: Path) -> None:
    (here / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (ROWS[2], ROWS[4])))
    assert call("judges", "run", "refusal-rules", "odd.jsonl")[::2] == (0, "")


@pytest.mark.parametrize("mode", ["0", "1"])
def test_bytes_on_stdin_that_are_no_text(here: Path, mode: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "breakfix", "judges", "run", "refusal", "-"],
        input=b'{"prompt": "\xff"}', capture_output=True, env=environment(PYTHONUTF8=mode),
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == b"breakfix: stdin: not UTF-8; give rows as UTF-8\n"


def test_half_characters_and_a_megabyte_are_judged(here: Path) -> None:
    rows = [{"prompt": "x\ud800", "response": "No\ud800."}, {"prompt": "Bake bread", "response": "bread " * 200_000}]
    (here / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(ok("run", "refusal", "odd.jsonl", "--json").splitlines()) == 2
    assert len(ok("run", "refusal", "odd.jsonl").splitlines()) == 2


def test_no_rows_of_a_pipe_are_no_lines(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert ok("run", "refusal", "-", "--json") == ""


def test_calibrate_makes_a_card_that_is_shown_and_used(here: Path) -> None:
    made = json.loads(ok("calibrate", "labels.jsonl", "--judge", "refusal", "--json", "--note", "of the kitchen"))
    [one] = made["calibrations"]
    assert (one["labels"], one["n"], one["unscored"], one["accuracy"]) == ("labels.jsonl", 3, 0, 1.0)
    assert one["left_out"] == {"not labelled": 2}
    assert one["command"] == "breakfix judges calibrate labels.jsonl --judge refusal"
    assert Path(made["card"]) == here / "home" / "cards" / "refusal.json"
    shown = json.loads(ok("card", "refusal", "--json"))["calibrations"]
    assert [c["labels"] for c in shown if c["from"] == "yours"] == ["labels.jsonl"] == [shown[-1]["labels"]]
    assert {c["labels"] for c in shown if c["from"] == "shipped"} == {"pyrit-refusal"}  # of more rows, so before it
    assert {"accuracy", "kappa", "f1", "sensitivity", "specificity", "by_category", "digest"} <= set(shown[-1])
    out = ok("card", "refusal")
    assert "of the kitchen" in out and "category: tea" in out
    rates = json.loads(ok("rejudge", "runs/demo", "--judge", "refusal", "--json"))["rates"]
    assert rates[0]["new_corrected"]["value"] is not None


def test_labels_alone_are_put_to_the_judge_of_refusals_and_a_set_to_its_own(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = json.loads(ok("calibrate", "labels.jsonl", "--json"))
    assert (made["name"], made["calibrations"][0]["command"]) == (
        "refusal",
        "breakfix judges calibrate labels.jsonl --judge refusal",
    )
    opened: list[str] = []
    monkeypatch.setattr("breakfix.judges.labels.load", lambda name, measure: opened.append(measure) or read_nothing())
    assert call("judges", "calibrate", "pyrit-severity")[0] == 2
    assert opened == ["severity"]


def read_nothing() -> Any:
    raise DataError("nothing there")


def test_a_card_may_be_written_elsewhere(here: Path) -> None:
    ok("calibrate", "labels.jsonl", "--judge", "refusal", "-o", "cards/mine.json")
    assert json.loads((here / "cards" / "mine.json").read_text())["name"] == "refusal"
    assert not (here / "home").exists()


def test_where_a_card_can_not_be_written_is_said_before_anything_is_judged(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "other.json").write_text(json.dumps({"name": "severity", "calibrations": []}))
    (here / "notes.json").write_text("{}")
    monkeypatch.setattr("breakfix.cli.judges._open", lambda *_: pytest.fail("a judge was opened"))
    for path, said in {
        "notes.json": "notes.json: not a judge's card (expected name and calibrations); take it away",
        "other.json": "other.json: the card of the judge 'severity'; give another path for that of 'refusal'",
        "runs": "runs: can't be written (a folder); give another path with -o",
        "notes.json/card.json": "notes.json: can't be made (File exists); give another path with -o",
    }.items():
        code, out, err = call("judges", "calibrate", "labels.jsonl", "--judge", "refusal", "-o", path)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert said in err
    assert (here / "notes.json").read_text() == "{}"


def test_a_second_set_of_labels_is_added_to_the_card(here: Path) -> None:
    for labels in ("labels.jsonl", "more.jsonl", "labels.jsonl"):
        (here / "more.jsonl").write_text((here / "labels.jsonl").read_text())
        ok("calibrate", labels, "--judge", "refusal", "-o", "mine.json")
    found = json.loads((here / "mine.json").read_text())["calibrations"]
    assert [one["labels"] for one in found] == ["more.jsonl", "labels.jsonl"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda one: one.pop("n"), "calibration 1: 'n' is missing or no int"),
        (lambda one: one.pop("digest"), "calibration 1: 'digest' is missing or no str"),
        (lambda one: one.update(unscored="3"), "calibration 1: 'unscored' is missing or no int"),
        (lambda one: one["intervals"].pop("kappa"), "calibration 1: 'kappa' is no figure with two bounds"),
        (lambda one: one.update(accuracy="good"), "calibration 1: 'accuracy' is no figure with two bounds"),
        (lambda one: one["by_category"]["tea"].pop("n"), "calibration 1, by_category: 'n' is missing or no int"),
        (lambda one: one.update(by_category=[1]), "calibration 1, by_category: 'n' is missing or no int"),
        (lambda one: one.update(counts=[1]), "calibration 1: 'counts' are no numbers by name"),
    ],
)
def test_a_spoilt_card_is_one_plain_line(here: Path, spoil: Any, said: str) -> None:
    ok("calibrate", "labels.jsonl", "--judge", "refusal")
    path = here / "home" / "cards" / "refusal.json"
    card = json.loads(path.read_text())
    spoil(card["calibrations"][0])
    path.write_text(json.dumps(card))
    for arguments in (["card", "refusal"], ["card", "refusal", "--json"], []):
        code, out, err = call("judges", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"refusal.json: not a judge's card ({said}); take it away, and calibrate again" in err


def test_a_sheet_is_labelled_and_read_back(here: Path) -> None:
    code, _, err = call("judges", "sheet", "runs/demo", "-o", "sheet.csv")
    assert (code, (here / "sheet.csv").is_file()) == (0, True)
    assert "nothing to judge by; a person who labels needs --redaction full" in err
    assert YES not in (here / "sheet.csv").read_text()
    text = ok("sheet", "runs/demo", "--redaction", "full")
    (here / "sheet.csv").write_text(text.replace('\n"","","held"', '\n"full","","held"'))
    one = json.loads(ok("calibrate", "sheet.csv", "--judge", "refusal", "--json"))["calibrations"][0]
    assert (one["n"], one["counts"]["tp"], one["by_source"]["direct"]["n"]) == (1, 1, 1)


def test_rejudge_needs_no_model_and_says_how_far_the_judges_agree(here: Path) -> None:
    found = json.loads(ok("rejudge", "runs/demo", "--judge", "refusal", "--json"))
    assert (found["judged"], found["known"], found["judge"]) == (7, 0, RefusalJudge.name)
    assert json.loads(ok("rejudge", "runs/demo", "--judge", "refusal", "--json"))["known"] == 7
    told = ok("rejudge", "--judge", "refusal")
    assert "broke to held" in told and "harmful answered" in told
    assert not {"None", "nan", "{"} & set(told.split()), "figures, not what Python calls them"


def test_a_rubric_is_put_to_a_real_endpoints_model_by_name(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What --model names is opened by the caller's function; here a fake that answers nothing readable."""
    from breakfix.core import Reply
    from breakfix.models.fake import Scripted

    asked: list[str] = []

    def model(name: str, config: Any) -> Any:
        asked.append(name)
        return Scripted({"": Reply("I would rather not say.")})

    monkeypatch.setattr("breakfix.cli.judges._model", model)
    lines = ok("run", "rubric/refusal", "rows.jsonl", "--model", "some/model", "--json").splitlines()
    assert asked == ["some/model"]
    assert {json.loads(line)["label"] for line in lines} <= {"unscored", "degenerate"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("nix", "`breakfix judges` has no command 'nix'; known: calibrate, card, run, rejudge, sheet"),
        ("rejuge", "has no command 'rejuge'; did you mean `breakfix judges rejudge`?"),
        ("run refusal rows.jsonl --jsno", "`breakfix judges run` has no option '--jsno'; did you mean `--json`?"),
        ("--jsno", "`breakfix judges` has no option '--jsno'; did you mean `--json`?"),
        ("run refusl rows.jsonl", "no judge 'refusl'; did you mean 'refusal'?"),
        ("run refusal nix.jsonl", "nix.jsonl: no such file; expected rows of prompt and response there"),
        ("run refusal bad.jsonl", "bad.jsonl:2: 'response' is nothing; expected text"),
        ("run refusal odd.jsonl", "odd.jsonl:1: 'expect' is 'cake'; expected refuse | comply | answer | grounded"),
        ("run refusal empty.jsonl", "empty.jsonl: no rows; expected JSON lines with prompt and response"),
        ("run guard/llama-guard:/nix rows.jsonl", "model: '/nix' is no folder and no known model; expected a folder,"),
        ("run rubric/refusal rows.jsonl", "rubric/refusal: needs a model to ask; give one with --model"),
        ("calibrate rows.jsonl --judge refusal", "rows.jsonl:1: no 'label'; expected what a person says"),
        ("calibrate pyrit-objective --judge refusal", "labels of objective; this judge measures refusal"),
        ("calibrate", "the following arguments are required: LABELS; see `breakfix judges calibrate --help`"),
        ("rejudge runs/demo", "the following arguments are required: --judge; see `breakfix judges rejudge --help`"),
        ("card rubric/refusal", "rubric/refusal: no card yet; make one with: breakfix judges calibrate LABELS --judge"),
        ("card nix", "no judge 'nix'; `breakfix judges` lists them"),
        ("rejudge runs/nix --judge refusal", "runs/nix: not a run's folder"),
        ("sheet runs/demo --redaction half", "'half': no such level of redaction"),
        ("sheet runs/demo --round 7", "round 7 has no replies to judge; rounds that have: 0"),
        ("sheet runs/demo -n 0", "'0' is not a whole number from 1 on; see `breakfix judges sheet --help`"),
    ],
)
def test_a_mistake_is_one_plain_line_and_exit_code_2(here: Path, arguments: str, said: str) -> None:
    (here / "bad.jsonl").write_text('{"prompt": "x", "response": "y"}\n{"prompt": "x"}\n')
    (here / "empty.jsonl").write_text("\n")
    (here / "odd.jsonl").write_text('{"prompt": "x", "response": "y", "expect": "cake"}\n')
    code, out, err = call("judges", *shlex.split(arguments))
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_file_that_may_not_be_read_is_one_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **how: Any) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    code, out, err = call("judges", "run", "refusal-rules", "rows.jsonl")
    assert (code, out) == (2, "")
    assert err == "breakfix: rows.jsonl: can't be read (Permission denied); check who may read it\n"


def test_a_row_that_is_wrong_stops_before_the_first_verdict(here: Path) -> None:
    (here / "bad.jsonl").write_text('{"prompt": "x", "response": "y"}\nnot json\n')
    code, out, _ = call("judges", "run", "refusal", "bad.jsonl", "--json")
    assert (code, out) == (2, "")
