"""The formats by name: how each is recognised, read and written."""

import re
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import dropwhile
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from qkvcli.core.steps import Step
from qkvcli.errors import UsageError
from qkvcli.formats.text.cells import SPACE, is_comment, is_number

if TYPE_CHECKING:  # delivery imports this module, also where no file is read
    from pathlib import Path

    import numpy as np

    from qkvcli.formats.members import Document
    from qkvcli.formats.source import Source
    from qkvcli.formats.stored import Stored


class Format(NamedTuple):
    """A format that programs read: its name, on the command line and as a file's ending.

    ``module`` has ``read_NAME`` and, unless it is only read, ``write_NAME``, and is imported
    when it is used. Text with a ``delimiter`` shares one reader and one writer. A ``binary``
    format is not for a terminal. A file of an ``alone`` format has room for one array without a
    name, of several steps the last; in the others, each array has its name. An array has at least
    so many ``axes`` there. Of NumPy's types, a file holds those of ``kinds``
    (`numpy.dtype.kind`) whose numbers have no more bytes than the ``widest`` (None: any); where
    it is ``lacking``, it also holds the types that NumPy lacks, such as bfloat16.
    """

    name: str
    module: str
    delimiter: str | None = None
    binary: bool = False
    alone: bool = False
    axes: int = 0
    kinds: str = "biuf"
    widest: int | None = None
    lacking: bool = False

    def keeps(self, dtype: "np.dtype[Any]") -> bool:
        """Whether a file of the format can hold a type of NumPy's."""
        fits = self.widest is None or dtype.itemsize <= self.widest
        return fits and dtype.kind in self.kinds

    def has(self, stored: "Stored") -> bool:
        """Whether a file of the format can hold a type that NumPy lacks, as it is."""
        return self.lacking and stored.decode is not None

    def read(self, source: "Source") -> "Document":
        """What a source holds. Raises DataError."""
        function = self._function("read")
        document: Document = (
            function(source) if self.delimiter is None else function(source, self.delimiter)
        )
        return document

    def write(self, steps: Sequence[Step], stream: BinaryIO, digits: int | None = None) -> None:
        """The steps into a stream, with this many decimals (None: every digit)."""
        more = () if self.delimiter is None else (self.delimiter,)
        self._function("write")(steps, stream, digits, *more)

    def _function(self, action: str) -> "Callable[..., Document]":
        name = self.name if self.delimiter is None else "delimited"
        found: Callable[..., Document] = getattr(
            import_module(f"qkvcli.formats.{self.module}"), f"{action}_{name}"
        )
        return found


_ALL = "biufcmMOSTUV"
"""The kinds of all of NumPy's types."""

CSV = Format("csv", "text.delimited", ",", alone=True, axes=2)
TSV = Format("tsv", "text.delimited", "\t", alone=True, axes=2)
TXT = Format("txt", "text.delimited", SPACE, alone=True, axes=2)
JSON = Format("json", "json_text", axes=1)
NPY = Format("npy", "numpy_files", binary=True, alone=True, kinds=_ALL)
NPZ = Format("npz", "numpy_files", binary=True, kinds=_ALL)
SAFETENSORS = Format(
    "safetensors", "safetensors", binary=True, kinds="biufc", widest=8, lacking=True
)
PT = Format("pt", "torch.files", binary=True)

FORMATS = {known.name: known for known in (CSV, TSV, TXT, JSON, NPY, NPZ, SAFETENSORS)}

ONLY_READ = {".pt": PT, ".pth": PT, ".ckpt": PT}
"""The endings of what other programs write, and ours does not."""

GZIP = ".gz"
"""What ends the name of a compressed file, after the ending that says the format."""
PAGES = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".svg": "svg",
    ".html": "html",
    ".htm": "html",
}
"""The endings of what is only written, for people: `render` has the writers."""
PICTURES = ("svg", "html")
"""Those of them that are drawn, in the size and with the digits of what is shown."""
COMPRESSED = tuple(f".{known.name}.gz" for known in FORMATS.values() if not known.binary)
"""The endings of what is written through gzip: text, which becomes much smaller."""

_JSON = re.compile(r'\s*(\{\s*["}]|\[\s*(\[|\]|"|-?\d|-?Infinity|NaN))')
"""How JSON that holds matrices begins; "[CLS]" is a label."""
_LABEL = re.compile(r"\s*\[[^][,\n]*\][^\S\n]+\S")
"""How a line of labels begins whose first is "[1]"."""


def name_by_ending(path: "Path", said: str) -> str:
    """The name of the format that a file is to be written in: its ending's.

    >>> from pathlib import Path
    >>> name_by_ending(Path("all.npz"), "-o all.npz"), name_by_ending(Path("x.md"), "-o x.md")
    ('npz', 'markdown')

    Raises UsageError, which begins with ``said``, for an ending that is none of ours, or is
    only read.
    """
    ending = path.suffix.lower()
    if ending in ONLY_READ:
        raise UsageError(f"{said}: {ending} is only read; use .npz or .safetensors")
    if ending == GZIP and not path.name.lower().endswith(COMPRESSED):
        raise UsageError(f"{said}: what is compressed is text; use one of {', '.join(COMPRESSED)}")
    if ending in PAGES:
        return PAGES[ending]
    known = format_by_ending(path)
    if known is None:
        endings = ", ".join(f".{name}" for name in (*FORMATS, "md", "svg", "html"))
        raise UsageError(f"{said}: the ending says the format; use one of {endings}")
    return known.name


def format_by_ending(path: "Path") -> Format | None:
    """The format that a file's ending names, or the one before ``.gz``; case does not matter.

    >>> from pathlib import Path
    >>> [format_by_ending(Path(name)) for name in ("Q.CSV", "q.csv.gz")] == [CSV, CSV]
    True
    >>> format_by_ending(Path("q.dat"))
    """
    from pathlib import Path  # imported here: a bare line writes no file

    inside = Path(path.name.lower().removesuffix(GZIP)).suffix
    return ONLY_READ.get(inside) or FORMATS.get(inside.removeprefix("."))


def format_by_start(start: bytes) -> Format:
    r"""The format that a file's first bytes tell.

    >>> starts = (b"\x93NUMPY", b"PK\x03\x04", b' {"q": 1}', b"1,2", b"1 2")
    >>> [format_by_start(start).name for start in starts]
    ['npy', 'npz', 'json', 'csv', 'txt']
    """
    from qkvcli.formats.foreign import is_torch, like_safetensors
    from qkvcli.formats.source import decoded  # imported here: a bare line reads no file

    if start.startswith(b"\x93NUMPY"):
        return NPY
    if is_torch(start):
        return PT
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return NPZ
    if like_safetensors(start):
        return SAFETENSORS
    text = decoded(start)
    if _JSON.match(text) and not _LABEL.match(text):
        return JSON
    lines = list(filter(str.strip, text.splitlines()))
    lines = [*dropwhile(is_comment, lines)] or lines
    lines = list(map(str.strip, lines[:50]))
    ends = {_parted_by(line) for line in lines[1:] or lines}  # the first may be labels
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
