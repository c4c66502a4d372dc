"""Pictures of steps: what each patch shows, where they stand, and at any length."""

import math
import re
import tracemalloc
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from qkvcli.core.compute import Sizes
from qkvcli.core.config import ORDER
from qkvcli.core.patches import Fit, Pair, Patches, Sample, patches, reduced, starts
from qkvcli.core.problem import Problem
from qkvcli.core.steps import Step
from qkvcli.core.threads import cores
from qkvcli.core.views import Selection, View, views
from qkvcli.render.grids import Room
from qkvcli.render.heatmap import Pen, step_heatmap
from tests.conftest import SAMPLES, Program
from tests.test_long import fitted
from tests.test_models import problems

CAT = [f"-{n[0]}{SAMPLES}/cat_sat_mat/{n}.csv" for n in ("query", "key", "value")]
BERT = [f"-{n[0]}{SAMPLES}/bert/{n}.npy" for n in ("query", "key")]
BERT += ["--heads", "12", "--preset", "bert", "--labels", "[CLS] the cat sat on the mat . [SEP]"]
ALL = ("scores", "scaled", "capped", "masked", "weights", "output")
PIECES = Sizes(parts=1)

GOLDEN = {
    ("softmax", "--digits", "2"): """\
weights = softmax(scores)   (6, 6) → (6, 6)
0    ░░░▒▒▒▓▓▓███ 0.75
    The mat
The  ▓
      █  ░
     █   ░
      ░  █
         █
mat   █  ░
strongest: the → mat 0.75, sat → cat 0.68, mat → sat 0.68, cat → sat 0.63,
  on → mat 0.61

""",
    ("scores", "--causal", "--digits", "1"): """\
scores = Q·Kᵀ   (6, 4)·(4, 6) → (6, 6)
-4.0 ░░░░▒▒▒▒0▓▓▓▓████ 4.0
    The mat
The ▓█▓▓▓▓
    ▓██▓▓█
    ▓█▓▓▓█
    ▓▓█▓▓█
    ▓▓▓▓▓█
mat ▓▓█▓▓█

masked = scores + causal mask   (6, 6) + (6, 6) → (6, 6)
-4.0 ░░░░▒▒▒▒0▓▓▓▓████ 4.0  blank: hidden
    The mat
The ▓
    ▓█
    ▓█▓
    ▓▓█▓
    ▓▓▓▓▓
mat ▓▓█▓▓█

""",
}


@pytest.mark.parametrize("words", GOLDEN, ids=" ".join)
def test_golden_pictures(qkv: Program, words: tuple[str, ...]) -> None:
    assert qkv(*words, *CAT, "-f", "heatmap").out == GOLDEN[words]


def pictured(problem: Problem, fit: Fit, **settings: Any) -> dict[str, Patches]:
    """All steps of a problem, reduced, by their names."""
    selection = settings.pop("selection", Selection())
    found = patches(problem, "output", ALL, selection, fit, **settings)
    return {one.view.step.name: one for one in found}


def peak(numbers: list[float], name: str) -> float:
    """What stands for a patch."""
    seen = [x for x in numbers if not math.isnan(x)]
    if name == "weights":
        return max(seen, default=math.nan)
    shown = [x for x in seen if x != -math.inf]
    if not shown:
        return -math.inf if seen else math.nan
    most = max(shown, key=abs)
    return -most if -most in shown and most < 0 else most


def looped(array: Any, fit: Fit, name: str) -> Any:
    """The peaks of one matrix, by plain loops."""
    rows, columns = array.shape
    r, c = min(rows, fit.rows), min(columns, fit.columns)
    found = np.full((r, c), math.nan)
    for i, j in product(range(r), range(c)):
        patch = array[
            i * rows // r : (i + 1) * rows // r, j * columns // c : (j + 1) * columns // c
        ]
        found[i, j] = peak(patch.ravel().tolist(), name)
    return found


FITS = st.builds(Fit, st.integers(1, 6), st.integers(1, 6))
ODD = st.sampled_from([-math.inf, math.inf, math.nan, -2.0, -1.0, 0.0, 1.0, 2.0])


@given(
    st.integers(1, 9), st.integers(1, 9), FITS, st.sampled_from(["weights", "masked"]), st.data()
)
def test_a_patch_shows_its_peak(rows: int, columns: int, fit: Fit, name: str, data: Any) -> None:
    size = rows * columns
    numbers = data.draw(st.lists(ODD, min_size=size, max_size=size))
    array = np.array(numbers).reshape(rows, columns)
    np.testing.assert_array_equal(reduced(array, fit, name), looped(array, fit, name))


@given(problems(), FITS, st.booleans(), st.data())
def test_what_is_reduced_in_pieces_is_what_tables_show(
    given: dict[str, Any], fit: Fit, chosen: bool, data: Any
) -> None:
    problem = fitted(given)
    heads, queries, _ = problem.shape
    selection = Selection()
    if chosen:
        rows = data.draw(st.sets(st.integers(0, queries - 1), min_size=1))
        picked = data.draw(st.sets(st.integers(0, heads - 1), min_size=1))
        selection = Selection(np.array(sorted(rows)), tuple(sorted(picked)))
    found = pictured(problem, fit, selection=selection, sizes=PIECES)
    whole = {view.step.name: view for view in views(problem, "output", ALL, selection)}
    assert found.keys() == whole.keys()
    hidden = whole[problem.last_score].array == -math.inf
    for name, view in whole.items():
        shown = found[name].view
        assert shown.axes == view.axes
        assert str(shown.step.shape) == str(view.step.shape)
        array = np.where(hidden, -math.inf, view.array) if name == "weights" else view.array
        for mine, (place, index) in zip(shown.matrices(), placed(view.axes), strict=True):
            assert mine.place == index
            np.testing.assert_allclose(mine.array, looped(array[place], fit, name), 1e-9, 1e-12)
    lone = (~hidden).sum(axis=-1) == 1  # queries with one key to see say nothing of it
    masked = problem.visibility or problem.shape[-1] == 1
    free = whole["weights"].array * ~lone[..., None] if masked else None
    check_strongest(found["weights"].strongest, whole["weights"], selection, free)


def placed(axes: Any) -> Any:
    """The places in an array, and the indexes in the whole."""
    places = product(*(range(len(axis)) for axis in axes))
    return zip(places, product(*axes), strict=True)


def check_strongest(
    pairs: tuple[Pair, ...], weights: Any, selection: Selection, free: Any = None
) -> None:
    array, axes = weights.array if free is None else free, weights.axes
    largest = sorted(array[array > 0].tolist(), reverse=True)[:5]
    np.testing.assert_allclose([pair.weight for pair in pairs], largest, 1e-9)
    rows = list(range(array.shape[-2])) if selection.rows is None else selection.rows.tolist()
    for pair in pairs:
        place = tuple(axis.index(i) for axis, i in zip(axes, pair.matrix, strict=True))
        at = (*place, rows.index(pair.query), pair.key)
        assert array[at] == pytest.approx(pair.weight, 1e-9)


def test_equal_weights_are_named_in_their_order() -> None:
    problem = fitted(
        {"query": np.zeros((2, 3, 1)), "key": np.zeros((2, 40, 1)), "value": np.ones((2, 40, 1))}
    )
    pairs = pictured(problem, Fit(2, 3), sizes=PIECES)["weights"].strongest
    assert pairs == tuple(Pair(1 / 40, (0,), 0, j) for j in range(5))


@given(st.integers(0, 50), st.integers(1, 60))
def test_patches_share_out_all_the_numbers(count: int, most: int) -> None:
    sizes = np.diff(starts(count, most), append=count)
    assert len(sizes) == min(count, most)
    assert sizes.sum() == count
    if count:
        assert sizes.min() >= 1
        assert sizes.max() - sizes.min() <= 1


def test_values_may_have_batches_of_their_own() -> None:
    rng = np.random.default_rng(0)
    query, key, value = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=(2, 5, 7))
    found = pictured(fitted({"query": query, "key": key, "value": value}), Fit(2, 3), sizes=PIECES)
    assert found["weights"].view.array.shape == (2, 3)
    assert found["output"].view.array.shape == (2, 2, 3)
    assert len(set(found["weights"].strongest)) == 5
    weights = np.exp(query @ key.T) / np.exp(query @ key.T).sum(axis=1, keepdims=True)
    for i in range(2):
        expected = looped(weights @ value[i], Fit(2, 3), "output")
        np.testing.assert_allclose(found["output"].view.array[i], expected)


def test_merged_heads_are_one_picture() -> None:
    rng = np.random.default_rng(0)
    given = dict(zip(("query", "key", "value"), rng.normal(size=(3, 4, 6)), strict=True))
    problem = fitted({**given, "heads": 2})
    fit = Fit(3, 4)  # a patch lies across both heads
    [whole] = views(problem, "output", ("output",), Selection())
    found = pictured(problem, fit, sizes=PIECES)["output"].view
    np.testing.assert_allclose(found.array, looped(whole.array, fit, "output"))
    apart = pictured(problem, fit, selection=Selection(heads=(1,)))["output"].view
    np.testing.assert_allclose(apart.array[0], looped(whole.array[:, 3:], fit, "output"))


@st.composite
def layers(draw: Any) -> dict[str, Any]:
    """A layer of some batches, heads and tokens, with all that models have after the output."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    batches, n, d = (draw(st.integers(1, 3)) for _ in range(3))
    shared, group = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    heads, d = shared * group, 2 * d
    shape = (n, 6) if draw(st.booleans()) else (batches, n, 6)
    layer: dict[str, Any] = {
        **dict.fromkeys(("query", "key", "value"), rng.normal(size=shape)),
        "wq": rng.normal(size=(6, heads * d)),
        "wk": rng.normal(size=(6, shared * d)),
        "wv": rng.normal(size=(6, shared * d)),
        "heads": heads,
        "kv_heads": shared,
        "scale": "sqrt",
        "rope": 100,
        "alibi": True,
        "causal": draw(st.booleans()),
        "q_norm": rng.uniform(0.5, 1.5, size=d),
    }
    optional = {
        "gate": rng.normal(size=(6, draw(st.sampled_from([heads, heads * d])))),
        "wo": rng.normal(size=(heads * d, 5)),
        "sinks": rng.normal(size=heads),
        "dtype": draw(st.sampled_from(["float16", "float32"])),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(optional))))
    layer |= {name: optional[name] for name in sorted(chosen)}
    if "wo" in chosen and draw(st.booleans()):
        layer["bo"] = rng.normal(size=5)
    return layer


@given(layers(), FITS, st.booleans(), st.data())
def test_a_whole_layer_is_reduced_to_what_tables_show(
    given: dict[str, Any], fit: Fit, chosen: bool, data: Any
) -> None:
    problem = fitted(given)
    selection = Selection()
    if chosen:
        rows = data.draw(st.sets(st.integers(0, problem.shape[-2] - 1), min_size=1))
        heads = data.draw(st.none() | st.sets(st.integers(0, given["heads"] - 1), min_size=1))
        picked = None if heads is None else tuple(sorted(heads))
        selection = Selection(np.array(sorted(rows)), picked)
    names = data.draw(st.sets(st.sampled_from(ORDER), min_size=1))
    found = patches(problem, "output", names, selection, fit, sizes=PIECES)
    whole = {view.step.name: view for view in views(problem, "output", tuple(names), selection)}
    assert [one.view.step.name for one in found] == list(whole)
    loose: dict[str, Any] = (
        {"rtol": 2e-3, "atol": 4e-3} if problem.dtype.name == "float16" else {"atol": 1e-5}
    )
    for one in found:
        name, view = one.view.step.name, whole[one.view.step.name]
        assert one.view.step.shape == view.step.shape
        assert one.view.axes == view.axes
        array = view.array
        if name == "weights" and view.hidden is not None:
            array = np.where(view.hidden, -np.inf, array)
        for place in np.ndindex(array.shape[:-2]):
            peaks = looped(array[place], fit, name)
            # of two that are nearly as far from 0, rounding says which is the peak
            np.testing.assert_allclose(np.abs(one.view.array[place]), np.abs(peaks), **loose)


@pytest.mark.parametrize("budget", [1, 6000, 13199, 14000])
def test_too_many_queries_are_sampled_evenly(budget: int) -> None:
    rng = np.random.default_rng(0)
    given = {name: rng.normal(size=(50, 2)) for name in ("query", "key", "value")}
    fit = Fit(4, 5)
    found = pictured(fitted(given), fit, budget=budget * 4, sizes=PIECES)["weights"]
    assert found.sample is not None
    taken, least, most = found.sample
    assert (least, most) == (12, 13)
    assert taken == max(budget // (50 * (2 * 64 + 4)), 1)
    begins, ends = [0, 12, 25, 37], [12, 25, 37, 50]
    rows = [
        begin + (2 * k + 1) * (end - begin) // (2 * taken)
        for begin, end in zip(begins, ends, strict=True)
        for k in range(taken)
    ]
    some = pictured(fitted(given), fit, selection=Selection(np.array(rows)))["weights"]
    np.testing.assert_allclose(found.view.array, some.view.array)
    assert found.strongest == some.strongest
    assert pictured(fitted(given), fit)["weights"].sample is None


def test_a_sample_is_said_to_be_one() -> None:
    view = View.whole(Step.held("scores", np.ones((4, 4))))

    def lines(sample: Sample | None) -> list[str]:
        blocks = step_heatmap(Patches(view, sample=sample), Pen(Room(80, 9), None))
        return [line for block in blocks for line in str(block.content).splitlines()]

    assert lines(Sample(3, 12500, 12500))[2] == "3 of 12,500 queries for each row"
    assert lines(Sample(1, 2000, 2001))[2] == "1 of about 2,000 queries for each row"
    assert "queries" not in " ".join(lines(None))


def test_12_heads_stand_side_by_side(qkv: Program) -> None:
    shown = qkv("softmax", *BERT, "-f", "heatmap", "--width", 200).out.splitlines()
    assert re.findall(r"head \d+", shown[2]) == [f"head {h}" for h in range(12)]
    assert shown[3].split() == ["[CLS]", "[SEP]"] * 12
    assert (shown[4].split()[0], shown[12].split()[0]) == ("[CLS]", "[SEP]")
    assert len(shown) == 15  # nine lines of pictures, and one of pairs
    assert re.search(r"strongest: head 11: cat → cat 0\.9\d+, head 11: sat → cat", shown[13])
    assert "head 11: the#1 → cat" in " ".join(shown[13:])
    some = qkv("softmax", *BERT, "-f", "heatmap", "--head", "3,1").out
    assert re.findall(r"^ {6}(head .*)$", some, re.M) == ["head 3       head 1"]


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize(
    "words",
    [
        ("softmax", *BERT),
        ("run", "--preset", "gpt"),
        ("scores", "--seed", 1, "--length", 300, "--causal"),
        ("run", "--seed", 1, "--labels", f"{'x' * 300} 日本語 c \x1b[31m e"),
    ],
)
def test_pictures_keep_to_the_width(qkv: Program, words: tuple[Any, ...], width: int) -> None:
    shown = qkv(*words, "-f", "heatmap", "--width", width)
    assert shown.code == 0
    assert 20 < max(map(cell_len, shown.out.splitlines())) <= width
    assert "\x1b" not in shown.out


def test_a_thousand_tokens_fit_a_screen(qkv: Program) -> None:
    shown = qkv("softmax", "--seed", 1, "--length", 1000, "-f", "heatmap").out.splitlines()
    assert len(shown) <= 23
    assert shown[2].startswith("    0  ")
    assert shown[2].endswith(" 999")
    assert shown[3].startswith("0 ")
    assert shown[18].startswith("999 ")
    whole = qkv("softmax", "--seed", 1, "--length", 100, "-f", "heatmap", "--full").out
    assert len(whole.splitlines()) == 1 + 1 + 1 + 100 + 1 + 1


def test_a_causal_mask_leaves_blanks_in_colour_too(
    qkv: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    shown = qkv("softmax", "--seed", 1, "--length", 4, "--causal", "-f", "heatmap").out
    assert "blank: hidden" in shown
    lines = [re.sub("\x1b\\[[\\d;]*m", "", line) for line in shown.splitlines()]
    assert lines[3:5] == ["0 ▀▄", "3 ▀▀▀▄"]
    first = shown.splitlines()[3]
    # above the second key's own weight there is nothing: its foreground alone is set
    assert re.search("\x1b\\[38;5;\\d+m▄", first)
    assert re.search("\x1b\\[38;5;\\d+;48;5;\\d+m▀", first)


def test_colours_are_those_of_the_terminal(qkv: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    words = ("softmax", "--seed", 1, "-f", "heatmap")
    assert "[38;2;" in qkv(*words).out
    monkeypatch.delenv("COLORTERM")
    assert "[38;5;" in qkv(*words).out
    monkeypatch.setenv("TERM", "vt100")  # eight colours are too few
    assert "░" in qkv(*words).out
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("LC_ALL", "C")  # colours, but no half blocks: a row of blanks a line
    shown = qkv(*words).out
    assert shown.isascii()
    assert len(shown.splitlines()) == 3 + 5 + 3
    assert "[38;5;231;48;5;" in shown


def test_ascii_alone_where_the_terminal_has_no_other(
    qkv: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    shown = qkv("run", *CAT, "-f", "heatmap", "--digits", 2).out
    assert shown.isascii()
    assert "0    ...:::***### 0.75\n    The mat\nThe  *\n      #  .\n" in shown
    assert "strongest: the -> mat 0.75" in shown


def test_odd_shapes(qkv: Program, folder: Path) -> None:
    shapes = {"none": (0, 3), "one": (1, 3), "five": (5, 3)}
    for name, shape in shapes.items():
        np.save(f"{name}.npy", np.ones(shape))
    for queries, keys in product(shapes, shapes):
        words = ("-q", f"{queries}.npy", "-k", f"{keys}.npy", "-v", f"{keys}.npy", "-f", "heatmap")
        shown = qkv("run", *words)
        assert (shown.code, shown.err) == (0, "")
        rows, columns = shapes[queries][0], shapes[keys][0]
        assert ("strongest" in shown.out) == bool(rows and columns > 1)
        lines = shown.out.split("\n\n")[1].splitlines()
        picture = 1 + 1 + rows + (columns > 1)  # legend, keys, rows, strongest pairs
        assert len(lines) == (1 + picture if rows and columns else 1)
    assert "\n  0\n0 █\n" in qkv("softmax", "-q", "one.npy", "-k", "one.npy", "-f", "heatmap").out
    np.save("nan.npy", np.full((5, 3), np.nan))
    shown = qkv("softmax", "-q", "nan.npy", "-k", "five.npy", "-f", "heatmap")
    assert shown.out.splitlines()[1:] == ["no number to colour", ""]
    some = np.ones((3, 3))
    some[1] = np.nan
    np.save("some.npy", some)
    shown = qkv("scores", "-q", "some.npy", "-k", "one.npy", "-f", "heatmap", "--digits", 0)
    assert shown.out.splitlines()[1:] == [
        *("-3 ░░░░▒▒▒▒0▓▓▓▓████ 3  blank: NaN", "  0", "0 █", "", "2 █", ""),
    ]


def test_rows_are_chosen_and_files_keep_their_format(qkv: Program, folder: Path) -> None:
    shown = qkv("softmax", *CAT, "--rows", "1,3:", "-f", "heatmap", "-o", "w.csv").out
    assert re.findall(r"^(cat|mat|The|sat)\b", shown, re.M) == ["cat", "mat"]
    assert (folder / "w.csv").read_text().startswith(",The,cat")
    pairs = shown[shown.index("strongest:") :]
    assert "sat → cat" not in pairs
    assert "the → mat" in pairs


def test_steps_that_were_given_have_pictures_too(qkv: Program, folder: Path) -> None:
    weights = np.array([[0.25, 0.75], [1.0, 0.0]])
    np.save("w.npy", weights)
    np.save("v.npy", np.array([[1.0], [-2.0]]))
    shown = qkv("output", "w.npy", "-v", "v.npy", "--show", "all", "-f", "heatmap", "--digits", 2)
    value, given, output = shown.out.split("\n\n")[:3]
    assert value.splitlines() == [
        *("value = V   (2, 1)", "-2.00 ░░░░▒▒▒▒0▓▓▓▓████ 2.00", "  0", "0 █", "1 ░"),
    ]
    assert given.splitlines()[2:] == [
        *("0 ░▓", "1 █", "strongest: 1 → 0 1.00, 0 → 1 0.75, 0 → 0 0.25"),
    ]
    assert output.splitlines()[3:] == ["0 ░", "1 █"]  # -1.25 and 1
    np.save("s.npy", np.array([[0.0, -np.inf], [2.0, 1.0]]))
    hidden = qkv("softmax", "s.npy", "--show", "all", "-f", "heatmap", "--digits", 0).out
    assert "blank: hidden\n0 ▓\n1 ██\n" in hidden


def test_the_first_of_a_causal_mask_do_not_outshine_the_rest(
    qkv: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("softmax", "--seed", 1, "--length", 64, "--causal")
    shown = qkv(*words, "-f", "heatmap").out.splitlines()
    qkv(*words, "--quiet", "-o", "w.npy")
    largest = np.load("w.npy")[3:].max()  # queries 0 to 2 see fewer than 64 / 16 keys
    assert shown[1] == f"0    ░░░▒▒▒▓▓▓███ {largest:.4f}"
    assert shown[2] == f"queries that see few keys: up to 1.0000, shown as {largest:.4f}"
    assert shown[4].split()[1].startswith("█")
    monkeypatch.setenv("COLUMNS", "40")
    narrow = qkv(*words, "-f", "heatmap").out.splitlines()
    assert max(map(len, narrow)) <= 40
    assert f"  shown as {largest:.4f}" in narrow
    short = qkv("softmax", "--seed", 1, "--length", 15, "--causal", "-f", "heatmap").out
    assert "few keys" not in short


def test_any_length_in_little_memory(qkv: Program, folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "qk":
        np.save(f"{name}.npy", rng.standard_normal((200_000, 8), dtype=np.float32))
    tracemalloc.start()
    try:
        shown = qkv("softmax", "-q", "q.npy", "-k", "k.npy", "--causal", "-f", "heatmap")
        assert tracemalloc.get_traced_memory()[1] < 40e6 * (cores() + 2)  # 160 GB of weights
    finally:
        tracemalloc.stop()
    assert shown.code == 0
    assert re.fullmatch(r"\d+ of about 13,333 queries for each row", shown.out.splitlines()[2])


def test_inputs_without_rows_are_a_title(qkv: Program) -> None:
    words = ["run", "--example", "cat", "--rows", "99:", "--show", "query,weights"]
    shown = qkv(*words, "-f", "heatmap")
    assert shown.code == 0
    assert shown.out.splitlines() == [
        "query = Q   (6, 4)",
        "",
        "weights = softmax(scores)   (6, 6) → (6, 6)",
        "",
    ]


def test_nothing_is_reduced_to_nothing() -> None:
    for shape, found in {(3, 0): (2, 0), (2, 3, 0): (2, 2, 0)}.items():
        assert reduced(np.ones(shape), Fit(2, 2), "scores").shape == found


@pytest.mark.parametrize(("width", "cap"), [(40, 10), (60, 15), (64, 16), (200, 16)])
def test_a_label_takes_up_to_a_quarter_of_the_width(qkv: Program, width: int, cap: int) -> None:
    words = ["scores", "--seed", 1, "-f", "heatmap", "--width", width, "--labels"]
    whole = qkv(*words, f"{'x' * cap} b").out.splitlines()
    assert f"{'x' * cap} " in "\n".join(whole[2:])
    assert "xx…" not in "\n".join(whole)
    cut = qkv(*words, f"{'x' * (cap + 1)} b").out.splitlines()
    assert [line.split()[0] for line in cut if line.startswith("x")] == [f"{'x' * (cap - 1)}…"]


def test_progress_counts_up_to_the_whole() -> None:
    given = {name: np.ones((2, 30, 2)) for name in ("query", "key", "value")}
    told: list[tuple[int, int]] = []
    pictured(
        fitted(given), Fit(4, 4), sizes=PIECES, advance=lambda done, of: told.append((done, of))
    )
    assert told == [(n, len(told)) for n in range(1, len(told) + 1)]
    assert len(told) > 2


def test_without_half_blocks_a_number_is_a_coloured_blank(
    qkv: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("LC_ALL", "C")
    shown = qkv("scores", "--seed", 1, "--length", 4, "-f", "heatmap").out
    lines = re.sub("\x1b\\[[\\d;]*m", "", shown).splitlines()
    assert [line.rstrip("\n") for line in lines[2:7]] == [
        "  0  3",
        *(f"{label} {' ' * 4}" for label in ("0", " ", " ", "3")),
    ]
    assert len(re.findall("48;5;", shown.split("0  3")[1])) >= 4


def test_heads_stand_out(qkv: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    shown = qkv("softmax", "--example", "gpt", "--head", "4,5", "-f", "heatmap").out.splitlines()
    assert shown[2].count("\x1b[1mhead ") == 2
    assert "\x1b[35mThe" in shown[3]
    assert shown[4].startswith("\x1b[35mThe")


def test_narrow_pictures_leave_room_for_their_names(qkv: Program, folder: Path) -> None:
    np.save("q.npy", np.ones((3, 1, 2)))
    shown = qkv("softmax", "-q", "q.npy", "-k", "q.npy", "-f", "heatmap").out.splitlines()
    assert shown[2] == "  head 0  head 1  head 2"
    assert [line.split() for line in shown[3:5]] == [["0"] * 3, ["0", *"███"]]


LAYER = """\
biased = scores + slope·(j − i)   (2, 3, 3) → (2, 3, 3)
-5.66 ░░░░▒▒▒▒0▓▓▓▓████ 5.66
  head 0  head 1
  a c     a c
a ▓▒▒     █▒▒
  ▒▓▓     ▒█░
c ░██     ▓▒▓

weights = softmax(masked and sinks)   (2, 3, 3), (2,) → (2, 3, 3)
0    ░░░▒▒▒▓▓▓███ 0.99
rows sum to less than 1: the sink takes the rest
  head 0  head 1
  a c     a c
a █       █
   █       █
c  ▒▒     ▒
strongest: head 1: b → b 0.99, head 0: b → b 0.93, head 1: a → a 0.86,
  head 0: a → a 0.80, head 0: c → b 0.59

projected = gated·Wo + bo   (3, 4)·(4, 2) + (2,) → (3, 2)
-2.45 ░░░░▒▒▒▒0▓▓▓▓████ 2.45
a ██
  ██
c ██

"""


def test_golden_pictures_of_a_layer(qkv: Program, layer: list[str]) -> None:
    shown = ("--show", "biased,weights,projected", "--digits", 2, "--width", 80)
    assert qkv("run", *layer, *shown, "-f", "heatmap").out == LAYER


def test_with_a_sink_one_key_says_something(qkv: Program, folder: Path) -> None:
    """The first query of a causal mask sees one key, and how much of it is the sink's."""
    given = dict(zip(("query", "key", "value"), np.zeros((3, 4, 2)), strict=True))
    alone = pictured(fitted({**given, "causal": True}), Fit(9, 9))["weights"].strongest
    assert (alone[0].weight, alone[0].query) == (0.5, 1)
    sinks = np.zeros(1)
    found = pictured(fitted({**given, "causal": True, "sinks": sinks}), Fit(9, 9))["weights"]
    assert (found.strongest[0].weight, found.strongest[0].query) == (0.5, 0)


@pytest.mark.parametrize("heads", [None, (2,), (0, 3)])
def test_what_is_projected_in_parts_is_what_is_computed_whole(heads: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 150, 16))
    weights = {name: rng.normal(size=(16, 16)) / 4 for name in ("wq", "wk", "wv", "wo", "gate")}
    more = {"heads": 4, "rope": 100, "bo": rng.normal(size=16), "causal": True}
    problem = fitted({**dict.fromkeys(("query", "key", "value"), x), **weights, **more})
    selection, fit = Selection(heads=heads), Fit(40, 10)
    [found] = patches(problem, "output", ("projected",), selection, fit, sizes=PIECES)
    [whole] = views(problem, "output", ("projected",), selection)
    assert found.view.array.shape == (*whole.array.shape[:-2], 40, 10)
    for place in np.ndindex(whole.array.shape[:-2]):
        np.testing.assert_allclose(
            found.view.array[place], looped(whole.array[place], fit, "projected"), atol=1e-12
        )


def test_a_projection_is_work_too() -> None:
    """Where it costs more than attention, fewer queries are computed for it."""
    rng = np.random.default_rng(0)
    given = dict(zip(("query", "key", "value"), rng.normal(size=(3, 200, 8)), strict=True))
    wide = fitted({**given, "wo": rng.normal(size=(8, 9000))})

    def sampled(name: str) -> int:
        [found] = patches(wide, "output", (name,), Selection(), Fit(10, 10), budget=1_500_000)
        return found.sample.taken if found.sample else 20

    narrow = fitted(given)
    [without] = patches(narrow, "output", ("output",), Selection(), Fit(10, 10), budget=1_500_000)
    assert without.sample is not None
    assert sampled("projected") < without.sample.taken
    assert sampled("weights") >= without.sample.taken
