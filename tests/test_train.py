"""train/: the same loss and gradients as stock TRL, rows that teach what they should, refusals to train nonsense."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest

import tiny
from breakfix.core import Example, ask

torch = pytest.importorskip("torch")

PREAMBLE = "You are asked about bread. "


def example(i: int, **changes: Any) -> Example:
    return Example(**{
        "prompt": ask(f"{PREAMBLE}Tell me step {i} of baking {'please ' * (i % 4)}"),
        "reply": "Mix flour. " * (1 + i % 3),
        "source": "test", "licence": "Apache-2.0", "why": "a test", "kind": "plain", "rejected": "No. " * (1 + i % 2),
        **changes,
    })  # fmt: skip


EXAMPLES = [example(i) for i in range(8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def _others_warnings() -> Any:
    """TRL, peft and torch warn about things that are no concern of these tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def trainer(kind: str, ours: bool, folder: Path, out: Path) -> Any:
    from trl import DPOTrainer, SFTTrainer

    from breakfix.config import Config
    from breakfix.models.hf import load_pretrained
    from breakfix.train import fit, rows, trainers

    model, tokenizer = load_pretrained(folder)
    config = Config()
    if kind == "sft":
        data, _ = rows.sft_rows(tokenizer, EXAMPLES, 512)
    else:
        data, _ = rows.dpo_rows(tokenizer, EXAMPLES, 512, 24)
    plain = type("PlainDpo", (DPOTrainer,), {"_prepare_dataset": trainers.Dpo._prepare_dataset})
    before = trainers.Sft, trainers.Dpo
    if not ours:
        fit.Sft, fit.Dpo = SFTTrainer, plain  # type: ignore[misc]
    try:
        torch.manual_seed(0)
        made = fit._trainer(kind, config, model, tokenizer, data, fit._lora(config), out)
    finally:
        fit.Sft, fit.Dpo = before  # type: ignore[misc]
    torch.manual_seed(1)
    for name, parameter in made.model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return made


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_loss_and_gradients_are_those_of_stock_trl(kind: str, folder: Path, tmp_path: Path) -> None:
    seen = []
    for ours in (False, True):
        made = trainer(kind, ours, folder, tmp_path / str(ours))
        made.model.train()
        batch = made._prepare_inputs(made.data_collator([made.train_dataset[i] for i in range(len(EXAMPLES))]))
        loss = made.compute_loss(made.model, batch)
        loss.backward()
        grads = {n: p.grad.clone() for n, p in made.model.named_parameters() if p.grad is not None}
        seen.append((float(loss), grads))
    (stock_loss, stock_grads), (loss, grads) = seen
    assert loss == pytest.approx(stock_loss, rel=1e-5)
    assert grads.keys() == stock_grads.keys()
    for name, grad in grads.items():
        assert torch.allclose(grad, stock_grads[name], rtol=1e-3, atol=1e-6), name


def test_the_shared_prefix_is_found_and_used(folder: Path, tmp_path: Path) -> None:
    from breakfix.train.prefix import SharedPrefix

    made = trainer("sft", True, folder, tmp_path)
    batch = made.data_collator([made.train_dataset[i] for i in range(4)])
    shared = SharedPrefix(made.model)._shared(dict(batch))
    same = (batch["input_ids"] == batch["input_ids"][:1]).all(0).long()
    assert shared >= len(PREAMBLE)
    assert shared < int(same.cumprod(0).sum()) <= batch["input_ids"].shape[1]


def test_dpo_begins_at_ln_2(folder: Path, tmp_path: Path) -> None:
    from breakfix.config import Config
    from breakfix.models.hf import load_pretrained
    from breakfix.train import fit, rows
    from breakfix.train.preflight import TrainingRefused, check_first_loss

    model, tokenizer = load_pretrained(folder)
    data, _ = rows.dpo_rows(tokenizer, EXAMPLES, 512, 24)
    made = fit._trainer("dpo", Config(), model, tokenizer, data, fit._lora(Config()), tmp_path)
    assert fit.first_loss(made) == pytest.approx(math.log(2), abs=1e-3)
    with pytest.raises(TrainingRefused, match="expected ln 2"):
        check_first_loss(0.9)


def test_rows_end_the_turn_unless_the_reply_was_cut(folder: Path) -> None:
    from breakfix.models.hf import load_pretrained
    from breakfix.models.render import turn_end
    from breakfix.train.rows import sft_rows

    _, tokenizer = load_pretrained(folder)
    (whole,), _ = sft_rows(tokenizer, [example(0, reply="Mix.")], 512)
    (cut,), _ = sft_rows(tokenizer, [example(0, reply="Mix.", cut=True)], 512)
    end = turn_end(tokenizer)
    assert whole["labels"][-len(end) :] == end
    assert whole["input_ids"] == cut["input_ids"] + end
    assert [t for t in cut["labels"] if t != -100] == tokenizer("Mix.", add_special_tokens=False)["input_ids"]


def test_pairs_end_the_turn_unless_that_side_was_cut(folder: Path) -> None:
    from breakfix.models.hf import load_pretrained
    from breakfix.models.render import turn_end
    from breakfix.train.rows import dpo_rows

    _, tokenizer = load_pretrained(folder)
    pair = {"reply": "Mix.", "rejected": "No."}
    rows, _ = dpo_rows(tokenizer, [example(0, **pair, **more) for more in (
        {}, {"cut": True}, {"rejected_cut": True})], 512, 24)  # fmt: skip
    end, said = turn_end(tokenizer), [tokenizer(text)["input_ids"] for text in pair.values()]
    assert [row["chosen_ids"] for row in rows] == [said[0] + end, said[0], said[0] + end]
    assert [row["rejected_ids"] for row in rows] == [said[1] + end, said[1] + end, said[1]]


def test_an_over_long_row_is_cut_with_a_record(folder: Path) -> None:
    from breakfix.models.hf import load_pretrained
    from breakfix.train.rows import sft_rows

    _, tokenizer = load_pretrained(folder)
    rows, shortened = sft_rows(tokenizer, [example(0, reply="flour " * 200), example(1)], 300)
    assert len(rows) == 2
    assert len(rows[0]["input_ids"]) == 300
    assert [s.id for s in shortened] == [example(0, reply="flour " * 200).id]
    assert shortened[0].lost > 0


def test_preflight_refuses_what_would_teach_nothing(folder: Path) -> None:
    from breakfix.models.hf import load_pretrained
    from breakfix.train.preflight import TrainingRefused, check_rows
    from breakfix.train.rows import sft_rows

    _, tokenizer = load_pretrained(folder)
    rows, _ = sft_rows(tokenizer, EXAMPLES, 512)
    assert check_rows(tokenizer, EXAMPLES, rows)["rows_with_turn_end"] == len(EXAMPLES)
    silent = [{**row, "labels": [-100] * len(row["labels"])} for row in rows]
    with pytest.raises(TrainingRefused, match="no trained token"):
        check_rows(tokenizer, EXAMPLES, silent)
    endless, _ = sft_rows(tokenizer, [example(i, cut=True) for i in range(3)], 512)
    with pytest.raises(TrainingRefused, match="end-of-turn"):
        check_rows(tokenizer, EXAMPLES, endless)
    with pytest.raises(TrainingRefused, match="no training rows"):
        check_rows(tokenizer, EXAMPLES, [])


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_fit_writes_merged_safetensors_and_lowers_the_loss(method: str, folder: Path, tmp_path: Path) -> None:
    from breakfix.config import parse
    from breakfix.train.fit import fit

    config = parse({"train": {"method": method, "sft": {"batch": 4, "epochs": 6, "learning_rate": 5e-3}}})
    steps: list[int] = []
    record = fit("sft", config, folder, EXAMPLES, tmp_path / "out", lambda step, total, figures: steps.append(step))
    assert record["loss"]["last"] < record["loss"]["first"]
    assert max(steps) == record["steps"]
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert not list((tmp_path / "out").glob("adapter*"))
