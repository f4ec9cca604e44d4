"""`breakfix doctor`: every check is a function of plain values, and every verdict is looked at here by such values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from breakfix import doctor
from breakfix.doctor import GIB, REQUIRED, Row

FIT = {"torch": "2.9.1", "transformers": "5.12.0", "trl": "1.16.0", "peft": "0.18.1", "accelerate": "1.12.0",
       "datasets": "4.8.0", "tokenizers": "0.22.0", "safetensors": "0.6.2", "sqlalchemy": "2.0.44",
       "pydantic": "2.12.0", "numpy": "2.3.0"}  # fmt: skip
HERE = Path("/somewhere")


def test_python() -> None:
    assert doctor.python((3, 11, 0)) == Row("python", "ok", "3.11.0")
    assert doctor.python((3, 14, 2)).state == "ok"
    assert doctor.python((3, 10, 12)) == Row("python", "fail", "3.10.12", "install Python 3.11 or newer")


def test_packages_that_fit_are_one_row() -> None:
    assert list(doctor.packages(FIT)) == [Row("packages", "ok", "torch 2.9.1, transformers 5.12.0, trl 1.16.0")]
    with_build = {**FIT, "torch": "2.13.0+cpu"}
    assert [row.state for row in doctor.packages(with_build)] == ["ok"]


def test_each_package_that_does_not_fit_is_a_row_with_its_cure() -> None:
    rows = list(doctor.packages({**FIT, "trl": "0.9.6", "peft": None, "transformers": "6.0.0"}))
    assert rows == [
        Row("transformers", "fail", "6.0.0, needed is <6,>=5.10", "pip install 'transformers<6,>=5.10'"),
        Row("trl", "fail", "0.9.6, needed is <2,>=1.10", "pip install 'trl<2,>=1.10'"),
        Row("peft", "fail", "not installed", "pip install 'peft>=0.18'"),
    ]


def test_the_ranges_are_those_of_pyproject() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert set(REQUIRED) <= set(project["dependencies"])
    assert set(FIT) == {requirement.partition(">")[0] for requirement in REQUIRED}


def test_processor() -> None:
    assert doctor.processor(2, "x86_64") == Row("cores", "ok", "2 (x86_64)")
    one = doctor.processor(1, "aarch64")
    assert (one.state, one.found) == ("warn", "1 (aarch64)")
    assert "twice as long" in one.advice


@pytest.mark.parametrize(
    ("available", "total", "state", "said"),
    [
        (8 * GIB, 16 * GIB, "ok", "8.0 GiB free of 16.0"),
        (7 * GIB, 7 * GIB, "ok", "7.0 GiB free of 7.0"),
        (7 * GIB - 1, 16 * GIB, "warn", "7.0 GiB free of 16.0"),
        (GIB * 3 // 2, 16 * GIB, "warn", "1.5 GiB free of 16.0"),
        (GIB, 16 * GIB, "fail", "1.0 GiB free of 16.0"),
        (None, None, "warn", "unknown"),
    ],
)
def test_memory(available: int | None, total: int | None, state: str, said: str) -> None:
    row = doctor.memory(available, total)
    assert (row.state, row.found) == (state, said)
    assert bool(row.advice) == (state != "ok")


def test_torch_build() -> None:
    assert doctor.torch_build("2.9.1+cpu", None, False) == Row("torch", "ok", "2.9.1+cpu, CPU build")
    assert doctor.torch_build("2.9.1", "12.8", True) == Row("torch", "ok", "2.9.1, CUDA 12.8, GPU found")
    without = doctor.torch_build("2.9.1", "12.8", False)
    assert (without.state, without.found) == ("warn", "2.9.1, built for CUDA 12.8, no GPU found")
    assert "--index-url https://download.pytorch.org/whl/cpu" in without.advice


@pytest.mark.parametrize(
    ("fp32", "medium", "bf16", "wins", "state", "taken"),
    [
        (100.0, 105.0, 220.0, True, "ok", "bf16"),
        (100.0, 180.0, 90.0, False, "ok", "fp32-medium"),
        (100.0, 101.0, 40.0, False, "ok", "fp32"),
        (10.0, 11.0, 5.0, False, "warn", "fp32"),
    ],
)
def test_precision(fp32: float, medium: float, bf16: float, wins: bool, state: str, taken: str) -> None:
    row = doctor.precision(fp32, medium, bf16, wins, faster=1.2)
    said = f"fp32 {fp32:.0f}, fp32-medium {medium:.0f}, bf16 {bf16:.0f} GFLOP/s: {taken} is taken"
    assert (row.state, row.found) == (state, said)


@pytest.mark.parametrize(
    ("free", "state"), [(50e9, "ok"), (5e9, "ok"), (4.9e9, "warn"), (1e9, "warn"), (0.9e9, "fail"), (None, "warn")]
)
def test_disk(free: float | None, state: str) -> None:
    row = doctor.disk("disk (here)", HERE, None if free is None else int(free))
    assert (row.name, row.state) == ("disk (here)", state)
    assert str(HERE) in row.found
    assert bool(row.advice) == (state != "ok")


def test_hub_is_asked_where_it_is_said_to_be() -> None:
    asked: list[str] = []

    def answers(url: str) -> str:
        asked.append(url)
        return ""

    assert doctor.hub({}, answers) == Row("hub", "ok", "https://huggingface.co answers")
    assert doctor.hub({"HF_ENDPOINT": "https://mirror.example"}, answers).found == "https://mirror.example answers"
    assert asked == ["https://huggingface.co", "https://mirror.example"]


def test_hub_that_does_not_answer_is_a_warning_for_the_demo_can_do_without() -> None:
    row = doctor.hub({}, lambda url: "timed out")
    assert (row.state, row.found) == ("warn", "https://huggingface.co can't be reached (timed out)")
    assert "not needed for the demo" in row.advice


def test_hub_is_not_asked_offline() -> None:
    def fail(url: str) -> str:
        raise AssertionError("offline was asked for")

    assert doctor.hub({"HF_HUB_OFFLINE": "1"}, fail).state == "ok"


def test_asking_a_hub_says_why_it_does_not_answer() -> None:
    assert "Connection refused" in doctor.ask_hub("http://127.0.0.1:9")
    assert doctor.ask_hub("mirror.example") == "not an address; HF_ENDPOINT should start with https://"


def test_one_failure_makes_the_exit_code_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from breakfix.cli import main

    rows = [Row("python", "ok", "3.12.0"), Row("hub", "warn", "no answer", "not needed")]
    monkeypatch.setattr(doctor, "examine", lambda: rows)
    assert main(["doctor"]) == 0
    rows.append(Row("memory", "fail", "1.0 GiB free of 16.0", "free some"))
    assert main(["doctor"]) == 2
    out = capsys.readouterr().out
    assert out.splitlines()[-2].split() == ["memory", "fail", "1.0", "GiB", "free", "of", "16.0"]
    assert out.splitlines()[-1].strip() == "→ free some"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "not a valid JSON file"),
        ('{"model_type": "no-such-model"}', "model type `no-such-model`"),
        ('{"hidden_size": 8}', "model_type"),
        ('{"model_type": "llama", "hidden_size": "many"}', ""),
        ("[]", ""),
    ],
)
def test_a_model_s_config_that_can_t_be_read_is_a_row(
    config: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from breakfix.cli import main

    monkeypatch.setattr(doctor, "examine", list)
    (tmp_path / "bread").mkdir()
    (tmp_path / "bread" / "config.json").write_text(config)
    (tmp_path / "run.yaml").write_text(f"model: {tmp_path / 'bread'}\n")
    assert main(["doctor", str(tmp_path / "run.yaml"), "--json"]) == 2
    _, row = json.loads(capsys.readouterr().out)
    assert (row["name"], row["state"]) == ("model", "fail")
    assert said in row["found"] and "\n" not in row["found"]
    assert str(tmp_path / "bread" / "config.json") in row["advice"]


def test_what_a_run_of_the_config_would_refuse_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from breakfix.cli import main

    monkeypatch.setattr(doctor, "examine", list)
    (tmp_path / "bread").mkdir()
    (tmp_path / "bread" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "run.yaml").write_text(f"model: {tmp_path / 'bread'}\nevaluate: {{suites: [{{name: xstst}}]}}\n")
    assert main(["doctor", str(tmp_path / "run.yaml"), "--json"]) == 2
    config, model = json.loads(capsys.readouterr().out)
    assert (config["name"], config["state"]) == ("config", "fail") and "did you mean 'xstest'?" in config["found"]
    assert (model["state"], "there is no model.safetensors" in model["found"]) == ("fail", True)


def write_group(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_a_containers_memory_limit_is_seen(tmp_path: Path) -> None:
    """Version 2: a service within a slice that has the lower limit. 300 of its 700 bytes are cache that makes way."""
    own, mounted = tmp_path / "own", tmp_path / "cgroup"
    own.write_text("0::/slice/service\n")
    stat = "anon 1\ninactive_file 300\n"
    write_group(mounted / "slice" / "service", {"memory.max": "max\n", "memory.current": "5", "memory.stat": stat})
    write_group(mounted / "slice", {"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": stat})
    write_group(mounted, {"memory.stat": stat})  # the root has no limit
    assert list(doctor.cgroup_limits(own, mounted)) == [(600, 1000)]


def test_a_containers_memory_limit_of_version_1(tmp_path: Path) -> None:
    """The path is that outside the container; inside, the mount begins at the group itself."""
    own, mounted = tmp_path / "own", tmp_path / "cgroup"
    own.write_text("9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/\n")
    write_group(mounted / "memory", {"memory.limit_in_bytes": "1000\n", "memory.usage_in_bytes": "1200\n",
                                     "memory.stat": "total_inactive_file 0\n"})  # fmt: skip
    assert list(doctor.cgroup_limits(own, mounted)) == [(0, 1000)]
    assert list(doctor.cgroup_limits(tmp_path / "no", mounted)) == []
