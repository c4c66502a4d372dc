"""Help: in brief and in full, its pages, completion, and what is said of a slip of the pen."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from qkvcli.cli import completion, options
from qkvcli.cli.commands import COMMANDS, OPTIONS
from qkvcli.cli.declare import ENDINGS, READ
from qkvcli.cli.examples import EXAMPLES
from qkvcli.cli.pages import Page, pages
from qkvcli.cli.typer_app import program
from qkvcli.core.config import PRESETS
from qkvcli.formats.registry import COMPRESSED, FORMATS, ONLY_READ, PAGES, PICTURES
from tests.conftest import ROOT, Program, environment
from tests.test_terminal import on_terminal

PROGRAM = [sys.executable, "-m", "qkvcli"]
TOPICS = [page.name for page in pages()]
HELPS = [
    ["-h"],
    ["--help"],
    ["help"],
    *([command, flag] for command in COMMANDS for flag in ("-h", "--help")),
    *(["help", topic] for topic in TOPICS),
]
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def squeezed(text: str) -> str:
    """The text without its white space and the marks that continue a line."""
    return re.sub(r"\s+|\\$", "", text, flags=re.M)


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_help_fits_any_terminal_and_nothing_is_cut(
    qkv: Program, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    for columns in (40, 60, 69, 70, 80, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        shown = qkv(*words)
        assert (shown.code, shown.err) == (0, "")
        assert max(map(cell_len, shown.out.splitlines())) <= columns
        assert "\x1b" not in shown.out


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("command", COMMANDS)
def test_full_help_has_every_name_whole(
    qkv: Program, monkeypatch: pytest.MonkeyPatch, command: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = qkv(command, "--help").out
    for option in COMMANDS[command].options.values():
        assert re.search(rf"^  {re.escape(option.signature)}(  |$)", shown, re.M)
        assert squeezed(option.help) in squeezed(shown)
        assert option.panel in shown
    for word in (*EXAMPLES, *PRESETS) if "preset" in COMMANDS[command].options else ():
        assert re.search(rf"^  {word}(  |$)", shown, re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_narrow_terminal_gets_descriptions_under_names(
    qkv: Program, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "69")
    assert "\n  --width N\n      Columns" in qkv(command, "--help").out
    monkeypatch.setenv("COLUMNS", "70")
    assert re.search(r"\n  --width N +Columns", qkv(command, "--help").out)


@pytest.mark.parametrize("command", COMMANDS)
def test_brief_help_is_short_and_says_where_there_is_more(qkv: Program, command: str) -> None:
    brief, full = (qkv(command, flag).out for flag in ("-h", "--help"))
    assert len(brief.splitlines()) < 45
    assert len(brief) < len(full) or command == "help"
    for formula, _ in COMMANDS[command].formulas:
        assert formula in brief
    assert brief.count("\n  qkvcli ") == 3  # the examples
    last = brief.splitlines()[-1]
    page = COMMANDS[command].page
    assert last == f"All options: qkvcli {command} --help. To read on: qkvcli help {page}"
    assert page in TOPICS


def test_help_on_the_program_names_what_there_is(qkv: Program) -> None:
    brief, full = qkv("-h").out, qkv("--help").out
    for command in COMMANDS.values():
        assert f"\n  {command.name} " in brief
    assert brief.count("\n  qkvcli ") == 3
    for topic in TOPICS:
        assert f"\n  {topic} " in full
        assert f"\n  {topic} " not in brief
    declared = {name for parameter in program().params for name in parameter.opts}
    shown = set(re.findall(r"^  (--?[\w-]+)", full, re.M))
    assert shown == declared


def test_help_is_shown_whatever_else_stands_on_the_line(qkv: Program) -> None:
    full = qkv("run", "--help").out
    for line in ("run --seed x --help", "run extra --help", "run --no-causal --help -q gone.csv"):
        assert qkv(*line.split()).out == full
    assert qkv("--help", "run").out == qkv("--help").out


def test_help_on_a_terminal_has_colour_and_fits() -> None:
    for words in (["-h"], ["run", "--help"], ["help", "masks"]):
        code, shown, errors = on_terminal(*words, columns=48)
        assert (code, errors) == (0, "")
        assert "\x1b[1m" in shown
        assert max(map(cell_len, ESCAPE.sub("", shown).splitlines())) <= 48
        assert "\x1b" not in on_terminal(*words, NO_COLOR="1")[1]


def test_help_in_ascii(qkv: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    for words in HELPS:
        shown = qkv(*words).data
        assert shown.isascii()
        # question marks that are meant
        ours = (b"$?", b"numbers?", b"rms?", b",?", b"or ?", b"(? ", b"file?", b", ? one")
        assert sum(map(shown.count, ours)) == shown.count(b"?")


def test_help_obeys_color_and_width(qkv: Program) -> None:
    assert "\x1b[" in qkv("help", "masks", "--color", "always").out
    assert "\x1b[" in qkv("help", "--color", "always").out
    for words in (["help"], ["help", "masks"], ["help", "run"]):
        lines = qkv(*words, "--width", 50).out.splitlines()
        assert 40 < max(map(cell_len, lines)) <= 50


def test_prose_is_no_wider_than_a_person_reads(
    qkv: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for words in HELPS:
        assert max(map(cell_len, qkv(*words).out.splitlines())) <= 100


def test_topics_are_listed_a_line_each(qkv: Program) -> None:
    shown = qkv("help").out
    for page in pages():
        assert re.search(rf"^  {page.name} +{re.escape(page.title)}$", shown, re.M)
    assert len(pages()) >= 9


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("columns", [40, 80])
def test_a_page_shows_all_of_its_words(
    qkv: Program, monkeypatch: pytest.MonkeyPatch, topic: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = squeezed(qkv("help", topic).out)
    page = next(page for page in pages() if page.name == topic)
    words = re.sub(r"^```\w*$|^\|[-|]+$|\]\([^)]*\)", "", page.text, flags=re.M)
    for word in re.findall(r"[\w=.…·-]{2,}", words):
        plain = word.strip("_")
        assert plain in shown


def test_a_wide_table_wraps_and_a_wider_one_is_stacked(
    qkv: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = qkv("help", "models").out.splitlines()
    [head] = [line for line in lines if line.startswith("here ")]
    assert re.fullmatch(r"here +ONNX Attention +scaled_dot_product_attention", head)
    monkeypatch.setenv("COLUMNS", "40")
    lines = qkv("help", "models").out.splitlines()
    start = lines.index("--softcap C")
    assert lines[start + 1] == "  ONNX Attention: softcap"
    assert any(line.endswith(" \\") for line in lines)  # a command goes on


def test_a_page_is_short_and_begins_with_its_title() -> None:
    for page in pages():
        assert page.text.startswith(f"# {page.title}\n\n")
        assert len(page.text.splitlines()) <= 150


def test_links_lead_to_pages() -> None:
    for document in (ROOT / "README.md", *(page.path for page in pages())):
        for target in re.findall(r"\]\(((?!http)[^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), (document, target)
    readme = (ROOT / "README.md").read_text()
    assert {f"[{topic}](qkvcli/help/{topic}.md)" in readme for topic in TOPICS} == {True}


def test_a_new_file_is_a_new_topic(
    qkv: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new-page.md").write_text("# Something new\n\nIts text.\n")
    monkeypatch.setattr("qkvcli.cli.pages._FOLDER", tmp_path)
    assert "  new-page  Something new\n" in qkv("help").out
    assert qkv("help", "new", "page").out == "Something new\n\nIts text.\n"
    assert pages() == [Page("new-page", tmp_path / "new-page.md")]


def test_help_on_a_command_is_its_full_help(qkv: Program) -> None:
    for command in COMMANDS:
        assert qkv("help", command).out == qkv(command, "--help").out


def test_a_topic_of_two_words(qkv: Program) -> None:
    shown = qkv("help", "exit-codes")
    assert shown.out.startswith("What an exit code tells a script\n")
    for words in (["exit", "codes"], ["Exit Codes"]):
        assert qkv("help", *words) == shown


@pytest.mark.parametrize(
    ("word", "topic"),
    [("rope", "layer"), ("qwen3", "models"), ("gpt-oss", "models"), ("article", "attention")],
)
def test_a_word_leads_to_the_page_that_speaks_of_it(qkv: Program, word: str, topic: str) -> None:
    assert qkv("help", word).out == qkv("help", topic).out


SAID = {
    "weights": "there is no command 'weights'; the weights are shown by qkvcli softmax",
    "wieghts": "there is no command 'wieghts'; the weights are shown by qkvcli softmax",
    "attention": "there is no command 'attention'; attention is computed by qkvcli run, "
    "and explained by qkvcli help attention",
    "heatmap": "there is no command 'heatmap'; a heatmap is a format: qkvcli softmax -f heatmap",
    "heat": "there is no command 'heat'; colour by value is an option: qkvcli softmax --heat",
    "top": "there is no command 'top'; the keys that weigh most are shown by "
    "qkvcli softmax --top 3",
    "show": "there is no command 'show'; steps are chosen by an option: "
    "qkvcli run --show weights,output",
    "query": "there is no command 'query'; query is shown by qkvcli run --show query",
    "masked --causal": "there is no command 'masked'; the scores on their way to the softmax "
    "are shown by qkvcli scores --causal",
    "version": "there is no command 'version'; the version is shown by qkvcli --version",
    "masks": "there is no command 'masks'; there is a page on it: qkvcli help masks",
    "Sofmax": "there is no command 'Sofmax'; did you mean softmax?",
    "xyz": f"there is no command 'xyz'; the commands are {', '.join(COMMANDS)}",
    "run --preset brt": "Invalid value for '--preset': 'brt' is not one of "
    f"{', '.join(PRESETS)}; did you mean bert?",
    "run --lenght 3": "No such option: --lenght. Did you mean --length?",
    "run --heads": "Option '--heads' requires an argument.",
    "scores --top 3": "scores has no option --top; those that have it: softmax, run",
    "--top 3 softmax": "--top belongs after a command, as in qkvcli softmax --top",
    "run -x": "No such option: -x",
    "run cat.csv": "Got unexpected extra argument(s) (cat.csv); files are named by options, "
    "such as -q FILE",
    "help a b c": "Got unexpected extra argument(s) (c)",
    "explain": "Missing argument 'QUERY'; for example qkvcli explain cat sat --example cat",
    "help atention": "there is no help on 'atention'; did you mean attention?",
    "help sofmax": "there is no help on 'sofmax'; did you mean softmax?",
    "help kv heads": "there is no help on 'kv-heads'; the option --kv-heads is explained by "
    "qkvcli help options",
    "help xyz": f"there is no help on 'xyz'; the topics are {', '.join((*TOPICS, *COMMANDS))}",
}


@pytest.mark.parametrize("line", SAID)
def test_a_slip_is_met_with_what_is_meant(qkv: Program, line: str) -> None:
    said = qkv(*line.split())
    assert (said.code, said.out, said.err) == (2, "", f"qkvcli: {SAID[line]}\n")


NEAREST = {
    "run --show weights,ouput": "output",
    "run -f tabel": "table",
    "run --color nver": "never",
    "run --example trnslation": "translation",
    "run --dtype float23": "float32",
}


@pytest.mark.parametrize(("line", "meant"), NEAREST.items())
def test_a_slip_in_a_value_is_met_with_the_nearest(qkv: Program, line: str, meant: str) -> None:
    said = qkv(*line.split())
    assert said.code == 2
    assert said.err.endswith(f"; did you mean {meant}?\n")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("word", ["key", "value", "scaled", "capped", "example", "examples"])
def test_what_is_said_of_a_word_is_a_command_that_exists(qkv: Program, word: str) -> None:
    said = qkv(word)
    assert said.code == 2
    [command] = re.findall(r"qkvcli (\w+) --", said.err)
    assert command in COMMANDS


def complete(*words: str, shell: str = "bash") -> list[str]:
    """What the installed program offers for the last word."""
    settings = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    settings |= {"_TYPER_COMPLETE_ARGS": " ".join(words)}
    settings |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    environ = environment(_QKVCLI_COMPLETE=f"complete_{shell}", **settings)
    ended = subprocess.run(PROGRAM, capture_output=True, text=True, env=environ)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.strip().splitlines()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("qkvcli run --preset ", " ".join(PRESETS)),
        ("qkvcli run --preset b", "bert bloom"),
        ("qkvcli softmax -f t", "table tsv txt"),
        ("qkvcli run --example t", "translation tensorflow"),
        ("qkvcli scores --dtype ", "float16 bfloat16 float32 float64"),
        ("qkvcli help --color ", "auto always never"),
        ("qkvcli run --show ou", "output"),
        ("qkvcli run --show weights,o", "weights,output"),
        ("qkvcli run --show output,weights,s", "output,weights,scores output,weights,scaled"),
        ("qkvcli help m", "masks models"),
        ("qkvcli help ex", "exit-codes explain"),
        ("qkvcli e", "explain"),
        ("qkvcli run --past-", "--past-key --past-value"),
        ("qkvcli run --preset=ge", "gemma gemma2 gemma3"),
        ("qkvcli run --preset = gpt-", "gpt-oss gpt-j gpt-neox"),  # as bash parts it
        ("qkvcli run --dtype =", "float16 bfloat16 float32 float64"),
        ("qkvcli run --seed ", ""),
    ],
)
def test_a_shell_completes_words(line: str, offered: str) -> None:
    assert complete(*line.split(" ")) == offered.split()


def test_a_shell_completes_files_by_their_ending(folder: Path) -> None:
    for name in ("q.csv", "q.npy", "q.md", "q.py", "QQ.NPZ", ".q.csv", "q q.csv"):
        Path(name).touch()
    Path("data/deep").mkdir(parents=True)
    for name in ("k.tsv", "notes.pdf"):
        (Path("data/deep") / name).touch()
    assert complete("qkvcli", "run", "-q", "q") == ["q.csv", "q.npy"]
    assert complete("qkvcli", "run", "-o", "q") == ["q.csv", "q.md", "q.npy"]
    assert complete("qkvcli", "softmax", "Q") == ["QQ.NPZ"]
    assert complete("qkvcli", "run", "-k", "da") == ["data/", "data/deep/", "data/deep/k.tsv"]
    assert complete("qkvcli", "run", "-k", "") == ["QQ.NPZ", "data/", "q.csv", "q.npy"]
    assert complete("qkvcli", "run", "-k", "gone/") == []
    assert complete("qkvcli", "run", "--mask", ".q") == [".q.csv"]


def test_files_in_a_persons_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "q.csv").touch()
    monkeypatch.setenv("HOME", str(folder))
    assert complete("qkvcli", "run", "-q", "~/q") == ["~/q.csv"]


def test_zsh_and_fish_are_told_what_a_word_means() -> None:
    zsh = "\n".join(complete("qkvcli", "run", "--preset", "b", shell="zsh"))
    assert '"bert":"--scale sqrt; BERT' in zsh
    fish = complete("qkvcli", "help", "mas", shell="fish")
    assert fish == ["masks\tWhich keys a query may see"]
    assert complete("qkvcli", "run", "--seed", "1", shell="zsh") == ["_files"]


def test_fish_completes_files_where_nothing_is_known() -> None:
    """Its exit code says so."""
    for words, code in (("qkvcli run --example c", 0), ("qkvcli run --seed 4", 1)):
        settings = {"_TYPER_COMPLETE_FISH_ACTION": "is-args", "_TYPER_COMPLETE_ARGS": words}
        environ = environment(_QKVCLI_COMPLETE="complete_fish", **settings)
        ended = subprocess.run(PROGRAM, capture_output=True, env=environ)
        assert (ended.returncode, ended.stderr) == (code, b"")


def test_every_option_with_words_or_files_is_completed() -> None:
    for option in OPTIONS.values():
        known = option.words or option.metavar == "FILE"
        assert (completion.of_option(option) is not None) == bool(known)


def test_the_endings_are_those_of_the_formats() -> None:
    assert set(ENDINGS) == {*(f".{name}" for name in FORMATS), *COMPRESSED}
    assert set(READ) == {*ENDINGS, *ONLY_READ}
    assert set(OPTIONS["output"].endings) == {*ENDINGS, ".md", ".svg", ".html"}
    assert set(OPTIONS["output"].endings) <= {*ENDINGS, *PAGES}
    assert set(options.SHOWN_AS) == {*FORMATS, *PAGES.values(), "table", "heatmap"} - {
        *PICTURES,
        "safetensors",
    }


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_for_a_shell_can_be_shown(shell: str) -> None:
    environ = environment(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    words = [*PROGRAM, "--show-completion", shell]
    ended = subprocess.run(words, capture_output=True, text=True, env=environ)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"_QKVCLI_COMPLETE=complete_{shell}" in ended.stdout


def on_terminals(*words: str, columns: int = 80, **settings: str) -> str:
    """What a person sees of output and errors, on a terminal for both."""
    line = f"stty cols {columns}; {shlex.join(PROGRAM)} {' '.join(words)}"
    code = f"import pty; pty.spawn({['sh', '-c', line]!r})"
    environ = environment(TERM="xterm-256color", **settings)
    ended = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, env=environ
    )
    return ended.stdout.decode().replace("\r\n", "\n")


HINT = "try: qkvcli explain cat sat --example cat   qkvcli help attention"


def test_the_first_run_on_a_terminal_says_what_to_try() -> None:
    shown = on_terminals("run")
    assert shown.endswith(f"\x1b[2m{HINT}\x1b[0m\n")
    assert on_terminals("run", NO_COLOR="1").endswith(f"\n{HINT}\n")
    narrow = on_terminals("run", columns=60, NO_COLOR="1")
    assert narrow.endswith("\ntry:\n" + "".join(f"  {c}\n" for c in HINT[5:].split("   ")))


@pytest.mark.parametrize("words", ["run --quiet", "run --seed 42", "scores", "run --digits 2"])
def test_no_other_run_does(words: str) -> None:
    assert "try:" not in on_terminals(*words.split(), NO_COLOR="1")


def test_no_hint_reaches_standard_output(qkv: Program) -> None:
    assert "try:" not in on_terminal("run")[1]
    shown = qkv("run")
    assert "try:" not in shown.out + shown.err
    code = on_terminals("run", "2>/dev/null")
    assert "try:" not in code
    assert "output" in code


def test_pages_are_in_the_package() -> None:
    folder = Path(sys.modules["qkvcli"].__file__ or "").parent / "help"
    assert {path.stem for path in folder.glob("*.md")} == set(TOPICS)
    assert os.path.commonpath([folder, ROOT]) == str(ROOT)


@pytest.mark.parametrize("words", ["-h", "--help", "run -h", "help", "--version"])
def test_help_is_shown_without_numpy(words: str) -> None:
    """NumPy takes longer to import than help takes to show."""
    script = (
        "import sys; from qkvcli.cli import main; sys.argv[1:] = sys.argv[1].split()\n"
        "try: main()\nexcept SystemExit: pass\nassert 'numpy' not in sys.modules"
    )
    command = [sys.executable, "-c", script, words]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert (ended.returncode, ended.stderr) == (0, "")


LATER = {
    "rich.progress": "long work",
    "concurrent.futures": "long work",
    "qkvcli.core.blocks": "long work",
    "qkvcli.spreading": "other machines",
    "pathlib": "files",
    "qkvcli.formats.members": "files",
    "qkvcli.cli.opened": "files",
    "qkvcli.cli.pages": "help",
    "typer": "help",
}
"""What a line that names no file does without, and what needs it."""


@pytest.mark.parametrize("words", ["run", "run -f csv", "scores --causal --scale sqrt"])
def test_a_bare_line_imports_nothing_that_it_does_not_use(words: str) -> None:
    """Beside what NumPy has imported, which differs by its version."""
    script = (
        "import sys, numpy, numpy.random; before = set(sys.modules)\n"
        "from qkvcli.cli import main; sys.argv[1:] = sys.argv[1].split()\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*set(sys.modules) - before, file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, words]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert ended.returncode == 0
    assert "qkvcli.cli.delivery" in ended.stderr.split()
    assert not LATER.keys() & set(ended.stderr.split())


def test_the_end_looks_through_nothing_for_garbage() -> None:
    """And who goes on after it finds the collector as it was."""
    script = (
        "import gc, sys; from qkvcli.cli import main; sys.argv[1:] = ['run']\n"
        "usual = gc.get_threshold()\n"
        "try: main()\nexcept SystemExit: pass\n"
        "assert gc.isenabled() and gc.get_threshold() == usual\n"
        "assert gc.get_freeze_count() > 10_000"
    )
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("command", ["scores", "softmax", "output", "run", "explain 0"])
def test_a_file_that_is_not_there_is_said_first(qkv: Program, command: str) -> None:
    said = qkv(*command.split(), "-q", "nofile.csv")
    assert said.code == 3
    assert said.err == "qkvcli: nofile.csv: cannot be read: No such file or directory\n"
