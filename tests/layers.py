"""The modules of `sample_inputs/architectures`, with the options that `qkvcli help models` has."""

import re
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT, SAMPLES

FOLDER = SAMPLES / "architectures"
PAGE = ROOT / "qkvcli" / "help" / "models.md"
_ROW = re.compile(r"^\| ([^|]+) \| `--preset (\S+)([^`]*)` \| (?:`(\w+)\.npz([^`]*)`|–) \|$", re.M)
_BRACES = re.compile(r"(.*)\{(.*)\}(.*)")


class Family(NamedTuple):
    """A row of the page: the options of a family of models, and its sample with its own.

    In the options @ is the family's file, of which each takes what it is named for.
    """

    model: str
    preset: str
    options: list[str]
    sample: str
    own: list[str]


def _words(text: str) -> list[str]:
    """The words of a command line, as bash writes them out, an option and its file apart."""
    found = []
    for word in text.split():
        braces = _BRACES.fullmatch(word)
        parts = braces[2].split(",") if braces else [""]
        whole = [f"{braces[1]}{part}{braces[3]}" for part in parts] if braces else [word]
        found += [part for each in whole for part in each.split("=")]
    return found


FAMILIES = [
    Family(model, preset, ["--preset", preset, *_words(options)], sample, _words(own))
    for model, preset, options, sample, own in _ROW.findall(PAGE.read_text(encoding="utf-8"))
]
"""The rows of the page's table."""
MODULES = {row.sample: " ".join([*row.options, *row.own]) for row in FAMILIES if row.sample}
"""The options of each module; @ is its file, of which each option takes what it is named for."""


def words_of(name: str) -> list[str]:
    """The options of a module, from its hidden states to its output."""
    path = str(FOLDER / f"{name}.npz")
    own = [path if word == "@" else word for word in MODULES[name].split()]
    files = [
        word for part in ("embeddings", "wq", "wk", "wv", "wo") for word in (f"--{part}", path)
    ]
    return [*files, "--heads", "4", *own]


def file_of(name: str) -> Path:
    """The file of a module."""
    return FOLDER / f"{name}.npz"
