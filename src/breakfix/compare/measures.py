"""What a metric's name says of it: the section of the table that it stands in, its label, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from breakfix.report.headlines import BETTER, BY_NAME, HEADLINES, KINDS, NUMBERS, title, unit, words
from breakfix.suites import SUITES
from breakfix.taxonomy import hazards

Better = Literal["lower", "higher"]
SECTIONS = {
    "headlines": "Headline figures",
    "family": "Attack success by family and persona",
    "hazard": "By hazard",
    "language": "By language",
    "part": "By data set, subject or persona",
    "refusal": "Full and partial refusals",
}
_BY_CASE = {"asr_case": "Cases broken", "jailbreak_defect": "Broken by an attack, not directly"}
_ATTACKS = {"asr": "Attack success", "achieved": "Objective achieved"}
_PARTS = {"family": "family", "persona": "family", "hazard": "hazard", "lang": "language"}  # of asr.PART.VALUE


@dataclass(frozen=True, slots=True)
class Measure:
    """A row of the table. `better` is None where nobody has said which way is better."""

    name: str
    section: str
    label: str
    better: Better | None
    unit: Literal["share", "number"]

    @property
    def arrow(self) -> str:
        return {"lower": "↓", "higher": "↑", None: " "}[self.better]


def measures(names: set[str]) -> list[Measure]:
    """The rows for these metrics, by section; headlines in the order of the report, the rest by name.

    Left out: changes (this is one), and the IPRR of a suite that is all harmful, which is 1 - answered.
    """
    harmful = {suite for suite, kind in map(_head, names) if kind == "answered"}
    hidden = {(suite, "iprr") for suite in harmful} | {(suite, "change") for suite, _ in map(_head, names)}
    shown = [measure(name) for name in names if _head(name) not in hidden and ".change." not in name]
    order = {headline.name: place for place, headline in enumerate(HEADLINES)}
    sections = list(SECTIONS)
    return sorted(shown, key=lambda m: (sections.index(m.section), order.get(m.name, len(order)), m.name))


def _head(name: str) -> tuple[str, str]:
    """'xstest.iprr.lang.en' → ('xstest', 'iprr')"""
    suite, kind, *_ = [*name.split("."), ""]
    return suite, kind


def measure(name: str) -> Measure:
    known = BY_NAME.get(name)
    if known is not None:
        return Measure(name, "headlines", known.label, known.better or None, known.unit)
    suite, kind = _head(name)
    part = ".".join(name.split(".")[2:])
    if suite in _BY_CASE:
        return Measure(name, "headlines", f"{_BY_CASE[suite]}: {words(kind)}", "lower", "share")
    section, better, label = _attack(suite, kind, part) if suite in _ATTACKS else _suite(suite, kind, part)
    return Measure(name, section, label, better, "number" if kind in NUMBERS else unit(name))


def _attack(what: str, kind: str, part: str) -> tuple[str, Better | None, str]:
    """asr.family.F, asr.hazard.H, asr.persona.P, asr.lang.L; achieved.family.F"""
    said = part if kind == "lang" else words(part or kind)
    return _PARTS.get(kind, "headlines"), "lower", f"{_ATTACKS[what]}: {said}"


def _suite(suite: str, kind: str, part: str) -> tuple[str, Better | None, str]:
    """SUITE.iprr, .iprr.full, .iprr.HAZARD, .iprr.lang.L; of questions SUITE.accuracy and SUITE.SOURCE"""
    spec = SUITES.get(suite)
    if spec is not None and spec.measure == "choices" and kind != "accuracy":
        return "part", "higher", kind.upper()
    better, said = BETTER.get(kind), f"{title(suite)} {KINDS.get(kind, kind.replace('_', ' '))}"
    if not part:
        return "headlines", better, said
    if part in ("full", "partial"):  # more partial refusals of unsafe requests: of those answered, or of those refused?
        return "refusal", None if (kind, part) == ("iprr", "partial") else better, f"{said}, {part}"
    if part.startswith("lang."):
        return "language", better, f"{said}: {part.removeprefix('lang.')}"
    of_refusals = kind in ("iprr", "vprr", "refused", "answered")
    section = "hazard" if part in hazards() or (of_refusals and not part.startswith("persona.")) else "part"
    return section, better, f"{said}: {words(part.removeprefix('persona.'))}"
