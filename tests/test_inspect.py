"""``inspect``: what files hold, as NumPy says it; and the converter between formats."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qkvcli.core import inventory
from qkvcli.core.inventory import Range, range_of
from qkvcli.core.operands import Array
from qkvcli.formats.files import read_document
from qkvcli.formats.source import Source
from tests.conftest import SAMPLES, Program

ARRAYS: dict[str, Any] = {
    "q": np.array([[0.5, -2.0], [np.nan, np.inf], [-np.inf, 3.25]]),
    "half": np.arange(6, dtype=np.float16).reshape(1, 2, 3),
    "whole": np.array([[-3, 2**40]]),
    "large": np.array([[2**64 - 1, 7]], np.uint64),
    "seen": np.array([[True, False]]),
    "row": np.array([0.25, 1.5, -1.0], np.float32),
    "one": np.array(3.5),
    "none": np.zeros((0, 4), np.float32),
    "nowhere": np.full((2, 2), np.nan, np.float32),
    "big": np.array([[1.5, -2.5]], ">f4"),
}


@pytest.fixture
def files(folder: Path) -> Path:
    np.savez("a.npz", **ARRAYS)
    np.save("x.npy", ARRAYS["q"])
    return folder


def facts(array: Array) -> dict[str, Any]:
    """What is to be said of an array, by NumPy's own functions."""
    finite = array[np.isfinite(array)]
    return {
        "shape": list(array.shape),
        "type": array.dtype.name,
        "min": finite.min().item() if finite.size else None,
        "max": finite.max().item() if finite.size else None,
        "nan": int(np.isnan(array).sum()),
        "inf": int(np.isinf(array).sum()),
    }


def test_members_are_told_as_json_and_csv(qkv: Program, files: Path) -> None:
    shown = json.loads(qkv("inspect", "a.npz", "x.npy", "-f", "json").out)
    expected = [{"file": "a.npz", "name": n, **facts(a)} for n, a in ARRAYS.items()]
    assert shown == [*expected, {"file": "x.npy", "name": "", **facts(ARRAYS["q"])}]
    lines = list(csv.DictReader(io.StringIO(qkv("inspect", "a.npz", "-f", "csv").out)))
    for line, one in zip(lines, expected, strict=True):
        assert line["shape"] == " ".join(map(str, one["shape"]))
        for name in ("min", "max", "nan", "inf"):
            told = one[name]
            words = {"true": 1.0, "false": 0.0}
            assert (line[name] == "") == (told is None)
            if told is not None:
                number = words[line[name]] if line[name] in words else float(line[name])
                assert number == float(told)


def test_a_table_for_each_file(qkv: Program, files: Path) -> None:
    shown = qkv("inspect", "a.npz:q", "x.npy", SAMPLES / "cat_sat_mat" / "query.csv")
    assert shown.out.splitlines()[:7] == [
        "a.npz   1 array, 6 numbers",
        "name  shape   type     min   max  NaN  inf",
        "q     (3, 2)  float64   -2  3.25    1    2",
        "",
        "x.npy   1 array, 6 numbers",
        "shape   type     min   max  NaN  inf",
        "(3, 2)  float64   -2  3.25    1    2",
    ]
    assert shown.out.endswith(
        "rows: The cat sat on the mat\ncolumns: article animal action place\n"
    )


def test_a_narrow_room_has_the_names_above(qkv: Program, files: Path) -> None:
    np.savez("long.npz", **{"model.layers.0.self_attn.q_proj.weight": np.eye(2)})  # type: ignore[arg-type]
    wide = qkv("inspect", "long.npz").out.splitlines()
    assert wide[2] == "model.layers.0.self_attn.q_proj.weight  (2, 2)  float64    0    1    0    0"
    assert qkv("inspect", "long.npz", "--width", 45).out.splitlines() == [
        "long.npz   1 array, 4 numbers",
        "shape   type     min  max  NaN  inf",
        "model.layers.0.self_attn.q_proj.weight",
        "(2, 2)  float64    0    1    0    0",
    ]


def test_parts_patterns_and_folders(qkv: Program, files: Path) -> None:
    def names(*words: str) -> list[tuple[str, str, list[int]]]:
        found = json.loads(qkv("inspect", *words, "-f", "json").out)
        return [(one["file"], one["name"], one["shape"]) for one in found]

    assert names("a.npz:*o*e[...]") == [
        ("a.npz", "whole", [1, 2]), ("a.npz", "one", []), ("a.npz", "none", [0, 4]),
        ("a.npz", "nowhere", [2, 2])
    ]  # fmt: skip
    assert names("x.npy[1:].T") == [("x.npy", "", [2, 2])]
    Path("notes.md").write_text("no matrix")
    assert {file for file, _, _ in names(".")} == {"a.npz", "x.npy"}
    data = Path("a.npz").read_bytes()
    piped = json.loads(qkv("inspect", "-:q", "-f", "json", stdin=data).out)
    assert [(one["file"], one["name"]) for one in piped] == [("standard input", "q")]


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "json", "npy", "npz", "safetensors"])
@pytest.mark.parametrize("name", ARRAYS)
def test_a_member_is_saved_in_any_format(qkv: Program, files: Path, name: str, kind: str) -> None:
    """And read again with the same numbers; text knows no number of axes below two, nor types."""
    target = Path(f"o.{kind}")
    saved = qkv("inspect", f"a.npz:{name}", "-o", target, "--quiet")
    assert (saved.code, saved.out, saved.err) == (0, "", "")
    [member] = read_document(Source.file(target)).values()
    found, array = member.read().array, ARRAYS[name]
    if kind in ("csv", "tsv", "txt"):
        array = np.atleast_2d(array)
    elif kind == "json":
        array = np.atleast_1d(array)
    else:
        little = kind == "safetensors"
        assert found.dtype == (array.dtype.newbyteorder("<") if little else array.dtype)
    assert found.shape == array.shape
    np.testing.assert_array_equal(found.astype(np.float64), array.astype(np.float64))


def test_all_of_a_file_is_saved_where_there_is_room(qkv: Program, files: Path) -> None:
    words = ["inspect", "a.npz", "--quiet"]
    assert qkv(*words, "-o", "b.safetensors", "-o", "b.json").code == 0
    for file in ("b.safetensors", "b.json"):
        found = read_document(Source.file(Path(file)))
        assert list(found) == list(ARRAYS)
        np.testing.assert_array_equal(found["q"].read().array, ARRAYS["q"])
    wrong = qkv(*words, "-o", "b.csv")
    assert wrong.code == 2
    assert "-o b.csv: .csv has room for one array; name it, as FILE:NAME, of q (3, 2)" in wrong.err
    assert not Path("b.csv").exists()
    assert qkv("inspect", "a.npz:q", "a.npz:row", "-o", "two.npz", "--quiet").code == 0
    assert list(np.load("two.npz")) == ["q", "row"]
    np.savez("c.npz", q=np.eye(2))
    assert qkv("inspect", "a.npz:q", "c.npz", "x.npy", "-o", "all.npz", "--quiet").code == 0
    assert list(np.load("all.npz")) == ["a.q", "c.q", "x"]
    assert "would be called 'a.q'" in qkv("inspect", "a.npz:q", "a.npz:q", "-o", "t.npz").err
    assert qkv("inspect", "a.npz:q", "-o", "q.svg").code == 2


def test_labels_and_digits_go_into_the_other_format(qkv: Program, folder: Path) -> None:
    file = SAMPLES / "cat_sat_mat" / "query.csv"
    assert qkv("inspect", file, "-o", "q.json", "-o", "r.csv", "--digits", 1, "--quiet").code == 0
    held = json.loads(Path("q.json").read_text())["query"]
    assert (held["rows"][1], held["columns"][1]) == ("cat", "animal")
    assert Path("r.csv").read_text().splitlines()[2] == "cat,0.0,1.0,2.0,1.0"


def test_what_cannot_be_read_is_told_beside_the_rest(qkv: Program, folder: Path) -> None:
    np.savez("odd.npz", a=np.array([None]), s=np.array(["x"]), c=np.array([1j]), q=np.eye(2))
    shown = qkv("inspect", "odd.npz")
    assert (shown.code, shown.err) == (3, "qkvcli: 1 of 4 arrays cannot be read\n")
    assert "Python objects, which are never loaded" in shown.out
    facts = {one["name"]: one for one in json.loads(qkv("inspect", "odd.npz", "-f", "json").out)}
    assert (facts["s"]["type"], facts["s"]["nan"]) == ("text", None)
    assert (facts["c"]["type"], facts["c"]["min"]) == ("complex128", None)
    assert facts["q"]["max"] == 1
    assert "fault" in facts["a"]
    for name in ("s", "c"):
        refused = qkv("inspect", f"odd.npz:{name}", "-o", "o.csv", "--quiet")
        assert (refused.code, "cannot be kept in .csv" in refused.err) == (3, True)


def test_large_arrays_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order in which they lie: the parts are joined, and all of them counted."""
    monkeypatch.setattr(inventory, "_AT_ONCE", 7)
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(5, 6, 7))
    whole[rng.random(whole.shape) < 0.1] = np.nan
    whole[rng.random(whole.shape) < 0.1] = -np.inf
    for array in (whole, whole.T, whole[::2, :, ::-3], whole[1, 2], whole[:0], whole[0, 0, 0]):
        seen = 0

        def advance(count: int) -> None:
            nonlocal seen
            seen += count

        told = facts(np.asarray(array))
        assert range_of(np.asarray(array), None, advance) == Range(
            told["min"], told["max"], told["nan"], told["inf"]
        )
        assert seen == np.size(array)
