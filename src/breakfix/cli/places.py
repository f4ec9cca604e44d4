"""Where runs lie: runs/NAME, each with the config it was started with (breakfix.yaml, every setting written out)."""

from __future__ import annotations

import re
from pathlib import Path

from breakfix import config
from breakfix.cli.output import save
from breakfix.config import Config
from breakfix.errors import ConfigError, UserError
from breakfix.runfolder import LEDGER, is_run

RUNS = Path("runs")
KEPT = "breakfix.yaml"


def find(run: Path | None, id: str = "") -> Path:
    """The run's folder; without one, the latest below runs/. UserError where the folder was given as `id`."""
    if id and is_run(id) and (run is None or not is_run(run)):
        raise UserError(f"{id} is a run; an id comes before it, such as: V1 {id}")
    if run is not None:
        return run
    runs = [ledger.parent for ledger in RUNS.glob(f"*/{LEDGER}")]
    if not runs:
        raise UserError("no run in runs/; give the folder of a run, or start one with `breakfix demo`")
    return max(runs, key=_touched)


def _touched(run: Path) -> float:
    """When something was last written to a run. Rows go to the ledger's log first, and to ledger.db much later."""
    files = (run / name for name in (LEDGER, f"{LEDGER}-wal", "report.json"))
    return max(file.stat().st_mtime for file in files if file.is_file())


def read(target: Path, run: Path | None) -> tuple[Config, Path]:
    """(config, run folder) of a config file, or of a run's folder."""
    if not target.exists() and target.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"{target}: no such run or config; `breakfix init` writes a config, `breakfix demo` needs none"
        )
    if target.is_dir():
        for name in (LEDGER, KEPT):
            if not (target / name).is_file():
                raise ConfigError(
                    f"{target}: not a run's folder (there is no {name} in it); give a run's folder or a config"
                )
        return config.load(target / KEPT), run or target
    found = config.load(target)
    if run is None and not is_name(found.name):
        raise ConfigError(
            f"{target}: name is {found.name!r}; expected letters, digits, _ . - (it names the run's folder)"
        )
    return found, run or RUNS / found.name


def is_name(text: str) -> bool:
    """Whether a run's folder may be called so."""
    return re.fullmatch(r"\w[\w. -]*", text) is not None


def check(folder: Path) -> None:
    """ConfigError where a ledger in this folder would make a config of the user's own look like a run's, which is
    written over with every start."""
    if (folder / KEPT).exists() and not is_run(folder):
        raise ConfigError(
            f"{folder}: its {KEPT} is no run's (there is no {LEDGER} beside it) and would be written over; give "
            "another folder"
        )


def keep(settings: Config, folder: Path) -> None:
    """Write the config into the run's folder, resolved."""
    from breakfix.templates import render

    save(folder / KEPT, render(settings, f"The config that this run was last started with: `breakfix run {folder}`"))
