"""Suites: a name → the cases that a model is measured with. `SUITES` holds the built-in ones; a user's own are JSONL.

The content stays where it came from (`assets.py`): this package knows the files' formats, what each suite may be used
for, and how to draw a sample that is the same on every machine.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from breakfix import assets, config, starter
from breakfix.core import Case, Split
from breakfix.errors import DataError
from breakfix.suites import choices, own, requests, sample
from breakfix.suites.rows import Origin

Measure = Literal["replies", "choices", "perplexity"]
Read = Callable[[Origin, Path], list[Case]]
Sample = Callable[..., tuple[Case, ...]]


@dataclass(frozen=True, slots=True)
class SuiteSpec:
    """A built-in suite. `source`: whose it is. `licence`: of its content; rows carry their own where they differ.

    `measure`: replies are generated and judged, choices are scored by log-likelihood, perplexity is that of the
    untouched model's own answers. `files`: asset → how a file of it is read; none: the starter pack.
    """

    name: str
    doc: str
    source: str
    licence: str
    split: Split
    measure: Measure = "replies"
    files: Mapping[str, Read] | None = None
    sample: Sample = sample.stratified


@dataclass(frozen=True, slots=True)
class Loaded:
    """A suite's cases, sampled. `source` says in one line where they came from."""

    name: str
    cases: tuple[Case, ...]
    split: Split
    source: str
    measure: Measure = "replies"


def load(suite: config.Suite, *, seed: int) -> Loaded:
    """The suite's cases; with a limit, a sample that depends on `seed` and the cases alone.

    A built-in name with a `path` reads that file (or folder, where the suite has several files) instead of the asset.
    Raises AssetError where no source serves the files, DataError for an unknown name or a malformed row.
    """
    spec = SUITES.get(suite.name)
    if spec is None:
        return _own(suite, seed)
    cases, source = _starter(spec, suite.path) if spec.files is None else _from_files(spec, spec.files, suite.path)
    drawn = spec.sample(cases, suite.limit, seed=seed)
    return Loaded(spec.name, drawn, spec.split, source, spec.measure)


def _own(suite: config.Suite, seed: int) -> Loaded:
    if suite.path is None:
        close = difflib.get_close_matches(suite.name, SUITES, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(SUITES)}."
        raise DataError(f"suite '{suite.name}' is not built in; {hint} For a file of your own, give its path as well")
    if not re.fullmatch(r"[\w-]+", suite.name):
        raise DataError(
            f"suite '{suite.name}': expected a name of letters, digits, _ and -; metrics are named after it"
        )
    cases = own.read(suite.name, suite.path)
    return Loaded(suite.name, sample.stratified(cases, suite.limit, seed=seed), Split.DEV, str(suite.path))


def _starter(spec: SuiteSpec, path: Path | None) -> tuple[list[Case], str]:
    if path is not None:
        raise DataError(f"suite '{spec.name}' comes from the starter pack and takes no path; give {path} another name")
    dev = starter.cases(split=Split.DEV)
    wanted = ("harmful", "twin") if spec.name == "starter_dev" else ("plain",)
    return [case for case in dev if starter.kind_of(case) in wanted], "starter pack"


def _from_files(spec: SuiteSpec, files: Mapping[str, Read], path: Path | None) -> tuple[list[Case], str]:
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


_DEV, _FROZEN, _TRAIN = Split.DEV, Split.FROZEN, Split.TRAIN
_STARTER = "breakfix starter pack"

SUITES: Mapping[str, SuiteSpec] = {
    spec.name: spec
    for spec in (
        SuiteSpec(
            "starter_dev",
            "Harmful requests and their benign twins, twelve hazards, ten languages (families of split dev)",
            _STARTER,
            starter.LICENCE,
            _DEV,
        ),
        SuiteSpec("plain", "Everyday instructions, harmless beyond doubt (split dev)", _STARTER, starter.LICENCE, _DEV),
        SuiteSpec(
            "xstest",
            "XSTest v2: 250 safe requests that sound unsafe, and 200 unsafe contrasts",
            "Röttger et al. 2024, arXiv 2308.01263",
            "CC-BY-4.0",
            _FROZEN,
            files={"xstest": requests.xstest},
        ),
        SuiteSpec(
            "harmbench_test_standard",
            "HarmBench test behaviours of the functional category 'standard'",
            "Mazeika et al. 2024, arXiv 2402.04249",
            "MIT",
            _FROZEN,
            files={"harmbench-test": requests.harmbench},
        ),
        SuiteSpec(
            "harmbench_val",
            "HarmBench validation behaviours of the functional category 'standard'",
            "Mazeika et al. 2024, arXiv 2402.04249",
            "MIT",
            _DEV,
            files={"harmbench-val": requests.harmbench},
        ),
        SuiteSpec(
            "strongreject",
            "StrongREJECT forbidden prompts in six categories",
            "Souly et al. 2024, arXiv 2402.10260",
            "MIT",
            _FROZEN,
            files={"strongreject": requests.strongreject},
        ),
        SuiteSpec(
            "do_not_answer",
            "Do-Not-Answer questions in five risk areas",
            "Wang et al. 2023, arXiv 2308.13387",
            "unknown",
            _DEV,
            files={"do-not-answer": requests.do_not_answer},
        ),
        SuiteSpec(
            "advbench",
            "AdvBench harmful behaviours",
            "Zou et al. 2023, arXiv 2307.15043",
            "MIT",
            _TRAIN,
            files={"advbench": requests.advbench},
        ),
        SuiteSpec(
            "capability",
            "Multiple choice by log-likelihood: PIQA, BoolQ, MMLU, in equal parts",
            "arXiv 1911.11641, 1905.10044, 2009.03300",
            "AFL-3.0, CC-BY-SA-3.0, MIT",
            _FROZEN,
            "choices",
            files={"piqa": choices.piqa, "boolq": choices.boolq, "mmlu": choices.mmlu},
            sample=sample.balanced,
        ),
        SuiteSpec(
            "perplexity",
            "Perplexity of the untouched model's own answers to everyday instructions: how far the model has moved",
            _STARTER,
            starter.LICENCE,
            _DEV,
            "perplexity",
        ),
    )
}
