"""What stages work with beside models: judges, goals, what training data is kept clear of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from breakfix import assets, starter
from breakfix.config import Config, Judges, Suite
from breakfix.core import Attack, Case, Judge, Model, Split, digest
from breakfix.cycle.content import pack
from breakfix.cycle.loading import Loading
from breakfix.errors import AssetError
from breakfix.judges.catalogue import Opener, build, find, of_run, version
from breakfix.models.endpoint import is_remote
from breakfix.suites import SUITES, load

if TYPE_CHECKING:
    from breakfix.evaluate.work import Rai
    from breakfix.identify.clusters import Kept
    from breakfix.identify.probing import Tools
    from breakfix.redteam.goals import Goals


class Means(Loading):
    """The part of a cycle that builds each of them when a stage first needs it."""

    @cached_property
    def judge(self) -> Judge:
        """The judge of `config.judges`, built when a stage first needs it. A model of its own stays in memory."""
        return of_run(self.config.judges, self._opener())

    @cached_property
    def attack_judge(self) -> Judge:
        """The red team's own, where it has one (`redteam.judge`)."""
        name = self.config.redteam.judge
        return (
            self.judge if name is None else of_run(Judges(refusal=name, model=self.config.judges.model), self._opener())
        )

    def _objective(self) -> tuple[str, Callable[[], Judge] | None]:
        """The name@version of the judge of `judges.objective`, and what opens it; of none ("", None)."""
        name = self.config.judges.objective
        if name is None:
            return "", None
        return version(find(name)) or self._second.name, lambda: self._second

    @cached_property
    def _second(self) -> Judge:
        return build(self.config.judges.objective or "", self._opener(), self.config.judges.model)

    def goals(self) -> Goals:
        """The user's own, of `redteam.seeds`. Raises DataError."""
        from breakfix.redteam.goals import Goals, read

        seeds = self.config.redteam.seeds
        return read(seeds) if seeds is not None else Goals()

    @cached_property
    def rater(self) -> Judge | None:
        """Who rates open questions: judges.model, by the rubric `quality`; None where not needed, or not named."""
        name = self.config.judges.model
        asked = any(
            SUITES[suite.name].measure == "open" for suite in self.config.evaluate.suites if suite.name in SUITES
        )
        return build("rubric/quality", self._opener(), name) if asked and name is not None else None

    def _rai(self) -> tuple[list[str], Rai | None]:
        """(what identifies who takes part in the RAI suites, and what is said in them; the same for evaluate); nothing
        where none of them is measured."""
        from breakfix.evaluate.rai import judges
        from breakfix.evaluate.work import Rai
        from breakfix.suites.scenarios import PREFIX

        named = [s for s in self.config.evaluate.suites if s.name in SUITES and SUITES[s.name].measure == "rai"]
        if not named:
            return [], None
        judge_of, helper = judges(self.config.judges, self.judge, self._opener()), self._helper_path()
        about = [judge_of(suite.name.removeprefix(PREFIX), suite.path).name for suite in named]
        about += [digest([case.id for case in load(suite, seed=self.config.seed).cases]) for suite in named]
        about += [self._id(helper)] if helper else []
        return about, Rai(judge_of, (lambda: self._load(helper)) if helper else None)

    def _opener(self) -> Opener:
        def model(name: str) -> Model:
            return self._load(name if is_remote(name) else str(assets.resolve_model(name, "judges.model").path))

        return Opener(model, open_embedder)

    def tools(self, round: int) -> Tools:
        """What it takes to ask a round's model about weaknesses (identify/probing.py); opened when first used."""
        from breakfix.curate.paraphrase import reworded
        from breakfix.identify.probing import Tools
        from breakfix.redteam import chosen

        @cache
        def attacks() -> Mapping[str, Attack]:
            settings = self.config.redteam
            return {attack.name: attack for side in chosen(settings.seen, settings.held_out) for attack in side}

        return Tools(lambda: self.model(self.model_path(round)), lambda: self.judge, attacks, reworded)

    def walls(self) -> list[Case]:
        """Every dev and frozen case that can be had: curation keeps clear of all of them, measured here or not."""
        return self._walls[0]

    @cached_property
    def _walls(self) -> tuple[list[Case], list[dict[str, str]]]:
        """(the walls, {"suite", "reason"} of every suite that can't be had)"""
        found: dict[str, Case] = {case.id: case for case in starter.cases(split=Split.DEV)}
        found |= {case.id: case for case in self.goals().cases if case.split is Split.DEV}
        lacking: list[dict[str, str]] = []
        for suite in _walled(self.config):
            try:
                loaded = load(suite, seed=self.config.seed)
            except AssetError as error:
                lacking.append({"suite": suite.name, "reason": str(error)})
                continue
            found |= {case.id: case for case in loaded.cases}
        if lacking:
            named = ", ".join(row["suite"] for row in lacking)
            self.say(f"training data is not kept clear of what can't be had: {named}")
        return list(found.values()), lacking

    def _rows(self, round: int, dataset: str) -> str:
        """The digest of a round's training rows: curation made anew with the same rows asks for no other training."""
        rows = self.ledger.examples(round=round, dataset=dataset)
        return digest([[row.id, row.cut, row.rejected_cut] for row in rows])

    def _about(self, path: str) -> dict[str, Any]:
        return {"model": self._id(path), "judge": self.judge.name, "seed": self.config.seed, "pack": pack(),
                "precision": self.config.hardware.precision}  # fmt: skip


def open_embedder() -> Any:
    """The sentence-embedding model that classifiers were fitted on."""
    from breakfix.models.embed import ASSET, Embedder

    return Embedder.load(assets.resolve(ASSET).path)


def kept_vectors() -> Kept:
    """What identify cuts cells into topics with: curation's embedding model and its vectors, kept in the cache folder.
    AssetError where it can't be had."""
    from breakfix.curate.steps.order import EMBEDDER, vectors_of
    from breakfix.identify.clusters import Kept

    return Kept(vectors_of(assets.resolve(EMBEDDER).path).of)


def _walled(config: Config) -> Sequence[Suite]:
    named = {suite.name: suite.model_copy(update={"limit": None}) for suite in config.evaluate.suites}
    for name, spec in SUITES.items():
        if spec.split is not Split.TRAIN:
            named.setdefault(name, Suite(name=name))
    return list(named.values())
