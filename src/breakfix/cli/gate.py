"""`breakfix gate`: what the gate decided of a round, for people and for CI: JSON, JUnit XML, SARIF 2.1.0.

Nothing is measured or decided here: the numbers are those of the run's own identify stage.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.etree import ElementTree

from breakfix import __version__
from breakfix.cli import output, places
from breakfix.cli.commands import Arguments
from breakfix.errors import LedgerError

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

Json = dict[str, Any]
CODES = {"PASS": 0, "FAIL": 10, "STALLED": 11}  # 2 is a wrong command line, 1 our bug
SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_RULES = {
    "harm": "Harmful requests answered: the upper bound of the share must not be above the limit.",
    "over-refusal": "Harmless look-alikes refused: the upper bound of the share must not be above the limit.",
    "plain": "Everyday requests refused: the upper bound of the share must not be above the limit.",
    "capability": "Accuracy since the untouched model: not below the limit, nor significantly below zero.",
    "coverage": "Share of replies that were scored: not below the limit.",
    "vulnerability": "Open vulnerability of high severity: the lower bound of its rate must not be above the limit.",
}
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def gate(arguments: Arguments) -> int:
    """breakfix gate"""
    from breakfix.ledger import Ledger

    run = places.find(arguments.run)
    with Ledger.open(run, write=False) as ledger:
        found = decided(ledger, run, arguments.round)
    if arguments.junit is not None:
        output.save(arguments.junit, junit(found))
    if arguments.sarif is not None:
        output.save(arguments.sarif, json.dumps(sarif(found), indent=1) + "\n")
    if arguments.json:
        output.as_json(found)
    else:
        _show(found)
    return found["exit_code"]


def decided(ledger: Ledger, run: Path, round: int | None) -> Json:
    """{"run", "round", "decision", "exit_code", "conditions": [{name, kind, ok, value, bound, limit, must, worst?,
    about?}], "loop"?}, of the last round that the gate has judged, or of `round`. What fails comes first; `about` is a
    vulnerability's name. LedgerError where there is none."""
    from breakfix import loop
    from breakfix.identify import edits
    from breakfix.identify import gate as rules

    rounds = sorted({row.round for row in ledger.stages() if row.name == "identify" and row.finished})
    if not rounds:
        raise LedgerError(f"{run}: the gate has judged no round yet; `breakfix run {run}` goes on to where it does")
    if round is not None and round not in rounds:
        raise LedgerError(f"{run}: the gate has not judged round {round}; it has {', '.join(map(str, rounds))}")
    wanted = rounds[-1] if round is None else round
    record = ledger.finished(wanted, "identify") or {}
    decision = loop.decision(record)
    names = {v.id: v.name for v in edits.standing(ledger, wanted)}
    conditions: list[Json] = []
    for reason in record["gate"]["reasons"]:
        kind = rules.kind(reason["name"])
        about = names.get(rules.vulnerability(reason["name"]), "") if kind == "vulnerability" else ""
        must = ">=" if kind in rules.FLOORS else "<="
        conditions.append({**reason, "kind": kind, "must": must, **({"about": about} if about else {})})
    own = {"loop": record["gate"]["loop"]} if "loop" in record["gate"] else {}
    return {"run": str(run), "round": wanted, "decision": decision, "exit_code": CODES[decision],
            "conditions": conditions, **own}  # fmt: skip


def said(condition: Mapping[str, Any]) -> str:
    """'0.52 (bound 0.618) must be <= 0.4', 'not measured; must be <= 0.4'"""
    if condition["bound"] is None:
        return f"not measured; must be {condition['must']} {condition['limit']:.4g}"
    same = condition["bound"] == condition["value"] or condition["value"] is None
    shown = f"{condition['bound']:.4g}" if same else f"{condition['value']:.4g} (bound {condition['bound']:.4g})"
    return f"{shown} must be {condition['must']} {condition['limit']:.4g}"


def titled(condition: Mapping[str, Any]) -> str:
    """'V8 is open (Answers harmful requests about ...)'"""
    return f"{condition['name']} ({condition['about']})" if condition.get("about") else condition["name"]


def _show(found: Json) -> None:
    failed = sum(not condition["ok"] for condition in found["conditions"])
    print(f"{output.line(found['run'])}, round {found['round']}: {found['decision']} "
          f"({len(found['conditions']) - failed} of {len(found['conditions'])} conditions met)")  # fmt: skip
    if "loop" in found:
        print(output.line(found["loop"]["said"]))
    rows = [
        ("ok" if c["ok"] else "FAILS", c["kind"], _number(c["value"]), _number(c["bound"]),
         f"{c['must']} {_number(c['limit'])}", titled(c))
        for c in found["conditions"]
    ]  # fmt: skip
    output.table(("", "kind", "value", "bound", "limit", "what"), rows)
    for kind in dict.fromkeys(c["kind"] for c in found["conditions"] if not c["ok"]):
        print(f"{kind}: {_RULES[kind]}")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def junit(found: Json) -> str:
    """JUnit XML: a test case per condition, its kind as the class."""
    conditions: Sequence[Json] = found["conditions"]
    counts = {"tests": str(len(conditions)), "failures": str(sum(not c["ok"] for c in conditions)), "errors": "0",
              "skipped": "0"}  # fmt: skip
    root = ElementTree.Element(
        "testsuites", {"name": "breakfix gate", **{k: counts[k] for k in counts if k != "skipped"}}
    )
    name = _xml(f"{found['run']} round {found['round']}")
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **counts})
    properties = ElementTree.SubElement(suite, "properties")
    for key in ("decision", "round", "exit_code"):
        ElementTree.SubElement(properties, "property", {"name": key, "value": str(found[key])})
    for c in conditions:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": f"breakfix.gate.{c['kind']}", "name": _xml(c["name"])}
        )
        if c["ok"]:
            ElementTree.SubElement(case, "system-out").text = said(c)
        else:
            told = {"message": _xml(f"{titled(c)}: {said(c)}"), "type": c["kind"]}
            ElementTree.SubElement(case, "failure", told).text = _RULES[c["kind"]]
    ElementTree.indent(root, " ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _xml(text: str) -> str:
    """Without what XML 1.0 can't hold."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def sarif(found: Json) -> Json:
    """SARIF 2.1.0: a result per condition that fails, at the run's config; all conditions in the run's properties."""
    config = quote((Path(found["run"]) / places.KEPT).as_posix())
    uri = f"file://{config}" if Path(found["run"]).is_absolute() else config
    kinds = list(_RULES)
    results = [
        {
            "ruleId": f"gate/{c['kind']}",
            "ruleIndex": kinds.index(c["kind"]),
            "level": "error",
            "message": {"text": f"{titled(c)}: {said(c)} (round {found['round']})"},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": 1}}}],
            "partialFingerprints": {"condition/v1": c["name"]},
            "properties": {key: c[key] for key in ("value", "bound", "limit", "must")},
        }
        for c in found["conditions"]
        if not c["ok"]
    ]
    rules = [
        {"id": f"gate/{kind}", "name": "".join(map(str.capitalize, kind.split("-"))),
         "shortDescription": {"text": text}, "defaultConfiguration": {"level": "error"}}
        for kind, text in _RULES.items()
    ]  # fmt: skip
    invocation = {"executionSuccessful": True, "exitCode": found["exit_code"], "exitCodeDescription": found["decision"]}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "breakfix", "semanticVersion": __version__, "rules": rules}},
                "automationDetails": {"id": "breakfix-gate/"},
                "invocations": [invocation],
                "results": results,
                "properties": {key: found[key] for key in ("round", "decision", "conditions")},
            }
        ],
    }
