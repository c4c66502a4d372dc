"""Somebody else's numbers to compare with, and the digits that they were written with.

In text, a cell that is empty or ``?`` (null in JSON) is left out of the comparison. A number
counts for half a unit of its last digit, so that 0.63 is right for 0.6291; a whole number among
others with decimals is as exact as they are. Programs write more
digits than people: where a number has `_MACHINE` or more, they are taken for a float32's or a
float64's own.
"""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from qkvcli.core.compare.expected import Expected
from qkvcli.core.compare.tolerance import kind_of
from qkvcli.core.config import ORDER, SCORES, Kind, kind_named
from qkvcli.core.operands import ACTS_ON, Array, Operand
from qkvcli.errors import DataError
from qkvcli.formats.address import WHOLE, Address, Part, readings
from qkvcli.formats.files import format_of, is_index, read_document
from qkvcli.formats.json_text import entries, matrix_of
from qkvcli.formats.members import NAMES, Member, listed, named, told_apart
from qkvcli.formats.registry import JSON
from qkvcli.formats.source import Source
from qkvcli.formats.text.cells import BLANKS, DEEPEST, SPACE, is_number
from qkvcli.formats.text.delimited import cells_of, read_delimited
from qkvcli.formats.text.labels import Labelling

_MACHINE = 8
"""So many digits that count are a program's, not a person's."""
_EXACT = 16
"""So many are all that a float64 has."""
_NUMBER = re.compile(r"[-+]?(\d*)\.?(\d*)(?:[eE]([-+]?\d+))?")
_BARE = re.compile(r"[-+]?\d")
_POWER = 6
"""So many characters of an exponent are read: larger ones are beyond any float."""
_NEAR = 0.8
"""How alike a name and a step's are, of 1, that may be meant."""
_SLACK, _MOST = 0.1, 1e-6
"""What is added to half a unit: a tenth of it, since programs round before they round to digits."""


class Held(NamedTuple):
    """A matrix as it was found, and the text of each of its numbers (None where it is no text).

    ``kind`` is the type that it is stored in, where the array only carries that.
    """

    operand: Operand
    texts: list[str] | None = None
    kind: Kind | None = None

    def of(self, part: Part) -> "Held":
        """A part of it."""
        texts = self.texts
        if texts is not None and part is not WHOLE:
            whole = np.array(texts, dtype=object).reshape(self.operand.shape)
            texts = part.of(replace(self.operand, array=whole)).array.ravel().tolist()
        return self._replace(operand=part.of(self.operand), texts=texts)


Read: TypeAlias = Callable[[], Held]


def step_named(address: Address) -> str | None:
    """The step that an address names: ``mine.npz:weights``, also in a file that has no names."""
    said = [name.lower() for name, _ in readings(address.member or "")]
    return next((name for name in said if name in ORDER), None)


def read_expected(
    source: Source, steps: Sequence[str], step: str | None = None, address: Address | None = None
) -> tuple[list[Expected], list[str]]:
    """What a source holds of some steps, in their order; and the other names in it.

    A matrix without a name, or alone under a name that means nothing, is the ``step``, or the
    last of them; with ``step``, no other is looked at. An ``address`` may name one of them, and
    the part of each that is meant. Raises DataError where there is nothing to compare.
    """
    document, part = _document(source), WHOLE if address is None else address.part
    if address is not None and address.member is not None:
        if step is None:
            name, part = named(read_document(source), address.member, source.name)
            known = next((one for one in steps if name.lower() in _names_of(one)), steps[-1])
            if not means_nothing(name) and name.lower() not in _names_of(known):
                what = f"{name} is no step that is compared here: {', '.join(steps)}"
                raise DataError(f"{source.name}: {what}")
            return [_expected(known, document[name]().of(part))], []
        *_, (_, part) = readings(address.member)
    names = told_apart(document, source.name)
    wanted = steps if step is None else [step]
    found = {}
    for name in wanted:
        there = [names[known] for known in _names_of(name) if known in names]
        if len(there) > 1:
            both = " and ".join(there)
            raise DataError(f"{source.name}: holds {both}, and each may be {name}; keep one")
        if there:
            found[name] = document[there[0]]
    _check_spelling(document, source.name)
    taken = {known for step in found for known in _names_of(step)}
    others = [name for name in document if name and name.lower() not in taken]
    strange = [name for name in others if means_nothing(name)]
    if not found and len(document) == 1 and ((strange and step is None) or "" in document):
        found, others = {wanted[-1]: next(iter(document.values()))}, []
    if not found:
        held, compared = listed(list(document)), ", ".join(wanted)
        raise DataError(f"{source.name}: holds {held}; what is compared here is {compared}")
    return [_expected(name, held().of(part)) for name, held in found.items()], others


def _check_spelling(names: Iterable[str], where: str) -> None:
    """Raise DataError for a name that is nearly a step's: it would be left out, or another one."""
    for name in names:
        near = get_close_matches(name.lower(), ORDER, 1, _NEAR) if means_nothing(name) else []
        if name and near:
            raise DataError(f"{where}: no step is called {name!r}; did you mean {near[0]!r}?")


def means_nothing(name: str) -> bool:
    """Whether a name in a file is none of those that we know."""
    return name.lower() not in _KNOWN


_ALSO = {
    "query_normed": ("q_normed",),
    "key_normed": ("k_normed",),
    "query_rotated": ("q_rotated", "q_rot", "q_rope", "q_embed"),
    "key_rotated": ("k_rotated", "k_rot", "k_rope", "k_embed"),
}
"""What else steps on the way to Q and K go by: Transformers has q_embed."""
_KNOWN = {
    *ORDER,
    *ACTS_ON,
    *(name for names in (*NAMES.values(), *_ALSO.values()) for name in names),
}


def _names_of(step: str) -> tuple[str, ...]:
    """What a step goes by in a file; a score step by its own name alone."""
    if step in SCORES:
        return (step,)
    return NAMES.get(step, (step, *_ALSO.get(step, ())))


def _expected(name: str, held: Held) -> Expected:
    operand, texts, stored = held
    array = operand.array
    if array.dtype.kind not in "biuf":
        raise DataError(f"{operand.origin}: numbers of type {array.dtype} are not real numbers")
    if texts is None:
        found = Expected(name, array, stored or kind_of(array.dtype))
    else:
        blank = np.array([text in BLANKS for text in texts], np.bool_).reshape(array.shape)
        halves, kind = _halves(array, texts)
        found = Expected(name, array, kind, halves, blank if blank.any() else None)
    return replace(
        found,
        origin=operand.origin,
        rows=operand.rows,
        columns=operand.columns,
        reading=operand.reading,
    )


def _halves(array: Array, texts: list[str]) -> tuple[Array | None, Kind]:
    """Half a unit of the last digit of each number, or None and the type whose digits they are.

    >>> _halves(np.array([0.63, 0.4, 0.0]), ["0.63", "0.4", "0"])[0].round(4).tolist()
    [0.005, 0.05, 0.05]
    >>> _halves(np.array([0.1, 0.33333334]), ["0.1", "0.33333334"])
    (None, 'float32')
    """
    counted = [_digits(text) for text in texts]
    digits = max((count for count, _ in counted), default=0)
    numbers = array.reshape(-1).astype(np.float64)
    places = np.array([place for _, place in counted], np.float64)
    narrow = digits >= _MACHINE and _of_float32(numbers, 0.5 * 10.0**places)
    if narrow or digits >= _EXACT:
        return None, "float32" if narrow else "float64"
    behind = places[(places < 0) & np.isfinite(numbers)]
    if behind.size:  # a bare 0 or 1 among 0.63 and 0.4 is meant as well as the others
        bare = np.array([_BARE.fullmatch(text) is not None for text in texts])
        places = np.where(bare, np.minimum(places, behind.max()), places)
    fixed = len(set(places[np.isfinite(numbers)].tolist())) == 1
    if digits >= _MACHINE and not fixed:  # fewer digits are those of a number that needs no more
        with np.errstate(divide="ignore"):
            places = np.where(
                numbers == 0, places.min(), np.floor(np.log10(np.abs(numbers))) + 1 - digits
            )
    with np.errstate(over="ignore"):
        halves = np.where(np.isfinite(numbers), 0.5 * 10.0**places, 0)
    halves += np.minimum(_SLACK * halves, _MOST)
    return halves.reshape(array.shape), "float64"


def _digits(text: str) -> tuple[int, int]:
    """How many digits of a number count, and which power of ten the last one stands for."""
    found = _NUMBER.fullmatch(text)
    if found is None or not (found[1] or found[2]):
        return 0, 0
    whole, behind, power = found[1], found[2], int((found[3] or "0")[:_POWER])
    counts = f"{whole}{behind}".lstrip("0")
    place = power - len(behind) if counts else -len(behind)  # 0e3 is no more than a 0
    return len(counts), min(max(place, -400), 300)


def _of_float32(numbers: Array, halves: Array) -> bool:
    """Whether each number is a float32 to its last digit, or the shortest text of one."""
    there = np.isfinite(numbers)
    finite = numbers[there]
    with np.errstate(over="ignore"):
        narrow = finite.astype(np.float32)
    room = halves[there] + np.spacing(np.abs(finite))  # the text itself is rounded when it is read
    odd = np.abs(narrow.astype(np.float64) - finite) > room
    shortest = narrow[odd].astype("U32").astype(np.float64)
    return bool((shortest == finite[odd]).all())


def _document(source: Source) -> dict[str, Read]:
    """The matrices of a source by name, each with its texts."""
    known = format_of(source)
    if known.binary or is_index(source.path):
        return {name: partial(_held, member) for name, member in read_document(source).items()}
    if known is JSON:
        return _of_json(source)
    return {"": partial(_delimited, source, known.delimiter or SPACE)}


def _held(member: Member) -> Held:
    stored = member.stored
    return Held(member.read(), kind=None if stored is None else kind_named(stored.name))


def _delimited(source: Source, delimiter: str) -> Held:
    """The one matrix of a text file."""
    head, lines = cells_of(source, delimiter)
    filled = _filled_lines(lines, source.labelling)
    whole = source
    if filled != lines:
        data = head.encode() + _written(filled, delimiter)
        whole = replace(source, path=None, data=data)
    operand = read_delimited(whole, delimiter)[""].read()
    rows, width = math.prod(operand.shape[:-1]), operand.shape[-1]
    texts = [cell.strip() for cells in lines[len(lines) - rows :] for cell in cells[-width:]]
    if operand.array.dtype.kind == "b" or len(texts) != operand.array.size:
        return Held(operand)
    return Held(operand, texts)


def _filled_lines(lines: list[list[str]], asked: Labelling) -> list[list[str]]:
    """The cells with NaN where one is left out; the corner above and before labels stays."""
    filled = [["nan" if cell.strip() in BLANKS else cell for cell in cells] for cells in lines]
    if lines and len(lines[0]) > 1 and not asked.never:
        corner = lines[0][0]
        if not corner.strip() or not all(is_number(cell) for cell in filled[0][1:]):
            filled[0][0] = corner
    return filled


def _written(lines: list[list[str]], delimiter: str) -> bytes:
    text = io.StringIO()
    if delimiter == SPACE:
        text.write("\n".join(" ".join(cells) for cells in lines) + "\n")
    else:
        csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(lines)
    return text.getvalue().encode()


class _Digits(str):
    """A number of JSON, as it was written."""


def _of_json(source: Source) -> dict[str, Read]:
    """The matrices of JSON, with null, "" and "?" for what is left out."""
    read_document(source)  # says what is wrong with it
    held = json.loads(source.text(), parse_float=_Digits, parse_int=_Digits)
    return {
        name: partial(_json_matrix, name, entry, source)
        for name, entry in entries(held, source).items()
    }


def _json_matrix(name: str, entry: Any, source: Source) -> Held:
    data = entry.get("data") if isinstance(entry, dict) else entry
    texts: list[str] = []
    filled = _filled(data, texts)
    whole = {**entry, "data": filled} if isinstance(entry, dict) else filled
    if isinstance(entry, dict) and "shape" in entry:
        whole["shape"] = _numbers(entry["shape"])
    operand = matrix_of(whole, name, source)
    if operand.array.dtype.kind == "b" or len(texts) != operand.array.size:
        return Held(operand)
    return Held(operand, texts)


def _numbers(shape: Any) -> Any:
    """A shape as JSON has it, with numbers for what was written; `matrix_of` checks it."""
    if isinstance(shape, list):
        return [_numbers(n) for n in shape]
    return json.loads(shape) if isinstance(shape, _Digits) else shape


def _filled(data: Any, texts: list[str], depth: int = 0) -> Any:
    """Nested lists with numbers for what was written, and NaN for what was left out."""
    if isinstance(data, list):
        return [_filled(item, texts, depth + 1) for item in data] if depth <= DEEPEST else data
    if data is None or data in BLANKS:
        texts.append("")
        return "nan"
    if isinstance(data, _Digits):
        texts.append(str(data))
        return float(data)
    texts.append(str(data))
    return data
