"""Models, who judges them, and what they are measured with: chat to suites."""

from __future__ import annotations

import argparse
from pathlib import Path

from breakfix.cli.commands.base import JSON, LEVEL, RUN, Command, arg, natural, positive


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 10")
    return value


_JUDGE = arg("--judge", metavar="NAME", required=True, help="a judge's name, as `breakfix judges` lists them")
_ASKED = arg("--model", metavar="MODEL", help="the model that a rubric is put to")
_AT = arg("--round", metavar="N", type=natural, help="one round (default: all)")
COMMANDS = (
    Command(
        "chat",
        "talk to a model in the terminal",
        "breakfix chat runs/demo:1 --max-new-tokens 60",
        "chat:chat",
        (
            arg(
                "model",
                metavar="MODEL",
                help="an asset's name, a folder, a hub id, an address, or RUN:ROUND such as runs/demo:2",
            ),
            arg("--system", metavar="TEXT", default="", help="a system prompt"),
            arg("--max-new-tokens", metavar="N", type=positive, default=200, help="length of a reply (%(default)s)"),
            arg("--temperature", metavar="T", type=_temperature, default=0.0, help="0, the default, is greedy"),
        ),
        "In the chat: /reset begins anew, /undo takes the last turn back, /quit ends it.",
    ),
    Command(
        "assets",
        "the models and data sets that are known, and where they are",
        "breakfix assets",
        "tools:assets",
        (arg("--fetch", metavar="NAME", help="download it now"), JSON),
    ),
    Command(
        "judges",
        "the judges, and how far each agrees with people",
        "breakfix judges",
        "judges:overview",
        (JSON,),
        "Words that name a set of labels: pyrit-refusal, pyrit-objective, pyrit-severity.",
        (
            Command(
                "calibrate",
                "measure a judge against people's labels, and keep the result on its card",
                "breakfix judges calibrate labels.jsonl --judge refusal",
                "judges:calibrate",
                (
                    arg("labels", metavar="LABELS", help="JSON lines, a sheet (CSV), or the name of a set"),
                    arg("--judge", metavar="NAME", help="a judge's name (default: refusal, or that of a named set)"),
                    _ASKED,
                    arg("-o", "--output", metavar="FILE", type=Path, help="the card to write or add to (yours)"),
                    arg("--note", metavar="TEXT", default="", help="what a reader of the card has to know"),
                    JSON,
                ),
                'A line: {"prompt": ..., "response": ..., "label": "full"}; perhaps category, language, source, model.',
            ),
            Command(
                "card",
                "a judge's card: accuracy, kappa, F1, by category and language, on which labels",
                "breakfix judges card refusal",
                "judges:card",
                (arg("name", metavar="NAME", help="a judge's name"), JSON),
            ),
            Command(
                "run",
                "judge rows of prompt and response",
                "breakfix judges run refusal rows.jsonl --json",
                "judges:run",
                (
                    arg("name", metavar="NAME", help="a judge's name"),
                    arg("rows", metavar="ROWS", help="JSON lines with prompt and response; - reads stdin"),
                    _ASKED,
                    arg("--json", action="store_true", help="one JSON object a line, in the rows' order"),
                ),
            ),
            Command(
                "rejudge",
                "judge a run's stored replies anew; no target model runs",
                "breakfix judges rejudge runs/demo --judge refusal",
                "judges:rejudge",
                (RUN, _JUDGE, _ASKED, _AT, JSON),
            ),
            Command(
                "sheet",
                "replies of a run for a person to label, as CSV",
                "breakfix judges sheet runs/demo -n 20 -o sheet.csv",
                "judges:sheet",
                (
                    RUN,
                    arg("-o", "--output", metavar="FILE", type=Path, help="write the CSV there (default: stdout)"),
                    arg("-n", metavar="N", type=positive, default=60, help="rows (%(default)s)"),
                    _AT,
                    LEVEL,
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
        (JSON,),
    ),
)
