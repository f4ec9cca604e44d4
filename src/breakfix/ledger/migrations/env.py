"""Alembic's entry: run the migrations on the connection, and in the transaction, that ledger/schema.py passes in.

It works at import because that is how Alembic calls it.
"""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
