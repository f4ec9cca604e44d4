"""All commands, in the order in which `breakfix --help` lists them."""

from breakfix.cli.commands import models, results, runs, stages
from breakfix.cli.commands.base import Command

COMMANDS: dict[str, Command] = {
    command.name: command
    for group in (runs.COMMANDS, stages.COMMANDS, models.COMMANDS, results.COMMANDS)
    for command in group
}
