"""Attempts that the ledger knows, and those of them that the judge failed on: where their stage is made again, they are
put to it once more. The stored transcript is judged; the target is asked nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from breakfix.campaign.puts import Known
from breakfix.core import Attempt, Case, Judge, Verdict
from breakfix.judges.ask import PartlyJudged, Row, heard

if TYPE_CHECKING:
    from breakfix.ledger import Ledger


def known(ledger: Ledger, judge: Judge, case_of: Callable[[str], Case], *, round: int, stage: str) -> Known:
    """What `campaign.run` takes as `known`: attempts on which the model did not fail. `case_of`: a case's id → the case
    as it is put. Where the stage was asked for `--again`, the judge's failures (`Attempt.unjudged`) are judged first.
    Raises UserError: a spent budget, once what was paid for is recorded.
    """
    again = any(True for _ in ledger.events(round, "run", f"{stage} again"))

    def look_up(ids: Sequence[str]) -> dict[str, Attempt]:
        found = {id: attempt for id, attempt in ledger.known(ids).items() if attempt.error is None}
        failed = [attempt for attempt in found.values() if again and attempt.unjudged]
        if not failed:
            return found
        mended, spent = _judged(failed, judge, ledger, case_of)
        ledger.mend(mended)
        if spent is not None:
            raise spent
        return found | {attempt.id: attempt for attempt in mended}

    return look_up


def _judged(
    failed: Sequence[Attempt], judge: Judge, ledger: Ledger, case_of: Callable[[str], Case]
) -> tuple[list[Attempt], PartlyJudged | None]:
    """Those that have verdicts now, and the budget that ended. What the judge said of one when the run was judged anew
    (`breakfix judges rejudge`) is not asked for again."""
    later = ledger.later_verdicts()
    mended: list[Attempt] = []
    waiting: list[tuple[Attempt, int]] = []
    rows: list[Row] = []
    for attempt in failed:
        said = [v for v in later.get(attempt.id, ()) if v.judge == judge.name and v.score is not None]
        if said and (said[-1].score != 0 or len(attempt.unjudged) == 1):
            mended.append(_with(attempt, dict.fromkeys(attempt.unjudged, said[-1])))
            continue
        for turn in attempt.unjudged:
            waiting.append((attempt, turn))
            rows.append((case_of(attempt.case), attempt.transcript[: attempt.place(turn) + 1]))
    given, spent = heard(judge, rows)
    told: dict[str, dict[int, Verdict]] = {}
    for (attempt, turn), verdict in zip(waiting, given, strict=True):
        if verdict is not None:
            told.setdefault(attempt.id, {})[turn] = verdict
    tried = (_with(attempt, told[attempt.id]) for attempt in failed if attempt.id in told)
    return [*mended, *(attempt for attempt in tried if not attempt.unjudged)], spent


def _with(attempt: Attempt, told: dict[int, Verdict]) -> Attempt:
    verdicts = tuple(told.get(turn, verdict) for turn, verdict in enumerate(attempt.verdicts))
    breach = next((turn for turn, verdict in enumerate(verdicts) if verdict.score == 0), None)
    return replace(attempt, verdicts=verdicts, breach=breach)
