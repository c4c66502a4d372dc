"""How the tests run the program: in this process, with streams of their own."""

import io
import os
import signal
from collections.abc import Callable
from contextlib import redirect_stdout
from itertools import count
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import pytest
from hypothesis import settings

from qkvcli import cli
from qkvcli.cli.environment import Environment
from qkvcli.core.operands import Operand
from qkvcli.formats.files import read_document
from qkvcli.formats.members import choose
from qkvcli.formats.source import Source

settings.register_profile("ours", deadline=None)  # shared machines are slow at times
settings.load_profile("ours")

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "sample_inputs"


# No setting of the person who runs the tests reaches the program; Typer looks at some of
# them when it is imported.
for _name in (
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS"),
    *("TTY_COMPATIBLE", "TTY_INTERACTIVE", "PYTHONUNBUFFERED", "PYTHONIOENCODING"),
    *("LC_ALL", "LC_CTYPE", "LANG"),
):
    os.environ.pop(_name, None)
signal.signal(signal.SIGINT, signal.default_int_handler)  # work in the background ignores it,
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this


class Result(NamedTuple):
    """What a run of the program left behind."""

    code: int
    out: str
    err: str
    data: bytes


Program = Callable[..., Result]


@pytest.fixture
def qkv(request: pytest.FixtureRequest) -> Program:
    """The program: ``qkv("run", "--seed", 42, stdin=b"…")``; its output is no terminal.

    Plain lines are read by one of the two readers, and at the next call by the other.
    """
    calls = count(crc32(request.node.nodeid.encode()))

    def run(*words: object, stdin: bytes | str = b"") -> Result:
        by_typer = next(calls) % 2 == 0
        given = stdin.encode() if isinstance(stdin, str) else stdin
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n") for _ in range(2))
        around = Environment(io.TextIOWrapper(io.BytesIO(given)), out, err, os.environ)
        with redirect_stdout(out):  # Typer shows the version there
            code = cli.run([str(word) for word in words], around, by_typer)
        err.flush()
        data = out.buffer.getvalue()
        said = err.buffer.getvalue()
        return Result(code, data.decode(errors="replace"), said.decode(), data)

    return run


def read_matrix(source: Source, role: str) -> Operand:
    """The matrix that plays ``role`` ("query", "scores", …) in what ``source`` holds."""
    return choose(read_document(source), role, source.name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the program is in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def environment(**settings: str) -> dict[str, str]:
    """This process's environment with settings of the test's own, for a process it starts."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return {**kept, **settings}


@pytest.fixture
def longer(folder: Path) -> list[str]:
    """20,000 tokens in files: the scores would take 1.6 GB."""
    rng = np.random.default_rng(0)
    for name in "qkv":
        np.save(f"{name}.npy", rng.standard_normal((20000, 64), dtype=np.float32))
    return ["-q", "q.npy", "-k", "k.npy", "-v", "v.npy", "--scale", "sqrt"]


@pytest.fixture
def layer(folder: Path) -> list[str]:
    """A small layer in files: three tokens, two heads, and all that a model may do to them."""
    ones = np.eye(4)
    arrays = {
        "x": np.array([[1.0, 0, 2, 0], [0, 1, 0, 2], [1, 1, -1, 0]]),
        "wq": ones + np.eye(4, k=1),
        "wk": ones,
        "wv": 2 * ones,
        "wo": np.ones((4, 2)) * [1, 0.5],
        "bo": np.array([0.0, 1]),
        "gate": np.array([[0.0, 1], [0, 1], [0, 1], [0, -1]]),
        "sinks": np.array([0.0, 1]),
        "k-norm": np.array([1.0, 2]),
    }
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    files = [word for name in arrays if name != "x" for word in (f"--{name}", f"{name}.npy")]
    options = ["--rope", "100", "--alibi", "--clip", "2", "--causal", "--heads", "2"]
    return ["--embeddings", "x.npy", *files, *options, "--labels", "a b c"]
