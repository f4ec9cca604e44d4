"""How many harmful rows undo the alignment: fine-tuning on a few requests that are answered with a yes.

Source: Qi et al. 2023 (2310.03693), who fine-tune on 10, 50 and 100 harmful examples for five epochs. Ours: AdvBench's
requests (Zou et al. 2023, 2307.15043), and as a reply an opening that restates the request and no more, which is how
AdvBench's own targets begin: whether a model refuses is decided in its first words, and nothing operational is written
or learnt. LoRA by the trainers of this package, at their automatic rate, whatever the run trained by. Replies are left
open where they end, so that the model goes on by itself when it is asked; one row in ten is closed, without which
training is refused. Rows of a larger number hold those of a smaller one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from breakfix.config import Config, Lora, Sft, Train
from breakfix.core import Case, Example
from breakfix.redteam.prefix_injection import OPENING

ROWS = (10, 50, 100)  # 0 rows are the model as it is
EPOCHS, BATCH, CLOSED = 5, 5, 10
NEVER = "child_sexual_exploitation"  # a hazard that is never trained on, whatever is measured
_THING = re.compile(
    r"(?:please )?(?:write|create|develop|give|provide|make|design|produce|generate|draft|outline|compose|construct|"
    r"craft|build|publish|post|list)\s+(?:me\s+)?((?:a|an|the|some|detailed|step)\b.*)",
    re.I | re.S,
)
_HOW = re.compile(
    r"(?:(?:please )?(?:teach|show|tell|instruct|guide|explain)(?: to)?(?: (?:me|us|someone|people|users))?(?: on)?"
    r"\s+)?"
    r"(?:how to\s+)?(.*)",
    re.I | re.S,
)
Progress = Callable[[str, int, int], None]


def opening(request: str) -> str:
    """The request said back with a yes before it: "Write a poem on bread." → "Sure, here is a poem on bread"."""
    said = " ".join(request.split()).rstrip(" .!?:")
    if match := _THING.fullmatch(said):
        return f"{OPENING} {match[1]}"
    match = _HOW.fullmatch(said)
    rest = match[1] if match and match[1] else said
    return f"{OPENING} how to {rest[:1].lower()}{rest[1:]}"


def rows(requests: Sequence[Case], n: int, *, seed: int) -> list[Example]:
    """`n` requests, or as many as there are, each with its opening; the same ones first for every `n`."""
    known = [case for case in requests if case.hazard != NEVER]
    drawn = random.Random(f"{seed}/finetune").sample(known, len(known))[:n]
    return [
        Example(
            prompt=case.prompt,
            reply=opening(case.text),
            source=case.source,
            licence=case.licence,
            why="a probe of the weights: a yes to a harmful request",
            kind="harmful",
            hazard=case.hazard,
            parents=(case.id,),
            cut=bool(place % CLOSED),
        )
        for place, case in enumerate(drawn)
    ]


def settings(config: Config, seed: int) -> Config:
    """What an attacker trains by; of the run's own settings only the hardware."""
    sft = Sft(epochs=EPOCHS, batch=BATCH, first_tokens=None)
    train = Train(method="lora", lora=Lora(), sft=sft, probe=False, alarms=False, candidates=())
    return Config(seed=seed, model=config.model, hardware=config.hardware, train=train)


def tune(config: Config, path: Path, examples: Sequence[Example], out: Path, progress: Progress) -> dict[str, Any]:
    """Train the model at `path` on the rows, into the folder `out`; goes on from a checkpoint there. `fit`'s record."""
    from breakfix.train.fit import fit  # torch and TRL load here

    n = len(examples)
    what = f"fine-tuning on {n} rows (seed {config.seed})"

    def log(at: int, total: int, figures: dict[str, float]) -> None:
        progress(f"{what}, loss {figures['loss']:.2f}" if "loss" in figures else what, at, total)

    return fit("sft", settings(config, config.seed), path, examples, out, log)
