"""What a prescription holds, and what the ledger prescribes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from breakfix.config import Config
from breakfix.core import Status, Vulnerability, digest
from breakfix.identify.prescribe import ROWS

ANY = "any"
WORDS = ROWS
_KINDS = {"harmful": "harmful", "twins": "twin", "plain": "plain"}


@dataclass(frozen=True, slots=True)
class Entry:
    """An open vulnerability. `rows` by word, where there are any; `languages` and `wrappers` () are any; `line` in the
    file."""

    id: str
    rows: Mapping[str, int]
    languages: tuple[str, ...]
    wrappers: tuple[str, ...] = ()
    line: int = 0


@dataclass(frozen=True, slots=True)
class Prescription:
    """`replay`: share of each kind's rows; `again`: id of a fixed vulnerability → rows of earlier rounds."""

    round: int
    entries: tuple[Entry, ...]
    replay: float
    again: Mapping[str, int]

    @property
    def digest(self) -> str:
        rows = [[e.id, dict(e.rows), e.languages, e.wrappers] for e in self.entries]
        return digest([self.round, rows, self.replay, dict(self.again)])[:16]


def ours(standing: Sequence[Vulnerability], config: Config, round: int) -> Prescription:
    """What the ledger prescribes."""
    entries = [
        Entry(v.id, {word: v.prescription[word] for word in WORDS if v.prescription.get(word)}, languages(v))
        for v in standing
        if v.status is not Status.FIXED
    ]
    fixed = {v.id: 0 for v in standing if v.status is Status.FIXED}
    return Prescription(round, tuple(entries), config.curate.replay, fixed)


def languages(v: Vulnerability) -> tuple[str, ...]:
    return (v.language,) if v.language else ()


def frames(config: Config) -> dict[str, str]:
    """What requests may be put into, the kinds of training wrappers and the seen families that ask once: name → kind of
    frame (curate/augment.py)."""
    from breakfix.curate.augment import Augment
    from breakfix.redteam import chosen

    seen, _ = chosen(config.redteam.seen, ())
    kinds = [frame.kind for frame in Augment(0.0, seen, seed="", longest=0).frames]
    return {kind.removeprefix("attack "): kind for kind in kinds}


def limits(config: Config, own: Prescription) -> dict[str, int]:
    """Most rows by word: as many as a round has, or as the ledger prescribes where that is more."""
    from breakfix.curate.mix import sizes

    many = 10**9
    most = sizes(config.curate, dict.fromkeys(_KINDS.values(), many), {"twin": many, "plain": many})
    return {word: max(most[_KINDS[word]], sum(e.rows.get(word, 0) for e in own.entries)) for word in WORDS}
