"""How good a judge of yes and no is, against people's labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from breakfix.core import Estimate
from breakfix.stats.base import undefined
from breakfix.stats.rates import rate


@dataclass(frozen=True, slots=True)
class Confusion:
    """A judge's yes (positive) and no against people's: tp both yes, fp only the judge, fn only people, tn both no.

    `unscored_yes` and `unscored_no` count the items on which the judge gave no verdict, by what people said. They are
    in no figure's numerator or denominator, and in its `unscored`.
    """

    tp: int
    fp: int
    fn: int
    tn: int
    unscored_yes: int = 0
    unscored_no: int = 0

    @classmethod
    def of(cls, pairs: Iterable[tuple[bool | None, bool]]) -> Confusion:
        """From (the judge's verdict or None, people's label)."""
        seen = Counter((None if said is None else bool(said), bool(label)) for said, label in pairs)
        return cls(
            tp=seen[True, True],
            fp=seen[True, False],
            fn=seen[False, True],
            tn=seen[False, False],
            unscored_yes=seen[None, True],
            unscored_no=seen[None, False],
        )

    @property
    def n(self) -> int:
        """Items with a verdict."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def unscored(self) -> int:
        return self.unscored_yes + self.unscored_no

    def accuracy(self) -> Estimate:
        """Verdicts that agree with people's."""
        return rate(self.tp + self.tn, self.n, self.unscored)

    def sensitivity(self) -> Estimate:
        """Found, of what people call yes (recall). n is their number."""
        return rate(self.tp, self.tp + self.fn, self.unscored_yes)

    def specificity(self) -> Estimate:
        """Left alone, of what people call no."""
        return rate(self.tn, self.tn + self.fp, self.unscored_no)

    def precision(self) -> Estimate:
        """True, of what the judge calls yes. Moves with the share of yes in the rows, unlike the two above."""
        return rate(self.tp, self.tp + self.fp)

    def f1(self) -> Estimate:
        """2 tp / (2 tp + fp + fn); n is all scored items.

        F1 is 2 s / (1 + s) of the share s = tp / (tp + fp + fn) (Hand, Christen, Kirielle 2021), and rises with it: the
        bounds are those of Wilson's interval for s.
        """
        share = rate(self.tp, self.tp + self.fp + self.fn)
        if share.n == 0:
            return undefined(self.n, self.unscored)
        value, low, high = (2 * s / (1 + s) for s in (share.value, share.low, share.high))
        return Estimate(value, low, high, self.n, self.unscored)
