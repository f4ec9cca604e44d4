"""Which number format runs matrix products fastest here without spoiling them: measured, not assumed.

CPUs differ by more than 5 × in either direction: with avx512_bf16 or AMX bf16 is 3-5 × faster than fp32, without them
it is 5 × slower. `probe` times the shapes that decoding and training use; `agrees` checks a model's own logits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

FASTER = 1.15  # bf16 must be this many times faster to be worth its rounding
TOLERANCE = 0.5  # largest mean absolute difference of logits (nats) between bf16 and fp32


@dataclass(frozen=True, slots=True)
class Probe:
    """GFLOP/s of a [128, 576] × [576, 1536] product: float32, float32 at "medium" precision, bfloat16; best of 12."""

    fp32: float
    fp32_medium: float
    bf16: float

    @property
    def bf16_wins(self) -> bool:
        return self.bf16 >= FASTER * max(self.fp32, self.fp32_medium)


@lru_cache(maxsize=4)
def probe(threads: int) -> Probe:
    """Time the products with `threads` threads; takes about 50 ms. Leaves torch's precision setting as it was."""
    torch.set_num_threads(threads)
    before = torch.get_float32_matmul_precision()
    try:
        rates = [_rate(torch.float32, "highest"), _rate(torch.float32, "medium"), _rate(torch.bfloat16, "highest")]
    finally:
        torch.set_float32_matmul_precision(before)
    return Probe(*rates)


def _rate(dtype: torch.dtype, setting: str) -> float:
    torch.set_float32_matmul_precision(setting)
    x, w = torch.randn(128, 576).to(dtype), torch.randn(1536, 576).to(dtype)
    best = float("inf")
    for _ in range(12):
        start = time.perf_counter()
        torch.nn.functional.linear(x, w)
        best = min(best, time.perf_counter() - start)
    return 2 * x.numel() * w.shape[0] / best / 1e9


def agrees(model: Any, ids: list[int], threads: int) -> bool:
    """Whether `model` (fp32) in bf16 gives the same argmax and nearly the same logits after `ids`. It stays fp32."""
    torch.set_num_threads(threads)
    tokens = torch.tensor([ids], device=model.device)
    with torch.inference_mode():
        exact = model(input_ids=tokens).logits[0, -1].float()
        state = {k: v.clone() for k, v in model.state_dict().items()}
        rounded = model.to(torch.bfloat16)(input_ids=tokens).logits[0, -1].float()
    model.to(torch.float32).load_state_dict(state)
    return bool(exact.argmax() == rounded.argmax()) and float((exact - rounded).abs().mean()) < TOLERANCE
