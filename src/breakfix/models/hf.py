"""Any transformers causal LM as a `core.Model`: from a folder or hub id, LoRA adapters merged.

Two rules keep it honest: tokens come from `render` alone, and the model's `id` is the digest of its weights, tokenizer
and template, so that what the ledger knows about one model is never taken for another.
"""
# pyright: basic
# (transformers' and peft's from_pretrained are half untyped)

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from ..assets import lacking
from ..core import Conversation, Message, Reply, Sampling
from ..errors import AssetError, ModelError
from . import grouped
from . import precision as probing
from .cache import room
from .decode import decode
from .identity import weights_id
from .memory import out_of_memory
from .packed import pack
from .quiet import no_bars
from .render import prompt_ids, stop_ids, whole_ids
from .scoring import score_pairs

Precision = Literal["auto", "fp32", "bf16"]


class HFModel:
    """A loaded model. `batch`: most rows decoded together, `cache_tokens`: most tokens of theirs whose keys and values
    are held, `score_tokens`: tokens scored together; they halve by themselves when memory runs out."""

    score_tokens = 4096

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        id: str,
        *,
        batch: int = 256,
        max_context: int = 8192,
    ) -> None:
        self.model, self.tokenizer, self.id = model.eval(), tokenizer, id
        self.batch, self.cache_tokens = batch, room(model)
        self.max_context = min(max_context, getattr(model.config, "max_position_embeddings", max_context))
        self.stops = stop_ids(tokenizer, model.generation_config)
        self.ids: Callable[[Any, Conversation], list[int]] = prompt_ids
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(self.stops)

    @property
    def precision(self) -> Precision:
        """What the weights are held in."""
        return "bf16" if self.model.dtype == torch.bfloat16 else "fp32"

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        adapter: str | Path | None = None,
        precision: Precision = "auto",
        threads: int | None = None,
        batch: int = 256,
        max_context: int = 8192,
    ) -> HFModel:
        """Load from a folder (or hub id). Raises AssetError in one line where there is no model."""
        model, tokenizer = load_pretrained(path)
        if adapter is not None:
            from peft import PeftModel

            with no_bars():
                model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        threads = threads or cores()
        torch.set_num_threads(threads)
        if torch.cuda.is_available():
            model = model.to("cuda")
        dtype = _dtype(model, tokenizer, precision, threads)
        name = f"{weights_id(path)}+{weights_id(adapter)}" if adapter else weights_id(path)
        pack(model.to(dtype))
        grouped.use(model)
        return cls(
            model, tokenizer, f"{name}:{str(dtype).removeprefix('torch.')}", batch=batch, max_context=max_context
        )

    def whole(self, template: str | None = None) -> HFModel:
        """The same weights as a guard model: a conversation is put to it whole, whoever spoke last (nothing is
        continued), by `template` (Jinja) or the tokenizer's own."""
        other = copy.copy(self)
        if template is not None:
            other.tokenizer = copy.copy(self.tokenizer)
            other.tokenizer.chat_template = template
        other.ids, other.stops = whole_ids, stop_ids(other.tokenizer, self.model.generation_config, turn=False)
        return other

    def generate(
        self, prompts: Sequence[Conversation], sampling: Sampling, seeds: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Reply]]:
        """See core.Model. Prompts too long for the context come back as errors, never truncated silently."""
        tokens = [self.ids(self.tokenizer, p) for p in prompts]
        fits = [i for i, ids in enumerate(tokens) if len(ids) + sampling.max_new_tokens <= self.max_context]
        for i in set(range(len(tokens))) - set(fits):
            error = f"prompt of {len(tokens[i])} tokens exceeds the context of {self.max_context}"
            yield i, Reply("", tokens_in=len(tokens[i]), finish="error", error=error)
        pending = dict.fromkeys(fits)
        while pending:
            rows = list(pending)
            try:
                for i, reply in self._decode(rows, tokens, sampling, seeds or [0] * len(tokens)):
                    del pending[i]
                    yield i, reply
            except Exception as error:
                if not out_of_memory(error):
                    raise
                if self.batch == 1:
                    raise ModelError(f"out of memory with one row of {len(tokens[rows[0]])} tokens") from error
                self.batch, self.cache_tokens = max(1, self.batch // 2), max(1, self.cache_tokens // 2)

    def _decode(
        self, rows: list[int], tokens: list[list[int]], sampling: Sampling, seeds: Sequence[int]
    ) -> Iterator[tuple[int, Reply]]:
        chosen, chosen_seeds = [tokens[i] for i in rows], [seeds[i] for i in rows]
        stream = decode(
            self.model, chosen, sampling, chosen_seeds,
            stops=self.stops, pad=self.pad, batch=self.batch, tokens=self.cache_tokens,
        )  # fmt: skip
        for place, said, stopped in stream:
            text = self.tokenizer.decode(said, skip_special_tokens=True)
            i = rows[place]
            yield i, Reply(text, len(tokens[i]), len(said) + stopped, "stop" if stopped else "length")

    def score(self, pairs: Sequence[tuple[Conversation, str]]) -> list[tuple[float, int]]:
        """See core.Model: (sum of ln p, tokens) of each continuation, turn end not included."""
        rows = [
            (self.ids(self.tokenizer, prompt), self.tokenizer(text, add_special_tokens=False)["input_ids"])
            for prompt, text in pairs
        ]
        longest = max((len(prompt) + len(text) for prompt, text in rows), default=0)
        while True:
            try:
                return score_pairs(self.model, rows, pad=self.pad, tokens_a_batch=self.score_tokens)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                if self.score_tokens <= longest:
                    raise ModelError(f"out of memory scoring a row of {longest} tokens") from error
                self.score_tokens //= 2


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_pretrained(path: str | Path) -> tuple[Any, Any]:
    """(model in float32, tokenizer), safetensors only, no remote code."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with no_bars():
            tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(
                str(path), trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
    except (OSError, ValueError) as error:
        missing = lacking(Path(path)) if Path(path).is_dir() else ""
        said = f"there is no {missing} in it" if missing else str(error).strip() or type(error).__name__
        line = said.splitlines()[0]
        raise AssetError(
            f"model {str(path)!r} can't be loaded ({line}); expected a folder with config.json and model.safetensors, "
            "or a hub id of a causal LM; `breakfix assets` lists what is known"
        ) from error
    return model, tokenizer


def _dtype(model: Any, tokenizer: Any, precision: Precision, threads: int) -> torch.dtype:
    if precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    if model.device.type == "cuda":
        return torch.bfloat16
    probe = probing.probe(threads)
    if probe.fp32_medium > probing.FASTER * probe.fp32:
        torch.set_float32_matmul_precision("medium")
    ids = prompt_ids(tokenizer, _NEUTRAL)
    return torch.bfloat16 if probe.bf16_wins and probing.agrees(model, ids, threads) else torch.float32


_NEUTRAL: Conversation = (Message("user", "Name three fruits that grow on trees."),)
