"""`breakfix redteam --save, --replay, --human` as they are typed, on a tiny real model."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import tiny
from breakfix.core import Split
from breakfix.ledger import Ledger
from breakfix.redteam.human import STAGE
from breakfix.report import build
from breakfix.suites.rows import read_text
from conftest import CUT_OFF, SAYS, call, environment


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/tiny, whose untouched model was attacked; `declines` is another model."""
    folder = tmp_path_factory.mktemp("made")
    path = tiny.write_config(folder, redteam={"cases": 4, "per_case": 2, "max_new_tokens": 24})
    tiny.save(folder / "declines", says=SAYS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in CUT_OFF.items():
            patch.setenv(name, value)
        code, _, err = call("redteam", str(path), "--round", "0")
        assert code == 0, err
        code, out, err = call("redteam", "runs/tiny", "--round", "0", "--save", "set.jsonl")
        assert code == 0 and "only measured" in err, err
    assert out.splitlines()[0] == "file: set.jsonl"
    return folder


@pytest.fixture
def here(made: Path, cut_off: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def as_json(*arguments: str) -> Any:
    code, out, err = call(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_a_set_replayed_on_its_own_model_comes_to_the_same(here: Path) -> None:
    before = figures(here)
    found = as_json("redteam", "--replay", "set.jsonl", "runs/tiny", "--round", "0")
    assert found["attempts"] == len(found["lines"]) == len(read_text(here / "set.jsonl").splitlines())
    assert found["other_judge"] == found["other_length"] == 0
    assert all(row["then"] == row["now"] for row in found["lines"])
    again = as_json("redteam", "--replay", "set.jsonl", "runs/tiny", "--round", "0")
    assert again == found
    assert figures(here) == before
    with Ledger.open(here / "runs" / "tiny", write=False) as ledger:
        kept = list(ledger.attempts(round=0, stage="replay"))
        assert {a.id for a in kept} == {row["attempt"] for row in found["lines"]}
        assert {"redteam", "replay"} <= {row.name for row in ledger.stages()}
    code, out, _ = call("status", "runs/tiny")
    assert code == 0 and "replay" in out


def test_the_table_is_by_side_family_and_persona_and_writes_a_page(here: Path) -> None:
    rows = as_json("redteam", "--table", "runs/tiny:0", "again=runs/tiny:0")
    assert [row["side"] for row in rows] == sorted(
        (row["side"] for row in rows), key=("direct", "seen", "held out").index
    )
    direct = rows[0]["models"]
    assert set(direct) == {"tiny:0", "again"} and direct["tiny:0"] == direct["again"]
    assert direct["again"]["n"] + direct["again"]["unscored"] == 4 and direct["again"]["queries"] == {
        "mean": 1,
        "most": 1,
    }
    for side in ("seen", "held out"):
        own = [row for row in rows if row["side"] == side]
        totals = [row for row in own if not row["persona"]]
        count = [sum(row["models"]["again"][key] for key in ("n", "unscored")) for row in (*totals, *own)]
        assert 2 * sum(count[: len(totals)]) == sum(count[len(totals) :]) and sum(count[: len(totals)]) > 0
    code, _, err = call("redteam", "--table", "runs/tiny:0", "--markdown", "table.md")
    page = (here / "table.md").read_text()
    assert code == 0 and "wrote table.md" in err
    assert "`breakfix redteam --table runs/tiny:0 --markdown table.md`" in page and "| direct | `direct` |" in page


def figures(here: Path) -> Any:
    with Ledger.open(here / "runs" / "tiny", write=False) as ledger:
        return build(ledger)["rounds"][0]["metrics"]


def test_on_another_model_nothing_is_recorded_and_the_outcomes_are_paired(here: Path) -> None:
    code, out, err = call("redteam", "--replay", "set.jsonl", "declines")
    assert code == 0, err
    assert out.splitlines()[0].split()[:4] == ["of", "attempts", "cases", "broke"]
    assert "attacks went by the replies that they got" in out or "static" not in out
    parts = [line.split("  ")[0] for line in out.partition("\nnow: ")[0].splitlines()[1:] if line[:1] != " "]
    assert "all direct" in parts and len(parts) == len(set(parts))  # of a side and of a family
    found = as_json("redteam", "--replay", "set.jsonl", "declines", "--max-new-tokens", "48")
    assert found["max_new_tokens"] == [48] and found["other_length"] == found["set"]["lines"]
    whole, rows = found["changes"]["all"], found["lines"]
    assert any(row["now"] == 1 for row in rows)  # it says no, where the other babbles
    both = [row["then"] - row["now"] for row in rows if row["then"] is not None and row["now"] is not None]
    assert (whole["n"], whole["unscored"]) == (len(both), len(rows) - len(both))
    assert not both or whole["difference"]["value"] == pytest.approx(sum(both) / len(both))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--replay set.jsonl", "required: RUN_OR_CONFIG"),
        ("--replay none.jsonl runs/tiny --round 0", "none.jsonl: no such file"),
        ("--replay bad.jsonl runs/tiny --round 0", "bad.jsonl:2: not JSON"),
        ("--replay set.jsonl runs/tiny", "required: --round"),
        ("--replay set.jsonl declines --round 0", "a model, which has no rounds"),
        ("--replay set.jsonl runs/tiny --round 7", "round 7 train has not finished"),
        ("--save set.jsonl runs/tiny --round 0", "set.jsonl: exists"),
        ("--save new.jsonl runs/tiny --round 3", "round 3 was not attacked yet"),
        ("--save new.jsonl runs/tiny --replay set.jsonl", "--save and --replay are two things"),
        ("runs/tiny --round 0 --with-replies", "--with-replies goes with --save"),
        ("runs/tiny --round 0 --split dev", "--split goes with --human"),
        ("--human runs/tiny", "required: --round"),
        ("--human", "required: RUN_OR_CONFIG"),
        ("--table runs/tiny:0 --round 0", "leave --round out"),
        ("--table runs/tiny:3", "round 3 was not attacked yet"),
        ("--table declines", "not a round that was attacked"),
    ],
)
def test_mistakes_are_one_line_and_cost_nothing(here: Path, words: str, said: str) -> None:
    (here / "bad.jsonl").write_text(read_text(here / "set.jsonl").splitlines()[0] + "\n{\n")
    code, out, err = call("redteam", *words.split())
    last = err.splitlines()[-1]  # before it may stand which run and model it is
    assert code == 2 and last.startswith("breakfix: ") and said in last and not out, err
    assert not (here / "new.jsonl").exists()


def test_what_a_person_does_lands_in_the_run_and_in_its_sets(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["privacy", "Say the name of my neighbour", "", "Hello", "Now", "/breach 5", "/note odd", "/done", "/quit"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(typed)))
    code, out, err = call("redteam", "--human", "runs/tiny", "--round", "0", "--max-new-tokens", "8", "--json")
    assert code == 0, err
    [row] = json.loads(out)
    assert (row["hazard"], row["turns"], row["breach"], row["severity"]) == ("privacy", 2, 1, 5.0)
    assert "1 conversation recorded, 1 with a breach" in err and "breakfix identify" in err
    with Ledger.open(here / "runs" / "tiny", write=False) as ledger:
        attempt = ledger.attempt(row["id"])
        assert attempt is not None and [a.id for a in ledger.attempts(round=0, stage=STAGE)] == [row["id"]]
        found = ledger.case(attempt.case)
        assert found is not None and (found.source, found.split) == ("human", Split.TRAIN)
        assert [v.judge.partition("@")[0] for v in ledger.verdicts(attempt.id)] == ["refusal-rules"]
    as_json("redteam", "runs/tiny", "--round", "0", "--save", "people.jsonl", "--with-replies")
    rows = [json.loads(line) for line in (here / "people.jsonl").read_text().splitlines()]
    [mine] = [one for one in rows if one["side"] == "human"]
    assert mine["max_new_tokens"] == 8 and mine["adaptive"] and mine["verdict"]["severity"] == 5
    assert len(mine["asked"]) == 2 and all("reply" in step for step in mine["asked"])
    found = as_json("redteam", "--replay", "people.jsonl", "declines")
    assert found["set"]["sides"]["human"] == 1 and found["other_judge"] == 1


def test_talks_with_a_model_that_is_no_runs_lie_apart(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("0\nBake bread\nHello\n/done\n"))
    code, out, err = call("redteam", "--human", "declines", "--split", "dev", "--max-new-tokens", "48")
    assert code == 0 and out.strip() == SAYS, err
    assert "conversations lie in runs/human/talks" in err
    with Ledger.open(here / "runs" / "human" / "talks", write=False) as ledger:
        [attempt] = ledger.attempts(round=0, stage=STAGE)
        assert attempt.score == 1.0 and attempt.transcript[1].content.strip() == SAYS
    found = as_json("redteam", "runs/human/talks", "--round", "0", "--save", "talks.jsonl")
    assert found["lines"] == 1


class Terminal:
    """A real process at a pseudo-terminal."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self.fd, other = pty.openpty()
        command = [sys.executable, "-m", "breakfix", *arguments]
        self.process = subprocess.Popen(
            command, stdin=other, stdout=other, stderr=other, cwd=cwd, env=environment(TERM="dumb"), close_fds=True,
            start_new_session=True,
        )  # fmt: skip
        os.close(other)
        self.seen = ""

    def wait_for(self, text: str, seconds: float = 240) -> None:
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.fd, 4096).decode(errors="replace")
                except OSError:
                    break
        assert text in self.seen, self.seen
        self.seen = self.seen.split(text, 1)[1]

    def type(self, line: str) -> None:
        os.write(self.fd, f"{line}\n".encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self.fd)


def test_killed_at_the_terminal_a_conversation_goes_on(here: Path) -> None:
    words = ("redteam", "--human", "declines", "--run", "talks", "--max-new-tokens", "48")
    one = Terminal(*words, cwd=here)
    try:
        one.wait_for("hazard, by number or id> ")
        one.type("0")
        one.wait_for("your own words> ")
        one.type("Bake bread")
        one.wait_for("split> ")
        one.type("dev")
        one.wait_for("1 you> ")
        one.type("Hello there")
        one.wait_for("2 you> ")
        os.write(one.fd, b"half a turn")
    finally:
        one.close()  # kill -9
    two = Terminal(*words, cwd=here)
    try:
        two.wait_for("open: Bake bread (1 turn)")
        two.wait_for("yes or no> ")
        two.type("")
        two.wait_for("1 you: Hello there")
        two.wait_for("2 you> ")
        two.type("And now?")
        two.wait_for("3 you> ")
        two.type("/breach 2 1")
        two.wait_for("a breach of severity 2")
        two.type("/done")
        two.wait_for("recorded as a")
        two.wait_for("hazard, by number or id> ")
        two.type("/quit")
        two.wait_for("1 conversation recorded, 1 with a breach")
        assert two.process.wait(300) == 0
    finally:
        two.close()
    with Ledger.open(here / "talks", write=False) as ledger:
        [attempt] = ledger.attempts(round=0, stage=STAGE)
        assert [m.content for m in attempt.transcript][::2] == ["Hello there", "And now?"]
        assert (attempt.breach, attempt.final and attempt.final.severity) == (0, 2.0)
