"""Commands that need no run: init, assets, doctor, schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakfix.cli import output, places
from breakfix.cli.commands import Arguments
from breakfix.errors import AssetError, UserError

if TYPE_CHECKING:
    from breakfix.doctor import Row

_STYLES = {"ok": "", "warn": "yellow", "fail": "red"}


def init(arguments: Arguments) -> int:
    """breakfix init: named as the file is, for a run's folder is named by it."""
    from breakfix.config import Config
    from breakfix.templates import render

    if arguments.path.exists() and not arguments.force:
        raise UserError(f"{arguments.path}: exists; give another path, or --force to write over it")
    named = arguments.path.name != places.KEPT and places.is_name(arguments.path.stem)
    output.save(arguments.path, render(Config(name=arguments.path.stem) if named else Config()))
    print(f"wrote {output.line(str(arguments.path))}; start with: breakfix run {output.line(str(arguments.path))}")
    return 0


def assets(arguments: Arguments) -> int:
    """breakfix assets"""
    from breakfix import assets as known

    if arguments.fetch is not None:
        with output.to_stderr():
            found = known.resolve(arguments.fetch)
        row = {"name": arguments.fetch, "path": str(found.path), "source": found.source, "detail": found.detail}
        if arguments.json:
            output.as_json(row)
        else:
            print(f"{output.line(row['path'])}\n{row['source']}: {output.line(row['detail'])}")
        return 0
    rows = [_asset(asset) for asset in known.catalogue().values()]
    if arguments.json:
        output.as_json(rows)
        return 0
    output.table(
        ("name", "for", "here", "what"),
        [(r["name"], r["use"], r["cached"] or "no", f"{r['what']}\n{r['licence']}; {_from(r)}") for r in rows],
    )
    print("no: downloaded when first needed, or with --fetch NAME")
    return 0


def _from(row: dict[str, Any]) -> str:
    return ", else ".join(row["sources"])


def _asset(asset: Any) -> dict[str, Any]:
    """`cached`: which place on this machine has it (local, hub, cache), None where it would be downloaded."""
    from breakfix import assets as known

    try:  # without its preparation, which may take a minute
        found = known.resolve_asset(
            asset, offline=True, progress=False, prepare={asset.prepare: lambda source, out: None}
        )
    except AssetError:
        found = None
    sources = [f"hub {asset.hub.id}"] if asset.hub else []
    sources += [f"package {asset.package}"] if asset.package else []
    return {
        "name": asset.name,
        "use": asset.use,
        "licence": asset.licence,
        "cached": found.source if found else None,
        "rows": asset.rows or None,
        "sources": sources,
        "what": asset.what,
    }


def doctor(arguments: Arguments) -> int:
    """breakfix doctor"""
    import dataclasses

    from breakfix import doctor as checks

    with output.to_stderr():
        asked = list(_endpoints(arguments.what))
        rows = [*checks.examine(), *asked]
    if arguments.json:
        output.as_json([dataclasses.asdict(row) for row in rows])
    else:
        output.table(
            ("check", "state", "found, and what to do"),
            [(row.name, row.state, row.found + (f"\n→ {row.advice}" if row.advice else "")) for row in rows],
            [_STYLES[row.state] for row in rows],
        )
    return 2 if any(row.state == "fail" for row in rows) else 0


def _endpoints(what: str | None) -> Iterator[Row]:
    """A row for a config, each remote model of it and the model that it trains, or for the one at an address."""
    if what is None:
        return
    from breakfix import doctor as checks
    from breakfix.config import Config, load
    from breakfix.models.endpoint import is_remote
    from breakfix.models.remote import RemoteModel
    from breakfix.ready import check, models

    config = Config(model=what) if is_remote(what) else load(Path(what))
    if not is_remote(what):
        try:
            check(config)
            told = "suites, sources and attacks are known; every row of your own files was read"
            yield checks.Row("config", "ok", told)
        except UserError as error:
            yield checks.Row("config", "fail", str(error))
    for key, name in models(config):
        if is_remote(name):
            yield checks.remote(key, RemoteModel.open(name, config.endpoints).hello())
        elif key == "model" and (folder := _here(name)) is not None:
            yield _family(key, name, folder)


def _family(key: str, name: str, folder: Path) -> Row:
    from transformers import AutoConfig

    from breakfix import assets as known
    from breakfix import doctor as checks
    from breakfix.train import presets

    auto: Any = AutoConfig
    try:
        facts = presets.facts(auto.from_pretrained(str(folder), trust_remote_code=False))
    except Exception as error:  # by what is wrong with the file: OSError, ValueError, TypeError, a library's own
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        advice = f"mend {folder / 'config.json'}, or name another model"
        return checks.Row(key, "fail", f"{name}: config.json can't be read: {first}", advice)
    if missing := known.lacking(folder):
        return checks.Row(key, "fail", f"{name}: there is no {missing} in {folder}", "name another model")
    return checks.family(key, name, facts)


def _here(name: str) -> Path | None:
    """The folder of a model that needs no download."""
    from breakfix import assets as known

    asset = known.catalogue().get(name)
    try:
        found = (
            Path(name).expanduser()
            if asset is None
            else known.resolve_asset(asset, offline=True, prepare={asset.prepare: lambda source, out: None}).path
        )
    except AssetError:
        return None
    return found if (found / "config.json").is_file() else None


def schema(arguments: Arguments) -> int:
    """breakfix schema"""
    if arguments.what == "config":
        from breakfix.config import Config

        output.as_json(Config.model_json_schema())
    elif arguments.what == "compare":
        from breakfix.compare import schema as compare_schema

        output.as_json(compare_schema())
    elif arguments.what == "attack-set":
        from breakfix.redteam.sets import schema as set_schema

        output.as_json(set_schema())
    else:
        from breakfix.report import schema as report_schema

        output.as_json(report_schema())
    return 0
