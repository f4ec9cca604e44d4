"""Release candidates: what training keeps beside its last checkpoint, and which of them evaluate lets go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny
from breakfix import config, starter
from breakfix.config import Config
from breakfix.core import Conversation, Example, Model, Reply, Sampling, Split, ask
from breakfix.cycle import Cycle, weights
from breakfix.ledger import Ledger
from breakfix.models.fake import REFUSALS, Fake

torch = pytest.importorskip("torch")

HARMFUL = frozenset(case.text for case in starter.cases(kind="harmful"))


pytestmark = pytest.mark.filterwarnings("ignore")  # TRL, peft and torch warn about what is no concern of these tests


# ---- training keeps them ----------------------------------------------------------------------------------------


def example(i: int) -> Example:
    return Example(
        prompt=ask(f"Tell me step {i} of baking"), reply="Mix flour.", rejected="No.", source="test", why="a test",
        licence="Apache-2.0", kind="plain",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("round", "wanted", "dpo", "kept"),
    [
        (2, ["sft", "mean"], True, {"model", "sft", "mean"}),
        (1, ["sft", "mean"], True, {"model", "sft"}),  # the mean with the untouched model is none
        (2, ["sft"], False, {"model"}),  # SFT is the last
        (2, [], True, {"model"}),
    ],
)
def test_what_is_kept(round: int, wanted: list[str], dpo: bool, kept: set[str], tmp_path: Path) -> None:
    from breakfix.train.run import run

    policy = tiny.save(tmp_path / "policy")
    train = {"sft": {"batch": 4}, "dpo": {"batch": 4, "enabled": dpo}, "candidates": wanted}
    settings = config.parse({"hardware": {"threads": 1, "precision": "fp32"}, "train": train})
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        for kind in ("sft", "dpo"):
            ledger.add_examples([example(i) for i in range(8)], round=round, dataset=kind)

        def go() -> dict[str, Any]:
            return run(settings, ledger, round=round, policy=policy, folder=tmp_path / "run" / "x",
                       progress=lambda *told: None)  # fmt: skip

        record = go()
        assert set(record["candidates"]) == kept
        assert go() == record  # as after a kill between the weights and the ledger
    assert record["candidates"]["model"] == record["model"]
    assert {weights(folder) for folder in record["candidates"].values()} >= {record["weights"]}
    assert len({weights(folder) for folder in record["candidates"].values()}) == len(kept)
    for folder in map(Path, record["candidates"].values()):
        assert (folder / "README.md").is_file() and not list(folder.glob("checkpoint-*"))
    assert {f.name for f in (tmp_path / "run" / "x").iterdir()} == {Path(f).name for f in record["candidates"].values()}


def test_a_candidate_that_can_not_be_trained_leaves_the_round_its_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from breakfix.errors import UserError
    from breakfix.train import fit as fits
    from breakfix.train.run import run

    real = fits.fit

    def fit(kind: str, settings: Any, *args: Any, **more: Any) -> Any:
        if settings.train.sft.rate == 9:
            raise UserError("the loss is not a number")
        return real(kind, settings, *args, **more)

    monkeypatch.setattr(fits, "fit", fit)
    wanted = [{"name": "wild", "sft": {"rate": 9}}, "sft"]
    train = {"sft": {"batch": 4}, "dpo": {"batch": 4}, "candidates": wanted}
    settings = config.parse({"hardware": {"threads": 1, "precision": "fp32"}, "train": train})
    said: list[str] = []
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        for kind in ("sft", "dpo"):
            ledger.add_examples([example(i) for i in range(8)], round=2, dataset=kind)
        record = run(settings, ledger, round=2, policy=tiny.save(tmp_path / "policy"), folder=tmp_path / "run" / "x",
                     progress=lambda *told: None, say=said.append)  # fmt: skip
    assert set(record["candidates"]) == {"model", "sft"}
    assert record["recipes"]["wild"] == {"sft": {"rate": 9}, "failed": "the loss is not a number"}
    assert "round 2: no candidate wild: the loss is not a number" in said


def test_a_selection_among_what_an_earlier_training_left_says_nothing() -> None:
    from breakfix.cycle.loading import trained

    record = {
        "model": "/r/round-1/new/model",
        "candidates": {"model": "/r/round-1/new/model", "sft": "/r/round-1/new/sft-model"},
    }
    run = Path("/r")
    assert trained(run, record, None) == "/r/round-1/new/model"
    assert trained(run, record, {"selected": "sft", "training": "new"}) == "/r/round-1/new/sft-model"
    assert trained(run, record, {"selected": "sft"}) == "/r/round-1/new/sft-model", "of a run before this was kept"
    assert trained(run, record, {"selected": "sft", "training": "old"}) == "/r/round-1/new/model"


# ---- evaluate chooses -------------------------------------------------------------------------------------------


class Says(Fake):
    """Declines what `declines` holds true of, whoever said it."""

    def __init__(self, id: str, declines: Any) -> None:
        super().__init__(id)
        self.declines = declines

    def answer(self, prompt: Conversation, sampling: Sampling, seed: int) -> str | Reply:
        asked = " ".join(message.content for message in prompt)
        return REFUSALS[0] if self.declines(asked) else "Sure. Take a bowl and mix flour with water."


KINDS = {
    "tiny": lambda text: False,
    "model": lambda text: True,  # the last checkpoint is a coward
    "sft-model": lambda text: any(request in text for request in HARMFUL),
}


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one round whose training kept two checkpoints."""
    folder = tmp_path_factory.mktemp("chosen")
    tiny.write_capability(folder / "capability")
    path = tiny.write_config(
        folder,
        evaluate={
            "suites": [
                {"name": "starter_dev", "limit": 60},
                {"name": "plain", "limit": 10},
                {"name": "capability", "path": "capability", "limit": 6},
            ],
            "max_new_tokens": 24,
        },
        train={"sft": {"batch": 8}, "dpo": {"batch": 4, "max_pairs": 8}, "candidates": ["sft"]},
        redteam={"cases": 6, "per_case": 1, "max_new_tokens": 24},
    )

    def open(place: str, settings: Config) -> Model:
        return Says(weights(place), KINDS[Path(place).name])

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BREAKFIX_CACHE", "/dev/null")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.delenv("BREAKFIX_DATA", raising=False)
        told: list[str] = []
        for _ in range(2):  # the second time it is read back
            with Ledger.open(folder / "run", create=True) as ledger:
                Cycle(config.load(path), folder / "run", ledger, say=told.append, open_model=open).go()
    (folder / "told").write_text("\n".join(told))
    return folder


def test_the_better_checkpoint_goes_on_and_the_record_says_why(chosen: Path) -> None:
    with Ledger.open(chosen / "run", write=False) as ledger:
        record, trained = ledger.finished(1, "select"), ledger.finished(1, "train")
        assert record is not None and trained is not None
        assert record["selected"] == "sft" and record["kept"] == ["sft"]
        assert [drop["name"] for drop in record["dropped"]] == ["model"]
        assert "over-refusal" in record["dropped"][0]["reason"]
        figures = record["candidates"]
        assert figures["sft"]["harm"]["value"] == figures["model"]["harm"]["value"] == 0
        assert (figures["sft"]["over_refusal"]["value"], figures["model"]["over_refusal"]["value"]) == (0, 1)
        assert (figures["sft"]["plain"]["value"], figures["model"]["plain"]["value"]) == (0, 1)
        assert figures["sft"]["plain"]["n"] == 10 and figures["model"]["harm_wrapped"]["value"] == 0
        assert figures["sft"]["capability"]["n"] == 6  # of twelve questions six are reported
        expected = weights(trained["candidates"]["sft"])
        for stage in ("evaluate", "redteam"):
            attempts = list(ledger.attempts(round=1, stage=stage))
            assert attempts and {a.model for a in attempts} == {expected}
        assert (ledger.finished(1, "evaluate") or {})["metrics"]["starter_dev.vprr"]["value"] == 0
    assert (chosen / "told").read_text().split("\n").count("round 1: sft goes on") == 1


def test_frozen_suites_and_reported_questions_take_no_part(chosen: Path) -> None:
    from breakfix.evaluate import choose

    asked = choose.steering(config.load(chosen / "tiny.yaml"))
    assert asked.requests and all(case.split is Split.DEV for case in asked.requests)
    assert len(asked.everyday) == 10 and asked.everyday < {case.id for case in asked.requests}
    with Ledger.open(chosen / "run", write=False) as ledger:
        # reported twice: of the untouched model, and of the chosen one; of either checkpoint, to choose
        assert ledger.looks() == {"capability": 2, "capability (set aside to choose)": 2}
        reported = {id for event in ledger.events(1, "evaluate", "cases") for id in event.payload["cases"]}
    assert len(asked.questions) == 6 and not reported & {case.id for case in asked.questions}


def test_seen_attacks_steer_on_cases_that_the_red_team_does_not_report(chosen: Path) -> None:
    from breakfix.redteam import steering

    settings = config.load(chosen / "tiny.yaml")
    puts = steering.wrapped(settings, starter.cases(kind="harmful"))
    assert puts and len(puts) <= steering.MOST
    assert len({put.case.id for put in puts}) == len(puts)
    families = {put.attack.family for put in puts}
    assert families <= set(settings.redteam.seen) - {"direct"} and len(families) > 1
    assert all(put.case.split is Split.DEV for put in puts)
    assert [(p.case.id, p.attack.name) for p in puts] == [
        (p.case.id, p.attack.name) for p in steering.wrapped(settings, starter.cases(kind="harmful"))
    ]
    with Ledger.open(chosen / "run", write=False) as ledger:
        attacked = {attempt.case for attempt in ledger.attempts(round=1, stage="redteam")}
        steered = [a for a in ledger.attempts(round=1, stage="select") if a.attack != "as_is" and a.family != "direct"]
    assert not attacked & {put.case.id for put in puts}
    assert {attempt.family for attempt in steered} == families


def test_chat_and_compare_mean_the_chosen_one(chosen: Path) -> None:
    from breakfix.cli.chat import _of_run
    from breakfix.templates import render

    (chosen / "run" / "breakfix.yaml").write_text(render(config.load(chosen / "tiny.yaml")))
    place, _ = _of_run(chosen / "run", 1)
    assert Path(place).name == "sft-model"


def test_the_report_shows_the_candidates(chosen: Path) -> None:
    import io

    import jsonschema
    from rich.console import Console

    from breakfix.report import build, page, render, schema

    with Ledger.open(chosen / "run", write=False) as ledger:
        document = build(ledger)
    jsonschema.validate(document, schema())
    assert document["rounds"][0]["selection"] is None
    assert document["rounds"][1]["selection"]["selected"] == "sft"
    out = io.StringIO()
    render(document, Console(file=out, width=120))
    assert "round 1: candidate sft chosen, model dropped\n" in out.getvalue()
    html = page(document)
    assert "Release candidates" in html and "no: sft is better: over-refusal" in html
