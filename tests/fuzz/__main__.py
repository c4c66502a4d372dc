"""Look for what no test thought of: ``python -m tests.fuzz [--seconds 60] [--seed N] [--only …]``.

Each target is tried for so many seconds: *readers* are given spoilt files, *lines* odd command
lines, *blocks* numbers at the edges of their types. Try n is made from seed + n alone, so that
``--seed`` as a find shows it, with ``--seconds 0``, makes that one again. The exit code is 1
where something was found. (POSIX only; the most memory of one try is known only on Linux.)
"""

import argparse
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Protocol, TypeAlias

import numpy as np

from tests.conftest import ROOT
from tests.fuzz.blocks import Blocks
from tests.fuzz.lines import Lines
from tests.fuzz.readers import Readers

SECONDS, MEMORY, GROWTH = 2.0, 3 * 2**30, 500_000
"""What a try may take: processor time, bytes of address space, KB more than before it."""


class Target(Protocol):
    """What is tried: makes cases, checks them, and makes one easier to read.

    ``check`` says what came of a case in a few words, which are counted. It raises
    AssertionError where that is wrong, and any other exception is a find too.
    """

    def make(self, random: Random) -> Any: ...
    def check(self, case: Any) -> str: ...
    def smaller(self, case: Any) -> Iterator[Any]: ...


TARGETS: dict[str, type[Target]] = {"readers": Readers, "lines": Lines, "blocks": Blocks}

Finds: TypeAlias = dict[str, tuple[int, str]]
"""By kind, the seed of the first find, and the case that it was shrunk to."""


class TooLongError(BaseException):
    """A try takes more time than it may; no ``except Exception`` on the way swallows this."""


def hunt(target: Target, seed: int, seconds: float) -> tuple[Counter[str], Finds]:
    """Try until the time is over, once at least: how often what came out, and the finds by kind."""
    outcomes: Counter[str] = Counter()
    finds: Finds = {}
    end = time.monotonic() + seconds
    while not outcomes or time.monotonic() < end:
        now = seed + outcomes.total()
        case = target.make(Random(now))
        kind, outcome = tried(target, case)
        outcomes[outcome] += 1
        if kind and kind not in finds:
            finds[kind] = now, repr(shrunk(target, case, kind))
    return outcomes, finds


def tried(target: Target, case: Any) -> tuple[str, str]:
    """The kind of the find ("" where there is none), and the outcome."""
    unseen: list[str] = []  # what Python would only print, such as a file that is left open
    sys.unraisablehook = lambda found: unseen.append(f"never raised: {found.exc_value!r}"[:80])
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the most memory is counted from now on
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            outcome = target.check(case)
    except KeyboardInterrupt:
        raise
    except BaseException as fault:  # SystemExit too
        return kind_of(fault), "failed"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > GROWTH:
        unseen.append(f"takes more than {GROWTH} KB")
    return (unseen[0], "failed") if unseen else ("", outcome)


def kind_of(fault: BaseException) -> str:
    """What tells one find from another: what is said to be wrong, or where our code raised."""
    if isinstance(fault, AssertionError) and str(fault):
        return str(fault)
    frames = traceback.extract_tb(fault.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(str(ROOT / "qkvcli"))]
    last = (ours or frames)[-1]
    where = f"{Path(last.filename).name}:{last.lineno}, {last.name}"
    return f"{type(fault).__name__} in {where}"


def shrunk(target: Target, case: Any, kind: str) -> Any:
    """A smaller case of the same kind: as small as five seconds make it."""
    end = time.monotonic() + 5
    cases = target.smaller(case)
    while time.monotonic() < end and (smaller := next(cases, None)) is not None:
        if tried(target, smaller)[0] == kind:
            case, cases = smaller, target.smaller(smaller)
    return case


def report(name: str, outcomes: Counter[str], finds: Finds) -> None:
    """Print a target's line, what its tries came to, and what was found."""
    lines = [f"{name}: {outcomes.total()} tries, {len(finds)} distinct finds"]
    lines += [f"    {count:8} {outcome}" for outcome, count in outcomes.most_common()]
    for kind, (seed, case) in finds.items():
        shown = case if len(case) < 4000 else f"{case[:4000]}…"
        lines += ["", f"  {kind}", f"    --only {name} --seed {seed} --seconds 0", f"    {shown}"]
    print(*lines, sep="\n", flush=True)  # noqa: T201 -- its purpose


def too_long(number: int, frame: object) -> None:
    raise TooLongError


def main() -> int:
    """Look for finds, and print them: the code to exit with."""
    parser = argparse.ArgumentParser(description="Look for what no test thought of.")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9)
    parser.add_argument("--only", choices=TARGETS)
    asked = parser.parse_args()
    signal.signal(signal.SIGPROF, too_long)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    np.set_printoptions(precision=17, floatmode="unique", threshold=10**6)  # finds whole
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "LC_ALL", "LC_CTYPE", "LANG"):
        os.environ.pop(name, None)
    code = 0
    for name in [asked.only] if asked.only else TARGETS:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            outcomes, finds = hunt(TARGETS[name](), asked.seed, asked.seconds)
            os.chdir(ROOT)
        report(name, outcomes, finds)
        code = 1 if finds else code
    return code


if __name__ == "__main__":
    sys.exit(main())
