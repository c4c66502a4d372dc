"""What goes wrong: one line that says what, where and how to mend it, and an exit code."""

from pathlib import Path

import numpy as np
import pytest

from qkvcli.errors import ExitCode
from tests.conftest import Program

USAGE = {
    "run --lenght 3": "No such option: --lenght. Did you mean --length?",
    "scors": "there is no command 'scors'; did you mean scores?",
    "run extra": "unexpected extra argument",
    "run --seed": "requires an argument",
    "run --seed cat": "'cat' is not a whole number from 0 to 4294967295",
    "run --seed -1": "'-1' is not a whole number",
    "run --seed 1 --length 0": "'0' is not a whole number",
    "run --length 3": "--length is for drawing at random; add --seed 42",
    "run --seed 1 --scale cat": "'cat' is not none, sqrt or a number",
    "run --seed 1 --scale nan": "'nan' is not none, sqrt or a number",
    "run --seed 1 --digits 99": "'99' is not a whole number from 0 to 17",
    "run --seed 1 -f pdf": "'pdf' is not one of",
    "run --seed 1 -o out.pdf": "-o out.pdf: the ending says the format; use one of .csv",
    "run --seed 1 -o out": "-o out: the ending says the format",
    "run --seed 1 --length 5 --labels a": "--labels names 1, and there are 5 queries",
    "run --seed 1 --key-length 5 --key-labels a": "--key-labels names 1, and there are 5 keys",
    "run -q q.csv": "--key and --value missing",
    "scores -k q.csv": "--query missing",
    "run -q q.csv --seed 1": "--query and --seed both say where Q, K and V come from",
    "run --qkv q.npz --seed 1": "--qkv and --seed both say",
    "run -q q.csv --qkv q.npz": "--query and --qkv both say",
    "run -q - -k - -v v.csv": "standard input can be read for one operand only",
    "softmax q.csv -q q.csv -k q.csv": "--query comes before the scores, and those are given",
    "output - ": "--value missing",
    "output - --seed 1 --causal": "causal comes before the weights",
    "softmax - --scale sqrt": "scale sqrt needs the queries' width d",
}

DATA = {
    "run -q gone.csv -k q.csv -v q.csv": "gone.csv: cannot be read: No such file",
    "run -q gone.csv": "gone.csv: cannot be read: No such file",
    "run --embeddings gone.csv": "gone.csv: cannot be read: No such file",
    "run -q . -k q.csv -v q.csv": ".: cannot be read: Is a directory",
    "run -q word.csv -k q.csv -v q.csv": "word.csv: line 2, cell 2: 'cat' is not a number",
    "run -q ragged.csv -k q.csv -v q.csv": "ragged.csv: line 2: 1 cell, where line 1 has 2",
    "run -q complex.npy -k q.csv -v q.csv": "complex.npy: numbers of type complex128",
    "run -q flat.npy -k q.csv -v q.csv": "query (2,) from flat.npy: needs the axes (…, L_q, d)",
    "scores -q q.csv -k wide.csv": "query (2, 2) from q.csv and key (1, 3) from wide.csv: the last",
    "run -q q.csv -k q.csv -v wide.csv": "key (2, 2) from q.csv and value (1, 3) from wide.csv",
    "output - -v wide.csv": "weights (2, 2) from standard input and value (1, 3) from wide.csv",
    "run --qkv q.csv": "q.csv: holds one matrix; --qkv takes a file of three",
    "run --qkv gone.npz": "gone.npz: cannot be read",
    "run --qkv part.npz": "part.npz: there is no key or k in it; it holds q (2, 2)",
    "softmax wide.json": "wide.json: there is no masked or biased in it; it holds weights",
    "run --seed 1 --length 4000000000 --dim 4000000000": "memory",
}

WRITE = {
    "run -o gone/out.npy": "gone/out.npy: cannot be written: No such file or directory",
    "run -o folder.csv": "folder.csv: cannot be written: Is a directory",
}


@pytest.fixture
def files(folder: Path) -> Path:
    """A folder of good and bad files."""
    texts = {
        "q.csv": "1,2\n3,4\n",
        "wide.csv": "1,2,3\n",
        "word.csv": "1,2\n3,cat\n",
        "ragged.csv": "1,2\n3\n",
        "wide.json": '{"weights": [[1]]}',
    }
    for name, text in texts.items():
        Path(name).write_text(text)
    np.save("complex.npy", np.ones((2, 2), complex))
    np.save("flat.npy", np.ones(2))
    np.savez("part.npz", q=np.ones((2, 2)))
    Path("folder.csv").mkdir()
    return folder


@pytest.mark.parametrize(
    ("line", "message", "code"),
    [
        *((line, message, ExitCode.WRONG_USAGE) for line, message in USAGE.items()),
        *((line, message, ExitCode.BAD_DATA) for line, message in DATA.items()),
        *((line, message, ExitCode.CANNOT_WRITE) for line, message in WRITE.items()),
    ],
)
def test_a_fault_is_one_line_and_a_code(
    qkv: Program, files: Path, line: str, message: str, code: ExitCode
) -> None:
    result = qkv(*line.split(), stdin="1,2\n3,4\n")
    assert message in result.err
    assert result.err.startswith("qkvcli: ")
    assert result.err.count("\n") == 1
    assert (result.code, result.out) == (code, "")


def test_a_file_name_cannot_play_with_the_terminal(qkv: Program, folder: Path) -> None:
    result = qkv("softmax", "a[bold]\x1b[31m\n.csv")
    assert result.err.startswith("qkvcli: a[bold]\\x1b[31m .csv: cannot be read")
    assert result.err.count("\n") == 1
