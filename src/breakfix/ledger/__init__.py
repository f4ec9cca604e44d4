"""The ledger: the append-only record of a run (rows in SQL, files by digest, finished-stage marks).

Stages talk to each other only through it, so any stage can be re-run, replaced, or tested with ten hand-written rows.
`Ledger.open(run)` is the way in; `upgrade(run)` brings an older run folder up to this version's schema.
"""

from breakfix.ledger.codec import decode, encode
from breakfix.ledger.rows import Event, StageRow
from breakfix.ledger.schema import upgrade
from breakfix.ledger.store import Ledger

__all__ = ["Event", "Ledger", "StageRow", "decode", "encode", "upgrade"]
