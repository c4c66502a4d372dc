"""How tables look where they go: their room, and Rich's renderables as bytes."""

from io import StringIO

from rich.console import Console

from qkvcli.cli.display import Display
from qkvcli.cli.streams import Streams
from qkvcli.render.layout import Room
from qkvcli.render.numbers import DIGITS
from qkvcli.render.tables import Block

_AROUND_A_TABLE = 6  # its title, header, rule, the blank line after it, and a prompt's two
_FEWEST_LINES = 4
_WIDEST = 10**6


def screen(display: Display, streams: Streams) -> Room:
    """The room of the terminal, or of the 80 by 24 that stand for it in a pipe."""
    columns, lines = streams.size
    width = display.width
    if width is None and (streams.on_terminal or not display.full):
        width = columns  # nothing bounds what goes whole into a file
    return Room(
        width,
        max(lines - _AROUND_A_TABLE, _FEWEST_LINES),
        DIGITS if display.digits is None else display.digits,
        display.full,
        streams.plain,
        display.head,
        display.batch,
    )


def page(display: Display) -> Room:
    """The room of a page, which has no edge of its own."""
    return Room(
        display.width,
        None,
        DIGITS if display.digits is None else display.digits,
        display.full,
        heads=display.head,
        batches=display.batch,
    )


class Printer:
    """What Rich makes of a block, with the width that it needs, so that nothing is cut."""

    def __init__(self, streams: Streams) -> None:
        self.encoding = streams.encoding
        self.text = StringIO()
        self.console = Console(
            file=self.text,
            width=_WIDEST,
            force_terminal=streams.colour,
            color_system="standard" if streams.colour else None,
            legacy_windows=False,
            highlight=False,
            emoji=False,
            markup=False,
        )

    def __call__(self, block: Block) -> bytes:
        """A block's bytes, in the encoding of the stream."""
        self.text.seek(0)
        self.text.truncate()
        self.console.print(block.content, width=max(block.width, 1))
        lines = (line.rstrip() for line in self.text.getvalue().splitlines())
        return "".join(f"{line}\n" for line in lines).encode(self.encoding, "replace")
