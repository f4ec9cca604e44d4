"""`breakfix redteam --table`: attack success of several rounds, by family, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from breakfix.cli import output, places
from breakfix.cli.commands import Arguments, UsageError
from breakfix.cli.targets import HELP
from breakfix.errors import LedgerError, UserError

if TYPE_CHECKING:
    from breakfix.core import Attempt
    from breakfix.ledger import Ledger
    from breakfix.redteam.table import Figure


def table(arguments: Arguments) -> int:
    """Raises UserError for what is no round that was attacked."""
    from breakfix.compare.operands import named, parse
    from breakfix.ledger import Ledger
    from breakfix.redteam import table as made_of
    from breakfix.redteam.run import STAGE

    if arguments.target is not None or arguments.round is not None:
        raise UsageError(f"--table names its models itself, each as RUN:ROUND; leave --round out; {HELP}")
    operands = named([parse(text) for text in arguments.table])
    attacked: list[tuple[list[Attempt], dict[str, str]]] = []
    about: list[str] = []
    held_out: list[tuple[str, ...]] = []
    for operand in operands:
        if operand.run is None or operand.format:
            raise UserError(f"{operand.text}: not a round that was attacked; expected RUN:ROUND, or NAME=RUN:ROUND")
        config, folder = places.read(operand.run, None)
        with Ledger.open(folder, write=False) as ledger:
            round = operand.round if operand.round is not None else _last(ledger)
            attempts = list(ledger.attempts(round=round, stage=STAGE))
            if not attempts:
                raise LedgerError(f"{folder}: round {round} was not attacked yet; `breakfix redteam` does it")
            old = [a.id for a in attempts if a.queries is None]
            if old and config.redteam.helper is None:
                attempts = made_of.counted(attempts, ledger.paid(old))
            attacked.append((attempts, ledger.splits(sorted({a.case for a in attempts}))))
        judges = sorted({verdict.judge for a in attempts for verdict in a.verdicts})
        about.append(f"{operand.name}: {attempts[0].model}, judged by {' and '.join(judges)}")
        held_out.append(config.redteam.held_out)
    if len(set(map(frozenset, held_out))) > 1:
        output.note(f"the runs hold out other families; sides are those of {operands[0].name}")
    made, names = made_of.rows(attacked, held_out[0]), [operand.name for operand in operands]
    if arguments.markdown is not None:
        command = f"breakfix redteam --table {' '.join(arguments.table)} --markdown {arguments.markdown}"
        output.save(arguments.markdown, made_of.page(made, names, about, command))
        output.note(f"wrote {arguments.markdown}")
    elif arguments.json:
        output.as_json([row.record(names) for row in made])
    else:
        heads = [head for name in names for head in (name, "queries")]
        output.table(
            ("side", "family", "persona", *heads),
            [(row.side, row.family, row.persona, *_told(row.figures)) for row in made],
            groups=(3, *(2 for _ in names)),
        )
    return 0


def _told(figures: Sequence[Figure]) -> Iterator[str]:
    from breakfix.redteam import table as made_of

    for figure in figures:
        yield made_of.words(figure.rate)
        yield made_of.asked(figure)


def _last(ledger: Ledger) -> int:
    """The last round that was attacked; 0 where none was."""
    return max((row.round for row in ledger.stages() if row.name == "redteam"), default=0)
