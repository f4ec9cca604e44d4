"""The five stages in their order. The only file that knows the order.

    round 0        evaluate → redteam → identify            (the untouched model)
    round 1 … n    curate → train → evaluate → redteam → identify

What becomes of a round, and whether another one follows, is loop.py's to say.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from breakfix import loop, prescription
from breakfix.cycle.stages import Stages
from breakfix.errors import ConfigError, LedgerError
from breakfix.models.memory import give_back
from breakfix.ready import check, trainable

STAGES = ("curate", "train", "evaluate", "redteam", "identify")


class Cycle(Stages):
    """One run: a config, its ledger, and the stages. Models load when a stage first needs one, one at a time."""

    def go(self, after_round: Callable[[int], object] | None = None) -> dict[str, Any]:
        """All rounds, until the loop ends (loop.py); tells `after_round` of each. Returns the last identify record."""
        trainable(self.config)
        check(self.config)
        return loop.go(
            lambda round: [self.stage(round, stage) for stage in (STAGES if round else STAGES[2:])][-1],
            self.config.rounds, self.say, after_round,
        )  # fmt: skip

    def stage(self, round: int, name: str, *, again: bool = False) -> dict[str, Any]:
        """Make one stage of one round, or read back what it made. Raises LedgerError if an earlier one is missing.

        `again`: made anew though it is finished, so that attempts on which the model failed are asked for once more
        (those that succeeded are not), and replies on which the judge failed are put to it once more.
        """
        order = STAGES if round else STAGES[2:]
        if name not in order:
            raise ConfigError(f"round {round} has no stage {name!r}; expected one of {', '.join(order)}")
        if name == "train":
            trainable(self.config)
        self._require(round, name)
        if name != "identify":
            self._settle()
        if name in ("evaluate", "redteam"):
            self._select(round)
        inputs, make = getattr(self, f"_{name}")(round)
        if again:
            self.ledger.add_event(round, "run", f"{name} again", {})
        if times := sum(1 for _ in self.ledger.events(round, "run", f"{name} again")):
            inputs = {**inputs, "again": times}
        made = False

        def aloud() -> dict[str, Any]:
            nonlocal made
            made = True
            self.say(f"round {round}: {name}")
            return make()

        record = self.ledger.stage(round, name, inputs, aloud)
        if made:
            give_back()
        if not made:
            self.say(f"round {round}: {name}, done before")
        else:
            self._say_failures(round, name)
        if name == "identify" and (told := prescription.write(self.run_folder, self.ledger, self.config, round)):
            self.say(told)
        for bill in filter(None, (getattr(model, "bill", "") for model in self._remote.values() if made)):
            self.say(f"in this run so far: {bill}")
        return record

    def _say_failures(self, round: int, name: str) -> None:
        """Of the model; of the judge where that is one who may answer another time."""
        attempts = list(self.ledger.attempts(round=round, stage=name))
        failed = {"the model failed": sum(attempt.error is not None for attempt in attempts)}
        if self.config.judges.model is not None:
            failed["the judge gave no verdict"] = sum(bool(attempt.unjudged) for attempt in attempts)
        command = f"`breakfix {name} {os.path.relpath(self.run_folder)} --round {round} --again`"
        for what, n in failed.items():
            if n:
                self.say(f"round {round}: {what} on {n} attempts; {command} asks for them once more")

    def prescribe(self, round: int, file: Path) -> None:
        """Let a round be curated by another prescription. Raises DataError, LedgerError, ConfigError."""
        if not round:
            raise ConfigError("round 0 curates nothing; a prescription is for round 1 or a later one")
        if not self.config.curate.failures:
            raise ConfigError("curate.failures is false, so no prescription is read; set it to true")
        self._require(round, "curate")
        if told := prescription.install(file, self.run_folder, self.ledger, self.config, round - 1):
            self.say(told)

    def _require(self, round: int, name: str) -> None:
        before = [(round, s) for s in STAGES[: STAGES.index(name)] if round or s in STAGES[2:]]
        before += [(round - 1, "identify")] if round and not before else []
        if name == "redteam":
            before = [need for need in before if need[1] != "evaluate"]
        for r, s in before:
            if self.ledger.finished(r, s) is None:
                raise LedgerError(f"round {round} {name} needs round {r} {s}, which has not finished; run that first")
