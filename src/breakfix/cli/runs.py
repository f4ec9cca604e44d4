"""Commands that work on a run: run, demo, and the five stages one at a time."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakfix import runfolder
from breakfix.cli import output, places
from breakfix.cli.commands import AGAIN, Arguments, UsageError
from breakfix.cli.gate import CODES
from breakfix.cli.progress import watching
from breakfix.errors import UserError

if TYPE_CHECKING:
    from breakfix.config import Config
    from breakfix.cycle import Cycle
    from breakfix.ledger import Ledger


def run(arguments: Arguments) -> int:
    """breakfix run"""
    config, folder = places.read(arguments.config, arguments.run)
    return CODES[_go(config, folder, arguments)]  # what the gate says of the last round


def demo(arguments: Arguments) -> int:
    """breakfix demo"""
    _go(demo_config(), arguments.run, arguments)
    return 0


def demo_config() -> Config:
    """data/demo.yaml"""
    from breakfix import config

    with resources.as_file(resources.files("breakfix").joinpath("data", "demo.yaml")) as path:
        return config.load(path)


def stage(arguments: Arguments) -> int:
    """breakfix curate | train | evaluate | redteam | identify"""
    config, folder = places.read(arguments.target, arguments.run)
    with output.to_stderr(), started(config, folder, data=arguments.command == "curate") as cycle:
        again = arguments.command in AGAIN and arguments.again
        if arguments.command == "curate" and arguments.prescription is not None:
            cycle.prescribe(arguments.round, arguments.prescription)
        record = cycle.stage(arguments.round, arguments.command, again=again)
        write_reports(cycle.ledger, folder)
    if arguments.json:
        output.as_json(record)
    elif arguments.command == "identify":
        shown = {name: value for name, value in record.items() if name not in ("why", "ranks")}
        print("\n".join(output.summary(shown | {"gate": record["gate"]["decision"]})))
        run, at = output.line(str(folder)), f"--round {arguments.round}"
        output.note(
            f"`breakfix gate {run} {at}` has the gate's conditions, `breakfix vulns {run} {at}` the vulnerabilities"
        )
    else:
        print("\n".join(output.summary(record)))
    return 0


def train(arguments: Arguments) -> int:
    """breakfix train: a run's own round, or a run's data on another model"""
    if arguments.data is not None:
        return _apply(arguments)
    for given, name in ((arguments.target, "RUN_OR_CONFIG"), (arguments.round, "--round")):
        if given is None:
            raise UsageError(f"the following arguments are required: {name}; see `breakfix train --help`")
    for given, name in (
        (arguments.model, "--model"),
        (arguments.output, "-o"),
        (arguments.own_replies, "--own-replies"),
    ):
        if given:
            raise UsageError(f"{name} goes with --data RUN; see `breakfix train --help`")
    return stage(arguments)


def _apply(arguments: Arguments) -> int:
    from breakfix import apply

    if arguments.model is None or arguments.target is not None:
        raise UsageError("--data RUN goes with --model MODEL, and with no run or config beside it")
    run, model = arguments.data, arguments.model
    runfolder.require(run, "the run whose data is taken")
    config, _ = places.read(run, run)
    out = arguments.output or arguments.run or places.RUNS / f"{run.resolve().name}-on-{Path(model).name.lower()}"
    if out.resolve() == run.resolve():
        raise UserError(f"{out}: the run whose data is taken; give another folder with -o")
    data, other = apply.read(run, arguments.round, config.model), apply.settings(config, model, out)
    apply.check_place(out, data, arguments.own_replies)
    with output.to_stderr(), started(other, out, data=False) as cycle:
        record = apply.apply(cycle, data, own_replies=arguments.own_replies)
        write_reports(cycle.ledger, out)
    if arguments.json:
        output.as_json(record)
    else:
        print("\n".join(output.summary(record)))
    shown = output.line(str(out))
    output.note(
        f"the model is round 1 of {shown}; to compare it with what it was: `breakfix evaluate {shown} --round 0`, "
        f"`breakfix evaluate {shown} --round 1`, `breakfix compare {shown}:0 {shown}:1`"
    )
    return 0


def _go(config: Config, folder: Path, arguments: Arguments) -> str:
    """All rounds, then the report; returns the gate's last decision."""
    if arguments.rounds is not None:
        config = config.model_copy(update={"rounds": arguments.rounds})
    from breakfix import loop
    from breakfix.ready import trainable
    from breakfix.report import to_json

    trainable(config)

    last = 0

    def after(round: int) -> None:
        nonlocal last
        last = round
        write_reports(cycle.ledger, folder)

    with output.to_stderr(), started(config, folder) as cycle:
        record = cycle.go(after_round=after)
        document = write_reports(cycle.ledger, folder)
    if arguments.json:
        print(to_json(document), end="")
    else:
        show(document, folder)
    decision = loop.decision(record)
    output.note(f"the cycle is complete; the gate's decision on round {last}: {decision}")
    return decision


@contextmanager
def started(config: Config, folder: Path, *, data: bool = True) -> Generator[Cycle]:
    """A cycle on the run's ledger, the run's folder made and signed; what can be known to fail has been looked at."""
    from breakfix.cycle import Cycle
    from breakfix.ledger import Ledger
    from breakfix.ready import check, fetch
    from breakfix.report import facts

    places.check(folder)
    check(config)
    fetch(config, data=data, say=output.note)
    output.note(f"run: {folder}")
    with watching() as watch, Ledger.open(folder.resolve(), create=True) as ledger:
        places.keep(config, folder)
        ledger.add_event(0, "run", "facts", facts(config))
        yield Cycle(config, folder.resolve(), ledger, progress=watch, say=watch.say, note=watch.note)


def write_reports(ledger: Ledger, folder: Path) -> dict[str, Any]:
    """RUN/report.json and RUN/report.html as of now; returns the document."""
    from breakfix.report import build, page, to_json

    document = build(ledger)
    output.save(folder / "report.json", to_json(document))
    output.save(folder / "report.html", page(document))
    return document


def show(document: dict[str, Any], folder: Path) -> None:
    """The terminal report, and where the files lie."""
    from breakfix.report import render

    render(document, output.console(), html=folder / "report.html")
    print(f"JSON:   {output.line(str(folder / 'report.json'))}")
