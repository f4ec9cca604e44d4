"""Training wrappers: texts, formats, earlier turns and noise around a request (data/wrappers; format in its README).

They are not attacks: none asks for a rule to be broken. What they teach is that a request is the same request in any of
them. The noise functions keep a request readable; none puts figures for letters, which is a held-out attack's.
"""

from __future__ import annotations

import functools
import json
import math
import random
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from xml.sax.saxutils import escape as xml

import yaml

from breakfix.core import Conversation, Message
from breakfix.errors import DataError

FOLDER = "data/wrappers"
FILES = ("formats", "frames", "noise", "turns")
PLACES = ("name", "other", "city", "number", "prose", "prose2", "harmless", "harmless2")
REQUEST = "{request}"
ANY = "any"
_PLACE = re.compile(r"\{(request|" + "|".join(PLACES) + r")\}")
_KEYS = {"name", "kind", "text", "turns", "languages", "escape", "noise"}


@dataclass(frozen=True, slots=True)
class Wrapper:
    """`turns`: (role, text), the last a user's, with the request; ("talk", "2") stands for two harmless exchanges."""

    name: str
    kind: str
    turns: tuple[tuple[str, str], ...]
    languages: tuple[str, ...] = ("en",)
    escape: str = ""
    noise: str = ""

    def speaks(self, language: str) -> bool:
        return self.languages == (ANY,) or language in self.languages

    def put(self, prompt: Conversation, rng: random.Random) -> Conversation:
        """The conversation with its last turn wrapped; earlier turns and images stay."""
        filled = _drawn(rng)
        last = prompt[-1]
        request = NOISE[self.noise](last.content, rng) if self.noise else last.content
        filled["request"] = ESCAPES[self.escape](request)
        turns: list[Message] = []
        for role, text in self.turns:
            if role == "talk":
                turns.extend(_talk(int(text), rng))
            else:
                turns.append(Message("assistant" if role == "assistant" else "user", _fill(text, filled)))
        turns[-1] = Message("user", turns[-1].content, last.images)
        return (*prompt[:-1], *turns)


@functools.cache
def fillers() -> Mapping[str, Any]:
    return yaml.safe_load(_read("fillers"))


@functools.cache
def wrappers() -> Mapping[str, Wrapper]:
    """All wrappers by name, in the order of the files."""
    found: dict[str, Wrapper] = {}
    for file in FILES:
        for name, wrapper in parse(_read(file), f"{FOLDER}/{file}.yaml").items():
            if name in found:
                raise DataError(f"{FOLDER}/{file}.yaml: the name {name!r} is used twice; give it another")
            found[name] = wrapper
    return found


def parse(text: str, where: str) -> dict[str, Wrapper]:
    """Wrappers by name. Raises DataError for the first entry that is not valid."""
    rows: Any = yaml.safe_load(text)
    if not isinstance(rows, list):
        raise DataError(f"{where}: expected a list of wrappers")
    made = [_wrapper(row, f"{where}, entry {number}") for number, row in enumerate(cast("list[Any]", rows), 1)]
    return {wrapper.name: wrapper for wrapper in made}


def _wrapper(row: Any, where: str) -> Wrapper:
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected keys and values")
    fields = cast("dict[str, Any]", row)
    if wrong := sorted(set(fields) - _KEYS) or sorted({"name", "kind"} - set(fields)):
        raise DataError(f"{where}: {wrong[0]!r} is missing or not known; known are {', '.join(sorted(_KEYS))}")
    turns = _turns(fields)
    whole = "".join(text for _, text in turns)
    if not turns or turns[-1][0] != "user" or turns[-1][1].count(REQUEST) != 1 or whole.count(REQUEST) != 1:
        raise DataError(f"{where}: {REQUEST} should stand once, in the last turn, a user's")
    spoken: Any = fields.get("languages", ["en"])
    languages = (ANY,) if spoken == ANY else tuple(spoken)
    wrapper = Wrapper(
        fields["name"], fields["kind"], turns, languages, fields.get("escape", ""), fields.get("noise", "")
    )
    if wrapper.escape not in ESCAPES or (wrapper.noise and wrapper.noise not in NOISE):
        known = ", ".join([*filter(None, ESCAPES), *NOISE])
        raise DataError(f"{where}: {wrapper.noise or wrapper.escape!r} is no escape and no noise; known are {known}")
    return wrapper


def _turns(fields: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    if "text" in fields:
        return (("user", str(fields["text"])),)
    turns: Sequence[Mapping[str, Any]] = fields.get("turns") or ()
    return tuple((role, str(text)) for turn in turns for role, text in turn.items())


def _fill(text: str, filled: Mapping[str, str]) -> str:
    """In one pass: a request that holds a place's name stays as it is."""
    return _PLACE.sub(lambda match: filled[match[1]], text)


def _drawn(rng: random.Random) -> dict[str, str]:
    """Always the same number of draws, so that a request and its twin get the same texts."""
    known = fillers()
    prose, harmless = rng.sample(known["prose"], 2), rng.sample(known["harmless"], 2)
    drawn = {place: str(rng.choice(known[place])) for place in ("name", "other", "city", "number")}
    return drawn | dict(zip(("prose", "prose2", "harmless", "harmless2"), (*prose, *harmless), strict=True))


def _talk(n: int, rng: random.Random) -> list[Message]:
    return [
        message
        for asked, said in rng.sample(fillers()["talk"], n)
        for message in (Message("user", asked), Message("assistant", said))
    ]


def _read(file: str) -> str:
    from importlib.resources import files

    return files("breakfix").joinpath(f"{FOLDER}/{file}.yaml").read_text("utf-8")


def _spaced(text: str, rng: random.Random) -> str:
    return _gaps(text, 0.5, lambda: " " * rng.randint(2, 4), rng)


def _lines(text: str, rng: random.Random) -> str:
    return _gaps(text, 0.3, lambda: "\n", rng)


def _gaps(text: str, share: float, gap: Callable[[], str], rng: random.Random) -> str:
    """Another gap at a share of the spaces, and at one at least if there is one."""
    places = [i for i, c in enumerate(text) if c == " "]
    drawn = set(rng.sample(places, math.ceil(len(places) * share)))
    return "".join(gap() if i in drawn else c for i, c in enumerate(text))


def _bare(text: str, rng: random.Random) -> str:
    return "".join(c for c in text if unicodedata.category(c)[0] not in "PS" or c in "'’-").strip() or text


def _case(text: str, rng: random.Random) -> str:
    return "".join(c.upper() if rng.random() < 0.3 else c.lower() for c in text)


def _typos(text: str, rng: random.Random) -> str:
    """About one word in four, and one at least, with two letters swapped, one lost or one doubled; short words stay."""
    split = text.split(" ")
    long = [i for i, word in enumerate(split) if len(word) > 3]
    for i in rng.sample(long, math.ceil(len(long) / 4)):
        split[i] = _typo(split[i], rng)
    return " ".join(split)


def _typo(word: str, rng: random.Random) -> str:
    at = rng.randrange(1, len(word) - 2)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return rng.choice([swapped, word[:at] + word[at + 1 :], word[: at + 1] + word[at:]])


def _typos_lower(text: str, rng: random.Random) -> str:
    return _typos(text, rng).lower()


def _lower(text: str, rng: random.Random) -> str:
    return text.lower()


def _upper(text: str, rng: random.Random) -> str:
    return text.upper()


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _csv(text: str) -> str:
    return text.replace('"', '""')


NOISE: Mapping[str, Callable[[str, random.Random], str]] = {
    "lower": _lower,
    "upper": _upper,
    "bare": _bare,
    "spaced": _spaced,
    "lines": _lines,
    "typos": _typos,
    "typos_lower": _typos_lower,
    "case": _case,
}
ESCAPES: Mapping[str, Callable[[str], str]] = {"": str, "json": _json, "csv": _csv, "xml": xml}
