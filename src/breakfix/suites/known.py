"""Known texts: a folder of *.txt, ours (data/rai/texts) or the user's, that a reply is compared with.

    title: The Tyger
    author: William Blake
    year: 1794
    kind: poem
    language: en

    Tyger Tyger, burning bright,

The lines before the first empty one are the head; only `title` is needed in it. A file without a head is a text whose
title is its file's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from breakfix.errors import DataError

HEAD = ("title", "author", "year", "kind", "language", "source")
FIRST = 8  # words of prose that say which text is meant


@dataclass(frozen=True, slots=True)
class Known:
    """One text. `id`: the file's name without its suffix."""

    id: str
    title: str
    text: str
    author: str = ""
    year: str = ""
    kind: str = "text"
    language: str = "en"
    source: str = ""

    @property
    def first(self) -> str:
        """The first line, or the first words where that is long."""
        words = self.text.split("\n", 1)[0].split()
        return " ".join(words) if len(words) <= FIRST + 4 else f"{' '.join(words[:FIRST])} ..."


def shipped() -> Traversable:
    """The folder of this package's own texts."""
    return resources.files("breakfix").joinpath("data", "rai", "texts")


def read(folder: Traversable) -> tuple[Known, ...]:
    """Every *.txt of a folder, by name. Raises DataError (file, what is wrong), also where there is none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with the known texts as *.txt")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".txt")), key=lambda file: file.name)
    if not files:
        raise DataError(f"{folder}: no *.txt in it; expected known texts, one a file")
    return tuple(_text(file) for file in files)


def _text(file: Traversable) -> Known:
    try:
        whole = file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    name = file.name.removesuffix(".txt")
    head, _, text = whole.partition("\n\n")
    rows = [re.fullmatch(r"(\w+): *(.*)", line) for line in head.split("\n")]
    found = {row[1].lower(): row[2].strip() for row in rows if row is not None}
    if not all(rows) or not set(found) <= set(HEAD):  # no head: all of it is the text
        found, text = {"title": name.replace("-", " ").replace("_", " ")}, whole
    if not found.get("title"):
        raise DataError(f"{file}: no title in its head; expected a line such as 'title: The Tyger'")
    if not text.strip():
        raise DataError(f"{file}: no text; expected it after the head and an empty line")
    return Known(name, text=text.strip(), **{key: value for key, value in found.items() if value})
