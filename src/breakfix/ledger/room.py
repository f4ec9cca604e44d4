"""No room on the disk: which errors mean it, and the one plain line that the user sees."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from breakfix.errors import DiskFull

# a full disk, a full quota, a file-size limit (ulimit -f)
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def disk_full(where: Path | str) -> DiskFull:
    return DiskFull(
        f"{where}: no room left (disk, quota or file-size limit); nothing was corrupted, make room and start again"
    )


@contextmanager
def room(where: Path) -> Generator[None]:
    """Turn an operating system's "no room" into DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise disk_full(where) from error
        raise
