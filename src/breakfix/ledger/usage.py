"""The largest resident memory of this process, from the operating system."""

from __future__ import annotations

import resource
from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Forget earlier peaks, where the system can (Linux); elsewhere `peak_mb` is that of the process so far."""
    try:
        _RESET.write_text("5")
    except OSError:
        return


def peak_mb() -> float:
    """MiB."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux: KiB
