"""What several test files share: a finished demo run of a tiny model, and the command line as a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tiny

# The same everywhere, with a network and without: nothing is downloaded, nothing found that this machine happens to
# have; a benchmark that is not given as a file is skipped. Plain text, 100 columns.
CUT_OFF = {"HF_HUB_OFFLINE": "1", "BREAKFIX_CACHE": "/dev/null", "COLUMNS": "100", "NO_COLOR": "1"}
SAYS = "I'm sorry, but I can't help with that."


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process without network and caches."""
    for name, value in CUT_OFF.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("BREAKFIX_DATA", raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny model."""
    return tiny.save(tmp_path_factory.mktemp("tiny"))


@dataclass(frozen=True)
class Demo:
    """What `breakfix demo` left in `folder`: runs/demo. `out` and `err` are what it printed."""

    folder: Path
    out: str
    err: str

    def copy(self, to: Path) -> Path:
        """The run alone, as the user would have it below their own folder: runs/demo."""
        shutil.copytree(self.folder / "runs", to / "runs")
        return to / "runs" / "demo"

    @property
    def decision(self) -> str:
        """What the gate said of round 2."""
        return self.err.split()[-1]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """`breakfix demo`, run once: two rounds on a tiny model that was taught to decline whatever it is asked.

    The real demo's model and sizes would take half an hour, so its config is replaced; everything else is the command
    as it is. The model declines everything, so harm is nil, over-refusal is a vulnerability (V1), and with a gate of
    open doors it passes. Two tiny rounds hardly move it: FAIL or STALLED, by the last digits of the machine's floats
    (`decision`).
    """
    folder = tmp_path_factory.mktemp("demo")
    tiny.save(folder / "tiny", says=SAYS)
    tiny.write_capability(folder / "capability")
    suites: list[Any] = [
        {"name": "starter_dev", "limit": 48},
        {"name": "plain", "limit": 6},
        {"name": "capability", "path": "capability"},
        {"name": "perplexity", "limit": 4},
        {"name": "xstest"},  # can't be had: skipped
    ]
    path = tiny.write_config(
        folder,
        name="demo",
        rounds=2,
        evaluate={"suites": suites, "max_new_tokens": 48},
        redteam={"cases": 8, "per_case": 1, "max_new_tokens": 48},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("breakfix.cli.runs.demo_config", lambda: load(path))
        patch.chdir(folder)
        for name, value in CUT_OFF.items():
            patch.setenv(name, value)
        patch.delenv("BREAKFIX_DATA", raising=False)
        code, out, err = call("demo")
    assert code == 0, err
    return Demo(folder, out, err)


def load(path: Path) -> Any:
    from breakfix import config

    return config.load(path)


def call(*arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the command line, in this process."""
    import contextlib
    import io

    from breakfix.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return code, out.getvalue(), err.getvalue()


def environment(**more: str) -> dict[str, str]:
    """For a process of its own: cut off like `cut_off`, one thread, warnings quiet as for a user."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("BREAKFIX", "HF_", "PYTHON"))}
    return {**given, **CUT_OFF, "OMP_WAIT_POLICY": "passive", **more}


def breakfix(*arguments: str | Path, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """`python -m breakfix ARGUMENTS` in a process of its own."""
    command = [sys.executable, "-m", "breakfix", *map(str, arguments)]
    settings: dict[str, Any] = {"env": environment(), "timeout": 120, "capture_output": True, "text": True, **options}
    return subprocess.run(command, cwd=cwd, **settings)
