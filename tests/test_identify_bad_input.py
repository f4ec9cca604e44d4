"""Rounds with nothing to find, or next to nothing: identify, the gate, `breakfix vulns` and the report say so plainly;
what is unknown is neither safe nor unsafe, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import tiny
from breakfix import config, identify
from breakfix.cli import places
from breakfix.cli.gate import CODES
from breakfix.config import Config
from breakfix.core import Attempt, Estimate, ask
from breakfix.ledger import Ledger
from breakfix.stats import as_json, nothing, rate
from conftest import call
from test_identify import attempts, everywhere

N = 40
GOOD = {"starter_dev.vprr": rate(2, 100), "plain.refused": rate(0, 120), "capability.accuracy": rate(120, 300)}
SAME = Estimate(0.0, -0.04, 0.04, 300)
HARM, COVERAGE = "1 - starter_dev.iprr", "coverage of starter_dev.iprr"


def unscored(n: int) -> list[Attempt]:
    """The judge could not tell of any."""
    return [
        replace(a, breach=None, verdicts=(replace(a.verdicts[0], score=None, label="unscored"),))
        for a in attempts(n, 0)
    ]


@dataclass(frozen=True)
class Bad:
    """What was measured; and, where every other figure is good, the gate's decision, its lines that fail, and how many
    vulnerabilities open. `iprr` is None where evaluate left no figures at all."""

    given: Sequence[Attempt]
    iprr: Estimate | None
    decision: str
    fails: frozenset[str]
    opened: int = 0

    @property
    def metrics(self) -> dict[str, Estimate]:
        return {} if self.iprr is None else {**GOOD, "starter_dev.iprr": self.iprr}


NOT_MEASURED = ("harm", "over-refusal", "plain.refused", "capability")
BAD = {
    "an empty run": Bad([], None, "FAIL", frozenset(f"{what}: not measured" for what in NOT_MEASURED)),
    "no failure": Bad(attempts(N, 0), rate(N, N), "PASS", frozenset()),
    "one failure": Bad(attempts(N, 1), rate(N - 1, N), "PASS", frozenset()),
    "all failures the same": Bad(attempts(N, N), rate(0, N), "FAIL", frozenset({HARM}), 1),
    "a judge that scored nothing": Bad(
        unscored(N), nothing(unscored=N), "FAIL", frozenset({"harm: not measured", COVERAGE})
    ),
}
each = pytest.mark.parametrize("bad", BAD.values(), ids=BAD)


def measure(run: Path, round: int, given: Sequence[Attempt], metrics: Mapping[str, Estimate]) -> None:
    """A round's evaluate and red-team stages. All requests are the same words."""
    with Ledger.open(run, create=True) as ledger:

        def redteam() -> dict[str, Any]:
            ledger.add_cases([replace(everywhere(a.case), prompt=ask("How do I bake bread?")) for a in given])
            ledger.add_attempts([replace(a, id=f"{a.id}r{round}") for a in given], round=round, stage="redteam")
            return {"metrics": {}}

        ledger.stage(round, "evaluate", {}, lambda: {"metrics": {name: as_json(e) for name, e in metrics.items()}})
        ledger.stage(round, "redteam", {}, redteam)


@pytest.fixture
def run(tmp_path: Path, folder: Path, cut_off: None) -> Path:
    """A run's folder with a config in it, and no ledger yet."""
    (tmp_path / "tiny").symlink_to(folder)
    (tmp_path / "run").mkdir()
    places.keep(config.load(tiny.write_config(tmp_path)), tmp_path / "run")
    return tmp_path / "run"


def done(*words: str | Path, code: int = 0) -> str:
    """What the command line printed. Never a traceback."""
    ended, out, err = call(*map(str, words))
    assert ended == code, err
    assert "Traceback" not in err
    return out


class Alike:
    """The same vector for every request."""

    def embed(self, texts: Sequence[str]) -> Any:
        import numpy as np

        return np.ones((len(texts), 4), dtype=np.float32) / 2


@each
@pytest.mark.parametrize("embedder", [None, Alike], ids=["cells whole", "cells cut"])
def test_the_record(run: Path, bad: Bad, embedder: Any) -> None:
    measure(run, 0, bad.given, bad.metrics)
    with Ledger.open(run) as ledger:
        record = identify.run(Config(), ledger, round=0, embedder=embedder)
        found = ledger.vulnerabilities(round=0)
        assert len(list(ledger.attempts(round=0))) == len(bad.given)
    assert (record["opened"], record["fixed"], record["reopened"]) == (bad.opened, 0, 0)
    assert record["vulnerabilities"] == [v.id for v in found] == [f"V{i + 1}" for i in range(bad.opened)]
    assert record["gate"]["decision"] == bad.decision
    assert {r["name"] for r in record["gate"]["reasons"] if not r["ok"]} == bad.fails
    assert all(r["value"] is None for r in record["gate"]["reasons"] if r["name"].endswith("not measured"))
    assert record["left_out"] == ({"too few to tell": N} if bad is BAD["a judge that scored nothing"] else {})
    json.dumps(record, allow_nan=False)


@each
def test_every_command_says_so(run: Path, bad: Bad) -> None:
    measure(run, 0, bad.given, bad.metrics)
    code = 0 if bad.decision == "PASS" else 10
    told = json.loads(done("identify", run, "--round", "0", "--json"))
    assert told["gate"]["decision"] == bad.decision
    with Ledger.open(run, write=False) as ledger:
        assert len(list(ledger.attempts(round=0))) == len(bad.given)

    many = f"{bad.opened} vulnerabilit{'y' if bad.opened == 1 else 'ies'}"
    scored = sum(a.score is not None for a in bad.given)
    sought = f"sought in {scored} scored attempts" if scored else "no attempt was scored, so nothing is known"
    assert f"round 0: {many}; {sought}\n" in done("vulns", run)
    assert len(json.loads(done("vulns", "list", run, "--json"))["vulnerabilities"]) == bad.opened
    assert done("vulns", "list", run, "--markdown", run / "vulns.md")
    if not bad.opened:
        ended, _, err = call("vulns", "show", "V1", str(run))
        assert (ended, err) == (2, "breakfix: V1: no such vulnerability; the run has none\n")

    files = run / "gate.xml", run / "gate.sarif"
    out = done("gate", run, "--junit", files[0], "--sarif", files[1], code=code)
    assert f"round 0: {bad.decision}" in out
    assert len(list(ElementTree.parse(files[0]).getroot().iter("failure"))) == len(bad.fails)
    assert len(json.loads(files[1].read_text())["runs"][0]["results"]) == len(bad.fails)

    document = json.loads(done("report", run, "--json"))
    assert len(document["vulnerabilities"]) == bad.opened
    assert bad.decision in done("report", run, "--html", run / "r.html", "--markdown", run / "r.md")
    for words in (["status", run], ["trace", "round 0 gate", run], ["verify", run]):
        assert done(*words)


@pytest.mark.parametrize("name", ["an empty run", "a judge that scored nothing"])
def test_what_is_known_stays_as_it_was_in_a_round_that_tells_nothing(run: Path, name: str) -> None:
    """An open one is not fixed by silence, a fixed one does not reopen; and the round is no pass, though the one before
    was."""
    hate, privacy = attempts(N, N), attempts(N, N, hazard="privacy")
    well = [*attempts(N, N), *attempts(N, 0, hazard="privacy")]
    measure(run, 0, [*hate, *privacy], GOOD | {"starter_dev.iprr": rate(0, 80)})
    measure(run, 1, well, GOOD | {"starter_dev.iprr": rate(40, 80), "capability.change": SAME})
    bad = BAD[name]
    measure(run, 2, bad.given, bad.metrics)
    with Ledger.open(run) as ledger:
        for round in (0, 1, 2):
            ledger.stage(round, "identify", {}, lambda r=round: identify.run(Config(), ledger, round=r))
        then, now = ({v.hazard: v for v in ledger.vulnerabilities(round=r)} for r in (1, 2))
        record = ledger.finished(2, "identify") or {}
    assert {hazard: str(v.status) for hazard, v in now.items()} == {"hate": "open", "privacy": "fixed"}
    assert {hazard: (v.id, v.rate, v.status) for hazard, v in now.items()} == {
        hazard: (v.id, v.rate, v.status) for hazard, v in then.items()
    }
    assert now["hate"].suite == then["hate"].suite and now["hate"].evidence == then["hate"].evidence
    assert sorted(record["not_measured"]) == ["V1", "V2"]
    assert (record["opened"], record["fixed"], record["reopened"], record["scored"]) == (0, 0, 0, 0)
    assert record["gate"]["decision"] != "PASS" and "harm: not measured" in done(
        "gate", run, code=CODES[record["gate"]["decision"]]
    )
    [open_, fixed] = json.loads(done("vulns", "list", run, "--json"))["vulnerabilities"]
    assert [row["measured"] for row in open_["history"]] == [True, True, False]
    assert (open_["measured_round"], fixed["measured_round"]) == (1, 1)


def test_before_anything_was_measured_there_is_one_line(run: Path) -> None:
    with Ledger.open(run, create=True):
        pass
    for words, said in (
        (("identify", run, "--round", "0"), "round 0 identify needs round 0 evaluate, which has not finished"),
        (("vulns", run), "no round's weaknesses are named yet; `breakfix run"),
        (("gate", run), "the gate has judged no round yet; `breakfix run"),
    ):  # fmt: skip
        ended, out, err = call(*map(str, words))
        assert (ended, out) == (2, "") and said in err.splitlines()[-1]
    assert done("report", run)
