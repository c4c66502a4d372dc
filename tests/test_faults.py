"""Everything that can go wrong around the program, class by class.

Whatever it is: one line that says what and where, the right exit code, nothing half written,
no temporary file, and what was there before is there still.
"""

import errno
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from qkvcli import cli
from qkvcli.cli.environment import Environment
from qkvcli.core.steps import Step
from qkvcli.errors import DataError, WriteError
from qkvcli.formats import saving
from qkvcli.formats.registry import FORMATS
from tests.conftest import Program, environment

fcntl: Any = pytest.importorskip("fcntl", reason="most of this is about Unix's own files")
PROGRAM = [sys.executable, "-m", "qkvcli"]
UNIX = pytest.mark.skipif(os.name == "nt", reason="Unix's own files")
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")


class Fault(NamedTuple):
    """A file that is made, the words that meet it, and what is said of it."""

    make: Callable[[], object]
    words: str
    said: str
    code: int = 3


def npy(shape: Any, data: bytes, descr: Any = "<f8", order: Any = False) -> bytes:
    """An .npy file that says what it likes."""
    stream = io.BytesIO()
    header = {"descr": descr, "fortran_order": order, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + data


def put(name: str, data: bytes | str) -> Callable[[], object]:
    return lambda: Path(name).write_bytes(data.encode() if isinstance(data, str) else data)


def put_npz(name: str, *members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> Any:
    def make() -> None:
        with warnings.catch_warnings(), zipfile.ZipFile(name, "w", method) as archive:
            warnings.simplefilter("ignore")  # of two members with one name
            for member, data in members:
                archive.writestr(member, data)

    return make


def put_broken_npz(name: str, was: bytes, now: bytes) -> Any:
    def make() -> None:
        put_npz(name, ("q.npy", npy((2, 2), np.ones((2, 2)).tobytes())))()
        data = Path(name).read_bytes()
        assert was in data
        Path(name).write_bytes(data.replace(was, now, 1))

    return make


GOOD = npy((2, 2), np.ones((2, 2)).tobytes())
ONES = np.ones((2, 2)).tobytes()
READING = {
    # files
    "missing": Fault(lambda: None, "q.csv", "q.csv: cannot be read: No such file or directory"),
    "directory": Fault(lambda: Path("q.csv").mkdir(), "q.csv", "q.csv: cannot be read: Is a dir"),
    "name too long": Fault(lambda: None, "q" * 300, "q: cannot be read: File name too long"),
    "link to itself": Fault(
        lambda: Path("q.csv").symlink_to("q.csv"), "q.csv", "q.csv: cannot be read: Too many levels"
    ),
    "twice -": Fault(lambda: None, "- -k -", "standard input can be read for one operand only", 2),
    "empty": Fault(put("q.csv", ""), "q.csv", "q.csv: empty; there is no matrix in it"),
    "empty npy": Fault(put("q.npy", ""), "q.npy", "q.npy: not a whole .npy file"),
    "empty npz": Fault(put("q.npz", ""), "q.npz", "q.npz: not a whole .npz file"),
    "a device without end": Fault(
        lambda: None, "/dev/zero", "/dev/zero: neither text nor an .npy, .npz or .pt file"
    ),
    "a null device": Fault(lambda: None, "/dev/null", "/dev/null: empty"),
    # .npy: cut, and every lie in a header
    "cut in its magic": Fault(put("q.npy", GOOD[:5]), "q.npy", "q.npy: not a whole .npy file"),
    "cut in its header": Fault(put("q.npy", GOOD[:40]), "q.npy", "q.npy: not a whole .npy file"),
    "cut in its numbers": Fault(put("q.npy", GOOD[:-1]), "q.npy", "its header says 160 bytes, and"),
    "more than it says": Fault(put("q.npy", GOOD + b"1"), "q.npy", "there are 161"),
    "claims much": Fault(
        put("q.npy", npy((10**9, 8), ONES)), "q.npy", "its header says 64000000128"
    ),
    "claims too much": Fault(put("q.npy", npy((2**62, 8), ONES)), "q.npy", "its header says"),
    "a negative size": Fault(put("q.npy", npy((-2, 2), ONES)), "q.npy", "not a whole .npy file"),
    "objects": Fault(put("q.npy", npy((1,), ONES, "|O")), "q.npy", "it holds Python objects"),
    "no type": Fault(put("q.npy", npy((2, 2), ONES, "<x8")), "q.npy", "not a whole .npy file"),
    "fields": Fault(
        put("q.npy", npy((2, 2), ONES, [("a", "<f8")])), "q.npy", "are not real numbers"
    ),
    "text": Fault(put("q.npy", npy((2, 1), ONES[:16], "<U2")), "q.npy", "numbers of type <U2 are"),
    "dates": Fault(put("q.npy", npy((2, 2), ONES, "<M8[s]")), "q.npy", "are not real numbers"),
    "complex": Fault(put("q.npy", npy((1, 2), ONES, "<c16")), "q.npy", "type complex128 are not"),
    "an order that is none": Fault(
        put("q.npy", npy((2, 2), ONES, "<f8", 7)), "q.npy", "q.npy: not"
    ),
    "a version of its own": Fault(
        put("q.npy", GOOD[:6] + b"\x09" + GOOD[7:]), "q.npy", "q.npy: not a whole .npy file"
    ),
    "a header that is code": Fault(
        put("q.npy", GOOD[:8] + b"\x0c\x00__import__()" + ONES), "q.npy", "q.npy: not a whole .npy"
    ),
    "no magic": Fault(put("q.npy", "1,2\n"), "q.npy", "it does not begin as .npy files do"),
    "a pickle": Fault(put("q.npy", b"\x80\x04N."), "q.npy", "q.npy: is a Python pickle"),
    "an .npz": Fault(put_npz("q.npy", ("q.npy", GOOD)), "q.npy", "q.npy: is an .npz archive"),
    # .npz
    "an .npy": Fault(put("q.npz", GOOD), "q.npz", "q.npz: is an .npy array"),
    "no member": Fault(put_npz("q.npz"), "q.npz", "there is no query or q in it; it holds nothing"),
    "a member that is no array": Fault(
        put_npz("q.npz", ("q", b"1,2")), "q.npz", "not a whole .npz"
    ),
    "a member twice": Fault(
        put_npz("q.npz", ("q.npy", GOOD), ("q.npy", GOOD)), "q.npz", "'q' stands there twice; keep"
    ),
    "a member twice, once without its ending": Fault(
        put_npz("q.npz", ("q.npy", GOOD), ("q", GOOD)), "q.npz", "'q' stands there twice; keep one"
    ),
    "a member that claims more": Fault(
        put_npz("q.npz", ("q.npy", npy((10**9, 8), ONES))), "q.npz", "does not hold what its header"
    ),
    "a bomb": Fault(
        put_npz("q.npz", ("q.npy", npy((2**22,), bytes(2**25))), method=zipfile.ZIP_BZIP2),
        "q.npz",
        "q.npy is compressed in a way that NumPy does not write",
    ),
    "objects in an .npz": Fault(
        put_npz("q.npz", ("q.npy", npy((1,), ONES, "|O"))), "q.npz", "it holds Python objects"
    ),
    "a wrong sum": Fault(put_broken_npz("q.npz", ONES, ONES[::-1]), "q.npz", "Bad CRC-32"),
    "a cut archive": Fault(
        lambda: Path("q.npz").write_bytes(b"PK\x03\x04" + GOOD), "q.npz", "not a whole .npz file"
    ),
    # text
    "ragged": Fault(put("q.csv", "1,2\n3\n"), "q.csv", "q.csv: line 2: 1 cell, where line 1 has 2"),
    "too large": Fault(put("q.csv", "1,1e400\n"), "q.csv", "q.csv: line 1, cell 2: 1e400 is too"),
    "null bytes": Fault(put("q.csv", b"1,2\n3,\0\n"), "q.csv", "q.csv: line 2"),
    "not UTF-8": Fault(put("q.csv", b"1,2\n3,\xe9\n"), "q.csv", "q.csv: line 2: not UTF-8 text"),
    "half of UTF-16": Fault(put("q.csv", b"\xff\xfe1\0,\0\x31"), "q.csv", "q.csv: not text"),
    "a long field": Fault(
        put("q.csv", '"' + "1" * 200_000 + "\n"), "q.csv", "q.csv: line 1: field"
    ),
    "words": Fault(put("q.csv", "a,b\n"), "q.csv", "q.csv: only words, no numbers"),
    "empty quotes": Fault(
        put("q.csv", '1,""\n2,3\n'), "q.csv", "line 1, cell 2: the cell is empty"
    ),
    # JSON
    "cut JSON": Fault(put("q.json", "[[1, 2"), "q.json", "q.json: line 1, column 7: not JSON"),
    "ragged JSON": Fault(put("q.json", "[[1], [2, 3]]"), "q.json", "rows of different lengths"),
    "deep JSON": Fault(
        put("q.json", "[" * 10**5), "q.json", "q.json: not JSON that holds matrices"
    ),
    "deep lists": Fault(put("q.json", "[" * 70 + "]" * 70), "q.json", "deeper than 64"),
    "a long number": Fault(put("q.json", "[[1" + "0" * 5000 + "]]"), "q.json", "too large for a"),
    "a scalar": Fault(put("q.json", "5"), "q.json", "q.json: neither a list nor an object"),
    "a name twice": Fault(put("q.json", '{"q": 1, "q": 2}'), "q.json", "'q' stands there twice"),
    "a lone surrogate": Fault(
        put("q.json", '{"q": {"rows": ["\\ud800"], "data": [[1]]}}'), "q.json", "is not UTF-8 text"
    ),
    "labels that are lists": Fault(
        put("q.json", '{"q": {"rows": [[]], "data": [[1]]}}'), "q.json", "a label is text"
    ),
}


@UNIX
@pytest.mark.parametrize("fault", READING.values(), ids=READING)
def test_what_cannot_be_read(qkv: Program, folder: Path, fault: Fault) -> None:
    fault.make()
    Path("k.csv").write_text("1,2\n3,4\n")
    Path("out.csv").write_text("before")
    words = fault.words if " -k" in fault.words else f"{fault.words} -k k.csv"
    started = time.monotonic()
    found = qkv("scores", "-q", *words.split(), "-o", "out.csv", stdin="1,2\n")
    assert time.monotonic() - started < 5
    assert fault.said in found.err
    assert found.err.startswith("qkvcli: ")
    assert (found.err.count("\n"), found.out, found.code) == (1, "", fault.code)
    assert Path("out.csv").read_text() == "before"
    assert not list(folder.glob(".*"))


OPERANDS = ("query key value wq wk wv bq bk bv past_key past_value mask embeddings").split()


@pytest.mark.parametrize("name", OPERANDS)
def test_of_the_operands_the_one_that_is_wrong_is_named(
    qkv: Program, folder: Path, name: str
) -> None:
    for operand in OPERANDS:
        np.save(f"{operand}.npy", np.eye(2, dtype=complex if operand == name else float) * 2)
    source = ["embeddings"] if name == "embeddings" else ["query", "key", "value"]
    used = [*source, "wq", "wk", "wv", "bq", "bk", "bv", "past_key", "past_value", "mask"]
    words = [word for operand in used for word in (f"--{operand.replace('_', '-')}", operand)]
    found = qkv("run", *(f"{w}.npy" if w in OPERANDS else w for w in words))
    said = name.replace("_", " ") if name != "embeddings" else "embeddings"
    assert found.err.startswith(
        f"qkvcli: {said} (2, 2) from {name}.npy: numbers of type complex128"
    )
    assert found.code == 3


ARGUMENTS = {
    "run --seed 1 --offset 1.5": "'1.5' is not a whole number",
    "run --seed 1 --offset " + "9" * 5000: "is not a whole number",
    "run --seed 1 --rows=-:": "'-:' is not an index, a slice or a label",
    "run --seed 1 --rows " + "9" * 5000: "is not an index, a slice or a label",
    "run --seed 1 --rows ::0": "a step of 0 leads nowhere",
    "run --seed 1 --softcap 0": "'0' is not above 0",
    "run --seed 1 --softcap inf": "'inf' is not a finite number",
    "run --seed 1 --window 1,2,3": "'1,2,3' is not LEFT or LEFT,RIGHT",
    "run --seed 1 --heads 7": "64 columns do not split into 7 heads",
    "run --seed 1 --kv-heads 2": "kv heads are for a split into heads",
    "run --seed 1 --valid-length 9": "valid length 9 is more than the 5 keys",
    "run --seed 1 --head 0": "there is no head 0; what is shown has no head axis",
    "run --seed 1 --length 99999999 --dim 99999999": "not enough memory",
    "run --seed 1 -o x.csv/y.csv": "x.csv/y.csv: cannot be written: ",
}


@pytest.mark.parametrize("line", ARGUMENTS, ids=[line[:40] for line in ARGUMENTS])
def test_arguments_that_contradict_or_go_too_far(qkv: Program, folder: Path, line: str) -> None:
    Path("x.csv").write_text("before")
    found = qkv(*line.split())
    assert ARGUMENTS[line] in found.err
    assert found.err.count("\n") == 1
    assert found.out == ""
    assert found.code in (2, 3, 4)


# --- output -------------------------------------------------------------------------------


class Failing:
    """What the system does while a file is saved, of which the ``n``-th fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
        self.n, self.done = n, 0
        opened, fsync, chmod, replace = Path.open, os.fsync, os.fchmod, Path.replace

        def open_(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
            if mode != "xb":
                return opened(path, mode, *args, **options)
            self.step()
            stream = io.FileIO(path, "xb")
            write, close = stream.write, stream.close
            self.slow(stream, write, close)
            return stream

        monkeypatch.setattr(Path, "open", open_)
        for place, name, action in (
            (os, "fsync", fsync),
            (os, "fchmod", chmod),
            (Path, "replace", replace),
        ):
            monkeypatch.setattr(place, name, self.stepping(action))

    def step(self) -> None:
        self.done += 1
        if self.done == self.n:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def stepping(self, action: Any) -> Any:
        def stepped(*args: Any) -> Any:
            self.step()
            return action(*args)

        return stepped

    def slow(self, stream: Any, write: Any, close: Any) -> None:
        """A stream that takes at most 1000 bytes at a time."""

        def write_some(data: Any) -> int:
            self.step()
            return int(write(data[:1000]))

        def close_() -> None:
            closed = stream.closed
            close()
            if not closed:
                self.step()

        stream.write, stream.close = write_some, close_


@UNIX
@pytest.mark.parametrize("name", ["o.csv", "o.tsv", "o.txt", "o.json", "o.npy", "o.npz", "o.md"])
@pytest.mark.parametrize("before", [True, False])
def test_whatever_fails_the_file_is_the_old_one_or_the_new(
    qkv: Program, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, before: bool
) -> None:
    words = ["run", "--length", 3, "--dim", 4, "--seed", 1, "--quiet", "-o", name]
    assert qkv(*words).code == 0
    whole = Path(name).read_bytes()
    for n in count(1):
        Path(name).write_bytes(b"before")
        if not before:
            Path(name).unlink()
        with monkeypatch.context() as patch:
            failing = Failing(patch, n)
            found = qkv(*words)
        assert [path.name for path in folder.iterdir()] in ([name], [])
        left = Path(name).read_bytes() if Path(name).exists() else None
        if failing.done < n:
            assert (found.code, found.err, left) == (0, "", whole)
            break
        assert found.err == f"qkvcli: {name}: cannot be written: No space left on device\n"
        assert (found.code, left) == (4, b"before" if before else None)
    assert n > 5


@FULL
@pytest.mark.parametrize("fault", [DataError("bad data"), RuntimeError("no thread"), KeyError(1)])
@pytest.mark.parametrize("path", ["/dev/null", "o.csv"])
def test_a_fault_of_the_work_is_no_fault_of_writing(
    folder: Path, path: str, fault: Exception
) -> None:
    def failing() -> None:
        with saving.saved(Path(path)) as stream:
            stream.write(b"half")
            raise fault

    with pytest.raises(type(fault)) as raised:
        failing()
    assert raised.value is fault
    assert not list(folder.iterdir())


@UNIX
def test_a_file_system_without_sync_can_be_saved_to(
    qkv: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(descriptor: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", unknown)
    assert qkv("scores", "--seed", 1, "--quiet", "-o", "o.csv").code == 0
    assert Path("o.csv").read_text().count("\n") == 5


@UNIX
@pytest.mark.parametrize("words", ["run --help", "scores --seed 1 --length 200"])
def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_all(words: str) -> None:
    command = [*PROGRAM, *words.split()]
    whole = subprocess.run(command, capture_output=True, env=environment()).stdout
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(AttributeError, OSError):  # Linux alone has pipes of a size of one's own
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(command, stdout=writer, env=environment())
    time.sleep(0.7)
    assert not os.get_blocking(writer) or process.poll() is None  # put back at the end
    os.close(writer)
    with open(reader, "rb") as stream:  # noqa: PTH123 -- a descriptor, and no path
        assert stream.read() == whole
    assert process.wait() == 0


@UNIX
def test_input_that_does_not_block_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    command = [*PROGRAM, "softmax", "--digits", "2"]
    pipes: dict[str, Any] = {"stdin": reader, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment(), **pipes)
    time.sleep(0.7)
    os.write(writer, b"1,1\n")
    time.sleep(0.2)
    os.write(writer, b"2,2\n")
    os.close(writer)
    out, _ = process.communicate()
    os.close(reader)
    assert (process.returncode, out) == (0, b"0.50,0.50\n0.50,0.50\n")


@UNIX
def test_what_is_overwritten_keeps_its_mode_and_links(qkv: Program, folder: Path) -> None:
    path = Path("o.csv")
    path.write_text("before")
    path.chmod(0o600)
    os.link(path, "hard.csv")
    Path("soft.csv").symlink_to(path)
    assert qkv("scores", "--seed", 1, "--quiet", "-o", "soft.csv").code == 0
    assert Path("soft.csv").is_symlink()
    assert path.stat().st_mode & 0o7777 == 0o600
    assert Path("hard.csv").read_text() == "before"
    assert path.read_text().count("\n") == 5
    assert qkv("softmax", "o.csv", "--quiet", "-o", "o.csv").code == 0  # its own input
    np.testing.assert_allclose(np.loadtxt("o.csv", delimiter=",").sum(axis=1), 1)
    mask = os.umask(0o027)
    try:
        assert qkv("scores", "--seed", 1, "--quiet", "-o", "new.csv").code == 0
    finally:
        os.umask(mask)
    assert Path("new.csv").stat().st_mode & 0o7777 == 0o640


@UNIX
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("gone/o.csv", "gone/o.csv: cannot be written: No such file or directory"),
        ("o.csv", "o.csv: cannot be written: Is a directory"),
        ("loop.csv", "loop.csv: cannot be written: Too many levels of symbolic links"),
        ("a" * 300 + ".csv", ".csv: cannot be written: File name too long"),
        ("\0.csv", "cannot be written: "),
    ],
)
def test_what_cannot_be_written(qkv: Program, folder: Path, path: str, said: str) -> None:
    Path("o.csv").mkdir()
    Path("loop.csv").symlink_to("loop.csv")
    found = qkv("scores", "--seed", 1, "-o", path)
    assert said in found.err
    assert (found.code, found.err.count("\n"), found.out) == (4, 1, "")
    assert not list(folder.glob(".*"))


@UNIX
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do anything")
def test_a_folder_that_one_may_not_write_to(qkv: Program, folder: Path) -> None:
    Path("locked").mkdir(mode=0o500)
    found = qkv("scores", "--seed", 1, "-o", "locked/o.csv")
    assert found.err == "qkvcli: locked/o.csv: cannot be written: Permission denied\n"
    assert found.code == 4


@pytest.mark.parametrize("kind", ["csv", "txt"])
@pytest.mark.parametrize("label", [" ", "a\nb"])
def test_a_label_that_cannot_be_written_leaves_nothing(
    qkv: Program, folder: Path, kind: str, label: str
) -> None:
    said = json.dumps({"q": {"rows": ["a", label], "data": [[1], [2]]}, "k": [[1]]})
    found = qkv("scores", "--qkv", "-", "-f", kind, stdin=said)
    if (kind, label) == ("csv", "a\nb"):  # in quotes
        assert (found.code, found.out) == (0, ',0\na,1.0\n"a\nb",2.0\n')
        return
    assert (found.code, found.out) == (4, "")
    assert "cannot be written here; use JSON" in found.err


class Small(io.RawIOBase):
    """A raw stream that takes a little at a time, or now and then nothing."""

    def __init__(self) -> None:
        self.taken = b""
        self.calls = 0

    def fileno(self) -> int:
        return self.end

    end = -1

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int | None:
        self.calls += 1
        if self.calls % 3 == 0:
            return None
        self.taken += bytes(data[:100])
        return len(data[:100])


@UNIX
def test_a_stream_that_takes_a_little_gets_all() -> None:
    raw = Small()
    reader, raw.end = os.pipe()  # one that may always be written to
    try:
        stdout = io.TextIOWrapper(raw, "utf-8", write_through=True)  # type: ignore[type-var]
        data = bytes(range(256)) * 40
        assert Environment(None, stdout, None, {}).write(data) == len(data)
        assert raw.taken == data
    finally:
        os.close(reader)
        os.close(raw.end)


@UNIX
@pytest.mark.parametrize("unbuffered", ["1", ""])
def test_a_pipe_that_does_not_block_gets_all(folder: Path, unbuffered: str) -> None:
    words = [*PROGRAM, "scores", "--seed", "1", "--length", "200"]
    whole = subprocess.run(words, capture_output=True, env=environment()).stdout
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    env = environment(PYTHONUNBUFFERED=unbuffered)
    process = subprocess.Popen(words, stdout=writer, env=env)
    os.close(writer)
    time.sleep(0.5)  # the pipe is full by now
    found = b""
    with open(reader, "rb") as stream:  # noqa: PTH123 -- a descriptor, and no path
        while part := stream.read(10_000):
            found += part
    assert (process.wait(), found) == (0, whole)


@FULL
@pytest.mark.parametrize("unbuffered", ["1", ""])
@pytest.mark.parametrize("words", ["run", "scores --seed 1", "run -f npz", "--help", "--version"])
def test_a_full_output_is_a_fault(unbuffered: str, words: str) -> None:
    command = f"{shlex.join(PROGRAM)} {words} >/dev/full"
    env = environment(PYTHONUNBUFFERED=unbuffered)
    ended = subprocess.run(["bash", "-c", command], capture_output=True, env=env)
    said = b"qkvcli: standard output: cannot be written: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (4, said)


@FULL
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("run --seed x", 2),
        ("softmax gone.csv", 3),
        ("scores --seed 1 --causal --valid-length 2", 0),
    ],
)
def test_standard_error_that_is_full_changes_no_code(words: str, code: int) -> None:
    command = f"{shlex.join(PROGRAM)} {words} 2>/dev/full"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, env=environment())
    assert ended.returncode == code


@UNIX
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(closed: str) -> None:
    command = f"{shlex.join(PROGRAM)} run {closed}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, env=environment())
    assert ended.returncode == (4 if " >&-" in f" {closed}" else 0)
    assert b"Traceback" not in ended.stderr


@UNIX
def test_a_folder_that_is_gone(folder: Path) -> None:
    place = folder / "gone"
    place.mkdir()
    program = f"cd {str(place)!r}; rmdir {str(place)!r}; PYTHONSAFEPATH=1 {shlex.join(PROGRAM)}"
    for words, code, said in (
        ("scores -q q.csv -k q.csv", 3, b"q.csv: cannot be read: No such file or directory"),
        ("scores --seed 1 --quiet -o o.csv", 4, b"o.csv: cannot be written: No such file or dir"),
        ("scores --seed 1 --quiet", 0, b""),
    ):
        place.mkdir(exist_ok=True)
        command = ["bash", "-c", f"{program} {words}"]
        ended = subprocess.run(command, capture_output=True, env=environment())
        assert ended.returncode == code, ended.stderr
        assert said in ended.stderr


# --- signals ------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, sys
from qkvcli.formats import saving
from qkvcli import cli

n, numbers = int(sys.argv[1]), [getattr(signal, name) for name in sys.argv[2].split(",")]
sys.argv[1:] = sys.argv[3:]
write = saving._Guarded.write

def signalled(self, data):
    global n
    n -= 1
    if n == 0:
        for number in numbers:
            os.kill(os.getpid(), number)
    return write(self, data)

saving._Guarded.write = signalled
cli.main()
"""


@UNIX
@pytest.mark.parametrize("name", ["o.npz", "o.json"])
@pytest.mark.parametrize("numbers", ["SIGINT", "SIGTERM", "SIGHUP", "SIGINT,SIGTERM,SIGINT"])
def test_a_signal_while_a_file_is_written(folder: Path, name: str, numbers: str) -> None:
    script = folder / "script.py"
    script.write_text(INTERRUPTED)
    Path(name).write_bytes(b"before")
    code = 128 + getattr(signal, numbers.split(",")[0])
    for n in (1, 2, 3, 5, 8):
        words = ["run", "--seed", "1", "--quiet", "-o", name]
        ended = subprocess.run(
            [sys.executable, script, str(n), numbers, *words],
            capture_output=True,
            env=environment(),
        )
        assert (ended.returncode, ended.stderr) == (code, b"")
        assert Path(name).read_bytes() == b"before"
        assert sorted(path.name for path in folder.iterdir()) == sorted([name, "script.py"])


@UNIX
def test_a_signal_that_is_ignored_stays_so(folder: Path) -> None:
    words = [*PROGRAM, "softmax", "-", "--digits", "2"]
    command = ["bash", "-c", f"trap '' HUP INT; exec {shlex.join(words)}"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment(), **pipes)
    time.sleep(0.7)  # it waits for its input by now
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(b"1,1\n")
    assert (process.returncode, out) == (0, b"0.50,0.50\n")


def test_saving_removes_what_is_not_whole(folder: Path) -> None:
    """Also where the end comes between the making of the file and all that guards it."""
    with pytest.raises(WriteError, match=r"o\.csv: cannot be written: No such file"):
        _removed_meanwhile(folder)
    assert not list(folder.iterdir())
    assert not saving._unfinished


def test_the_program_removes_what_is_left(folder: Path) -> None:
    """At its end, and at a second signal, whatever was cut short on the way."""
    part = folder / ".o.csv.part"
    part.touch()
    saving._unfinished.add(part)
    cli._clean()
    assert not list(folder.iterdir())
    assert not saving._unfinished


def _removed_meanwhile(folder: Path) -> None:
    with saving.saved(folder / "o.csv") as stream:
        stream.write(b"half")
        [part] = saving._unfinished
        assert part.exists()
        saving.remove_unfinished()
        assert not part.exists()


# --- hard numbers and sizes ---------------------------------------------------------------


@pytest.mark.parametrize("number", [1e308, -1e308, np.inf, -np.inf, np.nan, 5e-324, 0.0, -0.0])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    "options", [[], ["--scale", "1e300"], ["--softcap", "1e-300"], ["--causal"]]
)
def test_hard_numbers_are_computed_without_a_word(
    qkv: Program, folder: Path, number: float, dtype: str, options: list[str]
) -> None:
    matrix = np.array([[number, 1.0], [2.0, number]])
    np.save("q.npy", matrix)
    words = ["-q", "q.npy", "-k", "q.npy", "-v", "q.npy", "--dtype", dtype, *options]
    found = qkv("run", *words, "-f", "json")
    assert (found.code, found.err) == (0, "")
    weights = json.loads(found.out)["weights"]["data"]
    for row in weights:
        if "nan" not in row:
            assert sum(row) == pytest.approx(1, abs=2e-3)
    words = ["run", "--embeddings", "q.npy", "--wq", "q.npy", "--wk", "q.npy", "--wv", "q.npy"]
    projected = qkv(*words)
    assert (projected.code, projected.err) == (0, "")


@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f2", "g", "i8", "u8", "?", "<i2"])
def test_types_of_every_machine_are_read(qkv: Program, folder: Path, dtype: str) -> None:
    array = np.array([[1, 0], [1, 1]], dtype)
    np.save("q.npy", np.asfortranarray(array))
    assert qkv("scores", "-q", "q.npy", "-k", "q.npy", "--digits", 0).out == "1,1\n1,2\n"


def test_large_whole_numbers_are_numbers(qkv: Program, folder: Path) -> None:
    np.save("q.npy", np.array([[2**63]], np.uint64))
    assert qkv("scores", "-q", "q.npy", "-k", "q.npy").out == "8.507059173023462e+37\n"


@pytest.mark.parametrize("kind", ["csv", "txt", "json", "npy", "npz", "table", "markdown"])
@pytest.mark.parametrize("shapes", ["0x4 3x4", "3x0 3x0", "3x4 0x4", "0x0 0x0", "2x0x4 2x3x4"])
def test_zero_sizes_on_every_axis(qkv: Program, folder: Path, kind: str, shapes: str) -> None:
    query, key = (np.zeros(tuple(map(int, shape.split("x")))) for shape in shapes.split())
    np.save("q.npy", query)
    np.save("k.npy", key)
    found = qkv("run", "-q", "q.npy", "-k", "k.npy", "-v", "k.npy", "-f", kind)
    assert (found.code, found.err) == (0, "")
    scores = qkv("scores", "-q", "q.npy", "-k", "k.npy").out
    weights = qkv("softmax", "-f", "npy", stdin=scores)
    assert (weights.code, weights.err) == (0, "")
    assert np.load(io.BytesIO(weights.data)).shape == (*query.shape[:-1], key.shape[-2])


@pytest.mark.parametrize("kind", FORMATS)
def test_no_rows_but_many_are_not_written_one_by_one(kind: str) -> None:
    step = Step.held("weights", np.zeros((10**8, 0)))
    stream = io.BytesIO()
    FORMATS[kind].write([step], stream)
    assert len(stream.getvalue()) < 1000


def test_numpys_warnings_stay_inside(folder: Path) -> None:
    signalling = np.frombuffer(bytes.fromhex("010000000000f07f") * 4).reshape(2, 2)
    np.save("s.npy", signalling)
    old = b"{'descr': '<f8', 'fortran_order': False, 'shape': (2L, 2L), }"
    old = old.ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(old).to_bytes(2, "little") + old + np.ones((2, 2)).tobytes()
    Path("old.npy").write_bytes(data)
    np.save("large.npy", np.full((2, 2), 1e200))
    files = [f"--{name} large.npy" for name in ("embeddings", "wq", "wk", "wv")]
    for words in (
        ["softmax", "s.npy", "--dtype", "float32"],
        ["scores", "-q", "old.npy", "-k", "old.npy"],
        ["run", *" ".join(files).split()],
    ):
        ended = subprocess.run([*PROGRAM, *words], capture_output=True, env=environment())
        assert (ended.returncode, ended.stderr) == (0, b"")
