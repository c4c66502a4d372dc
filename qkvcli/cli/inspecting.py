"""The command that says what files hold, and saves what they hold in another format."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from qkvcli.cli.amounts import check_room
from qkvcli.cli.commands import Line
from qkvcli.cli.delivery import kept_in
from qkvcli.cli.environment import Environment
from qkvcli.cli.opened import Opened, check_labelling
from qkvcli.cli.terminal import Meter, Printer, Shown, screen
from qkvcli.core.inventory import Entry, range_of
from qkvcli.core.operands import Array, Operand
from qkvcli.core.steps import Outline, Parts, Step
from qkvcli.errors import DataError, UsageError
from qkvcli.formats.address import Part
from qkvcli.formats.files import address_of, among, files_in, stem
from qkvcli.formats.members import Member, held_in
from qkvcli.formats.registry import FORMATS
from qkvcli.formats.saving import saved

_AT_ONCE = 2**20
"""How many numbers are made of what a file holds, and written, together."""
_ALONE = ("csv", "tsv", "txt", "npy")
"""The formats of one array."""
_AXES = {"csv": 2, "tsv": 2, "txt": 2, "json": 1}
"""How many axes an array has there at least."""


class _Found(NamedTuple):
    """A member of a file, or the part of it that was named."""

    file: str
    path: Path
    name: str
    member: Member
    part: Part

    @property
    def decode(self) -> Callable[[Array], Array] | None:
        """What makes numbers of what the file holds."""
        return None if self.member.stored is None else self.member.stored.decode

    def held(self) -> Operand:
        """The array as the file holds it. Raises DataError."""
        return self.part.of(self.member.held())

    @property
    def label(self) -> str:
        """The name that it has in another file."""
        return self.name or stem(self.path)


def perform(line: Line, environment: Environment) -> None:
    """Say what files hold, and save it. Raises the errors of all the layers."""
    display = line.display
    opened = Opened(environment, labelling=line.sources.labelling)
    found = [one for word in line.words for one in _members(opened, word)]
    check_labelling(line.sources.labelling, opened.sources)
    shown = None if display.quiet else display.format or "table"
    for path, name in kept_in(display.output, shown or "table").items():
        _save(found, path, name, display.digits, environment)
    if shown is not None:
        _show(found, shown, line, environment)


def _members(opened: Opened, word: str) -> Iterator[_Found]:
    """What a word of the command line names: all of a file or of a folder, or some of a file."""
    address = address_of(word)
    folder = address.path.is_dir()
    for path in files_in(address.path) if folder else [address.path]:
        document, where = opened.document(path)
        part = address.part
        if not folder:
            document, part = among(document, address, where)
        for name, member in document.items():
            yield _Found(where, path, name, member, part)


def _show(found: Sequence[_Found], shown: str, line: Line, environment: Environment) -> None:
    """The members with their ranges. Raises DataError, in the end, where one cannot be read."""
    with Meter(environment) as advance:
        entries = list(_entries(found, environment, advance))
    obeyed = shown in FORMATS and environment.on_terminal  # tables have colours
    stream = cast(BinaryIO, Shown(environment) if obeyed else environment)
    if shown == "table":
        from qkvcli.render.inventory import inventory

        room, _ = screen(line.display, environment)
        if not environment.on_terminal and line.display.width is None:
            room = room._replace(width=None)
        printer = Printer(environment)
        stream.write(b"".join(map(printer, inventory(entries, room))))
    else:
        from qkvcli.formats.inspected import write_inspected

        write_inspected(entries, stream, shown)
    faults = [entry for entry in entries if entry.fault]
    if faults:
        count = f"{len(faults)} of {len(entries)} arrays cannot be read"
        raise DataError(count if len(entries) > 1 else faults[0].fault)


def _entries(
    found: Sequence[_Found], environment: Environment, advance: Callable[[int, int], None]
) -> Iterator[Entry]:
    """What is said of each member; its numbers are looked at, and not kept."""
    sizes = [math.prod(one.member.shape or ()) for one in found]
    done, total = 0, max(sum(sizes), 1)
    for one, size in zip(found, sizes, strict=True):
        now = done

        def looked_at(count: int) -> None:
            nonlocal now
            now += count
            advance(min(now, total), total)

        yield _entry(one, environment, looked_at)
        done += size


def _entry(one: _Found, environment: Environment, advance: Callable[[int], None]) -> Entry:
    stored = one.member.stored
    try:
        held = one.held()
        numbers = range_of(held.array, one.decode, advance)
    except DataError as fault:
        kind = "" if stored is None else stored.name
        return Entry(one.file, one.name, one.member.shape or (), kind, fault=str(fault))
    if held.reading:
        environment.note(f"{held.origin}: {held.reading}")
    kind = held.array.dtype.name if stored is None else stored.name
    kind = "text" if kind.startswith("str") else kind
    return Entry(
        one.file, one.name, held.shape, kind, numbers, rows=held.rows, columns=held.columns
    )


def _save(
    found: Sequence[_Found], path: Path, name: str, digits: int | None, environment: Environment
) -> None:
    """Save the members in a format, part by part.

    Raises UsageError where a file of the format has room for one, or none.
    """
    if name not in FORMATS:
        endings = ", ".join(f".{known}" for known in FORMATS)
        raise UsageError(f"-o {path}: what a file holds is saved as {endings}")
    if name in _ALONE and len(found) != 1:
        held = held_in({one.label: one.member for one in found})
        raise UsageError(
            f"-o {path}: .{name} has room for one array; name it, as FILE:NAME, of {held}; "
            "or save all as .npz"
        )
    labels = _labels(found)
    axes = _AXES.get(name, 0)
    steps = [_step(one, label, axes) for one, label in zip(found, labels, strict=True)]
    for step in steps:
        if name not in ("npy", "npz") and step.dtype.kind not in "biuf":
            raise DataError(f"{step.name}: numbers of type {step.dtype} cannot be kept in .{name}")
    check_room(path, name, steps, environment)
    with saved(path) as stream:
        FORMATS[name].write(steps, stream, digits)


def _labels(found: Sequence[_Found]) -> list[str]:
    """The names in another file: of those that stand in several files, the file's before it."""
    counted = Counter(one.label for one in found)
    labels = [
        one.label if counted[one.label] == 1 else f"{stem(one.path)}.{one.label}" for one in found
    ]
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise UsageError(f"two arrays would be called {twice[0]!r}; save them one by one")
    return labels


def _step(one: _Found, label: str, axes: int) -> Step:
    """The member as something to write; nothing of a mapped file is read yet."""
    held = one.held()
    array = held.array.reshape((1,) * (axes - held.array.ndim) + held.shape)
    like = np.empty(0, array.dtype)
    dtype = like.dtype if one.decode is None else one.decode(like).dtype
    outline = Outline(label, "", (), array.shape, dtype, held.rows, held.columns)
    return outline.computed_by(lambda: _parts(array, one.decode))


def _parts(array: Array, decode: Callable[[Array], Array] | None) -> Parts:
    """The rows of all its matrices, some at a time."""
    whole = np.atleast_2d(array)
    rows = max(_AT_ONCE // max(whole.shape[-1], 1), 1)
    for place in np.ndindex(whole.shape[:-2]):
        matrix = whole[place]
        for first in range(0, len(matrix), rows):
            part = matrix[first : first + rows]
            yield part if decode is None else decode(part)
