"""Command lines mean the same whether Typer reads them or the reader of plain lines does."""

import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qkvcli
from qkvcli.cli import plain, typer_app
from qkvcli.cli.commands import COMMANDS, GROUPS, OPTIONS, Line
from qkvcli.cli.declare import declared
from qkvcli.core.config import AttentionConfig
from qkvcli.core.operands import ACTS_ON, ALONE, PARTS
from qkvcli.errors import UsageError
from tests.conftest import Program

LINES = [
    "run",
    "scores --seed 42 --length 3 --dim=4 --key-length 5 --value-dim 6",
    "run -q a.csv -k b.npy -v - --scale sqrt --causal",
    "run -q a.csv --scale -0.5 --no-causal --causal",
    "softmax",
    "softmax -",
    "softmax scores.csv --softcap 3 --window 2,none --offset -3",
    "output w.npz -v v.npy --heads 4 --kv-heads 2 --head 1,3 --batch 0",
    "run --labels 'The cat sat' --key-labels '' --rows 0:3,-2: --format=csv",
    "run --seed 1 --seed 2",
    "run --example cat --show query,weights --top 3 --heat --no-heat --color always",
    "explain cat",
    "explain cat the#2 --scores s.csv -v v.csv --head 0:2,6 --batch all",
    "help exit codes --width 40",
    "run --expect mine.npz:weights --expect-dtype bfloat16 --rtol 1e-3 --ulp 2 --follow",
    "run --seed 1 -o weights.svg --theme dark",
    "run --embeddings x.npy --wo wo.npy --rope 10000 --rope-pairs half --q-norm q.npy --no-alibi",
]
LEFT = [
    "",
    "scors",
    "run extra",
    "explain",
    "explain a b c",
    "explain cat --rows 3",
    "run --scores s.csv",
    "scores --top 3",
    "run --head 1:x",
    "softmax a b",
    "run --seed",
    "run --seed x",
    "run --lenght 3",
    "run --causal=yes",
    "run -fcsv",
    "run -- x",
    "--version run",
    "--help run",
    "run --seed x --help",
    "explain",
    "help a b c",
    "help --seed 1",
]
HELPS = ["-h", "--help", "run --help", "run -h", "softmax s.csv -h --help", "explain --help"]
TEXTS = {
    "FILE": ["q.csv", "-", "a b.npy", "x=y", "é.json"],
    "N": ["0", "1", "64", "007", "-3", "+2"],
    "NAME": ["gpt", "bert", "cat", "article"],
    "NUMBER": ["sqrt", "none", "0.5", "-1e3", ".5"],
    "C": ["30", "1e-3"],
    "LEFT[,RIGHT]": ["4", "1,2", "none,3", " 1 , 2"],
    "N[,N…]": ["0", "1,2", "3, 4"],
    "HEADS": ["0", "1,2", "3, 4", "0:3", "all", "::2,-1:"],
    "BATCHES": ["0", "1:"],
    "NAMES": ["query,weights", "all", " scaled , output"],
    "WHEN": ["always", "auto"],
    "TYPE": ["float16", "float64", "bfloat16"],
    "R": ["0", "1e-3"],
    "A": ["0.5", "-1"],
    "THEME": ["light", "dark"],
    "ADDRESS": ["local:2", "tcp://host:8786", "[::1]:8786", "local:0", "host"],
    "BASE": ["10000", "5e5", "-1"],
    "PAIRS": ["half", "interleaved"],
    "KIND": ["rms", "layer"],
    "LAYOUT": ["hld", "l(hd)", "3hld", "lh"],
    "E": ["1e-6", "0"],
    "TEXT": ["The cat", "", "  a\tb ", "--seed"],
    "ROWS": ["0:3", "cat,-1", "::2"],
    "FORMAT": ["csv", "json", "table"],
}


@st.composite
def lines(draw: Any) -> list[str]:
    """A command with any of its options, spelt in any of the ways, right and wrong."""
    command = draw(st.sampled_from(sorted(COMMANDS)))
    words = [command]
    options = list(COMMANDS[command].options.values()) * 3 + list(OPTIONS.values())
    for option in draw(st.lists(st.sampled_from(options), max_size=5)):
        name = draw(st.sampled_from(option.names))
        if option.read is None:
            words.append(name)
            continue
        text = draw(st.sampled_from(TEXTS[option.metavar or ""]) | st.text(max_size=4))
        glued = name.startswith("--") and draw(st.booleans())
        words += [f"{name}={text}"] if glued else [name, text]
    for _ in range(draw(st.integers(0, 2))):
        more = draw(st.sampled_from(["-", "s.csv", "x", "-h", "--help"]))
        words.insert(draw(st.integers(1, len(words))), more)
    return words


def by_typer(words: list[str]) -> Any:
    """What Typer makes of a line; None where it finds a fault."""
    try:
        return typer_app.read(words)
    except UsageError:
        return None


@given(lines())
def test_any_line_is_read_the_same_way(words: list[str]) -> None:
    line = plain.read(words)
    if line is not None:
        assert line == by_typer(words)


@pytest.mark.parametrize("line", LINES)
def test_plain_lines_need_no_typer(line: str) -> None:
    words = shlex.split(line)
    read = plain.read(words)
    assert isinstance(read, Line)
    assert read == by_typer(words)


@pytest.mark.parametrize("line", HELPS)
def test_help_needs_no_typer(line: str) -> None:
    words = shlex.split(line)
    read = plain.read(words)
    assert isinstance(read, plain.Help)
    assert read == by_typer(words)


@pytest.mark.parametrize("line", LEFT)
def test_what_is_not_plain_is_left_to_typer(line: str) -> None:
    assert plain.read(shlex.split(line)) is None


def test_an_option_with_every_kind_of_value_is_tried_above() -> None:
    assert {option.metavar for option in OPTIONS.values() if option.read} == set(TEXTS)


def test_the_version_needs_no_typer_either(qkv: Program) -> None:
    assert isinstance(plain.read(["--version"]), plain.Version)
    shown = [qkv("--version").out for _ in range(2)]  # by one reader, and by the other
    assert shown == [f"qkvcli {qkvcli.__version__}\n"] * 2


def test_every_option_says_which_steps_it_acts_on() -> None:
    """So that none is taken, and ignored, beside a step that comes after it."""
    sources, attention, *_ = (set(declared(group)) for group in GROUPS)
    config = {field.name for field in fields(AttentionConfig)}
    assert all(field.metadata["acts_on"] for field in fields(AttentionConfig))
    norms = {"q_norm", "k_norm", "q_norm_bias", "k_norm_bias"}
    alone = set(ALONE) - {"scores", "weights"}
    assert attention == config | {"preset"} | norms | alone
    parts = {part for name in PARTS for part in (name, *PARTS[name].values())}
    assert parts | alone == set(ACTS_ON)
    drawn = {"seed", "length", "dim", "key_length", "value_dim"}
    whole = {"qkv", "embeddings", "example", "scores"}
    more = {"labels", "key_labels", "layout", "header", "index"}
    assert sources == parts - norms | drawn | whole | more


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("output - -v v.csv --scale 2", "scale"),
        ("output - -v v.csv --softcap 2", "softcap"),
        ("output - -v v.csv --causal", "causal"),
        ("output - -v v.csv --window 2", "window"),
        ("output - -v v.csv --offset 2", "offset"),
        ("output - -v v.csv --valid-length 2", "valid length"),
        ("output - -v v.csv --mask v.csv", "mask"),
        ("output - -v v.csv --softmax-dtype float16", "softmax dtype"),
        ("output - -v v.csv -q v.csv", "--query"),
        ("output - -v v.csv --wk v.csv", "--wk"),
        ("output - -v v.csv --past-key v.csv", "--past-key"),
        ("softmax - --heads 2", "heads"),
        ("softmax - -k v.csv", "--key"),
        ("softmax - --bq v.csv", "--bq"),
        ("softmax scaled.json --scale 2", "scale"),
    ],
)
def test_what_comes_too_late_is_said_in_one_way(
    qkv: Program, folder: Path, line: str, option: str
) -> None:
    command, operand, *_ = line.split()
    Path("scaled.json").write_text('{"scaled": [[1, 2], [3, 4]]}')
    given = "weights" if command == "output" else "scores"
    given = "scaled scores" if operand == "scaled.json" else given
    said = qkv(*line.split(), stdin="1,2\n3,4\n")
    expected = f"{option} comes before the {given}, and those are given; leave it out"
    assert (said.code, said.err) == (2, f"qkvcli: {expected}\n")


def test_what_comes_after_the_last_step_is_refused_too(qkv: Program) -> None:
    said = qkv("softmax", "-", "--wv", "gone.npy", stdin="1,2\n").err
    assert said == (
        "qkvcli: --wv comes after the weights, and those are all that is asked for; leave it out\n"
    )
    assert qkv("softmax", "-", "-v", "gone.npy", stdin="1,2\n").code == 0


def test_masks_add_up(qkv: Program) -> None:
    masked = qkv("scores", "--window", "1,0", "-f", "npz").data
    both = qkv("softmax", "--causal", "--valid-length", 4, "--offset", 0, stdin=masked).out
    whole = ["softmax", "--seed", 42, "--window", "1,0", "--causal", "--valid-length", 4]
    assert both == qkv(*whole, "--offset", 0).out
