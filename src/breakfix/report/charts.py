"""Charts as static SVG, drawn by Vega-Lite (through vl-convert, which carries it) while the report is made.

Why not a charting script in the page: with none the page needs no script at all, and its content security policy
can forbid every one; it stays small enough to send by mail; and it prints. Colours are CSS variables, so one drawing
serves the light and the dark scheme. Each mark has a <title>, which browsers show on hover and readers read out.
Each chart is drawn twice, wide and narrow, so that its text stays legible on a phone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

from breakfix.report.headlines import figure, interval
from breakfix.report.plain import one_line

Spec = dict[str, Any]
WIDE, HALF, NARROW, THIRD, _IN_SHEET = (
    944,
    450,
    330,
    300,
    240,
)  # drawing units; a unit is a CSS pixel where there is room
_TAGS = frozenset({"svg", "g", "path", "line", "rect", "text", "tspan", "title"})
_CONFIG: Spec = {
    "background": None,
    "padding": 4,
    "font": "Arial",
    "view": {"stroke": None},
    "title": {"color": "var(--ink)", "fontSize": 13},
    "legend": {"labelColor": "var(--muted)", "labelFontSize": 12, "symbolOpacity": 1},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridColor": "var(--grid)",
        "domain": False,
        "ticks": False,
        "labelPadding": 8,
    },
}


@dataclass(frozen=True, slots=True)
class Point:
    """One figure in a chart. `value`, `low`, `high` as in the document; `colour` is a CSS variable's name."""

    label: str
    series: str
    colour: str
    value: float
    low: float
    high: float
    n: int
    x: int = 0

    @classmethod
    def of(cls, estimate: Mapping[str, Any], label: str, series: str, colour: str, x: int = 0) -> Point | None:
        """None where there is nothing to draw. Without an interval, the bar or dot stands alone."""
        value, low, high = (estimate[name] for name in ("value", "low", "high"))
        if value is None:
            return None
        low, high = (value if low is None else low), (value if high is None else high)
        return cls(one_line(label, 60), one_line(series, 60), colour, value, low, high, estimate["n"], x)

    def row(self) -> Spec:
        known = {"value": self.value, "low": self.low, "high": self.high}
        about = f"{self.label}, {self.series}: {figure(self.value)} ({interval(known)}), n = {self.n}"
        shown = {"label": self.label, "series": self.series, "colour": self.colour, "x": self.x, "about": about}
        return {**known, **shown}


def bars(points: Sequence[Point], title: str, width: int = WIDE) -> Markup:
    """Grouped horizontal bars with intervals, in the order of the points; shares, from 0 to 100 %."""
    return _both(lambda width: _bars(points, width), title, width)


def lines(
    points: Sequence[Point], title: str, rounds: Sequence[str], *, whole: bool = True, limit: float | None = None
) -> Markup:
    """Series over the rounds with bands. `whole`: the axis shows 0 to 100 %; else only the part that matters. `limit`:
    a dashed line."""
    return _both(lambda width: _lines(points, width, rounds, whole, limit), title, THIRD)


def stack(rows: Sequence[Spec], title: str, unit: str = "rows") -> Markup:
    """One bar a row label, made of parts: rows of {label, part, colour, n}."""
    return _both(lambda width: _stack(rows, width, unit), title, WIDE)


def changes(points: Sequence[Point], title: str) -> Markup:
    """Dots with intervals about a line at 0, in the order of the points: differences of shares."""
    return _both(lambda width: _changes(points, width), title, WIDE)


@dataclass(frozen=True, slots=True)
class Lines:
    """What `lines` draws, to be drawn with others in one picture."""

    title: str
    points: Sequence[Point]
    whole: bool = True
    limit: float | None = None


def sheet(panels: Sequence[Lines], title: str, rounds: Sequence[str]) -> str:
    """Charts over the rounds, three in a row, each with its legend: an SVG file, with names of colours."""

    def one(panel: Lines) -> Spec:
        colours = {point.series: point.colour for point in panel.points}
        spec = _lines(panel.points, _IN_SHEET, rounds, panel.whole, panel.limit)
        legend = {"title": None, "orient": "bottom", "direction": "vertical"} if len(colours) > 1 else None
        scale = {"domain": list(colours), "range": list(colours.values())}
        spec["encoding"]["color"] = {"field": "series", "type": "nominal", "scale": scale, "legend": legend}
        return {**spec, "title": {"text": panel.title, "anchor": "start"}}

    root = _drawn(
        {"concat": [one(panel) for panel in panels], "columns": 3, "resolve": {"scale": {"color": "independent"}}}
    )
    _head(root, title)
    root.attrib.update({"xmlns": "http://www.w3.org/2000/svg", "role": "img"})
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _both(spec: Callable[[int], Spec], title: str, wide: int) -> Markup:
    """The wide drawing and the narrow one; the style sheet shows one of them."""
    if wide <= NARROW:
        return draw(spec(wide), title, "chart")
    return draw(spec(wide), title, "chart wide") + draw(spec(NARROW), title, "chart narrow")


def draw(spec: Spec, title: str, css: str) -> Markup:
    """A Vega-Lite spec as an SVG element, reduced to drawing elements and scaled by the style sheet."""
    root = _drawn({**spec, "autosize": {"type": "fit-x", "contains": "padding"}})
    width = root.attrib.pop("width")
    root.attrib.pop("height", None)
    _head(root, title, "Every mark says its figure; the tables of this page have them all.")
    root.attrib.update({"class": css, "role": "img", "aria-label": title, "style": f"max-width: {width}px"})
    return Markup(ElementTree.tostring(root, encoding="unicode", method="html"))


def _drawn(spec: Spec) -> ElementTree.Element:
    import vl_convert  # 30 MB, and a JavaScript engine

    text = vl_convert.vegalite_to_svg(
        json.dumps({**spec, "config": _CONFIG}), show_warnings=False, allowed_base_urls=[]
    )
    root = ElementTree.fromstring(text)
    _reduce(root)
    return root


def _head(root: ElementTree.Element, title: str, about: str = "Every mark says its figure.") -> None:
    for tag, words in (("desc", about), ("title", title)):
        root.insert(0, ElementTree.Element(tag))
        root[0].text = words


def _reduce(element: ElementTree.Element) -> None:
    """Local names only; nothing but drawing; what a mark says of itself becomes its <title>."""
    element.tag = element.tag.rpartition("}")[2]
    about = element.attrib.get("aria-label") if element.attrib.get("role") == "graphics-symbol" else None
    for name in list(element.attrib):
        if name.startswith(("aria-", "{", "role", "class", "clip-path")):
            del element.attrib[name]
    for child in list(element):
        if child.tag.rpartition("}")[2] in _TAGS:
            _reduce(child)
        else:
            element.remove(child)
    if about and element.tag == "path" and len(element) == 0:
        ElementTree.SubElement(element, "title").text = about


def _bars(points: Sequence[Point], width: int) -> Spec:
    labels, series = _ordered(p.label for p in points), _ordered(p.series for p in points)
    band: Spec = {"field": "series", "type": "nominal", "sort": series, "scale": {"paddingInner": 0.15}}
    axis = {"title": None, "labelLimit": 230, "labelFontSize": 12 if width > NARROW else 11, "labelColor": "var(--ink)"}
    return {
        "width": width,
        "height": {"step": max(8, 22 - 4 * len(series))},
        "data": {"values": [p.row() for p in points]},
        "encoding": {
            "y": {
                "field": "label",
                "type": "nominal",
                "sort": labels,
                "axis": axis,
                "scale": {"paddingInner": 0.32, "paddingOuter": 0.1},
            },
            "yOffset": band,
        },
        "layer": [
            {
                "mark": {"type": "bar", "cornerRadiusEnd": 2},
                "encoding": {"x": _share("value", width), "color": _colour(), "description": {"field": "about"}},
            },
            {
                "mark": {"type": "rule", "stroke": "var(--whisker)", "strokeWidth": 1.2},
                "encoding": {
                    "x": _share("low", width),
                    "x2": {"field": "high"},
                    "yOffset": {**band, "bandPosition": 0.5},
                },
            },
        ],
    }


def _share(field: str, width: int) -> Spec:
    ticks = [0, 0.5, 1] if width <= NARROW else [0, 0.25, 0.5, 0.75, 1] if width <= HALF else [x / 5 for x in range(6)]
    axis = {"format": ".0%", "values": ticks, "title": None}
    return {"field": field, "type": "quantitative", "scale": {"domain": [0, 1]}, "axis": axis}


def _colour() -> Spec:
    return {"field": "colour", "type": "nominal", "scale": None, "legend": None}


def _ordered(names: Any) -> list[str]:
    return list(dict.fromkeys(names))


def _changes(points: Sequence[Point], width: int) -> Spec:
    labels, series = _ordered(p.label for p in points), _ordered(p.series for p in points)
    axis = {"title": None, "labelLimit": 230, "labelFontSize": 12 if width > NARROW else 11, "labelColor": "var(--ink)"}
    x: Spec = {"type": "quantitative", "axis": {"format": "+.0%", "tickCount": 7, "title": None}}
    return {
        "width": width,
        "height": {"step": max(9, 22 - 4 * len(series))},
        "data": {"values": [p.row() for p in points]},
        "encoding": {
            "y": {"field": "label", "type": "nominal", "sort": labels, "axis": axis, "scale": {"padding": 0.3}},
            "yOffset": {"field": "series", "type": "nominal", "sort": series},
        },
        "layer": [
            {
                "mark": {"type": "rule", "stroke": "var(--muted)"},
                "encoding": {"x": {"datum": 0, **x}, "y": None, "yOffset": None},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 1.6},
                "encoding": {"x": {"field": "low", **x}, "x2": {"field": "high"}, "color": _colour()},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 50, "opacity": 1},
                "encoding": {"x": {"field": "value", **x}, "color": _colour(), "description": {"field": "about"}},
            },
        ],
    }


def _lines(points: Sequence[Point], width: int, rounds: Sequence[str], whole: bool, limit: float | None) -> Spec:
    scale: Spec = {"domain": [0, 1]} if whole else {"zero": False, "nice": True}
    y: Spec = {"type": "quantitative", "scale": scale, "axis": {"format": ".0%", "tickCount": 5, "title": None}}
    ends: Spec = {"values": list(range(len(rounds))), "labelExpr": f"{json.dumps(list(rounds))}[datum.value]"}
    x: Spec = {
        "field": "x",
        "type": "quantitative",
        "scale": {"domain": [0, max(1, len(rounds) - 1)], "padding": 14, "nice": False},
        "axis": {**ends, "title": None, "grid": False, "labelFlush": False},
    }
    by = {"field": "series", "type": "nominal"}
    dashes: list[Spec] = [] if limit is None else [_dashed(limit, y)]
    return {
        "width": width,
        "height": 200,
        "data": {"values": [p.row() for p in points]},
        "encoding": {"x": x, "detail": by, "color": _colour()},
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.14},
                "encoding": {"y": {"field": "low", **y}, "y2": {"field": "high"}},
            },
            {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"y": {"field": "value", **y}}},
            {
                "mark": {"type": "point", "filled": True, "size": 46, "opacity": 1},
                "encoding": {"y": {"field": "value", **y}, "description": {"field": "about"}},
            },
            *dashes,
        ],
    }


def _dashed(limit: float, y: Spec) -> Spec:
    rule = {"type": "rule", "stroke": "var(--ink)", "strokeDash": [4, 3], "strokeWidth": 1}
    return {
        "data": {"values": [{"limit": limit}]},
        "mark": rule,
        "encoding": {"x": None, "detail": None, "color": None, "y": {"field": "limit", **y}},
    }


def _stack(rows: Sequence[Spec], width: int, unit: str) -> Spec:
    values = [{**r, "order": i, "about": f"{r['label']}, {r['part']}: {r['n']} {unit}"} for i, r in enumerate(rows)]
    axis = {"title": None, "labelFontSize": 12.5, "labelColor": "var(--ink)"}
    return {
        "width": width,
        "height": {"step": 34},
        "data": {"values": values},
        "mark": {"type": "bar", "stroke": "var(--paper)", "strokeWidth": 1.5},
        "encoding": {
            "y": {"field": "label", "type": "nominal", "sort": None, "axis": axis, "scale": {"padding": 0.25}},
            "x": {
                "field": "n",
                "type": "quantitative",
                "axis": {"title": unit, "tickCount": 5, "format": "d", "tickMinStep": 1},
            },
            "order": {"field": "order"},
            "color": _colour(),
            "description": {"field": "about"},
        },
    }
