"""The command line. `main` parses, calls one function, and says in plain words what went wrong.

stdout carries the result of a command and nothing else; progress, notes and errors go to stderr.

    exit code   0  done (run: the gate passes)      10  run: the gate fails     11  run: stalled
                2  the user's mistake: one line     1   our bug: a traceback    130 interrupted
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Sequence

from breakfix.cli.commands import Call, parse
from breakfix.errors import ModelError, UserError

GOES_ON = frozenset({"run", "demo", "curate", "train", "evaluate", "redteam", "identify", "compare", "probe-weights"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. `argv`: without the program's name; None takes the process's own."""
    words = sys.argv[1:] if argv is None else argv
    _never_fail_to_print()
    _wait_briefly()
    try:
        return _run(words)
    except UserError as error:
        return _say(str(error), 2)
    except ModelError as error:  # the world's failure, where no attempt could take the blame
        return _say(str(error), 1)
    except KeyboardInterrupt:
        return _say("interrupted" + ("; the same command goes on from here" if GOES_ON & {*words[:1]} else ""), 130)
    except BrokenPipeError:  # whoever reads our output has enough (| head)
        _drop_output()
        return 141
    except OSError as error:
        from breakfix.ledger.room import NO_ROOM, disk_full

        if error.errno == errno.ENAMETOOLONG:
            return _say(f"{error.filename}: too long for a file's name; give a shorter one", 2)
        if error.errno not in NO_ROOM:
            raise
        _drop_output()
        return _say(str(disk_full(error.filename or "output")), 2)


def _run(argv: Sequence[str]) -> int:
    try:
        call: Call = parse(argv)
    except SystemExit as done:  # argparse after --help and --version
        code = int(done.code or 0)
    else:
        code = call.function()(call.arguments)
    if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison] - it is, where it was closed (>&-)
        sys.stdout.flush()
    return code


def _say(text: str, code: int) -> int:
    """One line, whatever is in it; of a word that would fill the screen, its beginning."""
    words = re.sub(r"(\S{200})\S{100,}", r"\1…", text).split()
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(words))
    print(f"breakfix: {line}", file=sys.stderr)
    return code


def _drop_output() -> None:
    """Let go of what is still in stdout's buffer: Python would try to write it again at exit, and fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _wait_briefly() -> None:
    """How torch's threads wait for each other, set before it loads: spin for some 50 µs, then sleep. Sleeping at once
    makes every small operation ten times slower (a training step by a quarter); spinning for long starves who shares
    the cores."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def _never_fail_to_print() -> None:
    """A terminal that lacks a character gets an escape instead of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
