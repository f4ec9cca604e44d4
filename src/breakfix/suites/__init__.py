"""Suites: a name → the cases that a model is measured with. `SUITES` holds the built-in ones (catalogue.py); a user's
own are JSONL (own.py), or a task of lm-evaluation-harness (harness.py).

The content stays where it came from (`assets.py`): this package knows the files' formats, what each suite may be used
for, and how to draw a sample that is the same on every machine.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from breakfix import assets, config, starter
from breakfix.core import Case, Split
from breakfix.errors import DataError
from breakfix.suites import harness, own, sample, scenarios
from breakfix.suites.catalogue import SUITES, Measure, Read, SuiteSpec
from breakfix.suites.rows import Origin

__all__ = ["SUITES", "Loaded", "Measure", "SuiteSpec", "load"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A suite's cases, sampled. `source` says in one line where they came from; `tokens` and `steers` are as in
    `SuiteSpec`; `path` is the folder of a harness task, or where the user's own RAI scenarios or known texts are."""

    name: str
    cases: tuple[Case, ...]
    split: Split
    source: str
    measure: Measure = "replies"
    tokens: int | None = None
    path: Path | None = None
    steers: bool = True


def load(suite: config.Suite, *, seed: int) -> Loaded:
    """The suite's cases; with a limit, a sample that depends on `seed` and the cases alone.

    A built-in name with a `path` reads that file (or folder, where the suite has several files) instead of the asset.
    Raises AssetError where no source serves the files, DataError for an unknown name or a malformed row.
    """
    if suite.name.startswith(harness.PREFIX):
        cases, source = harness.read(suite.name, suite.path)
        drawn = sample.stratified(cases, suite.limit, seed=seed)
        return Loaded(suite.name, drawn, Split.DEV, source, "lm-eval", path=suite.path)
    spec = SUITES.get(suite.name)
    if spec is None:
        return _own(suite, seed)
    if spec.measure == "rai":
        return _rai(spec, suite, seed)
    if spec.files is not None:
        cases, source = _from_files(spec, spec.files, suite.path)
    elif spec.ours is not None:
        cases, source = _ours(spec, spec.ours, suite.path)
    else:
        cases, source = _starter(spec, suite.path)
    drawn = spec.sample(cases, suite.limit, seed=seed)
    return Loaded(spec.name, drawn, spec.split, source, spec.measure, spec.tokens, steers=spec.steers)


def _rai(spec: SuiteSpec, suite: config.Suite, seed: int) -> Loaded:
    """Scenarios; the path is the user's own ones, or known texts."""
    part = spec.name.removeprefix(scenarios.PREFIX)
    drawn = scenarios.load(part, limit=suite.limit, seed=seed, path=suite.path)
    source = f"breakfix: {part}.yaml" if suite.path is None else f"path: {suite.path}"
    return Loaded(spec.name, tuple(one.case for one in drawn), spec.split, source, "rai", path=suite.path)


def _own(suite: config.Suite, seed: int) -> Loaded:
    if suite.path is None:
        close = difflib.get_close_matches(suite.name, SUITES, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(SUITES)}."
        raise DataError(f"suite '{suite.name}' is not built in; {hint} For a file of your own, give its path as well")
    if not re.fullmatch(r"[\w-]+", suite.name):
        raise DataError(
            f"suite '{suite.name}': expected a name of letters, digits, _ and -; metrics are named after it"
        )
    if suite.name.startswith("rai_"):
        raise DataError(f"suite '{suite.name}': names that begin with rai_ are the RAI measurement's; take another")
    cases, measure = own.read(suite.name, suite.path)
    drawn = sample.stratified(cases, suite.limit, seed=seed)
    return Loaded(suite.name, drawn, Split.DEV, str(suite.path), measure)


def _starter(spec: SuiteSpec, path: Path | None) -> tuple[list[Case], str]:
    if path is not None:
        raise DataError(f"suite '{spec.name}' comes from the starter pack and takes no path; give {path} another name")
    dev = starter.cases(split=Split.DEV)
    wanted = ("plain",) if spec.name in ("plain", "perplexity") else ("harmful", "twin")
    found = [case for case in dev if starter.kind_of(case) in wanted]
    if spec.name == "starter_multilingual":
        found = [case for case in found if case.language != "en"]
    return found, "starter pack"


def _ours(spec: SuiteSpec, ours: tuple[str, Read], path: Path | None) -> tuple[list[Case], str]:
    """A file that comes with the package, or the user's own of that format."""
    name, read = ours
    origin = Origin(spec.name, spec.split, spec.licence)
    if path is not None:
        return read(origin, path), f"path: {path}"
    with resources.as_file(resources.files("breakfix").joinpath("data", "suites", name)) as file:
        return read(origin, file), f"breakfix: {name}"


def _from_files(spec: SuiteSpec, files: Mapping[str, Read], path: Path | None) -> tuple[list[Case], str]:
    if path is not None and spec.original is not None:
        origin = Origin(spec.name, spec.split, spec.licence)
        given = sorted(path.glob("*.json*")) if path.is_dir() else [path]
        return [case for file in given for case in spec.original(origin, file)], f"path: {path}"
    cases: list[Case] = []
    sources: list[str] = []
    for name, read in files.items():
        asset = assets.catalogue()[name]
        place, source = _place(asset, path, alone=len(files) == 1)
        origin = Origin(name if len(files) > 1 else spec.name, spec.split, asset.licence)
        several = len(asset.files) > 1
        for file in asset.files:
            cases += read(origin, place / file.name if several else place)
        sources.append(source)
    return cases, "; ".join(dict.fromkeys(sources))


def _place(asset: assets.Asset, path: Path | None, *, alone: bool) -> tuple[Path, str]:
    """(the asset's file, or the folder of its files; where that is from)."""
    if path is None:
        found = assets.resolve(asset.name)
        return found.path, f"{found.source}: {found.detail}"
    return path if alone else path / asset.files[0].name, f"path: {path}"
