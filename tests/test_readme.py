"""The documents are true: their commands print what they show, and one names every option."""

import doctest
import re
import shutil
from pathlib import Path

import pytest

from qkvcli.cli.typer_app import program
from tests.conftest import ROOT, SAMPLES
from tests.documents import BLOCK, DOCUMENTS, PAGES, Example, examples, printed

README = (ROOT / "README.md").read_text()
HELP = ROOT / "qkvcli" / "help"


BLOCKS = [
    pytest.param(examples(block), id=f"{document.parent.name} {document.stem} {i}")
    for document in DOCUMENTS
    for i, block in enumerate(BLOCK.findall(document.read_text()))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_command_prints_what_is_shown(block: list[Example], tmp_path: Path) -> None:
    if not shutil.which("jq"):
        block = [example for example in block if "jq" not in example.script]
    assert printed(block, tmp_path) == [example.shown for example in block]


def test_every_sample_has_a_command() -> None:
    guide = (SAMPLES / "README.md").read_text()
    commands = " ".join(e.script for block in BLOCK.findall(guide) for e in examples(block))
    for folder in SAMPLES.iterdir():
        if folder.is_dir():
            assert folder.name in commands
            assert f"## {folder.name}/" in guide


def test_every_page_of_a_topic_has_a_transcript() -> None:
    for page in PAGES:
        text = page.read_text()
        assert BLOCK.search(text) or "```python" in text or page.stem == "options"


def test_python_in_the_documents_runs() -> None:
    parser, ran = doctest.DocTestParser(), set()
    for document in DOCUMENTS:
        shared: dict[str, object] = {}  # by the blocks of a document
        for block in re.findall(r"^```python\n(.*?)^```$", document.read_text(), re.M | re.S):
            case = parser.get_doctest(block, shared, document.stem, None, 0)
            assert doctest.DocTestRunner().run(case, clear_globs=False).failed == 0
            shared.update(case.globs)
            ran.add(document)
    assert HELP / "python.md" in ran


def test_every_option_stands_in_its_page_and_no_other() -> None:
    commands = program()
    known = {
        option
        for command in (commands, *commands.commands.values())
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("-")
    }
    rows = re.findall(r"^\| (`-.*?) \| ", (HELP / "options.md").read_text(), re.M)
    named = {option for row in rows for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", row)}
    assert known - {"--show-completion"} == named


def test_the_two_commands_stand_in_the_first_screen() -> None:
    [block] = re.findall(r"^```sh\n(.*?)^```$", README, re.M | re.S)
    assert README.index(block) < 1200
    first, second = block.splitlines()
    assert first.endswith(".venv/bin/qkvcli run")
    assert second.endswith(".venv/bin/pytest -n auto")
