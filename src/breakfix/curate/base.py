"""What passes between the parts of curation: a `Prompt`, the situation that a training row will be made of.

Curation steps are `core.Step`s, which take `Example`s: a prompt lends itself to them as a draft (an example whose reply
may still be ""), and `kept` finds the prompts back whose drafts a step let through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from breakfix.core import Case, Dropped, Example, Expect

KINDS = ("harmful", "twin", "plain")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A situation to learn from. `kind`: harmful | twin | plain.

    `reply` is the data's own (None: it is minted), `rejected` the reply to move away from (None: minted where it can
    be; `rejected_cut`: the token budget ended it). `parents` (ids of case, attempt, vulnerability) are the case's id
    where nothing else is said.
    """

    case: Case
    kind: str
    why: str
    reply: str | None = None
    rejected: str | None = None
    parents: tuple[str, ...] = ()
    rejected_cut: bool = False

    def example(
        self, reply: str, rejected: str | None, *, cut: bool = False, rejected_cut: bool | None = None
    ) -> Example:
        """The row. `cut`, `rejected_cut`: the token budget ended that text (None: as the prompt says of its own)."""
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
            cut=cut,
            rejected_cut=self.rejected_cut and rejected == self.rejected if rejected_cut is None else rejected_cut,
        )

    @property
    def draft(self) -> Example:
        """The row as far as it is known. Its id names the prompt while the steps work."""
        return self.example(self.reply or "", self.rejected)

    def drop(self, step: str, reason: str) -> Dropped:
        return Dropped(self.draft, step, reason)


def expected(kind: str) -> Expect:
    return Expect.REFUSE if kind == "harmful" else Expect.COMPLY


def kept(prompts: Sequence[Prompt], examples: Iterable[Example]) -> list[Prompt]:
    """The prompts whose drafts these are, in the examples' order."""
    by_id: dict[str, Prompt] = {}
    for prompt in prompts:
        by_id.setdefault(prompt.draft.id, prompt)
    return [by_id[example.id] for example in examples]
