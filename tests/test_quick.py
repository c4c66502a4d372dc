"""Plain command lines mean the same whether Typer reads them or we do."""

import inspect
import shlex
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from qkvcli.cli import quick
from qkvcli.cli.app import _spread
from qkvcli.cli.commands import COMMANDS
from qkvcli.cli.options import declared

LINES = [
    "run",
    "scores --seed 42 --length 3 --dim=4 --key-length 5 --value-dim 6",
    "run -q a.csv -k b.npy -v - --scale sqrt --causal",
    "run -q a.csv --scale -0.5 --no-causal --causal",
    "softmax",
    "softmax -",
    "softmax scores.csv --softcap 3 --window 2,none --offset -3",
    "output w.npz -v v.npy --heads 4 --kv-heads 2 --head 1,3 --batch 0",
    "output --qkv all.json -o out.npy --quiet --digits 0 --width 40 --full -f json",
    "run --labels 'The cat sat' --key-labels '' --rows 0:3,-2: --format=csv",
    "run --embeddings x --wq a --wk b --wv c --bq d --past-key e --past-value f --mask m",
    "run --preset gpt --dtype float32 --softmax-dtype float16 --valid-length 1,2",
    "run --seed 1 --seed 2",
]
LEFT = [
    "",
    "--help",
    "run --help",
    "scors",
    "run extra",
    "softmax a b",
    "run --seed",
    "run --seed x",
    "run --lenght 3",
    "run --causal=yes",
    "run -fcsv",
    "run -- x",
]


def read_by_typer(words: list[str]) -> dict[str, Any]:
    """What Typer makes of a command line."""
    seen: list[dict[str, Any]] = []

    def recorder(**values: Any) -> None:
        seen.append(values)

    recorder.__signature__ = inspect.signature(COMMANDS[words[0]].run)  # type: ignore[attr-defined]
    app = typer.Typer()
    app.command()(_spread(recorder))
    ended = CliRunner().invoke(app, words[1:])
    assert ended.exit_code == 0, ended.output
    [values] = seen
    return {name: value for name, value in values.items() if value is not None}


@pytest.mark.parametrize("line", LINES)
def test_both_readers_agree(line: str) -> None:
    words = shlex.split(line)
    read = quick.read(words)
    assert read is not None
    assert read.keywords == read_by_typer(words)  # type: ignore[attr-defined]


@pytest.mark.parametrize("line", LEFT)
def test_what_is_not_plain_is_left_to_typer(line: str) -> None:
    assert quick.read(shlex.split(line)) is None


def test_every_option_is_in_a_line_above() -> None:
    groups, _ = quick._parameters(COMMANDS["run"].run)
    options = (one for group in groups.values() for one in declared(group).values())
    known = {name for one in options for name in one.names}
    typed = {word.partition("=")[0] for line in LINES for word in shlex.split(line)}
    short = {"-q": "--query", "-k": "--key", "-v": "--value", "-f": "--format", "-o": "--output"}
    assert known - set(short) - {"--bk", "--bv"} <= typed | {short.get(word, "") for word in typed}
