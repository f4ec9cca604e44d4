"""Tasks of lm-evaluation-harness (EleutherAI) as suites: `lm-eval/TASK`, and `path` for a folder of one's own.

A task's questions are read here, so that they are counted, sampled like every suite, and a wall for training data;
the harness itself asks and scores them (evaluate/lm_eval.py). A folder of one's own may hold Python that the harness
runs (`!function`): give only folders that you trust. Data sets that come with code are refused.
"""

# pyright: basic, reportMissingImports=false
# the harness has no types worth the name

from __future__ import annotations

import importlib.util
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from breakfix.core import Case, Expect, Split
from breakfix.errors import AssetError, DataError
from breakfix.plugins import extra
from breakfix.suites.rows import Origin

PREFIX = "lm-eval/"


def available() -> bool:
    return importlib.util.find_spec("lm_eval") is not None


def require(name: str) -> None:
    """Raises DataError where the harness is not installed."""
    if not available():
        raise DataError(f"suite '{name}' needs lm-evaluation-harness; install it: {extra('lm-eval')}")


def tasks(name: str, path: Path | None) -> dict[str, Any]:
    """Task name → the harness's Task, of a task, group or tag. Raises DataError (unknown task, no harness, data with
    code), AssetError where the data can't be had."""
    require(name)
    from lm_eval.tasks import TaskManager

    wanted = name.removeprefix(PREFIX)
    if path is not None and not path.is_dir():
        raise DataError(f"suite '{name}': {path} is not a folder; give the folder that holds the task's YAML")
    manager = TaskManager(include_path=path, include_defaults=path is None)
    if wanted not in manager.task_index:
        where = f"in {path}" if path else "in the harness; `lm-eval ls tasks` lists them"
        raise DataError(f"suite '{name}': no task '{wanted}' {where}")
    try:
        with _no_bars():
            found: dict[str, Any] = dict(manager.load([wanted])["tasks"])
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        raise AssetError(f"{name}: its data can't be had ({type(error).__name__}: {why})") from None
    for task in found.values():
        if (getattr(task.config, "dataset_kwargs", None) or {}).get("trust_remote_code"):
            raise DataError(f"suite '{name}': its data set comes with code, which is not run (trust_remote_code)")
        if getattr(task, "UNSAFE_CODE", False) or getattr(task.config, "unsafe_code", False):
            raise DataError(f"suite '{name}': the task runs code that the model writes, which breakfix does not do")
    return found


@contextmanager
def _no_bars() -> Generator[None]:
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def read(name: str, path: Path | None) -> tuple[list[Case], str]:
    """(a case for each question, its id ending in TASK/NUMBER; where they are from). Raises as `tasks` does."""
    origin = Origin(name, Split.DEV, "unknown")
    cases = [
        origin.case(f"{task}/{number}", str(loaded.doc_to_text(doc)), Expect.ANSWER, family=f"{name}/{task}")
        for task, loaded in tasks(name, path).items()
        for number, doc in enumerate(loaded.eval_docs)
    ]
    return cases, f"lm-evaluation-harness: {path or name.removeprefix(PREFIX)}"
