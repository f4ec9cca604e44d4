"""Losses: each begins where it should, KTO on rows without a pair, the reference, weights of rows and tokens, rates."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, get_args

import pytest

import tiny
from breakfix.config import Config, Dpo, parse
from breakfix.core import Example, ask
from breakfix.errors import ConfigError, UserError

torch = pytest.importorskip("torch")


pytestmark = pytest.mark.filterwarnings("ignore")  # TRL, peft and torch warn about what is no concern of these tests


def example(i: int, **changes: Any) -> Example:
    return Example(**{
        "prompt": ask(f"You are asked about bread. Tell me step {i} of baking {'please ' * (i % 4)}"),
        "reply": "Mix flour. " * (1 + i % 3), "source": "test", "licence": "Apache-2.0", "why": "a test",
        "kind": ("harmful", "twin", "plain")[i % 3], "rejected": "No. " * (1 + i % 2), **changes,
    })  # fmt: skip


EXAMPLES = [example(i) for i in range(8)]


def settings(**train: Any) -> Config:
    return parse({"hardware": {"threads": 1, "precision": "fp32"}, "train": {"alarms": False, **train}})


def trainer(kind: str, config: Config, folder: Path, out: Path, reference: Path | None = None) -> Any:
    from breakfix.models.hf import load_pretrained
    from breakfix.train import fit, options

    model, tokenizer = load_pretrained(folder)
    rows, _ = fit._rows(kind, config, tokenizer, EXAMPLES)
    torch.manual_seed(0)
    lora = options.lora(config, model) if config.train.method == "lora" else None
    return options.trainer(kind, config, model, tokenizer, rows, lora, out, reference)


def train(kind: str, config: Config, folder: Path, out: Path, **more: Any) -> dict[str, Any]:
    from breakfix.train.fit import fit

    return fit(kind, config, folder, more.pop("examples", EXAMPLES), out, lambda *told: None, **more)


# ---- the first loss ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", get_args(Dpo.model_fields["loss"].annotation))
def test_every_loss_begins_where_it_should(loss: str, folder: Path, tmp_path: Path) -> None:
    from breakfix.train import fit, rates
    from breakfix.train.preflight import FIRST

    config = settings(dpo={"loss": loss, "batch": 4})
    expected, _ = FIRST[loss]
    found, weight = fit.first_loss(trainer("dpo", config, folder, tmp_path))
    assert weight == 1
    assert found == pytest.approx(expected(rates.beta(config)), rel=1e-4)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_first_loss_is_in_the_precision_of_the_steps(method: str, folder: Path, tmp_path: Path) -> None:
    """As the reference's figures are: a β of 2000 makes nats of what bfloat16 rounds away."""
    from breakfix.train import fit

    config = settings(method=method, dpo={"batch": 4, "beta": 2000.0})
    in_bf16 = config.model_copy(update={"hardware": config.hardware.model_copy(update={"precision": "bf16"})})
    found, _ = fit.first_loss(trainer("dpo", in_bf16, folder, tmp_path))
    assert found == pytest.approx(math.log(2), abs=0.05)


def test_first_losses_by_hand() -> None:
    from breakfix.train.preflight import FIRST

    assert FIRST["sigmoid"][0](0.1) == pytest.approx(0.6931, abs=1e-4)
    assert FIRST["ipo"][0](0.1) == pytest.approx(25)  # (0 - 1/0.2)²
    assert FIRST["sppo_hard"][0](0.1) == pytest.approx(50)
    assert FIRST["nca_pair"][0](3.0) == pytest.approx(1.3863, abs=1e-4)


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("loss", ["ipo", "kto"])
def test_the_other_losses_train(loss: str, method: str, folder: Path, tmp_path: Path) -> None:
    kind = "kto" if loss == "kto" else "dpo"
    given = {"batch": 4, "epochs": 5, "learning_rate": 5e-3, **({"loss": loss} if kind == "dpo" else {})}
    record = train(kind, settings(method=method, preference=kind, dpo=given), folder, tmp_path / "out")
    assert record["loss"]["last"] < record["loss"]["first"]
    assert record["preflight"]["first_loss"] == pytest.approx({"ipo": 25, "kto": 0.5}[loss], rel=0.02)
    assert record["steps"] == 10 and (tmp_path / "out" / "model.safetensors").is_file()


def test_what_is_not_the_expected_loss_is_refused() -> None:
    from breakfix.train.preflight import TrainingRefused, check_first_loss

    assert check_first_loss(25.5, 25, "(1 / 2β)²", "ipo") == 25.5
    with pytest.raises(TrainingRefused, match=r"the first ipo loss is 27.0000, expected \(1 / 2β\)² = 25.0000"):
        check_first_loss(27, 25, "(1 / 2β)²", "ipo")
    with pytest.raises(TrainingRefused, match="the first DPO loss is nan"):
        check_first_loss(math.nan)


# ---- KTO --------------------------------------------------------------------------------------------------------


def test_kto_learns_from_sides_and_from_rows_that_have_no_pair(folder: Path) -> None:
    from breakfix.models.hf import load_pretrained
    from breakfix.train.kto import balance
    from breakfix.train.rows import kto_rows

    _, tokenizer = load_pretrained(folder)
    alone = [example(9, rejected=None), example(10, rejected=None)]
    rows, shortened = kto_rows(tokenizer, [*EXAMPLES, *alone], 512, 12, seed=0)
    assert not shortened and len(rows) == 2 * len(EXAMPLES) + len(alone)
    assert sum(row["label"] for row in rows) == 10
    labels = [row["label"] for row in rows]
    assert labels != sorted(labels) and labels != sorted(labels, reverse=True), "mixed"
    assert rows == kto_rows(tokenizer, [*EXAMPLES, *alone], 512, 12, seed=0)[0]
    assert all(len(row["completion_ids"]) <= 12 for row in rows)
    assert balance(rows) == (0.8, 1.0)  # 10 good ones count as 8
    assert balance([{"label": True}]) == (1.0, 1.0)


def test_kto_sets_each_prompt_beside_a_reply_of_its_batch(folder: Path, tmp_path: Path) -> None:
    made = trainer("kto", settings(dpo={"batch": 3}, preference="kto"), folder, tmp_path)
    data, size = made.train_dataset, made.args.per_device_train_batch_size
    assert size == 3 and made.args.gradient_accumulation_steps == 2  # a pair is two rows
    said, other = list(data["completion_ids"]), list(data["KL_completion_ids"])
    assert other[:size] == [said[2], said[0], said[1]]
    assert sorted(map(tuple, other)) == sorted(map(tuple, said))


def test_kto_takes_a_batch_of_one_pair(folder: Path, tmp_path: Path) -> None:
    config = settings(dpo={"batch": 1, "epochs": 0.5}, preference="kto")
    made = trainer("kto", config, folder, tmp_path / "made")
    assert (made.args.per_device_train_batch_size, made.args.gradient_accumulation_steps) == (2, 1)
    assert train("kto", config, folder, tmp_path / "out")["steps"] == 4
    made = trainer("dpo", settings(dpo={"batch": 2}), folder, tmp_path / "dpo")
    assert (made.args.per_device_train_batch_size, made.args.gradient_accumulation_steps) == (1, 2)


def test_more_processes_than_pairs_of_a_batch_are_one_plain_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher's file may start more than the config says: one on each machine."""
    from breakfix.train import options

    monkeypatch.setattr(options, "processes", lambda: 4)
    monkeypatch.setattr(options, "share", lambda batch: max(1, batch // 4))
    with pytest.raises(ConfigError, match=r"train.dpo.batch is 2, which 4 processes can't share: kto needs a pair"):
        trainer("kto", settings(dpo={"batch": 2}, preference="kto"), folder, tmp_path)


def test_ours_has_the_loss_and_gradients_of_stock_kto(folder: Path, tmp_path: Path) -> None:
    from trl import KTOTrainer

    from breakfix.train import kto, options

    class Plain(KTOTrainer):
        _prepare_dataset = kto.Kto._prepare_dataset

    seen = []
    for ours in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if not ours:
                patch.setattr(options, "Kto", Plain)
            made = trainer("kto", settings(dpo={"batch": 8}, preference="kto"), folder, tmp_path / str(ours))
        torch.manual_seed(1)
        for name, parameter in made.model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        made.model.train()
        loss = made.compute_loss(made.model, made._prepare_inputs(made.data_collator(list(made.train_dataset))))
        loss.backward()
        grads = {n: p.grad.clone() for n, p in made.model.named_parameters() if p.grad is not None}
        seen.append((float(loss), grads))
    (stock_loss, stock), (loss, grads) = seen
    assert loss == pytest.approx(stock_loss, rel=1e-5)
    assert grads.keys() == stock.keys()
    for name, grad in grads.items():
        assert torch.allclose(grad, stock[name], rtol=1e-3, atol=1e-6), name


# ---- the reference ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_the_reference_may_be_another_model(kind: str, folder: Path, tmp_path: Path) -> None:
    from breakfix.models.hf import HFModel

    other = tiny.save(tmp_path / "other", seed=5)
    made = trainer(kind, settings(dpo={"batch": 4}, preference=kind), folder, tmp_path / "out", other)
    row = made.train_dataset[0]
    side = "completion_ids" if kind == "kto" else "chosen_ids"
    ids = torch.tensor([row["prompt_ids"] + row[side]])
    model = HFModel.load(other, precision="fp32").model
    logps = model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    expected = float(logps[-len(row[side]) :].sum())
    assert row["ref_logps" if kind == "kto" else "ref_chosen_logps"] == pytest.approx(expected, rel=1e-4)
    assert made.ref_model is None and len(made.accelerator._models) == 0, "it does not stay in memory"
    record = train(kind, settings(dpo={"batch": 4}, preference=kind), folder, tmp_path / "out2", reference=other)
    assert math.isfinite(record["preflight"]["first_loss"])


def test_the_stage_names_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from breakfix.ledger import Ledger
    from breakfix.train import fit, run

    seen: list[Any] = []
    real = fit.fit

    def spied(kind: str, *args: Any, **more: Any) -> Any:
        seen.append((kind, more.get("reference")))
        return real(kind, *args, **more)

    monkeypatch.setattr(fit, "fit", spied)
    policy, untouched = tiny.save(tmp_path / "policy", seed=1), tiny.save(tmp_path / "untouched", seed=2)
    config = settings(reference="untouched", probe=False, candidates=[], sft={"batch": 4}, dpo={"batch": 4})
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        for kind in ("sft", "dpo"):
            ledger.add_examples(EXAMPLES, round=1, dataset=kind)
        run.run(config, ledger, round=1, policy=policy, untouched=untouched, folder=tmp_path / "run" / "x",
                progress=lambda *told: None)  # fmt: skip
    assert seen == [("sft", None), ("dpo", untouched)]


# ---- weights ----------------------------------------------------------------------------------------------------


def weighed(folder: Path, **sft: Any) -> tuple[list[dict[str, Any]], Any]:
    from breakfix.models.hf import load_pretrained
    from breakfix.train import fit

    _, tokenizer = load_pretrained(folder)
    return fit._rows("sft", settings(sft={"whole_share": 1, **sft}), tokenizer, EXAMPLES)


def test_weights_are_one_on_average_and_absent_where_all_are_alike(folder: Path) -> None:
    from breakfix.train.weights import COLUMN

    plain, _ = weighed(folder)
    assert COLUMN not in plain[0]
    assert COLUMN not in weighed(folder, row_weight={"harmful": 2, "twin": 2, "plain": 2})[0][0]
    rows, _ = weighed(folder, first_weight=4, row_weight={"harmful": 3})
    trained = [w for row in rows for w, label in zip(row[COLUMN], row["labels"], strict=True) if label != -100]
    assert sum(trained) / len(trained) == pytest.approx(1)
    assert all(w == 0 for row in rows for w, label in zip(row[COLUMN], row["labels"], strict=True) if label == -100)
    first, second = rows[0][COLUMN], rows[1][COLUMN]  # a harmful row, and a twin
    start, other = (next(i for i, w in enumerate(row) if w) for row in (first, second))
    assert first[start] / first[start + 8] == pytest.approx(4), "the first 8 tokens"
    assert first[start] / second[other] == pytest.approx(3)


def test_the_weighted_loss_is_the_weighted_sum_over_the_number_of_tokens(folder: Path, tmp_path: Path) -> None:
    """By hand; and the same in parts."""
    from breakfix.train import trainers
    from breakfix.train.weights import COLUMN

    config = settings(sft={"whole_share": 1, "first_weight": 5, "row_weight": {"twin": 0.5}, "batch": 8})
    made = trainer("sft", config, folder, tmp_path)
    batch = made.data_collator([made.train_dataset[i] for i in range(len(EXAMPLES))])
    n = (batch["labels"][:, 1:] != -100).sum()
    made.model.eval()
    with torch.no_grad():
        logps = made.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.log_softmax(-1)
        labels = batch["labels"][:, 1:].clamp(min=0)
        nll = -logps[:, :-1].gather(-1, labels[..., None])[..., 0]
        expected = float((nll * batch[COLUMN][:, 1:]).sum() / n)
        found = float(made.compute_loss(made.model, made._prepare_inputs(dict(batch)), num_items_in_batch=n))
        parts = trainers.pieces(batch, 150)
        assert len(parts) == len(EXAMPLES)
        in_parts = sum(float(made.compute_loss(made.model, part, num_items_in_batch=n)) for part in parts)
    assert found == pytest.approx(expected, rel=1e-4)
    assert in_parts == pytest.approx(expected, rel=1e-4)


def test_a_heavier_kind_is_learnt_better(folder: Path, tmp_path: Path) -> None:
    from breakfix.models.hf import HFModel

    def likelihood(name: str, **sft: Any) -> float:
        given = {"batch": 8, "epochs": 30, "learning_rate": 5e-3, "whole_share": 1, **sft}
        train("sft", settings(method="full", sft=given), folder, tmp_path / name, examples=rows)
        model = HFModel.load(tmp_path / name, precision="fp32")
        return model.score([(rows[0].prompt, rows[0].reply)])[0][0]

    rows = [example(i, kind="harmful", reply="aaaa") for i in range(2)]
    rows += [example(i, kind="plain", reply="zzzz") for i in range(2, 8)]
    assert likelihood("heavy", row_weight={"harmful": 8}) > likelihood("even") + 1


def test_first_tokens_must_be_told_to_weigh() -> None:
    with pytest.raises(UserError, match="first_weight says what the first_tokens weigh"):
        parse({"train": {"sft": {"first_weight": 2, "first_tokens": None}}})


# ---- automatic rates --------------------------------------------------------------------------------------------

PUBLISHED = [
    # kind, method, family, width, rate
    ("sft", "full", "mistral", 4096, 2e-5),  # Zephyr-7B, alignment-handbook
    ("dpo", "full", "mistral", 4096, 5e-7),
    ("dpo", "full", "llama", 5120, 5e-7),  # Tülu 2 13B (2311.10702)
    ("dpo", "full", "llama", 8192, 2e-7),  # Tülu 3 70B (2411.15124)
    ("sft", "full", "llama", 4096, 5e-6),  # Tülu 3 8B
    ("sft", "lora", "llama", 4096, 2.9e-4),  # "LoRA Without Regret", by its formula
    ("sft", "lora", "qwen3", 2560, 4.9e-4),
    ("dpo", "lora", "mistral", 4096, 5e-6),  # Zephyr-7B QLoRA
]


@pytest.mark.parametrize(("kind", "method", "family", "width", "rate"), PUBLISHED)
def test_automatic_rates_are_near_published_ones(kind: str, method: str, family: str, width: int, rate: float) -> None:
    """Within a factor of five; the last one, 4.3, is the farthest."""
    from breakfix.train.rates import automatic_rate

    assert rate / 5 < automatic_rate(kind, method, family, width) < rate * 5


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3"])
@pytest.mark.parametrize("kind", ["sft", "dpo", "kto"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_rates_never_rise_with_width(kind: str, method: str, family: str) -> None:
    from breakfix.train.rates import automatic_rate

    rates = [automatic_rate(kind, method, family, width) for width in (32, 576, 960, 2048, 3072, 4096, 5120, 8192)]
    assert rates == sorted(rates, reverse=True)
    assert family == "qwen2" or rates[0] == rates[1] > rates[2], "narrower than what was searched: no higher"
    assert automatic_rate(kind, "lora", family, 4096) > automatic_rate(kind, "full", family, 4096)
    assert automatic_rate("sft", method, family, 4096) > automatic_rate(kind, method, family, 4096) or kind == "sft"


def test_beta_is_the_configs_or_the_losss() -> None:
    from breakfix.train.rates import beta

    assert beta(settings()) == 0.1
    assert beta(settings(dpo={"loss": "sigmoid_norm"})) == 5.0
    assert beta(settings(dpo={"loss": "sigmoid_norm"}, preference="kto")) == 0.1
    assert beta(settings(dpo={"beta": 0.3})) == 0.3
