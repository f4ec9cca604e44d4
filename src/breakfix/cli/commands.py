"""Every command: its name, arguments, help, an example, and the function behind it. A dict you can read.

argparse rather than typer: `--help` costs 50 ms instead of 250, and needs nothing installed. The functions live in
the modules beside this one, which load when their command runs; each takes the parsed arguments and returns the exit
code.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from breakfix import __version__
from breakfix.errors import UserError

Arguments = argparse.Namespace
Function = Callable[[Arguments], int]


class UsageError(UserError):
    """The command line is not valid."""


@dataclass(frozen=True, slots=True)
class Argument:
    """What argparse's add_argument takes."""

    names: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """`target` is "module:function" below breakfix.cli. Every example runs in the tests. `children`: sub-commands, with
    names of their own; without one of them the command itself is meant, or the one that `default` names."""

    name: str
    help: str
    example: str
    target: str
    arguments: tuple[Argument, ...] = ()
    more: str = ""
    children: tuple[Command, ...] = ()
    default: str = ""

    def function(self) -> Function:
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(f"breakfix.cli.{module}"), name)


@dataclass(frozen=True, slots=True)
class Call:
    command: Command
    arguments: Arguments

    def function(self) -> Function:
        """Of the sub-command, if one was given."""
        given = getattr(self.arguments, "sub", None)
        return next((child for child in self.command.children if child.name == given), self.command).function()


def _arg(*names: str, **options: Any) -> Argument:
    return Argument(names, options)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 10")
    return value


_JSON = _arg("--json", action="store_true", help="print JSON")
_RUN = _arg("run", metavar="RUN", nargs="?", type=Path, help="a run's folder (default: the latest one in runs/)")
_ID = _arg("id", metavar="ID", help="a vulnerability's, such as V1")
_BY = _arg("--by", metavar="WHO", help="who makes the edit (default: your login)")
_FOLDER = _arg("--run", metavar="FOLDER", type=Path, help="the run's folder (default: runs/NAME of the config)")
_ROUNDS = _arg(
    "--rounds", metavar="N", type=_positive, help="rounds after the untouched model's (default: the config's)"
)
_JUDGE = _arg("--judge", metavar="NAME", required=True, help="a judge's name, as `breakfix judges` lists them")
_ASKED = _arg("--model", metavar="MODEL", help="the model that a rubric is put to")
_AT = _arg("--round", metavar="N", type=_natural, help="one round (default: all)")
_LEVEL = _arg(
    "--redaction",
    metavar="LEVEL",
    default="public",
    help="what is shown of prompts and replies: public nothing (default), team the first words, full all",
)
_GATE = "Exit code: 0 the gate passes, 10 it fails, 11 the rounds no longer improve the model."
_AGAIN = _arg("--again", action="store_true", help="ask once more where the model failed, and the judge where that did")
_STAGES = {
    "curate": "make a round's training data",
    "train": "train a round's model (SFT, then DPO)",
    "evaluate": "measure a round's model with the benchmarks (`breakfix suites` lists them)",
    "redteam": "attack a round's model",
    "identify": "name a round's weaknesses, and decide the gate",
}


AGAIN = ("evaluate", "redteam")  # stages that ask a model, which may fail
_PRESCRIPTION = _arg(
    "--prescription",
    metavar="FILE",
    type=Path,
    help="learn by this one, which takes the place of the file that identify wrote (docs/vulnerabilities.md)",
)


def _stage(name: str, what: str) -> Command:
    arguments = (
        _arg("target", metavar="RUN_OR_CONFIG", type=Path, help="a run's folder, or a config"),
        _arg("--round", metavar="N", type=_natural, required=True, help="0 is the untouched model"),
        _FOLDER,
        *([_AGAIN] if name in AGAIN else []),
        *([_PRESCRIPTION] if name == "curate" else []),
        _JSON,
    )
    more = f"A stage needs those before it. `breakfix run` does all of them in their order: {', '.join(_STAGES)}."
    return Command(name, f"one stage: {what}", f"breakfix {name} runs/demo --round 1", "runs:stage", arguments, more)


_TRAIN = Command(
    "train",
    f"one stage: {_STAGES['train']}; or a run's data on another model",
    "breakfix train runs/demo --round 1",
    "runs:train",
    (
        _arg("target", metavar="RUN_OR_CONFIG", nargs="?", type=Path, help="a run's folder, or a config"),
        _arg("--round", metavar="N", type=_natural, help="whose model; with --data, whose data (default: the last)"),
        _FOLDER,
        _arg("--data", metavar="RUN", type=Path, help="take the fix data of this run ..."),
        _arg("--model", metavar="MODEL", help="... and train this model on it: a folder, an asset's name or a hub id"),
        _arg("-o", "--output", metavar="FOLDER", type=Path, help="the new run's folder (default: runs/RUN-on-MODEL)"),
        _arg(
            "--own-replies",
            action="store_true",
            help="let MODEL give the benign replies anew, which are else those of the model that RUN began with",
        ),
        _JSON,
    ),
    f"A stage needs those before it. `breakfix run` does all of them in their order: {', '.join(_STAGES)}.\n\n"
    "breakfix train --data runs/demo --model OTHER makes a new run, whose round 0 is OTHER and whose round 1 learnt\n"
    "the rows of runs/demo. Next: breakfix evaluate FOLDER --round 0, the same for round 1, and then\n"
    "breakfix compare FOLDER:0 FOLDER:1",
)
_REDTEAM = Command(
    "redteam",
    f"one stage: {_STAGES['redteam']}; or the catalogue of attacks",
    "breakfix redteam --list",
    "redteam:redteam",
    (
        _arg(
            "target",
            metavar="RUN_OR_CONFIG",
            nargs="?",
            help="a run's folder, or a config; with --replay and --human also any model: a folder, an asset's name, a "
            "hub id, an address or RUN:ROUND",
        ),
        _arg("--round", metavar="N", type=_natural, help="0 is the untouched model"),
        _FOLDER,
        _AGAIN,
        _arg("--list", action="store_true", help="show every attack: family, persona, turns, access, queries, paper"),
        _arg(
            "--table",
            metavar="RUN:ROUND",
            nargs="+",
            help="attack success by family and persona, of these models side by side; each may be NAME=RUN:ROUND",
        ),
        _arg(
            "--markdown",
            metavar="FILE",
            type=Path,
            help="write there: with --list the catalogue, with examples; with --table the table",
        ),
        _arg("--save", metavar="FILE", type=Path, help="write what a round's red team asked there, as a set to replay"),
        _arg("--with-replies", action="store_true", help="with --save: what the model said, too"),
        _arg("--replay", metavar="FILE", type=Path, help="put a saved set again, and compare with what it came to"),
        _arg("--human", action="store_true", help="talk to the model yourself, and mark what breaks"),
        _arg(
            "--split",
            choices=("train", "dev"),
            help="with --human: of goals in your own words (default: you are asked)",
        ),
        _arg(
            "--max-new-tokens",
            metavar="N",
            type=_positive,
            help="length of a reply, with --human (default: 200) and --replay (default: what it was then)",
        ),
        _JSON,
    ),
    f"A stage needs those before it. `breakfix run` does all of them in their order: {', '.join(_STAGES)}.\n\n"
    "breakfix redteam runs/demo --round 1 attacks round 1's model.\n"
    "breakfix redteam --table runs/demo:0 runs/demo:2 shows which attacks got through, before and after.\n"
    "breakfix redteam runs/demo --round 0 --save attacks.jsonl keeps what was asked of the untouched model;\n"
    "breakfix redteam --replay attacks.jsonl runs/demo --round 1 asks it of round 1's, and pairs the outcomes.\n"
    "breakfix redteam --human runs/demo --round 1 lets you talk to it; /help lists what you may do there.",
)
_PROBE = Command(
    "probe-weights",
    "what an owner of a model's weights must do to undo its alignment",
    "breakfix probe-weights runs/demo --round 1 --probes ablation",
    "probes:probe_weights",
    (
        _arg(
            "target", metavar="RUN_OR_MODEL", help="a run's folder, or any model on disk: a folder, an asset, a hub id"
        ),
        _arg("--round", metavar="N", type=_natural, help="of the run (default: the last that was trained)"),
        _arg("--probes", metavar="NAMES", default="", help="some of gcg,ablation,finetune (default: all)"),
        _arg("--seeds", metavar="LIST", default="0", help="such as 0,1,2: each probe once for each (default: 0)"),
        _arg("--cases", metavar="N", type=_positive, default=48, help="dev requests it is measured on (%(default)s)"),
        _arg("--steps", metavar="N", type=_positive, default=100, help="most steps of gcg (%(default)s)"),
        _arg("--candidates", metavar="N", type=_positive, default=64, help="suffixes scored in a step (%(default)s)"),
        _arg("--rows", metavar="LIST", default="10,50,100", help="of fine-tuning, each in turn (%(default)s)"),
        _arg(
            "--into",
            metavar="FOLDER",
            type=Path,
            help="keeps what is found, so that nothing is paid twice (default: probes/ in the run's folder, or else "
            "runs/probes/measured)",
        ),
        _JSON,
        _arg(
            "-o", "--output", metavar="FILE", type=Path, help="write the result there: a page if it is .md, else JSON"
        ),
    ),
    "Weights whose alignment was undone are deleted once they are measured. A suffix that gcg finds is kept, with a\n"
    "set of what was asked; `breakfix redteam --replay SET OTHER_MODEL` shows whether it moves to another model.",
)
_OWN = {"train": _TRAIN, "redteam": _REDTEAM}  # stages whose command does more
_ALL = (
    Command(
        "doctor",
        "is this machine ready?",
        "breakfix doctor",
        "tools:doctor",
        (
            _arg(
                "what",
                metavar="CONFIG",
                nargs="?",
                help="ask the remote models that this config names, too; or the one at this address",
            ),
            _JSON,
        ),
    ),
    Command(
        "demo",
        "the whole cycle on the embedded 135M model, into runs/demo",
        "breakfix demo",
        "runs:demo",
        (
            _arg("--run", metavar="FOLDER", type=Path, default=Path("runs/demo"), help="default: %(default)s"),
            _ROUNDS,
            _JSON,
        ),
        "Exit code 0 when the cycle is complete, whatever the gate says.",
    ),
    Command(
        "init",
        "write a config that shows every setting with its default",
        "breakfix init my-run.yaml",
        "tools:init",
        (
            _arg(
                "path", metavar="PATH", nargs="?", type=Path, default=Path("breakfix.yaml"), help="default: %(default)s"
            ),
            _arg("--force", action="store_true", help="write over a file that is there"),
        ),
    ),
    Command(
        "run",
        "run the cycle, or go on where it stopped",
        "breakfix run my-run.yaml --rounds 1",
        "runs:run",
        (
            _arg("config", metavar="CONFIG", type=Path, help="a config, or the folder of a run to go on with"),
            _FOLDER,
            _ROUNDS,
            _JSON,
        ),
        _GATE,
    ),
    Command(
        "status",
        "which stages are done, running or interrupted",
        "breakfix status runs/demo",
        "look:status",
        (_RUN, _JSON),
    ),
    Command(
        "report",
        "a run's figures as a table, JSON, HTML or Markdown",
        "breakfix report runs/demo --html demo.html",
        "look:report",
        (
            _RUN,
            _JSON,
            _LEVEL,
            _arg("--html", metavar="FILE", type=Path, help="write the HTML report there"),
            _arg("--markdown", metavar="FILE", type=Path, help="write the headline figures there, as a Markdown table"),
            _arg(
                "--languages",
                action="store_true",
                help="the table by language instead, printed and as Markdown: harmful answered, twins refused, and "
                "whether the model speaks it, untouched and last",
            ),
        ),
    ),
    Command(
        "compare",
        "models side by side: paired changes, with tests",
        "breakfix compare runs/demo:0 runs/demo:2 --html side-by-side.html",
        "compare:compare",
        (
            _arg(
                "models",
                metavar="MODEL",
                nargs="+",
                help="RUN:ROUND, RUN (its last round), a folder, an asset's name, a hub id or an address; MODEL@q8_0 "
                "is the same with 8-bit weights, NAME=MODEL heads its column with NAME. The first is the reference",
            ),
            _arg(
                "--config",
                metavar="FILE",
                type=Path,
                help="whose suites measure what no run has measured (default: the first run's, or else the defaults)",
            ),
            _arg(
                "--into",
                metavar="FOLDER",
                type=Path,
                help="keeps what is measured now, so that nothing is paid twice (default: compare/ in the first run's "
                "folder, or else runs/compare/measured)",
            ),
            _arg("--redteam", action="store_true", help="attack what is measured now, too"),
            _arg(
                "--judge", metavar="NAME@VERSION", help="count by this judge's verdicts (see `breakfix judges rejudge`)"
            ),
            _arg("--full", action="store_true", help="every row, also of the parts in which nothing changed"),
            _JSON,
            _arg("--html", metavar="FILE", type=Path, help="write an HTML page there"),
            _arg("--latex", metavar="FILE", type=Path, help="write LaTeX tables there (booktabs)"),
            _arg("--markdown", metavar="FILE", type=Path, help="write Markdown tables there"),
        ),
        "Rounds of a run are read as it measured them; other models are measured now.",
    ),
    *(_OWN.get(name) or _stage(name, what) for name, what in _STAGES.items()),
    _PROBE,
    Command(
        "chat",
        "talk to a model in the terminal",
        "breakfix chat runs/demo:1 --max-new-tokens 60",
        "chat:chat",
        (
            _arg(
                "model",
                metavar="MODEL",
                help="an asset's name, a folder, a hub id, an address, or RUN:ROUND such as runs/demo:2",
            ),
            _arg("--system", metavar="TEXT", default="", help="a system prompt"),
            _arg("--max-new-tokens", metavar="N", type=_positive, default=200, help="length of a reply (%(default)s)"),
            _arg("--temperature", metavar="T", type=_temperature, default=0.0, help="0, the default, is greedy"),
        ),
        "In the chat: /reset begins anew, /undo takes the last turn back, /quit ends it.",
    ),
    Command(
        "assets",
        "the models and data sets that are known, and where they are",
        "breakfix assets",
        "tools:assets",
        (_arg("--fetch", metavar="NAME", help="download it now"), _JSON),
    ),
    Command(
        "judges",
        "the judges, and how far each agrees with people",
        "breakfix judges",
        "judges:overview",
        (_JSON,),
        "Words that name a set of labels: pyrit-refusal, pyrit-objective, pyrit-severity.",
        (
            Command(
                "calibrate",
                "measure a judge against people's labels, and keep the result on its card",
                "breakfix judges calibrate labels.jsonl --judge refusal",
                "judges:calibrate",
                (
                    _arg("labels", metavar="LABELS", help="JSON lines, a sheet (CSV), or the name of a set"),
                    _arg("--judge", metavar="NAME", help="a judge's name (default: refusal, or that of a named set)"),
                    _ASKED,
                    _arg("-o", "--output", metavar="FILE", type=Path, help="the card to write or add to (yours)"),
                    _arg("--note", metavar="TEXT", default="", help="what a reader of the card has to know"),
                    _JSON,
                ),
                'A line: {"prompt": ..., "response": ..., "label": "full"}; perhaps category, language, source, model.',
            ),
            Command(
                "card",
                "a judge's card: accuracy, kappa, F1, by category and language, on which labels",
                "breakfix judges card refusal",
                "judges:card",
                (_arg("name", metavar="NAME", help="a judge's name"), _JSON),
            ),
            Command(
                "run",
                "judge rows of prompt and response",
                "breakfix judges run refusal rows.jsonl --json",
                "judges:run",
                (
                    _arg("name", metavar="NAME", help="a judge's name"),
                    _arg("rows", metavar="ROWS", help="JSON lines with prompt and response; - reads stdin"),
                    _ASKED,
                    _arg("--json", action="store_true", help="one JSON object a line, in the rows' order"),
                ),
            ),
            Command(
                "rejudge",
                "judge a run's stored replies anew; no target model runs",
                "breakfix judges rejudge runs/demo --judge refusal",
                "judges:rejudge",
                (_RUN, _JUDGE, _ASKED, _AT, _JSON),
            ),
            Command(
                "sheet",
                "replies of a run for a person to label, as CSV",
                "breakfix judges sheet runs/demo -n 20 -o sheet.csv",
                "judges:sheet",
                (
                    _RUN,
                    _arg("-o", "--output", metavar="FILE", type=Path, help="write the CSV there (default: stdout)"),
                    _arg("-n", metavar="N", type=_positive, default=60, help="rows (%(default)s)"),
                    _AT,
                    _LEVEL,
                ),
                "Fill in the column label, then: breakfix judges calibrate FILE --judge NAME.",
            ),
        ),
    ),
    Command(
        "suites",
        "the benchmarks that are built in: what, how many, how they are measured, and whether they are here",
        "breakfix suites",
        "suites:overview",
        (_JSON,),
    ),
    Command(
        "gate",
        "what the gate decided of a round, with every number: for CI",
        "breakfix gate runs/demo --json",
        "gate:gate",
        (
            _RUN,
            _arg("--round", metavar="N", type=_natural, help="default: the last round that it has judged"),
            _JSON,
            _arg("--junit", metavar="FILE", type=Path, help="write it there as JUnit XML"),
            _arg("--sarif", metavar="FILE", type=Path, help="write what fails there as SARIF 2.1.0"),
        ),
        _GATE,
    ),
    Command(
        "vulns",
        "a run's weaknesses by rank, each with its history; one whole; and what people do to them",
        "breakfix vulns runs/demo",
        "vulns:all_of_them",
        more="`breakfix vulns RUN` is `breakfix vulns list RUN`.",
        children=(
            Command(
                "list",
                "all vulnerabilities, the gravest first",
                "breakfix vulns list runs/demo --status open",
                "vulns:all_of_them",
                (
                    _RUN,
                    _arg("--round", metavar="N", type=_natural, help="default: the last that was identified"),
                    _arg("--status", choices=("open", "fixed", "reopened"), help="those alone"),
                    _arg("--markdown", metavar="FILE", type=Path, help="write the table there"),
                    _JSON,
                ),
                "A round in brackets did not measure it.",
            ),
            Command(
                "show",
                "one vulnerability: what it means, why it is open or fixed, its figures, history, notes and evidence",
                "breakfix vulns show V1 runs/demo",
                "vulns:one",
                (
                    _ID,
                    _RUN,
                    _arg("--reveal", action="store_true", help="show what was asked and said, too: it may be harmful"),
                    _arg(
                        "--reproduce", action="store_true", help="seek the shortest case that breaks, asking the model"
                    ),
                    _JSON,
                ),
            ),
            Command(
                "rename",
                "give it a name, for good",
                'breakfix vulns rename V1 runs/demo "Declines to talk of bread"',
                "edits:rename",
                (_ID, _RUN, _arg("name", metavar="NAME", help="the new name"), _BY),
            ),
            Command(
                "note",
                "keep a remark on it",
                'breakfix vulns note V1 runs/demo "seen in the field, too"',
                "edits:note",
                (_ID, _RUN, _arg("text", metavar="TEXT", help="the remark"), _BY),
            ),
            Command(
                "assign",
                "say who looks after it",
                "breakfix vulns assign V1 runs/demo Ada",
                "edits:assign",
                (_ID, _RUN, _arg("who", metavar="WHO", help='a name; "" is nobody'), _BY),
            ),
            Command(
                "merge",
                "make one of two: the first stays, with both suites",
                "breakfix vulns merge V1 V2 runs/demo",
                "edits:merge",
                (_ID, _arg("other", metavar="OTHER", help="the id of the one that goes"), _RUN, _BY),
                "Only those of a kind can be merged; later rounds count them as one.",
            ),
            Command(
                "split",
                "make two of one: some cases of its suite become a new vulnerability",
                "breakfix vulns split V1 runs/demo --topic bread",
                "edits:split",
                (
                    _ID,
                    _RUN,
                    _arg("--cases", metavar="IDS", help="those to take out: ids of cases, with commas between"),
                    _arg("--topic", metavar="WORD", help="take out the cases with this in the request"),
                    _arg("--name", metavar="NAME", help="of the new one (default: the old name and the topic)"),
                    _BY,
                ),
            ),
            Command(
                "undo",
                "take back the last edit",
                "breakfix vulns undo runs/demo",
                "edits:undo",
                (_RUN, _BY),
                "A rename, merge or split stays once a later round has begun with it.",
            ),
        ),
        default="list",
    ),
    Command(
        "trace",
        "where a training row, attempt, case, vulnerability, model or decision came from, and what came of it",
        "breakfix trace V1 runs/demo",
        "look:trace",
        (
            _arg("id", metavar="ID", help="as the report and the ledger show it"),
            _RUN,
            _arg(
                "--all", action="store_true", help="every entry (default: six of a kind below each, the others counted)"
            ),
            _JSON,
        ),
    ),
    Command(
        "verify",
        "is a run as it was written? every digest is computed anew: rows, blobs, checkpoints",
        "breakfix verify runs/demo",
        "look:verify",
        (_RUN, _JSON),
        "Exit code: 0 all is as written, 10 something is not, and is named.",
    ),
    Command(
        "dataset",
        "a round's training data as files: rows, a card, Croissant metadata, digests",
        "breakfix dataset runs/demo --redact",
        "dataset:dataset",
        (
            _RUN,
            _arg("--round", metavar="N", type=_positive, help="default: the last round that was curated"),
            _arg("-o", "--output", metavar="FOLDER", type=Path, help="default: dataset/round-N in the run's folder"),
            _arg(
                "--format",
                choices=("jsonl", "parquet", "datasets"),
                default="jsonl",
                help="of the rows (%(default)s); datasets: folders for load_from_disk",
            ),
            _arg(
                "--redact",
                action="store_true",
                help="leave out what may hold harmful text: rejected replies, and what an assistant says in a prompt",
            ),
            _JSON,
        ),
    ),
    Command(
        "ledger",
        "bring an older run's ledger up to this version",
        "breakfix ledger upgrade runs/demo",
        "look:ledger",
        (_arg("action", choices=("upgrade",)), _arg("run", metavar="RUN", type=Path, help="a run's folder")),
    ),
    Command(
        "schema",
        "the JSON schema of the config, the report, a comparison or a line of an attack set",
        "breakfix schema config",
        "tools:schema",
        (_arg("what", choices=("config", "report", "compare", "attack-set")),),
    ),
)
COMMANDS: dict[str, Command] = {command.name: command for command in _ALL}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def parse(argv: Sequence[str]) -> Call:
    """Raises UsageError; SystemExit after --help and --version."""
    argv = _in_full(argv)
    _refuse_unknown(argv)
    arguments = parser().parse_args(argv or ["--help"])
    return Call(COMMANDS[arguments.command], arguments)


def _in_full(argv: Sequence[str]) -> Sequence[str]:
    """`vulns RUN` → `vulns list RUN`. What is nearly a sub-command's name, and no folder, is left to be refused."""
    command = COMMANDS.get(argv[0]) if argv else None
    if command is None or not command.default:
        return argv
    word, known = (argv[1] if len(argv) > 1 else ""), [child.name for child in command.children]
    mistyped = word.isalpha() and bool(difflib.get_close_matches(word, known, n=1)) and not Path(word).exists()
    if word in (*known, "-h", "--help") or mistyped:
        return argv
    return [argv[0], command.default, *argv[1:]]


def _refuse_unknown(argv: Sequence[str]) -> None:
    """With the nearest known; argparse would rather complain of what is missing beside it."""
    if not argv:
        return
    first = argv[0]
    if first.startswith("-"):
        if first not in _ROOT:
            raise UsageError(f"no option {first!r} before the command; `breakfix --help` lists the commands")
    elif first not in COMMANDS:
        raise UsageError(
            f"no command {first!r}; {_hint(first, COMMANDS, 'breakfix ') or '`breakfix --help` lists them'}"
        )
    else:
        command, words, said = COMMANDS[first], argv[1:], first
        if command.children and words and not words[0].startswith("-"):
            children = {child.name: child for child in command.children}
            if words[0] not in children:
                near = _hint(words[0], children, f"breakfix {first} ") or f"known: {', '.join(children)}"
                raise UsageError(f"`breakfix {first}` has no command {words[0]!r}; {near}")
            command, words, said = children[words[0]], words[1:], f"{first} {words[0]}"
        _refuse_options(command, words, said)


def _refuse_options(command: Command, words: Sequence[str], said: str) -> None:
    known = ["--help", *(name for argument in command.arguments for name in argument.names)]
    for word in (word.partition("=")[0] for word in words if word.startswith("--")):
        if word == "--":
            return
        if word not in known:
            options = [name for name in known if name.startswith("--")]
            hint = _hint(word, options) or f"see `breakfix {said} --help`"
            raise UsageError(f"`breakfix {said}` has no option {word!r}; {hint}")


_ROOT = ("-h", "--help", "--version")


def _hint(word: str, known: Iterable[str], before: str = "") -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean `{before}{near[0]}`?" if near else ""


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    root = _Parser(
        prog="breakfix",
        description="The break-fix cycle of safety post-training: curate, train, evaluate, red team, identify; again,\n"
        "until the gate passes.",
        epilog="Start with `breakfix doctor` and `breakfix demo`. For a run of your own: `breakfix init`, then\n"
        "`breakfix run breakfix.yaml`; interrupted, the same command goes on.\n\nExample:  breakfix demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    root.add_argument("--version", action="version", version=f"breakfix {__version__}")
    _add(root, COMMANDS.values(), "commands", "command")
    return root


def _add(to: argparse.ArgumentParser, commands: Iterable[Command], title: str, dest: str) -> None:
    """Sub-parsers of `to`; one of them is required unless `to` is a command itself."""
    children = to.add_subparsers(title=title, dest=dest, metavar="COMMAND", required=dest == "command")
    for command in commands:
        child = children.add_parser(
            command.name,
            help=command.help,
            description=command.help[0].upper() + command.help[1:] + ("" if command.help.endswith("?") else "."),
            epilog="\n\n".join(filter(None, (command.more, f"Example:  {command.example}"))),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        for argument in command.arguments:
            child.add_argument(*argument.names, **argument.options)
        if command.children:
            _add(child, command.children, "sub-commands", "sub")
