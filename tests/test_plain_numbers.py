"""Plain numbers at once: the same as one by one, to the bit, or left to those who look closer."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from qkvcli.core.operands import Array
from qkvcli.core.steps import Step
from qkvcli.errors import DataError
from qkvcli.formats import json_text
from qkvcli.formats.registry import CSV, FORMATS, JSON, TSV, TXT, Format
from qkvcli.formats.source import Source
from qkvcli.formats.text import delimited, lines, plain
from qkvcli.formats.text.labels import GUESSED, Labelling
from tests.conftest import ROOT
from tests.test_formats import written

TABLES = (CSV, TSV, TXT)
PLAIN = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(allow_nan=False, allow_infinity=False).map("{:.17g}".format),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map("{:.18e}".format),
    st.integers(-9, 9).map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.decimals(-2, 2, places=40).map(str),
    st.sampled_from(["-0", "-0.0", "-0e0", "1E+05", "1e-07", "5e-324", "2e-324", "-1e-400"]),
    st.sampled_from([str(2**53 + 1), str(2**63), str(2**64), "9" * 308, "0." + "1" * 5000]),
)
ODD = st.one_of(
    st.sampled_from(["+1", ".5", "1.", "007", "-007", "0x1", "1_000", "1e", "1e999", "-1e999"]),
    st.sampled_from(["inf", "-inf", "nan", "NaN", "Infinity", "true", "false", "null", "9" * 4400]),
    st.sampled_from(["", " ", "cat", "#", "# cat", '"1"', '"a,b"', "1 2", "[1]", "\u2028", "1:2"]),
    st.sampled_from(["\ufeff1", "\x00", "\r", "\n", "1\r2", "\u0661", "{}", '"', "'", "\\"]),
)


NEVER = Labelling(False, False)


def outcome(format: Format, data: bytes, labelling: Labelling = GUESSED) -> dict[str, Any] | str:
    """All that is read of some bytes, to the bit; or the error."""
    try:
        held = format.read(Source("x", data=data, labelling=labelling))
        found: dict[str, Any] = {}
        for name, member in held.items():
            try:
                operand = member.read()
            except DataError as fault:
                found[name] = (member.shape, str(fault))
                continue
            array = operand.array
            more = (operand.rows, operand.columns, operand.numbered, operand.reading)
            found[name] = (member.shape, array.dtype, array.shape, array.tobytes(), *more)
    except DataError as fault:
        return str(fault)
    return found


def careful(format: Format, data: bytes, labelling: Labelling = GUESSED) -> dict[str, Any] | str:
    """What is read where no number is plain."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "numbers_in", lambda *_: None)
        patch.setattr(lines, "numbers_in", lambda *_: None)
        patch.setattr(lines, "_without_quotes", lambda _: None)
        patch.setattr(json_text, "without_numbers", lambda text: (text, {}))
        return outcome(format, data, labelling)


@pytest.fixture(autouse=True, scope="module")
def _little_at_once() -> Iterator[None]:
    """Small texts have several pieces here, and small lists are large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "_READ", 16)
        patch.setattr(plain, "_WRITTEN", 4)
        patch.setattr(plain, "_LARGE", 0)
        yield


@st.composite
def tables(draw: st.DrawFn, sign: str) -> bytes:
    """Lines of plain numbers, most of them, with an oddity or two in the others."""
    rows, width = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    cells = [[draw(PLAIN) for _ in range(width)] for _ in range(rows)]
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        row = cells[draw(st.integers(0, rows - 1))]
        change = draw(st.sampled_from(["cell", "blank", "longer", "shorter", "labels"]))
        at = draw(st.integers(0, max(len(row) - 1, 0)))
        if change == "labels":
            words = draw(st.sampled_from([["a", "b"], ["0", "1"], ["7", "8"], ['"a,b"', "c"]]))
            cells = [[words[i % 2], *line] for i, line in enumerate(cells)]
            if draw(st.booleans()):
                cells.insert(0, [draw(st.sampled_from(["", "token"])), *words * width][: width + 1])
        elif change == "longer":
            row.append(draw(PLAIN | st.just("")))
        elif row and change == "shorter":
            row.pop()
        elif row:
            row[at] = draw(ODD) if change == "cell" else f" {row[at]}  "
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n", " \n", f"{sign}\n"]))
    before = draw(st.sampled_from(["", "", "\ufeff", "\n", "# é\n", "# of\r\n# shape 1 2 2\n"]))
    last = draw(st.sampled_from([end, "", "\n\n", " ", "\r\n"]))
    return (before + end.join(map(sign.join, cells)) + last).encode()


@pytest.mark.parametrize("format", TABLES, ids=lambda known: known.name)
@given(data=st.data(), labelling=st.sampled_from([GUESSED, GUESSED, Labelling(True), NEVER]))
def test_lines_read_at_once_as_one_by_one(format: Format, data: Any, labelling: Labelling) -> None:
    text = data.draw(tables(format.delimiter or ","))
    assert outcome(format, text, labelling) == careful(format, text, labelling)


LEFT = ["-0,1\n-0,-0.0\n", "1,2\r3,4\r", "1,2\n\n3,4\n", "# é\r# x\n1,2\n", "1,2\n3\n", "1,\n2,\n"]


@pytest.mark.parametrize("text", LEFT)
def test_what_is_not_plain_is_left(text: str) -> None:
    found = outcome(CSV, text.encode())
    assert found == careful(CSV, text.encode())
    if text.startswith("-0"):
        assert isinstance(found, dict)
        assert np.signbit(np.frombuffer(found[""][3])).tolist() == [True, False, True, True]


PLAIN_TEXT = {
    "CSV": (CSV, b"0.5,-1e-07\n-0.0,3\n"),
    "without an end": (CSV, b"0.5,-1e-07\n-0.0,3"),
    "of Windows": (CSV, b"\xef\xbb\xbf0.5,-1e-07\r\n-0.0,3\r\n"),
    "of Windows without an end": (CSV, b"0.5,-1e-07\r\n-0.0,3"),
    "blanks": (CSV, b" 0.5, -1e-07 \n-0.0,3\n"),
    "below comments": (CSV, "# é\r\n\n# of GPT-2\n0.5,-1e-07\n-0.0,3\n".encode()),
    "labels": (CSV, b",a,b:c\nx,0.5,-1e-07\ny,-0.0,3\n"),
    "TSV": (TSV, b"0.5\t-1e-07\n-0.0\t3\n"),
    "white space": (TXT, b"0.5 -1e-07\n-0.0 3\n"),
    "JSON": (JSON, b"[[0.5, -1e-07],\n [-0.0, 3]]"),
    "JSON with labels": (
        JSON,
        '{"q": {"shape": [2, 2], "rows": [":", "[["], "columns": ["\\u005b", "é"], '
        '"data": [[0.5,-1e-07],\n[-0.0,3]]}}\n'.encode(),
    ),
}


@pytest.mark.parametrize("case", PLAIN_TEXT)
def test_plain_numbers_are_read_at_once(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    format, data = PLAIN_TEXT[case]
    known = careful(format, data)

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("read one by one")

    monkeypatch.setattr(np, "loadtxt", refuse)
    monkeypatch.setattr(delimited, "_carefully", refuse)
    monkeypatch.setattr(json_text, "_carefully", refuse)
    found = outcome(format, data)
    assert isinstance(found, dict)
    assert found == known
    [(_, dtype, shape, numbers, *_)] = found.values()
    assert (dtype, shape) == (np.float64, (2, 2))
    assert numbers == np.array([0.5, -1e-7, -0.0, 3]).tobytes()


def nested(cells: Any) -> st.SearchStrategy[Any]:
    """Lists in lists of one shape, of cells that a strategy draws."""
    shape = array_shapes(min_dims=1, max_dims=4, max_side=3)
    return shape.flatmap(lambda sides: _of_sides(cells, sides))


def _of_sides(cells: Any, sides: tuple[int, ...]) -> st.SearchStrategy[Any]:
    first, *rest = sides
    inner = _of_sides(cells, tuple(rest)) if rest else cells
    return st.lists(inner, min_size=first, max_size=first)


QUOTED = st.sampled_from(['"-inf"', '"nan"', '"cat"', '"[[1, 2]]"', '""', "NaN", "-Infinity", "[]"])
LABEL = st.sampled_from(
    ['"a"', '":"', '"[["', '"\\u005b1"', '"\\ud800"', '"[[1, 2], [3, 4]]"', "1", "0.5", '"\\""']
)
NAME = st.sampled_from(["q", "k", "v", "rows", "data", "a:b", "'", '"'])
SIZE = st.sampled_from(["1", "2", str(2**64), "1e-8000000000"])


def spelt(value: Any, blank: str) -> str:
    """Nested lists as JSON."""
    if isinstance(value, str):
        return value
    return f"[{(',' + blank).join(spelt(item, blank) for item in value)}]"


@st.composite
def matrices(draw: st.DrawFn, blank: str) -> str:
    """A matrix as JSON: lists, or an object with labels and a shape that fit at times."""
    odd = draw(st.sampled_from([PLAIN, PLAIN, ODD, QUOTED, nested(PLAIN)]))
    data = spelt(draw(nested(PLAIN | odd)), blank)
    if draw(st.booleans()):
        return data
    parts = [f'"data":{blank}{data}']
    for name, values in (("rows", LABEL), ("columns", LABEL), ("shape", SIZE | nested(SIZE))):
        if draw(st.booleans()):
            parts.insert(0, f'"{name}": {spelt(draw(st.lists(values, max_size=3)), blank)}')
    return f"{{{', '.join(parts)}}}"


@st.composite
def objects(draw: st.DrawFn, blank: str, depth: int) -> str:
    """Matrices by names, some of which are there twice, or objects of them."""
    parts = []
    for name in draw(st.lists(NAME, max_size=3)):
        deeper = depth > 0 and draw(st.booleans())
        value = draw(objects(blank, depth - 1) if deeper else matrices(blank))
        parts.append(f"{json.dumps(name)}:{blank}{value}")
    return f"{{{', '.join(parts)}}}"


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """JSON with a matrix or several, and an oddity here and there."""
    blank = draw(st.sampled_from(["", " ", "\n  ", "\t", "\r\n"]))
    listed = objects(blank, 0).map("[{}]".format)
    text = draw(st.one_of(matrices(blank), objects(blank, 0), objects(blank, 1), listed))
    before, after = st.sampled_from(["", "", " ", "\ufeff"]), st.sampled_from(["", "\n", "x"])
    return f"{draw(before)}{text}{draw(after)}".encode()


@given(documents())
@example(b'{"q": [[1, 2], [3, 4]], "q": [[1, 2], [3, 4]]}')
@example(b'{"q": [[1, 1e999], [3, 4]]}')
@example(b'{"q": {"shape": [[1, 2], [3, 4]], "data": [[1, 2], [3, 4]]}}')
@example(b'{"q": {"rows": ["[[1, 2], [3, 4]]", "b"], "data": [[1, 2], [3, 4]]}}')
@example(b'{"q": [[1, 2], [3, 4]], "k": [[1e-8000000000]]}')
@example(b'[{"q": [[1, 2], [3, 4]]}]')
@example(b'{"q": [[1 2], [3, 4]]}')
@example(b'{"q": [[1, 2], [3, 4],]}')
@example(b'{"q": [[], []]}')
@example(b"[" + b",".join([b"[0.25,0.5]"] * 1000) + b",[3,]4]")
@example(b"[" + b",".join([b"[0.25,0.5]"] * 1000) + b",3[,4]]")
@example(b"[" + b",".join([b"[0.25]"] * 1000) + b",3[]]")
@example(b'{"q": [[1234567890123456,]3,[4,5]]}')
@example(b'{"q": [[1234567890123456],,[3,4]]}')
@example(b'{"q": [[                ]3,[4]]}')
@example(b'{"q": ' + b"[" * 70 + b"1" + b"]" * 70 + b"}")
@example(b'{"q": ' + b"[" * 5000 + b"1" + b"]" * 5000 + b"}")
@example(b'{"q": [[1, 2], [3, 4]], "k": "\xff"}')
@example('{"q": [[1, 2], [3, 4]]}'.encode("utf-16"))
def test_json_reads_at_once_as_one_by_one(text: bytes) -> None:
    assert outcome(JSON, text) == careful(JSON, text)


# written


def laid_out(draw: Any, array: Array) -> Array:
    """The same numbers, as they may lie in memory."""
    how = draw(st.sampled_from(["as it is", "by columns", "every second", "other bytes"]))
    if how == "by columns":
        return np.asfortranarray(array)
    if how == "every second":
        return np.repeat(array, 2, axis=-1)[..., ::2]
    return array.astype(array.dtype.newbyteorder(">")) if how == "other bytes" else array


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "json"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@given(data=st.data(), shape=array_shapes(min_dims=2, max_dims=3, max_side=4))
def test_what_is_written_reads_back(kind: str, dtype: Any, data: Any, shape: Any) -> None:
    array = data.draw(arrays(dtype, shape))
    text = written(kind, laid_out(data.draw, array))
    found = outcome(FORMATS[kind], text)
    assert isinstance(found, dict)
    [(_, _, read_shape, numbers, *_)] = found.values()
    assert read_shape == shape
    same(np.frombuffer(numbers).reshape(shape).astype(dtype), array)
    if kind == "json":
        [held] = json.loads(text).values()
        others = np.array([float(cell) for cell in np.array(held["data"], "U40").ravel()])
    else:
        sign = {"csv": ",", "tsv": "\t", "txt": " "}[kind]
        others = np.loadtxt(io.BytesIO(text), delimiter=sign)
    same(others.reshape(shape).astype(dtype), array)


def same(found: Array, array: Array) -> None:
    np.testing.assert_array_equal(found, array)
    there = ~np.isnan(array)
    assert (np.signbit(found) == np.signbit(array))[there].all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@given(data=st.data())
def test_digits_are_the_shortest_of_their_type(dtype: Any, data: Any) -> None:
    [number] = data.draw(arrays(dtype, 1, elements={"allow_nan": False, "allow_infinity": False}))
    cell = written("csv", np.array([[number]])).decode().strip()
    digits, known = (
        text.partition("e")[0].replace(".", "").strip("-0") for text in (cell, str(number))
    )
    assert dtype(cell) == number
    assert len(digits) == len(known)


@pytest.mark.parametrize("odd", [[], [np.inf], [np.nan, -np.inf]])
def test_numbers_look_alike_whatever_is_beside_them(odd: list[float]) -> None:
    for dtype in (np.float64, np.float32):
        numbers = np.array([[1e-7, 1e30, 1, *odd]], dtype)
        line = written("csv", numbers).decode().strip()
        assert line == ",".join(["1e-7", "1e+30", "1.0", *map(str, odd)])


def test_json_has_a_row_a_line() -> None:
    numbers = np.array([[[0.1, -np.inf], [np.nan, 2]], [[np.inf, -np.inf], [1, 1]]])
    assert written("json", numbers).decode() == (
        '{"weights": {"shape": [2, 2, 2], "data": [[[0.1, "-inf"],\n'
        '   ["nan", 2.0]],\n  [["inf", "-inf"],\n   [1.0, 1.0]]]}}\n'
    )


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_little_is_written_at_a_time(kind: str) -> None:
    class Stream(io.RawIOBase):
        largest = 0

        def write(self, text: Any) -> int:
            self.largest = max(self.largest, len(text))
            return len(text)

    stream = Stream()
    step = Step.held("weights", np.ones((1000, 4)))
    FORMATS[kind].write([step], cast(BinaryIO, stream), None)
    assert stream.largest < 100


def test_a_bare_run_imports_no_writer_of_text() -> None:
    said = "import atexit, sys; atexit.register(lambda: print('orjson' in sys.modules))"
    for words, used in ((["run"], False), (["run", "-f", "csv"], True)):
        program = [sys.executable, "-c", f"{said}; from qkvcli import cli; cli.main()", *words]
        environ = os.environ | {"PYTHONPATH": str(ROOT)}
        ran = subprocess.run(program, capture_output=True, text=True, env=environ, check=True)
        assert ran.stdout.split()[-1] == str(used)
