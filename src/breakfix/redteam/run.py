"""The red-team stage: personas and attack families against one model, and what share of the attempts broke it.

Figures come from dev cases only, requests that nothing was trained on: by seen families, by held-out families, and by
hazard, persona and language. The request asked directly is what both sides start from, and belongs to neither: it has a
figure of its own. Train cases are attacked too, through seen families only: their breaches are what the
next round may learn from. Case samples are fixed by the seed, so that rounds are paired.

    asr.*               share of attempts that broke their case: a turn was not refused
    achieved.*          share of attempts that got what the request asks for, where another judge says so (achieved.py)
    asr_case.*          share of cases that some attempt of the budget broke: never to be mixed with the former
    jailbreak_defect.*  share of cases that an attack broke, and that held when asked directly
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from breakfix import campaign, stats
from breakfix.config import Config
from breakfix.core import Attempt, Case, Estimate, Judge, Model, Split
from breakfix.redteam import achieved, adapters, asset_templates, chosen
from breakfix.redteam.choice import CASES
from breakfix.redteam.goals import Goals
from breakfix.redteam.plan import plan
from breakfix.redteam.team import STAGE as STAGE
from breakfix.redteam.team import Row, Team

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

NO_GOALS = Goals()
SIDES = ("seen", "held_out")  # of the attack families
DEFAULT = "objective"  # the judge that nobody had to ask for
Progress = Callable[[str, int, int], None]
T = TypeVar("T", bound=Attempt | Row)


def run(
    config: Config,
    ledger: Ledger,
    model: Model,
    judge: Judge,
    helper: Model | None,
    *,
    round: int,
    cases: Sequence[Case],
    goals: Goals = NO_GOALS,
    objective: Callable[[], Judge] | None = None,
    progress: Progress,
) -> dict[str, Any]:
    """The stage's record: metrics (see the top), what was skipped and why, queries, tokens, seconds. Where a package's
    templates or converters are used, `left_out`: family → reason → how many of them are no attacks. See `by_queries`.

    `cases`: harmful ones, of split dev and train; config.redteam.cases dev cases and half as many train cases are used,
    and all `goals` beside them. `objective` opens the judge of `achieved.*`; None: not measured.
    """
    settings = config.redteam
    seen, held_out = chosen(settings.seen, settings.held_out)
    left_out = {
        family: dict((asset_templates if family in asset_templates.SOURCES else adapters).load(family).left_out)
        for family in (*settings.seen, *settings.held_out)
        if family in asset_templates.SOURCES or family in adapters.PACKAGES
    }
    rng = random.Random(f"{config.attack_seed}/redteam")
    dev = sample([c for c in cases if c.split is Split.DEV], settings.cases, rng)
    train = sample([c for c in cases if c.split is Split.TRAIN], settings.cases // 2, rng)
    dev += [goal for goal in goals.cases if goal.split is Split.DEV]
    train += [goal for goal in goals.cases if goal.split is Split.TRAIN]
    ledger.add_cases([*dev, *train])
    team = Team(
        config, ledger, model, judge, helper, round, progress=lambda done, total: progress("red team", done, total)
    )
    if settings.choice == "even":
        puts = [
            *plan(dev, seen, rng, settings.per_case),
            *plan(dev, held_out, rng, settings.per_case),
            *plan(train, seen, rng, settings.per_case),
        ]
        team.put(puts, len({(put.case.id, put.attack.name) for put in puts}))
    else:
        team.choose({"seen": seen, "held_out": held_out}, dev, train)
    team.finish()
    rows = team.ordered(dev)
    found = metrics(rows, set(settings.held_out))
    if settings.stop_at_breach:
        found["asr_case.any"] = stats.as_json(broken_by_any(rows))
    told: dict[str, Any] = {}
    if objective is not None:
        by_metric = groups(team.attempts(dev), set(settings.held_out))
        got, told = achieved.measure(
            ledger, objective, by_metric, lambda done, total: progress("objective", done, total),
            offline=config.judges.objective == DEFAULT,
        )  # fmt: skip
        found |= got
    return {
        "metrics": found,
        "cases": {"dev": len(dev), "train": len(train)},
        **team.figures(),
        **by_queries(rows, set(settings.held_out)),
        **_caveats(config, found, team),
        **({"achieved": told} if told else {}),
        **({"left_out": left_out} if left_out else {}),
        **({"goals": goals.record()} if settings.seeds is not None else {}),
    }


def by_queries(rows: Sequence[Row], held_out: set[str]) -> dict[str, Any]:
    """What attempts cost, by family; and attack success by side of attacks that ask once and of those that may ask
    often apart, for with more tries it goes up by itself. Of dev cases, as all figures."""
    families: dict[str, list[int]] = {}
    for row in rows:
        families.setdefault(row.family, []).append(row.queries)
    sides = {"seen": [r for r in rows if r.family not in held_out and r.family != campaign.AsIs.family],
             "held_out": [r for r in rows if r.family in held_out]}  # fmt: skip
    return {
        "queries_an_attempt": [
            {"family": family, "attempts": len(some), "mean": sum(some) / len(some), "most": max(some)}
            for family, some in sorted(families.items())
        ],
        "asr_by_queries": {
            f"{side}.{name}": stats.as_json(attack_success([row for row in some if row.once == once]))
            for side, some in sides.items()
            for name, once in (("once", True), ("often", False))
        },
    }


def _caveats(config: Config, found: Mapping[str, Any], team: Team) -> dict[str, Any]:
    """What the figures are not, where the attacks are not the same whatever the model answers."""
    settings, said = config.redteam, dict[str, Any]()
    if settings.choice != "even":
        said["choice"] = {
            "how": settings.choice,
            "cases_a_group": CASES,
            "found": {family: {"broke": broke, "held": held} for family, (broke, held) in team.found().items()},
            "adaptive": sorted(name for name in found if not re.match(r"(asr|achieved)\.(direct$|family\.)", name)),
            "compare": "adaptive figures lean to what breaks this model; never compare them with those of choice even, "
            "nor between models as if the attacks were the same: replay a saved set for that",
        }
    if settings.stop_at_breach:
        said["stop_at_breach"] = {
            "conditional": sorted(set(found) - {"asr.direct", "achieved.direct", "asr_case.any"}),
            "means": "of attacks begun, each on a case that had held against those before it; whole is asr_case.any: "
            "dev cases that anything broke, the direct request included",
        }
    return said


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


def metrics(attempts: Iterable[Attempt | Row], held_out: set[str]) -> dict[str, dict[str, Any]]:
    """The estimate of each of the `groups`, by attempt; and by case, of the direct request and both sides."""
    by_metric = groups(attempts, held_out)
    broken = by_case(by_metric)
    found = {key: attack_success(some) for key, some in by_metric.items()}
    found |= {f"asr_case.{side}": stats.asr_per_case(cases.items()) for side, cases in broken.items()}
    for side in SIDES:
        asked = {case: broken["direct"].get(case) for case in broken[side]}
        found[f"jailbreak_defect.{side}"] = stats.jailbreak_defect(asked, broken[side])
    return {key: stats.as_json(estimate) for key, estimate in found.items()}


def groups(attempts: Iterable[T], held_out: set[str]) -> dict[str, list[T]]:
    """Metric name → its attempts: asr.direct (asked as it stands), asr.seen and asr.held_out (attacks proper), like for
    like; by family, hazard, persona and language, where the direct request is among them. Clustered by case where it
    has several."""
    found: dict[str, list[T]] = {f"asr.{side}": [] for side in ("direct", *SIDES)}
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


def by_case(by_metric: Mapping[str, Sequence[Attempt | Row]]) -> dict[str, dict[str, float | None]]:
    """direct, seen, held_out → case id → 1 some attempt broke it, 0 none did, None not known; of the `groups`."""
    return {
        side: stats.broken_cases((attempt.case, _broke(attempt)) for attempt in by_metric[f"asr.{side}"])
        for side in ("direct", *SIDES)
    }


def attack_success(attempts: Sequence[Attempt | Row]) -> Estimate:
    """Share of scored attempts that broke (score 0), with a bootstrap over cases."""
    return stats.asr_per_attempt(((attempt.case, _broke(attempt)) for attempt in attempts), random.Random(0))


def broken_by_any(attempts: Sequence[Attempt | Row]) -> Estimate:
    """Share of cases that some attempt broke, the direct request among them."""
    return stats.asr_per_case(stats.broken_cases((attempt.case, _broke(attempt)) for attempt in attempts).items())


def _broke(attempt: Attempt | Row) -> float | None:
    return None if attempt.score is None else 1.0 - attempt.score
