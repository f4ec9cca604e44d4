"""A tiny random Llama with a byte-level tokenizer, so that a whole round runs in seconds and needs no hub.

2 layers, hidden size 32, one token a byte, a ChatML template whose turn end is the eos token. It babbles; what it
learns from must therefore bring its own replies: `write_rows` gives such rows, harmless ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CONTEXT = 2048


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


def save(folder: Path, seed: int = 0, says: str = "") -> Path:
    """The model and its tokenizer as a folder that `from_pretrained` takes. `says`: taught to say that, mostly."""
    made = model(seed)
    if says:
        teach(made, says)
    made.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def teach(model: Any, says: str, steps: int = 240) -> None:
    """Train until the model says `says` whatever it is asked (about two seconds)."""
    import random

    import torch

    rng, tokens = random.Random(0), tokenizer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    answer = tokens(says, add_special_tokens=False)["input_ids"] + [2]
    model.train()
    for _ in range(steps):
        asked = "".join(rng.choices("abcdefgh ijkl\nmnop .,?!qrstuvwxyz éß日本", k=rng.choice((5, 40, 80, 160, 320))))
        prompt = tokens.apply_chat_template(
            [{"role": "user", "content": asked}], add_generation_prompt=True, return_dict=False
        )
        labels = torch.tensor([[-100] * len(prompt) + answer])
        model(input_ids=torch.tensor([prompt + answer]), labels=labels).loss.backward()
        optimizer.step()
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
