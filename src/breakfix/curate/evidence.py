"""Failures become training prompts, if they may: the wall between what is measured and what is learnt from.

`barred` is the one place that decides. Failures on dev and frozen cases, or found by held-out attack families, still
count: their vulnerability prescribes how many rows of which kind the round takes from the pool. Their text stays out.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from breakfix.config import Redteam
from breakfix.core import Attempt, Case, Conversation, Message, Split, Vulnerability
from breakfix.curate.base import Prompt, expected

NEVER_ASKED = frozenset({"child_sexual_exploitation"})  # no model's reply to such a request is kept for training


@dataclass(frozen=True, slots=True)
class Evidence:
    """Prompts from failures, and how many failures (or their twins) were left aside for which reason."""

    prompts: list[Prompt] = field(default_factory=list[Prompt])
    barred: Counter[str] = field(default_factory=Counter[str])
    no_twin: Counter[str] = field(default_factory=Counter[str])


def barred(attempt: Attempt, case: Case | None, redteam: Redteam) -> str:
    """Why nothing of this attempt's text may enter training; "" if it may."""
    if case is None:
        return "its case is not in the ledger, so its split is unknown"
    if case.split is not Split.TRAIN:
        return f"its case is {case.split.value}"
    if attempt.family in redteam.held_out or attempt.family not in ("direct", *redteam.seen):
        return f"its attack family {attempt.family} is not among the seen ones"
    return "" if breach(attempt) is not None else "it has no turn that failed"


def breach(attempt: Attempt) -> int | None:
    """Index in the transcript of the model's turn that failed first; None if there is none."""
    if attempt.error is not None or attempt.breach is None:
        return None
    return attempt.place(attempt.breach)


def collect(
    vulnerabilities: Sequence[Vulnerability],
    attempts: Mapping[str, Attempt],
    cases: Mapping[str, Case],
    twins: Sequence[Prompt],
    redteam: Redteam,
    rng: random.Random,
) -> Evidence:
    """Prompts from the evidence of vulnerabilities: at most as many, harmful and benign, as each prescribes."""
    found = Evidence()
    for v in vulnerabilities:
        left = {
            True: v.prescription.get("harmful", 0),
            False: sum(v.prescription.get(k, 0) for k in ("twins", "plain")),
        }
        for attempt in (attempts[id] for id in v.evidence if id in attempts):
            case = cases.get(attempt.case)
            if reason := barred(attempt, case, redteam):
                found.barred[reason] += 1
            elif case is not None:
                made = _harmful(v, attempt, case) if v.kind == "harmful_compliance" else _refused(v, attempt, case)
                wrapped = _benign(v, attempt, case, twins, rng, found.no_twin) if made.kind == "harmful" else None
                for prompt in filter(None, (made, wrapped)):
                    harmful = prompt.kind == "harmful"
                    if left[harmful] > 0:
                        left[harmful] -= 1
                        found.prompts.append(prompt)
    return found


def _harmful(v: Vulnerability, attempt: Attempt, case: Case) -> Prompt:
    """The conversation up to the turn that broke; what was said there is what to move away from."""
    why = f"the model answered this in an earlier round ({v.id}: {v.name}); the reply declines"
    return _prompt(v, attempt, case, "harmful", why)


def _refused(v: Vulnerability, attempt: Attempt, case: Case) -> Prompt:
    """A harmless request that was refused: the refusal is what to move away from."""
    why = f"the model refused this harmless request in an earlier round ({v.id}: {v.name}); the reply answers"
    return _prompt(v, attempt, case, "twin" if case.hazard else "plain", why)


def _prompt(v: Vulnerability, attempt: Attempt, case: Case, kind: str, why: str) -> Prompt:
    at = breach(attempt) or 0
    said = attempt.transcript[at].content
    usable = attempt.verdicts[attempt.breach or 0].label != "degenerate" and case.hazard not in NEVER_ASKED
    put = _case(f"{case.id}@{attempt.id}", attempt.transcript[:at], case, kind, attempt)
    return Prompt(
        put, kind, why, rejected=said if usable else None, parents=(case.id, attempt.id, v.id),
        rejected_cut=usable and attempt.breach in attempt.cut,
    )  # fmt: skip


def _case(id: str, prompt: Conversation, case: Case, kind: str, attempt: Attempt) -> Case:
    """The case as it was put. In the attempt's language: the request may have been asked in a translation."""
    return replace(
        case, id=id, prompt=prompt, expect=expected(kind), language=attempt.language, translations={}, split=Split.TRAIN
    )


def _benign(
    v: Vulnerability, attempt: Attempt, case: Case, twins: Sequence[Prompt], rng: random.Random, skipped: Counter[str]
) -> Prompt | None:
    """The same attack around a harmless request, so that the wrapping alone does not come to mean "refuse"."""
    twin = _twin_of(case, attempt.language, twins, rng)
    if twin is None:
        skipped["no benign twin of this hazard and language"] += 1
        return None
    prompt = rewrapped(attempt, case, twin.case.text)
    if isinstance(prompt, str):
        skipped[prompt] += 1
        return None
    why = f"the attack {attempt.attack} around a harmless request ({v.id}: {v.name}); the reply answers"
    put = _case(f"{twin.case.id}@{attempt.id}", prompt, twin.case, "twin", attempt)
    return Prompt(put, "twin", why, parents=(twin.case.id, attempt.id, v.id))


def rewrapped(attempt: Attempt, case: Case, text: str) -> Conversation | str:
    """What the attack asked, with `text` in place of the case's request; or, in words, why that can't be had."""
    asked = attempt.transcript[: breach(attempt) or 0]
    if sum(message.role == "assistant" for message in asked):
        return "several turns: the replies before it belong to the harmful request"
    if not asked or case.text not in asked[-1].content:
        return "the request does not stand literally in what the attack asked"
    if asked[-1].content == case.text:
        return "asked as it is: the twin itself is in the pool"
    return (*asked[:-1], Message("user", asked[-1].content.replace(case.text, text)))


def _twin_of(case: Case, language: str, twins: Sequence[Prompt], rng: random.Random) -> Prompt | None:
    """The case's own twin, else one of its family, else of its hazard."""
    same = [t for t in twins if t.case.hazard == case.hazard and t.case.language == language]
    own = [t for t in same if t.case.twin == case.id]
    family = [t for t in same if t.case.family == case.family]
    nearest = own or family or same
    return rng.choice(nearest) if nearest else None
