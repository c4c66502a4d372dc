"""All that surrounds one run of the program: its three streams, the terminal, the variables."""

import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
        self.noted: set[str] = set()
        self.asked_colour: str | None = None  # "always", "never", or as the terminal is

    @classmethod
    def of_process(cls) -> "Environment":
        """The process's own."""
        return cls(sys.stdin, sys.stdout, sys.stderr, os.environ)

    @contextmanager
    def blocking(self) -> Iterator[None]:
        """Wait for streams that would not make us wait, such as some pipes: nothing is lost then.

        The setting is shared with whoever else has the stream, and put back at the end.
        """
        changed = []
        for stream in (self.stdin, self.stdout, self.stderr):
            with suppress(AttributeError, OSError, ValueError):  # none, closed, or no file
                descriptor = stream.fileno()  # type: ignore[union-attr]
                if not os.get_blocking(descriptor):
                    os.set_blocking(descriptor, True)
                    changed.append(descriptor)
        try:
            yield
        finally:
            for descriptor in changed:
                with suppress(OSError):
                    os.set_blocking(descriptor, False)

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
        return self._size_of(self.stdout)

    def _size_of(self, stream: TextIO | None) -> tuple[int, int]:
        columns, lines = (self._number(name) for name in ("COLUMNS", "LINES"))
        if stream is not None and stream.isatty() and not (columns and lines):
            with suppress(OSError, ValueError):
                terminal = os.get_terminal_size(stream.fileno())
                columns, lines = columns or terminal.columns, lines or terminal.lines
        return columns or 80, lines or 24

    def _number(self, name: str) -> int:
        text = self.variables.get(name, "")
        return int(text) if text.isdecimal() and len(text) < 10 else 0

    @property
    def colour(self) -> bool:
        """Colour and bold: as asked for; else on a terminal that has them, without NO_COLOR."""
        if self.asked_colour in ("always", "never"):
            return self.asked_colour == "always"
        if self.variables.get("NO_COLOR"):
            return False
        capable = self.variables.get("TERM") not in ("dumb", "unknown")
        return bool(self.variables.get("FORCE_COLOR")) or (self.on_terminal and capable)

    @property
    def colours(self) -> str | None:
        """The colours that the terminal has, as Rich names them; None without any.

        COLORTERM tells of 2^24, which few terminals say in TERM; the names of TERM that have
        eight or sixteen alone are few.
        """
        if not self.colour:
            return None
        kind = self.variables.get("TERM", "")
        if self.variables.get("COLORTERM") in ("truecolor", "24bit") or kind.endswith("-direct"):
            return "truecolor"
        few = kind in ("linux", "ansi", "cygwin", "dumb") or kind.startswith(("vt", "xterm-16"))
        return "standard" if few else "256"

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
            from qkvcli.formats.source import whole

            return whole(self.stdin.buffer, "standard input")
        except OSError as fault:
            raise DataError(f"standard input: cannot be read: {fault.strerror}") from None

    def ignores_input(self, expected: bool) -> bool:
        """Whether standard input is a file or a pipe with something in it that nothing has read.

        Where a pipe is ``expected``, it may also be open and empty: what comes is late.
        """
        if self.taken or self.stdin is None:
            return False
        try:
            return _holds_more(self.stdin.fileno(), expected)
        except (ImportError, OSError, ValueError):  # closed, no file at all, or no Unix
            return False

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
        for stream in (self.stdout, self.stderr):
            try:
                if stream is not None:
                    stream.flush()
            except (OSError, ValueError):
                _forget(stream)

    def report(self, message: str) -> None:
        """Say on standard error what is wrong."""
        self._say(f"qkvcli: {message}")

    def note(self, message: str) -> None:
        """Say on standard error, once, what a person may not have meant."""
        if message not in self.noted:
            self.noted.add(message)
            self._say(f"note: {message}")

    def hint(self, commands: Sequence[str]) -> None:
        """Say on standard error, to a person, what to try; on a line each where one is too long."""
        if self.stderr is None or not self.watched:
            return
        columns, _ = self._size_of(self.stderr)
        line = f"try: {'   '.join(commands)}"
        if len(line) > columns:
            line = "\n".join(["try:", *(f"  {command}" for command in commands)])
        with suppress(OSError):
            print(f"\x1b[2m{line}\x1b[0m" if self.colour else line, file=self.stderr)

    def _say(self, message: str) -> None:
        """One line, without anything that a terminal would obey; a narrow one breaks at words."""
        if self.stderr is None:
            return
        from qkvcli.render.screen import printable

        line = printable(" ".join(message.splitlines()))
        if self.watched:
            from textwrap import fill

            columns, _ = self._size_of(self.stderr)
            line = fill(line, columns, break_long_words=False, break_on_hyphens=False)
        try:
            print(line, file=self.stderr)
        except OSError:  # nobody hears it; the exit code says it too
            _forget(self.stderr)

    def _forget_output(self) -> None:
        _forget(self.stdout)


def _forget(stream: TextIO | None) -> None:
    """Send what is left in the buffer nowhere, or Python tries it again, loudly, at the end."""
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _holds_more(descriptor: int, late: bool) -> bool:
    """Whether a file or a pipe has bytes to read; or, where those may be ``late``, will have."""
    kind = os.fstat(descriptor)
    if stat.S_ISREG(kind.st_mode):  # where some of it has been read, a loop reads the rest
        return os.lseek(descriptor, 0, os.SEEK_CUR) == 0 < kind.st_size
    if not stat.S_ISFIFO(kind.st_mode):
        return False
    from fcntl import ioctl
    from select import POLLHUP, POLLIN, poll
    from struct import unpack
    from termios import FIONREAD

    [waiting] = unpack("i", ioctl(descriptor, FIONREAD, bytes(4)))
    if waiting or not late:
        return bool(waiting)
    writers = poll()
    writers.register(descriptor, POLLIN)
    return not any(event & POLLHUP for _, event in writers.poll(0))
