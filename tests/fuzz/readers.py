"""Spoilt files: they become matrices, which survive being written and read again, or an error."""

import io
import pickle
import re
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np

from qkvcli.core.dtypes import converted, own_dtype
from qkvcli.core.operands import Operand
from qkvcli.core.steps import Step
from qkvcli.errors import DtypeError, QkvError, WriteError
from qkvcli.formats.files import read_document
from qkvcli.formats.registry import FORMATS, format_by_start
from qkvcli.formats.source import Source
from tests.conftest import SAMPLES

LARGEST = 100_000
"""Bytes of a case: more takes time, and finds nothing else."""
HARD = [
    *b"1e400 -1e400 -0 nan -inf inf Infinity NaN null true 1_000 1e-400 4.9e-324 0x10 1. .5 -.5e+3"
    b" 1e 9223372036854775808 18446744073709551616 65504 \xd9\xa1 \xe2\x88\x921 # \xff".split(),
    b"1" + b"0" * 5000, b"", b'"', b'"1"2', b"\0", b"\xef\xbb\xbf", b"\xc2\x85", b"\x1c",
]  # fmt: skip
"""What stands in a cell, or splits one, in the files of somebody."""
TEXTS = [
    b"\xef\xbb\xbf1,2\r\n3,4\r\n", b"1,2\r3,4\r", b'"","a,b","c""d"\n"the\ncat",1,2\nsat,3,4\n',
    b"# shape 2 1 2\n1,2\n3,4\n", b"# shape 0 3\n", b"# shape 1 2 0\r\n", b"x y\nthe 1 2\n",
    "1,2\n3,4\n".encode("utf-16"), ",é\nu,1\n".encode("utf-16"), "1\t2".encode("utf-16-be"),
    b",0,1\n0,1,2\n1,3,4\n", b"true,false\nFALSE,True\n", b" 1 , 2\n\n3 ,4\n", b'"a b" c\nd 1 2\n',
    b'{"q": [[1, 2]], "k": {"shape": [1, 2], "rows": ["a"], "columns": ["x", "y"], '
    b'"data": [["-inf", 2e0]]}}', b"[[1, 2], [3, -Infinity]]", b"[[[NaN]]]", b"[[true], [false]]",
    b'{"data": [], "shape": [0, 3]}', b"[]", b"{}", b"[[]]", b"", b"\n", b"\xff\xfe", b"cat",
    b'"","1.5","2"\n"3",1,2\n', b"0,1,2\n0.5,1,2\n", b"token,x\n1,0.5\n2,0.5\n", b"1;2\n3;4\n",
    b"0 1 2\n0 .5 1 2\n1 .5 1 2\n", pickle.dumps([1.5], 0), pickle.dumps(np.eye(2)),
    b"PK\x05\x06" + bytes(18),
]  # fmt: skip
HEADERS = {
    "descr": "'<f8' '>f2' '<f16' '|b1' '<i8' '|O' '<U3' '|S0' '<c16' '<M8[s]' '|V8' 'x' 1 [] '' "
    "[('a','<f8')] '<f8,<i4' ('<f8',(2,))".split(),
    "fortran_order": "True False 1 None".split(),
    "shape": [*"() (2,) (0,3) (0,9223372036854775807) (-1,2) (99999999999,2) (2,2.0) (True,2) 4 "
    "None (1000000000,0) (1,1,1,4) (9223372036854775808,0) [2,2]".split(),
    f"({'1,' * 64})", f"({'1,' * 65})", "(" * 200 + ")" * 200],
}  # fmt: skip


class File(NamedTuple):
    """Bytes, in a file of this ending; "" for standard input."""

    data: bytes
    ending: str


def written(kind: str, *steps: Step) -> bytes:
    """Steps as our own writers write them."""
    stream = io.BytesIO()
    FORMATS[kind].write(steps, stream)
    return stream.getvalue()


def saved(array: Any, version: int = 1) -> bytes:
    """An .npy file of a version, of what our own writer would not write too."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), (version, 0))
    return stream.getvalue()


def corpus() -> list[File]:
    """Files that are right, or nearly: ours, the samples, oddities."""
    labels: dict[str, Any] = {"rows": ("the", 'c"at,x'), "columns": ("inf", "naïve 1")}
    steps = [
        Step.held("scores", np.array([[0.1, -2e-7], [3e300, -0.0]])),
        Step.held("weights", np.array([[np.inf, -np.inf], [np.nan, 5e-324]]), **labels),
        Step.held("masked", np.arange(8, dtype=np.float32).reshape(2, 2, 2) / 3, **labels),
        Step.held("query", np.array([[0, 1.5]]), rows=("7",), columns=("2020", "2021")),
        Step.held("scaled", np.zeros((2, 0, 3))),
        Step.held("output", np.array([[65504, 6e-8, 1 / 3]], np.float16)),
    ]
    found = [File(written(kind, step), kind) for kind, step in product(FORMATS, steps)]
    found += [File(written(kind, *steps), kind) for kind in ("json", "npz")]
    small = (path for path in sorted(SAMPLES.rglob("*.*")) if path.stat().st_size < 4500)
    found += [File(path.read_bytes(), path.suffix[1:]) for path in small if path.suffix != ".md"]
    found += [File(text, ending) for text in TEXTS for ending in ("csv", "txt", "json", "")]
    arrays: list[Any] = [np.ones(3, "<i4"), np.eye(3, order="F"), np.ones((2, 2), ">f4"), 1.5]
    arrays += [["a"], [{}], [1j], np.zeros(2, np.longdouble), np.zeros(2, "M8[s]")]
    found += [File(saved(np.eye(2), version), "npy") for version in (1, 2, 3)]
    return found + [File(saved(array), "npy") for array in arrays]


class Readers:
    """What is spoilt is read or refused in words; what was read can be written, and read again."""

    def __init__(self) -> None:
        self.corpus = corpus()

    def make(self, random: Random) -> File:
        data, ending = random.choice(self.corpus)
        for _ in range(random.choice((0, 1, 1, 2, 3, 5))):
            data = self._spoilt(random, data)
        other = random.choice([*FORMATS, ""])
        return File(data[:LARGEST], random.choice((ending, ending, "", other)))

    def _spoilt(self, random: Random, data: bytes) -> bytes:
        """Data with one fault more."""
        i = random.randrange(len(data) + 1)
        j = i + random.choice((1, 1, 2, 8, 64, len(data)))
        other = random.choice(self.corpus).data
        text = data.decode(errors="ignore")
        ways: list[Callable[[], bytes]] = [
            lambda: data[:i] + bytes(b ^ 1 << random.randrange(8) for b in data[i:j]) + data[j:],
            lambda: data[:i],
            lambda: data[:i] + data[j:],
            lambda: data[:j] + data[i:j] * random.choice((1, 1, 3, 70)) + data[j:],
            lambda: data[:i] + random.choice(HARD) + data[i:],
            lambda: data[:i] + other[random.randrange(len(other) + 1) :],
            lambda: text.encode(random.choice(("utf-16", "utf-8-sig", "utf-16-le"))),
            lambda: data.replace(*random.choice([(b"\n", b"\r\n"), (b",", b"\t"), (b",", b" ")])),
            *[lambda: with_hard_number(random, data)] * 2,
            *[lambda: with_odd_header(random, data)] * (5 if b"\x93NUMPY" in data else 0),
        ]
        return random.choice(ways)()

    def check(self, case: File) -> str:
        source = Source("it", data=case.data)
        if case.ending:
            source = Source.file(Path(f"it.{case.ending}"))
            Path(source.name).write_bytes(case.data)
        try:
            document = read_document(source)
        except QkvError as fault:
            return refused(fault, source)
        outcomes = set()
        for member in document.values():
            try:
                operand = member.read()
            except QkvError as fault:
                outcomes.add(refused(fault, source))
            else:
                outcomes.add(again(operand, case.ending or format_by_start(case.data).name))
        return " and ".join(sorted(outcomes)) or "holds nothing"

    def smaller(self, case: File) -> Iterator[File]:
        size = len(case.data)
        while size := size // 2:
            for i in range(0, len(case.data), size):
                yield case._replace(data=case.data[:i] + case.data[i + size :])


def refused(fault: QkvError, source: Source) -> str:
    """Look at what is said of a file: that this is a line which names it."""
    said = str(fault)
    assert said.startswith(source.name), "a message does not begin with the name of its file"
    assert len(said.splitlines()) == 1, "a message is more than a line"
    return "refused"


def again(operand: Operand, kind: str) -> str:
    """Write a matrix, and read it as the next command in a pipe would: nothing may have changed.

    What is refused then, though we wrote it, is a find too.
    """
    try:
        array = converted(operand.array, own_dtype(operand))
    except DtypeError:
        return "no real numbers"
    if array.ndim < 2:
        return "read, too few axes"
    labels = operand.rows, operand.columns
    step = Step.held("output", array, rows=operand.rows, columns=operand.columns)
    for name in (kind, "tsv") if FORMATS[kind].binary else (kind,):  # text of narrow floats too
        try:
            data = written(name, step)
        except WriteError:
            return "read, cannot be written"
        [found] = (member.read() for member in read_document(Source("again", data=data)).values())
        assert found.shape == array.shape, f"{name}: written and read again, the shape is another"
        back = found.array.astype(array.dtype).ravel()
        alike = repr(back.tolist()) == repr(array.ravel().tolist())  # −0 is not 0, NaN is NaN
        assert alike, f"{name}: written and read again, numbers are others"
        kept = found.rows, found.columns
        assert kept == labels, f"{name}: written and read again, labels are others"
    return "read, and again"


def with_hard_number(random: Random, data: bytes) -> bytes:
    """Data with something hard in place of one of its first numbers."""
    found = list(re.finditer(rb"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", data[:5000]))
    start, end = random.choice(found).span() if found else (0, 0)
    return data[:start] + random.choice(HARD) + data[end:]


def with_odd_header(random: Random, data: bytes) -> bytes:
    """An .npy file, or an archive of some, with another dtype, order or shape in a header."""
    at = random.choice([found.start() for found in re.finditer(b"\x93NUMPY", data)])
    start = at + (10 if data[at + 6 : at + 7] == b"\1" else 12)
    end = max(data.find(b"\n", start), start)
    name = random.choice(list(HEADERS))
    new = f"'{name}': {random.choice(HEADERS[name])}, ".encode()
    head = re.sub(rb"'%s': (\(.*?\)|'.*?'|\w+), " % name.encode(), lambda _: new, data[start:end])
    length = (len(head) + 1).to_bytes(start - at - 8, "little")
    return data[: at + 8] + length + head + data[end:]
