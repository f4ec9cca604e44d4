"""A prescription's file as text: read, written, and whether people changed it since."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import yaml

from breakfix.errors import DataError
from breakfix.ledger.room import room
from breakfix.prescription.entries import ANY, WORDS, Entry, Prescription

LONGEST = 1 << 20  # bytes
MARK = "written:"
_MEND = "mend it, or delete it to learn what the ledger says"


def read(file: Path) -> str:
    """Raises DataError."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(LONGEST + 1)
        if len(raw) > LONGEST:
            raise DataError(f"{file}: more than {LONGEST >> 20} MiB; expected a prescription, a short YAML file")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; a run has one in each round's folder, round-0 and so on") from None
    except OSError as error:
        raise DataError(f"{file}: can't be read ({error.strerror}); give a YAML file") from None


def node(file: Path, text: str) -> yaml.Node:
    """Raises DataError."""
    try:
        found: Any = cast("Any", yaml).compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DataError(f"{file}{line}: not YAML ({error.problem}); {_MEND}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{file}: not YAML ({getattr(error, 'reason', 'nested too deep')}); {_MEND}") from None
    if found is None:
        raise DataError(f"{file}: empty; {_MEND}")
    return found


def save(file: Path, text: str) -> None:
    """Whole or not at all."""
    with room(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        work = file.with_name(f".{file.name}.new")
        work.write_text(text, encoding="utf-8")
        work.replace(file)


def written(text: str) -> str:
    """The digest of what the file said when it was written; "" where somebody took it out."""
    line = next((line for line in text.splitlines() if line.startswith(MARK)), "")
    return line.removeprefix(MARK).partition("#")[0].strip().strip("\"'")


def unsigned(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(MARK))


def is_edited(text: str) -> bool:
    """Whether it says something else than when it was written; comments and names are no matter."""
    return not written(text) or written(text) != _digest(text)


def _digest(text: str) -> str:
    """Of what a file says, whether that makes sense or not; "" where it can't be read."""
    try:
        raw: Any = yaml.safe_load(text)
        entries = tuple(
            Entry(
                e["id"],
                {word: e[word] for word in WORDS if e.get(word)},
                tuple(e["languages"]),
                () if e["wrappers"] == ANY else tuple(e["wrappers"]),
            )
            for e in raw["vulnerabilities"]
        )
        again = {e["id"]: e["rows"] for e in raw["fixed"]}
        return Prescription(raw["round"], entries, raw["replay"], again).digest
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, RecursionError, ValueError):
        return ""
