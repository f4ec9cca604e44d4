"""A judge's card: how far its verdicts agree with people's labels. A judge is measured before it is believed.

Yes or no: accuracy, F1, Cohen's kappa, sensitivity and specificity, where "yes" is what the measure asks (does the
reply refuse?). On a scale: mean absolute error, and Krippendorff's alpha of judge and people. Each with a 95 %
interval, over all rows and by category, language, source and model. After PyRIT's scorer evaluation; ours differs in
that every figure has an interval, and that rows which the judge could not score are counted and in no figure.

Cards that come with the package lie in data/cards; the user's own in $BREAKFIX_HOME/cards, or
~/.local/share/breakfix/cards. A card is JSON: {"name": ..., "calibrations": [...]}; figures are numbers, their bounds
stand under "intervals", and what could not be told is null.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, cast

from breakfix.core import Estimate, Expect, Judge, Verdict
from breakfix.errors import DataError, UserError
from breakfix.judges.ask import MEASURES, Measure, row, said, verdicts
from breakfix.judges.labels import Labelled, Labels
from breakfix.stats import (
    Confusion,
    corrected_rate,
    kappa,
    krippendorff_alpha,
    mean_absolute_error,
    weighted_rate,
)

Json = dict[str, Any]
GROUPS = {"category": "by_category", "language": "by_language", "source": "by_source", "model": "by_model"}
ENOUGH = 30  # scored rows of your own that count before more of somebody else's
COUNTS = ("tp", "fp", "fn", "tn", "unscored_yes", "unscored_no")
NAMES = ("accuracy", "kappa", "f1", "sensitivity", "specificity", "mae", "alpha")  # of figures
# what a card has to have, and of what kind
FIGURES: Mapping[str, type] = {"n": int, "unscored": int, "intervals": dict}
CALIBRATION = {**dict.fromkeys(("judge", "measures", "labels", "digest", "date"), str), **FIGURES}


@dataclass(frozen=True, slots=True)
class Figures:
    """How far a judge agrees with people on some rows: n scored, unscored, figures by name, counts (yes or no)."""

    n: int
    unscored: int
    figures: Mapping[str, Estimate]
    counts: Mapping[str, int]

    def as_json(self) -> Json:
        """Numbers by name; bounds under "intervals"."""
        numbers = {name: _known(e.value) for name, e in self.figures.items()}
        intervals = {name: [_known(e.low), _known(e.high)] for name, e in self.figures.items()}
        counts = {"counts": dict(self.counts)} if self.counts else {}
        return {"n": self.n, "unscored": self.unscored, **numbers, "intervals": intervals, **counts}


@dataclass(frozen=True, slots=True)
class Calibration:
    """One measurement of one judge on one set of labels. `note`: what a reader has to know (how rows were held out).

    `uneven`: see `best`; then `weighted` has what the figures come to if each row counts for as many as it stands for.
    `groups`: by_category ... → value → figures. `people`: Krippendorff's alpha of the raters,
    where there are several, over all their rows: those left out because they disagree evenly are in it.
    """

    judge: str
    measures: str
    labels: str
    digest: str
    date: str
    overall: Figures
    groups: Mapping[str, Mapping[str, Figures]]
    left_out: Mapping[str, int]
    people: Estimate | None = None
    note: str = ""
    command: str = ""
    uneven: bool = False
    weighted: Figures | None = None

    def as_json(self) -> Json:
        names = ("judge", "measures", "labels", "digest", "date", "command", "note")
        people: Json = {}
        if self.people is not None:
            e = self.people
            people = {"people": {"alpha": _known(e.value), "interval": [_known(e.low), _known(e.high)], "n": e.n}}
        return {
            **{name: getattr(self, name) for name in names},
            **({"uneven": True} if self.uneven else {}),
            **({"weighted": self.weighted.as_json()} if self.weighted is not None else {}),
            **self.overall.as_json(),
            "left_out": dict(self.left_out),
            **people,
            **{name: {value: f.as_json() for value, f in parts.items()} for name, parts in self.groups.items()},
        }


def calibrate(
    judge: Judge,
    labels: Labels,
    *,
    date: str,
    note: str = "",
    command: str = "",
    progress: Callable[[int], object] = lambda done: None,
) -> Calibration:
    """Put the labelled replies to the judge and compare. `date`: ISO. Raises UserError from the judge."""
    given = verdicts(judge, [_row(one, MEASURES[labels.measure]) for one in labels.rows], progress=progress)
    return compared(judge.name, labels, given, date=date, note=note, command=command)


def compared(
    judge: str, labels: Labels, given: Sequence[Verdict], *, date: str, note: str = "", command: str = ""
) -> Calibration:
    """The calibration of verdicts that were given before, one a row: of a judge that was fitted anew for every source
    that it is measured on, say, and then `note` says so."""
    measure = MEASURES[labels.measure]
    numbers = [said(verdict, measure) for verdict in given]
    pairs = list(zip(labels.rows, numbers, strict=True))
    several = [*(one.raters for one in labels.rows if len(one.raters) > 1), *labels.split]
    level = "nominal" if measure.top is None else "ordinal"
    return Calibration(
        judge=judge,
        measures=measure.name,
        labels=labels.name,
        digest=labels.digest,
        date=date,
        overall=figures(((number, one.label) for one, number in pairs), measure),
        groups={name: by for key, name in GROUPS.items() if (by := _by(key, pairs, measure))},
        left_out=labels.left_out,
        people=krippendorff_alpha(several, level, random.Random(0)) if several else None,
        note=note,
        command=command,
        uneven=labels.uneven,
        weighted=_weighted(labels, numbers) if labels.weights and measure.top is None else None,
    )


def _weighted(labels: Labels, numbers: Sequence[float | None]) -> Figures:
    """Of yes or no: the figures of the replies that the rows were drawn from, without those that no row stands for."""
    rows = list(zip((one.label for one in labels.rows), numbers, labels.weights, strict=True))
    right = [(None if said is None else float(said == label), label, weight) for label, said, weight in rows]
    found = {
        "accuracy": weighted_rate((ok, weight) for ok, _, weight in right),
        "kappa": kappa(((said, label) for label, said, _ in rows), counts=labels.weights),
        "sensitivity": weighted_rate((ok, weight) for ok, label, weight in right if label == 1),
        "specificity": weighted_rate((ok, weight) for ok, label, weight in right if label == 0),
    }
    about = {"stands_for": round(math.fsum(labels.weights)), "missing": round(labels.missing)}
    return Figures(found["accuracy"].n, found["accuracy"].unscored, found, about)


def _row(one: Labelled, measure: Measure) -> Any:
    return row(
        one.prompt,
        one.response,
        request=one.request,
        reference=one.reference,
        category=one.category,
        language=one.language,
        expect=measure.expect,
    )


def _by(key: str, pairs: Sequence[tuple[Labelled, float | None]], measure: Measure) -> dict[str, Figures]:
    """Value → figures, in order of the value; nothing where the rows do not say."""
    found: dict[str, list[tuple[float | None, float]]] = {}
    for one, number in pairs:
        found.setdefault(getattr(one, key), []).append((number, one.label))
    if set(found) == {""}:
        return {}
    return {value or "unknown": figures(found[value], measure) for value in sorted(found)}


def figures(pairs: Iterable[tuple[float | None, float]], measure: Measure) -> Figures:
    """From (what the judge said or None, what people say), 1 and 0 for yes and no, or places on the scale."""
    known = list(pairs)
    rng = random.Random(0)  # the same rows give the same card
    if measure.top is not None:
        error = mean_absolute_error(known, rng, scale=measure.top)
        alpha = krippendorff_alpha(known, "ordinal", rng)
        return Figures(error.n, error.unscored, {"mae": error, "alpha": alpha}, {})
    confusion = Confusion.of([(None if judge is None else judge == 1, people == 1) for judge, people in known])
    found = {
        "accuracy": confusion.accuracy(),
        "f1": confusion.f1(),
        "kappa": kappa(known),
        "sensitivity": confusion.sensitivity(),
        "specificity": confusion.specificity(),
    }
    return Figures(confusion.n, confusion.unscored, found, {name: getattr(confusion, name) for name in COUNTS})


def confusion(calibration: Json) -> Confusion | None:
    """The counts of a calibration as a card holds it; None for one on a scale."""
    counts = calibration.get("counts")
    return Confusion(**{name: int(counts.get(name, 0)) for name in COUNTS}) if counts else None


def corrected(broke: Estimate, expect: Expect, calibration: Json) -> Estimate | None:
    """The share that truly broke behind what the calibrated judge counted (`stats.corrected_rate`): harmful requests
    answered (`expect` refuse), or harmless ones refused (comply).

    None for a judge on a scale, or one of something else; and where the whole interval lies beyond 0 or 1: the count is
    one that a judge with the card's errors does not give, so it errs otherwise on these replies.
    """
    counts = confusion(calibration)
    if counts is None:
        return None
    sensitivity, specificity = counts.sensitivity(), counts.specificity()
    if calibration["measures"] == "refusal" and expect is Expect.REFUSE:  # to break is not to refuse
        sensitivity, specificity = specificity, sensitivity
    elif calibration["measures"] != "refusal" and expect is Expect.COMPLY:
        return None
    truth = corrected_rate(broke, sensitivity, specificity)
    return None if truth.low == truth.high else truth


def _known(x: float) -> float | None:
    return x if math.isfinite(x) else None


# ---- cards on disk -----------------------------------------------------------------------------------------------


def home() -> Path:
    """Where the user's own cards lie."""
    if given := os.environ.get("BREAKFIX_HOME"):
        return Path(given).expanduser() / "cards"
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "breakfix" / "cards"


def own(name: str) -> Path:
    """The file of the user's card of a judge."""
    return home() / f"{re.sub(r'[^A-Za-z0-9_.-]+', '--', name)}.json"


def cards() -> dict[str, list[Json]]:
    """Judge's name → its calibrations, shipped ones first; "from" says which they are. Raises DataError."""
    shipped = resources.files("breakfix").joinpath("data", "cards")
    texts = [(file.name, file.read_text(encoding="utf-8"), "shipped") for file in _json_files(shipped)]
    texts += [(str(path), _text(path), "yours") for path in sorted(home().glob("*.json"))]
    found: dict[str, list[Json]] = {}
    for where, text, origin in texts:
        card = _parsed(where, text)
        found.setdefault(card["name"], []).extend({"from": origin, **one} for one in card["calibrations"])
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read as a judge's card ({type(error).__name__}); take it out") from None


def _json_files(folder: Any) -> Iterator[Any]:
    if folder.is_dir():
        yield from sorted((f for f in folder.iterdir() if f.name.endswith(".json")), key=lambda f: f.name)


def _parsed(where: str, text: str) -> Json:
    """Raises DataError, with the first thing that is missing or of another kind."""
    try:
        loaded: Any = json.loads(text)
    except (ValueError, RecursionError):
        loaded = None
    if wrong := _wrong(loaded):
        raise DataError(f"{where}: not a judge's card ({wrong}); take it away, and calibrate again")
    return loaded


def _wrong(loaded: Any) -> str:
    """What is not as `Calibration.as_json` writes it, of all that is read of a card; "" where all is well."""
    card = cast("Json", loaded) if isinstance(loaded, dict) else {}
    if not isinstance(card.get("name"), str) or not isinstance(card.get("calibrations"), list):
        return "expected name and calibrations"
    for number, one in enumerate(cast("list[Any]", card["calibrations"]), start=1):
        if wrong := _lacking(one, CALIBRATION) or _part(cast("Json", one)):
            return f"calibration {number}: {wrong}"
        parts = [(key, value) for key, value in cast("Json", one).items() if key in GROUPS.values()]
        parts += [("weighted", {"": one["weighted"]})] if "weighted" in one else []
        for key, value in parts:
            each: list[Any] = [*cast("Json", value).values()] if isinstance(value, dict) else [None]
            if wrong := next((w for part in each if (w := _lacking(part, FIGURES) or _part(part))), ""):
                return f"calibration {number}, {key}: {wrong}"
    return ""


def _lacking(row: Any, fields: Mapping[str, type]) -> str:
    found = cast("Json", row) if isinstance(row, dict) else {}
    wrong = [key for key, kind in fields.items() if not isinstance(found.get(key), kind)]
    return f"'{wrong[0]}' is missing or no {fields[wrong[0]].__name__}" if wrong else ""


def _part(part: Json) -> str:
    """Every figure is a number or null, and has its two bounds; counts are numbers."""
    counts: Any = part.get("counts", {})
    if not isinstance(counts, dict) or not all(isinstance(n, int) for n in cast("Json", counts).values()):
        return "'counts' are no numbers by name"
    for name in (name for name in NAMES if name in part):
        bounds: Any = part["intervals"].get(name)
        numbers = [part[name], *(cast("list[Any]", bounds) if isinstance(bounds, list) else [])]
        if len(numbers) != 3 or not all(isinstance(x, int | float | None) for x in numbers):
            return f"'{name}' is no figure with two bounds"
    return ""


def check(name: str, path: Path) -> None:
    """Whether a card of this judge can be written there, before time is spent on it: a new file, or one that is its
    card. Makes the folder. Raises UserError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent}: can't be made ({error.strerror}); give another path with -o") from None
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        why = "a folder" if path.is_dir() else "no right to write there"
        raise UserError(f"{path}: can't be written ({why}); give another path with -o")
    if path.exists() and (there := _parsed(str(path), _text(path))["name"]) != name:
        raise UserError(f"{path}: the card of the judge {there!r}; give another path for that of {name!r}")


def merged(name: str, calibration: Calibration, path: Path) -> str:
    """The card at `path` with this calibration in it, as JSON text. It replaces one of the same judge and labels."""
    there: list[Json] = []
    if path.is_file():
        there = _parsed(str(path), _text(path))["calibrations"]
    new = calibration.as_json()
    key = ("judge", "labels", "digest", "note")
    kept = [one for one in there if any(one.get(k) != new[k] for k in key)]
    return json.dumps({"name": name, "calibrations": [*kept, new]}, indent=1, ensure_ascii=True) + "\n"


def best(calibrations: Sequence[Json], version: str) -> Json | None:
    """What to show of a card in one line, and to correct by: of the judge's present version, your own on ENOUGH rows
    before a shipped one, then on the most rows. Of rows that were drawn by what a judge said of them (the sheet's)
    sensitivity and specificity are not those of the replies at large, so they are not it."""
    even = [one for one in calibrations if one["judge"] == version and not one.get("uneven")]
    return max(even, key=weight, default=None)


def others(calibrations: Sequence[Json], chosen: Json) -> list[Json]:
    """Of the same version as `chosen`, the best one on each other set of labels, the latest made of several."""
    even = [one for one in calibrations if one["judge"] == chosen["judge"] and not one.get("uneven")]
    found: dict[str, Json] = {}
    for one in sorted(even, key=weight):
        found[one["labels"]] = one
    return [one for labels, one in found.items() if labels != chosen["labels"]]


def weight(calibration: Json) -> tuple[bool, int]:
    """By which the best calibration is found."""
    n = int(calibration.get("n", 0))
    return calibration.get("from") == "yours" and n >= ENOUGH, n


def calibrated(version: str) -> Json | None:
    """The best calibration of a judge by name@version, under whatever name its card is kept."""
    return best([one for calibrations in cards().values() for one in calibrations], version)
