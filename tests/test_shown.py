"""What is shown is what is computed, whichever way it is computed."""

import math
import re
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qkvcli
from qkvcli.core.compute import steps_of
from qkvcli.core.config import AttentionConfig, Stage
from qkvcli.core.dense import dense
from qkvcli.core.dtypes import Float, converted, widened
from qkvcli.core.facts import Weighed, largest, left_to_sink
from qkvcli.core.fitting import problem_of as fitted
from qkvcli.core.operands import Array, Input, Operand, Operands
from qkvcli.core.problem import Problem
from qkvcli.core.steps import Step
from qkvcli.core.together import TOGETHER
from qkvcli.core.views import Matrix, Selection, View, by_matrix, views
from qkvcli.render import markdown
from qkvcli.render.grids import Room
from qkvcli.render.notebook import Shown, text
from qkvcli.render.tables import step_tables
from tests.test_layer import layers
from tests.test_models import problems

ALL = ("scores", "scaled", "capped", "biased", "masked", "weights", "output", "gated", "projected")


def problem_of(**asked: Any) -> Problem:
    found = qkvcli.attend(**asked)._problem
    assert found is not None
    return found


def names_of(problem: Problem) -> tuple[str, ...]:
    there = {step.name for step in (*problem.given, *problem.outlines())}
    return tuple(name for name in ("query", "key", "value", *ALL) if name in there)


@st.composite
def selections(draw: Any, problem: Problem) -> Selection:
    """Some rows, heads and batches of a problem, or all of them."""

    def some(count: int) -> Any:
        numbers = st.lists(st.integers(0, count - 1), min_size=1, unique=True)
        return draw(st.none() | numbers.map(tuple))

    rows = some(problem.shape[-2])
    heads = some(problem.leading[-1]) if problem.leading else None
    batches = some(problem.leading[-2]) if len(problem.leading) > 1 else None
    return Selection(None if rows is None else np.array(sorted(rows)), heads, batches)


def assert_the_same(found: View, array: Array, hidden: Array | None) -> None:
    assert found.shape == array.shape
    np.testing.assert_allclose(found.array, array, rtol=1e-9, atol=1e-12)
    matrices = list(found.matrices())
    assert len(matrices) == math.prod(array.shape[:-2])
    for place, matrix in zip(np.ndindex(*array.shape[:-2]), matrices, strict=True):
        assert matrix.place == tuple(axis[i] for axis, i in zip(found.axes, place, strict=True))
        np.testing.assert_allclose(matrix.array, array[place], rtol=1e-9, atol=1e-12)
        assert (matrix.hidden is None) == (hidden is None)
        if hidden is not None and matrix.hidden is not None:
            np.testing.assert_array_equal(matrix.hidden, hidden[place])
    for most in (1, 2, 100):
        rows = [one.matrix.array for one in found.stretches(most)]
        assert max(map(len, rows), default=0) <= most
        np.testing.assert_allclose(np.concatenate(rows), array.reshape(-1, array.shape[-1]))


def check_every_way(problem: Problem, selection: Selection) -> None:
    part, names = selection.of(problem), names_of(problem)
    expected = {step.name: step.array for step in steps_of(part)}
    hidden = part.hidden if problem.weights is None else None
    for held, by_rows in ((TOGETHER, False), (0, False), (0, True)):
        found = list(views(problem, "output", names, selection, held, by_rows))
        assert [view.step.name for view in found] == list(names)
        for view in found:
            if view.step.name in expected:
                hides = hidden if view.step.name == "weights" else None
                assert_the_same(view, expected[view.step.name], hides)
                if held:  # little is computed at once, as it always is
                    np.testing.assert_array_equal(view.array, expected[view.step.name])


@given(st.data())
def test_views_show_what_is_computed(data: Any) -> None:
    problem = problem_of(**data.draw(problems()))
    check_every_way(problem, data.draw(selections(problem)))


@given(st.data())
def test_views_of_layers_show_what_is_computed(data: Any) -> None:
    problem = problem_of(**data.draw(layers()))
    check_every_way(problem, data.draw(selections(problem)))


@given(st.data(), st.sampled_from(["scores", "masked", "weights"]), st.booleans())
def test_views_of_given_steps_show_what_is_computed(data: Any, name: str, batched: bool) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    numbers = rng.random((*(2,) * batched, 4, 3, 5))
    value = rng.normal(size=(*(2,) * batched, 2, 5, 3))  # each serves two heads
    if name == "masked":
        numbers[..., 1] = -np.inf
    operands = Operands(value=Input(Operand(value, "value")))
    step = Operand(numbers, name)
    operands = (
        replace(operands, weights=step) if name == "weights" else replace(operands, scores=step)
    )
    problem = fitted(AttentionConfig.of(), operands)
    check_every_way(problem, data.draw(selections(problem)))


def of_heads(heads: int = 4, **more: Any) -> Problem:
    rng = np.random.default_rng(4)
    q, k, v = (rng.normal(size=(9, 12)).astype("f4") for _ in "qkv")
    return problem_of(query=q, key=k, value=v, heads=heads, causal=True, **more)


def shown(problem: Problem, held: int, width: int = 70) -> str:
    found = views(problem, "output", names_of(problem), Selection(), held)
    return text(Shown(list(found)), width)


@pytest.mark.parametrize("more", [{}, {"wo": np.eye(12)}, {"kv_heads": 4, "scale": "sqrt"}])
def test_tables_are_the_same_whichever_way_they_are_computed(more: dict[str, Any]) -> None:
    assert shown(of_heads(**more), 0) == shown(of_heads(**more), TOGETHER)


@pytest.mark.parametrize("heat", [None, "256"])
def test_each_matrix_is_computed_once_and_let_go(
    monkeypatch: pytest.MonkeyPatch, heat: str | None
) -> None:
    found: list[weakref.ref[Array]] = []
    alive: list[int] = []

    def counted(problem: Problem, until: Stage) -> dict[str, Array]:
        arrays = {name: array.copy() for name, array in dense(problem, until).items()}
        found.append(weakref.ref(arrays["scores"]))
        alive.append(sum(one() is not None for one in found))
        return arrays

    monkeypatch.setattr("qkvcli.core.together.dense", counted)
    monkeypatch.setattr("qkvcli.core.together.TOGETHER", 3 * 9 * 9)  # room for one at a time
    problem, names = of_heads(heads=12), ("scores", "weights", "output")
    found.clear()
    alive.clear()
    blocks = list(step_tables(views(problem, "output", names, Selection(), 0), Room(heat=heat)))
    assert len(blocks) > 24
    assert len(alive) == 12  # the joined output is made of what the tables had computed
    assert max(alive) <= 3  # the one in hand, and those that threads are about to let go


def test_work_on_matrices_is_in_their_order() -> None:
    found = list(views(of_heads(), "output", ("scores", "weights"), Selection(), 0))

    def places(matrices: Sequence[Matrix]) -> tuple[tuple[int, ...], ...]:
        return tuple(matrix.place for matrix in matrices)

    assert list(by_matrix(found, places)) == [((h,), (h,)) for h in range(4)]


ROW = st.builds(
    lambda seed, count, spread: np.random.default_rng(seed).normal(scale=spread, size=count),
    st.integers(0, 2**32),
    st.integers(1, 100_000),
    st.floats(0, 30),
)


@given(ROW, st.sampled_from(["f2", "f4", "f8"]))
def test_a_rows_own_precision_counts_its_keys(scores: Array, kind: str) -> None:
    exact = np.exp(scores - scores.max())
    row = (exact / exact.sum()).astype(kind)
    shares = row[row > 0].astype(np.float64)
    if not shares.size:  # too many share it for float16
        return
    shares /= shares.sum()
    keys = np.exp2(-(shares * np.log2(shares)).sum())
    assert Weighed(row).effective == pytest.approx(keys, rel=3e-7)


@pytest.mark.parametrize("count", [1, 7, 1000, 999_999])
def test_keys_that_weigh_the_same_are_counted_exactly(count: int) -> None:
    for kind in ("f4", "f8"):
        row = np.zeros(1_000_000, kind)
        row[:count] = 1 / count
        assert f"{Weighed(row).effective:.0f}" == str(count)


def test_what_is_said_of_a_row_is_the_same_asked_alone() -> None:
    rng = np.random.default_rng(0)
    for row in (rng.random(9) / 9, np.zeros(3), np.array([0.5, np.nan]), np.array([0.1, -np.inf])):
        said = Weighed(row)
        assert said.largest.tolist() == largest(row).tolist()
        assert said.left == pytest.approx(left_to_sink(row), nan_ok=True)
        assert said.is_weights == bool(np.isfinite(row).all() and (row >= 0).all())


def write(view: View, room: Room) -> list[str]:
    return list(markdown.step_markdown(view, room))


@pytest.mark.parametrize("least", [1.0, 1e-7])
def test_markdown_in_parts_is_that_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, least: float
) -> None:
    problem = of_heads(labels=list("abcdefgh|"), scale=least)
    for name in ("scaled", "weights", "output"):
        [view] = views(problem, "output", (name,), Selection(), by_rows=True)
        whole = write(view, Room())
        wide = [line.replace(" ", "") for line in write(view, Room(10_000))]
        assert [line.replace(" ", "") for line in whole] == wide
        for at_once in (1, 25):
            monkeypatch.setattr(markdown, "_AT_ONCE", at_once)
            [again] = views(problem, "output", (name,), Selection(), 0, by_rows=True)
            assert write(again, Room()) == whole
        monkeypatch.undo()


def test_one_notation_serves_all_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "_AT_ONCE", 1)
    step = Step.held("scores", np.array([[1e-9], [2e20]]))
    assert "| 0 | 1.0000e-09 |" in write(View.whole(step), Room())


def test_an_empty_matrix_has_its_header() -> None:
    for shape in ((0, 2), (2, 0), (0, 0)):
        lines = write(View.whole(Step.held("scores", np.zeros(shape))), Room())
        assert re.fullmatch(r"\|  (\| \d )*\|", lines[2]), lines
        assert len(lines) == 5 + shape[0]


def test_float16_is_made_as_numpy_makes_it() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    np.testing.assert_array_equal(widened(every).view("u4"), every.astype("f4").view("u4"))
    exact = every.astype("f4")
    exact = exact[np.isfinite(exact)]
    exact.sort()
    between = (exact[1:] + exact[:-1]) / 2  # which is halfway, and rounds to even
    sides = [np.nextafter(between, np.float32(to)) for to in (-np.inf, np.inf)]
    tiny = np.array([0.0, -0.0, np.inf, -np.inf, 65520, 1e-45, -1e-45], "f4")
    for numbers in (exact, between, *sides, tiny, np.empty((0, 3), "f4"), exact[::2]):
        with np.errstate(over="ignore"):
            expected = numbers.astype(np.float16)
        found = converted(numbers, Float("float16"))
        np.testing.assert_array_equal(found.view("u2"), expected.view("u2"))
    assert np.isnan(converted(np.full((2, 2), np.nan, "f4"), Float("float16"))).all()
