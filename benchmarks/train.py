"""A training step: ours beside stock TRL, in turns in one process, on the same batches, with the losses side by side.

    python benchmarks/train.py [--only sft|dpo] [--model NAME] [--steps 6] [--run RUN] [--precision fp32|bf16] [--quick]

`stock` is TRL's own trainer as it comes: gradient checkpointing, DPO's reference run at every step. `stock, options` is
the same class with our options: no checkpointing, DPO's reference run beforehand. All have the same LoRA, rows, batches
(those that our trainer makes, of rows of about one length: random ones would cost stock more) and precision, and each
its own copy of the model. Rows: the starter pack's training cases with composed refusals and a plain answer, or those
that a run's ledger holds (`--run`). A step is forward, backward, clipping and optimiser. CPU seconds are those of all
threads: on a machine with other work they say more than wall seconds. `--quick`: the tiny model.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as breakfix.cli sets it
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
os.environ.setdefault("TQDM_DISABLE", "1")

import torch
from datasets.utils.logging import disable_progress_bar
from transformers.utils import logging
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from breakfix import assets, safe_answers, starter
from breakfix.config import Config, parse
from breakfix.core import Example, Split
from breakfix.ledger import Ledger
from breakfix.models.hf import cores, load_pretrained
from breakfix.train import options, rates, rows, trainers
from breakfix.train.prefix import Tree

PLAIN = (
    "Sure, here is a short answer. ", "Begin with what you already have at hand. ", "Take one step after the other. ",
    "Write down what worked. ", "Ask somebody who has done it before. ", "If it does not work, change one thing only. ",
)  # fmt: skip
AIM = {"sft": 1.2, "dpo": 1.8}


class StockDpo(DPOTrainer):
    """TRL's, given rows that are tokens already."""

    _prepare_dataset = trainers.Dpo._prepare_dataset


def examples(run: Path | None, kind: str, seed: int = 0) -> list[Example]:
    """Rows as a round would train on."""
    if run is not None:
        with Ledger.open(run, write=False) as ledger:
            return list(ledger.examples(round=1, dataset=kind))
    rng = random.Random(seed)
    found: list[Example] = []
    for case in starter.cases(split=Split.TRAIN, language="en"):
        what = starter.kind_of(case)
        refusal = safe_answers.compose(case.hazard, "en", rng)
        answer = "".join(PLAIN[: rng.randint(1, len(PLAIN))]).strip()
        reply, rejected = (refusal, answer) if what == "harmful" else (answer, refusal)
        found.append(Example(case.prompt, reply, "starter", starter.LICENCE, "a benchmark", what, rejected))
    rng.shuffle(found)
    return found


class Peer:
    """A trainer with a model of its own, stepped by hand."""

    def __init__(self, name: str, make: Callable[[], Any], micro: int) -> None:
        torch.manual_seed(0)
        self.name, self.trainer, self.micro = name, make(), micro
        t = self.trainer
        t.create_optimizer()
        for group in t.optimizer.param_groups:
            group["lr"] = 1e-4
        t.model_wrapped, t.optimizer = t.accelerator.prepare(t.model, t.optimizer)
        if t.args.gradient_checkpointing:  # as Trainer.train does
            t.model.gradient_checkpointing_enable(t.args.gradient_checkpointing_kwargs)
        self.seconds: list[float] = []
        self.cpu: list[float] = []
        self.losses: list[float] = []

    def step(self, indices: Sequence[int]) -> None:
        """One optimiser step on these rows."""
        t = self.trainer
        parts = [indices[at : at + self.micro] for at in range(0, len(indices), self.micro)]
        t.current_gradient_accumulation_steps = len(parts)
        batches = [t.data_collator([t.train_dataset[i] for i in part]) for part in parts]
        items = t._get_num_items_in_batch(batches, t.args.device)
        began, busy = time.perf_counter(), time.process_time()
        loss = sum(float(t.training_step(t.model_wrapped, batch, items)) for batch in batches)
        torch.nn.utils.clip_grad_norm_([p for p in t.model.parameters() if p.requires_grad], 1.0)
        t.optimizer.step()
        t.optimizer.zero_grad()
        self.seconds.append(time.perf_counter() - began)
        self.cpu.append(time.process_time() - busy)
        self.losses.append(loss)


def peers(kind: str, config: Config, model: str, data: list[dict[str, Any]], work: Path) -> list[Peer]:
    settings: Any = config.train.sft if kind == "sft" else config.train.dpo
    stock: Any = SFTTrainer if kind == "sft" else StockDpo

    def like_ours(cls: Any) -> Callable[[], Any]:
        def make() -> Any:
            before = options.Sft, options.Dpo
            options.Sft, options.Dpo = cls, cls
            try:
                loaded, tokenizer = load_pretrained(model)
                lora = options.lora(config, loaded)
                return options.trainer(kind, config, loaded, tokenizer, data, lora, work / cls.__name__)
            finally:
                options.Sft, options.Dpo = before

        return make

    def as_it_comes() -> Any:
        loaded, tokenizer = load_pretrained(model)
        common: dict[str, Any] = {
            "output_dir": str(work / "stock"),
            "per_device_train_batch_size": settings.batch,
            "use_cpu": True,
            "max_length": None,
            "report_to": "none",
            "bf16": options.in_bf16(config.hardware),
            "remove_unused_columns": False,
        }
        if kind == "sft":
            args: Any = SFTConfig(**common, dataset_kwargs={"skip_prepare_dataset": True})
        else:
            types: dict[str, Any] = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, settings.sft_weight]}
            args = DPOConfig(**common, beta=rates.beta(config), **types)
        from datasets import Dataset

        lora = options.lora(config, loaded)
        data_set = Dataset.from_list(data)
        return stock(model=loaded, args=args, train_dataset=data_set, processing_class=tokenizer, peft_config=lora)

    ours: Any = trainers.Sft if kind == "sft" else trainers.Dpo
    half = settings.batch // 2 if kind == "dpo" and settings.batch % 2 == 0 else settings.batch
    return [
        Peer("ours", like_ours(ours), half),
        Peer("stock", as_it_comes, settings.batch),
        Peer("stock, options", like_ours(stock), half),
    ]


def measure(kind: str, config: Config, model: str, run: Path | None, steps: int, work: Path) -> None:
    settings: Any = config.train.sft if kind == "sft" else config.train.dpo
    _, tokenizer = load_pretrained(model)
    found = examples(run, kind)[: 800 if kind == "sft" else 8 * settings.batch * (steps + 1)]
    if kind == "sft":
        data, _ = rows.sft_rows(tokenizer, found, settings.max_length, settings.first_tokens, settings.whole_share)
    else:
        data, _ = rows.dpo_rows(tokenizer, found, settings.max_length, settings.completion_tokens)
        data = data[: settings.batch * (steps + 1)]
    sides = peers(kind, config, model, data, work)
    torch.manual_seed(0)
    order = list(sides[0].trainer._get_train_sampler()) if kind == "sft" else list(range(len(data)))
    batches = [order[at : at + settings.batch] for at in range(0, len(order) - settings.batch + 1, settings.batch)]
    chosen = [batches[i * len(batches) // (steps + 1)] for i in range(steps + 1)]
    for i, batch in enumerate(chosen):  # the first is not counted
        for peer in sides[i % 3 :] + sides[: i % 3]:
            peer.step(batch)
    collate = sides[0].trainer.data_collator
    given, padded, distinct = _tokens([collate([data[i] for i in batch]) for batch in chosen[1:]])
    print(
        f"\n{kind}: {steps} steps of {settings.batch} {'rows' if kind == 'sft' else 'pairs'}; tokens a step: "
        f"{given / steps:.0f}, {padded / steps:.0f} with padding, {distinct / steps:.0f} of them distinct"
    )
    mine = sides[0].seconds[1:]
    print(f"  {'':15}  ms a step   ours is faster by   (step by step)   by CPU time")
    for peer in sides:
        times = peer.seconds[1:]
        each = [theirs / ours for theirs, ours in zip(times, mine, strict=True)]
        cpu = sum(peer.cpu[1:]) / sum(sides[0].cpu[1:])
        print(f"  {peer.name:15} {1000 * statistics.median(times):10.0f} {sum(times) / sum(mine):17.2f} ×"
              f"   ({min(each):.2f} to {max(each):.2f}) {cpu:13.2f} ×")  # fmt: skip
    print("  loss, step by step")
    for peer in sides:
        print(f"  {peer.name:15} " + "  ".join(f"{loss:.4f}" for loss in peer.losses))
    for peer in sides[1:]:
        apart = max(abs(a - b) / abs(b) for a, b in zip(sides[0].losses, peer.losses, strict=True))
        print(f"  largest difference from {peer.name}: {apart:.1e} of the loss")
    reached = sum(sides[1].seconds[1:]) / sum(mine)
    print(f"  aim: {AIM[kind]} × stock: {'met' if reached >= AIM[kind] else 'missed'}")


def _tokens(batches: Sequence[Any]) -> tuple[int, int, int]:
    """Tokens of the rows; with padding; distinct ones."""
    given = padded = distinct = 0
    for batch in batches:
        lengths = batch["attention_mask"].sum(1).tolist()
        lines = [ids[:length] for ids, length in zip(batch["input_ids"].tolist(), lengths, strict=True)]
        given, padded = given + sum(lengths), padded + batch["input_ids"].numel()
        distinct += len(Tree.of(lines).tokens)
    return given, padded, distinct


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["sft", "dpo"])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    disable_progress_bar()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        if args.quick:
            sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
            import tiny

            model, args.steps = str(tiny.save(Path(folder) / "tiny")), 2
        else:
            model = str(assets.resolve(args.model).path)
        config = parse({"hardware": {"precision": args.precision}})
        threads = config.hardware.threads or cores()
        torch.set_num_threads(threads)
        precision = "bf16 autocast" if options.in_bf16(config.hardware) else "fp32"
        print(f"{args.model if not args.quick else 'tiny'}, {precision}, {threads} threads, in turns")
        for kind in [args.only] if args.only else ["sft", "dpo"]:
            measure(kind, config, model, args.run, args.steps, Path(folder))


if __name__ == "__main__":
    main()
