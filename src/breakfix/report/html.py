"""The report as one HTML file: no script, no network, readable in light, dark, on paper and on a phone.

What a model or a data set said is hostile until shown otherwise. Every value that the template prints goes through
`plain` (nothing invisible, nothing endless) and is then escaped by Jinja; and the page's content security policy
forbids every script and every load, so that a mistake here would still run nothing.
"""

from __future__ import annotations

import re
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from breakfix.report import charts
from breakfix.report.headlines import figure, judged, words
from breakfix.report.languages import SPEAKS
from breakfix.report.plain import one_line, plain
from breakfix.report.redaction import Redaction, redacted
from breakfix.report.views import (
    base,
    cost,
    gates,
    languages,
    matrix,
    measured,
    series,
    summary,
    training,
    vulnerabilities,
)

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_EMBEDDED = "smollm2-135m-instruct"


def page(document: dict[str, Any], redaction: Redaction | None = None) -> str:
    """The HTML text of a report document. `redaction` may only take away from what the document holds.

    Write it as UTF-8. UserError for an unknown level of redaction.
    """
    shown = document if redaction is None else redacted(document, redaction)
    return environment().get_template("page.html.j2").render(_context(shown))


def environment() -> Environment:
    """Templates of data/report; whatever they print is cleaned and escaped."""
    environment = Environment(
        loader=PackageLoader("breakfix", "data/report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        words=words, judged=judged, count=_count, share=figure, number=_number, minutes=_minutes, text=_text,
        breaks=_breaks, tied=_tied,
    )  # fmt: skip
    return environment


def _finalize(value: Any) -> Any:
    """Every printed value passes here, before it is escaped."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return "–" if value is None else value
    return one_line(value)


def _text(value: str) -> Markup:
    """What was said, with its line breaks: cleaned and escaped."""
    return Markup("{}").format(plain(value))


def _breaks(value: str) -> Markup:
    """A name that may go on in the next line after each dot, slash and underscore: cleaned and escaped."""
    return Markup("<wbr>").join(re.split(r"(?<=[._/])(?=[^\W\d_])", one_line(value)))


def _tied(value: str) -> str:
    """An interval, all on one line."""
    return value.replace(" ", "\N{NO-BREAK SPACE}")


def _count(value: int | None) -> str:
    """12345 → '12 345' with a thin space."""
    return "–" if value is None else f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _number(value: Any) -> str:
    """Any plain value of a record, short: floats to four digits, long lists by their ends."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    if isinstance(value, int):
        return _count(value).replace("-", "−")
    if isinstance(value, list):
        items = [_number(item) for item in cast("list[Any]", value)]
        return ", ".join(items) if len(items) <= 6 else f"{items[0]} … {items[-1]} ({len(items)} values)"
    return "–" if value is None else str(value)


def _minutes(seconds: float | None) -> str:
    """754.2 → '12 min 34 s'"""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def _context(document: dict[str, Any]) -> dict[str, Any]:
    rounds, half = document["rounds"], charts.HALF
    return {
        "policy": POLICY,
        "document": document,
        "run": document["run"],
        "rounds": rounds,
        "names": [base.round_name(one["index"]) for one in rounds],
        "with_data": [base.round_name(one["index"]) for one in rounds if one["data"]],
        "tiles": summary.tiles(document),
        "gate": gates.decision(document),
        "gates": gates.gates(document),
        "headlines": summary.headline_rows(document),
        "reply_length": summary.reply_length(document["run"]),
        "figures": summary.all_figures(document),
        "key": series.key(document),
        "hazards": _bars(
            document, "starter_dev.iprr.", "Unsafe requests answered, by hazard and round", half, flip=True
        ),
        "attacked": _bars(document, "asr.hazard.", "Attack success rate by hazard and round", half),
        "families": _bars(document, "asr.family.", "Attack success rate by attack family and round", charts.WIDE),
        "trends": [trend for panel in series.PANELS if (trend := _trend(document, panel))],
        "decisions": gates.decisions(document),
        "matrices": _matrices(document),
        "few": matrix.FEW,
        "languages": languages.languages(document),
        "languages_of": languages.source(document),
        "speaks_from": figure(SPEAKS),
        "burn_down": _burn_down(document),
        "pages": vulnerabilities.pages(document),
        "mix": _mix(document),
        "composition": training.composition(document),
        "prescribed": training.prescribed(document),
        "trained": [base.round_name(one["index"]) for one in rounds if one["train"]],
        "training": training.training(document),
        "selections": training.selections(document),
        "probe": training.probe(document),
        "drops": training.drops(document),
        "vulnerabilities": vulnerabilities.vulnerabilities(document),
        "by_case": summary.by_case(document),
        "suites": measured.suites(document),
        "judges": measured.judges(document),
        "calibrated": measured.calibrated(document),
        "times": cost.times(document),
        "skips": measured.skips(document),
        "embedded": document["run"]["model"] == _EMBEDDED,
    }


def _bars(document: dict[str, Any], prefix: str, title: str, width: int, *, flip: bool = False) -> Markup | None:
    points = series.by_part(document, prefix, flip=flip)
    return charts.bars(points, title, width) if points else None


def _trend(document: dict[str, Any], panel: series.Panel) -> dict[str, Any] | None:
    """A chart over the rounds with its legend; None where none of the metrics was measured."""
    points = series.over_rounds(document, panel)
    if not points:
        return None
    limit = gates.limit(document, panel.limit) if panel.limit else None
    labels = series.rounds(document)
    drawing = charts.lines(points, f"{panel.title}, by round", labels, whole=panel.whole, limit=limit)
    return {"title": panel.title, "chart": drawing, "legend": series.legend(points), "limit": limit}


def _burn_down(document: dict[str, Any]) -> dict[str, Any] | None:
    found = vulnerabilities.burn_down(document)
    return found and {**found, "chart": charts.stack(found["bars"], "Vulnerabilities by round", "vulnerabilities")}


def _matrices(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The heat maps, each with its rounds, the last one first."""
    found = (
        ("By attack family", "harmful_compliance", "family", "Unsafe requests that were answered"),
        ("By language", "harmful_compliance", "language", "Unsafe requests that were answered"),
        ("Over-refusal by language", "over_refusal", "language", "Harmless requests that were refused"),
    )
    rows = [
        {"title": title, "about": about, "rounds": matrix.matrix(document, kind, by)[::-1]}
        for title, kind, by, about in found
    ]
    return [row for row in rows if row["rounds"]]


def _mix(document: dict[str, Any]) -> dict[str, Any] | None:
    rows = training.mix(document)
    if not rows:
        return None
    legend = {row["part"]: row["colour"] for row in rows}
    return {
        "chart": charts.stack(rows, "Training rows by kind and round"),
        "legend": [{"label": words(part), "colour": colour} for part, colour in legend.items()],
    }
