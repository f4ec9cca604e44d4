"""One round of curation: sources and failures → steps → own replies → minted rows → the SFT mix and the DPO pairs.

Everything that is left out on the way is in the ledger with its step and reason. The rows are kept under (round, "sft")
and (round, "dpo"); a row that is wanted by both is one example.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from breakfix import assets
from breakfix.config import Config
from breakfix.core import Attack, Attempt, Case, Dropped, Example, Judge, Model, Status, Vulnerability
from breakfix.curate import alike, evidence, matched, mint, mix
from breakfix.curate.answers import Reply, answers, own_replies, refusals
from breakfix.curate.augment import Augment, counts, even
from breakfix.curate.base import KINDS, NO_PLAN, Plan, Progress, Prompt, through
from breakfix.curate.paraphrase import by_helper
from breakfix.curate.recovery import recover
from breakfix.curate.sources import Gathered, gather
from breakfix.curate.steps.decontaminate import Decontaminate
from breakfix.curate.steps.order import Order
from breakfix.curate.steps.text import conversation
from breakfix.curate.unclear import unclear
from breakfix.errors import DataError
from breakfix.ledger import Ledger

UNANSWERED = ("full", "partial", "degenerate")  # labels of a reply that a harmless request is asked again for
SPARE = 1.15  # more prompts are answered than rows wanted, for some replies will not do
SHOWN_CUTS = 50


def _asset(name: str) -> Path:
    return assets.resolve(name).path


@dataclass
class _Round:
    """What a round's curation works with, and what it has to tell."""

    config: Config
    ledger: Ledger
    model: Model
    judge: Judge
    number: int
    progress: Progress
    wrap: Augment
    clean: Decontaminate
    order: Order
    plan: Plan
    policy: Callable[[], Model] | None
    helper: Callable[[], Model] | None
    dropped: list[Dropped] = field(default_factory=list[Dropped])
    labels: Counter[str] = field(default_factory=Counter[str])
    spare: int = 0
    crowded: dict[str, int] = field(
        default_factory=dict[str, int]
    )  # kind → rows of failures that there was no room for
    natives: set[str] = field(default_factory=set[str])  # cases that the untouched model refused and then answered
    put: list[Case] = field(default_factory=list[Case])  # cases that curation made: wrapped ones, unreadable ones

    def rng(self, what: str) -> random.Random:
        return random.Random(f"{self.config.seed}/curate/{self.number}/{what}")


@dataclass(frozen=True)
class _Made:
    """What a round's curation made, and of what."""

    sft: Sequence[Example]
    pairs: Sequence[Example]
    open_: Sequence[Vulnerability]
    gathered: Gathered
    found: evidence.Evidence
    wanted: Mapping[str, int]  # kind → rows
    replayed: int
    recovered: Mapping[str, int]


def run(
    config: Config,
    ledger: Ledger,
    base_model: Model,
    judge: Judge,
    *,
    round: int,
    walls: Sequence[Case],
    not_checked: Sequence[Mapping[str, str]] = (),
    attacks: Sequence[Attack] = (),
    policy: Callable[[], Model] | None = None,
    helper: Callable[[], Model] | None = None,
    known: Sequence[Vulnerability] | None = None,
    plan: Plan = NO_PLAN,
    progress: Progress,
    resolve: Callable[[str], Path] = _asset,
) -> dict[str, Any]:
    """Make the round's data from the pool and from what round - 1 found; returns the stage's record.

    `known`: what round - 1 found, with people's edits; None takes the ledger's rows. `plan`: what a person changed of
    what it prescribes, besides numbers.
    `base_model` is the untouched one, `walls` every dev and frozen case that can be had, `not_checked` the suites that
    can't ({suite, reason}): with such the data is not called clean, though nothing may overlap. `attacks` are those of
    the seen families, which requests of the pool are put into beside our own wrappers; `policy` (opened where
    curate.on_policy is set) says refusals of its own, `helper` paraphrases. Raises DataError where the data is not
    valid, has no harmful or no harmless prompts, lacks a language of the plan, or still overlaps the walls at the end;
    AssetError.
    """
    learnt = round and config.curate.failures
    standing = ledger.vulnerabilities(round=round - 1) if known is None else known
    open_ = [v for v in (standing if learnt else []) if v.status is not Status.FIXED]
    longest = 4 * config.train.sft.max_length  # characters: about max_length tokens
    clean = Decontaminate(walls, ngram=config.curate.ngram, threshold=config.curate.near_duplicate)
    wrap = Augment(
        config.curate.wrapped_share, attacks, seed=f"{config.seed}/wrap/{round}", longest=longest,
        only=_wrappers(open_, plan),
    )  # fmt: skip
    order = Order(
        config.curate, walls, clean, resolve=resolve, seed=config.seed, threads=config.hardware.threads
    )  # fmt: skip
    here = _Round(config, ledger, base_model, judge, round, progress, wrap, clean, order, plan, policy, helper)
    gathered = gather(config.curate.sources, seed=config.seed, longest=longest, resolve=resolve)
    _require_languages(open_, plan, gathered.prompts)
    found = _failures(here, open_, gathered.prompts)
    prompts = _step(here, [*found.prompts, *gathered.prompts])
    rows, wanted, replayed = _rows(here, prompts, open_)
    rows, too_alike = alike.apart(rows, config.train.dpo.completion_tokens, config.curate.alike)
    here.dropped.extend(too_alike)
    first = sorted(rows, key=lambda row: not here.natives.intersection(row.parents))  # its own refusals before ours
    pairs = mix.pairs(first, config.train.dpo.max_pairs) if config.train.dpo.enabled else []
    rows, recovered = recover(rows, config.curate.recovery_share, here.rng("recovery"))
    sft = [*rows, *replayed]
    here.rng("shuffle").shuffle(sft)
    _refuse_overlap(sft, clean)
    made = _Made(sft, pairs, open_, gathered, found, wanted, len(replayed), recovered)
    _keep(here, made)
    return _record(here, made, not_checked)


def _failures(here: _Round, open_: Sequence[Vulnerability], pool: Sequence[Prompt]) -> evidence.Evidence:
    """What may be learnt from the evidence of open vulnerabilities."""
    attempts: Mapping[str, Attempt] = here.ledger.known([id for v in open_ for id in v.evidence])
    cases = {id: case for id in {a.case for a in attempts.values()} if (case := here.ledger.case(id)) is not None}
    found, reasons = here.rng("twins"), Counter[str]()

    def around(lessons: Sequence[evidence.Lesson]) -> evidence.Around:
        n, words = here.config.curate.neighbours, dict[str, str]()
        if n and here.helper is not None:
            texts = sorted(
                {case.text for lesson in lessons for case in lesson.both if case.hazard not in evidence.NEVER_ASKED}
            )
            said, refused = by_helper(texts, here.helper(), here.config.seed)
            reasons.update(refused)
            words = {text: other for text, other in zip(texts, said, strict=True) if other}
        return evidence.Around(n, here.wrap.frames, words, "translation" not in here.config.redteam.held_out)

    spoken, aside = _spoken(here, open_, attempts)
    made = evidence.collect(spoken, attempts, cases, pool, here.config.redteam, found, around)
    made.no_neighbour.update(reasons)
    made.barred.update(aside)
    return made


def _spoken(
    here: _Round, open_: Sequence[Vulnerability], attempts: Mapping[str, Attempt]
) -> tuple[list[Vulnerability], Counter[str]]:
    """The vulnerabilities without evidence in languages that the plan leaves out, and how much that was."""
    found, aside = list[Vulnerability](), Counter[str]()
    for v in open_:
        spoken = here.plan.languages.get(v.id)
        left = tuple(id for id in v.evidence if not spoken or id not in attempts or attempts[id].language in spoken)
        aside["its language is not among those prescribed"] += len(v.evidence) - len(left)
        found.append(replace(v, evidence=left) if len(left) < len(v.evidence) else v)
    return found, +aside


def _wrappers(open_: Sequence[Vulnerability], plan: Plan) -> dict[tuple[str, str], set[str]]:
    """(hazard, language) → kinds of frames, where the plan names some; of several vulnerabilities all."""
    found: dict[tuple[str, str], set[str]] = {}
    for v in open_:
        for language in plan.spoken(v.id, v.language) if v.id in plan.wrappers else ():
            found.setdefault((v.hazard, language), set()).update(plan.wrappers[v.id])
    return found


def _require_languages(open_: Sequence[Vulnerability], plan: Plan, pool: Sequence[Prompt]) -> None:
    """Raises DataError for a language of the plan that no row of the hazard is in."""
    for v in open_:
        there = sorted({p.case.language for p in pool if p.case.hazard == v.hazard})
        for language in plan.languages.get(v.id, ()):
            if language not in there:
                about = f"of hazard {v.hazard} " if v.hazard else ""
                raise DataError(
                    f"{plan.where.get(v.id, v.id)}: languages: curate.sources has no row {about}in {language!r}; "
                    + (f"expected some of {', '.join(there)}" if there else "take the entry out, or add such rows")
                )


def _step(here: _Round, prompts: list[Prompt]) -> list[Prompt]:
    """Put the prompts through every step, and keep what each takes out."""
    steps = here.order.steps
    for done, step in enumerate(steps):
        here.progress(f"curation step {step.name}", done, len(steps))
        prompts, dropped = through(step, prompts)
        here.dropped.extend(dropped)
    return prompts


def _rows(
    here: _Round, prompts: Sequence[Prompt], open_: Sequence[Vulnerability]
) -> tuple[list[Example], dict[str, int], list[Example]]:
    """The minted rows (first from failures, then balanced), how many were wanted by kind, and the replayed ones."""
    by_kind = {kind: [p for p in prompts if p.kind == kind] for kind in KINDS}
    _require(here, by_kind)
    extra = mix.added(open_)
    wanted = mix.sizes(here.config.curate, {kind: len(some) for kind, some in by_kind.items()}, extra)
    earlier = [e for r in range(1, here.number) for e in here.ledger.examples(round=r, dataset="sft")]
    fine = [e for e in _off_new_walls(here, earlier) if here.order.fine(e)]
    share = here.config.curate.replay if here.plan.replay is None else here.plan.replay
    again = _again(here, fine)
    replayed = {
        kind: mix.replay(
            [e for e in fine if e.kind == kind],
            int(wanted[kind] * share),
            here.rng(f"replay {kind}"),
            dict([(id, e) for id, e in again.items() if e.kind == kind][: wanted[kind]]),
        )
        for kind in KINDS
    }
    boost, used = mix.prescribed(open_, here.plan), {e.parents[0] for e in earlier}
    weight = {source.name: source.weight for source in here.config.curate.sources}
    chosen, short = set[str](), 0
    minted: dict[str, list[Example]] = {}
    for kind in KINDS:
        again = {conversation(e.prompt) for e in replayed[kind]}
        left = [p for p in by_kind[kind] if conversation(p.case.prompt) not in again]
        n = wanted[kind] - len(replayed[kind]) + (short if kind == "plain" else 0)
        failures = [p for p in left if len(p.parents) > 1]
        failures, here.crowded[kind] = failures[: (n + 1) // 2], max(0, len(failures) - (n + 1) // 2)
        rest = [p for p in left if len(p.parents) <= 1]
        ordered = mix.order(
            rest, n, boost[kind], here.rng(f"order {kind}"), used=used, prefer=chosen,
            weight=weight, sampling=here.config.curate.language_sampling,
        )  # fmt: skip
        minted[kind] = _fill(here, kind, [*failures, *here.wrap(ordered)], n)
        short = n - len(minted[kind])  # plain rows stand in for twins whose replies would not do
        chosen.update(parent for row in minted[kind] for parent in row.parents[:1])
    had = {kind: len(minted[kind]) + len(replayed[kind]) for kind in KINDS}
    final = mix.sizes(here.config.curate, had, extra)  # replies that would not do may have cost a kind some rows
    for kind in KINDS:
        keep = max(0, final[kind] - len(replayed[kind]))
        here.spare += len(minted[kind]) - min(keep, len(minted[kind]))
        minted[kind] = minted[kind][:keep]
    minted["plain"] = _with_unclear(here, minted["plain"], sum(map(len, minted.values())))
    return [row for kind in KINDS for row in minted[kind]], wanted, [e for kind in KINDS for e in replayed[kind]]


def _again(here: _Round, fine: Sequence[Example]) -> dict[str, Example]:
    """Id → the rows of earlier rounds that the plan wants once more, by vulnerability."""
    found: dict[str, Example] = {}
    for v, n in here.plan.again.items():
        made = [e for e in fine if v in e.parents]
        found |= {e.id: e for e in here.rng(f"again {v}").sample(made, min(n, len(made)))}
    return found


def _off_new_walls(here: _Round, earlier: Sequence[Example]) -> list[Example]:
    """Rows of earlier rounds, without those that overlap what is measured by now; these are noted."""
    rows = list({e.id: e for e in earlier}.values())
    hits = {hit.row: hit for hit in here.clean.overlaps([_prompt_only(e) for e in rows])}
    here.dropped.extend(
        Dropped(rows[i], here.clean.name, f"learnt in an earlier round, and now overlaps {hit.source} ({hit.rule})")
        for i, hit in hits.items()
    )
    return [e for i, e in enumerate(rows) if i not in hits]


def _with_unclear(here: _Round, plain: list[Example], rows: int) -> list[Example]:
    """The plain rows, with texts that nobody can read in place of the last: a share of all rows (see unclear.py)."""
    n = min(round(here.config.curate.unclear_share * rows), len(plain))
    sentences = [row.prompt[-1].content for row in plain if row.language == "en" and len(row.parents) == 1]
    made = unclear(n, sentences, here.rng("unclear"))
    here.put.extend(prompt.case for prompt in made)
    here.spare += n
    return [*plain[: len(plain) - n], *(prompt.example(prompt.reply or "", None) for prompt in made)]


def _require(here: _Round, by_kind: Mapping[str, Sequence[Prompt]]) -> None:
    names = ", ".join(source.name for source in here.config.curate.sources) or "none"
    if not by_kind["harmful"]:
        raise DataError(f"curate.sources ({names}): no harmful prompts are left after the steps; add a source of them")
    if not by_kind["twin"] and not by_kind["plain"]:
        what = "no twins and no plain prompts are left, and a model that learns refusals alone refuses everything"
        raise DataError(f"curate.sources ({names}): {what}; add a source of them, or `starter`")


def _fill(here: _Round, kind: str, ordered: Sequence[Prompt], n: int) -> list[Example]:
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


def _off_walls(here: _Round, batch: Sequence[Prompt]) -> list[Prompt]:
    """The prompts, bare again where a frame brought them too near to what is measured."""
    places = [i for i, prompt in enumerate(batch) if prompt.case.id in here.wrap.bare]
    near = {places[hit.row] for hit in here.clean.overlaps([batch[i].draft for i in places])}
    why = "in this frame it overlaps what is measured"
    found = [here.wrap.unwrapped(here.wrap.bare[p.case.id], why) if i in near else p for i, p in enumerate(batch)]
    here.put.extend(prompt.case for prompt in found if prompt.case.id in here.wrap.bare)
    return found


def _replies(here: _Round, kind: str, batch: Sequence[Prompt], at: int) -> dict[str, Reply]:
    """The untouched model's replies that minting needs: all benign ones, and of the harmful those that become pairs."""
    asked = [p for p in batch if p.reply is None]
    if kind == "harmful":
        asked = [p for p in _of_pairs(here, batch, at) if p.rejected is None]
    replies = own_replies(
        [p.case for p in asked],
        here.model,
        here.judge,
        here.ledger,
        round=here.number,
        tokens=here.config.curate.reply_tokens,
        seed=here.config.seed,
        progress=here.progress,
    )
    here.labels.update(f"{kind}: {reply.label}" for reply in replies.values())
    return replies if kind == "harmful" else replies | _answers(here, kind, [p.case for p in asked], replies)


def _answers(here: _Round, kind: str, cases: Sequence[Case], replies: Mapping[str, Reply]) -> dict[str, Reply]:
    """Sampled answers to harmless requests that the untouched model refused, or had nothing sound to say to."""
    n, left = here.config.curate.answers, [c for c in cases if c.id in replies and replies[c.id].label in UNANSWERED]
    if not n or not left:
        return {}
    found = answers(
        left,
        here.model,
        here.judge,
        here.ledger,
        n=n,
        round=here.number,
        tokens=here.config.curate.reply_tokens,
        seed=here.config.seed,
        progress=here.progress,
    )
    here.labels.update({f"{kind}: answered when asked again": len(found)})
    refused = {id: reply for id, reply in replies.items() if reply.label in ("full", "partial")}
    here.natives.update(found.keys() & refused.keys())
    return {id: replace(reply, instead=refused.get(id)) for id, reply in found.items()}


def _of_pairs(here: _Round, batch: Sequence[Prompt], at: int) -> list[Prompt]:
    """The harmful prompts that may become pairs: the first, but those that no model is asked."""
    dpo = here.config.train.dpo
    most = max(0, math.ceil(dpo.max_pairs / 2 * SPARE) - at) if dpo.enabled else 0
    return [prompt for prompt in batch[:most] if prompt.case.hazard not in evidence.NEVER_ASKED]


def _refusals(here: _Round, batch: Sequence[Prompt], at: int) -> dict[str, Reply]:
    """Refusals of the policy's own, for harmful prompts that may become pairs."""
    n, cases = here.config.curate.on_policy, [p.case for p in _of_pairs(here, batch, at) if p.reply is None]
    if not n or here.policy is None or not cases:
        return {}
    found = refusals(
        cases,
        here.policy(),
        here.judge,
        here.ledger,
        n=n,
        round=here.number,
        seed=here.config.seed,
        progress=here.progress,
    )
    here.labels.update({"policy: declined in full": len(found), "policy: no sample would do": len(cases) - len(found)})
    return found


def _refuse_overlap(rows: Sequence[Example], clean: Decontaminate) -> None:
    """The last look before anything is learnt: the prompts of the finished set against the walls."""
    left = {o.row: o for o in clean.overlaps([_prompt_only(row) for row in rows])}
    if left:
        first = next(iter(left.values()))
        row = rows[first.row].parents[0] if rows[first.row].parents else rows[first.row].id
        raise DataError(
            f"{len(left)} training rows overlap what is measured (first: {row} and {first.wall}, {first.rule}); "
            "nothing was trained. Take these rows out of the source, or the cases out of the suite"
        )


def _prompt_only(row: Example) -> Example:
    return Example(row.prompt, "", row.source, row.licence, row.why, row.kind, parents=row.parents)


def _keep(here: _Round, made: _Made) -> None:
    """Into the ledger: both sets, what was left out or cut on the way, and the cases that either comes from."""
    ledger, round = here.ledger, here.number
    named = {parent for row in (*made.sft, *(drop.example for drop in here.dropped)) for parent in row.parents}
    cases = chain((prompt.case for prompt in made.gathered.prompts), here.put)
    ledger.add_cases([case for case in cases if case.id in named])  # ends of their lineage
    ledger.add_drops(here.dropped, round=round)
    ledger.add_examples(made.sft, round=round, dataset="sft")
    ledger.add_examples(made.pairs, round=round, dataset="dpo")
    for cut in made.gathered.cuts[:SHOWN_CUTS]:
        ledger.add_event(round, "curate", "cut", asdict(cut))


def _record(here: _Round, made: _Made, not_checked: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    sft, gathered, found = made.sft, made.gathered, made.found
    drops = Counter((drop.step, drop.reason) for drop in here.dropped)
    told = here.order.report()  # tells decontamination's report, too
    return {
        "rows": {"sft": len(sft), "dpo": len(made.pairs)},
        "mix": _count(sft, lambda e: e.kind),
        "by_source": _count(sft, lambda e: e.source),
        "by_hazard": _count(sft, lambda e: e.hazard or "none"),
        "by_language": _count(sft, lambda e: e.language),
        "licences": _count(sft, lambda e: e.licence),
        "from_vulnerabilities": {v.id: sum(v.id in e.parents for e in sft) for v in made.open_},
        "dropped": [{"step": step, "reason": reason, "n": n} for (step, reason), n in drops.items()],
        "own_replies": dict(sorted(here.labels.items())),
        "spare": here.spare,
        "matched": matched.report(sft),
        "wrapped": counts(sft) | {"not": dict(here.wrap.skipped)},
        "wanted": made.wanted,
        "replayed": made.replayed,
        "cut": len(gathered.cuts),
        "left_out": {source: dict(reasons) for source, reasons in gathered.left_out.items()},
        "forms": gathered.forms,
        "decontamination": {
            **here.clean.report,
            "clean": None if not_checked else True,
            "not_checked": [dict(row) for row in not_checked],
        },
        "evidence": {
            "rows": len(found.prompts),
            **{name: dict(getattr(found, name)) for name in ("barred", "no_twin", "neighbours", "no_neighbour")},
            "no_room": {kind: n for kind, n in here.crowded.items() if n},
        },
        "recovery": made.recovered,
        **told,
    }


def _count(rows: Sequence[Example], key: Callable[[Example], str]) -> dict[str, int]:
    return dict(sorted(Counter(map(key, rows)).items()))
