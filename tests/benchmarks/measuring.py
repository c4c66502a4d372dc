"""Processes, and how long they take beside each other."""

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

Timed: TypeAlias = Callable[[], float]
"""Does something once, and gives the seconds that it took."""

PROGRAM = [sys.executable, "-m", "qkvcli"]
MEASURED = """
import os, sys, time
start = time.perf_counter()
pid = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(pid, 0)
assert status == 0, status
print(time.perf_counter() - start, usage.ru_maxrss / 1000, file=sys.stderr)
"""
AGAIN = """
import sys, time
for _ in sys.stdin:
    start = time.perf_counter()
    work()
    print(time.perf_counter() - start, flush=True)
"""


class Run(NamedTuple):
    """A process that has ended: seconds, and the most memory that it had, in MB."""

    seconds: float
    peak: float


def ran(*command: str) -> Run:
    """Run a process to its end; it must end well.

    A small process starts it: what is started counts the memory of what starts it.
    """
    ended = subprocess.run(
        [sys.executable, "-S", "-c", MEASURED, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ended.returncode == 0, (command, ended.stderr)
    seconds, peak = map(float, ended.stderr.split()[-2:])
    return Run(seconds, peak)


def qkv(*words: str) -> Run:
    """The program on some words."""
    return ran(*PROGRAM, *words)


def seconds(*words: str) -> Timed:
    """The seconds of the program on some words, the whole process."""
    return lambda: qkv(*words).seconds


@contextmanager
def script(text: str, *words: str) -> Iterator[Timed]:
    """The seconds of a script's ``work``, again and again in a process of its own.

    What it imports and reads does not count.
    """
    with subprocess.Popen(
        [sys.executable, "-c", text + AGAIN, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        ask, answer = process.stdin, process.stdout
        assert ask is not None
        assert answer is not None

        def timed() -> float:
            print(file=ask, flush=True)
            return float(answer.readline())

        yield timed


def ratio(ours: Timed, theirs: Timed, rounds: int = 5, warm: bool = False) -> str:
    """Medians' ratio, the two measured in turn after a warm-up of each, unless they are warm."""
    if not warm:
        ours(), theirs()
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    return f"{statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs):.2f}"


def median(work: Callable[[], Run], rounds: int = 3) -> Run:
    """The median of the seconds after a warm-up, and the most memory."""
    work()
    runs = [work() for _ in range(rounds)]
    return Run(statistics.median(run.seconds for run in runs), max(run.peak for run in runs))
