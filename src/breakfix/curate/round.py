"""What a round's curation works with, and what it notes on the way."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from breakfix.config import Config
from breakfix.core import Case, Dropped, Judge, Model
from breakfix.curate.augment import Augment
from breakfix.curate.base import Plan, Progress
from breakfix.curate.steps.decontaminate import Decontaminate
from breakfix.curate.steps.order import Order
from breakfix.ledger import Ledger


@dataclass
class Round:
    """What a round's curation works with, and what it has to tell."""

    config: Config
    ledger: Ledger
    model: Model
    judge: Judge
    number: int
    progress: Progress
    wrap: Augment
    clean: Decontaminate
    order: Order
    plan: Plan
    policy: Callable[[], Model] | None
    helper: Callable[[], Model] | None
    dropped: list[Dropped] = field(default_factory=list[Dropped])
    labels: Counter[str] = field(default_factory=Counter[str])
    spare: int = 0
    crowded: dict[str, int] = field(
        default_factory=dict[str, int]
    )  # kind → rows of failures that there was no room for
    natives: set[str] = field(default_factory=set[str])  # cases that the untouched model refused and then answered
    put: list[Case] = field(default_factory=list[Case])  # cases that curation made: wrapped ones, unreadable ones

    def rng(self, what: str) -> random.Random:
        return random.Random(f"{self.config.seed}/curate/{self.number}/{what}")
