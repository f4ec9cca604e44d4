"""How long `breakfix --help` takes, beside bare Python and two stock peers: a typer app with one command, `trl --help`.

    python benchmarks/startup.py [runs]

Whole processes, taken in turns so that a busy machine is busy for all of them: wall seconds (median and fastest), CPU
seconds (median, of user and system), and how many times the CPU of `breakfix --help` the others take. The first start
of each is not counted: it compiles, and fills the file cache.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

AIM = 0.25  # wall seconds
BIN = Path(sys.executable).parent
TYPER = "import typer; app = typer.Typer(); app.command()(lambda name='you': print(name)); app(['--help'])"


def commands() -> dict[str, list[str]]:
    found = {
        "breakfix --help": [shutil.which("breakfix", path=str(BIN)) or "breakfix", "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
        "typer app --help": [sys.executable, "-c", TYPER],
    }
    trl = shutil.which("trl", path=str(BIN))
    return {**found, "trl --help": [trl, "--help"]} if trl else found


def cost(command: Sequence[str]) -> tuple[float, float]:
    """(wall, CPU) seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands()}
    for command in commands().values():
        cost(command)
    for _ in range(runs):
        for name, command in commands().items():
            taken[name].append(cost(command))
    ours = statistics.median(cpu for _, cpu in taken["breakfix --help"])
    print(f"{'':18}  wall median  fastest  CPU median   ratio   ({runs} runs, in turns)")
    for name, times in taken.items():
        wall, cpu = zip(*times, strict=True)
        median = statistics.median(cpu)
        print(f"{name:18} {statistics.median(wall):10.3f} s {min(wall):6.3f} s {median:9.3f} s   × {median / ours:.1f}")
    wall = statistics.median(wall for wall, _ in taken["breakfix --help"])
    print(f"breakfix --help: {wall:.3f} s, the aim is {AIM} s: {'met' if wall <= AIM else 'missed'}")


if __name__ == "__main__":
    main()
