"""train/presets.py and models/: a tiny random model of each family's real class, trained and evaluated end to end."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import tiny
from breakfix.core import Example, Message, Sampling, ask
from breakfix.errors import ConfigError
from breakfix.ledger import Ledger

torch = pytest.importorskip("torch")

NAMES = list(tiny.FAMILIES)
EXPERTS = [name for name in NAMES if tiny.FAMILIES[name].kind in ("Phimoe", "Qwen3Moe", "Mixtral")]
LONG = ["phi3-128k", "phi3.5-moe", "phi4-mini"]
SLIDING = [name for name in NAMES if tiny.FAMILIES[name].settings.get("sliding_window") == 40]
PREAMBLE = "You are asked about bread. "
EXAMPLES = [
    Example(ask(f"{PREAMBLE}Tell me step {i} of baking {'please ' * (i % 4)}"), "Mix flour. " * (i % 3) + "Bake.",
            "test", "Apache-2.0", "a test", "plain", rejected="No. " * (i % 2) + "No.")
    for i in range(8)
]  # fmt: skip
PROMPTS = [
    *(ask(f"{PREAMBLE}{'How long do I knead dough, and why? ' * n}") for n in (0, 1, 2, 4)),
    (*ask("Hi"), Message("assistant", "Hello."), *ask(f"{PREAMBLE}What flour?")),
    (*ask(f"{PREAMBLE}Begin."), Message("assistant", "First, take")),
]


pytestmark = pytest.mark.filterwarnings("ignore")  # TRL, peft and torch warn about what is no concern of these tests


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {name: tiny.save_family(name, root / name) for name in NAMES}


def load(path: Path, **how: Any) -> Any:
    from breakfix.models.hf import HFModel

    return HFModel.load(path, precision="fp32", threads=1, **how)


def plainly(path: Path) -> tuple[Any, Any]:
    """The model and tokenizer as transformers loads them, with none of our ways to be fast."""
    from breakfix.models.hf import load_pretrained

    model, tokenizer = load_pretrained(path)
    return model.eval(), tokenizer


def greedily(model: Any, ids: list[int], stops: set[int], n: int) -> list[int]:
    """What transformers' own `generate` says: one row, no padding."""
    out = model.generate(
        torch.tensor([ids]), max_new_tokens=n, do_sample=False, eos_token_id=sorted(stops),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long), pad_token_id=min(stops),
    )  # fmt: skip
    said = out[0, len(ids) :].tolist()
    return said[:-1] if said and said[-1] in stops else said


def alone(model: Any, ids: list[int], text: list[int]) -> float:
    """ln p of `text` after `ids`, in one plain pass."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids + text]), use_cache=False).logits[0, len(ids) - 1 : -1].float()
    return float(logits.log_softmax(-1).gather(-1, torch.tensor(text)[:, None]).sum())


# ---- inference


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_says_what_each_row_says_alone(name: str, folders: dict[str, Path]) -> None:
    from breakfix.models.render import prompt_ids

    model, (plain, tokenizer) = load(folders[name]), plainly(folders[name])
    replies = dict(model.generate(PROMPTS, Sampling(max_new_tokens=24)))
    for i, prompt in enumerate(PROMPTS):
        said = greedily(plain, prompt_ids(tokenizer, prompt), model.stops, 24)
        assert replies[i].text == tokenizer.decode(said, skip_special_tokens=True), i
    assert len({reply.text for reply in replies.values()}) > 1  # else it proves little


@pytest.mark.parametrize("name", NAMES)
def test_likelihoods_of_a_batch_are_those_of_each_row_alone(name: str, folders: dict[str, Path]) -> None:
    from breakfix.models.render import prompt_ids

    model, (plain, tokenizer) = load(folders[name]), plainly(folders[name])
    texts = ["Yes.", "No, I knead it by hand for ten minutes.", "Flour"]
    pairs = [(prompt, text) for prompt in PROMPTS for text in texts]
    for (prompt, text), (logp, n) in zip(pairs, model.score(pairs), strict=True):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert n == len(ids)
        assert logp == pytest.approx(alone(plain, prompt_ids(tokenizer, prompt), ids), abs=2e-3)


@pytest.mark.parametrize("name", LONG)
def test_rows_on_both_sides_of_a_long_rope(name: str, folders: dict[str, Path]) -> None:
    """Below, across and above the length from which all keys are rotated otherwise; none spoils another."""
    from breakfix.models.cache import turn
    from breakfix.models.render import prompt_ids

    model, (plain, tokenizer) = load(folders[name]), plainly(folders[name])
    assert turn(plain.config) == tiny.LONG_FROM
    prompts = [ask(PREAMBLE + "x" * n) for n in (10, 40, 210, 280)]
    lengths = [len(prompt_ids(tokenizer, prompt)) for prompt in prompts]
    assert lengths[1] < lengths[2] < tiny.LONG_FROM < lengths[2] + 24 < lengths[3]
    replies = dict(model.generate(prompts, Sampling(max_new_tokens=24)))
    for i, prompt in enumerate(prompts):
        said = greedily(plain, prompt_ids(tokenizer, prompt), model.stops, 24)
        assert replies[i].text == tokenizer.decode(said, skip_special_tokens=True), i
    pairs = [(prompt, text) for prompt in prompts for text in ("Yes.", "Knead it. " * 9)]
    for (prompt, text), (logp, _) in zip(pairs, model.score(pairs), strict=True):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert logp == pytest.approx(alone(plain, prompt_ids(tokenizer, prompt), ids), abs=2e-3)


def test_the_families_do_slide_and_turn(folders: dict[str, Path]) -> None:
    from transformers import AutoConfig

    from breakfix.models.cache import new_cache, turn, window

    for name in NAMES:
        config = AutoConfig.from_pretrained(folders[name])
        assert (turn(config) is not None) == (name in LONG), name
        assert name not in SLIDING or window(config) in (40, 21), name  # Gemma 3 halves its own
        assert not any(type(layer).__name__ != "Slab" for layer in new_cache(config, 8).layers), name


@pytest.mark.parametrize("name", ["gemma2", "mistral"])
def test_a_template_without_a_system_turn_has_it_in_the_first_user_turn(name: str) -> None:
    from breakfix.models.render import prompt_ids

    tokenizer = tiny.family_tokenizer(name)
    given = (Message("system", "Be brief."), *ask("What flour?"))
    assert prompt_ids(tokenizer, given) == prompt_ids(tokenizer, ask("Be brief.\n\nWhat flour?"))


def test_a_model_that_may_think_first_is_asked_to_answer_at_once() -> None:
    from breakfix.models.render import closed_ids, prompt_ids, training_row

    tokenizer = tiny.family_tokenizer("qwen3")
    row = training_row(tokenizer, ask("What flour?"), "Rye.")
    assert tokenizer.decode(row.prompt).endswith("<think>\n\n</think>\n\n")
    assert [*row.prompt, *row.completion] == closed_ids(tokenizer, ask("What flour?"), "Rye.")
    assert prompt_ids(tokenizer, ask("What flour?")) == row.prompt


@pytest.mark.parametrize("name", NAMES)
def test_a_turn_ends_as_the_preset_says(name: str, folders: dict[str, Path]) -> None:
    from breakfix.models.render import stop_ids, turn_end
    from breakfix.train import presets

    plain, tokenizer = plainly(folders[name])
    first = turn_end(tokenizer)[0]
    assert tokenizer.convert_ids_to_tokens(first) == tiny.FAMILIES[name].turn_end
    assert first in stop_ids(tokenizer, plain.generation_config)
    preset = presets.of(plain.config)
    assert preset is not None and tiny.FAMILIES[name].turn_end in preset.turn_end


# ---- training


@pytest.mark.parametrize("name", NAMES)
def test_trained_merged_saved_and_evaluated(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """SFT, then DPO, by the stage itself; what it leaves is of the family's class, and is read back as it was left."""
    from breakfix.config import parse
    from breakfix.models.render import prompt_ids
    from breakfix.train.run import run as train

    config = parse({
        "hardware": {"threads": 1, "precision": "fp32"},
        "train": {"candidates": [], "probe": False, "alarms": False, "sft": {"batch": 4, "epochs": 8,
                  "learning_rate": 5e-3}, "dpo": {"batch": 4, "epochs": 2, "learning_rate": 2e-3}},
    })  # fmt: skip
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        for dataset in ("sft", "dpo"):
            ledger.add_examples(EXAMPLES, round=1, dataset=dataset)
        record = train(config, ledger, round=1, policy=folders[name], folder=tmp_path / "run" / "x",
                       progress=lambda *_: None)  # fmt: skip
    assert record["sft"]["loss"]["last"] < record["sft"]["loss"]["first"]
    assert record["dpo"]["preflight"]["first_loss"] == pytest.approx(math.log(2), abs=1e-3)
    assert record["sft"]["family"]["preset"]
    before, after = (json.loads((path / "config.json").read_text()) for path in (folders[name], Path(record["model"])))
    assert after["architectures"] == before["architectures"]
    assert {k: v for k, v in after.items() if k in before} == before
    old, (plain, tokenizer), model = load(folders[name]), plainly(Path(record["model"])), load(Path(record["model"]))
    assert type(plain).__name__ == f"{tiny.FAMILIES[name].kind}ForCausalLM"
    pairs = [(example.prompt, example.reply) for example in EXAMPLES]
    scores = model.score(pairs)
    assert sum(logp for logp, _ in scores) > sum(logp for logp, _ in old.score(pairs))  # it has learnt its rows
    for (prompt, text), (logp, _) in zip(pairs, scores, strict=True):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert logp == pytest.approx(alone(plain, prompt_ids(tokenizer, prompt), ids), abs=2e-3)
    replies = dict(model.generate(PROMPTS, Sampling(max_new_tokens=16)))
    said = greedily(plain, prompt_ids(tokenizer, PROMPTS[1]), model.stops, 16)
    assert replies[1].text == tokenizer.decode(said, skip_special_tokens=True)


@pytest.mark.parametrize("kind", ["sft", "dpo"])
@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradients_are_those_of_stock_trl(
    kind: str, name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Shared prompts, the compact head and the like give way or are exact, whatever the architecture. In float32: by
    rounding alone a token may go to another expert."""
    import test_train_speed
    from breakfix.train import presets

    seen = []
    for ours in (False, True):
        made = test_train_speed.trainer(kind, ours, folders[name], tmp_path / str(ours))
        base = made.accelerator.unwrap_model(made.model).get_base_model()
        with presets.settled(base):
            made.aux_loss_enabled = False  # `fit` settles before the trainer looks; here it is there already
            made.model.train()
            batch = made._prepare_inputs(
                made.data_collator([made.train_dataset[i] for i in range(len(test_train_speed.EXAMPLES))])
            )
            loss = made.compute_loss(made.model, batch)
            loss.backward()
        seen.append((float(loss), {n: p.grad.clone() for n, p in made.model.named_parameters() if p.grad is not None}))
    (stock_loss, stock_grads), (loss, grads) = seen
    assert loss == pytest.approx(stock_loss, rel=1e-4)
    assert grads.keys() == stock_grads.keys()
    for key, grad in grads.items():
        assert torch.allclose(grad, stock_grads[key], rtol=1e-3, atol=1e-5), key


@pytest.mark.parametrize("name", EXPERTS)
def test_merged_experts_say_what_adapters_on_them_say(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    from peft import get_peft_model

    from breakfix.config import Config
    from breakfix.train.options import lora

    plain, tokenizer = plainly(folders[name])
    ids = torch.tensor([tokenizer("Knead the dough for ten minutes, then rest it.")["input_ids"]])
    untouched = plain(input_ids=ids).logits
    adapted = get_peft_model(plain, lora(Config(), plain)).eval()
    on = [n for n, p in adapted.named_parameters() if p.requires_grad]
    assert any("experts" in n for n in on) and any("q_proj" in n for n in on)
    assert not any(word in n for n in on for word in ("router", "gate.", "lm_head", "embed_tokens"))
    torch.manual_seed(1)
    for n, parameter in adapted.named_parameters():
        if "lora_B" in n:
            torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        unmerged = adapted(input_ids=ids).logits
    merged = adapted.merge_and_unload()
    with torch.no_grad():
        assert torch.allclose(merged(input_ids=ids).logits, unmerged, atol=1e-4)
    merged.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, _ = plainly(tmp_path)
    with torch.no_grad():
        assert torch.allclose(again(input_ids=ids).logits, unmerged, atol=1e-4)
    assert not torch.allclose(unmerged, untouched, atol=1e-2)


def test_a_router_chooses_in_training_as_at_inference(folders: dict[str, Path]) -> None:
    from breakfix.train import presets

    plain, tokenizer = plainly(folders["phi3.5-moe"])
    ids = torch.tensor([tokenizer("Knead the dough for ten minutes, then rest it.")["input_ids"]])
    exact = plain(input_ids=ids).logits
    assert not torch.allclose(plain.train()(input_ids=ids).logits, exact, atol=1e-3)  # it draws
    with presets.settled(plain):
        assert torch.allclose(plain.train()(input_ids=ids).logits, exact, atol=1e-5)
        assert plain.config.router_aux_loss_coef == 0 and plain.config.output_router_logits is False
    assert plain.config.router_aux_loss_coef == 0.001
    assert plain.train().model.layers[0].mlp.router.training


def test_auto_takes_of_llama_what_all_linear_takes(folders: dict[str, Path]) -> None:
    """The default before presets: the same adapters, of the same first values."""
    from peft import get_peft_model

    from breakfix.config import parse
    from breakfix.train.options import lora

    made = []
    for targets in ("auto", "all-linear"):
        model, _ = plainly(folders["llama3"])
        torch.manual_seed(0)
        made.append(get_peft_model(model, lora(parse({"train": {"lora": {"targets": targets}}}), model)).state_dict())
    assert made[0].keys() == made[1].keys()
    assert all(torch.equal(made[0][key], made[1][key]) for key in made[0])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in EXPERTS])
def test_presets_of_dense_models_take_every_linear_layer(name: str, folders: dict[str, Path]) -> None:
    from breakfix.train import presets

    model, _ = plainly(folders[name])
    preset = presets.of(model.config)
    linear = {n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert preset is not None and set(preset.targets) == linear - {"lm_head"}


def test_targets_are_the_users_where_given_and_all_linear_where_nothing_is_known(folders: dict[str, Path]) -> None:
    from transformers import OPTConfig

    from breakfix.train import presets

    unknown = type("Model", (), {"config": OPTConfig()})
    assert presets.of(unknown.config) is None
    assert presets.lora("auto", 0.0, unknown) == {"target_modules": "all-linear"}
    assert presets.lora("all-linear", 0.0, unknown) == {"target_modules": "all-linear"}
    assert presets.facts(unknown.config)["preset"] is None
    model, _ = plainly(folders["llama3"])
    for given, named in (
        (("q_proj", "o_proj"), ["q_proj", "o_proj"]), (("0.self_attn.q_proj",), ["0.self_attn.q_proj"]),
        (r".*\.1\..*_proj", r".*\.1\..*_proj"),
    ):  # fmt: skip
        assert presets.lora(given, 0.1, model) == {"target_modules": named}


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (["q_proj", "no_such_layer"], "'no_such_layer' is no layer of this model"),
        (["proj"], "'proj' is no layer of this model"),  # the end of a name, and no whole part of it
        (["norm"], "'norm' is no layer of this model"),  # LoRA adapts matrices
        (".*mlp.*", "'.*mlp.*' is no layer of this model"),  # also what holds layers
        ("q_proj", "'q_proj' is no layer of this model"),
        ("(", "'(' is no layer of this model"),
    ],
)
def test_a_target_that_the_model_lacks_is_one_plain_line(
    targets: Any, said: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    from breakfix.config import parse
    from breakfix.train.fit import fit

    config = parse({"hardware": {"threads": 1, "precision": "fp32"}, "train": {"lora": {"targets": targets}}})
    with pytest.raises(ConfigError) as error:
        fit("sft", config, folders["llama3"], EXAMPLES, tmp_path / "out", lambda *told: None)
    assert str(error.value) == (
        f"train.lora.targets: {said}, which has down_proj, embed_tokens, gate_proj, k_proj, lm_head, o_proj, q_proj, "
        "up_proj, v_proj; give a list of some of these, auto, all-linear, or a pattern of whole names"
    )


def test_experts_take_no_dropout(folders: dict[str, Path]) -> None:
    from breakfix.train import presets

    model, _ = plainly(folders["phi3.5-moe"])
    with pytest.raises(ConfigError, match=r"train.lora.dropout is 0.1; the experts of Phi-3.5-MoE take none; set it"):
        presets.lora("auto", 0.1, model)
    assert "target_parameters" not in presets.lora(presets.PRESETS["phimoe"].targets, 0.1, model)


def test_facts_of_a_family(folders: dict[str, Path]) -> None:
    from transformers import AutoConfig

    from breakfix.train import presets

    def facts(name: str) -> dict[str, Any]:
        return presets.facts(AutoConfig.from_pretrained(folders[name]))

    assert facts("phi4-mini") == {"preset": "Phi-3 and Phi-4-mini", "type": "phi3", "tied_embeddings": True,
                                  "long_rope_from": tiny.LONG_FROM}  # fmt: skip
    assert facts("phi3.5-moe")["experts"] == 4
    assert facts("phi3-4k")["sliding_window"] == 40
    assert facts("llama3") == {"preset": "Llama", "type": "llama", "tied_embeddings": False}
