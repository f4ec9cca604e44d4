"""The red-team stage: personas and attack families against one model, and what share of the attempts broke it.

Figures come from dev cases only, requests that nothing was trained on: by seen families, by held-out families, and by
hazard, persona and language. The request asked directly is what both sides start from, and belongs to neither: it has a
figure of its own. Train cases are attacked too, through seen families only: their breaches are what the
next round may learn from. Case samples are fixed by the seed, so that rounds are paired.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from breakfix import campaign, stats
from breakfix.config import Config
from breakfix.core import Attempt, Case, Estimate, Judge, Model, Sampling, Split
from breakfix.redteam import catalogue
from breakfix.redteam.plan import plan, split_families

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

STAGE = "redteam"
Progress = Callable[[str, int, int], None]


def run(
    config: Config,
    ledger: Ledger,
    model: Model,
    judge: Judge,
    helper: Model | None,
    *,
    round: int,
    cases: Sequence[Case],
    progress: Progress,
) -> dict[str, Any]:
    """The stage's record: metrics (asr.*), what was skipped and why, queries, tokens, seconds.

    `cases`: harmful ones, of split dev and train; config.redteam.cases dev cases and half as many train cases are used.
    """
    settings = config.redteam
    seen, held_out = split_families(list(catalogue().values()), settings.seen, settings.held_out)
    rng = random.Random(f"{config.seed}/redteam")
    dev = sample([c for c in cases if c.split is Split.DEV], settings.cases, rng)
    train = sample([c for c in cases if c.split is Split.TRAIN], settings.cases // 2, rng)
    puts = [
        *plan(dev, seen, rng, settings.per_case),
        *plan(dev, held_out, rng, settings.per_case),
        *plan(train, seen, rng, settings.per_case),
    ]
    puts = list({(put.case.id, put.attack.name): put for put in puts}.values())
    ledger.add_cases([*dev, *train])
    before = list(ledger.attempts(round=round, stage=STAGE))  # paid for by a start of this stage that was interrupted
    spent = sum(len(a.verdicts) + (a.error is not None) for a in before)

    def record(attempts: Sequence[Attempt]) -> None:
        ledger.add_attempts(attempts, round=round, stage=STAGE)

    outcome = campaign.run(
        puts,
        model,
        judge,
        sampling=Sampling(max_new_tokens=settings.max_new_tokens),
        seed=config.seed,
        known=lambda ids: {id: a for id, a in ledger.known(ids).items() if a.error is None},
        record=record,
        recall=ledger.paid,
        keep=lambda paid: ledger.add_paid(paid, round=round, stage=STAGE),
        helper=helper,
        budget=campaign.Budget(total=None if settings.max_queries is None else max(0, settings.max_queries - spent)),
        progress=lambda done, total: progress("red team", done, total),
    )
    record(outcome.attempts)  # those that were known are this round's, too
    dev_ids = {case.id for case in dev}
    return {
        "metrics": metrics([a for a in outcome.attempts if a.case in dev_ids], set(settings.held_out)),
        "skipped": dict(Counter(row.reason for row in outcome.skipped)),
        "unrun": len(outcome.unrun),
        "cases": {"dev": len(dev), "train": len(train)},
        "attempts": len(outcome.attempts),
        "reused": outcome.reused - sum(a.error is None for a in before),
        "queries": outcome.queries + spent,
        "tokens_in": outcome.tokens_in + sum(a.tokens_in for a in before),
        "tokens_out": outcome.tokens_out + sum(a.tokens_out for a in before),
        "seconds": outcome.seconds + sum(a.seconds for a in before),
    }


def sample(cases: Sequence[Case], n: int, rng: random.Random) -> list[Case]:
    """n cases, spread evenly over hazards (English first: translations are attacks on them)."""
    pools: dict[str, list[Case]] = {}
    for case in cases:
        if case.language == "en":
            pools.setdefault(case.hazard, []).append(case)
    for pool in pools.values():
        # cases with translations first, so that translation attacks apply somewhere
        rng.shuffle(pool)
        pool.sort(key=lambda case: not case.translations)
    taken: list[Case] = []
    while len(taken) < n and any(pools.values()):
        for hazard in sorted(pools):
            if pools[hazard] and len(taken) < n:
                taken.append(pools[hazard].pop(0))
    return taken


def metrics(attempts: Iterable[Attempt], held_out: set[str]) -> dict[str, dict[str, Any]]:
    """The estimate of each of the `groups`."""
    return {key: stats.as_json(attack_success(some)) for key, some in groups(attempts, held_out).items()}


def groups(attempts: Iterable[Attempt], held_out: set[str]) -> dict[str, list[Attempt]]:
    """Metric name → its attempts: asr.direct (asked as it stands), asr.seen and asr.held_out (attacks proper), like for
    like; by family, hazard, persona and language, where the direct request is among them. Clustered by case where it
    has several."""
    found: dict[str, list[Attempt]] = {"asr.direct": [], "asr.seen": [], "asr.held_out": []}
    for attempt in attempts:
        side = "held_out" if attempt.family in held_out else "seen"
        keys = (
            f"asr.{'direct' if attempt.family == campaign.AsIs.family else side}",
            f"asr.family.{attempt.family}",
            f"asr.hazard.{attempt.hazard}",
            f"asr.persona.{attempt.persona}",
            f"asr.lang.{attempt.language}",
        )
        for key in keys:
            found.setdefault(key, []).append(attempt)
    return dict(sorted(found.items()))


def attack_success(attempts: Sequence[Attempt]) -> Estimate:
    """Share of scored attempts that broke (score 0), with a bootstrap over cases."""
    outcomes = [(a.case, None if a.score is None else 1.0 - a.score) for a in attempts]
    return stats.clustered_rate(outcomes, random.Random(0))
