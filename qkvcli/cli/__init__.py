"""Options to inputs to the core to a rendering: the command line."""

import signal
import sys

from qkvcli.errors import ExitCode


def main() -> None:
    """Run the program on the process's own arguments and streams."""
    for ending in ("SIGTERM", "SIGHUP"):  # leave as on Ctrl-C: with no file half written
        if hasattr(signal, ending):
            signal.signal(getattr(signal, ending), _end)
    if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # help has signs that not every encoding has
    if sys.argv[1:] == ["--version"]:
        from qkvcli import __version__
        from qkvcli.cli.faults import code_of
        from qkvcli.cli.streams import Streams

        line = f"qkvcli {__version__}\n".encode()
        sys.exit(code_of(lambda: Streams.of_process().write(line) and 0))
    try:
        from qkvcli.cli.quick import read

        plain = read(sys.argv[1:])
        if plain is not None:
            from qkvcli.cli.faults import code_of

            sys.exit(code_of(plain))
        from qkvcli.cli.app import app
    except KeyboardInterrupt:  # while Python was still importing
        sys.exit(ExitCode.INTERRUPTED)
    app(prog_name="qkvcli")


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)
