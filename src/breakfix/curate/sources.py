"""Where training prompts come from (config.curate.sources): the starter pack, frames × fillers, AdvBench, a data set
that is known by name or hub id (known.py), any other one, or a file.

Every source is read and checked whole before a model is asked anything, so a mistake in the last line of a file costs
nothing. Rows stream: of a source with a `limit` no more than that many are held, a sample that its name and the seed
decide. Texts too long for training are cut, and each cut of a row that is kept is on record, as is what was left out.
What is measured is refused: by name, by hub id, and by a file's digest, whatever the file is called.
"""

from __future__ import annotations

import difflib
import hashlib
import heapq
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from breakfix import assets, frames, starter
from breakfix.config import Source
from breakfix.core import Split
from breakfix.curate import advbench, files, known, modify
from breakfix.curate.base import NEVER_ASKED, Prompt
from breakfix.curate.rows import Cut, Row, Shape, row_of
from breakfix.curate.steps.licence import problem
from breakfix.errors import AssetError, ConfigError, DataError
from breakfix.fetch import unhurried

T = TypeVar("T")
Resolve = Callable[[str], Path]
BUILT_IN = ("starter", "frames", "advbench", *known.KNOWN)
LONGEST = 1 << 30  # characters: no limit, where rows are only checked


@dataclass(frozen=True, slots=True)
class Gathered:
    """Every prompt of every source, in the config's order; what of them was cut; source → reason → rows left out, of
    all that it has; and source → forms of its requests by kind, before and after `form_balance`."""

    prompts: list[Prompt] = field(default_factory=list[Prompt])
    cuts: list[Cut] = field(default_factory=list[Cut])
    left_out: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    forms: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])


def gather(sources: Sequence[Source], *, seed: int, longest: int, resolve: Resolve) -> Gathered:
    """Read all sources. `longest`: characters of a text; `resolve` gives the path of an asset.

    Raises DataError (file, line, what), AssetError, or ConfigError for a source that is none.
    """
    found = Gathered()
    _refuse_unsound(sources)
    for source in sources:
        prompts = _prompts(source, seed, longest, resolve, found)
        if source.form_balance:
            turned = modify.form_balanced(prompts, seed)
            found.forms[_label(source)] = {"before": modify.forms(prompts), "after": modify.forms(turned)}
            prompts = turned
        found.prompts.extend(prompts)
    return found


def check_files(sources: Sequence[Source], *, any_licence: bool = True) -> None:
    """What can be known to be wrong before anything is fetched or asked: names, and every row of the user's files;
    without `any_licence` a file of whose rows none is under a licence to learn from, too.

    Raises DataError (file, line, what), ConfigError.
    """
    _refuse_unsound(sources)
    for source in sources:
        if source.path is not None:
            rows = _checked(_rows(source, Path), source, LONGEST, Gathered())
            problems = Counter(problem(prompt.case.licence) for prompt, _ in rows)
            if not any_licence and not source.accept_licence and "" not in problems:
                raise ConfigError(
                    f"curate.sources: {source.name!r}: none of its {problems.total():,} rows could be learnt from "
                    f"({', '.join(problems)}); give its `licence`, or `accept_licence: true`"
                )
        elif source.hub is None and source.name not in BUILT_IN:
            raise _unknown(source)
        else:
            _shape(source)


def _unknown(source: Source) -> ConfigError:
    close = difflib.get_close_matches(source.name, BUILT_IN, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    expected = f"expected {', '.join(BUILT_IN)}, or a `path` or `hub` beside the name"
    return ConfigError(f"curate.sources: {source.name!r} is not known; {hint}{expected}")


def _refuse_unsound(sources: Sequence[Source]) -> None:
    """Raises ConfigError for names that are there twice, settings that nothing reads, and what is only measured."""
    for i, source in enumerate(sources):
        for other in sources[:i]:
            if source.name == other.name and not _are_subsets(source, other):
                raise ConfigError(
                    f"curate.sources: {source.name!r} is there twice; give each source a name of its own (two subsets "
                    "of a data set that is known by name may share it, with the same weight and accept_licence)"
                )
        _refuse_unread(source)
        refuse_measured(source)


def _are_subsets(one: Source, two: Source) -> bool:
    """Whether they are different parts of one known data set, and nothing that goes by the name differs."""
    same = (one.weight, one.accept_licence) == (two.weight, two.accept_licence)
    return same and one.subset != two.subset and known.find(one.name, None) is not None


def _label(source: Source) -> str:
    """The source in the record: two may be subsets of one data set."""
    return f"{source.name}/{source.subset}" if source.subset else source.name


def _refuse_unread(source: Source) -> None:
    """Settings of a built-in source that would do nothing."""
    if source.path is not None or source.hub is not None:
        return
    about = known.find(source.name, None)
    if source.name in OURS:
        unread = set(Source.model_fields) - {"name", "limit", "weight", "accept_licence", "form_balance"}
    else:
        unread = {"format", "split", "revision"} if about is not None and about.asset else {"format"}
    if given := sorted(unread & set(source.model_dump(exclude_defaults=True))):
        raise ConfigError(
            f"curate.sources: {source.name!r} is built in and does not read {', '.join(given)}; take that out"
            + (" (it reads limit, weight, accept_licence and form_balance)" if source.name in OURS else "")
        )


def local_file(source: Source) -> Path | None:
    """The file on this machine that the source is, by `path` or as its `hub`."""
    path = source.path if source.hub is None else Path(source.hub).expanduser()
    return path if path is not None and path.is_file() else None


def refuse_measured(source: Source) -> None:
    """Raises ConfigError where the source is a data set that is only measured."""
    own = source.path is not None or source.hub is not None
    content = _sha256(path) if (path := local_file(source)) is not None else ""
    for asset in assets.catalogue().values():
        if asset.use not in ("dev", "frozen"):
            continue
        hub = asset.hub is not None and (source.hub or "").casefold() == asset.hub.id.casefold()
        named = source.name == asset.name and (not own or asset.use == "frozen")
        if hub or named or content in {file.sha256 for file in asset.files}:
            mend = "give data of your own another name" if named and own else "take it out"
            raise ConfigError(
                f"curate.sources: {source.name!r} is {asset.name}, a {asset.use} data set, which is only measured; "
                f"training on it would make its figures worthless; {mend}"
            )


def _sha256(path: Path) -> str:
    """Empty where it can't be read: who reads its rows says so."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _prompts(source: Source, seed: int, longest: int, resolve: Resolve, found: Gathered) -> list[Prompt]:
    own = source.path is not None or source.hub is not None
    rng = random.Random(f"{seed}/{source.name}")
    if not own and source.name in OURS:
        prompts = OURS[source.name](resolve)
        if source.limit is None or source.limit >= len(prompts):
            return prompts
        return [prompts[i] for i in sorted(rng.sample(range(len(prompts)), source.limit))]
    read = _checked(_rows(source, resolve), source, longest, found)
    kept = list(read) if source.limit is None else _sample(read, source.limit, rng)
    found.cuts.extend(cut for _, cuts in kept for cut in cuts)
    return [prompt for prompt, _ in kept]


def _sample(given: Iterable[T], n: int, rng: random.Random) -> list[T]:
    """n of them, each as likely as any other, in their order; n are held at a time."""
    kept: list[tuple[float, int, T]] = []
    for place, one in enumerate(given):
        item = (-rng.random(), -place, one)  # the root is the one to go
        (heapq.heappush if len(kept) < n else heapq.heappushpop)(kept, item)
    return [one for _, _, one in sorted(kept, key=lambda item: -item[1])]


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


OURS: Mapping[str, Callable[[Resolve], list[Prompt]]] = {
    "starter": lambda resolve: from_starter(),
    "frames": lambda resolve: from_frames(),
    "advbench": lambda resolve: advbench.prompts(resolve("advbench")),
}


# ---- rows --------------------------------------------------------------------------------------------------------


def _shape(source: Source) -> Shape:
    """How the source's rows are read: as is known of its data set, and as the config says. Raises ConfigError."""
    about = known.find(source.name, source.hub)
    shape = Shape()
    if about is not None:
        subset = source.subset or next(iter(about.subsets))
        if subset not in about.subsets:
            names = ", ".join(filter(None, about.subsets))
            expected = f"expected {names}" if names else "it has none; leave `subset` out"
            raise ConfigError(f"curate.sources: {source.name!r} has no subset {subset!r} to learn from; {expected}")
        shape = about.subsets[subset]
        shape = Shape(licence=about.licence) if source.fields else replace(shape, licence=about.licence)
    return replace(
        shape,
        fields=source.fields or shape.fields,
        where={**shape.where, **source.where},
        values={**shape.values, **source.values},
        kind=source.kind or shape.kind,
        licence=source.licence if source.licence != "unknown" else shape.licence,
        answers=source.answers or shape.answers,
    )


def _checked(
    rows: Iterable[tuple[str, Any]], source: Source, longest: int, found: Gathered
) -> Iterator[tuple[Prompt, tuple[Cut, ...]]]:
    """The rows' prompts, and what of each was cut; what was left out goes into `found`."""
    shape = _shape(source)
    answers = shape.answers or ("keep" if shape.trusted else "regenerate")
    left_out, n = Counter[str](), 0
    for where, columns in rows:
        row: Row = row_of(columns, source.name, shape, where, longest)
        if row.prompt is None:
            left_out[row.left_out] += 1
            continue
        n += 1
        prompt = modify.regenerated(row.prompt, answers)
        barred = prompt.case.hazard in NEVER_ASKED
        yield replace(prompt, rejected=None, rejected_cut=False) if barred else prompt, row.cuts
    if left_out:
        found.left_out[_label(source)] = left_out
    if not n:
        where = source.path or source.hub or source.name
        why = f" are left ({'; '.join(f'{count} {reason}' for reason, count in left_out.items())})" if left_out else ""
        raise DataError(f"{where}: no rows{why}; give a source with at least one, or leave it out")


def _rows(source: Source, resolve: Resolve) -> files.Rows:
    """(where, row) of a file, a hub data set or a package's file."""
    if source.path is not None:
        return files.rows(source.path, source.format)
    about = known.find(source.name, source.hub)
    if (file := local_file(source)) is not None:
        return files.rows(file, source.format)
    if source.hub is not None:
        return _hub(source, about)
    if about is None:
        raise _unknown(source)
    return _package(source, about, resolve) if about.asset else _hub(source, about)


def _package(source: Source, about: known.Known, resolve: Resolve) -> files.Rows:
    path = resolve(about.asset)
    if about.files:
        path = path / about.files[source.subset or next(iter(about.subsets))] if path.is_dir() else path
    if not about.inside:
        yield from files.rows(path)
        return
    for where, whole in files.document(path):
        inside: Any = cast("Mapping[str, Any]", whole).get(about.inside) if isinstance(whole, Mapping) else None
        if not isinstance(inside, list):
            raise DataError(f"{where}: expected a list under {about.inside!r}, as {about.name} has")
        yield from ((f"{where} row {number}", row) for number, row in enumerate(cast("list[Any]", inside), 1))


def _hub(source: Source, about: known.Known | None) -> files.Rows:
    """Rows of a data set by hub id, or of a local folder in its place. No code of theirs is run.

    Of local data the library's converted copy is not kept: what is in it stays where the user put it.
    """
    name = source.hub or (about.hub if about else "")
    subset, options = source.subset, dict[str, Any]()
    split = source.split or "train"
    if about is not None:
        subset = source.subset or next(iter(about.subsets)) or None
        split = source.split or about.splits.get(subset or "", about.split)
        options = dict(about.options)
        if about.folders:
            options["data_dir"], subset = subset, None
    folder = Path(name).expanduser()
    with tempfile.TemporaryDirectory() if folder.is_dir() else nullcontext() as cache:
        loaded = _load(str(folder) if folder.is_dir() else name, subset, split, source.revision, cache, options)
        yield from ((f"{name} row {number}", row) for number, row in enumerate(loaded))


def _load(
    name: str, subset: str | None, split: str, revision: str | None, cache: str | None, options: Mapping[str, Any]
) -> Any:
    import datasets

    load: Any = getattr(datasets, "load_dataset")  # noqa: B009 - its type is partly unknown
    with nullcontext("") if Path(name).is_dir() else unhurried(name) as unreachable:
        try:
            return load(name, subset, split=split, revision=revision, cache_dir=cache, **options)
        except Exception as error:  # the library raises its own, its HTTP client's and builtin exceptions, by version
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            why = f"the hub can't be reached ({unreachable}), and it is not cached" if unreachable else why
            part = f"subset {subset}, split {split}" if subset else f"split {split}"
            mend = "give the path of a file instead, or try again with a network"
            raise AssetError(f"{name} ({part}): can't be loaded: {why}; {mend}") from None
