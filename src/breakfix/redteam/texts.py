"""Loads the attack texts of data/attacks, and checks them: texts are data, so that they can be reviewed.

An entry has `name`, `family`, `version` and `text`; the text holds the placeholder {request} exactly once and no
other braces. It is filled in by plain replacement: a request with braces of its own stays as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from breakfix.errors import DataError

PLACEHOLDER = "{request}"
FILE = "data/attacks/templates.yaml"
FRAMING = "data/attacks/framing.yaml"
PERSUASION = "data/attacks/persuasion.yaml"
FILES = (FILE, FRAMING, PERSUASION)


@dataclass(frozen=True, slots=True)
class Text:
    """A jailbreak text with one place for the request."""

    name: str
    family: str
    version: int
    text: str

    def fill(self, request: str) -> str:
        return self.text.replace(PLACEHOLDER, request)


@functools.cache
def texts(file: str = FILE) -> Mapping[str, Text]:
    """The texts of a file that comes with the package, by name."""
    from importlib.resources import files

    return parse(files("breakfix").joinpath(file).read_text("utf-8"), file)


def parse(yaml_text: str, where: str) -> dict[str, Text]:
    """Texts by name, in the order of the file. Raises DataError for the first entry that is not valid."""
    import yaml

    found: dict[str, Text] = {}
    try:
        rows: Any = yaml.safe_load(yaml_text)
    except yaml.YAMLError as failure:
        raise DataError(f"{where}: not valid YAML ({str(failure).splitlines()[0]})") from failure
    if not isinstance(rows, list):
        raise DataError(f"{where}: expected a list of entries with name, family, version and text")
    for number, row in enumerate(cast("list[Any]", rows), 1):
        text = _entry(row, f"{where}, entry {number}")
        if text.name in found:
            raise DataError(f"{where}, entry {number}: the name {text.name!r} is used twice; give it another")
        found[text.name] = text
    return found


def _entry(row: Any, where: str) -> Text:
    kinds = {"name": str, "family": str, "version": int, "text": str}
    if not isinstance(row, dict) or set(cast("dict[str, Any]", row)) != set(kinds):
        raise DataError(f"{where}: expected exactly the keys {', '.join(kinds)}")
    fields = cast("dict[str, Any]", row)
    for key, kind in kinds.items():
        if type(fields[key]) is not kind:
            raise DataError(f"{where}: {key} should be {kind.__name__}, got {type(fields[key]).__name__}")
    rest = fields["text"].replace(PLACEHOLDER, "", 1)
    if rest == fields["text"] or "{" in rest or "}" in rest:
        raise DataError(f"{where}: text should hold {PLACEHOLDER} exactly once, and no other braces")
    return Text(**fields)
