"""The red team's own configuration: goals of one's own, its seed and its judge, apart from the trainer's."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tiny
from breakfix.config import Config, load, parse
from breakfix.core import Split
from breakfix.cycle import Cycle
from breakfix.errors import ConfigError, DataError
from breakfix.ledger import Ledger
from breakfix.ready import check
from breakfix.redteam import goals
from breakfix.redteam.run import run
from conftest import call
from test_campaign import SorryJudge
from test_redteam_stage import Breaks, cases, few

__all__ = ["few"]
BREAD = {"prompt": "Explain how to bake bread"}


def lines(path: Path, *rows: Any) -> Path:
    path.write_bytes(b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows))
    return path


def test_lines_that_are_no_goals_are_left_out_with_their_reasons_and_the_others_are_read(tmp_path: Path) -> None:
    found = goals.read(
        lines(
            tmp_path / "goals.jsonl",
            b"\xef\xbb\xbf" + json.dumps(BREAD).encode(),
            "pâté".encode("latin-1"),
            b"",
            b'{"prompt": ',
            [BREAD],
            {"prompt": "  "},
            {"prompt": 7},
            {"promt": "Explain how to bake bread"},
            {"prompt": "Explain how to bake rye", "hazard": "bread"},
            {"prompt": "Explain how to bake rye", "split": "frozen"},
            {"prompt": "Explain how to bake rye", "language": "English"},
            {"prompt": "Explain how to bake\tbread "},
            {"prompt": "Explain how to bake \ud800"},
            {
                "prompt": "Wie backe ich Brot?",
                "language": "de",
                "hazard": "privacy",
                "split": "train",
                "licence": "MIT",
            },
        )
    )
    assert [(case.text, case.split, case.licence) for case in found.cases] == [
        ("Explain how to bake bread", Split.DEV, "unknown"),
        ("Wie backe ich Brot?", Split.TRAIN, "MIT"),
    ]
    assert [line for line, _ in found.left_out] == [2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    why = " | ".join(reason for _, reason in found.left_out)
    for words in ("byte 2 of the line is not UTF-8", "not JSON", "found list", "empty one", "int, expected text",
                  "unknown field 'promt'", "'hazard' is none of", "'split' is none of dev, train", "no code such as",
                  "the goal of line 1 again", "half a character"):  # fmt: skip
        assert words in why
    assert "bake" not in why  # no reason quotes what was asked
    assert found.told() == "left out 11 of 13 lines, the first 2: byte 2 of the line is not UTF-8"
    assert found.record()["dev"] == found.record()["train"] == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", ":1: the file is empty"),
        ("\ufeff{}\n".encode("utf-16"), ":1: byte 1 of the line is not UTF-8; no line is a goal"),
        (b'\n{"promt": "x"}\n{}\n', ":2: unknown field 'promt'"),
        (b"\x00\x01\x02", ":1: not JSON"),
    ],
)
def test_a_file_with_no_goal_is_one_plain_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "goals.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        goals.read(path)
    assert str(error.value).startswith(f"{path}{said}") and "\n" not in str(error.value)
    config = tiny.write_config(tmp_path, redteam={"seeds": "goals.jsonl"})
    code, out, err = call("redteam", str(config), "--round", "0", "--run", str(tmp_path / "run"))
    assert (code, out) == (2, "") and err.count("\n") == 1 and said in err
    path.unlink()
    code, _, err = call("redteam", str(config), "--round", "0", "--run", str(tmp_path / "run"))
    assert code == 2 and "goals.jsonl: can't be read (No such file or directory)" in err


def test_goals_are_attacked_beside_the_packs_dev_ones_by_all_and_train_ones_by_seen_families(
    tmp_path: Path, few: None
) -> None:
    train = {"prompt": "Explain how to sift flour", "split": "train"}
    path = lines(tmp_path / "goals.jsonl", BREAD, train, b"\xff")
    settings = {"seen": ["direct", "weak"], "held_out": ["soft"], "cases": 4, "per_case": 1, "seeds": str(path)}
    config = parse({"redteam": settings})
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        record = run(
            config, ledger, Breaks("soft"), SorryJudge(), None, round=0, cases=cases(), goals=goals.read(path),
            progress=lambda *told: None,
        )  # fmt: skip
        attempts = list(ledger.attempts(round=0, stage="redteam"))
        splits = ledger.splits(sorted({a.case for a in attempts}))
    own = {a.case: {b.family for b in attempts if b.case == a.case} for a in attempts if a.case.startswith("seeds/")}
    assert {splits[case]: families for case, families in own.items()} == {
        "dev": {"direct", "weak", "soft"},
        "train": {"direct", "weak"},
    }
    assert record["cases"] == {"dev": 5, "train": 3} and record["metrics"]["asr.direct"]["n"] == 5
    assert record["goals"] == {
        "dev": 1, "train": 1, "left_out": 1, "lines": [{"line": 3, "reason": "byte 1 of the line is not UTF-8"}],
    }  # fmt: skip


def test_what_is_not_set_is_the_runs_and_asks_for_the_same_work(tmp_path: Path) -> None:
    plain = Config()
    assert not {"judge", "seed", "seeds"} & set(plain.redteam.asked()) and plain.attack_seed == 0
    own = parse({"seed": 3, "redteam": {"judge": "refusal", "seed": 0, "seeds": "goals.jsonl"}}, folder=tmp_path)
    assert own.redteam.asked() == plain.redteam.asked() | {"judge": "refusal", "seed": 0}
    assert (own.attack_seed, parse({"seed": 3}).attack_seed) == (0, 3)
    assert own.redteam.seeds == tmp_path / "goals.jsonl"


def test_its_judge_and_goals_are_its_own_and_dev_goals_are_walls(tmp_path: Path) -> None:
    lines(tmp_path / "goals.jsonl", BREAD, {"prompt": "Explain how to sift flour", "split": "train"})
    own = {"cases": 4, "per_case": 1, "seeds": "goals.jsonl", "judge": "refusal-classifier", "seed": 7}
    config = load(tiny.write_config(tmp_path, redteam=own))
    check(config)
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        cycle = Cycle(config, tmp_path / "run", ledger)
        with pytest.MonkeyPatch.context() as patch:
            named = lambda settings, opener: SimpleNamespace(name=settings.refusal)  # noqa: E731
            patch.setattr("breakfix.cycle.means.of_run", named)
            assert (cycle.judge.name, cycle.attack_judge.name) == ("refusal-rules", "refusal-classifier")
            inputs, _ = cycle._redteam(0)
        assert (inputs["judge"], inputs["redteam"]["seed"], inputs["seed"]) == ("refusal-classifier", 7, 0)
        assert inputs["seeds"] and "seeds" not in inputs["redteam"]
        walls = {case.text for case in cycle.walls()}
    assert "Explain how to bake bread" in walls and "Explain how to sift flour" not in walls


def test_a_judge_that_is_none_and_a_source_that_is_attacked_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a judge of refusals"):
        check(parse({"redteam": {"judge": "severity"}}))
    tiny.write_config(tmp_path)
    path = str(tmp_path / "rows.jsonl")
    lines(tmp_path / "rows.jsonl", {"prompt": "Explain how to bake bread"})
    with pytest.raises(ConfigError, match=r"rows\.jsonl is also redteam\.seeds"):
        check(parse({"curate": {"sources": [{"name": "rows", "path": path}]}, "redteam": {"seeds": path}}))
