"""How many rows of each kind, which ones, and in pairs: shares, balance over languages and hazards, prescriptions.

Why shares and not everything there is: too much safety data makes a model refuse safe requests (Safety-Tuned LLaMAs,
2309.07875; Phi-3 safety post-training, 2407.13833). The harmful share always holds; where twins or plain rows are
short, the other fills in, and where both are, there are fewer harmful rows.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from breakfix.config import Curate
from breakfix.core import Example, Vulnerability
from breakfix.curate.base import NO_PLAN, Plan, Prompt

MOST_EXTRA = 0.2  # prescriptions add at most this share to the twins, and to the plain rows
KIND_OF = {"harmful": "harmful", "twins": "twin", "plain": "plain"}  # the prescription's word → our kind
Cell = tuple[str, str, str]  # (hazard, source, ""), or ("", source, family)
Boost = Mapping[tuple[str, str], float]  # (hazard, language; "" is any) → rows prescribed


def sizes(curate: Curate, available: Mapping[str, int], extra: Mapping[str, int]) -> dict[str, int]:
    """Rows by kind: harmful ≤ curate.harmful, and the shares of the config as far as `available` allows.

    `extra` (by kind: twin, plain) adds to these two, up to MOST_EXTRA of each.
    """
    twins, plains = available.get("twin", 0), available.get("plain", 0)
    share = curate.harmful_share
    harmful = min(curate.harmful, available.get("harmful", 0), int((twins + plains) * share / (1 - share) + 1e-9))
    total = round(harmful / share)
    twin = min(twins, round(total * curate.twin_share))
    plain = min(plains, total - harmful - twin)
    twin = min(twins, total - harmful - plain)
    return {
        "harmful": harmful,
        "twin": min(twins, twin + min(extra.get("twin", 0), int(twin * MOST_EXTRA))),
        "plain": min(plains, plain + min(extra.get("plain", 0), int(plain * MOST_EXTRA))),
    }


def prescribed(
    vulnerabilities: Sequence[Vulnerability], plan: Plan = NO_PLAN
) -> dict[str, dict[tuple[str, str], float]]:
    """kind → (hazard, language) → rows, summed over the vulnerabilities; of several languages each has as many."""
    found = {kind: defaultdict[tuple[str, str], float](float) for kind in KIND_OF.values()}
    for v in vulnerabilities:
        spoken = plan.spoken(v.id, v.language)
        for word, count in v.prescription.items():
            for language in spoken if word in KIND_OF else ():
                found[KIND_OF[word]][v.hazard, language] += count / len(spoken)
    return {kind: dict(some) for kind, some in found.items()}


def added(vulnerabilities: Sequence[Vulnerability]) -> dict[str, int]:
    """Rows to put on top of the shares: twins against over-refusal, plain rows against lost capability and the like.

    The twins of harmful rows are no addition: they come with the share.
    """
    benign = [v for v in vulnerabilities if v.kind != "harmful_compliance"]
    return {
        "twin": sum(v.prescription.get("twins", 0) for v in benign),
        "plain": sum(v.prescription.get("plain", 0) for v in benign),
    }


def order(
    prompts: Sequence[Prompt],
    n: int,
    boost: Boost,
    rng: random.Random,
    *,
    used: Collection[str],
    prefer: Collection[str],
    weight: Mapping[str, float] = {},
    sampling: float = 1.0,
) -> list[Prompt]:
    """All prompts, so ordered that any first part is balanced: always the language, and in it the cell, that is
    furthest behind its weight.

    Languages weigh as much as they have prompts, to the power of `sampling` (XLM-R's alpha, 1911.02116); in a language
    its sources the square root of theirs times the source's `weight` (1 where none is given), and in a source its cells
    (hazards, or families where there is no hazard) the square root of theirs, so that neither the rich nor the poor
    drown; and what is prescribed for a hazard is added to its cells' share of `n`. Within a cell: what was not `used`
    in earlier rounds comes first, and of that the twins of `prefer` (harmful case ids); else as drawn.
    """
    cells: dict[str, dict[Cell, list[Prompt]]] = defaultdict(lambda: defaultdict(list))
    for prompt in prompts:
        case = prompt.case
        cells[case.language][case.hazard, case.source, "" if case.hazard else case.family].append(prompt)
    for language in sorted(cells):
        for key in sorted(cells[language]):
            rng.shuffle(cells[language][key])
            cells[language][key].sort(key=lambda p: (p.case.id in used, p.case.twin not in prefer), reverse=True)
    languages, weights = _weights(cells, n, boost, weight, sampling)
    taken, spoken, overall = Counter[tuple[str, Cell]](), Counter[str](), Counter[Cell]()
    found: list[Prompt] = []
    while cells:
        language = min(cells, key=lambda code: ((spoken[code] + 0.5) / languages[code], code))
        inside = cells[language]
        key = min(inside, key=lambda key: ((taken[language, key] + 0.5) / weights[language, key], overall[key], key))
        found.append(inside[key].pop())
        taken[language, key] += 1
        overall[key] += 1
        spoken[language] += 1
        if not inside[key]:
            del inside[key]
        if not inside:
            del cells[language]
    return found


def _weights(
    cells: Mapping[str, Mapping[Cell, Sequence[Prompt]]],
    n: int,
    boost: Boost,
    weight: Mapping[str, float],
    sampling: float,
) -> tuple[dict[str, float], dict[tuple[str, Cell], float]]:
    """(language → weight, cell → weight): the expected rows of each, which is all that their ratios need."""
    size = {language: sum(map(len, inside.values())) ** sampling for language, inside in cells.items()}
    total, weights = sum(size.values()), dict[tuple[str, Cell], float]()
    for language, inside in cells.items():
        hazards = Counter(key[0] for key in inside)
        rows, roots = Counter[str](), defaultdict[str, float](float)
        for key, some in inside.items():
            rows[key[1]] += len(some)
            roots[key[1]] += math.sqrt(len(some))
        sources = {name: math.sqrt(rows[name]) * weight.get(name, 1.0) for name in rows}
        for key, some in inside.items():
            of_source = sources[key[1]] / sum(sources.values())
            share = n * size[language] / total * of_source * math.sqrt(len(some)) / roots[key[1]]
            asked = boost.get((key[0], language), 0) + boost.get((key[0], ""), 0) * size[language] / total
            weights[language, key] = share + asked / hazards[key[0]] if n else 1.0
    languages = {language: sum(weights[language, key] for key in inside) for language, inside in cells.items()}
    return languages, weights


def replay(earlier: Sequence[Example], n: int, rng: random.Random, first: Mapping[str, Example] = {}) -> list[Example]:
    """A sample of rows that earlier rounds learnt from, so that a round does not unlearn them: n, or as many as there
    are of those that come `first` (id → row)."""
    distinct = [row for id, row in {example.id: example for example in earlier}.items() if id not in first]
    return [*first.values(), *rng.sample(distinct, min(max(0, n - len(first)), len(distinct)))]


def pairs(rows: Sequence[Example], most: int) -> list[Example]:
    """Preference pairs, harmful and benign in equal number and turn about, at most `most` in all: first come. Of the
    benign ones every other is plain, as long as there are both.

    One benign pair for each harmful one. With two, DPO undid in 24 steps what SFT had taught (LOG, 2026-11-25).
    """
    of = {kind: [row for row in rows if row.rejected and row.kind == kind] for kind in KIND_OF.values()}
    both = min(len(of["twin"]), len(of["plain"]))
    benign = [row for two in zip(of["twin"], of["plain"]) for row in two] + of["twin"][both:] + of["plain"][both:]
    n = min(len(of["harmful"]), len(benign), most // 2)
    return [row for pair in zip(of["harmful"][:n], benign[:n], strict=True) for row in pair]
