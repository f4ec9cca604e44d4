"""A run's replies as a sheet (CSV) that a person labels, and `breakfix judges calibrate` reads back.

A sample in strata: by hazard, verdict, and whether the judges that have judged the run disagree. Each stratum gives one
row in turn, those with disagreement first and the others by lot, so that small ones are there; `weight` says for how
many attempts a row stands, `absent` how many are in strata that gave none. How much is shown of prompts and replies is
the reader's level (redaction.py). A cell that a spreadsheet would take for a formula begins with an apostrophe.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from breakfix.core import Attempt, Case, Verdict
from breakfix.judges.labels import guarded
from breakfix.report.redaction import TEAM, check

COLUMNS = (
    *("label", "note", "id", "case", "hazard", "language", "attack", "expect", "verdict", "score", "reason"),
    *("judges", "disagree", "weight", "absent", "shown", "request", "context", "prompt", "response"),
)
BOM = "\ufeff"  # without it a spreadsheet may not take the file for UTF-8


@dataclass(frozen=True, slots=True)
class Sampled:
    """An attempt to read, every judge's verdict on it (own first), how many attempts it stands for, and how many no row
    of the sample stands for."""

    attempt: Attempt
    verdicts: tuple[Verdict, ...]
    weight: float
    absent: int = 0

    @property
    def disagree(self) -> bool:
        return len({verdict.score for verdict in self.verdicts if verdict.score is not None}) > 1


def sample(
    attempts: Sequence[Attempt], later: Mapping[str, Sequence[Verdict]], n: int, rng: random.Random
) -> list[Sampled]:
    """At most `n` of the attempts that have a verdict. `later`: attempt's id → what other judges said, oldest first."""
    strata: dict[tuple[bool, str, str], list[Sampled]] = {}
    for attempt in attempts:
        if attempt.error is None and (final := attempt.final) is not None:
            others = {verdict.judge: verdict for verdict in later.get(attempt.id, ())}
            one = Sampled(attempt, (final, *others.values()), 1.0)
            strata.setdefault((not one.disagree, attempt.hazard, final.label), []).append(one)
    for members in strata.values():
        rng.shuffle(members)
    order = sorted(strata)
    rng.shuffle(order)
    turns = zip_longest(*(strata[key] for key in sorted(order, key=lambda stratum: stratum[0])))
    chosen = [one for one in chain.from_iterable(turns) if one is not None][:n]
    taken = {one.attempt.id for one in chosen}
    weights = {
        one.attempt.id: len(members) / sum(m.attempt.id in taken for m in members)
        for members in strata.values()
        for one in members
        if one.attempt.id in taken
    }
    absent = sum(len(members) for members in strata.values() if all(m.attempt.id not in taken for m in members))
    return [Sampled(one.attempt, one.verdicts, weights[one.attempt.id], absent) for one in chosen]


def sheet(rows: Sequence[Sampled], case_of: Callable[[str], Case | None], level: str) -> str:
    """The CSV. UserError for an unknown level."""
    check(level)
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = _cells(row, case_of(row.attempt.case), level)
        writer.writerow([guarded(cells[name]) for name in COLUMNS])
    return BOM + out.getvalue().encode("utf-8", "replace").decode("utf-8")


def _cells(row: Sampled, case: Case | None, level: str) -> dict[str, str]:
    attempt, own = row.attempt, row.verdicts[0]
    turn = attempt.breach if attempt.breach is not None else len(attempt.verdicts) - 1
    said = attempt.transcript[: attempt.place(turn) + 1]
    asked = max((i for i, message in enumerate(said) if message.role == "user"), default=0)
    context = "\n\n".join(f"{message.role}: {message.content}" for message in said[:asked])
    texts = {
        "request": case.text if case is not None else "",
        "context": context,
        "prompt": said[asked].content,
        "response": said[-1].content,
        "reason": own.reason,
    }
    score = "" if own.score is None else f"{own.score:g}"
    return {
        **{name: getattr(attempt, name) for name in ("id", "case", "hazard", "language", "attack")},
        **{name: _shown(text, level) for name, text in texts.items()},
        "label": "",
        "note": "",
        "expect": str(attempt.expect),
        "verdict": own.label,
        "score": score,
        "judges": "; ".join(f"{verdict.judge} {verdict.label}" for verdict in row.verdicts),
        "disagree": "yes" if row.disagree else "no",
        "weight": f"{row.weight:g}",
        "absent": str(row.absent),
        "shown": level,
    }


def _shown(text: str, level: str) -> str:
    return "" if level == "public" else text[:TEAM] if level == "team" else text
