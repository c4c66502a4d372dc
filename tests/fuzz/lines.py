"""Odd command lines: both readers take them alike, and what the program says is its own."""

import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from itertools import product
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np

from qkvcli import cli
from qkvcli.cli import plain, typer_app
from qkvcli.cli.commands import COMMANDS, OPTIONS, Line
from qkvcli.cli.environment import Environment
from qkvcli.core.steps import Step
from tests.fuzz.readers import written

HUGE = str(2**62)
VALUES = {
    "FILE": ["q.csv", "k.csv", "v.csv", "-", "w.npy", "qkv.npz", "out.npz", "cat.txt", "mask.csv",
             "gone.npy", "qkv.json", "out.md", "out.JSON", "out.tsv", "/dev/null", ".", "é.csv",
             "x=y", "a/b.csv", "", " ", "a\0.csv", "\udcff.csv"],
    "N": ["0", "1", "2", "3", "007", "+2", "-3", "٣", HUGE, f"-{HUGE}", "1e3", "1_0", "17", "18",
          "4294967296", "", " 2 "],
    "NAME": ["gpt", "bert", "article", "GPT", "none"],
    "NUMBER": ["sqrt", "none", "0.5", "-1e3", ".5", "0", "1e-400", "1e308", "1e400", "nan", "1_0",
               "٣", "0x1", "", " 1 "],
    "C": ["30", "1e-3", "1e-300", "1e300", "0", "-1", "inf", "x"],
    "LEFT[,RIGHT]": ["1", "1,2", "none,3", "none", "none,none", "0,0", f"{HUGE},{HUGE}", ",",
                     "1,2,3", "-1", "1 , 2"],
    "N[,N…]": ["0", "1", "0,1", "2,2", "3", "3,1,2", "0,0,0", "-1", ",", "1,", HUGE, " 1 , 0", ""],
    "TYPE": ["float16", "bfloat16", "float32", "float64", "float", "f8"],
    "TEXT": ["The cat sat", "a b c", "a\tb\nc", "0 1 2", "", " ", "-1 x \x1b[31m", "\udcff", "-q"],
    "ROWS": ["0:3", "-1", "::2", "cat,-1", "0,0", f":{HUGE}", f"-{HUGE}", ",", "5", "0:", "x:y",
             "::0", "::-1", "٣", "", " 1 "],
    "NAMES": ["weights", "output", "all", "query,key", "scores,weights", " masked", "output", "no"],
    "HEADS": ["0", "1", "all", "0:2", "-1:", "0,1", "1,0", "9", "", "x", "::0", "1-2"],
    "BATCHES": ["0", "1", "all", "0:2", "-1:", "0,1", "1,0", "9", "", "x"],
    "WHEN": ["auto", "always", "never", "auto", "always", "never", "auto", "on", ""],
    "FORMAT": ["csv", "tsv", "txt", "json", "npy", "npz", "table", "markdown", "heatmap", "md"],
}  # fmt: skip
"""What is typed for each kind of value; most of the first are right."""
RIGHT = 7
SOURCES = [
    [], ["--seed", "7"], ["--qkv", "qkv.npz"], ["-q", "q.csv", "-k", "k.csv", "-v", "v.csv"], ["-"],
    ["--seed=1", "--length", "3", "--dim=4"], ["w.npy", "-v", "v.csv"], ["--qkv=qkv.json"],
    ["--embeddings", "q.csv", "--wq", "w.npy", "--wk", "w.npy", "--wv", "w.npy"],
    ["--scores", "w.npy", "-v", "v.csv"], ["--example", "cat"], ["--example=gpt"],
]  # fmt: skip
WORDS = ["--", "-", "", "-h", "--help", "--version", "x", "-fcsv", "-f=csv", "-qk", "--no-full",
         "é", "---seed", "--causal=", "--causal=yes", "--=", "=", "--seed", "\u202e"]  # fmt: skip
TOKENS = ["0", "1", "2", "0", "1", "cat", "The", "9", "the#2", "", "-1", "0" * 5000, "\x1b[2J"]
SIZES = {"--length", "--dim", "--key-length", "--value-dim"}


class Typed(NamedTuple):
    """A command line, and what is piped in."""

    words: tuple[str, ...]
    piped: bytes


class Left(NamedTuple):
    """What a run left behind."""

    code: int
    stdout: bytes
    stderr: str
    files: dict[str, bytes]


class Lines:
    """Both readers give the same line or run; a fault is said in a line, and leaves no file."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        q, k, v, w = (rng.normal(size=(3, m)).round(3) for m in (4, 4, 2, 3))
        named = [Step.held(name, array) for name, array in (("q", q), ("k", k), ("v", v))]
        rows = ("The", "cat", "0")
        self.files = {
            **{f"{step.name}.csv": written("csv", step) for step in named},
            "w.npy": written("npy", Step.held("w", w)),
            "qkv.npz": written("npz", *named),
            "qkv.json": written("json", *named),
            "cat.txt": written("txt", Step.held("weights", abs(w), rows=rows, columns=rows)),
            "mask.csv": b"true,false,true\n",
        }

    def make(self, random: Random) -> Typed:
        words = [random.choice(list(COMMANDS)), *random.choice(SOURCES)]
        if words[0] == "explain":
            words[1:1] = random.choices(TOKENS, k=random.choice((1, 1, 2)))
        for _ in range(random.choice((0, 1, 1, 2, 3, 5))):
            words += self._option(random)
        if random.random() < 0.15:
            words.insert(random.randrange(len(words) + 1), random.choice(WORDS))
        return Typed(tuple(words), random.choice([b"", *self.files.values()]))

    def _option(self, random: Random) -> list[str]:
        """An option, in one of the ways to spell it, with a value that may be right."""
        option = random.choice(list(OPTIONS.values()))
        name = random.choice(option.names)
        if random.random() < 0.04:
            name = name[: random.randrange(2, len(name) + 1)]  # no abbreviation is known
        if option.read is None:
            return [name]
        values = VALUES[option.metavar or ""]
        text = random.choice(values[:RIGHT] if random.random() < 0.9 else values)
        if random.random() < 0.03:
            text = "".join(chr(random.randrange(1, 0x3000)) for _ in range(2)).replace("/", "")
        if name in SIZES and text.strip().isdigit() and 20 < int(text) < 2**40:
            text = "3"  # what is large and still fits takes its time, and finds nothing
        return [f"{name}={text}"] if random.random() < 0.3 else [name, text]

    def check(self, case: Typed) -> str:
        words = list(case.words)
        quick = plain.read(words)
        if isinstance(quick, (Line, plain.Help)):
            assert quick == typer_app.read(words), "plain takes a line that Typer takes otherwise"
        first, second = self._ran(case, False), self._ran(case, True)
        for name in Left._fields:
            alike = getattr(first, name) == getattr(second, name)
            assert alike, f"run by one reader and by the other, {name} differs"
        said = first.stderr.splitlines()
        faults = [line for line in said if line.startswith("qkvcli: ")]
        ours = all(re.match("qkvcli: |note: ", line) for line in said)
        assert ours, "standard error has a line that is not ours"
        assert first.code in (0, 2, 3, 4), f"exit code {first.code}"
        assert len(faults) == (first.code != 0), f"exit code {first.code}, {len(faults)} faults"
        assert not first.code or first.files == self.files, "a fault leaves a file, or changes one"
        assert len(first.files) <= len(self.files) + 1, "more files are left than one"
        return f"{'plain' if quick else 'Typer'}, exit code {first.code}"

    def _ran(self, case: Typed, by_typer: bool) -> Left:
        """Run a line in a folder of its own."""
        folder = Path("run")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n") for _ in range(2))
        around = Environment(io.TextIOWrapper(io.BytesIO(case.piped)), out, err, {})
        os.chdir(folder)
        try:
            with redirect_stdout(out):  # Typer shows the version there
                code = cli.run(list(case.words), around, by_typer)
        finally:
            os.chdir("..")
        err.flush()
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        return Left(code, out.buffer.getvalue(), err.buffer.getvalue().decode(), files)

    def smaller(self, case: Typed) -> Iterator[Typed]:
        for count, i in product((2, 1), range(len(case.words))):
            yield case._replace(words=case.words[:i] + case.words[i + count :])
        if case.piped:
            yield case._replace(piped=b"")
