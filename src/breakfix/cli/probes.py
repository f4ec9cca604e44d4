"""`breakfix probe-weights`: what an owner of a model's weights must do to undo its alignment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from breakfix import runfolder
from breakfix.cli import output, places
from breakfix.cli.commands import Arguments, UsageError
from breakfix.cli.progress import watching
from breakfix.errors import UserError

if TYPE_CHECKING:
    from breakfix.config import Config

INTO = Path("runs") / "probes" / "measured"  # not beside the runs: it is none
_HELP = "see `breakfix probe-weights --help`"


def probe_weights(arguments: Arguments) -> int:
    """breakfix probe-weights"""
    from breakfix.probes import PROBES

    probes = [name.strip() for name in arguments.probes.split(",")] if arguments.probes else list(PROBES)
    if unknown := [name for name in probes if name not in PROBES]:
        raise UsageError(f"--probes: no probe {unknown[0]!r}; known: {','.join(PROBES)}; {_HELP}")
    seeds, rows = _numbers("--seeds", arguments.seeds, "0,1,2"), _numbers("--rows", arguments.rows, "10,50,100")
    if 0 in rows:
        raise UsageError(f"--rows: 0 rows train nothing, and are the column 'before'; leave them out; {_HELP}")
    if arguments.into is not None:
        places.check(arguments.into)
    with output.to_stderr():
        name, path, config, folder = _located(arguments)
    from breakfix.probes import table
    from breakfix.probes.run import Asked, run

    asked = Asked(
        probes=probes, seeds=seeds, cases=arguments.cases, steps=arguments.steps, candidates=arguments.candidates,
        rows=rows,
    )  # fmt: skip
    with output.to_stderr(), watching() as watch:
        document = run(config, path, arguments.into or folder, asked, name=name, progress=watch, say=watch.say)
    if arguments.output is not None:
        is_page = arguments.output.suffix == ".md"
        output.save(arguments.output, table.markdown(document) if is_page else json.dumps(document, indent=1) + "\n")
    if arguments.json:
        output.as_json(document)
        return 0
    output.table(table.HEADER, table.cells(document))
    print(table.summary(document))
    for file in document["files"]:
        output.note(f"wrote {file}")
    return 0


def _numbers(option: str, text: str, example: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"{option}: {text!r} is no list of whole numbers such as {example}; {_HELP}")
    return list(dict.fromkeys(map(int, words)))


def _located(arguments: Arguments) -> tuple[str, str, Config, Path]:
    """(name, the model's folder, config, folder for what is found) of a run's round, or of any model on disk."""
    from breakfix.cli.chat import locate
    from breakfix.models.endpoint import is_remote

    target, round = arguments.target, arguments.round
    run = Path(target)
    if not runfolder.is_run(run):
        if round is not None:
            raise UserError(f"{target}: not a run's folder, and --round goes with one; give RUN --round N, or a model")
        path, config = locate(target)
        name, folder = Path(path).name if run.exists() else target, INTO
    else:
        round = _last(run) if round is None else round
        path, config = locate(f"{target}:{round}")
        config, name, folder = _as_measured(config, run), f"{run.name}:{round}", run / "probes"
    if is_remote(path) or not Path(path).is_dir():
        raise UserError(f"{target}: its weights are not here, and only weights can be probed; give a model on disk")
    return name, path, config, folder


def _last(run: Path) -> int:
    """The last round that was trained; 0 where none was."""
    from breakfix.ledger import Ledger

    with Ledger.open(run, write=False) as ledger:
        return max((row.round for row in ledger.stages() if row.name == "train" and row.finished), default=0)


def _as_measured(config: Config, run: Path) -> Config:
    """In the precision that the run settled on, so that precision is not what differs."""
    from breakfix.ledger import Ledger

    if config.hardware.precision != "auto":
        return config
    with Ledger.open(run, write=False) as ledger:
        found = next((event.payload["precision"] for event in ledger.events(0, "run", "precision")), None)
    if found is None:
        return config
    return config.model_copy(update={"hardware": config.hardware.model_copy(update={"precision": found})})
