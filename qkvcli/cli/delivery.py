"""Work to standard output and to a file: as tables, or in a format that programs read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from qkvcli.cli.display import Display
from qkvcli.cli.progress import Meter
from qkvcli.cli.streams import Streams
from qkvcli.core.arrays import Array
from qkvcli.core.engine import Stage, take
from qkvcli.core.flow import flows
from qkvcli.core.prepared import Prepared
from qkvcli.core.rows import numbered, picked
from qkvcli.core.steps import Step
from qkvcli.errors import UsageError
from qkvcli.formats.kinds import KINDS

_ENDINGS = {**{f".{name}": name for name in KINDS}, ".md": "markdown", ".markdown": "markdown"}


@dataclass(frozen=True)
class Asked:
    """What is to be delivered: the steps ``names`` of the work, up to a stage."""

    work: Prepared
    until: Stage
    names: tuple[str, ...]

    def some(self, display: Display, height: int | None = None) -> list[Step]:
        """The steps with the rows that are shown, and no others computed.

        Raises UsageError for a row, a head or a batch that there is not.
        """
        rows = self._picked(display)
        long = height is not None and not display.full and self.work.queries > height
        if rows is None and long:
            from qkvcli.render.layout import edges

            rows = numbered(edges(self.work.queries, height))
        return self._taken(display, rows)

    def check(self, display: Display) -> None:
        """Raise what showing would raise, at the price of no row at all."""
        self._picked(display)
        self._taken(display, numbered([]))

    def _picked(self, display: Display) -> Array | None:
        if display.rows is None:
            return None
        return picked(display.rows, self.work.queries, self.work.labels)

    def _taken(self, display: Display, rows: Array | None) -> list[Step]:
        steps = [step for step in take(self.work, self.until, rows) if step.name in self.names]
        _check_chosen(steps, display)
        return steps


Write: TypeAlias = Callable[[Asked, BinaryIO], None]
"""Puts what is asked for into a binary stream."""


@dataclass(frozen=True)
class Delivery:
    """What happens to the work: written to standard output, saved, both or neither."""

    streams: Streams
    display: Display
    show: Write | None
    save: Write | None

    def __call__(self, asked: Asked) -> None:
        """Deliver. The file comes first: a reader that leaves early does not cost it.

        Raises WriteError, ReaderGone, or UsageError for a head or a row that there is not.
        """
        if self.show is None or self.save is not None:  # what is only shown checks itself
            asked.check(self.display)
        if self.save is not None and self.display.output is not None:
            from qkvcli.formats.files import saved

            with saved(self.display.output) as stream:
                self.save(asked, stream)
        if self.show is not None:
            self.show(asked, cast(BinaryIO, self.streams))


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
        kept = _kept(display.output, name)
        digits = display.digits if kept == "markdown" else None
        whole = replace(display, head=None, batch=None, rows=None, width=None, digits=digits)
        save = _writer(kept, whole, streams)
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


def _check_chosen(steps: list[Step], display: Display) -> None:
    """Raise UsageError for a head or a batch that no step has."""
    for what, numbers in (("head", display.head), ("batch", display.batch)):
        axes = ((step, step.axis(what)) for step in steps)
        there = max((step.shape[axis] for step, axis in axes if axis is not None), default=0)
        if numbers is not None and max(numbers) >= there:
            has = f"they are 0 to {there - 1}" if there else f"what is shown has no {what} axis"
            raise UsageError(f"--{what}: there is no {what} {max(numbers)}; {has}")


def _writer(name: str, display: Display, streams: Streams) -> Write:
    if name == "table":
        return lambda asked, stream: _write_tables(asked, stream, display, streams)
    if name == "markdown":
        return lambda asked, stream: _write_markdown(asked, stream, display)
    return lambda asked, stream: _write_data(asked, stream, name, display, streams)


def _write_data(
    asked: Asked, stream: BinaryIO, name: str, display: Display, streams: Streams
) -> None:
    write = KINDS[name].write
    if display.chooses:
        steps = [_chosen(step, display) for step in asked.some(display)]
        return write(steps, stream, display.digits)
    with Meter(streams) as advance:
        written = flows(asked.work, asked.until, advance)
        shown = [step for step in written if step.name in asked.names]
        return write(shown, stream, display.digits)


def _chosen(step: Step, display: Display) -> Step:
    """A step of the heads, batches and rows asked for alone; an axis of one goes."""
    array, alone = step.array, []
    for numbers, axis in (
        (display.head, step.axis("head")),
        (display.batch, step.axis("batch")),
    ):
        if numbers is not None and axis is not None:
            array = array.take(numbers, axis=axis)
            alone += [axis] if len(numbers) == 1 else []
    labels = step.rows
    if labels is not None and step.picked is not None:
        labels = tuple(labels[i] for i in step.picked.tolist())
    return replace(step, array=array.squeeze(tuple(alone)), rows=labels, picked=None, whole=())


def _write_markdown(asked: Asked, stream: BinaryIO, display: Display) -> None:
    from qkvcli.cli.looks import page
    from qkvcli.render.markdown import step_markdown

    for step in asked.some(display):
        for line in step_markdown(step, page(display)):
            stream.write(f"{line}\n".encode())


def _write_tables(asked: Asked, stream: BinaryIO, display: Display, streams: Streams) -> None:
    from qkvcli.cli.looks import Printer, screen
    from qkvcli.render.tables import step_tables

    room = screen(display, streams)
    printer = Printer(streams)
    text = BytesIO()
    for step in asked.some(display, room.height):
        for block in step_tables(step, room):
            text.write(printer(block))
    stream.write(text.getvalue())
