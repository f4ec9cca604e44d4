"""Licences: a row may be learnt from only under a licence that is stated and that allows commercial use.

Judged by name, not by lawyers: nothing stated is unknown, "NC", "non-commercial" and "research only" are what they say.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from breakfix.core import Dropped, Example

_UNKNOWN = frozenset({"", "unknown", "none", "other", "n/a", "unlicensed", "noassertion"})
_LIMITED = re.compile(r"(?<![a-z])nc(?![a-z])|non-?\s?commercial|research[- ]only", re.I)


def problem(licence: str) -> str:
    """Why a row under this licence may not be learnt from; "" if it may."""
    if licence.strip().lower() in _UNKNOWN:
        return "unknown licence"
    return "non-commercial licence" if _LIMITED.search(licence) else ""


class Licence:
    """Drops rows of unknown or non-commercial licence, unless the config allows them, all or those of some sources."""

    name = "licence"

    def __init__(self, *, allow_unknown: bool, accepted: Collection[str] = ()) -> None:
        self.allow_unknown, self.accepted = allow_unknown, frozenset(accepted)

    def __call__(self, examples: Sequence[Example]) -> tuple[list[Example], list[Dropped]]:
        if self.allow_unknown:
            return list(examples), []
        reasons = ["" if e.source in self.accepted else problem(e.licence) for e in examples]
        kept = [example for example, reason in zip(examples, reasons, strict=True) if not reason]
        dropped = [Dropped(e, self.name, reason) for e, reason in zip(examples, reasons, strict=True) if reason]
        return kept, dropped
