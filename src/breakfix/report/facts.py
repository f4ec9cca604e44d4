"""What a run ran on and with: recorded once by whoever starts it, shown by every report of it.

    ledger.add_event(0, "run", "facts", facts(config))

The report does not look at the machine that it is made on, since that may be another one, years later. Of a run
that recorded no facts the report says "unknown".
"""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from breakfix.config import Config

_PACKAGES = ("torch", "transformers", "trl", "peft", "tokenizers", "numpy", "sqlalchemy", "pydantic")


def facts(config: Config) -> dict[str, Any]:
    """{name, model, families: {family: seen | held_out}, max_new_tokens: {stage: n}, breakfix_version, versions:
    {package: version}, machine}.

    Of a model in a folder only the folder's name is kept. Imports none of the packages.
    """
    found = {name: _version(name) for name in _PACKAGES}
    sides = (("seen", config.redteam.seen), ("held_out", config.redteam.held_out))
    return {
        "name": config.name,
        "model": Path(config.model).name if Path(config.model).is_absolute() else config.model,
        "families": {family: side for side, families in sides for family in families},
        "max_new_tokens": {
            "evaluate": config.evaluate.max_new_tokens,
            "redteam": config.redteam.max_new_tokens,
        },
        "breakfix_version": _version("breakfix") or "unknown",
        "versions": {"python": platform.python_version(), **{k: v for k, v in found.items() if v}},
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            "memory_mb": _memory_mb(),
        },
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _memory_mb() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (AttributeError, ValueError, OSError):
        return None
