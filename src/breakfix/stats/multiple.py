"""p values of several tests, adjusted for their number: compare the adjusted ones with 0.05 as they are."""

from __future__ import annotations

from collections.abc import Mapping


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """p values adjusted for their number (Holm 1979): compare each with 0.05 as it is. Same keys, same order."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, key in enumerate(sorted(p, key=lambda key: p[key])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[key]))
        adjusted[key] = highest
    return {key: adjusted[key] for key in p}


def benjamini_hochberg(p: Mapping[str, float]) -> dict[str, float]:
    """p values adjusted so that at most 5 % of what is below 0.05 is expected to be false (Benjamini, Hochberg 1995).

    For long lists to look into, not for decisions: Holm bounds the chance of a single false one.
    """
    adjusted: dict[str, float] = {}
    lowest = 1.0
    for rank, key in reversed([*enumerate(sorted(p, key=lambda key: p[key]), 1)]):
        lowest = min(lowest, len(p) / rank * p[key])
        adjusted[key] = lowest
    return {key: adjusted[key] for key in p}
