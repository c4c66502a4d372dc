"""Plain numbers as text, and back, many at once: by orjson, where JSON's grammar has them.

A line of plain numbers in CSV is the inside of a JSON array. What that grammar lacks (`inf`,
`+1`, `.5`, quotes), or would read otherwise, is left to those who look more closely.
https://github.com/ijl/orjson
"""

import re
from array import array
from collections.abc import Collection
from itertools import chain, zip_longest
from typing import Any, BinaryIO

import numpy as np

from qkvcli.core.operands import Array
from qkvcli.core.steps import Parts
from qkvcli.formats.text.cells import DEEPEST, SPACE

_WRITTEN = 2**15
"""So many numbers are written at once: their text stays in the processor's cache."""
_READ = 2**20
"""So many bytes are read at once, for the same reason."""
_DIGITS = b"0123456789.eE+-"
_WHOLE_ZERO = re.compile(rb"-0(?![.eE\d])")
"""A zero whose sign is lost where whole numbers have none."""


def blocks(parts: Parts) -> Parts:
    """The rows of the parts, few enough at a time that their text is small beside them.

    >>> [len(block) for block in blocks(iter([np.zeros((3, 20_000))]))]
    [1, 1, 1]
    """
    for part in parts:
        rows = max(_WRITTEN // max(part.shape[1], 1), 1)
        yield from (part[first : first + rows] for first in range(0, len(part), rows))


def lines_of(part: Array, digits: int | None, delimiter: str) -> list[str]:
    """Rows of numbers as lines of cells, with this many decimals or (None) the shortest.

    >>> lines_of(np.array([[2 / 3, np.nan]]), 2, " ")
    ['0.67 nan']
    >>> lines_of(np.array([[0.1, np.nan], [-np.inf, 1e-7]]), None, ",")
    ['0.1,nan', '-inf,1e-7']
    >>> lines_of(np.array([[0.1, 3]], np.float16), None, ",")
    ['0.1,3.0']
    """
    if part.dtype.kind == "b":
        return [delimiter.join("true" if cell else "false" for cell in row) for row in part]
    if digits is not None:
        line = delimiter.join([f"%.{digits}f"] * part.shape[1])
        return [line % tuple(row) for row in part.tolist()]
    if part.dtype.kind == "f" and part.dtype.itemsize in (4, 8) and part.size:
        return _shortest(part, delimiter)
    cells: list[list[str]] = part.astype("U32").tolist()  # float16 has fewer digits than float32
    return [delimiter.join(row) for row in cells]


def _shortest(part: Array, delimiter: str) -> list[str]:
    """Rows of float64 or float32 in the shortest digits that read back to the same number."""
    import orjson

    native = np.ascontiguousarray(part, part.dtype.newbyteorder("="))
    text = orjson.dumps(native, option=orjson.OPT_SERIALIZE_NUMPY)
    lines = _worded(text[2:-2], native).decode().replace(",", delimiter)
    return lines.split(f"]{delimiter}[")


def _worded(text: bytes, numbers: Array) -> bytes:
    """The text with the words of what JSON has no numbers for, where it has ``null`` for them."""
    odd = numbers[~np.isfinite(numbers)]
    words = [repr(number).encode() for number in odd.tolist()]
    if len(set(words)) < 2:
        return text.replace(b"null", words[0]) if words else text
    between = zip_longest(text.split(b"null"), words, fillvalue=b"")
    return b"".join(chain.from_iterable(between))


def numbers_in(stream: BinaryIO, delimiter: str) -> Array | None:
    r"""Lines of as many plain numbers each, (L, d) in float64, some at a time.

    None where there is anything else: another sign, an empty line, a line of another length, a
    number that JSON writes otherwise.

    >>> import io
    >>> numbers_in(io.BytesIO(b"0.5,-1e-07\n-0.0,3"), ",")
    array([[ 5.e-01, -1.e-07],
           [-0.e+00,  3.e+00]])
    >>> numbers_in(io.BytesIO(b"0.5,inf\n"), ",")
    """
    parted = delimiter.encode()
    kept = _DIGITS if delimiter == SPACE else _DIGITS + b" "
    row = b""
    numbers = array("d")
    while lines := stream.read(_READ) + stream.readline():
        row = row or lines.partition(b"\n")[0].translate(None, kept) + b"\n"
        end = row[row.count(parted) :]
        lines = lines if lines.endswith(b"\n") else lines + end
        signs = lines.translate(None, kept)
        if end not in (b"\n", b"\r\n") or signs != row * (len(signs) // len(row)):
            return None
        part = _of_cells(lines[:-1].replace(b"\n", b",").replace(parted, b","))
        if part is None:
            return None
        numbers.frombytes(part.tobytes())
    return np.frombuffer(numbers).reshape(-1, row.count(parted) + 1) if numbers else None


def _of_cells(cells: bytes) -> Array | None:
    """Numbers between commas; None where JSON has no such numbers, or loses the sign of a zero."""
    import orjson

    try:
        numbers = np.array(orjson.loads(b"[%b]" % cells), np.float64)
    except orjson.JSONDecodeError:
        return None
    return None if not numbers.all() and _WHOLE_ZERO.search(cells) else numbers


def held_in(text: bytes, whole: Collection[str]) -> Any:
    """What JSON holds; None where Python's own reader could make anything else of it.

    orjson keeps the last of two values with one name, reads whole numbers beyond 64 bits as
    floats, and nests deeper. The values of the names in ``whole`` are lists of text and whole
    numbers, and are shown as they are written.

    >>> held_in(b'{"q": [[1.5]], "rows": ["a"]}', ["rows"]), held_in(b'{"q": 1, "q": 2}', ["rows"])
    ({'q': [[1.5]], 'rows': ['a']}, None)
    """
    import orjson

    try:
        held = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return held if _names(held, whole) == text.count(b":") else None


def _names(held: Any, whole: Collection[str]) -> int:
    """How many names all objects have, each of which has a colon; -1 where that is not all."""
    count, level = 0, [held]
    for _ in range(DEEPEST):
        objects = [value for value in level if type(value) is dict]
        lists = [(value, set(map(type, value))) for value in level if type(value) is list]
        odd = any(dict in kinds for _, kinds in lists)
        if odd or not all(_is_whole(value.get(name)) for value in objects for name in whole):
            return -1
        count += sum(map(len, objects))
        inner = [value.values() for value in objects]
        level = [*chain(*inner, *(value for value, kinds in lists if list in kinds))]
        if not level:
            return count
    return -1


def _is_whole(value: Any) -> bool:
    """Whether a value is a list of text and whole numbers, if it is there."""
    return value is None or (type(value) is list and set(map(type, value)) <= {str, int})
