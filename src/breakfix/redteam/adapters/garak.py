"""garak's probes and buffs as attacks, by the package itself (breakfix[garak]).

Source: garak (Derczynski et al. 2024, 2406.11036), whose probes come from many papers. Ours: a probe that makes its
prompts of payloads (`garak.payloads`) is given the case's request in place of those that are texts, and nothing in
place of the others; one that makes them of an intent is given it as the intent; a buff is put to the request as it
stands. Of the prompts that come of it one is drawn. garak puts the payload into all of them, and looks for other things
in the replies; here the run's judge does. Probes that bring their own requests are no attacks on a case, and are left
out, as are multi-turn ones. BadCharacters (2106.09898) is asked for the one that is drawn, see `_bad_characters`. One
query.
"""

# pyright: basic, reportMissingImports=false

from __future__ import annotations

import contextlib
import importlib
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from breakfix.core import NotApplicable
from breakfix.redteam.adapters.base import (
    FAILS,
    KEY,
    MEDIA,
    MODEL,
    NETWORK,
    OTHER,
    OWN,
    PACKAGE,
    PLAIN,
    Adapted,
    Convert,
    Rewritten,
    first_line,
    importing,
    room,
    snake,
    tried,
)

THING = "puts code, addresses or words into its prompts, and no request"
PAYLOADS = ("payloads", "payload_name")  # the parameter of a probe that takes any
Prompts = Callable[[str], list[str]]


def read(family: str, source: str) -> Adapted:
    """All of the package's probes and buffs. Raises ImportError and AttributeError where it is another package."""
    attacks: dict[str, Rewritten] = {}
    left_out: Counter[str] = Counter()
    with importing(GARAK_LOG_FILE=os.devnull):
        from garak import _config, _plugins

        _config.load_base_config()
        for group, make in (("probes", _probe), ("buffs", _buff)):
            for path, _ in _plugins.enumerate_plugins(group):
                found = make(path, _plugins.plugin_info(path))
                if isinstance(found, str):
                    left_out[found] += 1
                    continue
                kind, convert = found
                why = tried(convert)
                if why is not None:
                    left_out[why] += 1
                    continue
                _, module, name = path.split(".")
                full = f"garak_{group.removesuffix('s')}_{module}_{snake(name)}"
                drawn = "one" if name in DRAWN else None
                attacks[full] = Rewritten(full, family, source, first_line(kind.__doc__, path), convert, drawn)
    return Adapted(attacks, dict(sorted(left_out.items())))


def _probe(path: str, info: dict[str, Any]) -> tuple[type, Convert] | str:
    """(class, how a request is put by it), or why it is no attack."""
    if set((info.get("modality") or {}).get("in") or ("text",)) != {"text"}:
        return MEDIA
    takes = any(name in (info.get("DEFAULT_PARAMS") or {}) for name in PAYLOADS)
    if not takes and not path.endswith("Intent"):
        return OWN
    kind = _class(path)
    if isinstance(kind, str):
        return kind
    from garak.probes.base import IntentProbe

    asked: dict[str, bool] = {}
    prompts = _of_intent(kind) if issubclass(kind, IntentProbe) else _of_payload(kind, asked)
    try:
        with room(0):
            one = prompts(PLAIN)
        with room(0):
            other = prompts(OTHER)
    except ImportError:
        return PACKAGE
    except Exception as error:
        if type(error) is LookupError:  # nltk's data, which it could not download
            return NETWORK
        return FAILS if all(asked.values()) else THING
    fixed = set(one) & set(other)
    if not set(one) - fixed:
        return OWN if all(asked.values()) else THING
    if kind.__name__ in DRAWN:
        return kind, DRAWN[kind.__name__](kind)
    slow = _drawn(prompts, fixed)
    return kind, _same_faster(kind, slow) if kind.__name__ in FASTER else slow


def _buff(path: str, info: dict[str, Any]) -> tuple[type, Convert] | str:
    if info.get("ENV_VAR"):
        return KEY
    kind = _class(path)
    if isinstance(kind, str):
        return kind
    if getattr(kind, "ENV_VAR", None):
        return KEY
    if any(base.__name__ == "HFCompatible" for base in kind.__mro__):
        return MODEL
    from garak.attempt import Attempt, Message

    def prompts(text: str) -> list[str]:
        made = kind().transform(Attempt(prompt=Message(text=text, lang="en")))
        return [found for attempt in made if (found := _text(attempt.prompt)) is not None]

    return kind, _drawn(prompts, set())


def _class(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(f"garak.{module}"), name)
    except ImportError:
        return PACKAGE


def _drawn(prompts: Prompts, fixed: set[str]) -> Convert:
    """One of the prompts that have the request in them."""

    def convert(text: str, rng: random.Random) -> str:
        with room(rng.getrandbits(32)):
            some = sorted(set(prompts(text)) - fixed)
        if not some:
            raise NotApplicable("garak_probes: it makes no prompt of this request")
        return rng.choice(some)

    return convert


def _bad_characters(kind: Any) -> Convert:
    """One of the variants that it makes, each as likely, by its own methods. Made as it makes them, all 2,400 to keep
    256, an attempt costs 40 ms; and which ones it keeps hangs on the order of a set, which another process has
    otherwise. Raises AttributeError where it is not as expected."""
    with room(0), _payload(PLAIN, {}):
        probe = kind()
    injected, swapped, homoglyphs = probe._inject_sequences, probe._apply_swaps, probe._generate_homoglyph_variants
    typed = probe._select_ascii(probe.max_ascii_variants)
    invisible = sys.modules[kind.__module__].DEFAULT_INVISIBLE

    def convert(text: str, rng: random.Random) -> str:
        at = probe._select_positions(len(text), probe.max_position_candidates)
        pairs = probe._select_positions(len(text) - 1, probe.max_reorder_candidates, include_endpoint=False)
        alike = [variant for variant, _ in homoglyphs(text)]
        ways: list[tuple[int, Callable[[], str]]] = [
            (len(at) * len(typed), lambda: injected(text, [(rng.choice(at), f"{rng.choice(typed)}\b")])),
            (len(at) * len(invisible), lambda: injected(text, [(rng.choice(at), rng.choice(invisible))])),
            (len(pairs) if len(text) > 1 else 0, lambda: swapped(text, (rng.choice(pairs),))),
            (len(alike), lambda: rng.choice(alike)),
        ]
        [make] = rng.choices([way for _, way in ways], weights=[n for n, _ in ways])
        return make()

    return convert


DRAWN: Mapping[str, Callable[[Any], Convert]] = {"BadCharacters": _bad_characters}


def _same_faster(kind: Any, slow: Convert) -> Convert:
    """FASTER's way for the class, where it makes what the class makes, else the class's own."""
    try:
        fast = _drawn(FASTER[kind.__name__](kind), set())
        alike = all(
            fast(text, random.Random(seed)) == slow(text, random.Random(seed))
            for text in (PLAIN, OTHER, PLAIN.upper())
            for seed in range(4)
        )
    except Exception:  # it is not built as expected
        return slow
    return fast if alike else slow


def _dra(kind: Any) -> Prompts:
    """The probe made once, and not with its files for each request. It asks of every word whether it is harmful, and
    logs each that it does not know (3 ms); those are told to it beforehand."""
    with room(0), _payload(PLAIN, {}):
        made = kind()

    def prompts(text: str) -> list[str]:
        probe = kind.__new__(kind)
        vars(probe).update(vars(made), letter_map=dict(made.letter_map), all_behaviors=[text])
        probe.moderation_cache = dict.fromkeys(text.split(), False) | made.moderation_cache
        return probe._generate_prompts()

    return prompts


def _zalgo(kind: Any) -> Prompts:
    """`zalgolib.enzalgofy` at this intensity, which draws each mark by a call of its own (1.3 ms for 5 templates)."""
    package = importlib.import_module("zalgolib.zalgolib")  # garak's own dependency
    up, mid, down = (
        ([mark.strip() for mark in marks], round(len(marks) * 5 / 100))
        for marks in (package.UP_MARKS, package.MID_MARKS, package.DOWN_MARKS)
    )
    drawn = [marks for marks, n in (down, up, mid) for _ in range(n)]  # in the order of its draws
    sizes = [float(len(marks)) for marks in drawn]
    order = [*range(down[1], len(drawn)), *range(down[1])]  # in that of its marks: up, mid, down
    templates, name = sys.modules[kind.__module__].TEMPLATES, kind.encoding_name

    def zalgo(text: str) -> str:
        draw, found = random.random, list[str]()
        for character in text:
            marks = [some[int(draw() * size)] for some, size in zip(drawn, sizes, strict=True)]
            found.append(character + "".join([marks[i] for i in order]))
        return "".join(found)

    def prompts(text: str) -> list[str]:
        text.encode()  # a text that is not one fails, as there
        return [t.replace("{encoding_name}", name).replace("{encoded_text}", zalgo(text)) for t in templates]

    return prompts


def _grandma(kind: Any) -> Prompts:
    """The 540 frames that it puts around the request without its first word, found once."""
    stub = PLAIN.partition(" ")[2]
    frames = [tuple(prompt.split(stub)) for prompt in _of_intent(kind)(PLAIN)]
    if any(len(frame) != 2 for frame in frames):
        raise ValueError(kind.__name__)

    def prompts(text: str) -> list[str]:
        stub = text.partition(" ")[2]
        return [f"{before}{stub}{after}" for before, after in frames]

    return prompts


FASTER: Mapping[str, Callable[[Any], Prompts]] = {"DRA": _dra, "InjectZalgo": _zalgo, "GrandmaIntent": _grandma}


def _of_payload(kind: Any, asked: dict[str, bool]) -> Prompts:
    """`asked` is added to: payloads that the probe takes, by name → whether they are texts."""
    kind = type(kind.__name__, (kind,), {"__module__": kind.__module__, "__doc__": kind.__doc__})
    tags = list(kind.tags)

    def prompts(text: str) -> list[str]:
        kind.tags = list(tags)  # some add to them whenever one is made
        with _payload(text, asked):
            return [found for prompt in kind().prompts if (found := _text(prompt)) is not None]

    return prompts


def _of_intent(kind: Any) -> Prompts:
    from garak.intents import TextStub

    def prompts(text: str) -> list[str]:
        stub = TextStub()
        stub.content = text
        made = kind.__new__(kind)._prompts_from_stub(stub)
        return [found for prompt in made if (found := _text(prompt)) is not None]

    return prompts


@contextlib.contextmanager
def _payload(text: str, asked: dict[str, bool]) -> Iterator[None]:
    """garak's payloads are this text where they are texts, and none where they are code, addresses or words."""
    import garak.payloads as package

    load = package.load

    def given(name: str) -> SimpleNamespace:
        if name not in asked:
            asked[name] = "Text" in load(name).types
        some = [text] if asked[name] else []
        return SimpleNamespace(name=name, payloads=some, intent=None, types=["Text"], lang="en")

    package.load = given
    try:
        yield
    finally:
        package.load = load


def _text(prompt: Any) -> str | None:
    """Of a prompt of one user turn; None of another (several turns, a picture)."""
    if isinstance(prompt, str):
        return prompt
    turns = getattr(prompt, "turns", None)
    if turns is not None:
        if len(turns) != 1:
            return None
        prompt = turns[0].content
    return prompt.text if getattr(prompt, "data_path", None) is None else None
