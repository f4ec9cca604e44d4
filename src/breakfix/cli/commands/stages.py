"""The five stages one by one, two of which do more; and probes of the weights."""

from __future__ import annotations

from pathlib import Path

from breakfix.cli.commands.base import FOLDER, JSON, Command, arg, natural, positive

_STAGES = {
    "curate": "make a round's training data",
    "train": "train a round's model (SFT, then DPO)",
    "evaluate": "measure a round's model with the benchmarks (`breakfix suites` lists them)",
    "redteam": "attack a round's model",
    "identify": "name a round's weaknesses, and decide the gate",
}
AGAIN = ("evaluate", "redteam")  # stages that ask a model, which may fail
_AGAIN = arg("--again", action="store_true", help="ask once more where the model failed, and the judge where that did")
_PRESCRIPTION = arg(
    "--prescription",
    metavar="FILE",
    type=Path,
    help="learn by this one, which takes the place of the file that identify wrote (docs/vulnerabilities.md)",
)


def _stage(name: str, what: str) -> Command:
    arguments = (
        arg("target", metavar="RUN_OR_CONFIG", type=Path, help="a run's folder, or a config"),
        arg("--round", metavar="N", type=natural, required=True, help="0 is the untouched model"),
        FOLDER,
        *([_AGAIN] if name in AGAIN else []),
        *([_PRESCRIPTION] if name == "curate" else []),
        JSON,
    )
    more = f"A stage needs those before it. `breakfix run` does all of them in their order: {', '.join(_STAGES)}."
    return Command(name, f"one stage: {what}", f"breakfix {name} runs/demo --round 1", "runs:stage", arguments, more)


_TRAIN = Command(
    "train",
    f"one stage: {_STAGES['train']}; or a run's data on another model",
    "breakfix train runs/demo --round 1",
    "runs:train",
    (
        arg("target", metavar="RUN_OR_CONFIG", nargs="?", type=Path, help="a run's folder, or a config"),
        arg("--round", metavar="N", type=natural, help="whose model; with --data, whose data (default: the last)"),
        FOLDER,
        arg("--data", metavar="RUN", type=Path, help="take the fix data of this run ..."),
        arg("--model", metavar="MODEL", help="... and train this model on it: a folder, an asset's name or a hub id"),
        arg("-o", "--output", metavar="FOLDER", type=Path, help="the new run's folder (default: runs/RUN-on-MODEL)"),
        arg(
            "--own-replies",
            action="store_true",
            help="let MODEL give the benign replies anew, which are else those of the model that RUN began with",
        ),
        JSON,
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
        arg(
            "target",
            metavar="RUN_OR_CONFIG",
            nargs="?",
            help="a run's folder, or a config; with --replay and --human also any model: a folder, an asset's name, a "
            "hub id, an address or RUN:ROUND",
        ),
        arg("--round", metavar="N", type=natural, help="0 is the untouched model"),
        FOLDER,
        _AGAIN,
        arg("--list", action="store_true", help="show every attack: family, persona, turns, access, queries, paper"),
        arg(
            "--table",
            metavar="RUN:ROUND",
            nargs="+",
            help="attack success by family and persona, of these models side by side; each may be NAME=RUN:ROUND",
        ),
        arg(
            "--markdown",
            metavar="FILE",
            type=Path,
            help="write there: with --list the catalogue, with examples; with --table the table",
        ),
        arg("--save", metavar="FILE", type=Path, help="write what a round's red team asked there, as a set to replay"),
        arg("--with-replies", action="store_true", help="with --save: what the model said, too"),
        arg("--replay", metavar="FILE", type=Path, help="put a saved set again, and compare with what it came to"),
        arg("--human", action="store_true", help="talk to the model yourself, and mark what breaks"),
        arg(
            "--split",
            choices=("train", "dev"),
            help="with --human: of goals in your own words (default: you are asked)",
        ),
        arg(
            "--max-new-tokens",
            metavar="N",
            type=positive,
            help="length of a reply, with --human (default: 200) and --replay (default: what it was then)",
        ),
        JSON,
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
        arg(
            "target", metavar="RUN_OR_MODEL", help="a run's folder, or any model on disk: a folder, an asset, a hub id"
        ),
        arg("--round", metavar="N", type=natural, help="of the run (default: the last that was trained)"),
        arg("--probes", metavar="NAMES", default="", help="some of gcg,ablation,finetune (default: all)"),
        arg("--seeds", metavar="LIST", default="0", help="such as 0,1,2: each probe once for each (default: 0)"),
        arg("--cases", metavar="N", type=positive, default=48, help="dev requests it is measured on (%(default)s)"),
        arg("--steps", metavar="N", type=positive, default=100, help="most steps of gcg (%(default)s)"),
        arg("--candidates", metavar="N", type=positive, default=64, help="suffixes scored in a step (%(default)s)"),
        arg("--rows", metavar="LIST", default="10,50,100", help="of fine-tuning, each in turn (%(default)s)"),
        arg(
            "--into",
            metavar="FOLDER",
            type=Path,
            help="keeps what is found, so that nothing is paid twice (default: probes/ in the run's folder, or else "
            "runs/probes/measured)",
        ),
        JSON,
        arg("-o", "--output", metavar="FILE", type=Path, help="write the result there: a page if it is .md, else JSON"),
    ),
    "Weights whose alignment was undone are deleted once they are measured. A suffix that gcg finds is kept, with a\n"
    "set of what was asked; `breakfix redteam --replay SET OTHER_MODEL` shows whether it moves to another model.",
)
_OWN = {"train": _TRAIN, "redteam": _REDTEAM}  # stages whose command does more
COMMANDS = (
    *(_OWN.get(name) or _stage(name, what) for name, what in _STAGES.items()),
    _PROBE,
)
