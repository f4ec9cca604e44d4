"""One row of somebody's data → a checked `Prompt`. The same rules for a file, a hub data set and a package.

    prompt    what the user asks: text, or a conversation             required
    kind      harmful | twin | plain                                  required, unless the source's config says it
    reply     the reply to learn; without one it is minted
    rejected  a reply to move away from
    hazard    a taxonomy id (data/taxonomy.yaml); "" where none applies
    language  a code such as en; default en
    licence   default: the source's

A `Shape` says how the columns of a source become these: `fields` (our name → their column, or a dotted path into it),
`where` (only rows with these values), `values` (their word → ours). Unknown columns are left alone.

A conversation is a list of {role, content} (or {from, value}), or a transcript as hh-rlhf writes it ("\\n\\nHuman: ...
\\n\\nAssistant: ..."). As `prompt` it counts up to its last user turn; as `reply` or `rejected` it is what the
assistant says after that. So one column may be both.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from breakfix import safe_answers, taxonomy
from breakfix.config import FIELDS
from breakfix.core import Case, Conversation, Message, Role, Split, ask, digest
from breakfix.curate.base import KINDS, Prompt, expected
from breakfix.errors import DataError

Answers = Literal["regenerate", "keep"]
Derive = Callable[[Mapping[str, Any], str], Mapping[str, Any]]  # (row, where) → more columns
TEXTS = ("prompt", "reply", "rejected")
ROLES: Mapping[str, Role] = {
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant",
    "system": "system",
}  # fmt: skip
_TURN = re.compile(r"\n\n(Human|Assistant):")
NOT_WANTED = "its columns are not as `where` asks"
SHOWN = 12  # columns that an error names


@dataclass(frozen=True, slots=True)
class Shape:
    """How the rows of a source are read. `derive` makes further columns out of a row's own.

    `strict`: a word of theirs that `values` does not know is an error; else a hazard is left open, and a row of no
    known kind left out. `answers`: see curate/modify.py; None: regenerate where `trusted` is false.
    """

    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    where: Mapping[str, Any] = field(default_factory=dict[str, Any])
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    kind: str = ""
    licence: str = "unknown"
    language: str = "en"
    derive: Derive | None = None
    strict: bool = True
    answers: Answers | None = None
    trusted: bool = True


@dataclass(frozen=True, slots=True)
class Cut:
    """A text that was too long, and was cut: characters before and after."""

    where: str
    field: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Row:
    """What became of a row: a prompt and what of it was cut, or the reason why it is left out."""

    prompt: Prompt | None = None
    cuts: tuple[Cut, ...] = ()
    left_out: str = ""


def row_of(row: Any, name: str, shape: Shape, where: str, longest: int) -> Row:
    """The row as a prompt of source `name`, its texts cut to `longest` characters.

    Raises DataError "WHERE: what is wrong".
    """
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: expected an object with the keys prompt and kind, got {type(row).__name__}")
    columns = cast("Mapping[str, Any]", row)
    if shape.derive is not None:
        columns = {**columns, **shape.derive(columns, where)}
    if not _wanted(columns, shape, where):
        return Row(left_out=NOT_WANTED)
    found = _fields(columns, shape, where)
    if not found["kind"] and not shape.kind and not shape.strict:
        return Row(left_out="whether what it asks is harmful is not labelled")
    return _prompt(found, name, shape, where, longest)


def _prompt(found: Mapping[str, Any], name: str, shape: Shape, where: str, longest: int) -> Row:
    kind = found["kind"] or shape.kind
    if kind not in KINDS:
        said, or_ = (f"kind {kind!r}", ", or map it by `values`") if kind else ("no kind", "")
        raise DataError(f"{where}: {said}; expected harmful, twin or plain (or set the source's `kind`{or_})")
    asked, cuts = _asked(found["prompt"], where, shape, longest)
    texts: dict[str, str | None] = {}
    for key in ("reply", "rejected"):
        said = _said(found[key], asked if isinstance(found["prompt"], tuple) else None)
        if said is not None and len(said) > longest:
            cuts.append(Cut(where, key, len(said), longest))
            said = said[:longest]
        texts[key] = (said or "").strip() or None
    language = found["language"] or shape.language
    replied = bool(texts["reply"]) and (shape.answers or ("keep" if shape.trusted else "regenerate")) == "keep"
    _check(kind, found["hazard"], language, replied, where)
    prompt = tuple(asked if not cuts else _shortened(asked, longest))
    label = prompt[0].content if len(prompt) == 1 else [[m.role, m.content] for m in prompt]
    case = Case(
        id=f"{name}/{digest([label, kind])[:12]}",
        prompt=prompt,
        expect=expected(kind),
        source=name,
        split=Split.TRAIN,
        hazard=found["hazard"],
        language=language,
        licence=found["licence"] or shape.licence,
    )
    why = f"{kind} row of {name}" + (f" ({', '.join(cut.field for cut in cuts)} cut)" if cuts else "")
    if found["rejected"] and texts["rejected"] is None:
        why += " (its rejected reply belongs to another conversation, and is left out)"
    short = {cut.field for cut in cuts}
    return Row(
        Prompt(
            case, kind, why, reply=texts["reply"], rejected=texts["rejected"],
            reply_cut="reply" in short, rejected_cut="rejected" in short,
        ),
        tuple(cuts),
    )  # fmt: skip


def _asked(prompt: Conversation | str, where: str, shape: Shape, longest: int) -> tuple[Conversation, list[Cut]]:
    """What the model is shown, not yet cut, and the note of the cut that it needs."""
    asked = ask(prompt.strip()) if isinstance(prompt, str) else prompt
    while asked and asked[-1].role != "user":
        asked = asked[:-1]
    if not asked or not asked[-1].content.strip():
        column = shape.fields.get("prompt", "prompt")
        raise DataError(f"{where}: {column} is missing or empty; expected what is asked")
    size = len(prompt) if isinstance(prompt, str) else sum(len(message.content) for message in asked)
    return asked, [Cut(where, "prompt", size, longest)] if size > longest else []


def _shortened(asked: Conversation, longest: int) -> Conversation:
    """The last turns that fit; of the last user turn its beginning, where it alone does not."""
    kept: list[Message] = []
    room = longest
    for message in reversed(asked):
        if kept and len(message.content) > room:
            break
        kept.insert(0, replace(message, content=message.content[:room].strip()))
        room -= len(message.content)
    while kept[0].role == "assistant":
        kept.pop(0)
    return tuple(kept)


def _said(value: Conversation | str, asked: Conversation | None) -> str | None:
    """A reply: text, or the assistant's last turn of a conversation, if that is the one that was asked."""
    if isinstance(value, str):
        return value
    if not value or value[-1].role != "assistant":
        return None
    return value[-1].content if asked is None or value[:-1] == asked else None


# ---- columns -----------------------------------------------------------------------------------------------------


def _fields(row: Mapping[str, Any], shape: Shape, where: str) -> dict[str, Any]:
    needed = ("prompt",) if shape.kind or not shape.strict else ("prompt", "kind")
    found: dict[str, Any] = {}
    for name in FIELDS:
        column = shape.fields.get(name, name)
        if column == name and name in needed and name not in row:
            more = ", or set its `kind`" if name == "kind" else ""
            near = _near(name, list(map(str, row)), "")
            raise DataError(f"{where}: no column {name!r}; {near}; name it in the source's `fields`{more}")
        value = value_at(row, column, f" for {name}", where) if name in shape.fields else row.get(column)
        if name in TEXTS:
            found[name] = _text_or_turns(value, column, where)
        elif name in shape.values:
            found[name] = _translated(name, value, column, shape, where)
        else:
            found[name] = _text(value, column, where)
    if not found["prompt"] or (isinstance(found["prompt"], str) and not found["prompt"].strip()):
        raise DataError(f"{where}: {shape.fields.get('prompt', 'prompt')} is missing or empty; expected what is asked")
    return found


def value_at(row: Mapping[str, Any], column: str, use: str, where: str) -> Any:
    """A column's value, or what a dotted path ("info.turns.0.text") leads to. Raises DataError with what is near."""
    if column in row:
        return row[column]
    here: Any = row
    for done, part in enumerate(parts := column.split(".")):
        if isinstance(here, Mapping) and part in here:
            here = cast("Mapping[str, Any]", here)[part]
        elif isinstance(here, list) and part.isdigit() and int(part) < len(cast("list[Any]", here)):
            here = cast("list[Any]", here)[int(part)]
        elif done and here is None:  # a nested value that this row lacks
            return None
        else:
            known = list(map(str, cast("Mapping[str, Any]", here))) if isinstance(here, Mapping) else []
            raise DataError(f"{where}: no column {column!r}{use}; {_near(part, known, '.'.join(parts[:done]))}")
    return here


def _near(name: str, known: Sequence[str], inside: str) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {'.'.join(filter(None, (inside, close[0])))!r}? " if close else ""
    shown = ", ".join(known[:SHOWN]) + (f" and {len(known) - SHOWN} more" if len(known) > SHOWN else "")
    return f"{hint}{inside or 'the row'} has {shown or 'no columns'}"


def _wanted(row: Mapping[str, Any], shape: Shape, where: str) -> bool:
    for column, wanted in shape.where.items():
        value = _word(value_at(row, column, " of `where`", where))
        any_of = cast("Sequence[Any]", wanted if isinstance(wanted, tuple | list) else (wanted,))
        if value not in map(_word, any_of):
            return False
    return True


def _word(value: Any) -> str:
    """A value as it is compared: what CSV calls "True" JSON calls true."""
    return "" if value is None else " ".join(str(value).casefold().replace("_", " ").split())


def _translated(name: str, value: Any, column: str, shape: Shape, where: str) -> str:
    """Our word for theirs. Of several (a list, or names with true or false) the first that `values` lists decides."""
    known = {_word(theirs): ours for theirs, ours in shape.values[name].items()}
    carried = _carried(value)
    if (ours := next((ours for theirs, ours in known.items() if theirs in carried), None)) is not None:
        return ours
    if not carried or not shape.strict:
        return ""
    if isinstance(value, str):  # one of ours already, or refused by name later
        return value
    said = ", ".join(carried)[:60]
    raise DataError(f"{where}: {column} is {said!r}, which the source's `values` for {name} don't have; add it there")


def _carried(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        given: Iterable[Any] = (key for key, on in cast("Mapping[Any, Any]", value).items() if on)
    else:
        given = cast("list[Any]", value) if isinstance(value, list) else [value]
    return [word for one in given if (word := _word(one))]


def _text(value: Any, column: str, where: str) -> str:
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where}: {column} should be text, got {type(value).__name__}")
    if value and any("\ud800" <= character <= "\udfff" for character in value):
        raise DataError(f"{where}: {column} has half a character (a lone \\ud8xx escape); write it as UTF-8")
    return value or ""


# ---- conversations -----------------------------------------------------------------------------------------------


def _text_or_turns(value: Any, column: str, where: str) -> Conversation | str:
    if isinstance(value, list):
        turns = cast("list[Any]", value)
        return tuple(_turn(turn, f"{column}[{i}]", where) for i, turn in enumerate(turns))
    text = _text(value, column, where)
    return transcript(text) if text.startswith("\n\nHuman:") else text


def _turn(turn: Any, column: str, where: str) -> Message:
    if not isinstance(turn, Mapping):
        what = f"got a list of {type(turn).__name__}"
        raise DataError(f"{where}: {column.partition('[')[0]} should be text, or a list of role and content; {what}")
    keys = cast("Mapping[str, Any]", turn)
    role, content = keys.get("role", keys.get("from")), keys.get("content", keys.get("value"))
    if not isinstance(role, str) or role not in ROLES:
        raise DataError(f"{where}: {column} has the role {role!r}; expected {', '.join(ROLES)}")
    if content is None:
        raise DataError(f"{where}: {column} has no content; expected text")
    return Message(ROLES[role], _text(content, f"{column}.content", where).strip())


def transcript(text: str) -> Conversation:
    """Turns of "\\n\\nHuman: ... \\n\\nAssistant: ...". Turns of one speaker in a row are one."""
    parts = _TURN.split(text)
    turns: list[Message] = []
    for speaker, said in zip(parts[1::2], parts[2::2], strict=True):
        role: Role = "user" if speaker == "Human" else "assistant"
        if turns and turns[-1].role == role:
            turns[-1] = Message(role, f"{turns[-1].content}\n\n{said.strip()}".strip())
        else:
            turns.append(Message(role, said.strip()))
    return tuple(turns)


# ---- checks ------------------------------------------------------------------------------------------------------


def _check(kind: str, hazard: str, language: str, replied: bool, where: str) -> None:
    if hazard and hazard not in taxonomy.hazards():
        raise DataError(f"{where}: hazard {hazard!r} is not in the taxonomy; known are {', '.join(taxonomy.hazards())}")
    if not re.fullmatch(r"[a-z]{2,3}(-\w+)*", language):
        raise DataError(f"{where}: language {language!r} is not a code such as en or pt-BR")
    if kind == "harmful" and not replied and not has_safe_answers(language):
        known = ", ".join(sorted(safe_answers.load()))
        raise DataError(f"{where}: no safe answers in language {language!r}; give a reply, or use one of {known}")


def has_safe_answers(language: str) -> bool:
    return language.split("-")[0].lower() in safe_answers.load()
