"""Throughput of a red team: ours beside garak's, PyRIT's and Inspect's own Hugging Face targets. One run, one model.

    python benchmarks/redteam.py [--model NAME] [--limit 200] [--templates 40] [--requests 20] [--new 48]
                                 [--peers garak,pyrit,inspect] [--sample 12] [--threads N] [--setup] [--json FILE]

Two halves, the same texts for everybody: requests of HarmBench as they stand, and long templates (the longest of
PyRIT's that fit), each around the same requests. Ours is a whole campaign: attacks, `HFModel`, the refusal judge. A
peer is its target alone, with its defaults but for the model's folder, its precision and the new tokens; each in a
process and an environment of its own, loaded and warmed up before its clock starts. garak and PyRIT ask one at a time,
and are put a sample (`--sample`, evenly out of each half); Inspect batches 32, and is put 64; ours without prefix
caching is put about 160. Their time for all is that of the sample times the share, and is marked ≈. New tokens are
those of the replies as the tokenizer counts them, without the turn end. PyRIT's asking again after an empty reply is
off, in its favour: such a reply counts as failed.

Where a peer's interpreter is: BREAKFIX_BENCH_GARAK, _PYRIT, _INSPECT (a Python), else a virtual environment below the
cache folder (`bench/NAME`), which `--setup` makes. A peer that is not there is left out, and said to be.
`--quick`: the tiny model of the tests and neutral texts, to try the script; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PEERS = {  # what is installed; torch is added, as it is here
    "garak": ("garak==0.17.1",),
    "pyrit": ("pyrit[huggingface]==1.1.0",),
    "inspect": ("inspect-ai==0.3.285", "transformers==5.23.0", "accelerate==1.15.0"),
}
AIMS = {"garak": 15.0, "pyrit": 15.0, "inspect": 1.5}
CACHING = 3.0  # times, on the templates, by prefix caching alone
BATCHED = 64  # a sample for a peer that batches 32
PLAIN = 160  # about so many for ourselves without prefix caching
HALVES = ("requests", "templates")


@dataclass(frozen=True)
class Time:
    """What one side took: `n` prompts in `seconds` of `whole` that there are; `tokens` new ones; `failed` prompts."""

    n: int
    whole: int
    seconds: float
    tokens: int
    failed: int = 0

    @property
    def all(self) -> float:
        """Seconds for all prompts of the half; extrapolated where n < whole."""
        return self.seconds * self.whole / self.n


# ---- a peer, in its own interpreter: nothing of breakfix is imported


def peer(name: str) -> None:
    """Reads {"model", "new", "dtype", "device", "warm", "halves": {half: prompts}} from stdin; the last line of stdout
    is the figures."""
    job = json.load(sys.stdin)
    said = os.fdopen(os.dup(1), "w")  # what the peer prints goes to stderr
    os.dup2(2, 1)
    found = asyncio.run({"garak": _garak, "pyrit": _pyrit, "inspect": _inspect}[name](job))
    print(json.dumps(found), file=said, flush=True)


def _count(tokenizer: Any, texts: Sequence[str | None]) -> tuple[int, int]:
    """(new tokens, failed)."""
    there = [text for text in texts if text is not None]
    return sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in there), len(texts) - len(there)


def _same(job: dict[str, Any], model: Any) -> None:
    """Raises ValueError where the peer holds the weights in another precision, or elsewhere."""
    held = str(model.dtype).removeprefix("torch."), model.device.type
    if held != (job["dtype"], job["device"]):
        raise ValueError(f"it holds {' '.join(held)}, not {job['dtype']} {job['device']}")


async def _each(job: dict[str, Any], one: Any, tokenizer: Any) -> dict[str, Any]:
    """One prompt after the other."""
    await one(job["warm"])
    found = {}
    for half, prompts in job["halves"].items():
        began = time.perf_counter()
        texts = [await one(prompt) for prompt in prompts]
        seconds = time.perf_counter() - began
        tokens, failed = _count(tokenizer, texts)
        found[half] = {"seconds": seconds, "tokens": tokens, "failed": failed}
    return found


async def _garak(job: dict[str, Any]) -> dict[str, Any]:
    from garak import _config
    from garak.attempt import Conversation, Message, Turn

    _config.load_base_config()
    from garak.generators.huggingface import Pipeline

    arguments = {"torch_dtype": job["dtype"], "dtype": job["dtype"], "device": job["device"]}
    generator = Pipeline(
        job["model"],
        config_root={"generators": {"huggingface": {"Pipeline": {"max_tokens": job["new"], "hf_args": arguments}}}},
    )

    async def one(text: str) -> str | None:
        [reply] = generator.generate(Conversation([Turn("user", Message(text))]), generations_this_call=1)
        return None if reply is None else reply.text

    _same(job, generator.generator.model)
    return await _each(job, one, generator.tokenizer)


async def _pyrit(job: dict[str, Any]) -> dict[str, Any]:
    import torch
    from pyrit.models import Message
    from pyrit.prompt_target import HuggingFaceChatTarget
    from pyrit.setup import initialize_pyrit_async

    await initialize_pyrit_async("InMemory", load_defaults=False, env_files=[], silent=True)
    dtype = getattr(torch, job["dtype"])
    target = HuggingFaceChatTarget(
        model_path=job["model"], max_new_tokens=job["new"], torch_dtype=dtype, use_cuda=job["device"] == "cuda"
    )
    await target.load_model_and_tokenizer_task
    _same(job, target.model)

    async def one(text: str) -> str | None:
        try:
            replies = await target.send_prompt_async(message=Message.from_prompt(prompt=text, role="user"))
        except Exception as error:
            print(f"pyrit: {type(error).__name__}", file=sys.stderr)
            return None
        return replies[0].message_pieces[0].converted_value

    return await _each(job, one, target.tokenizer)


async def _inspect(job: dict[str, Any]) -> dict[str, Any]:
    import torch
    from inspect_ai.model import GenerateConfig, get_model

    model = get_model(
        "hf/local",
        config=GenerateConfig(max_tokens=job["new"]),
        model_path=job["model"],
        tokenizer_path=job["model"],
        dtype=getattr(torch, job["dtype"]),
        device=job["device"],
    )
    _same(job, model.api.model)

    async def one(text: str) -> str | None:
        return (await model.generate(text)).completion

    await one(job["warm"])
    found = {}
    for half, prompts in job["halves"].items():
        began = time.perf_counter()
        texts = await asyncio.gather(*[one(prompt) for prompt in prompts])
        seconds = time.perf_counter() - began
        tokens, failed = _count(model.api.tokenizer, texts)
        found[half] = {"seconds": seconds, "tokens": tokens, "failed": failed}
    return found


# ---- from here on in ours


def interpreter(name: str) -> Path:
    """A peer's Python, whether it is there or not."""
    from breakfix.assets import default_cache

    given = os.environ.get(f"BREAKFIX_BENCH_{name.upper()}")
    return Path(given) if given else default_cache() / "bench" / name / "bin" / "python"


def set_up(name: str) -> None:
    """Make the environment of a peer, by uv where there is one."""
    from importlib.metadata import version

    python = interpreter(name)
    folder, what = python.parent.parent, [f"torch=={version('torch').partition('+')[0]}", *PEERS[name]]
    print(f"setting up {name} in {folder}", file=sys.stderr)
    links = os.environ.get("PIP_FIND_LINKS")  # pip reads it by itself
    if uv := shutil.which("uv"):
        subprocess.run([uv, "venv", "--quiet", "--clear", str(folder)], check=True)
        more = ["--find-links", links] if links else []
        subprocess.run([uv, "pip", "install", "--quiet", *more, "--python", str(python), *what], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *what], check=True)


def ask_peer(name: str, job: dict[str, Any], threads: int, wholes: dict[str, int]) -> dict[str, Time]:
    home = tempfile.mkdtemp(prefix="breakfix-bench-")
    environment = {
        **os.environ,
        **{f"XDG_{kind}_HOME": home for kind in ("CONFIG", "DATA", "CACHE")},
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "RETRY_MAX_NUM_ATTEMPTS": "1",  # PyRIT asks again after an empty reply, up to ten times and minutes apart
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    try:
        done = subprocess.run(
            [str(interpreter(name)), __file__, "--peer", name],
            input=json.dumps(job), capture_output=True, text=True, env=environment, cwd=home,
        )  # fmt: skip
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if done.returncode != 0:
        raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return {half: Time(len(job["halves"][half]), wholes[half], **figures) for half, figures in found.items()}


def evenly(prompts: Sequence[str], n: int) -> list[str]:
    """n of them, from the whole range of lengths."""
    ordered = sorted(prompts, key=len)
    n = min(n, len(ordered))
    return [ordered[(2 * i + 1) * len(ordered) // (2 * n)] for i in range(n)]


def puts_of(args: argparse.Namespace, tokens: Callable[[str], int]) -> dict[str, list[Any]]:
    """Each half's puts: (case, attack)."""
    import random

    from breakfix.campaign import AsIs, Put

    cases = _cases(args)
    templates = [
        a for a in _templates(args) if tokens(next(a(cases[0], random.Random(0))).prompt[-1].content) <= args.longest
    ]
    templates.sort(key=lambda attack: -sum(map(len, attack.pieces)))
    return {
        "requests": [Put(case, AsIs()) for case in cases],
        "templates": [Put(case, a) for a in templates[: args.templates] for case in cases[: args.requests]],
    }


def _cases(args: argparse.Namespace) -> list[Any]:
    from breakfix.config import Suite
    from breakfix.core import Case, Expect, Split, ask
    from breakfix.suites import load

    if args.quick:
        things = ("lamp", "kettle", "ladder", "bucket", "mirror", "carpet", "pillow", "hammer")
        return [Case(thing, ask(f"How do I clean my {thing}?"), Expect.COMPLY, "quick", Split.DEV) for thing in things][
            : args.limit
        ]
    suites = ("harmbench_test_standard", "harmbench_val")
    return [case for name in suites for case in load(Suite(name=name), seed=0).cases][: args.limit]


def _templates(args: argparse.Namespace) -> list[Any]:
    from breakfix.redteam.asset_templates import AssetTemplate, load

    if args.quick:
        return [
            AssetTemplate(f"t{i}", "quick", "quick", (f"Bread number {i}. " * 9, f" Stay calm, {i}.")) for i in range(4)
        ]
    return list(load("pyrit_templates").attacks.values())


def ours(model: Any, puts: Sequence[Any], new: int, *, whole: int | None = None) -> Time:
    """A campaign: attacks, model, judge; nothing known, records into a list. `whole`: of how many puts these are."""
    from breakfix import campaign
    from breakfix.core import Attempt, Sampling
    from breakfix.judges.refusal import RefusalJudge

    rows = list[Attempt]()
    began = time.perf_counter()
    campaign.run(puts, model, RefusalJudge(), sampling=Sampling(new), seed=0, known=lambda ids: {}, record=rows.extend)
    seconds = time.perf_counter() - began
    tokens, failed = _count(model.tokenizer, [None if a.error else a.transcript[-1].content for a in rows])
    return Time(len(puts), whole or len(puts), seconds, tokens, failed)


def show(halves: dict[str, int], found: dict[str, dict[str, Time]], new: int) -> None:
    for half, n in halves.items():
        print(f"\n{half}: {n} prompts, up to {new} new tokens")
        print(f"  {'':24} {'prompts':>7} {'seconds':>8} {'for all':>9} {'prompts/s':>9} {'new tokens/s':>12}"
              f" {'ours is faster by':>18} {'(aim)':>6} {'by tokens/s':>12}")  # fmt: skip
        mine = found["ours"].get(half)
        for name, times in found.items():
            t = times.get(half)
            if t is None:
                continue
            ratio = by_tokens = aim = ""
            if name != "ours" and mine is not None:
                ratio = f"{t.all / mine.all:.1f} ×"
                by_tokens = f"{(mine.tokens / mine.seconds) / (t.tokens / t.seconds):.1f} ×" if t.tokens else "–"
                least = AIMS.get(name, CACHING if half == "templates" else None)
                aim = f"≥ {least:g}" if least else ""
            whole = f"{'' if t.n == t.whole else '≈'}{t.all:.0f} s"
            print(f"  {name:24} {t.n:7} {t.seconds:8.1f} {whole:>9} {t.n / t.seconds:9.2f} {t.tokens / t.seconds:12.0f}"
                  f" {ratio:>18} {aim:>6} {by_tokens:>12}" + (f"   {t.failed} failed" if t.failed else ""))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--limit", type=int, default=200, help="requests of the first half")
    parser.add_argument("--templates", type=int, default=40)
    parser.add_argument("--requests", type=int, default=20, help="requests that each template is put around")
    parser.add_argument("--longest", type=int, default=1500, help="most tokens of a template's prompt")
    parser.add_argument("--new", type=int, default=48, help="most new tokens")
    parser.add_argument("--peers", default="garak,pyrit,inspect", help="comma-separated; '' for none")
    parser.add_argument("--sample", type=int, default=12, help="prompts of each half for peers that ask one at a time")
    parser.add_argument("--halves", default=",".join(HALVES))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--setup", action="store_true", help="make the peers' environments where they are missing")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        peer(args.peer)
        return
    with tempfile.TemporaryDirectory() as work:
        compare(args, Path(work))


def compare(args: argparse.Namespace, work: Path) -> None:
    import random

    from breakfix import assets
    from breakfix.core import Sampling, ask
    from breakfix.models.hf import HFModel, cores
    from breakfix.models.render import prompt_ids

    peers = [name for name in args.peers.split(",") if name]
    for name in peers:
        if args.setup and not interpreter(name).exists():
            set_up(name)
    folder = _tiny(work) if args.quick else assets.resolve_model(args.model).path
    threads = args.threads or cores()
    model = HFModel.load(str(folder), precision=args.precision, threads=threads)
    dtype = str(model.model.dtype).removeprefix("torch.")
    tokenizer, device = model.tokenizer, model.model.device.type

    def tokens(text: str) -> int:
        return len(prompt_ids(tokenizer, ask(text)))

    puts = puts_of(args, tokens)
    puts = {half: puts[half] for half in args.halves.split(",")}
    texts = {
        half: [next(put.attack(put.case, random.Random(0))).prompt[-1].content for put in some]
        for half, some in puts.items()
    }
    for half, some in texts.items():
        lengths = sorted(map(tokens, some))
        print(
            f"{half}: {len(some)} prompts of {lengths[0]} to {lengths[-1]} tokens, median {lengths[len(lengths) // 2]}"
        )
    print(f"model {folder}, {dtype}, {threads} threads, nice {os.nice(0)}")
    found: dict[str, dict[str, Time]] = {"ours": {}}
    dict(model.generate([ask("How do I bake bread?")] * 4, Sampling(4)))
    for half, some in puts.items():
        found["ours"][half] = ours(model, some, args.new)
        print(f"ours, {half}: {found['ours'][half].seconds:.0f} s", flush=True)
    if "templates" in puts and find_spec("breakfix.models.prefixes"):
        with no_prefix_caching():
            some = puts["templates"][:: max(1, len(puts["templates"]) // PLAIN)]  # some requests of every template
            plain = {"templates": ours(model, some, args.new, whole=len(puts["templates"]))}
            found["ours, no prefix caching"] = plain
            print(f"ours, no prefix caching: {plain['templates'].seconds:.0f} s", flush=True)
    elif "templates" in puts:
        print("prefix caching: not measured; this version has none to switch off")
    del model
    wholes = {half: len(some) for half, some in texts.items()}
    for name in peers:
        if not interpreter(name).exists():
            print(f"{name}: not measured; there is no {interpreter(name)} (--setup makes it)")
            continue
        n = BATCHED if name == "inspect" else args.sample
        job = {"model": str(folder), "new": args.new, "dtype": dtype, "device": device, "warm": "How do I bake bread?",
               "halves": {half: evenly(some, n) for half, some in texts.items()}}  # fmt: skip
        try:
            found[name] = ask_peer(name, job, threads, wholes)
            print(f"{name}: " + ", ".join(f"{half} {t.seconds:.0f} s" for half, t in found[name].items()), flush=True)
        except RuntimeError as error:
            print(f"{name}: not measured; {error}")
    show(wholes, found, args.new)
    if args.json:
        rows = {name: {half: {**vars(t), "all": t.all} for half, t in times.items()} for name, times in found.items()}
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


@contextmanager
def no_prefix_caching() -> Iterator[None]:
    """Only what all prompts of a batch begin with is read once (as benchmarks/prefixes.py does it)."""
    from breakfix.models import decode, prefixes

    def only_all(prompts: Sequence[list[int]]) -> list[list[int]]:
        common = prefixes.shared_prefix(prompts) if prompts else 0
        return [[common] if common >= prefixes.SHARED_MIN else [] for _ in prompts]

    before, decode.cuts = decode.cuts, only_all
    try:
        yield
    finally:
        decode.cuts = before


def _tiny(folder: Path) -> Path:
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import tiny

    return tiny.save(folder / "tiny")


if __name__ == "__main__":
    main()
