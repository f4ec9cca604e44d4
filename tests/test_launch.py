"""train/launch.py: two processes are really launched, on a tiny model, by `accelerate launch`, and talk by gloo."""

from __future__ import annotations

import os
import signal
from importlib import util
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

import tiny
from breakfix.config import Config, parse
from breakfix.core import Example, ask
from breakfix.errors import ConfigError, UserError
from breakfix.train import launch

torch = pytest.importorskip("torch")

MORE = [
    Example(ask(f"Step {i} of baking {'please ' * (i % 4)}"), "Mix flour. " * (1 + i % 3), "test", "Apache-2.0",
            "a test", "plain", rejected="No. " * (1 + i % 2))
    for i in range(24)
]  # fmt: skip
EXAMPLES = MORE[:16]
FILES = [path for name in launch.PRESETS if (path := Path(launch.__file__).parents[1] / "data/launch" / f"{name}.yaml")]
NEEDS_DEEPSPEED = pytest.mark.skipif(
    util.find_spec("deepspeed") is None, reason="deepspeed is not installed (docs/clusters.md says how it was)"
)
DEEPSPEED = [pytest.param(f"deepspeed-zero{stage}", marks=NEEDS_DEEPSPEED) for stage in (2, 3)]

pytestmark = pytest.mark.filterwarnings("ignore")  # TRL, peft and torch warn about what is no concern of these tests


@pytest.fixture(autouse=True)
def _with_tests_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("tiny"))


def config(epochs: int = 6, hardware: dict[str, Any] | None = None, **train: Any) -> Config:
    return parse({
        "hardware": {"threads": 1, "precision": "fp32", **(hardware or {})},
        "train": {"launcher": "accelerate", "sft": {"batch": 4, "epochs": epochs}, "dpo": {"batch": 4, "epochs": 2,
                  "learning_rate": 1e-3}, **train},
    })  # fmt: skip


def quiet(step: int, total: int, figures: dict[str, float]) -> None:
    pass


def processes() -> list[psutil.Process]:
    """The workers that were launched below this process."""
    below = psutil.Process().children(recursive=True)
    return [p for p in below if "-m" in (line := p.cmdline()) and line[line.index("-m") + 1] == "breakfix.train.launch"]


# ---- the files


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_preset_is_a_configuration_of_accelerate(file: Path) -> None:
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

    found = load_config_from_file(str(file))
    assert isinstance(found, ClusterConfig)
    assert found.distributed_type.value == {"ddp": "MULTI_GPU", "fsdp2": "FSDP"}.get(file.stem, "DEEPSPEED")
    assert found.num_machines == 1


def test_fsdp2s_settings_are_those_of_version_2() -> None:
    from accelerate.utils import FullyShardedDataParallelPlugin

    found = yaml.safe_load(FILES[1].read_text())["fsdp_config"]
    names = {name.removeprefix("fsdp_") for name in found}
    known = set(FullyShardedDataParallelPlugin.__dataclass_fields__) | {"version", "offload_params"}
    assert names <= known
    made = FullyShardedDataParallelPlugin(
        fsdp_version=found["fsdp_version"],
        auto_wrap_policy=found["fsdp_auto_wrap_policy"].lower(),
        reshard_after_forward=found["fsdp_reshard_after_forward"],
        state_dict_type=found["fsdp_state_dict_type"],
    )
    assert made.fsdp_version == 2


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeeds_settings_are_known_to_accelerates_launcher(stage: int) -> None:
    from accelerate.commands.launch import launch_command_parser

    found = yaml.safe_load(FILES[stage].read_text())["deepspeed_config"]
    assert found["zero_stage"] == stage
    assert not {"gradient_accumulation_steps", "gradient_clipping"} & set(found)  # the trainer has its own
    assert found["zero3_save_16bit_model"] is (stage == 3)  # else the whole weights could not be gathered
    known = {action.dest for action in launch_command_parser()._actions}
    assert set(found) <= known


def test_a_launcher_that_can_not_do_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(name: str) -> str:
        with pytest.raises(ConfigError) as error:
            launch.check(config(launch_config=name))
        return str(error.value)

    monkeypatch.setattr(launch.util, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert wrong("deepspeed-zero2") == (
        "train.launch_config: deepspeed-zero2 needs deepspeed, which is not installed; pip install deepspeed, or take "
        "fsdp2"
    )
    assert wrong("fsdp2").startswith("train.launch_config: fsdp2 shards over GPUs, and none is found here")
    assert wrong("fsdp").startswith(
        "train.launch_config: fsdp: no such file; expected ddp, fsdp2, deepspeed-zero2, dee"
    )
    for said in ("a: b", "- 1", ": :", "distributed_type: WHAT", ""):
        (tmp_path / "own.yaml").write_text(said)
        assert "not a configuration of accelerate (" in wrong(str(tmp_path / "own.yaml")), said
    (tmp_path / "own.yaml").write_text(FILES[0].read_text())
    assert launch.check(config(launch_config=str(tmp_path / "own.yaml"))) == tmp_path / "own.yaml"


@pytest.mark.parametrize("name", ["fsdp2", "deepspeed-zero3"])
def test_weights_in_pieces_can_not_go_back_to_a_checkpoint(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"train.stop_on_alarm is true, and {name} leaves no process the whole"):
        launch.check(config(launch_config=name, stop_on_alarm=True))


def test_zero3_takes_no_steps_of_two_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.util, "find_spec", lambda name: True)
    with pytest.raises(
        ConfigError, match=r"preference is kto, whose steps .* take deepspeed-zero2 for train.launch_co"
    ):
        launch.check(config(launch_config="deepspeed-zero3", preference="kto"))
    launch.check(config(launch_config="deepspeed-zero2", preference="kto"))


def test_ddp_can() -> None:
    launch.check(config(stop_on_alarm=True))


def test_processes_share_the_cores(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from breakfix.config import Hardware
    from breakfix.train import fit

    assert [launch.threads(Hardware(threads=8), n) for n in (1, 3, 16)] == [8, 2, 1]
    assert launch._environment(config(processes=2, hardware={"threads": 6}))["OMP_NUM_THREADS"] == "3"
    used: list[int] = []

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    monkeypatch.setattr(fit, "load_pretrained", stop)
    with pytest.raises(KeyboardInterrupt):
        fit.fit("sft", config(hardware={"threads": 6}), policy, EXAMPLES, tmp_path / "out", quiet)
    assert used == [2]


def test_a_batch_must_be_shared_evenly() -> None:
    with pytest.raises(ConfigError, match=r"sft.batch is 4, which 3 processes can't share; give a multiple of"):
        config(processes=3)


# ---- two processes


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("ddp", kind) for kind in ("sft", "dpo", "kto")),
        *(pytest.param("deepspeed-zero2", kind, marks=NEEDS_DEEPSPEED) for kind in ("sft", "dpo", "kto")),
        *(pytest.param("deepspeed-zero3", kind, marks=NEEDS_DEEPSPEED) for kind in ("sft", "dpo")),
    ],
)
def test_two_processes_take_the_steps_of_one(name: str, kind: str, policy: Path, tmp_path: Path) -> None:
    from breakfix.train.fit import fit

    told: list[tuple[int, int, dict[str, float]]] = []
    seen: list[tuple[int, dict[str, float]]] = []
    settings = config(launch_config=name)
    alone = fit(kind, settings, policy, EXAMPLES, tmp_path / "one", lambda s, t, f: seen.append((s, f)))
    two = launch.launched(
        kind, settings, policy, EXAMPLES, tmp_path / "two", lambda step, total, f: told.append((step, total, f))
    )
    assert two["steps"] == alone["steps"] == max(step for step, _, _ in told)
    assert two["loss"]["first"] == pytest.approx(alone["loss"]["first"], rel=1e-3)
    assert two["loss"]["last"] == pytest.approx(alone["loss"]["last"], rel=2e-2)
    losses = [figures["loss"] for _, figures in seen if "loss" in figures]
    assert [figures["loss"] for _, _, figures in told if "loss" in figures] == pytest.approx(losses, rel=2e-2)
    start, one, both = tiny.weights(policy), tiny.weights(tmp_path / "one"), tiny.weights(tmp_path / "two")
    assert one.keys() == both.keys()
    moved = sum(float((one[key] - start[key]).norm() ** 2) for key in one) ** 0.5
    apart = sum(float((one[key] - both[key]).norm() ** 2) for key in one) ** 0.5
    assert moved > 0 and apart < 0.05 * moved
    assert not (tmp_path / "two-launch").exists() and not list(tmp_path.rglob("references-*"))
    assert not processes()


@pytest.mark.parametrize("name", ["ddp", *DEEPSPEED])
def test_a_killed_worker_is_one_plain_line_and_the_next_run_goes_on(name: str, policy: Path, tmp_path: Path) -> None:
    """As one process that nobody killed would have: also from within an epoch, whose other rows come then."""
    from breakfix.train.fit import fit

    long = config(epochs=20, launch_config=name)  # 120 steps, 6 an epoch, a checkpoint every 40
    whole = fit("sft", long, policy, MORE, tmp_path / "whole", quiet)
    killed: list[int] = []

    def kill(step: int, total: int, figures: dict[str, float]) -> None:
        if step > 40 and not killed:
            workers = processes()
            assert len(workers) == 2
            killed.append(workers[1].pid)
            os.kill(workers[1].pid, signal.SIGKILL)

    with pytest.raises(UserError) as error:
        launch.launched("sft", long, policy, MORE, tmp_path / "out", kill)
    said = str(error.value)
    assert killed and "\n" not in said
    assert said.startswith("training (sft): a worker process failed (killed by SIGKILL; if nobody did that, memory ran")
    assert said.endswith("run again to go on from the last checkpoint")
    assert (tmp_path / "out-launch" / "output.log").is_file()
    assert not processes()
    steps: list[int] = []
    again = launch.launched("sft", long, policy, MORE, tmp_path / "out", lambda step, *_: steps.append(step))
    assert min(steps) > 40 and max(steps) == 120 == again["steps"]
    assert again["loss"]["last"] == pytest.approx(whole["loss"]["last"], rel=1e-3)
    one, other = tiny.weights(tmp_path / "whole"), tiny.weights(tmp_path / "out")
    assert all(torch.allclose(one[key], other[key], atol=1e-4) for key in one)


def test_what_a_worker_refuses_is_what_the_stage_says(policy: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from breakfix.train.preflight import TrainingRefused

    cut = [replace(example, cut=True) for example in EXAMPLES]
    with pytest.raises(TrainingRefused, match="no row trains the end-of-turn token; expected some"):
        launch.launched("sft", config(), policy, cut, tmp_path / "out", quiet)


def test_a_worker_that_fails_is_named_with_its_output(policy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training \(sft\): a worker process failed \(\w+: .*output.log; run again"):
        launch.launched("sft", config(), policy, EXAMPLES, tmp_path / "out", quiet, no_such=1)


def test_workers_end_with_the_stage(policy: Path, tmp_path: Path) -> None:
    """The stage is interrupted: nothing trains on in its folder."""

    def interrupt(step: int, total: int, figures: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch.launched("sft", config(epochs=200), policy, EXAMPLES, tmp_path / "out", interrupt)
    assert not processes()


def sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is launched be FSDP2, on a CPU."""

    def command(config: Config, file: Path, job: Path) -> list[str]:
        line = stock(config, FILES[1], job)
        return [*line[: line.index("breakfix.train.launch")], "fsdp_on_cpu", str(job)]

    stock = launch._command
    monkeypatch.setattr(launch, "_command", command)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_sharded_weights_are_gathered_and_merged(
    method: str, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FSDP2 by way of the preset and transformers' trainer, but for accelerate's refusal to shard on a CPU."""
    from breakfix.train.fit import fit

    sharded(monkeypatch)
    settings = config(method=method)
    two = launch.launched("sft", settings, policy, EXAMPLES, tmp_path / "two", quiet)
    monkeypatch.undo()
    alone = fit("sft", settings, policy, EXAMPLES, tmp_path / "one", quiet)
    assert two["loss"]["last"] == pytest.approx(alone["loss"]["last"], rel=2e-2)
    one, both = tiny.weights(tmp_path / "one"), tiny.weights(tmp_path / "two")
    assert one.keys() == both.keys()
    assert all(torch.allclose(one[key], both[key], atol=2e-3) for key in one)


def test_sharded_weights_that_are_no_numbers_are_not_published(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sharded(monkeypatch)
    wild = config(method="full", sft={"batch": 4, "epochs": 6, "learning_rate": 1e30})
    with pytest.raises(
        UserError, match=r"went wrong by step \d+: the loss is not a number; lower train.sft.learning_rate"
    ):
        launch.launched("sft", wild, policy, EXAMPLES, tmp_path / "out", quiet)
    assert not (tmp_path / "out" / "model.safetensors").exists()
