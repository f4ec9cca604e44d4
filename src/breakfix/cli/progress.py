"""How far a run is, on stderr: a live bar in a terminal, else plain lines, at most one in ten seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol, TextIO

from breakfix.cli.output import line as harmless
from breakfix.cli.output import minutes

EVERY = 10.0  # seconds between two plain lines


class Watch(Protocol):
    """What a cycle tells: `say` when a stage begins (and what came of one), `note` for news while it is under way, a
    call for progress within it."""

    def say(self, line: str) -> None: ...

    def note(self, line: str) -> None: ...

    def __call__(self, what: str, done: int, total: int) -> None:
        """`what` is being done; behind a comma in it stands what changes on the way ("training (sft), loss 1.23")."""


@contextmanager
def watching(stream: TextIO | None = None) -> Generator[Watch]:
    """A watch on stderr."""
    to: TextIO = stream or sys.stderr
    if not to.isatty():
        yield Lines(to)
        return
    from rich import progress as rich

    columns = (rich.SpinnerColumn(), "{task.description}", rich.BarColumn(24), rich.MofNCompleteColumn(),
               rich.TimeElapsedColumn(), rich.TimeRemainingColumn())  # fmt: skip
    from rich.console import Console

    with rich.Progress(*columns, console=Console(file=to, highlight=False), transient=True) as bar:
        yield _Bar(bar)


class Lines:
    """Plain lines: every `say`, and within a stage one line in `EVERY` seconds with what is left."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._stage, self._last = "", clock()
        self._what, self._from, self._since = "", 0, 0.0

    def say(self, line: str) -> None:
        self._stage, self._what, self._last = line, "", self._clock()
        self._write(line)

    def note(self, line: str) -> None:
        self._write(line)

    def __call__(self, what: str, done: int, total: int) -> None:
        now, work = self._clock(), what.partition(",")[0]
        if work != self._what:
            self._what, self._from, self._since = work, done, now
        if now - self._last < EVERY:
            return
        self._last = now
        within = f"{self._stage}: " if self._stage else ""
        self._write(f"{within}{what} {done}/{total}{self._left(now, done, total)}")

    def _left(self, now: float, done: int, total: int) -> str:
        if done <= self._from:
            return ""
        return f", about {minutes((now - self._since) / (done - self._from) * (total - done))} left"

    def _write(self, line: str) -> None:
        print(harmless(line), file=self._stream, flush=True)


class _Bar:
    """One live bar; lines that are said stay above it."""

    def __init__(self, bar: object) -> None:
        from rich.progress import Progress

        assert isinstance(bar, Progress)
        self._bar, self._what, self._task = bar, "", bar.add_task("starting", total=None)

    def note(self, line: str) -> None:
        from rich.text import Text

        self._bar.console.print(Text(harmless(line)))

    def say(self, line: str) -> None:
        self.note(line)
        self._begin("", "starting", None)  # what the stage before had come to is over

    def __call__(self, what: str, done: int, total: int) -> None:
        shown, work = harmless(what).replace("[", "\\["), what.partition(",")[0]
        if work != self._what:
            self._begin(work, shown, total)
        self._bar.update(self._task, description=shown, completed=done, total=total)

    def _begin(self, work: str, shown: str, total: int | None) -> None:
        self._what = work
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task(shown, total=total)
