"""What the adapters share: an attack that lets foreign code rewrite the request, and the room that code runs in.

Foreign code draws from Python's and numpy's module-wide generators, prints, logs, and may reach for the network. In
`room` the generators are seeded and afterwards as they were, what is printed is thrown away, and a connection is
refused (`Offline`): whatever of it fails is no attack.
"""

# pyright: basic

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import random
import re
import shutil
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from breakfix.core import Case, Conversation, NotApplicable, digest
from breakfix.redteam.base import OneQuery, reworded

MEDIA = "not from text to text"
MODEL = "needs a model"
KEY = "needs a service's key"
ARGUMENTS = "needs arguments that have no default"
PACKAGE = "needs a package that is not installed"
NETWORK = "needs the network"
DRIFTS = "differs under the same seed"
FAILS = "fails on a plain sentence"
OWN = "brings its own requests"
PLAIN = "Explain how to bake bread with flour, and then describe the oven."
OTHER = "Describe how to wash a green bicycle in a garden with a soft sponge."

Convert = Callable[[str, random.Random], str]


class Offline(OSError):
    """Foreign code asked for a connection."""


class Rewritten(OneQuery):
    """The request as the package's code rewrites it. Its version changes with the package's."""

    def __init__(self, name: str, family: str, source: str, doc: str, convert: Convert, given: Any = None) -> None:
        self.name, self.family, self.source, self.doc, self.convert = name, family, source, doc, convert
        self.version = int(digest([source, name, given])[:7], 16) + 1

    def put(self, case: Case, rng: random.Random) -> Conversation:
        try:
            text = self.convert(case.text, rng)
        except NotApplicable:
            raise
        except Exception as error:
            raise NotApplicable(f"{self.family}: it can't be done with this request ({type(error).__name__})") from None
        if not text.strip():
            raise NotApplicable(f"{self.family}: nothing is left of the request")
        if text == case.text:
            raise NotApplicable(f"{self.family}: it leaves this request as it is")
        return reworded(case, text)


@dataclass(frozen=True, slots=True)
class Adapted:
    """What a package gave: attacks by name, and how many of its things were left out, by reason."""

    attacks: Mapping[str, Rewritten]
    left_out: Mapping[str, int]


def tried(convert: Convert) -> str | None:
    """Why it is no attack; None if it is one. It is put to a plain sentence twice under one seed, and then to another:
    the first reply must be had again."""
    try:
        first, _, again = (convert(text, random.Random(1)) for text in (PLAIN, OTHER, PLAIN))
    except Offline:
        return NETWORK
    except ImportError:
        return PACKAGE
    except Exception as error:
        return NETWORK if _cause(error, Offline) else FAILS
    return None if first == again else DRIFTS


def _cause(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def snake(name: str) -> str:
    """ROT13Converter → rot13_converter"""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def first_line(doc: str | None, otherwise: str) -> str:
    """A docstring's first line, as a sentence."""
    line = next((line.strip() for line in (doc or "").splitlines() if line.strip()), otherwise)
    return f"{line.rstrip('.')}."


_shut: ContextVar[bool] = ContextVar("breakfix_adapters_shut", default=False)


@contextlib.contextmanager
def room(seed: int) -> Iterator[None]:
    """Where foreign code runs: seeded, silent, offline; the process is afterwards as it was."""
    before = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_before = numpy.random.get_state() if numpy is not None else None
    random.seed(seed)
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
    token, nowhere = _shut.set(True), logging.NullHandler()
    logging.root.addHandler(nowhere)  # else `logging.warning` gives the process a handler, which writes to what is shut
    try:
        with _offline(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.root.removeHandler(nowhere)
        _shut.reset(token)
        random.setstate(before)
        if numpy is not None:
            numpy.random.set_state(numpy_before)


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Connections and look-ups of names fail, in this context alone; other threads have theirs."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def no_connection(self: socket.socket, where: Any) -> None:
        if _shut.get():
            raise Offline("no connections from here")
        connect(self, where)

    def no_name(*given: Any, **more: Any) -> Any:
        if _shut.get():
            raise Offline("no names are looked up from here")
        return look_up(*given, **more)

    socket.socket.connect, socket.getaddrinfo = no_connection, no_name
    try:
        yield
    finally:
        socket.socket.connect, socket.getaddrinfo = connect, look_up


@contextlib.contextmanager
def importing(**environment: str) -> Iterator[None]:
    """Where a package is imported and read: what it writes to a home folder goes into one that is gone at our end, and
    logging is afterwards as it was. `environment`: more variables, for as long."""
    home = tempfile.mkdtemp(prefix="breakfix-adapter-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    given = {
        **{f"XDG_{name}_HOME": home for name in ("CONFIG", "DATA", "CACHE")},
        "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "ANONYMIZED_TELEMETRY": "False",
        **environment,
    }  # fmt: skip
    before = {name: os.environ.get(name) for name in given}
    handlers, level = list(logging.root.handlers), logging.root.level
    os.environ.update(given)
    try:
        with warnings.catch_warnings(), room(0):
            warnings.simplefilter("ignore")
            yield
    finally:
        for handler in [handler for handler in logging.root.handlers if handler not in handlers]:
            logging.root.removeHandler(handler)
            handler.close()
        logging.root.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
