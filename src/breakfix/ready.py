"""What can be known to fail before any time is spent: `check` looks at the config and the user's own files and needs
no network, `fetch` has at hand what else the run reads. A mistake found an hour later would cost that hour."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from . import assets
from .config import Config, Judges, Suite
from .core import Split
from .errors import ConfigError
from .models import endpoint
from .suites import SUITES, harness, load
from .train import launch


def trainable(config: Config) -> None:
    """Raises ConfigError where rounds are to be trained on a model that can only be asked."""
    if endpoint.is_remote(config.model):
        where = endpoint.address(config.model)
        raise ConfigError(
            f"model: {where} is remote, and a remote model can't be trained; measure it with `breakfix evaluate CONFIG "
            "--round 0` and `breakfix redteam CONFIG --round 0`, or name a model that is here"
        )


def models(config: Config) -> list[tuple[str, str]]:
    """(setting, name) of every model that the config names."""
    named = (
        ("model", config.model),
        ("curate.helper", config.curate.helper),
        ("redteam.helper", config.redteam.helper),
        ("judges.model", config.judges.model),
    )
    return [(key, name) for key, name in named if name is not None]


def check(config: Config) -> None:
    """Remote models' addresses and keys, attack families, judges, suites, the launcher, every row of the user's files,
    and that nothing measured is a training source.

    Raises ConfigError, DataError (file, line, what is wrong).
    """
    from .curate.sources import check_files, local_file
    from .judges.catalogue import members
    from .redteam import chosen, goals
    from .redteam.sets import is_set

    for key, name in models(config):
        if endpoint.is_remote(name):
            endpoint.check(name, config.endpoints, key)
    chosen(config.redteam.seen, config.redteam.held_out)
    members(config.judges)
    if config.redteam.judge is not None:
        members(Judges(refusal=config.redteam.judge, model=config.judges.model))
    if config.redteam.seeds is not None:
        goals.read(config.redteam.seeds)
    _check_suites(config)
    if config.train.launcher == "accelerate":
        launch.check(config)
    measured = {suite.path.resolve() for suite in config.evaluate.suites if suite.path}
    for source in config.curate.sources:
        spec, own = SUITES.get(source.name), source.path is not None or source.hub is not None
        if spec is not None and (spec.split is Split.FROZEN or (spec.split is Split.DEV and not own)):
            mend = "give data of your own another name" if own else "take it out"
            raise ConfigError(
                f"curate.sources: {source.name!r} is a {spec.split.value} suite, which is only measured; "
                f"training on it would make its figures worthless; {mend}"
            )
        if (file := local_file(source)) is not None and is_set(file):
            raise ConfigError(
                f"curate.sources: {file} is a saved attack set, which holds what is only measured; it can't be trained "
                "on; take it out"
            )
        if file is not None and config.redteam.seeds is not None and file.resolve() == config.redteam.seeds.resolve():
            raise ConfigError(
                f"curate.sources: {file} is also redteam.seeds, and what is attacked can't be a source; take it out: "
                "a goal of split train is learnt from where it broke the model"
            )
        if file is not None and file.resolve() in measured:
            raise ConfigError(f"curate.sources: {file} is also evaluated; a suite can't be trained on; split it")
    check_files(config.curate.sources, any_licence=config.curate.allow_unknown_licence)


def _check_suites(config: Config) -> None:
    seen: set[str] = set()
    for suite in config.evaluate.suites:
        if suite.name in seen:
            raise ConfigError(f"evaluate.suites: {suite.name!r} is there twice; name each suite once")
        seen.add(suite.name)
        if suite.name.startswith(harness.PREFIX):
            harness.require(suite.name)
        if suite.path is not None:
            load(suite, seed=config.seed)
        elif suite.name not in SUITES and not suite.name.startswith(harness.PREFIX):
            raise _unknown(suite)


def _unknown(suite: Suite) -> ConfigError:
    close = difflib.get_close_matches(suite.name, SUITES, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(SUITES)}."
    return ConfigError(
        f"evaluate.suites: {suite.name!r} is not built in; {hint} For a file of your own, give its path as well"
    )


def fetch(config: Config, *, data: bool = True, say: Callable[[str], None] = lambda line: None) -> None:
    """Download or find the models and, with `data`, the training sources, all of whose rows are read and checked.

    Benchmarks are not here: one that can't be had is skipped, and the record says so. Raises AssetError (what was
    tried), ConfigError, DataError.
    """
    from .curate.sources import LONGEST, gather

    for key, name in models(config):
        if endpoint.is_remote(name):
            say(f"{key}: {endpoint.address(name, key)} (remote)")
        else:
            found = assets.resolve_model(name, key)
            say(f"{key}: {name}" if found.source == "path" else f"{key}: {name} ({found.source}: {found.detail})")
    if data:
        gather(config.curate.sources, seed=config.seed, longest=LONGEST, resolve=lambda name: assets.resolve(name).path)
