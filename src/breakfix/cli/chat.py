"""`breakfix chat`: talk to a model. Replies on stdout, the rest on stderr; reads stdin, so it can be piped.

What the model says is shown with control characters, escape sequences and bidirectional overrides made visible:
a model's reply must not be able to drive the terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from breakfix import assets, runfolder
from breakfix.cli import output
from breakfix.cli.commands import Arguments
from breakfix.config import Config
from breakfix.core import Message, Model, Sampling
from breakfix.errors import LedgerError, UserError
from breakfix.models.endpoint import is_remote

HELP = "/reset begins anew, /undo takes the last turn back, /quit ends"


def chat(arguments: Arguments) -> int:
    """breakfix chat"""
    with output.to_stderr():
        path, config = locate(arguments.model)
        from breakfix.models.open import open_model

        model = open_model(path, config)
    output.note(f"{model.id}; {HELP}")
    sampling = Sampling(max_new_tokens=arguments.max_new_tokens, temperature=arguments.temperature)
    for said in talk(model, _turns(), sampling, arguments.system):
        print(said, flush=True)
    return 0


def locate(name: str) -> tuple[str, Config]:
    """The model's folder, hub id or address: of RUN:ROUND, else of an asset, folder, hub id or address."""
    if is_remote(name):
        return name, Config()
    from breakfix.compare.operands import of_run

    if (found := of_run(name)) is not None:
        return _of_run(*found)
    if runfolder.is_run(name):
        raise UserError(f"{name}: a run, which has several models; say which round, such as {name}:1 (0: untouched)")
    return str(assets.resolve_model(name).path), Config()


def _of_run(run: Path, round: int) -> tuple[str, Config]:
    from breakfix.cli import places
    from breakfix.cycle import trained
    from breakfix.ledger import Ledger

    config, _ = places.read(run, run)
    if round == 0:
        return (config.model if is_remote(config.model) else str(assets.resolve_model(config.model).path)), config
    with Ledger.open(run, write=False) as ledger:
        record, chosen = ledger.finished(round, "train"), ledger.finished(round, "select")
    if record is None:
        raise LedgerError(f"{run}: round {round} has no trained model; `breakfix status {run}` shows what there is")
    return trained(run, record, chosen), config


def talk(model: Model, turns: Iterator[str], sampling: Sampling, system: str = "") -> Iterator[str]:
    """What to show for each turn. A turn that the model can't take is said on stderr, and taken back."""
    from breakfix.report.plain import plain

    start = (Message("system", system),) if system else ()
    history: list[Message] = []
    for turn in turns:
        if turn == "/quit":
            return
        if turn == "/reset":
            history = []
            output.note("begun anew")
        elif turn == "/undo":
            output.note(f"taken back: {history[-2].content}" if history else "there is no turn to take back")
            history = history[:-2]
        elif turn.startswith("/"):
            output.note(f"no command {turn}; {HELP}")
        elif turn:
            prompt = (*start, *history, Message("user", turn))
            [(_, reply)] = model.generate([prompt], sampling, [len(history)])
            if reply.error is not None:
                output.note(f"{reply.error}; /reset begins anew")
                continue
            history += [Message("user", turn), Message("assistant", reply.text)]
            yield plain(reply.text.strip())


def _turns() -> Iterator[str]:
    """The user's lines until the end of stdin; with line editing in a terminal."""
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        yield from (line.strip() for line in sys.stdin)
        return
    import readline  # noqa: F401  # pyright: ignore[reportUnusedImport] - gives input() line editing

    while True:
        try:
            yield input("you> ").strip()
        except EOFError:
            print()
            return
