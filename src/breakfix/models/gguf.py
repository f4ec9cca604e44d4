"""A GGUF file → a folder of safetensors that transformers loads in a second.

transformers dequantises a GGUF in 13-30 s; doing it once and keeping the result is what makes the embedded model start
fast. The weights keep the loss of their 4-bit origin, and the folder's card says so.
"""
# pyright: basic
# (transformers' from_pretrained is half untyped)

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from .identity import save_tokenizer
from .quiet import no_bars

NOTE = "Dequantised from a 4-bit GGUF ({name}): slightly worse than the original weights.\n"


def convert(gguf: Path, out: Path) -> Path:
    """Dequantise `gguf` into folder `out` (float32 safetensors, tokenizer). `out` appears whole or not at all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=".gguf-"))
    try:
        with no_bars():
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
            )
            if hasattr(model.config, "quantization_config"):
                delattr(model.config, "quantization_config")
            model.save_pretrained(work)
            save_tokenizer(tokenizer, work)
        (work / "README.md").write_text(NOTE.format(name=gguf.name))
        if out.exists():
            return out
        work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out
