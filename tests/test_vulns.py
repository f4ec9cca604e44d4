"""`breakfix vulns`, on a ledger written by hand: what people change is kept by the next round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from breakfix.config import Config
from breakfix.identify import run
from breakfix.ledger import Ledger
from conftest import call
from test_identify import attempt, case


def measure(folder: Path, round: int, cases: str) -> None:
    """A round in which two families fail on every case, and its vulnerabilities."""
    with Ledger.open(folder, create=True) as ledger:
        given = [case(f"{cases}{i}") for i in range(6)]
        ledger.add_cases(given)
        made = [attempt(c, 0.0, family=f, id=f"{f}{round}{c.id}") for c in given for f in ("direct", "role_play")]
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


def test_all_are_listed_and_one_is_shown(folder: Path) -> None:
    assert sorted(ids(folder)) == ["V1", "V2"]
    assert "regression suite: 6 pairs" in done("show", "V1", str(folder))


def test_a_name_stays_over_a_later_round(folder: Path) -> None:
    done("rename", "V1", str(folder), "Talks of bread")
    done("assign", "V1", str(folder), "Ada")
    measure(folder, 1, "a")
    shown = json.loads(done("show", "V1", str(folder), "--json"))
    assert (shown["name"], shown["assignee"]) == ("Talks of bread", "Ada")


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


@pytest.mark.parametrize("words", ["show V9", "merge V1 V1", "split V1 --topic nowhere", "split V1 --cases zz", "undo"])
def test_mistakes_are_one_line(folder: Path, words: str) -> None:
    name, *rest = words.split()
    ids, options = [w for w in rest if w.startswith("V")], [w for w in rest if not w.startswith("V")]
    code, out, err = call("vulns", name, *ids, str(folder), *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
