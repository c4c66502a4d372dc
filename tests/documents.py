"""The commands that the documents show, run; ``python -m tests.documents`` writes what they print.

A console block holds commands after ``$ ``, continued after ``> ``, and what each prints.
All commands of a document are run in one folder, in their order, as a reader does who follows
it: a clone, as far as they see, with ``sample_inputs`` in it.
"""

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from tests.conftest import ROOT, SAMPLES, environment

PAGES = sorted((ROOT / "qkvcli" / "help").glob("*.md"))
DOCUMENTS = (ROOT / "README.md", SAMPLES / "README.md", *PAGES)
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)


class Example(NamedTuple):
    """A command as a document shows it, its script, and what it is said to print."""

    typed: str
    script: str
    shown: str


def examples(block: str) -> list[Example]:
    """The commands of a block."""
    return [_example(part) for part in re.split(r"^\$ ", block, flags=re.M)[1:]]


def _example(part: str) -> Example:
    lines = part.splitlines()
    more = 1
    while more < len(lines) and lines[more].startswith("> "):
        more += 1
    script = "\n".join([lines[0], *(line[2:] for line in lines[1:more])])
    return Example("\n".join(lines[:more]), script, "\n".join(lines[more:]).strip("\n"))


def shown_in(document: Path) -> list[Example]:
    """All the commands that a document shows."""
    blocks = BLOCK.findall(document.read_text())
    return [example for block in blocks for example in examples(block)]


def printed(commands: list[Example], folder: Path) -> list[str]:
    """What commands print, run one after the other in an empty folder."""
    (folder / "sample_inputs").symlink_to(SAMPLES)
    programs = folder / "programs"
    programs.mkdir()
    for name, words in (("python3", ""), ("qkvcli", "-m qkvcli ")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        (programs / name).chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    modules = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environ = environment(PATH=path, PYTHONPATH=modules, TERM="xterm")
    outputs = []
    for example in commands:
        ended = subprocess.run(
            ["bash", "-c", f"set -e -o pipefail\n{example.script}"],
            capture_output=True,
            text=True,
            cwd=folder,
            env=environ,
        )
        assert (ended.stderr, ended.returncode) == ("", 0), example.typed
        outputs.append(ended.stdout.strip("\n"))
    return outputs


def _rewritten(document: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        outputs = iter(printed(shown_in(document), Path(folder)))

    def block(found: re.Match[str]) -> str:
        pairs = ((example.typed, next(outputs)) for example in examples(found[1]))
        parts = (f"$ {typed}\n" + (f"{out}\n" if out else "") for typed, out in pairs)
        return f"```console\n{''.join(parts)}```"

    return BLOCK.sub(block, document.read_text())


PICTURE = SAMPLES / "cat_sat_mat" / "terminal.svg"
"""The README's first picture: what `COMMAND` shows on a terminal with all colours."""
KEPT = SAMPLES / "cat_sat_mat" / "run.svg"
"""Its second: what the same command keeps as a picture."""
COMMAND = ("run", "--example", "cat")


def coloured() -> Text:
    """What the picture shows, with its colours."""
    words = [sys.executable, "-m", "qkvcli", *COMMAND, "--color", "always"]
    around = environment(COLORTERM="truecolor", COLUMNS="80", LINES="40")
    ended = subprocess.run(words, capture_output=True, text=True, env=around, check=True)
    return Text.from_ansi(ended.stdout.rstrip())


def drawn() -> str:
    """The picture, as SVG."""
    text = coloured()
    console = Console(width=78, file=io.StringIO(), record=True, force_terminal=True)
    console.print(text)
    return console.export_svg(title=f"qkvcli {' '.join(COMMAND)}", unique_id="qkvcli")


def kept(folder: Path) -> str:
    """The picture that the command keeps."""
    path = folder / KEPT.name
    words = [sys.executable, "-m", "qkvcli", *COMMAND, "--quiet", "-o", str(path)]
    subprocess.run(words, check=True, env=environment())
    return path.read_text()


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(_rewritten(document))
    PICTURE.write_text(drawn())
    with tempfile.TemporaryDirectory() as made:
        KEPT.write_text(kept(Path(made)))
