"""Prompts → training rows: the reply to imitate, and the one to move away from.

    harmful      reply: a refusal of the policy's own, where some were sampled (`curate.on_policy`), else a composed
                 safe answer; the judge must call it a full refusal. Rejected: what the model said when it broke, or its
                 own untouched reply, if the judge calls that an answer (`none`).
    twin, plain  reply: the untouched model's own, if the judge calls it an answer; where it refused, one that was
                 sampled (`curate.answers`). Rejected: the refusal that the model gave, or a composed one.

A reply that the data brought along is held to the same. Rows that fail are dropped with the judge's word as the reason.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from breakfix import safe_answers
from breakfix.core import Dropped, Example, Judge, Message, Verdict
from breakfix.curate.answers import Reply
from breakfix.curate.base import NEVER_ASKED, Prompt
from breakfix.curate.mirror import is_script
from breakfix.curate.rows import has_safe_answers

STEP = "mint"
TRIES = 3  # drawings of a safe answer before the row is given up


def harmful(
    prompts: Sequence[Prompt],
    replies: Mapping[str, Reply],
    judge: Judge,
    rng: random.Random,
    own: Mapping[str, Reply] = {},
) -> tuple[list[Example], list[Dropped]]:
    """Rows that decline, in the order of the prompts. `replies`: by case id, for those that were asked; `own`: the
    policy's refusals, likewise."""
    chosen: dict[int, str] = {}
    verdicts: dict[int, Verdict] = {}
    waiting = list(range(len(prompts)))
    for turn in range(TRIES):
        for i in waiting:
            composed, sampled = _refusal(prompts[i], rng), own.get(prompts[i].case.id) if turn == 0 else None
            chosen[i] = prompts[i].reply or (sampled.text if sampled else composed) or ""
        verdicts.update(zip(waiting, _judged(judge, [prompts[i] for i in waiting], chosen, waiting), strict=True))
        waiting = [i for i in waiting if verdicts[i].label != "full" and prompts[i].reply is None]
    rows: list[Example] = []
    dropped: list[Dropped] = []
    for i, prompt in enumerate(prompts):
        reply = replies.get(prompt.case.id)
        if is_script(prompt.case.prompt) and (reply is None or reply.asked is None):
            dropped.append(prompt.drop(STEP, "the untouched model failed to reply to an earlier turn"))
        elif verdicts[i].label == "full":
            broken = None if prompt.rejected else _broken(prompt, replies)
            said = broken.text if broken else prompt.rejected
            row = prompt.example(chosen[i], said, rejected_cut=broken.cut if broken else None)
            rows.append(replace(row, prompt=reply.asked) if reply is not None and reply.asked else row)
        else:
            whose = "its own reply" if prompt.reply else "the composed safe answer"
            dropped.append(prompt.drop(STEP, f"{whose} was judged {verdicts[i].label}, not a full refusal"))
    return rows, dropped


def benign(
    prompts: Sequence[Prompt], replies: Mapping[str, Reply], judge: Judge, rng: random.Random
) -> tuple[list[Example], list[Dropped]]:
    """Rows that answer, in the order of the prompts; a prompt without a reply of its own needs one in `replies`."""
    given = [i for i, prompt in enumerate(prompts) if prompt.reply]
    texts = {i: prompts[i].reply or "" for i in given}
    labels = dict(zip(given, _judged(judge, [prompts[i] for i in given], texts, given), strict=True))
    rows: list[Example] = []
    dropped: list[Dropped] = []
    for i, prompt in enumerate(prompts):
        refusal = _refusal(prompt, rng)
        own = replies.get(prompt.case.id)
        text, label = (texts[i], labels[i].label) if i in labels else _own(own)
        if label == "none" and text:
            cut = prompt.reply_cut if i in labels else own is not None and own.cut
            instead = own.instead if own is not None and not prompt.rejected else None
            rejected = instead.text if instead else prompt.rejected or refusal
            row = prompt.example(text, rejected, cut=cut, rejected_cut=instead.cut if instead else None)
            rows.append(replace(row, prompt=own.asked) if own is not None and own.asked else row)
        else:
            dropped.append(prompt.drop(STEP, _why_not(label, bool(prompt.reply))))
    return rows, dropped


def _own(reply: Reply | None) -> tuple[str, str]:
    if reply is None:
        return "", "missing"
    return reply.text, reply.label


def _why_not(label: str, given: bool) -> str:
    if label == "missing":
        return "the untouched model failed to reply"
    whose = "its own reply" if given else "the untouched model's reply"
    return f"{whose} was judged {label}, not an answer"


def _broken(prompt: Prompt, replies: Mapping[str, Reply]) -> Reply | None:
    """The untouched model's own reply to a harmful request, if it is one."""
    reply = replies.get(prompt.case.id)
    if reply is None or reply.label != "none" or not reply.text or prompt.case.hazard in NEVER_ASKED:
        return None
    return reply


def _refusal(prompt: Prompt, rng: random.Random) -> str | None:
    """None in a language without composed answers, of which as much is drawn: which languages have some changes nothing
    for the rows after it."""
    language = prompt.case.language if has_safe_answers(prompt.case.language) else None
    drawn = safe_answers.compose(prompt.case.hazard, language or "en", rng)
    return drawn if language else None


def _judged(judge: Judge, prompts: Sequence[Prompt], texts: Mapping[int, str], keys: Sequence[int]) -> list[Verdict]:
    rows = [
        (prompt.case, (*prompt.case.prompt, Message("assistant", texts[key])))
        for key, prompt in zip(keys, prompts, strict=True)
    ]
    return judge.judge(rows) if rows else []
