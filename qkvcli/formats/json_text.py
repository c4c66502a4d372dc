"""Strict JSON: {"scores": {"shape": …, "rows": …, "columns": …, "data": …}, …}.

A number that JSON lacks is the string "-inf", "inf" or "nan". Plain nested lists, alone
or by name, are read as well.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, BinaryIO

import numpy as np

from qkvcli.core.operands import Array, Labels, Operand, Shape
from qkvcli.core.steps import Step
from qkvcli.errors import DataError
from qkvcli.formats.members import Document, Member
from qkvcli.formats.source import Source
from qkvcli.formats.text.cells import DEEPEST, PRINTED, checked_labels, number
from qkvcli.formats.text.plain import blocks, lines_of, without_numbers

_CONSTANTS = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}
_WORDS = {"-inf": -np.inf, "inf": np.inf, "nan": np.nan}
_KEYS = ("shape", "rows", "columns")
"""What stands beside the data of a matrix."""
_LISTS = (list, np.ndarray)
"""What numbers of a matrix stand in, one by one or at once."""
_LARGEST = sys.float_info.max
_LIKE_NUMPY = re.compile(r"\s*\[[\s\[]*[-+\d.einfa]+\s+[-+\d.einfa]+[\s\]]")
_OBEYED = re.compile("[\x7f-\x9f\u2028\u2029]")
_FEW = 2**16  # empty rows that are written one by one


def read_json(source: Source) -> Document:
    """The matrices by name; a bare nested list has no name."""
    held = _at_once(source)
    if held is None:
        held = _carefully(source)
    return {
        name: Member(partial(matrix_of, entry, name, source), _shape_of(entry))
        for name, entry in entries(held, source).items()
    }


def _at_once(source: Source) -> Any:
    """What JSON holds, large lists of plain numbers as arrays; None where it has no such lists.

    Also where they stand anywhere but as the numbers of a matrix, or anything is wrong.
    """
    rest, arrays = without_numbers(source.content)
    if not arrays:
        return None
    try:
        held = _loaded(rest.decode(), source, lambda text: arrays.get(text, float(text)))
        found = list(map(id, _arrays(held)))
    except (ValueError, RecursionError, DataError):
        return None
    return held if found == list(map(id, arrays.values())) else None


def _arrays(held: Any) -> Iterator[Array]:
    """The arrays that stand where those of matrices do, in their order."""
    if isinstance(held, np.ndarray):
        yield held
    if isinstance(held, dict):
        yield from chain(*(_arrays(value) for name, value in held.items() if name not in _KEYS))


def _loaded(text: str, source: Source, parse_float: Callable[[str], Any] = float) -> Any:
    # Python writes NaN and Infinity bare; as strings they differ from a number too large
    return json.loads(
        text,
        parse_constant=_CONSTANTS.__getitem__,
        object_pairs_hook=partial(_object, source),
        parse_float=parse_float,
    )


def _carefully(source: Source) -> Any:
    """What JSON holds. Raises DataError where it is none, or holds two values by one name."""
    text = source.text()
    try:
        return _loaded(text, source)
    except json.JSONDecodeError as fault:
        where = f"{source.name}: line {fault.lineno}, column {fault.colno}"
        what = PRINTED if _LIKE_NUMPY.match(text) else fault.msg
        raise DataError(f"{where}: not JSON: {what}") from None
    except DataError:
        raise
    except RecursionError:
        raise DataError(f"{source.name}: not JSON that holds matrices: nested too deep") from None
    except ValueError:  # Python reads no whole number of more than 4300 digits
        raise DataError(f"{source.name}: a number is too large for a float") from None


def entries(held: Any, source: Source) -> dict[str, Any]:
    """What JSON holds for each matrix, by its name; "" for one that has none."""
    if isinstance(held, _LISTS) or _is_matrix(held):
        return {"": held}
    if not isinstance(held, dict):
        raise DataError(f"{source.name}: neither a list nor an object; there is no matrix in it")
    found = dict[str, Any]()
    for name, value in _flat(held):
        if name in found:
            raise DataError(f"{source.name}: two matrices are called {name}; keep one")
        found[name] = value
    return found


def _flat(held: dict[str, Any], before: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The matrices of objects within objects, their names joined by points."""
    for name, value in held.items():
        if _holds_others(value) and depth < DEEPEST:
            yield from _flat(value, f"{before}{name}.", depth + 1)
        else:
            yield f"{before}{name}", value


def _is_matrix(held: Any) -> bool:
    """Whether an object is one matrix, and not several of which one is called data."""
    return isinstance(held, dict) and isinstance(held.get("data"), _LISTS) and not _named(held)


def _holds_others(value: Any) -> bool:
    """Whether an object holds matrices by name, and is none itself."""
    if not isinstance(value, dict) or isinstance(value.get("data"), _LISTS):
        return False
    beside = (held for name, held in value.items() if name not in _KEYS or isinstance(held, dict))
    return any(isinstance(held, (*_LISTS, dict)) for held in beside)


def _shape_of(entry: Any) -> Shape | None:
    """The shape of an entry, as far as its first lists tell it; None where it is no matrix."""
    data = entry.get("data") if isinstance(entry, dict) else entry
    shape = list(data.shape) if isinstance(data, np.ndarray) else []
    while isinstance(data, list) and len(shape) <= DEEPEST:
        shape.append(len(data))
        data = data[0] if data else None
    return tuple(shape) or None


def _object(source: Source, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, if no name stands in it twice."""
    held: dict[str, Any] = {}
    for name, value in pairs:
        if name in held:
            raise DataError(f"{source.name}: {name!r} stands there twice; keep one")
        held[name] = value
    return held


def _named(held: dict[str, Any]) -> bool:
    """Whether matrices stand beside "data", so that it is the name of one."""
    beside = (value for name, value in held.items() if name not in ("data", *_KEYS))
    return any(isinstance(value, (*_LISTS, dict)) for value in beside)


def matrix_of(entry: Any, name: str, source: Source) -> Operand:
    """The matrix of an entry: nested lists, or an object with "data". Raises DataError."""
    where = f"{source.name}: {name or 'the matrix'}"
    held = entry if isinstance(entry, dict) else {"data": entry}
    if "data" not in held:
        raise DataError(f'{where}: an object without "data"')
    array = _array(held["data"], where)
    shape = held.get("shape", list(array.shape))
    if array.size == 0:
        with suppress(TypeError, ValueError):  # the check below says what is wrong
            array = array.reshape(shape)
    if list(array.shape) != shape:
        raise DataError(f'{where}: "shape" is {shape}, and the data are {list(array.shape)}')
    rows = _labels(held, "rows", array.shape[-2:-1], where)
    columns = _labels(held, "columns", array.shape[-1:], where)
    numbered = held.get("rows") is not None and rows is None
    return Operand(array, rows=rows, columns=columns, origin=source.name, numbered=numbered)


def _labels(held: dict[str, Any], axis: str, count: tuple[int, ...], where: str) -> Labels:
    return checked_labels(held.get(axis), sum(count), f'{where}: "{axis}"')


def _array(data: Any, where: str) -> Array:
    if isinstance(data, np.ndarray):
        return data
    if not isinstance(data, list):
        raise DataError(f"{where}: not a list of numbers")
    kinds: set[type] = set()
    numbers = _numbers(data, where, (), kinds)
    if len(kinds) > 1:
        raise DataError(f"{where}: true and false among numbers; write one kind")
    try:
        array = np.array(numbers)
    except ValueError:
        raise DataError(f"{where}: lists of different lengths or depths") from None
    # whole numbers beyond 64 bits are objects to NumPy
    return array if array.dtype.kind in "biuf" else array.astype(np.float64)


def _numbers(data: list[Any], where: str, path: tuple[int, ...], found: set[type]) -> list[Any]:
    """The nested list with "-inf" and the like as numbers. Raises DataError at the first fault.

    What is ``found`` in the rows is float, or bool.
    """
    if len(path) > DEEPEST:
        raise DataError(f"{where}: lists within lists, deeper than {DEEPEST}")
    kinds = set(map(type, data))
    if list not in kinds:
        found |= {bool if kinds == {bool} else float} if kinds else set()
        if (kinds <= {float} and math.isfinite(sum(data))) or kinds == {bool}:
            return data  # what most rows are, and quick to tell
        return [
            _WORDS[item]
            if type(item) is str and item in _WORDS
            else item
            if type(item) is float and -_LARGEST <= item <= _LARGEST
            else _number(item, f"{where}{_place((*path, i))}")
            for i, item in enumerate(data)
        ]
    if kinds != {list} or len(set(map(len, data))) > 1:
        raise DataError(f"{where}{_place(path)}: rows of different lengths")
    return [_numbers(item, where, (*path, i), found) for i, item in enumerate(data)]


def _number(item: Any, where: str) -> float:
    if type(item) is float and not np.isinf(item):
        return item
    if isinstance(item, str) and item.lower().lstrip("+-") not in ("inf", "infinity", "nan"):
        raise DataError(f"{where}: {item[:30]!r} is not a number; the words are -inf, inf and nan")
    if item is None or isinstance(item, (dict, bool)):
        raise DataError(f"{where}: {json.dumps(item)[:30]} is not a number")
    if isinstance(item, float):
        raise DataError(f"{where}: too large for a float (the limit is 1.8e308)")
    return number(str(item), where)


def _place(path: tuple[int, ...]) -> str:
    """Where a cell is, counted from 1: ", row 2, cell 3"."""
    names = (*["matrix"] * (len(path) - 2), "row", "cell")[-len(path) :] if path else ()
    if len(path) == 1:
        names = ("row",)
    return "".join(f", {name} {i + 1}" for name, i in zip(names, path, strict=True))


def write_data(data: Any, stream: BinaryIO, digits: int | None = None) -> None:
    """Plain numbers, lists and text, on one line; a number that JSON lacks is a string."""
    stream.write(f"{dumped(strict(data, digits))}\n".encode())


def strict(data: Any, digits: int | None = None) -> Any:
    """Plain data as JSON has it: a number that it lacks is a string."""
    if isinstance(data, dict):
        return {name: strict(value, digits) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [strict(value, digits) for value in data]
    if not isinstance(data, float):
        return data
    if not math.isfinite(data):
        return str(data)
    return data if digits is None else round(data, digits)


def write_json(steps: Sequence[Step], stream: BinaryIO, digits: int | None) -> None:
    """Every step by its name, one row of numbers a line."""
    for i, step in enumerate(steps):
        stream.write(b"{" if i == 0 else b",\n ")
        stream.write(f"{json.dumps(step.name)}: {{{_head(step)}".encode())
        for text in _nested(step, digits):
            stream.write(text.encode())
        stream.write(b"}")
    stream.write(b"}\n")


def _head(step: Step) -> str:
    head = {"shape": list(step.shape), "rows": step.rows, "columns": step.columns}
    kept = ((name, value) for name, value in head.items() if value is not None)
    return "".join(f'"{k}": {dumped(v)}, ' for k, v in kept) + '"data": '


def dumped(value: Any) -> str:
    """A value as JSON, with escapes for what a terminal would obey."""
    text = json.dumps(value, ensure_ascii=False)
    return _OBEYED.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text)


def _nested(step: Step, digits: int | None) -> Iterator[str]:
    """The rows, with a bracket wherever an axis before the last begins or ends."""
    if 0 in step.shape:
        few = math.prod(step.shape[:-1]) <= _FEW
        yield json.dumps(np.zeros(step.shape if few else 0).tolist())
        return
    axes = np.cumprod(step.shape[-2::-1]).tolist()  # rows in one index of each axis, inner first
    done = 0
    for part in blocks(step.parts()):
        lines = _rows(part, digits)
        for i, line in enumerate(lines, done):
            begun = sum(i % rows == 0 for rows in axes)
            ended = sum((i + 1) % rows == 0 for rows in axes)
            comma = ",\n" + " " * (len(axes) - begun + 1) if i else ""
            lines[i - done] = f"{comma}{'[' * begun}[{line}]{']' * ended}"
        yield "".join(lines)
        done += len(part)


def _rows(part: Array, digits: int | None) -> list[str]:
    """Each row's numbers; those that JSON lacks as strings."""
    lines = lines_of(part, digits, ", ")
    for i in np.flatnonzero(~np.isfinite(part).all(axis=1)):
        line = lines[i].replace("inf", '"inf"').replace('-"inf"', '"-inf"')
        lines[i] = line.replace("nan", '"nan"')
    return lines
