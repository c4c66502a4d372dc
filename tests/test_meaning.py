"""What an input is taken to mean: where that is not clear, it is refused, or a note says it."""

import gzip
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qkvcli
from qkvcli.cli import notes
from qkvcli.errors import DataError, ShapeError
from qkvcli.formats.source import Source
from tests.conftest import Program, environment, read_matrix

PROGRAM = [sys.executable, "-m", "qkvcli"]
LABELS, NUMBERS = "is read as labels", "is read as numbers"

CSV = [
    # what pandas writes: the header alone, the index alone, both, named, none; floats and integers
    ("0,1\n.5,.2\n.1,.3\n", [[0.5, 0.2], [0.1, 0.3]], None, f"the first line, 0 to 1, {LABELS}"),
    ("0,.5\n1,.2\n", [[0.5], [0.2]], None, f"the first column, 0 to 1, {LABELS}"),
    (",0,1\n0,.5,.2\n1,.1,.3\n", [[0.5, 0.2], [0.1, 0.3]], None, ""),
    ("idx,0,1\n0,.5,.2\n1,.1,.3\n", [[0.5, 0.2], [0.1, 0.3]], None, ""),
    ("0,1,2\n3,4,5\n", [[0, 1, 2], [3, 4, 5]], None, f"the first line, 0 to 2, {NUMBERS}"),
    ("0,3\n1,4\n2,5\n", [[0, 3], [1, 4], [2, 5]], None, f"the first column, 0 to 2, {NUMBERS}"),
    ("1,2,3\n.5,.5,.5\n", [[1, 2, 3], [0.5] * 3], None, f"the first line, 1 to 3, {NUMBERS}"),
    # two whole numbers are how a matrix begins, and 0.0 is a number
    ("0,1\n1,0\n", [[0, 1], [1, 0]], None, ""),
    ("0.0,1.0\n.5,.5\n", [[0, 1], [0.5, 0.5]], None, ""),
    ("0,2,1\n.5,.5,.5\n", [[0, 2, 1], [0.5] * 3], None, ""),
    ("0,.5,.5\n", [[0, 0.5, 0.5]], None, ""),
    # a corner that is named, and one that may be the name of a column
    ("token,x,y\n2020,1,2\n", [[1, 2]], ("2020",), ""),
    ("token,7,9\nthe,.1,.2\n", [[0.1, 0.2]], ("the",), ""),
    ("t,x\n0,.5\n1,.2\n", [[0.5], [0.2]], None, f"the first column, 't', {LABELS}"),
    ("year,x\n2020,1\n", [[2020, 1]], None, f"the first column, 'year', {NUMBERS}"),
    ("a,x\n7,.5\n8,.5\n", [[7, 0.5], [8, 0.5]], None, f"the first column, 'a', {NUMBERS}"),
    ("x,y\n1,0\n0,1\n", [[1, 0], [0, 1]], None, ""),
    ("a,x\n7,.5\n.8,.5\n", [[7, 0.5], [0.8, 0.5]], None, ""),
    ("a,x\n7,.5\n7,.2\n", [[7, 0.5], [7, 0.2]], None, ""),
    ("x,y\n.5,1\n1.5,0\n", [[0.5, 1], [1.5, 0]], None, ""),
    # words and numbers in one line or column of labels
    ("1,O.5\n3,4\n", [[3, 4]], None, "the first line is read as labels, since 'O.5' is not"),
    ("1,2\nl,3\n4,5\n", [[2], [3], [5]], ("1", "l", "4"), "the first column is read as labels"),
    (",x,7\na,1,2\n", [[1, 2]], ("a",), ""),
    # a word before numbers that count: a row with its label, or an index with its name
    ("cat,0,1\ndog,1,0\n", [[0, 1], [1, 0]], ("cat", "dog"), ""),
    ("cat,0\ndog,1\n", [[0], [1]], ("cat", "dog"), ""),
    (
        "a,0,1,2\nb,1,0,2\n",
        [[0, 1, 2], [1, 0, 2]],
        ("a", "b"),
        "the first line, 'a', is read as a row",
    ),
    ("name,0,1\ncat,1,0\n", [[1, 0]], ("cat",), ""),
    ("x,0,1,2\ncat,.5,.5,.5\n", [[0.5] * 3], ("cat",), ""),
    ("x,0,1\ncat,.5,.5\n", [[0.5] * 2], ("cat",), "the first line, 'x', is read as labels"),
    (
        "q,1,3\ncat,.1,.2\n",
        [[1, 3], [0.1, 0.2]],
        ("q", "cat"),
        "the first line, 'q', is read as a row",
    ),
    ("q,1,1\ncat,.1,.2\n", [[1, 1], [0.1, 0.2]], ("q", "cat"), ""),
    ("2000,2001,2002\n.1,.2,.3\n", [[2000, 2001, 2002], [0.1, 0.2, 0.3]], None, "the first line"),
    ("0\n.1\n.2\n", [[0], [0.1], [0.2]], None, "the first line, 0, is read as a number"),
    ("0\n1\n2\n", [[0], [1], [2]], None, ""),
    # rows that were chosen, and labels in quotes
    ('"1",.5,.2\n"5",.1,.3\n', [[0.5, 0.2], [0.1, 0.3]], ("1", "5"), ""),
    ('"1",.5,x\n"5",.1,.3\n', [[0.1, 0.3]], ("5",), ""),
    (",0,1\n3,.5,.2\n", [[0.5, 0.2]], ("3",), ""),
    (',"2","3"\n"5",1,2\n', [[1, 2]], ("5",), ""),
    (',"2","3"\n5,1,2\n', [[1, 2]], ("5",), ""),
    ('\r\n,"2","3"\r\n5,1,2\r\n', [[1, 2]], ("5",), ""),
]


def read(text: str | bytes, role: str = "query") -> Any:
    return read_matrix(Source("x", data=text if isinstance(text, bytes) else text.encode()), role)


@pytest.mark.parametrize(("text", "numbers", "rows", "reading"), CSV, ids=[c[0] for c in CSV])
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_csv_as_people_and_pandas_write_it(
    text: str, numbers: Any, rows: Any, reading: str, delimiter: str
) -> None:
    found = read(text.replace(",", delimiter))
    assert (found.array.tolist(), found.rows) == (numbers, rows)
    assert found.reading.startswith(reading) if reading else found.reading == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",2,3\n4,5,6\n", "x: line 1, cell 1: the cell is empty"),
        (",.5\n.1,.2\n", "x: line 1, cell 1: the cell is empty"),
        ("NA,2\n3,4\n", "x: line 1, cell 1: 'NA' is not a number like those beside it"),
        ("1,null\n3,4\n", "x: line 1, cell 2: 'null' is not a number like those beside it"),
        ('"1"2,3\n', "x: line 1: "),
        (
            "\u22121,\u22122\n3,4\n",
            "x: line 1, cell 1: '\u22121' is not a number; labels like it want",
        ),
        ("\u22121,2\n\u22123,4\n", "x: line 1, cell 1: '\u22121' is not a number; labels like"),
        ("1/2,1/3\n1/4,1\n", "x: line 1, cell 2: '1/3' is not a number; labels like it want"),
        ("NA,NA\n1,0\n", "x: line 1, cell 1: 'NA' is not a number; labels like it want quotes"),
        ("1,2\n# a,b\n3,4\n", "x: line 2 begins with '#', as a comment does; leave it out"),
        ("\n1,2\n% a\n", "x: line 3 begins with '%', as a comment does; leave it out"),
        ("# a\n1,2\n# 3,4\n5,6\n", "x: line 3 begins with '#', as a comment does"),
        ("x,y\n1,2\n# 3,4\n5,6\n", "x: line 3 begins with '#', as a comment does"),
        ("# a\n\n% b\n", "x: only comments, no numbers"),
        ('"1,2\n3,4\n', "x: line 2: unexpected end of data"),
        ("1;2\n3;x\n", "x: only words, no numbers; cells are separated by white space (cells seem"),
        (
            "0,5;0,7\n1,5;x\n",
            "x: line 2: 2 cells, where line 1 has 3; each row needs as many (cells",
        ),
        ("[[1. 2.]\n [3. 4.]]\n", "x: line 1, column 4: not JSON: this is how NumPy prints"),
        ("# shape 1\n1\n", "x: line 1 says # shape 1, which no matrix has"),
        ("# shape 2 two\n1\n", "x: line 1 says # shape 2 two, which no matrix has"),
        ("# shape" + " 1" * 65 + "\n1\n", "x: line 1 says # shape 1 1"),
        ("# shape 4000000000 4000000000 0\n", "x: line 1 says # shape 4000000000"),
        (f"# shape 1 {'9' * 5000}\n", "x: line 1 says # shape 1 99"),
        (",a,infant\nx,1,1e400\n", "x: line 2, cell 3: 1e400 is too large"),
        ("[[true, false], [0, 0]]", "x: the matrix: true and false among numbers"),
        ("[[true, 0]]", "x: the matrix, row 1, cell 1: true is not a number"),
        (
            '{"q": [[1]], "query": [[2]]}',
            "x: holds query and q, and each may be query; name",
        ),
        ('{"q": [[1]], "q": [[2]]}', "x: 'q' stands there twice; keep one"),
    ],
)
def test_what_is_not_clear_is_an_error(text: str, message: str) -> None:
    with pytest.raises(DataError) as raised:
        read(text)
    assert str(raised.value).startswith(message)


TXT = [
    ("1 2 3\n# query\n4 5 6\n", "line 2 begins with '#', as a comment does; leave it out"),
    ("# 7\n3 0\n4\n", "line 3: 1 cell, where line 2 has 2"),
    ("1 2\n3 4 5\n6 7 8\n", "line 2: 3 cells, where line 1 has 2; each row needs as many"),
    ("0.1 0.2\n1 3 4\n2 5 6\n", "line 2: 3 cells, where line 1 has 2"),
    ("1.5\n3 4\n6 7\n", "line 2: 2 cells, where line 1 has 1"),
    ("Q =\n3 2 3\n7 4 5\n", "line 2: 3 cells, where line 1 has 2"),
    ("0,5 1,5\n1 2\n", "line 1, cell 1: '0,5' is not a number; labels like it want quotes"),
    (
        "1,2\n3,4\n",
        "only words, no numbers; cells are separated by white space (cells seem to be sep",
    ),
]


@pytest.mark.parametrize(("text", "message"), TXT, ids=[text for text, _ in TXT])
def test_a_first_line_that_is_not_labels(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "q.txt"
    path.write_text(text)
    with pytest.raises(DataError) as raised:
        read_matrix(Source.file(path), "query")
    assert str(raised.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("text", "rows", "columns"),
    [
        ('"V1" "V2"\n"1" 1 2\n"2" 3 4\n', ("1", "2"), ("V1", "V2")),
        ("V1 V2\n1 1 2\n2 3 4\n", ("1", "2"), ("V1", "V2")),
        ("0 1\nthe 1 2\ncat 3 4\n", ("the", "cat"), None),
        ('"7" "8"\n"5" 1 2\n"6" 3 4\n', ("5", "6"), ("7", "8")),
        ('"#" b\nx 1 2\ny 3 4\n', ("x", "y"), ("#", "b")),
        ("#tag,1,2\ncat,3,4\n", ("#tag", "cat"), None),
    ],
)
def test_a_first_line_of_labels_without_a_corner(text: str, rows: Any, columns: Any) -> None:
    found = read(text)
    assert (found.rows, found.columns, found.array.tolist()) == (rows, columns, [[1, 2], [3, 4]])


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt"])
@pytest.mark.parametrize("labels", [("7", "5"), ("1", "2"), ("5", "a"), ("#", "7"), ("1.5", "nan")])
def test_labels_that_are_numbers_read_back(qkv: Program, labels: Any, kind: str) -> None:
    said = {"scores": {"rows": labels, "columns": labels, "data": [[1, 2], [3, 4]]}}
    weights = qkv("softmax", "-f", kind, stdin=json.dumps(said)).out
    back = read(weights, "weights")
    assert (back.rows, back.columns, back.array.shape) == (labels, labels, (2, 2))


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt"])
def test_an_empty_label_cannot_be_written(qkv: Program, kind: str) -> None:
    for side, data in (("rows", [[1], [2]]), ("columns", [[1, 2]]), ("columns", [[1]])):
        labels = ["a", ""] if len(data) + len(data[0]) > 2 else [""]
        said = json.dumps({"scores": {side: labels, "data": data}})
        found = qkv("softmax", "-f", kind, stdin=said)
        assert (found.code, found.out) == (4, "")


def test_numpys_print_is_named_in_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    path.write_text(str(np.ones((2, 3))))
    with pytest.raises(DataError, match=r"q\.txt: line 1.*this is how NumPy prints"):
        read_matrix(Source.file(path), "query")


@pytest.mark.parametrize(
    "text",
    [
        "# shape 1 2 2\n1,2\n3,4\n",
        "# shape 1 2 2\r1,2\r3,4\r",
        f"# shape 1 2{' ' * 600}2\n1,2\n3,4\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_shape_line_in_every_encoding(text: str, encoding: str) -> None:
    assert read(text.encode(encoding)).array.tolist() == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize(
    "label",
    ["\ufeffthe", "[1]", "[", ",", "PK\x03\x04", "a\tb", "#", "{", '"', "inf", "\u2028a", "a\x85b"],
)
@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "json"])
def test_odd_labels_are_what_was_written(qkv: Program, label: str, kind: str) -> None:
    said = {"q": {"rows": [label, "b"], "data": [[1, 2], [3, 4]]}, "k": [[1, 2]]}
    text = qkv("scores", "--qkv", "-", "-f", kind, stdin=json.dumps(said)).data
    back = read(text, "scores")
    assert (back.rows, back.array.tolist()) == ((label, "b"), [[5], [11]])


FOREIGN = {
    "q.xlsx": (b"PK\x03\x04" + bytes(22) + b"\x13\x00\x00\x00[Content_Types].xml", "an Excel"),
    "q.h5": (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    "q.pkl": (b"\x80\x04\x95", "a Python pickle, which is never loaded"),
    "q.csv.gz": (gzip.compress(gzip.compress(b"1")), "compressed by gzip twice"),
    "q.csv.bz2": (b"BZh91AY&SY\xff", "compressed by bzip2; decompress it first: bunzip2"),
    "q.xz": (b"\xfd7zXZ\x00", "compressed by xz"),
    "q.parquet": (b"PAR1\x15\x04\x15\x00", "a Parquet file"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_programs_files_are_named_for_what_they_are(
    qkv: Program, folder: Path, name: str
) -> None:
    data, what = FOREIGN[name]
    Path(name).write_bytes(data)
    found = qkv("softmax", name)
    assert (found.code, found.out) == (3, "")
    assert found.err.startswith(f"qkvcli: {name}: is {what}")
    assert qkv("softmax", stdin=data).err.startswith(f"qkvcli: standard input: is {what}")


def test_words_that_begin_as_other_files_do_are_words(qkv: Program) -> None:
    for word in ("PAR1", "BZhou", "GGUF", "%PDF", "MATLAB 5.0", "ARROW1"):
        found = qkv(
            "softmax", stdin=f",a,b\n{word},0,0\n" if word == "%PDF" else f"{word},b\n0,0\n"
        )
        assert (found.code, found.out.splitlines()[-1].split(",")[-2:]) == (0, ["0.5", "0.5"])


def test_plain_text_may_have_any_ending(qkv: Program, folder: Path) -> None:
    Path("q.gz").write_text("0.5,0.25\n")
    assert qkv("softmax", "q.gz", "--digits", 4).out == "0.5622,0.4378\n"


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.float32, np.float16])
def test_a_mask_of_0_and_1_is_refused(kind: Any) -> None:
    query = np.ones((3, 2))
    with pytest.raises(DataError, match=r"mask \(3, 3\): .*write true/false, or 0 and -inf"):
        qkvcli.scores(query, query, mask=np.tril(np.ones((3, 3), kind)))


def test_masks_that_can_only_be_added_are_added() -> None:
    query = np.ones((2, 2))
    for mask in (np.zeros((2, 2)), [[0, -np.inf], [0.0, 0.0]], [[1.0, 2.0], [0.0, 0.0]]):
        np.testing.assert_array_equal(qkvcli.scores(query, query, mask=mask), 2 + np.array(mask))
    many = np.zeros((1, 2**20 + 1))
    many[0, -1] = 0.5  # the first million numbers are not all
    assert qkvcli.scores([[0.0]], np.ones((2**20 + 1, 1)), mask=many)[0, -1] == 0.5
    with pytest.raises(DataError):
        qkvcli.scores([[0.0]], np.ones((2**20 + 1, 1)), mask=np.where(many, 1.0, 0.0))


def test_a_mask_of_each_batch_is_told_its_shape() -> None:
    query = np.ones((2, 4, 3, 5))
    with pytest.raises(ShapeError, match=r"one for each batch is \(2, 1, 1, 3\)"):
        qkvcli.scores(query, query, mask=np.ones((2, 3), bool))
    with pytest.raises(ShapeError, match=r"one for each batch is \(2, 1, 3, 3\)"):
        qkvcli.scores(query, query, mask=np.ones((2, 3, 3), bool))
    with pytest.raises(ShapeError, match=r"the mask must broadcast to the scores$"):
        qkvcli.scores(query, query, mask=np.ones((5, 3), bool))


@pytest.fixture
def arrays(folder: Path) -> Path:
    """Arrays by name: their shapes are in it."""
    rng = np.random.default_rng(0)
    for shape in (
        "5x8",
        "4x6x8",
        "2x4x6x8",
        "2x6x4x8",
        "2x2x3x4",
        "2x3x4",
        "2x3x8",
        "2x3x3x4",
        "1x3x3x4",
    ):
        np.save(f"{shape}.npy", rng.normal(size=tuple(map(int, shape.split("x")))))
    for shape in ("2x3x3", "2x1x3x3", "1x2x3x3", "2x2x3x3"):
        np.save(f"w{shape}.npy", np.full(tuple(map(int, shape.split("x"))), 1 / 3))
    np.savez("one.npz", a=np.ones((5, 8)))
    np.savez("some.npz", q=np.ones((5, 8)), k=np.ones((5, 8)), v=np.ones((5, 8)))
    np.save("eye.npy", np.eye(3))
    np.save("m2.npy", np.ones((3, 3), bool))
    np.save("m3.npy", np.ones((2, 3, 3), bool))
    return folder


REFUSED = {
    "run --qkv one.npz": "one.npz: there is no query or q in it; it holds a (5, 8)",
    "scores -q 2x4x6x8.npy -k 2x4x6x8.npy --heads 4": (
        "query (2, 4, 6, 8) from 2x4x6x8.npy: axis -3 already counts 4; if those are the heads, "
        "layout hld, (…, H, L, d), leave heads out; if the last axis holds them, layout l(hd), "
        "(…, L, H·d), say so, or give it as (8, 6, 8)"
    ),
    "scores -q 2x6x4x8.npy -k 2x6x4x8.npy --heads 4": "axis -2 already counts 4; if those are",
    "scores -q 2x4x6x8.npy -k 5x8.npy --heads 2 --past-key 2x4x6x8.npy": "past key",
    "output w2x3x3.npy -v 2x2x3x4.npy": (
        "weights (2, 3, 3) from w2x3x3.npy and value (2, 2, 3, 4) from 2x2x3x4.npy: the first axis "
        "of weights may count batches or heads; give it in layout hld, as (2, 1, 3, 3) or "
        "(1, 2, 3, 3)"
    ),
    "output w2x2x3x3.npy -v 2x3x4.npy": (
        "value may count batches or heads; give it in layout hld, as (2, 1, 3, 4)"
    ),
    "run --wq w.npy": "--wq without anything to project; add --embeddings",
    "softmax -q '' -k ''": "the name of the file is empty",
}


@pytest.mark.parametrize(("line", "message"), REFUSED.items(), ids=REFUSED)
def test_what_may_be_two_things_is_refused(
    qkv: Program, arrays: Path, line: str, message: str
) -> None:
    found = qkv(*(word.strip("'") for word in line.split()))
    assert message in found.err
    assert found.code in (2, 3)
    assert found.out == ""


def test_a_lonely_matrix_may_be_named_alone(qkv: Program, arrays: Path) -> None:
    for words in (["-q", "one.npz", "-k", "one.npz"], ["--qkv", "some.npz"]):
        assert qkv("scores", *words).code == 0


@pytest.mark.parametrize(
    ("line", "note"),
    [
        (
            "scores -q 4x6x8.npy -k 4x6x8.npy --heads 4",
            "query (4, 6, 8) from 4x6x8.npy is read as 4 batches, each to be split into 4 heads "
            "(--layout 'l(hd)'); if its first axis counts the heads, say --layout hld",
        ),
        ("scores -q 4x6x8.npy -k 4x6x8.npy --heads 2", ""),
        ("scores -q 2x3x8.npy -k 2x3x4.npy --heads 4 --kv-heads 2", "key (2, 3, 4) from"),
        ("scores --seed 1 --length 4 --heads 4", ""),
        (
            "output w2x1x3x3.npy -v 2x2x3x4.npy",
            "weights (2, 1, 3, 3) from w2x1x3x3.npy has one head",
        ),
        ("output w2x2x3x3.npy -v 2x2x3x4.npy", ""),
        (
            "output w1x2x3x3.npy -v 2x2x3x4.npy",
            "w1x2x3x3.npy has one batch, which is used for all 2",
        ),
        ("scores --seed 1 --valid-length 0", ""),
        ("scores --seed 1 --valid-length 0 --causal", "5 of 5 queries see nothing"),
        (
            "softmax w2x3x3.npy",
            "each row of scores (2, 3, 3) from w2x3x3.npy sums to 1, as weights do",
        ),
        ("softmax 2x3x4.npy", ""),
        ("softmax eye.npy", ""),  # one-hot queries and keys have such scores
        ("scores -q 2x3x4.npy -k 2x3x4.npy --mask m3.npy", ""),
        ("scores -q 2x3x3x4.npy -k 2x3x3x4.npy --mask m2.npy", ""),
        (
            "scores -q 2x2x3x4.npy -k 2x2x3x4.npy --mask m3.npy",
            "is read as the 2 heads; if it counts",
        ),
        (
            "scores --seed 1 --causal --valid-length 3",
            "2 of 5 queries see nothing: after --valid-l",
        ),
        ("scores --seed 1 --causal --valid-length 3 --offset 0", ""),
        ("scores --seed 1 --causal --valid-length 5", ""),
        ("scores --seed 1 --valid-length 3", ""),
        ("scores --seed 1 --length 9 --rows 20:", "--rows 20: names none of the 9 rows"),
    ],
)
def test_what_most_people_mean_otherwise_is_noted(
    qkv: Program, arrays: Path, line: str, note: str
) -> None:
    found = qkv(*line.split())
    assert found.code == 0
    assert found.err.count("\n") == bool(note)
    assert note in found.err
    assert found.err.startswith("note: ") or not note
    assert "note" not in found.out


def test_the_title_shows_the_offset(qkv: Program, folder: Path) -> None:
    shown = qkv("scores", "--seed", 1, "--causal", "--valid-length", 3, "-f", "markdown").out
    assert "**masked** = scores + causal mask (offset -2) + valid length   (" in shown
    assert "causal mask   (" in qkv("scores", "--seed", 1, "--causal", "-f", "table").out
    query = np.ones((2, 2, 3, 4))
    steps = qkvcli.attend(query, query, query, valid_length=[1, 3], window=1)
    assert steps["masked"].formula == "scores + window (offset -2 to 0) + valid length"


def test_weights_that_are_none_are_noted(qkv: Program, folder: Path) -> None:
    scores = qkv("scores", "--seed", 42).out
    said = qkv("output", "-", "--seed", 42, stdin=scores).err
    assert said.startswith(
        "note: 5 of 5 rows of weights (5, 5) from standard input do not sum to 1"
    )
    assert said.endswith("(the first of them to 73.05); scores become weights by softmax\n")
    weights = qkv("softmax", "--seed", 42, "-f", "json").out
    turned = np.array(json.loads(weights)["weights"]["data"]).T
    np.save("w.npy", turned)
    assert "its columns do" in qkv("output", "w.npy", "--seed", 42).err
    for words in ([], ["--digits", 2], ["--causal", "--window", 0]):
        weights = qkv("softmax", "--seed", 42, *words).out
        assert qkv("output", "-", "--seed", 42, stdin=weights).err == ""
    hidden = "0,0,0,0,0\n" * 5  # a query with nothing to see
    assert qkv("output", "-", "--seed", 42, stdin=hidden).err == ""


def test_of_many_weights_some_rows_are_looked_at(
    qkv: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "_LOOKED_AT", 1000)
    large = np.full((200, 50), 1 / 50)
    large[1::2] = 0.5
    np.save("w.npy", large)
    np.save("v.npy", np.ones((50, 1)))
    said = qkv("output", "w.npy", "-v", "v.npy").err
    assert re.match(
        r"note: \d+ of 20 rows looked at in weights \(200, 50\) from w.npy do not sum", said
    )


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "json"])
def test_rows_that_were_chosen_keep_their_places(qkv: Program, kind: str) -> None:
    whole = read(qkv("softmax", "--seed", 42, "--causal", "-f", "json").out, "weights").array
    for rows, labels in (("3", ("3",)), ("1,3:", ("1", "3", "4")), ("0:2", None)):
        picked = qkv("scores", "--seed", 42, "--rows", rows, "-f", kind).data
        found = qkv("softmax", "--causal", "-f", "json", stdin=picked)
        assert found.err == ""
        weights = read(found.out, "weights")
        assert weights.rows == labels
        places = [0, 1] if labels is None else list(map(int, labels))
        np.testing.assert_allclose(weights.array, whole[places])


def test_labels_tell_the_places_where_they_can(qkv: Program) -> None:
    words = ["softmax", "--causal", "-f", "json"]
    whole = json.loads(qkv(*words, stdin=qkv("scores").out).out)["weights"]["data"]
    picked = qkv("scores", "--rows", "sat,mat").out
    found = qkv("softmax", "--causal", "-f", "json", stdin=picked)
    assert (json.loads(found.out)["weights"]["data"], found.err) == ([whole[2], whole[4]], "")
    told = qkv("softmax", "--causal", "--offset", 0, "-f", "json", stdin=picked)
    assert json.loads(told.out)["weights"]["data"][0] == [1, 0, 0, 0, 0]  # what is said wins
    twice = ["--labels", "the cat the on mat"]
    for rows, clear in (("the", True), ("0", False)):
        picked = qkv("scores", *twice, "--rows", rows).out
        assert (qkv("softmax", "--causal", stdin=picked).err == "") == clear


def test_places_and_a_valid_length_are_more_than_labels_tell(qkv: Program) -> None:
    for rows, note in (("1:3", True), ("0:5", False)):
        picked = qkv("scores", "--labels", "a b c d e", "--rows", rows).out
        said = qkv("softmax", "--causal", "--valid-length", 5, stdin=picked).err
        assert ("does not say how many queries there are in all" in said) == note
        assert (
            qkv("softmax", "--causal", "--valid-length", 5, "--offset", 0, stdin=picked).err == ""
        )


def test_rows_beyond_the_keys_are_placed_there(qkv: Program) -> None:
    words = ["--seed", 42, "--length", 10, "--key-length", 5, "--rows", "5:"]
    piped = qkv("softmax", "--window", "3,0", stdin=qkv("scores", *words).out)
    assert (piped.out, piped.err) == (qkv("softmax", *words, "--window", "3,0").out, "")


def test_rows_whose_labels_stand_in_another_order_are_not_placed(qkv: Program) -> None:
    words = ["--seed", 42, "--length", 3, "--labels", "a b c", "--key-labels", "c b a"]
    piped = qkv("softmax", "--causal", stdin=qkv("scores", *words).out)
    assert piped.out == qkv("softmax", *words, "--causal").out
    assert "are taken in their order, and not where the columns have their labels" in piped.err


def test_labels_that_contradict_each_other_are_noted(qkv: Program, folder: Path) -> None:
    Path("w.csv").write_text(",The,cat\nThe,0.9,0.1\ncat,0.2,0.8\n")
    Path("v.csv").write_text(",x,y\ncat,1,2\nThe,3,4\n")
    found = qkv("output", "w.csv", "-v", "v.csv", "--digits", 1)
    assert found.out.splitlines()[1] == "The,1.2,2.2"
    assert found.err == (
        "note: key 0 is 'The' in weights (2, 2) from w.csv and 'cat' in value (2, 2) from v.csv; "
        "they are matched by their order\n"
    )
    Path("k.csv").write_text(",x,y\nThe,1,2\ncat,3,4\n")
    assert "key 0 is 'The' in key (2, 2)" in qkv("run", *"-q k.csv -k k.csv -v v.csv".split()).err
    assert qkv("run", *"-q k.csv -k k.csv -v k.csv".split()).err == ""


@pytest.mark.parametrize("option", ["--causal", "--window"])
def test_scores_without_places_are_noted(qkv: Program, option: str) -> None:
    words = [option, 1] if option == "--window" else [option]
    picked = qkv("scores", "--seed", 42, "--rows", 3, "-f", "npy").data
    said = qkv("softmax", *words, stdin=picked).err
    assert said.startswith("note: scores (1, 5) from standard input does not say which queries")
    assert said.count("\n") == 1
    assert qkv("softmax", *words, "--offset", 3, stdin=picked).err == ""
    assert qkv("softmax", stdin=picked).err == ""
    whole = qkv("scores", "--seed", 42, "-f", "npy").data
    assert qkv("softmax", *words, stdin=whole).err == ""


@pytest.mark.parametrize("kind", ["json", "npy", "csv"])
def test_a_head_that_was_chosen_keeps_its_axis(qkv: Program, folder: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    for name in "qkv":
        np.save(f"{name}.npy", rng.normal(size=(2, 3, 4, 5)))
    files = ["-q", "q.npy", "-k", "k.npy"]
    whole = qkv("output", *files, "-v", "v.npy", "-f", "npy").data
    weights = qkv("softmax", *files, "--head", 1, "-f", kind).data
    np.save("v1.npy", np.load("v.npy")[:, 1:2])
    found = qkv("output", "-", "-v", "v1.npy", "-f", "npy", stdin=weights)
    assert found.err == ""
    expected = np.load(io.BytesIO(whole))[:, 1:2]
    np.testing.assert_allclose(np.load(io.BytesIO(found.data)), expected)
    one = qkv("softmax", *files, "--head", 1, "--batch", 0, "-f", "npy").data
    assert np.load(io.BytesIO(one)).shape == (1, 1, 4, 4)


def test_labels_name_the_values_too(qkv: Program, folder: Path) -> None:
    np.save("x.npy", np.eye(2))
    words = ["run", "--embeddings", "x.npy", "--wq", "x.npy", "--wk", "x.npy", "--wv", "x.npy"]
    shown = json.loads(qkv(*words, "--labels", "a b", "-f", "json").out)
    for name in ("query", "key", "value"):
        assert shown[name]["rows"] == ["a", "b"]
    shown = json.loads(qkv(*words, "--key-labels", "c d", "-f", "json").out)
    assert [shown[name].get("rows") for name in ("query", "value")] == [None, ["c", "d"]]


def started(command: str, folder: Path) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        ["bash", "-c", command.replace("qkvcli", shlex.join(PROGRAM))],
        capture_output=True,
        env=environment(),
        stdin=subprocess.DEVNULL,
        cwd=folder,
    )


@pytest.mark.skipif(os.name == "nt", reason="pipes are told apart on Unix")
@pytest.mark.parametrize(
    ("command", "note"),
    [
        (
            "qkvcli softmax --causal --seed 42 | qkvcli output --seed 42 -f npy",
            b"note: standard input is not read; give - as WEIGHTS to read it\n",
        ),
        (
            "echo 1 > x; qkvcli run < x",
            b"note: standard input is not read; give - as the name of a file to read it\n",
        ),
        ("echo 1 > x; qkvcli softmax < x", b""),
        ("printf '1\\n2\\n' > x; while read n; do qkvcli run; done < x", b""),
        ("qkvcli run < /dev/null", b""),
        (": | qkvcli run", b""),
        ("qkvcli scores --seed 42 | qkvcli softmax", b""),
    ],
)
def test_a_pipe_that_nothing_reads_is_noted(folder: Path, command: str, note: bytes) -> None:
    ended = started(command, folder)
    assert (ended.returncode, ended.stderr) == (0, note)


@pytest.mark.skipif(os.name == "nt", reason="there is no such shell")
def test_a_loop_that_reads_lines_is_not_broken(folder: Path) -> None:
    loop = "while read n; do qkvcli scores --seed $n --length 1 --digits 1; done"
    ended = started(f"printf '1\\n2\\n3\\n' | {loop}", folder)
    assert len(ended.stdout.splitlines()) == 3
    lines = ended.stderr.splitlines()
    assert all(line.startswith(b"note: standard input is not read") for line in lines)


def test_an_unused_option_of_another_kind_is_not_lost(qkv: Program) -> None:
    assert qkv("run", "--rows", "9:", "--seed", 1, "-f", "csv").out == "# shape 0 64\n"
