"""Text as people have it: compressed, below comments, from spreadsheets, labels as they say."""

import gzip
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import qkvcli
from qkvcli.core.operands import Operand
from qkvcli.errors import DataError, UsageError
from qkvcli.formats import gzipped
from qkvcli.formats.address import WHOLE
from qkvcli.formats.files import in_folder, read_document
from qkvcli.formats.registry import COMPRESSED
from qkvcli.formats.saving import saved
from qkvcli.formats.source import Source
from qkvcli.formats.text.labels import GUESSED, Labelling
from tests.conftest import Program, read_matrix
from tests.test_formats import TEXT, written

HALF = [[0.5, 0.25], [1.5, 2.0]]


def read(text: str | bytes, labelling: Labelling = GUESSED) -> Operand:
    data = text.encode() if isinstance(text, str) else text
    return read_matrix(Source("x", data=data, labelling=labelling), "weights")


# gzip


@pytest.mark.parametrize("kind", [*TEXT, "npy", "npz"])
@given(data=st.data(), shape=array_shapes(min_dims=2, max_dims=3, max_side=4))
def test_what_is_compressed_reads_as_what_it_was(kind: str, data: Any, shape: Any) -> None:
    array = data.draw(arrays(np.float64, shape))
    back = read(gzip.compress(written(kind, array))).array
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("name", ["q.csv.gz", "Q.CSV.GZ", "q.gz", "q", "q.csv", "q.csv.bz2"])
def test_a_compressed_file_is_told_by_its_bytes(qkv: Program, folder: Path, name: str) -> None:
    text = b"0.5,0.25\n1.5,2\n"
    for data in (gzip.compress(text), text):  # the name alone does not make it compressed
        Path(name).write_bytes(data)
        found = qkv("softmax", name, "--digits", 4)
        assert (found.code, found.out, found.err) == (0, "0.5622,0.4378\n0.3775,0.6225\n", "")
        assert qkv("softmax", "--digits", 4, stdin=data).out == found.out


@pytest.mark.parametrize(("kind", "sign"), [("csv", ","), ("tsv", "\t"), ("txt", " ")])
def test_the_ending_inside_tells_the_format(folder: Path, kind: str, sign: str) -> None:
    path = Path(f"q.{kind}.gz")
    path.write_bytes(gzip.compress(f"a{sign}b c\n1{sign}2\n".replace("b c", "b").encode()))
    assert read_matrix(Source.file(path), "query").columns == ("a", "b")


def test_a_folder_has_compressed_files(folder: Path) -> None:
    Path("query.csv.gz").write_bytes(gzip.compress(b"1,2\n3,4\n"))
    found = in_folder(
        Path(), "query", WHOLE, lambda path: (read_document(Source.file(path)), str(path))
    )
    assert found is not None
    assert found.array.tolist() == [[1, 2], [3, 4]]


BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut": (lambda whole: whole[:-9], "not a whole gzip file: it ends too early"),
    "cut in its header": (lambda whole: whole[:5], "not a whole gzip file: it ends too early"),
    "another sum": (lambda whole: whole[:-8] + bytes(8), "not a whole gzip file: incorrect data"),
    "more": (lambda whole: whole + b"more", "more follows after the first one's end"),
    "two": (lambda whole: whole + whole, "another gzip file follows in it"),
    "spoilt": (lambda whole: whole[:10] + b"\xff" * 20, "not a whole gzip file: invalid block"),
    "binary inside": (lambda _: gzip.compress(bytes(2000)), "neither text nor a file"),
    "an archive inside": (lambda _: gzip.compress(b"\x89HDF\r\n\x1a\n"), "is an HDF5 file"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_gzip_did_not_write_whole_is_refused(qkv: Program, folder: Path, case: str) -> None:
    spoil, message = BROKEN[case]
    rows = "".join(f"{i},{i + 1}\n" for i in range(50))
    Path("q.csv.gz").write_bytes(spoil(gzip.compress(rows.encode())))
    found = qkv("softmax", "q.csv.gz")
    assert (found.code, found.out) == (3, "")
    assert found.err.startswith(f"qkvcli: q.csv.gz: {message}")


def test_a_small_file_does_not_grow_beyond_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = gzip.compress(b"0,0\n" * 2**18)
    assert read(zeros).array.shape == (2**18, 2)  # a mask may be so
    monkeypatch.setattr(gzipped, "LARGE", 2**19)
    with pytest.raises(DataError, match="x: grows to more than 0 MB, and 200 times its size"):
        read(zeros)
    monkeypatch.setattr(gzipped, "TIMES", 2000)
    assert read(zeros).array.shape == (2**18, 2)


@pytest.mark.parametrize("ending", COMPRESSED)
def test_text_is_written_through_gzip(qkv: Program, folder: Path, ending: str) -> None:
    plain = ending.removesuffix(".gz")
    for name in (f"a{ending}", f"b{ending}", f"c{plain}"):
        assert qkv("softmax", "-o", name, "--quiet", "--seed", 1).code == 0
    data = Path(f"a{ending}").read_bytes()
    assert data == Path(f"b{ending}").read_bytes()
    assert data[3:8] == bytes(5)  # no flag, so no name, and no time
    assert gzip.decompress(data) == Path(f"c{plain}").read_bytes()
    qkvcli.attend([[1, 2]], [[3, 1]], [[1]]).save(f"d{ending}")
    assert read(Path(f"d{ending}").read_bytes()).array.shape == (1, 1)


@pytest.mark.parametrize(
    "name", ["x.npy.gz", "x.npz.gz", "x.md.gz", "x.html.gz", "x.svg.gz", "x.gz"]
)
def test_what_is_not_text_is_not_compressed(qkv: Program, folder: Path, name: str) -> None:
    found = qkv("softmax", "--seed", 1, "-o", name)
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith(
        f"qkvcli: -o {name}: what is compressed is text; use one of .csv.gz"
    )
    with pytest.raises(UsageError, match="use one of"):
        qkvcli.attend([[1]], [[1]], [[1]]).save(name)
    assert not list(folder.iterdir())


def test_a_compressed_file_is_saved_whole_or_not_at_all(folder: Path) -> None:
    def half() -> None:
        with saved(Path("kept.csv.gz")) as stream:
            stream.write(b"1,2\n" * 100_000)
            raise KeyboardInterrupt

    Path("kept.csv.gz").write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        half()
    assert [path.read_bytes() for path in folder.iterdir()] == [b"before"]


# comments


COMMENT = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20)


@given(
    header=st.lists(COMMENT, max_size=3),
    array=arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=4)),
    delimiter=st.sampled_from([",", "\t", " "]),
    sign=st.sampled_from(["# ", "#", "% "]),
)
def test_what_savetxt_writes_is_read(header: Any, array: Any, delimiter: str, sign: str) -> None:
    stream = io.StringIO()
    lines = "\n".join(f"of {line}" for line in header)
    np.savetxt(stream, array, header=lines, comments=sign, delimiter=delimiter, fmt="%.17g")
    ending = {",": "csv", "\t": "tsv", " ": "txt"}[delimiter]
    found = read(stream.getvalue())
    assert found.array.shape == array.shape, ending
    np.testing.assert_array_equal(found.array, array)


@pytest.mark.parametrize(
    ("text", "numbers", "rows", "columns"),
    [
        ("# a,b\n1,2\n3,4\n", [[1, 2], [3, 4]], None, None),
        ("# 1,2\n# 3,4\n5,6\n", [[5, 6]], None, None),
        ("\n# a\n\n % b\nx,y\n1,2\n", [[1, 2]], None, ("x", "y")),
        ("# a\r\n,x,y\r\nthe,1,2\r\n", [[1, 2]], ("the",), ("x", "y")),
        ("\ufeff# a\r1 2\r3 4\r", [[1, 2], [3, 4]], None, None),
        ("# title,,\n1,2,3\n", [[1, 2, 3]], None, None),
        ("# shape: (2, 2)\n1,2\n3,4\n", [[1, 2], [3, 4]], None, None),
        ("# ours\n# shape 2 1 2\n# theirs\n1,2\n3,4\n", [[[1, 2]], [[3, 4]]], None, None),
        ("# 0,1\n0,1\n.5,.25\n", [[0.5, 0.25]], None, None),
        # labels that begin so
        ("#tag,1,2\ncat,3,4\n", [[1, 2], [3, 4]], ("#tag", "cat"), None),
        ("# a\n#tag,1,2\ncat,3,4\n", [[1, 2], [3, 4]], ("#tag", "cat"), None),
        ("#a,1\n#b,2\n", [[1], [2]], ("#a", "#b"), None),
        ("#,x,y\ncat,1,2\n", [[1, 2]], ("cat",), ("x", "y")),
        ('#tag,1\n"a,b",2\n', [[1], [2]], ("#tag", "a,b"), None),
    ],
)
def test_comments_before_the_numbers(text: str, numbers: Any, rows: Any, columns: Any) -> None:
    found = read(text)
    assert (found.array.tolist(), found.rows, found.columns) == (numbers, rows, columns)


def test_a_comment_that_may_be_a_row_is_noted() -> None:
    said = "line 1, '# foo', is read as a row with its label; if it is a comment, leave it out"
    assert read("# foo, 12\ncat,3\n").reading == said
    assert read("#foo, 12\ncat,3\n").reading == ""
    below = "line 2, below the comments, is read as labels"
    assert read("# a,b\n1,2\n3,4\n", Labelling(header=True)).reading == below
    assert read("# of a\n1,2\n3,4\n", Labelling(header=True)).reading == ""


def test_comments_beyond_the_first_bytes(folder: Path) -> None:
    Path("q.csv").write_text("# more\n" * 20_000 + "1,2\nx,4\n")
    assert read_matrix(Source.file(Path("q.csv")), "query").rows == ("1", "x")
    Path("q.csv").write_text("# more\n" * 20_000 + "1,2\n3,4b\n5,6\n")
    with pytest.raises(DataError, match=r"q\.csv: line 20002, cell 2: '4b' is not a number"):
        read_matrix(Source.file(Path("q.csv")), "query")


@pytest.mark.parametrize("line", ["# shape 1 2\n# shape 2 1", "# shape 2 x", "# a\n# shape 4"])
def test_a_shape_below_comments_is_checked(line: str) -> None:
    with pytest.raises(DataError, match=r"x: (2 lines say its shape|line \d says # shape)"):
        read(f"{line}\n1,2\n")


def test_what_is_compared_with_has_comments_too(qkv: Program, folder: Path) -> None:
    weights = qkv("softmax", stdin="1,2\n3,5\n").out
    blank = weights.replace("0.2689414213699951", "?")
    for text in (weights, f"# mine\n# shape 2 2\n{weights}", f"# mine\n{blank}", f"\n%\n{blank}"):
        for data in (text.encode(), gzip.compress(text.encode())):
            Path("mine.csv").write_bytes(data)
            found = qkv("softmax", "--expect", "mine.csv", stdin="1,2\n3,5\n")
            assert (found.code, found.err) == (0, ""), text
    Path("mine.csv").write_text("# mine\n0.5,0.5\n" + weights.split("\n")[1])
    assert qkv("softmax", "--expect", "mine.csv", stdin="1,2\n3,5\n").code == 1


# spreadsheets


COMMAS = {
    "german": "\ufeffWort;x;y\r\ndie;1,5;2,25\r\nder;3;4,75\r\n",
    "french, quoted": '"mot";"x";"y"\r\n"le";1,5;2,25\r\n"la";3,5;4,75\r\n',
    "numbers alone": "1,5;2,25\n3,5;4,75\n",
    "numbers in quotes": '"1,5";"2,25"\n"3,5";"4,75"\n',
    "one row": "1,5;2,25\n",
    "labels and a column": "cat;1,5\ndog;2,5\n",
    "a line for Excel": "sep=;\n1,5;2,25\n3,5;4,75\n",
    "exponents": "x;y\n1,5E-07;-2\n,5;+3\n",
}
POINTS = {
    "numbers alone": "1.5;2\n3;4\n",
    "header": "x;y\n1;2\n",
    "mask": "true;false\ntrue;true\n",
}


def converted(data: bytes, message: str) -> Operand:
    """The matrix, once the command of the message has been run on it."""
    command = message.split("convert it: ")[1].split(", or by pandas")[0]
    subprocess.run(command, shell=True, check=True, input=data)
    return read_matrix(Source.file(Path(command.split("> ")[-1])), "weights")


@pytest.mark.parametrize("ending", ["csv", "tsv", "txt", "dat", "csv.gz"])
@pytest.mark.parametrize("case", COMMAS)
def test_decimal_commas_are_named_with_what_to_do(folder: Path, case: str, ending: str) -> None:
    path = Path(f"my q.{ending}")
    data = COMMAS[case].encode()
    path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    with pytest.raises(DataError) as raised:
        read_matrix(Source.file(path), "weights")
    said = str(raised.value)
    assert said.startswith(f"{path}: cells are separated by ';', and numbers have decimal commas; ")
    assert "read_csv(sep=';', decimal=',')" in said
    if case not in ("a line for Excel", "numbers in quotes"):
        array = converted(data, said).array
        assert array.shape[-1] == (1 if case == "labels and a column" else 2)
        assert array.ravel()[-1] in (2.25, 4.75, 2.5, 3)


@pytest.mark.parametrize("case", POINTS)
def test_semicolons_with_points_are_named(qkv: Program, folder: Path, case: str) -> None:
    data = POINTS[case].encode()
    found = qkv("softmax", stdin=data)
    assert found.code == 3
    begun = (
        "qkvcli: standard input: cells are separated by ';'; convert it: tr ';' ',' > points.csv"
    )
    assert found.err.startswith(begun)
    assert converted(data, found.err).array.shape[-1] == 2


@pytest.mark.parametrize("name", ["q.tsv", "q.txt", "q.csv", "q"])
def test_tabs_with_decimal_commas_are_named(folder: Path, name: str) -> None:
    for text in ("1,5\t2,25\n3,5\t4,75\n", "x\ty\n1,5\t2\n", "cat\t1,5\ndog\t2,5\n"):
        Path(name).write_text(text)
        with pytest.raises(
            DataError, match="separated by tabs, and numbers have decimal"
        ) as raised:
            read_matrix(Source.file(Path(name)), "weights")
        assert converted(b"", str(raised.value).rstrip(")")).array.dtype == np.float64


def test_white_space_with_decimal_commas_is_named(folder: Path) -> None:
    Path("q.txt").write_text("0,5 1,5\n1,0 2,5\n")
    with pytest.raises(DataError, match=r"by white space, and numbers .* tr ',' '\.' < q\.txt"):
        read_matrix(Source.file(Path("q.txt")), "weights")


@pytest.mark.parametrize(
    "text", ['"cat;1",5\n"dog;2",6\n', "a;b,1\nc;d,2\n", "cat 1,5\ndog 2,6\n", ",x\na;1,5\nb;2,6\n"]
)
def test_semicolons_in_labels_are_labels(text: str) -> None:
    found = read(text)
    assert found.array.shape == (2, 1)
    assert found.rows is not None


# labels as a person says


@pytest.mark.parametrize("delimiter", [",", "\t", " "])
@given(data=st.data())
def test_labels_of_numbers_are_what_a_person_says(delimiter: str, data: Any) -> None:
    """Numbers above and before numbers: which are labels, nothing but the options can tell."""
    shape = data.draw(array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=4))
    array = data.draw(arrays(np.int8, shape)).astype(float)
    header, index = data.draw(st.booleans()), data.draw(st.booleans())
    text = "".join(delimiter.join(f"{x:g}" for x in row) + "\n" for row in array)
    found = read(text, Labelling(header, index))
    np.testing.assert_array_equal(found.array, array[int(header) :, int(index) :])
    labels = [f"{x:g}" for x in array[0, int(index) :]], [f"{x:g}" for x in array[int(header) :, 0]]
    wanted = [
        tuple(names) if said else None for names, said in zip(labels, (header, index), strict=True)
    ]
    counts = [tuple(map(str, range(len(names)))) for names in labels]
    wanted = [
        None if names == count else names for names, count in zip(wanted, counts, strict=True)
    ]
    assert [found.columns, found.rows] == wanted
    assert found.reading == ""


@pytest.mark.parametrize(
    ("text", "header", "index", "numbers", "rows", "columns"),
    [
        # a header over an index: with a corner, an empty one, and without, as R writes it
        ("7,8\n5,1,2\n6,3,4\n", True, None, [[1, 2], [3, 4]], ("5", "6"), ("7", "8")),
        ("7,8\n5,1,2\n6,3,4\n", None, True, [[1, 2], [3, 4]], ("5", "6"), ("7", "8")),
        ("9,7,8\n5,1,2\n6,3,4\n", True, True, [[1, 2], [3, 4]], ("5", "6"), ("7", "8")),
        (",7,8\n5,1,2\n", True, None, [[1, 2]], ("5",), ("7", "8")),
        ("name,7,8\n5,1,2\n", None, True, [[1, 2]], ("5",), ("7", "8")),
        ("id,7\n5,1\n", True, False, [[5, 1]], None, ("id", "7")),
        ("7 8\n5 1 2\n", True, None, [[1, 2]], ("5",), ("7", "8")),
        # what counts is dropped, but says nothing
        ("0,1\n3,4\n", True, None, [[3, 4]], None, None),
        ("0,1\n.5,.25\n", False, None, [[0, 1], [0.5, 0.25]], None, None),
        ("0,.5\n1,.2\n", None, False, [[0, 0.5], [1, 0.2]], None, None),
        ("cat,0,1\ndog,.5,.5\n", False, None, [[0, 1], [0.5, 0.5]], ("cat", "dog"), None),
        ("# shape 1 2 1\n5,1\n6,2\n", None, True, [[[1], [2]]], ("5", "6"), None),
        ("x,y\n1,2\n", None, True, [[2]], ("1",), ("y",)),
        ("l,2\n3,4\n", True, None, [[3, 4]], None, ("l", "2")),
    ],
)
def test_what_a_person_says_of_labels_is_so(
    text: str, header: Any, index: Any, numbers: Any, rows: Any, columns: Any
) -> None:
    found = read(text, Labelling(header, index))
    assert (found.array.tolist(), found.rows, found.columns) == (numbers, rows, columns)
    assert found.reading == ""


@pytest.mark.parametrize(
    ("text", "header", "index", "message"),
    [
        ("x,y\n1,2\n", False, None, "x: line 1, cell 2: 'y' is not a number"),
        ("x,y\n1,2\n", False, False, "x: line 1, cell 1: 'x' is not a number"),
        ("1,O.5\n3,4\n", False, None, "x: line 1, cell 2: 'O.5' is not a number"),
        ("a,1\nb,2\n", None, False, "x: line 2, cell 1: 'b' is not a number"),
        (",x\na,1\n", None, False, "x: line 1, cell 1: the cell is empty"),
        (",x\na,1\n", False, None, "x: line 1, cell 1: the cell is empty"),
        ("7,8\n5,1,2\n", True, False, "x: line 2: 3 cells, where line 1 has 2"),
        ("7\n5,1,2\n", True, True, "x: line 2: 3 cells, where line 1 has 1"),
        ("1,2\n", True, None, "x: no numbers are left beside its labels; leave out --header"),
        ("1\n2\n", False, True, "x: no numbers are left beside its labels"),
    ],
)
def test_what_a_person_says_of_labels_must_fit(
    text: str, header: Any, index: Any, message: str
) -> None:
    with pytest.raises(DataError) as raised:
        read(text, Labelling(header, index))
    assert str(raised.value).startswith(message)


NOTED = {
    "0,1\n.5,.25\n": "--no-header",
    "0,1,2\n3,4,5\n": "--header",
    "0,.5\n1,.2\n": "--no-index",
    "0,3\n1,4\n2,5\n": "--index",
    "0\n.5\n.2\n": "--header",
    "t,x\n0,.5\n1,.2\n": "--no-index",
    "year,x\n2020,1\n": "--index",
    "x,0,1\ncat,.5,.25\n": "--no-header",
    "q,1,3\ncat,.1,.2\n": "--header",
}


@pytest.mark.parametrize("text", NOTED)
def test_a_note_names_the_option_that_settles_it(qkv: Program, folder: Path, text: str) -> None:
    Path("s.csv").write_text(text)
    guessed = qkv("softmax", "s.csv", "-f", "json")
    option = NOTED[text]
    assert f"; {option} reads it as" in guessed.err
    other = option.replace("--no-", "--") if "no-" in option else option.replace("--", "--no-")
    said, same = (qkv("softmax", "s.csv", "-f", "json", flag) for flag in (option, other))
    assert (said.code, said.err, same.code, same.err) == (0, "", 0, "")
    assert same.out == guessed.out
    assert json.loads(said.out) != json.loads(guessed.out)


def test_it_is_said_of_every_text_of_the_line(qkv: Program, folder: Path) -> None:
    np.save("k.npy", np.eye(2))
    Path("qkv").mkdir()
    for name in ("q", "qkv/q", "qkv/k", "mine"):
        Path(f"{name}.csv").write_text("7,8\n1,2\n3,4\n")
    for words in (
        ("scores", "-q", "q.csv", "-k", "k.npy"),
        ("scores", "--qkv", "qkv"),
        ("softmax", "q.csv"),
    ):
        found = qkv(*words, "--header", "-f", "json")
        assert json.loads(found.out).popitem()[1]["shape"] == [2, 2]
    expect = ("scores", "-q", "k.npy", "-k", "k.npy", "--quiet", "--expect")
    Path("mine.csv").write_text("0,1\n1,0\n0,1\n")
    assert qkv(*expect, "mine.csv", "--header").code == 0
    assert qkv(*expect, "-", "--header", stdin="7,7\n1,?\n0,1\n").code == 0
    assert qkv(*expect, "mine.csv").code == 1


@pytest.mark.parametrize("flag", ["--header", "--no-header", "--index", "--no-index"])
def test_what_is_said_of_no_text_at_all_is_refused(qkv: Program, folder: Path, flag: str) -> None:
    np.save("s.npy", np.eye(2))
    for words in (("s.npy",), ("--seed", 1), ("--example", "cat"), ()):
        found = qkv("softmax", *words, flag, stdin="[[1, 2]]" if words == () else "")
        assert (found.code, found.out) == (2, "")
        said = f"qkvcli: {flag} is for CSV, TSV and white space; no such file is read here\n"
        assert found.err.endswith(said)
