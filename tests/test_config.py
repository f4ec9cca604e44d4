"""The configuration: what a YAML file means, what a mistake in it is called, that what is written out reads back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from breakfix.config import Config, load, parse
from breakfix.errors import ConfigError
from breakfix.templates import COMMENTS, WIDTH, render


def file(folder: Path, text: str, name: str = "a.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refused(raw: Any) -> str:
    with pytest.raises(ConfigError) as error:
        parse(raw)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- what is valid ----------------------------------------------------------------------------------------------


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    assert load(file(tmp_path, "")) == load(file(tmp_path, "# only a comment")) == Config()
    found = load(file(tmp_path, "rounds: 3\ntrain: {sft: {epochs: 2}}"))
    assert (found.rounds, found.train.sft.epochs) == (3, 2.0)
    assert found.train.sft.batch == Config().train.sft.batch
    assert found.train.dpo == Config().train.dpo


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().rounds = 3  # type: ignore[misc]


def test_a_rate_may_be_written_with_an_exponent(tmp_path: Path) -> None:
    """YAML 1.1 reads 1e-4 as text."""
    assert load(file(tmp_path, "train: {sft: {learning_rate: 1e-4}}")).train.sft.learning_rate == 0.0001


def test_a_byte_order_mark_is_no_key(tmp_path: Path) -> None:
    assert load(file(tmp_path, "\ufeffrounds: 4")).rounds == 4


def test_relative_paths_are_taken_from_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    text = """
        model: models/mine
        redteam: {helper: models/mine}
        curate: {helper: models/mine,
                 sources: [{name: a, path: rows.jsonl}, {name: b, path: ~/rows.jsonl}, {name: starter},
                           {name: d, hub: models/mine}, {name: e, hub: owner/data}]}
        evaluate: {suites: [{name: c, path: /data/c.jsonl}]}
    """
    found = load(file(tmp_path, text))
    assert found.model == found.redteam.helper == str(tmp_path / "models" / "mine")
    assert found.curate.helper == found.model
    rows = tmp_path / "rows.jsonl"
    assert [source.path for source in found.curate.sources] == [rows, rows, None, None, None]
    assert [source.hub for source in found.curate.sources][3:] == [str(tmp_path / "models" / "mine"), "owner/data"]
    assert found.evaluate.suites[0].path == Path("/data/c.jsonl")


def test_a_model_that_is_no_folder_stays_a_name(tmp_path: Path) -> None:
    found = load(file(tmp_path, "model: owner/model\nredteam: {helper: smollm2-135m-instruct}\ncurate: {helper: a/b}"))
    assert (found.model, found.redteam.helper) == ("owner/model", "smollm2-135m-instruct")
    assert (found.curate.helper, load(file(tmp_path, "rounds: 1")).curate.helper) == ("a/b", None)


# ---- what is not ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "key", "near"),
    [
        ({"modell": "x"}, "modell", "model"),
        ({"train": {"sft": {"epoch": 2}}}, "train.sft.epoch", "epochs"),
        ({"curate": {"sources": [{"name": "starter"}, {"nmae": "x"}]}}, "curate.sources[1].nmae", "name"),
        ({"evaluate": {"suites": [{"name": "plain", "limits": 3}]}}, "evaluate.suites[0].limits", "limit"),
        ({"gate": {"harms": 0.1}}, "gate.harms", "harm"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known(raw: Any, key: str, near: str) -> None:
    assert refused(raw) == f"config: unknown key {key!r}; did you mean {near!r}?"


def test_an_unknown_key_that_is_near_none_is_refused_with_all_that_are_known() -> None:
    assert refused({"hardware": {"colour": "red"}}) == (
        "config: unknown key 'hardware.colour'; known here: batch, precision, threads"
    )
    assert refused({1: 2}).startswith("config: unknown key '1'; known here: curate, endpoints, evaluate, gate,")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"rounds": "two"}, "rounds is 'two'; expected a whole number"),
        ({"rounds": 0}, "rounds is 0; expected 1 or more"),
        ({"hardware": {"threads": 1.5}}, "hardware.threads is 1.5; expected a whole number"),
        ({"hardware": {"precision": "fp16"}}, "hardware.precision is 'fp16'; expected 'auto', 'fp32' or 'bf16'"),
        ({"train": {"sft": {"epochs": "many"}}}, "train.sft.epochs is 'many'; expected a number"),
        ({"train": {"sft": {"enabled": "maybe"}}}, "train.sft.enabled is 'maybe'; expected true or false"),
        ({"train": {"lora": {"targets": 5}}}, "train.lora.targets is 5; expected text or a list"),
        ({"train": {"lora": {"targets": ["q", 1]}}}, "train.lora.targets[1] is 1; expected text"),
        ({"train": None}, "train is empty; expected keys and values (or take it out)"),
        ({"train": "lora"}, "train is 'lora'; expected keys and values (or take it out)"),
        ({"model": 5}, "model is 5; expected text"),
        ({"model": ""}, "model is ''; expected text"),
        ({"curate": {"sources": "starter"}}, "curate.sources is 'starter'; expected a list"),
        ({"curate": {"sources": []}}, "curate.sources is an empty list; expected at least one"),
        ({"curate": {"sources": [{"path": "x"}]}}, "curate.sources[0].name is missing"),
        ({"curate": {"sources": [{"name": "a", "path": 5}]}}, "curate.sources[0].path is 5; expected a path"),
        ({"gate": {"harm": float("nan")}}, "gate.harm is nan; expected a finite number"),
        ({"train": {"dpo": {"beta": float("inf")}}}, "train.dpo.beta is inf; expected a finite number"),
        ({"name": ["a"]}, "name is a list; expected text"),
        ({"model": {"a": 1}}, "model is keys and values; expected text"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_what_was_expected(raw: Any, said: str) -> None:
    assert refused(raw) == f"config: {said}"


def test_a_long_value_is_not_repeated_at_length() -> None:
    assert len(refused({"rounds": "x" * 10_000})) < 150


def test_shares_leave_room_for_plain_instructions() -> None:
    said = refused({"curate": {"harmful_share": 0.6, "twin_share": 0.4}})
    assert said.startswith("config: curate: harmful_share + twin_share must stay below 1")
    assert parse({"curate": {"harmful_share": 0.6, "twin_share": 0.3}}).curate.twin_share == 0.3


def test_a_source_says_one_place_and_maps_names_that_there_are() -> None:
    both = {"name": "a", "path": "x.jsonl", "hub": "owner/data"}
    assert "source 'a' has a path and a hub id; give one of the two" in refused({"curate": {"sources": [both]}})
    mapped = {"name": "a", "path": "x.jsonl", "fields": {"promt": "text"}}
    assert "unknown name 'promt'; did you mean 'prompt'?" in refused({"curate": {"sources": [mapped]}})
    right = parse({"curate": {"sources": [{**mapped, "fields": {"prompt": "text"}}]}})
    assert right.curate.sources[0].fields == {"prompt": "text"}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("rounds: 2\nname: a: b\n", 2, "mapping values are not allowed here"),
        ("rounds: 2\n\ntrain:\n\tsft: {}\n", 4, "that cannot start any token"),
        ("train: {sft: {}\n", 2, "expected ',' or '}'"),
        ("rounds: 2\nseed: 1\nrounds: 3\n", 3, "'rounds' is there twice"),
        ("train:\n  sft: {epochs: 1}\n  sft: {batch: 2}\n", 3, "'sft' is there twice"),
        ("model: *tiny\n", 1, "found undefined alias"),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = file(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}:{line}: not YAML (")
    assert said in str(error.value)


def test_a_file_that_is_no_text_a_folder_and_no_file_are_refused(tmp_path: Path) -> None:
    binary, control = tmp_path / "binary.yaml", file(tmp_path, "a: \x07", "control.yaml")
    binary.write_bytes(b"a: \xff\xfe")
    (tmp_path / "folder").mkdir()
    for path, said in (
        (binary, "not UTF-8 (byte 3); save it as UTF-8"),
        (control, "not YAML (special characters are not allowed)"),
        (file(tmp_path, "[" * 5000, "deep.yaml"), "not YAML (nested too deep)"),
        (file(tmp_path, "- a\n- b\n", "list.yaml"), "expected keys and values, found list"),
        (tmp_path / "folder", "can't be read (Is a directory); give a YAML file"),
        (tmp_path / "none.yaml", f"no such file; `breakfix init {tmp_path / 'none.yaml'}` writes one"),
    ):
        with pytest.raises(ConfigError) as error:
            load(path)
        assert str(error.value) == f"{path}: {said}"


def test_yaml_can_not_make_python_objects(tmp_path: Path) -> None:
    path = file(tmp_path, "model: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="could not determine a constructor"):
        load(path)


# ---- what `breakfix init` and a run write ------------------------------------------------------------------------


def test_the_written_default_reads_back_and_shows_every_setting(tmp_path: Path) -> None:
    text = render(Config())
    assert load(file(tmp_path, text)) == Config()
    assert keys(yaml.safe_load(text)) == keys(Config().model_dump(mode="json"))


def keys(tree: dict[str, Any], path: str = "") -> set[str]:
    """Dotted names of all settings, lists and empty mappings taken as values."""
    found: set[str] = set()
    for name, value in tree.items():
        found |= keys(value, f"{path}{name}.") if isinstance(value, dict) and value else {f"{path}{name}"}
    return found


def test_every_setting_has_its_place_among_the_comments() -> None:
    settings = keys(Config().model_dump(mode="json"))
    sections = {".".join(name.split(".")[:depth]) for name in settings for depth in range(1, name.count(".") + 1)}
    assert set(COMMENTS) == settings | sections


def test_the_lines_are_short_enough_to_read() -> None:
    assert [line for line in render(Config()).splitlines() if len(line) > WIDTH + 2] == []


def test_a_config_far_from_the_default_reads_back(tmp_path: Path) -> None:
    (tmp_path / "a model").mkdir()
    settings = parse(
        {
            "name": "yes",  # a word that YAML 1.1 takes for true
            "model": "a model",
            "rounds": 7,
            "hardware": {"threads": 2, "precision": "fp32"},
            "curate": {
                "sources": [
                    {"name": "a: b # c", "path": "rows #1.jsonl", "fields": {"prompt": "Frage"}, "kind": "plain"},
                    {"name": "null", "hub": "owner/data", "split": "train[:5 %]", "licence": "CC0-1.0", "limit": 3},
                ],
            },
            "train": {"method": "full", "lora": {"targets": ["q_proj", "v_proj"]}, "sft": {"learning_rate": 1e-05}},
            "evaluate": {"suites": [{"name": "größe", "path": "größe.jsonl", "limit": 2}]},
            "redteam": {"seen": ["direct"], "held_out": [], "helper": "a model", "max_queries": 10},
            "endpoints": [{"url": "http://host/v1#a", "headers": {"X-Team": "TEAM"}, "body": {"a": {"b": [1]}}}],
        },
        folder=tmp_path,
    )
    written = render(settings, "two lines\nof head")
    assert load(file(tmp_path, written, "out.yaml")) == settings
    assert written.startswith("# two lines\n# of head\n")


def test_the_demo_is_a_config() -> None:
    from importlib import resources

    with resources.as_file(resources.files("breakfix").joinpath("data", "demo.yaml")) as path:
        assert load(path).name == "demo"
        assert re.search("(?m)^#", path.read_text())
