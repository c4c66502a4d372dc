"""bfloat16, which NumPy lacks: rounded to in one place, carried in float32, taken from anywhere."""

import json
import math
import pickle
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import qkvcli
from qkvcli.core.compare.tolerance import ulps
from qkvcli.core.compute import Sizes, output_into, steps_of
from qkvcli.core.config import AttentionConfig
from qkvcli.core.dense import dense
from qkvcli.core.dtypes import Float, converted
from qkvcli.core.fitting import problem_of
from qkvcli.core.operands import Input, Operand, Operands
from qkvcli.core.patches import Fit, patches
from qkvcli.core.problem import Problem
from qkvcli.core.views import Selection

from .conftest import Program
from .test_library import Tensor

BFLOAT16 = Float("bfloat16")
SMALL = Sizes(0, 24, 3, 2)
"""Few rows at a time, and blocks of three queries and two keys."""
LAYERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scaled and causal": {"scale": "sqrt", "causal": True},
    "capped, with sinks": {"softcap": 2.0, "sinks": [0.5, -1.0]},
    "turned and projected": {"rope": 100.0, "wo": np.linspace(-1, 1, 80).reshape(8, 10)},
    "softmax in bfloat16": {"softmax_dtype": "bfloat16"},
    "softmax in float16": {"softmax_dtype": "float16", "alibi": True},
}


def nearest(number: float) -> float:
    """The bfloat16 nearest to a number, by the arithmetic of fractions; of two, the even one."""
    if not math.isfinite(number) or number == 0:
        return number
    exact = abs(Fraction(number))
    power = exact.numerator.bit_length() - exact.denominator.bit_length()
    power -= exact < Fraction(2) ** power
    unit = Fraction(2) ** (max(power, -126) - 7)
    size = round(exact / unit) * unit  # Python rounds half to even
    return math.copysign(float(size) if size < 2**128 else math.inf, number)


def held(array: Any) -> Any:
    """Whether bfloat16 has all of some numbers."""
    wide = np.asarray(array, np.float64)
    return [nearest(float(number)) for number in wide.flat] == pytest.approx(
        list(wide.flat), rel=0, abs=0, nan_ok=True
    )


def drawn(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-2, 2, size=shape)


def layer(name: str, dtype: str = "bfloat16", **given: Any) -> Problem:
    """A problem of two heads, whose values are above 0, so that no sum of them nears it."""
    options: dict[str, Any] = {**LAYERS[name], **given}
    sides: list[Any] = [
        Input(Operand(array, side))
        for side, array in zip(
            ("query", "key", "value"),
            (drawn(2, 7, 4), drawn(2, 9, 4, seed=1), drawn(2, 9, 4, seed=2) + 3),
            strict=True,
        )
    ]
    more: dict[str, Any] = {
        part: Operand(np.asarray(options.pop(part)), part)
        for part in ("sinks", "wo")
        if part in options
    }
    return problem_of(AttentionConfig.of(dtype=dtype, **options), Operands(*sides, **more))


TIE = 1 + 2.0**-8


@given(st.floats(allow_nan=False))
@example(TIE)
@example(1 + 3 * 2.0**-8)
@example(TIE + 2.0**-50)  # float32 has the tie itself in place of it, which goes down
@example(-(TIE + 2.0**-40))
@example(1 + 3 * 2.0**-8 - 2.0**-50)
@example(2.0**-134)  # half of the least
@example(2.0**-134 * (1 + 2.0**-52))
@example(2.0**-126 - 2.0**-134)
@example(5e-324)
@example(-0.0)
@example(math.inf)
@example(float(np.finfo(np.float32).max))
@example(2.0**128 - 2.0**119)  # halfway from the largest to what would be the next
@example(math.nextafter(2.0**128 - 2.0**119, 0))
@example(1e300)
def test_rounding_is_that_of_exact_fractions(number: float) -> None:
    found = converted(np.array([number]), BFLOAT16)
    assert found.dtype == np.float32
    assert [str(float(found[0]))] == [str(nearest(number))]  # −0 is not 0


@given(st.floats(allow_nan=False, width=32), st.booleans())
def test_float32_is_rounded_as_float64_is(number: float, swapped: bool) -> None:
    given_array = np.array([number], ">f4" if swapped else np.float32)
    found = converted(given_array, BFLOAT16)
    assert str(float(found[0])) == str(nearest(number))
    assert float(given_array[0]) == number, "what is given stays as it is"


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble, np.int64, np.uint8, np.bool_])
def test_other_types_are_rounded_once(dtype: Any) -> None:
    numbers = np.array([0, 1, 3, 100, 129, 201, 255], dtype)
    expected = [nearest(float(number)) for number in numbers]
    assert converted(numbers, BFLOAT16).tolist() == expected


def test_longdouble_is_rounded_once() -> None:
    """Where it is wider than float64, the last bits of both types may be on the way."""
    number = np.longdouble(TIE) + np.longdouble(2) ** -60
    above = number > np.longdouble(TIE)  # elsewhere it is float64, and the number is the tie
    assert converted(np.array([number]), BFLOAT16).tolist() == [1 + 2.0**-7 if above else 1.0]


def test_all_numbers_of_a_kind_are_rounded_as_ml_dtypes_does() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, np.uint32)
    edges = np.arange(2**16, dtype=np.uint32) << 16
    bits = np.concatenate([bits, *(edges + np.uint32(low) for low in (0, 1, 0x7FFF, 0x8000))])
    numbers = bits.view(np.float32)
    with np.errstate(all="ignore"):
        expected = numbers.astype(ml_dtypes.bfloat16).astype(np.float32)
    found = converted(numbers, BFLOAT16)
    nan = np.isnan(numbers)
    assert np.isnan(found[nan]).all()
    np.testing.assert_array_equal(found[~nan].view(np.uint32), expected[~nan].view(np.uint32))


@pytest.mark.parametrize(
    "turn", [lambda a: a, lambda a: a.T, lambda a: a[::-1, ::2], lambda a: a[0, 0]]
)
def test_an_array_of_any_strides_is_rounded(turn: Any) -> None:
    array = turn(drawn(5, 6))
    found = converted(array, BFLOAT16)
    assert found.shape == array.shape
    assert found.ravel().tolist() == [nearest(number) for number in array.ravel().tolist()]


def test_which_type_holds_another() -> None:
    narrow, half, single = BFLOAT16, Float("float16"), Float("float32")
    pairs = [(a, b) for a in (narrow, half, single) for b in (narrow, half, single)]
    found = {(a.name, b.name) for a, b in pairs if a.holds(b) and a != b}
    assert found == {("float32", "bfloat16"), ("float32", "float16")}
    assert all(kind.holds(kind) for kind in (narrow, half, single))
    assert (narrow.epsilon, half.epsilon) == (2.0**-7, 2.0**-10)


@pytest.mark.parametrize("name", LAYERS)
def test_every_way_to_compute_gives_the_same(name: str) -> None:
    problem = layer(name)
    whole = dense(problem)
    assert all(array.dtype == np.float32 and held(array) for array in whole.values())
    steps = steps_of(problem, sizes=SMALL)
    for step in steps:
        assert (step.kind, step.dtype.name) == ("bfloat16", "float32")
        assert held(step.array)
        far = ulps(step.array, whole[step.name], "bfloat16")
        assert far.max() <= 1
        assert (far == 0).mean() > 0.9, "the rounding hides in which order sums are taken"
    rows = np.array([5, 0, 2])
    for part, array in dense(problem.with_rows(rows)).items():
        if steps and whole[part].shape[-2] == 7:
            assert ulps(array, whole[part][..., rows, :], "bfloat16").max() <= 1


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("held_in", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [SMALL, Sizes()], ids=["blocks", "whole"])
def test_what_is_written_into_an_array_is_rounded(name: str, held_in: Any, sizes: Sizes) -> None:
    problem = layer(name)
    outline = problem.outlines()[-1]
    out = np.empty(outline.shape, held_in)
    output_into(problem, out, sizes=sizes)
    assert held(out)
    assert ulps(out, dense(problem)[outline.name], "bfloat16").max() <= 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_what_goes_on_from_the_output_goes_on_from_all_its_digits(dtype: str) -> None:
    """Also where weights are given: the output is rounded to be shown, and not on the way."""
    weights = np.full((2, 2), 1 + 2.0**-12)
    value, wo, bo = np.array([[1.0], [0.5]]), np.array([[1024.0]]), np.array([-1536.0])
    problem = problem_of(
        AttentionConfig(dtype=dtype),  # type: ignore[arg-type]
        Operands(
            value=Input(Operand(value, "value")),
            weights=Operand(weights, "weights"),
            wo=Operand(wo, "wo"),
            bo=Operand(bo, "bo"),
        ),
    )
    problem = replace(problem, weights=Operand(weights.astype(np.float32), "weights"))
    exact = np.full((2, 1), 1536 * 2.0**-12)  # rounded on the way, it would be 0
    for sizes in (Sizes(), SMALL):
        [*_, last] = steps_of(problem, sizes=sizes)
        np.testing.assert_array_equal(last.array, exact)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_that_of_a_loop_rounded_once(causal: bool) -> None:
    query, key, value = drawn(6, 8), drawn(7, 8, seed=1), drawn(7, 3, seed=2) + 3
    found = qkvcli.attention(query, key, value, dtype="bfloat16", causal=causal)
    for i in range(6):
        row, total = [0.0] * 3, 0.0
        for j in range(i + 1 if causal else 7):
            pairs = zip(query[i].tolist(), key[j].tolist(), strict=True)
            share = math.exp(sum(nearest(a) * nearest(b) for a, b in pairs))
            total += share
            row = [mixed + share * nearest(v) for mixed, v in zip(row, value[j], strict=True)]
        expected = np.array([nearest(mixed / total) for mixed in row])
        assert ulps(found[i], expected, "bfloat16").max() <= 1


def test_a_softmax_is_taken_of_rounded_scores_and_rounded_once() -> None:
    """As PyTorch's does, whose bfloat16 kernel works in float32, and ONNX's softmax_precision."""
    scores = drawn(5, 9) * 4
    found = qkvcli.softmax(scores, softmax_dtype="bfloat16")
    assert found.dtype == np.float64
    narrow = np.vectorize(nearest)(scores)
    shares = np.exp(narrow - narrow.max(-1, keepdims=True))
    expected = np.vectorize(nearest)(shares / shares.sum(-1, keepdims=True))
    assert held(found)
    assert ulps(found, expected, "bfloat16").max() <= 1
    assert not np.array_equal(found, np.vectorize(nearest)(qkvcli.softmax(scores)))


def test_an_explanation_has_the_numbers_of_the_steps() -> None:
    inputs = drawn(4, 3), drawn(6, 3, seed=1), drawn(6, 2, seed=2)
    steps = qkvcli.attend(*inputs, dtype="bfloat16")
    found = steps.explain(2)
    np.testing.assert_array_equal(found.weights, steps.weights[2])
    assert found.output is not None
    np.testing.assert_array_equal(found.output, steps.output[2])


def test_a_picture_has_the_numbers_of_the_steps() -> None:
    problem = layer("scaled and causal")
    names = [step.name for step in problem.outlines()]
    found = patches(problem, "output", names, Selection(), Fit(4, 4), sizes=SMALL)
    assert [patch.view.step.name for patch in found] == names
    assert all(held(patch.view.array) for patch in found)


def test_what_is_shown_says_the_type() -> None:
    steps = qkvcli.attend(*drawn(3, 4, 2), dtype="bfloat16")
    assert repr(steps["weights"]) == "Step(weights = softmax(scores), (4, 4) bfloat16)"
    assert pickle.loads(pickle.dumps(steps["weights"])).kind == "bfloat16"
    assert "rows sum to 1;" in str(steps._repr_mimebundle_()["text/plain"])


def test_a_row_of_rounded_weights_still_sums_to_1(qkv: Program, folder: Path) -> None:
    """Each of 400 weights is rounded to 8 bits: that is no sink, and no fault."""
    np.save("scores.npy", drawn(3, 400))
    np.save("sinks.npy", np.array([1.0]))
    words = ("softmax", "scores.npy", "--dtype", "bfloat16", "-f", "table")
    assert "rows sum to 1; effective keys" in qkv(*words).out
    np.save("sinks.npy", np.array([-30.0]))  # next to nothing
    assert "rows sum to 1; effective keys" in qkv(*words, "--sinks", "sinks.npy").out


def test_steps_of_a_type_are_compared_by_its_tolerance() -> None:
    inputs = drawn(4, 3), drawn(6, 3, seed=1), drawn(6, 2, seed=2)
    narrow = qkvcli.attend(*inputs, scale="sqrt", dtype="bfloat16")
    same: Any = narrow
    found = qkvcli.compare(narrow, same)
    assert found.same
    assert {step.expected.kind for step in found.steps} == {"bfloat16"}
    exact = qkvcli.attend(*inputs, scale="sqrt", dtype="float32")
    assert qkvcli.compare(narrow, {"output": narrow.output}).steps[0].expected.kind == "float32"
    assert not qkvcli.compare(exact, narrow.output.astype(np.float64)).same


def test_a_softmax_in_a_type_that_holds_less_stays_in_the_reference() -> None:
    """Neither of float16 and bfloat16 holds the other."""
    inputs = 3 * drawn(5, 4), 3 * drawn(6, 4, seed=1), drawn(6, 2, seed=2)
    for dtype, softmax in (("bfloat16", "float16"), ("float16", "bfloat16")):
        options: Any = {"dtype": dtype, "softmax_dtype": softmax}
        steps = qkvcli.attend(*inputs, **options)
        again: Any = {"weights": steps["weights"]}
        assert qkvcli.compare(steps, again, ulp=1).same


# ---- What is taken ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("turn", [lambda a: a, lambda a: a.T, lambda a: a[::2]])
def test_arrays_of_ml_dtypes_are_carried_in_float32(kind: str, turn: Any) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    narrow = turn(drawn(4, 6).astype(getattr(ml_dtypes, kind)))
    found = qkvcli.scores(narrow, np.eye(narrow.shape[-1], dtype=np.float32))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, narrow.astype(np.float32))


def test_all_numbers_of_8_bits_are_those_of_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    every = np.arange(256, dtype=np.uint8)
    for kind in ("float8_e4m3fn", "float8_e5m2"):
        narrow = every.view(getattr(ml_dtypes, kind))
        np.testing.assert_array_equal(
            qkvcli.output([[1.0]], narrow[None]),
            qkvcli.output([[1.0]], narrow.astype(np.float32)[None]),
        )


def test_lists_of_ml_dtypes_are_taken() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rows = [[ml_dtypes.bfloat16(1.5), ml_dtypes.bfloat16(-2)]]
    assert qkvcli.scores(rows, [[1.0, 0.5]]).tolist() == [[0.5]]


def test_two_bytes_without_a_name_are_bfloat16() -> None:
    """NumPy saves an array of ml_dtypes so, and loads it as that."""
    bits = np.array([[0x3F80, 0xC040], [0x7F80, 0x0001]], "<u2").view("V2")
    value = qkvcli.output(np.eye(2, dtype=np.float32), bits)
    np.testing.assert_array_equal(value, np.array([[1, -3], [np.inf, 2.0**-133]], np.float32))
    fields: Any = np.zeros((2, 2), [("a", "u1"), ("b", "u1")])
    with pytest.raises(qkvcli.DtypeError, match="are not real numbers"):
        qkvcli.output(np.eye(2), fields)
    with pytest.raises(qkvcli.DtypeError, match="convert them to float32"):
        qkvcli.output(np.eye(2), np.zeros((2, 2), "V1"))


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_tensors_are_taken(kind: str) -> None:
    narrow: Any = Tensor(drawn(3, 2), f"torch.{kind}")
    expected = qkvcli.attend(*[drawn(3, 2).astype(np.float32)] * 3).output
    np.testing.assert_array_equal(qkvcli.attention(narrow, narrow, narrow), expected)


class TorchType:
    """A dtype of PyTorch's, which has no name, as far as it is looked at."""

    is_floating_point = True

    def __str__(self) -> str:
        return "torch.bfloat16"


def test_the_type_may_be_given_as_others_have_it() -> None:
    inputs = drawn(3, 4, 2)
    expected = qkvcli.attention(*inputs, dtype="bfloat16")
    kinds: list[Any] = [TorchType()]
    try:
        import ml_dtypes
    except ImportError:
        pass
    else:
        kinds += [ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16)]
    for kind in kinds:
        assert AttentionConfig(dtype=kind).dtype == "bfloat16"
        np.testing.assert_array_equal(qkvcli.attention(*inputs, dtype=kind), expected)
    with pytest.raises(qkvcli.UsageError, match="not one of float16, bfloat16, float32, float64"):
        qkvcli.attend(*inputs, dtype="bf16")  # type: ignore[arg-type]


def test_the_output_may_be_written_into_an_array_of_the_type() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    inputs = drawn(3, 5, 4)
    out = np.zeros((5, 4), ml_dtypes.bfloat16)
    assert qkvcli.attention(*inputs, dtype="bfloat16", out=out) is out
    np.testing.assert_array_equal(
        out.astype(np.float32), qkvcli.attention(*inputs, dtype="bfloat16")
    )
    with pytest.raises(qkvcli.DtypeError, match="the output is bfloat16; give floats"):
        qkvcli.attention(*inputs, dtype="bfloat16", out=np.zeros((5, 4), "V2"))


def test_somebodys_array_of_the_type_has_its_tolerance() -> None:
    inputs = drawn(3, 5, 4)
    steps = qkvcli.attend(*inputs)
    theirs = converted(steps.output, BFLOAT16)
    bits: Any = (np.ascontiguousarray(theirs).view(np.uint32) >> 16).astype("<u2").view("V2")
    assert not qkvcli.compare(steps, theirs).same
    for given_array in (bits, Tensor(theirs, "torch.bfloat16")):
        [found] = qkvcli.compare(steps, given_array).steps
        assert found.same
        assert found.expected.kind == "bfloat16"


# ---- The command line ---------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--dtype", "--softmax-dtype"])
def test_json_has_numbers_of_the_type(qkv: Program, option: str) -> None:
    told = qkv("run", "--seed", 1, "--causal", option, "bfloat16", "-f", "json")
    assert (told.code, told.err) == (0, "")
    weights = np.array(json.loads(told.out)["weights"]["data"], np.float32)
    assert held(weights)
    assert np.unique(weights).size > 2


def test_other_ways_to_show_it(qkv: Program, folder: Path) -> None:
    words = ("--seed", 1, "--dtype", "bfloat16")
    assert qkv("run", *words, "-o", "a.npz").code == 0
    assert all(held(array) for array in np.load("a.npz").values())
    assert qkv("output", *words, "-o", "a.npy").code == 0
    assert held(np.load("a.npy"))
    assert np.load("a.npy").dtype == np.float32
    for command in (("run",), ("explain", "0"), ("softmax", "-f", "heatmap")):
        assert qkv(*command, *words).code == 0
    assert qkv("run", *words, "-o", "a.html").code == 0
    assert '"dtype":"bfloat16"' in Path("a.html").read_text("utf-8").replace('": "', '":"')


def test_an_output_of_the_type_is_expected(qkv: Program, folder: Path) -> None:
    """A file of 16-bit numbers, as np.save writes ml_dtypes' and a kernel's output comes."""
    query, key, value = (converted(drawn(9, 8, seed=n), BFLOAT16) for n in range(3))
    np.savez("qkv.npz", q=query, k=key, v=value)
    scores = query @ key.T / math.sqrt(8)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    output = converted(shares / shares.sum(-1, keepdims=True) @ value, BFLOAT16)
    np.save("theirs.npy", (output.view(np.uint32) >> 16).astype("<u2").view("V2"))
    files = [word for name in "qkv" for word in (f"-{name}", "qkv.npz")]
    words = ("run", *files, "--scale", "sqrt", "--expect", "theirs.npy")
    for options in ((), ("--dtype", "bfloat16")):
        told = qkv(*words, *options, "-f", "json")
        assert told.code == 0, told.out + told.err
        [step] = json.loads(told.out)["steps"]
        assert step["dtype"] == "bfloat16"
    spoilt = output * np.float32(1.1)
    np.save("theirs.npy", (spoilt.view(np.uint32) >> 16).astype("<u2").view("V2"))
    told = qkv(*words, "-f", "json")
    assert told.code == 1
    assert json.loads(told.out)["steps"][0]["dtype"] == "bfloat16"


@pytest.mark.parametrize("ending", ["npy", "npz", "safetensors", "json", "csv"])
def test_what_is_saved_in_the_type_is_expected_in_it(
    qkv: Program, folder: Path, ending: str
) -> None:
    words = ["output", "--seed", 3, "--preset", "bert", "--dtype", "bfloat16"]
    assert qkv(*words, "-o", f"o.{ending}", "--quiet").code == 0
    found = qkv(*words, "--expect", f"o.{ending}")
    assert (found.code, "same" in found.out) == (0, True)
    if ending == "safetensors":
        assert b'"BF16"' in Path("o.safetensors").read_bytes()
