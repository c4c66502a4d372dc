"""``-o``: several files, each with what was chosen; and how large they are to be."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from qkvcli.formats.files import read_document
from qkvcli.formats.source import Source
from tests.conftest import Program

CHOICES = {
    "all": [],
    "rows": ["--rows", "0,-2:"],
    "heads": ["--head", "6,0:2"],
    "rows of heads": ["--head", "3", "--rows", "mat,2"],
    "one step": ["--show", "weights", "--head", "1"],
    "the inputs": ["--show", "all", "--rows", "4"],
    "batches": ["--batch", "0"],
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_file_has_what_was_chosen(qkv: Program, folder: Path, name: str) -> None:
    """As standard output has it in the same format; in all formats of data at once."""
    words = ["run", "--example", "bert", *CHOICES[name]]
    if name == "batches":
        np.save("q.npy", np.random.default_rng(0).normal(size=(2, 1, 3, 4)))
        words = ["run", "-q", "q.npy", "-k", "q.npy", "-v", "q.npy", *CHOICES[name]]
    endings = ("npy", "npz", "json", "csv", "tsv", "txt", "md")
    kept = [word for ending in endings for word in ("-o", f"o.{ending}")]
    more = ["-o", "o.safetensors", "-o", "o.json.gz"]
    assert qkv(*words, *kept, *more, "--quiet")[:3] == (0, "", "")
    for ending in endings:
        shown = qkv(*words, "-f", "markdown" if ending == "md" else ending).data
        assert Path(f"o.{ending}").read_bytes() == shown
    arrays = {k: np.array(v["data"]) for k, v in json.loads(Path("o.json").read_text()).items()}
    for file in ("o.safetensors", "o.json.gz"):
        document = read_document(Source.file(Path(file)))
        assert list(document) == list(arrays)
        for step, array in arrays.items():
            found = document[step].read().array
            np.testing.assert_array_equal(found, array.astype(found.dtype))


def test_a_file_that_is_named_twice_is_written_once(qkv: Program, folder: Path) -> None:
    assert qkv("scores", "--seed", 1, "-o", "s.csv", "-o", "s.csv", "--output=t.csv").code == 0
    assert Path("s.csv").read_bytes() == Path("t.csv").read_bytes()


def test_an_ending_that_is_not_ours_writes_nothing_at_all(qkv: Program, folder: Path) -> None:
    for ending, said in (("pt", ".pt is only read"), ("xyz", "the ending says the format")):
        wrong = qkv("scores", "--seed", 1, "-o", "s.csv", "-o", f"t.{ending}")
        assert (wrong.code, said in wrong.err, list(folder.iterdir())) == (2, True, [])


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def million(folder: Path) -> list[str]:
    """Weights of 4 TB, of which no number is computed before the disk is asked."""
    with Path("x.npy").open("wb") as file:
        header: dict[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": (1_000_000, 2)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 8_000_000)
    return ["softmax", "-q", "x.npy", "-k", "x.npy", "--quiet"]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("w.npy", "w.npy: needs 4.0 TB, and the disk has 1.5 TB"),
        ("w.npz", "w.npz: needs 4.0 TB"),
        ("w.safetensors", "w.safetensors: needs 4.0 TB"),
        ("w.csv", "w.csv: needs at least 2.0 TB"),
    ],
)
def test_what_the_disk_cannot_hold_is_refused(
    qkv: Program, million: list[str], monkeypatch: pytest.MonkeyPatch, file: str, said: str
) -> None:
    free = 1_500_000_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free, 0, free))
    refused = qkv(*million, "-o", file)
    assert (refused.code, said in refused.err, refused.err.count("\n")) == (4, True, 1)
    assert "--rows, --head and --show choose what is saved" in refused.err
    assert not list(Path().glob("*w.*"))
    chosen = qkv(*million, "--rows", "0:2", "-o", file)
    assert (chosen.code, chosen.err) == (0, "")


def test_a_large_file_is_announced(
    qkv: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qkvcli.cli.amounts._LARGE", 150)
    found = qkv("run", "--seed", 42, "--dim", 4, "-o", "a.npz", "-o", "b.csv", "--quiet")
    assert found.err.splitlines() == [
        "note: a.npz will have 560 bytes: scores (5, 5), weights (5, 5), output (5, 4); --rows, "
        "--head and --show choose what is saved",
        "note: b.csv will have about 400 bytes: output (5, 4); --rows, --head and --show choose "
        "what is saved",
    ]
    assert qkv("scores", "--seed", 42, "-o", "/dev/null", "--quiet").err == ""
