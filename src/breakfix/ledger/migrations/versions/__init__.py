"""One file per version. A file that has been released is never changed; list a new one in ledger/schema.py."""
