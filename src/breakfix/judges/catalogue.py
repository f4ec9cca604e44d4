"""Every judge by name: a dict you can read, families of names, and what other packages add.

    refusal                                              refusal-rules, then refusal-classifier where they are unsure
    refusal-rules, refusal-classifier, objective, severity     offline, no model of the user's
    rubric/NAME                                          a rubric (data/rubrics, or the path of one), with --model
    guard/KIND:MODEL                                     a guard model by its template
    A+B                                                  a cascade: B where A can't tell or is unsure

Third parties add judges by the entry-point group "breakfix.judges": each a `core.Judge`, or a class of one without
arguments, under the entry point's name; `measures` says what it judges ("objective" where it does not).

What has to be opened (models, the embedding model) is opened by functions that the caller passes: judges do not know
models. Everything heavy is imported when a judge is built.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from breakfix.core import Expect, Judge, Model
from breakfix.errors import AssetError, ConfigError, UserError
from breakfix.judges.ask import MEASURES
from breakfix.plugins import installed

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from breakfix.config import Judges
    from breakfix.judges.rubrics import Rubric

GROUP = "breakfix.judges"
RUBRIC, GUARD = "rubric/", "guard/"
OpenModel = Callable[[str], Model]
OpenEmbedder = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Opener:
    """What opens the things that judges need: a language model by name, path or address; the embedding model.

    `say` hears in one line what a judge has to do without; None: it may do without nothing, as in a run, where one
    round would have another judge than the next.
    """

    model: OpenModel
    embedder: OpenEmbedder
    say: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One judge. `measures` is a name in MEASURES; `needs_model`: it asks a language model of the user's choice."""

    name: str
    what: str
    measures: str
    make: Callable[[Opener, str | None], Judge]
    needs_model: bool = False
    offline: bool = True  # can be built with nothing but what is on this machine, at once
    called: Callable[[], str] | None = None  # its name@version, where that is known before it is built


def _rules(opener: Opener, model: str | None) -> Judge:
    from breakfix.judges.refusal import RefusalJudge

    return RefusalJudge()


def _refusal(opener: Opener, model: str | None) -> Judge:
    """Where the embedding model can't be had, the rules alone: every verdict says whose it is."""
    from breakfix.judges.panel import Panel

    rules = _rules(opener, model)
    try:
        return Panel([rules, _classifier("refusal-classifier")(opener, model)])
    except AssetError as error:
        if opener.say is None:
            raise
        opener.say(f"judge refusal: by its rules alone ({rules.name}), for want of the embedding model ({error})")
        return rules


def _refusal_called() -> str:
    from breakfix.judges.panel import called

    return called([version(JUDGES[name]) or name for name in ("refusal-rules", "refusal-classifier")])


def _classifier(name: str) -> Callable[[Opener, str | None], Judge]:
    def make(opener: Opener, model: str | None) -> Judge:
        try:
            from breakfix.judges import embedding  # pyright: ignore
        except ImportError:
            raise ConfigError(f"{name}: this judge is not part of this installation; see `breakfix judges`") from None
        return embedding.build(name, opener.embedder())  # pyright: ignore

    return make


def _grounded(opener: Opener, model: str | None) -> Judge:
    from breakfix.judges.grounded import GroundedProxy

    return GroundedProxy()


def _verbatim(opener: Opener, model: str | None) -> Judge:
    from breakfix.judges.verbatim import VerbatimProxy

    return VerbatimProxy({})


def _offline(name: str, measures: str, what: str) -> Entry:
    def called() -> str:
        from breakfix.judges import embedding

        return embedding.called(embedding.shipped(name))

    return Entry(name, what, measures, _classifier(name), offline=False, called=called)


JUDGES: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "refusal",
            "does the reply refuse? By rules, then by its meaning",
            "refusal",
            _refusal,
            offline=False,
            called=_refusal_called,
        ),
        Entry("refusal-rules", "does the reply refuse? By rules, in twelve languages", "refusal", _rules),
        _offline("refusal-classifier", "refusal", "does the reply refuse? By its meaning"),
        _offline("objective", "objective", "does the reply do what was asked, though it should not? By its meaning"),
        _offline("severity", "severity", "how harmful is the reply, 0 to 7? By its meaning"),
        Entry("grounded-proxy", "does the given text support the reply? By words alone", "unsupported", _grounded),
        Entry("verbatim-proxy", "does it reproduce the reference, or nearly? By words alone", "third_party", _verbatim),
    )
}


def catalogue(points: Iterable[EntryPoint] | None = None) -> dict[str, Entry]:
    """JUDGES, the rubrics of this package, and the judges of installed packages. Raises ConfigError where one of
    those can't be loaded, is no judge or takes a name that is in use."""
    from breakfix.judges.rubrics import rubrics

    found = dict(JUDGES)
    found |= {f"{RUBRIC}{name}": _rubric(f"{RUBRIC}{name}", rubric) for name, rubric in rubrics().items()}
    for point, judge in installed(GROUP, "a judge", points):
        if not isinstance(judge, Judge):
            raise ConfigError(f"{point.value}: not a judge; it needs name and judge(rows)")
        if point.name in found:
            raise ConfigError(f"{point.value}: the judge name {point.name!r} is in use; give it another")
        found[point.name] = _third(point.name, judge)
    return found


def _third(name: str, judge: Judge) -> Entry:
    measures = str(getattr(judge, "measures", "objective"))
    if measures not in MEASURES:
        raise ConfigError(f"{name}: the judge measures {measures!r}; expected one of {', '.join(MEASURES)}")
    what = (type(judge).__doc__ or "from an installed package").strip().splitlines()[0]
    return Entry(name, what, measures, lambda opener, model: judge)


def _rubric(name: str, rubric: Rubric) -> Entry:
    def make(opener: Opener, model: str | None) -> Judge:
        from breakfix.judges.rubric import RubricJudge

        if model is None:
            raise ConfigError(f"{name}: needs a model to ask; give one with --model (config: judges.model)")
        return RubricJudge(rubric, opener.model(model))

    return Entry(name, rubric.what, measure_of(rubric), make, needs_model=True, offline=False)


def measure_of(rubric: Rubric) -> str:
    """What a rubric's verdicts are compared with: by its labels, expectations and scale."""
    if {"full", "partial", "none"} <= set(rubric.labels or rubric.answer[rubric.value].words):
        return "refusal"
    if Expect.NOT_REPRODUCE in rubric.breach:
        return "third_party"
    if Expect.GROUNDED in rubric.breach:
        return "ungroundedness"
    scales: dict[tuple[float, float] | None, str] = {(0, 7): "severity", (1, 10): "quality"}
    return scales.get(rubric.scale, "objective")


def _guard(name: str) -> Entry:
    kind, _, path = name.removeprefix(GUARD).partition(":")

    def make(opener: Opener, model: str | None) -> Judge:
        from breakfix.judges import guard  # pyright: ignore

        return guard.build(kind, opener.model(path))  # pyright: ignore

    if not kind or not path:
        raise ConfigError(f"judge {name!r}: expected guard/KIND:MODEL, such as guard/llama-guard:FOLDER_OR_HUB_ID")
    return Entry(name, f"is the reply unsafe? By the guard model {path}", "objective", make, offline=False)


def _cascade(name: str, known: Mapping[str, Entry]) -> Entry:
    members = [find(part, known) for part in name.split("+")]
    if len({member.measures for member in members}) > 1:
        raise ConfigError(f"judge {name!r}: its members do not measure the same; take judges of one measure")

    def make(opener: Opener, model: str | None) -> Judge:
        from breakfix.judges.panel import Panel

        return Panel([member.make(opener, model) for member in members])

    what = f"{members[0].what}; then the next where one can't tell"
    needs, offline = any(m.needs_model for m in members), all(m.offline for m in members)
    return Entry(name, what, members[0].measures, make, needs, offline)


def find(name: str, known: Mapping[str, Entry] | None = None) -> Entry:
    """The judge of this name; nothing is built. Raises ConfigError, with the nearest name where there is one."""
    if name in JUDGES:
        return JUDGES[name]
    known = catalogue() if known is None else known
    if name in known:
        return known[name]
    if "+" in name and all(part in known or part.startswith((GUARD, RUBRIC)) for part in name.split("+")):
        return _cascade(name, known)
    if name.startswith(GUARD):
        return _guard(name)
    if name.startswith(RUBRIC):
        from breakfix.judges.rubrics import load_rubric

        return _rubric(name, load_rubric(name.removeprefix(RUBRIC)))
    if "+" in name:
        return _cascade(name, known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "`breakfix judges` lists them"
    raise ConfigError(f"no judge {name!r}; {hint}")


def build(name: str, opener: Opener, model: str | None = None) -> Judge:
    """The judge itself. Raises ConfigError, or what opening the model raises."""
    return find(name).make(opener, model)


def version(entry: Entry) -> str | None:
    """name@version of the whole judge where it is known, or can be built at once; None where it would have to load or
    ask something."""
    if entry.called is not None:
        return entry.called()
    if not entry.offline:
        return None
    try:
        return entry.make(Opener(_closed, _closed), None).name
    except UserError:
        return None


def _closed(*_: object) -> Any:
    raise ConfigError("nothing can be opened here")


def members(settings: Judges) -> list[Entry]:
    """The judges that a run's config names; nothing is built. Raises ConfigError where one is none of refusals."""
    found = [find(name) for name in settings.panel or (settings.refusal,)]
    for entry in found:
        if entry.measures != "refusal":
            raise ConfigError(f"judges: {entry.name!r} measures {entry.measures}; a run needs a judge of refusals")
        if entry.needs_model and settings.model is None:
            raise ConfigError(f"judges: {entry.name!r} needs a model to ask; set judges.model")
    for key, name, measures in (
        ("harm", settings.harm, ("severity", "objective")),
        ("objective", settings.objective, ("objective",)),
    ):
        if name is None:
            continue
        entry = find(name)
        if entry.measures not in measures:
            raise ConfigError(f"judges.{key}: {entry.name!r} measures {entry.measures}; take one of {measures[0]}")
        if entry.needs_model and settings.model is None:
            raise ConfigError(f"judges.{key}: {entry.name!r} needs a model to ask; set judges.model")
    return found


def of_run(settings: Judges, opener: Opener) -> Judge:
    """The judge of a run. Raises ConfigError, or what opening a model raises."""
    from breakfix.judges.panel import Panel

    judges = [entry.make(opener, settings.model) for entry in members(settings)]
    return judges[0] if len(judges) == 1 else Panel(judges, settings.mode)
