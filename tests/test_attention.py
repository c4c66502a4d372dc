"""The arithmetic, against a loop in plain Python and against what models computed."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import qkvcli
from qkvcli.errors import DataError, ShapeError, UsageError
from tests import oracle

FLOATS = st.floats(-30, 30)


@given(st.data(), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
def test_attend_is_the_sum_over_keys(data: Any, n: int, m: int, d: int, d_v: int) -> None:
    query, key, value = (
        data.draw(arrays(np.float64, shape, elements=FLOATS))
        for shape in ((n, d), (m, d), (m, d_v))
    )
    scale: Any = data.draw(st.sampled_from([None, "sqrt", 0.5]))
    causal = data.draw(st.booleans())
    factor = {None: 1.0, "sqrt": 1 / math.sqrt(d), 0.5: 0.5}[scale]
    _, expected = oracle.attention(
        query.tolist(),
        key.tolist(),
        value.tolist(),
        scale=factor,
        seen=lambda i, j: j <= i or not causal,
    )
    steps = qkvcli.attend(query, key, value, scale=scale, causal=causal)
    np.testing.assert_allclose(steps.output, expected, atol=1e-9)
    np.testing.assert_allclose(steps.weights.sum(axis=-1), 1)


@pytest.mark.parametrize(
    "leading", [((2, 3), (2, 3)), ((3,), (2, 3)), ((1, 3), (2, 1)), ((), (4,))]
)
def test_leading_axes_are_attended_one_by_one(leading: Any) -> None:
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(*axes, 4, 5)) for axes in (*leading, leading[1]))
    output = qkvcli.attend(query, key, value).output
    shape = np.broadcast_shapes(*leading)
    whole = [np.broadcast_to(a, (*shape, 4, 5)) for a in (query, key, value)]
    for index in np.ndindex(shape):
        _, one = oracle.attention(*(a[index].tolist() for a in whole))
        np.testing.assert_allclose(output[index], one, atol=1e-12)


@pytest.mark.parametrize(
    ("given", "gives"),
    [
        (np.int8, np.float64),
        (np.uint8, np.float64),
        (np.bool_, np.float64),
        (np.float16, np.float16),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (">f4", np.float32),
        (">i2", np.float64),
    ],
)
def test_results_have_the_inputs_precision(given: Any, gives: Any) -> None:
    numbers = np.array([[0, 100, 1], [1, 0, 100]])
    array = numbers.astype(given)
    steps = qkvcli.attend(array, array, array)
    assert [step.array.dtype for step in steps] == [np.dtype(gives)] * 3
    exact = array.astype(np.float64) @ array.astype(np.float64).T
    assert (steps.scores == exact.astype(gives)).all()


def test_float16_is_worked_on_in_float32() -> None:
    query = np.full((1, 64), 60, np.float16)  # the score, 230400, is more than float16 holds
    steps = qkvcli.attend(query, query, np.ones((1, 2), np.float16))
    assert np.isinf(steps.scores).all()
    assert steps.weights.tolist() == [[1]]
    assert steps.output.tolist() == [[1, 1]]


def test_memory_order_makes_no_difference() -> None:
    rng = np.random.default_rng(1)
    query, key, value = rng.normal(size=(3, 6, 4))
    plain = qkvcli.attend(query, key, value).output
    backwards = np.ascontiguousarray(key[::-1])[::-1]
    odd = qkvcli.attend(np.asfortranarray(query), backwards, value.astype(">f8")).output
    np.testing.assert_allclose(odd, plain, rtol=1e-12)  # BLAS may sum in another order


@given(arrays(np.float64, (3, 4), elements=st.floats(-700, 700)), st.floats(-100, 100))
def test_softmax_rows_are_shares_of_one_and_ignore_a_shift(scores: Any, shift: float) -> None:
    weights = qkvcli.softmax(scores)
    np.testing.assert_allclose(weights.sum(axis=-1), 1)
    assert (weights >= 0).all()
    np.testing.assert_allclose(qkvcli.softmax(scores + shift), weights, rtol=1e-9, atol=1e-300)


def test_softmax_takes_off_the_maximum() -> None:
    assert qkvcli.softmax([[1e4, 1e4], [-1e4, -1e4]]).tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_a_row_with_no_key_left_is_zeros() -> None:
    assert qkvcli.softmax([[-np.inf, -np.inf], [0, -np.inf]]).tolist() == [[0, 0], [1, 0]]
    steps = qkvcli.attend(np.ones((2, 3)), np.ones((0, 3)), np.ones((0, 4)))
    assert steps.weights.shape == (2, 0)
    assert steps.output.tolist() == [[0] * 4] * 2


def test_no_queries_give_no_rows() -> None:
    assert qkvcli.attend(np.ones((0, 3)), np.ones((2, 3)), np.ones((2, 4))).output.shape == (0, 4)


def test_a_hidden_value_does_not_spoil_the_output() -> None:
    value = np.array([[1.0, 2.0], [np.nan, np.inf]])
    steps = qkvcli.attend(np.ones((2, 1)), np.ones((2, 1)), value, causal=True)
    assert steps.output[0].tolist() == [1, 2]
    assert np.isnan(steps.output[1, 0])
    assert steps.output[1, 1] == np.inf
    batch = qkvcli.output(np.array([[[1.0, 0.0]]] * 2), np.stack([value, value[::-1]]))
    assert batch[0].tolist() == [[1, 2]]
    assert np.isnan(batch[1, 0, 0])


@pytest.mark.parametrize("n", [1, 3, 5])
@pytest.mark.parametrize("m", [1, 3, 5])
def test_causal_hides_later_keys(n: int, m: int) -> None:
    weights = qkvcli.attend(np.ones((n, 2)), np.ones((m, 2)), np.ones((m, 1)), causal=True).weights
    for i in range(n):
        seen = min(i + 1, m)
        assert weights[i].tolist() == pytest.approx([1 / seen] * seen + [0] * (m - seen))


def test_the_article() -> None:
    np.random.seed(42)
    query, key, value = np.random.rand(5, 64), np.random.rand(5, 64), np.random.rand(5, 64)
    steps = qkvcli.attend(query, key, value)
    assert steps.names == ("scores", "weights", "output")
    assert steps.scores[0].round(4).tolist() == [12.9818, 16.4401, 15.7441, 15.1542, 12.7282]
    assert steps.weights[0].round(4).tolist() == [0.0172, 0.5462, 0.2723, 0.1510, 0.0133]
    assert steps.output[0, :4].round(4).tolist() == [0.1533, 0.8085, 0.2852, 0.7429]
    assert (qkvcli.scores(query, key) == steps.scores).all()
    assert (qkvcli.softmax(steps.scores) == steps.weights).all()
    assert (qkvcli.output(steps.weights, value) == steps.output).all()


def test_steps_are_a_sequence_by_place_and_name() -> None:
    steps = qkvcli.attend(np.eye(2), np.eye(2), np.eye(2), scale="sqrt", causal=True)
    assert [step.name for step in steps] == ["scores", "scaled", "masked", "weights", "output"]
    assert steps["masked"] is steps[2]
    assert steps[-2:].names == ("weights", "output")
    np.testing.assert_array_equal(np.asarray(steps["weights"]), steps.weights)
    with pytest.raises(KeyError, match="no step 'capped'"):
        steps["capped"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: qkvcli.scores(np.ones((4, 5)), np.ones((4, 3))), "query (4, 5) and key (4, 3)"),
        (lambda: qkvcli.scores(np.ones(5), np.ones((4, 5))), "query (5,): needs the axes"),
        (lambda: qkvcli.scores(np.ones((2, 1, 5)), np.ones((3, 4, 5))), "must broadcast"),
        (lambda: qkvcli.output(np.ones((4, 5)), np.ones((4, 5))), "one row of values for each key"),
        (lambda: qkvcli.softmax(3), "scores ()"),
    ],
)
def test_shapes_that_disagree_are_both_named(call: Any, message: str) -> None:
    with pytest.raises(ShapeError) as raised:
        call()
    assert message in str(raised.value)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize("numbers", [[[1j]], [["a"]], [[None]], [[1], [2, 3]]])
def test_what_is_not_real_numbers_is_refused(numbers: Any) -> None:
    with pytest.raises(DataError):
        qkvcli.softmax(numbers)


@pytest.mark.parametrize("scale", [0.5, np.float32(0.5), np.array(0.5), Fraction(1, 2)])
def test_a_scale_may_be_a_number_of_any_make(scale: Any) -> None:
    assert qkvcli.scores([[4]], [[1]], scale=scale).tolist() == [[2]]


@pytest.mark.parametrize("scale", ["squirt", float("nan"), float("inf"), True, [1], "0.5"])
def test_a_scale_that_does_not_exist_is_refused(scale: Any) -> None:
    with pytest.raises(UsageError, match="is not none, sqrt or a finite number"):
        qkvcli.scores([[1]], [[1]], scale=scale)


def test_a_scale_of_no_width_is_refused() -> None:
    with pytest.raises(ShapeError, match="d is 0"):
        qkvcli.scores(np.ones((2, 0)), np.ones((3, 0)), scale="sqrt")
