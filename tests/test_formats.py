"""Every format reads back what it wrote, and reads files as people have them."""

import io
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from qkvcli.core.operands import Operand
from qkvcli.core.steps import Step
from qkvcli.errors import DataError, WriteError
from qkvcli.formats.members import choose
from qkvcli.formats.registry import FORMATS
from qkvcli.formats.saving import saved
from qkvcli.formats.source import Source
from tests.conftest import read_matrix

TEXT = ["csv", "tsv", "txt", "json"]
LABEL = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).filter(
    lambda label: label == label.strip() and "\n" not in label
)


def read(data: bytes | str, role: str = "query", name: str = "x") -> Operand:
    raw = data.encode() if isinstance(data, str) else data
    return read_matrix(Source(name, data=raw), role)


def written(kind: str, array: Any, rows: Any = None, columns: Any = None) -> bytes:
    stream = io.BytesIO()
    FORMATS[kind].write([Step.held("weights", array, rows=rows, columns=columns)], stream, None)
    return stream.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
@given(
    data=st.data(),
    shape=array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=4),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
)
def test_arrays_read_back_to_the_bit(kind: str, data: Any, shape: Any, dtype: Any) -> None:
    array = data.draw(arrays(dtype, shape))
    back = read(written(kind, array), "weights").array
    assert back.shape == shape
    np.testing.assert_array_equal(back.astype(dtype), array)


@pytest.mark.parametrize("kind", TEXT)
@given(data=st.data())
def test_labels_read_back(kind: str, data: Any) -> None:
    n, m = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    rows = data.draw(st.none() | st.tuples(*[LABEL] * n))
    columns = data.draw(st.none() | st.tuples(*[LABEL] * m))
    source = Source("x", data=written(kind, np.ones((n, m)), rows, columns))
    back = choose(FORMATS[kind].read(source), "weights", "x")
    counted = [tuple(map(str, range(k))) for k in (n, m)]  # these say nothing, and are dropped
    assert back.rows == (None if rows == counted[0] else rows)
    assert back.columns == (None if columns == counted[1] else columns)
    assert back.array.shape == (n, m)


@pytest.mark.parametrize("kind", TEXT)
def test_labels_of_heads_read_back(kind: str) -> None:
    array = np.arange(12.0).reshape(2, 2, 3)
    back = read(written(kind, array, ("a", "b"), ("x", "y", "z")), "weights")
    assert (back.rows, back.columns) == (("a", "b"), ("x", "y", "z"))
    np.testing.assert_array_equal(back.array, array)


CSV = {
    "plain": "1,2\n3,4\n",
    "no newline at the end": "1,2\n3,4",
    "windows": "1,2\r\n3,4\r\n",
    "old mac": "1,2\r3,4\r",
    "byte order mark": "\ufeff1,2\n3,4\n",
    "blank lines": "\n1,2\n\n  \n3,4\n\n",
    "quoted": '"1","2"\n3,"4"\n',
    "spaces": " 1 , 2\n3 ,4\n",
    "signs and exponents": "+1,.2e1\n3.,4E0\n",
    "a header": "x,y\n1,2\n3,4\n",
    "a header with one number in it": "in,2024\n1,2\n3,4\n",
    "a first column": "the,1,2\ncat,3,4\n",
    "both": ",x,y\nthe,1,2\ncat,3,4\n",
    "both, with a named corner": "token,x,y\nthe,1,2\ncat,3,4\n",
    "pandas, counting": ",0,1\n0,1,2\n1,3,4\n",
    "numbers as labels": ',"7","8"\n"5",1,2\n"6",3,4\n',
    "rows that were chosen": ",0,1\n5,1,2\n6,3,4\n",
    "quoted labels": '"","a,b","c""d"\n"the\ncat",1,2\nsat,3,4\n',
}


@pytest.mark.parametrize("text", CSV.values(), ids=CSV)
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_csv_as_people_have_it(text: str, delimiter: str) -> None:
    text = text.replace("a,b", "ab").replace(",", delimiter)
    assert read(text).array.tolist() == [[1, 2], [3, 4]]


def test_csv_labels_are_what_stands_there() -> None:
    both = read('"","a,b","c""d"\n"the\ncat",1,2\nsat,3,4\n')
    assert both.rows == ("the\ncat", "sat")
    assert both.columns == ("a,b", 'c"d')
    assert read("token,x,y\nthe,1,2\n").columns == ("x", "y")
    assert read("in,2024\n1,2\n").columns == ("in", "2024")
    assert read(",0,1\n0,1,2\n1,3,4\n").rows is None


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1,-inf\ninf,nan\n", [[1, -np.inf], [np.inf, np.nan]]),
        ("-inf,1\n", [[-np.inf, 1]]),
        ("5", [[5]]),
        ("1\n2\n3\n", [[1], [2], [3]]),
        ("1,2,3", [[1, 2, 3]]),
        ("x\n1\n2\n", [[1], [2]]),
        ("the,1,2", [[1, 2]]),
        ("# shape 0 3\n", np.zeros((0, 3))),
        ("# shape 2 1 2\n1,2\n\n3,4\n", [[[1, 2]], [[3, 4]]]),
        (" 1  2\t3 \n4 5 6\n", [[1, 2, 3], [4, 5, 6]]),
        ("x y\na 1 2\nb 3 4\n", [[1, 2], [3, 4]]),
    ],
)
def test_text_of_every_shape(text: str, numbers: Any) -> None:
    np.testing.assert_array_equal(read(text).array, numbers)


def test_utf_16_with_its_mark_is_read() -> None:
    assert read("é,1\nb,2\n".encode("utf-16")).rows == ("é", "b")


JSON = [
    "[[1, 2], [3, 4]]",
    '{"data": [[1, 2], [3, 4]]}',
    '{"shape": [2, 2], "data": [[1, 2], [3, 4]], "rows": ["a", "b"]}',
    '{"q": [[1, 2], [3, 4]], "k": [[0]], "note": "hello"}',
    '{"QUERY": {"data": [[1, 2], [3, 4]]}, "weights": []}',
    '{"anything": [[1, 2], [3, 4.0]]}',
]


@pytest.mark.parametrize("text", JSON)
def test_json_as_people_have_it(text: str) -> None:
    assert read(text).array.tolist() == [[1, 2], [3, 4]]


def test_json_numbers_that_json_lacks() -> None:
    expected = [[-np.inf, np.inf, np.nan, 1]]
    np.testing.assert_array_equal(read('[["-inf", "inf", "nan", 1]]').array, expected)
    np.testing.assert_array_equal(read("[[-Infinity, Infinity, NaN, 1]]").array, expected)


def test_the_step_nearest_to_the_softmax_is_taken() -> None:
    text = '{"scores": [[1]], "scaled": [[2]], "masked": [[3]], "weights": [[4]]}'
    assert read(text, "scores").array.tolist() == [[3]]
    assert read(text, "weights").array.tolist() == [[4]]


BAD = {
    "1,2\n3\n": "x: line 2: 1 cell, where line 1 has 2",
    "1,2\n3,cat\n": "x: line 2, cell 2: 'cat' is not a number",
    "1,2\n\n3,\n": "x: line 3, cell 2: the cell is empty",
    "1,,3\n4,5,6\n": "x: line 1, cell 2: the cell is empty",
    "1,2\n,4\n": "x: line 2, cell 1: the cell is empty",
    "1,2\n3,1e999\n": "x: line 2, cell 2: 1e999 is too large",
    "1,inf\n3,-1e999\n": "x: line 2, cell 2: -1e999 is too large",
    "a,b\n1,2\n3,1_0\n": "x: line 3, cell 2: '1_0' is not a number",
    "a,b\n": "x: only words, no numbers; cells are separated by commas",
    "1;2\n3;4\n": "x: cells are separated by ';'; convert it: tr ';' ','",
    "": "x: empty",
    "\n\n": "x: empty",
    "# shape 2 3\n1,2\n": "x: a line says # shape (2, 3)",
    "# shape 2 2 1\na,1\nb,1\nc,1\nd,1\n": "x: each matrix must have the same labels",
    "[[1, 2], [3]]": "x: the matrix: rows of different lengths",
    "[[[1, 2]], [[1]]]": "x: the matrix: lists of different lengths",
    '{"q": [[1, "cat"]]}': "x: q, row 1, cell 2: 'cat' is not a number",
    '{"q": [[1, null]]}': "x: q, row 1, cell 2: null is not a number",
    '{"q": [[1, 1e999]]}': "x: q, row 1, cell 2: too large",
    '{"q": {"shape": [2], "data": [[1]]}}': 'x: q: "shape" is [2]',
    '{"q": {"rows": ["a"], "data": [[1], [2]]}}': 'x: q: "rows": there must be 2 labels',
    '{"q": {"rows": [null], "data": [[1]]}}': 'x: q: "rows": a label is text',
    '{"q": {}}': 'x: q: an object without "data"',
    '{"q": 5}': "x: q: not a list",
    '{"q": [[1]], "Q": [[1]]}': "x: both 'q' and 'Q'",
    '{"scores": [[1]]}': "x: there is no query or q in it; it holds scores (1, 1)",
    '{"a": [[1]], "b": [[1]]}': "x: there is no query or q in it; it holds a (1, 1), b (1, 1)",
    "[1,": "x: line 1, column 4: not JSON",
    "[" * 100_000: "x: not JSON",
}


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=[*range(len(BAD))])
def test_what_cannot_be_read_is_said_with_its_place(text: str, message: str) -> None:
    with pytest.raises(DataError) as raised:
        read(text)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "data",
    [
        b"1,2\n3,\xff\n",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\x00\x00",
        b"\x93NUMPY\x01\x00\x08\x00garbage\n",
        b"PK\x03\x04 and nothing",
        b"PK\x05\x06" + bytes(18),
        bytes(range(256)),
    ],
)
def test_broken_bytes_are_bad_data(data: bytes) -> None:
    with pytest.raises(DataError, match=r"^x: "):
        read(data)


def test_an_error_does_not_list_thousands_of_names() -> None:
    text = "{" + ", ".join(f'"{"n" * 99}{i}": [[1]]' for i in range(12_501)) + "}"
    with pytest.raises(DataError, match=r"holds nnn.* and 12493 more; name one") as raised:
        read(text)
    assert len(str(raised.value)) < 900


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "objects.npy"
    np.save(path, np.array([print], dtype=object), allow_pickle=True)
    for source in (Source.file(path), Source("x", data=path.read_bytes())):
        with pytest.raises(DataError, match="never loaded"):
            read_matrix(source, "query")


@pytest.mark.parametrize("name", ["cut.npy", "cut.npz"])
@pytest.mark.parametrize("left", [0, 1, 10, 100, 200])
def test_cut_files_are_bad_data(tmp_path: Path, name: str, left: int) -> None:
    path = tmp_path / name
    stream = io.BytesIO()
    FORMATS[name[-3:]].write([Step.held("query", np.ones((9, 9)))], stream, None)
    path.write_bytes(stream.getvalue()[:left])
    with pytest.raises(DataError, match=r"cut\.np"):
        read_matrix(Source.file(path), "query")


def test_a_swapped_ending_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(written("npz", np.ones((1, 1))))
    (tmp_path / "b.npz").write_bytes(written("npy", np.ones((1, 1))))
    (tmp_path / "c.csv").write_bytes(written("npy", np.ones((1, 1))))
    for name, reason in (("a.npy", "npz archive"), ("b.npz", "npy array"), ("c.csv", "not text")):
        with pytest.raises(DataError, match=reason):
            read_matrix(Source.file(tmp_path / name), "weights")


@pytest.mark.parametrize("name", ["q", "q.dat", "q.CSV"])
def test_first_bytes_tell_where_the_ending_does_not(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("1,2\n3,4\n")
    assert read_matrix(Source.file(tmp_path / name), "query").array.tolist() == [[1, 2], [3, 4]]


def _owner(array: Any) -> Any:
    """What the numbers of an array belong to in the end."""
    while isinstance(array, (np.ndarray, memoryview)):
        array = array.base if isinstance(array, np.ndarray) else array.obj
    return array


def test_large_npy_files_are_mapped_not_read(tmp_path: Path) -> None:
    for rows, mapped in ((3, False), (2**20, True)):  # a small one is safe from others' hands
        np.save(tmp_path / "q.npy", np.ones((rows, 4), np.float32))
        array = read_matrix(Source.file(tmp_path / "q.npy"), "query").array
        assert isinstance(_owner(array), mmap.mmap) == mapped


def test_saving_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "kept.csv"
    path.write_text("before")
    path.chmod(0o640)
    with pytest.raises(KeyboardInterrupt):
        _save_half(path)
    assert path.read_text() == "before"
    with saved(path) as stream:
        stream.write(b"whole")
    assert path.read_text() == "whole"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["kept.csv"]


def _save_half(path: Path) -> None:
    with saved(path) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt


def test_saving_goes_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with saved(tmp_path / "link") as stream:
        stream.write(b"1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"1"


@given(
    st.lists(st.lists(st.text("0123456789.-+eEinfa_x ,\"'", max_size=4), max_size=3), max_size=3)
)
def test_any_text_reads_as_a_matrix_or_as_bad_data(rows: Any) -> None:
    text = "\n".join(",".join(row) for row in rows)
    try:
        array = read(text).array
    except DataError:
        return
    assert array.ndim >= 2
    assert array.dtype == np.float64


def test_brackets_alone_are_not_how_numpy_prints() -> None:
    for text, hinted in (("[]\n", False), ("[1 2]\n", True)):
        with pytest.raises(DataError) as raised:
            FORMATS["csv"].read(Source("x", data=text.encode()))
        assert ("how NumPy prints" in str(raised.value)) == hinted


def test_links_that_lead_to_each_other_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to(tmp_path / "b.csv")
    (tmp_path / "b.csv").symlink_to(tmp_path / "a.csv")
    with pytest.raises(WriteError, match="Too many levels of symbolic links"):
        _save_half(tmp_path / "a.csv")


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="root may give files")
def test_saving_keeps_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.touch()
    os.chown(path, 1234, 5678)
    with saved(path) as stream:
        stream.write(b"1")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 5678)
