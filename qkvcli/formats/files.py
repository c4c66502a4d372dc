"""Reading a matrix from wherever it is: a file, a folder, or a pipe."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from qkvcli.core.operands import PARTS, Operand
from qkvcli.errors import DataError
from qkvcli.formats.address import Address, Part, readings
from qkvcli.formats.foreign import check_ours
from qkvcli.formats.members import Document, Member, choose, fits, listed, named, names_of
from qkvcli.formats.registry import Format, format_by_ending, format_by_start
from qkvcli.formats.source import Source

_INDEX = ".index.json"
"""How the name of a checkpoint's index ends: model.safetensors.index.json."""
_BRACES = re.compile(r"\{([^{}]+,[^{}]+)\}")
_PLACES = {
    part: place
    for place, (name, parts) in enumerate(PARTS.items())
    for part in (name, *parts.values())
} | dict.fromkeys(("output", "wo", "bo"), len(PARTS))
"""Which of the names in braces is that of a role."""


def address_of(text: str) -> Address:
    """What a person typed for a matrix: ``PATH[:MEMBER][SLICE]``. Raises DataError."""
    return Address.of(text, lambda path: format_by_ending(path) is not None)


def read_document(source: Source) -> Document:
    """All that a file or a pipe holds; the ending tells the format, else the first bytes do.

    The index of a checkpoint in several files holds what all of them do. Raises DataError, which
    names the file and, where there is one, the line and the cell.
    """
    if source.path is not None and is_index(source.path):
        return _of_index(source, source.path.parent)
    document = format_of(source).read(source)
    try:
        "".join(document).encode()
    except UnicodeEncodeError:
        raise DataError(f"{source.name}: a name in it is not UTF-8 text") from None
    return document


def is_index(path: Path | None) -> bool:
    """Whether a file is named as the index of a checkpoint in several files."""
    return path is not None and path.name.lower().endswith(_INDEX)


def _places(source: Source) -> dict[str, str]:
    """The file of each tensor of a checkpoint, by its name. Raises DataError."""
    import json  # imported here: few files are an index

    try:
        places = json.loads(source.text())["weight_map"]
        if all(isinstance(file, str) and file for file in places.values()):
            return dict(places)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    what = 'not the index of a checkpoint: there is no "weight_map" of names and files in it'
    raise DataError(f"{source.name}: {what}")


def _of_index(source: Source, folder: Path) -> Document:
    """The tensors that an index names, each with the file beside it that has it."""
    places = _places(source)
    files = dict.fromkeys(places.values())
    for file in files:
        if Path(file).name != file or is_index(Path(file)):
            raise DataError(f"{source.name}: {file!r} is no file of tensors beside it")
    held = {file: _shard(folder / file) for file in files}
    return {name: _tensor(held[file], name, folder / file) for name, file in places.items()}


def _shard(path: Path) -> Document | None:
    """What one file of a checkpoint holds; None where it is not there (yet)."""
    source = Source.file(path)
    return read_document(source) if source.regular else None


def _tensor(shard: Document | None, name: str, path: Path) -> Member:
    """A tensor that an index says is in a file; one that is not cannot be read."""
    if shard is None:
        return Member.unreadable(DataError(f"{path}: cannot be read: it is not there"))
    if name not in shard:
        return Member.unreadable(DataError(f"{path}: there is no {name} in it"))
    return shard[name]


def format_of(source: Source) -> Format:
    """The format of a file or a pipe. Raises DataError for one of somebody else's."""
    known = format_by_ending(source.path) if source.path else None
    start = source.start()
    check_ours(start, source.name)
    return known or format_by_start(start)


def taken(document: Document, address: Address, role: str, where: str) -> Operand:
    """The matrix at an address, in the document of its file, for ``role``. Raises DataError."""
    if address.member is None:
        return choose(document, role, where, part=address.part)
    name, part = member_at(document, address, role, where)
    known = role == "scores" and name.lower() in names_of(role)  # it says which step it is
    found = choose({name if known else "": document[name]}, role, where, part=part)
    return replace(found, origin=f"{where}:{name}{part}")


def member_at(document: Document, address: Address, role: str, where: str) -> tuple[str, Part]:
    """The name of the member that an address means for a role, and its part. Raises DataError."""
    if not any(name in document for name, _ in readings(address.member or "")):
        address = each(address, role)
    return named(document, address.member or "", where)


def each(address: Address, role: str) -> Address:
    """The address for one role, of one that names several: ``{q,k,v,o}_proj.weight``.

    The names in braces are those of the query, the key, the value and the output, as far as they
    are listed; each option takes its own. Raises DataError where there is none for it.

    >>> several = Address("", Path("a.npz"), "{query,key,value}_states[1]")
    >>> each(several, "key").member, each(several, "mask").member
    ('key_states[1]', '{query,key,value}_states[1]')
    """
    if role not in _PLACES:
        return address

    def one(match: re.Match[str]) -> str:
        names = match[1].split(",")
        if _PLACES[role] >= len(names):
            raise DataError(f"{address}: {match[0]} has no name for the {role}")
        return names[_PLACES[role]].strip()

    return address._replace(member=_BRACES.sub(one, address.member or ""))


def among(document: Document, address: Address, where: str) -> tuple[Document, Part]:
    """The members that an address may mean, of a document, and the part of each of them."""
    if address.member is None:
        return document, address.part
    found, part = fits(document, address.member)
    if not found:
        named(document, address.member, where)  # says that there is none
    return {name: document[name] for name in found}, part


def is_folder(address: Address) -> bool:
    """Whether an address is of a folder. Raises DataError for a member of one."""
    try:
        folder = address.path.is_dir()
    except OSError:  # a name that no file can have; reading it says so
        return False
    if folder and address.member is not None:
        file = address.path / "FILE"
        raise DataError(f"{address}: a folder has no members; name a file of it, as {file}")
    return folder


def in_folder(
    folder: Path,
    role: str,
    part: Part,
    document: Callable[[Path], tuple[Document, str]],
) -> Operand | None:
    """The matrix of the file that is named for its ``role`` in a folder: query.npy, Q.csv, ….

    ``document`` gives what each holds, and its name in an error. Of several files that hold the
    same numbers it is the one with labels. None where there is none. Raises DataError where they
    differ.
    """
    names = names_of(role)
    fitting = [path for path in files_in(folder) if stem(path).lower() in names]
    found = [choose(held, role, where, part=part) for held, where in map(document, fitting)]
    for other in found[1:]:
        if not np.array_equal(found[0].array, other.array, equal_nan=other.array.dtype.kind == "f"):
            both = " and ".join(path.name for path in fitting)
            raise DataError(f"{folder}: {both} differ, and each may be {role}; keep one")
    labelled = (operand for operand in found if operand.rows is not None)
    return next(labelled, found[0] if found else None)


def files_in(folder: Path) -> list[Path]:
    """The files of a folder that have an ending of ours; an index stands for those that it names.

    Raises DataError.
    """
    try:
        files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    except OSError as fault:
        raise DataError(f"{folder}: cannot be read: {fault.strerror}") from None
    shards = {file for path in files if is_index(path) for file in _files_of(path)}
    return [path for path in files if format_by_ending(path) and path.name not in shards]


def _files_of(index: Path) -> set[str]:
    """The files that an index names; none where it is spoilt: reading it raises."""
    try:
        return set(_places(Source.file(index)).values())
    except DataError:
        return set()


def stem(path: Path) -> str:
    """A file's name without its endings: ``.csv``, or ``.csv.gz``."""
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def missing_from(folder: Path, role: str) -> DataError:
    """What is wrong with a folder that has no file for a role."""
    held = listed(sorted(path.name for path in folder.iterdir()))
    return DataError(f"{folder}: holds {held}; there is no file called {_or(role)} in it")


def _or(role: str) -> str:
    return " or ".join(names_of(role)[:2])
