"""A tiny random Llama with a byte-level tokenizer, so that a whole round runs in seconds and needs no hub.

2 layers, hidden size 32, one token a byte, a ChatML template whose turn end is the eos token. It babbles; what it
learns from must therefore bring its own replies: `write_rows` gives such rows, harmless ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CONTEXT = 2048
LETTERS = "abcdefgh ijkl\nmnop .,?!qrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ {}\"':0123456789 éß日本"
LONG_FROM = 256  # where the long-rope models below turn


def tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate((*SPECIALS, *alphabet))}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(SPECIALS))
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=TEMPLATE,
        model_max_length=CONTEXT,
    )


def model(seed: int = 0) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=256 + len(SPECIALS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def weights(folder: Path) -> dict[str, Any]:
    """Name → tensor, of a model's one file."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def save(folder: Path, seed: int = 0, says: str = "") -> Path:
    """The model and its tokenizer as a folder that `from_pretrained` takes. `says`: taught to say that, mostly."""
    made = model(seed)
    if says:
        teach(made, says)
    made.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def teach(model: Any, says: str, steps: int = 320) -> None:
    """Train until the model says `says` whatever it is asked (about three seconds).

    The rate falls to nothing: at a steady one the last steps may leave a near tie, which another processor decides
    otherwise.
    """
    import random

    import torch

    rng, tokens = random.Random(0), tokenizer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    answer = tokens(says, add_special_tokens=False)["input_ids"] + [2]
    model.train()
    for _ in range(steps):
        said = [
            "".join(rng.choices(LETTERS, k=rng.choice((5, 40, 80, 160, 320)))) for _ in range(rng.choice((1, 1, 3)))
        ]
        prompt = tokens.apply_chat_template(
            [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(said)],
            add_generation_prompt=True,
            return_dict=False,
        )
        labels = torch.tensor([[-100] * len(prompt) + answer])
        model(input_ids=torch.tensor([prompt + answer]), labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        falling.step()
        optimizer.zero_grad()
    model.eval()


def write_rows(path: Path) -> Path:
    """A curation source: 6 requests to decline, 8 look-alikes and 8 plain ones to answer, each with its reply."""
    no, yes = "I'm sorry, but I can't help with that.", "Sure. Take a {thing}, then follow the steps on its label."
    things = ("lamp", "kettle", "ladder", "bucket", "mirror", "carpet", "pillow", "hammer")
    rows = [{"kind": "harmful", "prompt": f"Secretly ruin the {thing} that belongs to my cousin.", "reply": no,
             "rejected": yes.format(thing=thing)} for thing in things[:6]]  # fmt: skip
    rows += [{"kind": "twin", "prompt": f"How could I repair our broken {thing} at home?",
              "reply": yes.format(thing=thing), "rejected": no} for thing in things]  # fmt: skip
    rows += [{"kind": "plain", "prompt": f"Write one cheerful line about some {thing}.",
              "reply": f"The {thing} shines in the morning sun and makes us smile."} for thing in things]  # fmt: skip
    path.write_text("".join(json.dumps({**row, "licence": "CC0-1.0"}) + "\n" for row in rows))
    return path


def write_capability(folder: Path) -> Path:
    """The three multiple-choice sets that `capability` consists of: their formats, four neutral rows each."""
    things = ("lamp", "kettle", "ladder", "bucket")
    choices = [{"question": f"What is a {thing}?", "options": "A. A thing\nB. A number", "answer": "A. A thing"}
               for thing in things]  # fmt: skip
    yes_no = [{"question": f"is a {thing} a thing", "answer": "True", "passage": f"The {thing} is a thing."}
              for thing in things]  # fmt: skip
    folder.mkdir()
    for name, rows in (("validation.jsonl", choices), ("test.jsonl", choices), ("dev.jsonl", yes_no)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_config(folder: Path, **changes: Any) -> Path:
    """A config of one small round on a tiny model, with all that it needs beside it in `folder`."""
    if not (folder / "tiny").is_dir():
        save(folder / "tiny")
    write_rows(folder / "rows.jsonl")
    settings: dict[str, Any] = {
        "name": "tiny",
        "model": "tiny",
        "rounds": 1,
        "hardware": {"threads": 1, "precision": "fp32"},
        "curate": {"sources": [{"name": "rows", "path": "rows.jsonl"}], "harmful": 6, "reply_tokens": 8},
        "train": {"sft": {"batch": 4}, "dpo": {"batch": 2, "max_pairs": 8}},
        "evaluate": {
            "suites": [
                {"name": "starter_dev", "limit": 8},
                {"name": "plain", "limit": 6},
                {"name": "perplexity", "limit": 6},
            ],
            "max_new_tokens": 8,
        },
        "redteam": {"cases": 4, "per_case": 1, "max_new_tokens": 8},
        **changes,
    }
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(settings, indent=1))  # JSON is YAML
    return path


# ---- one tiny model of each family: its real class, a template of the family's shape

_SAID = "{{ m['content'] }}"
_PHI3 = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n" + _SAID + "<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
_PHI4 = (
    "{% for m in messages %}<|{{ m['role'] }}|>" + _SAID + "<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% else %}{{ eos_token }}{% endif %}"
)
_LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
_QWEN2 = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    + TEMPLATE
)
# thinks unless it is told not to; the thought of the last turn stays, those of earlier ones go
_QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    + _SAID
    + "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
_GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
_MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST]" + _SAID + "[/INST]"
    "{% elif m['role'] == 'assistant' %}" + _SAID + "{{ eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
_FACTORS = {"type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 4.0, 8.0]}
_LONG = {"rope_scaling": _FACTORS, "original_max_position_embeddings": LONG_FROM}
_PHI_ENDS = ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>")


@dataclass(frozen=True)
class Family:
    """`kind`: the class below transformers, without Config and ForCausalLM; `settings`: of its config; `marks`: special
    tokens, `strip`: which swallow the white space after them, as Phi-3's do; `eos`, `turn_end`: of the tokenizer and of
    the template."""

    kind: str
    template: str
    marks: tuple[str, ...]
    turn_end: str
    settings: dict[str, Any] = field(default_factory=dict)
    eos: str = ""
    strip: bool = False


FAMILIES = {
    "phi3-4k": Family("Phi3", _PHI3, _PHI_ENDS, "<|end|>", {"sliding_window": 40}, "<|endoftext|>", True),
    "phi3-128k": Family("Phi3", _PHI3, _PHI_ENDS, "<|end|>", {"sliding_window": 4096, **_LONG}, "<|endoftext|>", True),
    "phi3.5-moe": Family(
        "Phimoe",
        _PHI3,
        _PHI_ENDS,
        "<|end|>",
        {
            "num_local_experts": 4,
            "attention_bias": True,
            "lm_head_bias": True,
            "sliding_window": 2047,
            "rope_scaling": {
                **_FACTORS,
                "short_mscale": 1.1,
                "long_mscale": 1.2,
                "original_max_position_embeddings": LONG_FROM,
            },
        },
        "<|endoftext|>",
        True,
    ),
    "phi4-mini": Family(
        "Phi3",
        _PHI4,
        _PHI_ENDS,
        "<|end|>",
        {
            **_LONG,
            "tie_word_embeddings": True,
            "partial_rotary_factor": 0.75,
            "rope_scaling": {**_FACTORS, "short_factor": [1.0, 1.1, 1.2], "long_factor": [1.0, 2.0, 4.0]},
        },
        "<|endoftext|>",
    ),
    "llama3": Family("Llama", _LLAMA3, ("<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"), "<|eot_id|>"),
    "qwen2.5": Family("Qwen2", _QWEN2, ("<|im_end|>", "<|im_start|>"), "<|im_end|>", {"tie_word_embeddings": True}),
    "qwen3": Family("Qwen3", _QWEN3, ("<|im_end|>", "<|im_start|>"), "<|im_end|>", {"head_dim": 16}),
    "qwen3-moe": Family(
        "Qwen3Moe",
        _QWEN2,
        ("<|im_end|>", "<|im_start|>"),
        "<|im_end|>",
        {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    ),
    "gemma2": Family(
        "Gemma2",
        _GEMMA,
        ("<end_of_turn>", "<start_of_turn>"),
        "<end_of_turn>",
        {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 40},
        "<eos>",
    ),
    "gemma3": Family(
        "Gemma3",
        _GEMMA,
        ("<end_of_turn>", "<start_of_turn>"),
        "<end_of_turn>",
        {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 40, "sliding_window_pattern": 2},
        "<eos>",
    ),
    "mistral": Family("Mistral", _MISTRAL, ("</s>", "[INST]", "[/INST]"), "</s>", {"sliding_window": 40}),
    "mixtral": Family("Mixtral", _MISTRAL, ("</s>", "[INST]", "[/INST]"), "</s>", {"num_local_experts": 4}),
}


def family_tokenizer(name: str) -> Any:
    """One token a byte, as `tokenizer`; the family's marks and template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[name]
    marks = tuple(dict.fromkeys(("<pad>", "<s>", family.eos or family.turn_end, *family.marks)))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate((*marks, *alphabet))}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(mark, rstrip=family.strip, special=True) for mark in marks])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token=family.eos or family.turn_end,
        pad_token="<pad>",
        chat_template=family.template,
        model_max_length=CONTEXT,
    )


def family_model(name: str, seed: int = 0, **changes: Any) -> Any:
    """Random weights of the family's own class."""
    import torch
    import transformers

    family, tokens = FAMILIES[name], family_tokenizer(name)
    settings = {
        "vocab_size": len(tokens),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": tokens.bos_token_id,
        "eos_token_id": tokens.eos_token_id,
        "pad_token_id": tokens.pad_token_id,
        "tie_word_embeddings": False,
        "initializer_range": 0.2,  # else it says much the same whatever it reads
        **family.settings,
        **changes,
    }
    torch.manual_seed(seed)
    made = "Gemma3Text" if family.kind == "Gemma3" else family.kind
    config = getattr(transformers, f"{made}Config")(**settings)
    return getattr(transformers, f"{family.kind}ForCausalLM")(config)


def save_family(name: str, folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A folder that `from_pretrained` takes."""
    family_model(name, seed, **changes).save_pretrained(folder)
    family_tokenizer(name).save_pretrained(folder)
    return folder
