"""The installed program on a real terminal, in real pipes, and interrupted."""

import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import environment

pty: Any = pytest.importorskip("pty", reason="terminals are Unix's own here")
fcntl: Any = pytest.importorskip("fcntl")
termios: Any = pytest.importorskip("termios")

PROGRAM = [sys.executable, "-m", "qkvcli"]


def drained(leader: int) -> bytes:
    """All that is written to a terminal."""
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # Linux says so when the last writer has gone
            break
        if not part:
            break
        shown += part
    os.close(leader)
    return shown


def on_terminal(
    *words: str, columns: int = 80, lines: int = 24, **settings: str
) -> tuple[int, str, str]:
    """Run the program with a terminal for standard output; its code, output and errors."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    env = {**environment(TERM="xterm-256color"), **settings}
    process = subprocess.Popen(
        [*PROGRAM, *words], stdin=follower, stdout=follower, stderr=subprocess.PIPE, env=env
    )
    os.close(follower)
    shown = drained(leader)
    assert process.stderr is not None
    with process.stderr as stream:
        errors = stream.read().decode()
    return process.wait(), shown.decode().replace("\r\n", "\n"), errors


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_terminal_gets_tables_of_its_width(columns: int) -> None:
    code, shown, errors = on_terminal("output", "--seed", "42", columns=columns, NO_COLOR="1")
    assert (code, errors) == (0, "")
    assert shown.startswith("output = weights·V")
    assert columns - 10 < max(map(len, shown.splitlines())) <= columns
    assert "\x1b" not in shown


def test_a_terminal_gets_colour_unless_it_is_dumb() -> None:
    assert "\x1b[1mscores\x1b[0m = Q·Kᵀ" in on_terminal("run")[1]
    assert "\x1b" not in on_terminal("run", TERM="dumb")[1]


CELL = re.compile("\x1b\\[(1;)?38;5;(16|231);48;5;(\\d+)m([ *][\\d.]+)\x1b\\[0m")


def test_cells_have_heat_where_there_are_colours_enough() -> None:
    code, shown, errors = on_terminal("run", "--example", "cat")
    assert (code, errors) == (0, "")
    weights = shown.split("softmax(scores)")[1].split("output")[0]
    legend, _, _, first, second, *_ = weights.splitlines()[1:]
    assert re.sub("\x1b\\[[0-9;]*m", "", legend).split() == ["0", "0.7494"]
    cells = CELL.findall(second)
    assert [text.strip() for *_, text in cells] == (
        "0.0115 0.0851 *0.6291 0.0313 0.0115 0.2314".split()
    )
    assert [bold for bold, *_ in cells] == ["", "", "1;", "", "", ""]
    lightest = max(cells, key=lambda cell: 216 > int(cell[2]) > 16 and int(cell[2]))
    assert lightest[3] == "*0.6291"
    assert len({cell[2] for cell in CELL.findall(first)}) == 2  # equal weights, equal colours
    exact = on_terminal("softmax", "--example", "cat", COLORTERM="truecolor")[1]
    assert "\x1b[1;38;2;0;0;0;48;2;" in exact
    assert "48;" not in shown.split("output")[1]  # of what is no score and no weight


def test_heat_and_colour_as_asked_for() -> None:
    words = ("softmax", "--example", "gpt", "--head", "4")
    assert "48;5" in on_terminal(*words)[1]
    for more in (("--no-heat",), ("--color", "never")):
        assert "48;5" not in on_terminal(*words, *more)[1]
    assert "\x1b[1m" in on_terminal(*words, "--no-heat")[1]
    assert "\x1b" not in on_terminal(*words, "--color", "never")[1]
    for kind in ("linux", "xterm-16color", "vt220"):
        assert "48;" not in on_terminal(*words, TERM=kind)[1]
    assert "\x1b[2m  ·\x1b[0m" in re.sub(" +", "  ", on_terminal(*words)[1])
    piped = subprocess.run([*PROGRAM, *words, "-f", "table", "--color", "always"],
        capture_output=True, text=True, env=environment(TERM="xterm-256color"))  # fmt: skip
    assert piped.stdout == on_terminal(*words)[1]


def test_heat_without_colour_says_what_it_needs() -> None:
    words = [*PROGRAM, "run", "--heat"]
    ended = subprocess.run(words, capture_output=True, text=True, env=environment())
    note = "note: --heat needs a terminal of 256 colours; add --color always\n"
    assert (ended.returncode, ended.stderr) == (0, note)
    assert "\x1b" not in ended.stdout
    words += ["--color", "never"]
    ended = subprocess.run(words, capture_output=True, text=True, env=environment())
    said = "qkvcli: --heat needs colour, and --color never has none; leave one out\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", said)


def test_a_linux_console_gets_ascii() -> None:
    assert re.sub("\x1b\\[[0-9;]*m", "", on_terminal("run", TERM="linux")[1]).isascii()


def test_a_terminal_of_few_lines_gets_edges() -> None:
    _, shown, _ = on_terminal("scores", "--seed", "1", "--length", "30", lines=15, NO_COLOR="1")
    assert len(shown.splitlines()) < 15
    assert "\n29  " in shown


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_binary_is_refused_on_a_terminal(kind: str) -> None:
    code, shown, errors = on_terminal("run", "-f", kind)
    assert (code, shown) == (2, "")
    assert f"{kind} is binary, and not for a terminal; use -o FILE, or > FILE" in errors


def test_nothing_to_read_on_a_terminal_is_said_at_once() -> None:
    code, shown, errors = on_terminal("softmax")
    assert (code, shown) == (2, "")
    assert "no scores: pipe them in or name their file" in errors


@pytest.mark.parametrize("words", ["run --full", "scores --seed 1 --length 2000", "--help"])
def test_a_reader_that_leaves_ends_it_in_silence(words: str) -> None:
    command = f"set -o pipefail; {shlex.join(PROGRAM)} {words} | true"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, env=environment())
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_a_fault() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [*PROGRAM, "run"], stdout=full, stderr=subprocess.PIPE, text=True, env=environment()
        )
    said = "qkvcli: standard output: cannot be written: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (4, said)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_file_is_named(folder: Path) -> None:
    ended = subprocess.run(
        [*PROGRAM, "run", "--quiet", "-o", "/dev/full"], capture_output=True, env=environment()
    )
    said = b"qkvcli: /dev/full: cannot be written: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (4, said)
    name = "a" * 300 + ".csv"
    ended = subprocess.run(
        [*PROGRAM, "run", "--quiet", "-o", name], capture_output=True, env=environment()
    )
    assert (ended.returncode, name.encode() in ended.stderr) == (4, True)


def test_a_closed_output_is_a_fault() -> None:
    command = f"{shlex.join(PROGRAM)} run >&-"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, env=environment())
    assert (ended.returncode, ended.stderr) == (4, b"qkvcli: standard output is closed\n")


def test_an_interrupt_ends_it_with_130() -> None:
    process = subprocess.Popen(
        [*PROGRAM, "softmax", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    time.sleep(1)  # it waits for its input by now
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (130, b"")


def test_a_pipe_may_be_named_as_a_file() -> None:
    program = shlex.join(PROGRAM)
    command = f"{program} softmax <({program} scores --seed 42) --digits 3"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, env=environment())
    assert ended.stdout.startswith(b"0.017,0.546,")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_file(longer: list[str], folder: Path, number: int) -> None:
    words = ["softmax", *longer, "-o", "weights.npy", "--quiet"]  # 1.6 GB, which takes seconds
    process = subprocess.Popen([*PROGRAM, *words], stderr=subprocess.PIPE, env=environment())
    deadline = time.monotonic() + 20
    while not list(folder.glob(".weights.npy.*.part")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    sent = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate()
    assert time.monotonic() - sent < 3
    assert (process.returncode, errors.count(b"\n")) == (128 + number, 1)
    assert errors.startswith(b"note: weights.npy will have 1.6 GB: weights (20000, 20000)")
    assert sorted(path.name for path in folder.iterdir()) == ["k.npy", "q.npy", "v.npy"]


def test_long_work_shows_how_far_it_is(longer: list[str]) -> None:
    leader, follower = pty.openpty()
    impatient = "from qkvcli.cli import main, terminal; terminal._PATIENCE = 0; main()"
    words = [sys.executable, "-c", impatient, "output", *longer, "-o", "out.npy", "--quiet"]
    environ = environment(TERM="xterm", COLUMNS="80")
    process = subprocess.Popen(words, stderr=follower, env=environ)
    os.close(follower)
    shown = drained(leader)
    assert process.wait() == 0
    assert b"%" in shown
    quiet = subprocess.run(
        [*PROGRAM, "run", "--seed", "1", "--quiet"], capture_output=True, env=environment()
    )
    assert quiet.stderr == b""


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "json"])
def test_a_terminal_obeys_nothing_in_a_label(folder: Path, kind: str) -> None:
    label = "a\\u001b[31m\\u009bb\\u0007"
    Path("q.json").write_text(f'{{"q": {{"rows": ["{label}"], "data": [[1]]}}, "k": [[1]]}}')
    code, shown, errors = on_terminal("scores", "--qkv", "q.json", "-f", kind)
    assert (code, errors) == (0, "")
    assert "[31m" in shown
    assert not set(shown) & {"\x1b", "\x9b", "\x07"}


def test_an_error_breaks_at_words_in_a_narrow_terminal(folder: Path) -> None:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    words = [*PROGRAM, "run", "-q", "gone.csv", "-k", "gone.csv", "-v", "gone.csv"]
    process = subprocess.Popen(words, stderr=follower, env=environment())
    os.close(follower)
    shown = drained(leader).decode().split("\r\n")
    assert process.wait() == 3
    assert shown == ["qkvcli: gone.csv: cannot be read: No", "such file or directory", ""]


def test_a_byte_order_mark_stands_once() -> None:
    env = environment(PYTHONIOENCODING="utf-16")
    shown = subprocess.run([*PROGRAM, "run"], capture_output=True, env=env).stdout
    assert shown.count(b"\xff\xfe") == 1
    assert shown.decode("utf-16").startswith("scores = Q·Kᵀ")


@pytest.mark.parametrize("columns", ["99999999999999999999", "999999999", "-5", "x", "0"])
def test_odd_widths_of_a_terminal(columns: str) -> None:
    code, shown, errors = on_terminal("run", NO_COLOR="1", COLUMNS=columns)
    assert (code, errors) == (0, "")
    assert shown.startswith("scores = ")


def test_the_shell_completes_commands() -> None:
    environ = environment(_QKVCLI_COMPLETE="complete_bash", COMP_WORDS="qkvcli so", COMP_CWORD="1")
    ended = subprocess.run(PROGRAM, capture_output=True, text=True, env=environ)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "softmax\n", "")


def test_what_a_signal_cuts_short_says_nothing_more() -> None:
    code = """
import os, signal, sys
from qkvcli.cli.signals import Signals

class Cut:
    def __del__(self) -> None:
        raise KeyboardInterrupt

Signals(print).hear()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    Cut()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment())
    assert (ended.returncode, ended.stderr) == (0, b"")
