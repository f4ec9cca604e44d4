"""Which model a round has, and loading it: one at a time, in the run's precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakfix import loop
from breakfix.config import Config
from breakfix.core import Model
from breakfix.cycle.content import weights
from breakfix.errors import LedgerError
from breakfix.ledger import Ledger
from breakfix.models.endpoint import is_remote
from breakfix.models.memory import give_back
from breakfix.models.open import model_id, open_model, place

if TYPE_CHECKING:
    from breakfix.models.remote import RemoteModel

Progress = Callable[[str, int, int], None]
Say = Callable[[str], None]


def _quiet(what: str, done: int, total: int) -> None:
    pass


def _mute(line: str) -> None:
    pass


class Loading:
    """The part of a cycle that knows its run and loads models."""

    def __init__(
        self,
        config: Config,
        run: Path,
        ledger: Ledger,
        *,
        progress: Progress = _quiet,
        say: Say = _mute,
        note: Say | None = None,
        open_model: Callable[[str, Config], Model] = open_model,
    ) -> None:
        self.config, self.run_folder, self.ledger = config, run, ledger
        self.progress, self.say, self.note = progress, say, note or say
        self._open = open_model
        self._loaded: tuple[str, Model] | None = None
        self._remote: dict[str, Model] = {}

    def base_path(self) -> str:
        """The untouched model's folder (downloaded or converted when first needed), or a remote one's address."""
        return place(self.config.model)

    def model_path(self, round: int) -> str:
        if round == 0:
            return self.base_path()
        return trained(self.run_folder, self._record(round, "train"), self.ledger.finished(round, "select"))

    def _policy(self, round: int) -> str:
        """The model that a round begins with: the one before it, or what the loop fell back to."""
        return self.model_path(loop.base(self.ledger, self.config.gate.policy, round - 1))

    def model(self, path: str) -> Model:
        """The model at `path`; the one loaded before makes room."""
        if self._loaded is None or self._loaded[0] != path:
            self._unload()
            self._loaded = (path, self._load(path))
        return self._loaded[1]

    def _load(self, path: str) -> Model:
        """Open the model at `path` in the run's precision. Of a remote one there is one for all who ask it."""
        if not is_remote(path):
            return self._open(path, self._settled())
        if path not in self._remote:
            self._remote[path] = self._metered(self._open(path, self.config))
        return self._remote[path]

    def _metered(self, model: Model) -> Model:
        """What a remote model costs is counted over the whole run."""
        from breakfix.models.remote import RemoteModel

        if isinstance(model, RemoteModel):
            self.count(model)
        return model

    def count(self, model: RemoteModel) -> None:
        """Go on counting what is spent on a model from where the ledger is, and in it."""
        model.resume(self.ledger.spent(model.id), self.ledger.add_spent)

    def _settled(self) -> Config:
        """The config with the run's precision in place of `auto`, once that is known."""
        precision = self._precision()
        if precision is None:
            return self.config
        hardware = self.config.hardware.model_copy(update={"precision": precision})
        return self.config.model_copy(update={"hardware": hardware})

    def _precision(self) -> str | None:
        """What `auto` came to in this run; None where it has not been tried yet."""
        if self.config.hardware.precision != "auto":
            return self.config.hardware.precision
        return next((event.payload["precision"] for event in self.ledger.events(0, "run", "precision")), None)

    def _settle(self) -> None:
        """Try `auto` once a run. The probe is a timing: another answer after a restart would be another model, all of
        whose attempts would be paid again."""
        if self._precision() is None:
            found = getattr(self.model(self.base_path()), "precision", None)
            if found is not None:
                self.ledger.add_event(0, "run", "precision", {"precision": found})

    def _unload(self) -> None:
        self._loaded = None
        give_back()

    def _helper_path(self) -> str | None:
        name = self.config.redteam.helper
        return place(name) if name else None

    def _record(self, round: int, name: str) -> dict[str, Any]:
        record = self.ledger.finished(round, name)
        if record is None:
            raise LedgerError(f"round {round} {name} has not finished; `breakfix run` goes on from there")
        return record

    def _id(self, path: str) -> str:
        """What identifies a model among a stage's inputs."""
        return model_id(path, self.config) if is_remote(path) else weights(path)


def trained(run: Path, train: Mapping[str, Any], select: Mapping[str, Any] | None = None) -> str:
    """The folder of a round's model, by the records of its stages: the candidate that was selected, else the last. A
    selection among what an earlier training left says nothing of this one."""
    candidates: Mapping[str, str] = train.get("candidates", {})
    here = training(train["model"])
    selected = select["selected"] if select and select.get("training", here) == here else ""
    return inside(run, Path(candidates.get(selected, train["model"])))


def training(model: str) -> str:
    """RUN/round-N/DIGEST/NAME → DIGEST, which differs between trainings of a round."""
    return Path(model).parent.name


def inside(run: Path, path: Path) -> str:
    """RUN/round-N/DIGEST/NAME, also where the run's folder was moved since."""
    return str(path if path.is_dir() else run.joinpath(*path.parts[-3:]))
