"""Which attack meets which case, and which attack families may feed training.

Every case is put directly, and through `per_case` attacks drawn so that families come out even, however many attacks
a family has. Only attacks that apply to the case are drawn. The same cases, attacks and rng state give the same plan.
Draw one plan from the seen families and one from those held out: a round may learn only from the first.
"""

from __future__ import annotations

import difflib
import random
from collections import Counter
from collections.abc import Sequence

from breakfix.campaign import AsIs, Put, applies
from breakfix.core import Attack, Case
from breakfix.errors import ConfigError


def plan(cases: Sequence[Case], attacks: Sequence[Attack], rng: random.Random, per_case: int) -> list[Put]:
    """Puts in the order of the cases: each directly, then through `per_case` different attacks (all, if fewer apply).

    `direct` need not be among the attacks, and is not drawn. Families are evened out over all cases, then attacks
    within a family; ties are drawn.
    """
    baseline: Attack = next((attack for attack in attacks if attack.name == AsIs.name), AsIs())
    others = [attack for attack in attacks if attack.name != AsIs.name]
    drawn: Counter[str] = Counter()
    puts: list[Put] = []
    for case in cases:
        puts.append(Put(case, baseline))
        puts.extend(Put(case, attack) for attack in _draw(case, others, rng, per_case, drawn))
    return puts


def _draw(case: Case, attacks: Sequence[Attack], rng: random.Random, n: int, drawn: Counter[str]) -> list[Attack]:
    """Up to n attacks, from the families (then attacks) drawn least so far, at first of a family not yet on this case.

    `drawn` counts "family:NAME" and "attack:NAME", and is brought up to date.
    """
    here: Counter[str] = Counter()
    left = [attack for attack in attacks if applies(attack, case)]
    taken: list[Attack] = []
    while left and len(taken) < n:
        pick = min(
            left,
            key=lambda attack: (
                here[attack.family],
                drawn[f"family:{attack.family}"],
                drawn[f"attack:{attack.name}"],
                rng.random(),
            ),
        )
        left.remove(pick)
        taken.append(pick)
        here[pick.family] += 1
        drawn.update((f"family:{pick.family}", f"attack:{pick.name}"))
    return taken


def split_families(
    attacks: Sequence[Attack], seen: Sequence[str], held_out: Sequence[str]
) -> tuple[list[Attack], list[Attack]]:
    """The attacks of the seen families and those of the held-out ones. A family in neither list is not used.

    Raises ConfigError for a family that no attack has (with the nearest name), or that is in both lists.
    """
    known = sorted({attack.family for attack in attacks})
    for family in (*seen, *held_out):
        if family not in known:
            near = difflib.get_close_matches(family, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise ConfigError(f"attack family {family!r} is not known; {hint}")
    if both := sorted(set(seen) & set(held_out)):
        raise ConfigError(f"attack family {both[0]!r} is both seen and held out; take it out of one of the two lists")
    return [a for a in attacks if a.family in seen], [a for a in attacks if a.family in held_out]
