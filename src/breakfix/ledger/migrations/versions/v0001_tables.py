"""0001: the tables. What they mean is said in ledger/tables.py."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _seq() -> sa.Column[int]:
    return sa.Column("seq", sa.Integer, primary_key=True)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _hash(name: str = "key") -> sa.Column[str]:
    return sa.Column(name, sa.String(64), nullable=False)


def _int(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False)


def _float(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Float, nullable=False)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False)


def _stage(**options: Any) -> sa.Column[int]:
    return sa.Column("stage", sa.Integer, sa.ForeignKey("stages.seq"), nullable=False, **options)


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=f"uq_{table}")


def upgrade() -> None:
    _stages()
    _attempts()
    _data()
    _notes()


def _stages() -> None:
    key = ("round", "name", "digest")
    op.create_table("stages", _seq(), _int("round"), _text("name"), _hash("digest"), _unique("stages", *key))
    op.create_table("stage_starts", _seq(), _stage(), _float("at"), _flag("made"))
    done = _stage(primary_key=True, autoincrement=False)
    op.create_table("stage_ends", done, _float("at"), _float("seconds"), _float("peak_mb"), _text("body"))


def _attempts() -> None:
    key = _unique("attempts", "id", "failed")
    op.create_table("attempts", _seq(), _text("id"), _flag("failed"), _text("case_id"), _text("body"), key)
    op.create_index("ix_attempts_case", "attempts", ["case_id"])
    key = _unique("attempt_uses", "round", "stage", "run", "attempt")
    op.create_table("attempt_uses", _seq(), _int("round"), _text("stage"), _int("run"), _text("attempt"), key)
    op.create_table("verdicts", _seq(), _text("attempt"), _text("body"), _hash(), _unique("verdicts", "key"))
    op.create_index("ix_verdicts_attempt", "verdicts", ["attempt"])


def _data() -> None:
    op.create_table("cases", _seq(), _text("id"), _hash("digest"), _text("body"))
    op.create_index("ix_cases_id", "cases", ["id"])
    op.create_table("examples", _seq(), _text("id"), _hash("digest"), _text("body"), _unique("examples", "digest"))
    op.create_index("ix_examples_id", "examples", ["id"])
    where = (_int("round"), _text("dataset"), _int("run"))
    op.create_table("example_uses", _seq(), *where, _hash("example"), _hash(), _unique("example_uses", "key"))
    op.create_index("ix_example_uses", "example_uses", ["round", "dataset"])
    op.create_index("ix_example_uses_example", "example_uses", ["example"])
    what = (_text("step"), _text("reason"), _hash("example"))
    op.create_table("drops", _seq(), _int("round"), _int("run"), *what, _hash(), _unique("drops", "key"))
    op.create_index("ix_drops_round", "drops", ["round"])


def _notes() -> None:
    what = (_text("id"), _text("body"), _hash(), _unique("vulnerabilities", "key"))
    op.create_table("vulnerabilities", _seq(), _int("round"), _int("run"), *what)
    op.create_index("ix_vulnerabilities_id", "vulnerabilities", ["id"])
    key = _unique("links", "parent", "child")
    op.create_table("links", _seq(), _text("parent"), _text("child"), _text("kind"), key)
    where = (_int("round"), _text("stage"), _text("kind"), _int("run"))
    op.create_table("events", _seq(), *where, _float("at"), _text("body"), _hash(), _unique("events", "key"))
    op.create_index("ix_events", "events", ["round", "stage", "kind"])
    key = _unique("looks", "suite", "round", "model")
    op.create_table("looks", _seq(), _text("suite"), _int("round"), _text("model"), _float("at"), key)
