"""What installed packages add: attacks (`breakfix.attacks`) and judges (`breakfix.judges`) by entry points, and what
breakfix's own extras bring."""

from __future__ import annotations

import json
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


def extra(name: str) -> str:
    """The command that installs an extra of breakfix from where breakfix itself came (direct_url.json of PEP 610)."""
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import unquote, urlsplit

    try:
        origin: dict[str, Any] = json.loads(distribution("breakfix").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:  # imported from a folder that was never installed
        origin = {}
    url: str = origin.get("url", "")
    revision: dict[str, str] = origin.get("vcs_info", {})
    if "dir_info" in origin:
        editable = "-e " if origin["dir_info"].get("editable") else ""
        return f"pip install {editable}'{unquote(urlsplit(url).path)}[{name}]'"
    if revision:
        return f"pip install 'breakfix[{name}] @ {revision['vcs']}+{url}@{revision['commit_id']}'"
    return f"pip install 'breakfix[{name}]'"
