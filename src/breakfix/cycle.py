"""The break-fix cycle: the five stages in their order. The only file that knows the order.

    round 0        evaluate → redteam → identify            (the untouched model)
    round 1 … n    curate → train → evaluate → redteam → identify

Every stage is made once per inputs (`ledger.stage`): what is finished is read back, what was interrupted goes on from
the attempts and checkpoints that it had written. Stages talk only through the ledger.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import assets, frames, loop, prescription, starter
from .config import Config, Judges, Source, Suite
from .core import Attack, Case, Judge, Model, Split, digest
from .errors import AssetError, ConfigError, LedgerError
from .judges.catalogue import Opener, build, of_run
from .ledger import Ledger
from .models.endpoint import is_remote
from .models.memory import give_back
from .models.open import model_id, open_hf, open_model, place
from .ready import check, trainable
from .suites import SUITES, Loaded, load

if TYPE_CHECKING:
    from .evaluate.work import Rai
    from .identify.clusters import Kept
    from .identify.probing import Tools
    from .models.remote import RemoteModel
    from .redteam.goals import Goals

STAGES = ("curate", "train", "evaluate", "redteam", "identify")
Progress = Callable[[str, int, int], None]
Say = Callable[[str], None]


def _quiet(what: str, done: int, total: int) -> None:
    pass


def _mute(line: str) -> None:
    pass


class Cycle:
    """One run: a config, its ledger, and the stages. Models load when a stage first needs one, one at a time."""

    def __init__(
        self,
        config: Config,
        run: Path,
        ledger: Ledger,
        *,
        progress: Progress = _quiet,
        say: Say = _mute,
        note: Say | None = None,
        open_model: Callable[[str, Config], Model] = open_model,
    ) -> None:
        self.config, self.run_folder, self.ledger = config, run, ledger
        self.progress, self.say, self.note = progress, say, note or say
        self._open = open_model
        self._loaded: tuple[str, Model] | None = None
        self._remote: dict[str, Model] = {}
        self._walls: list[Case] | None = None
        self._no_walls: list[dict[str, str]] = []  # suites that can't be had, and why

    # -- the order -------------------------------------------------------------------------------------------------

    def go(self, after_round: Callable[[int], object] | None = None) -> dict[str, Any]:
        """All rounds, until the loop ends (loop.py); tells `after_round` of each. Returns the last identify record."""
        trainable(self.config)
        check(self.config)
        return loop.go(
            lambda round: [self.stage(round, stage) for stage in (STAGES if round else STAGES[2:])][-1],
            self.config.rounds, self.say, after_round,
        )  # fmt: skip

    def stage(self, round: int, name: str, *, again: bool = False) -> dict[str, Any]:
        """Make one stage of one round, or read back what it made. Raises LedgerError if an earlier one is missing.

        `again`: made anew though it is finished, so that attempts on which the model failed are asked for once more
        (those that succeeded are not), and replies on which the judge failed are put to it once more.
        """
        order = STAGES if round else STAGES[2:]
        if name not in order:
            raise ConfigError(f"round {round} has no stage {name!r}; expected one of {', '.join(order)}")
        if name == "train":
            trainable(self.config)
        self._require(round, name)
        if name in ("evaluate", "redteam", "curate"):
            self._settle()
        if name in ("evaluate", "redteam"):
            self._select(round)
        inputs, make = getattr(self, f"_{name}")(round)
        if again:
            self.ledger.add_event(round, "run", f"{name} again", {})
        if times := sum(1 for _ in self.ledger.events(round, "run", f"{name} again")):
            inputs = {**inputs, "again": times}
        made = False

        def aloud() -> dict[str, Any]:
            nonlocal made
            made = True
            self.say(f"round {round}: {name}")
            return make()

        record = self.ledger.stage(round, name, inputs, aloud)
        if made:
            give_back()
        if not made:
            self.say(f"round {round}: {name}, done before")
        else:
            self._say_failures(round, name)
        if name == "identify" and (told := prescription.write(self.run_folder, self.ledger, self.config, round)):
            self.say(told)
        for bill in filter(None, (getattr(model, "bill", "") for model in self._remote.values() if made)):
            self.say(f"in this run so far: {bill}")
        return record

    def _say_failures(self, round: int, name: str) -> None:
        """Of the model; of the judge where that is one who may answer another time."""
        attempts = list(self.ledger.attempts(round=round, stage=name))
        failed = {"the model failed": sum(attempt.error is not None for attempt in attempts)}
        if self.config.judges.model is not None:
            failed["the judge gave no verdict"] = sum(bool(attempt.unjudged) for attempt in attempts)
        command = f"`breakfix {name} {os.path.relpath(self.run_folder)} --round {round} --again`"
        for what, n in failed.items():
            if n:
                self.say(f"round {round}: {what} on {n} attempts; {command} asks for them once more")

    def prescribe(self, round: int, file: Path) -> None:
        """Let a round be curated by another prescription. Raises DataError, LedgerError, ConfigError."""
        if not round:
            raise ConfigError("round 0 curates nothing; a prescription is for round 1 or a later one")
        if not self.config.curate.failures:
            raise ConfigError("curate.failures is false, so no prescription is read; set it to true")
        self._require(round, "curate")
        if told := prescription.install(file, self.run_folder, self.ledger, self.config, round - 1):
            self.say(told)

    def _require(self, round: int, name: str) -> None:
        before = [(round, s) for s in STAGES[: STAGES.index(name)] if round or s in STAGES[2:]]
        before += [(round - 1, "identify")] if round and not before else []
        if name == "redteam":
            before = [need for need in before if need[1] != "evaluate"]
        for r, s in before:
            if self.ledger.finished(r, s) is None:
                raise LedgerError(f"round {round} {name} needs round {r} {s}, which has not finished; run that first")

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

    def goals(self) -> Goals:
        """The user's own, of `redteam.seeds`. Raises DataError."""
        from .redteam.goals import Goals, read

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
        from .evaluate.rai import judges
        from .evaluate.work import Rai
        from .suites.scenarios import PREFIX

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

    # -- the stages: (inputs that identify the work, how to do it) -------------------------------------------------

    def _evaluate(self, round: int) -> tuple[Mapping[str, Any], Callable[[], dict[str, Any]]]:
        from . import evaluate

        config, path = self.config, self.model_path(round)
        about, rai = self._rai()
        inputs = {
            "evaluate": config.evaluate.model_dump(mode="json", exclude={"suites"}),
            "suites": [read(suite) for suite in config.evaluate.suites],
            **({"rater": self.rater.name} if self.rater else {}),
            **({"rai": about} if about else {}),
            **({"untouched": digest(self.ledger.finished(0, "evaluate"))} if round else {}),  # changes are from it
            **self._about(path),
        }

        def make() -> dict[str, Any]:
            return evaluate.run(
                config, self.ledger, self.model(path), self.judge, round=round, suites=config.evaluate.suites,
                rater=self.rater, rai=rai, progress=self.progress,
            )  # fmt: skip

        return inputs, make

    def _redteam(self, round: int) -> tuple[Mapping[str, Any], Callable[[], dict[str, Any]]]:
        from .redteam.run import run

        config, path = self.config, self.model_path(round)
        helper, seeds = self._helper_path(), config.redteam.seeds
        inputs = {
            "redteam": {**config.redteam.asked(), "helper": self._id(helper) if helper else None},
            "attacks": attacks(config.redteam.seen, config.redteam.held_out),
            **({"seeds": contents(seeds)} if seeds is not None and seeds.is_file() else {}),
            **self._about(path),
            "judge": self.attack_judge.name,
        }

        def make() -> dict[str, Any]:
            goals = self.goals()
            if told := goals.told():
                self.say(f"redteam.seeds: {told}")
            return run(
                config, self.ledger, self.model(path), self.attack_judge, self._load(helper) if helper else None,
                round=round, cases=starter.cases(kind="harmful"), goals=goals, progress=self.progress,
            )  # fmt: skip

        return inputs, make

    def _identify(self, round: int) -> tuple[Mapping[str, Any], Callable[[], dict[str, Any]]]:
        from . import identify
        from .identify import clusters, edits, probing

        found = [self._record(r, s) for r in range(round + 1) for s in ("evaluate", "redteam")]
        harmful = self.config.curate.harmful  # prescriptions share out a part of it
        people = [a.id for r in range(round + 1) for a in self.ledger.attempts(round=r, stage=identify.PEOPLE)]
        ledger, policy = self.ledger, self.config.gate.policy
        changed = edits.before(edits.read(ledger), round)
        inputs = {"gate": self.config.gate.model_dump(exclude={"policy"}), "harmful": harmful, "found": digest(found),
                  **({"people": digest(people)} if people else {}), **({"edits": changed} if changed else {}),
                  **loop.inputs(ledger, policy, round),
                  **({"topics": clusters.VERSION} if self.config.identify.topics else {}),
                  **probing.inputs(self.config)}  # fmt: skip
        embedder = kept_vectors if self.config.identify.topics else None

        def make() -> dict[str, Any]:
            tools = self.tools(round)
            return loop.settle(
                ledger, policy, round,
                identify.run(
                    self.config, ledger, round=round, tools=tools, progress=self.progress, embedder=embedder
                ),
            )  # fmt: skip

        return inputs, make

    def tools(self, round: int) -> Tools:
        """What it takes to ask a round's model about weaknesses (identify/probing.py); opened when first used."""
        from .curate.paraphrase import reworded
        from .identify.probing import Tools
        from .redteam import chosen

        @cache
        def attacks() -> Mapping[str, Attack]:
            settings = self.config.redteam
            return {attack.name: attack for side in chosen(settings.seen, settings.held_out) for attack in side}

        return Tools(lambda: self.model(self.model_path(round)), lambda: self.judge, attacks, reworded)

    def _curate(self, round: int) -> tuple[Mapping[str, Any], Callable[[], dict[str, Any]]]:
        from . import curate
        from .identify import edits
        from .redteam import chosen

        config, base, policy = self.config, self.base_path(), self._policy(round)
        name = config.curate.helper
        seen, _ = chosen(config.redteam.seen, config.redteam.held_out)
        read_it = config.curate.failures
        edited = prescription.edited(self.run_folder, self.ledger, config, round - 1) if read_it else None
        standing = edited.standing if edited else edits.standing(self.ledger, round - 1)
        inputs = {
            "curate": config.curate.asked(),
            "sources": [read(source) for source in config.curate.sources],
            "pairs": config.train.dpo.max_pairs if config.train.dpo.enabled else 0,
            "longest": config.train.sft.max_length,
            "families": [config.redteam.seen, config.redteam.held_out],  # whose findings may be learnt from
            "frames": attacks(config.redteam.seen, ()),  # and what requests are put into
            "walls": digest([[c.id, c.source, c.prompt, dict(c.translations)] for c in self.walls()]),
            "not_checked": [row["suite"] for row in self._no_walls],
            "found": digest(standing),  # what of identify it reads: not the gate
            "earlier": [digest(self._record(r, "curate")) for r in range(1, round)],  # some of those rows come again
            **(edited.inputs if edited else {}),
            **({"policy": self._id(policy)} if config.curate.on_policy else {}),
            **({"helper": self._id(place(name))} if name else {}),
            **self._about(base),
        }

        def make() -> dict[str, Any]:
            if edited:
                self.say(f"{edited.file} was changed: {'; '.join(map(prescription.said, edited.changes))}")
            record = curate.run(
                config, self.ledger, self.model(base), self.judge, round=round, walls=self.walls(),
                not_checked=self._no_walls, attacks=seen, policy=lambda: self.model(policy),
                helper=(lambda: self._load(place(name or ""))) if name else None, known=standing,
                plan=edited.plan if edited else curate.NO_PLAN, progress=self.progress,
            )  # fmt: skip
            return {**record, "prescription": edited.told(self.ledger)} if edited else record

        return inputs, make

    def _train(self, round: int) -> tuple[Mapping[str, Any], Callable[[], dict[str, Any]]]:
        from .train import run as train

        config, policy, base = self.config, self._policy(round), self.base_path()
        inputs = {
            "train": config.train.model_dump(mode="json"),
            "untouched": weights(base),
            "rows": {kind: self._rows(round, kind) for kind in ("sft", "dpo")},
            "policy": weights(policy),
            "seed": config.seed,
            "precision": config.hardware.precision,
        }

        def make() -> dict[str, Any]:
            self._unload()
            folder = self.run_folder / f"round-{round}" / digest(inputs)[:8]
            return train.run(
                self._settled(), self.ledger, round=round, policy=Path(policy), folder=folder, progress=self.progress,
                untouched=Path(base), say=self.note,
            )  # fmt: skip

        return inputs, make

    def _select(self, round: int) -> None:
        """Where training left several checkpoints: the one that goes on. A stage of its own, a part of evaluate."""
        record = self._record(round, "train") if round else {}
        found = {name: inside(self.run_folder, Path(folder)) for name, folder in record.get("candidates", {}).items()}
        if len(found) < 2:
            return
        from .evaluate import choose
        from .redteam import steering
        from .train import card

        asked = choose.steering(self.config)
        wrapped = steering.wrapped(self.config, starter.cases(kind="harmful"))
        inputs = {
            "candidates": {name: weights(folder) for name, folder in found.items()},
            "cases": digest([[case.id, case.prompt] for case in (*asked.requests, *asked.questions)]),
            "everyday": digest(sorted(asked.everyday)),
            "wrapped": digest([[put.case.id, put.attack.name, getattr(put.attack, "version", 1)] for put in wrapped]),
            "max_new_tokens": self.config.evaluate.max_new_tokens,
            **{key: value for key, value in self._about(found["model"]).items() if key != "model"},
        }

        def make() -> dict[str, Any]:
            self.say(f"round {round}: select, of {' and '.join(found)}")
            chosen = choose.run(
                self.config, self.ledger, self.judge, round=round, open_model=self.model, candidates=found,
                wrapped=wrapped, progress=self.progress,
            )  # fmt: skip
            for name, folder in found.items():
                card.chosen(Path(folder), name, chosen)
            self.say(f"round {round}: {chosen['selected']} goes on")
            return chosen

        self.ledger.stage(round, "select", inputs, make)

    # -- models ----------------------------------------------------------------------------------------------------

    def base_path(self) -> str:
        """The untouched model's folder (downloaded or converted when first needed), or a remote one's address."""
        return place(self.config.model)

    def model_path(self, round: int) -> str:
        if round == 0:
            return self.base_path()
        return trained(self.run_folder, self._record(round, "train"), self.ledger.finished(round, "select"))

    def _policy(self, round: int) -> str:
        """The model that a round begins with: the one before it, or what the loop fell back to."""
        return self.model_path(loop.base(self.ledger, self.config.gate.policy, round - 1))

    def model(self, path: str) -> Model:
        """The model at `path`; the one loaded before makes room."""
        if self._loaded is None or self._loaded[0] != path:
            self._unload()
            self._loaded = (path, self._load(path))
        return self._loaded[1]

    def _load(self, path: str) -> Model:
        """Open the model at `path` in the run's precision. Of a remote one there is one for all who ask it."""
        if not is_remote(path):
            return self._open(path, self._settled())
        if path not in self._remote:
            self._remote[path] = self._metered(self._open(path, self.config))
        return self._remote[path]

    def _metered(self, model: Model) -> Model:
        """What a remote model costs is counted over the whole run."""
        from .models.remote import RemoteModel

        if isinstance(model, RemoteModel):
            self.count(model)
        return model

    def count(self, model: RemoteModel) -> None:
        """Go on counting what is spent on a model from where the ledger is, and in it."""
        model.resume(self.ledger.spent(model.id), self.ledger.add_spent)

    def _settled(self) -> Config:
        """The config with the run's precision in place of `auto`, once that is known."""
        precision = self._precision()
        if precision is None:
            return self.config
        hardware = self.config.hardware.model_copy(update={"precision": precision})
        return self.config.model_copy(update={"hardware": hardware})

    def _precision(self) -> str | None:
        """What `auto` came to in this run; None where it has not been tried yet."""
        if self.config.hardware.precision != "auto":
            return self.config.hardware.precision
        return next((event.payload["precision"] for event in self.ledger.events(0, "run", "precision")), None)

    def _settle(self) -> None:
        """Try `auto` once a run. The probe is a timing: another answer after a restart would be another model, all of
        whose attempts would be paid again."""
        if self._precision() is None:
            found = getattr(self.model(self.base_path()), "precision", None)
            if found is not None:
                self.ledger.add_event(0, "run", "precision", {"precision": found})

    def _unload(self) -> None:
        self._loaded = None
        give_back()

    def _helper_path(self) -> str | None:
        name = self.config.redteam.helper
        return place(name) if name else None

    # -- what stages read ------------------------------------------------------------------------------------------

    def walls(self) -> list[Case]:
        """Every dev and frozen case that can be had: curation keeps clear of all of them, measured here or not."""
        if self._walls is None:
            found: dict[str, Case] = {case.id: case for case in starter.cases(split=Split.DEV)}
            found |= {case.id: case for case in self.goals().cases if case.split is Split.DEV}
            for suite in _walled(self.config):
                try:
                    loaded = load(suite, seed=self.config.seed)
                except AssetError as error:
                    self._no_walls.append({"suite": suite.name, "reason": str(error)})
                    continue
                found |= {case.id: case for case in loaded.cases}
            if self._no_walls:
                lacking = ", ".join(row["suite"] for row in self._no_walls)
                self.say(f"training data is not kept clear of what can't be had: {lacking}")
            self._walls = list(found.values())
        return self._walls

    def _record(self, round: int, name: str) -> dict[str, Any]:
        record = self.ledger.finished(round, name)
        if record is None:
            raise LedgerError(f"round {round} {name} has not finished; `breakfix run` goes on from there")
        return record

    def _rows(self, round: int, dataset: str) -> str:
        """The digest of a round's training rows: curation made anew with the same rows asks for no other training."""
        rows = self.ledger.examples(round=round, dataset=dataset)
        return digest([[row.id, row.cut, row.rejected_cut] for row in rows])

    def _id(self, path: str) -> str:
        """What identifies a model among a stage's inputs."""
        return model_id(path, self.config) if is_remote(path) else weights(path)

    def _about(self, path: str) -> dict[str, Any]:
        return {"model": self._id(path), "judge": self.judge.name, "seed": self.config.seed, "pack": pack(),
                "precision": self.config.hardware.precision}  # fmt: skip


def trained(run: Path, train: Mapping[str, Any], select: Mapping[str, Any] | None = None) -> str:
    """The folder of a round's model, by the records of its stages: the candidate that was selected, else the last."""
    candidates: Mapping[str, str] = train.get("candidates", {})
    return inside(run, Path(candidates.get(select["selected"] if select else "", train["model"])))


def inside(run: Path, path: Path) -> str:
    """RUN/round-N/DIGEST/NAME, also where the run's folder was moved since."""
    return str(path if path.is_dir() else run.joinpath(*path.parts[-3:]))


def read(item: Source | Suite) -> dict[str, Any]:
    """A source or suite as a stage reads it: its settings, and in place of its path what is there, wherever that is."""
    local = item.path
    if local is None and isinstance(item, Source) and item.hub is not None and Path(item.hub).expanduser().exists():
        local = Path(item.hub).expanduser()
    settings = item.model_dump(mode="json", exclude={"path", "hub"} if local is not None else set())
    if local is None and isinstance(item, Source) and item.hub is None and item.name == frames.SOURCE:
        settings["content"] = digest(frames.cases())
    return settings if local is None else {**settings, "content": contents(local)}


def contents(path: Path) -> str:
    """The digest of a file, or of a folder's files: rows that were changed since are other rows."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    found: list[tuple[str, str]] = []
    for file in files:
        with file.open("rb") as stream:
            name = file.relative_to(path).as_posix() if file != path else file.suffix
            found.append((name, hashlib.file_digest(stream, "sha256").hexdigest()))
    return digest(found)


@cache
def pack() -> str:
    """The digest of the starter pack."""
    return digest(starter.cases())


def attacks(seen: Sequence[str], held_out: Sequence[str]) -> list[tuple[str, str, int]]:
    """(name, family, version) of every attack of these families, also of installed packages."""
    from .redteam import chosen

    used = [attack for side in chosen(seen, held_out) for attack in side]
    return sorted((attack.name, attack.family, getattr(attack, "version", 1)) for attack in used)


def open_embedder() -> Any:
    """The sentence-embedding model that classifiers were fitted on."""
    from .models.embed import ASSET, Embedder

    return Embedder.load(assets.resolve(ASSET).path)


def kept_vectors() -> Kept:
    """What identify cuts cells into topics with: curation's embedding model and its vectors, kept in the cache folder.
    AssetError where it can't be had."""
    from .curate.steps.order import EMBEDDER, vectors_of
    from .identify.clusters import Kept

    return Kept(vectors_of(assets.resolve(EMBEDDER).path).of)


def weights(path: str) -> str:
    from .models.identity import weights_id

    return weights_id(path)


def _walled(config: Config) -> Sequence[Suite]:
    named = {suite.name: suite.model_copy(update={"limit": None}) for suite in config.evaluate.suites}
    for name, spec in SUITES.items():
        if spec.split is not Split.TRAIN:
            named.setdefault(name, Suite(name=name))
    return list(named.values())


__all__ = ["STAGES", "Cycle", "Loaded", "check", "open_hf", "trained"]
