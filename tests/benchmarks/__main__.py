"""Measure, print the tables, and write them into the documents: ``python -m tests.benchmarks``.

Words choose the rows whose names have one of them. ``--write`` puts all that was measured into a
page of help, and with our goals into CONTRIBUTING.md.
"""

import argparse
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from qkvcli.core.threads import cores
from qkvcli.spreading import about
from tests.benchmarks.measuring import qkv
from tests.benchmarks.rows import ROWS, Row
from tests.conftest import ROOT

PINS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


class Line(NamedTuple):
    """A row, and what came out."""

    row: Row
    found: str


def measured(rows: Iterable[Row]) -> list[Line]:
    """The rows, measured in an empty folder; each is told as it is there."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["PYTHONPATH"] = str(ROOT)
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program is compiled
        qkv("--version")
        for row in rows:
            lines.append(Line(row, row.measure()))
            say(f"{row.what}: {lines[-1].found} ({row.goal})")
        os.chdir(ROOT)
    return lines


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 -- its purpose


def wanted(words: list[str]) -> list[Row]:
    """The rows with one of the words in their names, or all, that can be measured here."""
    chosen = [row for row in ROWS if not words or any(word in row.what for word in words)]
    for row in chosen:
        if row.needs and not find_spec(row.needs):
            say(f"{row.what}: left out, {row.needs} is not installed")
    return [row for row in chosen if not row.needs or find_spec(row.needs)]


def machine() -> str:
    """The processor, its cores, what NumPy's BLAS takes on it, and the versions."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    name = next(names, platform.processor() or platform.machine())
    here = about()
    others = [f"{each} {version(each)}" for each in ("torch", "distributed") if find_spec(each)]
    numpys = f"NumPy {here['NumPy']}, OpenBLAS kernels: {here['OpenBLAS kernels']}"
    return f"{cores()} cores of an {name} ({'; '.join([numpys, *others])})"


def load() -> str:
    """How many processes wanted a core, on average of the last minutes."""
    if not hasattr(os, "getloadavg"):
        return "unknown"
    return ", ".join(f"{each:.1f}" for each in os.getloadavg())


def table(lines: list[Line], goals: bool) -> str:
    """The lines as Markdown."""
    kept = [(row.what, found, row.goal if goals else row.gets) for row, found in lines]
    head = ["what", "measured", "goal" if goals else "what you get"]
    top = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*top, *(f"| {' | '.join(cells)} |" for cells in kept)])


def written(name: str, text: str, *changes: tuple[str, str]) -> None:
    """Put a table into a document, in place of the one with the same head."""
    path = ROOT / name
    document = path.read_text()
    head = re.escape(text.splitlines()[0])
    changes = ((rf"{head}\n(\|.*\n)+", f"{text}\n"), *changes)
    for pattern, new in changes:
        document, found = re.subn(pattern, lambda _, new=new: new, document)  # type: ignore[misc]
        assert found == 1, (name, pattern)
    path.write_text(document)


def main() -> None:
    """Measure what is asked for, print the table, and write it where that is asked for."""
    reader = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    reader.add_argument(
        "words", nargs="*", help="measure the rows with one of these in their names"
    )
    reader.add_argument("--write", action="store_true", help="put the tables into the documents")
    given = reader.parse_args()
    for name in PINS:
        if name in os.environ:
            reader.error(f"unset {name}: a user's machine has no such pin")
    rows = wanted(given.words)
    if not rows:
        reader.error("no row has one of these words in its name")
    if given.write and len(rows) < len(ROWS):
        reader.error("--write needs all rows: no words, and PyTorch and Dask installed")
    before = load()
    lines = measured(rows)
    about_load = f"load of the machine: {before} before, {load()} after"
    print(machine(), about_load, table(lines, goals=True), sep="\n\n")  # noqa: T201 -- its purpose
    if given.write:
        where = (r"Measured on .*?\. Ratios", f"Measured on {machine()}. Ratios")
        written("qkvcli/help/length.md", table(lines, goals=False), where)
        written("CONTRIBUTING.md", table(lines, goals=True))


if __name__ == "__main__":
    main()
