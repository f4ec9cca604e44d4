"""The stages, one method each: the inputs that identify the work, and how to do it.

The ledger's digest of the inputs is the stage's key: with another one, in a run that is resumed, it is made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from breakfix import loop, prescription, starter
from breakfix.core import digest
from breakfix.cycle.content import attacks, contents, read, weights
from breakfix.cycle.loading import inside, training
from breakfix.cycle.means import Means, kept_vectors
from breakfix.models.open import place

Work = tuple[Mapping[str, Any], Callable[[], dict[str, Any]]]


class Stages(Means):
    """The part of a cycle that knows what each stage reads and does."""

    def _evaluate(self, round: int) -> Work:
        from breakfix import evaluate

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

    def _redteam(self, round: int) -> Work:
        from breakfix.redteam.run import run

        config, path = self.config, self.model_path(round)
        helper, seeds = self._helper_path(), config.redteam.seeds
        second, objective = self._objective()
        inputs = {
            "redteam": {**config.redteam.asked(), "helper": self._id(helper) if helper else None},
            "attacks": attacks(config.redteam.seen, config.redteam.held_out),
            **({"seeds": contents(seeds)} if seeds is not None and seeds.is_file() else {}),
            **self._about(path),
            "judge": self.attack_judge.name,
            **({"objective": second} if second else {}),
        }

        def make() -> dict[str, Any]:
            goals = self.goals()
            if told := goals.told():
                self.say(f"redteam.seeds: {told}")
            record = run(
                config, self.ledger, self.model(path), self.attack_judge, self._load(helper) if helper else None,
                round=round, cases=starter.cases(kind="harmful"), goals=goals, objective=objective,
                progress=self.progress,
            )  # fmt: skip
            about = record.get("achieved", {})
            if about.get("why") or about.get("failed"):
                what = about.get("why") or f"no verdict on {about['failed']} of {about['judged']} replies"
                command = f"`breakfix redteam {self.run_folder} --round {round} --again`"
                self.say(f"judges.objective: what attacks got is not measured ({what}); {command} tries it once more")
            return record

        return inputs, make

    def _identify(self, round: int) -> Work:
        from breakfix import identify
        from breakfix.identify import clusters, edits, probing

        found = [self._record(r, s) for r in range(round + 1) for s in ("evaluate", "redteam")]
        harmful = self.config.curate.harmful  # prescriptions share out a part of it
        people = [a.id for r in range(round + 1) for a in self.ledger.attempts(round=r, stage=identify.PEOPLE)]
        ledger, policy = self.ledger, self.config.gate.policy
        changed = edits.before(edits.read(ledger), round)
        inputs = {"gate": self.config.gate.model_dump(exclude={"policy"}), "harmful": harmful, "found": digest(found),
                  **({"people": digest(people)} if people else {}), **({"edits": changed} if changed else {}),
                  **loop.inputs(ledger, policy, round),
                  "rules": identify.RULES,
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

    def _curate(self, round: int) -> Work:
        from breakfix import curate
        from breakfix.identify import edits
        from breakfix.redteam import chosen

        config, base, policy = self.config, self.base_path(), self._policy(round)
        name = config.curate.helper
        seen, _ = chosen(config.redteam.seen, config.redteam.held_out)
        read_it = config.curate.failures
        edited = prescription.edited(self.run_folder, self.ledger, config, round - 1) if read_it else None
        standing = edited.standing if edited else edits.standing(self.ledger, round - 1)
        walls, not_checked = self._walls
        inputs = {
            "curate": config.curate.asked(),
            "sources": [read(source) for source in config.curate.sources],
            "pairs": config.train.dpo.max_pairs if config.train.dpo.enabled else 0,
            "longest": config.train.sft.max_length,
            "families": [config.redteam.seen, config.redteam.held_out],  # whose findings may be learnt from
            "frames": attacks(config.redteam.seen, ()),  # and what requests are put into
            "walls": digest([[c.id, c.source, c.prompt, dict(c.translations)] for c in walls]),
            "not_checked": [row["suite"] for row in not_checked],
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
                config, self.ledger, self.model(base), self.judge, round=round, walls=walls,
                not_checked=not_checked, attacks=seen, policy=lambda: self.model(policy),
                helper=(lambda: self._load(place(name or ""))) if name else None, known=standing,
                plan=edited.plan if edited else curate.NO_PLAN, progress=self.progress,
            )  # fmt: skip
            return {**record, "prescription": edited.told(self.ledger)} if edited else record

        return inputs, make

    def _train(self, round: int) -> Work:
        from breakfix.train import run as train

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
        from breakfix.evaluate import choose
        from breakfix.redteam import steering
        from breakfix.train import card

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
            return {**chosen, "training": training(record["model"])}

        self.ledger.stage(round, "select", inputs, make)
