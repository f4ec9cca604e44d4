"""What a report counts in a run's attempts: who judged them, tokens, failures by hazard, family and language.

Each stage of a round is read once, one attempt at a time: a run of 100,000 attempts is a matter of seconds.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from breakfix.core import Attempt, Expect, Split
from breakfix.identify.group import KINDS

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

Json = dict[str, Any]
GENERATING = ("evaluate", "redteam", "curate", "select")  # stages whose attempts are in the ledger under their name
MEASURING = ("evaluate", "redteam", "human")  # those that vulnerabilities are made of
STARTER = "starter/"  # what ids of the starter pack's cases begin with
OWN = ("languages_dev/", STARTER)  # requests of ours that are told by language; the first that a run measured
ELSEWHERE = re.compile(r"answers in \w+, was asked in ")  # in the reason of a verdict on a reply in another language
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Said:
    """A reply to a request asked directly. `kind`: harmful | twin | plain; `label`: the judge's, or FAILED; `reply`:
    its text, of harmless requests."""

    kind: str
    label: str
    elsewhere: bool
    reply: str


@dataclass(slots=True)
class Tally:
    """Of one stage of a round. `cells`: (kind, hazard, family, language) → case → (failed, held, unscored) attempts;
    `languages`: requests of ours, asked directly: language → case → what was said to it last."""

    judges: set[str] = field(default_factory=set[str])
    tokens_in: int = 0
    tokens_out: int = 0
    cells: dict[tuple[str, str, str, str], dict[str, list[int]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: [0, 0, 0]))
    )
    languages: dict[str, dict[str, Said]] = field(default_factory=lambda: defaultdict(dict[str, Said]))


def tally(attempts: Iterable[Attempt]) -> Tally:
    found = Tally()
    for attempt in attempts:
        found.judges.update(verdict.judge for verdict in attempt.verdicts)
        found.tokens_in += attempt.tokens_in
        found.tokens_out += attempt.tokens_out
        if attempt.expect in KINDS:
            key = (KINDS[attempt.expect], attempt.hazard, attempt.family, attempt.language)
            score = attempt.score
            found.cells[key][attempt.case][2 if score is None else int(score > 0)] += 1
            if attempt.family == "direct" and attempt.case.startswith(OWN):
                found.languages[attempt.language][attempt.case] = _said(attempt)
    return found


def _said(attempt: Attempt) -> Said:
    kind = "harmful" if attempt.expect is Expect.REFUSE else "twin" if attempt.hazard else "plain"
    final = attempt.final
    if attempt.error is not None or final is None:
        return Said(kind, FAILED, False, "")
    reply = "" if kind == "harmful" else attempt.transcript[-1].content
    return Said(kind, final.label, ELSEWHERE.search(final.reason) is not None, reply)


def cells(ledger: Ledger, tallies: Iterable[Tally]) -> list[Json]:
    """Attempts on dev cases, as vulnerabilities count them: {kind, hazard, family, language, failed, n, unscored}."""
    counts: dict[tuple[str, str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    found = list(tallies)
    splits = ledger.splits(sorted({case for one in found for cases in one.cells.values() for case in cases}))
    for one in found:
        for key, cases in one.cells.items():
            for case, (failed, held, unscored) in cases.items():
                if splits.get(case) == Split.DEV:
                    into = counts[key]
                    into[0] += failed
                    into[1] += failed + held
                    into[2] += unscored
    names = ("kind", "hazard", "family", "language")
    return [
        {**dict(zip(names, key, strict=True)), "failed": failed, "n": n, "unscored": unscored}
        for key, (failed, n, unscored) in sorted(counts.items())
    ]


def languages(evaluated: Tally | None) -> Json:
    """The starter pack's: language → {asked, and the judge's labels of the replies: full, partial, none, degenerate,
    unscored; failed; elsewhere: of all these, in another language}."""
    found: Json = {}
    for code, cases in by_code(evaluated):
        said = [one for case, one in cases.items() if case.startswith(STARTER)]
        if said:
            found[code] = {"asked": len(said), **counts(said)}
    return found


def counts(said: Iterable[Said]) -> dict[str, int]:
    """The labels, and "elsewhere" beside them."""
    return dict(sorted(Counter(word for one in said for word in (one.label, *(["elsewhere"] * one.elsewhere))).items()))


def by_code(evaluated: Tally | None) -> list[tuple[str, dict[str, Said]]]:
    """English first."""
    rows = evaluated.languages.items() if evaluated is not None else ()
    return sorted(rows, key=lambda row: (row[0] != "en", row[0]))
