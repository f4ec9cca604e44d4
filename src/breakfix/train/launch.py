"""Training in several processes, by `accelerate launch`: plain data parallelism, FSDP2, DeepSpeed.

The stage writes what is to be trained into a job file, starts the launcher, and follows the events that the first
worker writes, one JSON a line, so that losses reach the ledger as they do from a fit in this process. Checkpoints lie
where they always do: after a kill, of a worker or of everything, the same command goes on from the last whole one.

A worker is `python -m breakfix.train.launch JOB`: it calls `fit.fit` as the stage itself does otherwise. A batch of the
config is shared out (`share`), so that N processes take the steps that one would take.
"""
# pyright: basic, reportMissingImports=false
# (accelerate and torch.distributed are half untyped; deepspeed need not be there)

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import resources, util
from pathlib import Path
from typing import Any

from ..config import Config, Hardware
from ..core import Example
from ..errors import ConfigError, DiskFull, UserError

Log = Callable[[int, int, dict[str, float]], None]
PRESETS = ("ddp", "fsdp2", "deepspeed-zero2", "deepspeed-zero3")
JOB, EVENTS, RESULT, ERROR, OUTPUT = "job.json", "events.jsonl", "result.json", "error-{}.json", "output.log"
PATHS = ("reference", "references")  # of what fit.fit is given besides
EVERY = 0.2  # seconds between two looks at the workers' events
GRACE = 10.0  # seconds that workers have to end when they are asked to


def processes() -> int:
    """Of this training: 1 unless a launcher started this process."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def share(batch: int) -> int:
    """Of a batch of the config, the rows of one process."""
    return max(1, batch // processes())


def threads(hardware: Hardware, among: int) -> int:
    """Of one process, where `among` processes share the cores."""
    from ..models.hf import cores

    return max(1, (hardware.threads or cores()) // among)


def beside(out: Path) -> Path:
    """The folder of what processes that train into `out` tell each other. Nothing in it is published."""
    return out.with_name(f"{out.name}-launch")


# ---- the stage's side


def check(config: Config) -> Path:
    """The launcher's file. ConfigError where it is not there or can't do here what is wanted; nothing heavy loads."""
    name = config.train.launch_config
    if name in PRESETS:
        file = Path(str(resources.files("breakfix").joinpath("data", "launch", f"{name}.yaml")))
    else:
        file = Path(name).expanduser()
        if not file.is_file():
            raise ConfigError(
                f"train.launch_config: {name}: no such file; expected {', '.join(PRESETS)}, or the path of a file that "
                "`accelerate config` wrote"
            )
    kind, pieces = _kind(file, name)
    if pieces and config.train.stop_on_alarm:
        raise stops_nowhere(name)
    if kind == "DEEPSPEED" and util.find_spec("deepspeed") is None:
        raise ConfigError(
            f"train.launch_config: {name} needs deepspeed, which is not installed; pip install deepspeed, or take fsdp2"
        )
    if kind == "DEEPSPEED" and pieces and config.train.preference == "kto":
        raise ConfigError(
            f"train.preference is kto, whose steps take two passes, and under {name} DeepSpeed fails at the second; "
            "take deepspeed-zero2 for train.launch_config, or dpo"
        )
    if kind == "FSDP":
        import torch

        if not torch.accelerator.is_available():
            raise ConfigError(
                f"train.launch_config: {name} shards over GPUs, and none is found here (accelerate would train without "
                "sharding, and not say so); take ddp"
            )
    return file


def stops_nowhere(name: str) -> ConfigError:
    """`train.stop_on_alarm` with weights in pieces."""
    return ConfigError(
        f"train.stop_on_alarm is true, and {name} leaves no process the whole weights of the checkpoint to go back to; "
        "set it to false, or take ddp or deepspeed-zero2 for train.launch_config"
    )


def _kind(file: Path, name: str) -> tuple[str, bool]:
    """(accelerate's word for what the file asks for, whether that divides the weights; a file of DeepSpeed's own
    beside it is not read)."""
    from accelerate.commands.config.config_args import load_config_from_file

    try:
        found = load_config_from_file(str(file))
        kind = str(found.distributed_type.value)
        return kind, kind == "FSDP" or (getattr(found, "deepspeed_config", None) or {}).get("zero_stage") == 3
    except Exception as error:  # yaml's, accelerate's, or a missing key
        line = " ".join(str(error).split())
        raise ConfigError(f"train.launch_config: {name}: not a configuration of accelerate ({line})") from None


def launched(
    kind: str, config: Config, policy: Path, examples: Sequence[Example], out: Path, log: Log, **more: Any
) -> dict[str, Any]:
    """`fit.fit` in `config.train.processes` processes; `more` is for it: paths and JSON values. Raises what it
    raises; UserError, one line, where a worker died.

    What the workers printed stays beside `out` if they failed, in OUT-launch/output.log.
    """
    file, folder = check(config), beside(out)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    job = {
        "kind": kind, "config": config.model_dump(mode="json"), "policy": str(policy), "out": str(out),
        "examples": [dataclasses.asdict(example) for example in examples], "parent": [platform.node(), os.getpid()],
        "more": more,
    }  # fmt: skip
    (folder / JOB).write_text(json.dumps(job, default=str))
    with (folder / OUTPUT).open("wb") as output:
        launcher = subprocess.Popen(
            _command(config, file, folder / JOB), env=_environment(config),
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            for event in _events(folder / EVENTS, launcher):
                log(event["step"], event["total"], event["figures"])
        finally:
            _end(launcher)
    if launcher.returncode or not (folder / RESULT).is_file():
        raise _failure(kind, folder, launcher.returncode)
    record = json.loads((folder / RESULT).read_text())
    shutil.rmtree(folder, ignore_errors=True)
    return record


def _command(config: Config, file: Path, job: Path) -> list[str]:
    settings = ["--config_file", str(file), "--num_processes", str(config.train.processes), "--main_process_port", "0"]
    return [sys.executable, "-m", "accelerate.commands.launch", *settings, "-m", "breakfix.train.launch", str(job)]


def _environment(config: Config) -> dict[str, str]:
    each = threads(config.hardware, config.train.processes)
    return {**os.environ, "OMP_NUM_THREADS": str(each), "TOKENIZERS_PARALLELISM": "false"}


def _events(file: Path, launcher: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """Events as they are written, until the launcher has ended and all are read."""
    done = 0
    while True:
        ended = launcher.poll() is not None
        said = file.read_bytes() if file.is_file() else b""
        lines = said[done : said.rfind(b"\n") + 1]
        done += len(lines)
        yield from map(json.loads, lines.splitlines())
        if ended:
            return
        time.sleep(EVERY)


def _end(launcher: subprocess.Popen[bytes]) -> None:
    """Let no worker go on without us."""
    if launcher.poll() is None:
        launcher.terminate()
        try:
            launcher.wait(GRACE)
        except subprocess.TimeoutExpired:
            launcher.kill()
            launcher.wait()


def _failure(kind: str, folder: Path, code: int | None) -> Exception:
    """What to raise: what a worker raised, or how one died. Workers that lost another to a kill fail after it."""
    from .preflight import TrainingRefused

    files = sorted(folder.glob(ERROR.format("*")), key=lambda file: file.stat().st_mtime)  # the others fail after it
    errors = [json.loads(file.read_text()) for file in files]
    for error in errors:
        if error["type"] == "memory":
            return RuntimeError(f"out of memory: {error['said']}")
        if error["type"] == "user":
            known = {error.__name__: error for error in (ConfigError, DiskFull, TrainingRefused)}
            return known.get(error["name"], UserError)(error["said"])
    said = (folder / OUTPUT).read_text(errors="replace")
    codes = [int(found) for found in re.findall(r"exitcode\s*:\s*-(\d+)", said)]
    deaths = [signal.Signals(n).name for n in codes if n != signal.SIGTERM]  # by which the others are ended
    if "SIGKILL" in deaths:
        why = "killed by SIGKILL; if nobody did that, memory ran out: lower the batch"
    elif deaths:
        why = f"killed by {deaths[0]}"
    elif errors:
        why = errors[0]["said"]
    else:
        why = f"exit code {code}"
    return UserError(
        f"training ({kind}): a worker process failed ({why}); all that was printed is in {folder / OUTPUT}; run again "
        "to go on from the last checkpoint"
    )


# ---- a worker's side


def main(job: Path) -> int:
    """One worker: train, and leave the record (the first worker does) or what went wrong (each does)."""
    from ..ledger.room import room
    from ..models.memory import out_of_memory
    from .fit import fit

    given, folder, rank = json.loads(job.read_text()), job.parent, int(os.environ.get("RANK", "0"))
    threading.Thread(target=_not_alone, args=given["parent"], daemon=True).start()
    os.environ.pop("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", None)  # DeepSpeed shall take them from the trainer
    config = Config.model_validate(given["config"])
    examples = [_example(row) for row in given["examples"]]
    log = _Told(folder / EVENTS) if rank == 0 else _untold
    more: dict[str, Any] = {name: Path(value) if name in PATHS else value for name, value in given["more"].items()}
    out = Path(given["out"])
    try:
        with room(out):
            record = fit(given["kind"], config, Path(given["policy"]), examples, out, log, **more)
    except Exception as error:
        said = " ".join(str(error).split())
        word = "user" if isinstance(error, UserError) else "memory" if out_of_memory(error) else "bug"
        shown = said if word != "bug" else f"{type(error).__name__}: {said[:200]}"
        _write(folder / ERROR.format(rank), {"type": word, "name": type(error).__name__, "said": shown})
        raise
    if rank == 0:
        _write(folder / RESULT, record)
    _leave()
    return 0


class _Told:
    """Events into a file, a line each."""

    def __init__(self, file: Path) -> None:
        self._stream = file.open("a", encoding="utf-8")

    def __call__(self, step: int, total: int, figures: dict[str, float]) -> None:
        self._stream.write(json.dumps({"step": step, "total": total, "figures": figures}) + "\n")
        self._stream.flush()


def _untold(step: int, total: int, figures: dict[str, float]) -> None:
    pass


def _example(row: dict[str, Any]) -> Example:
    from ..core import Message

    prompt = tuple(Message(m["role"], m["content"], tuple(m["images"])) for m in row["prompt"])
    return Example(**{**row, "prompt": prompt, "parents": tuple(row["parents"])})


def _not_alone(host: str, parent: int) -> None:
    """End with the stage that started us, however it ended: the next one would train in the same folder."""
    while host == platform.node():
        time.sleep(1.0)
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os._exit(3)
        except PermissionError:
            return


def _write(file: Path, value: Any) -> None:
    work = file.with_suffix(".new")
    work.write_text(json.dumps(value, default=str))
    work.replace(file)


def _leave() -> None:
    import torch.distributed as distributed

    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


# ---- both sides of the weights


def in_pieces(model: Any) -> bool:
    """Whether this process holds parts of the weights only (FSDP2's DTensors, ZeRO 3)."""
    first = next(model.parameters())
    return hasattr(first, "device_mesh") or hasattr(first, "ds_id")


def sharded(trainer: Any) -> bool:
    """Whether no process holds the whole model."""
    return bool(trainer.is_fsdp_enabled or (trainer.is_deepspeed_enabled and _zero3(trainer)))


def _zero3(trainer: Any) -> bool:
    return trainer.accelerator.state.deepspeed_plugin.zero_stage == 3


def gathered(trainer: Any, fresh: Callable[[], Any], *, last: bool = True) -> Any:
    """The trained model in one piece, adapters merged, on the first process; None on the others.

    `fresh` makes the model as it was before training, adapters and all: where none has it whole, or DeepSpeed holds it
    rounded, the first process gathers what was trained into that. Every process must call this. `last`: the weights
    are those that the last step left, not a checkpoint's.
    """
    from peft import PeftModel
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    accelerator = trainer.accelerator
    model, state = accelerator.unwrap_model(trainer.model), None
    if trainer.is_deepspeed_enabled:
        state = _trained(model, masters=last)
    elif trainer.is_fsdp_enabled:
        state = accelerator.get_state_dict(trainer.model)
    if not accelerator.is_main_process:
        return None
    if state is not None:
        unset_hf_deepspeed_config()  # else ZeRO 3 would shard what is loaded now, and wait for the other processes
        model = filled(fresh(), state)
    return model.merge_and_unload() if isinstance(model, PeftModel) else model


def _trained(model: Any, *, masters: bool) -> dict[str, Any]:
    """Name → weight, on the CPU, of what DeepSpeed trained: the optimiser's own float32 where there are `masters`.
    On each process, one weight at a time; the first one's are to be used."""
    from deepspeed.utils import safe_get_full_fp32_param

    found: dict[str, Any] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            whole = safe_get_full_fp32_param(weight) if masters else None  # None without ZeRO
            found[name] = (weight.detach() if whole is None else whole).cpu()
    return found


def filled(model: Any, state: dict[str, Any]) -> Any:
    """The model with these weights. Raises RuntimeError where they are not all that training changes."""
    known = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    missing, unexpected = model.load_state_dict(known, strict=False)
    changes = {name for name, weight in model.named_parameters() if weight.requires_grad}
    lost = [name for name in missing if name in changes]
    if lost or unexpected:
        raise RuntimeError(f"the gathered weights are not the model's: {[*lost, *unexpected][:4]}")
    return model


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
