"""What prompts begin with alike, computed once: long templates with many requests each, with sharing and without it.

    python benchmarks/prefixes.py [--model NAME] [--templates 40] [--requests 20] [--new 48] [--times 1] [--threads N]

Templates are neutral and about 300 tokens long; the request comes last. "Without" shares what all prompts of a batch
begin with, and no more. `alone`: requests without any template, with little to share, and as many rows: sharing must
not cost them anything. Both ways run in turns, in one process; the best of each counts.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence

from breakfix import assets
from breakfix.core import Conversation, Sampling, ask
from breakfix.models import decode, prefixes
from breakfix.models.hf import HFModel, cores
from breakfix.models.render import prompt_ids

WHO = "a baker|a retired sailor|a young botanist|the keeper of a lighthouse|a patient teacher|a clockmaker".split("|")
DOES = "sorts|mends|paints|counts|describes|carries|measures|cleans|remembers|draws".split("|")
WHAT = "old maps|wooden boats|loaves of rye bread|tall ladders|seed packets|copper kettles|letters|lamps".split("|")
WHERE = "by the harbour|in a quiet village|on the top floor|near the mill|under an apple tree|at dawn".split("|")
ASKED = "How do I {} a {}?|Why would one {} a {} in spring?|Explain to a child how to {} a {}.".split("|")
VERBS, THINGS = "repair|build|polish|carry|store".split("|"), "lamp|kettle|chair|ladder|carpet|boat".split("|")


def templates(n: int) -> list[str]:
    """Some 300 tokens each; no two begin alike."""
    made: list[str] = []
    for i in range(n):
        rng = random.Random(i)
        one = [f"Scene {i + 1}. {rng.choice(WHO).capitalize()} tells a story."]
        while sum(len(line.split()) for line in one) < 235:
            one.append(f"Then {rng.choice(WHO)} {rng.choice(DOES)} {rng.choice(WHAT)} {rng.choice(WHERE)}.")
        made.append(" ".join([*one, "Stay in the story, and answer this:"]))
    return made


def requests(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [rng.choice(ASKED).format(rng.choice(VERBS), rng.choice(THINGS)) for _ in range(n)]


def only_all(prompts: Sequence[list[int]]) -> list[list[int]]:
    """In place of `prefixes.cuts`: what all prompts begin with."""
    common = prefixes.shared_prefix(prompts) if prompts else 0
    return [[common] if common >= prefixes.SHARED_MIN else [] for _ in prompts]


def run(model: HFModel, prompts: list[Conversation], new: int, shared: bool) -> tuple[float, dict[int, str]]:
    """(seconds, replies)"""
    decode.cuts = prefixes.cuts if shared else only_all
    start = time.perf_counter()
    replies = {i: reply.text for i, reply in model.generate(prompts, Sampling(new))}
    return time.perf_counter() - start, replies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    for name, default in (("templates", 40), ("requests", 20), ("new", 48), ("times", 1), ("threads", cores())):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    model = HFModel.load(str(assets.resolve(args.model).path), threads=args.threads)
    sets = {
        "templates": [ask(f"{t} {r}") for t in templates(args.templates) for r in requests(args.requests)],
        "alone": [ask(r) for r in requests(args.templates * args.requests)],
    }
    run(model, sets["templates"][:4], 2, True)
    print(
        f"{args.model}, {model.precision}, {args.threads} threads, {args.new} new tokens; seconds, best of {args.times}"
    )
    for name, prompts in sets.items():
        ids = [prompt_ids(model.tokenizer, prompt) for prompt in prompts]
        marks = dict(enumerate(prefixes.cuts(ids)))
        once = prefixes.distinct(ids, marks) + sum(len(p) - (marks[i] or [0])[-1] for i, p in enumerate(ids))
        best, said = {True: float("inf"), False: float("inf")}, dict[bool, dict[int, str]]()
        for _ in range(args.times):
            for shared in (False, True):
                seconds, said[shared] = run(model, prompts, args.new, shared)
                best[shared] = min(best[shared], seconds)
        same = sum(said[True][i] == said[False][i] for i in said[True])
        print(
            f"{name:10} {len(prompts)} prompts, {sum(map(len, ids))} tokens, {once} to be read | "
            f"without {best[False]:.1f}  "
            f"with {best[True]:.1f}  ratio {best[False] / best[True]:.2f} x | same replies {same} of {len(prompts)}"
        )


if __name__ == "__main__":
    main()
