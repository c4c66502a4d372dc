"""Options to inputs to the core to a rendering: the command line."""

import gc
import sys
from importlib import import_module

from qkvcli.cli.environment import Environment
from qkvcli.cli.signals import Signals
from qkvcli.errors import ExitCode, QkvError

_YOUNG = 100_000
"""How many objects are made before Python looks for garbage; a bare run makes half as many."""


def main() -> None:
    """Run the program on the process's own arguments and streams, and end the process."""
    usual = gc.get_threshold()
    gc.set_threshold(_YOUNG, *usual[1:])  # imports leave no garbage
    try:
        _run()
    finally:
        gc.freeze()  # what is left goes with the process, and need not be looked through
        gc.set_threshold(*usual)


def _run() -> None:
    signals = Signals(_clean)
    try:
        try:
            signals.hear()
            if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
                sys.stdout.reconfigure(errors="replace")  # not every encoding has help's signs
            environment = Environment.of_process()
            with environment.blocking():
                code = run(sys.argv[1:], environment)
        finally:
            signals.ignore()
    except BaseException:  # whatever a signal has led to
        if signals.code is None:
            raise
    _clean()
    sys.exit(code if signals.code is None else signals.code)


def _clean() -> None:
    """Remove the files that are not whole."""
    saving = sys.modules.get("qkvcli.formats.saving")
    if saving is not None:
        saving.remove_unfinished()


def run(words: list[str], environment: Environment, by_typer: bool = False) -> int:
    """Run a command line, and give the code to exit with; ``by_typer`` reads plain ones too.

    This is the one place that turns an error into a line on standard error and a code.
    """
    code = ExitCode.FINE
    try:
        code = _perform(words, environment, by_typer)
    except QkvError as fault:
        code = fault.exit_code
        if code != ExitCode.FINE:
            environment.report(str(fault))
    except MemoryError:
        code = ExitCode.BAD_DATA
        environment.report("not enough memory for matrices of this size")
    except OSError as fault:  # Typer's own output: help, the version
        code = ExitCode.CANNOT_WRITE
        environment.report(f"standard output: cannot be written: {fault.strerror}")
    except KeyboardInterrupt:  # also while Python was still importing
        code = ExitCode.INTERRUPTED
    environment.settle()
    return int(code)


def _perform(words: list[str], environment: Environment, by_typer: bool) -> ExitCode:
    from qkvcli.cli import plain

    line = None if by_typer else plain.read(words)
    if isinstance(line, plain.Version):
        from qkvcli import __version__

        environment.write(f"qkvcli {__version__}\n".encode())
        return ExitCode.FINE
    if line is None:
        from qkvcli.cli import typer_app

        line = typer_app.read(words)
    if isinstance(line, plain.Help):
        from qkvcli.cli import topics

        topics.show(line, environment)
    elif line is not None:
        environment.asked_colour = line.display.color
        done_by = line.command.done_by if line.comparing.expect is None else "comparing"
        code: ExitCode | None = import_module(f"qkvcli.cli.{done_by}").perform(line, environment)
        return code or ExitCode.FINE
    return ExitCode.FINE
