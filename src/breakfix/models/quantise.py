"""A model as it would be with 8-bit weights: every matrix to GGUF's Q8_0 and back, saved as safetensors.

Q8_0 is what llama.cpp makes phones run: along each row, 32 weights share one float16 scale, and each is a whole number
from -127 to 127 times that. The values come back as float32, which holds them exactly, so the folder loads like any
other and differs from its parent by the error of the format alone. What it does not show: llama.cpp also rounds
activations to 8 bits, and is faster; this is neither smaller nor faster than the parent.
"""
# pyright: basic
# (gguf and transformers' save_pretrained are half untyped)

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .identity import save_tokenizer, weights_id
from .quiet import no_bars

FORMATS = ("q8_0",)
BLOCK = 32  # weights that share a scale
CARD = """# Model card

{source} (`{parent}`) with its weights quantised to {format} and back by breakfix, to measure what the format costs.

- {quantised:,} weights in {matrices} matrices quantised; root mean square error {error:.2e} of their root mean square
- {kept:,} weights kept as they were: vectors (norms, biases), and rows whose length is no multiple of {block}
- licence: that of the model it was made of
"""


def quantise(source: Path, out: Path, format: str = "q8_0") -> Path:
    """Write folder `out` from the model in folder `source`; an `out` that is there is taken as it is.

    `out` appears whole or not at all. Raises AssetError where `source` has no model; ValueError for another format.
    """
    from .hf import load_pretrained

    if format not in FORMATS:
        raise ValueError(f"{format!r}: expected one of {', '.join(FORMATS)}")
    if out.is_dir():
        return out
    model, tokenizer = load_pretrained(source)
    facts = _round_trip(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=".quantise-"))
    try:
        with no_bars():
            model.save_pretrained(work)
            save_tokenizer(tokenizer, work)
        card = CARD.format(source=source.name, parent=weights_id(source), format=format.upper(), block=BLOCK, **facts)
        (work / "README.md").write_text(card, encoding="utf-8")
        work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out


def _round_trip(model: Any) -> dict[str, Any]:
    """Quantise a float32 model's matrices in place; how many, and how far the weights moved."""
    quantised = matrices = kept = 0
    squares = errors = 0.0
    for weight, transposed in _weights(model):
        rows = weight.T if transposed else weight
        if weight.ndim < 2 or rows.shape[-1] % BLOCK:
            kept += weight.numel()
            continue
        values = rows.contiguous().numpy()
        back = q8_0(values)
        squares += float((values.astype("float64") ** 2).sum())
        errors += float(((back - values).astype("float64") ** 2).sum())
        rows.copy_(_tensor(back))
        quantised, matrices = quantised + weight.numel(), matrices + 1
    return {
        "quantised": quantised,
        "matrices": matrices,
        "kept": kept,
        "error": (errors / squares) ** 0.5 if squares else 0.0,
    }


def q8_0(values: Any) -> Any:
    """A float32 array to Q8_0 and back, along its last axis (a multiple of 32), by the gguf package."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize, quantize

    return dequantize(quantize(values, GGMLQuantizationType.Q8_0), GGMLQuantizationType.Q8_0)


def _weights(model: Any) -> Iterator[tuple[Any, bool]]:
    """Each weight once, tied ones too, and whether its inputs are the first axis (GPT-2's Conv1D), not the last."""
    seen: set[int] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield parameter.detach(), type(module).__name__ == "Conv1D"


def _tensor(values: Any) -> Any:
    import torch

    return torch.from_numpy(values)
