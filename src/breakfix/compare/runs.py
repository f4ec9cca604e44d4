"""A run as a comparison sees it: its ledger, opened for reading, and the config that it was last started with."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from breakfix.compare.columns import Column, read
from breakfix.compare.operands import Operand, OperandError
from breakfix.config import Config, load
from breakfix.cycle import Cycle
from breakfix.ledger import Ledger

KEPT = "breakfix.yaml"


@dataclass(frozen=True, slots=True)
class Run:
    """`config` is None where the folder does not have it."""

    folder: Path
    ledger: Ledger
    config: Config | None

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Generator[Run]:
        kept = folder / KEPT
        config = load(kept) if kept.is_file() else None
        with Ledger.open(folder, write=False) as ledger:
            yield cls(folder, ledger, config)

    def round(self, operand: Operand) -> int:
        """The operand's, or the last that was measured."""
        if operand.round is not None:
            return operand.round
        finished = [row.round for row in self.ledger.stages() if row.name == "evaluate" and row.finished]
        if not finished:
            raise OperandError(
                f"{self.folder}: no round of it has been evaluated; `breakfix status` shows what there is"
            )
        return max(finished)

    def column(self, operand: Operand, judge: str) -> Column:
        """As the run measured it; `judge` as in columns.read."""
        round = self.round(operand)
        facts = about(operand, self.folder, round, self.config, self.precision)
        return read(self.ledger, round, operand.name, self._held_out(), facts, judge)

    def model(self, round: int) -> str:
        """Where a round's model is; of several checkpoints the one that was chosen."""
        if self.config is None:
            raise OperandError(f"{self.folder}: it has no {KEPT}, which says what model it began with; give the model")
        return Cycle(self.config, self.folder.resolve(), self.ledger).model_path(round)

    @property
    def precision(self) -> str | None:
        """What `auto` came to in this run, or what its config says; None where neither is known."""
        if self.config is not None and self.config.hardware.precision != "auto":
            return self.config.hardware.precision
        events = self.ledger.events(0, "run", "precision")
        return next((str(event.payload["precision"]) for event in events), None)

    def _held_out(self) -> list[str]:
        """The attack families that never feed training, as the config or what the run noted of itself has them."""
        if self.config is not None:
            return list(self.config.redteam.held_out)
        families: dict[str, str] = {}
        for event in self.ledger.events(kind="facts"):
            families = event.payload.get("families", {})
        return [family for family, side in families.items() if side == "held_out"]


def about(operand: Operand, folder: Path, round: int, config: Config | None, precision: str | None) -> dict[str, Any]:
    """What a column is made of, and the settings that decide what its figures mean. Of paths only the last part."""
    settings: dict[str, Any] = {"precision": precision}
    if config is not None:
        settings |= {
            "seed": config.seed,
            "evaluate.max_new_tokens": config.evaluate.max_new_tokens,
            "redteam.max_new_tokens": config.redteam.max_new_tokens,
        }
    given = operand.text if not operand.text.startswith(("/", "~")) else operand.text.rpartition("/")[2]
    derived = operand.format or None
    return {"operand": given, "run": folder.name, "round": round, "derived": derived, "settings": settings}
