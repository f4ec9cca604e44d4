"""breakfix dataset: a round's training data as files."""

from __future__ import annotations

from breakfix.cli import output, places
from breakfix.cli.commands import Arguments


def dataset(arguments: Arguments) -> int:
    """breakfix dataset"""
    from breakfix.curate.dataset import export
    from breakfix.ledger import Ledger

    run = places.find(arguments.run)
    with Ledger.open(run, write=False) as ledger, output.to_stderr():
        folder, manifest = export(
            ledger,
            run,
            round=arguments.round,
            to=arguments.output,
            format=arguments.format,
            redact=arguments.redact,
        )
    if arguments.json:
        output.as_json({"folder": str(folder), **manifest})
        return 0
    counts = ", ".join(f"{n} {name} rows" for name, n in manifest["rows"].items()) or "no rows"
    print(f"{output.line(str(folder))}: {counts} of round {manifest['round']}, digest {manifest['digest'][:12]}")
    output.table(("file", "bytes"), [(file["name"], str(file["bytes"])) for file in manifest["files"]])
    if not manifest["redacted"]:
        output.note("rejected replies, and what a model said in prompts, hold harmful text; --redact leaves it out")
    return 0
