"""The configs in examples/ are what they say: valid, without a mistake that a check can find before a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from breakfix.config import Config, load
from breakfix.ready import check, trainable

EXAMPLES = Path(__file__).parents[1] / "examples"
CONFIGS = sorted(path.name for path in EXAMPLES.glob("smollm2*.yaml"))


def test_there_are_two() -> None:
    assert CONFIGS == ["smollm2-full.yaml", "smollm2.yaml"]


@pytest.mark.parametrize("name", CONFIGS)
def test_an_example_is_valid(name: str, cut_off: None) -> None:
    config = load(EXAMPLES / name)
    check(config)
    trainable(config)
    assert config.name == Path(name).stem


def test_the_small_one_is_the_default_and_the_other_languages() -> None:
    config, default = load(EXAMPLES / "smollm2.yaml"), Config()
    assert config.curate == default.curate and config.train == default.train and config.redteam == default.redteam
    assert config.rounds == default.rounds and config.gate == default.gate
    assert config.evaluate.suites[:-1] == default.evaluate.suites
    assert config.evaluate.suites[-1].name == "starter_multilingual"
