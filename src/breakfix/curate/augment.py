"""A share of the chosen requests is put into wrappers, at the same rate for harmful, twin and plain rows.

Why: a model that saw harm asked plainly and frames only around harmless text learns that a frame means "answer"; one
that saw frames around harm alone learns the reverse. With the same frames on both sides neither works as a sign, and
what is left to learn from is the request. A twin gets the frame, and the drawn texts in it, of its harmful row.

Frames are this project's training wrappers (wrappers.py), in English the attacks of the *seen* red-team families that
ask once, and talks on the request's own topic where a config asks for them (on_topic.py). Held-out families never come
in: the caller gives the attacks (`redteam.seen`), and the wrappers' texts are held apart from the held-out ones by a
test. After selection, so that shares hold; before replies are made, so that the untouched model's reply is to what the
row asks.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from breakfix.core import Attack, Case, Conversation, Example, NotApplicable, Split, ask
from breakfix.curate.base import Prompt, expected
from breakfix.curate.on_topic import OnTopic
from breakfix.curate.wrappers import wrappers

BLOCK = 20  # rows in which the share holds exactly; wrapped ones stand at drawn places, so that no order meets another
ATTACK_WEIGHT = 2  # a seen family is drawn that often as a kind of wrapper
MARK = "~"  # between a case's id and the frame's name


class Frame(Protocol):
    """Something that a request is put into. `kind` shares its weight among its frames."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    def speaks(self, language: str) -> bool: ...
    def put(self, prompt: Conversation, rng: random.Random) -> Conversation: ...


@dataclass(frozen=True, slots=True)
class AttackFrame:
    """An attack that asks once, as a frame. English, as their texts are."""

    attack: Attack

    @property
    def name(self) -> str:
        return self.attack.name

    @property
    def kind(self) -> str:
        return f"attack {self.attack.family}"

    def speaks(self, language: str) -> bool:
        return language == "en"

    def put(self, prompt: Conversation, rng: random.Random) -> Conversation:
        """What the attack asks. Raises NotApplicable where it can't, or asks something else than one user turn."""
        case = Case("", prompt, expected("harmful"), "", Split.TRAIN)
        asked = next(self.attack(case, rng), None)
        if asked is None or asked.to != "target" or asked.prompt[-1].role != "user":
            raise NotApplicable("not one question to the target")
        return asked.prompt


class Augment:
    """Wraps a share of the prompts of each kind. Call it with the harmful ones first: their twins follow them.

    `seed` decides which rows and which frames; `longest`: characters of a wrapped conversation, else it stays bare.
    `only`: (hazard, language; "" is any) → kinds of frames that its rows are put into, where not into all.
    `skipped` counts why rows that were drawn stayed as they were; `bare`: wrapped case → the prompt as it was.
    """

    def __init__(
        self,
        share: float,
        attacks: Sequence[Attack] = (),
        *,
        seed: str,
        longest: int,
        only: Mapping[tuple[str, str], Collection[str]] = {},
    ) -> None:
        self.share, self.seed, self.longest, self.only = share, seed, longest, only
        self.frames: list[Frame] = [*wrappers().values(), *map(AttackFrame, filter(_asks_once, attacks))]
        self.skipped: Counter[str] = Counter()
        self.bare: dict[str, Prompt] = {}
        self._decks: dict[str, _Deck] = {}
        self._of: dict[str, Frame | None] = {}  # harmful case → its frame, or None

    def __call__(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The prompts in their order, some wrapped."""
        at: Counter[str] = Counter()
        made: list[Prompt] = []
        for prompt in prompts:
            case = prompt.case
            if case.twin in self._of:
                frame = self._of[case.twin]
            else:
                name, deck = self._deck(case)
                frame = deck[at[name]]
                at[name] += 1
            if prompt.kind == "harmful":
                self._of[case.id] = frame
            made.append(prompt if frame is None else self._wrapped(prompt, frame))
        return made

    def unwrapped(self, prompt: Prompt, why: str) -> Prompt:
        """The prompt as it was, and its twins with it."""
        self.skipped[why] += 1
        if prompt.kind == "harmful":
            self._of[prompt.case.id] = None
        return prompt

    def _deck(self, case: Case) -> tuple[str, _Deck]:
        language = case.language
        kinds = self.only.get((case.hazard, language), self.only.get((case.hazard, "")))
        name = language if kinds is None else f"{language}/{case.hazard}"
        if name not in self._decks:
            spoken = [f for f in self.frames if f.speaks(language) and (kinds is None or f.kind in kinds)]
            share = self.share if spoken else 0.0
            self._decks[name] = _Deck(spoken, share, random.Random(f"{self.seed}/{name}"))
        return name, self._decks[name]

    def _wrapped(self, prompt: Prompt, frame: Frame) -> Prompt:
        case = prompt.case
        try:
            # drawn by these two alone, so that the id that they make names one text, in whatever round
            put = frame.put(case.prompt, random.Random(f"{case.twin or case.id}/{frame.name}"))
        except NotApplicable as error:
            return self.unwrapped(prompt, str(error))
        if put == case.prompt:
            return self.unwrapped(prompt, "the frame leaves the request as it is")
        if sum(len(message.content) for message in put) > self.longest:
            return self.unwrapped(prompt, "too long for training")
        within = replace(case, id=f"{case.id}{MARK}{frame.name}", prompt=put, translations={})
        why = f"{prompt.why}; put into {frame.name} ({frame.kind}), as rows of every kind are"
        self.bare[within.id] = prompt
        return replace(prompt, case=within, why=why, parents=(case.id, within.id))


class _Deck:
    """Position → the frame of the row there, or None: endless, the same for every kind of row."""

    def __init__(self, frames: Sequence[Frame], share: float, rng: random.Random) -> None:
        self.share, self.rng = share, rng
        self.kinds: dict[str, list[Frame]] = defaultdict(list)
        for frame in frames:
            self.kinds[frame.kind].append(frame)
        self.cards: list[Frame | None] = []
        self.waiting: list[str] = []
        self.left: dict[str, list[Frame]] = defaultdict(list)
        self.owed = 0.0

    def __getitem__(self, at: int) -> Frame | None:
        while len(self.cards) <= at:
            self.owed += self.share * BLOCK
            n = round(self.owed)
            self.owed -= n
            block: list[Frame | None] = [*(self._draw() for _ in range(n)), *[None] * (BLOCK - n)]
            self.rng.shuffle(block)
            self.cards.extend(block)
        return self.cards[at]

    def _draw(self) -> Frame:
        """Kinds in turn, and the frames of a kind in turn, each time in another order."""
        if not self.waiting:
            self.waiting = [kind for kind, frames in self.kinds.items() for _ in range(_often(frames[0]))]
            self.rng.shuffle(self.waiting)
        kind = self.waiting.pop()
        if not self.left[kind]:
            self.left[kind] = list(self.kinds[kind])
            self.rng.shuffle(self.left[kind])
        return self.left[kind].pop()


def frame_of(parents: Sequence[str]) -> str:
    """The name of the frame that a row with these parents is in, or ""."""
    return parents[1].rpartition(MARK)[2] if len(parents) == 2 and parents[1].startswith(parents[0] + MARK) else ""


def even(rows: Sequence[Example], n: int, wanted: Sequence[Prompt]) -> list[Example]:
    """n of the rows, in their order, with each frame as often as among `wanted`, as far as there are such rows.

    Of spare rows some frames lose more than others (a small model babbles in JSON, and such replies are dropped): taken
    as they come, they would be rarer on the harmless side, and mean "refuse".
    """
    quota = Counter(frame_of(prompt.parents) for prompt in wanted)
    taken: set[int] = set()
    for i, row in enumerate(rows):
        if quota[name := frame_of(row.parents)] > 0:
            quota[name] -= 1
            taken.add(i)
    rest = (i for i in range(len(rows)) if i not in taken)
    taken.update(i for i, _ in zip(rest, range(n - len(taken)), strict=False))
    return [rows[i] for i in sorted(taken)][:n]


def counts(rows: Iterable[Example]) -> dict[str, dict[str, int]]:
    """kind of row → frame ("": none) → rows."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        found[row.kind][frame_of(row.parents)] += 1
    return {kind: dict(sorted(some.items())) for kind, some in sorted(found.items())}


def _often(frame: Frame) -> int:
    """How often its kind is drawn, where one of wrappers is drawn once."""
    return frame.often if isinstance(frame, OnTopic) else ATTACK_WEIGHT if isinstance(frame, AttackFrame) else 1


def _asks_once(attack: Attack) -> bool:
    """One question that is not the request itself, and no opening of the reply (see recovery.py for those)."""
    if getattr(attack, "queries", 0) != 1 or getattr(attack, "uses_helper", True) or attack.family == "direct":
        return False
    try:
        AttackFrame(attack).put(ask("How do I bake bread?"), random.Random(0))
    except NotApplicable:
        return False
    return True
