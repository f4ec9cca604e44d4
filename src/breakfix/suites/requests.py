"""The public suites of requests, read from their authors' files. Formats are described in data/assets.yaml.

Their categories become `family` (suite/category), and our `hazard` only where the two mean the same.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import yaml

from breakfix.core import Case, Expect
from breakfix.errors import DataError
from breakfix.suites.rows import Origin, csv_rows, json_list, json_rows, read_text

XSTEST_LABELS = {"safe": Expect.COMPLY, "unsafe": Expect.REFUSE}
HARMBENCH_HAZARDS = {
    "chemical_biological": "indiscriminate_weapons",
    "copyright": "intellectual_property",
    "cybercrime_intrusion": "non_violent_crimes",
}
STRONGREJECT_HAZARDS = {
    "Hate, harassment and discrimination": "hate",
    "Illegal goods and services": "non_violent_crimes",
    "Non-violent crimes": "non_violent_crimes",
    "Sexual content": "sexual_content",
    "Violence": "violent_crimes",
}
STRONGREJECT_MIT = ("custom", "DAN", "AdvBench")  # sources whose licence is stated


def xstest(origin: Origin, path: Path) -> list[Case]:
    """label safe: comply; unsafe: refuse."""
    cases: list[Case] = []
    for line, row in csv_rows(path, ("id", "prompt", "type", "label", "focus", "note")):
        if row["label"] not in XSTEST_LABELS:
            raise DataError(f"{path}:{line}: label '{row['label']}', expected {' | '.join(XSTEST_LABELS)}")
        family = f"{origin.name}/{row['type']}"
        cases.append(origin.case(row["id"], row["prompt"], XSTEST_LABELS[row["label"]], family=family))
    return cases


def harmbench(origin: Origin, path: Path) -> list[Case]:
    """The functional category `standard` alone: the others need a context beside the request, or a hash check."""
    columns = ("Behavior", "FunctionalCategory", "SemanticCategory", "BehaviorID")
    rows = [row for _, row in csv_rows(path, columns) if row["FunctionalCategory"] == "standard"]
    return [
        origin.case(
            row["BehaviorID"],
            row["Behavior"],
            Expect.REFUSE,
            family=f"{origin.name}/{row['SemanticCategory']}",
            hazard=HARMBENCH_HAZARDS.get(row["SemanticCategory"], ""),
        )
        for row in rows
    ]


def strongreject(origin: Origin, path: Path) -> list[Case]:
    """All 313. The licence is that of the row's own source."""
    return [
        origin.case(
            f"{i:03d}",
            row["forbidden_prompt"],
            Expect.REFUSE,
            family=f"{origin.name}/{row['category']}",
            hazard=STRONGREJECT_HAZARDS.get(row["category"], ""),
            licence=origin.licence if row["source"] in STRONGREJECT_MIT else "unknown",
        )
        for i, (_, row) in enumerate(csv_rows(path, ("category", "source", "forbidden_prompt")), start=1)
    ]


def do_not_answer(origin: Origin, path: Path) -> list[Case]:
    """One risk area: the file's name. One question of information_hazard is there twice, as two cases."""
    area = path.stem
    return [
        origin.case(f"{area}/{i:03d}", row["prompt"], Expect.REFUSE, family=f"{origin.name}/{area}")
        for i, (_, row) in enumerate(json_rows(path, {"prompt": str}), start=1)
    ]


def overrefusal(origin: Origin, path: Path) -> list[Case]:
    """All are harmless. `expected_topic` is not read."""
    return [
        origin.case(row["id"], row["text"], Expect.COMPLY, family=f"{origin.name}/{row['category']}")
        for _, row in json_list(path, {"id": str, "text": str, "category": str})
    ]


def refusal_pairs(origin: Origin, path: Path) -> list[Case]:
    """Of each row the two requests, without the replies that stand after them; pairs on minors are left out. A pair is
    a family, and so stays on one side."""
    cases: list[Case] = []
    for _, row in json_list(path, {"id": str, "text": str, "harmful_version": str, "domain": str}):
        if not re.search(r"csam|child|minor|stranger_danger|positional|teen|baby", row["domain"]):
            family = f"{origin.name}/{row['domain']}"
            for key, field, expect in (("safe", "text", Expect.COMPLY), ("harm", "harmful_version", Expect.REFUSE)):
                request = row[field].partition("\n\n")[0]
                cases.append(origin.case(f"{path.stem}/{row['id']}/{key}", request, expect, family=family))
    return cases


def advbench(origin: Origin, path: Path) -> list[Case]:
    """YAML: `seeds`, each with a `value`. The harm categories are a language model's, and are left out."""
    try:
        loaded = yaml.load(read_text(path), Loader=cast("Any", getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError:
        raise DataError(f"{path}: not YAML; expected PyRIT's seed file") from None
    seeds = cast("dict[str, Any]", loaded).get("seeds") if isinstance(loaded, dict) else None
    if not isinstance(seeds, list):
        raise DataError(f"{path}: expected a list under 'seeds'")
    values = [cast("dict[str, Any]", s).get("value") if isinstance(s, dict) else None for s in cast("list[Any]", seeds)]
    for i, value in enumerate(values, start=1):
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{path}: seed {i} has no text under 'value'")
    return [
        origin.case(f"{i:03d}", str(value), Expect.REFUSE, family=origin.name)
        for i, value in enumerate(values, start=1)
    ]
