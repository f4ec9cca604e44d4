"""breakfix judges: the list, cards, calibrating, judging rows, re-judging a run, and the sheet for people."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakfix.cli import output, places
from breakfix.cli.commands import Arguments
from breakfix.errors import DataError, ModelError, UserError

if TYPE_CHECKING:
    from breakfix.config import Config
    from breakfix.core import Expect, Judge, Model, Verdict
    from breakfix.judges.ask import Row
    from breakfix.judges.catalogue import Entry

YES_NO = ("accuracy", "kappa", "f1", "sensitivity", "specificity")
SCALE = ("mae", "alpha")
ROW = ("prompt", "response", "request", "reference", "category", "language", "expect")
AT_ONCE = 64  # rows judged and printed together


# ---- the list, and cards -----------------------------------------------------------------------------------------


def overview(arguments: Arguments) -> int:
    """breakfix judges"""
    from breakfix.judges import card as cards_of
    from breakfix.judges.catalogue import catalogue, version

    known, cards = catalogue(), cards_of.cards()
    rows: list[dict[str, Any]] = []
    for entry in known.values():
        now = version(entry)
        calibrations = cards.pop(entry.name, [])
        best = cards_of.best(calibrations, now) if now else _latest(calibrations)
        rows.append(_listed(entry, now, best))
    for name, calibrations in cards.items():  # of judges with a name that holds what to open
        best = _latest(calibrations)
        measures = best["measures"] if best else ""
        rows.append({"name": name, "version": best and best["judge"], "measures": measures, "what": "measured here",
                     "needs_model": False, "card": _brief(best)})  # fmt: skip
    if arguments.json:
        output.as_json(rows)
        return 0
    output.table(
        ("name", "measures", "model", "what, and its best card"),
        [
            (r["name"], r["measures"], "yes" if r["needs_model"] else "no", f"{r['what']}\n{_worth(r['card'])}")
            for r in rows
        ],
    )
    print(
        "also: guard/KIND:MODEL; rubric/FILE.md; A+B (B where A can't tell). "
        "To measure one: breakfix judges calibrate LABELS --judge NAME"
    )
    return 0


def _listed(entry: Entry, now: str | None, best: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "name": entry.name,
        "version": now or (best and best["judge"]),
        "measures": entry.measures,
        "what": entry.what,
        "needs_model": entry.needs_model,
        "card": _brief(best),
    }


def _latest(calibrations: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Of those of one day and as many rows the one that was added last: a card keeps its older versions before it."""
    return max(reversed(calibrations), key=lambda one: (one.get("date", ""), one["n"]), default=None)


def _brief(best: dict[str, Any] | None) -> dict[str, Any] | None:
    if best is None:
        return None
    return {key: best[key] for key in ("labels", "judge", "n", "unscored", *YES_NO, *SCALE) if key in best}


def _worth(brief: dict[str, Any] | None) -> str:
    if brief is None:
        return "not measured"
    said = ", ".join(f"{name} {_number(brief[name])}" for name in ("accuracy", "kappa", *SCALE) if name in brief)
    return f"{said} ({brief['labels']}, n {brief['n']}, {brief['judge']})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def card(arguments: Arguments) -> int:
    """breakfix judges card"""
    from breakfix.judges.card import cards
    from breakfix.judges.catalogue import find, version

    found = cards().get(arguments.name, [])
    if not found:
        entry = find(arguments.name)
        raise UserError(
            f"{entry.name}: no card yet; make one with: breakfix judges calibrate LABELS --judge {entry.name}"
        )
    try:
        now = version(find(arguments.name))
    except UserError:  # the card outlives what it was made with
        now = None
    found.sort(key=lambda one: (one["judge"] != now, -one["n"]))  # what holds now comes first
    if arguments.json:
        output.as_json({"name": arguments.name, "version": now, "calibrations": found})
        return 0
    print(output.line(f"{arguments.name}, now {now}" if now else arguments.name))
    for one in found:
        _tell(one, now)
    return 0


def _tell(one: dict[str, Any], now: str | None) -> None:
    old = " (an older version)" if now and one["judge"] != now else ""
    left_out = f", left out: {output.line(str(one['left_out']))}" if one.get("left_out") else ""
    print()
    print(output.line(f"{one['labels']} ({one['digest'][:12]}), {one['date']}, {one['judge']}{old}, {one['from']}"))
    print(output.line(f"measures {one['measures']}, n {one['n']}, unscored {one['unscored']}{left_out}"))
    if one.get("note"):
        print(output.line(one["note"]))
    names = [name for name in (*YES_NO, *SCALE) if name in one]
    parts = [("all", one)]
    if weighted := one.get("weighted"):  # of a sheet, whose rows are drawn by what the judge said
        parts.append((f"weighted, for {weighted['counts']['stands_for']} replies", weighted))
    parts += [(f"{key.removeprefix('by_')}: {value}", part) for key in one if key.startswith("by_")
              for value, part in one[key].items()]  # fmt: skip
    output.table(
        ("rows", "n", "unscored", *names),
        [(what, str(p["n"]), str(p["unscored"]), *(_with_bounds(p, name) for name in names)) for what, p in parts],
        groups=(1, 3, *(1 for _ in names[1:])),
    )


def _with_bounds(part: dict[str, Any], name: str) -> str:
    if part.get(name) is None:
        return "–"
    low, high = part["intervals"][name]
    return f"{part[name]:.3f} ({_number(low)} to {_number(high)})"


def calibrate(arguments: Arguments) -> int:
    """breakfix judges calibrate"""
    from breakfix.judges import card as cards_of
    from breakfix.judges.catalogue import find
    from breakfix.judges.labels import SETS, load

    if arguments.judge is None:
        arguments.judge = SETS[arguments.labels].measure if arguments.labels in SETS else "refusal"
    entry = find(arguments.judge)
    path: Path = arguments.output or cards_of.own(arguments.judge)
    cards_of.check(arguments.judge, path)
    with output.to_stderr():
        labels = load(arguments.labels, entry.measures)
        judge = _open(arguments.judge, arguments.model)
        measured = cards_of.calibrate(
            judge,
            labels,
            date=datetime.now(UTC).date().isoformat(),
            note=arguments.note,
            command=_command(arguments),
            progress=_counter(entry.name, len(labels.rows)),
        )
    output.save(path, cards_of.merged(arguments.judge, measured, path))
    shown = {"from": str(path), **measured.as_json()}
    if arguments.json:
        output.as_json({"name": arguments.judge, "version": judge.name, "card": str(path), "calibrations": [shown]})
        return 0
    _tell(shown, judge.name)
    return 0


def _command(arguments: Arguments) -> str:
    """What makes this calibration again."""
    model = ["--model", arguments.model] if arguments.model else []
    return shlex.join(["breakfix", "judges", "calibrate", arguments.labels, "--judge", arguments.judge, *model])


def _counter(what: str, total: int) -> Callable[[int], None]:
    """Tells a person at a terminal how far it is."""

    def told(done: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{what}: {done} of {total}", end="\n" if done >= total else "", file=sys.stderr, flush=True)

    return told


# ---- judging rows ------------------------------------------------------------------------------------------------


def run(arguments: Arguments) -> int:
    """breakfix judges run"""
    from breakfix.core import Verdict
    from breakfix.judges.ask import MEASURES, failed, heard
    from breakfix.judges.catalogue import find

    failures: list[str] = []
    rows = list(_rows(arguments.rows, MEASURES[find(arguments.name).measures].expect))
    if not rows and arguments.rows != "-":  # what a filter passes on may be nothing
        raise DataError(f"{arguments.rows}: no rows; expected JSON lines with prompt and response")
    with output.to_stderr():
        judge = _open(arguments.name, arguments.model)
    for start in range(0, len(rows), AT_ONCE):
        with output.to_stderr():
            given, spent = heard(judge, rows[start : start + AT_ONCE])
        for verdict in given:
            told = verdict or Verdict(None, "unscored", "not judged: the budget was spent", judge.name)
            failures += [told.reason] if failed(told) else []
            print(_as_line(told) if arguments.json else output.line(f"{told.label}\t{told.reason}"))
        if spent is not None:
            raise spent
    if failures:
        said = f"the judge failed on {len(failures)} of {len(rows)} rows; the first: {failures[0]}"
        if len(failures) == len(rows):
            raise ModelError(said)
        output.note(f"breakfix: {said}")
    return 0


def _as_line(verdict: Verdict) -> str:
    shown = {name: getattr(verdict, name) for name in ("label", "score", "severity", "reason", "judge")}
    return json.dumps(shown)


def _rows(name: str, usual: Expect) -> Iterator[Row]:
    """Every row is read and checked before the first is judged. `usual`: what a row expects that does not say."""
    from breakfix.core import Expect
    from breakfix.judges.ask import row
    from breakfix.judges.labels import json_rows, read_text

    path = Path("stdin" if name == "-" else name)
    text = _stdin() if name == "-" else read_text(path)
    for where, given in json_rows(path, ROW, text):
        told = {key: value for key, value in given.items() if value is not None}
        try:
            expect = Expect(told.pop("expect", usual))
        except ValueError:
            raise DataError(f"{where}: 'expect' is {given['expect']!r}; expected {' | '.join(Expect)}") from None
        yield row(told.pop("prompt"), told.pop("response"), expect=expect, **told)


def _stdin() -> str:
    """Raises DataError where it is not UTF-8; Python may have let such bytes through as lone surrogates."""
    try:
        text = sys.stdin.read()
        text.encode()
    except UnicodeError:
        raise DataError("stdin: not UTF-8; give rows as UTF-8") from None
    return text


# ---- a run's attempts --------------------------------------------------------------------------------------------


def rejudge(arguments: Arguments) -> int:
    """breakfix judges rejudge"""
    from breakfix.judges.catalogue import find
    from breakfix.judges.rejudge import rejudge as again
    from breakfix.ledger import Ledger

    find(arguments.judge)
    folder = places.find(arguments.run)
    with output.to_stderr(), Ledger.open(folder) as ledger:
        judge = _open(arguments.judge, arguments.model, _config(folder))
        record = again(
            ledger,
            judge,
            round=arguments.round,
            progress=lambda done, total: _counter(arguments.judge, total)(done),
        )
    if arguments.json:
        output.as_json({"run": str(folder), **record})
    else:
        _compared(record)
    return 0


def _compared(record: dict[str, Any]) -> None:
    """What `rejudge` found: whether the judges agree, and what each counts."""
    print(output.line(f"{record['judge']} beside {', '.join(record['own'])}, which the run's figures rest on"))
    left_out = "".join(f"; left out: {n:,}, {why}" for why, n in record["left_out"].items())
    print(output.line(f"{record['judged']:,} replies judged now, {record['known']:,} known from before{left_out}"))
    agree, kappa, alpha = record["agree"], record["kappa"], record["alpha"]
    said = [f"agree on {_estimate(agree)} of {agree['n']:,}"] if agree["n"] else ["no reply that both could score"]
    said += [f"{name} {_estimate(one, 'number')}" for name, one in (("κ", kappa), ("α", alpha)) if one["n"]]
    said += [f"{n:,} {what}" for what, n in record["flips"].items()]
    print(output.line("; ".join(said)))
    if not record["rates"]:
        return
    print()
    severe = any(row["severity"] for row in record["rates"])
    output.table(
        ("round", "stage", "share", "n", "own", "new", "own, corrected", "new, corrected", *(["severity"] * severe)),
        [_rate(row, severe) for row in record["rates"]],
        groups=(3, 1, 1, 1, 1, 1, *([1] * severe)),
    )


def _rate(row: dict[str, Any], severe: bool) -> tuple[str, ...]:
    unscored = [row[whose]["unscored"] for whose in ("own", "new")]
    n = f"{row['own']['n']:,}" + (f", {' and '.join(map(str, unscored))} unscored" if any(unscored) else "")
    shares = [_estimate(row[name]) for name in ("own", "new", "own_corrected", "new_corrected")]
    severity: dict[str, Any] = row["severity"] or {"mean": None}
    more = [_estimate(severity["mean"], "number")] if severe else []
    return (str(row["round"]), row["stage"], row["what"], n, *shares, *more)


def _estimate(one: dict[str, Any] | None, unit: str = "share") -> str:
    from breakfix.report.headlines import figure, interval

    if one is None:
        return "–"
    bounds = interval(one, unit)
    return figure(one["value"], unit) + (f" ({bounds})" if bounds else "")


def sheet(arguments: Arguments) -> int:
    """breakfix judges sheet"""
    import random

    from breakfix.judges.rejudge import nothing, seconds
    from breakfix.ledger import Ledger
    from breakfix.report.redaction import check
    from breakfix.report.sheet import sample
    from breakfix.report.sheet import sheet as as_csv

    check(arguments.redaction)
    with Ledger.open(places.find(arguments.run), write=False) as ledger:
        attempts = list(ledger.attempts(round=arguments.round))
        aside = seconds(ledger)  # they judge something else than the run's judge, and broken attempts alone
        later = {id: [v for v in given if v.judge not in aside] for id, given in ledger.later_verdicts().items()}
        rows = sample(attempts, later, arguments.n, random.Random(0))
        if not rows:
            raise UserError(nothing(ledger, arguments.round))
        text = as_csv(rows, ledger.case, arguments.redaction)
    if arguments.output is None:
        print(text, end="")
    else:
        output.save(arguments.output, text)
        output.note(f"wrote {len(rows)} rows to {arguments.output}; fill in the column label")
    if arguments.redaction != "full":
        output.note(f"redaction {arguments.redaction}: nothing to judge by; a person who labels needs --redaction full")
    return 0


# ---- opening -----------------------------------------------------------------------------------------------------


def _open(name: str, model: str | None, config: Config | None = None) -> Judge:
    """The judge, with whatever it asks. `config`: of the run whose endpoints and hardware hold for its models."""
    from breakfix.judges.catalogue import Opener, build

    return build(name, Opener(lambda model: _model(model, config), _embedder, output.note), model)


def _model(name: str, config: Config | None) -> Model:
    from breakfix.cli.chat import locate
    from breakfix.models.open import open_model

    path, usual = locate(name)
    return open_model(path, config or usual)


def _embedder() -> Any:
    from breakfix.cycle import open_embedder

    return open_embedder()


def _config(run: Path) -> Config | None:
    """What the run was last started with."""
    return places.read(run, run)[0] if (run / places.KEPT).is_file() else None
