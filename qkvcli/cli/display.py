"""The options that say what is shown, how, and where it is saved."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from qkvcli.cli.options import chosen, count, file, flag, listed, option, whole

_SHOWN = "What is shown"
FORMATS = ("table", "csv", "tsv", "txt", "json", "npy", "npz", "markdown")


@dataclass(frozen=True)
class Display:
    """What is shown, how, and where it is saved."""

    format: Annotated[
        str | None,
        option(
            "-f",
            "--format",
            panel=_SHOWN,
            metavar="FORMAT",
            parser=chosen(FORMATS),
            help=f"What standard output holds: {', '.join(FORMATS[:-1])} or markdown "
            "(a table on a terminal; in a pipe csv, but run keeps its tables).",
        ),
    ] = None
    output: Annotated[
        Path | None,
        file("-o", "--output", panel=_SHOWN, help="Also save, in the format of the file's ending."),
    ] = None
    digits: Annotated[
        int | None,
        count("--digits", _SHOWN, "Decimals: 4 in tables, else all that there are.", 0, 17),
    ] = None
    head: Annotated[
        Any,
        option(
            "--head",
            panel=_SHOWN,
            metavar="N[,N…]",
            parser=listed(whole(0)),
            help="Show tables of these heads alone.",
        ),
    ] = None
    batch: Annotated[
        Any,
        option(
            "--batch",
            panel=_SHOWN,
            metavar="N[,N…]",
            parser=listed(whole(0)),
            help="Show tables of these batches alone.",
        ),
    ] = None
    rows: Annotated[
        str | None,
        option(
            "--rows",
            panel=_SHOWN,
            metavar="ROWS",
            parser=str,
            help="Show these queries alone: indexes, slices, labels (0:3,500,-2:).",
        ),
    ] = None
    full: Annotated[bool, flag("--full", panel=_SHOWN, help="Show every row and column.")] = False
    width: Annotated[
        int | None, count("--width", _SHOWN, "Columns of text for a table (the terminal's).")
    ] = None
    quiet: Annotated[bool, flag("--quiet", panel=_SHOWN, help="Nothing on standard output.")] = (
        False
    )

    @property
    def chooses(self) -> bool:
        """Whether only some of the heads, batches or rows are to be shown."""
        return any(one is not None for one in (self.head, self.batch, self.rows))
