"""safetensors files: what a header says is checked by the format's own rules, then mapped."""

import json
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkvcli.core.operands import Array
from qkvcli.errors import DataError
from qkvcli.formats.files import read_document
from qkvcli.formats.registry import SAFETENSORS
from qkvcli.formats.source import Source
from qkvcli.formats.stored import bfloat16_to_float32, e4m3_to_float32, e5m2_to_float32
from tests.conftest import Program


def file_of(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file, made by the format's page and not by our writer."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def held(data: bytes) -> dict[str, Array]:
    document = read_document(Source("m.safetensors", data=data))
    return {name: member.read().array for name, member in document.items()}


TYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2",
    "U32": "<u4", "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_numpys_types_are_read_as_they_are(kind: str) -> None:
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(TYPES[kind]) * np.dtype(TYPES[kind]).type(1)
    found = held(file_of({"a": tensor(kind, [2, 3], 0, array.nbytes)}, array.tobytes()))["a"]
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


def exact(sign: int, exponent: int, fraction: int, bits: int, bias: int) -> Fraction:
    """A number by its parts, as IEEE 754 defines them: normal, or below the normal ones."""
    whole = Fraction(fraction, 2**bits) + (1 if exponent else 0)
    power = (exponent or 1) - bias
    return (-1) ** sign * whole * Fraction(2) ** power


def test_float8_and_bfloat16_are_exact() -> None:
    codes = np.arange(256, dtype=np.uint8)
    kinds: list[tuple[Any, Array, int, int, int]] = [
        (e4m3_to_float32, codes, 4, 3, 7),
        (e5m2_to_float32, codes, 5, 2, 15),
        (bfloat16_to_float32, np.arange(65536, dtype=np.uint16), 8, 7, 127),
    ]
    for decode, bits, exponents, fractions, bias in kinds:
        top = 2**exponents - 1
        for code, number in zip(bits.tolist(), decode(bits).tolist(), strict=True):
            sign = code >> (exponents + fractions)
            exponent, fraction = code >> fractions & top, code & (2**fractions - 1)
            infinite = exponent == top and exponents > 4
            if (infinite and fraction) or (exponents == 4 and code & 0x7F == 0x7F):
                assert np.isnan(number)
            elif infinite:
                assert number == (-1) ** sign * np.inf
            else:
                assert Fraction(number) == exact(sign, exponent, fraction, fractions, bias)


GOOD = tensor("F32", [2], 0, 8)
HOSTILE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "do not say how long a header"),
    "seven bytes": (b"\x01\0\0\0\0\0\0", "do not say how long a header"),
    "a header beyond the file": (file_of({}, length=2**62), "do not say how long a header"),
    "a header of 200 MB": (file_of({}, length=200_000_000), "do not say how long a header"),
    "no JSON": (file_of(b"{oops}"), "its header is not JSON"),
    "no object": (file_of(b"[1, 2]"), "its header is no JSON object"),
    "not UTF-8": (file_of(b'{"\xff": 1}'), "its header is not JSON"),
    "nested": (file_of(b'{"a":' + b"[" * 100_000), "its header is"),
    "a number of 5000 digits": (file_of(b'{"a":' + b"9" * 5000 + b"}"), "its header is not JSON"),
    "a name twice": (file_of(b'{"a":{},"a":{}}'), "a name stands in its header twice"),
    "no tensor": (file_of({"a": 1}), "'a' has not a dtype, a shape and data_offsets"),
    "too much said": (file_of({"a": {**GOOD, "b": 1}}, bytes(8)), "has not a dtype, a shape"),
    "an unknown type": (file_of({"a": tensor("F99", [2], 0, 8)}, bytes(8)), "is of type F99"),
    "a type that is none": (file_of({"a": {**GOOD, "dtype": ["F32"]}}, bytes(8)), "is of type"),
    "a negative shape": (file_of({"a": tensor("F32", [-1, -2], 0, 8)}, bytes(8)), "shape of 'a'"),
    "a shape of truths": (
        file_of({"a": {**GOOD, "shape": [True, 2]}}, bytes(8)), "is one that no array"
    ),
    "half a row": (file_of({"a": {**GOOD, "shape": [1.5]}}, bytes(8)), "is one that no array"),
    "a shape beyond numbers": (
        file_of({"a": tensor("F32", [2**62, 2**62], 0, 8)}, bytes(8)), "is one that no array"
    ),
    "1000 axes": (file_of({"a": tensor("F32", [1] * 1000, 0, 4)}, bytes(4)), "shape of 'a'"),
    "an offset below 0": (file_of({"a": tensor("F32", [2], -8, 0)}, bytes(8)), "data_offsets"),
    "offsets the other way": (file_of({"a": tensor("F32", [2], 8, 0)}, bytes(8)), "has -8 bytes"),
    "three offsets": (
        file_of({"a": {**GOOD, "data_offsets": [0, 8, 8]}}, bytes(8)), "data_offsets"
    ),
    "another size": (file_of({"a": tensor("F64", [2], 0, 8)}, bytes(8)), "'a' has 8 bytes"),
    "beyond the end": (file_of({"a": GOOD}, bytes(7)), "speaks of 8 bytes from 0 on, and there"),
    "more at the end": (file_of({"a": GOOD}, bytes(9)), "speaks of 8 bytes from 0 on, and there"),
    "not from the start": (
        file_of({"a": tensor("F32", [2], 4, 12)}, bytes(12)), "speaks of 12 bytes from 4 on"
    ),
    "an overlap": (
        file_of({"a": GOOD, "b": tensor("F32", [2], 4, 12)}, bytes(12)), "'a' and 'b' overlap"
    ),
    "the same bytes": (file_of({"a": GOOD, "b": GOOD}, bytes(8)), "'a' and 'b' overlap"),
    "a gap": (
        file_of({"a": GOOD, "b": tensor("F32", [1], 12, 16)}, bytes(16)), "have a gap between"
    ),
    "metadata that is no text": (
        file_of({"__metadata__": {"a": 1}, "a": GOOD}, bytes(8)), "is not text by name"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_bad_data(qkv: Program, folder: Path, name: str) -> None:
    data, said = HOSTILE[name]
    Path("m.safetensors").write_bytes(data)
    found = qkv("scores", "-q", "m.safetensors:a", "-k", "m.safetensors:a")
    assert "m.safetensors: not a whole .safetensors file: " in found.err
    assert said in found.err
    assert (found.code, found.err.count("\n"), found.out) == (3, 1, "")


def test_what_is_allowed_is_read() -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "b": tensor("F32", [1, 2], 0, 8),
        "none": tensor("F16", [0, 5], 8, 8),
        "one": tensor("I64", [], 8, 16),
        "a": tensor("BF16", [2], 16, 20),
    }
    text = json.dumps(header).encode() + b"   "
    numbers = np.array([1, 2], np.float32).tobytes() + np.int64(7).tobytes() + b"\x80\x3f\x40\xc0"
    found = held(file_of(text, numbers))
    assert {name: (array.shape, array.tolist()) for name, array in found.items()} == {
        "b": ((1, 2), [[1, 2]]),
        "none": ((0, 5), []),
        "one": ((), 7),
        "a": ((2,), [1, -3]),
    }
    assert found["a"].dtype == np.float32
    assert held(file_of(b"{}")) == {}


def test_types_that_are_no_numbers_here_do_not_hide_the_others(qkv: Program, folder: Path) -> None:
    header = {"q": tensor("F4", [4, 4], 0, 8), "k": tensor("F32", [1, 2], 8, 16)}
    Path("m.safetensors").write_bytes(file_of(header, bytes(16)))
    assert qkv("scores", "-q", "m.safetensors:k", "-k", "m.safetensors:k").out == "0.0\n"
    wrong = qkv("scores", "-q", "m.safetensors:q", "-k", "m.safetensors:k")
    assert (wrong.code, "q is of type F4, which is not read here" in wrong.err) == (3, True)


def test_tensors_that_lie_anywhere_are_mapped(folder: Path) -> None:
    """At an odd place, which no processor likes, and larger than what is copied."""
    array = np.arange(2**20 + 3, dtype=np.float64)
    header = {"a": tensor("U8", [3], 0, 3), "b": tensor("F64", [len(array)], 3, 3 + array.nbytes)}
    Path("m.safetensors").write_bytes(file_of(header, b"abc" + array.tobytes()))
    document = read_document(Source.file(Path("m.safetensors")))
    found = document["b"].read().array
    np.testing.assert_array_equal(found, array)
    assert not found.flags.writeable
    assert found.base is not None


def test_a_pipe_is_told_by_its_first_bytes(qkv: Program) -> None:
    data = file_of({"k": tensor("F32", [1, 2], 0, 8), "q": tensor("F32", [1, 2], 8, 16)},
                   np.array([1, 2, 3, 4], np.float32).tobytes())  # fmt: skip
    assert qkv("scores", "--qkv", "-", stdin=data).out == "11.0\n"


def test_ours_is_written_by_the_formats_rules(qkv: Program, folder: Path) -> None:
    assert qkv("run", "--seed", 42, "-o", "s.safetensors", "--quiet").code == 0
    data = Path("s.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert (8 + length) % 8 == 0
    assert list(header) == ["scores", "weights", "output"]
    assert header["weights"] == tensor("F64", [5, 5], 200, 400)
    body = np.frombuffer(data, np.float64, 25, 8 + length + 200)
    weights = json.loads(qkv("softmax", "--seed", 42, "-f", "json").out)["weights"]["data"]
    assert body.tolist() == np.ravel(weights).tolist()
    expected = qkv("run", "--seed", 42, "--expect", "s.safetensors")
    assert (expected.code, expected.out.count("same")) == (0, 3)


@given(st.binary(max_size=60), st.integers(0, 70))
def test_any_bytes_are_tensors_or_bad_data(data: bytes, cut: int) -> None:
    whole = file_of({"a": GOOD}, bytes(8))
    for spoilt in (data, whole[:cut] + data + whole[cut:], whole[:cut] + data):
        try:
            found = held(spoilt or file_of(b"{}"))
        except DataError:
            continue
        assert all(isinstance(array, np.ndarray) for array in found.values())


@pytest.mark.parametrize("length", [640, 896, 1152, 1408, 0x8B1F, 0x4B50])
def test_a_header_whose_length_looks_like_anothers_first_bytes(
    qkv: Program, folder: Path, length: int
) -> None:
    """0x280 is the beginning of a pickle, 0x4B50 that of a zip archive."""
    header = json.dumps({"a": tensor("F32", [1, 2], 0, 8)}).encode().ljust(length)
    Path("m.safetensors").write_bytes(file_of(header, np.ones(2, np.float32).tobytes()))
    assert qkv("scores", "-q", "m.safetensors", "-k", "m.safetensors").out == "2.0\n"
    data = Path("m.safetensors").read_bytes()
    assert qkv("scores", "--qkv", "-:{a,a}", stdin=data).out == "2.0\n"


def test_an_empty_shape_may_not_be_beyond_numbers(qkv: Program, folder: Path) -> None:
    for shape in ([0, 2**62], [0, 2**62, 2**62]):
        Path("m.safetensors").write_bytes(file_of({"a": tensor("F32", shape, 0, 0)}))
        wrong = qkv("inspect", "m.safetensors")
        assert (
            wrong.code,
            "the shape of 'a' is one that no array" in wrong.err + wrong.out,
        ) == (3, True)


def test_no_array_can_have_the_name_of_the_metadata(qkv: Program, folder: Path) -> None:
    arrays: dict[str, Any] = {"__metadata__": np.eye(2)}
    np.savez("m.npz", **arrays)
    wrong = qkv("inspect", "m.npz", "-o", "m.safetensors", "--quiet")
    assert (wrong.code, "no array can be called __metadata__ there" in wrong.err) == (4, True)
    assert not Path("m.safetensors").exists()


def test_numpys_types_that_it_keeps_are_those_of_the_format() -> None:
    for code in np.typecodes["All"]:
        for dtype in (np.dtype(code), np.dtype(code).newbyteorder(">")):
            in_format = np.dtype(dtype.newbyteorder("=")) in map(np.dtype, [*TYPES.values(), "c8"])
            assert SAFETENSORS.keeps(dtype) == in_format, dtype
