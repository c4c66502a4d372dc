"""The rows of the tables: what is measured, how, what we want, and what a user gets of it."""

import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from subprocess import Popen
from threading import TIMEOUT_MAX, Timer
from typing import NamedTuple

import numpy as np

from tests.benchmarks.measuring import Run, Timed, median, qkv, ran, ratio, script, seconds
from tests.test_spreading import came_up

WIDTH = 64
LONG = 1_000_000
"""More tokens than any matrix of scores has room for."""

ARTICLE = """
import numpy as np
np.random.seed(42)
Q, K, V = np.random.rand(5, 64), np.random.rand(5, 64), np.random.rand(5, 64)
scores = np.dot(Q, K.T)
shares = np.exp(scores - scores.max(axis=1, keepdims=True))
weights = shares / shares.sum(axis=1, keepdims=True)
print(scores, weights, np.dot(weights, V), sep="\\n")
"""
TEXT = """
import numpy as np
np.savetxt("numpys.csv", np.loadtxt("theirs.csv", delimiter=","), delimiter=",", fmt="%.17g")
"""
TORCH = """
import sys
import numpy as np, torch
arrays = [torch.from_numpy(np.load(name)) for name in sys.argv[1:]]
arrays = [array.reshape(1, -1, *array.shape[-2:]) for array in arrays]
def work():
    torch.nn.functional.scaled_dot_product_attention(*arrays)
"""
LIBRARY = """
import sys
import numpy as np, qkvcli
arrays = [np.load(name) for name in sys.argv[1:]]
def work():
    qkvcli.attention(*arrays, scale="sqrt")
"""
PRODUCTS = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from qkvcli.core.threads import cores, one_blas_thread
query, key, value = (np.load(name) for name in sys.argv[1:])
query /= np.sqrt(np.float32(query.shape[-1]))
def part(i):
    scores = np.empty((1024, 256), np.float32)
    mixed = np.empty((1024, value.shape[-1]), np.float32)
    for j in range(0, len(key), 256):
        np.matmul(query[i : i + 1024], key[j : j + 256].T, out=scores)
        np.exp(scores, out=scores)
        np.matmul(scores, value[j : j + 256], out=mixed)
def work():
    with one_blas_thread() as held, ThreadPoolExecutor(cores()) as pool:
        assert held
        list(pool.map(part, range(0, len(query), 1024)))
"""


class Row(NamedTuple):
    """A line of a table: what is measured, and how; our goal; what a user gets of it.

    ``needs`` is a module without which there is nothing to measure.
    """

    what: str
    measure: Callable[[], str]
    goal: str
    gets: str
    needs: str | None = None


def files(*shape: int, dtype: str = "float32") -> list[str]:
    """Files of Q, K and V, (*shape, 64), drawn once."""
    rng = np.random.default_rng(0)
    names = [f"{name}-{'x'.join(map(str, shape))}-{dtype}.npy" for name in "qkv"]
    for name in names:
        if not Path(name).exists():
            np.save(name, rng.standard_normal((*shape, WIDTH), np.float32).astype(dtype))
    return names


def given(names: list[str], part: str = "") -> list[str]:
    """Files of Q, K and V as options; ``part`` is a slice of each."""
    options = zip(("-q", "-k", "-v"), names, strict=True)
    return [word for option, name in options for word in (option, name + part)]


def output(*shape: int, more: tuple[str, ...] = (), part: str = "", to: str = "out.npy") -> Run:
    """``output -o`` of so many tokens, or of a part of them."""
    words = given(files(*shape), part)
    return qkv("output", *words, "--scale", "sqrt", *more, "-o", to, "--quiet")


def output_seconds(*shape: int, more: tuple[str, ...] = (), to: str = "out.npy") -> Timed:
    """The seconds of that, the whole process."""
    return lambda: output(*shape, more=more, to=to).seconds


def against_torch(*shape: int) -> str:
    """The whole process against PyTorch's kernel alone."""
    with script(TORCH, *files(*shape)) as theirs:
        return ratio(output_seconds(*shape), theirs)


def library(length: int, theirs: str, rounds: int = 5) -> str:
    """`qkvcli.attention` against a script, both with arrays at hand."""
    names = files(length)
    with script(LIBRARY, *names) as ours, script(theirs, *names) as other:
        return ratio(ours, other, rounds)


def causal(length: int) -> str:
    """With a causal mask against without."""
    return ratio(output_seconds(length, more=("--causal",)), output_seconds(length))


def peak(length: int) -> str:
    """The most memory, of the whole process."""
    return f"{output(length).peak:.0f} MB"


def flat(*lengths: int) -> str:
    """The most memory less inputs and output, at several lengths."""
    held = (output(length).peak - 4 * length * WIDTH * 4 / 1e6 for length in lengths)
    return f"{' → '.join(f'{each:.0f}' for each in held)} MB"


def windows(*lengths: int) -> str:
    """Seconds where each query sees the 1,024 keys up to its own, at several lengths."""
    near = ("--causal", "--window", "1023")
    rounds = [
        [output(LONG, more=near, part=f"[:{length}]").seconds for length in lengths]
        for _ in range(3)
    ]
    found = map(statistics.median, zip(*rounds, strict=True))
    return f"{' → '.join(f'{each:.2f}' for each in found)} s"


def shown(*more: str, dtype: str = "float32") -> str:
    """Seconds and memory of the tables of a million tokens."""
    words = (*given(files(LONG, dtype=dtype)), *more, "-f", "table")
    return _both(median(partial(qkv, "run", *words)))


def shown_with_cache(cached: int) -> str:
    """The same where most of the keys and values come from a cache."""
    names = files(LONG)
    options = zip(("--past-key", "--past-value"), names[1:], strict=True)
    past = [word for option, name in options for word in (option, f"{name}[:{cached}]")]
    words = (*given(names, f"[{cached}:]"), *past, "-f", "table")
    return _both(median(partial(qkv, "run", *words)))


def _both(run: Run) -> str:
    return f"{run.seconds:.2f} s, {run.peak:.0f} MB"


def started(*words: str) -> str:
    """A short run against the article's own script."""
    return ratio(seconds(*words), lambda: ran(sys.executable, "-c", ARTICLE).seconds, 21)


def text(kind: str) -> str:
    """Text in and out against a script of NumPy's ``loadtxt`` and ``savetxt``."""
    if not Path("theirs.csv").exists():
        array = np.random.default_rng(0).standard_normal((1200, 1200))
        np.savetxt("theirs.csv", array, delimiter=",", fmt="%.17g")
        qkv("inspect", "theirs.csv", "-o", "theirs.json", "--quiet")
    ours = seconds("inspect", f"theirs.{kind}", "-o", f"ours.{kind}", "--quiet")
    return ratio(ours, lambda: ran(sys.executable, "-c", TEXT).seconds)


def local_cluster(length: int) -> str:
    """Two worker processes that are started for the run, against threads."""
    ours = output_seconds(length, more=("--cluster", "local:2"))
    return ratio(ours, output_seconds(length), 3)


@contextmanager
def two_workers() -> Iterator[tuple[str, Popen[bytes]]]:
    """A scheduler with two workers, processes of their own: its address, and one of the two."""
    with ExitStack() as closing:
        scheduler = came_up()
        workers = scheduler.worker(), scheduler.worker()
        for process in (scheduler.process, *workers):
            closing.callback(process.communicate)
            closing.callback(process.kill)
        ready = "import sys, distributed as d; d.Client(sys.argv[1]).wait_for_workers(2)"
        ran(sys.executable, "-c", ready, scheduler.address)
        yield scheduler.address, workers[0]


def killed(length: int) -> str:
    """One of two workers killed in mid-run, against none; the numbers are compared."""
    output(length, to="here.npy")
    here = Path("here.npy").read_bytes()
    took, same = list[float](), True

    def on_two(lose: bool) -> float:
        nonlocal same
        with two_workers() as (address, worker):
            end = Timer(took[-1] / 2 if lose else TIMEOUT_MAX, worker.kill)
            end.start()
            found = output(length, more=("--cluster", address), to="there.npy").seconds
            end.cancel()
            assert (worker.poll() is not None) == lose
        same = same and Path("there.npy").read_bytes() == here
        if not lose:
            took.append(found)
        return found

    on_two(lose=False)
    found = ratio(lambda: on_two(lose=True), lambda: on_two(lose=False), 3, warm=True)
    return f"{found}, {'the same' if same else 'not the same'} to the bit"


_WHOLE = "whole process"
_KERNEL = "PyTorch's kernel alone"
_ARTICLE = "the article's script, whole processes"
_SHOWN = "`run -f table` on 1,000,000 tokens × 64"
_NUMPYS = "a script of loadtxt and savetxt `%.17g`"

ROWS = (
    Row(
        f"`output -o`, 32,768 tokens × 64, {_WHOLE} / {_KERNEL}",
        partial(against_torch, 32768),
        "0.65",
        "long inputs without a framework, start and files included",
        needs="torch",
    ),
    Row(
        f"`output -o`, eight heads of 16,384 × 64, {_WHOLE} / {_KERNEL}",
        partial(against_torch, 8, 16384),
        "0.65",
        "the same with heads",
        needs="torch",
    ),
    Row(
        "`attention` in Python, 8,192 tokens / PyTorch's function on the same arrays",
        partial(library, 8192, TORCH, 21),
        "1.0",
        "arrays that you have already take no longer",
        needs="torch",
    ),
    Row(
        "the blocks of 32,768 tokens / bare products with a bare `exp`, in blocks",
        partial(library, 32768, PRODUCTS),
        "1.0",
        "the time goes to the products themselves",
    ),
    Row(
        "`output -o`, 32,768 tokens, with `--causal` / without",
        partial(causal, 32768),
        "0.6",
        "what a causal mask hides is not computed",
    ),
    Row(
        "`output -o`, 32,768 tokens: peak memory",
        partial(peak, 32768),
        "220 MB",
        "no room for the scores, which would take 4.3 GB",
    ),
    Row(
        "`output -o`, 8,192 → 65,536 tokens: peak memory less inputs and output",
        partial(flat, 8192, 65536),
        "flat",
        "memory grows with the tokens, not with their square",
    ),
    Row(
        "`output -o`, a window of 1,024, 250,000 → 500,000 → 1,000,000 tokens",
        partial(windows, 250_000, 500_000, LONG),
        "linear, 5 s",
        "so does the time, where each query sees only the keys near it",
    ),
    Row(
        f"{_SHOWN}, {_WHOLE}",
        shown,
        "0.6 s, 900 MB",
        "the edges of a million rows come up at once (their files are mapped, and count)",
    ),
    Row(
        f"{_SHOWN}, with `--heads 8`",
        partial(shown, "--heads", "8"),
        "0.6 s, 900 MB",
        "also split into heads",
    ),
    Row(
        f"{_SHOWN}, in float16",
        partial(shown, dtype="float16"),
        "0.6 s, 900 MB",
        "also where they are converted, a block at a time",
    ),
    Row(
        f"{_SHOWN}, 999,000 of them in a cache",
        partial(shown_with_cache, 999_000),
        "0.6 s, 900 MB",
        "also where they are put together",
    ),
    Row(
        f"`run` / {_ARTICLE}",
        partial(started, "run"),
        "1.4",
        "the tables cost less than a tenth of a second",
    ),
    Row(
        f"`run -f csv` / {_ARTICLE}",
        partial(started, "run", "-f", "csv"),
        "1.15",
        "the same in a pipe",
    ),
    Row(
        f"`--version` / {_ARTICLE}",
        partial(started, "--version"),
        "0.35",
        "an answer at once",
    ),
    Row(
        f"CSV in and out, 1.4 million numbers, {_WHOLE} / {_NUMPYS}",
        partial(text, "csv"),
        "0.5",
        "every digit, the shortest way, in less time than NumPy's text takes",
    ),
    Row(
        f"JSON in and out, 1.4 million numbers, {_WHOLE} / {_NUMPYS}",
        partial(text, "json"),
        "0.5",
        "the same with names",
    ),
    Row(
        "`output -o`, 65,536 tokens, `--cluster local:2` / threads",
        partial(local_cluster, 65536),
        "1.15",
        "what the way to other processes costs, start and end included",
        needs="distributed",
    ),
    Row(
        "`output -o`, 65,536 tokens, one of two workers killed half way / none",
        partial(killed, 65536),
        "1.6, the same to the bit",
        "a worker that is lost costs its pieces again, and the other does the rest",
        needs="distributed",
    ),
)
