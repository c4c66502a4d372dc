"""The README is true: its commands print what it shows, and it names every option."""

import doctest
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer

from qkvcli.cli.app import app
from tests.conftest import ROOT, SAMPLES, environment

README = (ROOT / "README.md").read_text()


class Example(NamedTuple):
    """A command as a document shows it, and what it is said to print."""

    command: str
    shown: str


def examples(text: str) -> Iterator[list[Example]]:
    """The console blocks of a document; the commands of one block share a folder."""
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.M | re.S):
        parts = re.split(r"^\$ ", block, flags=re.M)[1:]
        yield [_example(part) for part in parts]


def _example(part: str) -> Example:
    lines = part.splitlines()
    more = 1
    while more < len(lines) and lines[more].startswith("> "):
        more += 1
    command = "\n".join([lines[0], *(line[2:] for line in lines[1:more])])
    return Example(command, "\n".join(lines[more:]).strip())


DOCUMENTS = {"README": README, "sample_inputs": (SAMPLES / "README.md").read_text()}
BLOCKS = [
    pytest.param(block, id=f"{name} {block[0].command[:40]}")
    for name, text in DOCUMENTS.items()
    for block in examples(text)
]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_command_prints_what_is_shown(block: list[Example], tmp_path: Path) -> None:
    if any("jq" in example.command for example in block) and not shutil.which("jq"):
        block = [example for example in block if "jq" not in example.command]
    (tmp_path / "sample_inputs").symlink_to(SAMPLES)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, words in (("python3", ""), ("qkvcli", "-m qkvcli ")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        (programs / name).chmod(0o755)
    environ = environment(
        PATH=f"{programs}:{os.environ['PATH']}",
        PYTHONPATH=str(ROOT),
        TERM="xterm",
    )
    for example in block:
        ended = subprocess.run(
            ["bash", "-c", f"set -e -o pipefail\n{example.command}"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environ,
        )
        assert (ended.stderr, ended.returncode) == ("", 0)
        assert ended.stdout.strip() == example.shown


def test_every_sample_has_a_command() -> None:
    commands = " ".join(e.command for b in examples(DOCUMENTS["sample_inputs"]) for e in b)
    for folder in SAMPLES.iterdir():
        if folder.is_dir():
            assert folder.name in commands
            assert f"## {folder.name}/" in DOCUMENTS["sample_inputs"]


def test_python_in_the_readme_runs() -> None:
    parser = doctest.DocTestParser()
    for block in re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S):
        case = parser.get_doctest(block, {}, "README", None, 0)
        assert doctest.DocTestRunner().run(case).failed == 0


def test_every_option_stands_in_the_readme_and_no_other() -> None:
    commands = typer.main.get_command(app)
    assert isinstance(commands, typer.core.TyperGroup)
    known = {
        option
        for command in (commands, *commands.commands.values())
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("-")
    }
    tables = README[README.index("## Commands") : README.index("## Formats")]
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", tables))
    assert known - {"--show-completion"} == named - {"--help"}


def test_the_two_commands_stand_in_the_first_screen() -> None:
    [block] = re.findall(r"^```sh\n(.*?)^```$", README, re.M | re.S)
    assert README.index(block) < 1200
    assert [line.split()[-1] for line in block.splitlines()] == ["run", ".venv/bin/pytest"]
