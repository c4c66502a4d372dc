"""How far long work has come, on standard error, for a person who waits."""

import time
from types import TracebackType
from typing import Any

from qkvcli.cli.streams import Streams

_PATIENCE = 0.5  # seconds of silence


class Meter:
    """A bar that shows up only where a terminal is there and the work takes long."""

    def __init__(self, streams: Streams) -> None:
        self.streams = streams
        self.watched = streams.stderr is not None and streams.stderr.isatty()
        self.started = time.monotonic()
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> "Meter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Say that so many parts of so many are done."""
        if not self.watched or time.monotonic() - self.started < _PATIENCE:
            return
        if self.bar is None:
            self._start(total)
        self.bar.update(self.task, completed=done, total=total)

    def _start(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

        self.bar = Progress(
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=Console(file=self.streams.stderr),
            transient=True,
        )
        self.task = self.bar.add_task("", total=total)
        self.bar.start()
