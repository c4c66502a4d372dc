"""A Dask scheduler and its workers, as processes of their own."""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import environment

Process = subprocess.Popen[bytes]


class Scheduler(NamedTuple):
    """A Dask scheduler, and how to start workers of it."""

    process: Process
    address: str

    def worker(self, *more: str, **variables: str) -> Process:
        words = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0", *more]
        return _started("distributed.cli.dask_worker", self.address, *words, **variables)


def scheduler() -> Scheduler:
    """Start a scheduler, and wait until it says where it is."""
    words = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show")
    with tempfile.NamedTemporaryFile() as said:  # a pipe that nobody empties would stop it
        process = _started("distributed.cli.dask_scheduler", *words, stderr=said)
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            found = re.search(rb"Scheduler at: +(tcp://\S+)", Path(said.name).read_bytes())
            if found:
                return Scheduler(process, found[1].decode())
            time.sleep(0.05)
        process.kill()
        raise AssertionError("no scheduler came up")


def _started(module: str, *words: str, stderr: Any = subprocess.DEVNULL, **more: str) -> Process:
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        env=environment() | more,
    )
