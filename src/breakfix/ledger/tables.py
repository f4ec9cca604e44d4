"""The tables, as they are at the newest migration (a test compares the two).

Rows are only ever added; the database itself refuses changes (migration 0002). `seq` numbers the rows of a table in
the order they were written. `body` is the whole record as JSON text; the columns beside it are copies to search by.
`run` says under which stage and inputs a row was written (stages.seq, 0 for none), so that rows of a run whose inputs
were changed since can be told from the current ones. `key` is a digest that makes writing the same row again harmless.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()


def _seq() -> Column[int]:
    return Column("seq", Integer, primary_key=True)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _hash(name: str = "key") -> Column[str]:
    return Column(name, String(64), nullable=False)


def _int(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def _at() -> Column[float]:
    return Column("at", Float, nullable=False)


# a stage with its inputs · each time it was asked for (made: its work was begun; else it was reused) · what it made
stages = Table(
    "stages",
    metadata,
    _seq(),
    _int("round"),
    _text("name"),
    _hash("digest"),
    UniqueConstraint("round", "name", "digest", name="uq_stages"),
)
stage_starts = Table(
    "stage_starts",
    metadata,
    _seq(),
    Column("stage", Integer, ForeignKey("stages.seq"), nullable=False),
    _at(),
    Column("made", Boolean, nullable=False),
)
stage_ends = Table(
    "stage_ends",
    metadata,
    Column("stage", Integer, ForeignKey("stages.seq"), primary_key=True, autoincrement=False),
    _at(),
    Column("seconds", Float, nullable=False),
    Column("peak_mb", Float, nullable=False),
    _text("body"),
)

# an id is there twice only where model or judge failed at first (failed) and did not when asked again
attempts = Table(
    "attempts",
    metadata,
    _seq(),
    _text("id"),
    Column("failed", Boolean, nullable=False),
    _text("case_id"),
    _text("body"),
    UniqueConstraint("id", "failed", name="uq_attempts"),
    Index("ix_attempts_case", "case_id"),
)
attempt_uses = Table(
    "attempt_uses",
    metadata,
    _seq(),
    _int("round"),
    _text("stage"),
    _int("run"),
    _text("attempt"),
    UniqueConstraint("round", "stage", "run", "attempt", name="uq_attempt_uses"),
)
verdicts = Table(
    "verdicts",
    metadata,
    _seq(),
    _text("attempt"),
    _text("body"),
    _hash(),
    UniqueConstraint("key", name="uq_verdicts"),
    Index("ix_verdicts_attempt", "attempt"),
)

cases = Table("cases", metadata, _seq(), _text("id"), _hash("digest"), _text("body"), Index("ix_cases_id", "id"))

# the rows of all data sets, once each · which data set has which, in order · what curation took out
examples = Table(
    "examples",
    metadata,
    _seq(),
    _text("id"),
    _hash("digest"),
    _text("body"),
    UniqueConstraint("digest", name="uq_examples"),
    Index("ix_examples_id", "id"),
)
example_uses = Table(
    "example_uses",
    metadata,
    _seq(),
    _int("round"),
    _text("dataset"),
    _int("run"),
    _hash("example"),
    _hash(),
    UniqueConstraint("key", name="uq_example_uses"),
    Index("ix_example_uses", "round", "dataset"),
    Index("ix_example_uses_example", "example"),
)
drops = Table(
    "drops",
    metadata,
    _seq(),
    _int("round"),
    _int("run"),
    _text("step"),
    _text("reason"),
    _hash("example"),
    _hash(),
    UniqueConstraint("key", name="uq_drops"),
    Index("ix_drops_round", "round"),
)

vulnerabilities = Table(
    "vulnerabilities",
    metadata,
    _seq(),
    _int("round"),
    _int("run"),
    _text("id"),
    _text("body"),
    _hash(),
    UniqueConstraint("key", name="uq_vulnerabilities"),
    Index("ix_vulnerabilities_id", "id"),
)

# lineage: `child` (an example or a vulnerability) came from `parent` (an attempt, a case, a vulnerability)
links = Table(
    "links",
    metadata,
    _seq(),
    _text("parent"),
    _text("child"),
    _text("kind"),
    UniqueConstraint("parent", "child", name="uq_links"),
)

events = Table(
    "events",
    metadata,
    _seq(),
    _int("round"),
    _text("stage"),
    _text("kind"),
    _int("run"),
    _at(),
    _text("body"),
    _hash(),
    UniqueConstraint("key", name="uq_events"),
    Index("ix_events", "round", "stage", "kind"),
)
looks = Table(
    "looks",
    metadata,
    _seq(),
    _text("suite"),
    _int("round"),
    _text("model"),
    _at(),
    UniqueConstraint("suite", "round", "model", name="uq_looks"),
)

# the hash chain over all rows above: see chain.py
chain = Table("chain", metadata, _seq(), _text("body"), _hash("digest"))
