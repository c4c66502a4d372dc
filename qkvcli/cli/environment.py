"""All that surrounds one run of the program: its three streams, the terminal, the variables."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TextIO

from qkvcli.errors import DataError, ReaderGone, UsageError, WriteError

_SIGNS = "·ᵀ→…×√─"


class Environment:
    """The streams and the variables; a test hands in others."""

    def __init__(
        self,
        stdin: TextIO | None,
        stdout: TextIO | None,
        stderr: TextIO | None,
        variables: Mapping[str, str],
    ) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.variables = variables
        self.taken = False  # whether standard input has been read

    @classmethod
    def of_process(cls) -> "Environment":
        """The process's own."""
        return cls(sys.stdin, sys.stdout, sys.stderr, os.environ)

    @property
    def on_terminal(self) -> bool:
        """Whether a person looks at standard output."""
        return self.stdout is not None and self.stdout.isatty()

    @property
    def asks_a_person(self) -> bool:
        """Whether standard input is a keyboard."""
        return self.stdin is not None and self.stdin.isatty()

    @property
    def watched(self) -> bool:
        """Whether a person looks at standard error."""
        return self.stderr is not None and self.stderr.isatty()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines; COLUMNS and LINES say otherwise, and 80 by 24 is the guess."""
        columns, lines = (self._number(name) for name in ("COLUMNS", "LINES"))
        if self.stdout is not None and self.on_terminal and not (columns and lines):
            with suppress(OSError, ValueError):
                terminal = os.get_terminal_size(self.stdout.fileno())
                columns, lines = columns or terminal.columns, lines or terminal.lines
        return columns or 80, lines or 24

    def _number(self, name: str) -> int:
        text = self.variables.get(name, "")
        return int(text) if text.isdecimal() and len(text) < 10 else 0

    @property
    def colour(self) -> bool:
        """Colour and bold: for a terminal that has them, unless NO_COLOR is set."""
        if self.variables.get("NO_COLOR"):
            return False
        capable = self.variables.get("TERM") not in ("dumb", "unknown")
        return bool(self.variables.get("FORCE_COLOR")) or (self.on_terminal and capable)

    @property
    def plain(self) -> bool:
        """Whether the signs of a title cannot be shown, and ASCII must do."""
        spoken = (self.variables.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
        if next(filter(None, spoken), "") in ("C", "POSIX"):
            return True
        if self.variables.get("TERM") == "linux" and self.on_terminal:  # its font has no ᵀ
            return True
        try:
            _SIGNS.encode(self._spoken)
        except (UnicodeEncodeError, LookupError):
            return True
        return False

    @property
    def encoding(self) -> str:
        """What tables are written in; data is always UTF-8."""
        return "ascii" if self.plain else self._spoken

    @property
    def _spoken(self) -> str:
        return getattr(self.stdout, "encoding", None) or "utf-8"

    def take_input(self) -> bytes:
        """All of standard input, for the one operand that reads it.

        Raises UsageError where another has read it, DataError where it can't be read.
        """
        if self.taken:
            raise UsageError("standard input can be read for one operand only; name files")
        self.taken = True
        if self.stdin is None:
            raise DataError("standard input is closed")
        try:
            return self.stdin.buffer.read()
        except OSError as fault:
            raise DataError(f"standard input: cannot be read: {fault.strerror}") from None

    def write(self, data: bytes) -> int:
        """Bytes to standard output, at once. Raises ReaderGone or WriteError."""
        if self.stdout is None:
            raise WriteError("standard output is closed")
        try:
            self.stdout.flush()
            left = memoryview(data)
            while left:  # an unbuffered stream may take less than it is given
                left = left[self.stdout.buffer.write(left) or 0 :]
            self.stdout.buffer.flush()
            return len(data)
        except BrokenPipeError:
            self._forget_output()
            raise ReaderGone from None
        except OSError as fault:
            self._forget_output()
            raise WriteError(f"standard output: cannot be written: {fault.strerror}") from None

    def flush(self) -> None:
        """Do nothing: nothing waits to be written, but writers of archives call it."""

    def settle(self) -> None:
        """Flush what Typer's own output left behind; discard it if that fails."""
        if self.stdout is not None:
            try:
                self.stdout.flush()
            except (OSError, ValueError):
                self._forget_output()

    def report(self, message: str) -> None:
        """One line on standard error, without anything that a terminal would obey."""
        if self.stderr is not None:
            from qkvcli.render.text import printable

            print(f"qkvcli: {printable(' '.join(message.splitlines()))}", file=self.stderr)

    def _forget_output(self) -> None:
        """Send what is left in the buffer nowhere, or Python tries it again, loudly, at the end."""
        if self.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stdout.fileno())
