"""Plain numbers as text, and back, many at once: by orjson, where JSON's grammar has them.

A line of plain numbers in CSV is the inside of a JSON array. What that grammar lacks (`inf`,
`+1`, `.5`, quotes), or would read otherwise, is left to those who look more closely.
https://github.com/ijl/orjson
"""

import math
import re
from array import array
from collections.abc import Iterator
from itertools import chain, zip_longest
from typing import BinaryIO

import numpy as np

from qkvcli.core.operands import Array, Shape
from qkvcli.core.steps import Parts
from qkvcli.formats.text.cells import DEEPEST, SPACE

_WRITTEN = 2**15
"""So many numbers are written at once: their text stays in the processor's cache."""
_READ = 2**20
"""So many bytes are read at once, for the same reason."""
_DIGITS = b"0123456789.eE+-"
_WHOLE_ZERO = re.compile(rb"-0(?![.eE\d])")
"""A zero whose sign is lost where whole numbers have none."""
_BLANK = b" \t\r\n"
_SIDES = bytes({"[": 1, ",": 3, "]": 2}.get(chr(sign), 0) for sign in range(256))
"""What begins a cell (1), what ends one (2), or both."""
_INSIDE = bytes.maketrans(b"[]", b"  ")
_NESTED = re.compile(rb"\s*:?\s*(?=\[\s*\[)")
"""What stands before lists in lists, after a name."""
_LARGE = 2**12
"""Fewer bytes of JSON are left to Python's own reader."""
_MARK = "1e-8000"
"""How a zero begins as no program writes it."""


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
        cells = lines[:-1].replace(b"\n", b",").replace(parted, b",")
        part = _of_cells(cells)
        whole = part is not None and len(part) == lines.count(b"\n") * (row.count(parted) + 1)
        if part is None or not whole or (not part.all() and _WHOLE_ZERO.search(cells)):
            return None
        numbers.frombytes(part.tobytes())
    return np.frombuffer(numbers).reshape(-1, row.count(parted) + 1) if numbers else None


def _of_cells(cells: bytes) -> Array | None:
    """Numbers between commas; None where JSON has no such numbers."""
    import orjson

    try:
        return np.array(orjson.loads(b"[%b]" % cells), np.float64)
    except orjson.JSONDecodeError:
        return None


def without_numbers(text: bytes) -> tuple[bytes, dict[str, Array]]:
    """JSON with a number in place of each large nested list of plain numbers; and what it means.

    Some may stand in a label, or where no array is looked for: that shows when the rest is read.

    >>> rest, arrays = without_numbers(b'{"q": [%b]}' % b", ".join([b"[0.5, 1]"] * 1000))
    >>> rest, [(mark, array.shape) for mark, array in arrays.items()]
    (b'{"q": 1e-8000000000}', [('1e-8000000000', (1000, 2))])
    """
    arrays: dict[str, Array] = {}
    rest, done = [], 0
    for first, last in _without_quotes(text):
        begins = _NESTED.match(text, first, last)
        ends = text.rfind(b"]", first, last) + 1
        array = nested_in(text[begins.end() : ends]) if begins else None
        if begins and array is not None:
            mark = f"{_MARK}{len(arrays):06}"
            arrays[mark] = array
            rest += [text[done : begins.end()], mark.encode()]
            done = ends
    left = b"".join([*rest, text[done:]])
    return (left, arrays) if left.count(_MARK.encode()) == len(arrays) else (text, {})


def _without_quotes(text: bytes) -> Iterator[tuple[int, int]]:
    """Where large pieces without quotes begin and end: few looks at a text that is full of them."""
    first = 0
    while first < len(text) - _LARGE:
        quote = text.rfind(b'"', first, first + _LARGE)
        if quote < 0:
            after = text.find(b'"', first)
            quote = len(text) if after < 0 else after
            yield first, quote
        first = quote + 1


def nested_in(text: bytes) -> Array | None:
    r"""Nested lists of plain numbers, all of one shape, as float64; None where they are not.

    >>> nested_in(b"[[0.5, -1],\n [2, 3e7]]"), nested_in(b"[[1, 2], [3]]")
    (array([[ 5.e-01, -1.e+00],
           [ 2.e+00,  3.e+07]]), None)
    """
    shape = _shape_of(text.translate(None, _DIGITS + _BLANK))
    if shape is None:
        return None
    whole = np.empty(math.prod(shape))
    first = done = 0
    while first < len(text):
        last = text.find(b"]", first + _READ) + 1 or len(text)
        if _has_empty_cell(text[first:last]):  # or as many numbers need not be one in each
            return None
        cells = text[first:last].translate(_INSIDE).strip(_BLANK)
        # a piece ends at a bracket, so that a comma begins the next, or brackets alone are left
        parted = not (first and cells) or cells.startswith(b",")
        part = _of_cells(cells[1:] if first else cells) if parted else None
        if part is None or done + len(part) > len(whole):
            return None
        whole[done : done + len(part)] = part
        first, done = last, done + len(part)
    return whole.reshape(shape) if done == len(whole) else None  # of empty cells there are fewer


def _has_empty_cell(text: bytes) -> bool:
    """Whether a cell of nested lists has no number: what begins it is next to what ends it.

    >>> _has_empty_cell(b"[[1, 2], [3, ]]"), _has_empty_cell(b"[[1], [2]]")
    (True, False)
    """
    sides = np.frombuffer(text.translate(_SIDES, _BLANK), np.uint8)
    return bool((sides[:-1] & (sides[1:] >> 1) & 1).any())


def _shape_of(signs: bytes) -> Shape | None:
    """The shape of nested lists that are ``[[,,],[,,]]`` without their numbers."""
    axes = len(signs) - len(signs.lstrip(b"["))
    if not 0 < axes <= DEEPEST:
        return None
    width = signs.find(b"]") - axes + 1
    shape, inner = [width], b"[" + b"," * (width - 1) + b"]"
    for axis in range(axes - 1, 0, -1):
        count = signs[axis:].find(inner + b"]") // (len(inner) + 1) + 1
        shape.insert(0, count)
        inner = b"[" + b",".join([inner] * count) + b"]"
    return tuple(shape) if inner == signs else None
