"""0002: the database itself refuses to change or remove rows."""

from alembic import op

from breakfix.ledger.dialect import append_only

revision = "0002"
down_revision = "0001"

TABLES = [
    *("stages", "stage_starts", "stage_ends"),
    *("attempts", "attempt_uses", "verdicts", "cases"),
    *("examples", "example_uses", "drops", "vulnerabilities"),
    *("links", "events", "looks"),
]


def upgrade() -> None:
    for table in TABLES:
        for statement in append_only(op.get_bind().dialect.name, table):
            op.execute(statement)
