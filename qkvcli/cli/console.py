"""Rich's renderables to bytes, as the stream that they go to can show them."""

from io import StringIO

from rich.console import Console

from qkvcli.cli.streams import Streams
from qkvcli.render.tables import Block


def printed(block: Block, streams: Streams) -> bytes:
    """What Rich makes of a block, with the width that it needs, so that nothing is cut."""
    text = StringIO()
    console = Console(
        file=text,
        width=max(block.width, 1),
        force_terminal=streams.colour,
        color_system="standard" if streams.colour else None,
        legacy_windows=False,
        highlight=False,
        emoji=False,
        markup=False,
    )
    console.print(block.content)
    lines = (line.rstrip() for line in text.getvalue().splitlines())
    return "".join(f"{line}\n" for line in lines).encode(streams.encoding, "replace")
