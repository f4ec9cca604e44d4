"""What a command is, and the arguments that several have."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from breakfix.errors import UserError

Arguments = argparse.Namespace
Function = Callable[[Arguments], int]
DIGITS = 18  # a ledger holds 64 bits


class UsageError(UserError):
    """The command line is not valid."""


@dataclass(frozen=True, slots=True)
class Argument:
    """What argparse's add_argument takes."""

    names: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """`target` is "module:function" below breakfix.cli. Every example runs in the tests. `children`: sub-commands, with
    names of their own; without one of them the command itself is meant, or the one that `default` names."""

    name: str
    help: str
    example: str
    target: str
    arguments: tuple[Argument, ...] = ()
    more: str = ""
    children: tuple[Command, ...] = ()
    default: str = ""

    def function(self) -> Function:
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(f"breakfix.cli.{module}"), name)


def arg(*names: str, **options: Any) -> Argument:
    return Argument(names, options)


def positive(text: str) -> int:
    return _whole(text, 1)


def natural(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if len(text) > DIGITS and text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is too large; expected a number of at most {DIGITS} digits")
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
    return int(text)


def words(text: str) -> str:
    """Bytes that are no UTF-8 come as lone surrogates, which no ledger holds."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8; give text") from None
    return text


JSON = arg("--json", action="store_true", help="print JSON")
RUN = arg("run", metavar="RUN", nargs="?", type=Path, help="a run's folder (default: the latest one in runs/)")
FOLDER = arg("--run", metavar="FOLDER", type=Path, help="the run's folder (default: runs/NAME of the config)")
LEVEL = arg(
    "--redaction",
    metavar="LEVEL",
    default="public",
    help="what is shown of prompts and replies: public nothing (default), team the first words, full all",
)
GATE = "Exit code: 0 the gate passes, 10 it fails, 11 the rounds no longer improve the model."
