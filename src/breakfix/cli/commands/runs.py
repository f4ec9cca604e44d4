"""Making runs and looking at them: doctor to compare."""

from __future__ import annotations

from pathlib import Path

from breakfix.cli.commands.base import FOLDER, GATE, JSON, LEVEL, RUN, Command, arg, positive

_ROUNDS = arg("--rounds", metavar="N", type=positive, help="rounds after the untouched model's (default: the config's)")
COMMANDS = (
    Command(
        "doctor",
        "is this machine ready?",
        "breakfix doctor",
        "tools:doctor",
        (
            arg(
                "what",
                metavar="CONFIG",
                nargs="?",
                help="ask the remote models that this config names, too; or the one at this address",
            ),
            JSON,
        ),
    ),
    Command(
        "demo",
        "the whole cycle on the embedded 135M model, into runs/demo",
        "breakfix demo",
        "runs:demo",
        (
            arg("--run", metavar="FOLDER", type=Path, default=Path("runs/demo"), help="default: %(default)s"),
            _ROUNDS,
            JSON,
        ),
        "Exit code 0 when the cycle is complete, whatever the gate says.",
    ),
    Command(
        "init",
        "write a config that shows every setting with its default",
        "breakfix init my-run.yaml",
        "tools:init",
        (
            arg(
                "path", metavar="PATH", nargs="?", type=Path, default=Path("breakfix.yaml"), help="default: %(default)s"
            ),
            arg("--force", action="store_true", help="write over a file that is there"),
        ),
    ),
    Command(
        "run",
        "run the cycle, or go on where it stopped",
        "breakfix run my-run.yaml --rounds 1",
        "runs:run",
        (
            arg("config", metavar="CONFIG", type=Path, help="a config, or the folder of a run to go on with"),
            FOLDER,
            _ROUNDS,
            JSON,
        ),
        GATE,
    ),
    Command(
        "status",
        "which stages are done, running or interrupted",
        "breakfix status runs/demo",
        "look:status",
        (RUN, JSON),
    ),
    Command(
        "report",
        "a run's figures as a table, JSON, HTML, Markdown or a chart",
        "breakfix report runs/demo --html demo.html",
        "look:report",
        (
            RUN,
            JSON,
            LEVEL,
            arg("--html", metavar="FILE", type=Path, help="write the HTML report there"),
            arg("--markdown", metavar="FILE", type=Path, help="write the headline figures there, as a Markdown table"),
            arg("--chart", metavar="FILE", type=Path, help="draw the headline figures by round there, as an SVG"),
            arg(
                "--languages",
                action="store_true",
                help="the table by language instead, printed and as Markdown: harmful answered, twins refused, and "
                "whether the model speaks it, untouched and last",
            ),
        ),
    ),
    Command(
        "compare",
        "models side by side: paired changes, with tests",
        "breakfix compare runs/demo:0 runs/demo:2 --html side-by-side.html",
        "compare:compare",
        (
            arg(
                "models",
                metavar="MODEL",
                nargs="+",
                help="RUN:ROUND, RUN (its last round), a folder, an asset's name, a hub id or an address; MODEL@q8_0 "
                "is the same with 8-bit weights, NAME=MODEL heads its column with NAME. The first is the reference",
            ),
            arg(
                "--config",
                metavar="FILE",
                type=Path,
                help="whose suites measure what no run has measured (default: the first run's, or else the defaults)",
            ),
            arg(
                "--into",
                metavar="FOLDER",
                type=Path,
                help="keeps what is measured now, so that nothing is paid twice (default: compare/ in the first run's "
                "folder, or else runs/compare/measured)",
            ),
            arg("--redteam", action="store_true", help="attack what is measured now, too"),
            arg(
                "--judge", metavar="NAME@VERSION", help="count by this judge's verdicts (see `breakfix judges rejudge`)"
            ),
            arg("--full", action="store_true", help="every row, also of the parts in which nothing changed"),
            JSON,
            arg("--html", metavar="FILE", type=Path, help="write an HTML page there"),
            arg("--latex", metavar="FILE", type=Path, help="write LaTeX tables there (booktabs)"),
            arg("--markdown", metavar="FILE", type=Path, help="write Markdown tables there"),
        ),
        "Rounds of a run are read as it measured them; other models are measured now.",
    ),
)
