"""The commands that the documents show, run; ``python -m tests.documents`` writes what they print.

A console block holds commands after ``$ ``, continued after ``> ``, and what each prints.
The commands of one block share a folder, with ``sample_inputs`` in it.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

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


def printed(block: list[Example], folder: Path) -> list[str]:
    """What the commands of a block print, run in an empty folder."""
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
    for example in block:
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


def _rewritten(found: re.Match[str]) -> str:
    block = examples(found[1])
    with tempfile.TemporaryDirectory() as folder:
        outputs = printed(block, Path(folder))
    pairs = zip(block, outputs, strict=True)
    parts = (f"$ {example.typed}\n" + (f"{out}\n" if out else "") for example, out in pairs)
    return f"```console\n{''.join(parts)}```"


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(BLOCK.sub(_rewritten, document.read_text()))
