"""The starter pack: the project's own authored requests (data/starter/*.yaml) as `Case` values.

Three kinds: harmful (refuse), twin (a benign look-alike of harmful ones: comply) and plain (harmless beyond doubt:
comply). A hazard file holds families of harmful and benign rows; plain*.yaml families of plain rows; languages.yaml the
same request in several languages. The format and its limits are in data/starter/README.md.

Ids are positions ("starter/<hazard>/<family>/h03" is the third harmful row of its family), so rows are appended to a
family, never inserted or removed: the ledger knows cases by id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, cast

import yaml

from breakfix.core import Case, Expect, Split, ask
from breakfix.errors import DataError

KINDS = ("harmful", "twin", "plain")
LICENCE = "Apache-2.0"
SPLITS = {"train": Split.TRAIN, "dev": Split.DEV}
PLAIN = "plain"  # stands for the empty hazard in ids and families

# Every scalar stays a string: YAML 1.1 would read the language code "no" as False.
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def cases(*, split: Split | None = None, kind: str | None = None, language: str | None = None) -> list[Case]:
    """The pack's cases in a fixed order, filtered. `kind`: harmful | twin | plain; `language`: a code such as "fr".

    Raises DataError for another kind, or where a file of the pack is not valid.
    """
    if kind is not None and kind not in KINDS:
        raise DataError(f"starter pack: kind '{kind}', expected {' | '.join(KINDS)}")
    return [
        case
        for case in _pack()
        if (split is None or case.split == split)
        and (kind is None or kind_of(case) == kind)
        and (language is None or case.language == language)
    ]


def kind_of(case: Case) -> str:
    """harmful | twin | plain. A benign case that carries a hazard is a look-alike of that hazard: a twin."""
    if case.expect is Expect.REFUSE:
        return "harmful"
    return "twin" if case.hazard else "plain"


@cache
def _pack() -> tuple[Case, ...]:
    return read(resources.files("breakfix").joinpath("data", "starter"))


def read(folder: Traversable) -> tuple[Case, ...]:
    """Every *.yaml of a folder (a Path will do), files by name, rows in file order. Raises DataError (file, what)."""
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    seen: dict[str, str] = {}
    found: list[Case] = []
    for file in files:
        for case in _file(file.name, file.read_text(encoding="utf-8")):
            if case.id in seen:
                raise DataError(f"{file.name}: '{case.id}' is already in {seen[case.id]}; rename the family or row")
            seen[case.id] = file.name
            found.append(case)
    return tuple(found)


def _file(name: str, text: str) -> Iterator[Case]:
    try:
        loaded = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise DataError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, dict):
        raise DataError(f"{name}: expected keys 'hazard' and 'families', or 'rows'")
    data = cast("dict[str, Any]", loaded)
    if "rows" in data:
        _check_keys(name, data, {"rows"})
        harmful: dict[str, str] = {
            "hazard": ""
        }  # the row that a benign one on the same hazard mirrors: the last before it
        for row in cast("list[dict[str, str]]", data["rows"]):
            yield from _languages(name, row, harmful)
            harmful = row if row["kind"] == "harmful" else harmful
    else:
        _check_keys(name, data, {"hazard", "families"})
        for family in cast("list[dict[str, Any]]", data["families"]):
            yield from _family(name, str(data["hazard"]), family)


def _family(name: str, hazard: str, row: Mapping[str, Any]) -> Iterator[Case]:
    """A family's rows. Twin i mirrors harmful row i modulo their number ("" where the family has none)."""
    _check_keys(name, row, {"id", "split"}, {"harmful", "benign", "plain"})
    path = f"{hazard or PLAIN}/{row['id']}"
    split = _split(name, path, row["split"])
    harmful = [f"starter/{path}/h{i:02d}" for i in range(1, len(_texts(name, path, row, "harmful")) + 1)]
    for key, expect in (("harmful", Expect.REFUSE), ("benign", Expect.COMPLY), ("plain", Expect.COMPLY)):
        for i, text in enumerate(_texts(name, path, row, key)):
            twin = harmful[i % len(harmful)] if key == "benign" and harmful else ""
            yield _case(f"starter/{path}/{key[0]}{i + 1:02d}", text, expect, split, hazard, path, "en", twin)


def _languages(name: str, row: Mapping[str, str], harmful: Mapping[str, str]) -> Iterator[Case]:
    """One case per language of a row; the English one carries the others as `translations`.

    A benign row's `twin` is the harmful row's case in the same language, if that row is on the same hazard.
    """
    fixed = {"id", "split", "hazard", "kind"}
    texts = {key: text for key, text in row.items() if key not in fixed}
    _check_keys(name, row, fixed, set(texts))
    path = f"lang/{row['id']}"
    if row["kind"] not in ("harmful", "benign"):
        raise DataError(f"{name}: {path}: kind '{row['kind']}', expected harmful | benign")
    if wrong := [key for key in texts if not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]+)?", key)]:
        raise DataError(f"{name}: {path}: '{wrong[0]}' is not a language code such as 'fr' or 'zh'")
    expect = Expect.REFUSE if row["kind"] == "harmful" else Expect.COMPLY
    split = _split(name, path, row["split"])
    others = {code: text for code, text in texts.items() if code != "en"}
    mirrors = row["kind"] == "benign" and row["hazard"] and row["hazard"] == harmful["hazard"]
    for code, text in texts.items():
        twin = f"starter/lang/{harmful['id']}/{code}" if mirrors and code in harmful else ""
        extra = others if code == "en" else {}
        yield _case(f"starter/{path}/{code}", text, expect, split, row["hazard"], path, code, twin, extra)


def _case(
    id: str,
    text: str,
    expect: Expect,
    split: Split,
    hazard: str,
    family: str,
    language: str,
    twin: str,
    translations: Mapping[str, str] | None = None,
) -> Case:
    return Case(
        id=id,
        prompt=ask(text.strip()),
        expect=expect,
        source="starter",
        split=split,
        hazard=hazard,
        language=language,
        family=family,
        licence=LICENCE,
        twin=twin,
        translations=dict(translations or {}),
    )


def _texts(name: str, path: str, row: Mapping[str, Any], key: str) -> list[str]:
    texts = cast("list[str] | str", row.get(key) or [])
    if isinstance(texts, str) or not all(isinstance(t, str) and t.strip() for t in texts):  # pyright: ignore
        raise DataError(f"{name}: {path}: '{key}' must be a list of non-empty strings")
    return texts


def _split(name: str, path: str, value: str) -> Split:
    if value not in SPLITS:
        raise DataError(f"{name}: {path}: split '{value}', expected {' | '.join(SPLITS)}")
    return SPLITS[value]


def _check_keys(name: str, row: Mapping[str, Any], required: set[str], optional: Iterable[str] = ()) -> None:
    missing, unknown = required - set(row), set(row) - required - set(optional)
    if missing or unknown:
        wrong = ", ".join([f"missing '{k}'" for k in sorted(missing)] + [f"unknown '{k}'" for k in sorted(unknown)])
        raise DataError(f"{name}: {row.get('id', 'top level')}: {wrong}")
