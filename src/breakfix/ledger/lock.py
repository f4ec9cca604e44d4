"""One writer per run folder: an exclusive flock on RUN/.lock, which holds the writer's process id in words.

The operating system lets go of the lock when the process ends, however it ends (kill -9 too), so there is nothing
stale to clean up; the file itself stays. A process that the writer forked keeps the lock alive until it ends as well:
it may still be working on the run. flock rather than lockf, because lockf lets one process in twice.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from breakfix.errors import LedgerError, RunBusy
from breakfix.ledger.room import room


class Lock:
    """Held from construction until `release`. Raises RunBusy naming the process that holds it."""

    def __init__(self, run: Path) -> None:
        self._fd = _open(run)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
            self.release()
            raise RunBusy(f"{run}: in use by process {holder}; wait until it ends, or stop it, and try again") from None
        except OSError as error:
            self.release()
            raise LedgerError(f"{run}: can't be locked ({error.strerror}); use a folder on a local disk") from error
        self._sign(run)

    def _sign(self, run: Path) -> None:
        try:
            with room(run):
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let go. Twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def _open(run: Path) -> int:
    try:
        return os.open(run / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise LedgerError(f"{run}: can't be written ({error.strerror}); give a folder of your own") from error
