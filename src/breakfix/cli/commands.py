"""Every command: its name, arguments, help, an example, and the function behind it. A dict you can read.

argparse rather than typer: `--help` costs 50 ms instead of 250, and needs nothing installed. The functions live in
the modules beside this one, which load when their command runs; each takes the parsed arguments and returns the exit
code.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from breakfix import __version__
from breakfix.errors import UserError

Arguments = argparse.Namespace
Function = Callable[[Arguments], int]


class UsageError(UserError):
    """The command line is not valid."""


@dataclass(frozen=True, slots=True)
class Argument:
    """What argparse's add_argument takes."""

    names: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """`target` is "module:function" below breakfix.cli. Every example runs in the tests."""

    name: str
    help: str
    example: str
    target: str
    arguments: tuple[Argument, ...] = ()
    more: str = ""

    def function(self) -> Function:
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(f"breakfix.cli.{module}"), name)


@dataclass(frozen=True, slots=True)
class Call:
    command: Command
    arguments: Arguments


def _arg(*names: str, **options: Any) -> Argument:
    return Argument(names, options)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 10")
    return value


_JSON = _arg("--json", action="store_true", help="print JSON")
_RUN = _arg("run", metavar="RUN", nargs="?", type=Path, help="a run's folder (default: the latest one in runs/)")
_FOLDER = _arg("--run", metavar="FOLDER", type=Path, help="the run's folder (default: runs/NAME of the config)")
_ROUNDS = _arg(
    "--rounds", metavar="N", type=_positive, help="rounds after the untouched model's (default: the config's)"
)
_GATE = "Exit code: 0 the gate passes, 10 it fails, 11 the rounds no longer improve the model."
_STAGES = {
    "curate": "make a round's training data",
    "train": "train a round's model (SFT, then DPO)",
    "evaluate": "measure a round's model with the benchmarks",
    "redteam": "attack a round's model",
    "identify": "name a round's weaknesses, and decide the gate",
}


def _stage(name: str, what: str) -> Command:
    arguments = (
        _arg("target", metavar="RUN_OR_CONFIG", type=Path, help="a run's folder, or a config"),
        _arg("--round", metavar="N", type=_natural, required=True, help="0 is the untouched model"),
        _FOLDER,
        _JSON,
    )
    more = f"A stage needs those before it. `breakfix run` does all of them in their order: {', '.join(_STAGES)}."
    return Command(name, f"one stage: {what}", f"breakfix {name} runs/demo --round 1", "runs:stage", arguments, more)


_ALL = (
    Command("doctor", "is this machine ready?", "breakfix doctor", "tools:doctor", (_JSON,)),
    Command(
        "demo",
        "the whole cycle on the embedded 135M model, into runs/demo",
        "breakfix demo",
        "runs:demo",
        (
            _arg("--run", metavar="FOLDER", type=Path, default=Path("runs/demo"), help="default: %(default)s"),
            _ROUNDS,
            _JSON,
        ),
        "Exit code 0 when the cycle is complete, whatever the gate says.",
    ),
    Command(
        "init",
        "write a config that shows every setting with its default",
        "breakfix init my-run.yaml",
        "tools:init",
        (
            _arg(
                "path", metavar="PATH", nargs="?", type=Path, default=Path("breakfix.yaml"), help="default: %(default)s"
            ),
            _arg("--force", action="store_true", help="write over a file that is there"),
        ),
    ),
    Command(
        "run",
        "run the cycle, or go on where it stopped",
        "breakfix run my-run.yaml --rounds 1",
        "runs:run",
        (
            _arg("config", metavar="CONFIG", type=Path, help="a config, or the folder of a run to go on with"),
            _FOLDER,
            _ROUNDS,
            _JSON,
        ),
        _GATE,
    ),
    Command(
        "status",
        "which stages are done, running or interrupted",
        "breakfix status runs/demo",
        "look:status",
        (_RUN, _JSON),
    ),
    Command(
        "report",
        "a run's figures as a table, JSON or HTML",
        "breakfix report runs/demo --html demo.html",
        "look:report",
        (
            _RUN,
            _JSON,
            _arg(
                "--redaction",
                metavar="LEVEL",
                default="public",
                help="what is shown of prompts and replies: public nothing (default), team the first words, full all",
            ),
            _arg("--html", metavar="FILE", type=Path, help="write the HTML report there"),
        ),
    ),
    *(_stage(name, what) for name, what in _STAGES.items()),
    Command(
        "chat",
        "talk to a model in the terminal",
        "breakfix chat runs/demo:1 --max-new-tokens 60",
        "chat:chat",
        (
            _arg(
                "model", metavar="MODEL", help="an asset's name, a folder, a hub id, or RUN:ROUND such as runs/demo:2"
            ),
            _arg("--system", metavar="TEXT", default="", help="a system prompt"),
            _arg("--max-new-tokens", metavar="N", type=_positive, default=200, help="length of a reply (%(default)s)"),
            _arg("--temperature", metavar="T", type=_temperature, default=0.0, help="0, the default, is greedy"),
        ),
        "In the chat: /reset begins anew, /undo takes the last turn back, /quit ends it.",
    ),
    Command(
        "assets",
        "the models and data sets that are known, and where they are",
        "breakfix assets",
        "tools:assets",
        (_arg("--fetch", metavar="NAME", help="download it now"), _JSON),
    ),
    Command(
        "trace",
        "where a training row, attempt, case or vulnerability came from, and what came of it",
        "breakfix trace V1 runs/demo",
        "look:trace",
        (_arg("id", metavar="ID", help="as the report and the ledger show it"), _RUN, _JSON),
    ),
    Command(
        "ledger",
        "bring an older run's ledger up to this version",
        "breakfix ledger upgrade runs/demo",
        "look:ledger",
        (_arg("action", choices=("upgrade",)), _arg("run", metavar="RUN", type=Path, help="a run's folder")),
    ),
    Command(
        "schema",
        "the JSON schema of the config or of the report",
        "breakfix schema config",
        "tools:schema",
        (_arg("what", choices=("config", "report")),),
    ),
)
COMMANDS: dict[str, Command] = {command.name: command for command in _ALL}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def parse(argv: Sequence[str]) -> Call:
    """Raises UsageError; SystemExit after --help and --version."""
    _refuse_unknown(argv)
    arguments = parser().parse_args(argv or ["--help"])
    return Call(COMMANDS[arguments.command], arguments)


def _refuse_unknown(argv: Sequence[str]) -> None:
    """With the nearest known; argparse would rather complain of what is missing beside it."""
    if not argv:
        return
    first = argv[0]
    if first.startswith("-"):
        if first not in _ROOT:
            raise UsageError(f"no option {first!r} before the command; `breakfix --help` lists the commands")
    elif first not in COMMANDS:
        raise UsageError(
            f"no command {first!r}; {_hint(first, COMMANDS, 'breakfix ') or '`breakfix --help` lists them'}"
        )
    else:
        known = ["--help", *(name for argument in COMMANDS[first].arguments for name in argument.names)]
        for word in (word.partition("=")[0] for word in argv[1:] if word.startswith("--")):
            if word == "--":
                return
            if word not in known:
                options = [name for name in known if name.startswith("--")]
                hint = _hint(word, options) or f"see `breakfix {first} --help`"
                raise UsageError(f"`breakfix {first}` has no option {word!r}; {hint}")


_ROOT = ("-h", "--help", "--version")


def _hint(word: str, known: Iterable[str], before: str = "") -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean `{before}{near[0]}`?" if near else ""


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    root = _Parser(
        prog="breakfix",
        description="The break-fix cycle of safety post-training: curate, train, evaluate, red team, identify; again,\n"
        "until the gate passes.",
        epilog="Start with `breakfix doctor` and `breakfix demo`. For a run of your own: `breakfix init`, then\n"
        "`breakfix run breakfix.yaml`; interrupted, the same command goes on.\n\nExample:  breakfix demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    root.add_argument("--version", action="version", version=f"breakfix {__version__}")
    children = root.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS.values():
        child = children.add_parser(
            command.name,
            help=command.help,
            description=command.help[0].upper() + command.help[1:] + ("" if command.help.endswith("?") else "."),
            epilog="\n\n".join(filter(None, (command.more, f"Example:  {command.example}"))),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        for argument in command.arguments:
            child.add_argument(*argument.names, **argument.options)
    return root
