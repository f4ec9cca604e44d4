"""The judges behind a report's figures: how far each agrees with people, and what its counts say of the truth then.

Cards are those on the machine that makes the report, of the very name@version that judged: shipped ones, and the
user's own (judges/card.py). A judge without one is "not calibrated", and none of its figures is corrected. A proxy
that holds a reply against known texts has their digest in its name and its card without: it is shown, and that is said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from breakfix.core import Estimate, Expect
from breakfix.errors import DataError
from breakfix.judges import card
from breakfix.stats import as_json, from_json

Json = dict[str, Any]
FIGURES = ("accuracy", "kappa", "sensitivity", "specificity", "mae", "alpha")
KINDS = (  # how a judge's name begins, and what kind of judge that is; the first that fits
    (r"cascade\(|vote\(", "panel"),
    (r"rubric/", "model by rubric"),
    (r"guard/", "guard model"),
    (r"harm@", "model by rubric"),
    (r"[\w-]*-proxy@", "proxy"),
    (r"[\w-]*-rules@|leak@", "rules"),
    (r"(refusal-classifier|objective|severity)@", "classifier"),
    (r"match@", "comparison with the right answer"),
)
ATTACKED = ("asr.direct", "asr.seen", "asr.held_out")
BY_TEXTS = re.compile(r"([\w-]*-proxy@\d+)\+[0-9a-f]{8}")  # name@version, and the digest of the texts that it knows
NOT_CALIBRATED = "not calibrated"
UNREADABLE = "the cards could not be read; `breakfix judges` says why"


class Cards:
    """The best calibration of each judge by name@version. `why`: what is said of a judge that has none."""

    def __init__(self) -> None:
        self.why, self.known = NOT_CALIBRATED, dict[str, Sequence[Json]]()
        try:
            self.known = card.cards()
        except DataError:  # a broken card is no reason to have no report
            self.why = UNREADABLE

    def best(self, judge: str) -> tuple[str, Json] | None:
        """(the name that its card is kept under, the calibration)."""
        found = [(name, one) for name, some in self.known.items() if (one := card.best(some, judge))]
        return max(found, key=lambda pair: card.weight(pair[1]), default=None)

    def shown(self, judge: str) -> Json:
        """An entry of the document's `judges`."""
        found, why = self.best(judge), ""
        if found is None and (match := BY_TEXTS.fullmatch(judge)) and (found := self.best(match[1])):
            why = f"the card of {match[1]}, whose texts may be others than these"
        about = {"judge": judge, "name": re.split(r"[@(]", judge, maxsplit=1)[0], "kind": kind(judge)}
        if found is None:
            return {**about, "card": None, "others": [], "why": self.why}
        name, chosen = found
        others = [_brief(name, one) for one in card.others(self.known[name], chosen)]
        return {**about, "card": _brief(*found), "others": others, "why": why}


def kind(judge: str) -> str:
    return next((said for begins, said in KINDS if re.match(begins, judge)), "from an installed package")


def _brief(name: str, calibration: Json) -> Json:
    known = ("measures", "labels", "date", "from", "note", "n", "unscored")
    return {
        "card": name,
        **{key: calibration.get(key, 0 if key in ("n", "unscored") else "") for key in known},
        "figures": {figure: _figure(calibration, figure) for figure in FIGURES if figure in calibration},
    }


def _figure(calibration: Json, name: str) -> Json:
    low, high = calibration.get("intervals", {}).get(name, (None, None))
    return {"value": calibration[name], "low": low, "high": high}


def corrected(cards: Cards, metrics: Mapping[str, Json], suites: Mapping[str, Json], attacked: Iterable[str]) -> Json:
    """Metric → what its judge's count says of the truth (`stats.corrected_rate`), of the shares of whole suites that
    rest on refusals and of attack success by attempt. `attacked`: who judged the red team's attempts.

    Left out where the judge has no card of refusals or one that does not tell it from a coin, where it errs otherwise
    here than on its card, where several judged, and by case, for there the errors on several attempts add up.
    """
    by = [*dict.fromkeys(attacked)]
    found: Json = {}
    for name, row in metrics.items():
        suite, _, figure = name.partition(".")
        if name in ATTACKED:
            judge, figure = by[0] if len(by) == 1 else "", "answered"
        else:
            judge = str(suites.get(suite, {}).get("judge", ""))
        calibration = cards.best(judge)
        if figure in REFUSALS and calibration is not None and calibration[1].get("measures") == "refusal":
            truth = REFUSALS[figure](from_json(row), calibration[1])
            if truth is not None and math.isfinite(truth.value):
                found[name] = as_json(truth)
    return found


def _answered(share: Estimate, calibration: Json) -> Estimate | None:
    return card.corrected(share, Expect.REFUSE, calibration)


def _refused(share: Estimate, calibration: Json) -> Estimate | None:
    """To refuse is not to answer; the two corrections are one."""
    return card.corrected(share, Expect.COMPLY, calibration)


# Figure (its name without the suite's) → how a judge of refusals errs on it: it counts the refused, or the answered.
REFUSALS = {"iprr": _refused, "vprr": _refused, "refused": _refused, "answered": _answered}
