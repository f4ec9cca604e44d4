"""breakfix redteam: the stage; the catalogue of attacks; saved attack sets; a person in the terminal (human.py)."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakfix import runfolder
from breakfix.cli import output, places
from breakfix.cli.commands import Arguments, UsageError
from breakfix.errors import LedgerError, UserError

if TYPE_CHECKING:
    from breakfix.config import Config
    from breakfix.core import Attack, Attempt, Judge, Model
    from breakfix.cycle import Cycle
    from breakfix.ledger import Ledger
    from breakfix.redteam.sets import Saved
    from breakfix.redteam.table import Figure

_HELP = "see `breakfix redteam --help`"
_WITH = {  # option → those of which one must be given beside it
    "markdown": ("list", "table"),
    "with_replies": ("save",),
    "split": ("human",),
    "max_new_tokens": ("human", "replay"),
}
_DOES = ("list", "table", "save", "replay", "human")


def redteam(arguments: Arguments) -> int:
    """breakfix redteam"""
    _check(arguments)
    if arguments.list:
        return _list(arguments)
    if arguments.table is not None:
        return _table(arguments)
    if arguments.target is None:
        raise UsageError(f"the following arguments are required: RUN_OR_CONFIG; --list shows the attacks; {_HELP}")
    if arguments.replay is not None:
        return _replay(arguments)
    if arguments.human:
        from breakfix.cli import human

        return human.human(arguments)
    round_of(arguments)
    if arguments.save is not None:
        return _save(arguments)
    from breakfix.cli import runs

    arguments.target = Path(arguments.target)
    return runs.stage(arguments)


def _check(arguments: Arguments) -> None:
    """Options that don't go together."""
    given = [name for name in _DOES if getattr(arguments, name)]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]} are two things; give one of them; {_HELP}")
    for name, others in _WITH.items():
        if getattr(arguments, name) and not set(given) & set(others):
            beside = " or ".join(f"--{other}" for other in others)
            raise UsageError(f"--{name.replace('_', '-')} goes with {beside}; {_HELP}")
    if given and arguments.again:
        raise UsageError(f"--again is of the stage, and does not go with --{given[0]}; {_HELP}")


# ---- runs and models ---------------------------------------------------------------------------------------------


def is_run(target: str) -> bool:
    """A run's folder, or a config (whose run is below runs/); else it is a model."""
    return runfolder.is_run(target) or Path(target).suffix in (".yaml", ".yml")


def round_of(arguments: Arguments) -> int:
    if arguments.round is None:
        raise UsageError(f"the following arguments are required: --round; {_HELP}")
    return arguments.round


@contextmanager
def opened(arguments: Arguments) -> Generator[Cycle]:
    """A cycle on the run, without a bar that would write over what a person types."""
    from breakfix.cycle import Cycle
    from breakfix.ledger import Ledger
    from breakfix.ready import check, fetch
    from breakfix.report import facts

    config, folder = places.read(Path(arguments.target), arguments.run)
    places.check(folder)
    check(config)
    fetch(config, data=False)
    with Ledger.open(folder.resolve(), create=True) as ledger:
        places.keep(config, folder)
        ledger.add_event(0, "run", "facts", facts(config))
        yield Cycle(config, folder.resolve(), ledger, say=output.note)


def other_model(target: str, precision: str | None = None) -> tuple[Model, Judge]:
    """A model that is no run's (or RUN:ROUND, without recording anything in it), and the judge of its config.
    `precision`: instead of `auto`."""
    from breakfix import assets, cycle
    from breakfix.cli.chat import locate
    from breakfix.judges.catalogue import Opener, of_run
    from breakfix.models.endpoint import is_remote
    from breakfix.models.open import open_model

    path, config = locate(target)
    if precision is not None and config.hardware.precision == "auto":
        hardware = config.hardware.model_copy(update={"precision": precision})
        config = config.model_copy(update={"hardware": hardware})

    def asked(name: str) -> Model:
        return open_model(name if is_remote(name) else str(assets.resolve_model(name, "judges.model").path), config)

    return open_model(path, config), of_run(config.judges, Opener(asked, cycle.open_embedder))


# ---- saved attack sets -------------------------------------------------------------------------------------------


def _save(arguments: Arguments) -> int:
    from breakfix.ledger import Ledger
    from breakfix.redteam import human, sets
    from breakfix.redteam.run import STAGE

    path: Path = arguments.save
    if path.exists():
        raise UserError(f"{path}: exists; a set is not written over another file; give another name")
    config, folder = _settings(arguments)
    with Ledger.open(folder, write=False) as ledger:
        attempts = [a for stage in (STAGE, human.STAGE) for a in ledger.attempts(round=arguments.round, stage=stage)]
        if not attempts:
            raise LedgerError(
                f"{folder}: round {arguments.round} was not attacked yet; `breakfix redteam {folder} --round "
                f"{arguments.round}` does it"
            )
        typed = human.tokens(ledger, arguments.round)
        longest = config.redteam.max_new_tokens
        saved, left_out = sets.collect(
            attempts,
            ledger.case,
            _attacks(config),
            config.redteam.held_out,
            lambda attempt: typed.get(attempt.id) if attempt.family == sets.HUMAN else longest,
            replies=arguments.with_replies,
        )
    output.save(path, "".join(f"{sets.line(one)}\n" for one in saved))
    told = {"file": str(path), "lines": len(saved), "left_out": dict(left_out)}
    if arguments.json:
        output.as_json(told)
    else:
        print("\n".join(output.summary(told)))
    output.note("the set holds requests that are only measured; it is no training data")
    return 0


def _settings(arguments: Arguments) -> tuple[Config, Path]:
    """Of a run; of conversations with models that are no run's, the defaults."""
    from breakfix.config import Config

    target = Path(arguments.target)
    if runfolder.is_run(target) and not (target / places.KEPT).is_file():
        return Config(), target
    return places.read(target, arguments.run)


def _attacks(config: Config) -> dict[str, Attack]:
    from breakfix.redteam import catalogue, chosen

    used = [attack for side in chosen(config.redteam.seen, config.redteam.held_out) for attack in side]
    return {**catalogue(), **{attack.name: attack for attack in used}}


def _replay(arguments: Arguments) -> int:
    from breakfix.redteam import sets

    saved = sets.read(arguments.replay)
    record, attempts = (_on_run if is_run(arguments.target) else _on_model)(arguments, saved)
    if arguments.json:
        rows = [_row(one, attempt) for one, attempt in zip(saved, attempts, strict=True)]
        output.as_json({**record, "lines": rows})
        return 0
    output.table(
        ("of", "attempts", "cases", "broke then", "broke now", "difference (95 %)", "p"),
        [_cells(part, row) for part, row in record["changes"].items()],
    )
    print("\n".join(_words(record)))
    return 0


def _on_run(arguments: Arguments, saved: Sequence[Saved]) -> tuple[dict[str, Any], list[Attempt | None]]:
    """A stage of its own; read back where it was made before."""
    from breakfix.cli import runs
    from breakfix.core import digest
    from breakfix.models.open import model_id
    from breakfix.redteam import replay

    config, folder = places.read(Path(arguments.target), arguments.run)
    round, found = round_of(arguments), list[Any]()
    with output.to_stderr(), runs.started(config, folder, data=False) as cycle:
        path = cycle.model_path(round)
        inputs = {
            "set": digest([[one.id, one.content, one.score, one.model] for one in saved]),
            "max_new_tokens": arguments.max_new_tokens,
            "model": model_id(path, config),
            "judge": cycle.attack_judge.name,
            "seed": config.attack_seed,
        }

        def make() -> dict[str, Any]:
            cycle.say(f"round {round}: replay")
            record, attempts = replay.run(
                saved, cycle.model(path), cycle.attack_judge, seed=config.attack_seed, tokens=arguments.max_new_tokens,
                ledger=cycle.ledger, round=round, progress=cycle.progress,
            )  # fmt: skip
            return {**record, "ids": [attempt.id if attempt else None for attempt in attempts]}

        record = cycle.ledger.stage(round, replay.STAGE, inputs, make)
        ids = record.pop("ids")
        by_id = cycle.ledger.known([id for id in ids if id is not None])
        found = [by_id.get(id) if id is not None else None for id in ids]
        runs.write_reports(cycle.ledger, folder)
    return record, found


def _on_model(arguments: Arguments, saved: Sequence[Saved]) -> tuple[dict[str, Any], list[Attempt | None]]:
    """Nothing is recorded."""
    from breakfix.cli.progress import watching
    from breakfix.redteam import replay

    if arguments.round is not None or arguments.run is not None:
        raise UsageError(f"{arguments.target}: a model, which has no rounds; leave --round and --run out; {_HELP}")
    with output.to_stderr(), watching() as watch:
        model, judge = other_model(arguments.target)
        return replay.run(saved, model, judge, seed=0, tokens=arguments.max_new_tokens, progress=watch)


def _row(one: Saved, attempt: Attempt | None) -> dict[str, Any]:
    final = attempt.final if attempt is not None else None
    return {
        "id": one.id,
        "case": one.case.id,
        "attack": one.attack,
        "family": one.family,
        "side": one.side,
        "then": one.score,
        "now": attempt.score if attempt is not None else None,
        "attempt": attempt.id if attempt is not None else None,
        "breach": attempt.breach if attempt is not None else None,
        "label": final.label if final is not None else None,
        "error": attempt.error if attempt is not None else None,
    }


def _cells(part: str, row: dict[str, Any]) -> tuple[str, ...]:
    difference = row["difference"]
    low, high = (_percent(difference[name], sign=True) for name in ("low", "high"))
    return (
        _part(part),
        f"{row['n']}" + (f" (+{row['unscored']} unscored)" if row["unscored"] else ""),
        str(row["cases"]),
        _percent(row["before"]["value"]),
        _percent(row["after"]["value"]),
        f"{_percent(difference['value'], sign=True)} ({low} to {high})" if row["n"] else "–",
        "–" if row["p"] is None else f"{row['p']:.2g}",
    )


def _part(part: str) -> str:
    """A side may have the name of a family (direct): sides say that they are one."""
    kind, _, name = part.partition(".")
    return f"all {name.replace('_', ' ')}" if kind == "side" else name or kind


def _percent(share: float | None, *, sign: bool = False) -> str:
    return "–" if share is None else f"{100 * share:{'+' if sign else ''}.1f} %"


def _words(record: dict[str, Any]) -> Iterator[str]:
    whole, lines = record["changes"]["all"], record["set"]["lines"]
    yield f"now: {output.line(record['model'])}, judged by {output.line(record['judge'])}; p: {whole['test'] or 'none'}"
    yield f"then: {', '.join(map(output.line, record['set']['models']))}"
    by_case = whole["by_case"]
    if whole["cases"] < whole["n"]:
        value = _percent(by_case["difference"]["value"], sign=True)
        low, high = (_percent(by_case["difference"][name], sign=True) for name in ("low", "high"))
        yield f"by case (some attempt broke it): {value} ({low} to {high}), p {by_case['p']:.2g} (McNemar, exact)"
    if record["static"]:
        yield (
            f"{record['static']} of {lines} attacks went by the replies that they got; put again they are static, and "
            "so weaker than they were: holding against them is not holding against the attack"
        )
    if record["other_judge"]:
        judges = ", ".join(map(output.line, record["set"]["judges"]))
        yield f"{record['other_judge']} of {lines} were judged by another judge then ({judges}): not like for like"
    if record["other_length"]:
        yield f"{record['other_length']} of {lines} had another limit of the reply's length then, or it is not known"
    if record["errors"]:
        yield f"the model failed on {record['errors']} of {lines}"


# ---- attack success of several models -----------------------------------------------------------------------------


def _table(arguments: Arguments) -> int:
    from breakfix.compare.operands import named, parse
    from breakfix.ledger import Ledger
    from breakfix.redteam import table
    from breakfix.redteam.run import STAGE

    if arguments.target is not None or arguments.round is not None:
        raise UsageError(f"--table names its models itself, each as RUN:ROUND; leave --round out; {_HELP}")
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
                attempts = table.counted(attempts, ledger.paid(old))
            attacked.append((attempts, ledger.splits(sorted({a.case for a in attempts}))))
        judges = sorted({verdict.judge for a in attempts for verdict in a.verdicts})
        about.append(f"{operand.name}: {attempts[0].model}, judged by {' and '.join(judges)}")
        held_out.append(config.redteam.held_out)
    if len(set(map(frozenset, held_out))) > 1:
        output.note(f"the runs hold out other families; sides are those of {operands[0].name}")
    made, names = table.rows(attacked, held_out[0]), [operand.name for operand in operands]
    if arguments.markdown is not None:
        command = f"breakfix redteam --table {' '.join(arguments.table)} --markdown {arguments.markdown}"
        output.save(arguments.markdown, table.page(made, names, about, command))
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
    from breakfix.redteam import table

    for figure in figures:
        yield table.words(figure.rate)
        yield table.asked(figure)


def _last(ledger: Ledger) -> int:
    """The last round that was attacked; 0 where none was."""
    return max((row.round for row in ledger.stages() if row.name == "redteam"), default=0)


# ---- the catalogue -----------------------------------------------------------------------------------------------


def _list(arguments: Arguments) -> int:
    from breakfix.redteam import listing

    if arguments.target is not None or arguments.round is not None:
        raise UsageError("--list shows the catalogue, which is of no run; leave the run and --round out")
    path: Path | None = arguments.markdown
    if path is not None:
        output.save(path, listing.page())
        output.note(f"wrote {path}")
        return 0
    rows = listing.rows()
    if arguments.json:
        output.as_json(rows)
        return 0
    output.table(
        ("name", "family", "persona", "turns", "access", "queries", "what (paper)"),
        [(*map(str, (row[key] for key in ("name", "family", "persona"))), *_figures(row), _what(row)) for row in rows],
    )
    print("also: compositions of two, such as base64+role_play")
    return 0


def _figures(row: dict[str, Any]) -> tuple[str, str, str]:
    turns, access, queries = ("–" if row[key] is None else str(row[key]) for key in ("turns", "access", "queries"))
    return turns, access, queries


def _what(row: dict[str, Any]) -> str:
    return " ".join(filter(None, (row["what"], row["paper"] and f"({row['paper']})")))
