"""Bad input, one case after the other, to `python -m breakfix` as a process of its own: each is one plain line on
stderr and exit code 2, never a traceback, and nothing that was there before is lost. All data is made here, neutral."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from breakfix import config
from breakfix.errors import ConfigError
from breakfix.ledger import Ledger
from breakfix.suites import SUITES
from conftest import Demo, breakfix, call, environment

FROZEN = (
    "How do I take a good picture of my neighbour's cat?",
    "Which kettle boils fastest on a small camping stove?",
    "Where can two hens sleep safely through a cold winter night?",
    "What should my brother pack for his first week at sea?",
)


@pytest.fixture
def here(demo: Demo, cut_off: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder: a tiny model, rows.jsonl, tiny.yaml, and the demo's finished run in runs/demo."""
    (tmp_path / "tiny").symlink_to(demo.folder / "tiny")
    tiny.write_config(tmp_path)
    demo.copy(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def changed(path: Path, **changes: Any) -> Path:
    """The config with these sections' keys (or values) changed; beside it, as bad.yaml."""
    settings = yaml.safe_load(path.read_text())
    for name, change in changes.items():
        settings[name] = {**settings.get(name, {}), **change} if isinstance(change, dict) else change
    to = path.with_name("bad.yaml")
    to.write_text(json.dumps(settings))
    return to


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line. What stands before it on stderr is progress."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    said = [line for line in done.stderr.splitlines() if line.startswith("breakfix: ")]
    assert len(said) == 1
    assert done.stderr.endswith(said[0] + "\n")
    assert "Traceback" not in done.stderr
    return said[0].removeprefix("breakfix: ")


def state(run: Path) -> dict[str, Any]:
    """What a run holds: every row of its ledger, every file but the ledger's own."""
    ledger = run / "ledger.db"
    with contextlib.closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in sorted(tables)}
    files = (path for path in run.rglob("*") if path.is_file() and not path.name.startswith(("ledger.db", ".lock")))
    return {**rows, **{str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}}


# ---- the config ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": {"sft": {"epoch": 2}}}, "unknown key 'train.sft.epoch'; did you mean 'epochs'?"),
        ({"train": {"sft": {"epochs": "many"}}}, "train.sft.epochs is 'many'; expected a number"),
        ({"redteam": {"seen": ["direkt"]}}, "attack family 'direkt' is not known; did you mean 'direct'?"),
        (
            {"evaluate": {"suites": [{"name": "xtest"}]}},
            "evaluate.suites: 'xtest' is not built in; did you mean 'xstest'?",
        ),
        ({"evaluate": {"suites": [{"name": "plain"}] * 2}}, "evaluate.suites: 'plain' is there twice;"),
        ({"curate": {"sources": [{"name": "mine"}]}}, "curate.sources: 'mine' is not known; expected starter,"),
    ],
)
def test_a_mistake_in_the_config(here: Path, changes: dict[str, Any], said: str) -> None:
    """In this process, for there are many; those below are processes of their own."""
    code, out, err = call("run", str(changed(here / "tiny.yaml", **changes)))
    assert (code, out) == (2, "")
    assert err.startswith("breakfix: ")
    assert said in err
    assert err.count("\n") == 1
    assert not (here / "runs" / "tiny").exists()


def test_a_key_that_is_not_known(here: Path) -> None:
    path = changed(here / "tiny.yaml", train={"sft": {"epoch": 2}})
    assert refused(breakfix("run", path, cwd=here)) == (
        f"{path}: unknown key 'train.sft.epoch'; did you mean 'epochs'?"
    )
    assert not (here / "runs" / "tiny").exists()


def test_a_mistake_in_the_config_of_a_run_that_is_there(here: Path) -> None:
    """The finished run is as it was, its own config too."""
    run, before = here / "runs" / "demo", state(here / "runs" / "demo")
    path = changed(run / "breakfix.yaml", rounds="many")
    (run / "bad.yaml").rename(here / "bad.yaml")
    assert "rounds is 'many'; expected a whole number" in refused(breakfix("run", here / path.name, cwd=here))
    assert state(run) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "none.yaml"], "none.yaml: no such file; `breakfix init none.yaml` writes one"),
        (["report", "none"], "none: not a run's folder (there is no ledger.db in it); give the folder of a run"),
        (["chat", "./none"], "model: './none' is no folder and no known model; expected a folder, a hub id,"),
    ],
)
def test_a_file_or_folder_that_is_not_there(here: Path, arguments: list[str], said: str) -> None:
    assert refused(breakfix(*arguments, cwd=here)).startswith(said)


def test_a_config_of_ones_own_is_not_written_over(here: Path) -> None:
    """In the working folder, where `breakfix init` writes it."""
    mine = tiny.write_config(here).rename(here / "breakfix.yaml").read_text()
    there = sorted(here.iterdir())
    for arguments in (
        ("run", "."),
        ("run", "breakfix.yaml", "--run", "."),
        ("demo", "--run", "."),
        ("redteam", "--human", "breakfix.yaml", "--round", "0", "--run", "."),
        ("redteam", "--human", "tiny", "--run", "."),
        ("probe-weights", "tiny", "--into", "."),
    ):
        code, out, err = call(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "there is no ledger.db" in err
    assert (here / "breakfix.yaml").read_text() == mine and sorted(here.iterdir()) == there


def test_a_source_and_a_suite_whose_files_are_not_there(here: Path) -> None:
    source = changed(here / "tiny.yaml", curate={"sources": [{"name": "mine", "path": "none.jsonl"}]})
    assert refused(breakfix("run", source, cwd=here)) == (
        f"{here}/none.jsonl: no such file; a source's `path` is a file of rows (jsonl, json, csv, tsv, parquet, arrow)"
    )
    suite = changed(here / "tiny.yaml", evaluate={"suites": [{"name": "mine", "path": "none.jsonl"}]})
    assert refused(breakfix("run", suite, cwd=here)).startswith(f"{here}/none.jsonl: no such file;")
    assert not (here / "runs" / "tiny").exists()


# ---- the model ----------------------------------------------------------------------------------------------------


def test_a_model_that_can_not_be_reached(here: Path) -> None:
    """Offline by wish, then with a hub that refuses the connection: the line says what was tried."""
    path = changed(here / "tiny.yaml", model="nobody/nothing")
    wished = refused(breakfix("run", path, cwd=here))
    assert wished == (
        "nobody/nothing: no source could serve it. hub cache: nobody/nothing: not there; hub: HF_HUB_OFFLINE is set. "
        "Give a path instead of the name, or try again with a network."
    )
    env = {**environment(HF_ENDPOINT="http://127.0.0.1:9"), "HF_HUB_OFFLINE": "0"}
    down = refused(breakfix("run", path, cwd=here, env=env))
    assert down.startswith("nobody/nothing: no source could serve it. hub cache: nobody/nothing: not there; hub:")
    assert "Connection refused" in down
    assert not (here / "runs" / "tiny").exists()


def test_what_is_no_model(here: Path) -> None:
    (here / "empty").mkdir()
    for model, said in (
        ("empty", f"model: {here}/empty is not a model's folder (there is no config.json in it)"),
        ("xstest", "model: 'xstest' is a data set; expected a folder, a hub id, or smollm2-135m-instruct"),
    ):
        assert refused(breakfix("run", changed(here / "tiny.yaml", model=model), cwd=here)) == said
    for section in ("redteam", "curate"):
        helper = changed(here / "tiny.yaml", **{section: {"helper": "nobody/nothing"}})
        assert refused(breakfix("run", helper, cwd=here)).startswith("nobody/nothing: no source could serve it.")
    assert not (here / "runs" / "tiny").exists()


# ---- rows of data -------------------------------------------------------------------------------------------------

GOOD = {"kind": "plain", "prompt": "Write a line about some lamp.", "reply": "The lamp shines."}
BAD_ROWS = [
    ('{"kind": "plain"', "not JSON (Expecting ',' delimiter, column 17)"),
    ("[" * 100_000, "nested too deep; expected one flat object a line"),
    ([1], "expected an object with the keys prompt and kind, got list"),
    ({"kind": "plain"}, "no column 'prompt'; the row has kind; name it in the source's `fields`"),
    ({"kind": "plain", "prompt": "  "}, "prompt is missing or empty; expected what is asked"),
    ({"kind": "plain", "prompt": 5}, "prompt should be text, got int"),
    ({"kind": "plain", "prompt": "half \ud800"}, "prompt has half a character (a lone \\ud8xx escape);"),
    ({"kind": "nice", "prompt": "Hello"}, "kind 'nice'; expected harmful, twin or plain"),
    (
        {"prompt": "Hello", "knd": "plain"},
        "no column 'kind'; did you mean 'knd'? the row has prompt, knd; name it in the "
        "source's `fields`, or set its `kind`",
    ),
    ({"kind": "plain", "prompt": "Hello", "hazard": "noise"}, "hazard 'noise' is not in the taxonomy; known are"),
    ({"kind": "plain", "prompt": "Hello", "language": "English"}, "language 'English' is not a code such as en"),
    ({"kind": "harmful", "prompt": "Hello", "language": "eo"}, "no safe answers in language 'eo'; give a reply,"),
]


def test_a_malformed_row_is_refused_before_any_time_is_spent(here: Path) -> None:
    """In a process of its own; the other kinds of malformed rows are below."""
    lines(here / "rows.jsonl", GOOD, GOOD, BAD_ROWS[0][0], GOOD)
    done = breakfix("run", "tiny.yaml", cwd=here)
    assert refused(done) == f"{here}/rows.jsonl:3: {BAD_ROWS[0][1]}"
    assert done.stderr.count("\n") == 1, "not even the model was looked for"
    assert not (here / "runs" / "tiny").exists()


@pytest.mark.parametrize(("row", "said"), BAD_ROWS, ids=[said[:30] for _, said in BAD_ROWS])
def test_every_kind_of_malformed_row_is_named_with_file_and_line(here: Path, row: Any, said: str) -> None:
    lines(here / "rows.jsonl", GOOD, row)
    code, out, err = call("run", "tiny.yaml")
    assert (code, out) == (2, "")
    assert err.startswith(f"breakfix: {here}/rows.jsonl:2: {said}")
    assert err.count("\n") == 1
    assert not (here / "runs" / "tiny").exists()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"prompt"', "not JSON (Expecting ':' delimiter)"),
        ("[" * 100_000, "not JSON (nested too deep)"),
        ([1], "expected an object, found list"),
        ({"prompt": "Hello"}, "no 'expect'; expected expect, or choices and gold, or gold"),
        ({"prompt": "Hello", "expect": "nice"}, "'expect' is 'nice', expected refuse | comply"),
        ({"prompt": "Hello", "expect": "comply", "hazrd": ""}, "unknown field 'hazrd'; known: id, prompt,"),
        ({"prompt": "", "expect": "comply"}, "'prompt' is empty"),
    ],
)
def test_a_malformed_row_of_a_suite_of_the_users_own(here: Path, row: Any, said: str) -> None:
    lines(here / "mine.jsonl", {"prompt": "Good day", "expect": "comply"}, row)
    path = changed(here / "tiny.yaml", evaluate={"suites": [{"name": "mine", "path": "mine.jsonl"}]})
    code, out, err = call("run", str(path))
    assert (code, out) == (2, "")
    assert err.startswith(f"breakfix: {here}/mine.jsonl:2: {said}")
    assert not (here / "runs" / "tiny").exists()


def test_an_empty_file_and_one_that_is_no_text(here: Path) -> None:
    for content, said in ((b"\n\n", "no rows; give a source with at least one"), (b"\xff", "not UTF-8 (byte 0);")):
        (here / "rows.jsonl").write_bytes(content)
        code, _, err = call("run", "tiny.yaml")
        assert code == 2
        assert err.startswith(f"breakfix: {here}/rows.jsonl: {said}")


# ---- what is measured is not learnt from --------------------------------------------------------------------------


def test_a_frozen_suite_is_no_training_source(here: Path) -> None:
    for name in (name for name, spec in SUITES.items() if spec.split.value == "frozen"):
        code, _, err = call("run", str(changed(here / "tiny.yaml", curate={"sources": [{"name": name}]})))
        assert code == 2
        assert f"curate.sources: '{name}' is a frozen suite, which is only measured;" in err
    said = refused(breakfix("run", here / "bad.yaml", cwd=here))  # the last of them
    assert said.endswith("training on it would make its figures worthless; take it out")
    assert not (here / "runs" / "tiny").exists()


def test_data_of_ones_own_may_have_a_dev_suites_name_but_not_a_frozen_ones(here: Path) -> None:
    from breakfix.ready import check

    for name in ("plain", "starter_dev"):
        check(config.load(changed(here / "tiny.yaml", curate={"sources": [{"name": name, "path": "rows.jsonl"}]})))
        with pytest.raises(ConfigError, match=rf"'{name}' is a dev suite, which is only measured; .*; take it out"):
            check(config.load(changed(here / "tiny.yaml", curate={"sources": [{"name": name}]})))
    for place in ({"path": "rows.jsonl"}, {"hub": "owner/xstest"}):
        path = changed(here / "tiny.yaml", curate={"sources": [{"name": "xstest", **place}]})
        with pytest.raises(ConfigError, match=r"'xstest' is a frozen suite, .*; give data of your own another name"):
            check(config.load(path))


def test_a_file_is_not_learnt_from_and_measured(here: Path) -> None:
    from breakfix.ready import check

    path = changed(
        here / "tiny.yaml",
        evaluate={"suites": [{"name": "mine", "path": "both.jsonl"}]},
        curate={"sources": [{"name": "other", "path": "both.jsonl"}]},
    )
    lines(here / "both.jsonl", {**{k: v for k, v in GOOD.items() if k == "prompt"}, "expect": "comply"})
    said = refused(breakfix("run", path, cwd=here))
    assert said == f"curate.sources: {here}/both.jsonl is also evaluated; a suite can't be trained on; split it"
    path = changed(path, curate={"sources": [{"name": "other", "hub": "both.jsonl", "kind": "plain"}]})
    with pytest.raises(ConfigError, match=r"both\.jsonl is also evaluated"):
        check(config.load(path))


def write_xstest(path: Path) -> None:
    """A frozen suite in XSTest's format, with neutral prompts: FROZEN."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "prompt", "type", "label", "focus", "note"])
        writer.writerows([str(n), prompt, "homonyms", "safe", "", ""] for n, prompt in enumerate(FROZEN))


def curating(here: Path, *rows: Any) -> tuple[Path, Path]:
    """(the run, its data file): the demo's run, which is to curate anew from these rows beside tiny.py's own."""
    run = here / "runs" / "demo"
    tiny.write_rows(here / "rows.jsonl")
    with (here / "rows.jsonl").open("a") as file:
        file.writelines(json.dumps({"licence": "CC0-1.0", **row}) + "\n" for row in rows)
    settings = yaml.safe_load((run / "breakfix.yaml").read_text())
    settings["curate"]["sources"] = [{"name": "mine", "path": str(here / "rows.jsonl")}]
    settings["curate"]["harmful"] = 12
    suites = settings["evaluate"]["suites"]
    settings["evaluate"]["suites"] = [
        {**suite, "path": str(here / "xstest.csv")} if suite["name"] == "xstest" else suite for suite in suites
    ]
    (run / "breakfix.yaml").write_text(yaml.safe_dump(settings))
    return run, here / "rows.jsonl"


def test_rows_that_are_frozen_prompts_are_dropped_on_record_and_a_long_one_is_cut_on_record(here: Path) -> None:
    """A file of the user's own, in which somebody has put rows of a benchmark: as they are, with other case and
    punctuation, inside a longer request, with a word changed, and as the reply to something else."""
    write_xstest(here / "xstest.csv")
    exact, shouted, inside, edited = FROZEN
    reply = {"reply": "Ask first, then wait for good light."}
    frozen = [
        {"kind": "twin", "prompt": exact, **reply},
        {"kind": "twin", "prompt": shouted.upper().replace("?", " ..."), **reply},
        {"kind": "plain", "prompt": f"I have a small question for you today. {inside} Be brief.", **reply},
        {"kind": "plain", "prompt": edited.replace("first", "second"), **reply},
        {"kind": "plain", "prompt": "What could I ask about pets?", "reply": f"You could ask this: {exact}"},
    ]
    long = {
        "kind": "plain",
        "prompt": "Describe a very long garden.",
        "reply": " ".join(f"In bed {n} grow tulips." for n in range(200)),
    }
    run, data = curating(here, *frozen, long)

    code, out, err = call("curate", str(run), "--round", "1")
    assert code == 0, err
    # not "yes": some suites are not here, and nobody could look
    assert re.search(r"(?m)^decontamination:\n(  .*\n)*?  dropped: 5\n(  .*\n)*?  clean: –$", out)

    with Ledger.open(run, write=False) as ledger:
        learnt = [row for name in ("sft", "dpo") for row in ledger.examples(round=1, dataset=name)]
        drops = [drop for drop in ledger.drops(1) if drop.step == "decontaminate"]
        cuts = [event.payload for event in ledger.events(1, "curate", "cut")]
    asked = {row["prompt"] for row in frozen}
    assert learnt
    assert asked.isdisjoint(row.prompt[-1].content for row in learnt)
    assert asked == {drop.example.prompt[-1].content for drop in drops}
    assert {drop.reason.split(" (")[0] for drop in drops} == {"overlaps xstest"}
    length, kept = len(long["reply"]), 4 * 512  # characters for train.sft.max_length tokens
    line = len(data.read_text().splitlines())
    assert cuts == [{"where": f"{data}:{line}", "field": "reply", "before": length, "after": kept}]
    assert re.search(r"(?m)^cut: 1$", out)
    assert max(len(row.reply) for row in learnt) <= kept


def test_a_file_of_nothing_but_frozen_prompts_trains_nothing(here: Path) -> None:
    write_xstest(here / "xstest.csv")
    run, data = curating(here)
    kinds = {"harmful": "I can't help with that.", "twin": "Ask first.", "plain": "Ask first."}
    rows = [{"kind": k, "prompt": p, "reply": r, "licence": "CC0-1.0"} for p in FROZEN for k, r in kinds.items()]
    lines(data, *rows)
    before = state(run)
    code, out, err = call("curate", str(run), "--round", "1")
    assert (code, out) == (2, "")
    assert "breakfix: curate.sources (mine): no harmful prompts are left after the steps; add a source of them" in err
    after = state(run)
    assert after["examples"] == before["examples"]
    assert all(after[name] == before[name] for name in before if "model.safetensors" in name)


# ---- the run's folder ---------------------------------------------------------------------------------------------


def relabel(run: Path, version: str) -> None:
    with contextlib.closing(sqlite3.connect(run / "ledger.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (version,))


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (
            "0001",
            "its ledger has version 0001, this breakfix works with 0003; bring it up with: breakfix ledger up",
        ),
        ("9999", "its ledger has version 9999, newer than the 0003 that this breakfix knows; update breakfix"),
    ],
)
def test_a_ledger_of_another_version(here: Path, version: str, said: str) -> None:
    run = here / "runs" / "demo"
    relabel(run, version)
    before = state(run)
    assert said in refused(breakfix("run", run, cwd=here))
    for command in ("status", "report", "trace V1", "chat runs/demo:1", "evaluate runs/demo --round 0"):
        code, out, err = call(*command.split())
        assert (code, out) == (2, ""), command
        assert said in err
    assert state(run) == before


def test_a_ledger_that_is_none(here: Path) -> None:
    (here / "runs" / "demo" / "ledger.db").write_bytes(b"not a database" * 1000)
    for log in (here / "runs" / "demo").glob("ledger.db-*"):
        log.unlink()
    assert refused(breakfix("status", "runs/demo", cwd=here)) == (
        "runs/demo: its ledger.db is damaged or not a ledger; restore it from a copy"
    )


HOLD = "import sys; from pathlib import Path; from breakfix.ledger import Ledger\n" \
       "with Ledger.open(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"  # fmt: skip


def test_a_run_folder_in_use_by_another_process(here: Path) -> None:
    run = here / "runs" / "demo"
    before = state(run)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run)], env=environment(), **pipes) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        said = refused(breakfix("run", run, cwd=here))
        assert said == f"{run}: in use by process {other.pid}; wait until it ends, or stop it, and try again"
        code, out, _ = call("status", "runs/demo")  # looking is allowed meanwhile
        assert code == 0
        assert out.startswith(f"runs/demo: in use by process {other.pid}\n")
        assert call("report", "runs/demo")[0] == 0
        other.communicate("")
    assert state(run) == before
    assert call("evaluate", "runs/demo", "--round", "0")[0] == 0  # let go of as soon as the other ended


# ---- a full disk --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(size: str) -> Generator[tuple[Path, Mapping[str, Any]]]:
    """A folder with a file system of that size, or (without the right to mount one) a limit on the size of a file; and
    the options of the process that is to run there. Not in tmp_path: a mount that a killed test run left behind would
    be in the way of every later one."""
    at = Path(tempfile.mkdtemp(prefix="breakfix-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield (
            at,
            {} if mounted else {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))},
        )
    finally:
        if mounted:
            subprocess.run(["umount", str(at)], check=True)
        shutil.rmtree(at)


def more_room(at: Path) -> None:
    if os.path.ismount(at):
        subprocess.run(["mount", "-o", "remount,size=64m", str(at)], check=True)


def test_a_full_disk_corrupts_nothing_and_the_run_goes_on(here: Path) -> None:
    suites = [{"name": "starter_dev", "limit": 200}]
    path = changed(here / "tiny.yaml", evaluate={"suites": suites}, hardware={"batch": 8}, name="small")
    with small_disk("640k") as (disk, options):
        run = disk / "run"
        done = breakfix("evaluate", path, "--round", "0", "--run", run, cwd=here, **options)
        assert refused(done) == (
            f"{run}: no room left (disk, quota or file-size limit); nothing was corrupted, make room and start again"
        )
        assert call("status", str(run))[0] == 0  # it can be looked at as it is
        more_room(disk)
        with Ledger.open(run, write=False) as ledger:
            kept = {attempt.id: attempt for attempt in ledger.attempts()}
            assert [(row.name, row.finished) for row in ledger.stages()] == [("evaluate", False)]
        assert 0 < len(kept) < 200

        code, _, err = call("evaluate", str(path), "--round", "0", "--run", str(run))
        assert code == 0, err
        with contextlib.closing(sqlite3.connect(run / "ledger.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        with Ledger.open(run, write=False) as ledger:
            found = [attempt.id for attempt in ledger.attempts()]
            assert dict(ledger.known(list(kept))) == kept  # none was paid again
        assert len(found) == len(set(found)) == 200


def test_a_full_disk_under_a_file_that_is_asked_for(here: Path) -> None:
    with small_disk("16k") as (disk, options):
        if options:
            pytest.skip("mounting a small disk takes root")
        (disk / "a.html").write_text("the report of yesterday")
        done = breakfix("report", "runs/demo", "--html", disk / "a.html", cwd=here)
        assert "/a.html: no room left" in refused(done)
        assert (disk / "a.html").read_text() == "the report of yesterday"
        assert [path.name for path in disk.iterdir()] == ["a.html"]
        with (disk / "b").open("w") as file:
            streams = {"capture_output": False, "stdout": file, "stderr": subprocess.PIPE}
            into = breakfix("schema", "report", cwd=here, **streams)
        assert into.returncode == 2
        assert into.stderr.count("\n") == 1
