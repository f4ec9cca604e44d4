"""`breakfix doctor`: is this machine ready? One row per check: ok, warn (slower, or something is missing), fail.

Each check is a function of plain values, so that its verdicts can be tested; `examine` collects the values here.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from breakfix.models.remote import Hello

HUB_TIMEOUT = 3.0  # seconds
GIB = 2**30
# Those that are known to clash; the same ranges as in pyproject.toml.
REQUIRED = ("torch>=2.7", "transformers>=5.10,<6", "trl>=1.10,<2", "peft>=0.18", "accelerate>=1.10", "datasets>=4.7",
            "tokenizers>=0.21", "safetensors>=0.5", "sqlalchemy>=2.0.36", "pydantic>=2.10", "numpy>=2.0")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """`found` is what there is, `advice` what to do ("" where nothing)."""

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


def examine() -> list[Row]:
    """Every check, on this machine. Loads torch; asks the hub once."""
    return list(_rows())


def _rows() -> Iterator[Row]:
    from breakfix.assets import default_cache

    yield python(sys.version_info[:3])
    yield from packages({name: _version(name) for name in map(_name, REQUIRED)})
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield processor(cores, platform.machine())
    yield memory(*_memory())
    yield from _torch(cores)
    for name, folder in (("disk (here)", Path.cwd()), ("disk (cache)", default_cache())):
        yield disk(name, folder, _free(folder))
    yield hub(os.environ, ask_hub)
    yield pip()


def python(version: Sequence[int]) -> Row:
    said = ".".join(map(str, version))
    if tuple(version) < (3, 11):
        return Row("python", "fail", said, "install Python 3.11 or newer")
    return Row("python", "ok", said)


def packages(found: Mapping[str, str | None]) -> Iterator[Row]:
    """One row if all fit, else one for each that does not."""
    from packaging.requirements import Requirement

    wrong: list[Row] = []
    for requirement in map(Requirement, REQUIRED):
        version = found.get(requirement.name)
        advice = f"pip install '{requirement}'"
        if version is None:
            wrong.append(Row(requirement.name, "fail", "not installed", advice))
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(Row(requirement.name, "fail", f"{version}, needed is {requirement.specifier}", advice))
    shown = ", ".join(f"{name} {found.get(name)}" for name in ("torch", "transformers", "trl"))
    yield from wrong or [Row("packages", "ok", shown)]


def processor(cores: int, machine: str) -> Row:
    advice = "" if cores > 1 else "a run takes about twice as long as on two cores"
    return Row("cores", "ok" if cores > 1 else "warn", f"{cores} ({machine})", advice)


def memory(available: int | None, total: int | None) -> Row:
    """Bytes. The demo peaks at about 6 GiB (README), most of it where it trains, by the sizes of batches."""
    if available is None or total is None:
        return Row("memory", "warn", "unknown", "have 7 GiB free")
    said = f"{available / GIB:.1f} GiB free of {total / GIB:.1f}"
    if available < 1.5 * GIB:
        return Row("memory", "fail", said, "free some: the demo takes about 6 GiB")
    if available < 7 * GIB:
        return Row("memory", "warn", said, "lower hardware.batch, train.sft.batch and train.dpo.batch if it runs out")
    return Row("memory", "ok", said)


def torch_build(version: str, cuda: str | None, available: bool) -> Row:
    if available:
        return Row("torch", "ok", f"{version}, CUDA {cuda}, GPU found")
    if cuda is None:
        return Row("torch", "ok", f"{version}, CPU build")
    advice = "works, but takes gigabytes; pip install torch --index-url https://download.pytorch.org/whl/cpu"
    return Row("torch", "warn", f"{version}, built for CUDA {cuda}, no GPU found", advice)


def precision(fp32: float, medium: float, bf16: float, wins: bool, faster: float) -> Row:
    """GFLOP/s by models/precision.py. `wins`: bf16 is taken, if the model's own logits agree."""
    taken = "bf16" if wins else "fp32-medium" if medium > faster * fp32 else "fp32"
    said = f"fp32 {fp32:.0f}, fp32-medium {medium:.0f}, bf16 {bf16:.0f} GFLOP/s: {taken} is taken"
    slow = max(fp32, medium, bf16) < 20
    return Row("precision", "warn" if slow else "ok", said, "a slow or busy machine: runs take long" if slow else "")


def disk(name: str, folder: Path, free: int | None) -> Row:
    """Bytes. A run of two rounds on the 135M model keeps about 1.2 GB, and needs twice that while it trains."""
    if free is None:
        return Row(name, "warn", f"{folder}: unknown", "have 5 GB free")
    said = f"{free / 1e9:.1f} GB free at {folder}"
    if free < 1e9:
        return Row(name, "fail", said, "free some: a run of the 135M model needs about 3 GB")
    return Row(name, "warn" if free < 5e9 else "ok", said, "a run needs about 3 GB" if free < 5e9 else "")


def hub(environ: Mapping[str, str], ask: Callable[[str], str]) -> Row:
    """`ask` takes a URL and returns "" where it answers, else why it does not."""
    if environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return Row("hub", "ok", "not asked (HF_HUB_OFFLINE)", "models and data come from the cache or from packages")
    url = environ.get("HF_ENDPOINT") or "https://huggingface.co"
    why = ask(url)
    if why:
        advice = "not needed for the demo: its model and data come from packages"
        return Row("hub", "warn", f"{url} can't be reached ({why})", advice)
    return Row("hub", "ok", f"{url} answers")


def ask_hub(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        return "not an address; HF_ENDPOINT should start with https://"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=HUB_TIMEOUT):
            return ""
    except urllib.error.HTTPError as error:
        return "" if error.code < 500 else f"HTTP {error.code}"
    except (OSError, ValueError) as error:
        return " ".join(str(getattr(error, "reason", error)).split())[:80] or type(error).__name__


def remote(name: str, hello: Hello) -> Row:
    """`name`: the setting that names the model. It was asked for the models that it has; nothing was generated."""
    if hello.why:
        return Row(name, "fail", f"{hello.address}: {hello.why}", hello.advice)
    if hello.listed is False:
        known = ", ".join(hello.models[:5]) or "none"
        return Row(name, "warn", f"{hello.address} answers, and lists no such model", f"it lists: {known}")
    found = "answers" if hello.listed is None else "answers, and has the model"
    return Row(name, "ok", f"{hello.address} {found}" + ("; the key is sent" if hello.key else "; no key is sent"))


def family(key: str, name: str, facts: Mapping[str, Any]) -> Row:
    """How a model that is here would be trained. `key`: the setting that names it; `facts`: of train/presets.py."""
    notes = {
        "experts": "{} experts",
        "sliding_window": "a sliding window of {}",
        "long_rope_from": "long rope: what reaches {} tokens runs alone, and slowly",
    }
    said = [f"{name}: {facts['type']}", *(words.format(facts[k]) for k, words in notes.items() if k in facts)]
    if facts["preset"] is None:
        return Row(key, "ok", "; ".join(said), "not a family that is known: LoRA adapts every linear layer")
    return Row(key, "ok", "; ".join([*said, f"trained as {facts['preset']}"]))


def pip() -> Row:
    import importlib.util

    if importlib.util.find_spec("pip") is not None or shutil.which("pip") or shutil.which("pip3"):
        return Row("pip", "ok", "found")
    return Row("pip", "warn", "not found", "needed once, to download models and data: python -m ensurepip")


def _torch(cores: int) -> Iterator[Row]:
    try:
        import torch
    except ImportError as error:
        yield Row("torch", "fail", f"can't be loaded: {error}", "reinstall it: pip install --force-reinstall torch")
        return
    from breakfix.models import precision as probing

    yield torch_build(torch.__version__, torch.version.cuda, torch.cuda.is_available())
    found = probing.probe(cores)
    yield precision(found.fp32, found.fp32_medium, found.bf16, found.bf16_wins, probing.FASTER)


def _name(requirement: str) -> str:
    return requirement.partition(">")[0]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _memory() -> tuple[int | None, int | None]:
    """(available, total) bytes; a container's own limit counts where it is lower."""
    try:
        import psutil
    except ImportError:
        return None, None
    found = psutil.virtual_memory()
    limits = list(cgroup_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")))
    available = min([found.available, *(free for free, _ in limits)])
    return available, min([found.total, *(limit for _, limit in limits)])


# limit, use, and what of the use is cache that makes way: version 2, version 1 (in its own folder)
_CGROUP = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def cgroup_limits(own: Path, mounted: Path) -> Iterator[tuple[int, int]]:
    """(free, limit) bytes of the process's control group and of each group around it that has a limit.

    `own`: the file that says which group the process is in (/proc/self/cgroup). In a container `mounted` may begin at
    the process's own group instead of the machine's root; so that is looked at in any case.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:  # 4:memory:/a/b, or 0::/a/b
        _, controllers, path = line.split(":", 2)
        kind = "memory" if "memory" in controllers.split(",") else ""
        if controllers and not kind:
            continue
        group = mounted / kind / path.lstrip("/")
        for folder in [group, *(parent for parent in group.parents if parent.is_relative_to(mounted / kind))]:
            found = _limit(folder, *_CGROUP[kind])
            if found is not None:
                yield found


def _limit(folder: Path, limit: str, used: str, reclaimable: str) -> tuple[int, int] | None:
    try:
        most, now = int((folder / limit).read_text()), int((folder / used).read_text())
        rows = (row.split() for row in (folder / "memory.stat").read_text().splitlines())
        cache = next((int(n) for name, n in rows if name == reclaimable), 0)
    except (OSError, ValueError):  # no such group here, or no limit ("max")
        return None
    return max(0, most - now + cache), most


def _free(folder: Path) -> int | None:
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
