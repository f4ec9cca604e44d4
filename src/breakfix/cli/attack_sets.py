"""`breakfix redteam --save` and `--replay`: what was asked, kept as a file; put again to any model, and paired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakfix import runfolder
from breakfix.cli import output, places
from breakfix.cli.commands import Arguments, UsageError
from breakfix.cli.targets import HELP, is_run, other_model, round_of
from breakfix.errors import LedgerError, UserError

if TYPE_CHECKING:
    from breakfix.config import Config
    from breakfix.core import Attack, Attempt
    from breakfix.redteam.sets import Saved


def save(arguments: Arguments) -> int:
    """Raises LedgerError where the round was not attacked yet."""
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


def replay(arguments: Arguments) -> int:
    """On a run, a stage of its own; on any other model nothing is recorded."""
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
    from breakfix.redteam import replay as again

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
            record, attempts = again.run(
                saved, cycle.model(path), cycle.attack_judge, seed=config.attack_seed, tokens=arguments.max_new_tokens,
                ledger=cycle.ledger, round=round, progress=cycle.progress,
            )  # fmt: skip
            return {**record, "ids": [attempt.id if attempt else None for attempt in attempts]}

        record = cycle.ledger.stage(round, again.STAGE, inputs, make)
        ids = record.pop("ids")
        by_id = cycle.ledger.known([id for id in ids if id is not None])
        found = [by_id.get(id) if id is not None else None for id in ids]
        runs.write_reports(cycle.ledger, folder)
    return record, found


def _on_model(arguments: Arguments, saved: Sequence[Saved]) -> tuple[dict[str, Any], list[Attempt | None]]:
    """Nothing is recorded."""
    from breakfix.cli.progress import watching
    from breakfix.redteam import replay as again

    if arguments.round is not None or arguments.run is not None:
        raise UsageError(f"{arguments.target}: a model, which has no rounds; leave --round and --run out; {HELP}")
    with output.to_stderr(), watching() as watch:
        model, judge = other_model(arguments.target)
        return again.run(saved, model, judge, seed=0, tokens=arguments.max_new_tokens, progress=watch)


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
