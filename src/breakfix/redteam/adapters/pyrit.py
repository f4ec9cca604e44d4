"""PyRIT's converters as attacks, by the package itself (breakfix[pyrit]).

Source: PyRIT (Lopez Munoz et al. 2024, 2410.02828), whose converters come from many papers. Ours: each class of
`pyrit.converter` that goes from text to text, with its default arguments or those of `GIVEN`; found by inspection and
tried on a plain sentence. What it needs is its own: no memory, target or event loop of PyRIT's is set up. One query.
"""

# pyright: basic, reportMissingImports=false

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import copy
import functools
import inspect
import random
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any

import yaml
from jinja2 import Environment

from breakfix.redteam.adapters.base import (
    ARGUMENTS,
    MEDIA,
    MODEL,
    PACKAGE,
    Adapted,
    Convert,
    Rewritten,
    first_line,
    importing,
    room,
    snake,
    tried,
)

GIVEN: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "CaesarConverter": {"": {"caesar_offset": 3}},
    "VigenereConverter": {"": {"key": "flour", "append_description": True}},
    "CodeChameleonConverter": {
        f"_{kind}": {"encrypt_type": kind} for kind in ("reverse", "binary_tree", "odd_even", "length")
    },
}


def read(family: str, source: str) -> Adapted:
    """All of the package's converters. Raises ImportError and AttributeError where it is another package."""
    attacks: dict[str, Rewritten] = {}
    left_out: Counter[str] = Counter()
    with importing():
        from pyrit.common.random_context import configure_random_seed, get_configured_random_seed

        for kind, arguments, name in _classes(left_out):
            convert = _converter(kind, arguments, configure_random_seed, get_configured_random_seed)
            why = tried(convert)
            if why is not None:
                left_out[why] += 1
                continue
            full = f"pyrit_converter_{name}"
            doc = first_line(kind.__doc__, kind.__name__)
            attacks[full] = Rewritten(full, family, source, doc, convert, dict(arguments))
    return Adapted(attacks, dict(sorted(left_out.items())))


def _classes(left_out: Counter[str]) -> Iterator[tuple[type, Mapping[str, Any], str]]:
    """(class, arguments, name) of what may be an attack; what can't be is counted."""
    import pyrit.converter as package

    for name in sorted(package.__all__):
        try:
            kind = getattr(package, name)
        except ImportError:
            left_out[PACKAGE] += 1
            continue
        if not inspect.isclass(kind) or not issubclass(kind, package.Converter) or inspect.isabstract(kind):
            continue
        why = _unfit(kind)
        if why is not None:
            left_out[why] += 1
            continue
        for ending, arguments in GIVEN.get(name, {"": {}}).items():
            yield kind, arguments, snake(name.removesuffix("Converter")) + ending


def _unfit(kind: Any) -> str | None:
    """Why a class can't be an attack, as far as it says so itself."""
    if "text" not in kind.SUPPORTED_INPUT_TYPES or tuple(kind.SUPPORTED_OUTPUT_TYPES) != ("text",):
        return MEDIA
    parameters = inspect.signature(kind).parameters
    if "converter_target" in parameters and parameters["converter_target"].default is not None:
        return MODEL
    needed = [p for p in parameters.values() if p.default is p.empty and p.kind is p.KEYWORD_ONLY]
    return ARGUMENTS if needed and kind.__name__ not in GIVEN else None


def _converter(kind: Any, arguments: Mapping[str, Any], configure: Any, configured: Any) -> Convert:
    seeded = "seed" in inspect.signature(kind).parameters

    def convert(text: str, rng: random.Random) -> str:
        seed = rng.getrandbits(32)
        before = configured()
        configure(seed=seed)
        try:
            with room(seed), _remembered():
                own = {"seed": seed} if seeded else {}
                result = finish(kind(**arguments, **own).convert_async(prompt=text, input_type="text"))
        finally:
            configure(seed=before)
        return str(result.output_text)

    return convert


_load, _compile, _parse, _to_thread = yaml.safe_load, Environment.compile, Environment.parse, asyncio.to_thread


@contextlib.contextmanager
def _remembered() -> Iterator[None]:
    """What converters read whenever they are made, YAML files and Jinja templates of their own, is parsed once: up to
    5 ms of CPU a request. The text is the key, so that what they come to is the same. What they would do in a thread,
    to keep an event loop free that nobody else uses, is done at once."""

    def load(stream: Any) -> Any:
        return copy.deepcopy(_loaded(stream if isinstance(stream, str) else stream.read()))

    def compiled(self: Environment, source: Any, *given: Any, **more: Any) -> Any:
        plain = isinstance(source, str) and not given and not more
        return _code(_Alike(self), source) if plain else _compile(self, source, *given, **more)

    def parsed(self: Environment, source: str, *given: Any, **more: Any) -> Any:
        return _parse(self, source, *given, **more) if given or more else _tree(_Alike(self), source)

    async def at_once(work: Any, /, *given: Any, **more: Any) -> Any:
        return contextvars.copy_context().run(work, *given, **more)

    yaml.safe_load, Environment.compile, Environment.parse, asyncio.to_thread = load, compiled, parsed, at_once
    try:
        yield
    finally:
        yaml.safe_load, Environment.compile, Environment.parse = _load, _compile, _parse
        asyncio.to_thread = _to_thread


@functools.lru_cache(maxsize=64)
def _loaded(text: str) -> Any:
    return _load(text)


@functools.lru_cache(maxsize=64)
def _code(alike: _Alike, source: str) -> Any:
    return _compile(alike.environment, source)


@functools.lru_cache(maxsize=64)
def _tree(alike: _Alike, source: str) -> Any:
    return _parse(alike.environment, source)


class _Alike:
    """An environment; equal are those that compile alike: of one kind, and all their settings, but for caches."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        plain = {str: 0, bool: 0, int: 0, type(None): 0}
        settings = ((name, value) for name, value in vars(environment).items() if type(value) in plain)
        self.key = (type(environment), environment.undefined, *environment.extensions, *settings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Alike) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Its result, out of an event loop of our own; in a thread of its own where this one's loop is running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        mine = threading.current_thread() is threading.main_thread()
        return _loop().run_until_complete(coroutine) if mine else _run(coroutine)
    found: list[Any] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            found.append(_run(coroutine))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return found[0]


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """The main thread's: to make one for each request costs as much as a request."""
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()
