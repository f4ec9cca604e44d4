"""The figures that a reader looks for first, and the whole figures of other suites after them: names, words, direction,
and how figures are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Headline:
    """One metric. `better` is the direction to go ("" where nobody has said); `unit` share is shown as per cent, number
    as it is."""

    name: str
    label: str
    better: Literal["lower", "higher", ""]
    about: str
    unit: Literal["share", "number"] = "share"

    @property
    def arrow(self) -> str:
        return {"lower": "↓", "higher": "↑", "": " "}[self.better]


GOT = "not refused, and did what was asked: rather a lower bound"
HEADLINES = (
    Headline(
        "harmbench_test_standard.answered",
        "HarmBench answered",
        "lower",
        "harmful requests of the HarmBench test set (frozen) that were not refused",
    ),
    Headline("starter_dev.iprr", "Unsafe prompts refused", "higher", "IPRR on the development suite"),
    Headline("xstest.iprr", "XSTest unsafe refused", "higher", "IPRR on XSTest (frozen)"),
    Headline("starter_dev.vprr", "Safe prompts refused", "lower", "VPRR on the development suite"),
    Headline("xstest.vprr", "XSTest safe refused", "lower", "VPRR on XSTest (frozen)"),
    Headline("plain.refused", "Plain requests refused", "lower", "everyday instructions that were refused"),
    Headline("asr.direct", "Attack success, direct", "lower", "harmful requests asked as they stand, with no attack"),
    Headline("asr.seen", "Attack success, seen", "lower", "attack families whose breaches feed training"),
    Headline("asr.held_out", "Attack success, held out", "lower", "attack families that never feed training"),
    Headline("achieved.direct", "Objective achieved, direct", "lower", GOT),
    Headline("achieved.seen", "Objective achieved, seen", "lower", GOT),
    Headline("achieved.held_out", "Objective achieved, held out", "lower", GOT),
    Headline(
        "asr_case.seen", "Cases broken, seen", "lower", "by at least one of the seen attacks that were tried on them"
    ),
    Headline("asr_case.held_out", "Cases broken, held out", "lower", "by at least one of the held-out attacks"),
    Headline("capability.accuracy", "Capability", "higher", "accuracy on multiple choice"),
    Headline("mmlu.accuracy", "MMLU", "higher", "50 questions of each subject, by log-likelihood"),
    Headline("openbookqa.accuracy", "OpenBookQA", "higher", "elementary science, by log-likelihood"),
    Headline("truthfulqa.accuracy", "TruthfulQA", "higher", "one right answer among several (MC1)"),
    Headline("gsm8k.accuracy", "GSM8K", "higher", "the right number at the end of the reply"),
    Headline("open_questions.score", "Open questions", "higher", "rated 1 to 10 by the judges' model", "number"),
    Headline("overrefusal.vprr", "Edgy subjects refused", "lower", "harmless requests on subjects that models refuse"),
    Headline("toxigen.accuracy", "ToxiGen recognised", "higher", "hateful statements told from harmless ones"),
    Headline("bbq.accuracy.ambiguous", "BBQ, ambiguous", "higher", "says that it can't be known, where it can't"),
    Headline("sycophancy.preference", "Says what users think", "lower", "the user's view is likelier than the other"),
    Headline("machine_ethics.accuracy", "Right and wrong", "higher", "everyday deeds told apart, in pairs"),
    Headline("privacy.leaked", "Private texts leaked", "lower", "said what it was asked to keep"),
    Headline("perplexity.own_answers", "Perplexity", "lower", "on the untouched model's own answers", "number"),
    Headline("rai_grounded.ungroundedness", "Ungroundedness", "lower", "RAI: claims without support, 0 to 4", "number"),
    Headline("rai_third_party.dr1", "Third-party DR-1", "lower", "RAI: conversations that reproduce known texts"),
    Headline("rai_continuation.dr3", "Continuation DR-3", "lower", "RAI: harmful beginnings continued so"),
    Headline("rai_continuation.answered", "Continuation answered", "lower", "RAI: harmful beginnings not refused"),
    Headline("rai_summarisation.dr3", "Summarisation DR-3", "lower", "RAI: summaries that take over the harm"),
    Headline("rai_summarisation.answered", "Summarisation answered", "lower", "RAI: harmful texts summarised"),
    Headline("rai_jailbreak.dr1", "Jailbreak DR-1", "lower", "RAI: requests to decline that were answered harmfully"),
    Headline("rai_jailbreak.answered", "Jailbreak answered", "lower", "RAI: requests to decline that were not refused"),
)
BY_NAME = {headline.name: headline for headline in HEADLINES}
BETTER: Mapping[str, Literal["lower", "higher"]] = {  # kind of figure → direction
    "iprr": "higher",
    "vprr": "lower",
    "refused": "lower",
    "answered": "lower",
    "accuracy": "higher",
    "own_answers": "lower",
    "leaked": "lower",
    "score": "higher",
    "turn1": "higher",
    "turn2": "higher",
    "ungroundedness": "lower",
    "dr1": "lower",
    "dr3": "lower",
    "sensible": "higher",
    "icat": "higher",
}
KINDS = {"iprr": "unsafe refused", "vprr": "safe refused", "own_answers": "perplexity", "dr1": "DR-1", "dr3": "DR-3"}


def shown(rounds: Sequence[Mapping[str, Any]]) -> list[Headline]:
    """Of a report's rounds: the headlines that were measured, then the whole figures of the suites that have none."""
    names = {name for one in rounds for name in one["metrics"]}
    first = [headline for headline in HEADLINES if headline.name in names]
    known = {headline.name.partition(".")[0] for headline in first}
    suites = dict.fromkeys(suite for one in rounds for suite in one["suites"] if suite not in known)
    return [*first, *(one for suite in sorted(suites) for one in _whole(suite, names))]


def _whole(suite: str, names: set[str]) -> Iterator[Headline]:
    """Without parts (by hazard, language, data set), changes, and the IPRR of a suite that is all harmful, which is 1 -
    answered."""
    kinds = sorted(name.removeprefix(f"{suite}.") for name in names if name.startswith(f"{suite}."))
    whole = [kind for kind in kinds if "." not in kind and kind != "change"]
    if "accuracy" in whole and not suite.startswith("lm-eval/"):
        whole = [kind for kind in whole if kind in BETTER]  # the others are data sets
    for kind in whole:
        if (kind, "answered" in whole) != ("iprr", True):
            name, label = f"{suite}.{kind}", f"{title(suite)} {KINDS.get(kind, kind.replace('_', ' '))}"
            yield Headline(name, label, BETTER.get(kind, ""), suite, "number" if kind in NUMBERS else unit(name))


def title(suite: str) -> str:
    """'harmbench_test_standard' → 'HarmBench test standard'"""
    text = suite.replace("_", " ")
    for name in ("XSTest", "HarmBench", "StrongREJECT", "AdvBench"):
        text = text.replace(name.lower(), name)
    return text[:1].upper() + text[1:]


NUMBERS = ("score", "turn1", "turn2", "ungroundedness")  # kinds on a scale of their own
_NUMBERS = ("perplexity.", "open_questions.", "rai_grounded.ungroundedness")
_SHARES = ("acc", "exact_match", "change")  # of the harness's metrics


def unit(name: str) -> Literal["share", "number"]:
    if name.startswith("lm-eval/"):
        return "share" if name.partition(".")[2].startswith(_SHARES) else "number"
    return "number" if name.startswith(_NUMBERS) else "share"


def figure(value: float | None, unit: str = "share") -> str:
    """0.1234 → '12.3 %'; unknown → '–'. The space does not break."""
    if value is None:
        return "–"
    shown = f"{100 * value:.1f}\N{NO-BREAK SPACE}%" if unit == "share" else f"{value:.2f}"
    return shown.replace("-", "\N{MINUS SIGN}")


def interval(estimate: Mapping[str, Any], unit: str = "share") -> str:
    """'9.1 to 16.4'; nothing where there is no interval."""
    low, high = estimate["low"], estimate["high"]
    if low is None or high is None:
        return ""
    shown = f"{100 * low:.1f} to {100 * high:.1f}" if unit == "share" else f"{low:.2f} to {high:.2f}"
    return shown.replace("-", "\N{MINUS SIGN}")


_JUDGED = {"none": "answered", "partial": "refused in part", "full": "refused"}  # a judge's labels of refusal


def judged(label: str) -> str:
    """A verdict's label in words; one that isn't about refusing as it is."""
    return _JUDGED.get(label, label.replace("_", " "))


def words(name: str) -> str:
    """An id in words: 'non_violent_crimes' → 'Non-violent crimes'."""
    from breakfix.taxonomy import hazards

    known = hazards().get(name)
    return known.name if known else (name[:1].upper() + name[1:]).replace("_", " ")
