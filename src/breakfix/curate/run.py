"""One round of curation: sources and failures → steps → own replies → minted rows → the SFT mix and the DPO pairs.

Everything that is left out on the way is in the ledger with its step and reason. The rows are kept under (round, "sft")
and (round, "dpo"); a row that is wanted by both is one example.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from breakfix import assets
from breakfix.config import Config
from breakfix.core import Attack, Attempt, Case, Dropped, Example, Judge, Model, Status, Vulnerability
from breakfix.curate import alike, evidence, mix
from breakfix.curate.augment import Augment
from breakfix.curate.base import KINDS, NEVER_ASKED, NO_PLAN, Plan, Progress, Prompt, through
from breakfix.curate.filling import fill, with_unclear
from breakfix.curate.on_topic import OnTopic
from breakfix.curate.paraphrase import by_helper
from breakfix.curate.record import Made, keep, record
from breakfix.curate.recovery import recover
from breakfix.curate.round import Round
from breakfix.curate.sources import gather
from breakfix.curate.steps.decontaminate import Decontaminate
from breakfix.curate.steps.order import Order
from breakfix.curate.steps.text import conversation
from breakfix.errors import DataError
from breakfix.ledger import Ledger


def _asset(name: str) -> Path:
    return assets.resolve(name).path


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
    here = Round(config, ledger, base_model, judge, round, progress, wrap, clean, order, plan, policy, helper)
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
    made = Made(sft, pairs, open_, gathered, found, wanted, len(replayed), recovered)
    keep(here, made)
    return record(here, made, not_checked)


def _failures(here: Round, open_: Sequence[Vulnerability], pool: Sequence[Prompt]) -> evidence.Evidence:
    """What may be learnt from the evidence of open vulnerabilities."""
    attempts: Mapping[str, Attempt] = here.ledger.known([id for v in open_ for id in v.evidence])
    cases = {id: case for id in {a.case for a in attempts.values()} if (case := here.ledger.case(id)) is not None}
    found, reasons = here.rng("twins"), Counter[str]()

    def around(lessons: Sequence[evidence.Lesson]) -> evidence.Around:
        n, words = here.config.curate.neighbours, dict[str, str]()
        if n and here.helper is not None:
            texts = sorted({case.text for lesson in lessons for case in lesson.both if case.hazard not in NEVER_ASKED})
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
    here: Round, open_: Sequence[Vulnerability], attempts: Mapping[str, Attempt]
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


def _step(here: Round, prompts: list[Prompt]) -> list[Prompt]:
    """Put the prompts through every step, and keep what each takes out."""
    steps = here.order.steps
    for done, step in enumerate(steps):
        here.progress(f"curation step {step.name}", done, len(steps))
        prompts, dropped = through(step, prompts)
        here.dropped.extend(dropped)
    return prompts


def _rows(
    here: Round, prompts: Sequence[Prompt], open_: Sequence[Vulnerability]
) -> tuple[list[Example], dict[str, int], list[Example]]:
    """The minted rows (first from failures, then balanced), how many were wanted by kind, and the replayed ones."""
    by_kind = {kind: [p for p in prompts if p.kind == kind] for kind in KINDS}
    _require(here, by_kind)
    if here.config.curate.on_topic:
        here.wrap.frames.append(OnTopic(prompts, here.config.curate.on_topic))
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
        minted[kind] = fill(here, kind, [*failures, *here.wrap(ordered)], n)
        short = n - len(minted[kind])  # plain rows stand in for twins whose replies would not do
        chosen.update(parent for row in minted[kind] for parent in row.parents[:1])
    had = {kind: len(minted[kind]) + len(replayed[kind]) for kind in KINDS}
    final = mix.sizes(here.config.curate, had, extra)  # replies that would not do may have cost a kind some rows
    if not any(final.values()):
        raise DataError(_nothing_left(here))
    for kind in KINDS:
        keep = max(0, final[kind] - len(replayed[kind]))
        here.spare += len(minted[kind]) - min(keep, len(minted[kind]))
        minted[kind] = minted[kind][:keep]
    minted["plain"] = with_unclear(here, minted["plain"], sum(map(len, minted.values())))
    return [row for kind in KINDS for row in minted[kind]], wanted, [e for kind in KINDS for e in replayed[kind]]


def _again(here: Round, fine: Sequence[Example]) -> dict[str, Example]:
    """Id → the rows of earlier rounds that the plan wants once more, by vulnerability."""
    found: dict[str, Example] = {}
    for v, n in here.plan.again.items():
        made = [e for e in fine if v in e.parents]
        found |= {e.id: e for e in here.rng(f"again {v}").sample(made, min(n, len(made)))}
    return found


def _off_new_walls(here: Round, earlier: Sequence[Example]) -> list[Example]:
    """Rows of earlier rounds, without those that overlap what is measured by now; these are noted."""
    rows = list({e.id: e for e in earlier}.values())
    hits = {hit.row: hit for hit in here.clean.overlaps([_prompt_only(e) for e in rows])}
    here.dropped.extend(
        Dropped(rows[i], here.clean.name, f"learnt in an earlier round, and now overlaps {hit.source} ({hit.rule})")
        for i, hit in hits.items()
    )
    return [e for i, e in enumerate(rows) if i not in hits]


def _require(here: Round, by_kind: Mapping[str, Sequence[Prompt]]) -> None:
    names = ", ".join(source.name for source in here.config.curate.sources) or "none"
    if not by_kind["harmful"]:
        raise DataError(f"curate.sources ({names}): no harmful prompts are left after the steps; add a source of them")
    if not by_kind["twin"] and not by_kind["plain"]:
        what = "no twins and no plain prompts are left, and a model that learns refusals alone refuses everything"
        raise DataError(f"curate.sources ({names}): {what}; add a source of them, or `starter`")


def _nothing_left(here: Round) -> str:
    reasons = Counter(dropped.reason for dropped in here.dropped).most_common(1)
    why = f"; most were taken out because: {reasons[0][0]} ({reasons[0][1]})" if reasons else ""
    return f"no row is left to learn from{why}; look at curate.sources and their `answers`"


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
