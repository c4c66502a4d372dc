"""Reading a matrix from wherever it is: a file, a folder, or a pipe."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from qkvcli.core.operands import PARTS, Operand
from qkvcli.errors import DataError
from qkvcli.formats.address import WHOLE, Address, Part, readings
from qkvcli.formats.foreign import check_ours
from qkvcli.formats.members import Document, choose, listed, matching, named, names_of
from qkvcli.formats.registry import Format, format_by_ending, format_by_start
from qkvcli.formats.source import Source

_BRACES = re.compile(r"\{([^{}]+)\}")


def address_of(text: str) -> Address:
    """What a person typed for a matrix: ``PATH[:MEMBER][SLICE]``. Raises DataError."""
    return Address.of(text, lambda path: format_by_ending(path) is not None)


def read_document(source: Source) -> Document:
    """All that a file or a pipe holds; the ending tells the format, else the first bytes do.

    Raises DataError, which names the file and, where there is one, the line and the cell.
    """
    return format_of(source).read(source)


def format_of(source: Source) -> Format:
    """The format of a file or a pipe. Raises DataError for one of somebody else's."""
    known = format_by_ending(source.path) if source.path else None
    start = source.start()
    check_ours(start, source.name)
    return known or format_by_start(start)


def read_matrix(source: Source, role: str) -> Operand:
    """The matrix that plays ``role`` ("query", "scores", …) in what ``source`` holds."""
    return choose(read_document(source), role, source.name)


def taken(document: Document, address: Address, role: str, where: str) -> Operand:
    """The matrix at an address, in the document of its file, for ``role``. Raises DataError."""
    if address.member is None:
        return choose(document, role, where, part=address.part)
    name, part = named(document, address.member, where)
    known = role == "scores" and name.lower() in names_of(role)  # it says which step it is
    found = choose({name if known else "": document[name]}, role, where, part=part)
    return replace(found, origin=f"{where}:{name}{part}")


def each(address: Address, role: str) -> Address:
    """The address of one of Q, K and V, of one that names all: ``{query,key,value}_states``.

    Raises DataError where there is no third for the value.

    >>> each(Address("", Path("a.npz"), "{q,k,v}_proj[1]"), "key").member
    'k_proj[1]'
    """
    number = list(PARTS).index(role)

    def one(match: re.Match[str]) -> str:
        names = match[1].split(",")
        if number >= len(names):
            raise DataError(f"{address}: {match[0]} has no name for the {role}")
        return names[number].strip()

    return address._replace(member=_BRACES.sub(one, address.member or ""))


def among(document: Document, address: Address, where: str) -> tuple[Document, Part]:
    """The members that an address may mean, of a document, and the part of each of them."""
    if address.member is None:
        return document, address.part
    for pattern, part in readings(address.member):
        if found := matching(document, pattern):
            return {name: document[name] for name in found}, part
    named(document, address.member, where)  # says that there is none
    return {}, address.part


def in_folder(
    folder: Path,
    role: str,
    part: Part = WHOLE,
    opened: Callable[[Path], Source] = Source.file,
) -> Operand | None:
    """The matrix of the file that is named for its ``role`` in a folder: query.npy, Q.csv, ….

    ``opened`` makes the source of each. Of several files that hold the same numbers it is the
    one with labels. None where there is none. Raises DataError where they differ.
    """
    names = names_of(role)
    fitting = [path for path in files_in(folder) if stem(path).lower() in names]
    found = [
        choose(read_document(source), role, source.name, part=part)
        for source in map(opened, fitting)
    ]
    for other in found[1:]:
        if not np.array_equal(found[0].array, other.array, equal_nan=other.array.dtype.kind == "f"):
            both = " and ".join(path.name for path in fitting)
            raise DataError(f"{folder}: {both} differ, and each may be {role}; keep one")
    labelled = (operand for operand in found if operand.rows is not None)
    return next(labelled, found[0] if found else None)


def files_in(folder: Path) -> list[Path]:
    """The files of a folder that have an ending of ours. Raises DataError."""
    try:
        files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    except OSError as fault:
        raise DataError(f"{folder}: cannot be read: {fault.strerror}") from None
    return [path for path in files if format_by_ending(path)]


def stem(path: Path) -> str:
    """A file's name without its endings: ``.csv``, or ``.csv.gz``."""
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def missing_from(folder: Path, role: str) -> DataError:
    """What is wrong with a folder that has no file for a role."""
    held = listed(sorted(path.name for path in folder.iterdir()))
    return DataError(f"{folder}: holds {held}; there is no file called {_or(role)} in it")


def _or(role: str) -> str:
    return " or ".join(names_of(role)[:2])
