"""What a person sees: titles, edges, decimal points, labels; golden renders."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from rich.cells import cell_len

from qkvcli.core.steps import Step
from qkvcli.core.views import Matrix, View, edges
from qkvcli.render.grids import Room, grids
from qkvcli.render.markdown import step_markdown
from tests.conftest import SAMPLES, Program

CAT = [f"-{n[0]}{SAMPLES}/cat_sat_mat/{n}.csv" for n in ("query", "key", "value")]

GOLDEN = {
    ("softmax", "--width", "40"): """\
weights = softmax(scores)
  (6, 6) → (6, 6)
        The  …     mat
─────────────────────────────────
The  0.0807  …  0.0807  → cat 60%
cat  0.0115  …  0.2314  → sat 63%
sat  0.0124  …  0.2498  → cat 68%
on   0.0301  … *0.6051  → mat 61%
the  0.0373  … *0.7494  → mat 75%
mat  0.0124  …  0.2498  → sat 68%
rows sum to 1; effective keys
(2^entropy): 2.43 (sat) to 3.76 (The) of
6

""",
    ("softmax", "--causal", "--digits", "2", "--rows", "The,on"): """\
weights = softmax(masked)   (6, 6) → (6, 6)
      The   cat   sat    on  the  mat
─────────────────────────────────────────────────
The *1.00     ·     ·     ·    ·    ·  → The 100%
on   0.08  0.08 *0.61  0.22    ·    ·  → sat 61%
shown rows sum to 1; effective keys (2^entropy): 1.00 (The) to 2.85 (on) of 6

""",
    ("output", "--scale", "0.5", "--causal", "--digits", "1"): """\
output = weights·V   (6, 6)·(6, 3) → (6, 3)
     animal  action  place
──────────────────────────
The     0.0     0.0    0.0
cat     7.3     0.0    0.0
sat     7.9     1.1    0.0
on      1.6     4.3    0.3
the     1.8     1.8    0.3
mat     0.6     4.5    2.8

""",
    ("scores", "--scale", "sqrt", "--causal", "--digits", "0"): """\
scores = Q·Kᵀ   (6, 4)·(4, 6) → (6, 6)
     The  cat  sat  on  the  mat
────────────────────────────────
The    0    2    0   0    0    0
cat    0    2    4   1    0    3
sat    0    4    0   1    0    3
on     0    0    2   1    0    3
the    0    0    0   1    0    3
mat    0    0    4   1    0    3

scaled = scores × 1/√4   (6, 6) → (6, 6)
     The  cat  sat  on  the  mat
────────────────────────────────
The    0    1    0   0    0    0
cat    0    1    2   0    0    2
sat    0    2    0   0    0    2
on     0    0    1   0    0    2
the    0    0    0   0    0    2
mat    0    0    2   0    0    2

masked = scaled + causal mask   (6, 6) + (6, 6) → (6, 6)
     The   cat   sat    on   the   mat
──────────────────────────────────────
The    0  -inf  -inf  -inf  -inf  -inf
cat    0     1  -inf  -inf  -inf  -inf
sat    0     2     0  -inf  -inf  -inf
on     0     0     1     0  -inf  -inf
the    0     0     0     0     0  -inf
mat    0     0     2     0     0     2

""",
}


@pytest.mark.parametrize("words", GOLDEN, ids=" ".join)
def test_golden_renders(qkv: Program, words: tuple[str, ...]) -> None:
    assert qkv(*words, *CAT, "-f", "table").out == GOLDEN[words]


def test_plain_ascii_where_signs_cannot_be_shown(
    qkv: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    shown = qkv("run", "--scale", "sqrt", "--width", 40).out
    assert shown.isascii()
    assert shown.startswith("scores = Q.K^T\n  (5, 64).(64, 5) -> (5, 5)\n")
    assert "scaled = scores x 1/sqrt64" in shown
    assert " ...  " in shown
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert "Q·Kᵀ" in qkv("run").out


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200, 250])
def test_tables_keep_to_the_width_and_cut_no_number(qkv: Program, width: int) -> None:
    whole = {
        cell
        for row in qkv("output", "--seed", 42, "--digits", 4).out.split()
        for cell in row.split(",")
    }
    shown = qkv("output", "--seed", 42, "--width", width, "-f", "table").out
    assert max(map(len, shown.splitlines())) <= width
    body = shown.split("─\n")[1].splitlines()[:5]
    cells = [cell for line in body for cell in line.split()[1:]]
    assert set(cells) - {"…"} <= whole
    assert len({line.index("…") for line in body}) == 1


def test_width_is_the_terminals_or_the_variables(
    qkv: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert max(map(len, qkv("run").out.splitlines())) <= 80
    monkeypatch.setenv("COLUMNS", "120")
    assert 110 < max(map(len, qkv("run").out.splitlines())) <= 120


def test_full_shows_every_number(qkv: Program) -> None:
    wide = qkv("output", "--seed", 42, "--full", "-f", "table").out.splitlines()
    assert len(wide[3].split()) == 65  # nothing bounds the width of a pipe: one line a row
    parts = qkv("output", "--seed", 42, "--full", "--width", 60, "-f", "table").out
    assert max(map(len, parts.splitlines())) <= 60
    assert "…" not in parts
    numbers = re.findall(r"\d\.\d{4}", parts)
    assert sorted(numbers) == sorted(re.findall(r"\d\.\d{4}", "\n".join(wide)))
    long = qkv("scores", "--seed", 42, "--length", 100, "--full", "-f", "table").out
    assert "\n99  " in long


def test_long_matrices_show_their_edges(qkv: Program) -> None:
    shown = qkv("softmax", "--seed", 42, "--length", 1000, "-f", "table").out.splitlines()
    assert len(shown) <= 24
    assert any(line.startswith("… ") for line in shown)
    assert shown[3].startswith("0    ")
    assert shown[-3].startswith("999  ")
    assert shown[-2].startswith("shown rows sum to 1; effective keys (2^entropy): ")


def test_heads_have_a_table_each(qkv: Program, folder: Any) -> None:
    np.save("q.npy", np.arange(24.0).reshape(2, 3, 2, 2))
    shown = qkv("scores", "-q", "q.npy", "-k", "q.npy", "-f", "table").out
    assert shown.startswith("scores = Q·Kᵀ   (2, 3, 2, 2)·(2, 3, 2, 2) → (2, 3, 2, 2)\n")
    assert re.findall(r"^batch.*", shown, re.M) == [
        f"batch {b}, head {h}" for b in range(2) for h in range(3)
    ]
    np.save("q.npy", np.ones((4, 1, 2)))
    shown = qkv("softmax", "-q", "q.npy", "-k", "q.npy", "-f", "table").out
    assert re.findall(r"^head \d$", shown, re.M) == [f"head {h}" for h in range(4)]


def test_empty_matrices_have_a_title(qkv: Program, folder: Any) -> None:
    np.save("q.npy", np.ones((0, 2)))
    shown = qkv("scores", "-q", "q.npy", "-k", "q.npy", "-f", "table").out
    assert shown.startswith("scores = Q·Kᵀ   (0, 2)·(2, 0) → (0, 0)\n")


def test_hostile_labels_stay_in_their_cells(qkv: Program) -> None:
    labels = "[red]x [/] \x1b[31m a|b 日本語 " + "long" * 10
    shown = qkv("scores", "--seed", 1, "--length", 6, "--labels", labels, "-f", "table").out
    assert "\x1b" not in shown
    assert "[red]x" in shown
    assert "\\x1b[31m" in shown
    assert len({cell_len(line) for line in shown.splitlines()[3:9]}) == 1
    assert max(map(cell_len, shown.splitlines())) <= 80
    markdown = qkv("scores", "--seed", 1, "--length", 6, "--labels", labels, "-f", "markdown").out
    assert r"a\|b" in markdown


@given(
    arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=30)),
    st.integers(20, 250),
    st.integers(0, 9),
)
def test_any_matrix_fits_and_lines_up(matrix: Any, width: int, digits: int) -> None:
    view = View.whole(Step.held("scores", matrix))
    [grid] = grids(view, Matrix((), matrix), Room(width, 10, digits))
    assert len(grid.lines) <= 10
    assert grid.width <= width or len(grid.header) <= 3
    texts = {f"{v:.{digits}{notation}}" for v in matrix.flat for notation in "ef"}
    for column in zip(*grid.lines, strict=True):
        points = {len(cell) - cell.index(".") for cell in column if "." in cell}
        assert len(points) <= 1
    for cell in (cell.strip() for line in grid.lines for cell in line[1:]):
        assert cell == "…" or cell in texts or float(cell) == 0


@given(st.integers(0, 40), st.integers(1, 40))
def test_edges_keep_both_ends(count: int, room: int) -> None:
    shown = edges(count, room)
    kept = [i for i in shown if i is not None]
    assert len(shown) <= max(room, 2)
    assert kept == sorted(set(kept))
    assert (None in shown) == (count > room)
    if count > room > 2:
        assert (kept[0], kept[-1]) == (0, count - 1)


def test_markdown_is_whole_unless_a_width_is_given() -> None:
    terms = ((1, 1), "·", (1, 50))
    step = Step.held("output", np.ones((1, 50)), "weights·V", terms=terms, rows=("a_b",))
    view = View.whole(step)
    whole = list(step_markdown(view, Room()))
    assert whole[0] == "**output** = weights·V   (1, 1)·(1, 50) → (1, 50)"
    assert whole[2].count("|") == 52
    assert whole[4].startswith(r"| a\_b | 1.0000 | 1.0000 |")
    narrow = list(step_markdown(view, Room(40)))
    assert "…" in narrow[2]


def test_the_largest_weight_of_a_row_is_bold(qkv: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = qkv("run").out
    bold = re.findall("\x1b\\[1;?[\\d;]*m *\\*([\\d.]+)\x1b\\[0m", shown)
    assert bold == ["0.5462", "0.5432", "0.6342", "0.5155", "0.7216"]
    assert re.findall(r"\*([\d.]+)", qkv("run").out) == bold  # it is marked without colour too
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in qkv("run").out


def test_markdown_names_each_head_and_batch(qkv: Program, folder: Path) -> None:
    np.save("q.npy", np.zeros((2, 3, 1, 1)))
    shown = qkv("softmax", "-q", "q.npy", "-k", "q.npy", "-f", "markdown").out.splitlines()
    heads = [line for line in shown if line.startswith("**batch")]
    assert heads == [f"**batch {b}, head {h}**" for b in range(2) for h in range(3)]
    assert shown[2:8] == [
        "**batch 0, head 0**",
        "",
        "|  | 0 |",
        "| :-- | --: |",
        "| 0 | **1.0000** |",
        "",
    ]


def test_a_label_too_long_for_the_table_is_cut(qkv: Program) -> None:
    words = ["softmax", "--seed", 1, "--labels", f"{'x' * 300} b c d e", "-f", "table"]
    shown = qkv(*words, "--width", 60).out.splitlines()
    assert max(map(len, shown)) <= 60
    assert any(line.startswith("xxx") and "x… " in line for line in shown)


def test_a_narrow_table_dots_what_it_shows_of_the_hidden(qkv: Program) -> None:
    words = ["softmax", "--seed", 1, "--length", 30, "--causal", "-f", "table", "--width", 60]
    shown = qkv(*words, "--rows", 3).out.splitlines()
    assert shown[1].split() == "0 1 2 3 … 27 28 29".split()
    row, peak = shown[3].split("  → ")
    assert row.split()[5:] == ["…", "·", "·", "·"]
    assert row.split()[1].startswith("*0.")
    assert peak.startswith("0 ")
    assert shown[4].startswith("the row sums to 1; effective keys (2^entropy): 1.")
    assert shown[4].split()[-2:] == ["(3)", "of"]
    assert shown[5] == "30"


def test_a_table_fits_the_width_that_it_takes() -> None:
    matrix = np.random.default_rng(0).random((3, 40)) * 10.0 ** np.arange(40)[None] % 1e6
    view = View.whole(Step.held("scores", matrix))
    counts = []
    for width in range(30, 400):
        [grid] = grids(view, Matrix((), matrix), Room(width, 10))
        assert grid.width <= width
        [same] = grids(view, Matrix((), matrix), Room(grid.width, 10))
        assert same == grid  # no column of text of it is idle
        counts.append(len(grid.header))
    assert counts == sorted(counts)
    assert counts[-1] > 30


def test_labels_in_any_script_stand_in_tables(qkv: Program, monkeypatch: Any) -> None:
    words = ["softmax", "--seed", 1, "--labels", "日本 é c", "-f", "table"]
    shown = qkv(*words).out.splitlines()
    assert [line.split()[0] for line in shown[3:6]] == ["日本", "é", "c"]
    assert shown[1].split() == ["日本", "é", "c"]
    monkeypatch.setenv("LC_ALL", "C")
    plain = qkv("softmax", "--seed", 1, "--length", 3, "-f", "table").out.splitlines()
    assert all(re.search(r" -> \d \d\d%$", line) for line in plain[3:6])


def test_rows_below_a_gap_have_their_own_numbers(qkv: Program) -> None:
    words = ["softmax", "--seed", 1, "--length", 100, "--causal", "--width", 60]
    every = qkv(*words, "-f", "csv", "--digits", 4).out.splitlines()
    shown = qkv(*words, "-f", "table").out.splitlines()
    lines = [line for line in shown[3:] if "  → " in line]
    assert (lines[0].split()[0], lines[-1].split()[0]) == ("0", "99")
    for line in lines:
        row, peak = line.split("  → ")
        label, *cells = row.replace("*", "").split()
        numbers = every[int(label)].split(",")
        at = cells.index("…")
        expected = ["·" if j > int(label) else numbers[j] for j in range(100)]
        assert cells[:at] == expected[:at]
        assert cells[at + 1 :] == expected[at + 1 - len(cells) :]
        most = max(range(100), key=lambda j: float(numbers[j]))
        assert peak.split()[0] == str(most)
        assert ("*" in row) == (most < at or most >= 100 + at + 1 - len(cells))


def test_a_rows_end_names_short_labels_whole(qkv: Program) -> None:
    words = ["softmax", "-", "-f", "table", "--width", 80]
    names = f"{'x' * 10} {'y' * 11}"
    shown = qkv(*words, "--labels", names, stdin="99,0\n0,99\n").out.splitlines()
    assert [line.split("  → ")[1] for line in shown[3:5]] == [
        f"{'x' * 10} 100%",
        f"{'y' * 9}… 100%",
    ]


def test_a_whole_step_in_few_lines_shows_its_last_rows() -> None:
    matrix = np.arange(50.0)[:, None]
    [grid] = grids(View.whole(Step.held("scores", matrix)), Matrix((), matrix), Room(80, 5, 0))
    assert [line[0] for line in grid.lines] == ["0", "1", "…", "48", "49"]
    assert [line[1].strip() for line in grid.lines] == ["0", "1", "…", "48", "49"]


LAYER = """\
query = clip(X·Wq, ±2)   (3, 4)·(4, 4) → (3, 4)
      0     1     2      3
──────────────────────────
a  1.00  1.00  2.00   2.00
b  0.00  1.00  1.00   2.00
c  1.00  2.00  0.00  -1.00

key = clip(X·Wk, ±2)   (3, 4)·(4, 4) → (3, 4)
      0     1      2     3
──────────────────────────
a  1.00  0.00   2.00  0.00
b  0.00  1.00   0.00  2.00
c  1.00  1.00  -1.00  0.00

value = clip(X·Wv, ±2)   (3, 4)·(4, 4) → (3, 4)
      0     1      2     3
──────────────────────────
a  2.00  0.00   2.00  0.00
b  0.00  2.00   0.00  2.00
c  2.00  2.00  -2.00  0.00

head 1
key_normed = key / rms(key) × w   (2, 3, 2) × (2,) → (2, 3, 2)
       0     1
──────────────
a   1.41  0.00
b   0.00  2.83
c  -1.41  0.00

query_rotated = rotate(query by position, base 100)   (2, 3, 2) → (2, 3, 2)
       0     1
──────────────
a   2.00  2.00
b  -1.14  1.92
c   0.91  0.42

key_rotated = rotate(key_normed by position, base 100)   (2, 3, 2) → (2, 3, 2)
       0      1
───────────────
a   1.41   0.00
b  -2.38   1.53
c   0.59  -1.29

scores = query_rotated·key_rotatedᵀ   (2, 3, 2)·(2, 2, 3) → (2, 3, 3)
       a      b      c
──────────────────────
a   2.83  -1.70  -1.39
b  -1.62   5.66  -3.14
c   1.29  -1.53   0.00

biased = scores + slope·(j − i)   (2, 3, 3) → (2, 3, 3)
       a      b      c
──────────────────────
a   2.83  -1.70  -1.39
b  -1.62   5.66  -3.14
c   1.28  -1.53   0.00

masked = biased + causal mask   (2, 3, 3) + (3, 3) → (2, 3, 3)
       a      b     c
─────────────────────
a   2.83   -inf  -inf
b  -1.62   5.66  -inf
c   1.28  -1.53  0.00

weights = softmax(masked and sinks)   (2, 3, 3), (2,) → (2, 3, 3)
      a     b     c
──────────────────────────────────────
a *0.86     ·     ·  → a 86%, sink 14%
b  0.00 *0.99     ·  → b 99%, sink 1%
c *0.48  0.03  0.13  → a 48%, sink 36%
rows sum to 0.6387 to 0.9906, and the sink takes the rest; effective keys
(2^entropy, without the sink): 1.00 (a) to 1.98 (c) of 3

output = weights·V   (2, 3, 3)·(2, 3, 2) → (2, 3, 2)
      0     1
─────────────
a  1.72  0.00
b  0.00  1.98
c  0.69  0.06

gated = output × sigmoid(X·Wg)   (2, 3, 2) × (2, 3, 1) → (2, 3, 2)
      0     1
─────────────
a  1.64  0.00
b  0.00  0.53
c  0.50  0.04

projected = gated·Wo, what the head adds   (2, 3, 2)·(2, 2, 2) → (2, 3, 2)
      0     1
─────────────
a  1.64  0.82
b  0.53  0.27
c  0.55  0.27

"""
JOINED = """\
output = join(weights·V)   (2, 3, 3)·(2, 3, 2) → (3, 4)
      0     1     2     3
─────────────────────────
a  1.61  0.00  1.72  0.00
b  0.03  1.86  0.00  1.98
c  0.81  1.99  0.69  0.06

gated = output × sigmoid(X·Wg)   (3, 4) × (3, 2) → (3, 4)
      0     1     2     3
─────────────────────────
a  0.80  0.00  1.64  0.00
b  0.02  0.93  0.00  0.53
c  0.41  1.00  0.50  0.04

projected = gated·Wo + bo   (3, 4)·(4, 2) + (2,) → (3, 2)
      0     1
─────────────
a  2.45  2.22
b  1.48  1.74
c  1.95  1.97

"""


def test_a_whole_layer(qkv: Program, layer: list[str]) -> None:
    """One head of it, and what comes after the heads are joined."""
    assert qkv("run", *layer, "--digits", 2, "--head", 1, "-f", "table").out == LAYER
    last = ("--show", "output,gated,projected")
    assert qkv("run", *layer, "--digits", 2, *last, "-f", "table").out == JOINED


def test_markdown_says_what_a_sink_takes(qkv: Program, layer: list[str]) -> None:
    said = "Rows sum to less than 1: the sink takes the rest.\n"
    assert said in qkv("softmax", *layer, "-f", "markdown").out
    without = [word for word in layer if "sinks" not in word]
    assert "sink" not in qkv("softmax", *without, "-f", "markdown").out
    assert "rows sum to 1; effective keys (2^entropy):" in qkv(
        "softmax", *without, "-f", "table"
    ).out.replace("\n", " ")


def test_a_sink_that_takes_nothing_or_everything(qkv: Program, layer: list[str]) -> None:
    np.save("sinks.npy", np.array([-1e5, 1e5]))
    nothing, everything = (
        qkv("softmax", *layer, "--head", n, "-f", "table").out.replace("\n", " ") for n in (0, 1)
    )
    assert "rows sum to 1; effective keys (2^entropy): 1" in nothing
    assert "sink 0%" in nothing
    assert everything.count("→ sink 100%") == 3
    assert "no key" not in everything
    assert "rows sum" not in everything


def test_scores_say_which_queries_and_keys_they_are_of(qkv: Program, layer: list[str]) -> None:
    def title(*words: object) -> str:
        return qkv("scores", *words, "-f", "table").out.split("   ")[0]

    few = ["--embeddings", "x.npy", "--wq", "wq.npy", "--wk", "wk.npy", "--show", "scores"]
    assert title(*few) == "scores = Q·Kᵀ"
    assert title(*few, "--k-norm", "k-norm.npy", "--heads", 2) == "scores = query·key_normedᵀ"
    assert title(*few, "--rope", 9) == "scores = query_rotated·key_rotatedᵀ"
