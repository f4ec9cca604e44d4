"""What each part of the recipe brings: variants of a config on the same model, a row each, by dev suites alone.

    python benchmarks/ablations.py [CONFIG] --into FOLDER [--base RUN] [--only no-dpo,no-twins] [--set KEY=VALUE ...]
        [--seed N] [--chart docs/scaling.svg] [--keep-suites] [--read]

CONFIG is a YAML file; without one the config of --base, or the default. Variants: full, no-twins, no-dpo, no-replay,
no-minted (no row from failures, nor in numbers after them), rounds-1, rounds-3, and rows-250 ... rows-4000 (SFT rows of
all kinds in the config's shares, one round). All of them play their rounds to the end, whatever the gate says.

Each variant is a run's folder in FOLDER. A finished one is read (variant.json), one that was broken off goes on. A new
one begins as a copy of --base, else of `full` where that is finished: what its settings leave as it was is not made
again, the untouched model's answers least of all. Frozen suites but `capability` are left out, and harmbench_val and
the starter pack's other languages come in; --keep-suites measures what the config names. --read only prints.

The table: rate and 95 % interval of the last round; capability is the paired change from round 0; rows are of the last
round's SFT; seconds are of the stages after round 0, also where they were copied.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from breakfix.cli import places
from breakfix.config import Config, load, parse
from breakfix.core import Split
from breakfix.cycle import STAGES, Cycle
from breakfix.errors import UserError
from breakfix.ledger import Ledger
from breakfix.ready import check, fetch
from breakfix.suites import SUITES

Json = dict[str, Any]
ROWS = (250, 500, 1000, 2000, 4000)
DONE = "variant.json"
DEV = ("harmbench_val", "starter_multilingual")  # measured besides
VARIANTS: Mapping[str, Json] = {
    "full": {},
    "no-twins": {"curate": {"twin_share": 0.0}},
    "no-dpo": {"train": {"dpo": {"enabled": False}}},
    "no-replay": {"curate": {"replay": 0.0}},
    "no-minted": {"curate": {"failures": False}},
    "rounds-1": {"rounds": 1},
    "rounds-3": {"rounds": 3},
    **{f"rows-{n}": {"rounds": 1} for n in ROWS},
}
COLUMNS = {  # metric → head of its column
    "starter_dev.iprr": "unsafe refused ↑",
    "starter_dev.vprr": "safe refused ↓",
    "plain.refused": "plain refused ↓",
    "harmbench_val.answered": "HarmBench val answered ↓",
    "asr.seen": "ASR seen ↓",
    "asr.held_out": "ASR held out ↓",
    "capability.change": "capability",
}


def merged(settings: Mapping[str, Any], change: Mapping[str, Any]) -> Json:
    found = dict(settings)
    for key, value in change.items():
        inside = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merged(found[key], value) if inside else value
    return found


def assigned(pairs: Sequence[str]) -> Json:
    """["train.dpo.max_pairs=40"] → {"train": {"dpo": {"max_pairs": 40}}}; values are YAML."""
    found: Json = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--set {pair}: expected KEY=VALUE, such as curate.harmful=240")
        one: Any = yaml.safe_load(value)
        for part in reversed(key.split(".")):
            one = {part: one}
        found = merged(found, one)
    return found


def on_dev(config: Config) -> Json:
    """The suites without those that are frozen, and with DEV. Capability decides nothing, and is what is lost."""

    def frozen(name: str) -> bool:
        return name in SUITES and SUITES[name].split is Split.FROZEN and name != "capability"

    kept = [suite.model_dump(mode="json") for suite in config.evaluate.suites if not frozen(suite.name)]
    names = {suite["name"] for suite in kept}
    return {"evaluate": {"suites": [*kept, *({"name": name} for name in DEV if name not in names)]}}


def variant(name: str, base: Config) -> Config:
    change: Json = dict(VARIANTS[name])
    if name.startswith("rows-"):
        rows = int(name.removeprefix("rows-"))
        change["curate"] = {"harmful": round(rows * base.curate.harmful_share)}
    return parse(merged(base.model_dump(mode="json"), {**change, "name": name}), where=name)


def copied(source: Path, target: Path) -> None:
    """A run's folder: weights as hard links where the disk has them, for nobody writes into them; the rest copied."""

    def copy(one: str, other: str) -> str:
        if one.endswith(".safetensors"):
            try:
                os.link(one, other)
            except OSError:
                return shutil.copy2(one, other)
            return other
        return shutil.copy2(one, other)

    work = target.with_name(f".{target.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    aside = shutil.ignore_patterns("ledger.db*", ".lock", "report.*", DONE)
    shutil.copytree(source, work, copy_function=copy, ignore=aside)
    with sqlite3.connect(f"file:{source / 'ledger.db'}?mode=ro", uri=True) as one:  # also what is in its log
        two = sqlite3.connect(work / "ledger.db")
        one.backup(two)
        two.close()
    one.close()
    work.rename(target)


def play(config: Config, folder: Path, source: Path | None) -> Json:
    """The variant's record; from DONE where it was played to the end with these settings."""
    done, settings = folder / DONE, config.model_dump(mode="json")
    if done.is_file() and (told := json.loads(done.read_text()))["settings"] == settings:
        return told
    if not folder.exists() and source is not None:
        copied(source, folder)
    check(config)
    fetch(config, data=True, say=tell)
    with Ledger.open(folder, create=True) as ledger:
        places.keep(config, folder)
        cycle = Cycle(config, folder, ledger, say=lambda line: tell(f"{config.name}: {line}"))
        for round in range(config.rounds + 1):
            for stage in STAGES if round else STAGES[2:]:
                cycle.stage(round, stage)
        told = {"settings": settings, **figures(ledger, config.rounds)}
    part = done.with_suffix(".part")
    part.write_text(json.dumps(told, indent=1))
    part.rename(done)
    return told


def figures(ledger: Ledger, last: int) -> Json:
    metrics: Json = {}
    for stage in ("evaluate", "redteam"):
        metrics |= (ledger.finished(last, stage) or {}).get("metrics", {})
    current: dict[tuple[int, str], float] = {}
    for row in ledger.stages():  # by when they were last asked for: the last of a name is the variant's
        if 0 < row.round <= last and row.seconds is not None and row.name in (*STAGES, "select"):
            current[row.round, row.name] = row.seconds
    curated = ledger.finished(last, "curate") or {}
    return {
        "round": last,
        "metrics": {name: metrics[name] for name in COLUMNS if name in metrics},
        "mix": curated.get("mix", {}),
        "replayed": curated.get("replayed"),
        "pairs": curated.get("rows", {}).get("dpo"),
        "seconds": sum(current.values()),
    }


def cell(found: Mapping[str, Any] | None, *, signed: bool = False) -> str:
    """'12.3 (9.1 to 16.4)', in per cent; a dash where it is not known."""
    if found is None or found["value"] is None:
        return "–"
    sign = "+" if signed else ""
    value = f"{100 * found['value']:{sign}.1f}"
    if found["low"] is None or found["high"] is None:
        return value
    return f"{value} ({100 * found['low']:{sign}.1f} to {100 * found['high']:{sign}.1f})"


def table(found: Mapping[str, Json]) -> str:
    lines = [
        "| variant | rounds | SFT rows (harmful + twins + plain) | pairs | "
        + " | ".join(COLUMNS.values())
        + " | seconds |",
        "|" + "---|" * (len(COLUMNS) + 5),
    ]
    for name, told in found.items():
        mix = [told["mix"].get(kind, 0) for kind in ("harmful", "twin", "plain")]
        cells = [cell(told["metrics"].get(metric), signed=metric == "capability.change") for metric in COLUMNS]
        rows = f"{sum(mix):,} ({' + '.join(map(str, mix))})"
        lines.append(f"| {name} | {told['round']} | {rows} | {told['pairs']} | {' | '.join(cells)} | "
                     f"{told['seconds']:,.0f} |")  # fmt: skip
    return "\n".join(lines)


def chart(found: Mapping[str, Json], path: Path) -> None:
    """The rows-N variants: shares with bands over the SFT rows that there really were, which are on a log scale."""
    import vl_convert

    shown = {"starter_dev.iprr": "#1f5fa8", "starter_dev.vprr": "#c2571a", "harmbench_val.answered": "#6b3fa0",
             "asr.held_out": "#3b7d3b", "plain.refused": "#8a8a8a"}  # fmt: skip
    data = [
        {"rows": sum(told["mix"].values()), "what": COLUMNS[name][:-2], **told["metrics"][name]}
        for variant, told in found.items() if variant.startswith("rows-")
        for name in shown if (told["metrics"].get(name) or {}).get("value") is not None
    ]  # fmt: skip
    x = {"field": "rows", "type": "quantitative", "scale": {"type": "log", "nice": False}, "title": "SFT rows"}
    y = {"type": "quantitative", "scale": {"domain": [0, 1]}, "axis": {"format": ".0%"}, "title": None}
    names, high = [COLUMNS[name][:-2] for name in shown], {"field": "high"}
    colour = {"field": "what", "type": "nominal", "title": None,
              "scale": {"domain": names, "range": list(shown.values())}}  # fmt: skip
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "data": {"values": data},
        "width": 460,
        "height": 280,
        "encoding": {"x": x, "color": colour},
        "layer": [
            {"mark": {"type": "area", "opacity": 0.12}, "encoding": {"y": {"field": "low", **y}, "y2": high}},
            {"mark": {"type": "line", "point": True}, "encoding": {"y": {"field": "value", **y}}},
        ],
    }  # fmt: skip
    convert: Any = vl_convert
    path.write_text(convert.vegalite_to_svg(json.dumps(spec), allowed_base_urls=[]), encoding="utf-8")


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def settings(given: argparse.Namespace) -> Config:
    """CONFIG, or that of --base, or the default; with --set and --seed, and on dev suites."""
    if given.config is not None:
        base = load(given.config)
    else:
        base = load(given.base / places.KEPT) if given.base is not None else Config()
    asked = assigned(given.set)
    if given.seed is not None:
        asked["seed"] = given.seed
    base = parse(merged(base.model_dump(mode="json"), asked), where="--set")
    return base if given.keep_suites else parse(merged(base.model_dump(mode="json"), on_dev(base)))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, nargs="?")
    parser.add_argument("--into", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--only", help="names with commas between them")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--chart", type=Path)
    parser.add_argument("--keep-suites", action="store_true")
    parser.add_argument("--read", action="store_true")
    given = parser.parse_args(arguments)
    if given.into is None:  # hours on the real model: nothing that `make bench` should begin by itself
        parser.print_usage()
        return 0
    try:
        return run(given)
    except UserError as error:
        tell(str(error))
        return 2


def run(given: argparse.Namespace) -> int:
    names = given.only.split(",") if given.only else list(VARIANTS)
    if unknown := [name for name in names if name not in VARIANTS]:
        raise UserError(f"--only {unknown[0]}: no such variant; expected some of {', '.join(VARIANTS)}")
    if given.base is not None and not (given.base / "ledger.db").is_file():
        raise UserError(f"--base {given.base}: not a run's folder (there is no ledger.db in it)")
    base, into = settings(given), given.into.resolve()
    into.mkdir(parents=True, exist_ok=True)
    found: dict[str, Json] = {}
    for name in (name for name in VARIANTS if name in names):
        folder, full = into / name, into / "full"
        if given.read:
            if (folder / DONE).is_file():
                found[name] = json.loads((folder / DONE).read_text())
            continue
        source = full if name != "full" and (full / DONE).is_file() else given.base
        found[name] = play(variant(name, base), folder, source.resolve() if source is not None else None)
        tell(table({name: found[name]}))
    print(f"{base.model}, seed {base.seed}; per cent with 95 % intervals\n\n{table(found)}")
    if given.chart is not None and any(name.startswith("rows-") for name in found):
        chart(found, given.chart)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
