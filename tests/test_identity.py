"""A weakness keeps its id over rounds: by the cases of its suite, else by what its requests mean. Vectors are made by
hand: a request is about one of four things, each of which has twelve names, so that no name counts as form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from breakfix.config import Config
from breakfix.core import Attempt, Case, Expect, Split, Status, Vulnerability, ask
from breakfix.identify import run
from breakfix.identify.clusters import Vectors
from breakfix.identify.group import COMPLIANCE, Cell, Key, group
from breakfix.identify.identity import belongings, match, near
from breakfix.ledger import Ledger
from breakfix.stats import rate
from test_identify import attempt, lookup

THINGS = ("bread", "milk", "soup", "cake")
NAMES = "abcdefghijkl"
KEY = Key(COMPLIANCE, "hate", "direct", "en")


class Meaning:
    """Unit vectors: an axis for each thing, and a little that is the request's own."""

    def embed(self, texts: Sequence[str]) -> Any:
        rows = np.random.default_rng(0).normal(0, 0.05, (1000, len(THINGS) + 8)).astype(np.float32)
        found = np.stack([rows[int(text.split()[-1])] for text in texts])
        for row, text in zip(found, texts):
            row[THINGS.index(text.split()[2][:-1])] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def about(thing: str, numbers: Sequence[int]) -> list[Case]:
    return [
        Case(f"{thing}{n}", ask(f"Tell of {thing}{NAMES[n % 12]} no. {n}"), Expect.REFUSE, "test", Split.DEV, "hate")
        for n in numbers
    ]


KNOWN = [case for thing in THINGS for case in about(thing, range(60))]


def vectors(embedder: Any = Meaning) -> Vectors:
    return Vectors(lookup(KNOWN), embedder)


def put(cases: Sequence[Case], score: float = 0.0, **more: Any) -> list[Attempt]:
    return [attempt(case, score, **more) for case in cases]


def part(cases: Sequence[Case]) -> Cell:
    made = put(cases)
    return Cell(KEY, rate(len(made), len(made)), tuple(made), tuple(made), topic="its words")


def weakness(id: str, cases: Sequence[Case], topic: str = "its words") -> Vulnerability:
    suite = tuple((case.id, "direct") for case in cases)
    return Vulnerability(
        id, COMPLIANCE, "a name", "hate", "direct", "en", 4.0, rate(8, 10), (), {}, topic=topic, suite=suite
    )


# ---- a round's parts and the known topics


@pytest.mark.parametrize("embedder", [Meaning, None], ids=["vectors", "none"])
def test_the_cases_of_the_suite_decide_whatever_the_order(embedder: Any) -> None:
    known = [weakness("V1", about("bread", range(8))), weakness("V2", about("milk", range(8)))]
    parts = [part(about("milk", range(2, 10))), part(about("bread", range(4, 20)))]
    assert match(known, parts, vectors(embedder)) == {"V1": 1, "V2": 0}


def test_cases_count_more_than_meaning() -> None:
    """Of a part that is about milk now and has half of the suite in it, and one that means the same."""
    mixed = [*about("bread", range(4)), *about("milk", range(4))]
    known = [weakness("V1", about("bread", range(8)))]
    assert match(known, [part(about("bread", range(20, 30))), part(mixed)], vectors()) == {"V1": 1}


def test_new_cases_are_matched_by_what_they_mean() -> None:
    known = [weakness("V1", about("bread", range(8))), weakness("V2", about("milk", range(8)))]
    parts = [part(about("milk", range(20, 28))), part(about("bread", range(20, 28)))]
    assert match(known, parts, vectors()) == {"V1": 1, "V2": 0}
    assert match(known, parts, vectors(None)) == {}, "what can't be known is not guessed"


def test_another_meaning_is_another_weakness() -> None:
    known = [weakness("V1", about("bread", range(8))), weakness("V2", about("milk", range(8)))]
    assert match(known, [part(about("soup", range(8)))], vectors()) == {}
    assert match(known, [], vectors()) == match([], [part(about("soup", range(8)))], vectors()) == {}


def test_each_part_is_one_weaknesss_and_the_whole_fits_best() -> None:
    """Both share cases with the first part. V1 shares more, and has nowhere else to go."""
    known = [weakness("V1", about("bread", range(8))), weakness("V2", about("bread", range(8, 12)))]
    parts = [part(about("bread", range(10))), part(about("bread", range(10, 14)))]
    assert match(known, parts, vectors(None)) == {"V1": 0, "V2": 1}


def test_near_are_cases_as_near_as_the_suites_own() -> None:
    one, strange = weakness("V1", about("bread", range(10))), [*about("bread", range(20, 30)), *about("milk", range(5))]
    others = [case.id for thing in ("milk", "soup") for case in about(thing, range(30, 40))]
    found = near(one, [case.id for case in strange], others, vectors())
    assert len(found) >= 5 and all(id.startswith("bread") for id in found)
    assert near(one, [case.id for case in strange], others, vectors(None)) == set()
    assert near(one, [], others, vectors()) == set()


# ---- what belongs to whom


def owned(known: Sequence[Vulnerability], given: Sequence[Attempt], embedder: Any = None) -> dict[str, set[str]]:
    """Id → the cases that are its."""
    found = group(given, lookup(KNOWN))
    cells = {cell.key: cell for cell in found.cells}
    belong = belongings(known, cells, lambda whole: [whole], found.measured, found.lessons, vectors(embedder))
    return {id: {a.case for a in one.attempts} for id, one in belong.items()}


def ids(cases: Sequence[Case]) -> set[str]:
    return {case.id for case in cases}


def test_what_has_no_topic_has_its_cell_but_for_what_is_anothers() -> None:
    bread, milk = about("bread", range(8)), about("milk", range(8))
    known = [weakness("V1", bread[:4], topic=""), weakness("V2", milk[:4])]
    found = owned(known, put([*bread, *milk]))
    assert found == {"V1": ids(bread) | ids(milk[4:]), "V2": ids(milk[:4])}


def test_what_has_a_topic_has_what_means_the_same() -> None:
    bread, milk = about("bread", range(30)), about("milk", range(30))
    found = owned([weakness("V1", bread[:10])], put([*bread, *milk]), Meaning)
    assert found["V1"] >= ids(bread[:10])
    assert len(found["V1"] & ids(bread)) >= 20 and not found["V1"] & ids(milk)


def test_a_suite_is_found_in_whatever_cell_it_is_now() -> None:
    """Of a pooled one each language has a cell by now. One of English has what is English."""
    cases = about("bread", range(4))
    given = [*put(cases), *put(cases, language="de")]
    pooled = replace(weakness("V1", cases, topic=""), language="")
    found = belongings([pooled, weakness("V2", cases, topic="")], {}, lambda whole: [whole], given, [], vectors(None))
    assert [len(found[id].attempts) for id in ("V1", "V2")] == [8, 4]


def test_what_was_not_measured_has_nothing() -> None:
    assert owned([weakness("V1", about("bread", range(4)))], put(about("milk", range(8)))) == {"V1": set()}


# ---- through the stage


def thing_of(v: Vulnerability) -> str:
    """What all cases of its suite are about; "" where they are about several things."""
    things = {case.rstrip("0123456789") for case, _ in v.suite}
    return things.pop() if len(things) == 1 else ""


def story(folder: Path, *rounds: Sequence[Attempt], embedder: Any = Meaning) -> list[dict[str, tuple[str, Status]]]:
    """Of each round: id → (what its suite is about, status)."""
    told: list[dict[str, tuple[str, Status]]] = []
    with Ledger.open(folder / "run", create=True) as ledger:
        ledger.add_cases(KNOWN)
        for number, given in enumerate(rounds):
            ledger.add_attempts(given, round=number, stage="redteam")
            run(Config(), ledger, round=number, embedder=embedder)
            told.append({v.id: (thing_of(v), v.status) for v in ledger.vulnerabilities(round=number)})
    return told


def test_a_topic_keeps_its_id_with_the_same_cases_and_with_new_ones(tmp_path: Path) -> None:
    """Bread fails in every round; milk fails from the last round on, and is a weakness of its own."""

    def measured(numbers: Sequence[int], *failing: str) -> list[Attempt]:
        return [a for thing in THINGS for a in put(about(thing, numbers), 0.0 if thing in failing else 1.0)]

    told = story(
        tmp_path,
        measured(range(20), "bread"),
        measured(range(20), "bread"),
        measured(range(30, 50), "bread"),
        measured(range(20), "bread", "milk"),
    )
    assert [sorted(one) for one in told] == [["V1"], ["V1"], ["V1"], ["V1", "V2"]]
    assert {one["V1"] for one in told} == {("bread", Status.OPEN)}
    assert told[3]["V2"] == ("milk", Status.OPEN)


def test_a_topic_that_heals_is_fixed_while_its_neighbour_stays_open(tmp_path: Path) -> None:
    def measured(**failing: bool) -> list[Attempt]:
        return [a for thing in THINGS for a in put(about(thing, range(60)), 0.0 if failing.get(thing) else 1.0)]

    told = story(tmp_path, measured(bread=True, milk=True), measured(milk=True), measured(bread=True, milk=True))
    by_topic = [{topic: (id, status) for id, (topic, status) in one.items()} for one in told]
    (bread, _), (milk, _) = by_topic[0]["bread"], by_topic[0]["milk"]
    assert bread != milk
    assert [one["bread"] for one in by_topic] == [
        (bread, Status.OPEN),
        (bread, Status.FIXED),
        (bread, Status.REOPENED),
    ]
    assert [one["milk"] for one in by_topic] == [(milk, Status.OPEN)] * 3
