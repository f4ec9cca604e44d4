"""Several judges as one: the cheap one first and the next where it can't tell, or a vote (Verga et al., 2404.18796).

Ours differs from their jury: the members may be rules and classifiers as well as language models, a cascade asks the
dear ones only about what is left, and a tie is no verdict.

A member that has a method `unsure(verdict)` is asked whether it would rather not have the last word on it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import median
from typing import Literal

from breakfix.core import Estimate, Judge, Verdict
from breakfix.judges.ask import PartlyJudged, Row, heard
from breakfix.stats import kappa, krippendorff_alpha

Mode = Literal["cascade", "vote"]
VERSIONS: Mapping[Mode, int] = {"cascade": 2, "vote": 1}


def called(members: Sequence[str], mode: Mode = "cascade") -> str:
    """The name@version of a panel of the judges that are called so."""
    return f"{mode}({'+'.join(members)})@{VERSIONS[mode]}"


class Panel:
    """A `core.Judge` of others. ValueError for none.

    cascade   the first member's verdict; where that is unscored or unsure, the next one's. If none is sure, the first
              that was scored, unless a later one could not tell: an unsure verdict that nobody checked is none. The
              label is that of the first member of the same score. What was escalated, and why, is in the reason
    vote      what most scored members say (by score), with the label of the first of them; severity is their median.
              A tie is unscored

    Where a member's budget is spent, PartlyJudged has the rows on which nobody else had to be heard.
    """

    def __init__(self, judges: Sequence[Judge], mode: Mode = "cascade") -> None:
        if not judges:
            raise ValueError("a panel of no judges")
        self.judges, self.mode = tuple(judges), mode
        self.name = called([judge.name for judge in judges], mode)

    def judge(self, rows: Sequence[Row]) -> list[Verdict]:
        return self._cascade(rows) if self.mode == "cascade" else self._vote(rows)

    def _cascade(self, rows: Sequence[Row]) -> list[Verdict]:
        given: list[list[tuple[Verdict, str]]] = [[] for _ in rows]
        waiting = list(range(len(rows)))
        for judge in self.judges:
            found, spent = heard(judge, [rows[i] for i in waiting])
            given_now = {i: verdict for i, verdict in zip(waiting, found, strict=True) if verdict is not None}
            for i, verdict in given_now.items():
                given[i].append((verdict, doubt(judge, verdict)))
            last = judge is self.judges[-1]
            waiting = [i for i in waiting if i not in given_now or (given[i][-1][1] and not last)]
            if spent is not None:
                left = set(waiting)
                settled = [None if i in left else self._settled(chain) for i, chain in enumerate(given)]
                raise PartlyJudged(str(spent), settled)
        return [self._settled(chain) for chain in given]

    def _settled(self, chain: Sequence[tuple[Verdict, str]]) -> Verdict:
        """`chain`: each member's verdict and why it was not the last word ("" for the one that was)."""
        chosen, why = chain[-1]
        if why:
            told = [verdict for verdict, _ in chain]
            later = told[next((i for i, verdict in enumerate(told) if could_tell(verdict)), 0) :]
            chosen = next((verdict for verdict in reversed(later) if not could_tell(verdict)), later[0])
        steps = [f"{verdict.judge} {doubt}" for verdict, doubt in chain if doubt]
        reason = " → ".join([*steps, f"{chosen.judge}: {chosen.reason}"])
        same = (verdict.label for verdict, _ in chain if verdict.score is not None and verdict.score == chosen.score)
        label = next(same, chosen.label)
        return Verdict(chosen.score, label, reason, self.name, chosen.severity)

    def _vote(self, rows: Sequence[Row]) -> list[Verdict]:
        columns = [heard(judge, rows) for judge in self.judges]
        given = [[said for column, _ in columns if (said := column[i]) is not None] for i in range(len(rows))]
        if spent := next((why for _, why in columns if why is not None), None):
            whole = [self._counted(each) if len(each) == len(columns) else None for each in given]
            raise PartlyJudged(str(spent), whole)
        return [self._counted(each) for each in given]

    def _counted(self, given: Sequence[Verdict]) -> Verdict:
        scored = [verdict for verdict in given if verdict.score is not None]
        told = "; ".join(f"{verdict.judge} {verdict.label}" for verdict in given)
        counts = Counter(verdict.score for verdict in scored)
        ranked = counts.most_common(2)
        if not scored or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
            why = "a tie" if scored else "no member could tell"
            return Verdict(None, "unscored", f"{why}: {told}", self.name)
        side = [verdict for verdict in scored if verdict.score == ranked[0][0]]
        severities = [verdict.severity for verdict in side if verdict.severity is not None]
        outvoted = len(scored) - len(side)
        vote = f"{len(side)} for, {outvoted} against" if outvoted else f"{len(side)} for"
        severity = float(median(severities)) if severities else None
        return Verdict(side[0].score, side[0].label, f"{vote}: {told}", self.name, severity)


def could_tell(verdict: Verdict) -> bool:
    """Whether the judge could tell anything."""
    return verdict.score is not None or verdict.severity is not None


def doubt(judge: Judge, verdict: Verdict) -> str:
    """Why this verdict is not the last word, or ""."""
    if not could_tell(verdict):
        return f"unscored ({verdict.reason})"
    unsure = getattr(judge, "unsure", None)
    return f"unsure ({verdict.label}: {verdict.reason})" if unsure is not None and unsure(verdict) else ""


def agreement(
    given: Mapping[str, Mapping[str, float | None]], rng: random.Random, *, scale: bool = False
) -> tuple[dict[tuple[str, str], Estimate], Estimate]:
    """How far judges agree on the same items: (kappa of every two, Krippendorff's alpha of all).

    `given`: judge → item's id → 1, 0 or None; with `scale`, a severity (kappa with quadratic weights, alpha of
    ordinal scores). An item that only one judge scored is unscored.
    """
    items = list(dict.fromkeys(id for scores in given.values() for id in scores))
    by_two = {
        (one, two): kappa(
            [(given[one].get(id), given[two].get(id)) for id in items], weights="quadratic" if scale else None
        )
        for one, two in combinations(given, 2)
    }
    units = [[scores.get(id) for scores in given.values()] for id in items]
    return by_two, krippendorff_alpha(units, "ordinal" if scale else "nominal", rng)
