"""Steps to standard output and to a file: as tables, or in a format that programs read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeAlias

from qkvcli.cli.options import Display
from qkvcli.cli.streams import Streams
from qkvcli.core.steps import Step
from qkvcli.errors import UsageError
from qkvcli.formats.files import saved
from qkvcli.formats.kinds import KINDS

_MARKDOWN_ENDINGS = {".md": "markdown", ".markdown": "markdown"}
_AROUND_A_TABLE = 6  # its title, header, rule, the blank line after it, and a prompt's two
_FEWEST_LINES = 4


Write: TypeAlias = Callable[[Sequence[Step], BinaryIO], None]
"""Puts steps into a binary stream."""


@dataclass(frozen=True)
class Delivery:
    """What happens to the steps: written to standard output, saved, both or neither."""

    streams: Streams
    show: Write | None
    save: Write | None
    path: Path | None

    def __call__(self, steps: Sequence[Step]) -> None:
        """The file first: a reader that closes the pipe early does not cost it."""
        if self.save is not None and self.path is not None:
            with saved(self.path) as stream:
                self.save(steps, stream)
        if self.show is not None:
            shown = BytesIO()
            self.show(steps, shown)
            self.streams.write(shown.getvalue())


def planned(display: Display, streams: Streams, piped: str) -> Delivery:
    """The delivery that the options ask for; ``piped`` is the format where no terminal is.

    Raises UsageError, before any work is done, for what cannot be delivered.
    """
    name = display.format.value if display.format else "table" if streams.on_terminal else piped
    if name in KINDS and KINDS[name].binary and streams.on_terminal and not display.quiet:
        raise UsageError(f"{name} is not for a terminal's eyes; use -o FILE, or > FILE")
    show = None if display.quiet else _writer(name, display, streams, display.digits)
    if display.output is None:
        return Delivery(streams, show, None, None)
    ending = display.output.suffix.lower()
    kept = _MARKDOWN_ENDINGS.get(ending, ending.removeprefix("."))
    if kept not in KINDS and kept != "markdown":
        known = ", ".join(f".{name}" for name in (*KINDS, "md"))
        raise UsageError(f"-o {display.output}: the ending says the format; use one of {known}")
    return Delivery(streams, show, _writer(kept, display, streams, None), display.output)


def _writer(name: str, display: Display, streams: Streams, digits: int | None) -> Write:
    if name == "table":
        return partial(_write_tables, display=display, streams=streams)
    if name == "markdown":
        return partial(_write_markdown, display=display)
    write = KINDS[name].write
    return lambda steps, stream: write(steps, stream, digits)


def _write_markdown(steps: Sequence[Step], stream: BinaryIO, display: Display) -> None:
    from qkvcli.render.layout import Room
    from qkvcli.render.markdown import step_markdown
    from qkvcli.render.numbers import DIGITS

    digits = DIGITS if display.digits is None else display.digits
    room = Room(display.width, None, digits, display.full)  # a page has no edge of its own
    for step in steps:
        for line in step_markdown(step, room):
            stream.write(f"{line}\n".encode())


def _write_tables(
    steps: Sequence[Step], stream: BinaryIO, display: Display, streams: Streams
) -> None:
    from io import StringIO

    from rich.console import Console

    from qkvcli.render.layout import Room
    from qkvcli.render.numbers import DIGITS
    from qkvcli.render.tables import step_tables

    columns, lines = streams.size
    width = display.width
    if width is None and (streams.on_terminal or not display.full):
        width = columns  # nothing bounds what goes whole into a file
    height = max(lines - _AROUND_A_TABLE, _FEWEST_LINES)
    digits = DIGITS if display.digits is None else display.digits
    room = Room(width, height, digits, display.full, streams.plain)
    encoding = "ascii" if room.plain else getattr(streams.stdout, "encoding", None) or "utf-8"
    for step in steps:
        for block in step_tables(step, room):
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
            for line in text.getvalue().splitlines():
                stream.write(line.rstrip().encode(encoding, "replace") + b"\n")
