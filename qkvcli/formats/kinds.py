"""The formats by name: how each is told, read and written."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

from qkvcli.core.steps import Written
from qkvcli.formats.cells import SPACE, is_number
from qkvcli.formats.document import Document
from qkvcli.formats.source import Source


@dataclass(frozen=True)
class Kind:
    """A format: its name on the command line, which its files end in; how it is read and written.

    ``write`` takes the steps, a binary stream and the number of decimals (None: all). A
    format that is ``binary`` is not for a terminal. The modules are imported when used.
    """

    name: str
    read: Callable[[Source], Document]
    write: Callable[[Sequence[Written], BinaryIO, int | None], None]
    binary: bool = False


def _delimited(name: str, delimiter: str) -> Kind:
    def read(source: Source) -> Document:
        from qkvcli.formats.delimited import read_delimited

        return read_delimited(source, delimiter)

    def write(steps: Sequence[Written], stream: BinaryIO, digits: int | None) -> None:
        from qkvcli.formats.delimited_writer import write_delimited

        write_delimited(steps, stream, digits, delimiter)

    return Kind(name, read, write)


def _named(name: str, reader: str, writer: str, binary: bool) -> Kind:
    def read(source: Source) -> Document:
        document: Document = getattr(import_module(reader), f"read_{name}")(source)
        return document

    def write(steps: Sequence[Written], stream: BinaryIO, digits: int | None) -> None:
        getattr(import_module(writer), f"write_{name}")(steps, stream, digits)

    return Kind(name, read, write, binary)


CSV, TSV, TXT = _delimited("csv", ","), _delimited("tsv", "\t"), _delimited("txt", SPACE)
JSON = _named("json", "qkvcli.formats.json_text", "qkvcli.formats.json_writer", False)
NPY = _named("npy", "qkvcli.formats.numpy_files", "qkvcli.formats.numpy_writer", True)
NPZ = _named("npz", "qkvcli.formats.numpy_files", "qkvcli.formats.numpy_writer", True)

KINDS = {kind.name: kind for kind in (CSV, TSV, TXT, JSON, NPY, NPZ)}

_JSON = re.compile(r'\s*(\{\s*["}]|\[\s*(\[|\]|"|-?\d|-?Infinity|NaN))')
"""How JSON that holds matrices begins; "[CLS]" is a label."""


def kind_by_ending(path: Path) -> Kind | None:
    """The format that a file's ending names; case does not matter.

    >>> kind_by_ending(Path("Q.CSV")).name, kind_by_ending(Path("q.dat"))
    ('csv', None)
    """
    return KINDS.get(path.suffix.lower().removeprefix("."))


def kind_by_start(start: bytes) -> Kind:
    r"""The format that a file's first bytes tell.

    >>> [kind_by_start(b).name for b in (b"\x93NUMPY", b"PK\x03\x04", b' {"q": 1}', b"1,2", b"1 2")]
    ['npy', 'npz', 'json', 'csv', 'txt']
    """
    if start.startswith(b"\x93NUMPY"):
        return NPY
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return NPZ
    text = start.decode("utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "ignore")
    text = text.removeprefix("\ufeff")
    if _JSON.match(text):
        return JSON
    lines = [line.strip() for line in text.splitlines()[:50] if not line.startswith("# shape ")]
    ends = {_parted_by(line) for line in lines}
    known = next((delimiter for delimiter in "\t, " if delimiter in ends), None)
    if known is None:  # no line ends in a number: what follows will say where that is
        known = next((delimiter for delimiter in ",\t" if delimiter in text), SPACE)
    return {",": CSV, "\t": TSV, SPACE: TXT}[known]


def _parted_by(line: str) -> str | None:
    """What stands before the number at a line's end, where no label is likely to be."""
    if all(map(is_number, line.split())) and " " in line:
        return SPACE  # also where tabs are among the blanks
    parted = ((delimiter, line.rsplit(delimiter, 1)) for delimiter in "\t, ")
    return next((d for d, cells in parted if len(cells) == 2 and is_number(cells[1])), None)
