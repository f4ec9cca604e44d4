"""Every command: its name, arguments, help, an example, and the function behind it. Data you can read.

argparse rather than typer: `--help` costs 50 ms instead of 250, and needs nothing installed. The functions live in
the modules beside this package, which load when their command runs; each takes the parsed arguments and returns the
exit code. A new command goes into the group where `breakfix --help` shall list it: runs, stages, models or results.
"""

from breakfix.cli.commands.base import Arguments, Command, UsageError
from breakfix.cli.commands.parsing import Call, parse, parser
from breakfix.cli.commands.stages import AGAIN
from breakfix.cli.commands.table import COMMANDS

__all__ = ["AGAIN", "COMMANDS", "Arguments", "Call", "Command", "UsageError", "parse", "parser"]
