"""Rows that are converted where they are looked at are the array that they stand for."""

import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qkvcli
from qkvcli.core import attention
from qkvcli.core.compute import Sizes, output_into, steps_of
from qkvcli.core.rows import Rows, Stretch, blocks_of, each, joined, rows_of
from tests.conftest import Program
from tests.test_long import fitted, peak_of

single = partial(np.asarray, dtype=np.float32)
INDEXES = (
    (Ellipsis, slice(1, 3), slice(None)),
    (Ellipsis, np.array([3, 0]), slice(None)),
    (Ellipsis, 2, slice(None)),
    (Ellipsis, slice(None), slice(0, 2)),
    (Ellipsis, slice(None, None, 2), slice(None)),
    (Ellipsis, slice(4, 4), slice(None)),
    (0,),
    (slice(1, None),),
    (),
)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=3),
    st.sampled_from([(), (2,), (2, 3)]),
    st.sampled_from(INDEXES),
    st.sampled_from(["f2", "f4", ">f8", "i4"]),
)
def test_an_index_gives_what_it_gives_of_the_array(
    counts: list[int], leading: tuple[int, ...], index: Any, dtype: str
) -> None:
    rng = np.random.default_rng(0)
    parts = [(rng.normal(size=(*leading, n, 3)) * 9).astype(dtype) for n in [*counts, 4]]
    rows = Rows(tuple(Stretch(part, (single, partial(np.multiply, 2))) for part in parts))
    whole = np.concatenate([part.astype(np.float32) * 2 for part in parts], axis=-2)
    assert (rows.shape, rows.ndim, rows.size) == (whole.shape, whole.ndim, whole.size)
    assert (len(rows), rows.dtype) == (len(whole), whole.dtype)
    np.testing.assert_array_equal(np.asarray(rows), whole)
    found = rows[index]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(found), whole[index])
    np.testing.assert_array_equal(rows + whole, 2 * whole)


def test_blocks_go_through_all_the_tokens() -> None:
    wide = np.zeros((3000, 1000), np.float16)
    rows = rows_of(wide, single)
    blocks = list(blocks_of(rows))
    assert len(blocks) > 2
    assert [block.start for block in blocks[1:]] == [block.stop for block in blocks[:-1]]
    assert (blocks[0].start, blocks[-1].stop) == (0, 3000)
    assert list(blocks_of(wide)) == [slice(0, 3000)]


def test_a_view_of_rows_is_rows() -> None:
    half = np.arange(24, dtype=np.float16).reshape(4, 6)
    rows = joined(rows_of(half, single), half.astype(np.float32))
    heads = each(rows, partial(attention.split_heads, heads=2))
    assert isinstance(heads, Rows)
    expected = attention.split_heads(np.concatenate([half, half]), 2)
    np.testing.assert_array_equal(np.asarray(heads), expected)
    with pytest.raises(ValueError, match="copied"):
        np.asarray(rows, copy=False)


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", None])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int16, ">f4"])
def test_what_is_converted_in_blocks_is_what_was_converted_whole(
    past: bool, dtype: Any, kind: Any
) -> None:
    """Each step, to the bit: beside the same numbers converted before."""
    rng = np.random.default_rng(0)
    names = ("query", "key", "value", *(("past_key", "past_value") if past else ()))
    given = {name: (rng.normal(size=(40, 8)) * 5).astype(kind) for name in names}
    working = "float64" if kind == np.int16 and dtype is None else "float32"
    working = "float64" if dtype == "float64" else working
    before = {name: array.astype(working) for name, array in given.items()}
    if dtype is None:
        dtype = {np.float16: "float16", np.int16: "float64"}.get(kind, "float32")
    options: dict[str, Any] = {"heads": 2, "scale": "sqrt", "dtype": dtype}
    for sizes in (Sizes(), Sizes(0, 100, 7, 5)):
        found = steps_of(fitted({**given, **options}), sizes=sizes)
        expected = steps_of(fitted({**before, **options}), sizes=sizes)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.array, other.array, err_msg=one.name)
    out = np.empty(found[-1].shape, found[-1].dtype)
    output_into(fitted({**given, **options}), out, sizes=sizes)
    np.testing.assert_array_equal(out, found[-1].array)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "cache", "heads"])
def test_a_few_rows_of_many_copy_no_keys(qkv: Program, folder: Path, kind: str) -> None:
    """K and V are 51 MB each in float32; ten rows of scores 8 MB."""
    rng = np.random.default_rng(0)
    arrays = {n: rng.standard_normal((200_000, 64), dtype=np.float32) for n in "qkv"}
    files = [word for name in "qkv" for word in (f"-{name}", f"{name}.npy")]
    for name, array in arrays.items():
        if kind == "float16":
            array = array.astype(np.float16)
        if kind == "bfloat16":
            array = (array.view(np.uint32) >> 16).astype("<u2").view("V2")
        np.save(f"{name}.npy", array)
    if kind == "cache":
        np.save("now.npy", arrays["k"][:100])
        files = ["-q", "now.npy", "-k", "now.npy", "-v", "now.npy"]
        files += ["--past-key", "k.npy", "--past-value", "v.npy"]
    if kind == "heads":
        files += ["--heads", "4"]
    least = peak_of("run", "-f", "csv")
    mapped = 2 * 200_000 * 64 * (2 if kind in ("float16", "bfloat16") else 4) / 1e6
    heads = 4 if kind == "heads" else 1
    assert peak_of("output", *files, "--rows", "0:10", "-f", "csv") < least + mapped + 55 + 25 * (
        heads - 1
    )


@pytest.mark.parametrize("past", [False, True])
def test_there_may_be_no_keys(past: bool) -> None:
    half = np.ones((2, 4), np.float16)
    none = half[:0]
    given: dict[str, Any] = {"query": half, "key": none, "value": none}
    if past:
        given = {"query": half, "key": half, "value": half, "past_key": none, "past_value": none}
    expected = np.ones((2, 4)) if past else np.zeros((2, 4))
    np.testing.assert_array_equal(qkvcli.attention(**given), expected)
    np.testing.assert_array_equal(qkvcli.attend(**given).output, expected)


def test_what_overflows_in_a_block_is_shown_and_not_warned_of() -> None:
    keys = np.full((40_000, 64), 60_000, np.float16)
    scores = qkvcli.scores(np.full((1, 64), 1e38, np.float32), keys)
    assert np.isposinf(scores).all()


def test_bfloat16_of_a_file_is_what_its_numbers_are(qkv: Program, folder: Path) -> None:
    """More than are decoded at once: beside the same numbers in float32."""
    rng = np.random.default_rng(0)
    files: dict[str, list[str]] = {"bits": [], "wide": []}
    for name in "qkv":
        array = rng.standard_normal((2, 9000, 64), dtype=np.float32)
        bits = (array.view(np.uint32) >> 16).astype("<u2")
        np.save(f"{name}-bits.npy", bits.view("V2"))
        np.save(f"{name}-wide.npy", (bits.astype(np.uint32) << 16).view(np.float32))
        for kind, words in files.items():
            words += [f"-{name}", f"{name}-{kind}.npy"]
    for more in (["--rows", "3,8999"], ["--layout", "lhd", "--rows", "0"]):
        words = ["output", "--scale", "sqrt", "-f", "npy", *more]
        found, expected = (
            np.load(io.BytesIO(qkv(*words, *files[kind]).data)) for kind in ("bits", "wide")
        )
        np.testing.assert_allclose(found, expected, atol=2e-6)  # summed in blocks
    q, k, v = (np.load(f"{name}-wide.npy") for name in "qkv")
    np.save("x.npy", qkvcli.attention(q, k, v, scale="sqrt"))
    assert qkv("output", "--scale", "sqrt", *files["bits"], "--expect", "x.npy").code == 0
