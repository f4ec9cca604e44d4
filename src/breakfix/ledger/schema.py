"""Which version a ledger has, and how it gets another one. Nothing is ever upgraded silently.

A new ledger is made by running the migrations (ledger/migrations, Alembic), in one transaction: a process killed
meanwhile leaves an empty database, never half a schema. The check reads the version that Alembic keeps, without
importing Alembic, so opening a run stays quick.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, String, column, inspect, select, table

from breakfix.errors import LedgerError
from breakfix.ledger.database import opened

# every version there has been, oldest first: the ids of the files in migrations/versions
VERSIONS = ("0001", "0002", "0003")
HEAD = VERSIONS[-1]
READABLE = ("0002", HEAD)  # 0003 added the chain, which only writers and `breakfix verify` need


def version(connection: Connection) -> str | None:
    """The ledger's version; None where there is none (an empty database, or one that is not ours)."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(select(column("version_num", String)).select_from(table("alembic_version"))).scalar()


def require_head(engine: Engine, run: Path, *, write: bool = True) -> None:
    """LedgerError unless the ledger has this program's version, or one that it can read and is only to read."""
    with engine.connect() as connection:
        found = version(connection)
    if found == HEAD or (not write and found in READABLE):
        return
    if found is None:
        raise LedgerError(f"{run}: its ledger is empty (the run was stopped before it began); start the run again")
    if found in VERSIONS:
        raise LedgerError(
            f"{run}: its ledger has version {found}, this breakfix works with {HEAD}; "
            f"bring it up with: breakfix ledger upgrade {run}"
        )
    raise LedgerError(
        f"{run}: its ledger has version {found}, newer than the {HEAD} that this breakfix knows; update breakfix"
    )


def create_if_empty(engine: Engine) -> None:
    """Make the tables in a database that has none; leave any other as it is."""
    with engine.begin() as connection:
        if not inspect(connection).get_table_names():
            migrate(connection, HEAD)


def migrate(connection: Connection, target: str) -> None:
    """Run the migrations up to `target`, within the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, target)


def upgrade(run: Path, *, url: str | None = None) -> tuple[str, str]:
    """Bring a run's ledger to this program's version; returns (old, new). What `breakfix ledger upgrade RUN` does.

    All or nothing. LedgerError where there is no ledger or a newer one; RunBusy while another process writes.
    """
    with opened(run, url, write=True) as engine:
        with engine.connect() as connection:
            found = version(connection)
        if found is None or found not in VERSIONS:
            require_head(engine, run)
        with engine.begin() as connection:
            migrate(connection, HEAD)
    return str(found), HEAD
