"""What identify asks the round's model: the shortest case of each weakness, and what lies around it.

Both are attempts of stage "identify", on cases of the ledger, under the attack's name and a mark: "base64/reproducer",
"role_play/reworded-1f3a", "direct/de" (`MARK`). They are in no figure of attack success, and nothing of them is learnt.
Which attempts were made for which vulnerability, and what came of it, is in events of kind "reproducer" and
"neighbours". What the ledger knows is not asked again. All vulnerabilities advance in lockstep: a step is one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from breakfix import campaign
from breakfix.campaign import Put, mend
from breakfix.config import Config
from breakfix.core import (
    Attack,
    Attempt,
    Case,
    Conversation,
    Estimate,
    Judge,
    Message,
    Model,
    Reply,
    Sampling,
    Split,
    Status,
)
from breakfix.core import Vulnerability as V
from breakfix.errors import BudgetSpent, UserError
from breakfix.identify.group import failures
from breakfix.identify.neighbours import Reword, Said, neighbours
from breakfix.identify.reproduce import Heard, Shortest, Trials, asked, shortest

if TYPE_CHECKING:
    from breakfix.ledger import Ledger

STAGE = "identify"
MARK = "/"  # between an attack's name and what was made of it
REPRODUCER = "reproducer"
MEASURED = ("redteam", "evaluate")  # stages whose attempts are the round's model's
STARTS = 3  # failures that are tried, the shortest first, where one does not break again
Progress = Callable[[str, int, int], None]
T = TypeVar("T")


def quiet(what: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Tools:
    """What asking takes, opened where something is asked. `attacks` by name: those of the run. `reword` puts a request
    into other words, or gives None."""

    model: Callable[[], Model]
    judge: Callable[[], Judge]
    attacks: Callable[[], Mapping[str, Attack]]
    reword: Reword


def inputs(config: Config) -> dict[str, Any]:
    """What identifies the stage by what is asked here; nothing where nothing is."""
    settings = config.identify
    asks = (settings.reproduce and settings.queries) or (settings.neighbourhoods and settings.neighbours)
    if not asks:
        return {}
    return {
        "asks": settings.model_dump(mode="json", exclude={"topics"}),
        "seed": config.seed,
        "tokens": config.redteam.max_new_tokens,
    }


def run(
    config: Config,
    ledger: Ledger,
    found: Sequence[V],
    tools: Tools,
    *,
    round: int,
    progress: Progress = quiet,
) -> list[V]:
    """The same vulnerabilities, in their order, with `neighbourhood` (the first config.identify.neighbourhoods of them,
    open or fixed) and `reproducer` (of the first config.identify.reproduce open ones). `found`: the gravest first.

    Where the model can't be opened the round goes on without, and an event of kind "not probed" says why.
    """
    settings = config.identify
    try:
        found = around(config, ledger, found, tools, round=round, progress=progress)
        open_ = [v for v in found if v.status is not Status.FIXED and v.kind in _ASKED][: settings.reproduce]
        told = reproduce(config, ledger, open_, tools, round=round, progress=progress)
    except Unopened as error:
        ledger.add_event(round, STAGE, "not probed", {"why": str(error)})
        return list(found)
    return [replace(v, reproducer=told[v.id].attempt) if v.id in told else v for v in found]


def around(
    config: Config, ledger: Ledger, found: Sequence[V], tools: Tools, *, round: int, progress: Progress = quiet
) -> list[V]:
    """The same vulnerabilities, the first config.identify.neighbourhoods that can be asked about with the rate on
    their neighbours now. One batch. Raises Unopened, where there is something to ask."""
    settings, case_of = config.identify, cache(ledger.case)
    asked_of: dict[str, list[Put]] = {}
    for v in [v for v in found if v.kind in _ASKED][: settings.neighbourhoods if settings.neighbours else 0]:
        puts = neighbours(
            _bases(v, ledger, case_of), _opened(tools.attacks), tools.reword, v.language, settings.neighbours,
            f"{config.seed}/{v.kind}/{v.hazard}/{v.family}/{v.language}/{v.topic}",
        )  # fmt: skip
        if puts:
            asked_of[v.id] = puts
    ask = _Asker(config, ledger, tools, round, lambda done, total: progress("neighbours", done, total))
    made = ask([put for puts in asked_of.values() for put in puts])
    rates: dict[str, Estimate] = {}
    for id, puts in asked_of.items():
        some = [made[key] for put in puts if (key := _key(put)) in made]
        rates[id] = failures(some)
        ledger.add_event(round, STAGE, "neighbours", {"vulnerability": id, "attempts": [a.id for a in some]})
    return [replace(v, neighbourhood=rates[v.id]) if v.id in rates else v for v in found]


def near(ledger: Ledger, round: int) -> dict[str, list[Attempt]]:
    """Vulnerability id → the attempts on its neighbours in that round. (case, attack) of an attempt names a neighbour:
    the same pair in two rounds is the same one."""
    ids = {e.payload["vulnerability"]: e.payload["attempts"] for e in ledger.events(round, STAGE, "neighbours")}
    return {id: list(ledger.known(some).values()) for id, some in ids.items()}


@dataclass(frozen=True, slots=True)
class Reproduced:
    """What came of the search for a vulnerability's shortest case; the event of kind "reproducer" holds the same.

    `attempt`: the id of the shortest attempt that broke, "" where none did, and `why`. `start`: the failure that was
    shortened. `bare`: the request alone breaks, its wrapper was not needed. `dropped`: pieces by kind (turns, begun,
    wrapper, request). `minimal`: no other piece can go; False where the queries ended first. `characters`: of what was
    asked, before and after. `begun`: the answer that was begun for the model: a transcript does not tell it from what
    was added.
    """

    vulnerability: str
    attempt: str
    why: str
    start: str
    bare: bool
    dropped: Mapping[str, int]
    minimal: bool
    queries: int
    characters: tuple[int, int]
    begun: str = ""


def reproduce(
    config: Config, ledger: Ledger, found: Sequence[V], tools: Tools, *, round: int, progress: Progress = quiet
) -> dict[str, Reproduced]:
    """Vulnerability id → the shortest case that breaks the round's model, sought for each one given that has a failure
    to start from, by at most config.identify.queries calls each. For one on demand (`breakfix vulns show V12
    --reproduce`): give it alone. Attempts and event are added to the ledger; the vulnerability's own row stays.
    Raises Unopened, where there is something to ask, and UserError for a spent budget.
    """
    case_of = cache(ledger.case)
    flows = {
        v.id: flow
        for v in found
        if config.identify.queries and (flow := _flow(v, ledger, case_of, tools, config.identify.queries)) is not None
    }
    told: dict[str, Reproduced] = {}
    ask = _Asker(config, ledger, tools, round, lambda done, total: progress("reproducers", len(told), len(flows)))
    wanted = {id: next(flow) for id, flow in flows.items()}
    while wanted:
        puts = {id: [_put(step, prompt) for prompt in step.prompts] for id, step in wanted.items()}
        made = ask([put for some in puts.values() for put in some])
        for id in list(wanted):
            try:
                wanted[id] = flows[id].send([made.get(_key(put)) for put in puts[id]])
            except StopIteration as end:
                del wanted[id]
                told[id] = end.value
                ledger.add_event(round, STAGE, REPRODUCER, _payload(end.value))
    return told


def reproduced(ledger: Ledger, id: str) -> Reproduced | None:
    """What the last search for this vulnerability's shortest case came to; None where there was none."""
    rows: list[Any] = [
        e.payload for e in ledger.events(stage=STAGE, kind=REPRODUCER) if e.payload["vulnerability"] == id
    ]
    return Reproduced(**(rows[-1] | {"characters": tuple(rows[-1]["characters"])})) if rows else None


def is_probe(attempt: Attempt) -> bool:
    """Whether identify made it: nothing of such an attempt may be learnt from."""
    return MARK in attempt.attack


class Unopened(UserError):
    """The round's model, or the judge, can't be had now."""


_ASKED = frozenset({"harmful_compliance", "over_refusal"})


@dataclass(frozen=True, slots=True)
class _Step:
    """Trials of a failure."""

    case: Case
    start: Attempt
    prompts: Trials


def _flow(
    v: V, ledger: Ledger, case_of: Callable[[str], Case | None], tools: Tools, queries: int
) -> Generator[_Step, Heard, Reproduced] | None:
    attacks = _opened(tools.attacks)
    starts = _starts(v, ledger, case_of, attacks)
    return _sought(v, starts, attacks, queries) if starts else None


@dataclass(frozen=True, slots=True)
class _Start:
    """`again`: an earlier round's shortest."""

    attempt: Attempt
    case: Case
    prompt: Conversation
    again: bool = False


def _starts(v: V, ledger: Ledger, case_of: Callable[[str], Case | None], attacks: Mapping[str, Attack]) -> list[_Start]:
    """The earlier shortest case, then the shortest failures; those on dev cases first, for they were not learnt."""
    found: list[tuple[tuple[bool, bool, int, str], _Start]] = []
    for attempt in ledger.known(list(dict.fromkeys([v.reproducer, *v.evidence]))).values():
        case = case_of(attempt.case)
        if case is None or case.split is Split.FROZEN or attempt.score != 0:
            continue
        again = attempt.id == v.reproducer
        prompt = asked(attempt, case, attacks.get(attempt.attack))
        if again and (before := reproduced(ledger, v.id)) is not None and before.begun:
            prompt = (*prompt, Message("assistant", before.begun))
        if prompt:
            order = (not again, case.split is not Split.DEV, _size(prompt), attempt.id)
            found.append((order, _Start(attempt, case, prompt, again)))
    return [one for _, one in sorted(found, key=lambda row: row[0])][:STARTS]


def _sought(
    v: V, starts: Sequence[_Start], attacks: Mapping[str, Attack], queries: int
) -> Generator[_Step, Heard, Reproduced]:
    """The first start that breaks again, shortened."""
    spent, one, end = 0, starts[0], Shortest(None, "it was not asked", 0, {})
    for one in starts:
        attack = attacks.get(one.attempt.attack)
        flow = shortest(one.prompt, one.case, attack, one.attempt.seed, queries - spent, confirm=one.again)
        try:
            prompts = next(flow)
            while True:
                prompts = flow.send((yield _Step(one.case, one.attempt, prompts)))
        except StopIteration as stop:
            end = stop.value
        spent += end.queries
        if end.attempt is not None or spent >= queries:
            break
    last = end.prompt or one.prompt
    return Reproduced(
        v.id, end.attempt.id if end.attempt is not None else "", end.why, one.attempt.id, end.bare, end.dropped,
        end.attempt is not None and end.whole, spent, (_size(one.prompt), _size(last)),
        last[-1].content if end.attempt is not None and last[-1].role == "assistant" else "",
    )  # fmt: skip


def _payload(told: Reproduced) -> dict[str, Any]:
    return {name: getattr(told, name) for name in Reproduced.__slots__} | {"dropped": dict(told.dropped)}


def _put(step: _Step, prompt: Conversation) -> Put:
    start, case = step.start, step.case
    name = start.attack if start.attack.endswith(MARK + REPRODUCER) else f"{start.attack}{MARK}{REPRODUCER}"
    language = case.language if prompt == case.prompt else start.language
    return Put(case, Said(name, start.family, start.persona, prompt, language))


def _bases(v: V, ledger: Ledger, case_of: Callable[[str], Case | None]) -> list[tuple[Case, str]]:
    """The (case, attack) pairs of its suite, else of its evidence, on dev cases."""
    pairs = v.suite or tuple((a.case, a.attack) for a in ledger.known(list(v.evidence)).values())
    found = ((case_of(case), attack) for case, attack in dict.fromkeys(pairs))
    return [(case, attack) for case, attack in found if case is not None and case.split is Split.DEV]


class _Asker:
    """Puts to the round's model in one batch: (case, attack, version) → attempt."""

    def __init__(
        self, config: Config, ledger: Ledger, tools: Tools, round: int, progress: Callable[[int, int], None]
    ) -> None:
        self.config, self.ledger, self.tools, self.round, self.progress = config, ledger, tools, round, progress

    def __call__(self, puts: Sequence[Put]) -> dict[tuple[str, str, str], Attempt]:
        if not puts:
            return {}
        ledger, round = self.ledger, self.round
        model, judge = self._model(), _opened(self.tools.judge)
        cases = {put.case.id: put.case for put in puts}
        sampling = Sampling(max_new_tokens=self.config.redteam.max_new_tokens)
        seed = self.config.seed
        outcome = campaign.run(
            puts, model, judge, sampling=sampling, seed=seed,
            known=mend.known(ledger, judge, cases.__getitem__, round=round, stage=STAGE),
            record=lambda attempts: ledger.add_attempts(attempts, round=round, stage=STAGE),
            progress=self.progress,
        )  # fmt: skip
        ledger.add_attempts(outcome.attempts, round=round, stage=STAGE)
        ids = {campaign.attempt_id(p, model, judge, sampling, seed, None, campaign.NO_LIMIT): _key(p) for p in puts}
        return {ids[attempt.id]: attempt for attempt in outcome.attempts}

    def _model(self) -> Model:
        """Not opened before it is asked: of a stage that is made anew all answers may be there."""
        measured = (a.model for stage in MEASURED for a in self.ledger.attempts(round=self.round, stage=stage))
        id = next(measured, None)
        return _opened(self.tools.model) if id is None else _Late(id, self.tools.model)


@dataclass(slots=True)
class _Late:
    """The model of that id, opened when it is first asked."""

    id: str
    open: Callable[[], Model]

    def generate(
        self, prompts: Sequence[Conversation], sampling: Sampling, seeds: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Reply]]:
        return _opened(self.open).generate(prompts, sampling, seeds)

    def score(self, pairs: Sequence[tuple[Conversation, str]]) -> list[tuple[float, int]]:
        return _opened(self.open).score(pairs)


def _opened(what: Callable[[], T]) -> T:
    try:
        return what()
    except BudgetSpent:
        raise
    except UserError as error:
        raise Unopened(str(error)) from error


def _key(put: Put) -> tuple[str, str, str]:
    return put.case.id, put.attack.name, str(getattr(put.attack, "version", 1))


def _size(prompt: Conversation) -> int:
    return sum(len(message.content) for message in prompt)
