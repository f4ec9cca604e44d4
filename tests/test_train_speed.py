"""train/: what is left out changes nothing: tokens run once; adapters, norms and the head in one operation each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny
from breakfix.core import Example, ask

torch = pytest.importorskip("torch")

PREAMBLE = "You are asked about bread. "
SMALL: dict[str, Any] = {
    "vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 2048, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip


pytestmark = pytest.mark.filterwarnings("ignore")  # TRL, peft and torch warn about what is no concern of these tests


def example(i: int) -> Example:
    return Example(
        prompt=ask(f"{PREAMBLE}Tell me step {i // 2} of baking {'please ' * (i % 3)}"),
        reply="Mix flour. " * (1 + i % 3), rejected="Mix. No. " * (1 + i % 2),
        source="test", licence="Apache-2.0", why="a test", kind="plain",
    )  # fmt: skip


EXAMPLES = [example(i) for i in range(8)]


def built(kind: str) -> Any:
    """A tiny random model of a real class."""
    import transformers

    torch.manual_seed(0)
    name, more = {
        "llama": ("Llama", {"tie_word_embeddings": True}),
        "qwen2": ("Qwen2", {}),  # biases
        "qwen3": ("Qwen3", {"head_dim": 8}),  # norms inside attention
        "phi3": ("Phi3", {"sliding_window": 1024}),  # one matrix for q, k and v; a window longer than the rows
        "mistral": ("Mistral", {"sliding_window": 16}),  # a window that the rows are longer than
        "gemma": ("Gemma", {"head_dim": 8}),  # another norm
        "mixtral": ("Mixtral", {"num_local_experts": 4}),
    }[kind]
    config = getattr(transformers, f"{name}Config")(**SMALL, **more)
    return getattr(transformers, f"{name}ForCausalLM")(config)


def folder(kind: str, where: Path) -> Path:
    built(kind).save_pretrained(where)
    tiny.tokenizer().save_pretrained(where)
    return where


def trainer(kind: str, ours: bool, model: Path, out: Path, train: dict[str, Any] | None = None) -> Any:
    """As fit makes it, or TRL's own with the same arguments; adapters that are not zero."""
    from trl import DPOTrainer, SFTTrainer

    from breakfix.config import parse
    from breakfix.models.hf import load_pretrained
    from breakfix.train import options, rows, trainers

    config = parse({"hardware": {"threads": 1, "precision": "fp32"}, "train": train or {}})
    loaded, tokenizer = load_pretrained(model)
    data = (rows.sft_rows(tokenizer, EXAMPLES, 512) if kind == "sft" else rows.dpo_rows(tokenizer, EXAMPLES, 512, 24))[
        0
    ]
    plain = type("PlainDpo", (DPOTrainer,), {"_prepare_dataset": trainers.Dpo._prepare_dataset})
    before = options.Sft, options.Dpo
    if not ours:
        options.Sft, options.Dpo = SFTTrainer, plain  # type: ignore[misc]
    try:
        lora = options.lora(config, loaded) if config.train.method == "lora" else None
        made = options.trainer(kind, config, loaded, tokenizer, data, lora, out)
    finally:
        options.Sft, options.Dpo = before  # type: ignore[misc]
    torch.manual_seed(1)
    for name, parameter in made.model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return made


def stepped(made: Any) -> tuple[float, dict[str, Any]]:
    """Loss and gradients on all rows."""
    made.model.train()
    batch = made._prepare_inputs(made.data_collator([made.train_dataset[i] for i in range(len(EXAMPLES))]))
    loss = made.compute_loss(made.model, batch)
    loss.backward()
    return float(loss), {n: p.grad.clone() for n, p in made.model.named_parameters() if p.grad is not None}


def differing(ours: tuple[float, dict[str, Any]], stock: tuple[float, dict[str, Any]]) -> list[str]:
    """What of the loss and the gradients is not the same: names."""
    loss = [] if ours[0] == pytest.approx(stock[0], rel=1e-5) else ["loss"]
    known = ours[1].keys() & stock[1].keys()
    grads = [n for n in known if not torch.allclose(ours[1][n], stock[1][n], rtol=1e-3, atol=1e-6)]
    return [*loss, *grads, *(ours[1].keys() ^ stock[1].keys())]


@pytest.mark.parametrize("kind", ["sft", "dpo"])
@pytest.mark.parametrize("model", ["llama", "qwen2", "qwen3", "phi3", "mistral", "gemma", "mixtral"])
def test_loss_and_gradients_are_those_of_stock_trl_for_every_family(kind: str, model: str, tmp_path: Path) -> None:
    where = folder(model, tmp_path / "model")
    stock, ours = (stepped(trainer(kind, mine, where, tmp_path / str(mine))) for mine in (False, True))
    assert differing(ours, stock) == []


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_and_where_all_weights_are_trained(kind: str, tmp_path: Path) -> None:
    where = folder("llama", tmp_path / "model")
    train = {"method": "full"}
    stock, ours = (stepped(trainer(kind, mine, where, tmp_path / str(mine), train)) for mine in (False, True))
    assert differing(ours, stock) == []


def test_a_batch_in_parts_has_the_loss_and_gradients_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from breakfix.train import trainers

    where, seen = folder("llama", tmp_path / "model"), []
    for most in (10**6, 150):
        monkeypatch.setattr(trainers, "MOST_TOKENS", most)
        made = trainer("sft", True, where, tmp_path / str(most))
        batch = made.data_collator([made.train_dataset[i] for i in range(len(EXAMPLES))])
        assert len(trainers.pieces(batch, most)) == (1 if most > 150 else len(EXAMPLES))
        made.current_gradient_accumulation_steps = 1
        loss = made.training_step(made.model, batch, (batch["labels"][:, 1:] != -100).sum())
        seen.append((float(loss), {n: p.grad.clone() for n, p in made.model.named_parameters() if p.grad is not None}))
    whole, parts = seen
    assert differing(parts, whole) == []


# ---- the tree


def test_rows_share_the_nodes_that_they_begin_with() -> None:
    from breakfix.train.prefix import Tree

    tree = Tree.of([[7, 8, 9], [7, 8], [7, 5, 9, 9]])
    assert tree.tokens.tolist() == [7, 8, 9, 5, 9, 9]
    assert tree.positions.tolist() == [0, 1, 2, 1, 2, 3]
    assert tree.node.view(3, 4).tolist() == [[0, 1, 2, 0], [0, 1, 0, 0], [0, 3, 4, 5]]  # 0 where there is padding
    assert tree.place.tolist() == [0, 1, 2, 9, 10, 11]
    assert tree.places.tolist() == [0, 4, 8, 1, 5, 2, 9, 10, 11]
    assert tree.starts.tolist() == [0, 3, 5, 6, 7, 8]


def test_a_node_gathers_the_gradients_of_its_places() -> None:
    from breakfix.train.prefix import Tree

    tree = Tree.of([[7, 8], [7]])
    x = torch.ones(1, 1, 2, 3, requires_grad=True)  # one head, two nodes
    rows = tree.to_rows(x)
    assert rows.shape == (2, 1, 2, 3)
    rows.backward(torch.arange(12.0).view(2, 1, 2, 3))
    assert x.grad.tolist() == [
        [[[6.0, 8.0, 10.0], [3.0, 4.0, 5.0]]]
    ]  # 0+6, 1+7, 2+8; padding's 9, 10, 11 count nowhere
    y = torch.ones(2, 2, 1, 3, requires_grad=True)
    tree.to_nodes(y).sum().backward()
    assert y.grad[:, :, 0, 0].tolist() == [[1.0, 1.0], [0.0, 0.0]]


def seen(made: Any) -> list[tuple[int, ...]]:
    """Shapes of what the first layer's embedding is given in the loss."""
    shapes: list[tuple[int, ...]] = []
    embedding = made.model.get_input_embeddings()
    stepped(made)  # the trial of whether both ways agree is over
    hook = embedding.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape)))
    stepped(made)
    hook.remove()
    return shapes


def test_a_pairs_prompt_is_run_once(tmp_path: Path) -> None:
    made = trainer("dpo", True, folder("llama", tmp_path / "model"), tmp_path / "out")
    rows = [[*row["prompt_ids"], *row[side]] for side in ("chosen_ids", "rejected_ids") for row in made.train_dataset]
    distinct = {tuple(row[: i + 1]) for row in rows for i in range(len(row))}
    assert seen(made) == [(1, len(distinct))]
    assert len(distinct) < sum(map(len, rows)) / 3


def test_a_window_shorter_than_the_rows_and_checkpointing_run_the_batch_as_it_is(tmp_path: Path) -> None:
    made = trainer("sft", True, folder("mistral", tmp_path / "model"), tmp_path / "out")
    assert seen(made)[0][0] == len(EXAMPLES)
    made = trainer("sft", True, folder("llama", tmp_path / "llama"), tmp_path / "other")
    assert seen(made)[0][0] == 1
    made.model.gradient_checkpointing_enable()
    made.model.enable_input_require_grads()
    assert seen(made)[0][0] == len(EXAMPLES)


def test_a_batch_wider_than_its_rows_keeps_its_width() -> None:
    """A part of a batch (trainers.pieces), for one."""
    from breakfix.train.prefix import once

    model = built("llama")
    ids = torch.tensor([[5, 6, 7, 0, 0], [5, 6, 0, 0, 0]])
    mask = (ids > 0).long()
    plain = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
    with once(model):
        found = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert found.shape == plain.shape and torch.allclose(found[mask.bool()], plain[mask.bool()], atol=1e-5)


def test_padding_on_the_left_is_run_as_it_is() -> None:
    from breakfix.train.prefix import once

    model = built("llama")
    ids = torch.tensor([[0, 5, 6], [5, 6, 7]])
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    plain = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
    with once(model):
        assert torch.equal(model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state, plain)
    assert "forward" not in vars(model.base_model)


def test_a_model_that_mixes_tokens_otherwise_is_run_as_it_is() -> None:
    """Its attention is not asked for by name: packed rows would see each other."""
    from breakfix.train.prefix import once

    model = built("llama")

    class Mixing(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x + x.cumsum(1)

    layer = model.base_model.layers[0]
    layer.mlp = Mixing()
    ids = torch.tensor([[5, 6, 7, 9], [5, 6, 8, 9]])
    mask = torch.ones_like(ids)
    plain = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
    with once(model):
        assert torch.equal(model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state, plain)


# ---- adapters, norms, the head


def test_adapters_switched_off_merged_or_changed_are_what_peft_makes_of_them(tmp_path: Path) -> None:
    from breakfix.train.lean import lean

    made = trainer("sft", True, folder("llama", tmp_path / "model"), tmp_path / "out")
    model = made.model.eval()
    ids = torch.tensor([[5, 6, 7, 9]])

    def both() -> None:
        plain = model(input_ids=ids).logits
        with lean(model):
            assert torch.allclose(model(input_ids=ids).logits, plain, atol=1e-5)
            with torch.autocast("cpu", torch.bfloat16):
                assert torch.allclose(model(input_ids=ids).logits.float(), plain, atol=0.1)
        assert not any("forward" in vars(module) for module in model.get_base_model().base_model.modules())

    with torch.no_grad():
        both()
        with model.disable_adapter():
            both()
        for name, parameter in model.named_parameters():
            if "base_layer" in name:
                parameter.mul_(2)
        both()
        model.merge_adapter()
        both()


def test_the_head_gives_what_trls_gives() -> None:
    from trl.kernels import ChunkedLogProbFunction

    from breakfix.train.head import FewRows

    torch.manual_seed(0)
    weight, targets = torch.randn(259, 32), torch.randint(259, (150,))
    targets[:20] = (torch.eye(20, 32) @ weight.t()).argmax(-1)
    outputs = ("log_probs", "entropy", "mean_logits", "is_top1")
    found = []
    for function in (ChunkedLogProbFunction, FewRows):
        hidden = torch.cat([torch.eye(20, 32), torch.ones(130, 32).cumsum(0) / 50]).requires_grad_()
        given = function.apply(hidden, weight, None, targets, 1.0, 32768, None, 1.0, outputs)
        given[0].square().sum().backward()
        found.append((*given, hidden.grad))
    for stock, ours in zip(*found, strict=True):
        assert (stock is None) == (ours is None)
        assert stock is None or torch.allclose(stock.float(), ours.float(), rtol=1e-4, atol=1e-4)
    assert found[1][4].any() and not found[1][4].all()


def test_under_autocast_the_loss_is_as_near_to_float32_as_stocks(tmp_path: Path) -> None:
    where = folder("llama", tmp_path / "model")
    exact, _ = stepped(trainer("sft", False, where, tmp_path / "exact"))
    with torch.autocast("cpu", torch.bfloat16):
        stock, _ = stepped(trainer("sft", False, where, tmp_path / "stock"))
        ours, _ = stepped(trainer("sft", True, where, tmp_path / "ours"))
    assert ours == pytest.approx(exact, rel=2e-3)
    assert stock == pytest.approx(exact, rel=2e-3)


# ---- what the reference makes of the pairs


def test_reference_figures_are_kept_by_content(tmp_path: Path) -> None:
    from breakfix.train.references import References

    rows = [{"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4]}]
    kept = References(tmp_path / "references", ("llama@1", "fp32"))
    assert kept.find(rows) is None
    kept.keep(rows, [-1.5], [-2.25])
    assert kept.find(rows) == ([-1.5], [-2.25])
    assert kept.find([{**rows[0], "chosen_ids": [5]}]) is None
    assert References(kept.folder, ("llama@2", "fp32")).find(rows) is None
    (file,) = kept.folder.iterdir()
    file.write_text(file.read_text()[:-4])  # a file that was cut
    assert kept.find(rows) is None
    file.write_text('{"chosen": [], "rejected": []}')
    assert kept.find(rows) is None


def test_a_second_trainer_takes_the_references_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from breakfix.models.hf import load_pretrained
    from breakfix.train import options, rows, trainers
    from breakfix.train.references import References

    where = folder("llama", tmp_path / "model")
    _, tokenizer = load_pretrained(where)
    data = rows.dpo_rows(tokenizer, EXAMPLES, 512, 24)[0]
    kept = References(tmp_path / "references", ("tiny",))

    def columns(references: References | None) -> tuple[list[float], list[float]]:
        monkeypatch.setattr(options, "Dpo", lambda **given: trainers.Dpo(**{**given, "references": references}))
        made = trainer("dpo", True, where, tmp_path / "out")
        return made.train_dataset["ref_chosen_logps"][:], made.train_dataset["ref_rejected_logps"][:]

    plain, first = columns(None), columns(kept)
    assert first == plain == kept.find(data)
    monkeypatch.setattr(trainers.Dpo, "compute_ref_log_probs", lambda *_: pytest.fail("computed again"))
    assert columns(kept) == first


def test_a_fit_keeps_the_references_and_a_repeated_one_trains_the_same(tmp_path: Path) -> None:
    from breakfix.config import parse
    from breakfix.train.fit import fit

    where = folder("llama", tmp_path / "model")
    config = parse({"hardware": {"threads": 1, "precision": "fp32"},
                    "train": {"alarms": False, "dpo": {"batch": 4, "sft_weight": 0.2}}})  # fmt: skip
    records = [
        fit("dpo", config, where, EXAMPLES, tmp_path / name, lambda *_: None, references=tmp_path / "references")
        for name in ("first", "again")
    ]
    assert len(list((tmp_path / "references").iterdir())) == 1
    assert records[0]["loss"] == records[1]["loss"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "again")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("heads", [(9, 3), (4, 4), (6, 1)], ids=str)
def test_short_rows_attend_as_torch_s_own_kernel_does(heads: tuple[int, int]) -> None:
    from breakfix.train.prefix import _short  # pyright: ignore[reportPrivateUsage]

    torch.manual_seed(0)
    many, few = heads
    given = [torch.randn(3, n, 17, 8, requires_grad=True) for n in (many, few, few)]
    q, k, v = given
    repeated = [x.repeat_interleave(many // few, 1) for x in (k, v)]
    stock = torch.nn.functional.scaled_dot_product_attention(q, *repeated, is_causal=True, scale=0.3)
    ours = _short(q, k, v, 0.3).transpose(1, 2)
    assert torch.allclose(ours, stock, atol=1e-5)
    weights = torch.randn_like(stock)
    for one, other in zip(*(torch.autograd.grad((x * weights).sum(), given) for x in (ours, stock)), strict=True):
        assert torch.allclose(one, other, atol=1e-4)
