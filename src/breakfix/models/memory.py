"""Out of memory, in whoever's words: Python's, CUDA's, or the CPU allocator's, which torch raises as RuntimeError."""

from __future__ import annotations

import contextlib
import ctypes
import gc

_WORDS = ("out of memory", "can't allocate memory", "not enough memory")


def out_of_memory(error: BaseException) -> bool:
    """Whether less at a time may do."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(word in said for word in _WORDS))


def give_back() -> None:
    """Return to the system what is free: glibc keeps the pages of freed tensors, gigabytes after a training."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library has ways of its own
        ctypes.CDLL("libc.so.6").malloc_trim(0)
