"""The ledger's schema, version by version (Alembic). See ledger/schema.py for who runs them and when."""
