"""Tables in the terminal that lose nothing. Lines fold, between words as long as there is room for whole words, and a
figure stays beside its interval; what has no room beside the first columns stands in a table of its own below.

A column is a list of cells, the first of them its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

Column = Sequence[Text]
GAP = 3  # characters between columns
_BRACKETS = r"\([^() \n]+ to [^() \n]+\)[^ ]*"  # an interval
_WHOLE = re.compile(rf"{_BRACKETS}|\[[^\]\n]{{1,24}}\]|(?:[n↓↑] |\d+ (?=[a-z]))?[^ ]+(?: %)?(?: {_BRACKETS})?")
_PARTS = re.compile(rf"{_BRACKETS}|[^ _/+]+[_/+]*|[_/+]+")


def tables(
    key: Sequence[Column],
    groups: Sequence[Sequence[Column]],
    width: int,
    *,
    gap: int = GAP,
    styles: Sequence[str] = (),
) -> list[Table]:
    """The columns of `key`, and beside them as many groups as there is room for; the others below, beside `key` again.
    A group is never divided. `styles`: one a row."""
    shown: list[list[Column]] = [[]]
    for group in groups:
        if shown[-1] and span([*key, *shown[-1], *group], gap) > width:
            shown.append([])
        shown[-1] += group
    return [table([*key, *some], width, gap=gap, styles=styles) for some in shown]


def span(columns: Sequence[Column], gap: int = GAP) -> int:
    """How wide a table of these columns is if nothing is folded."""
    return _span(map(_natural, columns), gap)


def table(
    columns: Sequence[Column],
    width: int,
    *,
    gap: int = GAP,
    right: bool = False,
    styles: Sequence[str] = (),
) -> Table:
    """One table, no wider than `width`. `right`: all but the first column are flush right; `styles`: one a row."""
    made = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    shown = [[folded(cell, wide) for cell in column] for column, wide in zip(columns, _widths(columns, width, gap))]
    for place, column in enumerate(shown):
        made.add_column(column[0], overflow="fold", justify="right" if right and place else "left")
    for place, row in enumerate(zip(*(column[1:] for column in shown), strict=True)):
        made.add_row(*row, style=styles[place] if styles else "")
    return made


def _widths(columns: Sequence[Column], width: int, gap: int) -> list[int]:
    """As wide as they are; where that is too much, the widest is cut, first to no less than its longest word, then, the
    first column last, than the longest part of one, then to what there is."""
    widths = [_natural(column) for column in columns]
    words, parts = (
        [max(cell_len(piece) for cell in column for piece in _split(cell.plain, pieces)) for column in columns]
        for pieces in (_WHOLE, _PARTS)
    )
    for least in (words, [*words[:1], *parts[1:]], parts, [1] * len(columns)):
        while _span(widths, gap) > width and (able := [i for i, wide in enumerate(widths) if wide > least[i]]):
            widths[max(able, key=widths.__getitem__)] -= 1
    return widths


def folded(cell: Text, width: int) -> Text:
    """In lines no wider than `width`, but for one long word."""
    return Text("\n").join(part for line in cell.split("\n", allow_blank=True) for part in _broken(line, width))


def _broken(line: Text, width: int) -> Iterator[Text]:
    text, cuts, begin, end = line.plain, list[int](), 0, 0
    if line.cell_len > width:
        for piece in _fitting(text, width):
            start = text.index(piece, end)
            end = start + len(piece)
            if start > begin and cell_len(text[begin:end]) > width:
                cuts.append(start)
                begin = start
    for part in line.divide(cuts):
        part.rstrip()
        yield part


def _fitting(text: str, width: int) -> Iterator[str]:
    for piece in _split(text, _WHOLE):
        yield from [piece] if cell_len(piece) <= width else _split(piece, _PARTS)


def _split(text: str, pieces: re.Pattern[str]) -> list[str]:
    return [piece for line in text.split("\n") for piece in pieces.findall(line)] or [""]


def _natural(column: Column) -> int:
    return max(cell_len(line) for cell in column for line in cell.plain.split("\n"))


def _span(widths: Iterable[int], gap: int) -> int:
    each = list(widths)
    return sum(each) + gap * (len(each) - 1)
