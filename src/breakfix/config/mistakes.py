"""What a mistake in a configuration is called, in a user's words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from .section import Section

_UNKNOWN = ("extra_forbidden", "invalid_key")
_KEYS = "keys and values (or take it out)"
# what is expected, by pydantic's type of error; {names} are of the error's context
_EXPECTED = {
    "string_type": "text",
    "string_too_short": "text",
    "path_type": "a path",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "too_short": "at least one",
    "dict_type": _KEYS,
    "mapping_type": _KEYS,
    "model_type": _KEYS,
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "a name of small letters, digits and hyphens",
}


def plain(error: ValidationError, section: type[Section], above: str = "") -> str:
    """One line about the mistake that explains the others. `section`: what was validated; `above`: its key."""
    # a misspelt key explains a missing one; in a list that may be text instead, the wrong entry is what to name
    errors = sorted(error.errors(), key=lambda one: (one["type"] not in _UNKNOWN, -len(one["loc"])))
    first = errors[0]
    kind, key = first["type"], _key(above, first["loc"])
    if kind in _UNKNOWN:
        known = _known_keys(section, first["loc"][:-1])
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
        return f"unknown key {key!r}; {hint}"
    if kind == "missing":
        return f"{key} is missing"
    if kind == "value_error":
        return f"{key}: {first['msg'].removeprefix('Value error, ')}"
    # several: of a union's alternatives
    expected = [_expected(one) for one in errors if _key(above, one["loc"]) == key]
    return f"{key} is {_shown(first['input'])}; expected {' or '.join(dict.fromkeys(expected))}"


def _expected(error: Any) -> str:
    said = str(error["msg"]).removeprefix("Input should be ").removeprefix("Input should have ")
    known = _EXPECTED.get(str(error["type"]))
    return known.format(**error.get("ctx", {})) if known else said


def _shown(value: Any) -> str:
    """As the user wrote it, about; not at length."""
    if value is None:
        return "empty"
    if isinstance(value, Mapping):
        return "keys and values"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _key(above: str, location: tuple[Any, ...]) -> str:
    """curate.sources[0].name; the alternatives of a union, which pydantic names too, are left out."""
    parts = [part for part in location if part not in ("str", "tuple[str, ...]")]
    named = above + "".join(
        f"[{part}]" if isinstance(part, int) and place else f".{part}" for place, part in enumerate(parts)
    )
    return named.removeprefix(".") or "config"


def _known_keys(section: Any, location: tuple[Any, ...]) -> list[str]:
    for part in location:
        if isinstance(part, int):
            continue
        annotation = section.model_fields[part].annotation
        arguments = getattr(annotation, "__args__", ())
        section = arguments[0] if arguments else annotation
    return sorted(section.model_fields)
