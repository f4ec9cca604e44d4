"""Where training prompts come from (config.curate.sources): the starter pack, frames × fillers, AdvBench, a JSONL file,
a hub data set.

Every source is read and checked whole before a model is asked anything, so a mistake in the last line of a file costs
nothing. A source's `limit` takes a sample that its name and the seed decide. Texts too long for training are cut, and
each cut is on record.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from breakfix import frames, starter
from breakfix.config import Source
from breakfix.core import Split
from breakfix.curate import advbench
from breakfix.curate.base import Prompt
from breakfix.curate.rows import Cut, prompt_of
from breakfix.errors import AssetError, ConfigError, DataError

Resolve = Callable[[str], Path]
BUILT_IN = ("starter", "frames", "advbench")
LONGEST = 1 << 30  # characters: no limit, where rows are only checked
_FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"}


@dataclass(frozen=True, slots=True)
class Gathered:
    """Every prompt of every source, in the config's order."""

    prompts: list[Prompt] = field(default_factory=list[Prompt])
    cuts: list[Cut] = field(default_factory=list[Cut])


def gather(sources: Sequence[Source], *, seed: int, longest: int, resolve: Resolve) -> Gathered:
    """Read all sources. `longest`: characters of a text; `resolve` gives the path of an asset.

    Raises DataError (file, line, what), AssetError, or ConfigError for a source that is none.
    """
    found = Gathered()
    for source in sources:
        prompts, cuts = _read(source, longest, resolve)
        if source.limit is not None and len(prompts) > source.limit:
            chosen = sorted(random.Random(f"{seed}/{source.name}").sample(range(len(prompts)), source.limit))
            prompts = [prompts[i] for i in chosen]
        found.prompts.extend(prompts)
        found.cuts.extend(cuts)
    return found


def check_files(sources: Sequence[Source]) -> None:
    """What can be known to be wrong before anything is fetched or asked: names, and every row of the user's files.

    Raises DataError (file, line, what), ConfigError.
    """
    for source in sources:
        if source.path is not None:
            _checked(_jsonl(source.path), source, LONGEST)
        elif source.hub is None and source.name not in BUILT_IN:
            raise _unknown(source)


def _unknown(source: Source) -> ConfigError:
    expected = f"{' or '.join(BUILT_IN)}, or a `path` or `hub` beside the name"
    return ConfigError(f"curate.sources: {source.name!r} is not known; expected {expected}")


def _read(source: Source, longest: int, resolve: Resolve) -> tuple[list[Prompt], list[Cut]]:
    if source.path is not None:
        return _checked(_jsonl(source.path), source, longest)
    if source.hub is not None:
        return _checked(_hub(source.hub, source.split), source, longest)
    if source.name == "starter":
        return from_starter(), []
    if source.name == "frames":
        return from_frames(), []
    if source.name == "advbench":
        return advbench.prompts(resolve("advbench")), []
    raise _unknown(source)


def from_starter() -> list[Prompt]:
    """The starter pack's training rows."""
    return [
        Prompt(case, starter.kind_of(case), f"{starter.kind_of(case)} row of the starter pack ({case.family})")
        for case in starter.cases(split=Split.TRAIN)
    ]


def from_frames() -> list[Prompt]:
    """The rows of frames × fillers, all of them training rows."""
    rows = [(case, starter.kind_of(case)) for case in frames.cases()]
    return [Prompt(case, kind, f"{kind} filler in a frame that every kind shares ({case.id})") for case, kind in rows]


def _checked(rows: Iterable[tuple[str, Any]], source: Source, longest: int) -> tuple[list[Prompt], list[Cut]]:
    prompts: list[Prompt] = []
    cuts: list[Cut] = []
    for where, row in rows:
        prompt, cut = prompt_of(row, source, where, longest)
        prompts.append(prompt)
        cuts.extend(cut)
    if not prompts:
        raise DataError(f"{source.path or source.hub}: no rows; give a source with at least one, or leave it out")
    return prompts, cuts


def _jsonl(path: Path) -> Iterable[tuple[str, Any]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; a source's `path` is a JSON-lines file")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield f"{path}:{number}", json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}:{number}: not JSON ({error.msg}, column {error.colno})") from None
            except RecursionError:
                raise DataError(f"{path}:{number}: nested too deep; expected one flat object a line") from None


def _hub(name: str, split: str) -> Iterable[tuple[str, Any]]:
    """Rows of a data set by hub id, or by the path of a local folder or file in its place.

    Of local data the library's converted copy is not kept: what is in it stays where the user put it.
    """
    local = Path(name).expanduser().exists()
    with tempfile.TemporaryDirectory() if local else nullcontext() as cache:
        rows: list[Any] = list(_load(name, split, cache))
    yield from ((f"{name} row {number}", row) for number, row in enumerate(rows))


def _load(name: str, split: str, cache: str | None) -> Any:
    import datasets

    path = Path(name).expanduser()
    load: Any = getattr(datasets, "load_dataset")  # noqa: B009 - its type is partly unknown
    try:
        if path.is_file():
            if path.suffix not in _FORMATS:
                raise DataError(f"{path}: a file of unknown format; expected {', '.join(_FORMATS)}")
            return load(_FORMATS[path.suffix], data_files=str(path), split=split, cache_dir=cache)
        return load(str(path) if path.is_dir() else name, split=split, cache_dir=cache)
    except DataError:
        raise
    except Exception as error:  # the library raises its own, its HTTP client's and builtin exceptions, by version
        why = " ".join(str(error).split())[:200]
        raise AssetError(
            f"{name} (split {split}): can't be loaded ({type(error).__name__}: {why}); "
            "give the path of a JSON-lines file instead, or try again with a network"
        ) from None
