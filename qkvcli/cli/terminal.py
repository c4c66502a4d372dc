"""What a person sees: tables as text, and on standard error how far long work has come."""

import re
import time
from codecs import getincrementalencoder
from collections.abc import Callable
from io import StringIO
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from qkvcli.cli.environment import Environment
from qkvcli.cli.options import Display
from qkvcli.errors import UsageError

if TYPE_CHECKING:
    from qkvcli.render.grids import Room
    from qkvcli.render.screen import Block

_PATIENCE = 0.5  # seconds of silence
_AROUND_A_TABLE = 7  # its title, header, rule, facts, the blank line after it, and a prompt's two
_FEWEST_LINES = 4


def page(display: Display) -> "Room":
    """The room that a page has: as wide as was asked for, and as long as it wants."""
    from qkvcli.render.grids import Room

    room = Room(display.width, full=display.full)
    return room if display.digits is None else room._replace(digits=display.digits)


def screen(display: Display, environment: Environment) -> tuple["Room", int]:
    """The room on a terminal, and how many rows of a matrix it has lines for."""
    columns, lines = environment.size
    room = page(display)._replace(plain=environment.plain, heat=_heat(display, environment))
    if room.width is None and (environment.on_terminal or not display.full):
        room = room._replace(width=columns)  # nothing bounds what goes whole into a file
    around = _AROUND_A_TABLE + (room.heat is not None)  # and its legend
    height = max(lines - around, _FEWEST_LINES)
    return room._replace(height=height), height


def _heat(display: Display, environment: Environment) -> str | None:
    """The colours that cells have, where they have any. Raises UsageError for heat without."""
    if display.heat and display.color == "never":
        raise UsageError("--heat needs colour, and --color never has none; leave one out")
    from qkvcli.render.heat import COLOURED

    colours = environment.colours
    if display.heat and colours not in COLOURED:
        more = "" if environment.colour else "; add --color always"
        environment.note(f"--heat needs a terminal of 256 colours{more}")
    return colours if display.heat is not False and colours in COLOURED else None


class Printer:
    """What Rich makes of a block, with the width that it needs, so that nothing is cut."""

    def __init__(self, environment: Environment) -> None:
        from rich.console import Console

        # one for all blocks: a byte order mark stands once, at the start
        self.encode = getincrementalencoder(environment.encoding)("replace").encode
        self.text = StringIO()
        self.console = Console(
            file=self.text,
            force_terminal=environment.colour,
            color_system=cast(Any, environment.colours),
            legacy_windows=False,
            highlight=False,
            emoji=False,
            markup=False,
        )

    def __call__(self, block: "Block") -> bytes:
        """A block's bytes, in the encoding of the stream."""
        self.text.seek(0)
        self.text.truncate()
        self.console.width = max(block.width, 1)
        self.console.print(block.content)
        lines = (line.rstrip() for line in self.text.getvalue().splitlines())
        return self.encode("".join(f"{line}\n" for line in lines))


class Shown:
    """A terminal's stream of text, without anything in it that the terminal would obey."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.flush = environment.flush

    def write(self, data: bytes) -> int:
        """Write text whose control characters are spelt out."""
        from qkvcli.render.screen import printable

        spelt = re.sub("[^\n\t]+", lambda found: printable(found[0]), data.decode())
        return self.environment.write(spelt.encode())


def stream_for(name: str, environment: Environment) -> BinaryIO:
    """Standard output for what is shown in a format.

    A terminal gets the text of what programs read without anything that it would obey; pages have
    colours.
    """
    from qkvcli.formats.registry import FORMATS  # imported here: help is shown without it

    obeyed = name in FORMATS and environment.on_terminal
    return cast(BinaryIO, Shown(environment) if obeyed else environment)


class Progress:
    """How far work has come that several bars show, one after the other: whichever is there now."""

    def __init__(self) -> None:
        self.bar: Callable[[int, int], None] | None = None

    def __call__(self, done: int, total: int) -> None:
        """Show how many parts are done, and of how many."""
        if self.bar is not None:
            self.bar(done, total)


class Meter:
    """A bar that shows up only where a terminal is there and the work takes long."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.started = time.monotonic()
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> "Meter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Show how many parts are done, and of how many."""
        if not self.environment.watched or time.monotonic() - self.started < _PATIENCE:
            return
        if self.bar is None:
            self._start(total)
        self.bar.update(self.task, completed=done, total=total)

    def _start(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

        self.bar = Progress(
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=Console(file=self.environment.stderr),
            transient=True,
        )
        self.task = self.bar.add_task("", total=total)
        self.bar.start()
