"""How fast and how large: ``python -m tests.benchmarks`` prints the tables of the documents.

Everything is measured in one run on one machine, in turn with what it is compared with,
and printed as a ratio of medians. PyTorch is used where it is installed, and only here.
``--write`` puts what was measured into a page of help, and with our goals into CONTRIBUTING.md.
"""

import ctypes
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qkvcli.core.threads import cores, openblas
from tests.conftest import ROOT

ROUNDS = 5
PROGRAM = [sys.executable, "-m", "qkvcli"]
ARTICLE = """
import numpy as np
np.random.seed(42)
Q, K, V = np.random.rand(5, 64), np.random.rand(5, 64), np.random.rand(5, 64)
scores = np.dot(Q, K.T)
shares = np.exp(scores - scores.max(axis=1, keepdims=True))
weights = shares / shares.sum(axis=1, keepdims=True)
print(scores, weights, np.dot(weights, V), sep="\\n")
"""
TORCH = """
import sys, time
import numpy as np, torch
query, key, value = (torch.from_numpy(np.load(f"{n}32768.npy"))[None, None] for n in "qkv")
attention = torch.nn.functional.scaled_dot_product_attention
times = []
for _ in range(int(sys.argv[1]) + 1):
    start = time.perf_counter()
    attention(query, key, value)
    times.append(time.perf_counter() - start)
print(sorted(times[1:])[len(times[1:]) // 2])
"""
PRODUCTS = """
import sys, time
import numpy as np
query, key, value = (np.load(f"{n}32768.npy") for n in "qkv")
times = []
for _ in range(int(sys.argv[1])):
    start = time.perf_counter()
    for i in range(0, len(query), 1024):
        for j in range(0, len(key), 1024):
            scores = query[i : i + 1024] @ key[j : j + 1024].T
            scores @ value[j : j + 1024]
    times.append(time.perf_counter() - start)
print(sorted(times)[len(times) // 2])
"""


class Row(NamedTuple):
    """A line of a table: what was measured, what came out, our goal, what a user gets of it."""

    what: str
    found: str
    goal: str
    gets: str


class Run(NamedTuple):
    """A process that has ended: seconds, and the most memory that it had, in MB."""

    seconds: float
    peak: float


MEASURED = """
import os, sys, time
start = time.perf_counter()
pid = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(pid, 0)
assert status == 0, status
print(time.perf_counter() - start, usage.ru_maxrss / 1000, file=sys.stderr)
"""


def ran(*command: str) -> Run:
    """Run a process to its end; it must end well.

    A small process starts it: what is started counts the memory of what starts it.
    """
    ended = subprocess.run(
        [sys.executable, "-S", "-c", MEASURED, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds, peak = map(float, ended.stderr.split()[-2:])
    return Run(seconds, peak)


def qkv(*words: str) -> Run:
    """The program on some words."""
    return ran(*PROGRAM, *words)


def ratio(ours: Callable[[], float], theirs: Callable[[], float], rounds: int = ROUNDS) -> float:
    """Medians' ratio, the two measured in turn after a warm-up of each."""
    ours(), theirs()
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)


def within(work: Callable[[], object]) -> Callable[[], float]:
    """The seconds of a call in this process."""

    def timed() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return timed


def inputs(length: int) -> list[str]:
    """Q, K and V of so many tokens of 64 in float32, as options; made once."""
    rng = np.random.default_rng(0)
    for name in "qkv":
        if not Path(f"{name}{length}.npy").exists():
            np.save(f"{name}{length}.npy", rng.standard_normal((length, 64), dtype=np.float32))
    return [word for name in "qkv" for word in (f"-{name}", f"{name}{length}.npy")]


def seconds(*words: str) -> float:
    """How long the program takes on some words."""
    return qkv(*words).seconds


def output(length: int, *more: str) -> Run:
    """``output -o`` of so many tokens."""
    words = inputs(length)
    return qkv("output", *words, "--scale", "sqrt", *more, "-o", "out.npy", "--quiet")


def script(text: str) -> float:
    """The seconds that a script prints of its own work."""
    ended = subprocess.run(
        [sys.executable, "-c", text, "3"], capture_output=True, text=True, check=True
    )
    return float(ended.stdout)


def long_rows() -> list[Row]:
    """Long inputs: against PyTorch, bare products, and our own causal; memory."""
    rows = []
    inputs(32768)
    ours = "`output -o`, 32,768 tokens, d 64, float32: whole process"
    if find_spec("torch"):
        found = ratio(lambda: output(32768).seconds, lambda: script(TORCH), 3)
        gets = "long inputs without a framework, start and files included"
        rows.append(Row(f"{ours} / PyTorch's kernel alone", f"{found:.2f}", "1.0", gets))
    found = ratio(lambda: output(32768).seconds, lambda: script(PRODUCTS), 3)
    gets = "most of the time goes to the products themselves"
    rows.append(Row("the same / two bare matrix products in blocks", f"{found:.2f}", "1.3", gets))
    found = ratio(lambda: output(32768, "--causal").seconds, lambda: output(32768).seconds)
    gets = "what a causal mask hides is not computed"
    rows.append(Row("the same with `--causal` / without", f"{found:.2f}", "0.6", gets))
    gets = "no room for the scores, which would take 4.3 GB"
    rows.append(Row("peak memory of that", f"{output(32768).peak:.0f} MB", "220 MB", gets))
    held = [output(n).peak - 4 * n * 64 * 4 / 1e6 for n in (8192, 65536)]
    flat = f"{held[0]:.0f} → {held[1]:.0f} MB"
    what = "8,192 → 65,536 tokens: peak memory less inputs and output"
    rows.append(Row(what, flat, "flat", "memory grows with the tokens, not with their square"))
    words = inputs(1_000_000)
    million = [qkv("run", *words, "-f", "table").seconds for _ in range(ROUNDS + 1)][1:]
    found = statistics.median(million)
    gets = "the first and the last rows of a million come up at once"
    rows.append(Row("`run` on 1,000,000 tokens, whole process", f"{found:.2f} s", "1 s", gets))
    return rows


def short_rows() -> list[Row]:
    """Start-up, against the article's own script."""

    def article() -> float:
        return ran(sys.executable, "-c", ARTICLE).seconds

    rows = []
    for what, words, goal, gets in (
        ("`run`", ["run"], "1.5", "the tables cost less than a tenth of a second"),
        ("`run -f csv`", ["run", "-f", "csv"], "1.3", "the same in a pipe"),
        ("`--version`", ["--version"], "0.7", "an answer at once"),
    ):
        found = ratio(partial(seconds, *words), article, 21)
        row = f"{what} / the article's script, whole processes"
        rows.append(Row(row, f"{found:.2f}", goal, gets))
    return rows


def text_rows() -> list[Row]:
    """CSV and JSON of 1.4 million numbers, against NumPy's own."""
    from qkvcli.core.steps import Step
    from qkvcli.formats.files import read_document
    from qkvcli.formats.registry import FORMATS
    from qkvcli.formats.source import Source

    array = np.random.default_rng(0).standard_normal((1200, 1200))
    step = Step.held("weights", array)

    def write(kind: str) -> None:
        with Path(f"ours.{kind}").open("wb") as stream:
            FORMATS[kind].write([step], stream, None)

    def read(kind: str) -> None:
        [member] = read_document(Source.file(Path(f"ours.{kind}"))).values()
        member.read()

    def both(kind: str) -> None:
        write(kind)
        read(kind)

    def numpys() -> None:
        np.savetxt("theirs.csv", array, delimiter=",")
        np.loadtxt("theirs.csv", delimiter=",")

    rows = []
    for kind in ("csv", "json"):
        found = ratio(within(partial(both, kind)), within(numpys))
        what = f"{kind.upper()} out and in, 1.4 million numbers / savetxt and loadtxt"
        gets = "every digit, the shortest way, at about the speed of NumPy's text"
        rows.append(Row(what, f"{found:.2f}", "1.0", gets))
    return rows


def processor() -> str:
    """The processor, its cores, and the kernels that NumPy's BLAS takes on it."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    name = next(names, platform.processor() or platform.machine())
    corename = openblas("get_corename")
    kernels = "unknown"
    if corename is not None:
        corename.restype = ctypes.c_char_p  # type: ignore[attr-defined]
        kernels = corename().decode()
    return f"{cores()} cores of an {name} (OpenBLAS kernels: {kernels})"


def table(rows: list[Row], goals: bool) -> str:
    """The rows as Markdown."""
    kept = [(row.what, row.found, row.goal if goals else row.gets) for row in rows]
    head = ["what", "measured", "goal" if goals else "what you get"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in kept)])


def written(name: str, text: str, *changes: tuple[str, str]) -> None:
    """Put a table into a document, in place of the one with the same head."""
    path = ROOT / name
    document = path.read_text()
    head = re.escape(text.splitlines()[0])
    changes = ((rf"{head}\n(\|.*\n)+", f"{text}\n"), *changes)
    for pattern, new in changes:
        document, found = re.subn(pattern, lambda _, new=new: new, document)  # type: ignore[misc]
        assert found == 1, (name, pattern)
    path.write_text(document)


def main() -> None:
    """Measure everything, print the tables, and write them where that is asked for."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["PYTHONPATH"] = str(ROOT)
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program is compiled
        for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
            assert name not in os.environ, f"unset {name}: a user's machine has no such pin"
        qkv("--version")
        rows = [*long_rows(), *short_rows(), *text_rows()]
    print(processor(), table(rows, goals=True), sep="\n\n")  # noqa: T201 -- its purpose
    if "--write" in sys.argv:
        where = (r"Measured on .*?\. Ratios", f"Measured on {processor()}. Ratios")
        written("qkvcli/help/length.md", table(rows, goals=False), where)
        written("CONTRIBUTING.md", table(rows, goals=True))


if __name__ == "__main__":
    main()
