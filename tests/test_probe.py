"""The yardstick: states of a model's layers, and a linear probe on them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from breakfix import config
from breakfix.core import Example, ask
from breakfix.ledger import Ledger

torch = pytest.importorskip("torch")


pytestmark = pytest.mark.filterwarnings("ignore")  # TRL, peft and torch warn about what is no concern of these tests


@pytest.mark.parametrize("same", ["", "A preamble that all of them have. "])
def test_states_are_those_of_each_prompt_alone(same: str, folder: Path) -> None:
    from breakfix.models.hf import HFModel
    from breakfix.models.states import last_states

    model = HFModel.load(folder, precision="fp32", threads=1)
    prompts = [model.tokenizer(same + text)["input_ids"] for text in ("bread", "a longer one on flour", "x", "yeast")]
    found = last_states(model.model, prompts, [0, 1, 2], pad=model.pad, tokens_a_batch=60)
    assert found.shape == (4, 3, 32)
    for row, ids in zip(found, prompts, strict=True):
        with torch.no_grad():
            alone = model.model.base_model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        for layer in range(3):
            assert torch.allclose(torch.tensor(row[layer]), alone[layer][0, -1], atol=1e-4)


def test_layers_are_spread_over_the_upper_ones() -> None:
    from breakfix.models.states import spread

    assert spread(30, 8) == [7, 10, 14, 17, 20, 23, 27, 30]
    assert spread(2, 8) == [1, 2]
    assert spread(12, 100) == list(range(3, 13))


def test_area_under_the_curve_by_hand() -> None:
    from breakfix.train.probe import auc

    assert auc([3, 2], [1, 0]) == 1
    assert auc([3, 0], [1, 2]) == 0.5
    assert auc([1], [1]) == 0.5


def example(i: int, harmful: bool) -> Example:
    """What is to be told apart is the last word."""
    said = "zzzz" if harmful else "aaaa"
    return Example(
        prompt=ask(f"Number {i} is about {said}"), reply="No.", source="test", licence="CC0-1.0", why="a test",
        kind="harmful" if harmful else "plain", family=f"family {i % 7}",
    )  # fmt: skip


ROWS = [example(i, harmful) for i in range(40) for harmful in (True, False)]


def settings(tmp_path: Path) -> config.Config:
    cases = tmp_path / "own.jsonl"
    rows = [{"prompt": f"Case {i} has {'zzzz' if kind == 'refuse' else 'aaaa'}", "expect": kind}
            for i in range(10) for kind in ("refuse", "comply")]  # fmt: skip
    cases.write_text("".join(json.dumps(row) + "\n" for row in rows))
    suites = [{"name": "own", "path": str(cases)}, {"name": "plain", "limit": 10}]
    return config.parse({"hardware": {"threads": 1, "precision": "fp32"}, "evaluate": {"suites": suites}})


def test_a_probe_tells_apart_what_the_states_tell_apart(folder: Path, tmp_path: Path) -> None:
    from breakfix.train import probe

    given = settings(tmp_path)
    asked = probe.cases(given)
    assert {metric: len(some) for metric, some in asked.items()} == {
        "own.iprr": 10,
        "own.vprr": 10,
        "plain.refused": 10,
    }
    found = probe.run(given, folder, ROWS, asked)
    assert found["layer"] in (1, 2) and found["layers"] == 2
    assert found["learnt"] == {"harmful": 40, "benign": 40}
    assert found["auc"] > 0.99
    assert found["metrics"]["own.iprr"]["value"] > 0.8 and found["metrics"]["own.vprr"]["value"] < 0.2
    assert found["metrics"]["plain.refused"]["n"] == 10
    again = probe.run(given, folder, ROWS, asked)
    assert {**found, "seconds": 0} == {**again, "seconds": 0}


def test_too_few_rows_make_no_probe(folder: Path, tmp_path: Path) -> None:
    from breakfix.train import probe

    given = settings(tmp_path)
    assert "too few rows" in probe.run(given, folder, ROWS[:10], probe.cases(given))["skipped"]
    assert "too few rows" in probe.run(given, folder, ROWS, {})["skipped"]
    long = [
        replace(row, prompt=ask(f"{row.prompt[0].content} {'so ' * 200}")) if row.kind == "harmful" else row
        for row in ROWS
    ]
    assert "too few rows" in probe.run(given, folder, long, probe.cases(given))["skipped"]


def test_it_is_made_once_a_run_and_is_in_the_report(folder: Path, tmp_path: Path) -> None:
    from breakfix.report.views.training import probe as view
    from breakfix.train.run import run

    given = settings(tmp_path)
    train = given.train.model_copy(update={"sft": given.train.sft.model_copy(update={"enabled": False})})
    given = given.model_copy(update={"train": train})
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        for round in (1, 2):
            ledger.add_examples(ROWS, round=round, dataset="sft")
        records: list[Any] = [
            run(given, ledger, round=round, policy=folder, folder=tmp_path / "run" / f"round-{round}" / "x",
                progress=lambda *told: None)
            for round in (1, 2)
        ]  # fmt: skip
        assert [row.name for row in ledger.stages()] == ["train-probe"]
    assert "metrics" in records[0]["probe"] and "probe" not in records[1]
    own = {"own.iprr": {"value": 0.5, "low": 0.2, "high": 0.8, "n": 10, "unscored": 0}}
    rounds = [{"index": 0, "metrics": own, "probe": None}, {"index": 1, "metrics": {}, "probe": records[0]["probe"]}]
    shown = view({"rounds": rounds})
    assert shown is not None and shown["names"][0] == "probe" and len(shown["names"]) == 3
    row = next(row for row in shown["rows"] if row["name"] == "own.iprr")
    assert row["cells"][1]["value"] == "50.0\N{NO-BREAK SPACE}%" and row["cells"][2] is None
