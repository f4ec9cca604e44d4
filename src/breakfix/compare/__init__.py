"""Models side by side: rounds of runs, checkpoints, derivatives; paired changes with tests, in one JSON document.

    columns = measured([parse("runs/demo:0"), parse("runs/demo:2"), parse("runs/demo:2@q8_0")], ...)
    document = build(columns)                   # plain JSON values; schema: data/compare.schema.json
    render(document, Console())                 # a table; page(document): HTML; latex(document): booktabs

A run's rounds are read as they were measured; any other model is measured now, into a ledger of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from breakfix import assets
from breakfix.compare.bench import Bench, answers
from breakfix.compare.columns import Column, read
from breakfix.compare.document import build, schema, to_json
from breakfix.compare.html import page
from breakfix.compare.latex import latex
from breakfix.compare.markdown import markdown
from breakfix.compare.operands import Operand, OperandError, named, parse
from breakfix.compare.runs import KEPT, Run, about
from breakfix.compare.terminal import render
from breakfix.config import Config
from breakfix.core import Model
from breakfix.cycle import Progress, Say
from breakfix.ledger import Ledger
from breakfix.models.endpoint import is_remote
from breakfix.models.identity import weights_id
from breakfix.models.open import open_model
from breakfix.models.quantise import quantise
from breakfix.ready import check

__all__ = [
    "Column", "Operand", "OperandError", "build", "latex", "markdown", "measured", "named", "page", "parse", "render",
    "schema", "to_json",
]  # fmt: skip
INTO = Path("runs") / "compare" / "measured"  # not beside the runs: it is none
Runs = dict[Path, Run]


def measured(
    operands: Sequence[Operand],
    *,
    config: Config | None = None,
    into: Path | None = None,
    attacked: bool = False,
    judge: str = "",
    progress: Progress,
    say: Say,
    open_model: Callable[[str, Config], Model] = open_model,
) -> list[Column]:
    """One column each, in their order.

    What no run has measured is measured as `config` says, else as the first run's config, else by the defaults;
    `attacked`: by the red team, too. `into` is the folder of its ledger, by default "compare" within the first run's.
    `judge` (name@version): whose verdicts count, instead of each run's own.
    Raises UserError in one line where an operand is not there.
    """
    with ExitStack() as stack:
        folders = dict.fromkeys(operand.run for operand in operands if operand.run is not None)
        runs = {folder: stack.enter_context(Run.open(folder)) for folder in folders}
        done = {o: runs[o.run].column(o, judge) for o in operands if o.run is not None and o.measured}
        fresh = [operand for operand in operands if not operand.measured]
        if fresh:
            first = next(iter(runs.values()), None)
            folder = (into or (first.folder / "compare" if first is not None else INTO)).resolve()
            if (folder / KEPT).is_file():
                raise OperandError(
                    f"{folder}: a run's folder; what is measured for a comparison needs another (--into)"
                )
            settings = _settings(config, first)
            check(settings)
            paths = {operand: _path(operand, runs, folder, say) for operand in fresh}
            with Ledger.open(folder, create=True) as ledger:
                bench = Bench(settings, folder, ledger, progress=progress, say=say, open_model=open_model)
                done |= _measure(bench, paths, first, attacked, judge)
        return [done[operand] for operand in operands]


def _measure(
    bench: Bench, paths: dict[Operand, str], first: Run | None, attacked: bool, judge: str
) -> dict[Operand, Column]:
    config, found = bench.config, dict[Operand, Column]()
    cases, known = answers(first.ledger, first.config or config) if first is not None else ({}, [])
    if known:
        bench.answers_of(cases, known)
    else:
        bench.answers_by(next(iter(paths.values())))
    for operand, path in paths.items():
        round = bench.measure(path, operand.name, attacked=attacked)
        facts = about(operand, bench.run_folder, round, config, bench.precision)
        found[operand] = read(bench.ledger, round, operand.name, config.redteam.held_out, facts, judge)
    return found


def _path(operand: Operand, runs: Runs, folder: Path, say: Say) -> str:
    """The model's folder (an address stays as it is), quantised where that is asked for."""
    if operand.run is not None:
        run = runs[operand.run]
        path = run.model(run.round(operand))
    elif is_remote(operand.model):
        return operand.model
    else:
        path = str(assets.resolve_model(operand.model).path)
    if not operand.format:
        return path
    out = folder / "models" / f"{weights_id(path).replace('@', '-')}-{operand.format}"
    if not out.is_dir():
        say(f"{operand.name}: quantising")
    return str(quantise(Path(path), out, operand.format))


def _settings(config: Config | None, first: Run | None) -> Config:
    """What models are measured with: in the first run's precision, so that precision is not what differs."""
    settings = config or (first.config if first is not None else None) or Config()
    precision = first.precision if first is not None else None
    if settings.hardware.precision != "auto" or precision is None:
        return settings
    return settings.model_copy(update={"hardware": settings.hardware.model_copy(update={"precision": precision})})
