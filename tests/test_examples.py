"""The configs in examples/ are what they say: valid, without a mistake that a check can find before a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from breakfix.config import Config, load
from breakfix.ready import check, trainable
from breakfix.redteam.listing import rows

EXAMPLES = Path(__file__).parents[1] / "examples"
CONFIGS = sorted(path.name for path in EXAMPLES.glob("*.yaml") if path.name != "github-action.yml")


def test_there_are_three() -> None:
    assert CONFIGS == ["red-team.yaml", "smollm2-full.yaml", "smollm2.yaml"]


@pytest.mark.parametrize("name", CONFIGS)
def test_an_example_is_valid(name: str, cut_off: None) -> None:
    config = load(EXAMPLES / name)
    check(config)
    trainable(config)
    assert config.name == Path(name).stem


def test_the_red_team_has_every_family_of_ours_once_and_the_default_ones_on_their_sides() -> None:
    settings, default = load(EXAMPLES / "red-team.yaml").redteam, Config().redteam
    own = {row["family"] for row in rows() if not row["family"].startswith(("pyrit", "garak"))}
    assert sorted([*settings.seen, *settings.held_out]) == sorted(own)
    assert settings.seen == default.seen and set(default.held_out) <= set(settings.held_out)


def test_the_small_one_is_the_default_and_the_other_languages() -> None:
    config, default = load(EXAMPLES / "smollm2.yaml"), Config()
    assert config.curate == default.curate and config.train == default.train and config.redteam == default.redteam
    assert config.rounds == default.rounds and config.gate == default.gate
    first, *others, last = config.evaluate.suites
    assert (first.name, first.limit, last.name) == ("starter_dev", None, "languages_dev")
    assert others == list(default.evaluate.suites[1:])
