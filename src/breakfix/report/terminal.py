"""The report as a table in the terminal: a row per headline figure, a column per round; plain text in a pipe."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from breakfix.report import grid
from breakfix.report.headlines import Headline, figure, interval, shown
from breakfix.report.plain import one_line
from breakfix.report.views.measured import cards_of, judge_cell, not_checked
from breakfix.report.views.summary import reply_length
from breakfix.report.views.vulnerabilities import gravest_first, unmeasured

SHOWN = 5  # vulnerabilities, the gravest ones
LABEL = 40  # characters of a line of a figure's name
_COLOURS = {"PASS": "green", "FAIL": "red", "STALLED": "yellow"}


def render(document: dict[str, Any], console: Console, *, html: Path | None = None) -> None:
    """Print a report document. `html`: where the HTML report of it lies. Names in it are text, never markup."""
    run = document["run"]
    parts: list[RenderableType] = [
        Text(one_line(f"{run['name']} · {run['model']}"), style="bold"),
        *_table(document["rounds"], console.width),
        *([Text(said, style="dim")] if (said := reply_length(run)) else []),
        *_selections(document["rounds"]),
        *_gates(document["rounds"]),
        *_counts(document["vulnerabilities"]),
        *_judges(document["judges"]),
        *_skipped(document["rounds"]),
        *_looks(document["looks"]),
    ]
    if html is not None:
        parts.append(Text(f"report: {html}"))
    console.print(Group(*parts), soft_wrap=False)


def _table(rounds: list[dict[str, Any]], width: int) -> list[RenderableType]:
    """The table, and a line on the rounds that the terminal has no room for: a figure is never cut."""
    headlines = shown(rounds)
    if not headlines:
        return [Text("nothing is measured yet; `breakfix status` shows what is done")]
    labels = [Text(), *(grid.folded(Text(one_line(f"{h.arrow} {h.label}")), LABEL) for h in headlines)]
    columns = _columns(rounds, headlines, " ")
    if grid.span([labels, *columns]) > width:
        columns = _columns(rounds, headlines, "\n")
    last = len(columns)  # the untouched model is kept, and as many of the last rounds as there is room for
    first = 1
    while first < last - 1 and grid.span([labels, columns[0], *columns[first:]]) > width:
        first += 1
    table = grid.table([labels, *columns[:1], *columns[first:]], width, right=True)
    left_out = f"(not shown: round {first - 1 if first == 2 else f'1 to {first - 1}'})"
    return [table] if first == 1 else [table, Text(left_out, style="dim")]


def _columns(rounds: list[dict[str, Any]], headlines: list[Headline], separator: str) -> list[list[Text]]:
    """Per round: its name, and a cell per headline."""
    return [[Text(round_name(one["index"])), *(_cell(one, h, separator) for h in headlines)] for one in rounds]


def round_name(index: int) -> str:
    return "untouched" if index == 0 else f"round {index}"


def _cell(one: dict[str, Any], headline: Headline, separator: str) -> Text:
    """'12.5 % (7.1 to 21.0) n 88'; '– n 0' where nothing could be scored; empty where it was not measured."""
    estimate = one["metrics"].get(headline.name)
    if estimate is None:
        return Text("")
    bounds = interval(estimate, headline.unit)
    shown = Text(figure(estimate["value"], headline.unit))
    if bounds:
        shown.append(f"{separator}({bounds})", style="dim")
    shown.append(f"{separator}n\N{NO-BREAK SPACE}{estimate['n']}", style="dim")
    if estimate.get("proxy"):
        shown.append("\nproxy", style="yellow")
    if estimate["unscored"]:
        shown.append(f"\n{estimate['unscored']} unscored", style="yellow")
    return shown


def _selections(rounds: list[dict[str, Any]]) -> list[Text]:
    """Which checkpoint of each round went on, where there were several."""
    lines = [
        f"round {one['index']}: candidate {one['selection']['selected']} chosen, "
        f"{', '.join(drop['name'] for drop in one['selection']['dropped'])} dropped"
        for one in rounds
        if one["selection"]
    ]
    return [Text(), *(Text(one_line(line)) for line in lines)] if lines else []


def _gates(rounds: list[dict[str, Any]]) -> list[Text]:
    """The last decision, and what stood against it."""
    decided = [one for one in rounds if one["gate"]]
    if not decided:
        return []
    gate = decided[-1]["gate"]
    line = Text(f"gate, {round_name(decided[-1]['index'])}: ")
    line.append(gate["decision"], style=f"bold {_COLOURS.get(gate['decision'], '')}")
    kept = [Text(one_line(f"  {gate['loop']['said']}"))] if "loop" in gate else []
    return [Text(), line, *kept, *(Text(f"  {_reason(reason)}") for reason in gate["reasons"] if not reason["ok"])]


def _reason(reason: dict[str, Any]) -> str:
    """'xstest.vprr: 12.0 %, bound 21.3 %, limit 20.0 %': the bound of the interval is what is compared."""
    value, bound, limit = (figure(reason[part]) for part in ("value", "bound", "limit"))
    return one_line(f"{reason['name']}: {value}, bound {bound}, limit {limit}")


def _counts(vulnerabilities: list[dict[str, Any]]) -> list[Text]:
    if not vulnerabilities:
        return []
    by_status = Counter(v["status"] for v in vulnerabilities)
    open_ = [v for v in gravest_first(vulnerabilities) if v["status"] != "fixed"]
    more = [f"  and {len(open_) - SHOWN} more, in the HTML report"] if len(open_) > SHOWN else []
    lines = ["vulnerabilities: " + ", ".join(f"{n} {status}" for status, n in by_status.items())]
    return [Text(), *map(Text, [*lines, *map(_weakness, open_[:SHOWN]), *more])]


def _weakness(v: dict[str, Any]) -> str:
    """'  V1 Answers harmful requests about ...: 60.0 % (23.1 to 88.2), n 5'; its id is what `breakfix trace` takes."""
    said = [f"{figure(v['rate']['value'])}" + (f" ({bounds})" if (bounds := interval(v["rate"])) else "")]
    said += [f"n {v['rate']['n']}", *filter(None, [unmeasured(v)])]
    return one_line(f"  {v['id']} {v['name']}: {', '.join(said)}")


def _judges(judges: list[dict[str, Any]]) -> list[Text]:
    """'judge refusal-rules@2: accuracy 95.9 % (91.7 to 98.0), κ 0.91, n 169', a line for each set of labels."""
    said = [f"judge {one['judge']}: {told}" for one in judges for told in _agreement(one)]
    return [Text(), *(Text(one_line(line), style="dim") for line in said)] if said else []


def _agreement(one: dict[str, Any]) -> list[str]:
    cards = cards_of(one)
    if not cards:
        return [one["why"]]
    on = [f"on {card['labels']}, " if len(cards) > 1 else "" for card in cards]
    return [f"{labels}{_figures(card, one['why'])}" for labels, card in zip(on, cards, strict=True)]


def _figures(card: dict[str, Any], why: str) -> str:
    shown: list[str] = []
    for name, label in (("accuracy", "accuracy"), ("mae", "mean error"), ("kappa", "κ"), ("alpha", "α")):
        found = judge_cell(card["figures"].get(name), name)
        if found:
            bounds = "" if name in ("kappa", "alpha") or not found["interval"] else f" ({found['interval']})"
            shown.append(f"{label} {found['value']}{bounds}")
    return ", ".join([*shown, f"n {card['n']}", *filter(None, [why])])


def _skipped(rounds: list[dict[str, Any]]) -> list[Text]:
    """Each skipped suite once: it is skipped for the same reason in every round. Then the suites that training data
    could not be checked against; the reason is the same again."""
    seen = dict.fromkeys((s["suite"], s["reason"]) for one in rounds for s in one["skipped"] if s["suite"])
    lines = [f"skipped {suite}: {reason.removeprefix(f'{suite}: ')}" for suite, reason in seen]
    missing = dict.fromkeys(row["suite"] for one in rounds for row in not_checked(one))
    if missing:
        lines.append(f"training data was not checked against {', '.join(missing)}, which could not be had")
    return [Text(one_line(line), style="yellow") for line in lines]


def _looks(looks: dict[str, int]) -> list[Text]:
    """'frozen suites measured in this run: xstest 3 times, ...': a suite that is looked at often steers."""
    if not looks:
        return []
    counts = ", ".join(f"{suite} {'once' if n == 1 else f'{n} times'}" for suite, n in looks.items())
    return [Text(one_line(f"frozen suites measured in this run: {counts}"), style="dim")]
