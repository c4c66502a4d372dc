"""The documents are true: their commands print what they show, and one names every option."""

import doctest
import html
import re
import shutil
from pathlib import Path

import pytest

from qkvcli.cli.declare import typed
from qkvcli.cli.examples import EXAMPLES
from qkvcli.cli.typer_app import program
from qkvcli.core.config import NEEDS, ORDER, PRESETS
from tests.benchmarks.rows import ROWS
from tests.conftest import ROOT, SAMPLES
from tests.documents import (
    BLOCK,
    COMMAND,
    DOCUMENTS,
    KEPT,
    PAGES,
    PICTURE,
    coloured,
    kept,
    printed,
    shown_in,
)
from tests.layers import FAMILIES, PAGE

README = (ROOT / "README.md").read_text()
NOISE = re.compile(r"(?<=max )\d\.\de-\d\d( \(\d+ ulp\))?|(?<=\(to )\d\.\de-\d\d")
"""What rounding leaves between two right results: each processor's own."""
HELP = ROOT / "qkvcli" / "help"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_commands_print_what_is_shown(document: Path, tmp_path: Path) -> None:
    commands = shown_in(document)
    if not shutil.which("jq"):
        commands = [example for example in commands if "jq" not in example.script]
    outputs = printed(commands, tmp_path)
    for example, output in zip(commands, outputs, strict=True):
        assert NOISE.sub("…", output) == NOISE.sub("…", example.shown), example.typed


def test_the_picture_shows_what_the_program_shows() -> None:
    told = re.sub(r"<[^>]*>", "", re.sub(r"(?s)<(style|defs).*?</\1>", "", PICTURE.read_text()))
    shown = coloured().plain
    title = f"qkvcli {' '.join(COMMAND)}"
    assert "".join(html.unescape(told).split()) == "".join(f"{title} {shown}".split())


def test_the_picture_that_is_kept_is_the_program_s(tmp_path: Path) -> None:
    assert kept(tmp_path) == KEPT.read_text()


def test_every_sample_has_a_command() -> None:
    guide = (SAMPLES / "README.md").read_text()
    commands = " ".join(example.script for example in shown_in(SAMPLES / "README.md"))
    for folder in SAMPLES.iterdir():
        if folder.is_dir():
            names = {n for n, one in EXAMPLES.items() if folder.name in str(one.files.values())}
            assert folder.name in commands or any(f"--example {n}" in commands for n in names)
            assert f"## {folder.name}/" in guide


def test_every_page_of_a_topic_has_a_transcript() -> None:
    for page in PAGES:
        text = page.read_text()
        assert BLOCK.search(text) or "```python" in text or page.stem == "options"


def test_python_in_the_documents_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where sample_inputs is
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


def test_the_page_of_models_has_every_preset_and_what_it_needs() -> None:
    """Its lines are run: `tests.layers` reads them, and `tests/test_layer.py` has their numbers."""
    assert len(FAMILIES) == PAGE.read_text().count("| `--preset ")
    assert {family.preset for family in FAMILIES} == set(PRESETS) - {"article"}
    for family in FAMILIES:
        assert set(map(typed, NEEDS.get(family.preset, ()))) <= set(family.options)


def test_the_page_of_a_layer_has_every_step_in_its_order() -> None:
    rows = re.findall(r"^\| ([a-z_, ]+) \| .*`--", (HELP / "layer.md").read_text(), re.M)
    assert ", ".join(rows).split(", ") == list(ORDER)


def test_the_two_commands_stand_in_the_first_screen() -> None:
    [block] = re.findall(r"^```sh\n(.*?)^```$", README, re.M | re.S)
    assert README.index(block) < 1200
    first, second = block.splitlines()
    assert first.endswith(".venv/bin/qkvcli run")
    assert second.endswith(".venv/bin/pytest -n auto")


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "qkvcli/help/length.md"])
def test_what_was_measured_is_what_the_benchmarks_measure(name: str) -> None:
    document = (ROOT / name).read_text()
    table = document[document.index("| what | measured |") :].split("\n\n")[0]
    found = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]
    assert found == [row.what for row in ROWS]
