"""The training stage: SFT, then DPO, on the round's rows; adapters merged; weights kept as safetensors with a card.

The policy is the model of the round before, whether or not the gate passed it; DPO's reference is the policy as SFT
left it. Each of the two is a stage of its own in the ledger, so a killed run takes up the last checkpoint of the one it
was in. What is kept beside the last checkpoint (`train.candidates`) is for evaluate to choose among.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..core import Example
from ..errors import UserError
from .mean import NOT_KEPT, mean

if TYPE_CHECKING:
    from ..ledger import Ledger

Progress = Callable[[str, int, int], None]  # what ("training (sft), loss 1.23"), done, total
MADE = "training.json"  # beside the weights: the record of how they were made
PLACES = {"model": "model", "sft": "sft-model", "mean": "mean-model"}  # candidate → its folder


def run(
    config: Config, ledger: Ledger, *, round: int, policy: Path, folder: Path, progress: Progress
) -> dict[str, Any]:
    """Train `policy` on (round, "sft") and (round, "dpo"); the result lies in folder/model. Returns the record.

    "candidates" of it: name → folder, of the last checkpoint ("model") and of what train.candidates asks for besides.
    `folder` holds checkpoints while it trains. Raises TrainingRefused before the first step where rows or template
    would train something else; UserError where memory runs out; DiskFull where room does: it then goes on from the
    last whole checkpoint.
    """
    from ..ledger.room import room
    from ..models.identity import weights_id

    model = folder / "model"
    if (model / MADE).is_file():  # published, but the process was killed before the ledger knew
        _tidy(folder)
        return _made(folder, json.loads((model / MADE).read_text()))
    record: dict[str, Any] = {"started_from": weights_id(policy)}
    with room(folder):
        folder.mkdir(parents=True, exist_ok=True)
        current = policy
        for kind, settings in (("sft", config.train.sft), ("dpo", config.train.dpo)):
            examples = list(ledger.examples(round=round, dataset=kind))
            if not settings.enabled or not examples:
                record[kind] = {"skipped": "disabled" if not settings.enabled else "no rows"}
                continue
            out = folder / kind
            record[kind] = ledger.stage(
                round,
                f"train-{kind}",
                {"examples": [e.id for e in examples], "policy": weights_id(current),
                 "train": config.train.model_dump(), "seed": config.seed, "folder": folder.name},
                lambda kind=kind, current=current, examples=examples, out=out: _one(
                    kind, config, ledger, round, current, examples, out, progress
                ),
            )  # fmt: skip
            current = out
        if "sft" in config.train.candidates and current == folder / "dpo" and (folder / "sft").is_dir():
            _publish(folder / PLACES["sft"], policy, record, lambda work: _copy(folder / "sft", work))
        if "mean" in config.train.candidates and round > 1:
            _publish(folder / PLACES["mean"], policy, record, lambda work: mean(policy, current, work))
        _publish(model, policy, record, lambda work: _copy(current, work))
        _tidy(folder)
    return _made(folder, record)


def _made(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    from ..models.identity import weights_id

    model = folder / "model"
    candidates = {name: str(folder / place) for name, place in PLACES.items() if (folder / place).is_dir()}
    return {**record, "model": str(model), "weights": weights_id(model), "candidates": candidates}


def _one(
    kind: str,
    config: Config,
    ledger: Ledger,
    round: int,
    policy: Path,
    examples: Sequence[Example],
    out: Path,
    progress: Progress,
) -> dict[str, Any]:
    from ..models.memory import give_back, out_of_memory
    from . import fit  # torch and TRL load here

    what = f"training ({kind})"

    def log(step: int, total: int, figures: dict[str, float]) -> None:
        nonlocal what
        if figures:
            ledger.add_event(round, "train", kind, {"step": step, **figures})
        if "loss" in figures:
            what = f"training ({kind}), loss {figures['loss']:.2f}"
        progress(what, step, total)

    give_back()
    try:
        return fit.fit(kind, config, policy, examples, out, log)
    except Exception as error:
        if not out_of_memory(error):
            raise
        more = "" if config.train.method == "lora" else ", or set train.method to lora"
        raise UserError(
            f"training ran out of memory; lower train.{kind}.batch (it is {getattr(config.train, kind).batch}){more}, "
            "then run again"
        ) from error


def _publish(place: Path, policy: Path, record: dict[str, Any], make: Callable[[Path], object]) -> None:
    """Let `make` write a model, and put it in its place whole or not at all."""
    work = place.with_name(f"{place.name}.new")
    for folder in (work, place):
        shutil.rmtree(folder, ignore_errors=True)
    make(work)
    (work / "README.md").write_text(_card(policy, record))
    (work / MADE).write_text(json.dumps(record))
    work.rename(place)


def _copy(trained: Path, work: Path) -> None:
    shutil.copytree(trained, work, ignore=shutil.ignore_patterns(*NOT_KEPT))


def _tidy(folder: Path) -> None:
    """Only models are kept: checkpoints go."""
    for step in ("sft", "dpo"):
        shutil.rmtree(folder / step, ignore_errors=True)


def _card(policy: Path, record: dict[str, Any]) -> str:
    return (
        "# Model card\n\nMade by breakfix: safety post-training of a small language model.\n\n"
        f"- started from: `{record['started_from']}` ({policy.name})\n"
        "- licence: that of the model it started from\n- known limits: see the run's report\n\n"
        f"```json\n{json.dumps({k: record[k] for k in ('sft', 'dpo')}, indent=1, default=str)}\n```\n"
    )
