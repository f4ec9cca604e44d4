"""The model card: README.md beside the weights, with the hub's header, and where everything in them came from.

Lineage is by digest: the weights it started from, the model that the run began with, the rows it learnt from. What
evaluate found of a candidate is added when it has chosen (`chosen`); a card is no part of a model's identity.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from .. import assets
from ..config import Config
from ..core import Example, digest

CHOSEN = "## Release candidate"  # the section that `chosen` writes; it is the last one


def card(
    config: Config, name: str, round: int, record: Mapping[str, Any], rows: Mapping[str, Sequence[Example]],
    *, untouched: Path, began: str,
) -> str:  # fmt: skip
    """The card of candidate `name` of a round. `rows`: data set → what was learnt from; `began`: the weights that the
    run began with; `untouched`: where these are."""
    licence = base_licence(config.model, untouched)
    made = [kind for kind in ("sft", "dpo", "kto") if _made(record, kind)]
    head = {
        "license": licence,
        "base_model": config.model if re.fullmatch(r"[\w.-]+/[\w.-]+", config.model) else None,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "language": sorted({example.language for some in rows.values() for example in some}),
        "tags": ["breakfix", "safety", "alignment", "trl", *made],
    }
    parts = [
        f"---\n{yaml.safe_dump({k: v for k, v in head.items() if v}, sort_keys=False, allow_unicode=True)}---",
        f"# {config.name}, round {round}: {name}",
        "Safety post-training of a language model by breakfix: attacks found where its base answers what it should "
        "refuse, or refuses what it should answer, and it was trained on data made against that. It is not safe by "
        "having been trained: look at the run's report for how often it still fails, before it is used.",
        "## Lineage",
        "\n".join(_lineage(config, record, licence, began)),
        "## Data",
        *([_data(kind, some) for kind, some in rows.items() if some] or ["No row of this round."]),
        "## Recipe",
        _recipe(name, record),
    ]
    return "\n\n".join(parts) + "\n"


def base_licence(model: str, folder: Path) -> str:
    """Of the model that the run began with: what is known of the asset, else what its own card says, else "other"."""
    known = assets.catalogue().get(model)
    if known is not None and known.licence != "unknown":
        return known.licence.lower()
    try:
        said = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
        header: Any = yaml.safe_load(said.split("---")[1]) if said.startswith("---") else {}
        return str(header["license"])
    except (OSError, yaml.YAMLError, IndexError, KeyError, TypeError):
        return "other"


def _lineage(config: Config, record: Mapping[str, Any], licence: str, began: str) -> list[str]:
    base = Path(config.model).name if Path(config.model).is_absolute() else config.model
    return [
        f"- base model: {base}, `{began}`, licence {licence}; these weights are derived from it",
        f"- started from: `{record['started_from']}`" + (" (the base)" if record["started_from"] == began else ""),
        f"- seed {config.seed}; {_versions(record)}",
    ]


def _versions(record: Mapping[str, Any]) -> str:
    said = next((record[kind]["trl"] for kind in ("sft", "dpo", "kto") if _made(record, kind)), "")
    return said or "no training in this round"


def _data(kind: str, rows: Sequence[Example]) -> str:
    counts = Counter((row.kind, row.source, row.licence) for row in rows)
    lines = [f"| {one} | {source} | {licence} | {n} |" for (one, source, licence), n in sorted(counts.items())]
    return "\n".join(
        [f"{kind}: {len(rows)} rows, digest `{digest([row.id for row in rows])[:16]}`", "",
         "| kind | source | licence | rows |", "|---|---|---|---|", *lines]
    )  # fmt: skip


def _recipe(name: str, record: Mapping[str, Any]) -> str:
    said: dict[str, Any] = {"candidate": name, "changes": record.get("recipe") or "none: the round's own recipe"}
    for kind in ("sft", "dpo", "kto"):
        if kind in record:
            part: Mapping[str, Any] = record[kind]
            said[kind] = {k: len(cast("list[Any]", v)) if isinstance(v, list) else v for k, v in part.items()}
    return f"```json\n{json.dumps(said, indent=1, default=str, ensure_ascii=False)}\n```"


def _made(record: Mapping[str, Any], kind: str) -> bool:
    return "steps" in record.get(kind, {})


def chosen(folder: Path, name: str, selection: Mapping[str, Any]) -> None:
    """Add to the card of candidate `name` what evaluate found (its record), in place of what was there of it."""
    file = folder / "README.md"
    said = file.read_text(encoding="utf-8") if file.is_file() else ""
    why = next((drop["reason"] for drop in selection["dropped"] if drop["name"] == name), "")
    figures = selection["candidates"].get(name, {})
    rows = [
        f"| {objective.replace('_', ' ')} | {_share(one['value'])} | {_share(one['low'])} to {_share(one['high'])} | "
        f"{one['n']} |"
        for objective, one in figures.items()
    ]
    lines = [
        CHOSEN,
        "",
        "This one goes on." if selection["selected"] == name else f"{selection['selected']} goes on instead: {why}.",
        f"Rule: {selection['rule']}.",
        "",
        "Dev suites and questions set aside; shares of what should not be, but for capability:",
        "",
        "| objective | share | 95 % interval | n |",
        "|---|---|---|---|",
        *rows,
    ]
    file.write_text(said.split(f"\n{CHOSEN}")[0].rstrip() + "\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
