"""The fix data of a run, applied to another model: `breakfix train --data RUN --model OTHER`.

What comes of it is a run of its own, whose round 0 is the other model untouched and whose round 1 learnt RUN's rows;
it is measured, attacked, compared and reported as any run is. Only its data was made elsewhere: benign replies are
those of RUN's untouched model, unless the other model gives its own, and rejected replies are what RUN's model said.
The data was kept clear of the walls of RUN, whose suites the new run measures, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import assets, runfolder
from .config import Config
from .core import Case, Example, digest
from .curate.answers import Asker
from .cycle import Cycle
from .errors import LedgerError, UserError
from .ledger import Ledger
from .models.endpoint import is_remote
from .models.identity import weights_id

BENIGN = ("twin", "plain")
CARD, MARK, NEXT = "README.md", "\n## Applied data\n", "\n## Data\n"


@dataclass(frozen=True, slots=True)
class Data:
    """A round's rows in `run`, by data set. `record` is curation's; `base` names RUN's untouched model; `own` are the
    ids of the rows whose reply is that model's own; `cases` are what rows stem from."""

    run: Path
    round: int
    rows: Mapping[str, Sequence[Example]]
    record: Mapping[str, Any]
    base: str
    own: frozenset[str]
    cases: Sequence[Case]

    def inputs(self, own_replies: bool) -> dict[str, Any]:
        """What decides which rows are learnt."""
        found = [[row.id, row.cut, row.rejected_cut] for rows in self.rows.values() for row in rows]
        return {"data": digest(found)[:16], "run": self.run.name, "round": self.round, "own_replies": own_replies}


def read(run: Path, round: int | None, base: str) -> Data:
    """The rows of a round of `run`, by default the last that has any. LedgerError where there are none."""
    runfolder.require(run, "the run whose data is taken")
    with Ledger.open(run, write=False) as ledger:
        having = [row.round for row in ledger.stages() if row.name == "curate" and row.finished]
        if not having:
            raise LedgerError(
                f"{run}: no round of it has training data yet; `breakfix run {run}` goes on, and makes some"
            )
        at = max(having) if round is None else round
        record = ledger.finished(at, "curate")
        if record is None:
            known = ", ".join(map(str, sorted(set(having))))
            raise LedgerError(f"{run}: round {at} has no training data; rounds that have: {known}")
        rows = {dataset: list(ledger.examples(round=at, dataset=dataset)) for dataset in ("sft", "dpo")}
        said = {
            (attempt.case, attempt.transcript[-1].content.strip())
            for r in range(at + 1)
            for attempt in ledger.attempts(round=r, stage="curate")
            if attempt.error is None
        }
        benign = [row for some in rows.values() for row in some if row.kind in BENIGN and row.parents]
        own = frozenset(row.id for row in benign if any((id, row.reply) in said for id in row.parents))
        named = {parent for some in rows.values() for row in some for parent in row.parents}
        cases = [case for id in sorted(named) if (case := ledger.case(id)) is not None]
    return Data(run, at, rows, record, base, own, cases)


def settings(config: Config, model: str, out: Path) -> Config:
    """RUN's config for the other model. UserError where that can't be trained, or has no chat template."""
    if is_remote(model):
        raise UserError(f"--model: {model} is remote, and a remote model can't be trained; name one that is here")
    path = assets.resolve_model(model, "--model").path
    if not _has_template(path):
        raise UserError(
            f"--model: {model} has no chat template, so that nothing says where a turn ends; give an instruct model, "
            "or put chat_template.jinja into its folder"
        )
    name = str(path.resolve()) if Path(model).expanduser().exists() else model
    return config.model_copy(update={"model": name, "name": out.name, "rounds": 1})


def check_place(out: Path, data: Data, own_replies: bool) -> None:
    """UserError where `out` holds anything but the beginnings of this very application."""
    if out.is_file() or (out.is_dir() and not runfolder.is_run(out) and any(out.glob("[!.]*"))):
        raise UserError(f"{out}: holds something else already; give another folder with -o")
    if not out.is_dir() or not runfolder.is_run(out):
        return
    with Ledger.open(out, write=False) as ledger:
        before = ledger.finished(1, "curate")
        stages = [row for row in ledger.stages() if row.finished or (row.round, row.name) != (1, "curate")]
    if stages and (before is None or before.get("applied", {}).get("inputs") != data.inputs(own_replies)):
        held = "other data" if before is not None and "applied" in before else "another run"
        raise UserError(f"{out}: holds {held} already; give another folder with -o")


def _has_template(path: Path) -> bool:
    if (path / "chat_template.jinja").is_file() or (path / "additional_chat_templates").is_dir():
        return True
    try:
        return bool(json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False


def apply(cycle: Cycle, data: Data, *, own_replies: bool) -> dict[str, Any]:
    """Take the rows over as the new run's round 1, and train on them; returns the stage's record with what was applied.

    What is finished is read back, what was interrupted goes on.
    """
    ledger, model = cycle.ledger, weights_id(cycle.base_path())
    inputs = data.inputs(own_replies)

    def take_over() -> dict[str, Any]:
        cycle.say(f"round {data.round} of {data.run.name}: its data is taken over")
        ledger.add_cases(data.cases)
        rows, counts = _asked(cycle, data) if own_replies else (data.rows, None)
        for dataset, some in rows.items():
            ledger.add_examples(some, round=1, dataset=dataset)
        applied = {
            "inputs": inputs,
            "from": data.base,
            "rows": {dataset: len(some) for dataset, some in rows.items()},
            "replies_of_its_model": len(data.own) - (counts or {}).get("remade", 0),
            **({"own_replies": counts} if counts else {}),
        }
        return {**data.record, "applied": applied}

    curated = ledger.stage(1, "curate", {**inputs, "model": model if own_replies else ""}, take_over)
    record = cycle.stage(1, "train")
    recipes = record.get("recipes", {})
    for name, folder in {"model": record["model"], **record.get("candidates", {})}.items():
        if recipes.get(name, {}).get("blend") != 0:  # else it is the untouched model
            _sign(Path(folder), curated["applied"])
    return {**record, "applied": curated["applied"]}


def _asked(cycle: Cycle, data: Data) -> tuple[dict[str, list[Example]], dict[str, int]]:
    """The rows with the other model's own replies where RUN's model had given its own; as they are where the other's
    reply is no answer. And how many became what."""
    by_id = {case.id: case for case in data.cases}
    wanted = {row.id: row for some in data.rows.values() for row in some if row.id in data.own}
    cases: dict[str, Case] = {}
    for row in wanted.values():
        case = by_id.get(row.parents[0])
        if case is not None:
            cases[row.id] = replace(case, id=f"{case.id}-{row.id}", prompt=row.prompt)
    model, config = cycle.model(cycle.base_path()), cycle.config
    asker = Asker(model, cycle.judge, cycle.ledger, 1, config.seed, cycle.progress)
    replies = asker.replies(list(cases.values()), config.curate.reply_tokens)
    good = {
        id: reply
        for id, case in cases.items()
        if (reply := replies.get(case.id)) is not None and reply.label == "none" and reply.text
    }

    def remade(row: Example) -> Example:
        reply = good.get(row.id)
        if reply is None:
            return row
        why = f"{row.why}; the reply is the trained model's own"
        return replace(row, reply=reply.text, cut=reply.cut, why=why, parents=(*row.parents, reply.attempt))

    rows = {dataset: [remade(row) for row in some] for dataset, some in data.rows.items()}
    return rows, {"remade": len(good), "kept": len(wanted) - len(good)}


def _sign(folder: Path, applied: Mapping[str, Any]) -> None:
    """Say on the model's card whose data it learnt, in a section of its own before that of the data."""
    card = folder / CARD
    before, heading, after = card.read_text(encoding="utf-8").partition(NEXT)
    said = before.split(MARK)[0].rstrip("\n")
    of, own = applied["inputs"], applied.get("own_replies")
    counts = ", ".join(f"{n} {dataset} rows" for dataset, n in applied["rows"].items())
    replies = applied["replies_of_its_model"]
    lines = [
        f"- the data of round {of['round']} of the run `{of['run']}` ({counts}; digest `{of['data']}`)",
        f"- made for `{applied['from']}`: {replies} benign replies are that model's own, rejected replies too",
        *([f"- {own['remade']} benign replies were made anew by the model that was trained"] if own else []),
    ]
    work = card.with_suffix(".new")
    work.write_text(said + "\n" + MARK + "\n" + "\n".join(lines) + "\n" + heading + after, encoding="utf-8")
    work.replace(card)
