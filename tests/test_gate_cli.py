"""`breakfix gate`: exit codes, every number, JSON, JUnit XML, SARIF; and the GitHub workflow that uses it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import pytest
import yaml

from breakfix.cli import main
from breakfix.cli.commands import parse
from breakfix.cli.gate import decided, junit, sarif
from breakfix.config import Gate
from breakfix.core import Estimate, Vulnerability
from breakfix.identify import gate
from breakfix.ledger import Ledger
from breakfix.stats import nothing, rate

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "github-action.yml"
SAME = Estimate(0.0, -0.04, 0.04, 300)


def figures(**changes: Estimate) -> dict[str, Estimate]:
    found = {
        "harmbench.answered": rate(10, 200),
        "xstest.vprr": rate(20, 200),
        "plain.refused": rate(0, 120),
        "capability.accuracy": rate(120, 300),
        "capability.change": SAME,
    }
    return found | {name.replace("__", "."): e for name, e in changes.items()}


def write(run: Path, *rounds: dict[str, Estimate], stalled: bool = False, loop: dict[str, Any] | None = None) -> Path:
    """A run whose gate has judged these rounds."""
    with Ledger.open(run, create=True) as ledger:
        for round, metrics in enumerate(rounds):
            last = stalled and round == len(rounds) - 1
            found = gate.decide(Gate(), metrics, [], round=round, stalled=last)
            record = {"gate": {**found, **({"loop": loop} if loop else {})}, "vulnerabilities": []}
            ledger.stage(round, "identify", {}, record.copy)
    return run


@pytest.mark.parametrize(
    ("changes", "stalled", "decision", "code"),
    [
        ({}, False, "PASS", 0),
        ({"harmbench__answered": rate(100, 200)}, False, "FAIL", 10),
        ({"harmbench__answered": rate(100, 200)}, True, "STALLED", 11),
        ({"harmbench__answered": nothing(unscored=200)}, False, "FAIL", 10),  # a judge that scored nothing
    ],
)
def test_the_exit_code_is_the_decision(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Estimate],
    stalled: bool,
    decision: str,
    code: int,
) -> None:
    run = write(tmp_path / "run", figures(harmbench__answered=rate(150, 200)), figures(**changes), stalled=stalled)
    assert main(["gate", str(run)]) == code
    out = capsys.readouterr().out
    assert f"round 1: {decision}" in out and "harm" in out
    assert main(["gate", str(run), "--round", "0"]) == 10, "the untouched model"
    capsys.readouterr()
    assert main(["gate", str(run), "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert (told["round"], told["decision"], told["exit_code"]) == (1, decision, code)
    assert len(told["conditions"]) >= 7 and all(c["limit"] is not None and c["must"] for c in told["conditions"])
    assert [c["ok"] for c in told["conditions"]] == sorted(c["ok"] for c in told["conditions"])


def test_the_loops_last_word_is_the_decision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = {
        "outcome": "reverted",
        "stop": "STALLED",
        "because": [],
        "against": 0,
        "next": 0,
        "said": "reverted to round 0",
    }
    run = write(tmp_path / "run", figures(xstest__vprr=rate(150, 200)), loop=own)
    assert main(["gate", str(run)]) == 11
    assert "reverted to round 0" in capsys.readouterr().out


def test_each_condition_has_its_kind_and_direction(tmp_path: Path) -> None:
    run = write(tmp_path / "run", figures(), figures())
    with Ledger.open(run, write=False) as ledger:
        found = decided(ledger, run, None)
    assert {c["name"]: (c["kind"], c["must"]) for c in found["conditions"]} == {
        "harmbench.answered": ("harm", "<="),
        "xstest.vprr": ("over-refusal", "<="),
        "plain.refused": ("plain", "<="),
        "capability.change": ("capability", ">="),
        "coverage of harmbench.answered": ("coverage", ">="),
        "coverage of xstest.vprr": ("coverage", ">="),
        "coverage of plain.refused": ("coverage", ">="),
        "coverage of capability.accuracy": ("coverage", ">="),
    }
    assert gate.kind("V12 is open") == "vulnerability" and gate.vulnerability("V12 is open") == "V12"
    said = (
        "harm: not measured",
        "over-refusal: not measured",
        "plain.refused: not measured",
        "capability: not measured",
    )
    assert [gate.kind(name) for name in said] == ["harm", "over-refusal", "plain", "capability"]


def odd(tmp_path: Path) -> dict[str, Any]:
    """A decision whose names hold what XML and URIs can't, of a judge that scored nothing in one suite."""
    metrics = figures(xstest__vprr=nothing(unscored=9)) | {"m\x00y<s>&'\"\x1b[1m.answered": rate(90, 100)}
    run = write(tmp_path / "a run", metrics)
    with Ledger.open(run, write=False) as ledger:
        return decided(ledger, run, None)


def test_a_vulnerability_that_stands_against_it_is_told_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    weak = Vulnerability(
        "V1", "harmful_compliance", "Gives away the bread", "privacy", "direct", "en", 6.0, rate(9, 10), ("a",), {}
    )
    with Ledger.open(tmp_path / "run", create=True) as ledger:

        def found() -> dict[str, Any]:
            ledger.add_vulnerabilities([weak], round=0)
            return {"gate": gate.decide(Gate(), figures(), [weak], round=0, stalled=False)}

        ledger.stage(0, "identify", {}, found)
        told = decided(ledger, tmp_path / "run", None)
    assert told["conditions"][0]["about"] == "Gives away the bread"
    assert "V1 is open (Gives away the bread): 0.9 (bound" in junit(told)
    assert "V1 is open (Gives away the bread): 0.9" in sarif(told)["runs"][0]["results"][0]["message"]["text"]
    assert main(["gate", str(tmp_path / "run")]) == 10
    shown = capsys.readouterr().out.splitlines()
    assert any(line.rstrip().endswith("V1 is open (Gives away the bread)") for line in shown)
    assert shown[-1].startswith("vulnerability: Open vulnerability of high severity")


def test_junit(tmp_path: Path) -> None:
    found = odd(tmp_path)
    root = ElementTree.fromstring(junit(found))
    [suite] = root
    cases = suite.findall("testcase")
    failed = [case for case in cases if case.find("failure") is not None]
    assert root.tag == "testsuites" and suite.tag == "testsuite"
    assert int(suite.get("tests") or 0) == len(cases) == len(found["conditions"])
    assert int(suite.get("failures") or 0) == len(failed) == sum(not c["ok"] for c in found["conditions"])
    assert all(case.get("name") and (case.get("classname") or "").startswith("breakfix.gate.") for case in cases)
    messages = [(case.find("failure") or case[0]).get("message") or "" for case in failed]
    assert any("not measured; must be <= 0.4" in message for message in messages)
    assert any("(bound 0.9" in message and "<s>&" in message for message in messages)
    assert {p.get("name"): p.get("value") for p in suite.iter("property")}["decision"] == "FAIL"


def test_sarif(tmp_path: Path) -> None:
    """By the structure that SARIF 2.1.0 asks for; its schema is not ours to ship."""
    found = odd(tmp_path)
    log = json.loads(json.dumps(sarif(found)))
    assert set(log) == {"$schema", "version", "runs"} and log["version"] == "2.1.0"
    [run] = log["runs"]
    driver, results = run["tool"]["driver"], run["results"]
    assert driver["name"] == "breakfix" and re.fullmatch(r"\d+\.\d+\.\d+\S*", driver["semanticVersion"])
    assert len({rule["id"] for rule in driver["rules"]}) == len(driver["rules"])
    assert len(results) == sum(not c["ok"] for c in found["conditions"]) > 0
    for result in results:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] == "error" and result["message"]["text"]
        [where] = result["locations"]
        place = where["physicalLocation"]
        assert place["artifactLocation"]["uri"].endswith("/a%20run/breakfix.yaml") and place["region"]["startLine"] == 1
    assert run["invocations"] == [{"executionSuccessful": True, "exitCode": 10, "exitCodeDescription": "FAIL"}]
    assert len(run["properties"]["conditions"]) == len(found["conditions"])


def test_files_are_written_whatever_the_decision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write(tmp_path / "run", figures(harmbench__answered=rate(150, 200)))
    files = tmp_path / "gate.xml", tmp_path / "gate.sarif"
    assert main(["gate", str(run), "--junit", str(files[0]), "--sarif", str(files[1])]) == 10
    assert ElementTree.parse(files[0]).getroot().tag == "testsuites"
    assert json.loads(files[1].read_text())["version"] == "2.1.0"
    assert main(["gate", str(run), "--junit", str(tmp_path / "none" / "gate.xml")]) == 2
    assert "gate.xml: can't be written" in capsys.readouterr().err


def test_what_was_not_judged_is_one_plain_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = write(tmp_path / "empty")
    assert main(["gate", str(empty)]) == 2
    assert "has judged no round yet; `breakfix run" in capsys.readouterr().err
    run = write(tmp_path / "run", figures(), figures())
    assert main(["gate", str(run), "--round", "7"]) == 2
    assert "has not judged round 7; it has 0, 1" in capsys.readouterr().err


def test_the_workflow_parses_and_its_commands_exist() -> None:
    # YAML 1.1, as PyYAML reads it, takes the key `on` for true
    workflow = cast("dict[Any, Any]", yaml.safe_load(EXAMPLE.read_text(encoding="utf-8")))
    assert {"name", True, "permissions", "jobs"} <= set(workflow)
    [job] = workflow["jobs"].values()
    steps = cast("list[dict[str, Any]]", job["steps"])
    assert all(("run" in step) != ("uses" in step) for step in steps)
    assert all(re.fullmatch(r"[\w-]+(/[\w-]+)+@v\d+", step["uses"]) for step in steps if "uses" in step)
    text = "\n".join(step["run"] for step in steps if "run" in step)
    given = [line.split("||")[0].split()[1:] for line in text.splitlines() if line.strip().startswith("breakfix ")]
    assert [parse(words).command.name for words in given] == ["run", "verify", "gate"]
    written = {words[i + 1] for words in given for i, word in enumerate(words) if word in ("--junit", "--sarif")}
    used = json.dumps([step.get("with", {}) for step in steps])
    assert written == {"gate.xml", "gate.sarif"} and all(name in used for name in written)
