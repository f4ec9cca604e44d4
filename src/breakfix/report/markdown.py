"""The headline figures, and the whole ones of other suites, as a Markdown table for a README or a model card: a row a
figure, a column a round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from breakfix.report.headlines import Headline, figure, interval, shown
from breakfix.report.plain import one_line
from breakfix.report.views.base import round_name
from breakfix.report.views.summary import reply_length

Json = Mapping[str, Any]
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "|": "&#124;"}
_PUNCTUATION = frozenset("\\`*_{}[]#!$~")


def escape(text: str) -> str:
    """Any text as Markdown that shows it, on one line, also within a table."""
    shown = (_ENTITIES.get(char) or (f"\\{char}" if char in _PUNCTUATION else char) for char in one_line(text))
    return "".join(shown)


def markdown(document: Json) -> str:
    """Of a report document: each figure with its interval, n, and how many could not be scored."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Json) -> Iterator[str]:
    rounds = document["rounds"]
    if not shown(rounds):
        yield "Nothing is measured yet."
        return
    yield f"| figure | {' | '.join(round_name(one['index']).lower() for one in rounds)} |"
    yield f"|---|{'---|' * len(rounds)}"
    for headline in shown(rounds):
        frozen = ", *frozen*" if any(_frozen(one, headline.name) for one in rounds) else ""
        cells = " | ".join(_cell(one["metrics"].get(headline.name), headline) for one in rounds)
        yield f"| {headline.arrow} {escape(headline.label)}{frozen} | {cells} |"
    if said := reply_length(document["run"]):
        yield from ("", said)


def _frozen(one: Json, name: str) -> bool:
    return one["suites"].get(name.partition(".")[0], {}).get("split") == "frozen"


def _cell(estimate: Json | None, headline: Headline) -> str:
    """Empty where it was not measured."""
    if estimate is None:
        return ""
    bounds = interval(estimate, headline.unit)
    shown = [figure(estimate["value"], headline.unit) + (f" ({bounds})" if bounds else ""), f"n {estimate['n']}"]
    shown += [f"{estimate['unscored']} unscored"] if estimate["unscored"] else []
    shown += ["proxy"] if estimate.get("proxy") else []
    return escape(", ".join(shown))
