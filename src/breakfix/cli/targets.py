"""What `breakfix redteam` attacks: a round of a run, or a model that is no run's."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from breakfix import runfolder
from breakfix.cli import output, places
from breakfix.cli.commands import Arguments, UsageError

if TYPE_CHECKING:
    from breakfix.core import Judge, Model
    from breakfix.cycle import Cycle

HELP = "see `breakfix redteam --help`"


def is_run(target: str) -> bool:
    """A run's folder, or a config (whose run is below runs/); else it is a model."""
    return runfolder.is_run(target) or Path(target).suffix in (".yaml", ".yml")


def round_of(arguments: Arguments) -> int:
    if arguments.round is None:
        raise UsageError(f"the following arguments are required: --round; {HELP}")
    return arguments.round


@contextmanager
def opened(arguments: Arguments) -> Generator[Cycle]:
    """A cycle on the run, without a bar that would write over what a person types."""
    from breakfix.cycle import Cycle
    from breakfix.ledger import Ledger
    from breakfix.ready import check, fetch
    from breakfix.report import facts

    config, folder = places.read(Path(arguments.target), arguments.run)
    places.check(folder)
    check(config)
    fetch(config, data=False)
    with Ledger.open(folder.resolve(), create=True) as ledger:
        places.keep(config, folder)
        ledger.add_event(0, "run", "facts", facts(config))
        yield Cycle(config, folder.resolve(), ledger, say=output.note)


def other_model(target: str, precision: str | None = None) -> tuple[Model, Judge]:
    """A model that is no run's (or RUN:ROUND, without recording anything in it), and the judge of its config.
    `precision`: instead of `auto`."""
    from breakfix import assets, cycle
    from breakfix.cli.chat import locate
    from breakfix.judges.catalogue import Opener, of_run
    from breakfix.models.endpoint import is_remote
    from breakfix.models.open import open_model

    path, config = locate(target)
    if precision is not None and config.hardware.precision == "auto":
        hardware = config.hardware.model_copy(update={"precision": precision})
        config = config.model_copy(update={"hardware": hardware})

    def asked(name: str) -> Model:
        return open_model(name if is_remote(name) else str(assets.resolve_model(name, "judges.model").path), config)

    return open_model(path, config), of_run(config.judges, Opener(asked, cycle.open_embedder))
