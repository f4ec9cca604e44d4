"""train/: rows that teach what they should, refusals to train nonsense, the stage."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import tiny
from breakfix.core import Example, Message, ask
from breakfix.errors import DiskFull, UserError
from breakfix.ledger import Ledger

torch = pytest.importorskip("torch")

PREAMBLE = "You are asked about bread. "


def example(i: int, **changes: Any) -> Example:
    return Example(**{
        "prompt": ask(f"{PREAMBLE}Tell me step {i} of baking {'please ' * (i % 4)}"),
        "reply": "Mix flour. " * (1 + i % 3),
        "source": "test", "licence": "Apache-2.0", "why": "a test", "kind": "plain", "rejected": "No. " * (1 + i % 2),
        **changes,
    })  # fmt: skip


EXAMPLES = [example(i) for i in range(8)]


pytestmark = pytest.mark.filterwarnings("ignore")  # TRL, peft and torch warn about what is no concern of these tests


def test_dpo_begins_at_ln_2(folder: Path, tmp_path: Path) -> None:
    from breakfix.config import Config
    from breakfix.models.hf import load_pretrained
    from breakfix.train import fit, options, rows
    from breakfix.train.preflight import TrainingRefused, check_first_loss

    model, tokenizer = load_pretrained(folder)
    data, _ = rows.dpo_rows(tokenizer, EXAMPLES, 512, 24)
    made = options.trainer("dpo", Config(), model, tokenizer, data, options.lora(Config(), model), tmp_path)
    assert fit.first_loss(made)[0] == pytest.approx(math.log(2), abs=1e-3)
    with pytest.raises(TrainingRefused, match="expected ln 2"):
        check_first_loss(0.9)


def test_a_wider_model_gets_a_lower_rate_and_a_given_one_is_kept() -> None:
    from transformers import LlamaConfig

    from breakfix.config import parse
    from breakfix.train.rates import RATES, learning_rate

    def rate(width: int, **sft: Any) -> float:
        model = type("M", (), {"config": LlamaConfig(hidden_size=width, num_attention_heads=2)})
        return learning_rate("sft", parse({"train": {"sft": sft}}), model)

    assert rate(32) == rate(576) == RATES["sft", "lora"]
    assert rate(3072) == pytest.approx(RATES["sft", "lora"] * 0.2705, rel=1e-3)  # (576 / 3072) ** 0.781
    assert rate(3072, learning_rate=1e-5) == 1e-5


def test_rows_end_the_turn_unless_the_reply_was_cut(folder: Path) -> None:
    from breakfix.models.hf import load_pretrained
    from breakfix.models.render import turn_end
    from breakfix.train.rows import sft_rows

    _, tokenizer = load_pretrained(folder)
    (whole,), _ = sft_rows(tokenizer, [example(0, reply="Mix.")], 512)
    (cut,), _ = sft_rows(tokenizer, [example(0, reply="Mix.", cut=True)], 512)
    end = turn_end(tokenizer)
    assert whole["labels"][-len(end) :] == end
    assert whole["input_ids"] == cut["input_ids"] + end
    assert [t for t in cut["labels"] if t != -100] == tokenizer("Mix.", add_special_tokens=False)["input_ids"]


def test_most_replies_are_learnt_up_to_their_first_tokens(folder: Path) -> None:
    from breakfix.models.hf import load_pretrained
    from breakfix.train.rows import sft_rows

    _, tokenizer = load_pretrained(folder)
    examples = [example(i, reply=f"Mix {i} cups of flour.") for i in range(200)]
    whole, _ = sft_rows(tokenizer, examples, 512)
    short, lost = sft_rows(tokenizer, examples, 512, first_tokens=5, whole_share=0.25)
    again, _ = sft_rows(tokenizer, examples, 512, first_tokens=5, whole_share=0.25)
    same = [a == b for a, b in zip(whole, short, strict=True)]
    assert short == again
    assert lost == []  # it is the recipe, not a reply that found no room
    assert sum(same) == 50
    few, _ = sft_rows(tokenizer, examples[:3], 512, first_tokens=5, whole_share=0.25)
    assert sum(a == b for a, b in zip(whole[:3], few, strict=True)) == 1  # a coin for each row might take none
    assert {sum(label != -100 for label in row["labels"]) for row, all in zip(short, same, strict=True) if not all} == {
        5
    }
    assert all(b["input_ids"] == a["input_ids"][: len(b["input_ids"])] for a, b in zip(whole, short, strict=True))


def test_pairs_end_the_turn_unless_that_side_was_cut(folder: Path) -> None:
    from breakfix.models.hf import load_pretrained
    from breakfix.models.render import turn_end
    from breakfix.train.rows import dpo_rows

    _, tokenizer = load_pretrained(folder)
    pair = {"reply": "Mix.", "rejected": "No."}
    rows, _ = dpo_rows(tokenizer, [example(0, **pair, **more) for more in (
        {}, {"cut": True}, {"rejected_cut": True})], 512, 24)  # fmt: skip
    end, said = turn_end(tokenizer), [tokenizer(text)["input_ids"] for text in pair.values()]
    assert [row["chosen_ids"] for row in rows] == [said[0] + end, said[0], said[0] + end]
    assert [row["rejected_ids"] for row in rows] == [said[1] + end, said[1] + end, said[1]]


def test_an_over_long_row_is_cut_with_a_record(folder: Path) -> None:
    from breakfix.models.hf import load_pretrained
    from breakfix.train.rows import sft_rows

    _, tokenizer = load_pretrained(folder)
    rows, shortened = sft_rows(tokenizer, [example(0, reply="flour " * 200), example(1)], 300)
    assert len(rows) == 2
    assert len(rows[0]["input_ids"]) == 300
    assert [s.id for s in shortened] == [example(0, reply="flour " * 200).id]
    assert shortened[0].lost > 0


def test_preflight_refuses_what_would_teach_nothing(folder: Path) -> None:
    from breakfix.models.hf import load_pretrained
    from breakfix.train.preflight import TrainingRefused, check_rows
    from breakfix.train.rows import sft_rows

    _, tokenizer = load_pretrained(folder)
    rows, _ = sft_rows(tokenizer, EXAMPLES, 512)
    assert check_rows(tokenizer, EXAMPLES, rows)["rows_with_turn_end"] == len(EXAMPLES)
    silent = [{**row, "labels": [-100] * len(row["labels"])} for row in rows]
    with pytest.raises(TrainingRefused, match="no trained token"):
        check_rows(tokenizer, EXAMPLES, silent)
    endless, _ = sft_rows(tokenizer, [example(i, cut=True) for i in range(3)], 512)
    with pytest.raises(TrainingRefused, match="end-of-turn"):
        check_rows(tokenizer, EXAMPLES, endless)
    with pytest.raises(TrainingRefused, match="no training rows"):
        check_rows(tokenizer, EXAMPLES, [])


TURN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ SAID }}<|im_end|>\n{% endfor %}"
OPENED = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


@pytest.mark.parametrize(
    ("template", "first"),
    [
        # a thought is opened for what is generated, and is not in what was said
        (TURN.replace("SAID", "m.content") + OPENED.replace("assistant\n", "assistant\n<think>"), 0),
        (TURN.replace("SAID", "m.content | trim") + OPENED, 2),  # of the rows, only the third is longer untrimmed
        # of a long conversation, only the beginning of what the assistant said is shown
        (TURN.replace("SAID", "m.content if m.role == 'user' or messages | length < 4 else m.content[:3]") + OPENED, 3),
    ],
)
def test_preflight_refuses_a_template_that_disagrees_with_itself(folder: Path, template: str, first: int) -> None:
    from breakfix.models.hf import load_pretrained
    from breakfix.train.preflight import TrainingRefused, check_rows
    from breakfix.train.rows import sft_rows

    _, tokenizer = load_pretrained(folder)
    turns = (*ask("Hi"), Message("assistant", "Hello"), *ask("Bread?"))
    examples = [example(0, reply="Mix."), example(1, reply="Mix.", cut=True), example(2, reply="  Mix flour."),
                example(3, prompt=turns, reply="Bake."), example(4, prompt=ask("x" * 600))]  # fmt: skip
    rows, _ = sft_rows(tokenizer, examples, 512)
    assert check_rows(tokenizer, examples, rows)["rows"] == 4  # the last has no room
    tokenizer.chat_template = template
    rows, _ = sft_rows(tokenizer, examples, 512)
    with pytest.raises(TrainingRefused, match=f"row {examples[first].id}: training and inference tokens differ"):
        check_rows(tokenizer, examples, rows)


def test_preflight_looks_at_the_rows_themselves(folder: Path) -> None:
    from breakfix.models.hf import load_pretrained
    from breakfix.train.preflight import TrainingRefused, check_rows
    from breakfix.train.rows import sft_rows

    _, tokenizer = load_pretrained(folder)
    rows, _ = sft_rows(tokenizer, EXAMPLES, 512)
    at = len(PREAMBLE)
    rows[5] = {**rows[5], "input_ids": [*rows[5]["input_ids"][:at], 7, *rows[5]["input_ids"][at + 1 :]]}
    with pytest.raises(TrainingRefused, match=f"row {EXAMPLES[5].id}: .* differ from token {at} on"):
        check_rows(tokenizer, EXAMPLES, rows)


def test_a_text_divided_otherwise_into_tokens_is_the_same_text(folder: Path) -> None:
    from breakfix.models.hf import load_pretrained
    from breakfix.train.preflight import check_rows
    from breakfix.train.rows import sft_rows

    _, tokenizer = load_pretrained(folder)
    rows, _ = sft_rows(tokenizer, EXAMPLES, 512)
    ids = tokenizer("Mi", add_special_tokens=False)["input_ids"]
    tokenizer.add_tokens(["Mi"])  # the template's text is now divided otherwise than the rows
    assert tokenizer("Mi", add_special_tokens=False)["input_ids"] != ids
    assert check_rows(tokenizer, EXAMPLES, rows)["rows"] == len(EXAMPLES)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_fit_writes_merged_safetensors_and_lowers_the_loss(method: str, folder: Path, tmp_path: Path) -> None:
    from breakfix.config import parse
    from breakfix.train.fit import fit

    config = parse({"train": {"method": method, "sft": {"batch": 4, "epochs": 6, "learning_rate": 5e-3}}})
    steps: list[int] = []
    record = fit("sft", config, folder, EXAMPLES, tmp_path / "out", lambda step, total, figures: steps.append(step))
    assert record["loss"]["last"] < record["loss"]["first"]
    assert max(steps) == record["steps"]
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert not list((tmp_path / "out").glob("adapter*"))


# ---- the stage: what runs out, and what is told


def large(folder: Path) -> Path:
    """The tiny model's shape, but of about 2 MB, twice that with the optimiser's state."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=259, hidden_size=128, intermediate_size=512, num_hidden_layers=2,
                         num_attention_heads=4, max_position_embeddings=512, bos_token_id=0, eos_token_id=2,
                         pad_token_id=0, tie_word_embeddings=True)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


class Stage:
    """A ledger with rows to train on, and the stage on them."""

    def __init__(self, policy: Path, run: Path, method: str) -> None:
        from breakfix.config import parse

        train = {"method": method, "sft": {"batch": 2, "epochs": 3}, "dpo": {"enabled": False},
                 "probe": False, "alarms": False}  # fmt: skip
        self.config = parse({"hardware": {"threads": 1, "precision": "fp32"}, "train": train})
        self.policy, self.run, self.told = policy, run, list[tuple[str, int, int]]()
        with Ledger.open(run, create=True) as ledger:
            ledger.add_examples(EXAMPLES, round=1, dataset="sft")

    def go(self, folder: str = "x") -> dict[str, Any]:
        from breakfix.train.run import run as train

        with Ledger.open(self.run) as ledger:
            return train(self.config, ledger, round=1, policy=self.policy, folder=self.run / "round-1" / folder,
                         progress=lambda *told: self.told.append(told))  # fmt: skip


@pytest.mark.parametrize(
    ("method", "limit"),
    [
        ("full", 3_000_000),  # the first checkpoint's optimiser state does not fit: torch.save
        ("full", 1_000_000),  # nor do its weights: safetensors
        ("lora", 1_500_000),  # checkpoints fit, the merged weights do not
    ],
)
def test_a_full_disk_is_one_plain_line_and_training_goes_on_when_there_is_room(
    method: str, limit: int, tmp_path: Path
) -> None:
    import resource

    stage = Stage(large(tmp_path / "policy"), tmp_path / "run", method)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        with pytest.raises(DiskFull, match=r"no room left .*; nothing was corrupted, make room and") as error:
            stage.go()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(error.value)
    stage.told.clear()
    record = stage.go()
    assert Path(record["model"], "model.safetensors").is_file()
    assert record["sft"]["steps"] == 12 and set(record) == {
        "started_from",
        "sft",
        "dpo",
        "model",
        "weights",
        "candidates",
    }
    again = list(dict.fromkeys(done for _, done, _ in stage.told))
    assert again == ([] if method == "lora" else list(range(1, 13)))  # from the last whole checkpoint, if any
    assert not list((tmp_path / "run").glob("round-1/x/*/checkpoint-*"))


def test_a_model_that_can_not_be_copied_into_place_is_no_room(tmp_path: Path) -> None:
    """shutil.copytree collects its errors: the number stands in the text."""
    import errno
    import shutil

    from breakfix.ledger.room import no_room

    full = OSError(errno.ENOSPC, "No space left on device")
    assert no_room(shutil.Error([("a", "b", str(full))]))
    wrapped = ValueError("dataset")
    wrapped.__cause__ = full
    assert no_room(wrapped)
    assert not no_room(OSError(errno.EACCES, "Permission denied"))
    assert not no_room(RuntimeError("mat1 and mat2 shapes cannot be multiplied (28x2)"))


def test_out_of_memory_is_one_plain_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's CPU allocator raises a RuntimeError of its own."""
    from breakfix.train import fit

    monkeypatch.setattr(fit, "fit", lambda *_, **__: torch.empty(1 << 60))
    stage = Stage(folder, tmp_path / "run", "full")
    with pytest.raises(
        UserError, match=r"out of memory; lower train.sft.batch \(it is 2\), or set train.method to lora"
    ):
        stage.go()
    monkeypatch.setattr(fit, "fit", lambda *_, **__: torch.empty(2) @ torch.empty(3))
    with pytest.raises(RuntimeError, match="size"):
        stage.go()


def test_the_last_loss_is_told_with_the_progress(folder: Path, tmp_path: Path) -> None:
    stage = Stage(folder, tmp_path / "run", "full")
    record = stage.go()
    assert stage.told[0] == ("training (sft)", 1, 12)
    assert stage.told[-1] == (f"training (sft), loss {record['sft']['loss']['last']:.2f}", 12, 12)
    with Ledger.open(tmp_path / "run", write=False) as ledger:
        assert [event.payload["step"] for event in ledger.events(1, "train", "sft")][:2] == [5, 10]


def test_training_shows_no_bars_of_libraries(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    stage = Stage(folder, tmp_path / "run", "lora")
    dpo = stage.config.train.dpo.model_copy(update={"enabled": True, "batch": 2})
    stage.config = stage.config.model_copy(update={"train": stage.config.train.model_copy(update={"dpo": dpo})})
    with Ledger.open(tmp_path / "run") as ledger:
        ledger.add_examples(EXAMPLES, round=1, dataset="dpo")
    assert stage.go()["dpo"]["steps"] == 4
    assert capfd.readouterr() == ("", "")


def test_the_same_rows_in_another_folder_are_trained_there(folder: Path, tmp_path: Path) -> None:
    """What is published is taken from the folder: a part of another one that is finished does not do."""
    stage = Stage(folder, tmp_path / "run", "lora")
    assert stage.go("x")["weights"] == stage.go("y")["weights"]
