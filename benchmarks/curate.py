"""What curation costs: exact and near-duplicates and decontamination against the built-in walls, on synthetic rows that
stream past; CPU seconds, microseconds a row and peak memory by size, each in a process of its own. Beside it, on 20,000
of the same rows, what one would write by hand for near-duplicates: datasketch's MinHash and MinHashLSH in a loop.

Run: python benchmarks/curate.py [--sizes 10000 100000 1000000] [--chart FILE.svg]

With --round, what each default step costs on the default sources; with --meaning, how near to a request its other
forms, translation and twin are by cosine of embeddings, and what an embedding costs.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from breakfix import assets, frames, starter
from breakfix.config import Config, Suite
from breakfix.core import Case, Dropped, Example, Split, ask
from breakfix.curate.base import through
from breakfix.curate.sources import gather
from breakfix.curate.steps.decontaminate import Decontaminate
from breakfix.curate.steps.exact import Exact
from breakfix.curate.steps.meaning import Meaning
from breakfix.curate.steps.near import Near
from breakfix.curate.steps.order import EMBEDDER, Order
from breakfix.curate.steps.stream import sift
from breakfix.curate.steps.text import shingles
from breakfix.curate.steps.vectors import Vectors
from breakfix.errors import AssetError
from breakfix.redteam import catalogue
from breakfix.suites import SUITES, load

VOCABULARY = 30_000
PEER_ROWS = 20_000
FRAMES = 200
COSINES = (0.90, 0.92, 0.93, 0.94, 0.95, 0.96)


@cache
def words() -> tuple[list[str], list[float]]:
    """Made-up words, and their summed frequencies, which fall as in a language (Zipf)."""
    rng = random.Random(0)
    made = ["".join(rng.choice("aeioubdfgklmnprstvz") for _ in range(rng.randint(2, 9))) for _ in range(VOCABULARY)]
    return made, list(accumulate(1 / (rank + 5) for rank in range(VOCABULARY)))


def sentence(rng: random.Random, n: int) -> str:
    made, sums = words()
    return " ".join(rng.choices(made, cum_weights=sums, k=n))


@cache
def frame(number: int) -> str:
    return sentence(random.Random(f"frame {number}"), 9)


def text(i: int) -> str:
    """3 rows of 10 are a frame with a few words of its own, the others 8 to 40 words."""
    rng = random.Random(i)
    if rng.random() < 0.3:
        return f"{frame(rng.randrange(FRAMES))} {sentence(rng, rng.randint(5, 9))}"
    return sentence(rng, rng.randint(8, 40))


def rows(n: int, walls: list[Case]) -> Iterator[Example]:
    """Of ten rows one is another again, one is another with a word changed; of a thousand one is a wall."""
    for i in range(n):
        rng = random.Random(-1 - i)
        pick = rng.random()
        if pick < 0.1 and i:
            said = text(rng.randrange(i)).upper() + "!"
        elif pick < 0.2 and i:
            split = text(rng.randrange(i)).split()
            split[rng.choice((0, -1))] = words()[0][rng.randrange(VOCABULARY)]
            said = " ".join(split)
        elif pick < 0.201 and walls:
            said = f"Please: {rng.choice(walls).text}"
        else:
            said = text(i)
        yield Example(ask(said), "", "synthetic", "MIT", "a benchmark", "plain")


def all_walls() -> list[Case]:
    """Every dev and frozen case of the built-in suites that can be had here."""
    found = {case.id: case for case in starter.cases(split=Split.DEV)}
    for name, spec in SUITES.items():
        if spec.split is not Split.TRAIN:
            try:
                found |= {case.id: case for case in load(Suite(name=name), seed=0).cases}
            except AssetError as error:
                print(f"{name}: not here ({str(error)[:60]} ...)", file=sys.stderr)
    return list(found.values())


class Timed:
    """Rows as they come, and the CPU seconds that making them took."""

    def __init__(self, given: Iterator[Example]) -> None:
        self.given, self.seconds = given, 0.0

    def __iter__(self) -> Iterator[Example]:
        while True:
            began = time.process_time()
            one = next(self.given, None)
            self.seconds += time.process_time() - began
            if one is None:
                return
            yield one


def measured(n: int) -> dict[str, Any]:
    """One size, in this process."""
    walls = all_walls()
    began = time.process_time()
    clean = Decontaminate(walls, ngram=8, threshold=0.8)
    list(clean.overlaps(list(rows(1, walls))))  # the walls are indexed when the first row comes
    indexing = time.process_time() - began
    made = Timed(rows(n, walls))
    gone: Counter[str] = Counter()
    clock, began = time.perf_counter(), time.process_time()
    for outcome in sift([Exact(), Near(0.8), clean], made):
        gone[outcome.step if isinstance(outcome, Dropped) else "kept"] += 1
    return {
        "rows": n,
        "walls": len(walls),
        "indexing": indexing,
        "seconds": time.process_time() - began - made.seconds,
        "elapsed": time.perf_counter() - clock,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **{name: gone[name] for name in ("exact", "near", "decontaminate", "kept")},
    }


def ours(examples: list[Example]) -> tuple[float, int]:
    began = time.process_time()
    kept, _ = Near(0.8)(examples)
    return time.process_time() - began, len(kept)


def peer(examples: list[Example]) -> tuple[float, int]:
    """datasketch, in a loop: a candidate counts as a near-duplicate."""
    from datasketch import MinHash, MinHashLSH

    began = time.process_time()
    index, kept = MinHashLSH(threshold=0.8, num_perm=128), 0
    for i, example in enumerate(examples):
        sketch = MinHash(num_perm=128)
        for shingle in shingles(example.prompt[-1].content):
            sketch.update(shingle.encode())
        if not index.query(sketch):
            index.insert(i, sketch)
            kept += 1
    return time.process_time() - began, kept


def chart(found: list[dict[str, Any]], path: Path) -> None:
    """Seconds by rows, both logarithmic, with the line that a cost in proportion would be."""
    import vl_convert

    first = found[0]["seconds"] / found[0]["rows"]
    data = [{"rows": r["rows"], "seconds": r["seconds"], "what": "measured"} for r in found]
    data += [{"rows": r["rows"], "seconds": first * r["rows"], "what": "in proportion"} for r in found]
    log = {"type": "log"}
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "data": {"values": data},
        "width": 420,
        "height": 260,
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": {"field": "rows", "type": "quantitative", "scale": log, "title": "rows"},
            "y": {"field": "seconds", "type": "quantitative", "scale": log, "title": "CPU seconds, one core"},
            "color": {"field": "what", "type": "nominal", "title": None, "scale": {"range": ["#9a9a9a", "#1f5fa8"]}},
            "strokeDash": {"field": "what", "type": "nominal", "title": None},
        },
    }
    convert: Any = vl_convert
    path.write_text(convert.vegalite_to_svg(json.dumps(spec), allowed_base_urls=[]), encoding="utf-8")


def found_at(name: str) -> Path:
    return assets.resolve(name).path


def a_round() -> None:
    """The default sources through the default steps, in this process."""
    config = Config()
    longest, walls = 4 * config.train.sft.max_length, all_walls()
    began = time.process_time()
    prompts = gather(config.curate.sources, seed=config.seed, longest=longest, resolve=found_at).prompts
    print(f"{len(prompts):,} prompts of {', '.join(source.name for source in config.curate.sources)}")
    print(f"read in {time.process_time() - began:.1f} CPU s; {len(walls):,} walls\n\n| step | taken out | CPU s |")
    print("|---|---|---|")
    clean = Decontaminate(walls, ngram=config.curate.ngram, threshold=config.curate.near_duplicate)
    total = 0.0
    for step in Order(config.curate, walls, clean, resolve=found_at).steps:
        began = time.process_time()
        prompts, dropped = through(step, prompts)
        total += (seconds := time.process_time() - began)
        print(f"| {step.name} | {len(dropped):,} | {seconds:.1f} |")
    print(f"| all, {len(prompts):,} left | | {total:.1f} |")


def meaning() -> None:
    """Requests of the frames as walls, one of a filler; texts that are near to one, and how many pass a cosine."""
    from breakfix.models.embed import Embedder

    rng = random.Random(0)
    of: dict[str, list[Case]] = {}
    for case in frames.cases(language="en"):
        of.setdefault(case.family, []).append(case)
    pairs = [some for some in of.values() if some[0].twin or some[1].twin]
    rng.shuffle(pairs)
    harmful = [[case for case in some if not case.twin] for some in pairs]
    twin = {case.twin: case.text for some in pairs for case in some if case.twin}
    walls = [some[0] for some in harmful[:70]]
    past = catalogue()["past_tense"]
    translated = [case for case in starter.cases(kind="harmful", language="en") if case.translations][:40]
    languages = [rng.choice(sorted(case.translations)) for case in translated]
    near: dict[str, list[tuple[str, Case | None]]] = {
        "the same matter in another frame": [
            (c.text, some[0]) for some in harmful[:70] for c in rng.sample(some[1:], 2)
        ],
        "its past tense": [(next(past(wall, rng)).prompt[-1].content, wall) for wall in walls],
        "its translation (of the starter pack)": [
            (case.translations[language], case) for case, language in zip(translated, languages)
        ],
        "its benign twin, in the same frame": [(twin[wall.id], wall) for wall in walls],
        "another request, the nearest of the 70 walls": [(some[0].text, None) for some in harmful[70:190]],
    }
    folder = found_at(EMBEDDER)
    vectors = Vectors("benchmark", lambda: Embedder.load(folder, threads=1), None)
    vectors.of(["A first text, with which the model is loaded."])
    clock, began, before = time.perf_counter(), time.process_time(), vectors.made
    print("| against the walls, share at a cosine of | " + " | ".join(f"{c:.2f}" for c in COSINES) + " |")
    print("|---" * (1 + len(COSINES)) + "|")
    for name, some in near.items():
        texts = [text for text, _ in some]
        if some[0][1] is None:
            cosines, _ = Meaning(walls, vectors, 0.93).nearest(texts)
        else:
            cosines = (vectors.of(texts) * vectors.of([wall.text for _, wall in some if wall])).sum(1)
        shares = " | ".join(f"{np.mean(cosines >= cosine):.2f}" for cosine in COSINES)
        print(f"| {name} ({len(some)}) | {shares} |")
    seconds, made = time.process_time() - began, vectors.made - before
    print(f"\n{made} texts in {seconds:.1f} CPU s ({time.perf_counter() - clock:.1f} s by the clock): ", end="")
    print(f"{seconds / made * 1000:.0f} ms a text, of one core")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--chart", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--round", action="store_true", help="the default steps on the default sources instead")
    parser.add_argument("--meaning", action="store_true", help="the table of cosines instead")
    arguments = parser.parse_args()
    if arguments.round:
        a_round()
    elif arguments.meaning:
        meaning()
    elif arguments.one:
        print(json.dumps(measured(arguments.one)))
    else:
        by_size(arguments.sizes, arguments.chart)


def by_size(sizes: list[int], picture: Path | None) -> None:
    found: list[dict[str, Any]] = []
    print("CPU seconds of one core, without the making of the rows; elapsed with it, and with whatever else ran here")
    print("| rows | walls | indexed in, s | rows in, s | µs a row | clock, s | MiB | exact | near | on walls | kept |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for n in sizes:
        command = [sys.executable, __file__, "--one", str(n)]
        one = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        found.append(one)
        print(
            f"| {n:,} | {one['walls']:,} | {one['indexing']:.1f} | {one['seconds']:.1f} "
            f"| {one['seconds'] / n * 1e6:.0f} | {one['elapsed']:.0f} | {one['peak']:.0f} "
            f"| {one['exact']:,} | {one['near']:,} | {one['decontaminate']:,} | {one['kept']:,} |",
            flush=True,
        )
    if picture:
        chart(found, picture)
    examples = list(rows(PEER_ROWS, []))
    ours(examples[:1000])
    (here, kept), (there, theirs) = ours(examples), peer(examples)
    print(
        f"near-duplicates of {PEER_ROWS:,} rows: ours {here:.2f} s ({kept:,} kept, exact), "
        f"datasketch {there:.2f} s ({theirs:,} kept, estimated), ratio {there / here:.1f}"
    )


if __name__ == "__main__":
    main()
