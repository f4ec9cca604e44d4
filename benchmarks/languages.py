"""Refusals by language of a finished run, untouched against each round: a Markdown table. Asks no model.

    python benchmarks/languages.py RUN [-o docs/languages.md]

The starter pack's dev requests, asked as they stand (starter_dev and starter_multilingual, each request once): refused
of the harmful ones (IPRR), refused of their benign twins (VPRR), and attack success by the language that an attack was
put in, on dev cases. Rates in per cent with 95 % intervals (Wilson), n in brackets. `lost` is the share of replies that
can't be counted: no language, cut off, or not to be told; `elsewhere` the share of replies in another language than the
request's. A language in which half of the replies are lost or elsewhere is one that the model does not speak.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from pathlib import Path

from breakfix.core import Attempt, Estimate, Expect, Split
from breakfix.ledger import Ledger
from breakfix.report.tally import ELSEWHERE, STARTER
from breakfix.report.views.languages import NAMES
from breakfix.stats import rate

FEW = 8  # replies, with less nothing is said of whether the model speaks a language


def share(outcomes: list[float | None]) -> Estimate:
    told = [one for one in outcomes if one is not None]
    return rate(round(sum(told)), len(told), len(outcomes) - len(told))


def cell(outcomes: list[float | None]) -> str:
    found = share(outcomes)
    if found.n == 0:
        return "–"
    return f"{100 * found.value:.0f} ({100 * found.low:.0f} to {100 * found.high:.0f}) [{found.n}]"


def refused(attempt: Attempt) -> float | None:
    """1 refused, in full or in part; None where the reply can't be counted."""
    label = attempt.final.label if attempt.error is None and attempt.final is not None else ""
    return float(label != "none") if label in ("full", "partial", "none") else None


def row(ledger: Ledger, round: int) -> dict[str, dict[str, list[float | None]]]:
    """Language → measure → outcomes of one round."""
    found: dict[str, dict[str, list[float | None]]] = defaultdict(lambda: defaultdict(list))
    direct = {a.case: a for a in ledger.attempts(round=round, stage="evaluate") if a.case.startswith(STARTER)}
    for a in direct.values():
        case = ledger.case(a.case)
        if case is None or (a.expect is Expect.COMPLY and not case.hazard):
            continue  # a plain request
        mine = found[a.language]
        mine["iprr" if a.expect is Expect.REFUSE else "vprr"].append(refused(a))
        mine["lost"].append(float(refused(a) is None))
        mine["elsewhere"].append(float(a.final is not None and ELSEWHERE.search(a.final.reason) is not None))
    attacked = list(ledger.attempts(round=round, stage="redteam"))
    splits = ledger.splits(sorted({a.case for a in attacked}))
    for a in attacked:
        if splits.get(a.case) == Split.DEV and a.family != "direct":
            found[a.language]["asr"].append(None if a.score is None else 1.0 - a.score)
    return found


def tables(ledger: Ledger) -> str:
    rounds = sorted({stage.round for stage in ledger.stages() if stage.name == "evaluate" and stage.finished})
    by_round = {round: row(ledger, round) for round in rounds}
    asked = Counter(code for found in by_round.values() for code in found)
    lines = [
        "| language | round | unsafe refused ↑ | safe refused ↓ | attack success ↓ | lost | elsewhere |",
        "|---|---|---|---|---|---|---|",
    ]
    silent: list[str] = []
    for code in sorted(asked, key=lambda code: (code != "en", NAMES.get(code, code))):
        name = NAMES.get(code, code)
        for round in rounds:
            mine = by_round[round].get(code, {})
            off, lost = ([one or 0.0 for one in mine.get(key, [])] for key in ("elsewhere", "lost"))
            shares = [f"{100 * sum(some) / len(some):.0f} %" if some else "–" for some in (lost, off)]
            cells = [cell(mine.get(key, [])) for key in ("iprr", "vprr", "asr")]
            lines.append(f"| {name} | {round or '0, untouched'} | {' | '.join([*cells, *shares])} |")
            if len(off) >= FEW and 2 * sum(max(two) for two in zip(off, lost, strict=True)) >= len(off):
                silent.append(f"{name} (round {round})")
    return "\n".join(lines) + (f"\n\nHardly spoken by the model: {', '.join(silent)}." if silent else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    if given.run is None:  # `make bench` has no run
        parser.print_usage()
        return
    with Ledger.open(given.run, write=False) as ledger:
        text = tables(ledger)
    if given.output is not None:
        about = (__doc__ or "").strip().split("\n\n")
        command = f"`python benchmarks/languages.py {given.run} -o {given.output}`"
        head = f"# By language\n\n{about[2]}\n\nMade by {command}.\n\n"
        given.output.write_text(head + text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
