"""Standard input, output and error, and what the terminal behind them can do."""

import os
import sys
from dataclasses import dataclass
from typing import TextIO

from qkvcli.errors import DataError, ReaderGone, UsageError, WriteError
from qkvcli.formats.source import Source

_SIGNS = "·ᵀ→…×√─"


@dataclass
class Streams:
    """The three streams of one run of the program."""

    stdin: TextIO | None
    stdout: TextIO | None
    stderr: TextIO | None
    taken: bool = False

    @classmethod
    def of_process(cls) -> "Streams":
        """The process's own, as they are now: tests put others there."""
        return cls(sys.stdin, sys.stdout, sys.stderr)

    @property
    def on_terminal(self) -> bool:
        """Whether a person looks at standard output."""
        return self.stdout is not None and self.stdout.isatty()

    @property
    def asks_a_person(self) -> bool:
        """Whether standard input is a keyboard."""
        return self.stdin is not None and self.stdin.isatty()

    @property
    def size(self) -> os.terminal_size:
        """Columns and lines; COLUMNS and LINES say otherwise, and 80 by 24 is the guess."""
        from shutil import get_terminal_size

        return get_terminal_size()

    @property
    def colour(self) -> bool:
        """Colour and bold: for a terminal that has them, unless NO_COLOR is set."""
        if os.environ.get("NO_COLOR"):
            return False
        capable = os.environ.get("TERM") not in ("dumb", "unknown")
        return bool(os.environ.get("FORCE_COLOR")) or (self.on_terminal and capable)

    @property
    def plain(self) -> bool:
        """Whether the signs of a title cannot be shown, and ASCII must do."""
        spoken = (os.environ.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
        if next(filter(None, spoken), "") in ("C", "POSIX"):
            return True
        if os.environ.get("TERM") == "linux" and self.on_terminal:  # its font has no ᵀ
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

    def take_input(self) -> Source:
        """All of standard input, for the one operand that reads it."""
        if self.taken:
            raise UsageError("standard input can be read for one operand only; name files")
        self.taken = True
        if self.stdin is None:
            raise DataError("standard input is closed")
        try:
            return Source("standard input", data=self.stdin.buffer.read())
        except OSError as fault:
            raise DataError(f"standard input: cannot be read: {fault.strerror}") from None

    def write(self, data: bytes) -> int:
        """Bytes to standard output, at once. Raises ReaderGone or WriteError."""
        if self.stdout is None:
            raise WriteError("standard output is closed")
        try:
            self.stdout.flush()
            self.stdout.buffer.write(data)
            self.stdout.buffer.flush()
            return len(data)
        except BrokenPipeError:
            self._forget_output()
            raise ReaderGone from None
        except OSError as fault:
            self._forget_output()
            raise WriteError(f"standard output: cannot be written: {fault.strerror}") from None

    def flush(self) -> None:
        """Nothing waits to be written; writers of archives ask for this all the same."""

    def settle(self) -> None:
        """Let go of what Typer's own output left behind, if nobody takes it."""
        if self.stdout is not None:
            try:
                self.stdout.flush()
            except (OSError, ValueError):
                self._forget_output()

    def report(self, message: str) -> None:
        """One line on standard error."""
        if self.stderr is not None:
            print(f"qkvcli: {message}", file=self.stderr)

    def _forget_output(self) -> None:
        """Send what is left in the buffer nowhere, or Python tries it again, loudly, at the end."""
        if self.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stdout.fileno())
