"""Generation: ours against stock `transformers` generate in batches of 8, and against the machine's roof. One run.

    python benchmarks/generate.py [--model NAME] [--prompts 200] [--new 64] [--batch 256]

The roof is the measured matrix rate ÷ (2 × parameters), tokens/s: what decoding would reach if nothing but the matrix
products of the new tokens cost time. It is printed for bf16 and for the precision that the probe chose. Useful tokens
are new tokens that belong to an answer; prompt tokens are work too, but are not counted.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

from breakfix import assets
from breakfix.config import Suite
from breakfix.core import Case, Sampling
from breakfix.models.hf import HFModel, cores
from breakfix.models.precision import probe
from breakfix.models.render import prompt_ids
from breakfix.suites import load


def ours(model: HFModel, cases: list[Case], new: int) -> tuple[float, int]:
    start = time.perf_counter()
    replies = dict(model.generate([case.prompt for case in cases], Sampling(new)))
    return time.perf_counter() - start, sum(reply.tokens_out for reply in replies.values())


def stock(model: HFModel, cases: list[Case], new: int, batch: int = 8) -> tuple[float, int]:
    """Prompts in their order, 8 at a time, left-padded, transformers' defaults but for greedy decoding."""
    hf: Any = model.model
    start, tokens = time.perf_counter(), 0
    for first in range(0, len(cases), batch):
        ids = [prompt_ids(model.tokenizer, case.prompt) for case in cases[first : first + batch]]
        width = max(map(len, ids))
        inputs = torch.tensor([[model.pad] * (width - len(row)) + row for row in ids])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids])
        with torch.inference_mode():
            out = hf.generate(inputs, attention_mask=mask, max_new_tokens=new, do_sample=False, pad_token_id=model.pad)[
                :, width:
            ].tolist()
        for row in out:
            stop = next((i for i, token in enumerate(row) if token in model.stops), len(row) - 1)
            tokens += stop + 1
    return time.perf_counter() - start, tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--batch", type=int, default=256)
    args = parser.parse_args()
    cases = [
        *load(Suite(name="harmbench_test_standard"), seed=0).cases,
        *load(Suite(name="harmbench_val"), seed=0).cases,
    ]
    cases = cases[: args.prompts]
    model = HFModel.load(str(assets.resolve(args.model).path), batch=args.batch)
    parameters = sum(p.numel() for p in model.model.parameters())
    dtype = next(model.model.parameters()).dtype
    ours(model, cases[:8], 4)
    rates = probe(cores())
    best = rates.bf16 if dtype == torch.bfloat16 else max(rates.fp32, rates.fp32_medium)
    seconds, tokens = ours(model, cases, args.new)
    stock_seconds, stock_tokens = stock(model, cases, args.new)
    speed, stock_speed = tokens / seconds, stock_tokens / stock_seconds
    print(
        f"prompts {len(cases)}, up to {args.new} new tokens, {dtype}, {cores()} threads, "
        f"{parameters / 1e6:.1f} M parameters"
    )
    print(f"matrix rate GFLOP/s: fp32 {rates.fp32:.0f}, fp32 medium {rates.fp32_medium:.0f}, bf16 {rates.bf16:.0f}")
    for name, rate in (("bf16", rates.bf16), (f"chosen ({dtype})", best)):
        roof = rate * 1e9 / 2 / parameters
        print(f"roof by {name}: {roof:.0f} tokens/s; ours reaches {speed / roof:.0%} of it")
    print(f"ours            {speed:7.0f} useful tokens/s  ({tokens} tokens in {seconds:.1f} s)")
    print(f"stock, batch 8  {stock_speed:7.0f} useful tokens/s  ({stock_tokens} tokens in {stock_seconds:.1f} s)")
    print(f"ratio           {speed / stock_speed:7.2f} x")


if __name__ == "__main__":
    main()
