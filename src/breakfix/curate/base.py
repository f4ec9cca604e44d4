"""What passes between the parts of curation: a `Prompt`, the situation that a training row will be made of.

Curation steps are `core.Step`s, which take `Example`s: a prompt lends itself to them as a draft (an example whose reply
may still be ""), and `through` makes prompts again of what comes out, kept or rewritten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from breakfix.core import Case, Dropped, Example, Expect, Step

KINDS = ("harmful", "twin", "plain")
NEVER_ASKED = frozenset({"child_sexual_exploitation"})  # no model's reply to such a request is kept for training
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a person changed of a prescription besides numbers of rows (prescription/); ids are vulnerabilities'.

    `languages`: id → those that its rows are in, in place of its own. `wrappers`: id → kinds of frames (`Frame.kind`)
    that rows of its hazard and languages are put into, and no others. `replay` in place of the config's. `again`: id →
    rows that earlier rounds made for it, which come again before any others do. `where`: id → its place in the file.
    """

    languages: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    wrappers: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    replay: float | None = None
    again: Mapping[str, int] = field(default_factory=dict[str, int])
    where: Mapping[str, str] = field(default_factory=dict[str, str])

    def spoken(self, id: str, own: str) -> tuple[str, ...]:
        """The languages of a vulnerability's rows; "" is any."""
        return self.languages.get(id, (own,)) or ("",)


NO_PLAN = Plan()


@dataclass(frozen=True, slots=True)
class Prompt:
    """A situation to learn from. `kind`: harmful | twin | plain.

    `reply` is the data's own (None: it is minted), `rejected` the reply to move away from (None: minted where it can
    be); `reply_cut`, `rejected_cut`: it was cut, or a token budget ended it. `parents` (ids of case, attempt,
    vulnerability) are the case's id where nothing else is said.
    """

    case: Case
    kind: str
    why: str
    reply: str | None = None
    rejected: str | None = None
    parents: tuple[str, ...] = ()
    rejected_cut: bool = False
    reply_cut: bool = False

    def example(
        self, reply: str, rejected: str | None, *, cut: bool | None = None, rejected_cut: bool | None = None
    ) -> Example:
        """The row. `cut`, `rejected_cut`: that text has lost its end (None: as the prompt says of its own)."""
        case = self.case
        return Example(
            prompt=case.prompt,
            reply=reply,
            source=case.source,
            licence=case.licence,
            why=self.why,
            kind=self.kind,
            rejected=rejected,
            hazard=case.hazard,
            language=case.language,
            family=case.family,
            parents=self.parents or (case.id,),
            cut=self.reply_cut and reply == self.reply if cut is None else cut,
            rejected_cut=self.rejected_cut and rejected == self.rejected if rejected_cut is None else rejected_cut,
        )

    @property
    def draft(self) -> Example:
        """The row as far as it is known: what the steps work on."""
        return self.example(self.reply or "", self.rejected)

    def drop(self, step: str, reason: str) -> Dropped:
        return Dropped(self.draft, step, reason)


def expected(kind: str) -> Expect:
    return Expect.REFUSE if kind == "harmful" else Expect.COMPLY


def through(step: Step, prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[Dropped]]:
    """(the prompts that a step lets through, as it leaves them; what it takes out).

    A step keeps the order and names what it drops as it was given, so that the n-th example that comes out is the n-th
    one that went in without those. Raises ValueError where the two do not add up: that step loses rows.
    """
    drafts = [prompt.draft for prompt in prompts]
    examples, dropped = step(drafts)
    gone = {id(drop.example) for drop in dropped}
    left = [(prompt, draft) for prompt, draft in zip(prompts, drafts, strict=True) if id(draft) not in gone]
    if len(left) != len(examples) or len(left) + len(dropped) != len(drafts):
        raise ValueError(f"step {step.name}: {len(drafts)} rows in, {len(examples)} out, {len(dropped)} dropped")
    return [
        _rewritten(prompt, draft, example) for (prompt, draft), example in zip(left, examples, strict=True)
    ], dropped


def _rewritten(prompt: Prompt, draft: Example, example: Example) -> Prompt:
    """The prompt with what the step changed of its draft. Its case keeps its id: the row came from there."""
    if example == draft:
        return prompt
    case = replace(
        prompt.case,
        prompt=example.prompt,
        source=example.source,
        licence=example.licence,
        hazard=example.hazard,
        language=example.language,
        family=example.family,
        expect=expected(example.kind),
    )
    return replace(
        prompt,
        case=case,
        kind=example.kind,
        why=example.why,
        reply=example.reply or None,
        rejected=example.rejected,
        parents=example.parents if example.parents != draft.parents else prompt.parents,
        rejected_cut=example.rejected_cut,
        reply_cut=example.cut,
    )
