"""Rows of a kind from prompts: the untouched model and the policy are asked until enough of their replies will do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from breakfix.core import Case, Example, Model
from breakfix.curate import mint
from breakfix.curate.answers import EVASIVE, Asker, Reply
from breakfix.curate.augment import even
from breakfix.curate.base import NEVER_ASKED, Prompt
from breakfix.curate.mirror import is_script
from breakfix.curate.round import Round
from breakfix.curate.unclear import unclear

DECLINED = ("full", "partial", EVASIVE)
UNANSWERED = (*DECLINED, "degenerate")  # labels of a reply that a harmless request is asked again for
SPARE = 1.15  # more prompts are answered than rows wanted, for some replies will not do


def with_unclear(here: Round, plain: list[Example], rows: int) -> list[Example]:
    """The plain rows, with texts that nobody can read in place of the last: a share of all rows (see unclear.py)."""
    n = min(round(here.config.curate.unclear_share * rows), len(plain))
    sentences = [row.prompt[-1].content for row in plain if row.language == "en" and len(row.parents) == 1]
    made = unclear(n, sentences, here.rng("unclear"))
    here.put.extend(prompt.case for prompt in made)
    here.spare += n
    return [*plain[: len(plain) - n], *(prompt.example(prompt.reply or "", None) for prompt in made)]


def fill(here: Round, kind: str, ordered: Sequence[Prompt], n: int) -> list[Example]:
    """Mint rows from the first prompts on, until there are n or the prompts are used up."""
    rng, rows, at, sifted = here.rng(f"mint {kind}"), list[Example](), 0, here.order.minted()
    while len(rows) < n and at < len(ordered):
        batch = _off_walls(here, ordered[at : at + math.ceil((n - len(rows)) * SPARE)])
        replies = _replies(here, kind, batch, at)
        if kind == "harmful":
            some, dropped = mint.harmful(batch, replies, here.judge, rng, _refusals(here, batch, at))
        else:
            some, dropped = mint.benign(batch, replies, here.judge, rng)
        some, copies = sifted(some)
        rows.extend(some)
        here.dropped.extend([*dropped, *copies])
        at += len(batch)
    here.spare += max(0, len(rows) - n)
    return even(rows, n, ordered[:n])


def _off_walls(here: Round, batch: Sequence[Prompt]) -> list[Prompt]:
    """The prompts, bare again where a frame brought them too near to what is measured."""
    places = [i for i, prompt in enumerate(batch) if prompt.case.id in here.wrap.bare]
    near = {places[hit.row] for hit in here.clean.overlaps([batch[i].draft for i in places])}
    why = "in this frame it overlaps what is measured"
    found = [here.wrap.unwrapped(here.wrap.bare[p.case.id], why) if i in near else p for i, p in enumerate(batch)]
    here.put.extend(prompt.case for prompt in found if prompt.case.id in here.wrap.bare)
    return found


def _replies(here: Round, kind: str, batch: Sequence[Prompt], at: int) -> dict[str, Reply]:
    """The untouched model's replies that minting needs: all benign ones, and of the harmful those that become pairs,
    or come after turns that it is to answer."""
    asked = [p for p in batch if p.reply is None]
    if kind == "harmful":
        paired = {p.case.id for p in _of_pairs(here, batch, at) if p.rejected is None}
        asked = [p for p in batch if p.case.id in paired or is_script(p.case.prompt)]
    replies = _asker(here, here.model).replies([p.case for p in asked], here.config.curate.reply_tokens)
    here.labels.update(f"{kind}: {reply.label}" for reply in replies.values())
    return replies if kind == "harmful" else replies | _answers(here, kind, [p.case for p in asked], replies)


def _answers(here: Round, kind: str, cases: Sequence[Case], replies: Mapping[str, Reply]) -> dict[str, Reply]:
    """Sampled answers to harmless requests that the untouched model refused, or had nothing sound to say to."""
    n, left = here.config.curate.answers, [c for c in cases if c.id in replies and replies[c.id].label in UNANSWERED]
    if not n or not left:
        return {}
    found = _asker(here, here.model).answers(left, n, here.config.curate.reply_tokens)
    here.labels.update({f"{kind}: answered when asked again": len(found)})
    refused = {id: reply for id, reply in replies.items() if reply.label in DECLINED}
    here.natives.update(found.keys() & refused.keys())
    return {id: replace(reply, instead=refused.get(id)) for id, reply in found.items()}


def _of_pairs(here: Round, batch: Sequence[Prompt], at: int) -> list[Prompt]:
    """The harmful prompts that may become pairs: the first, but those that no model is asked."""
    dpo = here.config.train.dpo
    most = max(0, math.ceil(dpo.max_pairs / 2 * SPARE) - at) if dpo.enabled else 0
    return [prompt for prompt in batch[:most] if prompt.case.hazard not in NEVER_ASKED]


def _refusals(here: Round, batch: Sequence[Prompt], at: int) -> dict[str, Reply]:
    """Refusals of the policy's own, for harmful prompts that may become pairs."""
    n, cases = here.config.curate.on_policy, [p.case for p in _of_pairs(here, batch, at) if p.reply is None]
    if not n or here.policy is None or not cases:
        return {}
    found = _asker(here, here.policy()).refusals(cases, n)
    here.labels.update({"policy: declined in full": len(found), "policy: no sample would do": len(cases) - len(found)})
    return found


def _asker(here: Round, model: Model) -> Asker:
    return Asker(model, here.judge, here.ledger, here.number, here.config.seed, here.progress)
