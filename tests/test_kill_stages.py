"""kill -9 in every stage of a run, and between a stage's last work and its mark: run again, it goes on, loses no
attempt, pays for none twice, and ends as a run that was never stopped, weight for weight. The processes are real, and
really killed. Loading torch and TRL takes longer than the tiny model's whole run, so most are forked from one process
that has loaded them (`ZYGOTE`) and can make them wait at an exact line to be killed there; one is typed out in full.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tiny
from breakfix.core import Attempt
from breakfix.ledger import Ledger
from breakfix.models.identity import weights_id

# Reads orders {"folder", "at"}, forks `breakfix run tiny.yaml --run run` in that folder; says pid, "reached", "exit N".
# The run notes in folder/log, as it happens and with its stage, each reply that the model gave, pair that it scored and
# training step. "at" [round, stage, owner, name, when, n, word]: "before" or "after" the n-th call of that
# function in that stage (with `word` among its arguments, if given) it says "reached" and waits to be killed.
ZYGOTE = """
import gc, importlib, json, os, sys, time
import alembic.command, datasketch, scipy.integrate, transformers.models.llama.modeling_llama
import breakfix.cli.runs, breakfix.curate, breakfix.cycle, breakfix.evaluate, breakfix.identify, breakfix.models.hf
import breakfix.redteam.run, breakfix.report.charts, breakfix.train.fit, breakfix.train.run
from breakfix.cli import main

gc.collect()
gc.freeze()

now = [None, None]

def wrap(owner, name, make):
    setattr(owner, name, make(getattr(owner, name)))

def watched(stock):
    def stage(self, round, name):
        now[:] = [round, name]
        return stock(self, round, name)
    return stage

def run(order, out):
    os.chdir(order["folder"])
    for descriptor in (1, 2):
        os.dup2(os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(*what):
        os.write(log, (json.dumps([*now, *what]) + "\\n").encode())

    def generate(stock):
        def generate(self, *args, **kwargs):
            for found in stock(self, *args, **kwargs):
                note("asked", 1)
                yield found
        return generate

    def score(stock):
        def score(self, pairs):
            note("scored", len(pairs))
            return stock(self, pairs)
        return score

    def step(stock):
        def on_step_end(self, args, state, control, **kwargs):
            note("step", state.global_step)
            return stock(self, args, state, control, **kwargs)
        return on_step_end

    def stop():
        os.write(out, b"reached\\n")
        time.sleep(600)

    def brake(stock):
        count = [0]
        def braked(*args, **kwargs):
            here = now == order["at"][:2] and (len(order["at"]) < 7 or order["at"][6] in args)
            count[0] += here
            if here and count[0] == order["at"][5] and order["at"][4] == "before":
                stop()
            result = stock(*args, **kwargs)
            if here and count[0] == order["at"][5]:
                stop()
            return result
        return braked

    wrap(breakfix.cycle.Cycle, "stage", watched)
    wrap(breakfix.models.hf.HFModel, "generate", generate)
    wrap(breakfix.models.hf.HFModel, "score", score)
    wrap(breakfix.train.fit._Watch, "on_step_end", step)
    if order["at"]:
        module, _, owner = order["at"][2].partition(":")
        place = importlib.import_module(module)
        wrap(getattr(place, owner) if owner else place, order["at"][3], brake)
    note("begins", 0)
    return main(["run", "tiny.yaml", "--run", "run"])

for line in sys.stdin:
    out = os.dup(1)
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = run(json.loads(line), out)
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(out)
    print(pid, flush=True)
    print("exit", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""

LEDGER = "breakfix.ledger:Ledger"
END = ("breakfix.ledger.stages", "peak_mb", "before")  # called when a stage is made, before it is marked
POINTS: tuple[tuple[Any, ...], ...] = (
    (0, "evaluate", LEDGER, "add_attempts", "after", 1),
    (0, "evaluate", LEDGER, "add_attempts", "before", 2),
    (0, "evaluate", LEDGER, "add_event", "after", 1, "perplexity"),
    (0, "evaluate", *END, 1),
    (0, "redteam", LEDGER, "add_attempts", "after", 1),
    (0, "identify", LEDGER, "add_vulnerabilities", "after", 1),
    (1, "curate", LEDGER, "add_attempts", "after", 1),
    (1, "curate", LEDGER, "add_examples", "after", 1),
    (1, "curate", *END, 1),
    (1, "train", "breakfix.train.fit:_Watch", "on_step_end", "after", 14),
    (1, "train", *END, 1),  # SFT is done and not marked
    (1, "train", "breakfix.train.fit:_Watch", "on_step_end", "after", 14),
    (1, "train", "shutil", "copytree", "after", 1),
    (
        1,
        "train",
        "breakfix.train.run:_Round",
        "tidy",
        "before",
        1,
    ),  # the model is published, what it was made in lies there
    (1, "train", "breakfix.train.run:_Round", "tidy", "after", 1),  # all is done, and the stage is not marked
    (1, "evaluate", LEDGER, "add_attempts", "after", 1),
    (1, "redteam", LEDGER, "add_attempts", "before", 2),
    (1, "identify", *END, 1),
)


def write_config(folder: Path) -> Path:
    """Enough of everything to be stopped in the middle of it."""
    folder.mkdir(parents=True)
    things = ("basket", "candle", "drawer", "fiddle", "garden", "helmet", "island", "jacket", "kettle", "ladder")
    asked = [{"prompt": f"Tell me {what} about a {thing}.", "kind": "plain", "licence": "CC0-1.0"}
             for thing in things for what in ("something nice", "an old story")]  # fmt: skip
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    return tiny.write_config(
        folder,
        curate={"sources": [{"name": "rows", "path": "rows.jsonl"}, {"name": "asked", "path": "asked.jsonl"}],
                "harmful": 6, "reply_tokens": 8},
        train={"sft": {"batch": 2, "epochs": 4}, "dpo": {"batch": 1, "epochs": 4, "max_pairs": 8}},
        evaluate={"suites": [{"name": "starter_dev", "limit": 24}, {"name": "plain", "limit": 12},
                             {"name": "perplexity", "limit": 40}], "max_new_tokens": 8},
        redteam={"cases": 8, "per_case": 2, "max_new_tokens": 8},
    )  # fmt: skip


# ---- runs that can be stopped ------------------------------------------------------------------------------------


class Zygote:
    """The process that runs are forked from. One run at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def start(self, folder: Path, at: tuple[Any, ...] | None = None) -> int:
        """The pid of a run in `folder`."""
        assert self.process.stdin is not None
        print(json.dumps({"folder": str(folder), "at": at}), file=self.process.stdin, flush=True)
        return int(self.says())

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def finish(self, folder: Path) -> None:
        self.start(folder)
        assert self.says() == "exit 10", (folder / "said").read_text()[-2000:]  # the gate fails: it babbles

    def kill_at(self, folder: Path, at: tuple[Any, ...]) -> None:
        pid = self.start(folder, at)
        assert self.says() == "reached", (folder / "said").read_text()[-2000:]
        os.kill(pid, signal.SIGKILL)
        assert self.says() == "exit -9"


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """No network, one thread."""
    found = {**os.environ, "BREAKFIX_CACHE": "/dev/null", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    found.pop("BREAKFIX_DATA", None)
    return found


@pytest.fixture(scope="module")
def zygote(environment: dict[str, str]) -> Iterator[Zygote]:
    arguments = [sys.executable, "-c", ZYGOTE]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield Zygote(process)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def whole(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was never stopped."""
    folder = write_config(tmp_path_factory.mktemp("whole") / "x").parent
    zygote.finish(folder)
    return folder


# ---- what a run has, and what it has done ------------------------------------------------------------------------

Stage = tuple[int, str]


@dataclass(frozen=True)
class Work:
    """What one process did, by stage: replies asked for, pairs scored, training steps (their numbers, in order)."""

    asked: Counter[Stage]
    scored: Counter[Stage]
    steps: tuple[int, ...]


def work(folder: Path) -> list[Work]:
    """Of each process that worked in the folder, in order."""
    found: list[Work] = []
    for line in (folder / "log").read_text().splitlines():
        round, name, what, n = json.loads(line)
        if what == "begins":
            found.append(Work(Counter(), Counter(), ()))
        elif what == "asked":
            found[-1].asked[round, name] += n
        elif what == "scored":
            found[-1].scored[round, name] += n
        else:
            found[-1] = Work(found[-1].asked, found[-1].scored, (*found[-1].steps, n))
    return found


def attempts(folder: Path) -> dict[str, Attempt]:
    with Ledger.open(folder / "run", write=False) as ledger:
        return {attempt.id: attempt for attempt in ledger.attempts()}


def replies(folder: Path) -> int:
    """The model's replies that the ledger has: those in attempts, and those of conversations that are under way."""
    with Ledger.open(folder / "run", write=False) as ledger:
        ended = {attempt.id: len(attempt.verdicts) for attempt in ledger.attempts()}
        events = ledger.events(kind="paid")
        under_way = {(p["attempt"], p["query"]) for event in events for p in event.payload["paid"]}
    return sum(ended.values()) + sum(id not in ended for id, _ in under_way)


TIMED = {"seconds", "started", "peak_mb", "cached", "tokens_in", "tokens_out", "loss"}


def timeless(value: Any) -> Any:
    """Without what depends on the clock, on how much of the work the last process found done, and on when it began: a
    loss is logged as the mean over the steps since the last one, or since the start."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in TIMED}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def results(folder: Path) -> dict[str, Any]:
    """All that a run came to. Attempt ids hold the digest of the weights: equal ids, equal weights."""
    with Ledger.open(folder / "run", write=False) as ledger:
        model = (ledger.finished(1, "train") or {})["model"]
        used = {(r, s): [a.id for a in ledger.attempts(round=r, stage=s)]
                for r in (0, 1) for s in ("curate", "evaluate", "redteam")}  # fmt: skip
        return {
            "report": timeless(json.loads((folder / "run" / "report.json").read_text())),
            "attempts": {key: sorted(ids) for key, ids in used.items()},
            "said": {id: (a.transcript, a.verdicts, a.error) for id, a in attempts(folder).items()},
            "rows": {name: [e.id for e in ledger.examples(round=1, dataset=name)] for name in ("sft", "dpo")},
            "dropped": sorted((d.step, d.reason, d.example.id) for d in ledger.drops(1)),
            "weaknesses": [ledger.vulnerabilities(round=r) for r in (0, 1)],
            "scores": [event.payload for event in ledger.events(kind="perplexity")],
            "looks": ledger.looks(),
            "weights": weights_id(model),
        }


def same(folder: Path, whole: Path) -> None:
    """Ends as the run that was never stopped, attempt for attempt and weight for weight."""
    found, expected = results(folder), results(whole)
    for key in expected:
        assert found[key] == expected[key], key
    left = {path.name for path in (folder / "run" / "round-1").rglob("*") if path.is_dir()}
    assert not {name for name in left if name.startswith(("checkpoint-", "sft", "dpo", "model.new"))}


# ---- the tests ---------------------------------------------------------------------------------------------------


def test_killed_at_every_point_in_turn_it_goes_on_from_there(zygote: Zygote, whole: Path, tmp_path: Path) -> None:
    folder = write_config(tmp_path / "x").parent
    had: dict[str, Attempt] = {}
    lost = kept = 0
    for at in POINTS:
        zygote.kill_at(folder, at)
        have = attempts(folder)
        assert {id: have[id] for id in had} == had, at  # nothing that was recorded is lost or made anew
        with Ledger.open(folder / "run", write=False) as ledger:
            assert not [row for row in ledger.stages() if (row.round, row.name) == at[:2] and row.finished], at
        have_replies = replies(folder)
        in_vain = work(folder)[-1].asked.total() - (have_replies - kept)
        group = 16 if at[3:5] == ("add_attempts", "before") else 0  # what was about to be recorded
        talks = 2 if at[1] == "redteam" else 0  # attacks of several turns: recorded after those that have ended
        assert group <= in_vain <= group + talks, at
        had, kept, lost = have, have_replies, lost + in_vain
    zygote.finish(folder)
    same(folder, whole)
    done, [at_once] = work(folder), work(whole)
    assert sum(one.asked.total() for one in done) == at_once.asked.total() + lost
    assert sum((one.scored for one in done), Counter()) == at_once.scored
    sft, sft_again, dpo, dpo_again = (one.steps for one in done if one.steps)
    assert sft == dpo == tuple(range(1, 15))
    for again in (sft_again, dpo_again):  # from the checkpoint after the tenth step or a later one, to the end
        assert 10 < again[0] <= 15 and again == tuple(range(again[0], again[-1] + 1))
    assert at_once.steps == (*range(1, sft_again[-1] + 1), *range(1, dpo_again[-1] + 1))


def test_killed_at_any_moment(zygote: Zygote, whole: Path, tmp_path: Path) -> None:
    folder = write_config(tmp_path / "x").parent
    rng, delays = random.Random(0), list[float]()
    while True:
        pid = zygote.start(folder)
        delays.append(rng.uniform(0.3, 1.5 * 1.25 ** len(delays)))
        killer = threading.Timer(delays[-1], os.kill, (pid, signal.SIGKILL))  # a pid is free again only when waited for
        killer.start()
        said = zygote.says()
        killer.cancel()
        if said != "exit -9":
            break
    assert said == "exit 10", (delays, (folder / "said").read_text()[-2000:])
    assert len(delays) > 3
    same(folder, whole)


def test_killed_in_training_and_typed_again(
    zygote: Zygote, whole: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """`python -m breakfix run`, with nothing in between, from where round 1's training begins."""
    folder = write_config(tmp_path / "x").parent
    zygote.kill_at(folder, (1, "train", "breakfix.train.fit", "fit", "before", 1))
    before = attempts(folder)
    command = [sys.executable, "-m", "breakfix", "run", "tiny.yaml", "--run", "run"]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while not list(folder.glob("run/round-1/*/*/checkpoint-*/trainer_state.json")):
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert attempts(folder) == before
    with Ledger.open(folder / "run", write=False) as ledger:
        assert ledger.finished(1, "curate") and not ledger.finished(1, "train")
    again = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 10, again.stderr[-2000:]
    same(folder, whole)


def test_a_checkpoint_that_was_not_finished_is_passed_over(tmp_path: Path) -> None:
    from breakfix.train.fit import _checkpoint

    for step, state in ((5, '{"global_step": 5}'), (10, '{"global_step": 10}'), (20, '{"global_'), (30, "")):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-40").mkdir()
    assert _checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert _checkpoint(tmp_path / "checkpoint-40") is None
