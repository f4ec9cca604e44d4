"""No room on the disk: which errors mean it, and the one plain line that the user sees."""

from __future__ import annotations

import errno
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from breakfix.errors import DiskFull, UserError

# a full disk, a full quota, a file-size limit (ulimit -f)
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# the same in the words of safetensors ("os error 28") and of a shutil.Error, which lists what failed ("[Errno 28]")
_NUMBERED = re.compile(rf"(?:os error|\[Errno) (?:{'|'.join(map(str, sorted(NO_ROOM)))})\b")
_TORCH = re.compile(r"inline_container\.cc|PytorchStreamWriter")  # torch.save tells that it could not write, not why


def no_room(error: BaseException) -> bool:
    """Whether this error, or the one that it was raised from, says that there was no room to write."""
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return True
    said = str(error)
    if _NUMBERED.search(said) or (isinstance(error, RuntimeError) and _TORCH.search(said)):
        return True
    return error.__cause__ is not None and no_room(error.__cause__)


def disk_full(where: Path | str) -> DiskFull:
    return DiskFull(
        f"{where}: no room left (disk, quota or file-size limit); nothing was corrupted, make room and start again"
    )


@contextmanager
def room(where: Path) -> Generator[None]:
    """Turn "no room", the operating system's or a library's, into DiskFull."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if no_room(error):
            raise disk_full(where) from error
        raise
