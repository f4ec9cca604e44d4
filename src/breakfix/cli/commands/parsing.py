"""A command line becomes a call; what is not known is refused, with the nearest that is."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from breakfix import __version__
from breakfix.cli.commands.base import Arguments, Command, Function, UsageError
from breakfix.cli.commands.table import COMMANDS


@dataclass(frozen=True, slots=True)
class Call:
    command: Command
    arguments: Arguments

    def function(self) -> Function:
        """Of the sub-command, if one was given."""
        given = getattr(self.arguments, "sub", None)
        return next((child for child in self.command.children if child.name == given), self.command).function()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def parse(argv: Sequence[str]) -> Call:
    """Raises UsageError; SystemExit after --help and --version."""
    argv = _in_full(argv)
    _refuse_unknown(argv)
    arguments, left = parser().parse_known_args(argv or ["--help"])
    if left:
        said = " ".join(filter(None, ("breakfix", arguments.command, getattr(arguments, "sub", None))))
        raise UsageError(f"unrecognized arguments: {' '.join(left)}; see `{said} --help`")
    return Call(COMMANDS[arguments.command], arguments)


def _in_full(argv: Sequence[str]) -> Sequence[str]:
    """`vulns RUN` → `vulns list RUN`. What is nearly a sub-command's name, or has more words after it, and is no
    folder, is left to be refused."""
    command = COMMANDS.get(argv[0]) if argv else None
    if command is None or not command.default:
        return argv
    word, known = (argv[1] if len(argv) > 1 else ""), [child.name for child in command.children]
    more = len(argv) > 2 and not argv[2].startswith("-")
    like_one = word.isalnum() and (more or bool(difflib.get_close_matches(word, known, n=1)))
    mistyped = like_one and not Path(word).exists()
    if word in (*known, "-h", "--help") or mistyped:
        return argv
    return [argv[0], command.default, *argv[1:]]


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
        command, words, said = COMMANDS[first], argv[1:], first
        if command.children and words and not words[0].startswith("-"):
            children = {child.name: child for child in command.children}
            if words[0] not in children:
                near = _hint(words[0], children, f"breakfix {first} ") or f"known: {', '.join(children)}"
                raise UsageError(f"`breakfix {first}` has no command {words[0]!r}; {near}")
            command, words, said = children[words[0]], words[1:], f"{first} {words[0]}"
        _refuse_options(command, words, said)


def _refuse_options(command: Command, words: Sequence[str], said: str) -> None:
    known = ["--help", *(name for argument in command.arguments for name in argument.names)]
    for word in (word.partition("=")[0] for word in words if word.startswith("--")):
        if word == "--":
            return
        if word not in known:
            options = [name for name in known if name.startswith("--")]
            hint = _hint(word, options) or f"see `breakfix {said} --help`"
            raise UsageError(f"`breakfix {said}` has no option {word!r}; {hint}")


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
    _add(root, COMMANDS.values(), "commands", "command")
    return root


def _add(to: argparse.ArgumentParser, commands: Iterable[Command], title: str, dest: str) -> None:
    """Sub-parsers of `to`; one of them is required unless `to` is a command itself."""
    children = to.add_subparsers(title=title, dest=dest, metavar="COMMAND", required=dest == "command")
    for command in commands:
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
        if command.children:
            _add(child, command.children, "sub-commands", "sub")
