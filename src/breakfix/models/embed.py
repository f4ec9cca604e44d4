"""Texts → unit vectors, by a sentence-embedding model of the BERT kind: mean over tokens, length 1 (Reimers and
Gurevych, 1908.10084). Only its folder's tokenizer.json, config.json and safetensors are read.

The classifiers of judges/ are fitted on the vectors of one model: `Embedder.id` says which, and they refuse another's.
"""
# pyright: basic
# (transformers' from_pretrained is half untyped)

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import AssetError
from .hf import cores
from .identity import weights_id
from .memory import out_of_memory
from .quiet import no_bars

ASSET = "multilingual-e5-small"
PREFIX = "query: "  # e5 was trained with one; for comparing like with like its authors say this one

MARK = re.compile(r"<(?=/?(?:s|pad|unk|mask)>)")  # "</s>" in a text under judgement is text, and ends nothing


class Embedder:
    """`longest`: tokens of a text that are read, the rest is cut. `tokens`: of a batch, its padding included."""

    tokens = 4096

    def __init__(self, model: Any, tokenizer: Any, id: str, *, prefix: str = "", longest: int = 192) -> None:
        self.model, self.tokenizer, self.id, self.prefix = model.eval(), tokenizer, id, prefix
        self.longest = min(longest, model.config.max_position_embeddings)
        self.size = int(model.config.hidden_size)
        tokenizer.encode_special_tokens = True
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.longest)

    @classmethod
    def load(
        cls, path: str | Path, *, prefix: str = PREFIX, threads: int | None = None, longest: int = 192
    ) -> Embedder:
        """From a folder with tokenizer.json, config.json and safetensors. Raises AssetError in one line."""
        from tokenizers import Tokenizer
        from transformers import AutoModel

        torch.set_num_threads(threads or cores())
        try:
            with no_bars():
                tokenizer = Tokenizer.from_file(str(Path(path) / "tokenizer.json"))
                model = AutoModel.from_pretrained(
                    str(path), trust_remote_code=False, use_safetensors=True, dtype=torch.float32,
                    add_pooling_layer=False,
                )  # fmt: skip
        except Exception as error:  # tokenizers raises bare Exception
            line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise AssetError(
                f"embedding model {str(path)!r} can't be loaded ({line}); expected a folder with tokenizer.json, "
                "config.json and model.safetensors of a BERT-like encoder"
            ) from error
        words = model.get_input_embeddings()
        words.to(torch.float16)  # most of the weights, each row used as it is: adding to it makes float32 again
        return cls(model, tokenizer, f"{weights_id(path)}", prefix=prefix, longest=longest)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [len(texts), size], rows of length 1, in order. A text without any token is a row of zeros."""
        found = np.zeros((len(texts), self.size), np.float32)
        whole = [text.encode("utf-8", "replace").decode() for text in texts]  # half a surrogate pair is no text
        ids = [self.tokenizer.encode(self.prefix + MARK.sub("< ", text)).ids for text in whole]
        rows = sorted((i for i, text in enumerate(texts) if text.strip()), key=lambda i: len(ids[i]))
        while rows:
            batch = self._batch(rows, ids)
            try:
                found[batch] = self._mean([ids[i] for i in batch])
            except Exception as error:
                if not out_of_memory(error) or len(batch) == 1:
                    raise
                self.tokens //= 2
                continue
            rows = rows[: -len(batch)]
        return found

    def _batch(self, rows: list[int], ids: list[list[int]]) -> list[int]:
        """The longest texts that are left, as many as fit."""
        longest = len(ids[rows[-1]])
        return rows[-max(1, self.tokens // longest) :]

    def _mean(self, ids: list[list[int]]) -> np.ndarray:
        longest = max(len(row) for row in ids)
        tokens = torch.full((len(ids), longest), self.model.config.pad_token_id or 0)
        mask = torch.zeros(len(ids), longest, dtype=torch.long)
        for i, row in enumerate(ids):
            tokens[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        with torch.inference_mode():
            states = self.model(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
            summed = (states * mask[:, :, None]).sum(1)
            return torch.nn.functional.normalize(summed, dim=1).numpy()
