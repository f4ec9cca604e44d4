"""What installed packages add by entry points: attacks (`breakfix.attacks`), judges (`breakfix.judges`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from breakfix.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def installed(group: str, what: str, points: Iterable[EntryPoint] | None = None) -> Iterator[tuple[EntryPoint, Any]]:
    """Each entry point of the group (or of `points`) with what it names; a class is called, without arguments. `what`
    it should be, with its article. Raises ConfigError in one line for one that can't be loaded, by its package's name.
    """
    from importlib.metadata import entry_points

    for point in entry_points(group=group) if points is None else points:
        try:
            loaded: Any = point.load()
            found = loaded() if isinstance(loaded, type) else loaded
        except Exception as error:  # another's code: whatever it raises at import
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ConfigError(
                f"{point.value}: {what} of an installed package can't be loaded ({why}); "
                f"mend or uninstall {point.dist.name if point.dist is not None else 'that package'}"
            ) from error
        yield point, found
