"""What is sent to an OpenAI-compatible endpoint, and what its answers mean. No I/O.

An answer is text only where it is whole and says so; whatever else comes back is an error with its reason. A provider's
content filter is told apart from a model that refuses: such an error begins with FILTERED, and is no verdict on the
model. A server's own words go into an error only in part, on one line, and not where they quote the conversation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, cast

from breakfix.config import Endpoint
from breakfix.core import Conversation, Reply, Sampling

FILTERED = "content filter"
# answered: the endpoint works, whatever it said of this row; denied: nobody is let in; the others may pass, and are
# tried again: busy (asks for less), late (no answer in time), away (no connection), broken (an error of the server's)
Kind = Literal["answered", "denied", "busy", "late", "away", "broken"]
LONGEST_WAIT = 300.0  # seconds that a server may ask us to wait; beyond them its rows fail
_STOPS = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence"})
_CUTS = frozenset({"length", "max_tokens"})
_DENIED = frozenset({401, 402, 403, 404})
_BROKEN = frozenset({408, 409, 425, 500, 502, 504})
_SHOWN = 160  # characters of a server's words


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one request. `wait`: seconds that the server asks for. `metered`: it said what it cost."""

    kind: Kind
    reply: Reply
    wait: float | None = None
    metered: bool = False


def failed(kind: Kind, why: str, wait: float | None = None) -> Outcome:
    return Outcome(kind, Reply("", finish="error", error=why), wait)


def refused(prompt: Conversation, endpoint: Endpoint, whole: bool = False) -> str | None:
    """Why this conversation can't be put to the endpoint; None where it can. `whole`: nothing is to be continued."""
    if not prompt:
        return "there is nothing to ask"
    if any(message.images for message in prompt):
        return "remote models are asked in text only, and this conversation has images"
    if prompt[-1].role == "assistant" and not (endpoint.prefill or whole):
        return "this endpoint can't continue a reply that was begun (prefill is not set for it in `endpoints`)"
    return None


def request(
    model: str, prompt: Conversation, sampling: Sampling, seed: int | None, endpoint: Endpoint, whole: bool = False
) -> bytes:
    """The JSON of a chat request. A last turn of the assistant's is continued, but where the `whole` is answered."""
    asked: dict[str, Any] = {
        **endpoint.body,
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in prompt],
        endpoint.length_key: sampling.max_new_tokens,
        "temperature": sampling.temperature,
    }
    if sampling.top_p != 1.0:
        asked["top_p"] = sampling.top_p
    if seed is not None and endpoint.seed:
        asked["seed"] = seed
    if prompt[-1].role == "assistant" and not whole:
        asked |= {"add_generation_prompt": False, "continue_final_message": True}
    return json.dumps(asked).encode()


def understand(
    status: int, headers: Mapping[str, str], body: bytes, prompt: Conversation, limit: int, now: datetime | None = None
) -> Outcome:
    """An HTTP answer to `prompt`. `limit`: tokens that were asked for; `now` for dates in Retry-After."""
    if status == 200:
        return _answer(_json(body), limit)
    said = _error(_json(body), prompt)
    why = f"HTTP {status}" + (f": {said.words}" if said.words else "")
    if said.filtered is not None and status in (400, 403):
        return failed("answered", f"{FILTERED}: the endpoint does not take the prompt{said.filtered}")
    if 300 <= status < 400:
        return failed("denied", f"HTTP {status}: the endpoint is elsewhere; give the address that it redirects to")
    if status in _DENIED or "insufficient_quota" in said.codes:
        return failed("denied", why)
    if status in (429, 503):
        wait = asked_wait(headers, now or datetime.now(UTC))
        if wait is not None and wait > LONGEST_WAIT:
            return failed("denied", f"{why}; the endpoint asks to wait {wait:.0f} seconds")
        return failed("busy", why, wait)
    return failed("broken" if status in _BROKEN else "answered", why)


def model_names(body: bytes) -> tuple[str, ...] | None:
    """Of an answer to /models; None where it is no such list."""
    rows = _at(_json(body), "data")
    if not isinstance(rows, list):
        return None
    names = [_at(row, "id") for row in cast("list[Any]", rows)]
    return tuple(name for name in names if isinstance(name, str) and name.isprintable())


def asked_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds of Retry-After (a number or an HTTP date), or of Azure's retry-after-ms; None where neither makes
    sense."""
    given = {name.lower(): value.strip() for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", given.get(name, "")):
            return float(given[name]) / unit
    try:
        date = parsedate_to_datetime(given.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds())


def _answer(body: Any, limit: int) -> Outcome:
    tokens_in, tokens_out = _tokens(body, "prompt_tokens"), _tokens(body, "completion_tokens")
    metered = tokens_in is not None and tokens_out is not None

    def reply(text: str, finish: Literal["stop", "length", "error"], error: str | None = None) -> Outcome:
        return Outcome("answered", Reply(text, tokens_in or 0, tokens_out or 0, finish, error), metered=metered)

    if not isinstance(body, dict):
        return reply("", "error", "the answer is not the JSON of a chat completion")
    choice = _at(body, "choices", 0)
    message, finish = _at(choice, "message"), _at(choice, "finish_reason")
    finish = finish if isinstance(finish, str | None) else "?"
    content, refusal = _at(message, "content"), _at(message, "refusal")
    if finish == "content_filter":
        return reply("", "error", f"{FILTERED}: the endpoint held back the reply{_categories(choice)}")
    if choice is None:
        error = _at(body, "error", "message")
        return reply("", "error", f"the answer has no choices{': an error instead' if error else ''}")
    if not isinstance(content, str):
        if not isinstance(refusal, str) or not refusal:
            return reply("", "error", f"the answer has no text (it ended with {_name(finish)})")
        content = refusal  # of models that refuse in a field of its own
    if finish in _CUTS:
        return reply(content, "length")
    if finish in _STOPS:
        return reply(content, "stop")
    if finish is None or finish == "":
        return reply(content, "length" if tokens_out is not None and tokens_out >= limit else "stop")
    return reply("", "error", f"the reply is not whole: it ended with {_name(finish)}")


@dataclass(frozen=True, slots=True)
class _Said:
    """A server's error: its words for people, its codes, and if a filter refused, which (else None)."""

    words: str
    codes: tuple[str, ...]
    filtered: str | None


def _error(body: Any, prompt: Conversation) -> _Said:
    error: Any = _at(body, "error")
    error = body if error is None else error
    inner = _at(error, "innererror")
    found = [_at(error, "code"), _at(error, "type"), _at(inner, "code")]
    codes = tuple(code for code in found if isinstance(code, str))
    filtered = FILTERED.replace(" ", "_") in codes or "ResponsibleAIPolicyViolation" in codes
    message = error if isinstance(error, str) else _at(error, "message") or _at(body, "detail")
    words = _words(message, prompt) if isinstance(message, str) else ""
    if not words and codes and re.fullmatch(r"\w{1,40}", codes[0]):
        words = codes[0]
    return _Said(words, codes, _categories(inner) if filtered else None)


def _words(message: str, prompt: Conversation) -> str:
    """On one line, not at length; "" where it repeats 16 characters of what was asked, which is not for messages."""
    line = " ".join("".join(c if c.isprintable() else " " for c in message[: 20 * _SHOWN]).split())
    asked = " ".join(" ".join(message.content for message in prompt).split())
    shown = line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"
    return "" if any(shown[i : i + 16] in asked for i in range(max(0, len(shown) - 15))) else shown


def _categories(value: Any) -> str:
    """(jailbreak, violence): those of Azure's filters that caught something."""
    results: Any = _at(value, "content_filter_result") or _at(value, "content_filter_results")
    if not isinstance(results, dict):
        return ""
    caught = [name for name, result in cast("dict[str, Any]", results).items() if _at(result, "filtered") is True]
    named = [name for name in caught if re.fullmatch(r"\w{1,40}", name)]
    return f" ({', '.join(named[:8])})" if named else ""


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _at(value: Any, *path: str | int) -> Any:
    """What is there in nested JSON, or None."""
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = cast("dict[str, Any]", value).get(step)
        elif isinstance(value, list) and isinstance(step, int) and len(cast("list[Any]", value)) > step:
            value = cast("list[Any]", value)[step]
        else:
            return None
    return value


def _tokens(body: Any, name: str) -> int | None:
    count = _at(body, "usage", name)
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 10**9 else None


def _name(finish: Any) -> str:
    """A finish reason, where it is one word."""
    return finish if isinstance(finish, str) and re.fullmatch(r"\w{1,40}", finish) else "no known reason"
