"""The ledger under kill -9: a real process writes and is really killed, repeatedly; nothing is lost or doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from breakfix.errors import LedgerError, RunBusy
from breakfix.ledger import Ledger

# prints what happened as soon as it is on disk; WRITER [run] [attempts] [milliseconds between batches]
WRITER = """
import sys, time
from pathlib import Path
from breakfix.core import Attempt, Expect, Message
from breakfix.ledger import Ledger

run, total, pause = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) / 1000

def say(*words):
    print(*words, flush=True)

def attempt(i):
    said = (Message("user", "hello"), Message("assistant", "x" * 2000))
    return Attempt(f"a{i}", "c", "m", "ask", "f", "", "", "en", Expect.COMPLY, said, (), None, i, 1, 1, 0.0)

def curate():
    say("made", "curate")
    return {"rows": 1}

def redteam():
    say("made", "redteam")
    ids = [f"a{i}" for i in range(total)]
    known = ledger.known(ids)
    say("known", len(known))
    ledger.add_attempts(list(known.values()), round=1, stage="redteam")
    for i in range(0, total, 3):
        rows = [attempt(j) for j in range(i, min(i + 3, total)) if f"a{j}" not in known]
        if rows:
            ledger.add_attempts(rows, round=1, stage="redteam")
            say("stored", *[row.id for row in rows])
        ledger.add_event(1, "redteam", "progress", {"done": i})
        if i % 30 == 0:
            say("blob", ledger.put_blob(f"{i} ".encode() * 50_000))
        time.sleep(pause)
    return {"n": total}

say("opening")
with Ledger.open(run, create=True) as ledger:
    say("open")
    ledger.stage(1, "curate", {}, curate)
    say("result", ledger.stage(1, "redteam", {"n": total}, redteam))
"""


@contextmanager
def writer(run: Path, total: int, pause: int) -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, "-c", WRITER, str(run), str(total), str(pause)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str]) -> Iterator[list[str]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield line.split()


def kill_after(run: Path, total: int, count: int, delay: float) -> list[list[str]]:
    """Kill the writer `delay` seconds after its `count`th batch; return all that it said."""
    with writer(run, total, pause=1) as process:
        said: list[list[str]] = []
        for words in lines(process):
            said.append(words)
            count -= words[0] == "stored"
            if count == 0:
                time.sleep(delay)
                os.kill(process.pid, signal.SIGKILL)
        process.wait()
    return said


def test_nothing_is_lost_or_doubled_however_often_it_is_killed(tmp_path: Path) -> None:
    total, rng = 240, random.Random(0)
    stored: set[str] = set()
    for kill in range(5):
        said = kill_after(tmp_path, total, count=rng.randint(1, 12), delay=rng.random() * 0.02)
        assert [words[1] for words in said if words[0] == "made"] == ["curate", "redteam"][min(kill, 1) :]
        assert not any(words[0] == "result" for words in said)
        new = [id for words in said if words[0] == "stored" for id in words[1:]]
        assert not stored & set(new)  # nothing that was stored is made again
        stored |= set(new)
        stored = check(tmp_path, stored, finished=False)
    said = kill_after(tmp_path, total, count=-1, delay=0)
    assert said[-1][0] == "result"
    assert check(tmp_path, stored, finished=True) == {f"a{i}" for i in range(total)}
    said = kill_after(tmp_path, total, count=-1, delay=0)
    assert [words[0] for words in said] == ["opening", "open", "result"]  # what is finished is not made again


def check(run: Path, stored: set[str], *, finished: bool) -> set[str]:
    """What the ledger holds agrees with what the writer was told; returns the attempts that are there."""
    with Ledger.open(run) as ledger:  # the lock went with the process
        ids = [attempt.id for attempt in ledger.attempts(round=1, stage="redteam")]
        assert len(ids) == len(set(ids))
        assert stored <= set(ids)
        assert set(ids) == {attempt.id for attempt in ledger.attempts()}
        done = [event.payload["done"] for event in ledger.events(kind="progress")]
        assert len(done) == len(set(done))
        rows = {row.name: row.finished for row in ledger.stages()}
        assert rows == {"curate": True, "redteam": finished}
        with ledger.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        for blob in (p for p in (run / "blobs").rglob("*") if p.is_file()):
            assert ledger.put_blob(blob) == blob.name  # whole, and under its own digest
    return set(ids)


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.25])
def test_killed_while_it_is_created(tmp_path: Path, delay: float) -> None:
    with writer(tmp_path / "run", 3, pause=0) as process:
        assert next(lines(process)) == ["opening"]
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        ledger.add_look("xstest", round=1, model="m")


def test_while_one_process_writes_another_reads_and_a_second_writer_is_turned_away(tmp_path: Path) -> None:
    with writer(tmp_path, 30_000, pause=1) as process:
        said = lines(process)
        counts: list[int] = []
        while len(counts) < 3:
            words = next(said)
            if words[0] == "stored":
                with Ledger.open(tmp_path, write=False) as reader:
                    ids = [attempt.id for attempt in reader.attempts(round=1)]
                assert words[-1] in ids
                counts.append(len(ids))
        with pytest.raises(RunBusy, match=f"in use by process {process.pid};"):
            Ledger.open(tmp_path)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert counts == sorted(counts)
    with Ledger.open(tmp_path, write=False) as reader:  # the killed writer's log is read, too
        assert len(list(reader.attempts(round=1))) >= counts[-1]
    Ledger.open(tmp_path).close()
    with pytest.raises(LedgerError, match="not a run's folder"):
        Ledger.open(tmp_path / "blobs")
