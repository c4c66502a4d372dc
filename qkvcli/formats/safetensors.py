"""safetensors files: a header of JSON says where each tensor's bytes lie; nothing else is run.

8 bytes say how long the header is; then {"name": {"dtype": "F32", "shape": [2, 3],
"data_offsets": [0, 24]}, …}, the offsets counted from the header's end. The bytes of the tensors
follow each other without gaps up to the end of the file.
Source: the format's own page, https://github.com/huggingface/safetensors, section Format.
"""

import json
import math
import sys
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple, NoReturn

import numpy as np

from qkvcli.core.operands import Operand, Shape
from qkvcli.core.steps import Step
from qkvcli.errors import DataError, WriteError
from qkvcli.formats.members import Document, Member
from qkvcli.formats.source import Source
from qkvcli.formats.stored import BFLOAT16, FLOAT8_E4M3, FLOAT8_E5M2, Stored, upper_half
from qkvcli.formats.text.cells import DEEPEST, is_size

_LONGEST = 100_000_000
"""The format's own limit for the bytes of a header."""
_META = "__metadata__"

_NUMPY = {
    "BOOL": "?",
    **{f"{sign}{8 * size}": f"<{sign.lower()}{size}" for sign in "IU" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)},
    "C64": "<c8",
}
_STORED = {name: Stored.plain(np.dtype(kind)) for name, kind in _NUMPY.items()} | {
    "BF16": BFLOAT16,
    "F8_E4M3": FLOAT8_E4M3,
    "F8_E5M2": FLOAT8_E5M2,
}
_ONLY_SIZED = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    **dict.fromkeys(("F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
}
"""The bits of the format's other types, which are no numbers here."""
_WRITTEN = {
    stored.dtype.newbyteorder("="): name
    for name, stored in _STORED.items()
    if stored.decode is None
}

_LACKING = {(stored.name, stored.dtype): name for name, stored in _STORED.items() if stored.decode}
"""The types that NumPy lacks, by what they are called and how their bytes are kept."""


class _Entry(NamedTuple):
    """What the header says of a tensor: its type, its shape, and its bytes after the header."""

    type: str
    shape: Shape
    begin: int
    end: int


def read_safetensors(source: Source) -> Document:
    """The tensors by name, each mapped when it is asked for. Raises DataError."""
    length = int.from_bytes(source.bytes_at(0, 8), "little")
    if source.size < 8 or length > min(_LONGEST, source.size - 8):
        _refuse(source, "its first 8 bytes do not say how long a header follows")
    header = _header(source, source.bytes_at(8, length))
    entries = {name: _entry(source, name, said) for name, said in header.items()}
    _check_places(source, entries, source.size - 8 - length)
    return {
        name: Member(
            partial(_held, source, name, entry, 8 + length),
            entry.shape,
            _STORED.get(entry.type) or Stored(entry.type.lower(), np.dtype("u1")),
        )
        for name, entry in entries.items()
    }


def _refuse(source: Source, reason: str) -> NoReturn:
    raise DataError(f"{source.name}: not a whole .safetensors file: {reason}")


def _header(source: Source, data: bytes) -> dict[str, Any]:
    """The entries of the header, without the metadata."""
    if not data.startswith(b"{"):
        _refuse(source, "its header is no JSON object")
    try:
        header = json.loads(data.decode(), object_pairs_hook=partial(_once, source))
    except DataError:
        raise
    except RecursionError:
        _refuse(source, "its header is nested too deep")
    except ValueError:
        _refuse(source, "its header is not JSON")
    meta = header.pop(_META, {})
    if not isinstance(meta, dict) or not all(isinstance(text, str) for text in meta.values()):
        _refuse(source, f"{_META} is not text by name")
    return header


def _once(source: Source, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        _refuse(source, "a name stands in its header twice")
    return found


def _entry(source: Source, name: str, said: Any) -> _Entry:
    """What a header says of a tensor, if that can be."""
    if not isinstance(said, dict) or set(said) != {"dtype", "shape", "data_offsets"}:
        _refuse(source, f"{name!r} has not a dtype, a shape and data_offsets")
    kind, shape, places = said["dtype"], said["shape"], said["data_offsets"]
    if not isinstance(kind, str) or not (kind in _STORED or kind in _ONLY_SIZED):
        _refuse(source, f"{name!r} is of type {str(kind)[:30]}, which the format does not have")
    if not _counts(shape) or len(shape) > DEEPEST or not is_size(shape):
        _refuse(source, f"the shape of {name!r} is one that no array has")
    if not _counts(places) or len(places) != 2:
        _refuse(source, f"the data_offsets of {name!r} are not two whole numbers")
    bits = 8 * _STORED[kind].dtype.itemsize if kind in _STORED else _ONLY_SIZED[kind]
    begin, end = places
    if math.prod(shape) * bits != 8 * (end - begin):
        needed = math.prod(shape) * bits / 8
        _refuse(source, f"{name!r} has {end - begin} bytes, and {kind} of {shape} are {needed:g}")
    return _Entry(kind, tuple(shape), begin, end)


def _counts(numbers: Any) -> bool:
    """Whether these are whole numbers from 0 on, such as a file can have of anything."""
    return isinstance(numbers, list) and all(
        type(n) is int and 0 <= n <= sys.maxsize for n in numbers
    )


def _check_places(source: Source, entries: dict[str, _Entry], held: int) -> None:
    """Refuse tensors that overlap, leave gaps, or end elsewhere than the file does."""
    ordered = sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end))
    for (one, before), (other, after) in pairwise(ordered):
        if after.begin != before.end:
            what = "overlap" if after.begin < before.end else "have a gap between them"
            _refuse(source, f"{one!r} and {other!r} {what}")
    first, last = (ordered[0][1].begin, ordered[-1][1].end) if ordered else (0, 0)
    if first != 0 or last != held:
        _refuse(source, f"its header speaks of {last} bytes from {first} on, and there are {held}")


def _held(source: Source, name: str, entry: _Entry, start: int) -> Operand:
    if entry.type not in _STORED:
        what = f"{name} is of type {entry.type}, which is not read here"
        raise DataError(f"{source.name}: {what}; convert it to BF16")
    dtype = _STORED[entry.type].dtype
    try:
        array = source.array_at(start + entry.begin, entry.end - entry.begin, dtype, entry.shape)
    except (ValueError, TypeError):  # the file has been cut meanwhile
        _refuse(source, f"{name!r} ends early")
    return Operand(array, origin=source.name)


def write_safetensors(steps: Sequence[Step], stream: BinaryIO, digits: int | None) -> None:
    """Every step's array by its name, with every digit. Raises WriteError for a name it lacks."""
    header, end = dict[str, Any](), 0
    for step in steps:
        if step.name == _META:
            raise WriteError(f"no array can be called {_META} there; use .npz")
        size = 2 if _is_bfloat16(step) else step.dtype.itemsize
        begin, end = end, end + size * math.prod(step.shape)
        kind = _LACKING.get((step.kind, step.dtype)) or _WRITTEN[step.dtype.newbyteorder("=")]
        kind = "BF16" if _is_bfloat16(step) else kind
        header[step.name] = {"dtype": kind, "shape": step.shape, "data_offsets": (begin, end)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers are aligned
    stream.write(len(text).to_bytes(8, "little") + text)
    for step in steps:
        little = step.dtype.newbyteorder("<")
        for part in step.parts():
            if part.size:
                numbers = (
                    upper_half(part) if _is_bfloat16(step) else part.astype(little, copy=False)
                )
                stream.write(np.ascontiguousarray(numbers).data.cast("B"))


def _is_bfloat16(step: Step) -> bool:
    """Whether a step's numbers are those of bfloat16, which float32 carries."""
    return step.kind == "bfloat16" and step.dtype == np.float32
