"""apply.py: a run's fix data on another model, from the command line; the new run is one like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from breakfix import apply
from breakfix.core import Example, ask
from breakfix.ledger import Ledger
from breakfix.train.card import chosen
from conftest import call

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/first, whose round 1 has data and nothing else; and another model beside it."""
    folder = tmp_path_factory.mktemp("apply")
    tiny.write_config(folder, name="first")
    tiny.save(folder / "other", seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cut_off(patch)
        for words in (("evaluate", "--round", "0"), ("redteam", "--round", "0"), ("identify", "--round", "0"),
                      ("curate", "--round", "1")):  # fmt: skip
            code, _, err = call(words[0], "tiny.yaml", *words[1:])
            assert code == 0, err
    return folder


def cut_off(patch: pytest.MonkeyPatch) -> None:
    for name, value in {"HF_HUB_OFFLINE": "1", "BREAKFIX_CACHE": "/dev/null", "NO_COLOR": "1"}.items():
        patch.setenv(name, value)
    patch.delenv("BREAKFIX_DATA", raising=False)


@pytest.fixture
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    cut_off(monkeypatch)
    return made


def ok(*words: str) -> tuple[str, str]:
    code, out, err = call(*words)
    assert code == 0, err
    return out, err


def wrong(*words: str) -> str:
    code, out, err = call(*words)
    assert (code, out) == (2, ""), err
    return err.splitlines()[-1].removeprefix("breakfix: ")


def test_the_data_of_a_run_on_another_model(here: Path) -> None:
    out, err = ok("train", "--data", "runs/first", "--model", "other", "--json")
    record = json.loads(out)
    run = Path("runs/first-on-other")
    with Ledger.open(Path("runs/first"), write=False) as first, Ledger.open(run, write=False) as second:
        for dataset in ("sft", "dpo"):
            rows = list(first.examples(round=1, dataset=dataset))
            assert rows and list(second.examples(round=1, dataset=dataset)) == rows
        parents = {parent for row in first.examples(round=1, dataset="sft") for parent in row.parents}
        assert all((second.case(id) is None) == (first.case(id) is None) for id in parents)
    assert record["applied"]["inputs"]["run"] == "first" and record["applied"]["inputs"]["round"] == 1
    assert record["started_from"].startswith("llama@") and record["sft"]["steps"] > 0
    model = Path(record["model"])
    assert (model / "model.safetensors").is_file() and model.is_relative_to(run.resolve())
    card = (model / "README.md").read_text()
    assert "the data of round 1 of the run `first` (" in card and "benign replies are that model's own" in card
    assert "the model is round 1 of runs/first-on-other; to compare it with what it was: `breakfix evaluate" in err


def test_again_it_trains_nothing_and_the_run_can_be_measured_and_compared(here: Path) -> None:
    first, _ = ok("train", "--data", "runs/first", "--model", "other", "--json")
    again, err = ok("train", "--data", "runs/first", "--model", "other", "--json")
    assert again == first and "round 1: train, done before" in err
    model = Path(json.loads(first)["model"])
    card = (model / "README.md").read_text()
    assert card.splitlines().count("## Data") == 1
    assert [line for line in card.splitlines() if line.startswith("## ")] == [
        "## Lineage", "## Applied data", "## Data", "## Recipe"
    ]  # fmt: skip
    assert "| kind | source | licence | rows |" in card and '"candidate": "model"' in card
    figures = {"selected": "model", "rule": "the rule", "candidates": {}, "dropped": []}
    chosen(model, "model", figures)
    with_choice = (model / "README.md").read_text()
    ok("train", "--data", "runs/first", "--model", "other", "--json")
    assert (model / "README.md").read_text() == with_choice and with_choice.startswith(card.rstrip())
    assert "\n## Release candidate\n" in with_choice
    run = "runs/first-on-other"
    ok("evaluate", run, "--round", "0")
    ok("evaluate", run, "--round", "1")
    document = json.loads(ok("compare", f"{run}:0", f"{run}:1", "--json")[0])
    assert len(document["columns"]) == 2
    assert "\n1      train " in ok("status", run)[0]


def test_own_replies_are_asked_of_the_other_model(here: Path) -> None:
    """Of the rows whose reply was the first model's own, also of those in a frame; replies of the data stay."""
    rows = [json.loads(line) for line in (here / "rows.jsonl").read_text().splitlines()]
    bare = [row if row["kind"] == "harmful" else {k: v for k, v in row.items() if k != "reply"} for row in rows]
    (here / "bare.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bare))
    tiny.save(here / "first-talker", seed=1, says="Bake it well and be glad.")
    tiny.save(here / "talker", seed=2, says="Take a lamp and be glad.")
    settings = json.loads((here / "tiny.yaml").read_text())
    settings |= {"name": "said", "model": "first-talker"}
    settings["curate"] |= {"sources": [{"name": "rows", "path": "bare.jsonl"}], "reply_tokens": 32}
    (here / "said.yaml").write_text(json.dumps(settings))
    for words in (("evaluate", "--round", "0"), ("redteam", "--round", "0"), ("identify", "--round", "0"),
                  ("curate", "--round", "1")):  # fmt: skip
        ok(words[0], "said.yaml", *words[1:])
    out, _ = ok("train", "--data", "runs/said", "--model", "talker", "-o", "runs/own", "--own-replies", "--json")
    counts = json.loads(out)["applied"]["own_replies"]
    with Ledger.open(Path("runs/own"), write=False) as second:
        after = list(second.examples(round=1, dataset="sft"))
        asked = list(second.attempts(round=1, stage="curate"))
    assert counts["remade"] + counts["kept"] == len(asked)
    anew = [row for row in after if row.why.endswith("the reply is the trained model's own")]
    assert counts["remade"] > 0 and {row.reply for row in anew} == {"Take a lamp and be glad."}


def test_an_interrupted_taking_over_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("train", "--data", "runs/first", "--model", "other", "-o", "runs/cut")

    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add_cases", interrupted)
        assert call(*words)[0] == 130
    with Ledger.open(Path("runs/cut"), write=False) as ledger:
        assert [(row.name, row.finished) for row in ledger.stages()] == [("curate", False)]
    ok(*words)


class TestBadInput:
    def test_on_the_command_line(self, here: Path) -> None:
        assert wrong("train", "runs/first") == (
            "the following arguments are required: --round; see `breakfix train --help`"
        )
        assert wrong("train", "--round", "1").startswith("the following arguments are required: RUN_OR_CONFIG")
        assert wrong("train", "runs/first", "--round", "1", "--model", "other").startswith(
            "--model goes with --data RUN"
        )
        said = "--data RUN goes with --model MODEL, and with no run or config beside it"
        assert wrong("train", "--data", "runs/first") == said
        assert wrong("train", "runs/first", "--data", "runs/first", "--model", "other") == said

    def test_no_such_run_or_no_data(self, here: Path) -> None:
        assert wrong("train", "--data", "runs/nix", "--model", "other") == (
            "runs/nix: not a run's folder (there is no ledger.db in it); give the run whose data is taken"
        )
        assert wrong("train", "--data", "tiny.yaml", "--model", "other").startswith("tiny.yaml: not a run's folder")
        assert wrong("train", "--data", "runs/first", "--model", "other", "--round", "3") == (
            "runs/first: round 3 has no training data; rounds that have: 1"
        )
        tiny.write_config(here, name="bare")
        ok("evaluate", "tiny.yaml", "--round", "0")
        assert wrong("train", "--data", "runs/bare", "--model", "other") == (
            "runs/bare: no round of it has training data yet; `breakfix run runs/bare` goes on, and makes some"
        )

    def test_a_model_that_can_not_be_trained(self, here: Path) -> None:
        remote = "http://127.0.0.1:9/v1#x"
        assert wrong("train", "--data", "runs/first", "--model", remote) == (
            f"--model: {remote} is remote, and a remote model can't be trained; name one that is here"
        )
        assert wrong("train", "--data", "runs/first", "--model", "nix").startswith("--model: 'nix' is no folder")
        tokenizer = tiny.tokenizer()
        tokenizer.chat_template = None
        tiny.model().save_pretrained(here / "base")
        tokenizer.save_pretrained(here / "base")
        assert wrong("train", "--data", "runs/first", "--model", "base").startswith(
            "--model: base has no chat template"
        )

    def test_a_folder_that_holds_something_else(self, here: Path) -> None:
        to = ("train", "--data", "runs/first", "--model", "other", "-o")
        kept = Path("runs/first/breakfix.yaml").read_text()
        assert wrong(*to, "runs/first") == "runs/first: the run whose data is taken; give another folder with -o"
        tiny.write_config(here, name="bare")
        ok("evaluate", "tiny.yaml", "--round", "0")
        assert wrong(*to, "runs/bare") == "runs/bare: holds another run already; give another folder with -o"
        assert wrong(*to, "other") == "other: holds something else already; give another folder with -o"
        assert Path("runs/first/breakfix.yaml").read_text() == kept


def test_the_rows_of_the_last_round_are_taken_and_the_models_own_are_known(tmp_path: Path) -> None:
    row = Example(ask("How do I bake?"), "Like this.", "test", "CC0-1.0", "a test", "plain", parents=("c1",))
    with Ledger.open(tmp_path, create=True) as ledger:
        for round in (1, 2):
            more = Example(ask(f"Bread {round}?"), "Yes.", "test", "CC0-1.0", "a test", "twin", parents=("c2",))

            def make(round: int = round, more: Any = more) -> dict[str, Any]:
                ledger.add_examples([row, more], round=round, dataset="sft")
                return {"rows": 2}

            ledger.stage(round, "curate", {"round": round}, make)
    data = apply.read(tmp_path, None, "base")
    assert data.round == 2 and [e.prompt[-1].content for e in data.rows["sft"]] == ["How do I bake?", "Bread 2?"]
    assert data.own == frozenset()  # no attempt says that a model gave these replies
    assert apply.read(tmp_path, 1, "base").inputs(False)["data"] != data.inputs(False)["data"]
