"""The command that says what files hold, and saves what they hold in another format."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qkvcli.cli.amounts import check_room
from qkvcli.cli.commands import Line
from qkvcli.cli.delivery import kept_in
from qkvcli.cli.environment import Environment
from qkvcli.cli.opened import Opened, check_labelling, told
from qkvcli.cli.terminal import Meter, Printer, screen, stream_for
from qkvcli.core.inventory import Entry, range_of
from qkvcli.core.operands import Array, Operand
from qkvcli.core.steps import Outline, Parts, Step
from qkvcli.errors import DataError, UsageError
from qkvcli.formats.address import Part
from qkvcli.formats.files import address_of, among, files_in, is_folder, is_index, stem
from qkvcli.formats.members import Document, Member, held_in
from qkvcli.formats.registry import FORMATS
from qkvcli.formats.saving import saved

_AT_ONCE = 2**20
"""How many numbers are made of what a file holds, and written, together."""
_ADVICE = "name a part, as FILE:NAME[0:1000], to save less"


class _Chosen(NamedTuple):
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
        return self.member.part(self.part)

    @property
    def saved_name(self) -> str:
        """The name that it has in another file."""
        return self.name or ("array" if str(self.path) == "-" else stem(self.path))


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


def _members(opened: Opened, word: str) -> Iterator[_Chosen]:
    """What a word of the command line names: all of a file or of a folder, or some of a file."""
    address = address_of(word)
    if is_folder(address):
        for path in files_in(address.path):
            document, where = _document(opened, path)
            found = [_Chosen(where, path, *held, address.part) for held in document.items()]
            config = path.suffix.lower() == ".json" and not is_index(path)
            yield from _matrices(found) if config else found
        return
    document, where = _document(opened, address.path)
    document, part = among(document, address, where)
    yield from (_Chosen(where, address.path, *held, part) for held in document.items())


def _matrices(found: Iterable[_Chosen]) -> Iterator[_Chosen]:
    """The matrices of JSON, each read once: a model's folder has configurations in it, too."""
    for one in found:
        member = replace(one.member, held=cache(one.member.held))
        matrix = one._replace(member=member)
        try:
            matrix.held()
        except DataError:
            continue
        yield matrix


def _document(opened: Opened, path: Path) -> tuple[Document, str]:
    """What a file holds, and its name; one that cannot be read does not hide the others."""
    try:
        return opened.document(path)
    except DataError as fault:
        return {"": Member.unreadable(fault)}, str(path)


def _show(found: Sequence[_Chosen], shown: str, line: Line, environment: Environment) -> None:
    """The members with their ranges. Raises DataError, in the end, where one cannot be read."""
    with Meter(environment) as advance:
        entries = list(_entries(found, environment, advance))
    stream = stream_for(shown, environment)
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
    found: Sequence[_Chosen], environment: Environment, advance: Callable[[int, int], None]
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


def _entry(one: _Chosen, environment: Environment, advance: Callable[[int], None]) -> Entry:
    stored = one.member.stored
    try:
        held = one.held()
        numbers = range_of(held.array, one.decode, advance)
    except DataError as fault:
        kind = "" if stored is None else stored.name
        return Entry(one.file, one.name, one.member.shape, kind, fault=str(fault))
    told(held, environment)
    kind = held.array.dtype.name if stored is None else stored.name
    kind = "text" if kind.startswith("str") else kind
    return Entry(
        one.file, one.name, held.shape, kind, numbers, rows=held.rows, columns=held.columns
    )


def _save(
    found: Sequence[_Chosen], path: Path, name: str, digits: int | None, environment: Environment
) -> None:
    """Save the members in a format, part by part.

    Raises UsageError where a file of the format has room for one, or none.
    """
    if name not in FORMATS:
        endings = ", ".join(f".{known}" for known in FORMATS)
        raise UsageError(f"-o {path}: what a file holds is saved as {endings}")
    known = FORMATS[name]
    if known.alone and len(found) != 1:
        held = held_in({one.saved_name: one.member for one in found})
        raise UsageError(
            f"-o {path}: .{name} has room for one array; name it, as FILE:NAME, of {held}; "
            "or save all as .npz"
        )
    steps = list[Step]()
    for one, called in zip(found, _saved_names(found), strict=True):
        array, stored = told(one.held(), environment), one.member.stored
        kind = stored.name if stored is not None and known.has(stored) else ""
        decode = None if kind else one.decode
        step = _step(array, decode, called, known.axes, kind)
        steps.append(step)
        if not known.keeps(step.dtype):
            where = f"{one.file}: {one.name}" if one.name else one.file
            what = f"numbers of type {step.dtype} cannot be kept in .{name}"
            raise DataError(f"{where}: {what}; use .npz")
        if decode is not None and stored is not None:
            environment.note(f"{path}: {stored.name} is written as {step.dtype}")
    check_room(path, name, steps, _ADVICE, environment)
    with saved(path) as stream:
        known.write(steps, stream, digits)


def _saved_names(found: Sequence[_Chosen]) -> list[str]:
    """The names in another file: of those that stand in several files, the file's before it."""
    own = Counter(one.saved_name for one in found)
    names = [
        one.saved_name if own[one.saved_name] == 1 else f"{stem(one.path)}.{one.saved_name}"
        for one in found
    ]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(f"two arrays would be called {twice[0]!r}; save them one by one")
    return names


def _step(
    held: Operand, decode: Callable[[Array], Array] | None, name: str, axes: int, kind: str
) -> Step:
    """An array as something to write, of a ``kind``; nothing of a mapped file is read yet."""
    array = held.array.reshape((1,) * (axes - held.array.ndim) + held.shape)
    like = np.empty(0, array.dtype)
    dtype = like.dtype if decode is None else decode(like).dtype
    outline = Outline(name, "", (), array.shape, dtype, held.rows, held.columns, kind=kind)
    return outline.computed_by(lambda: _parts(array, decode))


def _parts(array: Array, decode: Callable[[Array], Array] | None) -> Parts:
    """The rows of all its matrices, some at a time; none where there is no number."""
    if not array.size:
        return
    whole = np.atleast_2d(array)
    rows = max(_AT_ONCE // whole.shape[-1], 1)
    for place in np.ndindex(whole.shape[:-2]):
        matrix = whole[place]
        for first in range(0, len(matrix), rows):
            part = matrix[first : first + rows]
            yield part if decode is None else decode(part)
