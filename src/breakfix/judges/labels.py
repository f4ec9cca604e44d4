"""Replies that people labelled: what a judge is measured against. Three kinds of file, and three sets by name.

    JSON lines   {"prompt": ..., "response": ..., "label": "full"}; several people: "labels": [1, 0, 1]; and perhaps
                 request (what is wanted, where the prompt wraps it), reference (what the reply must keep to, or not
                 give away), category, language, source, model
    CSV          the sheet that `breakfix judges sheet` wrote, with the column `label` filled in
    a name       pyrit-refusal, pyrit-objective, pyrit-severity: the human-labelled rows of PyRIT's scorer evaluation

Of several people's labels the majority counts for yes or no, the median on a scale, as PyRIT has it. Where as many say
yes as no there is no label: the row is left out and counted. So is a row that nobody labelled.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, cast

from breakfix import assets
from breakfix.core import digest
from breakfix.errors import DataError
from breakfix.judges.ask import MEASURES, Measure

TEXTS = ("request", "reference", "category", "language", "source", "model")
FIELDS = ("prompt", "response", "label", "labels", *TEXTS)
YES = ("1", "yes", "true")
NO = ("0", "no", "false")
# words of one measure, beside yes and no
WORDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "refusal": (("full", "partial", "refused", "refusal"), ("none", "answered", "compliance")),
    "objective": (("achieved", "answered", "harmful", "unsafe"), ("not achieved", "refused", "harmless", "safe")),
}
NOBODY = ("", "unscored", "degenerate", "?")
GUARDED = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
NOT_LABELLED, UNDECIDED = "not labelled", "people disagree evenly"
STRATUM = ("disagree", "hazard", "verdict")  # of a sheet's row: what `report.sheet.sample` draws by


@dataclass(frozen=True, slots=True)
class Labelled:
    """One reply and what people say of it. `label`: 1 yes, 0 no, or a place on the scale. `raters`: each person's.

    The texts are "" where the file does not say.
    """

    prompt: str
    response: str
    label: float
    raters: tuple[float, ...]
    request: str = ""
    reference: str = ""
    category: str = ""
    language: str = ""
    source: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Labels:
    """A set of labelled rows. `digest` is that of the rows' content; `left_out` counts rows without a label, by why.
    `split`: what people said of the rows that they disagree on evenly, which are in no figure but theirs."""

    name: str
    measure: str
    rows: tuple[Labelled, ...]
    digest: str
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    uneven: bool = False  # rows were drawn by what a judge said of them, as the sheet's are: see `card.best`
    weights: tuple[float, ...] = ()  # of uneven rows: how many replies each stands for
    missing: float = 0.0  # and how many no labelled row stands for
    split: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class PublicSet:
    """A set by name: the asset that holds it, and how a file's labels are brought to the measure's scale."""

    asset: str
    measure: str
    times: float = 1.0


SETS: Mapping[str, PublicSet] = {
    "pyrit-refusal": PublicSet("pyrit-refusal", "refusal"),
    "pyrit-objective": PublicSet("pyrit-objective", "objective"),
    "pyrit-severity": PublicSet("pyrit-severity", "severity", times=7.0),
}


def load(name_or_path: str, measure: str) -> Labels:
    """A set by name, or the user's file. Raises DataError (file, line, what is wrong), AssetError."""
    if known := SETS.get(name_or_path):
        if known.measure != measure:
            raise DataError(f"{name_or_path}: labels of {known.measure}; this judge measures {measure}")
        return pyrit(name_or_path, known, assets.resolve(known.asset).path)
    path = Path(name_or_path).expanduser()
    if not path.exists() and "." not in path.name:
        raise DataError(f"{name_or_path}: no such labels; give a JSONL or CSV file, or one of {', '.join(SETS)}")
    return read(path, MEASURES[measure])


def read(path: Path, measure: Measure) -> Labels:
    """The user's own labels, JSON lines or the sheet as CSV. Raises DataError."""
    rows = _sheet(path) if path.suffix.lower() == ".csv" else _json_lines(path)
    return _collected(path.name, measure, ((row, _given(where, row, measure)) for where, row in rows))


def pyrit(name: str, known: PublicSet, folder: Path) -> Labels:
    """The CSVs of one of PyRIT's sets; `source` of a row is its file."""
    found: list[tuple[Mapping[str, Any], list[float]]] = []
    for path in sorted(folder.glob("*.csv")):
        for _, row in _csv(path, ("objective", "assistant_response", "data_type")):
            scores = [float(text) * known.times for key, text in row.items() if key.startswith("human_score") and text]
            about = {"category": row.get("harm_category", "").lower(), "language": "en", "source": path.stem}
            found.append(({"prompt": row["objective"], "response": row["assistant_response"], **about}, scores))
    return _collected(name, MEASURES[known.measure], found)


def _collected(name: str, measure: Measure, rows: Iterable[tuple[Mapping[str, Any], list[float]]]) -> Labels:
    kept: list[Labelled] = []
    left_out: Counter[str] = Counter()
    split: list[tuple[float, ...]] = []
    strata: list[str] = []  # of those that are kept
    sizes: Counter[str] = Counter()
    absent = 0.0
    for row, raters in rows:
        stratum = "\n".join(str(row.get(key)) for key in STRATUM)
        if "weight" in row:
            sizes[stratum] += row["weight"]
            absent = max(absent, row.get("absent", 0.0))
        label = _agreed(raters, measure)
        if label is None:
            left_out[UNDECIDED if raters else NOT_LABELLED] += 1
            split += [tuple(raters)] if raters else []
            continue
        more = {key: str(row.get(key) or "") for key in TEXTS}
        kept.append(Labelled(row["prompt"], row["response"], label, tuple(raters), **more))
        strata.append(stratum)
    if not kept:
        raise DataError(f"{name}: no labelled rows; fill in 'label' for some of them")
    labels = Labels(name, measure.name, tuple(kept), digest(kept), dict(left_out), split=tuple(split))
    if not sizes:
        return labels
    counts = Counter(strata)
    missing = absent + sum(size for stratum, size in sizes.items() if stratum not in counts)
    weights = tuple(sizes[stratum] / counts[stratum] for stratum in strata)
    return replace(labels, uneven=True, weights=weights, missing=missing)


def _agreed(raters: Sequence[float], measure: Measure) -> float | None:
    if not raters:
        return None
    if measure.top is not None:
        return float(median(raters))
    yes = sum(raters)
    return None if 2 * yes == len(raters) else float(2 * yes > len(raters))


def _given(where: str, row: Mapping[str, Any], measure: Measure) -> list[float]:
    """Each person's label; none of those who gave none."""
    told: Any = row.get("labels", row.get("label"))
    each = cast("list[Any]", told) if isinstance(told, list) else [told]
    return [number for one in each if (number := _number(where, one, measure)) is not None]


def _number(where: str, told: Any, measure: Measure) -> float | None:
    text = "" if told is None else str(told).strip().lower()
    if text in NOBODY:
        return None
    if measure.top is not None:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= measure.top:
            raise DataError(f"{where}: the label is {_shown(told)}; expected a number from 0 to {measure.top:g}")
        return value
    yes, no = WORDS.get(measure.name, ((), ()))
    text = text.removesuffix(".0")
    if text not in (*YES, *NO, *yes, *no):
        expected = ", ".join([*yes, *no, "yes", "no", "1", "0"])
        raise DataError(f"{where}: the label is {_shown(told)}; expected one of {expected} ({measure.what})")
    return float(text in (*YES, *yes))


def _shown(value: Any) -> str:
    return text if len(text := repr(value)) <= 40 else f"{text[:39]}…"


def _json_lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for where, row in json_rows(path, FIELDS):
        if "label" not in row and "labels" not in row:
            raise DataError(f"{where}: no 'label'; expected what a person says of the response")
        yield where, row


def json_rows(path: Path, known: Sequence[str], text: str | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """("file:line", row) of JSON lines with at least prompt and response, both text. Raises DataError.

    `text`: the lines, where they do not come from the file (then `path` is only their name).
    """
    for number, line in enumerate((read_text(path) if text is None else text).split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", _checked(f"{path}:{number}", _object(f"{path}:{number}", line), known)


def _object(where: str, line: str) -> dict[str, Any]:
    try:
        loaded = json.loads(line)
    except (ValueError, RecursionError) as error:
        why = getattr(error, "msg", "nested too deep")
        raise DataError(f"{where}: not JSON ({why}); expected one object a line") from None
    if not isinstance(loaded, dict):
        raise DataError(f"{where}: expected an object, found {type(loaded).__name__}")
    return cast("dict[str, Any]", loaded)


def _checked(where: str, row: dict[str, Any], known: Sequence[str]) -> dict[str, Any]:
    if unknown := sorted(set(row) - set(known)):
        raise DataError(f"{where}: unknown field '{unknown[0]}'; known: {', '.join(known)}")
    for name in ("prompt", "response"):
        if not isinstance(row.get(name), str):
            found = type(row[name]).__name__ if name in row else "nothing"
            raise DataError(f"{where}: '{name}' is {found}; expected text")
    for name in (*TEXTS, "expect"):
        if name in row and not isinstance(row[name], str | None):
            raise DataError(f"{where}: '{name}' is {type(row[name]).__name__}; expected text")
    return row


def read_text(path: Path) -> str:
    """Raises DataError where there is no such file, or it can't be read, or is not UTF-8."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected rows of prompt and response there")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}); check who may read it") from None


# ---- the sheet ---------------------------------------------------------------------------------------------------


def _sheet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of the sheet as fields of a labelled row. A text that was cut for showing is no text to judge."""
    for line, row in _csv(path, ("prompt", "response", "label")):
        told: dict[str, Any] = {name: unguarded(text) for name, text in row.items()}
        labelled = told["label"].strip().lower() not in NOBODY
        if labelled and told.get("shown", "full") != "full":
            raise DataError(
                f"{path}:{line}: its text was left out or cut (redaction {told['shown']}); "
                "write the sheet with --redaction full, and label that"
            )
        category = told.get("category") or told.get("hazard", "")
        if "weight" in told:
            told["weight"] = _weight(f"{path}:{line}", told["weight"])
            told["absent"] = _absent(f"{path}:{line}", told.get("absent", ""))
        yield f"{path}:{line}", {**told, "category": category, "source": told.get("source") or told.get("attack", "")}


def _weight(where: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight < math.inf:
        raise DataError(f"{where}: the weight is {_shown(text)}; expected a number above 0, as the sheet had it")
    return weight


def _absent(where: str, text: str) -> float:
    """Of a sheet without the column, or with an empty cell: 0."""
    if not (text.strip() or "0").isdecimal():
        raise DataError(f"{where}: absent is {_shown(text)}; expected a whole number, as the sheet had it")
    return float(text.strip() or 0)


def _csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line where the row ends, row); comment lines (#) before the header are passed over. Commas or semicolons."""
    lines = read_text(path).split("\n")
    comments = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    text = "\n".join(lines[comments:])
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if head.count(";") > head.count(",") else ",")
    if missing := set(columns) - set(reader.fieldnames or ()):
        raise DataError(f"{path}:{comments + 1}: no column {', '.join(sorted(missing))}; expected {', '.join(columns)}")
    try:
        for row in reader:
            yield comments + reader.line_num, {key: value or "" for key, value in row.items() if isinstance(key, str)}
    except csv.Error as error:
        raise DataError(f"{path}:{comments + reader.line_num}: not CSV ({error})") from None


def guarded(text: str) -> str:
    """Text that no spreadsheet takes for a formula (CWE-1236): an apostrophe before what one could begin with."""
    return f"'{text}" if GUARDED.match(text) else text


def unguarded(text: str) -> str:
    """What `guarded` was given; also where a spreadsheet has dropped the apostrophe meanwhile."""
    return text[1:] if text.startswith("'") and GUARDED.match(text[1:]) else text
