"""From a YAML file to a `Config`, or to one line that says what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import ConfigError
from .data import Source
from .mistakes import plain
from .run import Config


def load(path: Path) -> Config:
    """Read and validate a YAML file. Raises ConfigError with one plain line that names file, key and expectation."""
    if not path.exists():
        raise ConfigError(f"{path}: no such file; `breakfix init {path}` writes one")
    try:
        raw = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not YAML ({error.problem})") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not YAML ({getattr(error, 'reason', 'nested too deep')})") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}); give a YAML file") from None
    return parse({} if raw is None else raw, where=str(path), folder=path.parent)


class _Loader(yaml.SafeLoader):
    """YAML's own rule, which PyYAML does not keep: no key twice. The first of two would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is there twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse(raw: Any, *, where: str = "config", folder: Path = Path()) -> Config:
    """Validate what a YAML file holds; see `load`."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where}: expected keys and values, found {type(raw).__name__}")
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{where}: {plain(error, Config)}") from None
    return _absolute(config, folder)


def _absolute(config: Config, folder: Path) -> Config:
    def fix(item: Any) -> Any:
        if item.path is None:
            return item
        return item.model_copy(update={"path": (folder / item.path.expanduser()).resolve()})

    def local(name: str) -> str:  # of what may be a path, an asset's name or a hub id
        return str((folder / name).resolve()) if (folder / name).exists() else name

    def source(item: Source) -> Source:
        return fix(item) if item.hub is None else item.model_copy(update={"hub": local(item.hub)})

    words = config.curate.helper
    changed = {"sources": tuple(map(source, config.curate.sources)), "helper": local(words) if words else None}
    curate = config.curate.model_copy(update=changed)
    evaluate = config.evaluate.model_copy(update={"suites": tuple(map(fix, config.evaluate.suites))})
    helper, seeds = config.redteam.helper, config.redteam.seeds
    placed = {"seeds": (folder / seeds.expanduser()).resolve() if seeds is not None else None}
    redteam = config.redteam.model_copy(update={"helper": local(helper) if helper else None, **placed})
    asked = config.judges.model
    judges = config.judges.model_copy(update={"model": local(asked) if asked else None})
    parts = {"curate": curate, "evaluate": evaluate, "redteam": redteam, "judges": judges}
    launched = {"launch_config": local(config.train.launch_config)}
    changes = {**parts, "model": local(config.model), "train": config.train.model_copy(update=launched)}
    return config.model_copy(update=changes)
