"""0003: the hash chain (ledger/chain.py). Its first link says which rows were there before it."""

import hashlib
import json

import sqlalchemy as sa
from alembic import op

from breakfix.ledger.dialect import append_only

revision = "0003"
down_revision = "0002"

NUMBERED = [
    *("stages", "stage_starts", "attempts", "attempt_uses", "verdicts", "cases", "examples", "example_uses"),
    *("drops", "vulnerabilities", "links", "events", "looks"),
]


def upgrade() -> None:
    chain = op.create_table(
        "chain",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
    )
    connection = op.get_bind()
    before: dict[str, object] = {}
    for name in NUMBERED:
        highest = connection.execute(
            sa.select(sa.func.max(sa.column("seq", sa.Integer))).select_from(sa.table(name))
        ).scalar()
        if highest is not None:
            before[name] = highest
    key = sa.column("stage", sa.Integer)
    ends = connection.execute(sa.select(key).select_from(sa.table("stage_ends"))).scalars().all()
    if ends:
        before["stage_ends"] = sorted(ends)
    body = json.dumps({"unchained": before}, separators=(",", ":"))
    digest = hashlib.sha256(f"\n{body}".encode()).hexdigest()
    op.bulk_insert(chain, [{"body": body, "digest": digest}])
    for statement in append_only(connection.dialect.name, "chain"):
        op.execute(statement)
