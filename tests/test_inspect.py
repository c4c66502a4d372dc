"""``inspect``: what files hold, as NumPy says it; and the converter between formats."""

import csv
import io
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qkvcli.core import inventory
from qkvcli.core.inventory import Range, range_of
from qkvcli.core.operands import Array
from qkvcli.formats.files import read_document
from qkvcli.formats.source import Source
from tests.conftest import SAMPLES, Program, environment

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


def save(name: str, arrays: dict[str, Any]) -> None:
    np.savez(name, **arrays)


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
    save("long.npz", {"model.layers.0.self_attn.q_proj.weight": np.eye(2)})
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


def test_a_spoilt_archive_is_bad_data_also_where_it_is_mapped(qkv: Program, folder: Path) -> None:
    array = np.ones((1500, 1000), np.float32)
    np.savez("a.npz", q=array)
    data = bytearray(Path("a.npz").read_bytes())
    data[3_000_000] ^= 0x40
    Path("a.npz").write_bytes(data)
    for words in (["inspect", "a.npz"], ["scores", "-q", "a.npz", "-k", "a.npz", "--rows", "0"]):
        spoilt = qkv(*words)
        assert (spoilt.code, "q.npy is spoilt (CRC-32)" in spoilt.err + spoilt.out) == (3, True)
    for whole in ("a.npz:q.T", "a.npz:q[:]", "a.npz[:, ::-1]"):
        assert qkv("inspect", whole).code == 3
    part = json.loads(qkv("inspect", "a.npz:q[0]", "-f", "json").out)  # of which no sum is known
    assert part[0]["max"] == 1


def test_thousands_of_arrays_are_told_in_time(qkv: Program, folder: Path) -> None:
    save("many.npz", {f"a{i}": np.ones((1, 2)) for i in range(3000)})
    started = time.monotonic()
    assert qkv("inspect", "many.npz").out.count("(1, 2)") == 3000
    assert time.monotonic() - started < 20  # where each array opened the archive again: minutes


def test_an_archive_that_grows_beyond_measure_is_refused(
    qkv: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zipfile.ZipFile("bomb.npz", "w", zipfile.ZIP_DEFLATED)
    with archive, archive.open("q.npy", "w") as member:
        header = {"descr": "|u1", "fortran_order": False, "shape": (300 * 2**20, 1)}
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(300):
            member.write(bytes(2**20))
    assert qkv("inspect", "bomb.npz:q[0]").code == 0  # what a mask may do
    monkeypatch.setattr("qkvcli.formats.numpy_files._LARGEST", 2**28)
    told = qkv("inspect", "bomb.npz:q[0]")
    assert (told.code, "q.npy grows to 300 MB, 200 times its size or more" in told.err) == (3, True)


@pytest.mark.parametrize("ending", ["npy", "npz", "safetensors", "json"])
def test_billions_of_empty_rows_are_no_work(qkv: Program, folder: Path, ending: str) -> None:
    with Path("none.npy").open("wb") as file:
        header: dict[str, Any] = {"descr": "<f8", "fortran_order": False, "shape": (10**9, 1, 0)}
        np.lib.format.write_array_header_1_0(file, header)
    started = time.monotonic()
    assert qkv("inspect", "none.npy", "-o", f"o.{ending}", "--quiet").code == 0
    assert time.monotonic() - started < 10


def test_types_that_few_have(qkv: Program, folder: Path) -> None:
    save("odd.npz", {"day": np.array(["2026-11-27"], "M8[D]"), "long": np.ones(2, np.longdouble)})
    for ending in ("npy", "npz"):
        assert qkv("inspect", "odd.npz:day", "-o", f"day.{ending}", "--quiet").code == 0
    assert np.load("day.npy")[0] == np.datetime64("2026-11-27")
    assert json.loads(qkv("inspect", "odd.npz:long", "-f", "json").out)[0]["max"] == 1.0
    if np.longdouble(1).itemsize > 8:
        refused = qkv("inspect", "odd.npz:long", "-o", "o.safetensors", "--quiet")
        assert (refused.code, "cannot be kept in .safetensors" in refused.err) == (3, True)


def test_what_a_file_was_read_as_is_told_though_nothing_is_shown(
    qkv: Program, folder: Path
) -> None:
    Path("s.csv").write_text("0,1\n2.5,1\n")
    told = qkv("inspect", "s.csv", "-o", "s.npy", "--quiet")
    assert "the first line, 0 to 1, is read as labels" in told.err
    assert qkv("inspect", "s.csv", "-o", "s.npy", "--quiet", "--no-header").err == ""
    assert np.load("s.npy").shape == (2, 2)


def test_bfloat16_stays_what_it_is_in_safetensors_alone(qkv: Program, folder: Path) -> None:
    bits = np.array([[0x3F80, 0xC040]], np.uint16)
    np.save("b.npy", bits.view("V2"))
    assert qkv("inspect", "b.npy", "-o", "b.safetensors", "--quiet")[:3] == (0, "", "")
    assert Path("b.safetensors").read_bytes().endswith(bits.tobytes())
    [told] = json.loads(qkv("inspect", "b.safetensors", "-f", "json").out)
    assert (told["type"], told["min"], told["max"]) == ("bfloat16", -3, 1)
    told = qkv("inspect", "b.safetensors", "-o", "c.npy", "--quiet")
    assert told.err == "note: c.npy: bfloat16 is written as float32\n"
    assert np.load("c.npy").tolist() == [[1, -3]]


def test_an_index_stands_for_its_files_in_a_folder(qkv: Program, folder: Path) -> None:
    save("a.npz", {"h.0.q": np.eye(2)})
    save("b.npz", {"h.1.q": np.eye(2)})
    places = {"h.0.q": "a.npz", "h.1.q": "b.npz"}
    Path("m.npz.index.json").write_text(json.dumps({"weight_map": places}))
    shown = json.loads(qkv("inspect", ".", "-f", "json").out)
    assert [(one["file"], one["name"]) for one in shown] == [
        ("m.npz.index.json", "h.0.q"), ("m.npz.index.json", "h.1.q")
    ]  # fmt: skip


def test_one_bad_file_does_not_hide_the_others(qkv: Program, files: Path) -> None:
    Path("bad.csv").write_text("1,2\n3\n")
    for words in (["bad.csv", "x.npy"], ["."]):
        shown = qkv("inspect", *words)
        assert (shown.code, "bad.csv: line 2: 1 cell" in shown.out) == (3, True)
        assert "x.npy   1 array, 6 numbers" in shown.out
    for word, said in ((".:q", "a folder has no members"), ("x" * 300, "File name too long")):
        assert said in qkv("inspect", word).err
        assert qkv("inspect", word).code == 3


@pytest.mark.skipif(os.name == "nt", reason="Unix's own limit")
def test_more_archives_than_a_process_may_open(folder: Path) -> None:
    for i in range(60):
        np.savez(f"a{i}.npz", q=np.eye(2))
    words = f"ulimit -n 40; exec '{sys.executable}' -m qkvcli inspect . -f csv -o all.npz"
    ended = subprocess.run(["bash", "-c", words], capture_output=True, text=True, env=environment())
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(ended.stdout.splitlines()) == 61
    assert len(np.load("all.npz").files) == 60


def test_a_models_folder_has_configurations_too(qkv: Program, folder: Path) -> None:
    Path("config.json").write_text('{"hidden": 16, "names": ["x"], "sizes": [[1, 2]]}')
    np.save("q.npy", np.eye(2))
    shown = json.loads(qkv("inspect", ".", "-f", "json").out)
    assert [(one["file"], one["name"]) for one in shown] == [
        ("config.json", "sizes"), ("q.npy", "")
    ]  # fmt: skip
