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
    was trained); `parts`: the record of each step."""

    path: Path
    sft: Path
    parts: dict[str, Any]


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
    "recipes": name → how it was made. `untouched` is the model that the run began with (None: the policy). `folder`
    holds checkpoints while it trains. Raises TrainingRefused before the first step where rows or template would train
    something else; UserError where memory runs out; DiskFull where room does: it then goes on from the last whole
    checkpoint.
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
        main = here.train(config, folder, "")
        made: dict[str, Any] = {}
        for recipe in config.train.candidates:
            if round >= recipe.from_round and (found := here.candidate(config, recipe, main, record)) is not None:
                made[recipe.name] = found
        record |= main.parts | ({"recipes": made} if made else {})
        here.publish(model, record, lambda work: _copy(main.path, work))
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
        self, config: Config, folder: Path, name: str, shares: Recipe | None = None, sft: Path | None = None
    ) -> _Trained:
        """Both steps, in `folder`, for the candidate `name` ("": the round's own); `sft`: made before."""
        from ..models.identity import weights_id

        settings = config.train
        rows = list(self.ledger.examples(round=self.round, dataset="sft"))
        pairs = list(self.ledger.examples(round=self.round, dataset="dpo"))
        if settings.preference == "kto":
            pairs += recipes.unpaired(rows, pairs, settings.dpo.max_pairs)
        if shares is not None and shares.shares:
            rows = recipes.subset(rows, shares.shares)
        parts: dict[str, Any] = {}
        current, before = self.policy, self.policy
        for kind, enabled, examples in (
            ("sft", settings.sft.enabled, rows), (settings.preference, settings.dpo.enabled, pairs)
        ):  # fmt: skip
            before = current
            if kind == "sft" and sft is not None:
                current, parts[kind] = sft, {"skipped": "the round's own"}
                continue
            if not enabled or not examples:
                parts[kind] = {"skipped": "no rows" if enabled else "disabled"}
                continue
            reference = self._reference(config, kind, current)
            step = _Step(kind, config, examples, current, folder / kind, reference)
            parts[kind] = self.ledger.stage(
                self.round,
                f"train-{name}-{kind}" if name else f"train-{kind}",
                {"examples": [e.id for e in examples], "policy": weights_id(current), "seed": config.seed,
                 "train": settings.model_dump(mode="json", exclude={"candidates", "probe"}), "folder": self.folder.name,
                 "reference": weights_id(reference) if reference else None},
                lambda step=step: self._one(step, name),
            )  # fmt: skip
            current = step.out
        return _Trained(current, before, parts)

    def _reference(self, config: Config, kind: str, policy: Path) -> Path | None:
        """The model that the preference loss keeps near, where it is not the policy itself."""
        from ..models.identity import weights_id

        other = kind != "sft" and config.train.reference == "untouched"
        return self.untouched if other and weights_id(self.untouched) != weights_id(policy) else None

    def candidate(
        self, config: Config, recipe: Recipe, main: _Trained, record: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Make a candidate and publish it. Its record; None where the round has none of its kind."""
        place = self.place(recipe.name)
        if (place / MADE).is_file():
            return json.loads((place / MADE).read_text())["recipe"]
        said = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
        if recipe.name == "sft":
            if main.path in (main.sft, self.policy) or main.sft == self.policy:
                return None  # there was no DPO after it, or no SFT
            self.publish(place, {**record, **main.parts, "recipe": said}, lambda work: _copy(main.sft, work))
            return said
        end, parts, scratch = main.path, main.parts, self.scratch(recipe.name)
        if recipe.trains:
            other = recipes.changed(config, recipe)
            same = recipes.same_sft(config, other, recipe) and main.sft != self.policy
            trained = self.train(other, scratch, recipe.name, recipe, main.sft if same else None)
            end, parts = trained.path, trained.parts
            said = {**said, **parts}
        if recipe.blend is None:
            self.publish(place, {**record, **parts, "recipe": said}, lambda work: _copy(end, work))
        else:
            alpha = recipe.blend
            self.publish(place, {**record, **parts, "recipe": said}, lambda work: blend(self.policy, end, alpha, work))
        shutil.rmtree(scratch, ignore_errors=True)
        return said

    def place(self, name: str) -> Path:
        return self.folder / (name if name == "model" else f"{name}-model")

    def scratch(self, name: str) -> Path:
        return self.folder / f"{name}-training"

    def publish(self, place: Path, record: dict[str, Any], make: Callable[[Path], object]) -> None:
        """Let `make` write a model, and put it in its place whole or not at all."""
        work = place.with_name(f"{place.name}.new")
        for folder in (work, place):
            shutil.rmtree(folder, ignore_errors=True)
        make(work)
        (work / "README.md").write_text(_card(self.policy, record))
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

        label = f"training ({name}: {step.kind})" if name else f"training ({step.kind})"
        what = label

        def log(at: int, total: int, figures: dict[str, float]) -> None:
            nonlocal what
            if figures:
                self.ledger.add_event(
                    self.round, "train", f"{name}-{step.kind}" if name else step.kind, {"step": at, **figures}
                )
            if "loss" in figures:
                what = f"{label}, loss {figures['loss']:.2f}"
            self.progress(what, at, total)

        give_back()
        more = {"reference": step.reference} if step.reference is not None else {}
        try:
            if step.config.train.launcher == "accelerate":
                from .launch import launched as fit
            else:
                from .fit import fit  # torch and TRL load here
            return fit(step.kind, step.config, step.policy, step.examples, step.out, log, **more)
        except Exception as error:
            if not out_of_memory(error):
                raise
            part = "sft" if step.kind == "sft" else "dpo"
            method = "" if step.config.train.method == "lora" else ", or set train.method to lora"
            batch = getattr(step.config.train, part).batch
            raise UserError(
                f"training ran out of memory; lower train.{part}.batch (it is {batch}){method}, then run again"
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


def _copy(trained: Path, work: Path) -> None:
    shutil.copytree(trained, work, ignore=shutil.ignore_patterns(*NOT_KEPT))


def _card(policy: Path, record: dict[str, Any]) -> str:
    steps = {k: record[k] for k in ("recipe", "sft", "dpo", "kto") if k in record}
    return (
        "# Model card\n\nMade by breakfix: safety post-training of a small language model.\n\n"
        f"- started from: `{record['started_from']}` ({policy.name})\n"
        "- licence: that of the model it started from\n- known limits: see the run's report\n\n"
        f"```json\n{json.dumps(steps, indent=1, default=str)}\n```\n"
    )
