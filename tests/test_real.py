"""The real 135M model: what the tiny one can't show. It answers, exactly as transformers' own `generate` does; it knows
which of two continuations makes sense; and a few steps of training move it the way they should. About one minute.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from breakfix import assets
from breakfix.config import Config, Suite, parse
from breakfix.core import Case, Example, Expect, Sampling, Split, ask
from breakfix.errors import AssetError
from breakfix.evaluate import capability
from breakfix.ledger import Ledger
from breakfix.models.hf import HFModel
from breakfix.models.render import prompt_ids
from breakfix.suites import load

pytestmark = pytest.mark.slow

PROMPTS = (
    "What is the capital of France?",
    "Name three fruits that grow on trees.",
    "Write one sentence about a cat that sleeps in the sun, please, and let it be a cheerful one.",
    "Why are bees useful to farmers?",
)
EASY = (
    ("What colour is fresh grass?", "Green", "Purple"),
    ("What do cows eat?", "Grass", "Bicycles"),
    ("What falls from clouds?", "Rain", "Hammers"),
    ("What do you wear on your feet?", "Shoes", "Soup"),
    ("What is the capital of Italy?", "Rome", "Oslo"),
    ("How many days has a week?", "Seven", "Forty"),
    ("What do fish swim in?", "Water", "Sand"),
    ("What shines in the sky by day?", "The sun", "The floor"),
    ("What do we read?", "Books", "Spoons"),
    ("What is ice made of?", "Frozen water", "Hot metal"),
    ("What do birds use to fly?", "Wings", "Wheels"),
    ("What do you use to cut paper?", "Scissors", "A pillow"),
    ("Which animal barks?", "A dog", "A fish"),
    ("What do plants need to grow?", "Sunlight and water", "Darkness and salt"),
    ("What do bakers bake?", "Bread", "Stones"),
    ("Where do children learn to read?", "At school", "In a volcano"),
    ("What tells the time?", "A clock", "A potato"),
    ("What do you sleep in?", "A bed", "A kettle"),
    ("What language do people speak in Spain?", "Spanish", "Japanese"),
    ("What is the opposite of hot?", "Cold", "Loud"),
)


@pytest.fixture(scope="module")
def folder() -> Path:
    return assets.resolve("smollm2-135m-instruct").path


@pytest.fixture(scope="module")
def model(folder: Path) -> HFModel:
    return HFModel.load(folder, precision="fp32")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "run", create=True) as opened:
        yield opened


def test_it_answers_as_transformers_does_and_sensibly(model: HFModel) -> None:
    prompts = [ask(text) for text in PROMPTS]
    replies = dict(model.generate(prompts, Sampling(max_new_tokens=32)))
    for i, prompt in enumerate(prompts):
        ids = torch.tensor([prompt_ids(model.tokenizer, prompt)])
        with torch.inference_mode():
            stock = model.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=32, do_sample=False, pad_token_id=model.pad
            )
        assert replies[i].text == model.tokenizer.decode(stock[0, ids.shape[1] :], skip_special_tokens=True)
    assert "Paris" in replies[0].text
    assert any(fruit in replies[1].text.lower() for fruit in ("apple", "orange", "pear", "cherr", "mango", "banana"))
    assert "cat" in replies[2].text.lower()
    assert "bees" in replies[3].text.lower()
    assert {reply.finish for reply in replies.values()} <= {"stop", "length"}


def test_sampling_depends_on_the_seed_alone(model: HFModel) -> None:
    sampling = Sampling(max_new_tokens=12, temperature=1.0)
    prompts = [ask(text) for text in PROMPTS]
    together = dict(model.generate(prompts, sampling, [7, 7, 8, 9]))
    [(_, alone)] = model.generate(prompts[2:3], sampling, [8])
    assert alone.text == together[2].text
    [(_, other)] = model.generate(prompts[2:3], sampling, [10])
    assert other.text != alone.text


def test_it_finds_the_sensible_one_of_two_likelier(model: HFModel, ledger: Ledger) -> None:
    cases = [
        Case(f"easy/{i}", ask(question), Expect.ANSWER, "easy", Split.DEV, choices=tuple(choices), gold=0)
        for i, (question, *choices) in enumerate(EASY)
    ]
    found, _ = capability.run(ledger, model, cases, round=0, progress=lambda what, done, total: None)
    accuracy = found["accuracy"]
    assert (accuracy.n, accuracy.unscored) == (20, 0)
    assert accuracy.value >= 0.8
    given = model.score([(cases[0].prompt, choice) for choice in cases[0].choices])
    assert given[0][0] == pytest.approx(by_hand(model, cases[0], cases[0].choices[0]), abs=1e-3)


def by_hand(model: HFModel, case: Case, text: str) -> float:
    prompt = prompt_ids(model.tokenizer, case.prompt)
    said = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logps = model.model(torch.tensor([prompt + said])).logits[0].float().log_softmax(dim=-1)
    return sum(float(logps[len(prompt) + i - 1, token]) for i, token in enumerate(said))


@pytest.mark.assets
def test_the_public_questions_are_scored_without_a_gap(model: HFModel, ledger: Ledger) -> None:
    try:
        suite = load(Suite(name="capability", limit=21), seed=0)
    except AssetError as error:
        pytest.skip(str(error))
    found, _ = capability.run(ledger, model, suite.cases, round=0, progress=lambda what, done, total: None)
    assert {name: (e.n, e.unscored) for name, e in found.items()} == {
        "accuracy": (21, 0), "piqa": (7, 0), "boolq": (7, 0), "mmlu": (7, 0),
    }  # fmt: skip
    assert found["accuracy"].value > 0.25


def test_eight_steps_teach_it_something(folder: Path, model: HFModel, tmp_path: Path) -> None:
    from breakfix.train.fit import fit

    reply = "With pleasure! Here is my answer, as short as I can make it: {}."
    examples = [
        Example(ask(f"{question} ({i})"), reply.format(choices[0].lower()), "test", "CC0-1.0", "a test", "plain")
        for i in range(2) for question, *choices in EASY[:16]
    ]  # fmt: skip
    config: Config = parse({"train": {"sft": {"batch": 4, "max_length": 128}}, "hardware": {"precision": "fp32"}})
    seen: list[tuple[int, int, dict[str, float]]] = []
    record = fit("sft", config, folder, examples, tmp_path / "out", lambda *row: seen.append(row))
    assert record["steps"] == 8 and [step for step, _, figures in seen if not figures] == list(range(1, 9))
    assert record["preflight"]["turn_end"] == "<|im_end|>"
    held_out: list[Any] = [(ask(question), reply.format(choices[0].lower())) for question, *choices in EASY[16:]]
    trained = HFModel.load(tmp_path / "out", precision="fp32")
    before, after = loss(model, held_out), loss(trained, held_out)
    assert math.isfinite(after) and after < 0.8 * before, json.dumps([before, after])
    assert trained.id != model.id


def loss(model: HFModel, rows: list[Any]) -> float:
    """Nats per token."""
    scores = model.score(rows)
    return -sum(logp for logp, _ in scores) / sum(n for _, n in scores)
