"""Ctrl-C and the signals that end a program: in silence, with no file half written."""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGXCPU", "SIGUSR1", "SIGUSR2")
"""All that end a program if nobody hears them, and come from outside; Windows has two of them."""


class Signals:
    """The first signal unwinds the program, as Ctrl-C does; one after it ends it at once.

    (The first may be lost where Python swallows what is raised, and work that runs on other
    threads takes a moment to end.) ``clean`` removes what must not stay.
    """

    def __init__(self, clean: Callable[[], None]) -> None:
        self.clean = clean
        self.first: int | None = None

    @property
    def code(self) -> int | None:
        """The code to exit with; None where no signal has come."""
        return None if self.first is None else 128 + self.first

    def hear(self) -> None:
        """Take the signals from now on; one that is ignored (as nohup does) stays so."""
        self._set(self._end)

    def ignore(self) -> None:
        """Hear none any more: what was to be done is done."""
        self._set(signal.SIG_IGN)

    def _set(self, action: "Callable[[int, FrameType | None], None] | signal.Handlers") -> None:
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, action)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self.code is not None:
            self.clean()
            os._exit(self.code)
        self.first = number
        sys.unraisablehook = lambda fault: None  # of what was cut short, nothing more is said
        raise KeyboardInterrupt
