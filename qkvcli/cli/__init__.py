"""Options to inputs to the core to a rendering: the command line."""

import sys


def main() -> None:
    """Run the program on the process's own arguments and streams."""
    try:
        from qkvcli.cli.app import app
    except KeyboardInterrupt:  # while Python was still importing
        sys.exit(130)
    app(prog_name="qkvcli")
