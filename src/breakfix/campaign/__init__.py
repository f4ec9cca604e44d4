"""Put cases to a model through attacks: batching, budgets, judging and resuming in one place, for evaluate and redteam.

All live attacks advance in lockstep, so each turn is one batched `generate` per model over everything that waits.
Replies stream: they are judged in groups of `GROUP` as they arrive, sent into their attacks, and what is finished is
recorded at once; of an attempt that goes on the replies so far are kept: a kill loses at most the group in flight.
Every attempt's id is known before it is paid for, and every attempt has its own generator of randomness and its own
seeds: its result does not depend on what else runs.
"""

from breakfix.campaign.lockstep import run
from breakfix.campaign.puts import (
    BROKEN,
    CHUNK,
    GROUP,
    HELPER_SAMPLING,
    NO_LIMIT,
    AsIs,
    Budget,
    Keep,
    Known,
    Lead,
    Limits,
    NotRun,
    Outcome,
    Put,
    Recall,
    Record,
    applies,
    attempt_id,
    language,
    seed_of,
)
from breakfix.campaign.spending import Spending, queries
from breakfix.core import Ask

__all__ = [
    "BROKEN",
    "CHUNK",
    "GROUP",
    "HELPER_SAMPLING",
    "NO_LIMIT",
    "AsIs",
    "Ask",
    "Budget",
    "Keep",
    "Known",
    "Lead",
    "Limits",
    "NotRun",
    "Outcome",
    "Put",
    "Recall",
    "Record",
    "Spending",
    "applies",
    "attempt_id",
    "language",
    "queries",
    "run",
    "seed_of",
]
