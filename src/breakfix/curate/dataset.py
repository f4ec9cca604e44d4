"""A round's training data as files that others can use: rows, a card, Croissant metadata, a manifest by digest.

    sft.jsonl, dpo.jsonl    (or .parquet; or the folders sft/ and dpo/, which `datasets.load_from_disk` reads)
    README.md               the card, with the hub's header
    croissant.json          croissant.py; not for folders of `datasets`, which are no files to describe
    manifest.json           every file's sha256 and size, the digest of the rows, which run and round they are of

The rows have TRL's columns (prompt and completion; prompt, chosen and rejected: lists of messages), and what is known
of them. The same round of the same run makes the same bytes of rows, card and metadata. Card and metadata say what the
round's record says: a step that was off is not named, and what is not on record is said to be unknown.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from breakfix import __version__
from breakfix.core import Conversation, Example, Message, digest
from breakfix.curate import card, croissant
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


def export(
    ledger: Ledger, run: Path, *, round: int | None, to: Path | None, format: Format, redact: bool = False
) -> tuple[Path, dict[str, Any]]:
    """Write the data of a round (None: the last curated one); returns (the folder, its manifest).

    `to` None: RUN/dataset/round-N. A folder that an earlier export made is replaced, whole or not at all; UserError for
    any other that is there, for a round without data, and where it can't be written. `redact` leaves out what may hold
    harmful text: the rejected side, and what an assistant says in a prompt (rows don't tell who that was). DiskFull.
    """
    number, published, made = _curated(ledger, run, round)
    folder = to or run / "dataset" / f"round-{number}"
    columns = {name: _columns(of, redact) for name, of in COLUMNS.items()}
    rows = {
        name: [_row(example, name, of, redact) for example in ledger.examples(round=number, dataset=name)]
        for name, of in columns.items()
    }
    rows = {name: some for name, some in rows.items() if some}
    try:
        place = folder.resolve()  # of a link, what it leads to
        if place.exists() and not _is_ours(place):
            raise UserError(f"{folder}: is there, and is no data set of breakfix; give another folder with -o")
        place.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error  # RuntimeError: links that lead to each other
        raise UserError(f"{folder}: can't be made ({why}); give another folder with -o") from error
    try:
        with room(folder):
            manifest = _fill(work, run.resolve().name, number, published, rows, columns, format, redact, made)
            os.chmod(work, 0o755)
            _swap(work, place)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder, manifest


def _is_ours(place: Path) -> bool:
    """Whether it is a folder in which there is nothing but what an export made."""
    if not place.is_dir():
        return False
    there = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_symlink() or not path.is_dir()}
    if not there and not any(place.iterdir()):
        return True
    try:
        manifest: Any = json.loads((place / "manifest.json").read_text("utf-8"))
        listed = {str(file["name"]) for file in manifest["files"]}
        return str(manifest["made_by"]).startswith("breakfix ") and there <= {"manifest.json", *listed}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def _swap(new: Path, place: Path) -> None:
    """Put the folder there. What was there is moved aside first, and goes last: at any moment one of them is whole."""
    old = new.with_name(f"{new.name}.old")
    if place.exists():
        place.replace(old)
    try:
        new.replace(place)
    except OSError:
        if old.exists():
            old.replace(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _curated(ledger: Ledger, run: Path, round: int | None) -> tuple[int, str, dict[str, Any]]:
    """(the round, the day on which its curation ended, what is on record of how its rows were made)."""
    done = {row.round: row for row in ledger.stages() if row.name == "curate" and row.finished}
    if not done:
        raise UserError(f"{run}: no round has training data yet; `breakfix curate {run} --round 1` makes it")
    number = max(done) if round is None else round
    if number not in done:
        known = ", ".join(map(str, sorted(done)))
        raise UserError(f"{run}: round {number} has no training data; rounds that have: {known}")
    row = done[number]
    day = datetime.fromtimestamp(row.started + (row.seconds or 0.0), UTC).date().isoformat()
    return number, day, _made(row.record or {}, [one.record or {} for n, one in done.items() if n <= number])


def _made(record: Mapping[str, Any], until: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was done to a round's rows; None: not on record. `until`: the records of all rounds up to this one."""
    overlap = record.get("decontamination", {})
    missing = overlap.get("not_checked")
    replies = [one.get("own_replies") for one in until]  # rows come again in later rounds
    own = any(said.get(f"{kind}: none") for said in replies if said for kind in ("twin", "plain"))
    return {
        "steps": record.get("steps"),
        "clean": overlap.get("clean"),
        "not_checked": None if missing is None else [row["suite"] for row in missing],
        "own_replies": True if own else None if None in replies else False,
        "from_failures": record["evidence"]["rows"] > 0 if "evidence" in record else None,
    }


def _columns(columns: Mapping[str, str], redact: bool) -> Mapping[str, str]:
    return {name: kind for name, kind in columns.items() if not (redact and name in OF_REJECTED)}


def _row(example: Example, dataset: str, columns: Mapping[str, str], redact: bool) -> Row:
    reply = [_message(Message("assistant", example.reply))]
    prompt = _blank(example.prompt) if redact else example.prompt
    values: Row = {
        "prompt": [_message(message) for message in prompt],
        "completion": reply,
        "chosen": reply,
        "rejected": [_message(Message("assistant", example.rejected or ""))],
        "parents": list(example.parents),
    }
    return {name: values[name] if name in values else getattr(example, name) for name in columns}


def _blank(prompt: Conversation) -> Conversation:
    """Without what an assistant says in it: turns before the one that failed, and replies that had begun."""
    return tuple(Message(m.role, card.REDACTED) if m.role == "assistant" else m for m in prompt)


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
    made: Mapping[str, Any],
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
        "made": dict(made),
    }
    (folder / "README.md").write_text(card.readme(facts, published), encoding="utf-8")
    files = _files(folder)
    if format != "datasets":
        described = [{**file, "set": file["name"].partition(".")[0], "format": format} for file in files
                     if file["name"] != "README.md"]  # fmt: skip
        metadata = croissant.describe(
            name=card.title(facts),
            what=card.what(facts),
            url=f"urn:sha256:{facts['digest']}",
            licences=list(facts["licences"]),
            languages=list(facts["languages"]),
            published=published,
            version=f"{round}.0.0",
            files=described,
            columns={name: columns[name] for name in rows},
            collection=" ".join((card.origin(facts), card.replies(made), "Each row says why it is there.")),
            personal=card.personal(made),
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
