"""A round's training data as files that others can use: rows, a card, Croissant metadata, a manifest by digest.

    sft.jsonl, dpo.jsonl    (or .parquet; or the folders sft/ and dpo/, which `datasets.load_from_disk` reads)
    README.md               the card, with the hub's header
    croissant.json          croissant.py; not for folders of `datasets`, which are no files to describe
    manifest.json           every file's sha256 and size, the digest of the rows, which run and round they are of

The rows have TRL's columns (prompt and completion; prompt, chosen and rejected: lists of messages), and what is known
of them. The same round of the same run makes the same bytes of rows, card and metadata.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from breakfix import __version__
from breakfix.core import Example, Message, digest
from breakfix.curate import croissant
from breakfix.errors import UserError
from breakfix.ledger import Ledger
from breakfix.ledger.room import room

Format = Literal["jsonl", "parquet", "datasets"]
Row = dict[str, Any]
ABOUT: Mapping[str, str] = {
    "id": "text",
    "kind": "text",
    "hazard": "text",
    "language": "text",
    "family": "text",
    "source": "text",
    "licence": "text",
    "why": "text",
    "parents": "texts",
    "cut": "flag",
}
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "sft": {"prompt": "messages", "completion": "messages", **ABOUT},
    "dpo": {"prompt": "messages", "chosen": "messages", "rejected": "messages", **ABOUT, "rejected_cut": "flag"},
}
OF_REJECTED = ("rejected", "rejected_cut")
_HUB_LICENCES = {"mit", "apache-2.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-3.0"}


def export(
    ledger: Ledger, run: Path, *, round: int | None, to: Path | None, format: Format, redact: bool = False
) -> tuple[Path, dict[str, Any]]:
    """Write the data of a round (None: the last curated one); returns (the folder, its manifest).

    `to` None: RUN/dataset/round-N. A folder that an earlier export made is replaced, whole or not at all; UserError for
    any other that is there, for a round without data, and where it can't be written. DiskFull.
    """
    number, published = _curated(ledger, run, round)
    folder = to or run / "dataset" / f"round-{number}"
    if folder.exists() and not (folder / "manifest.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is there, and is no data set of breakfix; give another folder with -o")
    columns = {name: _columns(of, redact) for name, of in COLUMNS.items()}
    rows = {
        name: [_row(example, name, of) for example in ledger.examples(round=number, dataset=name)]
        for name, of in columns.items()
    }
    rows = {name: some for name, some in rows.items() if some}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise UserError(f"{folder}: can't be made ({error.strerror}); give another folder with -o") from error
    try:
        with room(folder):
            manifest = _fill(work, run.resolve().name, number, published, rows, columns, format, redact)
            os.chmod(work, 0o755)
            if folder.exists():
                shutil.rmtree(folder)
            work.replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder, manifest


def _curated(ledger: Ledger, run: Path, round: int | None) -> tuple[int, str]:
    """(the round, the day on which its curation ended)."""
    done = {row.round: row for row in ledger.stages() if row.name == "curate" and row.finished}
    if not done:
        raise UserError(f"{run}: no round has training data yet; `breakfix curate {run} --round 1` makes it")
    number = max(done) if round is None else round
    if number not in done:
        known = ", ".join(map(str, sorted(done)))
        raise UserError(f"{run}: round {number} has no training data; rounds that have: {known}")
    row = done[number]
    return number, datetime.fromtimestamp(row.started + (row.seconds or 0.0), UTC).date().isoformat()


def _columns(columns: Mapping[str, str], redact: bool) -> Mapping[str, str]:
    return {name: kind for name, kind in columns.items() if not (redact and name in OF_REJECTED)}


def _row(example: Example, dataset: str, columns: Mapping[str, str]) -> Row:
    reply = [_message(Message("assistant", example.reply))]
    values: Row = {
        "prompt": [_message(message) for message in example.prompt],
        "completion": reply,
        "chosen": reply,
        "rejected": [_message(Message("assistant", example.rejected or ""))],
        "parents": list(example.parents),
    }
    return {name: values[name] if name in values else getattr(example, name) for name in columns}


def _message(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content.encode("utf-8", "replace").decode()}


# ---- files -------------------------------------------------------------------------------------------------------


def _fill(
    folder: Path,
    run: str,
    round: int,
    published: str,
    rows: Mapping[str, Sequence[Row]],
    columns: Mapping[str, Mapping[str, str]],
    format: Format,
    redact: bool,
) -> dict[str, Any]:
    for name, some in rows.items():
        _write(folder, name, some, columns[name], format)
    facts: dict[str, Any] = {
        "run": run,
        "round": round,
        "made_by": f"breakfix {__version__}",
        "format": format,
        "redacted": redact,
        "rows": {name: len(some) for name, some in rows.items()},
        "digest": digest({name: list(some) for name, some in rows.items()}),
        "licences": _count(rows, "licence"),
        "languages": _count(rows, "language"),
        "kinds": _count(rows, "kind"),
        "hazards": _count(rows, "hazard"),
        "sources": _count(rows, "source"),
    }
    (folder / "README.md").write_text(card(facts, published), encoding="utf-8")
    files = _files(folder)
    if format != "datasets":
        described = [{**file, "set": file["name"].partition(".")[0], "format": format} for file in files
                     if file["name"] != "README.md"]  # fmt: skip
        metadata = croissant.describe(
            name=_name(facts),
            what=_what(facts),
            url=f"urn:sha256:{facts['digest']}",
            licences=list(facts["licences"]),
            languages=list(facts["languages"]),
            published=published,
            version=f"{round}.0.0",
            files=described,
            columns={name: columns[name] for name in rows},
        )
        (folder / "croissant.json").write_text(json.dumps(metadata, indent=1, ensure_ascii=False) + "\n", "utf-8")
    manifest = {**facts, "published": published, "files": _files(folder)}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return manifest


def _write(folder: Path, name: str, rows: Sequence[Row], columns: Mapping[str, str], format: Format) -> None:
    if format == "jsonl":
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return
    import datasets

    library: Any = datasets
    text = library.Value("string")
    types = {
        "text": text,
        "texts": library.List(text),
        "flag": library.Value("bool"),
        "messages": library.List({"role": text, "content": text}),
    }
    bars: bool = library.is_progress_bar_enabled()
    library.disable_progress_bars()
    try:
        features = library.Features({column: types[kind] for column, kind in columns.items()})
        made = library.Dataset.from_list(list(rows), features=features)
        if format == "parquet":
            made.to_parquet(str(folder / f"{name}.parquet"))
        else:
            made.save_to_disk(str(folder / name))
    finally:
        if bars:
            library.enable_progress_bars()


def _files(folder: Path) -> list[dict[str, Any]]:
    return [
        {
            "name": path.relative_to(folder).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def _count(rows: Mapping[str, Sequence[Row]], column: str) -> dict[str, int]:
    """Over distinct rows: what SFT and DPO share is one."""
    distinct = {row["id"]: row[column] or "none" for some in rows.values() for row in some}
    return dict(sorted(Counter(distinct.values()).items()))


# ---- the card ----------------------------------------------------------------------------------------------------


def _name(facts: Mapping[str, Any]) -> str:
    return re.sub(r"[^\w.-]+", "-", f"breakfix-{facts['run']}-round-{facts['round']}")


def _what(facts: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{n} {name.upper()} rows" for name, n in facts["rows"].items())
    return (
        f"Safety training data of round {facts['round']} of the break-fix run {facts['run']}: {counts}. Harmful "
        "requests that are declined, harmless look-alikes and plain instructions that are answered."
    )


def card(facts: Mapping[str, Any], published: str) -> str:
    """The data set's README.md. `facts`: the manifest without its files."""
    licences = list(facts["licences"])
    known = licences[0].lower() if len(licences) == 1 else ""
    header: list[str] = ["---"]
    header += [f"license: {known if known in _HUB_LICENCES else 'other'}"]
    header += [] if known in _HUB_LICENCES else ["license_name: by-row", "license_link: README.md"]
    header += ["language:", *(f"- {json.dumps(code)}" for code in facts["languages"])]
    header += ["task_categories:", "- text-generation", "tags:", "- safety", "- refusal", "- preference", "- breakfix"]
    header += [f"size_categories:\n- {_size(sum(facts['rows'].values()))}"]
    if facts["format"] != "datasets":
        header += ["configs:"]
        for name in facts["rows"]:
            header += [f"- config_name: {name}", f"  data_files: {name}.{facts['format']}"]
    tables = {name: "\n".join(_table(name, facts[key])) for name, key in TABLES.items()}
    rows = "\n".join(f"- `{name}`: {n}" for name, n in facts["rows"].items())
    text = CARD.format(
        name=_name(facts),
        what=_what(facts),
        published=published,
        made_by=facts["made_by"],
        digest=facts["digest"],
        rejected=LEFT_OUT if facts["redacted"] else HARMFUL,
        rows=rows,
        **tables,
    )
    return "\n".join([*header, "---", "", text])


TABLES = {"kind": "kinds", "hazard": "hazards", "language": "languages", "source": "sources", "licence": "licences"}
HARMFUL = """\
The `rejected` side of the pairs holds **harmful text**: what models answered before they were taught. It is there to be
moved away from. Keep it from those who need not see it; `breakfix dataset RUN --redact` leaves it out."""
LEFT_OUT = "The rejected side of the pairs was left out (`--redact`)."
CARD = """\
# {name}

{what}

Made on {published} by {made_by}. The digest of the rows is `{digest}`; `manifest.json` has every file's.

**Harmful requests are in this data**, each answered by declining. {rejected}

## Rows

{rows}

Prompts, completions and both sides of a pair are lists of messages, as TRL's trainers take them. `why` says why a row
is there, `parents` what it came from (ids of the run's ledger: `breakfix trace ID RUN`); `kind` is harmful, twin (a
harmless look-alike) or plain; `cut` and `rejected_cut`: a token budget ended that text.

{kind}
{hazard}
{language}
{source}
## Licences

Each row has its own, in `licence`; a use of all rows has to keep to all of them. The replies to harmless requests were
written by the untouched model, whose licence may say more.

{licence}
## How it was made, and what it is not

Prompts went through licences, exact and near-duplicates, a check of language, a look for personal data, and
decontamination against every benchmark that the run knows; the run's report counts what each step took out. Names and
postal addresses were not looked for. Labels were given by sources and a judge, not by people who read each row. It
teaches one model's weaknesses to that model; for another one it is a start.
"""


def _table(name: str, counts: Mapping[str, int]) -> list[str]:
    return [f"| {name} | rows |", "|---|---|", *(f"| {_cell(key)} | {n} |" for key, n in counts.items()), ""]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _size(n: int) -> str:
    limits = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for limit, name in limits if n < limit), "1M<n<10M")
