"""JSON text to and from the frozen dataclasses of core.py, exactly: decode(type(x), encode(x)) == x.

Decoding is driven by the type hints, so a tuple comes back as a tuple and an enum as an enum, and a new noun needs no
code here. Text is ASCII, so that whatever a model emits (NUL, lone surrogates) survives any database; nan and the
infinities are kept, as Python writes them. A field that a stored row lacks takes its default (a field that was added
later); a field that the class lacks is an error (a field that was removed needs a migration).
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar, cast

T = TypeVar("T")
Decoder = Callable[[Any], Any]


def encode(value: Any) -> str:
    """JSON text of a dataclass, or of plain JSON values with dataclasses in them. TypeError for anything else."""
    return _ENCODER.encode(value)


def decode(kind: type[T], text: str) -> T:
    """The `kind` that `encode` wrote. ValueError names the class and field that do not fit."""
    return cast(T, _decoder(kind)(json.loads(text)))


def _plain(value: Any) -> Any:
    if (fields := _fields(value.__class__)) is not None:
        names, get = fields
        return dict(zip(names, get(value), strict=True))
    if isinstance(value, Mapping):
        return dict(cast("Mapping[Any, Any]", value))
    raise TypeError(f"not JSON-able: {type(value).__name__}")


_ENCODER = json.JSONEncoder(default=_plain, separators=(",", ":"), check_circular=False)  # frozen: no circles


@cache
def _fields(kind: type) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]] | None:
    """(names, how to read all of them at once) of a dataclass; None for any other class."""
    if not dataclasses.is_dataclass(kind):
        return None
    names = _names(kind)
    return names, attrgetter(*names) if len(names) > 1 else lambda value: tuple(getattr(value, x) for x in names)


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind))


@cache
def _decoder(kind: Any) -> Decoder:
    """How to read a value of type `kind` from plain JSON. TypeError for a hint that JSON can't carry exactly."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind in (Any, str, int, float, bool, types.NoneType) or origin is typing.Literal:
        return _same
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _record(kind)
    if origin is tuple:
        return _tuple(inner)
    if origin in (typing.Union, types.UnionType):
        return _union(kind, inner)
    if origin in (dict, Mapping) and inner[0] is str:
        return _mapping(_decoder(inner[1]))
    if origin in (list, Sequence):
        return _list(_decoder(inner[0]))
    raise TypeError(f"the ledger has no way to store a {kind}")


def _same(raw: Any) -> Any:
    return raw


def _record(kind: type) -> Decoder:
    hints = typing.get_type_hints(kind)
    readers = {name: _decoder(hints[name]) for name in _names(kind)}

    def read(raw: Any) -> Any:
        if not isinstance(raw, dict):
            raise ValueError(f"{kind.__name__}: expected an object, found {type(raw).__name__}")
        row = cast("dict[str, Any]", raw)
        unknown = row.keys() - readers.keys()
        if unknown:
            raise ValueError(f"{kind.__name__} has no field {sorted(unknown)[0]!r}")
        return kind(**{name: readers[name](value) for name, value in row.items()})

    return read


def _tuple(inner: tuple[Any, ...]) -> Decoder:
    if len(inner) == 2 and inner[1] is Ellipsis:
        item = _decoder(inner[0])
        return tuple if item is _same else lambda raw: tuple([item(x) for x in raw])
    items = [_decoder(x) for x in inner]
    return lambda raw: tuple([item(x) for item, x in zip(items, raw, strict=True)])


def _union(kind: Any, inner: tuple[Any, ...]) -> Decoder:
    readers = [_decoder(x) for x in inner if x is not types.NoneType]
    if all(read is _same for read in readers):
        return _same
    if len(readers) > 1:  # JSON does not say which of them it was
        raise TypeError(f"the ledger has no way to store a {kind}")
    return lambda raw: None if raw is None else readers[0](raw)


def _mapping(item: Decoder) -> Decoder:
    return lambda raw: {key: item(value) for key, value in raw.items()}


def _list(item: Decoder) -> Decoder:
    return lambda raw: [item(x) for x in raw]
