"""`breakfix compare`: models side by side. The table (or JSON) on stdout; HTML, LaTeX and Markdown into files."""

from __future__ import annotations

from breakfix.cli import output
from breakfix.cli.commands import Arguments
from breakfix.cli.progress import watching
from breakfix.errors import UserError


def compare(arguments: Arguments) -> int:
    """breakfix compare"""
    if len(arguments.models) < 2:
        raise UserError(
            f"{arguments.models[0]}: compared with what? Give two models or more; the first is the reference"
        )
    from breakfix import compare as side_by_side
    from breakfix import config

    with output.to_stderr(), watching() as watch:
        columns = side_by_side.measured(
            side_by_side.named([side_by_side.parse(text) for text in arguments.models]),
            config=config.load(arguments.config) if arguments.config is not None else None,
            into=arguments.into,
            attacked=arguments.redteam,
            judge=arguments.judge or "",
            progress=watch,
            say=watch.say,
        )
        document = side_by_side.build(columns)
    if arguments.html is not None:
        output.save(arguments.html, side_by_side.page(document))
    if arguments.latex is not None:
        output.save(arguments.latex, side_by_side.latex(document, full=arguments.full))
    if arguments.markdown is not None:
        output.save(arguments.markdown, side_by_side.markdown(document, full=arguments.full))
    if arguments.json:
        print(side_by_side.to_json(document), end="")
    else:
        side_by_side.render(document, output.console(), full=arguments.full)
    return 0
