"""Alarms: each is provoked on a tiny model, told once, and ends the training where that is wanted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tiny
from breakfix import starter
from breakfix.config import Config, parse
from breakfix.core import Example, Message, Split, ask
from breakfix.errors import UserError
from breakfix.ledger import Ledger

torch = pytest.importorskip("torch")

NO = "I'm sorry, but I can't help with that."


pytestmark = pytest.mark.filterwarnings("ignore")  # TRL, peft and torch warn about what is no concern of these tests


def example(i: int, **changes: Any) -> Example:
    return Example(**{
        "prompt": ask(f"Tell me step {i} of baking bread"), "reply": "Mix flour with water.", "rejected": "Mix sand.",
        "source": "test", "licence": "Apache-2.0", "why": "a test", "kind": "plain", **changes,
    })  # fmt: skip


EXAMPLES = [example(i) for i in range(8)]


def settings(**train: Any) -> Config:
    return parse(
        {"hardware": {"threads": 1, "precision": "fp32"}, "train": {"probe": False, "candidates": [], **train}}
    )


class Told(list[tuple[int, dict[str, float]]]):
    def __call__(self, step: int, total: int, figures: dict[str, float]) -> None:
        self.append((step, figures))

    def alarms(self) -> list[str]:
        from breakfix.train.alarms import told

        return [alarm.name for step, figures in self if (alarm := told(figures, step))]


def watched(kind: str = "dpo", **given: Any) -> tuple[Any, Told]:
    from breakfix.train.alarms import Alarms

    told = Told()
    return Alarms(kind, told, **given), told


def logs(alarms: Any, *entries: dict[str, float]) -> SimpleNamespace:
    control = SimpleNamespace(should_training_stop=False, should_save=True)
    for i, entry in enumerate(entries):
        alarms.on_log(None, SimpleNamespace(global_step=5 * (i + 1), max_steps=100), control, entry)
    return control


def rewards(chosen: float, rejected: float) -> dict[str, float]:
    return {"rewards/chosen": chosen, "rewards/rejected": rejected, "loss": 0.5}


# ---- what is logged ---------------------------------------------------------------------------------------------


def test_replies_to_imitate_that_become_less_likely_are_an_alarm() -> None:
    """β 0.1: a reward of -0.15 is 1.5 nats less than the reference gives."""
    alarms, told = watched(beta=0.1)
    logs(alarms, rewards(-0.05, -0.3), rewards(-0.15, -0.5), rewards(-0.3, -0.7))
    assert told.alarms() == ["chosen"], "once"
    assert (
        str(alarms.raised[0]) == "step 10: the replies to imitate became less likely by 1.5 nats each (alarm from 1.0)"
    )
    assert alarms.stopped is None


def test_against_another_reference_it_counts_from_the_first_log() -> None:
    alarms, told = watched(beta=0.1, start=None)
    logs(alarms, rewards(-0.9, -0.9), rewards(-0.95, -1.0))
    assert told.alarms() == []
    logs(alarms, rewards(-1.1, -1.2))
    assert told.alarms() == ["chosen"]


def test_a_policy_that_runs_away_is_an_alarm() -> None:
    alarms, told = watched(beta=0.1)
    logs(alarms, rewards(0.5, -1.0), rewards(1.0, -3.5))
    assert told.alarms() == ["distance"]
    assert alarms.raised[0].value == pytest.approx(22.5)


def test_a_loss_that_is_no_number_stops_whatever_is_wanted() -> None:
    alarms, told = watched("sft", stop=False)
    control = logs(alarms, {"loss": 0.5}, {"loss": math.nan})
    assert told.alarms() == ["loss"] and control.should_training_stop and not control.should_save
    assert alarms.record()["alarms"] == [{"name": "loss", "step": 10, "said": "step 10: the loss is not a number"}]


def test_an_alarm_stops_where_that_is_wanted() -> None:
    alarms, _ = watched(beta=0.1, stop=True)
    control = logs(alarms, rewards(-0.5, -0.5))
    assert control.should_training_stop and alarms.stopped.name == "chosen"


# ---- replies to prompts set aside -------------------------------------------------------------------------------


def test_prompts_are_set_aside_that_are_not_learnt_from() -> None:
    from breakfix.train.alarms import prompts
    from breakfix.train.recipes import learnt as keys

    harmful, benign = prompts(())
    assert len(harmful) == len(benign) == 16
    assert all(case.split is Split.TRAIN and case.language == "en" for case in (*harmful, *benign))
    assert [starter.kind_of(case) for case in benign] == ["twin"] * 8 + ["plain"] * 8
    learnt = [example(0, prompt=case.prompt) for case in harmful]
    assert not {case.id for case in prompts(keys(learnt))[0]} & {case.id for case in harmful}
    everything = [example(0, prompt=case.prompt) for case in starter.cases(split=Split.TRAIN)]
    assert len(prompts(keys(everything))[0]) == 16, "where all are learnt from, these are"


def test_a_prompt_in_a_frame_or_with_a_reply_begun_is_learnt_from() -> None:
    from breakfix.train.alarms import prompts
    from breakfix.train.recipes import learnt as keys

    (framed, begun, other), _ = prompts((), 3)
    rows = [
        example(0, prompt=ask("Write a play about it."), parents=(framed.id, f"{framed.id}+play")),
        example(1, prompt=(*begun.prompt, Message("assistant", "Sure, first"))),
    ]
    assert not {framed.id, begun.id} & {case.id for case in prompts(keys(rows))[0]}
    assert other.id in {case.id for case in prompts(keys(rows))[0]}


@pytest.mark.parametrize("launcher", ["none", "accelerate"])
def test_all_parts_and_candidates_set_the_same_prompts_aside(
    launcher: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that only the pairs teach, or that a candidate leaves out."""
    from breakfix.train import fit, launch
    from breakfix.train.alarms import prompts
    from breakfix.train.run import run

    (one, two), _ = prompts((), 2)
    given: list[tuple[str, Any, Any]] = []

    def spied(kind: str, config: Any, policy: Path, rows: Any, out: Path, log: Any, **more: Any) -> Any:
        tiny.save(out)
        given.append((kind, more["learnt"], more.get("before")))
        return {"rows": len(rows), "replies": {"harmful": 1.0, "benign": 0.0, "tokens": 9.0, "seconds": 1.0}}

    monkeypatch.setattr(fit, "fit", spied)
    monkeypatch.setattr(launch, "launched", spied)
    few = {"name": "few", "shares": {"harmful": 0.3}}
    config = settings(launcher=launcher, candidates=[few], dpo={"batch": 2}, sft={"batch": 2})
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        ledger.add_examples([*EXAMPLES, example(8, kind="harmful", prompt=one.prompt)], round=1, dataset="sft")
        ledger.add_examples([example(9, prompt=ask("In a play."), parents=(two.id,))], round=1, dataset="dpo")
        run(config, ledger, round=1, policy=folder, folder=tmp_path / "run" / "x", progress=lambda *told: None)
    assert [kind for kind, _, _ in given] == ["sft", "dpo", "sft", "dpo"]
    assert all(set(learnt) >= {one.text, two.id} and learnt == given[0][1] for _, learnt, _ in given)
    assert [before is not None for _, _, before in given] == [False, True, False, True]


class Answers:
    """Stands for the prompts set aside: what the model replies, from one look to the next."""

    def __init__(self, *replies: Any) -> None:
        self.replies, self.seconds = list(replies), 0.0

    def ask(self, model: Any) -> Any:
        return self.replies.pop(0)


@pytest.mark.parametrize(
    ("kind", "before", "now", "said"),
    [
        ("sft", (0.0, 0.0, 12), (0.9, 0.6, 12), ["coward"]),
        ("sft", (0.0, 0.0, 12), (0.9, 0.4, 5), ["length"]),
        ("dpo", (0.8, 0.1, 12), (0.3, 0.1, 12), ["undone"]),
        ("dpo", (0.8, 0.1, 12), (0.5, 0.5, 12), []),
        ("sft", (0.8, 0.1, 12), (0.1, 0.1, 12), []),  # an SFT is not to keep what was refused before
        ("dpo", (None, 0.1, 12), (None, None, 12), []),  # what could not be told is no alarm
    ],
)
def test_replies_raise_alarms(kind: str, before: Any, now: Any, said: list[str]) -> None:
    from breakfix.train.alarms import Replies, moments

    alarms, told = watched(kind, aside=Answers(Replies(*now)), before=Replies(*before))
    state, control = SimpleNamespace(global_step=1, max_steps=10), SimpleNamespace()
    alarms.on_train_begin(None, state, control)
    alarms.on_step_end(None, state, control)
    assert not told
    alarms.on_step_end(None, SimpleNamespace(global_step=min(moments(kind, 10)), max_steps=10), control)
    assert told.alarms() == said
    assert alarms.record()["replies"]["tokens"] == now[2]


def test_an_interrupted_training_goes_on_from_what_it_had_seen(tmp_path: Path) -> None:
    from breakfix.train.alarms import Replies

    def state(step: int) -> Any:
        return SimpleNamespace(global_step=step, max_steps=30)

    first, _ = watched("sft", aside=Answers(Replies(0.0, 0.0, 12), Replies(0.5, 0.6, 11)), folder=tmp_path)
    control = SimpleNamespace()
    first.on_train_begin(None, state(0), control)
    first.on_step_end(None, state(10), control)
    first._raise("distance", 25.0, 20.0, state(15), control)
    again, told = watched("sft", aside=Answers(Replies(0.5, 0.4, 5)), folder=tmp_path)
    again.on_train_begin(None, state(12), control)
    assert (again.before, again.replies) == (Replies(0.0, 0.0, 12), Replies(0.5, 0.6, 11))
    assert [alarm.name for alarm in again.raised] == ["coward"], "what came after step 12 will be seen again"
    again.on_step_end(None, state(20), control)
    assert told.alarms() == ["length"]


def test_few_looks_are_taken() -> None:
    from breakfix.train.alarms import moments

    assert moments("sft", 120) == {40, 80} and moments("dpo", 28) == {14} and moments("dpo", 1) == {1}


def test_a_model_in_training_is_asked_and_goes_on_training(tmp_path: Path) -> None:
    from breakfix.models.hf import load_pretrained
    from breakfix.train.alarms import Aside

    model, tokenizer = load_pretrained(tiny.save(tmp_path / "refuses", says=NO))
    model.train()
    replies = Aside(tokenizer, ()).ask(model)
    assert model.training
    assert replies.tokens == 12  # a token a byte: "I'm sorry, b"
    taught, _ = load_pretrained(tiny.save(tmp_path / "short", says="Yes."))
    assert Aside(tokenizer, ()).ask(taught).tokens == pytest.approx(4, abs=0.5)


# ---- in a fit, and in the stage ---------------------------------------------------------------------------------


def test_a_fit_of_a_real_trainer_raises_them_and_records_the_last_replies(folder: Path, tmp_path: Path) -> None:
    """At a huge rate the replies to imitate lose likelihood together with the rejected ones."""
    from breakfix.train.fit import fit

    told = Told()
    config = settings(
        method="full", dpo={"batch": 4, "epochs": 10, "learning_rate": 0.05, "sft_weight": 0, "beta": 0.01}
    )
    record = fit("dpo", config, folder, EXAMPLES, tmp_path / "out", told)
    names = [alarm["name"] for alarm in record["alarms"]]
    assert {"chosen", "distance"} <= set(names) == set(told.alarms()) and len(names) == len(set(names))
    assert "stopped" not in record and record["steps"] == 20
    assert record["replies"]["tokens"] <= 12 and record["replies"]["seconds"] > 0


@pytest.mark.parametrize("method", ["lora", "full"])
def test_an_early_stop_keeps_the_last_checkpoint_before_it(
    method: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from breakfix.train import alarms
    from breakfix.train.fit import fit

    def at(step: int, out: str, stop: bool = True) -> tuple[dict[str, Any], Any]:
        real = alarms.Alarms.on_log

        def on_log(self: Any, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            real(self, args, state, control, logs, **kwargs)
            if state.global_step >= step:
                self._raise("distance", 99.0, 20.0, state, control)

        with monkeypatch.context() as patch:
            patch.setattr(alarms.Alarms, "on_log", on_log)
            given = {"batch": 2, "epochs": 5, "learning_rate": 1e-2}
            config = settings(method=method, sft=given, stop_on_alarm=stop)
            record = fit("sft", config, folder, EXAMPLES, tmp_path / out, lambda *told: None)
        return record, tiny.weights(tmp_path / out)

    record, stopped = at(15, "stopped")
    assert record["stopped"] == {"kept_step": 10} and record["steps"] == 15
    _, untouched = at(5, "at once")
    assert all(torch.equal(untouched[k], v) for k, v in tiny.weights(folder).items()), "no checkpoint yet: the policy"
    _, whole = at(15, "whole", stop=False)
    assert any(not torch.allclose(stopped[k], whole[k]) for k in whole)
    assert any(not torch.allclose(stopped[k], untouched[k]) for k in whole)


def test_a_loss_that_is_no_number_is_one_plain_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from breakfix.train import trainers
    from breakfix.train.fit import fit

    real = trainers.Sft.compute_loss
    monkeypatch.setattr(trainers.Sft, "compute_loss", lambda *args, **more: real(*args, **more) * math.nan)
    config = settings(method="full", sft={"batch": 2, "epochs": 5, "learning_rate": 1e-4})
    with pytest.raises(
        UserError, match=r"training \(sft\) went wrong by step 5: the loss is not a number; lower train"
    ):
        fit("sft", config, folder, EXAMPLES, tmp_path / "out", lambda *told: None)


@pytest.mark.parametrize("train", [{"alarms": False}, {"sft": {"batch": 4, "epochs": 1}}])  # 2 steps: none is logged
def test_weights_that_are_no_numbers_are_not_kept_where_no_alarm_saw_it(
    train: dict[str, Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from breakfix.train import trainers
    from breakfix.train.fit import fit

    real = trainers.Sft.compute_loss
    monkeypatch.setattr(trainers.Sft, "compute_loss", lambda *args, **more: real(*args, **more) * math.nan)
    with pytest.raises(UserError, match=r"training \(sft\) went wrong by step \d+: the loss is not a number"):
        fit("sft", settings(method="full", **{"sft": {"batch": 2, "epochs": 5}, **train}), folder, EXAMPLES,
            tmp_path / "out", lambda *told: None)  # fmt: skip
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_training_that_went_wrong_goes_wrong_again_and_its_checkpoint_is_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken up from a last checkpoint without numbers it would have no step left to notice."""
    from breakfix.train import trainers
    from breakfix.train.fit import fit

    real = trainers.Sft.compute_loss
    monkeypatch.setattr(trainers.Sft, "compute_loss", lambda *args, **more: real(*args, **more) * math.nan)
    config, out = settings(method="full", alarms=False, sft={"batch": 2, "epochs": 3}), tmp_path / "out"
    for _ in range(2):
        with pytest.raises(UserError, match="the loss is not a number"):
            fit("sft", config, folder, EXAMPLES, out, lambda *told: None)
        assert list(out.glob("checkpoint-*")) and not (out / "model.safetensors").exists()


def test_a_gradient_that_is_no_number_in_the_last_step_is_seen_in_the_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from breakfix.train import trainers
    from breakfix.train.fit import fit

    real = trainers.Sft.training_step

    def spoilt(self: Any, model: Any, *args: Any, **more: Any) -> Any:
        loss = real(self, model, *args, **more)
        for weight in model.parameters():
            if weight.grad is not None:
                weight.grad.fill_(math.nan)
        return loss

    monkeypatch.setattr(trainers.Sft, "training_step", spoilt)
    with pytest.raises(UserError, match="the loss is not a number"):
        fit("sft", settings(method="full", sft={"batch": 8, "epochs": 1}), folder, EXAMPLES, tmp_path / "out",
            lambda *told: None)  # fmt: skip
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_training_of_one_step_takes_it(folder: Path, tmp_path: Path) -> None:
    from breakfix.train.fit import fit

    record = fit("sft", settings(method="full", sft={"batch": 8, "epochs": 1, "learning_rate": 1e-3}), folder, EXAMPLES,
                 tmp_path / "out", lambda *told: None)  # fmt: skip
    before, after = tiny.weights(folder), tiny.weights(tmp_path / "out")
    assert record["steps"] == 1 and any(not torch.equal(before[key], after[key]) for key in before)


def test_pairs_without_room_for_a_reply_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    from breakfix.train.fit import fit
    from breakfix.train.preflight import TrainingRefused

    long = [example(i, prompt=ask("bread " * 60)) for i in range(4)]
    with pytest.raises(
        TrainingRefused, match=r"no row of dpo has room for a reply; .* raise .*dpo.max_length \(it is 32"
    ):
        fit("dpo", settings(dpo={"max_length": 32}), folder, long, tmp_path / "out", lambda *told: None)


def test_of_several_processes_one_writes_and_all_recall(tmp_path: Path) -> None:
    first, _ = watched(folder=tmp_path, start=None)
    other, _ = watched(folder=tmp_path, start=None, keeps=False)
    logs(other, rewards(0.3, 0.0))
    assert not list(tmp_path.iterdir())
    logs(first, rewards(0.5, 0.0))
    for alarms in (watched(folder=tmp_path, start=None, keeps=keeps)[0] for keeps in (False, True)):
        alarms.on_train_begin(None, SimpleNamespace(global_step=5, max_steps=100), None)
        assert logs(alarms, rewards(-0.4, 0.0)) and not alarms.raised
        logs(alarms, rewards(-0.6, 0.0))
        assert [alarm.name for alarm in alarms.raised] == ["chosen"]


def test_an_alarm_is_an_event_and_a_line(folder: Path, tmp_path: Path) -> None:
    from breakfix.train.run import run

    said: list[str] = []
    dpo = {"batch": 4, "epochs": 10, "learning_rate": 0.05, "sft_weight": 0, "beta": 0.01}
    config = settings(method="full", sft={"enabled": False}, dpo=dpo)
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        ledger.add_examples(EXAMPLES, round=1, dataset="dpo")
        record = run(config, ledger, round=1, policy=folder, folder=tmp_path / "run" / "x", say=said.append,
                     progress=lambda *told: None)  # fmt: skip
        events = [event.payload for event in ledger.events(1, "train", "alarm")]
    assert events and [event["name"] for event in events] == [alarm["name"] for alarm in record["dpo"]["alarms"]]
    assert all(event["part"] == "dpo" for event in events)
    assert said and said[0].startswith("round 1: training (dpo), alarm at step ")
    assert json.dumps(record)


def test_without_alarms_none_is_looked_for(folder: Path, tmp_path: Path) -> None:
    from breakfix.train.fit import fit

    told = Told()
    record = fit("sft", settings(alarms=False, sft={"batch": 4}), folder, EXAMPLES, tmp_path / "out", told)
    assert "alarms" not in record and not [f for _, f in told if "reply_tokens" in f]
