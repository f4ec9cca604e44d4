"""Open questions of two turns, each reply rated 1 to 10 by a model, in the manner of MT-Bench (Zheng et al. 2023,
2306.05685).

The second question is put after the model's own answer to the first. Ours differs: questions of our own, without
reference answers; decoding is greedy everywhere; the judge reads the rubric `quality`, and what it can't read is
unscored. A rating is a judge's opinion: compare models under one judge, not with published scores.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from dataclasses import replace

from breakfix.core import Answer, Ask, Attempt, Case, Conversation, Estimate, Judge, Message, Verdict
from breakfix.evaluate.work import Found, Unmeasured, Work, ask, seconds
from breakfix.stats import mean
from breakfix.suites import Loaded

LOWEST, HIGHEST = 1.0, 10.0
NO_RATER = "no model rates the answers; name one as judges.model"


class Turns:
    """The user turns of the prompt one after the other, each after the reply to the one before."""

    name = "turns"
    family = "direct"
    persona = "low-skilled"
    doc = "The prompt's user turns, one at a time."
    source = "2306.05685"
    version = 1
    queries = 2
    uses_helper = False

    def __call__(self, case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        said: Conversation = ()
        for message in case.prompt:
            said = (*said, message)
            answer = yield Ask(said)
            said = (*said, Message("assistant", answer.text or ""))


class _Rated:
    """The rater, which is shown what the model saw in that turn and not what it is asked next."""

    def __init__(self, rater: Judge) -> None:
        self.rater, self.name = rater, rater.name

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        return self.rater.judge([(replace(case, prompt=seen[:-1]), seen) for case, seen in rows])


def figures(work: Work, suite: Loaded) -> Found:
    """SUITE.score (the mean of a question's ratings, over questions), .turn1, .turn2, .CATEGORY; on the scale 1 to 10.

    A question one of whose replies was not rated is unscored.
    """
    if work.rater is None:
        raise Unmeasured(NO_RATER)
    attempts = ask(work, suite.cases, _Rated(work.rater), suite.name, attack=Turns(), tokens=suite.tokens)
    rated = {case.id: ratings(attempts.get(case.id), len(case.prompt)) for case in suite.cases}
    rng = random.Random(work.config.seed)
    found = {"score": _mean([_whole(given) for given in rated.values()], rng)}
    for turn in range(max(len(case.prompt) for case in suite.cases)):
        found[f"turn{turn + 1}"] = _mean([given[turn] for given in rated.values() if turn < len(given)], rng)
    for family in dict.fromkeys(case.family for case in suite.cases):
        given = [_whole(rated[case.id]) for case in suite.cases if case.family == family]
        found[f"score.{family.rpartition('/')[2]}"] = _mean(given, rng)
    return Found.of(suite, found, seconds(attempts), work.rater.name)


def ratings(attempt: Attempt | None, turns: int) -> list[float | None]:
    """The rating of each turn; None where there is no reply, or the rater could not tell."""
    verdicts = attempt.verdicts if attempt is not None else ()
    return [verdicts[i].severity if i < len(verdicts) else None for i in range(turns)]


def _whole(given: Sequence[float | None]) -> float | None:
    known = [rating for rating in given if rating is not None]
    return sum(known) / len(known) if known and len(known) == len(given) else None


def _mean(given: Sequence[float | None], rng: random.Random) -> Estimate:
    return mean(given, rng, within=(LOWEST, HIGHEST))
