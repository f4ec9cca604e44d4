"""What may be compared, as the command line has it: a round of a run, or any model; perhaps with 8-bit weights.

runs/demo:2               a round, as the run measured it
runs/demo                 the run's last round that was measured
FOLDER | ASSET | HUB_ID   a model, which is measured now; an address (http://host:8000/v1#NAME), too
runs/demo:2@q8_0          a derivative of any of these but an address: weights quantised and back, measured now
tuned=runs/demo:2         any of these with a name of its own, which heads its column
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from breakfix import assets, runfolder
from breakfix.errors import UserError
from breakfix.ledger import Ledger
from breakfix.models.endpoint import is_remote
from breakfix.models.quantise import FORMATS

_ROUND = re.compile(r"(.+):([^:/]*)")
_NAME = re.compile(r"([\w][\w .+-]{0,39})=(.+)")


class OperandError(UserError):
    """What is to be compared is not there, or can't be compared in this way."""


@dataclass(frozen=True, slots=True)
class Operand:
    """`run` with `round` (None: the last that was measured), or `model`. `format`: how it is quantised, or ""."""

    text: str
    name: str
    run: Path | None = None
    round: int | None = None
    model: str = ""
    format: str = ""

    @property
    def measured(self) -> bool:
        """Whether a run has measured it already."""
        return self.run is not None and not self.format


def parse(text: str) -> Operand:
    """Raises OperandError, LedgerError in one line."""
    name, rest = "", text
    if not Path(text).exists() and (match := _NAME.fullmatch(text)):
        name, rest = match[1].strip(), match[2]
    base, at, format = rest.rpartition("@")
    if not at or format.lower() not in FORMATS or Path(rest).exists():
        if at and _is_here(base) and not Path(rest).exists():
            raise OperandError(f"{rest}: no format {format!r}; known: {', '.join(FORMATS)}")
        base, format = rest, ""
    operand = replace(_model(base), text=text, format=format.lower())
    if format and is_remote(base):
        raise OperandError(f"{rest}: only a model on disk can be quantised; take @{format} away")
    return replace(operand, name=name or operand.name + (f" {operand.format}" if format else ""))


def _model(base: str) -> Operand:
    path = Path(base).expanduser()
    if runfolder.is_run(path):
        return Operand(base, path.name, run=path)
    if (found := of_run(base)) is not None:
        run, round = found
        return Operand(base, f"{run.name}:{round}", run=run, round=round)
    if is_remote(base):
        return Operand(base, base.rpartition("#")[2] or base, model=base)
    return Operand(base, path.name if path.exists() else base, model=base)


def of_run(text: str) -> tuple[Path, int] | None:
    """(run, round) of RUN:ROUND; None where it is something else. Raises LedgerError where there is no such run,
    OperandError where the round is no number that a ledger holds."""
    match = _ROUND.fullmatch(text)
    if match is None or is_remote(text) or Path(text).expanduser().exists():
        return None
    run, round = Path(match[1]).expanduser(), match[2]
    if not runfolder.is_run(run):
        if not round.isdecimal():
            return None
        runfolder.require(run, "RUN:ROUND, or a model")
    if not re.fullmatch(r"\d{1,18}", round):  # what is a number, the run's stages are asked for
        with Ledger.open(run, write=False) as ledger:
            rounds = sorted({0, *(row.round for row in ledger.stages())})
        raise OperandError(f"{text}: no round {round!r} in {run}; it has {', '.join(map(str, rounds))}")
    return run, int(round)


def _is_here(base: str) -> bool:
    """A run's round, a folder or a known name, after which @ can't be a hub's revision."""
    return base in assets.catalogue() or Path(base).expanduser().exists() or of_run(base) is not None


def named(operands: list[Operand]) -> list[Operand]:
    """The same with names that differ: those that are there twice get a number."""
    seen: dict[str, int] = {}
    found: list[Operand] = []
    for operand in operands:
        seen[operand.name] = times = seen.get(operand.name, 0) + 1
        found.append(operand if times == 1 else replace(operand, name=f"{operand.name} ({times})"))
    return found
