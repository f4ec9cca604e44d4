"""`breakfix vulns`, on a ledger written by hand: what people change is kept by the next round."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from breakfix.cli.commands import COMMANDS, parse
from breakfix.config import Config
from breakfix.core import Vulnerability
from breakfix.identify import run
from breakfix.ledger import Ledger
from breakfix.report import build
from conftest import call
from test_identify import attempt, case


def measure(folder: Path, round: int, cases: str, *, n: int = 6, holds: Collection[str] = ()) -> None:
    """A round in which two families fail on every case but on those of `holds`, and its vulnerabilities."""
    with Ledger.open(folder, create=True) as ledger:
        given = [case(f"{cases}{i}") for i in range(n)]
        ledger.add_cases(given)
        made = [
            attempt(c, float(c.id in holds), family=f, id=f"{f}{round}{c.id}")
            for c in given
            for f in ("direct", "role_play")
        ]
        ledger.add_attempts(made, round=round, stage="redteam")
        ledger.stage(round, "identify", {}, lambda: run(Config(), ledger, round=round))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    measure(tmp_path / "run", 0, "a")
    return tmp_path / "run"


def done(*words: str) -> str:
    code, out, err = call("vulns", *words)
    assert code == 0, err
    return out


def ids(folder: Path) -> list[str]:
    return [v["id"] for v in json.loads(done(str(folder), "--json"))["vulnerabilities"]]


def shown(folder: Path, id: str) -> dict[str, Any]:
    return json.loads(done("show", id, str(folder), "--json"))


def left(folder: Path, round: int) -> dict[str, Vulnerability]:
    """What a round itself wrote."""
    with Ledger.open(folder, write=False) as ledger:
        return {v.id: v for v in ledger.vulnerabilities(round=round)}


def test_all_are_listed_and_one_is_shown(folder: Path) -> None:
    assert sorted(ids(folder)) == ["V1", "V2"]
    assert "regression suite: 6 pairs" in done("show", "V1", str(folder))


def test_a_name_a_note_and_who_looks_after_it_stay_over_later_rounds(folder: Path) -> None:
    done("rename", "V1", str(folder), "Talks of bread")
    done("note", "V1", str(folder), "seen in the field", "--by", "Ada")
    done("assign", "V1", str(folder), "Ada")
    for round, cases in ((1, "a"), (2, "b")):
        measure(folder, round, cases)
        v = shown(folder, "V1")
        assert (v["name"], v["assignee"]) == ("Talks of bread", "Ada")
        assert [(n["round"], n["by"], n["what"], n["text"]) for n in v["notes"] if n["what"] == "note"] == [
            (0, "Ada", "note", "seen in the field")
        ]
    done("assign", "V1", str(folder), "")
    assert shown(folder, "V1")["assignee"] == ""
    assert shown(folder, "V2")["name"] != "Talks of bread"


@pytest.mark.parametrize(("what", "told"), [("rename", "a name"), ("note", "a note"), ("assign", "who looks after it")])
def test_a_run_without_words_is_no_edit_of_the_latest_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, what: str, told: str
) -> None:
    monkeypatch.chdir(folder.parent)
    measure(Path("runs/other"), 0, "a")
    assert call("vulns", what, "V1", "run") == (2, "", f"breakfix: run is a run; give {told} after it\n")
    assert not shown(Path("runs/other"), "V1")["notes"]


def test_who_looks_after_what_is_told_where_somebody_does(folder: Path) -> None:
    assert "looks after it" not in done(str(folder))
    done("assign", "V1", str(folder), "Ada")
    assert "Ada looks after it" in " ".join(done(str(folder)).split())


@pytest.mark.parametrize("later", ["a", "b"], ids=["same cases", "new cases"])
def test_a_merge_stays_and_its_cell_opens_no_new_one(folder: Path, later: str) -> None:
    done("merge", "V1", "V2", str(folder))
    measure(folder, 1, later)
    assert ids(folder) == ["V1"]


def test_a_split_stays_and_an_undone_one_does_not(folder: Path) -> None:
    done("split", "V1", str(folder), "--cases", "a0,a1")
    assert sorted(ids(folder)) == ["V1", "V2", "V3"]
    done("undo", str(folder))
    assert sorted(ids(folder)) == ["V1", "V2"]


def test_trace_says_into_what_one_was_merged(folder: Path) -> None:
    done("merge", "V1", "V2", str(folder))
    code, _, err = call("trace", "V2", str(folder))
    assert (code, err) == (0, "V2 was merged into V1; `breakfix trace V1` has what came after\n")
    assert call("trace", "V1", str(folder))[2] == ""


def test_a_merge_is_measured_as_one(folder: Path) -> None:
    """Both suites, all twelve attempts; it is not fixed while either half fails."""
    done("merge", "V1", "V2", str(folder))
    measure(folder, 1, "a", holds=["a0", "a1", "a2"])
    v = shown(folder, "V1")
    assert (v["suite"], v["rate"]["n"], v["rate"]["value"], v["status"]) == (12, 12, 0.5, "open")
    assert call("vulns", "show", "V2", str(folder)) == (2, "", "breakfix: V2 was merged into V1; give that\n")


def test_a_split_stays_over_later_rounds_and_each_side_has_a_life_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    measure(folder, 0, "a", n=80)
    half = [f"a{i}" for i in range(40)]
    done("split", "V1", str(folder), "--cases", ",".join(half), "--name", "Talks of rye")
    assert (shown(folder, "V1")["suite"], shown(folder, "V3")["suite"]) == (40, 40)
    measure(folder, 1, "a", n=80)
    assert sorted(ids(folder)) == ["V1", "V2", "V3"], "nothing new opens in the cell of both"
    measure(folder, 2, "a", n=80, holds=half)
    one, new = shown(folder, "V1"), shown(folder, "V3")
    assert (one["status"], one["rate"]["n"], one["rate"]["value"]) == ("open", 40, 1.0)
    assert (new["status"], new["rate"]["n"], new["rate"]["value"]) == ("fixed", 40, 0.0)
    assert new["name"] == "Talks of rye"
    measure(folder, 3, "a", n=80)
    assert (shown(folder, "V1")["status"], shown(folder, "V3")["status"]) == ("open", "reopened")
    assert sorted(ids(folder)) == ["V1", "V2", "V3"]


def test_what_was_split_off_can_be_merged_back(folder: Path) -> None:
    done("split", "V1", str(folder), "--cases", "a0,a1")
    measure(folder, 1, "a")
    done("merge", "V1", "V3", str(folder))
    measure(folder, 2, "a")
    assert sorted(ids(folder)) == ["V1", "V2"]
    assert (shown(folder, "V1")["suite"], shown(folder, "V1")["rate"]["n"]) == (6, 6)


def test_the_last_edit_is_undone_first_and_one_that_a_round_has_begun_with_stays(folder: Path) -> None:
    name = shown(folder, "V1")["name"]
    done("merge", "V1", "V2", str(folder))
    done("rename", "V1", str(folder), "Talks of bread")
    done("undo", str(folder))
    assert (ids(folder), shown(folder, "V1")["name"]) == (["V1"], name)
    done("undo", str(folder))
    assert sorted(ids(folder)) == ["V1", "V2"]
    done("merge", "V1", "V2", str(folder))
    measure(folder, 1, "a")
    code, _, err = call("vulns", "undo", str(folder))
    assert code == 2 and "the last edit (merge of V1) stays: round 1 has begun with it" in err
    done("note", "V1", str(folder), "to be looked at")
    measure(folder, 2, "a")
    done("undo", str(folder))  # a note has shaped nothing
    assert [n["what"] for n in shown(folder, "V1")["notes"]] == ["merge"]
    assert ids(folder) == ["V1"]


def test_an_id_is_never_given_again(folder: Path) -> None:
    """Not that of an undone split either, nor of what was merged away; what opens later comes after."""
    done("split", "V1", str(folder), "--cases", "a0,a1")
    done("undo", str(folder))
    assert done("split", "V1", str(folder), "--cases", "a0,a1").startswith("V4: ")
    done("merge", "V2", "V4", str(folder))
    with Ledger.open(folder) as ledger:
        other = [case(f"c{i}", hazard="privacy") for i in range(6)]
        ledger.add_cases(other)
        ledger.add_attempts([attempt(c, 0.0, id=f"p{c.id}") for c in other], round=1, stage="redteam")
    measure(folder, 1, "a")
    assert sorted(ids(folder)) == ["V1", "V2", "V5"]


def test_the_report_and_the_list_have_what_people_changed_since_the_last_round(folder: Path) -> None:
    done("rename", "V1", str(folder), "Talks of bread")
    done("note", "V2", str(folder), "seen before")
    done("split", "V1", str(folder), "--cases", "a0,a1")
    listed = {v["id"]: v for v in json.loads(done(str(folder), "--json"))["vulnerabilities"]}
    assert [(h["round"], h["status"], h["measured"]) for h in listed["V3"]["history"]] == [(0, "open", True)]
    done("merge", "V1", "V2", str(folder))
    with Ledger.open(folder, write=False) as ledger:
        told = {v["id"]: v for v in build(ledger)["vulnerabilities"]}
    assert set(told) == {"V1", "V3"} and told["V1"]["name"] == "Talks of bread"
    assert (told["V1"]["suite"], told["V3"]["suite"]) == (10, 2)
    assert [note["what"] for note in told["V1"]["notes"]] == ["rename", "note", "split", "merge"]
    assert told["V3"]["history"][0]["rate"]["n"] == 2


def test_edits_change_nothing_that_a_round_wrote(folder: Path) -> None:
    before = left(folder, 0)
    done("rename", "V1", str(folder), "Talks of bread")
    done("split", "V1", str(folder), "--cases", "a0,a1")
    done("merge", "V1", "V2", str(folder))
    assert left(folder, 0) == before
    assert call("verify", str(folder))[0] == 0


@pytest.mark.parametrize("child", COMMANDS["vulns"].children, ids=lambda child: child.name)
def test_every_sub_command_has_help_with_an_example_that_parses(child: Any) -> None:
    code, out, err = call("vulns", child.name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: breakfix vulns {child.name}") and out.endswith(f"Example:  {child.example}\n")
    words = shlex.split(child.example)
    assert words[:3] == ["breakfix", "vulns", child.name]
    assert parse(words[1:]).command.name == "vulns"
    assert all(argument.options.get("help") or argument.options.get("choices") for argument in child.arguments)


@pytest.mark.parametrize("words", ["show V9", "merge V1 V1", "split V1 --topic nowhere", "split V1 --cases zz", "undo"])
def test_mistakes_are_one_line(folder: Path, words: str) -> None:
    name, *rest = words.split()
    ids, options = [w for w in rest if w.startswith("V")], [w for w in rest if not w.startswith("V")]
    code, out, err = call("vulns", name, *ids, str(folder), *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
