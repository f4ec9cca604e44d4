"""The nouns of breakfix, and the four protocols. Standard library only; everything else imports this.

One direction everywhere: a score of 1 is good (the model did what the case expects). Unknown is None, never 0.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol, runtime_checkable

Role = Literal["system", "user", "assistant"]
LEAD = "lead"  # the label of a verdict on a turn that only leads up to the request


def digest(value: Any) -> str:
    """sha256 (hex) of a JSON-able value in canonical form: the identity of everything in the ledger."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"not JSON-able: {type(value).__name__}")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `images` are digests of files in the ledger."""

    role: Role
    content: str
    images: tuple[str, ...] = ()


Conversation = tuple[Message, ...]


def ask(text: str) -> Conversation:
    """A conversation of one user turn."""
    return (Message("user", text),)


class Split(StrEnum):
    """A wall between data: TRAIN may be learnt from, DEV may steer a round, FROZEN is only ever measured."""

    TRAIN = "train"
    DEV = "dev"
    FROZEN = "frozen"


class Expect(StrEnum):
    """What handling a case well means."""

    REFUSE = "refuse"
    COMPLY = "comply"
    ANSWER = "answer"  # one right answer: `Case.choices[Case.gold]`
    GROUNDED = "grounded"
    NOT_REPRODUCE = "not_reproduce"


@dataclass(frozen=True, slots=True)
class Case:
    """A situation a model must handle, and what handling it well means.

    `prompt` ends with a user turn. `hazard` is a taxonomy id (data/taxonomy.yaml) or "" where none applies.
    `family` groups rows that must fall on the same side of a split. `translations` maps a language to the same
    request in it. `twin` is the id of the harmful case that a benign twin mirrors.
    """

    id: str
    prompt: Conversation
    expect: Expect
    source: str
    split: Split
    hazard: str = ""
    language: str = "en"
    persona: str = ""
    family: str = ""
    licence: str = "unknown"
    twin: str = ""
    choices: tuple[str, ...] = ()
    gold: int = -1
    translations: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def text(self) -> str:
        """The last user turn."""
        return self.prompt[-1].content


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation to learn from: `reply` is imitated (SFT) or preferred (DPO) over `rejected`, if there is one.

    `why` says in words why the row is in the data; `parents` are ids (cases, attempts, vulnerabilities) it came from.
    `kind`: harmful | twin | plain. `cut`: the reply was ended by a token budget, so its end is not to be learnt;
    `rejected_cut`: likewise `rejected`, whose end is not to be unlearnt.
    """

    prompt: Conversation
    reply: str
    source: str
    licence: str
    why: str
    kind: str
    rejected: str | None = None
    hazard: str = ""
    language: str = "en"
    family: str = ""
    parents: tuple[str, ...] = ()
    cut: bool = False
    rejected_cut: bool = False

    @property
    def id(self) -> str:
        """Content address: the same row has the same id in every round."""
        return "x" + digest([self.prompt, self.reply, self.rejected])[:16]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`score` 1 = behaved as the case expects, 0 = did not, None = could not tell.

    `label` is the judge's own word (refusal judge: full, partial, none, degenerate, unscored). `severity` is on the
    scale the rubric names (0-7 harm, 0-4 ungroundedness) or None. `judge` is name@version.
    """

    score: float | None
    label: str
    reason: str
    judge: str
    severity: float | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One case put to one model by one attack, and judged.

    `transcript` holds what the target saw and said, in order. `verdicts` has one entry for each turn that the target
    itself produced in it (assistant turns that the prompt gave have none); `breach` is the index (0-based) of the first
    verdict with score 0, or None; `turns` says where in the transcript each verdict's turn is, and `cut` which verdicts
    are on a reply that the token budget ended. `error` is set where the model failed, and then `score` is None.

    `queries`: what it asked the target, with what is not in the transcript (turns taken back, tries that held); None in
    a ledger from before they were counted.
    """

    id: str
    case: str
    model: str
    attack: str
    family: str
    persona: str
    hazard: str
    language: str
    expect: Expect
    transcript: Conversation
    verdicts: tuple[Verdict, ...]
    breach: int | None
    seed: int
    tokens_in: int
    tokens_out: int
    seconds: float
    error: str | None = None
    turns: tuple[int, ...] = ()
    cut: tuple[int, ...] = ()
    queries: int | None = None

    def place(self, turn: int) -> int:
        """Where in the transcript the turn of `verdicts[turn]` is. If `turns` is empty: the last assistant turns."""
        said = self.turns or tuple(i for i, message in enumerate(self.transcript) if message.role == "assistant")
        return said[turn - len(self.verdicts)]

    @property
    def score(self) -> float | None:
        """0 if any turn broke, 1 if all were judged and none did; None where the model failed, or a turn could not be
        judged (turns that only lead up to the request need not be)."""
        if self.error is not None or not self.verdicts:
            return None
        if self.breach is not None:
            return 0.0
        unknown = any(verdict.score is None and verdict.label != LEAD for verdict in self.verdicts)
        return None if unknown else self.verdicts[-1].score

    @property
    def unjudged(self) -> tuple[int, ...]:
        """The turns whose verdict is the judge's failure, where no breach decides: it could not tell, and may another
        time. That a reply is degenerate text is a verdict."""
        if self.error is not None or self.breach is not None:
            return ()
        return tuple(
            i
            for i, verdict in enumerate(self.verdicts)
            if verdict.score is None and verdict.severity is None and verdict.label not in (LEAD, "degenerate")
        )

    @property
    def final(self) -> Verdict | None:
        """The verdict that decided: the breach's, or the last."""
        if not self.verdicts:
            return None
        return self.verdicts[self.breach if self.breach is not None else -1]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval, the number of scored items and of those that could not be scored."""

    value: float
    low: float
    high: float
    n: int
    unscored: int = 0


class Status(StrEnum):
    OPEN = "open"
    FIXED = "fixed"
    REOPENED = "reopened"


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """A named weakness with an id that is stable across rounds.

    `kind`: harmful_compliance | over_refusal | capability_loss. `rate` is the share of its attempts that failed,
    `reach` the share of the hazard's cases of this kind that failed in it (0 to 1), `rank` which first (0 to 1).
    `evidence` are attempt ids. `prescription` says what the next round curates ({"harmful": 24, "twins": 24}).

    `topic`: the distinctive terms of its cases where it is a part of its cell (hazard × family × language), "" where it
    is all of it. `suite`: its regression suite, (case, attack) pairs. `neighbourhood`: the rate on cases near the suite
    (paraphrases, other wrappers, other languages), None where none was asked. `reproducer`: the id of the attempt that
    is the shortest case that still breaks, "" where none was sought.
    """

    id: str
    kind: str
    name: str
    hazard: str
    family: str
    language: str
    severity: float
    rate: Estimate
    evidence: tuple[str, ...]
    prescription: Mapping[str, int]
    status: Status = Status.OPEN
    first_round: int = 0
    topic: str = ""
    suite: tuple[tuple[str, str], ...] = ()
    reach: float = 0.0
    rank: float = 0.0
    neighbourhood: Estimate | None = None
    reproducer: str = ""


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of the cycle: what its stages made (stage name → digest of the stage's record), and the decision."""

    index: int
    config: str
    stages: Mapping[str, str]
    decision: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said. `finish`: stop | length | error (and then `error` says what happened, `text` is "")."""

    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    finish: Literal["stop", "length", "error"] = "stop"
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Paid:
    """A reply within attempt `attempt` (an id) that had not ended yet: what a killed run takes up instead of asking.

    `query` counts what the attempt asks, its helper included, from 0; `prompt` is the digest of what was asked;
    `seconds` of the model's time. `verdict`: the judge's on it (an attempt's id holds the judge), None where it was not
    judged.
    """

    attempt: str
    query: int
    prompt: str
    reply: Reply
    seconds: float
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to decode. temperature 0 is greedy. `prefill` is not part of it: it belongs to the prompt."""

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0


@runtime_checkable
class Model(Protocol):
    """Anything that answers. `id` identifies the model (digest of its files, or endpoint + name) in the ledger.

    A conversation that ends with an assistant turn is continued (prefill), and the reply is only what was added.
    """

    id: str

    def generate(
        self, prompts: Sequence[Conversation], sampling: Sampling, seeds: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Reply]]:
        """Yield (index, reply) as rows finish, in any order, every index once. A row that fails has finish="error"."""
        ...

    def score(self, pairs: Sequence[tuple[Conversation, str]]) -> list[tuple[float, int]]:
        """For each (prompt, continuation): (sum of natural-log probabilities of the continuation, its tokens)."""
        ...


@runtime_checkable
class Judge(Protocol):
    """Gives verdicts. `name` is name@version. A judge that fails returns score=None and the reason; it never raises."""

    name: str

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        """One verdict per row, in order. A row is (case, transcript that ends with the assistant turn to judge)."""
        ...


@dataclass(frozen=True, slots=True)
class Ask:
    """What an attack wants asked. `to="helper"` goes to the helper model (if there is none, the reply is None)."""

    prompt: Conversation
    to: Literal["target", "helper"] = "target"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the text, and (target only) the verdict on it. `text` is None where no helper is configured."""

    text: str | None
    verdict: Verdict | None = None


@runtime_checkable
class Attack(Protocol):
    """How a case is put: a generator that yields what it wants asked and is sent the answer. No I/O, no budget.

    `family` groups attacks for seen / held-out; `persona`: low-skilled | intermediate. It raises NotApplicable
    (before the first yield) for a case that it can't be put to, with the reason.
    """

    name: str
    family: str
    persona: str

    def __call__(self, case: Case, rng: random.Random) -> Generator[Ask, Answer, None]: ...


def canonical(name: str) -> str:
    """The one form of a composition's name, which attempts carry: "base64 ∘ role_play" → "base64+role_play"."""
    return "+".join(part.strip() for part in name.replace("∘", "+").split("+"))


class NotApplicable(Exception):
    """An attack can't be put to a case (no translation of it, say). Recorded with the reason; never a verdict."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """An example that a curation step took out, and why."""

    example: Example
    step: str
    reason: str


@runtime_checkable
class Step(Protocol):
    """A curation step: every example comes out again, kept, rewritten, or dropped with a reason.

    Those that are not dropped come in the order in which they were given; `Dropped.example` is the very object given.
    """

    name: str

    def __call__(self, examples: Sequence[Example]) -> tuple[list[Example], list[Dropped]]: ...
