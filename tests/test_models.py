"""models/: what is generated and scored must be what transformers itself gives, only faster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny
from breakfix.core import Message, Sampling, ask

torch = pytest.importorskip("torch")

PROMPTS = [
    ask("Name a colour."),
    ask("Explain slowly, and in many more words than that, how bread is baked in a small village oven."),
    ask("Hi"),
    (Message("system", "Be brief."), Message("user", "Count to three.")),
    (Message("user", "Say yes."), Message("assistant", "Well, ")),
]


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    from breakfix.models.hf import HFModel

    return HFModel.load(folder, precision="fp32", threads=1, batch=3)


def stock(model: Any, prompt: Any, new: int) -> str:
    """transformers' own greedy answer to one prompt, alone in its batch."""
    from breakfix.models.render import prompt_ids

    ids = torch.tensor([prompt_ids(model.tokenizer, prompt)])
    out = model.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False,
                               pad_token_id=model.pad)[0, ids.shape[1]:].tolist()  # fmt: skip
    stop = next((i for i, token in enumerate(out) if token in model.stops), len(out))
    return model.tokenizer.decode(out[:stop], skip_special_tokens=True)


def test_greedy_is_what_transformers_gives(model: Any) -> None:
    replies = dict(model.generate(PROMPTS, Sampling(12)))
    assert [replies[i].text for i in range(len(PROMPTS))] == [stock(model, p, 12) for p in PROMPTS]


def test_every_prompt_is_answered_once_and_counted(model: Any) -> None:
    seen = [i for i, _ in model.generate(PROMPTS, Sampling(5))]
    assert sorted(seen) == list(range(len(PROMPTS)))
    for _, reply in model.generate(PROMPTS, Sampling(5)):
        assert reply.finish in ("stop", "length")
        assert 0 < reply.tokens_out <= 5


def test_a_sample_does_not_depend_on_its_neighbours(model: Any) -> None:
    sampling = Sampling(10, temperature=1.0, top_p=0.9)
    together = dict(model.generate(PROMPTS, sampling, seeds=[7, 8, 9, 10, 11]))
    alone = dict(model.generate(PROMPTS[1:2], sampling, seeds=[8]))
    assert together[1].text == alone[0].text
    assert together[1].text != dict(model.generate(PROMPTS[1:2], sampling, seeds=[99]))[0].text


def test_prompts_read_in_parts_and_by_room_give_the_same(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a prefix that all share and without one; and where the keys and values of two rows are all there is room
    for."""
    from breakfix.models import decode
    from breakfix.models.hf import HFModel

    shared = [(Message("system", "You answer in a word."), *prompt) for prompt in PROMPTS if len(prompt) == 1]
    roomy = HFModel(model.model, model.tokenizer, model.id, batch=64)
    tight = HFModel(model.model, model.tokenizer, model.id, batch=64)
    tight.cache_tokens = 300
    monkeypatch.setattr(decode, "READ", 2)
    for prompts in (PROMPTS, shared):
        expected = [stock(model, prompt, 12) for prompt in prompts]
        for one in (roomy, tight):
            replies = dict(one.generate(prompts, Sampling(12)))
            assert [replies[i].text for i in range(len(prompts))] == expected


@pytest.mark.parametrize("masked", [True, False])
def test_attention_by_groups_is_that_of_transformers(masked: bool) -> None:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    from breakfix.models import grouped

    class Layer(torch.nn.Module):
        num_key_value_groups, is_causal = 3, True

    torch.manual_seed(0)
    for length in (1, 4):  # one new token, and several
        query, key, value = (torch.randn(5, heads, n, 8).bfloat16() for heads, n in ((6, length), (2, 9), (2, 9)))
        mask = torch.ones(5, 1, length, 9, dtype=torch.bool).tril(9 - length) if masked else None
        if mask is not None:
            mask[2, :, :, :3] = False
        given = (Layer().eval(), query, key, value, mask)
        ours, stock = (f(*given, scaling=0.3)[0] for f in (grouped.attention, sdpa_attention_forward))
        assert ours.shape == (5, length, 6, 8)
        torch.testing.assert_close(ours, stock)


def test_a_prompt_that_does_not_fit_is_an_error_and_not_cut(model: Any) -> None:
    replies = dict(model.generate([ask("x" * 5000), ask("Hi")], Sampling(4)))
    assert replies[0].finish == "error"
    assert "context" in (replies[0].error or "")
    assert replies[1].finish != "error"


def test_scores_are_the_log_probabilities_of_the_plain_forward(model: Any) -> None:
    from breakfix.models.render import prompt_ids

    pairs = [(PROMPTS[0], "red"), (PROMPTS[0], "a dark shade of green"), (PROMPTS[1], "With flour."), (PROMPTS[2], "")]
    for (prompt, text), (score, n) in zip(pairs, model.score(pairs), strict=True):
        start = prompt_ids(model.tokenizer, prompt)
        said = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logps = model.model(torch.tensor([start + said])).logits[0].log_softmax(-1)
        expected = sum(float(logps[len(start) - 1 + i, token]) for i, token in enumerate(said))
        assert n == len(said)
        assert score == pytest.approx(expected, abs=1e-3)


def test_packed_weights_give_the_same_numbers_and_leave_gradients_alone(folder: Path) -> None:
    from breakfix.models.hf import load_pretrained
    from breakfix.models.packed import pack

    net = load_pretrained(folder)[0].to(torch.bfloat16).eval()
    ids = torch.tensor([[5, 6, 7, 8, 9]] * 3)
    with torch.inference_mode():
        plain = net(input_ids=ids).logits
    packed = pack(net)
    if not packed:
        pytest.skip("this torch has no oneDNN layout for bf16")
    assert packed == sum(type(m) is torch.nn.Linear for m in net.modules())
    with torch.inference_mode():
        assert torch.equal(net(input_ids=ids).logits, plain)
    net(input_ids=ids, labels=ids).loss.backward()
    assert net.model.layers[0].self_attn.q_proj.weight.grad is not None
    assert pack(net.float()) == 0  # float32 is left as it is


def test_training_and_inference_see_the_same_tokens(model: Any) -> None:
    from breakfix.models.render import prompt_ids, training_row, turn_end

    row = training_row(model.tokenizer, PROMPTS[3], "One, two, three.")
    assert row.prompt == prompt_ids(model.tokenizer, PROMPTS[3])
    whole = model.tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in (*PROMPTS[3], Message("assistant", "One, two, three."))],
        tokenize=True, return_dict=False,
    )  # fmt: skip
    assert row.prompt + row.completion == list(whole)
    assert turn_end(model.tokenizer)[0] in model.stops


def test_an_adapter_is_merged_and_has_its_own_identity(folder: Path, tmp_path: Path, model: Any) -> None:
    from peft import LoraConfig, get_peft_model

    from breakfix.models.hf import HFModel, load_pretrained

    base, _ = load_pretrained(folder)
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    adapted.save_pretrained(tmp_path)
    merged = HFModel.load(folder, adapter=tmp_path, precision="fp32", threads=1)
    assert not any("lora" in name for name, _ in merged.model.named_parameters())
    assert merged.id != model.id
    assert model.score([(PROMPTS[0], "red")]) != merged.score([(PROMPTS[0], "red")])


def test_a_model_is_known_by_what_decides_what_it_says_and_not_by_its_folder(folder: Path, tmp_path: Path) -> None:
    import shutil

    from breakfix.models.identity import weights_id

    same = shutil.copytree(folder, tmp_path / "renamed")
    (same / "README.md").write_text("a card")
    (same / "training.json").write_text("{}")
    first = weights_id(folder)
    assert weights_id(same) == first and first.startswith("llama@")
    seen = {first}
    for name in ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja",
                 "tokenizer_config.json"):  # fmt: skip
        other = shutil.copytree(folder, tmp_path / name)
        (other / name).write_bytes((other / name).read_bytes() + b" ")
        seen.add(weights_id(other))
    assert len(seen) == 7
    assert weights_id("owner/name") == "owner/name"


def write_gguf(path: Path) -> None:
    """The tiny model as a GGUF, with one token more: its tokenizer's kind must have a merge."""
    import gguf

    net, vocabulary = tiny.model(), tiny.tokenizer().get_vocab()
    net.resize_token_embeddings(len(vocabulary) + 1, mean_resizing=False)
    config, writer = net.config, gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*sorted(vocabulary, key=lambda token: vocabulary[token]), "ab"])
    writer.add_token_types([3] * len(tiny.SPECIALS) + [1] * 257)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_chat_template(tiny.TEMPLATE)
    names = {"model.layers": "blk", "model.embed_tokens": "token_embd", "model.norm": "output_norm",
             "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.o_proj": "attn_output",
             "self_attn.": "attn_", "mlp.": "ffn_", "_proj": ""}  # fmt: skip
    for name, tensor in net.state_dict().items():
        if not name.startswith("lm_head"):
            for ours, theirs in names.items():
                name = name.replace(ours, theirs)
            writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_loading_and_converting_show_no_bars_and_conversion_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    from tqdm.auto import tqdm

    from breakfix.assets import Asset, resolve_asset
    from breakfix.fetch import File
    from breakfix.models.hf import HFModel

    write_gguf(tmp_path / "small.gguf")
    sha = hashlib.sha256((tmp_path / "small.gguf").read_bytes()).hexdigest()
    asset = Asset("small", files=(File("small.gguf", sha),), prepare="gguf")
    monkeypatch.setenv("BREAKFIX_DATA", str(tmp_path))
    for said in ("dequantising small, once\n", ""):
        found = resolve_asset(asset, cache=tmp_path / "cache")
        small = HFModel.load(found.path, precision="fp32", threads=1)
        assert capsys.readouterr() == ("", said)
    assert next(small.generate([ask("ab")], Sampling(4)))[1].finish in ("stop", "length")
    list(tqdm(range(3)))  # other people's bars are as they were
    assert "3/3" in capsys.readouterr().err


def test_a_missing_model_is_one_plain_line(tmp_path: Path) -> None:
    from breakfix.errors import AssetError
    from breakfix.models.hf import HFModel

    with pytest.raises(AssetError, match=r"can't be loaded.*expected a folder") as error:
        HFModel.load(tmp_path / "nothing")
    assert "\n" not in str(error.value)


def narrow(folder: Path, most: int) -> Any:
    """The tiny model in a machine that has room for `most` tokens at a time: more, and torch's allocator gives up."""
    from transformers import LlamaForCausalLM

    class Narrow(LlamaForCausalLM):
        def forward(self, input_ids: Any, **more: Any) -> Any:
            if input_ids.numel() > most:
                torch.empty(1 << 60)
            return super().forward(input_ids, **more)

    return Narrow.from_pretrained(folder)


def test_out_of_memory_on_a_cpu_halves_the_batch(folder: Path, model: Any) -> None:
    from breakfix.errors import ModelError
    from breakfix.models.hf import HFModel

    small = HFModel(narrow(folder, 60), model.tokenizer, "small", batch=8)
    prompts = [ask(f"Name colour number {i}.") for i in range(8)]
    found = dict(small.generate(prompts, Sampling(6)))
    assert small.batch < 8
    assert [found[i].text for i in range(8)] == [stock(model, prompt, 6) for prompt in prompts]
    pairs = [(prompt, text) for prompt in prompts for text in ("red", "green")]
    assert small.score(pairs) == [pytest.approx(score, abs=1e-3) for score in model.score(pairs)]
    assert small.score_tokens < 4096
    with pytest.raises(ModelError, match="out of memory with one row of"):
        list(HFModel(narrow(folder, 8), model.tokenizer, "none", batch=8).generate(prompts, Sampling(6)))
    with pytest.raises(ModelError, match="out of memory scoring a row of"):
        HFModel(narrow(folder, 8), model.tokenizer, "none").score(pairs)


@pytest.mark.parametrize("name", ["Phi3", "Mistral", "Qwen2", "Gemma2"])
def test_other_families_decode_as_transformers_does(name: str, folder: Path) -> None:
    """Sliding windows (Phi-3, Mistral), soft-capped logits (Gemma 2), biases (Qwen 2): tiny random models."""
    import transformers

    from breakfix.models.hf import HFModel

    torch.manual_seed(1)
    sizes: dict[str, Any] = {
        "vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    sizes |= {"sliding_window": 16} if name in ("Phi3", "Mistral", "Gemma2") else {}
    sizes |= {"head_dim": 8} if name == "Gemma2" else {}
    config = getattr(transformers, f"{name}Config")(**sizes)
    net = getattr(transformers, f"{name}ForCausalLM")(config)
    one = HFModel(net, tiny.tokenizer(), name, batch=2)
    replies = dict(one.generate(PROMPTS, Sampling(8)))
    assert [replies[i].text for i in range(len(PROMPTS))] == [stock(one, p, 8) for p in PROMPTS]


def test_freed_memory_goes_back_to_the_system() -> None:
    import platform

    import psutil

    from breakfix.models.memory import give_back

    if platform.libc_ver()[0] != "glibc":
        pytest.skip("another C library than glibc")
    held = [bytearray(20_000) for _ in range(10_000)]  # 200 MB; what stays lies between what goes
    held = held[::100]
    before = psutil.Process().memory_info().rss
    give_back()
    assert psutil.Process().memory_info().rss < before - 100_000_000
    assert len(held) == 100


def test_a_tokenizer_is_the_same_with_and_without_a_network(folder: Path, tmp_path: Path) -> None:
    from breakfix.models.hf import load_pretrained
    from breakfix.models.identity import save_tokenizer

    tokenizer = load_pretrained(folder)[1]
    found: list[str] = []
    for offline in (False, True):
        tokenizer.init_kwargs["local_files_only"] = offline  # as transformers leaves it where HF_HUB_OFFLINE is set
        save_tokenizer(tokenizer, tmp_path / str(offline))
        found.append((tmp_path / str(offline) / "tokenizer_config.json").read_text())
    assert found[0] == found[1]
