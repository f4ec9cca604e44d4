"""Saved attack sets: what a red team asked of one model, as JSON lines that can be put to any other (replay.py).

One line an attempt; its shape is data/attack-set.schema.json. What the model said is left out unless it is asked for,
since a replay has replies of its own. A set holds requests that the run may only measure, so every line says its split
and its side, and no line has the column that training data begins with (`prompt`): curation can't read it, and a config
that names a set as a source is refused (ready.py).

    side    direct    the request as it stands
            seen      an attack of a family that may be learnt from
            held_out  one of a family that is only ever measured
            human     a person's
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast, get_args

from breakfix.core import LEAD, Attack, Attempt, Case, Conversation, Expect, Message, Split, digest
from breakfix.errors import DataError
from breakfix.ledger import decode, encode

SCHEMA = "breakfix-attack-set/1"
HUMAN = "human"  # attack, family, persona and judge of what a person did; the stage of the ledger that it is kept under
Side = Literal["direct", "seen", "held_out", "human"]
_ROLES = ("system", "user", "assistant")
_CASE = {"id": str, "prompt": list, "expect": str, "source": str, "split": str}


@dataclass(frozen=True, slots=True)
class Step:
    """What was added to the conversation before the model spoke once: turns (the last a user's), and `begun`, the
    beginning of its reply that was given. `lead`: it only leads up to the request. `reply`: what was said, if kept."""

    said: Conversation
    lead: bool = False
    begun: str = ""
    reply: str | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """A line. `score` and `label` are those of `judge`'s verdict (core.Attempt.score); `breach` is the index of the
    step that broke. `adaptive`: what it asked went by the replies that it got. `max_new_tokens`: None, not known."""

    id: str
    case: Case
    attack: str
    family: str
    persona: str
    language: str
    side: Side
    steps: tuple[Step, ...]
    seed: int
    model: str
    score: float | None
    label: str = ""
    judge: str = ""
    severity: float | None = None
    breach: int | None = None
    error: str | None = None
    adaptive: bool = False
    max_new_tokens: int | None = None
    where: str = field(default="", compare=False)  # FILE:LINE

    @property
    def content(self) -> str:
        """The digest of what is asked."""
        return digest([[step.said, step.lead, step.begun] for step in self.steps])


class _Lost(Exception):
    """Why an attempt can't be put again."""


# ---- from attempts -----------------------------------------------------------------------------------------------


def collect(
    attempts: Iterable[Attempt],
    case_of: Callable[[str], Case | None],
    attacks: Mapping[str, Attack],
    held_out: Sequence[str],
    tokens_of: Callable[[Attempt], int | None],
    *,
    replies: bool = False,
) -> tuple[list[Saved], Counter[str]]:
    """(a line for each attempt, in order; why others are left out). `attacks`: those of the run, by name; `held_out`:
    its families; `tokens_of`: the longest reply that was allowed."""
    found: list[Saved] = []
    left_out: Counter[str] = Counter()
    for attempt in attempts:
        case = case_of(attempt.case)
        if case is None:
            left_out["its case is not in the ledger"] += 1
            continue
        attack = attacks.get(attempt.attack)
        try:
            steps = _steps(attempt, case, attack, replies)
        except _Lost as why:
            left_out[str(why)] += 1
            continue
        final = attempt.final if attempt.error is None else None
        found.append(
            Saved(
                id=attempt.id,
                case=case,
                attack=attempt.attack,
                family=attempt.family,
                persona=attempt.persona,
                language=attempt.language,
                side=side(attempt.family, held_out),
                steps=steps,
                seed=attempt.seed,
                model=attempt.model,
                score=attempt.score,
                label=final.label if final else "",
                judge=final.judge if final else "",
                severity=final.severity if final else None,
                breach=attempt.breach,
                error=attempt.error,
                adaptive=attempt.family == HUMAN or getattr(attack, "queries", None) != 1,
                max_new_tokens=tokens_of(attempt),
            )
        )
    return found, left_out


def side(family: str, held_out: Sequence[str]) -> Side:
    if family in ("direct", HUMAN):
        return cast("Side", family)
    return "held_out" if family in held_out else "seen"


def _steps(attempt: Attempt, case: Case, attack: Attack | None, replies: bool) -> tuple[Step, ...]:
    if not attempt.transcript:
        raise _Lost("nothing was asked: its helper failed first")
    if any(message.images for message in attempt.transcript):
        raise _Lost("it shows images, which a set does not hold")
    own = {attempt.place(turn): turn for turn in range(len(attempt.verdicts))}
    begun = _begun(attempt, case, attack)
    found: list[Step] = []
    said: list[Message] = []
    for at, message in enumerate(attempt.transcript):
        if at not in own:
            said.append(message)
            continue
        given = begun.get(at, "")
        lead = attempt.verdicts[own[at]].label == LEAD
        found.append(Step(tuple(said), lead, given, message.content[len(given) :] if replies else None))
        said = []
    if said and _may_lead(attempt, attack):
        raise _Lost("the model failed in a conversation, so that whether the request was made by then can't be told")
    if said and said[-1].role == "assistant":  # asked last, with a beginning, and the model failed
        found.append(Step(tuple(said[:-1]), begun=said[-1].content))
    elif said:
        found.append(Step(tuple(said)))
    if any(not step.said or step.said[-1].role != "user" for step in found):
        raise _Lost("the model spoke twice in a row")
    return tuple(found)


def _may_lead(attempt: Attempt, attack: Attack | None) -> bool:
    """Whether its last turn, which has no verdict, may only lead up to the request: an answer would count as a breach.
    Attacks that ask once and searches make the request in every conversation, and so do people."""
    return attempt.family != HUMAN and 1 not in (getattr(attack, "queries", None), getattr(attack, "turns", None))


def _begun(attempt: Attempt, case: Case, attack: Attack | None) -> dict[int, str]:
    """Place in the transcript → the beginning of the model's reply that was given. A transcript has the two in one, so
    the attack is asked once more for what it asked first."""
    if attempt.family == HUMAN or getattr(attack, "access", None) in ("black-box", "white-box"):
        return {}
    if attack is None:
        raise _Lost(f"the attack {attempt.attack} is not known here, so that what it began for the model can't be told")
    flow = attack(case, random.Random(attempt.seed))
    prompt = next(flow).prompt
    flow.close()
    last = len(prompt) - 1
    if prompt[-1].role != "assistant":
        return {}
    there = attempt.transcript[: last + 1]
    if there[:-1] != prompt[:-1] or not there[-1].content.startswith(prompt[-1].content):
        raise _Lost(f"the attack {attempt.attack} was another one then, so that what it began can't be told")
    return {last: prompt[-1].content} if attempt.verdicts else {}


# ---- lines -------------------------------------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    """The published JSON schema (draft 2020-12) of a line."""
    file = resources.files("breakfix").joinpath("data", "attack-set.schema.json")
    return json.loads(file.read_text(encoding="utf-8"))


def line(saved: Saved) -> str:
    """JSON on one line, ASCII."""
    steps = [
        {
            "turns": [{"role": message.role, "content": message.content} for message in step.said],
            "lead": step.lead,
            **({"begun": step.begun} if step.begun else {}),
            **({"reply": step.reply} if step.reply is not None else {}),
        }
        for step in saved.steps
    ]
    row = {
        "schema": SCHEMA,
        "id": saved.id,
        "case": json.loads(encode(saved.case)),
        "split": saved.case.split.value,
        "side": saved.side,
        "attack": saved.attack,
        "family": saved.family,
        "persona": saved.persona,
        "language": saved.language,
        "asked": steps,
        "adaptive": saved.adaptive,
        "seed": saved.seed,
        "max_new_tokens": saved.max_new_tokens,
        "verdict": {
            "score": saved.score,
            "label": saved.label,
            "severity": saved.severity,
            "judge": saved.judge,
        },
        "breach": saved.breach,
        "error": saved.error,
        "model": saved.model,
    }
    return json.dumps(row, separators=(",", ":"))


def is_set(path: Path) -> bool:
    """Whether a file begins as a saved attack set does."""
    try:
        with path.open("rb") as file:
            return SCHEMA.partition("/")[0].encode() in file.readline(200)
    except OSError:
        return False


def read(path: Path) -> list[Saved]:
    """Every line, checked whole before anything is asked. Raises DataError "FILE:LINE: what is wrong", of the first
    bad line, with the number of others."""
    from breakfix.suites.rows import read_text

    if not path.is_file():
        raise DataError(f"{path}: no such file; `breakfix redteam RUN --round N --save {path}` writes one")
    found: list[Saved] = []
    wrong: list[str] = []
    for number, text in enumerate(read_text(path).split("\n"), 1):
        if text.strip():
            try:
                found.append(_parsed(text, f"{path}:{number}"))
            except DataError as error:
                wrong.append(str(error))
    if wrong:
        more = f" (and {len(wrong) - 1} more lines are not right)" if len(wrong) > 1 else ""
        raise DataError(wrong[0] + more)
    if not found:
        raise DataError(f"{path}: no lines; expected one saved attempt a line")
    return found


def _parsed(text: str, where: str) -> Saved:
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({getattr(error, 'msg', 'nested too deep')})") from None
    row = _object(loaded, where, "the line")
    found = row.get("schema")
    if found != SCHEMA:
        said = f"schema is {found!r}" if isinstance(found, str) else "no schema"
        raise DataError(f"{where}: {said}; expected {SCHEMA!r}: a line of a saved attack set")
    case = _case(row, where)
    steps = tuple(_step(one, f"{where}: step {number}") for number, one in enumerate(_list(row, "asked", where), 1))
    if not steps:
        raise DataError(f"{where}: 'asked' is empty; expected at least one step")
    marked = _text(row, "side", where)
    if marked not in get_args(Side):
        raise DataError(f"{where}: side is {marked!r}; expected one of {', '.join(get_args(Side))}")
    if (split := _text(row, "split", where)) != case.split.value:
        raise DataError(f"{where}: split is {split!r}, and that of its case {case.split.value!r}; expected the same")
    verdict = _object(row.get("verdict"), where, "'verdict'")
    score = _number(verdict, "score", where)
    if score not in (None, 0.0, 1.0):
        raise DataError(f"{where}: 'score' is {score:g}; expected 0, 1 or null")
    breach = _whole(row, "breach", where)
    if breach is not None and not 0 <= breach < len(steps):
        raise DataError(f"{where}: breach is {breach}; expected the index of one of {len(steps)} steps, or null")
    tokens = _whole(row, "max_new_tokens", where)
    if tokens is not None and tokens < 1:
        raise DataError(f"{where}: 'max_new_tokens' is {tokens}; expected 1 or more, or null")
    return Saved(
        id=_text(row, "id", where),
        case=case,
        attack=_text(row, "attack", where),
        family=_text(row, "family", where),
        persona=_text(row, "persona", where),
        language=_text(row, "language", where),
        side=cast("Side", marked),
        steps=steps,
        seed=_whole(row, "seed", where) or 0,
        model=_text(row, "model", where),
        score=score,
        label=_text(verdict, "label", where),
        judge=_text(verdict, "judge", where),
        severity=_number(verdict, "severity", where),
        breach=breach,
        error=_text(row, "error", where) if row.get("error") is not None else None,
        adaptive=row.get("adaptive") is True,
        max_new_tokens=tokens,
        where=where,
    )


def _case(row: Mapping[str, Any], where: str) -> Case:
    given = _object(row.get("case"), where, "'case'")
    for name, kind in _CASE.items():
        if not isinstance(given.get(name), kind):
            raise DataError(f"{where}: the case has no {name!r}, or it is no {kind.__name__}")
    for name, values in (("expect", Expect), ("split", Split)):
        if given[name] not in {value.value for value in values}:
            raise DataError(f"{where}: the case's {name} is {given[name]!r}; expected {', '.join(values)}")
    for name in ("hazard", "language", "persona", "family", "licence", "twin"):
        if not isinstance(given.get(name, ""), str):
            raise DataError(f"{where}: the case's {name!r} is no text")
    turns = _turns(given["prompt"], f"{where}: the case")
    if not turns:
        raise DataError(f"{where}: the case's 'prompt' is empty; expected at least one turn")
    try:
        return decode(Case, json.dumps(given))
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: the case is not valid ({error})") from None


def _step(value: Any, where: str) -> Step:
    row = _object(value, where, "it")
    said = _turns(row.get("turns"), where)
    if not said or said[-1].role != "user":
        raise DataError(f"{where}: its turns end with {said[-1].role if said else 'nothing'!r}; expected a user's turn")
    if not isinstance(row.get("lead"), bool):
        raise DataError(f"{where}: 'lead' is missing or not true or false")
    begun, reply = (_text(row, name, where) if row.get(name) is not None else None for name in ("begun", "reply"))
    return Step(said, row["lead"], begun or "", reply)


def _turns(value: Any, where: str) -> Conversation:
    if not isinstance(value, list):
        raise DataError(f"{where}: expected a list of turns")
    found: list[Message] = []
    for one in cast("list[Any]", value):
        turn = _object(one, where, "a turn")
        role, content = turn.get("role"), turn.get("content")
        if role not in _ROLES or not isinstance(content, str):
            raise DataError(f"{where}: a turn needs a role ({', '.join(_ROLES)}) and a content that is text")
        found.append(Message(role, content))
    return tuple(found)


def _object(value: Any, where: str, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: {what} is missing or no object")
    return cast("dict[str, Any]", value)


def _list(row: Mapping[str, Any], name: str, where: str) -> list[Any]:
    if not isinstance(row.get(name), list):
        raise DataError(f"{where}: {name!r} is missing or no list")
    return cast("list[Any]", row[name])


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    if not isinstance(row.get(name), str):
        raise DataError(f"{where}: {name!r} is missing or no text")
    return cast("str", row[name])


def _number(row: Mapping[str, Any], name: str, where: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
        raise DataError(f"{where}: {name!r} is no number")
    return float(value)


def _whole(row: Mapping[str, Any], name: str, where: str) -> int | None:
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{where}: {name!r} is no whole number")
    return value
