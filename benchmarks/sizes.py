"""What a size costs: one class of model in three sizes, random weights, through our own training and decoding.

    python benchmarks/sizes.py [--family phi3-4k] [--steps 12]

Prints a Markdown table: parameters; seconds a step of SFT (16 rows) and of DPO (8 pairs) with LoRA, the median of all
but the first, without alarms; tokens a second of greedy decoding, 32 rows of 32 new tokens; the largest memory of the
process while it trained, each size in a process of its own. Rows are alike for all sizes (one token a byte, about 120 a
row).
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

SIZES = {  # name → (hidden size, layers, heads)
    "small": (64, 2, 4),
    "medium": (128, 4, 4),
    "large": (256, 8, 8),
}


def main() -> None:
    import tiny

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="phi3-4k", choices=tiny.FAMILIES)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--size", choices=SIZES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.size:
        print(json.dumps(measure(given.family, given.size, given.steps)))
        return
    print(f"{tiny.FAMILIES[given.family].kind}, {given.steps} steps, one process each\n")
    print("| size | parameters | SFT s/step | DPO s/step | decoding tokens/s | memory MB |")
    print("|---|---|---|---|---|---|")
    for size in SIZES:
        command = [sys.executable, __file__, "--family", given.family, "--steps", str(given.steps), "--size", size]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        print("| {size} | {parameters:,} | {sft:.3f} | {dpo:.3f} | {tokens:.0f} | {memory:.0f} |".format(**row))


def measure(family: str, size: str, steps: int) -> dict[str, Any]:
    import tiny
    from breakfix.config import parse
    from breakfix.core import Example, Sampling, ask
    from breakfix.models.hf import HFModel
    from breakfix.train.fit import fit

    width, layers, heads = SIZES[size]
    shape = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "initializer_range": 0.02,
    }
    shape |= {"head_dim": width // heads} if "head_dim" in tiny.FAMILIES[family].settings else {}
    with tempfile.TemporaryDirectory() as work:
        policy = tiny.save_family(family, Path(work) / "policy", **shape)
        rows = [
            Example(ask(f"Tell me, please, all that you know about step {i} of baking bread."), "Mix flour. " * 4,
                    "benchmark", "CC0-1.0", "a benchmark", "plain", rejected="No. " * 4)
            for i in range(16 * steps)
        ]  # fmt: skip
        found: dict[str, Any] = {"size": size}
        for kind, n in (("sft", 16 * steps), ("dpo", 8 * steps)):
            ticks: list[float] = []
            config = parse({"train": {"alarms": False, "sft": {"first_tokens": None}}})
            fit(kind, config, policy, rows[:n], Path(work) / kind, lambda s, t, f, ticks=ticks: ticks.append(clock(f)))
            times = [tick for tick in ticks if tick]
            found[kind] = statistics.median(b - a for a, b in itertools.pairwise(times))
        found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        model = HFModel.load(policy)
        found["parameters"] = sum(p.numel() for p in model.model.parameters())
        prompts = [row.prompt for row in rows[:32]]
        list(model.generate(prompts, Sampling(max_new_tokens=4)))
        began = time.perf_counter()
        said = list(model.generate(prompts, Sampling(max_new_tokens=32)))
        found["tokens"] = sum(reply.tokens_out for _, reply in said) / (time.perf_counter() - began)
    return found


def clock(figures: dict[str, float]) -> float:
    """Of the end of a step; 0 where figures are told instead."""
    return 0.0 if figures else time.perf_counter()


if __name__ == "__main__":
    main()
