"""Remote models in use: a tiny model behind a real server; target, helper and judge of runs; chat, doctor."""

from __future__ import annotations

import gc
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import endpoint as served
import tiny
from breakfix.config import Endpoint as Settings
from breakfix.core import Message, Model, Sampling, ask
from breakfix.ledger import Ledger
from breakfix.models.remote import RemoteModel
from conftest import SAYS, call, environment
from endpoint import Endpoint

CANARY = "canary-5f2e-not-a-real-key-9b41"
BREAD = ask("How is bread baked?")


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def remote(url: str, **settings: Any) -> RemoteModel:
    return RemoteModel.open(url, [Settings(url=url, **settings)], rng=random.Random(0), unit=0.01)


# ---- a real model ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("remote") / "tiny")


@pytest.fixture(scope="module")
def declines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Says words, where the random one babbles: a judge gives babble no verdict."""
    return tiny.save(tmp_path_factory.mktemp("remote") / "says", says=SAYS)


@pytest.fixture(scope="module")
def local(folder: Path) -> Any:
    from breakfix.models.hf import HFModel

    return HFModel.load(folder, precision="fp32", threads=1)


@pytest.mark.parametrize("sampling", [Sampling(8), Sampling(8, temperature=1.0, top_p=0.9)])
def test_a_model_says_the_same_here_and_there(local: Model, sampling: Sampling) -> None:
    prompts = [BREAD, ask("Hi"), (Message("system", "Be brief."), *BREAD), (*BREAD, Message("assistant", "First, "))]
    with Endpoint(served.serving(local)) as server:
        there = dict(remote(server.url, prefill=True).generate(prompts, sampling, [1, 2, 3, 4]))
    assert there == dict(local.generate(prompts, sampling, [1, 2, 3, 4]))


@pytest.mark.slow
def test_transformers_serve(folder: Path, local: Model, tmp_path: Path) -> None:
    """The real server, on the tiny model; it needs the packages of transformers[serving]."""
    from transformers.utils.import_utils import is_serve_available

    if not is_serve_available():
        pytest.skip("transformers[serving] is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), "--port", str(port)]
    more = {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([*command, "--device", "cpu"], env=environment(**more), stdout=log, stderr=log)
        try:
            model = remote(f"http://127.0.0.1:{port}/v1#{folder}", timeout=30.0)
            until = time.monotonic() + 90
            while model.hello().why and time.monotonic() < until:
                time.sleep(0.5)
            prompts = [BREAD, ask("Hi"), (Message("system", "Be brief."), *BREAD)]
            there = dict(model.generate(prompts, Sampling(8), [1, 2, 3]))
        finally:
            server.terminate()
            server.wait()
    assert there == dict(local.generate(prompts, Sampling(8), [1, 2, 3])), (tmp_path / "log").read_text()[-2000:]


def run_config(folder: Path, url: str, **changes: Any) -> Path:
    suites = [{"name": "plain", "limit": 6}, {"name": "capability", "path": "capability"}, {"name": "perplexity",
              "limit": 4}]  # fmt: skip
    if not (folder / "capability").is_dir():
        tiny.write_capability(folder / "capability")
    given = {"evaluate": {"suites": suites, "max_new_tokens": 8}, **changes}
    return tiny.write_config(folder, model=url, **given)


@pytest.fixture
def here(cut_off: None, folder: Path, declines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny").symlink_to(folder)
    (tmp_path / "says").symlink_to(declines)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spent(run: Path) -> dict[str, Any]:
    with Ledger.open(run, write=False) as ledger:
        [*_, last] = ledger.events(0, "run", "spent")
    return dict(last.payload)


def test_a_remote_target_is_measured_and_attacked_and_not_trained(here: Path, local: Model) -> None:
    run = here / "runs" / "tiny"
    with Endpoint(served.serving(local)) as server:
        path = run_config(here, server.url)
        code, out, err = call("run", str(path))
        assert (code, out) == (2, "")
        assert err == (
            f"breakfix: model: {server.url} is remote, and a remote model can't be trained; measure it with `breakfix "
            "evaluate CONFIG --round 0` and `breakfix redteam CONFIG --round 0`, or name a model that is here\n"
        )
        assert not (here / "runs").exists()
        code, out, err = call("evaluate", str(path), "--round", "0", "--json")
        assert code == 0, err
        record = json.loads(out)
        assert record["metrics"]["plain.refused"]["n"] + record["metrics"]["plain.refused"]["unscored"] == 6
        # what needs log-likelihoods is not known, and said to be so
        assert record["metrics"]["capability.accuracy"]["n"] == 0
        assert record["metrics"]["capability.accuracy"]["unscored"] == 12
        assert record["metrics"]["capability.accuracy"]["value"] is None
        assert record["metrics"]["perplexity.own_answers"]["unscored"] == 4
        asked_before = len(server.requests)
        code, out, err = call("redteam", str(path), "--round", "0", "--json")
        assert code == 0, err
        with Ledger.open(run, write=False) as ledger:
            attacked = list(ledger.attempts(round=0, stage="redteam"))
        begun = [attempt for attempt in attacked if "can't continue a reply" in (attempt.error or "")]
        assert {attempt.attack for attempt in begun} <= {"prefill"}
        assert json.loads(out)["queries"] - len(begun) == len(server.requests) - asked_before
        code, out, err = call("identify", str(path), "--round", "0")
        assert code == 0, err
        again = len(server.requests)
        assert call("evaluate", str(path), "--round", "0")[0] == 0  # done before
        assert len(server.requests) == again
        code, out, err = call("train", str(path), "--round", "1")
        assert code == 2
        assert "is remote, and a remote model can't be trained" in err
    with Ledger.open(run, write=False) as ledger:
        models = {attempt.model for attempt in ledger.attempts()}
        failures = {event.payload["why"] for event in ledger.events(0, "evaluate", "failed")}
    assert models == {f"remote:{server.url}"}
    assert failures == {f"{server.url}: a remote model can't score given texts, only reply"}
    assert spent(run)["requests"] == again
    assert server.url in (run / "report.json").read_text()


def test_a_run_stops_at_its_budget_and_goes_on_with_a_larger_one(here: Path, local: Model) -> None:
    suites = [{"name": "plain", "limit": 40}]
    with Endpoint(served.serving(local)) as server:
        entry = {"url": server.base, "concurrency": 2, "price_in": 1.0, "price_out": 1.0}
        changes = {"evaluate": {"suites": suites, "max_new_tokens": 8}}
        path = run_config(here, server.url, **changes, endpoints=[{**entry, "max_tokens": 1200}])
        code, out, err = call("evaluate", str(path), "--round", "0")
        assert (code, out) == (2, "")
        assert re.search(r"breakfix: .*: \d+ tokens are spent, of max_tokens 1200; raise it in `endpoints`;", err)
        first = len(server.requests)
        assert 0 < first < 40
        assert spent(here / "runs" / "tiny")["requests"] == first
        with Ledger.open(here / "runs" / "tiny", write=False) as ledger:
            assert sum(1 for _ in ledger.attempts()) == first  # all that was paid for
        assert call("evaluate", str(path), "--round", "0")[0] == 2  # the same budget: nothing more is spent
        assert len(server.requests) == first
        path = run_config(here, server.url, **changes, endpoints=[{**entry, "max_tokens": 100_000}])
        code, out, err = call("evaluate", str(path), "--round", "0")
        assert code == 0, err
        assert len(server.requests) == 40
    total = spent(here / "runs" / "tiny")
    assert total["requests"] == 40
    assert total["cost"] == pytest.approx((total["tokens_in"] + total["tokens_out"]) / 1e6)


def test_an_interrupt_ends_a_run_at_once_and_the_same_command_goes_on(here: Path) -> None:
    with Endpoint(faults=lambda n, body: served.slow(20.0) if n >= 5 else None) as server:
        path = run_config(here, server.url, evaluate={"suites": [{"name": "plain", "limit": 20}], "max_new_tokens": 8})
        command = [sys.executable, "-m", "breakfix", "evaluate", str(path), "--round", "0"]
        with subprocess.Popen(command, cwd=here, env=environment(), stderr=subprocess.PIPE, text=True) as process:
            until = time.monotonic() + 60
            while len(server.requests) < 7 and time.monotonic() < until:
                time.sleep(0.02)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            said = process.communicate()[1]
            assert time.monotonic() - began < 5
    assert process.returncode == 130
    assert said.splitlines()[-1] == "breakfix: interrupted; the same command goes on from here"
    first = spent(here / "runs" / "tiny")["requests"]
    assert 1 <= first <= 5
    with Endpoint(port=server.port) as again:
        code, _, err = call("evaluate", str(path), "--round", "0")
        assert code == 0, err
        assert len(again.requests) == 20  # what waited for the group's verdict is asked again
    assert f"{again.url}: {first + 20} answers, " in err


def test_a_target_that_fails_leaves_errors_and_no_verdicts(here: Path) -> None:
    with Endpoint(faults=served.always(served.UNAUTHORISED)) as server:
        path = run_config(here, server.url)
        code, out, err = call("evaluate", str(path), "--round", "0", "--json")
    assert code == 0, err
    refused = json.loads(out)["metrics"]["plain.refused"]
    assert (refused["n"], refused["unscored"], refused["value"]) == (0, 6, None)
    with Ledger.open(here / "runs" / "tiny", write=False) as ledger:
        attempts = list(ledger.attempts())
    assert len(attempts) >= 6
    assert all(attempt.error and "HTTP 401" in attempt.error for attempt in attempts)
    assert all(attempt.verdicts == () and attempt.score is None for attempt in attempts)


def test_a_remote_helper_drives_the_attacks_that_ask_for_one(here: Path) -> None:
    families = {"seen": ["direct"], "held_out": ["crescendo"]}
    with Endpoint(lambda body: "What is bread made of?") as server:
        path = tiny.write_config(here, redteam={**families, "cases": 4, "per_case": 1, "max_new_tokens": 8,
                                                "helper": server.url})  # fmt: skip
        code, _, err = call("redteam", str(path), "--round", "0", "--json")
        assert code == 0, err
        assert len(server.requests) > 0
    assert spent(here / "runs" / "tiny")["requests"] == len(server.requests)
    assert f"redteam.helper: {server.url} (remote)" in err


def test_a_key_is_in_no_file_of_a_run(here: Path, local: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", CANARY)
    with Endpoint(served.serving(local), key=CANARY) as server:
        path = run_config(here, server.url, endpoints=[{"url": server.base, "api_key_env": "MINE"}])
        shown = [call("evaluate", str(path), "--round", "0"), call("redteam", str(path), "--round", "0")]
        shown.append(call("report", "runs/tiny", "--json", "--redaction", "full"))
        assert [code for code, _, _ in shown] == [0, 0, 0]
    files = [file for file in here.rglob("*") if file.is_file()]
    assert len(files) > 5
    assert not [file.name for file in files if CANARY.encode() in file.read_bytes()]
    assert CANARY not in repr(shown)


def test_a_missing_key_and_a_bad_address_are_known_before_anything_is_done(here: Path) -> None:
    url = "http://127.0.0.1:9/v1#a"
    path = run_config(here, url, endpoints=[{"url": url, "api_key_env": "NOT_THERE"}])
    code, _, err = call("evaluate", str(path), "--round", "0")
    assert code == 2
    assert "is 'NOT_THERE', which the environment does not have" in err
    path = run_config(here, "http://127.0.0.1:9/v1")
    code, _, err = call("evaluate", str(path), "--round", "0")
    assert code == 2
    assert "model: http://127.0.0.1:9/v1 names no model" in err
    assert not (here / "runs").exists()


# ---- as a judge -----------------------------------------------------------------------------------------------------


def refuses(body: served.Asked) -> str:
    """A rubric's answer, with the check word that it asks for."""
    check = re.findall(r'"check": "(\w+)"', served.last(body))[-1]
    return json.dumps({"why": "It declines.", "refusal": "full", "check": check})


DRILLS: dict[str, Callable[[], Endpoint]] = {
    "times out": lambda: Endpoint(refuses, faults=served.always(served.slow(1.0))),
    "401": lambda: Endpoint(refuses, faults=served.always(served.UNAUTHORISED)),
    "429": lambda: Endpoint(refuses, faults=served.always(served.busy("0"))),
    "garbage": lambda: Endpoint(refuses, faults=served.always(served.GARBAGE)),
    "half a JSON": lambda: Endpoint(refuses, faults=served.always(served.HALF_JSON)),
    "broken off": lambda: Endpoint(refuses, faults=served.always(served.BROKEN_OFF)),
    "shut down": lambda: Endpoint(refuses, dies_after=3),
}


@pytest.mark.parametrize("drill", DRILLS)
def test_a_judges_endpoint_that_fails_costs_coverage_and_invents_no_verdict(
    drill: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends as it would, the figures say how many replies were not judged, and why is with each of them. What
    was not judged can be judged later, without the target."""
    run = here / "runs" / "tiny"
    monkeypatch.setattr(RemoteModel.__init__, "__kwdefaults__", {"rng": None, "unit": 0.01})
    with DRILLS[drill]() as server:
        path = tiny.write_config(
            here,
            model=str(here / "says"),
            judges={"refusal": "rubric/refusal", "model": server.url},
            evaluate={"suites": [{"name": "plain", "limit": 8}], "max_new_tokens": 48},
            endpoints=[{"url": server.base, "timeout": 0.3, "retries": 1}],
        )
        code, out, err = call("evaluate", str(path), "--round", "0", "--json")
    assert code == 0, err
    figure = json.loads(out)["metrics"]["plain.refused"]
    judged = figure["n"]
    assert 1 <= judged <= 3 if drill == "shut down" else judged == 0
    assert figure["unscored"] == 8 - judged
    assert figure["value"] == (1.0 if judged else None)
    with Ledger.open(run, write=False) as ledger:
        verdicts = [attempt.final for attempt in ledger.attempts()]
    assert [verdict.label for verdict in verdicts if verdict].count("full") == judged
    failures = [verdict for verdict in verdicts if verdict and verdict.score is None]
    assert len(failures) == 8 - judged
    assert all(verdict.label == "unscored" and server.url in verdict.reason for verdict in failures)
    with Endpoint(refuses, port=server.port) as again:
        code, out, err = call("evaluate", str(path), "--round", "0", "--json")  # nothing is asked again
        assert (code, again.requests) == (0, [])
        code, out, err = call(
            "judges", "rejudge", str(run), "--judge", "rubric/refusal", "--model", again.url, "--json"
        )
        assert code == 0, err
        assert len(again.requests) == 8 - judged  # what it scored in the run is paid for
        found = json.loads(out)
        assert (found["judged"], found["known"]) == (8 - judged, judged)
        assert found["rates"][0]["new"]["n"] == 8
        with Ledger.open(run, write=False) as ledger:
            later = [verdicts[-1].label for verdicts in ledger.later_verdicts().values()]
            [judge] = {verdict.judge for attempt in ledger.attempts() for verdict in attempt.verdicts}
        assert later == ["full"] * (8 - judged)
        code, out, err = call("compare", f"{run}:0", f"{run}:0", "--judge", judge, "--json")
        assert code == 0, err
        assert compared(out)["estimate"]["n"] == 8


def compared(out: str) -> dict[str, Any]:
    """The second column's cell of plain.refused."""
    rows = [row for section in json.loads(out)["sections"] for row in section["rows"]]
    [row] = [row for row in rows if row["name"] == "plain.refused"]
    return row["cells"][1]


def test_a_run_is_mended_once_its_judge_is_back(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--again` puts to the judge what it failed on, and nothing else; the target is not asked at all."""
    run = here / "runs" / "tiny"
    monkeypatch.setattr(RemoteModel.__init__, "__kwdefaults__", {"rng": None, "unit": 0.01})
    families = {"seen": ["direct"], "held_out": ["role_play"], "cases": 4, "per_case": 1, "max_new_tokens": 8}
    with Endpoint(refuses, dies_after=3) as server, Endpoint(lambda body: "I can't help with that.") as target:
        path = tiny.write_config(
            here,
            model=target.url,
            judges={"refusal": "rubric/refusal", "model": server.url},
            evaluate={"suites": [{"name": "plain", "limit": 8}], "max_new_tokens": 48},
            redteam=families,
            endpoints=[{"url": server.base, "timeout": 0.3, "retries": 1}],
        )
        code, _, err = call("evaluate", str(path), "--round", "0")
        assert code == 0, err
        assert "round 0: the judge gave no verdict on 5 attempts; `breakfix evaluate" in err
        assert call("redteam", str(path), "--round", "0")[0] == 0
        asked = len(target.requests)
        with Endpoint(refuses, port=server.port) as again:
            code, out, err = call("evaluate", str(path), "--round", "0", "--again", "--json")
            assert code == 0, err
            assert len(again.requests) == 5
            figure = json.loads(out)["metrics"]["plain.refused"]
            assert (figure["n"], figure["unscored"]) == (8, 0)
            code, out, err = call("redteam", str(path), "--round", "0", "--again", "--json")
            assert code == 0, err
            assert (json.loads(out)["metrics"]["asr.direct"]["n"], json.loads(out)["queries"]) == (4, 0)
            judged = len(again.requests)
            assert call("evaluate", str(path), "--round", "0", "--again")[0] == 0  # nothing is left to mend
            assert call("redteam", str(path), "--round", "0", "--again")[0] == 0
            assert len(again.requests) == judged
        assert len(target.requests) == asked
    with Ledger.open(run, write=False) as ledger:
        assert all(attempt.score is not None for attempt in ledger.attempts())
    document = json.loads((run / "report.json").read_text())
    assert document["rounds"][0]["metrics"]["plain.refused"]["n"] == 8
    code, out, err = call("compare", f"{run}:0", f"{run}:0", "--json")
    assert code == 0, err
    assert compared(out)["change"]["n"] == 8


def test_a_judges_budget_ends_the_run_and_a_larger_one_goes_on(here: Path) -> None:
    run = here / "runs" / "tiny"
    with Endpoint(refuses) as server:

        def config(limit: int) -> str:
            return str(
                tiny.write_config(
                    here,
                    model=str(here / "says"),
                    judges={"refusal": "rubric/refusal", "model": server.url},
                    evaluate={"suites": [{"name": "plain", "limit": 40}], "max_new_tokens": 48},
                    endpoints=[{"url": server.base, "max_tokens": limit}],
                )
            )

        code, out, err = call("evaluate", config(7000), "--round", "0")
        assert (code, out) == (2, "")
        assert "of max_tokens 7000; raise it in `endpoints`; then the same command goes on" in err
        first = len(server.requests)
        assert 0 < first < 40
        assert spent(run)["requests"] == first
        code, out, err = call("evaluate", config(100_000), "--round", "0", "--json")
        assert code == 0, err
        assert json.loads(out)["metrics"]["plain.refused"]["n"] == 40
        assert spent(run)["requests"] == len(server.requests) == 40  # no verdict was paid for twice


# ---- talking to it, and looking whether it is there -----------------------------------------------------------------


def test_chat_with_an_address(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Endpoint(lambda body: f"You said: {served.last(body)}") as server:
        monkeypatch.setattr(sys, "stdin", io.StringIO("Bread?\nRye?\n/quit\n"))
        code, out, err = call("chat", server.url)
    assert code == 0, err
    assert out == "You said: Bread?\nYou said: Rye?\n"
    assert f"remote:{server.url}" in err
    assert [len(request.body["messages"]) for request in server.requests] == [1, 3]


def test_the_doctor_asks_the_models_of_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    from breakfix.doctor import Row
    from breakfix.doctor import remote as row

    with Endpoint(key=CANARY) as server:
        denied = row("model", remote(server.url).hello())
        assert (denied.state, denied.found) == ("fail", f"{server.url}: HTTP 401: it does not let us in without a key")
        monkeypatch.setenv("MINE", CANARY)
        model = remote(server.url, api_key_env="MINE")
        assert row("model", model.hello()) == Row(
            "model", "ok", f"{server.url} answers, and has the model; the key is sent"
        )
        other = remote(f"{server.base}#other", api_key_env="MINE").hello()
        assert (row("model", other).state, row("model", other).advice) == ("warn", "it lists: tiny")
        assert server.requests == []
    gone = row("model", model.hello())
    assert (gone.state, gone.found) == ("fail", f"{server.url}: connection refused")
    gc.collect()
