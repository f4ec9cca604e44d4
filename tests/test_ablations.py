"""benchmarks/ablations.py on a tiny model: variants share what they have in common, are read when finished, and a
table and a chart come of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import tiny
from breakfix.config import Config, parse
from breakfix.errors import UserError
from breakfix.ledger import Ledger


@pytest.fixture(scope="module")
def ablations() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "ablations.py"
    spec = importlib.util.spec_from_file_location("ablations", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ablations"] = module
    spec.loader.exec_module(module)
    return module


def test_settings_of_variants(ablations: ModuleType) -> None:
    base = Config()
    assert ablations.variant("no-dpo", base).train.dpo.enabled is False
    assert ablations.variant("no-replay", base).curate.replay == 0
    assert ablations.variant("no-minted", base).curate.failures is False
    assert ablations.variant("rows-1000", base).curate.harmful == 270
    assert ablations.variant("rows-1000", base).rounds == 1
    assert ablations.variant("full", base) == base.model_copy(update={"name": "full"})
    found = ablations.assigned(["train.dpo.max_pairs=40", "train.dpo.enabled=false"])
    assert found == {"train": {"dpo": {"max_pairs": 40, "enabled": False}}}
    with pytest.raises(UserError, match="expected KEY=VALUE"):
        ablations.assigned(["rounds"])


def test_frozen_suites_are_left_out(ablations: ModuleType) -> None:
    names = [suite["name"] for suite in ablations.on_dev(Config())["evaluate"]["suites"]]
    assert not {"xstest", "harmbench_test_standard"} & set(names)
    assert {"starter_dev", "plain", "capability", "harmbench_val", "starter_multilingual"} <= set(names)


def test_variants_share_round_0_and_are_read_again(
    ablations: ModuleType, tmp_path: Path, cut_off: None, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny.write_config(
        tmp_path, train={"sft": {"batch": 4}, "dpo": {"batch": 2, "max_pairs": 8}, "probe": False}
    )
    into, picture = tmp_path / "into", tmp_path / "scaling.svg"
    asked = [str(config), "--into", str(into), "--keep-suites", "--chart", str(picture)]
    assert ablations.main([*asked, "--only", "no-dpo,full,rows-250"]) == 0
    out = capsys.readouterr()
    assert [line.split(" | ")[0] for line in out.out.splitlines()[4:]] == ["| full", "| no-dpo", "| rows-250"]
    assert "no-dpo: round 0: evaluate, done before" in out.err and "no-dpo: round 1: curate\n" in out.err
    assert picture.read_text().startswith("<svg")
    with Ledger.open(into / "no-dpo", write=False) as ledger, Ledger.open(into / "full", write=False) as full:
        assert ledger.finished(0, "evaluate") == full.finished(0, "evaluate")
        assert (ledger.finished(1, "curate") or {})["rows"]["dpo"] == 0
        assert (full.finished(1, "curate") or {})["rows"]["dpo"] > 0
    assert ablations.main([*asked, "--only", "full,no-dpo", "--read"]) == 0
    assert capsys.readouterr().out.splitlines()[4:] == out.out.splitlines()[4:6]
    assert ablations.main([*asked, "--only", "full,no-dpo"]) == 0
    assert "evaluate" not in capsys.readouterr().err


def test_an_unknown_variant_is_named(ablations: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablations.main(["--into", str(tmp_path), "--only", "no-bread"]) == 2
    assert "no such variant" in capsys.readouterr().err
    assert parse({}).rounds == 2
