"""Which families meet which case, by what they broke so far: more is asked of those that break the model.

Source: Thompson 1933, "On the likelihood that one unknown probability exceeds another"; Sutton and Barto 2018,
Reinforcement Learning, 2.2, for ε-greedy. Ours: an arm is a family on its side (seen, held out), a win is an attempt
that broke its case, and the prior is uniform, Beta(1, 1). Cases come in groups, and the choices of a group are made
from the verdicts of the groups before it, all together, so that they go out in one batch. The attack within a family is
the one drawn least. What could not be scored teaches nothing.

The same cases, seed and verdicts give the same choices. They are noted in the ledger before they are asked, and a run
that was interrupted keeps to what it had chosen, though an attempt that had failed then should succeed now.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from breakfix.campaign import AsIs, Put, applies
from breakfix.core import Attack, Case

How = Literal["thompson", "epsilon-greedy"]
CASES = 8  # of a group
EPSILON = 0.1  # share of the choices that are drawn evenly
Found = Mapping[str, tuple[int, int]]  # family → how many of its attempts broke their case, how many did not


def choose(
    cases: Sequence[Case],
    attacks: Sequence[Attack],
    rng: random.Random,
    per_case: int,
    how: How,
    found: Found,
    drawn: Counter[str],
) -> list[Put]:
    """Puts in the order of the cases: each directly, then through `per_case` different attacks (all, if fewer apply),
    of as many families as there are. `drawn` counts attacks by name, and is brought up to date."""
    baseline: Attack = next((attack for attack in attacks if attack.name == AsIs.name), AsIs())
    puts: list[Put] = []
    for case in cases:
        puts.append(Put(case, baseline))
        left = [attack for attack in attacks if attack.name != AsIs.name and applies(attack, case)]
        here: Counter[str] = Counter()
        for _ in range(min(per_case, len(left))):
            fewest = min(here[attack.family] for attack in left)
            families = sorted({attack.family for attack in left if here[attack.family] == fewest})
            family = _best(families, rng, how, found)
            pick = min(
                (attack for attack in left if attack.family == family), key=lambda a: (drawn[a.name], rng.random())
            )
            left.remove(pick)
            here[family] += 1
            drawn[pick.name] += 1
            puts.append(Put(case, pick))
    return puts


def _best(families: Sequence[str], rng: random.Random, how: How, found: Found) -> str:
    if how == "epsilon-greedy" and rng.random() < EPSILON:
        return rng.choice(families)

    def promise(family: str) -> tuple[float, float]:
        broke, held = found.get(family, (0, 0))
        if how == "thompson":
            return rng.betavariate(1 + broke, 1 + held), 0.0
        return (1 + broke) / (2 + broke + held), rng.random()  # the mean; ties are drawn

    return max(families, key=promise)
