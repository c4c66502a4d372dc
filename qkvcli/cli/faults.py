"""The one place that turns an error into a line and an exit code."""

from collections.abc import Callable
from typing import Any

from qkvcli.cli.streams import Streams
from qkvcli.errors import ExitCode, QkvError, ReaderGone


def code_of(work: Callable[[], Any]) -> int:
    """Do the work; what goes wrong is one line on standard error, and the code to end with."""
    streams = Streams.of_process()
    try:
        code = work()
    except ReaderGone as gone:
        code = gone.exit_code
    except QkvError as fault:
        streams.report(one_line(str(fault)))
        code = fault.exit_code
    except MemoryError:
        streams.report("not enough memory for matrices of this size")
        code = ExitCode.BAD_DATA
    except OSError as fault:  # Typer's own output: help, the version
        streams.report(f"standard output: cannot be written: {fault.strerror}")
        code = ExitCode.CANNOT_WRITE
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    streams.settle()
    return int(code or ExitCode.FINE)


def one_line(message: str) -> str:
    """A message without line breaks, or anything else that a terminal would obey."""
    from qkvcli.render.symbols import printable

    return printable(" ".join(message.split("\n")))
