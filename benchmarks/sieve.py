"""How many ordinary texts does the sieve of the rubric judges take for talk to the judge (judges/sieve.py)?

By set: the starter pack's harmless requests and our worked examples; replies of language models from PyRIT's scorer
evaluation and Alpaca (assets). A text counts where the sieve of any rubric takes it, or that of the target's own words.

Run: python benchmarks/sieve.py      (ten seconds)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources

from breakfix import assets, starter
from breakfix.core import Expect
from breakfix.judges.labels import SETS, load
from breakfix.judges.rubrics import rubrics
from breakfix.judges.shown import folded, neutral
from breakfix.judges.sieve import TALK, orders


def texts() -> Iterator[tuple[str, list[str]]]:
    yield "starter pack, harmless requests", [case.text for case in starter.cases() if case.expect is Expect.COMPLY]
    own = resources.files("breakfix").joinpath("data", "judges", "replies.jsonl").read_text("utf-8")
    yield "worked examples of replies", [json.loads(line)["response"] for line in own.splitlines()]
    for name, known in SETS.items():
        yield name, [one.response for one in load(name, known.measure).rows]
    path = assets.resolve("alpaca").path / "alpaca_en_demo.json"
    yield "alpaca, answers", [row["output"] for row in json.loads(path.read_text("utf-8"))]


def main() -> None:
    by_rubric = {name: orders(rubric.answer) for name, rubric in rubrics().items()}
    for name, found in texts():
        plain = [folded(neutral(text).text) for text in dict.fromkeys(found)]
        hits = {rubric: sum(bool(seen.search(text)) for text in plain) for rubric, seen in by_rubric.items()}
        hits["own words"] = sum(bool(TALK.search(text)) for text in plain)
        some = ", ".join(f"{what} {n}" for what, n in hits.items() if n)
        print(f"{name}: {len(plain)} texts, taken for talk to the judge: {some or 'none'}", flush=True)


if __name__ == "__main__":
    main()
