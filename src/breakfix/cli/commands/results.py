"""What a run came to, and files to take along: gate to schema."""

from __future__ import annotations

from pathlib import Path

from breakfix.cli.commands.base import GATE, JSON, RUN, Command, arg, natural, positive, words

_ID = arg("id", metavar="ID", type=words, help="a vulnerability's, such as V1")
_BY = arg("--by", metavar="WHO", type=words, help="who makes the edit (default: your login)")
COMMANDS = (
    Command(
        "gate",
        "what the gate decided of a round, with every number: for CI",
        "breakfix gate runs/demo --json",
        "gate:gate",
        (
            RUN,
            arg("--round", metavar="N", type=natural, help="default: the last round that it has judged"),
            JSON,
            arg("--junit", metavar="FILE", type=Path, help="write it there as JUnit XML"),
            arg("--sarif", metavar="FILE", type=Path, help="write what fails there as SARIF 2.1.0"),
        ),
        GATE,
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
                    RUN,
                    arg("--round", metavar="N", type=natural, help="default: the last that was identified"),
                    arg("--status", choices=("open", "fixed", "reopened"), help="those alone"),
                    arg("--markdown", metavar="FILE", type=Path, help="write the table there"),
                    JSON,
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
                    RUN,
                    arg("--reveal", action="store_true", help="show what was asked and said, too: it may be harmful"),
                    arg(
                        "--reproduce", action="store_true", help="seek the shortest case that breaks, asking the model"
                    ),
                    JSON,
                ),
            ),
            Command(
                "rename",
                "give it a name, for good",
                'breakfix vulns rename V1 runs/demo "Declines to talk of bread"',
                "edits:rename",
                (_ID, RUN, arg("name", metavar="NAME", type=words, help="the new name"), _BY),
            ),
            Command(
                "note",
                "keep a remark on it",
                'breakfix vulns note V1 runs/demo "seen in the field, too"',
                "edits:note",
                (_ID, RUN, arg("text", metavar="TEXT", type=words, help="the remark"), _BY),
            ),
            Command(
                "assign",
                "say who looks after it",
                "breakfix vulns assign V1 runs/demo Ada",
                "edits:assign",
                (_ID, RUN, arg("who", metavar="WHO", type=words, help='a name; "" is nobody'), _BY),
            ),
            Command(
                "merge",
                "make one of two: the first stays, with both suites",
                "breakfix vulns merge V1 V2 runs/demo",
                "edits:merge",
                (_ID, arg("other", metavar="OTHER", type=words, help="the id of the one that goes"), RUN, _BY),
                "Only those of a kind can be merged; later rounds count them as one.",
            ),
            Command(
                "split",
                "make two of one: some cases of its suite become a new vulnerability",
                "breakfix vulns split V1 runs/demo --topic bread",
                "edits:split",
                (
                    _ID,
                    RUN,
                    arg("--cases", metavar="IDS", type=words, help="those to take out: ids of cases, commas between"),
                    arg("--topic", metavar="WORD", type=words, help="take out the cases with this in the request"),
                    arg("--name", metavar="NAME", type=words, help="of the new one (default: old name and topic)"),
                    _BY,
                ),
            ),
            Command(
                "undo",
                "take back the last edit",
                "breakfix vulns undo runs/demo",
                "edits:undo",
                (RUN, _BY),
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
            arg("id", metavar="ID", type=words, help="as the report and the ledger show it"),
            RUN,
            arg(
                "--all", action="store_true", help="every entry (default: six of a kind below each, the others counted)"
            ),
            arg(
                "--depth", metavar="N", type=positive, help="so many steps away (default: 2; all with --all or --json)"
            ),
            JSON,
        ),
    ),
    Command(
        "verify",
        "is a run as it was written? every digest is computed anew: rows, blobs, checkpoints",
        "breakfix verify runs/demo",
        "look:verify",
        (RUN, JSON),
        "Exit code: 0 all is as written, 10 something is not, and is named.",
    ),
    Command(
        "dataset",
        "a round's training data as files: rows, a card, Croissant metadata, digests",
        "breakfix dataset runs/demo --redact",
        "dataset:dataset",
        (
            RUN,
            arg("--round", metavar="N", type=positive, help="default: the last round that was curated"),
            arg("-o", "--output", metavar="FOLDER", type=Path, help="default: dataset/round-N in the run's folder"),
            arg(
                "--format",
                choices=("jsonl", "parquet", "datasets"),
                default="jsonl",
                help="of the rows (%(default)s); datasets: folders for load_from_disk",
            ),
            arg(
                "--redact",
                action="store_true",
                help="leave out what may hold harmful text: rejected replies, and what an assistant says in a prompt",
            ),
            JSON,
        ),
    ),
    Command(
        "ledger",
        "bring an older run's ledger up to this version",
        "breakfix ledger upgrade runs/demo",
        "look:ledger",
        (arg("action", choices=("upgrade",)), arg("run", metavar="RUN", type=Path, help="a run's folder")),
    ),
    Command(
        "schema",
        "the JSON schema of the config, the report, a comparison or a line of an attack set",
        "breakfix schema config",
        "tools:schema",
        (arg("what", choices=("config", "report", "compare", "attack-set")),),
    ),
)
