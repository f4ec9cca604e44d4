"""What lies around a vulnerability: its dev cases in other words, in other wrappers, in other languages.

A model may learn a regression suite by heart, and be as weak beside it. Neighbours are never learnt from (they are of
stage identify, of which curate reads nothing), and come from the suite alone: the same in every round, so that rounds
pair.

    reworded     the request in other words, by rule, through the same attack
    rewrapped    the request through another attack of the same family, or of another one; harmful requests only
    LANGUAGE     the request in another language that the case has, through the same attack (translations: directly)

Only attacks that ask once: every further turn would be a batch of its own, of few rows. What only breaks over several
turns has no neighbourhood.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace

from breakfix.campaign import AsIs, Put, applies
from breakfix.core import Answer, Ask, Attack, Case, Conversation, Expect, Message, digest

Reword = Callable[[str, random.Random], str | None]
Within = Callable[[Case, random.Random], Case]
TRIES = 3  # rewordings that are tried for one


class Said:
    """A conversation that is asked as it stands, in place of an attack."""

    queries = 1
    uses_helper = False

    def __init__(self, name: str, family: str, persona: str, prompt: Conversation, language: str) -> None:
        self.name, self.family, self.persona, self.prompt, self.language = name, family, persona, prompt, language
        self.version = digest(prompt)[:16]

    def __call__(self, case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        yield Ask(self.prompt)

    def within(self, case: Case, rng: random.Random) -> Case:
        return replace(case, language=self.language)


class Beside:
    """An attack on a neighbour of the case it is put to. `within` where the neighbour is in another language."""

    uses_helper = False

    def __init__(self, attack: Attack, how: str, near: Case, speaks: str = "") -> None:
        self.attack, self.near = attack, near
        self.name = f"{attack.name}/{how}"
        self.family, self.persona = attack.family, attack.persona
        self.version = digest([getattr(attack, "version", 1), near.prompt])[:16]
        self.queries = 1
        inner: Within | None = getattr(attack, "within", None)

        def within(case: Case, rng: random.Random) -> Case:
            return inner(near, rng) if inner is not None else replace(case, language=speaks)

        self.within: Within | None = within if inner is not None or speaks else None

    def __call__(self, case: Case, rng: random.Random) -> Generator[Ask, Answer, None]:
        return self.attack(self.near, rng)


def neighbours(
    bases: Sequence[tuple[Case, str]],
    attacks: Mapping[str, Attack],
    reword: Reword,
    language: str,
    n: int,
    seed: str,
) -> list[Put]:
    """Up to `n` neighbours of (case, attack's name) pairs on dev cases, the kinds in turn, none of which is one of the
    pairs. `language`: the vulnerability's, "" for any; `seed` decides what is drawn. Fewer where no more are found."""
    taken = {(case.id, name) for case, name in bases}
    known = {AsIs.name: AsIs(), **attacks}
    usable = [(case, known[name]) for case, name in bases if name in known and _once(known[name])]
    ways = [
        _spread(usable, lambda case, attack, rng: _reworded(case, attack, reword, rng), f"{seed}/reworded"),
        _spread(usable, lambda case, attack, rng: _rewrapped(case, attack, attacks, taken, rng), f"{seed}/rewrapped"),
        _spread(usable, lambda case, attack, rng: _translated(case, attack, language, rng), f"{seed}/translated"),
    ]
    found: dict[tuple[str, str], Put] = {}
    while ways and len(found) < n:
        for way in list(ways):
            if (put := next(way, None)) is None:
                ways.remove(way)
            elif len(found) < n:
                found.setdefault((put.case.id, put.attack.name), put)
    return list(found.values())


Way = Callable[[Case, Attack, random.Random], Iterator[Beside]]


def _spread(usable: Sequence[tuple[Case, Attack]], way: Way, seed: str) -> Iterator[Put]:
    """The first neighbour of every base, in an order that is drawn, then the second of every base, and so on."""
    rng = random.Random(seed)
    bases = list(usable)
    rng.shuffle(bases)
    flows = [(case, way(case, attack, random.Random(f"{seed}/{case.id}/{attack.name}"))) for case, attack in bases]
    while flows:
        for one in list(flows):
            case, flow = one
            if (near := next(flow, None)) is None:
                flows.remove(one)
            else:
                yield Put(case, near)


def _reworded(case: Case, attack: Attack, reword: Reword, rng: random.Random) -> Iterator[Beside]:
    for _ in range(TRIES if case.language == "en" else 0):
        text = reword(case.text, rng)
        if text is not None:
            near = replace(case, prompt=(*case.prompt[:-1], Message("user", text)), translations={})
            if applies(attack, near):
                yield Beside(attack, f"reworded-{digest(text)[:4]}", near)


def _rewrapped(
    case: Case, attack: Attack, attacks: Mapping[str, Attack], taken: set[tuple[str, str]], rng: random.Random
) -> Iterator[Beside]:
    """Turn about: of the same family, of another one."""
    if case.expect is not Expect.REFUSE:  # a wrapper asks for rules to be broken: to refuse it is no over-refusal
        return
    names = sorted(
        name
        for name, other in attacks.items()
        if (case.id, name) not in taken and name not in (attack.name, AsIs.name) and _plain(other)
    )
    rng.shuffle(names)
    own = [attacks[name] for name in names if attacks[name].family == attack.family]
    others = [attacks[name] for name in names if attacks[name].family != attack.family]
    while own or others:
        for side in (own, others):
            while side:
                other = side.pop()
                if applies(other, case):
                    yield Beside(other, "rewrapped", case)
                    break


def _translated(case: Case, attack: Attack, language: str, rng: random.Random) -> Iterator[Beside]:
    codes = sorted(set(case.translations) - {language, case.language})
    rng.shuffle(codes)
    through = AsIs() if attack.family in (AsIs.family, "translation") else attack
    for code in codes:
        text = case.translations[code]
        near = replace(case, prompt=(*case.prompt[:-1], Message("user", text)), language=code, translations={})
        if applies(through, near):
            yield Beside(through, code, near, code)


def _once(attack: Attack) -> bool:
    return getattr(attack, "queries", None) == 1


def _plain(attack: Attack) -> bool:
    return _once(attack) and getattr(attack, "access", "black-box") == "black-box"
