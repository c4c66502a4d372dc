"""Steps to standard output and to a file: as tables, or in a format that programs read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeAlias

from qkvcli.cli.display import Display
from qkvcli.cli.streams import Streams
from qkvcli.core.steps import Step
from qkvcli.errors import UsageError
from qkvcli.formats.files import saved
from qkvcli.formats.kinds import KINDS

Write: TypeAlias = Callable[[Sequence[Step], BinaryIO], None]
"""Puts steps into a binary stream."""

_ENDINGS = {**{f".{name}": name for name in KINDS}, ".md": "markdown", ".markdown": "markdown"}
_AROUND_A_TABLE = 6  # its title, header, rule, the blank line after it, and a prompt's two
_FEWEST_LINES = 4


@dataclass(frozen=True)
class Delivery:
    """What happens to the steps: written to standard output, saved, both or neither."""

    streams: Streams
    display: Display
    show: Write | None
    save: Write | None

    def __call__(self, steps: Sequence[Step]) -> None:
        """Deliver. The file comes first: a reader that leaves early does not cost it.

        Raises WriteError, ReaderGone, or UsageError for a head that there is not.
        """
        _check_chosen(steps, self.display)
        shown = BytesIO()
        if self.show is not None:
            self.show(steps, shown)
        if self.save is not None and self.display.output is not None:
            with saved(self.display.output) as stream:
                self.save(steps, stream)
        if self.show is not None:
            self.streams.write(shown.getvalue())


def planned(display: Display, streams: Streams, piped: str) -> Delivery:
    """The delivery that the options ask for; ``piped`` is the format where no terminal is.

    Raises UsageError, before any work is done, for what cannot be delivered.
    """
    name = display.format or ("table" if streams.on_terminal else piped)
    if name in KINDS and KINDS[name].binary and streams.on_terminal and not display.quiet:
        raise UsageError(f"{name} is not for a terminal's eyes; use -o FILE, or > FILE")
    show = None if display.quiet else _writer(name, display, streams)
    save = None
    if display.output is not None:
        whole = replace(display, head=None, batch=None, width=None)
        kept = _kept(display.output, name)
        digits = display.digits if kept == "markdown" else None
        save = _writer(kept, replace(whole, digits=digits), streams)
    return Delivery(streams, display, show, save)


def _kept(path: Path, shown: str) -> str:
    """The format of a file: its ending's; what is shown goes into a pipe or a device too."""
    ending = path.suffix.lower()
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    if path.exists() and not path.is_file():
        return shown
    known = ", ".join([ending for ending in _ENDINGS if ending != ".markdown"])
    raise UsageError(f"-o {path}: the ending says the format; use one of {known}")


def _check_chosen(steps: Sequence[Step], display: Display) -> None:
    """Raise UsageError for a head or a batch that no step has."""
    leading = [step.array.shape[:-2] for step in steps]
    for option, numbers, axis in (("--head", display.head, -1), ("--batch", display.batch, -2)):
        there = max((axes[axis] for axes in leading if len(axes) >= -axis), default=0)
        if numbers is not None and max(numbers) >= there:
            what = option.removeprefix("--")
            has = f"they are 0 to {there - 1}" if there else f"there is no axis of {what}s"
            raise UsageError(f"{option}: there is no {what} {max(numbers)}; {has}")


def _writer(name: str, display: Display, streams: Streams) -> Write:
    if name == "table":
        return lambda steps, stream: _write_tables(steps, stream, display, streams)
    if name == "markdown":
        return lambda steps, stream: _write_markdown(steps, stream, display)
    write = KINDS[name].write
    return lambda steps, stream: write(
        [_chosen(step, display) for step in steps], stream, display.digits
    )


def _chosen(step: Step, display: Display) -> Step:
    """A step with the heads and batches asked for; an axis of one goes."""
    array, alone = step.array, []
    for numbers, axis in ((display.head, -3), (display.batch, -4)):
        if numbers is not None and array.ndim >= -axis:
            array = array.take(numbers, axis=axis)
            alone += [axis] if len(numbers) == 1 else []
    array = array.squeeze(tuple(alone))
    return replace(step, array=array)


def _write_markdown(steps: Sequence[Step], stream: BinaryIO, display: Display) -> None:
    from qkvcli.render.layout import Room
    from qkvcli.render.markdown import step_markdown
    from qkvcli.render.numbers import DIGITS

    digits = DIGITS if display.digits is None else display.digits
    # a page has no edge of its own
    room = Room(display.width, None, digits, display.full, False, display.head, display.batch)
    for step in steps:
        for line in step_markdown(step, room):
            stream.write(f"{line}\n".encode())


def _write_tables(
    steps: Sequence[Step], stream: BinaryIO, display: Display, streams: Streams
) -> None:
    from qkvcli.cli.console import printed
    from qkvcli.render.layout import Room
    from qkvcli.render.numbers import DIGITS
    from qkvcli.render.tables import step_tables

    columns, lines = streams.size
    width = display.width
    if width is None and (streams.on_terminal or not display.full):
        width = columns  # nothing bounds what goes whole into a file
    height = max(lines - _AROUND_A_TABLE, _FEWEST_LINES)
    digits = DIGITS if display.digits is None else display.digits
    room = Room(width, height, digits, display.full, streams.plain, display.head, display.batch)
    for step in steps:
        for block in step_tables(step, room):
            stream.write(printed(block, streams))
