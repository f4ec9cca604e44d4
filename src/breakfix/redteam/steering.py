"""Attacks that steer: dev requests put through single-turn attacks of seen families, for choosing release candidates.

Held-out families never steer, nor does a case that the red team attacks and reports (run.py draws those): what chooses
a model is no measure of it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from breakfix.campaign import AsIs, Put
from breakfix.config import Config
from breakfix.core import Case, Split
from breakfix.redteam import chosen
from breakfix.redteam.plan import plan
from breakfix.redteam.run import sample

MOST = 96  # puts


def wrapped(config: Config, cases: Sequence[Case], most: int = MOST) -> list[Put]:
    """Up to `most` harmful English dev cases, evenly over hazards, one attack each, evenly over families. The same for
    the same seed. Fewer where the red team's cases leave fewer, or where no attack applies."""
    seen, _ = chosen(config.redteam.seen, config.redteam.held_out)
    attacks = [a for a in seen if getattr(a, "queries", 0) == 1 and not getattr(a, "uses_helper", True)]
    dev = [case for case in cases if case.split is Split.DEV]
    reported = {case.id for case in sample(dev, config.redteam.cases, random.Random(f"{config.attack_seed}/redteam"))}
    rng = random.Random(f"{config.seed}/steering")
    attacked = sample([case for case in dev if case.id not in reported], most, rng)
    return [put for put in plan(attacked, attacks, rng, 1) if put.attack.name != AsIs.name]
