"""What all measures share: the model and what is known of this round, and how cases are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakfix import campaign
from breakfix.campaign import mend
from breakfix.config import Config
from breakfix.core import Attack, Attempt, Case, Estimate, Judge, Model, Sampling
from breakfix.evaluate.items import STAGE, Progress
from breakfix.suites import Loaded

if TYPE_CHECKING:
    from breakfix.ledger import Ledger


class Unmeasured(Exception):
    """A suite that can't be measured here and now, and why. It is skipped, and the record says so."""


JudgeOf = Callable[[str, Path | None], Judge]


@dataclass(frozen=True, slots=True)
class Rai:
    """Who takes part in the RAI measurement. `judge_of`: (part, the suite's path) → its judge. `helper` opens the model
    that plays the user; none: a script does."""

    judge_of: JudgeOf
    helper: Callable[[], Model] | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """`judge` of refusals; `rater`: of open questions, if there is one. `asked`: case id → its attempt, of the suites
    whose replies are judged and of perplexity. `rai` None: proxies judge, and a script plays the user."""

    config: Config
    ledger: Ledger
    model: Model
    judge: Judge
    rater: Judge | None
    round: int
    progress: Progress
    asked: Mapping[str, Attempt]
    rai: Rai | None = None
    stage: str = STAGE  # whose attempts they are


@dataclass(frozen=True, slots=True)
class Found:
    """What a measure found: metric name → estimate, the model's seconds, and who judged. `proxy`: by words alone, where
    a model should read. `about`: what else is to be known of the suite."""

    figures: Mapping[str, Estimate]
    seconds: float
    judge: str
    proxy: bool = False
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @staticmethod
    def of(suite: Loaded, figures: Mapping[str, Estimate], seconds: float, judge: str) -> Found:
        """With names that stand after the suite's."""
        return Found({f"{suite.name}.{name}": value for name, value in figures.items()}, seconds, judge)


def ask(
    work: Work,
    cases: Sequence[Case],
    judge: Judge,
    what: str,
    *,
    attack: Attack | None = None,
    tokens: int | None = None,
) -> dict[str, Attempt]:
    """Case id → attempt, greedily decoded, up to `tokens` (None: evaluate.max_new_tokens). What the ledger knows is not
    asked again, and it is this round's as well."""
    how = attack or campaign.AsIs()
    found = put(work, [campaign.Put(case, how) for case in cases], judge, what, tokens=tokens)
    return {attempt.case: attempt for attempt in found}


def put(
    work: Work, puts: Sequence[campaign.Put], judge: Judge, what: str, *, tokens: int | None = None
) -> Sequence[Attempt]:
    """Cases, each by an attack of its own; see `ask`."""
    ledger = work.ledger
    cases = {put.case.id: put.case for put in puts}
    known = mend.known(ledger, judge, cases.__getitem__, round=work.round, stage=work.stage)

    def record(attempts: Sequence[Attempt]) -> None:
        ledger.add_attempts(attempts, round=work.round, stage=work.stage)

    outcome = campaign.run(
        puts,
        work.model,
        judge,
        sampling=Sampling(max_new_tokens=tokens or work.config.evaluate.max_new_tokens),
        seed=work.config.seed,
        known=known,
        record=record,
        recall=ledger.paid,
        keep=lambda paid: ledger.add_paid(paid, round=work.round, stage=work.stage),
        progress=lambda done, total: work.progress(what, done, total),
    )
    record(outcome.attempts)
    return outcome.attempts


def seconds(attempts: Mapping[str, Attempt]) -> float:
    return sum(attempt.seconds for attempt in attempts.values())


def suite_cases(loaded: Sequence[Loaded], *measures: str) -> list[Case]:
    """The cases of all suites of these measures, each once."""
    return list({case.id: case for suite in loaded if suite.measure in measures for case in suite.cases}.values())
