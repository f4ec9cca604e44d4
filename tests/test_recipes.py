"""Candidates that are made: blends of weights, trainings by other settings; what each learns from."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from breakfix import config
from breakfix.config import Recipe
from breakfix.core import Example, Message, Sampling, ask
from breakfix.errors import ConfigError, UserError
from breakfix.ledger import Ledger
from breakfix.train import recipes

torch = pytest.importorskip("torch")


pytestmark = pytest.mark.filterwarnings("ignore")  # TRL, peft and torch warn about what is no concern of these tests


def example(i: int, kind: str = "plain", **changes: Any) -> Example:
    return Example(**{
        "prompt": ask(f"Tell me step {i} of baking {kind} bread"), "reply": "Mix flour with water and wait an hour.",
        "rejected": "No.", "source": "test", "why": "a test", "licence": "CC0-1.0", "kind": kind, **changes,
    })  # fmt: skip


EXAMPLES = [example(i, kind) for i in range(4) for kind in ("harmful", "twin", "plain")]


# ---- blends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0, 1.5])
def test_a_blend_lies_that_far_between_two_models_or_beyond(alpha: float, tmp_path: Path) -> None:
    from breakfix.models.hf import HFModel
    from breakfix.models.identity import weights_id
    from breakfix.train.blend import blend

    one, two = tiny.save(tmp_path / "one", seed=1), tiny.save(tmp_path / "two", seed=2)
    (two / "checkpoint-3").mkdir()
    blend(one, two, alpha, tmp_path / "out")
    assert {f.name for f in (tmp_path / "out").iterdir()} == {f.name for f in two.iterdir()} - {"checkpoint-3"}
    before, after, mixed = map(tiny.weights, (one, two, tmp_path / "out"))
    assert set(mixed) == set(after)
    for key, tensor in mixed.items():
        assert torch.allclose(tensor, before[key] + alpha * (after[key] - before[key]), atol=1e-6), key
    if alpha in (0.0, 1.0):
        assert weights_id(tmp_path / "out") == weights_id(one if alpha == 0 else two), "the very model"
    assert dict(HFModel.load(tmp_path / "out", precision="fp32").generate([ask("Hi")], Sampling(4)))[0].error is None


def test_a_blend_keeps_files_types_and_what_is_no_number(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from breakfix.train.blend import blend

    for name, value in (("one", 1.0), ("two", 3.0)):
        (tmp_path / name).mkdir()
        half = torch.full((4, 3), value, dtype=torch.bfloat16)
        save_file({"a": half, "ids": torch.tensor([int(value)])}, tmp_path / name / "model-1.safetensors")
        save_file({"b": torch.full((2,), value)}, tmp_path / name / "model-2.safetensors", {"format": "pt"})
    blend(tmp_path / "one", tmp_path / "two", 0.25, tmp_path / "out")
    first, second = (load_file(tmp_path / "out" / f"model-{i}.safetensors") for i in (1, 2))
    assert first["a"].dtype is torch.bfloat16 and first["a"].tolist() == [[1.5] * 3] * 4
    assert first["ids"].tolist() == [3], "counts are the later model's"
    assert second["b"].tolist() == [1.5, 1.5]


def test_no_blend_of_two_different_models(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from breakfix.train.blend import blend

    one, two = tiny.save(tmp_path / "one"), tiny.save(tmp_path / "two")
    smaller = {key: tensor[..., :8].clone() for key, tensor in tiny.weights(one).items()}
    save_file(smaller, one / "model.safetensors")
    with pytest.raises(UserError, match=r"one: .* is \(.*8\), in .*two it is \("):
        blend(one, two, 0.5, tmp_path / "out")
    save_file({}, one / "model.safetensors")
    with pytest.raises(UserError, match=r"one: no tensor .*; what is blended are two checkpoints of one model"):
        blend(one, two, 0.5, tmp_path / "other")


# ---- recipes ----------------------------------------------------------------------------------------------------


def test_shares_are_reached_by_leaving_rows_out() -> None:
    rows = [example(i, kind) for i in range(30) for kind in ("harmful", "twin", "plain")]
    assert Counter(row.kind for row in recipes.subset(rows, {"harmful": 0.25})) == {
        "harmful": 20, "twin": 30, "plain": 30,
    }  # fmt: skip
    assert Counter(row.kind for row in recipes.subset(rows, {"harmful": 0.5})) == {
        "harmful": 30, "twin": 15, "plain": 15,
    }  # fmt: skip
    assert Counter(row.kind for row in recipes.subset(rows, {"harmful": 0.5, "twin": 0})) == {
        "harmful": 30,
        "plain": 30,
    }
    assert recipes.subset(rows, {}) == rows
    few = recipes.subset(rows, {"harmful": 0.1})
    assert few == [row for row in rows if row in few], "in their order"
    assert recipes.subset(rows, {"harmful": 0.1}) == few, "the same each time"
    assert set(recipes.subset(rows, {"harmful": 0.05})) - set(few) == set(), "and some of them for a lower share"


def test_a_share_of_a_kind_that_is_not_there_is_left_out() -> None:
    rows = [example(i, kind) for i in range(10) for kind in ("harmful", "plain")]
    assert Counter(row.kind for row in recipes.subset(rows, {"harmful": 0.2, "twin": 0.4})) == {
        "harmful": 5,
        "plain": 10,
    }
    assert recipes.subset([], {"harmful": 0.2}) == []


def test_rows_without_a_pair_are_balanced_and_in_no_pair() -> None:
    pairs = [example(0, "harmful"), example(0, "plain")]
    sft = [example(i, kind, rejected=None) for i in range(6) for kind in ("harmful", "twin", "plain")]
    found = recipes.unpaired(sft, pairs, 8)
    assert Counter(row.kind == "harmful" for row in found) == {True: 4, False: 4}
    assert not {row.prompt for row in found} & {row.prompt for row in pairs}
    assert recipes.unpaired(sft, pairs, 100) == recipes.unpaired(list(reversed(sft)), pairs, 100)


def test_a_reply_begun_the_wrong_way_is_no_good_reply() -> None:
    sft = [example(i, kind, rejected=None) for i in range(3) for kind in ("harmful", "plain")]
    begun = [replace(row, prompt=(*row.prompt, Message("assistant", "Sure, here"))) for row in sft]
    assert recipes.unpaired(begun, [], 8) == []
    assert len(recipes.unpaired([*sft, *begun], [], 8)) == 6


def test_ordinary_benign_rows_have_a_rejected_side_and_are_good_replies_all_the_same() -> None:
    """So does curation make them; harmful ones that were never answered have none."""
    plain = [example(i, rejected_cut=True) for i in range(6)]
    refused = [example(i, "harmful", rejected=None) for i in range(6)]
    found = recipes.unpaired([*plain, *refused], [example(0), example(0, "harmful")], 8)
    assert Counter(row.kind for row in found) == {"harmful": 4, "plain": 4}
    assert all(row.rejected is None and not row.rejected_cut for row in found)
    assert {row.reply for row in found} == {plain[0].reply}


def test_a_recipe_changes_what_it_says_and_no_more() -> None:
    settings = config.parse({"train": {
        "sft": {"batch": 4}, "dpo": {"beta": 0.3},
        "candidates": ["mean", {"name": "strong", "sft": {"rate": 2}, "reference": "untouched", "seed": 7}],
    }})  # fmt: skip
    other = recipes.changed(settings, settings.train.candidates[1])
    assert (other.train.sft.rate, other.train.sft.batch, other.train.dpo.beta) == (2, 4, 0.3)
    assert (other.train.reference, other.seed, settings.seed) == ("untouched", 7, 0)
    assert not recipes.same_sft(settings, other, settings.train.candidates[1])
    bolder = Recipe.model_validate({"name": "bolder", "dpo": {"beta": 0.05}})
    assert recipes.same_sft(settings, recipes.changed(settings, bolder), bolder)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("men", "candidate 'men' changes nothing; give blend, shares, sft, dpo ... (or start, mean, sft)"),
        (
            {"name": "x", "sft": {"learning_rat": 1}},
            "candidate 'x': unknown key 'train.sft.learning_rat'; did you mean",
        ),
        ({"name": "x", "dpo": {"beta": -1}}, "candidate 'x': train.dpo.beta is -1; expected more than 0"),
        ({"name": "x", "blend": 3}, "train.candidates[0].blend is 3; expected 2"),
        ({"name": "x", "blnd": 0.3}, "unknown key 'train.candidates[0].blnd'; did you mean 'blend'?"),
        ({"name": "a b", "blend": 0.3}, "expected a name of small letters, digits and hyphens"),
        ({"name": "model", "blend": 0.3}, "candidate 'model' is the round's last checkpoint"),
        ({"name": "x", "shares": {"harmful": 0.7, "twin": 0.5}}, "shares add up to more than 1"),
        ({"name": "sft", "blend": 0.5}, "candidate 'sft' is the model before DPO"),
        (
            {"name": "x", "blend": 0, "sft": {"rate": 3}},
            "candidate 'x': blend 0 is the round's start, whatever is trained",
        ),
    ],
)
def test_a_recipe_that_can_not_be_is_one_plain_line(given: Any, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.parse({"train": {"candidates": [given]}})
    assert said in str(error.value) and "\n" not in str(error.value)


def test_two_candidates_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="'mean' is there twice"):
        config.parse({"train": {"candidates": ["mean", {"name": "mean", "blend": 0.4}]}})


def test_candidates_survive_the_written_config() -> None:
    from breakfix.templates import render

    given = [
        "start",
        "sft",
        {"name": "far", "blend": 1.2},
        {"name": "few", "shares": {"harmful": 0.2}, "from_round": 2},
    ]
    settings = config.parse({"train": {"candidates": given, "sft": {"row_weight": {"twin": 2}}}})
    assert config.parse(yaml.safe_load(render(settings))) == settings


# ---- the stage makes them ---------------------------------------------------------------------------------------


def stage(tmp_path: Path, candidates: list[Any], round: int = 1, **train: Any) -> dict[str, Any]:
    from breakfix.train.run import run

    policy = tiny.save(tmp_path / "policy") if not (tmp_path / "policy").is_dir() else tmp_path / "policy"
    given = {
        "sft": {"batch": 4},
        "dpo": {"batch": 4},
        "candidates": candidates,
        "probe": False,
        "alarms": False,
        **train,
    }
    settings = config.parse({"hardware": {"threads": 1, "precision": "fp32"}, "train": given})
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        for kind in ("sft", "dpo"):
            if not list(ledger.examples(round=round, dataset=kind)):
                ledger.add_examples(EXAMPLES, round=round, dataset=kind)
        return run(settings, ledger, round=round, policy=policy, folder=tmp_path / "run" / "round-1" / "x",
                   progress=lambda *told: None)  # fmt: skip


def test_variants_are_trained_anew_each_a_stage_of_its_own(tmp_path: Path) -> None:
    wanted = [
        {"name": "gentle", "blend": 0.7},
        {"name": "strong", "sft": {"rate": 3}},
        {"name": "bolder", "dpo": {"rate": 5}},
        {"name": "few", "shares": {"harmful": 0.2}, "blend": 0.5},
        {"name": "later", "blend": 0.5, "from_round": 2},
    ]
    record = stage(tmp_path, wanted)
    from breakfix.models.identity import weights_id

    assert list(record["candidates"]) == ["model", "gentle", "strong", "bolder", "few"]
    assert len({weights_id(folder) for folder in record["candidates"].values()}) == 5
    with Ledger.open(tmp_path / "run", write=False) as ledger:
        stages = {row.name for row in ledger.stages()}
    assert stages == {"train-sft", "train-dpo", "train-strong-sft", "train-strong-dpo", "train-bolder-dpo",
                      "train-few-sft", "train-few-dpo"}  # fmt: skip
    made = record["recipes"]
    assert made["gentle"] == {"blend": 0.7}
    assert made["strong"]["sft"]["learning_rate"] == pytest.approx(3 * record["sft"]["learning_rate"])
    assert made["bolder"]["sft"] == {"skipped": "the round's own"}
    assert made["few"]["sft"]["rows"] == 10 and record["sft"]["rows"] == 12  # 2 harmful, 4 twins, 4 plain
    before, after, mixed = (
        tiny.weights(Path(folder))
        for folder in (tmp_path / "policy", record["candidates"]["model"], record["candidates"]["gentle"])
    )
    assert all(torch.allclose(mixed[k], before[k] + 0.7 * (after[k] - before[k]), atol=1e-6) for k in mixed)
    left = {path.name for path in (tmp_path / "run" / "round-1" / "x").iterdir()}
    assert left == {Path(folder).name for folder in record["candidates"].values()}


def test_a_killed_stage_makes_no_candidate_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from breakfix.train import fit, run

    made: list[str] = []
    real = fit.fit

    def counted(kind: str, *args: Any, **more: Any) -> Any:
        made.append(kind)
        return real(kind, *args, **more)

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "fit", counted)
    wanted = [{"name": "strong", "sft": {"rate": 3}}, {"name": "half", "blend": 0.5}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "blend", killed)
        with pytest.raises(KeyboardInterrupt):
            stage(tmp_path, wanted)
    assert made == ["sft", "dpo", "sft", "dpo"]
    assert set(stage(tmp_path, wanted)["candidates"]) == {"model", "strong", "half"}
    assert len(made) == 4


def test_the_start_of_a_round_is_a_candidate_with_the_same_weights(tmp_path: Path) -> None:
    from breakfix.models.identity import weights_id

    record = stage(tmp_path, ["start"], round=2)
    assert weights_id(record["candidates"]["start"]) == record["started_from"]
    model, start = ((Path(record["candidates"][name]) / "README.md").read_text() for name in ("model", "start"))
    assert "sft: 12 rows" in model and "seed 0; trl " in model
    assert "\n## Data\n\nNo row of this round.\n" in start and "no training in this round" in start
    assert yaml.safe_load(start.split("---")[1])["tags"] == ["breakfix", "safety", "alignment", "trl"]
    made = json.loads((Path(record["candidates"]["start"]) / "training.json").read_text())
    assert not {"sft", "dpo"} & set(made) and made["recipe"]["blend"] == 0


# ---- cards ------------------------------------------------------------------------------------------------------


def test_every_candidate_has_a_card_with_its_lineage(tmp_path: Path) -> None:
    from breakfix.train.card import chosen

    record = stage(tmp_path, [{"name": "few", "shares": {"harmful": 0.2}}])
    for name, folder in record["candidates"].items():
        said = (Path(folder) / "README.md").read_text()
        header = yaml.safe_load(said.split("---")[1])
        assert header["library_name"] == "transformers" and header["license"] == "apache-2.0"
        assert {"sft", "dpo"} < set(header["tags"]) and header["language"] == ["en"]
        assert record["started_from"] in said and "(the base)" in said
        assert f"round 1: {name}" in said and "| harmful | test | CC0-1.0 |" in said
    few = Path(record["candidates"]["few"])
    assert "sft: 10 rows" in (few / "README.md").read_text() and '"harmful": 0.2' in (few / "README.md").read_text()
    figures = {"harm": {"value": 0.25, "low": 0.1, "high": 0.4, "n": 40, "unscored": 0}}
    selection = {"selected": "model", "rule": "the rule", "candidates": {"few": figures},
                 "dropped": [{"name": "few", "by": "model", "reason": "model is better"}]}  # fmt: skip
    for _ in range(2):
        chosen(few, "few", selection)
    said = (few / "README.md").read_text()
    assert said.count("## Release candidate") == 1
    assert "model goes on instead: model is better." in said and "| harm | 25.0% | 10.0% to 40.0% | 40 |" in said
    assert "## Lineage" in said


def test_a_licence_is_the_assets_or_its_cards_or_not_known(tmp_path: Path) -> None:
    from breakfix.train.card import base_licence

    assert base_licence("smollm2-135m-instruct", tmp_path) == "apache-2.0"
    assert base_licence("own", tmp_path) == "other"
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    assert base_licence("own", tmp_path) == "mit"
    (tmp_path / "README.md").write_text("---\n[not: yaml\n---\n")
    assert base_licence("own", tmp_path) == "other"
