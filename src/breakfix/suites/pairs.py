"""Contents in several languages, each as a harmful request and its benign twin: our own file, languages_dev.yaml.

`pairs`, each with `id`, `hazard`, and under the code of each language two texts, the harmful one first. A pair is one
family in all its languages, so that languages are compared on the same contents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import yaml

from breakfix.core import Case, Expect
from breakfix.errors import DataError
from breakfix.suites.rows import Origin, read_text
from breakfix.taxonomy import hazards

# Every scalar stays a string: YAML 1.1 would read the language code "no" as False.
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def languages(origin: Origin, path: Path) -> list[Case]:
    """Ids: SUITE/PAIR/LANGUAGE/h and …/b; the latter's `twin` is the former, and both in English carry the others as
    `translations`. Raises DataError (file, pair, what; never a text)."""
    try:
        loaded = yaml.load(read_text(path), Loader=_Loader)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise DataError(f"{path}:{line}: not valid YAML") from None
    rows = cast("dict[str, Any]", loaded).get("pairs") if isinstance(loaded, dict) else None
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected a list under 'pairs'")
    found: dict[str, Case] = {}
    for number, row in enumerate(cast("list[Any]", rows), start=1):
        for case in _pair(origin, f"{path}: pair {number}", row):
            if case.id in found:
                raise DataError(f"{path}: pair {number}: another one has its id")
            found[case.id] = case
    return list(found.values())


def _pair(origin: Origin, where: str, row: Any) -> Iterator[Case]:
    pair = cast("dict[str, Any]", row) if isinstance(row, dict) else {}
    id, hazard = str(pair.get("id", "")), str(pair.get("hazard", ""))
    if not re.fullmatch(r"[a-z0-9_]+", id):
        raise DataError(f"{where}: expected an 'id' of small letters, digits and _")
    if hazard not in hazards():
        raise DataError(f"{where} ({id}): expected a 'hazard' of {', '.join(hazards())}")
    texts = {code: _two(f"{where} ({id})", code, pair[code]) for code in pair.keys() - {"id", "hazard"}}
    for code in (code for code in pair if code in texts):
        for side, (key, expect) in enumerate((("h", Expect.REFUSE), ("b", Expect.COMPLY))):
            others = {other: texts[other][side] for other in pair if other in texts and other != "en"}
            yield origin.case(
                f"{id}/{code}/{key}",
                texts[code][side],
                expect,
                family=f"{origin.name}/{id}",
                hazard=hazard,
                language=code,
                twin=f"{origin.name}/{id}/{code}/h" if key == "b" else "",
                translations=others if code == "en" else {},
            )


def _two(where: str, code: str, given: Any) -> tuple[str, str]:
    if not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]+)?", code):
        raise DataError(f"{where}: '{code}' is not a language code such as 'fr' or 'zh'")
    texts = cast("list[Any]", given) if isinstance(given, list) else []
    if len(texts) != 2 or not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(f"{where}: {code}: expected two texts, the harmful one and its twin")
    return texts[0].strip(), texts[1].strip()
