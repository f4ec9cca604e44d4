"""The ledger, by small worked examples on real run folders."""

from __future__ import annotations

import json
import math
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakfix.core import (
    Attempt,
    Case,
    Dropped,
    Estimate,
    Example,
    Expect,
    Message,
    Paid,
    Reply,
    Round,
    Split,
    Status,
    Verdict,
    Vulnerability,
    ask,
)
from breakfix.errors import DiskFull, LedgerError, RunBusy
from breakfix.ledger import Ledger, decode, encode, schema, upgrade
from breakfix.ledger.tables import metadata
from nouns import ATTEMPT

[VERDICT] = ATTEMPT.verdicts
CASE = Case("c1", ask("hello"), Expect.REFUSE, "hand", Split.DEV, hazard="S1", translations={"fr": "bonjour"})
EXAMPLE = Example(ask("hello"), "good day", "hand", "mit", "a test", "plain", parents=("v1", "a1"))
VULNERABILITY = Vulnerability(
    "v1",
    "harmful_compliance",
    "S1 plain",
    "S1",
    "plain",
    "en",
    3.0,
    Estimate(0.5, 0.1, 0.9, 2),
    ("a1",),
    {"harmful": 2},
)


def numbered(n: int) -> list[Attempt]:
    return [replace(ATTEMPT, id=f"a{i}") for i in range(n)]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        yield ledger


# --- codec

FLOATS = st.floats(allow_nan=False)
TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates and NUL too: models emit what they like
MESSAGES = st.builds(Message, content=TEXT)
TALK = st.lists(MESSAGES, max_size=3).map(tuple)
VERDICTS = st.builds(Verdict, score=st.none() | FLOATS, severity=st.none() | FLOATS, reason=TEXT)
ESTIMATES = st.builds(Estimate, value=FLOATS, low=FLOATS, high=FLOATS)
EXAMPLES = st.builds(Example, prompt=TALK, reply=TEXT, rejected=st.none() | TEXT, parents=st.just(("a", "b")))
NOUNS: list[st.SearchStrategy[Any]] = [
    MESSAGES,
    st.builds(Case, prompt=TALK, translations=st.dictionaries(st.text(), TEXT)),
    EXAMPLES,
    VERDICTS,
    st.builds(Attempt, transcript=TALK, verdicts=st.lists(VERDICTS, max_size=2).map(tuple), seconds=FLOATS),
    ESTIMATES,
    st.builds(Vulnerability, severity=FLOATS, rate=ESTIMATES, prescription=st.dictionaries(TEXT, st.integers())),
    st.builds(Paid, reply=st.builds(Reply, text=TEXT), seconds=FLOATS),
    st.builds(Round, stages=st.dictionaries(TEXT, TEXT)),
    st.builds(Dropped, example=EXAMPLES),
]


@given(st.one_of(NOUNS))
def test_every_noun_comes_back_exactly(noun: Any) -> None:
    again = decode(type(noun), encode(noun))
    assert again == noun
    assert repr(again) == repr(noun)  # tuples are tuples, enums are enums, 1 is not 1.0


def test_any_mapping_is_stored_as_a_dict() -> None:
    case = replace(CASE, translations=MappingProxyType({"fr": "bonjour"}))
    assert decode(Case, encode(case)).translations == {"fr": "bonjour"}


def test_nan_is_kept() -> None:
    assert math.isnan(decode(Estimate, encode(Estimate(math.nan, 0.0, math.inf, 0))).value)


def test_missing_fields_take_defaults_and_unknown_ones_are_refused() -> None:
    assert decode(Message, '{"role":"user","content":"x"}') == Message("user", "x")
    with pytest.raises(ValueError, match="Message has no field 'tone'"):
        decode(Message, '{"role":"user","content":"x","tone":1}')
    with pytest.raises(TypeError, match="not JSON-able: set"):
        encode({"x": {1}})


# --- stages


def test_a_stage_is_made_once_per_inputs(ledger: Ledger) -> None:
    made: list[str] = []

    def make(name: str) -> dict[str, Any]:
        made.append(name)
        return {"name": name, "pair": (1, 2)}

    first = ledger.stage(1, "curate", {"n": 1}, lambda: make("one"))
    assert first == {"name": "one", "pair": [1, 2]}
    assert ledger.stage(1, "curate", {"n": 1}, lambda: make("again")) == first
    assert ledger.stage(1, "curate", {"n": 2}, lambda: make("two"))["name"] == "two"
    assert ledger.stage(2, "curate", {"n": 1}, lambda: make("three"))["name"] == "three"
    assert made == ["one", "two", "three"]
    assert ledger.finished(1, "curate") == {"name": "two", "pair": [1, 2]}
    assert ledger.stage(1, "curate", {"n": 1}, lambda: make("never")) == first
    assert ledger.finished(1, "curate") == first
    assert ledger.finished(1, "train") is None


def test_a_stage_that_raises_is_unfinished_and_made_again(tmp_path: Path) -> None:
    ticks = iter([10.0, 20.0, 23.5, 99.0])
    with Ledger.open(tmp_path, create=True, clock=lambda: next(ticks)) as ledger:
        with pytest.raises(ZeroDivisionError):
            ledger.stage(1, "train", {}, lambda: {"x": 1 // 0})
        [row] = ledger.stages()
        assert (row.finished, row.record, row.seconds, row.started, row.starts) == (False, None, None, 10.0, 1)
        ledger.stage(1, "train", {}, lambda: {"x": 1})
        [row] = ledger.stages()
    assert (row.finished, row.record, row.seconds, row.started, row.starts) == (True, {"x": 1}, 3.5, 20.0, 2)
    assert row.peak_mb is not None and row.peak_mb > 1


def test_rows_of_a_stage_that_is_made_again_are_there_once(ledger: Ledger) -> None:
    drop = Dropped(EXAMPLE, "dedup", "same as x1")

    def make(*, fail: bool) -> dict[str, Any]:
        ledger.add_attempts(numbered(2), round=1, stage="redteam")
        ledger.add_examples([EXAMPLE, EXAMPLE], round=1, dataset="sft")
        ledger.add_drops([drop, drop], round=1)
        ledger.add_drops([drop], round=1)
        ledger.add_event(1, "redteam", "note", {"text": "retry"})
        ledger.add_event(1, "redteam", "note", {"text": "retry"})
        ledger.add_vulnerabilities([VULNERABILITY], round=1)
        if fail:
            raise RuntimeError("stop")
        return {}

    with pytest.raises(RuntimeError):
        ledger.stage(1, "all", {}, lambda: make(fail=True))
    ledger.stage(1, "all", {}, lambda: make(fail=False))
    assert len(list(ledger.attempts(round=1))) == 2
    assert list(ledger.examples(round=1, dataset="sft")) == [EXAMPLE, EXAMPLE]
    assert ledger.drop_counts(1) == {("dedup", "same as x1"): 3}
    assert len(list(ledger.events())) == 2
    assert ledger.vulnerabilities() == [VULNERABILITY]


def test_changed_inputs_supersede_and_old_ones_bring_back(ledger: Ledger) -> None:
    def redteam(ids: list[str]) -> list[str]:
        def make() -> dict[str, Any]:
            ledger.add_attempts([replace(ATTEMPT, id=id) for id in ids], round=1, stage="redteam")
            return {}

        ledger.stage(1, "redteam", {"ids": ids}, make)
        return [a.id for a in ledger.attempts(round=1, stage="redteam")]

    ledger.add_attempts([replace(ATTEMPT, id="by hand")], round=1, stage="redteam")
    assert redteam(["a", "b"]) == ["by hand", "a", "b"]
    assert redteam(["b", "c"]) == ["by hand", "b", "c"]
    assert redteam(["a", "b"]) == ["by hand", "a", "b"]
    assert [a.id for a in ledger.attempts()] == ["by hand", "a", "b", "c"]


# --- rows


def test_attempts(ledger: Ledger) -> None:
    ledger.add_attempt(ATTEMPT, round=1, stage="evaluate")
    ledger.add_attempt(replace(ATTEMPT, seconds=9.0), round=1, stage="evaluate")
    ledger.add_attempts([ATTEMPT, replace(ATTEMPT, id="a2")], round=2, stage="redteam")
    assert ledger.attempt("a1") == ATTEMPT
    assert ledger.attempt("no") is None
    assert [a.id for a in ledger.attempts(round=2)] == ["a1", "a2"]
    assert [a.id for a in ledger.attempts(stage="evaluate")] == ["a1"]
    assert list(ledger.attempts(round=3)) == []
    assert list(ledger.known(["zzz", "a2", "a1", "a2"])) == ["a2", "a1"]


def test_more_than_a_page(ledger: Ledger) -> None:
    rows = numbered(1203)
    ledger.add_attempts(rows, round=1, stage="s")
    assert list(ledger.attempts(round=1)) == rows == list(ledger.attempts())
    assert list(ledger.known([a.id for a in rows]).values()) == rows


def test_an_attempt_whose_model_failed_may_be_made_again(ledger: Ledger) -> None:
    failed = replace(ATTEMPT, verdicts=(), error="timeout")
    ledger.add_attempt(failed, round=1, stage="s")
    assert ledger.attempt("a1") == failed
    for attempt in (ATTEMPT, failed):
        ledger.add_attempt(attempt, round=1, stage="s")
        assert ledger.attempt("a1") == ATTEMPT
        assert list(ledger.attempts()) == [ATTEMPT] == list(ledger.attempts(round=1))


def test_replies_of_attempts_under_way_are_kept_whichever_stage_asked(ledger: Ledger) -> None:
    paid = [Paid(f"a{i}", i, "p", Reply("hi \ud800", 3, 1, "length"), 0.5) for i in range(3)]

    def make() -> dict[str, Any]:
        ledger.add_paid(paid[:2], round=1, stage="redteam")
        return {}

    ledger.stage(1, "redteam", {"cases": 1}, make)
    ledger.stage(1, "redteam", {"cases": 2}, dict)
    ledger.add_paid(paid[2:], round=2, stage="redteam")
    assert ledger.paid(["a0", "a2", "no"]) == [paid[0], paid[2]]


def test_judging_again_adds(ledger: Ledger) -> None:
    ledger.add_attempt(ATTEMPT, round=1, stage="s")
    second = replace(VERDICT, judge="rubric@2", score=None)
    ledger.add_verdict("a1", second)
    ledger.add_verdict("a1", VERDICT)
    assert ledger.verdicts("a1") == [second, VERDICT]
    assert ledger.attempt("a1") == ATTEMPT
    with pytest.raises(LedgerError, match="nobody: no such attempt"):
        ledger.add_verdict("nobody", VERDICT)


def test_cases_keep_their_versions_and_the_last_is_read(ledger: Ledger) -> None:
    changed = replace(CASE, hazard="S2")
    for cases in ([CASE], [CASE], [changed], [changed, CASE]):
        ledger.add_cases(cases)
        assert ledger.case("c1") == cases[-1]
    assert ledger.case("c2") is None
    with ledger.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM cases").scalar() == 3


def test_examples_keep_their_order_and_their_own_parents(ledger: Ledger) -> None:
    other = replace(EXAMPLE, reply="good evening")
    same_text = replace(EXAMPLE, parents=("a9",))
    ledger.add_examples([EXAMPLE, other], round=1, dataset="sft")
    ledger.add_examples([other, same_text], round=2, dataset="sft")
    assert list(ledger.examples(round=1, dataset="sft")) == [EXAMPLE, other]
    assert list(ledger.examples(round=2, dataset="sft")) == [other, same_text]
    assert list(ledger.examples(round=2, dataset="dpo")) == []
    assert ledger.example(EXAMPLE.id) == same_text
    assert ledger.example("x") is None


def test_drops(ledger: Ledger) -> None:
    drops = [Dropped(EXAMPLE, "dedup", "exact"), Dropped(replace(EXAMPLE, reply="x"), "quality", "short")]
    ledger.add_drops(drops, round=1)
    assert list(ledger.drops(1)) == drops
    assert ledger.drop_counts(1) == {("dedup", "exact"): 1, ("quality", "short"): 1}
    assert ledger.drop_counts(2) == {}


def test_vulnerabilities_by_round_and_the_last_word(ledger: Ledger) -> None:
    fixed = replace(VULNERABILITY, status=Status.FIXED)
    new = replace(VULNERABILITY, id="v2")
    ledger.add_vulnerabilities([VULNERABILITY], round=1)
    ledger.add_vulnerabilities([VULNERABILITY, new], round=2)
    ledger.add_vulnerabilities([fixed], round=2)
    assert ledger.vulnerabilities(1) == [VULNERABILITY]
    assert ledger.vulnerabilities(2) == [fixed, new] == ledger.vulnerabilities()


def test_events_and_looks(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, create=True, clock=lambda: 5.0) as ledger:
        ledger.add_event(1, "train", "loss", {"step": 1, "loss": 2.5})
        ledger.add_event(1, "evaluate", "skipped", {"suite": "mmlu"})
        [event] = ledger.events(stage="train")
        assert (event.round, event.kind, event.payload, event.at) == (1, "loss", {"step": 1, "loss": 2.5}, 5.0)
        assert len(list(ledger.events(1))) == 2 and list(ledger.events(kind="note")) == []
        for model in ("m1", "m1", "m2"):
            ledger.add_look("xstest", round=1, model=model)
        assert ledger.looks() == {"xstest": 2}


def test_the_same_suite_under_other_inputs_is_another_look(tmp_path: Path) -> None:
    def stage(ledger: Ledger, inputs: int, *, fails: bool = False) -> None:
        def make() -> dict[str, Any]:
            ledger.add_look("xstest", round=0, model="m")
            if fails:
                raise KeyboardInterrupt
            return {}

        ledger.stage(0, "evaluate", {"x": inputs}, make)

    with Ledger.open(tmp_path, create=True) as ledger:
        with pytest.raises(KeyboardInterrupt):
            stage(ledger, 1, fails=True)
        stage(ledger, 1)
        assert ledger.looks() == {"xstest": 1}  # resumed
        stage(ledger, 2)
        assert ledger.looks() == {"xstest": 2}
        stage(ledger, 1)
        assert ledger.looks() == {"xstest": 2}  # made before: nothing was measured
    with Ledger.open(tmp_path) as ledger:
        with ledger.writing() as connection:  # as an older version wrote it
            ledger.add(connection, metadata.tables["looks"], [{"suite": "mmlu", "round": 0, "model": "m", "at": 1.0}])
        assert ledger.looks() == {"mmlu": 1, "xstest": 2}


def test_the_database_refuses_changes(ledger: Ledger) -> None:
    ledger.add_attempt(ATTEMPT, round=1, stage="s")
    tables = metadata.sorted_tables
    with sqlite3.connect(ledger.folder / "ledger.db") as connection:
        for verb in ("DELETE FROM attempts", "UPDATE attempts SET body = ''"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(verb)
        triggers = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchone()
    connection.close()
    assert triggers == (2 * len(tables),)


# --- lineage


def test_trace(ledger: Ledger) -> None:
    ledger.add_cases([CASE])
    ledger.add_attempts([ATTEMPT], round=0, stage="redteam")
    ledger.add_vulnerabilities([VULNERABILITY], round=0)
    ledger.add_examples([EXAMPLE], round=1, dataset="sft")
    ledger.stage(1, "train", {}, lambda: {"weights": "w"})
    ledger.stage(1, "evaluate", {}, dict)
    tree = ledger.trace(EXAMPLE.id)
    assert json.loads(json.dumps(tree)) == tree
    assert shape(tree, "parents") == (EXAMPLE.id, [("v1", [("a1", [("c1", []), ("tiny@0", [])])]), ("a1", [])])
    assert tree["parents"][1]["repeated"] is True
    assert shape(tree, "children") == (EXAMPLE.id, [("round 1 train", [("round 1 evaluate", [])])])
    train = tree["children"][0]
    assert (train["kind"], train["summary"]["finished"]) == ("stage", True)
    case = ledger.trace("c1")
    assert case["kind"] == "case" and case["summary"]["hazard"] == "S1"
    assert shape(case, "children")[1][0][0] == "a1"
    assert ledger.trace("v1")["summary"]["evidence"] == 1
    text = json.dumps([tree, case])
    assert "hello" not in text and "good day" not in text and "refused" not in text
    with pytest.raises(LedgerError, match="nope: no example"):
        ledger.trace("nope")


def test_a_trace_says_how_an_attempt_ended(ledger: Ledger) -> None:
    held, open_ = Verdict(1.0, "full", "", "j@1"), Verdict(None, "unscored", "", "j@1")
    broke = Verdict(0.0, "none", "", "j@1")
    attempts = {
        "broke in turn 2": replace(ATTEMPT, id="b", verdicts=(held, broke), breach=1),
        "held": replace(ATTEMPT, id="h", verdicts=(held,), breach=None),
        "not scored": replace(ATTEMPT, id="u", verdicts=(held, open_), breach=None),
    }
    failed = replace(ATTEMPT, id="f", verdicts=(), breach=None, error="no room")
    ledger.add_attempts([*attempts.values(), failed], round=0, stage="redteam")
    assert [ledger.trace(a.id)["summary"]["result"] for a in attempts.values()] == list(attempts)
    assert ledger.trace("f")["summary"]["result"] == "not scored"


def test_an_id_that_is_nearly_right_or_begins_right_is_told_the_nearest(ledger: Ledger) -> None:
    ledger.add_attempts([replace(ATTEMPT, id="a0123456789abcdef")], round=0, stage="redteam")
    ledger.add_vulnerabilities([replace(VULNERABILITY, id="V9")], round=0)
    ledger.stage(1, "evaluate", {}, dict)
    for wrong, near in {
        "a0123": "a0123456789abcdef", "a0123456789abcdee": "a0123456789abcdef", "V999": "V9", "v9": "V9",
        "round 1 evalute": "round 1 evaluate",
    }.items():  # fmt: skip
        with pytest.raises(LedgerError, match=f"did you mean {near}\\?$"):
            ledger.trace(wrong)
    for none in ("a", "something else", "f0f0f0f0f0f0f0f0f", "100%", ""):
        with pytest.raises(LedgerError, match="`breakfix report` names"):
            ledger.trace(none)


def test_trace_of_what_a_round_has_as_a_whole(ledger: Ledger) -> None:
    """From a checkpoint, a gate decision and a data set, both ways."""

    def gate(decision: str) -> dict[str, Any]:
        reasons = [{"name": "v1 is open", "ok": decision == "PASS"}]
        return {"vulnerabilities": ["v1"], "gate": {"decision": decision, "reasons": reasons}}

    for round, model in enumerate(("tiny@0", "tiny@1")):
        if round:
            ledger.stage(1, "curate", {}, lambda: ledger.add_examples([EXAMPLE], round=1, dataset="sft") or {})
            ledger.stage(1, "train", {}, lambda: {"started_from": "tiny@0"})
        mine = replace(ATTEMPT, id=f"a{round + 1}", model=model)
        ledger.stage(
            round, "evaluate", {}, lambda a=mine, r=round: ledger.add_attempt(a, round=r, stage="evaluate") or {}
        )
        ledger.add_vulnerabilities([VULNERABILITY], round=round)
        ledger.stage(round, "identify", {}, lambda r=round: gate("PASS" if r else "FAIL"))

    def found(node: dict[str, Any], direction: str) -> set[str]:
        return {child["id"] for child in node[direction]}.union(*(found(child, direction) for child in node[direction]))

    checkpoint = ledger.trace("tiny@1")
    assert checkpoint["kind"] == "model" and checkpoint["summary"] == {"rounds": "1"}
    up = {"round 1 train", "round 1 sft", "v1", "a1", "tiny@0", "round 1 curate", "round 0 gate", "round 0 evaluate"}
    assert up <= found(checkpoint, "parents")
    assert found(checkpoint, "children") == {"round 1 evaluate", "round 1 gate"}
    decision = ledger.trace("round 0 gate")
    assert decision["summary"] == {"decision": "FAIL", "conditions": 1, "failed": 1}
    assert found(decision, "parents") >= {"v1", "a1", "tiny@0"}
    assert found(decision, "children") >= {"round 1 curate", "round 1 sft", "round 1 train", "tiny@1", "round 1 gate"}
    assert ledger.trace("round 1 sft")["summary"] == {"rows": 1}
    assert {"round 0 gate", "round 1 gate", EXAMPLE.id, "tiny@1"} <= found(ledger.trace("v1"), "children")
    assert "tiny@1" in found(ledger.trace(EXAMPLE.id), "children")
    for none in ("round 7 gate", "round 1 nothing", "round x gate"):
        with pytest.raises(LedgerError, match=f"{none}: no example"):
            ledger.trace(none)


def shape(node: dict[str, Any], direction: str) -> tuple[str, list[Any]]:
    return node["id"], [shape(child, direction) for child in node[direction]]


# --- blobs


def test_blobs(ledger: Ledger, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"abc")
    name = ledger.put_blob(source)
    assert name == ledger.put_blob(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert ledger.blob_path(name) == ledger.folder / "blobs" / "ba" / name
    assert ledger.blob_path(name).read_bytes() == b"abc"
    assert list((ledger.folder / "blobs" / "tmp").iterdir()) == []
    with pytest.raises(LedgerError, match="missing"):
        ledger.blob_path("0" * 64)
    with pytest.raises(LedgerError, match="not the digest"):
        ledger.blob_path("../../etc/passwd")


def test_the_next_writer_sweeps_half_written_blobs(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, create=True) as ledger:
        ledger.put_blob(b"abc")
    half = tmp_path / "blobs" / "tmp" / "half"
    half.write_bytes(b"x")
    with Ledger.open(tmp_path, write=False):
        assert half.exists()
    with Ledger.open(tmp_path):
        assert not half.exists()


# --- opening


def test_opening_what_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="not a run's folder"):
        Ledger.open(tmp_path / "no")
    (tmp_path / "file").write_text("x")
    with pytest.raises(LedgerError, match="can't be made"):
        Ledger.open(tmp_path / "file", create=True)
    (tmp_path / "ledger.db").write_text("this is no database, but a text of some length " * 10)
    for write in (True, False):
        with pytest.raises(LedgerError, match="damaged or not a ledger"):
            Ledger.open(tmp_path, write=write)
    (tmp_path / "ledger.db").write_text("")
    with pytest.raises(LedgerError, match="is empty"):
        Ledger.open(tmp_path)
    with Ledger.open(tmp_path, create=True) as ledger:
        assert ledger.stages() == []


def test_a_second_writer_is_told_who_writes_and_a_reader_is_let_in(ledger: Ledger) -> None:
    with pytest.raises(RunBusy, match=r"in use by process \d+; wait"):
        Ledger.open(ledger.folder)
    with Ledger.open(ledger.folder, write=False) as reader:
        ledger.add_attempt(ATTEMPT, round=1, stage="s")
        assert list(reader.attempts(round=1)) == [ATTEMPT]
        for write in (lambda: reader.add_look("x", round=1, model="m"), lambda: reader.put_blob(b"x")):
            with pytest.raises(LedgerError, match="opened for reading only"):
                write()


def test_a_reader_stays_readable_while_it_is_iterated_and_written_to(ledger: Ledger) -> None:
    ledger.add_attempts(numbered(3), round=1, stage="s")
    for attempt in ledger.attempts(round=1):
        ledger.add_verdict(attempt.id, VERDICT)
    assert [len(ledger.verdicts(f"a{i}")) for i in range(3)] == [1, 1, 1]


def test_an_odd_folder_name(tmp_path: Path) -> None:
    odd = tmp_path / "100% of #1? é run"
    with Ledger.open(odd, create=True) as ledger:
        ledger.add_attempt(ATTEMPT, round=1, stage="s")
    with Ledger.open(odd, write=False) as ledger:
        assert ledger.attempt("a1") == ATTEMPT


# --- versions


def at_version(run: Path, version: str) -> None:
    from breakfix.ledger.database import opened

    with opened(run, None, write=True, create=True) as engine, engine.begin() as connection:
        schema.migrate(connection, version)


def test_an_older_ledger_is_upgraded_only_when_asked(tmp_path: Path) -> None:
    at_version(tmp_path, "0001")
    for write in (True, False):
        with pytest.raises(LedgerError, match=r"version 0001, .* breakfix ledger upgrade"):
            Ledger.open(tmp_path, write=write, create=write)
    assert upgrade(tmp_path) == ("0001", schema.HEAD)
    assert upgrade(tmp_path) == (schema.HEAD, schema.HEAD)
    Ledger.open(tmp_path).close()


def test_a_newer_ledger_is_left_alone(tmp_path: Path) -> None:
    Ledger.open(tmp_path, create=True).close()
    connection = sqlite3.connect(tmp_path / "ledger.db")
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    connection.close()
    for act in (Ledger.open, upgrade):
        with pytest.raises(LedgerError, match=f"version 0999, newer than the {schema.HEAD}"):
            act(tmp_path)


def test_tables_and_versions_are_those_of_the_migrations(ledger: Ledger) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    from breakfix.ledger import tables

    with ledger.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(found)) == schema.VERSIONS


# --- no room


def test_a_full_database_loses_nothing(ledger: Ledger) -> None:
    with ledger.reading() as connection:  # the pool has this one connection
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 20}")
    stored = 0
    with pytest.raises(DiskFull, match=r"no room left .* nothing was corrupted"):
        for stored in range(0, 10_000, 8):
            ledger.add_attempts(numbered(stored + 8)[stored:], round=1, stage="s")
    assert stored > 0
    assert list(ledger.attempts(round=1)) == numbered(stored)
    with ledger.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        connection.exec_driver_sql("PRAGMA max_page_count=100000")
    ledger.add_attempts(numbered(stored + 8)[stored:], round=1, stage="s")
    assert list(ledger.attempts(round=1)) == numbered(stored + 8)


LIMITED = """
import sys
from pathlib import Path
from breakfix.errors import DiskFull
from breakfix.ledger import Ledger
with Ledger.open(Path(sys.argv[1])) as ledger:
    ledger.put_blob(b"small")
    big = lambda: ledger.put_blob(bytes(1 << 20))
    many = lambda: [ledger.add_event(1, "s", "n", {"x": "y" * 9000, "i": i}) for i in range(999)]
    for act in (big, many):
        try:
            act()
        except DiskFull as error:
            print(error)
"""


def test_a_file_size_limit_is_no_room_for_blobs_and_rows(tmp_path: Path) -> None:
    Ledger.open(tmp_path, create=True).close()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], preexec_fn=limit, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("no room left") == 2
    assert [p.read_bytes() for p in (tmp_path / "blobs").rglob("*") if p.is_file()] == [b"small"]
    with Ledger.open(tmp_path) as ledger:
        numbers = [event.payload["i"] for event in ledger.events()]
        assert numbers == list(range(len(numbers))) and len(numbers) > 1
        ledger.add_event(1, "s", "n", {})


# --- Postgres


def test_the_tables_can_be_made_in_postgres() -> None:
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateTable

    from breakfix.ledger import dialect, tables

    for table in tables.metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))
        new = str(dialect.insert_new("postgresql", table).compile(dialect=postgresql.dialect()))
        assert new.endswith("ON CONFLICT DO NOTHING")
        assert len(dialect.append_only("postgresql", table.name)) == 2
    with pytest.raises(LedgerError, match="oracle: the ledger can't be kept"):
        dialect.append_only("oracle", "cases")


@pytest.mark.parametrize("url", ["no url", "oracle9://me:secret@host/x"])
def test_a_database_url_that_is_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(LedgerError, match="URL can't be used") as caught:
        Ledger.open(tmp_path, create=True, url=url)
    assert "secret" not in str(caught.value)
    Ledger.open(tmp_path, create=True).close()  # the lock is free
