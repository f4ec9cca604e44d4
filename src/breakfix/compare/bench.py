"""Measure models that no round made, each in the place of a round's model, in a ledger of its own.

Everything else is as in a run (cycle/): what is finished is read back, what was interrupted goes on, an attempt that
was paid for is not asked again. Round 0 of such a ledger holds only the answers whose perplexity is measured: those of
the run that is compared with, or else of the first model; every model has a round from 1 on, in the order they came.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from breakfix import evaluate
from breakfix.campaign import AsIs
from breakfix.config import Config
from breakfix.core import Attempt, Case, digest
from breakfix.cycle import Cycle, Progress, Say
from breakfix.ledger import Ledger
from breakfix.models.open import model_id
from breakfix.suites import SUITES, load

STAGE = "compare"


class Bench(Cycle):
    """A cycle whose rounds are models that were not trained here. `measure` gives each its round."""

    def __init__(
        self, config: Config, folder: Path, ledger: Ledger, *, progress: Progress, say: Say, **more: Any
    ) -> None:
        self._paths: dict[int, str] = {}
        self._names: dict[int, str] = {}
        self._said = say
        super().__init__(config, folder, ledger, progress=progress, say=self._aloud, **more)

    def measure(self, path: str, name: str, *, attacked: bool) -> int:
        """Evaluate the model at `path`, and attack it; returns its round. `name`: for what is said meanwhile."""
        round = self._round(path)
        self._paths[round], self._names[round] = path, name
        self.stage(round, "evaluate")
        if attacked:
            self.stage(round, "redteam")
        return round

    def answers_of(self, cases: Mapping[str, Case], answers: list[Attempt]) -> None:
        """Take over a run's answers, whose perplexity is measured in every round."""

        def take() -> dict[str, Any]:
            self.ledger.add_cases(list(cases.values()))
            self.ledger.add_attempts(answers, round=0, stage="evaluate")
            return {"metrics": {}, "skipped": [], "suites": {}}

        self.ledger.stage(0, "evaluate", {"answers": digest([answer.id for answer in answers])}, take)

    def answers_by(self, path: str) -> None:
        """Let the model at `path` give the answers whose perplexity is measured in every round."""
        suites = [suite for suite in self.config.evaluate.suites if _measure(suite.name) == "perplexity"]
        self._paths[0] = path
        self._settle()

        def make() -> dict[str, Any]:
            return evaluate.run(
                self.config, self.ledger, self.model(path), self.judge, round=0, suites=suites, progress=self.progress
            )

        inputs = {"suites": [suite.model_dump(mode="json") for suite in suites], **self._about(path)}
        if suites:
            self.ledger.stage(0, "evaluate", inputs, make)

    @property
    def precision(self) -> str | None:
        """What models are held in; None where that is not known yet."""
        return self._precision()

    def model_path(self, round: int) -> str:
        return self._paths[round]

    def base_path(self) -> str:
        """The first model: the precision is tried on it, where no run has settled it."""
        return next(iter(self._paths.values()))

    def _require(self, round: int, name: str) -> None:
        """Nothing: a model comes as it is."""

    def _select(self, round: int) -> None:
        """Nothing: there is one model."""

    def _round(self, path: str) -> int:
        """The round that the ledger has given to these weights; else the next."""
        id, found = model_id(path, self.config), dict[str, int]()
        for event in self.ledger.events(0, STAGE, "model"):
            found[str(event.payload["model"])] = int(event.payload["round"])
        if id not in found:
            found[id] = len(found) + 1
            self.ledger.add_event(0, STAGE, "model", {"model": id, "round": found[id]})
        return found[id]

    def _aloud(self, line: str) -> None:
        """Models go by their names, not by the rounds that stand for them."""
        for round, name in self._names.items():
            line = line.replace(f"round {round}: ", f"{name}: ")
        self._said(line)


def answers(ledger: Ledger, config: Config) -> tuple[dict[str, Case], list[Attempt]]:
    """The untouched model's answers in a run, and their cases; nothing where its perplexity suite was not asked."""
    wanted: set[str] = set()
    for suite in config.evaluate.suites:
        if _measure(suite.name) == "perplexity":
            wanted |= {case.id for case in load(suite, seed=config.seed).cases}
    found = [
        attempt
        for attempt in ledger.attempts(round=0, stage="evaluate")
        if attempt.case in wanted and attempt.attack == AsIs.name and attempt.error is None
    ]
    cases = {attempt.case: case for attempt in found if (case := ledger.case(attempt.case)) is not None}
    return cases, found


def _measure(suite: str) -> str:
    return SUITES[suite].measure if suite in SUITES else "replies"
