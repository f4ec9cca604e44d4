"""`breakfix verify`, and the chain behind it: a row, a blob or a checkpoint that was changed is found and named."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nouns
from breakfix.cli import main
from breakfix.core import Case, Dropped, Estimate, Example, Expect, Message, Split, Verdict, Vulnerability, ask
from breakfix.ledger import Ledger, upgrade
from breakfix.ledger.tables import metadata

CASE = Case("c1", ask("How do I bake bread?"), Expect.COMPLY, "hand", Split.DEV, hazard="S1")
SAID = (Message("user", "hello"), Message("assistant", "Mix flour and wäter."))
ATTEMPT = replace(nouns.ATTEMPT, id="a0", transcript=SAID)
EXAMPLE = Example(ask("hello"), "good day", "hand", "mit", "a test", "plain", parents=("V1", "a0"))
WEAK = Vulnerability(
    "V1", "harmful_compliance", "S1", "S1", "plain", "en", 3.0, Estimate(0.5, 0.1, 0.9, 2), ("a0",), {}
)


def fill(ledger: Ledger) -> str:
    """A row in every table, and a blob; returns its digest."""

    def redteam() -> dict[str, Any]:
        ledger.add_cases([CASE])
        ledger.add_attempts([replace(ATTEMPT, id=f"a{i}") for i in range(5)], round=0, stage="redteam")
        ledger.add_attempts([replace(ATTEMPT, id=f"a{i}") for i in range(3, 9)], round=0, stage="redteam")  # 3 are new
        ledger.add_look("xstest", round=0, model="tiny@0")
        ledger.add_vulnerabilities([WEAK], round=0)
        return {"metrics": {}}

    ledger.stage(0, "redteam", {}, redteam)
    ledger.stage(0, "redteam", {}, redteam)  # read back
    ledger.add_verdict("a1", Verdict(0.0, "none", "", "rules@2"))
    ledger.add_examples([EXAMPLE, EXAMPLE], round=1, dataset="sft")
    ledger.add_drops([Dropped(EXAMPLE, "dedup", "again")], round=1)
    ledger.stage(1, "train", {"a": 1}, lambda: {"loss": 0.5})
    ledger.stage(1, "train", {"a": 2}, lambda: {"loss": 0.25})
    return ledger.put_blob(b"a picture")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Ledger.open(tmp_path / "run", create=True, clock=lambda: 5) as ledger:  # an int where a float is kept
        fill(ledger)
        with ledger.reading() as connection:
            for table in metadata.sorted_tables:
                assert connection.execute(table.select()).first() is not None, table.name
    return tmp_path / "run"


def tampered(run: Path, *statements: str) -> None:
    """What somebody with a copy of sqlite3 can do: the triggers away, a change, the triggers back."""
    connection = sqlite3.connect(run / "ledger.db")
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    with connection:
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        for _, sql in triggers:
            connection.execute(sql)
    connection.close()


def found(run: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Name → problem, as `breakfix verify` tells."""
    code = main(["verify", str(run), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == (0 if told["ok"] else 10) and told["ok"] == (not told["found"])
    return {one["name"]: one["problem"] for one in told["found"]}


def test_a_run_as_it_was_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert found(run, capsys) == {}
    assert main(["verify", str(run)]) == 0
    out, err = capsys.readouterr()
    assert "all as written" in out and "1 blobs" in out and "older than the chain" not in err
    with Ledger.open(run) as ledger:  # another process goes on with the same chain
        ledger.add_attempts([replace(ATTEMPT, id="later")], round=1, stage="redteam")
    assert found(run, capsys) == {}


@pytest.mark.parametrize(
    ("statement", "name", "problem"),
    [
        (
            "UPDATE attempts SET body = replace(body, 'flour', 'sugar') WHERE id = 'a4'",
            "attempts row 5 (a4)",
            "changed",
        ),
        ("UPDATE attempts SET failed = 1 WHERE id = 'a4'", "attempts row 5 (a4)", "changed"),
        ("UPDATE attempt_uses SET round = 3 WHERE seq = 2", "attempt_uses row 2 (a1)", "changed"),
        ("DELETE FROM attempts WHERE id = 'a6'", "attempts, a row after attempts row 6 (a5)", "missing"),
        ("DELETE FROM attempts WHERE id = 'a8'", "attempts, a row after attempts row 8 (a7)", "missing"),
        ("UPDATE stage_ends SET body = '{}' WHERE stage = 1", "stage_ends row 1", "changed, or added outside breakfix"),
        ("DELETE FROM stage_ends WHERE stage = 2", "stage_ends, 1 of its rows", "missing"),
        ("UPDATE stages SET name = 'curate' WHERE seq = 2", "stages row 2 (round 1 curate)", "changed"),
        ("UPDATE examples SET body = replace(body, 'good', 'bad')", "examples row 1", "changed: its text"),
        ("UPDATE vulnerabilities SET body = replace(body, 'open', 'fixed')", "vulnerabilities row 1 (V1)", "changed"),
        (
            "INSERT INTO attempts SELECT 99, 'new', failed, case_id, body FROM attempts WHERE id = 'a1'",
            "attempts row 99 (new)",
            "added outside breakfix",
        ),
        ("UPDATE looks SET at = 4.0", "looks row 1", "changed"),
        ("UPDATE chain SET body = replace(body, 'links', 'looks')", "chain link", "changed, or one before it is gone"),
        ("DELETE FROM chain WHERE seq = 3", "chain link 4", "changed, or one before it is gone"),
    ],
)
def test_one_row_that_was_tampered_with_is_named(
    run: Path, capsys: pytest.CaptureFixture[str], statement: str, name: str, problem: str
) -> None:
    tampered(run, statement)
    told = found(run, capsys)
    assert any(at.startswith(name) and why.startswith(problem) for at, why in told.items()), told
    if "chain" not in name:
        assert len(told) == 1, "and nothing else is"


def test_one_byte_of_a_blob(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [blob] = (run / "blobs").glob("??/*")
    blob.chmod(0o644)
    blob.write_bytes(b"b" + blob.read_bytes()[1:])
    told = found(run, capsys)
    assert list(told) == [f"blobs/{blob.parent.name}/{blob.name}"] and "changed: its digest is" in next(
        iter(told.values())
    )
    assert main(["verify", str(run)]) == 10 and blob.name in capsys.readouterr().out


def test_weights_that_are_not_those_that_were_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from breakfix.models.identity import weights_id

    run = tmp_path / "run"
    folder = run / "round-1" / "abcdef01" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    with Ledger.open(run, create=True) as ledger:
        ledger.stage(1, "train", {}, lambda: {"model": str(folder), "weights": weights_id(folder)})
    assert found(run, capsys) == {}
    moved = shutil.copytree(run, tmp_path / "moved")
    (moved / "round-1" / "abcdef01" / "model" / "model.safetensors").write_bytes(b"others")
    shutil.rmtree(run)
    told = found(moved, capsys)
    assert list(told) == ["round-1/abcdef01/model"] and next(iter(told.values())).startswith("changed: llama@")
    shutil.rmtree(moved / "round-1")
    assert main(["verify", str(moved)]) == 0 and "not here any more" in capsys.readouterr().err


def test_an_older_ledger_is_chained_from_its_upgrade_on_and_says_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old"
    shutil.copytree(run, old)
    connection = sqlite3.connect(old / "ledger.db")
    with connection:
        connection.execute("DROP TABLE chain")
        connection.execute("UPDATE alembic_version SET version_num = '0002'")
    connection.close()
    with Ledger.open(old, write=False) as ledger:
        assert ledger.attempt("a1") is not None, "it can be read as it is"
    assert main(["verify", str(old)]) == 2 and "no chain yet" in capsys.readouterr().err
    assert upgrade(old) == ("0002", "0003")
    with Ledger.open(old) as ledger:
        ledger.add_attempts([replace(ATTEMPT, id="later")], round=1, stage="redteam")
    assert main(["verify", str(old)]) == 0
    assert "rows are older than the chain" in capsys.readouterr().err
    tampered(old, "UPDATE attempts SET body = replace(body, 'flour', 'sugar') WHERE id IN ('a4', 'later')")
    assert found(old, capsys) == {"attempts row 10 (later)": "changed"}, "a4 is older"
    tampered(old, "UPDATE examples SET body = replace(body, 'good', 'bad')")
    assert "examples row 1" in " ".join(found(old, capsys)), "a text with a digest of its own is checked all the same"


def test_threads_that_write_make_one_chain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"

    def write(ledger: Ledger, start: int) -> Callable[[], None]:
        return lambda: [
            ledger.add_attempts([replace(ATTEMPT, id=f"t{start}-{i}")], round=0, stage="s") for i in range(10)
        ].clear()

    with Ledger.open(run, create=True) as ledger:
        threads = [threading.Thread(target=write(ledger, start)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(1 for _ in ledger.attempts()) == 40
    assert found(run, capsys) == {}


def test_what_was_rolled_back_is_no_link(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger.open(run) as ledger:
        with pytest.raises(ValueError, match="no"), ledger.writing() as connection:
            ledger.add(connection, metadata.tables["looks"], [{"suite": "s", "round": 9, "model": "m", "at": 0.0}])
            raise ValueError("no")
        ledger.add_look("s", round=9, model="m")
    assert found(run, capsys) == {}


@pytest.mark.parametrize("what", ["gate", "verify", "trace"])
def test_bad_input_is_one_plain_line(what: str, tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["V1"] if what == "trace" else []
    assert main([what, *more, str(tmp_path / "none")]) == 2
    assert "not a run's folder" in capsys.readouterr().err
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "ledger.db").write_bytes(b"no ledger " * 1000)
    assert main([what, *more, str(damaged)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_run_in_use_is_verified_later(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger.open(run):
        assert main(["verify", str(run)]) == 2
    assert "in use by process" in capsys.readouterr().err
