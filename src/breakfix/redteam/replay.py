"""A saved attack set (sets.py), put again: to the model it was saved from after a fix, or to any other.

Each saved conversation goes turn by turn as it went then, with the new model's own replies in between. The user's turns
are fixed: what was found by looking at replies (crescendo, a search, a person) is put as it was found, and not looked
for again. A model that holds against a replay holds against *those* attacks; a fresh campaign is the stronger test.

Outcomes are paired with the saved ones. Where every case is there once: Bonett and Price's interval and McNemar's exact
test. Where cases have several attempts, these are not independent: the interval draws whole cases, the test swaps them
whole (Fisher's randomisation); by case (some attempt of the set broke it) it is Bonett and Price and McNemar again.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from breakfix import campaign, stats
from breakfix.campaign import Lead, Put
from breakfix.core import Answer, Ask, Attempt, Case, Conversation, Estimate, Judge, Message, Model, Sampling, digest
from breakfix.errors import DataError
from breakfix.redteam.base import Access
from breakfix.redteam.sets import Saved

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

STAGE = "replay"  # not the red team's: neither its figures nor identification read it
PREFIX = "replay/"
DEFAULT_TOKENS = 48  # where neither a line nor the caller says how long a reply may be
Progress = Callable[[str, int, int], None]
Record = Callable[[Sequence[Attempt]], None]


class Replay:
    """The attack that asks what a saved one asked. Its version is the digest of that: other turns, other attempts."""

    source = "a saved attack set"
    doc = "Asks turn by turn what an attempt of a saved attack set asked."
    uses_helper = False

    def __init__(self, saved: Saved) -> None:
        self.saved = saved
        self.name = PREFIX + saved.attack
        self.family, self.persona = saved.family, saved.persona
        self.version = saved.content
        self.queries = self.turns = len(saved.steps)
        self.access: Access = "prefill" if any(step.begun for step in saved.steps) else "black-box"

    def within(self, case: Case, rng: random.Random) -> Case:
        """The case in the language that it was put in."""
        return replace(case, language=self.saved.language)

    def __call__(self, case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        said: Conversation = ()
        for step in self.saved.steps:
            said = (*said, *step.said)
            prompt = (*said, Message("assistant", step.begun)) if step.begun else said
            answer = yield Lead(prompt) if step.lead else Ask(prompt)
            said = (*said, Message("assistant", step.begun + (answer.text or "")))


# ---- asking ------------------------------------------------------------------------------------------------------


def run(
    saved: Sequence[Saved],
    model: Model,
    judge: Judge,
    *,
    seed: int,
    tokens: int | None = None,
    ledger: Ledger | None = None,
    round: int = 0,
    progress: Progress,
) -> tuple[dict[str, Any], list[Attempt | None]]:
    """(the record, see `record`; for each line its new attempt, None where there is none).

    `tokens`: the longest reply; None: each line's own. With a ledger, attempts are kept in it under (round, "replay"),
    and what it knows already is not asked again. Raises DataError where a case is another one in the ledger.
    """
    if ledger is not None:
        _add_cases(saved, ledger)
    places: dict[int, list[int]] = {}
    for place, one in enumerate(saved):
        places.setdefault(tokens or one.max_new_tokens or DEFAULT_TOKENS, []).append(place)
    found: list[Attempt | None] = [None] * len(saved)
    outcomes: list[campaign.Outcome] = []
    done = 0
    for longest, some in sorted(places.items()):
        before = done
        outcome, attempts = _put(
            [saved[place] for place in some],
            model,
            judge,
            Sampling(max_new_tokens=longest),
            seed,
            ledger,
            round,
            lambda n, total, before=before: progress("replay", before + n, len(saved)),
        )
        for place, attempt in zip(some, attempts, strict=True):
            found[place] = attempt
        outcomes.append(outcome)
        done += len(some)
    return record(saved, found, model.id, judge.name, outcomes, sorted(places)), found


def _put(
    saved: Sequence[Saved],
    model: Model,
    judge: Judge,
    sampling: Sampling,
    seed: int,
    ledger: Ledger | None,
    round: int,
    progress: Callable[[int, int], None],
) -> tuple[campaign.Outcome, list[Attempt | None]]:
    puts = [Put(one.case, Replay(one)) for one in saved]

    def keep(attempts: Sequence[Attempt]) -> None:
        if ledger is not None:
            ledger.add_attempts(attempts, round=round, stage=STAGE)

    def known(ids: Sequence[str]) -> Mapping[str, Attempt]:
        rows = ledger.known(ids) if ledger is not None else {}
        return {id: attempt for id, attempt in rows.items() if attempt.error is None}

    outcome = campaign.run(
        puts,
        model,
        judge,
        sampling=sampling,
        seed=seed,
        known=known,
        record=keep,
        recall=ledger.paid if ledger is not None else lambda ids: (),
        keep=(lambda paid: ledger.add_paid(paid, round=round, stage=STAGE))
        if ledger is not None
        else lambda paid: None,
        progress=progress,
    )
    keep(outcome.attempts)  # those that were known are this round's, too
    by_id = {attempt.id: attempt for attempt in outcome.attempts}
    ids = [campaign.attempt_id(put, model, judge, sampling, seed, None, campaign.NO_LIMIT) for put in puts]
    return outcome, [by_id.get(id) for id in ids]


def _add_cases(saved: Sequence[Saved], ledger: Ledger) -> None:
    """Those that the ledger lacks. It must not come to hold another case, or another split, under an id it has."""
    new: dict[str, Case] = {}
    for one in saved:
        there = new.get(one.case.id) or ledger.case(one.case.id)
        if there is None:
            new[one.case.id] = one.case
        elif _known_by(there) != _known_by(one.case):
            raise DataError(
                f"{one.where or one.id}: the case {one.case.id!r} is another one in this run; replay the set on the "
                "model itself (its folder), or leave the line out"
            )
    ledger.add_cases(list(new.values()))


def _known_by(case: Case) -> str:
    return digest([case.prompt, case.expect, case.split, case.hazard, case.language])


# ---- what came of it ---------------------------------------------------------------------------------------------


def record(
    saved: Sequence[Saved],
    attempts: Sequence[Attempt | None],
    model: str,
    judge: str,
    outcomes: Sequence[campaign.Outcome],
    tokens: Sequence[int],
) -> dict[str, Any]:
    """{"set", "model", "judge", "changes": {"all" | "side.S" | "family.F": `change`}, ...}; estimates as JSON.

    "other_judge": lines that somebody else had judged; "other_length": lines whose replies had another limit then, or
    nobody knows which: for both the pairs are not like for like.
    """
    pairs = [(one, _broke(one.score), _outcome(attempt)) for one, attempt in zip(saved, attempts, strict=True)]
    kinds = ("all", "side", "family")
    parts: dict[str, list[tuple[str, float | None, float | None]]] = {"all": []}
    for one, before, after in pairs:
        for part in ("all", f"side.{one.side}", f"family.{one.family}"):
            parts.setdefault(part, []).append((one.case.id, before, after))
    longest = set(tokens)
    return {
        "set": {
            "lines": len(saved),
            "models": sorted({one.model for one in saved}),
            "judges": sorted({one.judge for one in saved} - {""}),
            "sides": dict(sorted(Counter(one.side for one in saved).items())),
            "splits": dict(sorted(Counter(one.case.split.value for one in saved).items())),
        },
        "model": model,
        "judge": judge,
        "static": sum(one.adaptive for one in saved),
        "other_judge": sum(one.judge not in ("", judge) for one in saved),
        "other_length": sum(one.max_new_tokens is None or one.max_new_tokens not in longest for one in saved),
        "max_new_tokens": list(tokens),
        "changes": {
            part: change(parts[part])
            for part in sorted(parts, key=lambda part: (kinds.index(part.split(".")[0]), part))
        },
        "attempts": sum(attempt is not None for attempt in attempts),
        "errors": sum(attempt is not None and attempt.error is not None for attempt in attempts),
        **{
            name: sum(getattr(outcome, name) for outcome in outcomes)
            for name in ("queries", "tokens_in", "tokens_out", "seconds", "reused")
        },
    }


def change(pairs: Sequence[tuple[str, float | None, float | None]], seed: int = 0) -> dict[str, Any]:
    """Of (case, broke then, broke now; 1, 0 or None): {"n", "cases", "unscored", "before", "after", "difference", "p",
    "test", "only_before", "only_after", "by_case": {"difference", "p"}}, shares of attempts that broke as JSON, after
    minus before. p is None where nothing is scored on both sides. `before` and `after` are of the pairs scored on both.
    """
    both = [(case, b, a) for case, b, a in pairs if b is not None and a is not None]
    cases = {case for case, _, _ in both}
    rng = random.Random(f"{seed}/replay")
    before = {str(i): b for i, (_, b, _) in enumerate(both)}
    after = {str(i): a for i, (_, _, a) in enumerate(both)}
    lost, won, n, _ = stats.flips(before, after)
    if len(cases) == n:
        found, p, test = stats.paired_difference(before, after), stats.mcnemar(lost, won), "McNemar, exact"
    else:
        found, test = _clustered(both, rng), "randomisation over cases"
        p = stats.paired_permutation(_sums(both, 1), _sums(both, 2), rng)
    found = replace(found, unscored=len(pairs) - n)
    one, two = (
        stats.broken_cases((case, b) for case, b, _ in both),
        stats.broken_cases((case, a) for case, _, a in both),
    )
    case_lost, case_won, _, _ = stats.flips(one, two)
    return {
        "n": n,
        "cases": len(cases),
        "unscored": len(pairs) - n,
        "before": stats.as_json(stats.asr_per_attempt(((case, b) for case, b, _ in both), rng)),
        "after": stats.as_json(stats.asr_per_attempt(((case, a) for case, _, a in both), rng)),
        "difference": stats.as_json(found),
        "p": p if n else None,
        "test": test if n else "",
        "only_before": lost,
        "only_after": won,
        "by_case": {
            "difference": stats.as_json(stats.paired_difference(one, two)),
            "p": stats.mcnemar(case_lost, case_won) if n else None,
        },
    }


def _clustered(both: Sequence[tuple[str, float, float]], rng: random.Random) -> Estimate:
    """The mean difference; its interval that of clustered shares: one of -1 to 1 is twice a share, less one."""
    share = stats.clustered_rate(((case, (a - b + 1) / 2) for case, b, a in both), rng)
    return replace(share, value=2 * share.value - 1, low=2 * share.low - 1, high=2 * share.high - 1)


def _sums(both: Sequence[tuple[str, float, float]], side: int) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for row in both:
        found[row[0]] = (found.get(row[0]) or 0.0) + float(row[side])
    return found


def _outcome(attempt: Attempt | None) -> float | None:
    return None if attempt is None else _broke(attempt.score)


def _broke(score: float | None) -> float | None:
    return None if score is None else 1.0 - score
