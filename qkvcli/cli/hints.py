"""What to try next, after the first command of a person who has just met the program."""

from qkvcli.cli.commands import Line
from qkvcli.cli.environment import Environment

_NEXT = ("qkvcli explain cat sat --example cat", "qkvcli help attention")


def hint(line: Line, environment: Environment) -> None:
    """Say it after a bare ``qkvcli run`` on a terminal, and nowhere else."""
    if line == Line(line.command) and line.command.name == "run" and environment.on_terminal:
        environment.hint(_NEXT)
