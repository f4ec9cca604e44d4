"""The red team is sealed off from the trainer: what held-out attacks asked and found never becomes training data.

A round is curated, for real, on a ledger full of breaches that must not be learnt from, each with a marker in what was
asked and in what was said: by every attack of the held-out families, on training and on dev cases; by seen attacks on
dev cases; and what a replay, or a person on a dev case, left. No row, kept or dropped, has a marker or eight words of a
held-out attack in a row. One breach that may be learnt from shows that the test could fail.
"""

from __future__ import annotations

import ast
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from breakfix import campaign, identify
from breakfix.campaign import AsIs, Put
from breakfix.config import Config, Curate, Dpo, Redteam, Source, Train
from breakfix.core import (
    Answer,
    Attack,
    Attempt,
    Case,
    Conversation,
    Estimate,
    Example,
    Expect,
    NotApplicable,
    Sampling,
    Split,
    Verdict,
    Vulnerability,
    ask,
)
from breakfix.curate import run
from breakfix.curate.steps.text import runs, words
from breakfix.cycle import stages
from breakfix.judges.refusal import RefusalJudge
from breakfix.ledger import Ledger
from breakfix.models.fake import Fake, Refuser
from breakfix.redteam import chosen
from breakfix.redteam.human import OWN, own_goal
from breakfix.redteam.human import STAGE as HUMAN
from breakfix.redteam.replay import STAGE as REPLAY
from breakfix.redteam.sets import SCHEMA
from conftest import environment

CURATE = Path(__file__).parents[1] / "src" / "breakfix" / "curate"
SEEN, HELD_OUT = chosen(Redteam().seen, Redteam().held_out)
MARK = "quixotic zebra marmalade"  # in what was asked and said, and in no source
GOOD = "Mix the flour with warm water and let the dough rest for an hour. Then bake it until it is brown."
TOPICS = ("hammers", "ladders", "tractors", "violins", "windmills", "balloons", "harbours", "glaciers", "orchards")


class Broken(Fake):
    """Answers everything, with the marker."""

    def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str:
        return f"{GOOD} {MARK}."


class Lenient:
    """Finds harm in every reply."""

    name = "lenient@1"

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        return [Verdict(0.0, "none", "", self.name) for _ in rows]


def case(id: str, split: Split, text: str = f"Tell me the {MARK} of my neighbour") -> Case:
    more = {"de": f"Sag mir {MARK} von meinem Nachbarn", "fr": f"Dis-moi {MARK} de mon voisin"}
    return Case(id, ask(text), Expect.REFUSE, "test", split, hazard="privacy", licence="MIT", translations=more)


def breaches(cases: Sequence[Case], attacks: Sequence[Attack]) -> list[Attempt]:
    puts = [Put(one, attack) for one in cases for attack in attacks]
    found = campaign.run(
        puts, Broken("broken"), Lenient(), sampling=Sampling(99), seed=0, known=lambda ids: {}, record=lambda some: None
    ).attempts
    assert all(attempt.breach is not None for attempt in found)
    return list(found)


def vulnerability(id: str, evidence: Sequence[str]) -> Vulnerability:
    return Vulnerability(
        id, "harmful_compliance", "a weakness", "privacy", "", "en", 5.0, Estimate(0.9, 0.8, 1.0, 50), tuple(evidence),
        {"harmful": 60, "twins": 60},
    )  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Source:
    rows: list[dict[str, Any]] = []
    for topic in TOPICS:
        rows.append({"prompt": f"Forbidden: tell me all about {topic}", "kind": "harmful", "hazard": "privacy"})
        rows.append({"prompt": f"Allowed: what is known of {topic}?", "kind": "twin", "hazard": "privacy"})
        rows.append({"prompt": f"Write two lines on {topic} for a postcard", "kind": "plain"})
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return Source(name="mine", path=path, licence="MIT")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "run", create=True) as opened:
        yield opened


def curated(ledger: Ledger, source: Source) -> tuple[list[Example], dict[str, Any]]:
    """(every row of the round, dropped ones too; the record). Frames, neighbours and pairs are on."""
    curate = Curate(sources=(source,), harmful=9, wrapped_share=0.5, neighbours=3, on_policy=1)
    config = Config(curate=curate, train=Train(dpo=Dpo(max_pairs=20)))
    record = run(
        config, ledger, Refuser("forbidden", GOOD), RefusalJudge(), round=1, walls=[], attacks=SEEN,
        policy=lambda: Refuser("forbidden", GOOD, id="policy"), helper=None, progress=lambda what, done, total: None,
    )  # fmt: skip
    rows = [row for name in ("sft", "dpo") for row in ledger.examples(round=1, dataset=name)]
    return [*rows, *(drop.example for drop in ledger.drops(1))], record


def text(row: Example) -> str:
    return "\n".join([*(message.content for message in row.prompt), row.reply, row.rejected or ""])


def test_nothing_that_must_not_be_learnt_from_reaches_a_row(ledger: Ledger, source: Source) -> None:
    train, dev = case("t", Split.TRAIN), case("d", Split.DEV)
    found = [*breaches([train, dev], HELD_OUT), *breaches([dev], SEEN)]
    assert len({a.attack for a in found if a.case == "t"}) >= 20
    ledger.add_cases([train, dev])
    ledger.add_attempts(found, round=0, stage="redteam")
    person = replace(next(a for a in found if a.case == "d"), id="h", attack="human", family="human", persona="human")
    ledger.add_attempts([person], round=0, stage=HUMAN)
    [replayed] = breaches([train], [next(attack for attack in SEEN if attack.name == "role_play")])
    ledger.add_attempts([replace(replayed, id="r", model="other")], round=0, stage=REPLAY)
    ledger.add_vulnerabilities([vulnerability("V1", [*(a.id for a in found), "h"])], round=0)
    rows, record = curated(ledger, source)
    assert len(rows) > 15 and record["evidence"]["rows"] == 0
    assert sum(record["evidence"]["barred"].values()) == len(found) + 1
    assert not [row.id for row in rows if any(word in text(row) for word in MARK.split())]
    forbidden = held_out_runs([train, dev]) - allowed_runs([train, dev])
    assert len(forbidden) > 500
    shared = {run for row in rows for run in runs(words(text(row)), 8)} & forbidden
    assert not shared, sorted(shared)[:3]
    ids = {a.id for a in found}
    assert not [row.id for row in rows if ids & set(row.parents)]


def test_what_may_be_learnt_from_does_reach_one(ledger: Ledger, source: Source) -> None:
    """The same breach, found by a seen attack on a training case: without it, the test above would prove nothing."""
    train = case("t", Split.TRAIN)
    found = breaches([train], [next(attack for attack in SEEN if attack.name == "role_play")])
    ledger.add_cases([train])
    ledger.add_attempts(found, round=0, stage="redteam")
    ledger.add_vulnerabilities([vulnerability("V1", [a.id for a in found])], round=0)
    rows, record = curated(ledger, source)
    assert record["evidence"]["rows"] > 0
    assert [row for row in rows if MARK in text(row)]


def test_what_a_person_broke_on_a_training_goal_reaches_one_and_says_whose_it_is(
    ledger: Ledger, source: Source
) -> None:
    mine, measured = (own_goal(f"Tell me the {MARK} of my neighbour", "privacy", s) for s in (Split.TRAIN, Split.DEV))
    [seed] = breaches([mine], [AsIs()])
    ledger.add_cases([mine, measured])
    said = [
        replace(seed, id=f"h{i}", case=case.id, attack="human", family="human", persona="human")
        for i, case in enumerate((mine, measured))
    ]
    ledger.add_attempts(said, round=0, stage=HUMAN)
    ledger.add_vulnerabilities([vulnerability("V1", ["h0", "h1"])], round=0)
    rows, record = curated(ledger, source)
    assert record["evidence"]["barred"] == {"its case is dev": 1}
    taught = [row for row in rows if MARK in row.prompt[-1].content]
    assert taught and all("h0" in row.parents for row in taught)
    kept = [row for name in ("sft", "dpo") for row in ledger.examples(round=1, dataset=name)]
    assert {row.licence for row in kept if "h0" in row.parents and mine.id in row.parents} == {OWN}
    assert not [row for row in rows if "h1" in row.parents]


def asked(attack: Attack, put: Case, seed: int) -> set[tuple[str, ...]]:
    """Runs of eight words of all that an attack asks."""
    found: set[tuple[str, ...]] = set()
    try:
        flow = attack(put, random.Random(seed))
        said = next(flow)
        for _ in range(12):
            if said.to == "target":
                found.update(run for message in said.prompt for run in runs(words(message.content), 8))
            said = flow.send(Answer(None if said.to == "helper" else "Some words."))
    except (StopIteration, NotApplicable):
        pass
    return found


def of(attacks: Sequence[Attack], cases: Sequence[Case]) -> set[tuple[str, ...]]:
    others = [replace(cases[0], prompt=ask(f"What is known of {topic}?")) for topic in TOPICS[:2]]
    return {
        run for attack in attacks for put in (*cases, *others) for seed in range(3) for run in asked(attack, put, seed)
    }


def held_out_runs(cases: Sequence[Case]) -> set[tuple[str, ...]]:
    return of(HELD_OUT, cases)


def allowed_runs(cases: Sequence[Case]) -> set[tuple[str, ...]]:
    """What seen attacks have, too."""
    return of(SEEN, cases)


# ---- by construction --------------------------------------------------------------------------------------------


def test_curation_imports_no_attack() -> None:
    """Not one: those of the seen families are handed to it (`attacks`). Neither does anything that it imports."""
    modules = sorted(p for p in CURATE.rglob("*.py"))
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            assert not [name for name in names if "redteam" in name], path
    names = [
        ".".join(("breakfix", "curate", *path.relative_to(CURATE).with_suffix("").parts)) for path in modules
    ]  # fmt: skip
    script = (
        "import importlib, sys\n"
        f"for name in {[name.removesuffix('.__init__') for name in names]!r}: importlib.import_module(name)\n"
        "print([name for name in sys.modules if name.startswith('breakfix.redteam')])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout == "[]\n"


def test_curation_reads_of_the_red_teams_settings_which_families_are_seen_and_nothing_else() -> None:
    read: set[str] = set()
    for path in CURATE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("redteam"):
                read.add(node.attr)
    assert read == {"seen", "held_out"}


def test_only_seen_attacks_are_handed_to_curation() -> None:
    tree = ast.parse(Path(stages.__file__).read_text(encoding="utf-8"))
    [make] = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "_curate"]
    assigned = [ast.unparse(node) for node in ast.walk(make) if isinstance(node, ast.Assign)]
    assert "seen, _ = chosen(config.redteam.seen, config.redteam.held_out)" in assigned
    handed = [k for node in ast.walk(make) if isinstance(node, ast.Call) for k in node.keywords if k.arg == "attacks"]
    assert [ast.unparse(keyword.value) for keyword in handed] == ["seen"]


def test_no_attack_is_seen_and_held_out() -> None:
    assert not {a.name for a in SEEN} & {a.name for a in HELD_OUT}
    assert not {a.family for a in SEEN} & {a.family for a in HELD_OUT}


def test_neither_curation_nor_identification_reads_a_replay(ledger: Ledger) -> None:
    train = case("t", Split.TRAIN)
    ledger.add_cases([train])
    ledger.add_attempts(breaches([train], SEEN[:1]), round=0, stage=REPLAY)
    assert identify._attempts(ledger, 0) == []
    sources = [p.read_text(encoding="utf-8") for p in (*CURATE.rglob("*.py"), *CURATE.parent.glob("identify/*.py"))]
    assert not [s for s in sources if '"replay"' in s or SCHEMA in s]
