"""Bring your own: attacks of other red-teaming packages, through the packages themselves, where they are installed.

Named in a config by their family, as templates are (redteam/asset_templates.py, which needs no package). What is asked
is the case's own request, as the package's code puts it; what that code can't do without a model, a key, the network or
a file is left out and counted (`left_out`). Both licences allow learning from what is asked, so a family may be seen or
held out; but much of it is what our own encodings do, so that both must be on one side (`keep_apart`).
docs/design/019-adapters.md says why the packages are imported, and not run beside us.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from breakfix.errors import ConfigError
from breakfix.plugins import extra
from breakfix.redteam.adapters.base import Adapted


@dataclass(frozen=True, slots=True)
class Package:
    """`name`: of the distribution, the extra and the module alike; `called`: in words; `like`: families that do much
    the same; `what`, `names`: the attacks that it gives."""

    name: str
    called: str
    licence: str
    like: tuple[str, ...]
    what: str
    names: str


PACKAGES: Mapping[str, Package] = {
    "pyrit_converters": Package(
        "pyrit",
        "PyRIT",
        "MIT",
        ("encoding", "noise", "code", "payload_splitting", "garak_probes"),
        "PyRIT's converters of text that need no model, no network and no file",
        "pyrit_converter_*",
    ),
    "garak_probes": Package(
        "garak",
        "garak",
        "Apache-2.0",
        ("encoding", "noise", "role_play", "pyrit_converters"),
        "garak's probes and buffs into which a request can be put, without a model and the network",
        "garak_probe_*, garak_buff_*",
    ),
}


def available(family: str) -> bool:
    return importlib.util.find_spec(PACKAGES[family].name) is not None


@functools.cache
def load(family: str) -> Adapted:
    """The family's attacks: some seconds, once. Raises ConfigError where the package is not here, or is another."""
    package = PACKAGES[family]
    if not available(family):
        raise ConfigError(f"attack family {family!r} needs {package.called}; install it: {extra(package.name)}")
    try:
        adapter = importlib.import_module(f"{__name__}.{package.name}")
        found: Adapted = adapter.read(family, f"{package.name} {version(package.name)} ({package.licence})")
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"attack family {family!r}: {package.called} {version(package.name)} is not as expected ({error}); install "
            f"the version that goes with this breakfix: {extra(package.name)}"
        ) from error
    return found


def keep_apart(seen: Sequence[str], held_out: Sequence[str]) -> None:
    """What is learnt from one of two families that do much the same is known of the other. Raises ConfigError."""
    for family, package in PACKAGES.items():
        for one, others in ((seen, held_out), (held_out, seen)):
            both = [other for other in package.like if other in others]
            if family in one and both:
                raise ConfigError(
                    f"redteam: the families {family!r} and {both[0]!r} do much the same, but one is seen and the other "
                    "is held out; put both into one list, or take one out"
                )
