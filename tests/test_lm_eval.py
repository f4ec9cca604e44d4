"""lm-evaluation-harness on local tasks of our own: choices, generated text, a continuation. Skipped without it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import tiny
from breakfix.config import Config, Suite
from breakfix.core import Conversation, Reply, Sampling
from breakfix.errors import AssetError, ConfigError, DataError, ModelError
from breakfix.evaluate import run
from breakfix.judges.refusal import RefusalJudge
from breakfix.ledger import Ledger
from breakfix.ready import check
from breakfix.suites import harness, load

needs_harness = pytest.mark.skipif(not harness.available(), reason="lm-eval is not installed: breakfix[lm-eval]")
ours = pytest.mark.filterwarnings("default")  # the harness's own warnings are none of ours

ROWS = (
    {"question": "Bread rises by", "choices": ["yeast", "salt"], "answer": 0, "word": "yeast"},
    {"question": "A baker works in a", "choices": ["mill", "bakery"], "answer": 1, "word": "bakery"},
    {"question": "Flour comes from", "choices": ["grain", "milk"], "answer": 0, "word": "grain"},
)
CHOICES = """\
task: bakery
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""
WORDS = """\
task: bakery_words
output_type: generate_until
doc_to_text: "Complete: {{question}}"
doc_to_target: word
generation_kwargs: {until: ["\\n"], max_gen_toks: 8}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}
"""
LAST = """\
task: bakery_last
output_type: loglikelihood
doc_to_text: "{{question}}"
doc_to_target: "{{word}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
"""
ROLLING = """\
task: bakery_whole
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list:
  - {metric: word_perplexity}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tasks, and their data beside it."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    source = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\ntest_split: test\n"
    for name, text in (("choices", CHOICES), ("words", WORDS), ("last", LAST), ("rolling", ROLLING)):
        (tasks / f"{name}.yaml").write_text(text + source)
    return tasks


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "run", create=True) as opened:
        yield opened


class Baker:
    """Likes and says the right word, but for questions that hold `blind`; `fails_at` fails the model."""

    def __init__(self, id: str = "baker", blind: str = "?", fails_at: str = "?") -> None:
        self.id, self.blind, self.fails_at = id, blind, fails_at
        self.asked: list[Conversation] = []

    def _word(self, prompt: Conversation) -> str:
        text = prompt[-1].content
        if self.blind in text:
            return "pebbles"
        return next(row["word"] for row in ROWS if str(row["question"]) in text)  # type: ignore[return-value]

    def generate(
        self, prompts: Sequence[Conversation], sampling: Sampling, seeds: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Reply]]:
        self.asked += prompts
        for i, prompt in enumerate(prompts):
            if self.fails_at in prompt[-1].content:
                yield i, Reply("", finish="error", error="out of memory")
            else:
                yield i, Reply(f"{self._word(prompt)}\nand so on", 1, 1)

    def score(self, pairs: Sequence[tuple[Conversation, str]]) -> list[tuple[float, int]]:
        self.asked += [prompt for prompt, _ in pairs]
        if any(self.fails_at in prompt[-1].content for prompt, _ in pairs):
            raise ModelError("out of memory")
        return [(-1.0 if self._word(prompt) == said else -9.0, 1) for prompt, said in pairs]


def stage(ledger: Ledger, model: Any, *suites: Suite, round: int = 0) -> dict[str, Any]:
    return run(Config(), ledger, model, RefusalJudge(), round=round, suites=suites)


def task(name: str, folder: Path, **more: Any) -> Suite:
    return Suite(name=f"lm-eval/{name}", path=folder, **more)


@needs_harness
@ours
def test_choices_by_the_harness(ledger: Ledger, folder: Path) -> None:
    suite = task("bakery", folder)
    record = stage(ledger, Baker(blind="works in"), suite)
    metrics = {name: (value["value"], value["n"]) for name, value in record["metrics"].items()}
    assert metrics["lm-eval/bakery.acc"] == (pytest.approx(2 / 3), 3)
    assert metrics["lm-eval/bakery.acc_norm"][1] == 3
    about = record["suites"]["lm-eval/bakery"]
    assert (about["n"], about["split"]) == (3, "dev")
    assert about["judge"].startswith("lm-evaluation-harness 0.")
    better = stage(ledger, Baker("better"), suite, round=1)["metrics"]
    assert better["lm-eval/bakery.change.acc"]["value"] == pytest.approx(1 / 3)
    json.dumps(record, allow_nan=False)


@needs_harness
@ours
def test_prompts_go_through_the_models_own_template(ledger: Ledger, folder: Path) -> None:
    model = Baker()
    stage(ledger, model, task("bakery", folder))
    assert {tuple(message.role for message in prompt) for prompt in model.asked} == {("user",)}
    assert {prompt[-1].content for prompt in model.asked} == {str(row["question"]) for row in ROWS}


@needs_harness
@ours
def test_examples_are_turns_of_their_own(ledger: Ledger, folder: Path) -> None:
    text = (folder / "choices.yaml").read_text().replace("task: bakery", "task: shown")
    (folder / "shown.yaml").write_text(text + "num_fewshot: 1\nfewshot_split: test\ndescription: Answer in one word.\n")
    model = Baker()
    stage(ledger, model, task("shown", folder))
    roles = {tuple(message.role for message in prompt) for prompt in model.asked}
    assert roles == {("system", "user", "assistant", "user")}
    assert {prompt[2].content.strip() for prompt in model.asked} <= {"yeast", "bakery", "grain"}
    assert {prompt[0].content.strip() for prompt in model.asked} == {"Answer in one word."}


@needs_harness
@ours
def test_a_group_is_its_tasks_together_and_apart(ledger: Ledger, folder: Path) -> None:
    (folder / "more.yaml").write_text((folder / "choices.yaml").read_text().replace("task: bakery", "task: bakery_two"))
    (folder / "group.yaml").write_text("group: bakeries\ntask: [bakery, bakery_two]\n")
    metrics = stage(ledger, Baker(blind="works in"), task("bakeries", folder))["metrics"]
    assert metrics["lm-eval/bakeries.acc"]["n"] == 6
    assert metrics["lm-eval/bakeries.acc"]["value"] == pytest.approx(2 / 3)
    assert metrics["lm-eval/bakeries.acc.bakery_two"]["n"] == 3


@needs_harness
@ours
def test_generated_text_ends_where_the_task_says(ledger: Ledger, folder: Path) -> None:
    metrics = stage(ledger, Baker(blind="works in"), task("bakery_words", folder))["metrics"]
    [(name, value)] = metrics.items()
    assert name.startswith("lm-eval/bakery_words.exact_match")
    assert (value["value"], value["n"]) == (pytest.approx(2 / 3), 3)


@needs_harness
@ours
def test_a_continuation_counts_where_the_model_would_say_it(ledger: Ledger, folder: Path) -> None:
    metrics = stage(ledger, Baker(blind="works in"), task("bakery_last", folder))["metrics"]
    assert metrics["lm-eval/bakery_last.acc"]["value"] == pytest.approx(2 / 3)
    perplexity = metrics["lm-eval/bakery_last.perplexity"]
    assert perplexity["value"] == pytest.approx(2.718281828 ** (11 / 3))  # exp of the mean of 1, 1 and 9
    assert (perplexity["low"], perplexity["n"]) == (None, 3)


@needs_harness
@ours
def test_what_the_model_failed_on_is_unscored(ledger: Ledger, folder: Path) -> None:
    found = stage(ledger, Baker(fails_at="Flour"), task("bakery_words", folder))["metrics"]
    [value] = found.values()
    assert (value["value"], value["n"], value["unscored"]) == (1.0, 2, 1)
    [failed] = ledger.events(0, "evaluate", "failed")
    assert (failed.payload["why"], failed.payload["n"]) == ("out of memory", 1)


@needs_harness
@ours
@pytest.mark.parametrize(("name", "lives"), [("bakery", 2), ("bakery_words", 2), ("bakery_last", 4)])
def test_a_task_that_was_broken_off_goes_on_where_it_was(
    ledger: Ledger, folder: Path, name: str, lives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of two; the model dies, and later neither the killed run's answers nor a finished one's are asked for."""
    monkeypatch.setattr("breakfix.evaluate.harness_model.CHUNK", 2)

    class Dies(Baker):
        left = lives

        def _word(self, prompt: Conversation) -> str:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            return super()._word(prompt)

    suite, whole = task(name, folder), Baker()
    with Ledger.open(folder / "whole", create=True) as other:
        metrics = stage(other, whole, suite)["metrics"]
    with pytest.raises(KeyboardInterrupt):
        ledger.stage(0, "evaluate", {"x": 1}, lambda: stage(ledger, Dies(), suite))
    again = Baker()
    assert ledger.stage(0, "evaluate", {"x": 1}, lambda: stage(ledger, again, suite))["metrics"] == metrics
    assert len(again.asked) < len(whole.asked)
    third, other = Baker(), Baker("another")
    assert ledger.stage(0, "evaluate", {"x": 2}, lambda: stage(ledger, third, suite))["metrics"] == metrics
    assert third.asked == []
    ledger.stage(0, "evaluate", {"x": 3}, lambda: stage(ledger, other, suite))
    assert len(other.asked) == len(whole.asked)


@needs_harness
@ours
def test_a_sample_is_ours_and_the_questions_are_cases(ledger: Ledger, folder: Path) -> None:
    suite = task("bakery", folder, limit=2)
    loaded = load(suite, seed=0)
    assert (len(loaded.cases), loaded.measure) == (2, "lm-eval")
    metrics = stage(ledger, Baker(), suite)["metrics"]
    assert metrics["lm-eval/bakery.acc"]["n"] == 2
    questions = {str(row["question"]) for row in ROWS}
    assert {case.text for case in load(task("bakery", folder), seed=0).cases} == questions


@needs_harness
@ours
def test_whole_texts_are_skipped_and_unknown_tasks_are_named(ledger: Ledger, folder: Path) -> None:
    record = stage(ledger, Baker(), task("bakery_whole", folder))
    assert "likelihood of whole texts" in record["skipped"][0]["reason"]
    with pytest.raises(DataError, match="no task 'bakerry' in "):
        load(task("bakerry", folder), seed=0)
    with pytest.raises(DataError, match="is not a folder"):
        load(task("bakery", folder / "choices.yaml"), seed=0)
    (folder / "gone.yaml").write_text(CHOICES.replace("bakery", "gone") + "dataset_path: json\ntest_split: test\n")
    with pytest.raises(AssetError, match="lm-eval/gone: its data can't be had"):
        load(task("gone", folder), seed=0)


@needs_harness
@ours
def test_on_a_tiny_model(ledger: Ledger, folder: Path, tmp_path: Path) -> None:
    from breakfix.models.hf import HFModel

    tiny.save(tmp_path / "tiny")
    model = HFModel.load(str(tmp_path / "tiny"), precision="fp32", threads=1, batch=4)
    metrics = stage(ledger, model, task("bakery", folder), task("bakery_words", folder))["metrics"]
    assert metrics["lm-eval/bakery.acc"]["n"] == 3
    assert all(value["unscored"] == 0 for value in metrics.values())


@pytest.mark.skipif(harness.available(), reason="lm-eval is installed")
def test_without_the_harness_one_line_says_what_to_install(tmp_path: Path) -> None:
    config = Config.model_validate({"evaluate": {"suites": [{"name": "lm-eval/hellaswag"}]}})
    with pytest.raises(DataError, match=r"needs lm-evaluation-harness; install it: pip install .*\[lm-eval\]'$"):
        check(config)


def test_a_misspelt_suite_is_still_a_mistake() -> None:
    config = Config.model_validate({"evaluate": {"suites": [{"name": "lm-evil/hellaswag"}]}})
    with pytest.raises(ConfigError, match="'lm-evil/hellaswag' is not built in"):
        check(config)


@needs_harness
@ours
def test_it_shows_no_bars_of_libraries(ledger: Ledger, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage(ledger, Baker(), task("bakery", folder))
    assert "%|" not in capsys.readouterr().err
