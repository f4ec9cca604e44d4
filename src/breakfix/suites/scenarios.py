"""The scenarios of the RAI measurement: templates × parameters × personas, from data/rai/*.yaml, as `core.Case`s.

After Magooda et al. 2023 (2310.17750), where experts write templates and parameters and a model plays the user. Ours
are short and mild, in four languages, and each has a script, so that no model is needed. The format is in
data/rai/README.md; a file of the user's own has the same.

An id says template, row and persona, and ends with a digest of all that is said: a scenario that was changed is
another case. A sample grows with its size, is the same on every machine, and keeps personas, templates, topics and
languages in proportion.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, cast

import yaml

from breakfix.core import Case, Conversation, Expect, Message, Split, digest
from breakfix.errors import DataError
from breakfix.suites import known
from breakfix.taxonomy import hazards

PARTS = ("grounded", "third_party", "continuation", "summarisation", "jailbreak")
PREFIX = "rai_"
LICENCE = "Apache-2.0"
REFERENCE = "reference"  # of a row: the known text, shown to a judge that is a model
LONGEST = 4000  # characters of it
PLACE = re.compile(r"\{(\w+)\}")
_KEYS = {"expect", "sample", "tokens", "personas", "templates"}
_TEMPLATE = {"id", "goal", "turns"}
_ROW = ("id", "language", "hazard", "topic", "system")  # what a row may have beside the values of placeholders
_LISTS = ("supported", "unsupported")

# Every scalar stays a string: YAML 1.1 would read the language code "no" as False.
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


@dataclass(frozen=True, slots=True)
class Turn:
    """What the user says. `fixed`: as it stands, also where a helper model plays the user. `lead`: only leads up to the
    request, and is not judged."""

    text: str
    fixed: bool = True
    lead: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """A case and how its conversation goes on. `who` and `goal` are for a helper model that plays the user.

    `case.prompt` ends with `script[0]`. `tokens`: most tokens of a reply. `about`: id of the parameters' row.
    """

    case: Case
    who: str
    goal: str
    script: tuple[Turn, ...]
    tokens: int
    about: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What `supported` and `unsupported` in grounded.yaml hold: claims about a text, to check a judge with."""

    about: str
    language: str
    text: str
    supported: tuple[str, ...]
    unsupported: tuple[str, ...]


def load(part: str, *, limit: int | None = None, seed: int = 0, path: Path | None = None) -> tuple[Scenario, ...]:
    """`limit` scenarios of a part (as many as its file says, if None).

    `path`: a scenario file of the user's own; of third_party, a folder of known texts. Raises DataError.
    """
    found, size = expanded(part, path)
    return _drawn(found, size if limit is None else limit, seed)


def expanded(part: str, path: Path | None = None) -> tuple[tuple[Scenario, ...], int]:
    """(all scenarios of a part, how many are drawn without a limit)."""
    if part not in PARTS:
        raise DataError(f"RAI part '{part}'; expected one of {', '.join(PARTS)}")
    return _shipped(part) if path is None else _own(part, path)


@cache
def _shipped(part: str) -> tuple[tuple[Scenario, ...], int]:
    texts = known.read(known.shipped()) if part == "third_party" else ()
    return _read(part, f"{part}.yaml", _file(part), texts)


def _own(part: str, path: Path) -> tuple[tuple[Scenario, ...], int]:
    if part == "third_party":
        return _read(part, f"{part}.yaml", _file(part), known.read(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}); expected a file of scenarios") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    return _read(part, str(path), text, ())


def _file(part: str) -> str:
    return resources.files("breakfix").joinpath("data", "rai", f"{part}.yaml").read_text(encoding="utf-8")


def claims() -> list[Claims]:
    """The labelled claims of data/rai/grounded.yaml."""
    rows = _parsed("grounded.yaml", _file("grounded"))["parameters"]
    return [
        Claims(row["id"], row.get("language", "en"), row["text"].strip(), *(tuple(row[key]) for key in _LISTS))
        for row in cast("list[dict[str, Any]]", rows)
    ]


def _parsed(where: str, text: str) -> dict[str, Any]:
    try:
        loaded = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, dict):
        raise DataError(f"{where}: {_kind(loaded)}, expected the keys {', '.join(sorted(_KEYS))}, parameters")
    return cast("dict[str, Any]", loaded)


def _read(part: str, where: str, text: str, texts: Sequence[known.Known]) -> tuple[tuple[Scenario, ...], int]:
    data = _parsed(where, text)
    _check_keys(where, "top level", data, _KEYS, {"parameters"})
    if _text(where, "expect", data["expect"]) not in set(Expect):
        raise DataError(f"{where}: expect '{data['expect']}', expected one of {', '.join(Expect)}")
    rows = [_of_text(one) for one in texts] if texts else _rows(where, data.get("parameters"))
    expect, tokens = Expect(data["expect"]), _number(where, "tokens", data["tokens"])
    personas = _personas(where, data["personas"])
    found: dict[str, Scenario] = {}
    for template in _templates(where, data["templates"]):
        for row in rows:
            for one in _scenarios(part, expect, tokens, template, row, personas):
                if one.case.id in found:
                    raise DataError(
                        f"{where}: '{one.case.id}' is there twice; give templates and rows ids of their own"
                    )
                found[one.case.id] = one
    if not found:
        raise DataError(f"{where}: no template fits any row; its {{placeholders}} and languages must be those of a row")
    return tuple(found.values()), _number(where, "sample", data["sample"])


def _scenarios(
    part: str,
    expect: Expect,
    tokens: int,
    template: Mapping[str, Any],
    row: Mapping[str, Any],
    personas: Mapping[str, Any],
) -> Iterator[Scenario]:
    """One for each persona; none where the template has not the row's language, or a placeholder that the row lacks."""
    language = row.get("language", "en")
    texts: list[str] = template["turns"].get(language, [])
    needed = {name for text in texts for name in PLACE.findall(text)}
    if not texts or not needed <= set(row):
        return
    leads = int(template.get("leads", 0))
    suite, topic = f"{PREFIX}{part}", row.get("topic") or row.get("hazard") or ""
    for persona, about in personas.items():
        opening = about["says"].get(language, "")
        turns = [
            Turn(_filled(text, row), fixed=i == 0 or bool(PLACE.search(text)), lead=i < leads)
            for i, text in enumerate(texts)
        ]
        turns[0] = Turn(f"{opening} {turns[0].text}".strip(), lead=turns[0].lead)
        said = Message("user", turns[0].text)
        prompt: Conversation = (Message("system", row["system"].strip()), said) if "system" in row else (said,)
        goal = _filled(template["goal"], row)
        key = digest([prompt, turns, about["who"], goal])[:8]
        case = Case(
            id=f"{suite}/{template['id']}/{row['id']}/{persona}@{key}",
            prompt=prompt,
            expect=expect,
            source=suite,
            split=Split.FROZEN,
            hazard=row.get("hazard", ""),
            language=language,
            persona=persona,
            family=f"{suite}/{topic}" if topic else suite,
            licence=LICENCE,
            choices=(row[REFERENCE],) if REFERENCE in row else (),
            gold=0 if REFERENCE in row else -1,
        )
        yield Scenario(case, about["who"], goal, tuple(turns), tokens, row["id"])


def _filled(text: str, row: Mapping[str, Any]) -> str:
    return PLACE.sub(lambda match: str(row[match[1]]).strip() if match[1] in row else match[0], text).strip()


def _of_text(one: known.Known) -> dict[str, Any]:
    """The row of a known text."""
    author = {"author": one.author} if one.author else {"author": "?"}
    about = {"id": one.id, "language": one.language, "topic": one.kind, "title": one.title, "first": one.first}
    return {**about, **author, REFERENCE: one.text[:LONGEST]}


def _rows(where: str, given: Any) -> list[dict[str, Any]]:
    rows = _list(where, "parameters", given)
    for number, row in enumerate(rows, start=1):
        if "id" not in row:
            raise DataError(f"{where}: a row of parameters has no id")
        name = _id(where, f"parameters: row {number}: id", row["id"])
        for key in row.keys() - set(_LISTS):
            _text(where, f"{name}: {key}", row[key])
        if row.get("hazard", "") not in ("", *hazards()):
            raise DataError(f"{where}: {name}: hazard '{row['hazard']}', expected one of {', '.join(hazards())}")
    return rows


def _personas(where: str, given: Any) -> dict[str, Any]:
    """Id → {who, says}, as data/rai/README.md has them."""
    personas = _mapping(where, "personas", given)
    if not personas:
        raise DataError(f"{where}: personas: nobody; expected ids with 'who' and 'says'")
    for name, about in personas.items():
        what = f"persona {_id(where, 'personas', name)}"
        _check_keys(where, what, about, {"who", "says"})
        _text(where, f"{what}: who", about["who"])
        for language, opening in _mapping(where, f"{what}: says", about["says"]).items():
            _text(where, f"{what}: says: {language}", opening)
    return personas


def _templates(where: str, given: Any) -> list[dict[str, Any]]:
    templates = _list(where, "templates", given)
    for template in templates:
        what = f"template {template.get('id', '?')}"
        _check_keys(where, what, template, _TEMPLATE, {"leads"})
        _id(where, f"{what}: id", template["id"])
        _text(where, f"{what}: goal", template["goal"])
        turns = _mapping(where, f"{what}: turns", template["turns"])
        for language, texts in turns.items():
            if not isinstance(texts, list) or not texts:
                raise DataError(f"{where}: {what}: turns: {language}: {_kind(texts)}, expected a list of texts")
            for text in cast("list[Any]", texts):
                _text(where, f"{what}: turns: {language}", text)
        leads = template.get("leads", "0")
        fewest = min((len(texts) for texts in turns.values()), default=0)
        if not (isinstance(leads, str) and leads.isdecimal() and int(leads) < max(1, fewest)):
            raise DataError(f"{where}: {what}: leads {_kind(leads)}, expected a number below that of its turns")
    return templates


def _mapping(where: str, what: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise DataError(f"{where}: {what}: {_kind(given)}, expected keys and values")
    return cast("dict[str, Any]", given)


def _text(where: str, what: str, given: Any) -> str:
    if not isinstance(given, str):
        raise DataError(f"{where}: {what}: {_kind(given)}, expected text")
    return given


def _id(where: str, what: str, given: Any) -> str:
    """A case's id is made of ids with slashes between them."""
    if not _text(where, what, given) or "/" in given:
        raise DataError(f"{where}: {what}: {_kind(given)}, expected an id without slashes")
    return given


def _kind(given: Any) -> str:
    """What was found, in words; of text only short ones are quoted."""
    if isinstance(given, str):
        return f"'{given}'" if len(given) <= 20 else "text"
    return "nothing" if given is None else "a list" if isinstance(given, list) else "keys and values"


def _list(where: str, name: str, given: Any) -> list[dict[str, Any]]:
    rows = cast("list[Any]", given) if isinstance(given, list) else []
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{where}: expected a list of keys and values under '{name}'")
    return cast("list[dict[str, Any]]", rows)


def _number(where: str, name: str, given: Any) -> int:
    if not isinstance(given, str) or not given.isdecimal() or int(given) < 1:
        raise DataError(f"{where}: {name} {_kind(given)}, expected a whole number from 1 on")
    return int(given)


def _check_keys(where: str, what: str, row: Any, required: set[str], optional: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    keys = set(_mapping(where, what, row))
    missing, unknown = required - keys, keys - required - optional
    if missing or unknown:
        wrong = ", ".join(
            [f"missing '{k}'" for k in sorted(missing)] + [f"unknown '{k}'" for k in sorted(unknown, key=str)]
        )
        raise DataError(f"{where}: {what}: {wrong}")


def _drawn(found: Sequence[Scenario], limit: int, seed: int) -> tuple[Scenario, ...]:
    """At most `limit`, in the order they came: each next one is of the values (persona, template, topic, language) of
    which the smallest share is drawn so far; ties by lot, the digest of (seed, id)."""
    lots = sorted(found, key=lambda one: digest([seed, one.case.id]))
    values = {one.case.id: _values(one) for one in found}
    size = Counter(value for each in values.values() for value in each)
    taken: Counter[tuple[str, str]] = Counter()
    chosen: set[str] = set()
    while lots and len(chosen) < limit:
        best = min(lots, key=lambda one: sum(taken[v] / size[v] for v in values[one.case.id]))
        lots.remove(best)
        chosen.add(best.case.id)
        taken.update(values[best.case.id])
    return tuple(one for one in found if one.case.id in chosen)


def _values(one: Scenario) -> tuple[tuple[str, str], ...]:
    case = one.case
    template = case.id.split("/")[1]
    return ("persona", case.persona), ("template", template), ("topic", case.family), ("language", case.language)
