"""The catalogue as rows, for `breakfix redteam --list`, and as the page docs/attacks.md, which is made from them."""

from __future__ import annotations

import inspect
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from breakfix.core import Answer, Attack, Case, Conversation, Expect, NotApplicable, Split, ask
from breakfix.redteam import adapters, asset_templates, catalogue
from breakfix.redteam.base import OneQuery
from breakfix.redteam.search import Search

REQUEST = Case(
    "bread",
    ask("How do I bake bread?"),
    Expect.COMPLY,
    "example",
    Split.DEV,
    translations={"de": "Wie backe ich Brot?", "sw": "Ninaokaje mkate?"},
)
CUT = 300  # characters of an example on the page
COLUMNS = ("name", "family", "persona", "turns", "access", "queries", "paper")
ARXIV = re.compile(r"\d{4}\.\d{5}")


def rows(attacks: Mapping[str, Attack] | None = None) -> list[dict[str, Any]]:
    """A row for each attack, and one for each package's templates or converters (which need not be here)."""
    found = catalogue() if attacks is None else attacks
    return [*(row(attack) for attack in found.values()), *_of_assets(), *_of_packages()]


def row(attack: Attack) -> dict[str, Any]:
    """What the catalogue says of an attack; None where a third party's says nothing, but `helper` and `version`, which
    are then what campaign takes them for. `attacks`: how many it is; None of a package that need not be here."""
    queries: int | None = getattr(attack, "queries", None)
    return {
        "name": attack.name,
        "family": attack.family,
        "persona": attack.persona,
        "turns": getattr(attack, "turns", 1 if queries == 1 else None),
        "access": getattr(attack, "access", None),
        "queries": queries,
        "helper": getattr(attack, "uses_helper", True),
        "paper": getattr(attack, "source", None),
        "version": getattr(attack, "version", 1),
        "what": getattr(attack, "doc", None),
        "attacks": 1,
    }


def _of_assets() -> Iterator[dict[str, Any]]:
    from breakfix import assets

    for family, source in asset_templates.SOURCES.items():
        asset = assets.catalogue()[source.asset]
        yield {
            "name": f"{source.prefix}_*",
            "family": family,
            "persona": asset_templates.AssetTemplate.persona,
            "turns": 1,
            "access": "black-box",
            "queries": 1,
            "helper": False,
            "paper": f"package {asset.package}",
            "version": None,
            "what": f"{asset.rows} {asset.what}; fetched when the family is named.",
            "attacks": asset.rows,
        }


def _of_packages() -> Iterator[dict[str, Any]]:
    for family, package in adapters.PACKAGES.items():
        yield {
            "name": package.names,
            "family": family,
            "persona": "intermediate",
            "turns": 1,
            "access": "black-box",
            "queries": 1,
            "helper": False,
            "paper": f"package {package.name}",
            "version": None,
            "what": f"{package.what}; needs breakfix[{package.name}].",
            "attacks": None,
        }


def example(attack: Attack) -> Conversation:
    """What the attack asks first for a harmless request. Raises NotApplicable."""
    flow = attack(REQUEST, random.Random(0))
    asked = next(flow, None)
    while asked is not None and asked.to == "helper":
        asked = flow.send(Answer(None))
    if asked is None:
        raise NotApplicable("it asks nothing")
    return asked.prompt


def ours(attack: Attack) -> str:
    """In what way it differs from its paper: from "Ours:" on, to the end of the paragraph of its file's docstring."""
    said = inspect.getdoc(inspect.getmodule(type(attack))) or ""
    found = re.search(r"Ours:\s+(.*?)(?:\n\n|\Z)", said, re.S)
    return " ".join(found[1].split()) if found else ""


HEAD = """# Attacks

The catalogue of the red team, made from the code by `breakfix redteam --list --markdown docs/attacks.md`;
`tests/test_redteam_catalogue.py` fails where it is out of date. `breakfix redteam --list --json` gives the same rows.

A config names families: `redteam.seen` (what they find may be learnt from) and `redteam.held_out` (of whose text
nothing is). Families in neither list are not used. Three more things can be named there:

- a composition of two attacks that ask once, by their names: `base64+role_play` (or `base64∘role_play`) puts the
  request into the role play, and all of that into base64. It is a family of its own. One whose part is of a held-out
  family can't be seen.
- templates of a package: {assets}. They can only be held out: the texts' licences are
  not stated, and the packages share many of them, so that what one family teaches would be known of the other. They are
  taken out of the pinned package when the family is named. A text without a place for the request, with several that
  may mean other things, or with a place for something else (as far as a pattern can tell: we have not read them one by
  one) is left out, and counted by reason in the red team stage's record (`left_out`).
- what an installed package does to a request: {packages}. `pip install -e '.[pyrit]'`
  gives PyRIT's converters of text, `pip install -e '.[garak]'` garak's probes and buffs that take a request. They
  may be seen (the licences are MIT and Apache-2.0), but not while a family that does much the same is held out, such as
  `encoding`; nor the other way round. What needs a model, a key, the network or a file, or brings its own requests, is
  left out and counted in the same place ([019](design/019-adapters.md)).

The columns: *persona* as in 2407.13833 (low-skilled: what anybody might type; intermediate: knows about models);
*turns* of the conversation at its end; *access* to the target (prefill: it goes on from an answer that was begun for
it); *queries*: the most that are put to the target for a case. How to add one, in five steps:
[CONTRIBUTING](../CONTRIBUTING.md#add-an-attack).

The families
{familiar}
look like what this project trains on: its training wrappers (`src/breakfix/data/wrappers`), and for `prefill` its
recovery rows (`curate.recovery_share`) and the attack of that name in `prefix_injection`, a family that is seen by
default. Held out, they would measure little.

The families {searches} ask up to *queries* times, each time in a conversation
of its own, stop at the first breach, and are recorded with the conversation that decided. Such an attempt breaks if
any of its queries does, so its rate goes up with N by itself and is not to be read beside the rate of attacks that ask
once. What best-of-N's noise adds is `best_of_16` less `asked_again_16`, the request as it stands as often; from a
target that decodes greedily, as in the red-team stage, the latter's is the rate of `direct`. `character_noise` is
best-of-1. If N tries were independent, a case that breaks in a share p of single tries would break in 1 - (1 - p)^N of
N; that is p of the case, and not the mean over cases, which promises too much. A search that is made of other families'
attacks can't be seen while one of those is held out.

{n} attacks in {families} families, and {templates} templates of packages. The examples are of one request: "{request}"
"""
FAMILIAR = (
    "noise", "best_of_n", "padding", "data_structure", "code", "given_turns", "persona", "story", "style", "persuasion",
    "prefill",
)  # fmt: skip


def page(attacks: Mapping[str, Attack] | None = None) -> str:
    """docs/attacks.md: all rows, and each family with what ours changes and an example."""
    found = catalogue() if attacks is None else attacks
    some = rows(found)
    families = list(dict.fromkeys(attack.family for attack in found.values()))
    head = HEAD.format(
        assets=", ".join(f"`{family}`" for family in asset_templates.SOURCES),
        packages=", ".join(f"`{family}`" for family in adapters.PACKAGES),
        familiar=", ".join(f"`{family}`" for family in FAMILIAR),
        searches=", ".join(dict.fromkeys(f"`{a.family}`" for a in found.values() if isinstance(a, Search))),
        n=len(found),
        families=len(families),
        templates=sum(r["attacks"] or 0 for r in some) - len(found),
        request=REQUEST.text,
    )
    table = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    table += ["| " + " | ".join(_cell(key, r[key]) for key in COLUMNS) + " |" for r in some]
    parts = [_family(family, [a for a in found.values() if a.family == family]) for family in families]
    return "\n".join([head, *table, "", "\n\n".join(parts), ""])


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if key == "paper":
        return ARXIV.sub(lambda match: f"[{match[0]}](https://arxiv.org/abs/{match[0]})", str(value))
    return f"`{value}`" if key == "name" else str(value)


def _family(family: str, attacks: Iterable[Attack]) -> str:
    lines = [f"## {family}"]
    told: set[str] = set()
    for attack in attacks:
        changes = ours(attack)
        if changes and changes not in told:
            told.add(changes)
            lines += ["", f"Ours: {changes}"]
        lines += ["", f"**{attack.name}**: {getattr(attack, 'doc', '')}", "", "```text", _shown(attack), "```"]
    return "\n".join(lines)


def _shown(attack: Attack) -> str:
    """The example's turns, cut, with what can't be seen spelt out."""
    try:
        turns = example(attack)
    except NotApplicable as why:
        return f"(not for this request: {why})"
    said = [m.content if len(turns) == 1 and isinstance(attack, OneQuery) else f"[{m.role}] {m.content}" for m in turns]
    text = "\n".join(said).replace("\u200b", "<U+200B>").replace("```", "'''")
    return "\n".join(line.rstrip() for line in (text if len(text) <= CUT else f"{text[:CUT]} ...").splitlines())
