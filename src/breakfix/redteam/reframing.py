"""The script of pair.py and tap.py where no helper writes: frames chosen by the reason that a refusal gave.

The frames are ours (data/attacks/reframings.yaml); what the file calls a family is the reason they reply to, or a
strategy to begin with. Reasons are told by words, in English; a refusal in another language has the reason "other".
"""

from __future__ import annotations

import random
import re

from breakfix.core import Answer
from breakfix.redteam.texts import texts

FILE = "data/attacks/reframings.yaml"
STRATEGIES = ("role", "reason", "authority")  # PAIR's three: role play, logical appeal, authority endorsement
REASONS = {
    "law": r"illegal|unlawful|\blaws?\b|criminal|\bcrimes?\b",
    "harm": r"harm|danger|unsafe|safety|\bhurt|\brisk|injur",
    "ethics": r"ethic|moral|inappropriate|offensive|disrespect|policy|policies|guideline|values",
    "privacy": r"privacy|private|personal (?:data|information)|consent",
    "ability": r"as an? (?:ai|language model|assistant)|do(?:n't| not) (?:have|know)|no access|unable|not able",
}
ANY = "other"
_FIRST = re.compile("|".join(f"(?P<{reason}>{words})" for reason, words in REASONS.items()), re.I)


def reason(answer: Answer) -> str:
    """What a reply that is no breach gives as its reason: a key of REASONS (the one named first), partial, or other."""
    if answer.verdict is not None and answer.verdict.label == "partial":
        return "partial"
    found = _FIRST.search((answer.text or "").replace("’", "'"))
    return (found and found.lastgroup) or ANY


class Script:
    """The library in one call of an attack: no frame is given twice."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.left = list(texts(FILE).values())

    def frame(self, wanted: str) -> str | None:
        """One for that reason or strategy, else one for any, else whichever is left; None where none is."""
        fit = [t for t in self.left if t.family == wanted] or [t for t in self.left if t.family == ANY] or self.left
        if not fit:
            return None
        pick = self.rng.choice(fit)
        self.left.remove(pick)
        return pick.text


def version() -> int:
    """Goes up with any frame's."""
    return sum(text.version for text in texts(FILE).values())
