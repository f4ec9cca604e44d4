"""Composition: one attack inside another, named in a config by `outer+inner` (or `outer∘inner`).

Source: Wei et al. 2023, Jailbroken (2307.02483), "combination attacks", of two or three by hand. Ours: any two that ask
once. As in mathematics the right one acts first: `base64+role_play` puts the request into the role play, and all of
that into base64. A composition is a family of its own, of the same name, so that it is seen or held out by itself. One
query.

What one of the two can't be put to, the composition can't: NotApplicable comes through. The target is not told that
there are two. Around a translation the outer attack sees a case in that language, and the attempt is recorded in it.
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Mapping
from dataclasses import replace

from breakfix.campaign import language
from breakfix.core import Attack, Case, Conversation, canonical
from breakfix.errors import ConfigError
from breakfix.redteam.base import Access, OneQuery, Place


class Composition(OneQuery):
    """The outer attack on what the inner one asks. Its version changes with either's. Raises ConfigError."""

    def __init__(self, outer: OneQuery, inner: OneQuery) -> None:
        self.outer, self.inner = outer, inner
        self.name = self.family = f"{outer.name}+{inner.name}"
        self.doc = f"{_open(outer.doc)}; the request was first put through {inner.name}."
        self.source = ", ".join(dict.fromkeys((outer.source, inner.source)))
        low = outer.persona == inner.persona == "low-skilled"
        self.persona = "low-skilled" if low else "intermediate"
        self.access: Access = outer.access
        self.turns = outer.turns + inner.turns - 1
        self.place: Place = outer.place if outer.place == "outer" else inner.place
        if inner.place == "outer":
            raise ConfigError(
                f"attack {self.name!r}: what {inner.name!r} asks does not end with the request, so that nothing can be "
                f"put around it; {_other_way(outer, inner)}"
            )
        if outer.place == "inner":
            raise ConfigError(
                f"attack {self.name!r}: {outer.name!r} needs the request's own words, which {inner.name!r} changes; "
                f"{_other_way(outer, inner)}"
            )

    @property
    def version(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]  # of texts that are read once used
        return self.outer.version + self.inner.version

    def put(self, case: Case, rng: random.Random) -> Conversation:
        return self.outer.put(self.within(case, rng), rng)

    def within(self, case: Case, rng: random.Random) -> Case:
        """The case as the inner attack puts it, in the language that it is in then."""
        said = self.inner.put(case, rng)
        return replace(case, prompt=said, translations={}, language=language(case, said))


def is_composed(name: str) -> bool:
    return "+" in canonical(name)


def composed(name: str, attacks: Mapping[str, Attack]) -> Composition:
    """The composition of that name. Raises ConfigError for a part that is not known, or can't be a part."""
    parts = canonical(name).split("+")
    if len(parts) != 2:
        raise ConfigError(f"attack {name!r}: {len(parts)} parts; a composition has two, such as base64+role_play")
    outer, inner = (_part(part, name, attacks) for part in parts)
    return Composition(outer, inner)


def _part(part: str, name: str, attacks: Mapping[str, Attack]) -> OneQuery:
    found = attacks.get(part)
    if found is None:
        near = difflib.get_close_matches(part, attacks, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "`breakfix redteam --list` shows what there is"
        raise ConfigError(f"attack {name!r}: no attack is named {part!r}; {hint}")
    if part == "direct":
        raise ConfigError(f"attack {name!r}: 'direct' changes nothing; name the other one's family alone")
    if not isinstance(found, OneQuery):
        raise ConfigError(f"attack {name!r}: {part!r} asks more than once; only attacks of one query can be composed")
    return found


def _other_way(outer: OneQuery, inner: OneQuery) -> str:
    fits = outer.place != "outer" and inner.place != "inner"
    return f"write {inner.name}+{outer.name}" if fits else "they can't be composed"


def _open(doc: str) -> str:
    return doc.rstrip(".")
