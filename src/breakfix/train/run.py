"""The training stage: SFT, then DPO (or KTO), on the round's rows; adapters merged; weights kept as safetensors.

The policy is the model of the round before, whether or not the gate passed it; the preference loss's reference is the
policy as SFT left it (`train.reference`). Each of the two is a stage of its own in the ledger, so a killed run takes up
the last checkpoint of the one it was in. Release candidates (`train.candidates`) are checkpoints, blends of the weights
before and after, and trainings anew by other settings, each of them stages of their own; evaluate chooses among them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Config, Recipe
from ..core import Example
from ..errors import UserError
from . import recipes
from .blend import NOT_KEPT, blend

if TYPE_CHECKING:
    from ..ledger import Ledger

Progress = Callable[[str, int, int], None]  # what ("training (sft), loss 1.23"), done, total
Say = Callable[[str], None]
MADE = "training.json"  # beside the weights: the record of how they were made


def _mute(line: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class _Trained:
    """`path`: where the weights are, `sft`: where those before the preference loss are (both the policy's where nothing
    was trained); `parts`: the record of each step, `rows`: what it learnt from."""

    path: Path
    sft: Path
    parts: dict[str, Any]
    rows: dict[str, list[Example]]


def run(
    config: Config,
    ledger: Ledger,
    *,
    round: int,
    policy: Path,
    folder: Path,
    progress: Progress,
    untouched: Path | None = None,
    say: Say = _mute,
) -> dict[str, Any]:
    """Train `policy` on (round, "sft") and (round, "dpo"); the result lies in folder/model. Returns the record.

    "candidates" of it: name → folder, of the last checkpoint ("model") and of what train.candidates asks for besides;
    "recipes": name → how it was made; in round 1 "probe" (probe.py). `untouched` is the model that
    the run began with (None: the policy); `folder` holds checkpoints while it trains. Raises TrainingRefused before the
    first step where rows or template would train something else; UserError where memory runs out; DiskFull where room
    does: it then goes on from the last whole checkpoint.
    """
    from ..ledger.room import room
    from ..models.identity import weights_id

    here = _Round(ledger, round, policy, untouched or policy, folder, progress, say)
    model = folder / "model"
    if (model / MADE).is_file():  # published, but the process was killed before the ledger knew
        here.tidy(config)
        return here.record(config, json.loads((model / MADE).read_text()))
    record: dict[str, Any] = {"started_from": weights_id(policy)}
    with room(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if config.train.probe and round == 1:
            record["probe"] = here.probe(config)
        main = here.train(config, folder, "")
        made: dict[str, Any] = {}
        for recipe in config.train.candidates:
            if round >= recipe.from_round and (found := here.tried(config, recipe, main, record)) is not None:
                made[recipe.name] = found
        record |= main.parts | ({"recipes": made} if made else {})
        here.publish(config, "model", record, main.rows, lambda work: _copy(main.path, work))
        here.tidy(config)
    return here.record(config, record)


@dataclass(frozen=True, slots=True)
class _Round:
    """What all trainings of a round share."""

    ledger: Ledger
    round: int
    policy: Path
    untouched: Path
    folder: Path
    progress: Progress
    say: Say

    def train(
        self, config: Config, folder: Path, name: str, shares: Recipe | None = None, main: _Trained | None = None
    ) -> _Trained:
        """Both steps, in `folder`, for the candidate `name` ("": the round's own); with `main`, on its SFT."""
        from ..models.identity import weights_id

        settings = config.train
        rows = list(self.ledger.examples(round=self.round, dataset="sft"))
        pairs = list(self.ledger.examples(round=self.round, dataset="dpo"))
        if settings.preference == "kto":
            pairs += recipes.unpaired(rows, pairs, settings.dpo.max_pairs)
        learnt_from = sorted(recipes.learnt((*rows, *pairs)))  # the same of every part and candidate
        if shares is not None and shares.shares:
            rows = recipes.subset(rows, {**shares.shares})
        parts: dict[str, Any] = {}
        learnt: dict[str, list[Example]] = {}
        current, before = self.policy, self.policy
        for kind, enabled, examples in (
            ("sft", settings.sft.enabled, rows), (settings.preference, settings.dpo.enabled, pairs)
        ):  # fmt: skip
            before = current
            if kind == "sft" and main is not None:
                current, parts[kind] = main.sft, {"skipped": "the round's own"}
                learnt["sft"] = main.rows.get("sft", [])
                continue
            if not enabled or not examples:
                parts[kind] = {"skipped": "no rows" if enabled else "disabled"}
                continue
            reference = self._reference(config, kind, current)
            sft = main.parts["sft"] if main is not None else parts.get("sft")
            step = _Step(kind, config, examples, current, folder / kind, reference, sft, learnt_from)
            parts[kind] = self.ledger.stage(
                self.round,
                f"train-{name}-{kind}" if name else f"train-{kind}",
                {"examples": [e.id for e in examples], "policy": weights_id(current), "seed": config.seed,
                 "train": settings.model_dump(mode="json", exclude={"candidates", "probe"}), "folder": self.folder.name,
                 "reference": weights_id(reference) if reference else None},
                lambda step=step: self._one(step, name),
            )  # fmt: skip
            current, learnt[kind] = step.out, examples
        return _Trained(current, before, parts, learnt)

    def probe(self, config: Config) -> dict[str, Any]:
        """What a linear probe of the untouched model makes of the round's rows; a stage of its own, once a run."""
        from ..models.identity import weights_id
        from ..models.memory import give_back
        from . import probe

        rows = list(self.ledger.examples(round=self.round, dataset="sft"))
        asked = probe.cases(config)
        inputs = {
            "untouched": weights_id(self.untouched),
            "examples": [example.id for example in rows],
            "cases": {metric: [case.id for case in some] for metric, some in asked.items()},
        }
        self.progress("probe", 0, 1)
        found = self.ledger.stage(
            self.round, "train-probe", inputs, lambda: probe.run(config, self.untouched, rows, asked)
        )
        give_back()
        return found

    def _reference(self, config: Config, kind: str, policy: Path) -> Path | None:
        """The model that the preference loss keeps near, where it is not the policy itself."""
        from ..models.identity import weights_id

        other = kind != "sft" and config.train.reference == "untouched"
        return self.untouched if other and weights_id(self.untouched) != weights_id(policy) else None

    def tried(self, config: Config, recipe: Recipe, main: _Trained, record: dict[str, Any]) -> dict[str, Any] | None:
        """`candidate`; one whose training can't be done is recorded as failed, and the round goes on without it."""
        from ..errors import DiskFull

        try:
            return self.candidate(config, recipe, main, record)
        except DiskFull:
            raise
        except UserError as error:
            self.say(f"round {self.round}: no candidate {recipe.name}: {error}")
            return {**said(recipe), "failed": str(error)}

    def candidate(self, own: Config, recipe: Recipe, main: _Trained, record: dict[str, Any]) -> dict[str, Any] | None:
        """Make a candidate and publish it. Its record; None where the round has none of its kind."""
        config, place = own, self.place(recipe.name)
        if (place / MADE).is_file():
            return json.loads((place / MADE).read_text())["recipe"]
        about = said(recipe)
        end, scratch = main, self.scratch(recipe.name)
        alpha = recipe.blend
        if recipe.name == "sft":
            if main.sft in (main.path, self.policy):
                return None  # there was no DPO after it, or no SFT
            end = _Trained(main.sft, main.sft, {"sft": main.parts["sft"]}, {"sft": main.rows["sft"]})
        elif alpha == 0:  # the round's start, which learnt none of its rows: what it was asked is not asked again
            end = _Trained(self.policy, self.policy, {}, {})
        elif recipe.trains:
            config = recipes.changed(config, recipe)
            same = recipes.same_sft(config, own, recipe) and main.sft != self.policy
            end = self.train(config, scratch, recipe.name, recipe, main if same else None)
            about = {**about, **end.parts}

        def make(work: Path) -> None:
            if alpha:
                blend(self.policy, end.path, alpha, work)
            else:
                _copy(end.path, work)

        self.publish(config, recipe.name, {**record, **end.parts, "recipe": about}, end.rows, make)
        shutil.rmtree(scratch, ignore_errors=True)
        return about

    def place(self, name: str) -> Path:
        return self.folder / (name if name == "model" else f"{name}-model")

    def scratch(self, name: str) -> Path:
        return self.folder / f"{name}-training"

    def publish(
        self, config: Config, name: str, record: dict[str, Any], rows: dict[str, list[Example]],
        make: Callable[[Path], object],
    ) -> None:  # fmt: skip
        """Let `make` write a model, and put it in its place whole or not at all."""
        from ..models.identity import weights_id
        from .card import card

        place = self.place(name)
        work = place.with_name(f"{place.name}.new")
        for folder in (work, place):
            shutil.rmtree(folder, ignore_errors=True)
        make(work)
        said = card(config, name, self.round, record, rows, untouched=self.untouched, began=weights_id(self.untouched))
        (work / "README.md").write_text(said, encoding="utf-8")
        (work / MADE).write_text(json.dumps(record))
        work.rename(place)

    def record(self, config: Config, record: dict[str, Any]) -> dict[str, Any]:
        from ..models.identity import weights_id

        model = self.place("model")
        names = ["model", *(recipe.name for recipe in config.train.candidates)]
        candidates = {name: str(self.place(name)) for name in names if self.place(name).is_dir()}
        return {**record, "model": str(model), "weights": weights_id(model), "candidates": candidates}

    def tidy(self, config: Config) -> None:
        """Only models are kept: checkpoints go."""
        scratch = (self.scratch(recipe.name) for recipe in config.train.candidates)
        for step in (*(self.folder / kind for kind in ("sft", "dpo", "kto")), *scratch):
            shutil.rmtree(step, ignore_errors=True)

    def _one(self, step: _Step, name: str) -> dict[str, Any]:
        from ..models.memory import give_back, out_of_memory
        from .alarms import told  # torch loads here

        part, label = step.kind, f"training ({step.kind})"
        if name:
            part, label = f"{name}-{step.kind}", f"training ({name}: {step.kind})"
        what = label

        def log(at: int, total: int, figures: dict[str, float]) -> None:
            nonlocal what
            if (alarm := told(figures, at)) is not None:
                self.ledger.add_event(self.round, "train", "alarm", {"part": part, **alarm.record()})
                self.say(f"round {self.round}: {label}, alarm at {alarm}")
            elif figures:
                self.ledger.add_event(self.round, "train", part, {"step": at, **figures})
            if "loss" in figures:
                what = f"{label}, loss {figures['loss']:.2f}"
            self.progress(what, at, total)

        give_back()
        more: dict[str, Any] = {"learnt": step.learnt}
        if step.reference is not None:
            more["reference"] = step.reference
        if step.kind == "dpo":
            more["references"] = self.folder.parent / "references"  # of all trainings of the round
        if step.before is not None and "replies" in step.before:
            more["before"] = {"replies": step.before["replies"]}
        try:
            if step.config.train.launcher == "accelerate":
                from .launch import launched as fit
            else:
                from .fit import fit  # torch and TRL load here
            return fit(step.kind, step.config, step.policy, step.examples, step.out, log, **more)
        except Exception as error:
            if not out_of_memory(error):
                raise
            section = "sft" if step.kind == "sft" else "dpo"
            method = "" if step.config.train.method == "lora" else ", or set train.method to lora"
            batch = getattr(step.config.train, section).batch
            raise UserError(
                f"training ran out of memory; lower train.{section}.batch (it is {batch}){method}, then run again"
            ) from error


@dataclass(frozen=True, slots=True)
class _Step:
    """One fit: `policy` trained on `examples`, into `out`."""

    kind: str
    config: Config
    examples: Sequence[Example]
    policy: Path
    out: Path
    reference: Path | None
    before: dict[str, Any] | None  # the record of the step before this one
    learnt: Sequence[str]  # recipes.learnt of all the round's rows


def said(recipe: Recipe) -> dict[str, Any]:
    """What a recipe's candidate does otherwise, for its record."""
    return recipe.model_dump(mode="json", exclude_defaults=True, exclude={"name"})


def _copy(trained: Path, work: Path) -> None:
    shutil.copytree(trained, work, ignore=shutil.ignore_patterns(*NOT_KEPT))
