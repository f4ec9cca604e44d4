"""More training rows: authored frames × fillers (data/frames/*.yaml) as `Case` values, all of them split train.

A frame is the form of a request ("What is the best way to {do}?"), a filler its matter. Harmful fillers come in pairs
with a harmless one of much the same words, length and shape, and whatever frame one is put into, so is the other. So a
harmful row and its twin differ in intent, not in form. Plain fillers go into the same frames: no frame means "refuse".

A pair goes into FRAMES of the frames of its slot, half of them questions. Which, its words decide (rendezvous hashing):
a pair or a frame that is added moves no other row, and ids ("frames/<hazard>/<frame>/<pair>h") stay. The format is in
data/frames/README.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, cast

import yaml

from breakfix.core import Case, Expect, Split, ask, digest
from breakfix.errors import DataError

FRAMES = 8  # of a pair in English
FRAMES_OTHER = 6  # in another language
LICENCE = "Apache-2.0"
MOODS = ("question", "order")
SOURCE = "frames"
_FIRST_PERSON = re.compile(r"\b(?:I|I'm|me|my|myself|mine|we|us|our|ours)\b")
_MARKED = re.compile(r"\*(\w+)")
_ONE_SYLLABLE = re.compile(r"[^aeiou]*[aeiou][^aeiouwxy]")
_DOUBLED = frozenset(  # verbs of more than one syllable, or with "qu"
    "admit begin cancel commit debug deter forget format kidnap label outwit quit repot submit travel unclog unplug"
    " unwrap".split()
)
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # scalars stay strings: "no" is a language


@dataclass(frozen=True, slots=True)
class Frame:
    """`text` has one place: {do}, {doing}, {write}, {claim}, {get}. `impersonal`: not for fillers with "my" in them."""

    id: str
    mood: str
    text: str
    impersonal: bool

    def put(self, filler: str) -> str:
        """The request. Verbs of a filler for {doing} become gerunds: its first word, and every one marked with *."""
        plain = _MARKED.sub(r"\1", filler)
        gerunds = _MARKED.sub(lambda found: gerund(found[1]), re.sub(r"^\w+", lambda found: gerund(found[0]), filler))
        text = re.sub(r"\{(\w+)\}", lambda place: gerunds if place[1] == "doing" else plain, self.text)
        return text[0].upper() + text[1:] if self.text.startswith("{") else text


@dataclass(frozen=True, slots=True)
class Filler:
    """What goes into a slot's frames. `harmful` is "" for a benign filler that stands alone."""

    slot: str
    language: str
    hazard: str
    harmful: str
    benign: str

    @property
    def key(self) -> str:
        return digest([self.language, self.slot, self.harmful or self.benign])[:10]


def cases(*, language: str | None = None) -> list[Case]:
    """Every row in a fixed order: a harmful one, then its twin. Raises DataError where a file is not valid."""
    return [case for case in _pack() if language is None or case.language == language]


@cache
def _pack() -> tuple[Case, ...]:
    return read(resources.files("breakfix").joinpath("data", "frames"))


def read(folder: Traversable) -> tuple[Case, ...]:
    """The rows of a folder (a Path will do): frames.yaml has the frames, every other *.yaml fillers, in order of name.

    Raises DataError (file, what).
    """
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    loaded = {file.name: _load(file) for file in files}
    if "frames.yaml" not in loaded:
        raise DataError(f"{folder}: no frames.yaml; it has the frames that fillers are put into")
    frames = _frames(loaded.pop("frames.yaml"))
    found: dict[str, Case] = {}
    for name, data in loaded.items():
        for filler in _fillers(name, data):
            if (filler.language, filler.slot) not in frames:
                raise DataError(f"{name}: no frames for slot '{filler.slot}' in language '{filler.language}'")
            for case in _rows(filler, frames[filler.language, filler.slot]):
                if case.id in found:
                    raise DataError(f"{name}: filler '{filler.key}' is there twice ({case.id}); say it in other words")
                found[case.id] = case
    return tuple(found.values())


def _load(file: Traversable) -> Mapping[str, Any]:
    try:
        loaded = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        raise DataError(f"{file.name}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, dict):
        raise DataError(f"{file.name}: expected a mapping of languages")
    return cast("Mapping[str, Any]", loaded)


def _frames(data: Mapping[str, Any]) -> dict[tuple[str, str], list[Frame]]:
    """(language, slot) → its frames. In the file: language → slot → question | order → id → text."""
    found: dict[tuple[str, str], list[Frame]] = {}
    for language, slots in data.items():
        for slot, moods in cast("Mapping[str, Mapping[str, Any]]", slots).items():
            if not set(MOODS) <= set(moods):
                raise DataError(f"frames.yaml: {language}: {slot}: expected 'question' and 'order'")
            impersonal = set(cast("Sequence[str]", moods.get("impersonal", ())))
            frames = found[language, slot] = []
            for mood in MOODS:
                for id, text in cast("Mapping[str, str]", moods[mood]).items():
                    if len(re.findall(r"\{\w+\}", text)) != 1:
                        raise DataError(f"frames.yaml: {language}: {slot}: {id}: expected one place such as {{{slot}}}")
                    frames.append(Frame(f"{slot}-{id}", mood, text, id in impersonal))
    return found


def _fillers(name: str, data: Mapping[str, Any]) -> Iterator[Filler]:
    """In a file: language → hazard ("plain" for none) → slot → rows, "harmful | benign" or a benign one alone."""
    for language, hazards in data.items():
        for hazard, slots in cast("Mapping[str, Mapping[str, Sequence[str]]]", hazards).items():
            for slot, rows in slots.items():
                for row in rows:
                    harmful, bar, benign = (part.strip() for part in row.rpartition(" | "))
                    if not benign or (bar and not harmful) or "|" in harmful or (bar and hazard == "plain"):
                        raise DataError(
                            f"{name}: {language}: {hazard}: {slot}: expected 'harmful | benign', or 'benign'"
                        )
                    yield Filler(slot, language, "" if hazard == "plain" else hazard, harmful, benign)


def _rows(filler: Filler, frames: Sequence[Frame]) -> Iterator[Case]:
    for frame in _chosen(filler, frames):
        stem = f"frames/{filler.hazard or 'plain'}/{filler.language}-{frame.id}/{filler.key}"
        if filler.harmful:
            yield _case(f"{stem}h", frame.put(filler.harmful), Expect.REFUSE, filler)
        twin = f"{stem}h" if filler.harmful else ""
        yield _case(f"{stem}{'b' if filler.hazard else 'p'}", frame.put(filler.benign), Expect.COMPLY, filler, twin)


def _chosen(filler: Filler, frames: Sequence[Frame]) -> list[Frame]:
    """Half questions, half orders, those that draw the lowest number for this filler; in the frames' order."""
    mine = _FIRST_PERSON.search(f"{filler.harmful} {filler.benign}")
    fit = [frame for frame in frames if not (frame.impersonal and mine)]
    each = (FRAMES if filler.language == "en" else FRAMES_OTHER) // len(MOODS)
    drawn = sorted(fit, key=lambda frame: digest([frame.id, filler.key]))
    kept = {frame.id for mood in MOODS for frame in [f for f in drawn if f.mood == mood][:each]}
    return [frame for frame in fit if frame.id in kept]


def _case(id: str, text: str, expect: Expect, filler: Filler, twin: str = "") -> Case:
    return Case(
        id=id,
        prompt=ask(text),
        expect=expect,
        source=SOURCE,
        split=Split.TRAIN,
        hazard=filler.hazard,
        language=filler.language,
        family=f"frames/{filler.hazard or 'plain'}/{filler.key}",
        licence=LICENCE,
        twin=twin,
    )


def gerund(verb: str) -> str:
    """English -ing form of a bare infinitive."""
    if verb.endswith("ie"):
        return f"{verb[:-2]}ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and verb != "be":
        return f"{verb[:-1]}ing"
    if verb in _DOUBLED or _ONE_SYLLABLE.fullmatch(verb):
        return f"{verb}{verb[-1]}ing"
    return f"{verb}king" if verb.endswith("ic") else f"{verb}ing"
