"""What a notebook shows: tables with heat in HTML, and the same as text."""

import pickle
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any, NamedTuple

import numpy as np
import pytest

import qkvcli
from qkvcli.render.heat import Heat, contrast, hexadecimal
from tests.conftest import SAMPLES, Program

TOKENS = "[CLS] the cat sat on the mat . [SEP]"


class Cell(NamedTuple):
    """A cell of a table, with its style."""

    text: str
    style: str


class Page(HTMLParser):
    """The tables of a page, its other lines, and the names of its elements and attributes."""

    VOID = ("br", "hr")

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tables: list[list[list[Cell]]] = []
        self.lines: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(document)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.open.append(tag)
        style = dict(attrs).get("style") or ""
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(Cell("", style))
        elif tag == "div":
            self.lines.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & {*self.open}:
            last = self.tables[-1][-1]
            last[-1] = last[-1]._replace(text=last[-1].text + data)
        elif data.strip():
            self.lines[-1] += data


def shown(steps: Any) -> Page:
    return Page(steps._repr_html_())


def example(**options: Any) -> Any:
    arrays = [
        np.genfromtxt(SAMPLES / "cat_sat_mat" / f"{n}.csv", delimiter=",", skip_header=1)[:, 1:]
        for n in ("query", "key", "value")
    ]
    return qkvcli.attend(*arrays, labels="The cat sat on the mat", **options)


def bert() -> Any:
    arrays = [np.load(SAMPLES / "bert" / f"{n}.npy") for n in ("query", "key", "value")]
    return qkvcli.attend(*arrays, heads=12, preset="bert", labels=TOKENS)


def test_the_numbers_are_the_tables(qkv: Program) -> None:
    """The same numbers, stars, ends of rows and facts as on a terminal."""
    page = shown(example(preset="gpt"))
    terminal = qkv("run", "--example", "cat", "--preset", "gpt").out.splitlines()
    lines = [line.split() for line in terminal]
    for table in page.tables:
        for label, *cells in table[1:]:
            words = [word.replace("★", "*") for cell in cells for word in cell.text.split()]
            assert [label.text, *words] in lines
    assert len(page.tables) == 5
    assert any(line in page.lines for line in terminal if line.startswith("rows sum to 1"))
    assert "weights = softmax(masked) \xa0 (6, 6) → (6, 6)" in page.lines


def test_cells_have_the_colours_of_their_numbers() -> None:
    steps = example(causal=True)
    page = shown(steps)
    for name, table in zip(steps.names, page.tables, strict=True):
        array = steps[name].array
        heat = Heat.of(name, np.where(np.isinf(array), 0, array))
        assert heat is not None
        for i, j in np.ndindex(6, len(array[0])):
            cell = table[1 + i][1 + j]
            painted = name != "output" and (j <= i or name == "scores")
            if not painted:
                assert "background:none" in cell.style
                continue
            level = heat.level(array[i, j])
            assert level is not None
            colours = heat.paints[level]
            assert f"background:{hexadecimal(colours.background)}" in cell.style
            assert f"color:{hexadecimal(colours.text)}" in cell.style
            assert contrast(colours.background, colours.text) >= 4.5
    hidden = {table[1][2].text for table in page.tables[1:3]}
    assert hidden == {"-inf", "·"}
    assert any("· hidden" in line and "★ largest of its row" in line for line in page.lines)


def test_it_is_of_plain_elements_and_sets_no_page() -> None:
    document = bert()._repr_html_()
    page = Page(document)
    assert page.tags == {"div", "table", "thead", "tbody", "tr", "th", "td", "b", "span"}
    assert page.attributes == {"style", "scope"}
    two = example()["weights"]._repr_html_()
    assert Page(two).attributes == {"style", "scope"}
    assert not re.search(r"https?:|url\(|<script|<style", document)
    assert document.startswith('<div style="overflow-x:auto;max-width:100%;color:inherit">')
    assert all(
        "color:#" not in style for style in re.findall(r'<(?:div|th|table) style="(.*?)"', document)
    )


MORE = "11 more heads: steps.page() has them all, steps.save('steps.svg') draws them"


def test_of_many_heads_the_first_is_shown_and_of_two_both() -> None:
    steps = bert()
    page = shown(steps)
    assert [line for line in page.lines if line.startswith("head ")] == ["head 0"]
    assert page.lines[-1] == MORE
    steps.page()
    assert len(page.tables) == 3 + 1  # and the output, which joins them
    two = qkvcli.attend(*np.random.default_rng(5).normal(size=(3, 2, 4, 3)))
    page = shown(two)
    assert [line for line in page.lines if line.startswith("head ")] == ["head 0", "head 1"]
    assert "more" not in page.lines[-1]
    table = page.tables[3 + 1]
    for row, weights in zip(table[1:], two.weights[1], strict=True):
        numbers = [float(cell.text.strip("★")) for cell in row[1:-1] if cell.text != "…"]
        assert numbers == pytest.approx(weights, abs=5.1e-5)
    batches = qkvcli.attend(*np.ones((3, 3, 6, 2, 2)))
    assert shown(batches).lines[-1].startswith("17 more heads and batches: ")
    assert len(shown(batches).tables) == 3
    assert shown(qkvcli.Steps(list(batches))).lines[-1] == (
        "17 more heads and batches: steps.save('steps.svg') draws them all"
    )


@pytest.mark.parametrize("heads", [None, 8])
def test_a_large_step_shows_its_edges_and_computes_no_more(heads: int | None) -> None:
    rng = np.random.default_rng(1)
    query, key, value = rng.normal(size=(3, 3000, 16))
    steps = qkvcli.attend(query, key, value, causal=True, heads=heads)
    page = shown(steps)
    assert not any("array" in vars(step) for step in steps)
    labels = [row[0].text for row in page.tables[0][1:]]
    assert labels[:2] == ["0", "1"]
    assert labels[-1] == "2999"
    assert labels.count("…") == 1
    assert len(labels) == 16
    weights = page.tables[2]
    numbers = [cell.text for cell in weights[-1][1:-1]]
    split = (3000, heads or 1, 16 // (heads or 1))
    scores = query.reshape(split)[2999, 0] @ key.reshape(split)[:, 0].T
    row = np.exp(scores - scores.max())
    row /= row.sum()
    assert numbers[0].strip("★") == f"{row[0]:.4f}"
    assert numbers[-1].strip("★") == f"{row[-1]:.4f}"
    assert weights[-1][-1].text.startswith(f"→ {row.argmax()} ")
    assert any(line.startswith("shown rows sum to 1") for line in page.lines)


def test_what_is_held_is_shown_whatever_became_of_the_inputs() -> None:
    query, key, value = np.random.default_rng(3).normal(size=(3, 5, 4))
    steps = qkvcli.attend(query, key, value, causal=True)
    before = steps._repr_html_()
    query *= 0
    assert steps._repr_html_() == before


def test_rows_that_were_asked_for_and_some_of_the_steps() -> None:
    steps = example(rows=[1, 3])
    table = shown(steps).tables[1]
    assert [row[0].text for row in table] == ["", "cat", "on"]
    assert len(shown(steps[1:2]).tables) == 1
    assert shown(steps[1:2]).tables[0] == table
    assert shown(steps[:0]).tables == []


def test_labels_are_text_and_no_markup() -> None:
    labels = ["<script>alert(1)</script>", 'a & "b"', "", "\x1b[31m", "שלום", "日本語"]
    steps = qkvcli.attend(*np.eye(6)[None].repeat(3, 0), labels=labels)
    page = shown(steps)
    assert "script" not in page.tags
    assert [row[0].text for row in page.tables[0][1:]] == [
        "<script>alert(1)</script>",
        *['a & "b"', "", "\\x1b[31m", "שלום", "日本語"],
    ]


def test_what_has_no_number() -> None:
    for shapes in (((0, 2), (3, 2), (3, 2)), ((3, 2), (0, 2), (0, 2)), ((0, 2, 2),) * 3):
        steps = qkvcli.attend(*map(np.ones, shapes))
        assert any(line.startswith("scores = Q·Kᵀ") for line in shown(steps).lines)
        assert "scores = Q·Kᵀ" in steps._repr_mimebundle_()["text/plain"]
    odd = qkvcli.attend([[np.nan]], [[1.0]], [[1.0]])
    assert [row[1].text for row in shown(odd).tables[1][1:]] == ["nan"]


def test_the_text_is_a_terminals(qkv: Program) -> None:
    steps = example(scale="sqrt")
    bundle = steps._repr_mimebundle_(include=None, exclude=None)
    assert set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/html"] == steps._repr_html_()
    printed = qkv("run", "--example", "cat", "--scale", "sqrt").out
    named = printed.replace("animal  action   place", "     0       1       2")
    assert bundle["text/plain"].split() == named.split()
    assert bert()._repr_mimebundle_()["text/plain"].endswith(MORE)
    assert repr(steps) == "Steps(scores (6, 6), scaled (6, 6), weights (6, 6), output (6, 3))"


def test_a_step_alone_shows_its_table() -> None:
    steps = example(preset="gpt")
    for one in (steps["weights"], steps[-2], steps.values()[-2], [*steps][-2]):
        assert isinstance(one, qkvcli.Step)
        assert one is steps.get("weights")
        [table] = shown(one).tables
        assert table == shown(steps).tables[-2]
        bundle = one._repr_mimebundle_(include=None)
        assert bundle["text/html"] == one._repr_html_()
        assert bundle["text/plain"].startswith("weights = softmax(masked)   (6, 6) → (6, 6)")
    assert any("hidden" in line for line in shown(steps["weights"]).lines)
    assert shown(bert()["weights"]).lines[-1] == MORE
    assert repr(steps["weights"]) == "Step(weights = softmax(masked), (6, 6) float64)"
    assert repr(qkvcli.Step.held("x", np.ones((1, 2)), "y")) == "Step(x = y, (1, 2) float64)"


def test_a_large_step_alone_computes_its_edges() -> None:
    query, key, value = np.random.default_rng(1).normal(size=(3, 3000, 4))
    steps = qkvcli.attend(query, key, value, causal=True)
    assert shown(steps["weights"]).tables == shown(steps).tables[2:3]
    assert not any("array" in vars(step) for step in steps)


def test_a_step_that_was_pickled_shows_its_table() -> None:
    steps = example(causal=True)
    alone = pickle.loads(pickle.dumps(steps["weights"]))
    numbers = [[cell.text for cell in row] for row in shown(alone).tables[0]]
    expected = [[cell.text for cell in row] for row in shown(steps["weights"]).tables[0]]
    assert numbers == [[text.replace("·", "0.0000") for text in row] for row in expected]
    again = pickle.loads(pickle.dumps(steps))
    assert again["weights"]._repr_html_() == steps["weights"]._repr_html_()
    assert len(pickle.dumps(steps["weights"])) < len(pickle.dumps(steps)) / 2


@pytest.mark.parametrize("query", range(6))
def test_an_explanation_has_bars_and_powers(query: int) -> None:
    steps = example(preset="gpt")
    found = steps.explain(query)
    page = Page(found._repr_html_())
    lines = str(found).splitlines()
    whole = " ".join(str(found).replace("e^", "e").split())
    assert len(page.lines) > 4
    assert all(" ".join(line.split()) in whole for line in page.lines)
    tables = [[" ".join(cell.text for cell in row).split() for row in t] for t in page.tables]
    words = [re.sub("[█▉▊▋▌▍▎▏]", "", line).split() for line in lines]
    assert all(row in words for table in tables for row in table)
    bars = next(t for t in page.tables if all("%" in row[-1].text for row in t))
    shown = [
        float(width) for width in re.findall(r"width:([\d.]+)em;vertical", found._repr_html_())
    ]
    weights = [float(row[1].text) for row in bars]
    np.testing.assert_allclose(shown, 16 * np.array(weights), atol=0.006)
    if query:
        assert re.search(r"= e<sup>-?[\d.]+</sup> / \(e<sup>", found._repr_html_())
        assert "e^" not in found._repr_html_()


def test_the_labels_of_an_explanation_are_text() -> None:
    labels = ["<b>x</b>", "a & b", "\x1b"]
    steps = qkvcli.attend(*np.eye(3)[None].repeat(3, 0), labels=labels)
    page = Page(steps.explain("<b>x</b>", "a & b")._repr_html_())
    assert page.tags <= {"div", "b", "sup", "table", "tbody", "tr", "th", "td", "span"}
    assert page.lines[1].startswith("<b>x</b> → a & b: weight")


def test_a_comparison_shows_its_report() -> None:
    steps = example(scale="sqrt")
    theirs = {"scores": steps["scores"], "weights": example()["weights"]}
    found = qkvcli.compare(steps, theirs)
    bundle = found._repr_mimebundle_(include=None)
    assert bundle["text/plain"] == str(found)
    page = Page(bundle["text/html"])
    [table] = page.tables
    lines = str(found).splitlines()
    for (name, verdict, told), line in zip(table, lines, strict=False):
        assert line.split() == [*name.text.split(), *verdict.text.split(), *told.text.split()]
    assert [verdict.text for _, verdict, _ in table[:2]] == ["same", "DIFFERS"]
    assert [line for line in page.lines if line.strip()] == lines[len(table) :]
    assert page.attributes == {"style", "scope"}
    assert repr(found) == f"Comparison(differs, {len(table)} steps)"
    one = qkvcli.compare(steps, {"weights": steps.weights})
    assert repr(one) == "Comparison(same, 1 step)"
    grounds = re.findall(r"background:#(\w{6});color:#fff\b", bundle["text/html"])
    assert len(set(grounds)) == 2
    for red, green, blue in map(bytes.fromhex, grounds):
        assert contrast((red, green, blue), (255, 255, 255)) >= 4.5


def test_nothing_is_printed_where_rich_finds_a_notebook() -> None:
    """Rich shows by itself what a console prints in a notebook; it is to be returned alone."""
    script = """
import rich.console
rich.console._is_jupyter = lambda: True
import qkvcli
steps = qkvcli.attend([[1.0, 2.0]], [[1.0, 0.0]], [[1.0]])
text = steps._repr_mimebundle_()["text/plain"]
assert "weights = softmax(scores)" in text, text
str(steps.explain(0))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_layer_says_what_its_sinks_take() -> None:
    same = np.zeros((3, 2))
    steps = qkvcli.attend(same, same, same, sinks=[0.0], wo=np.ones((2, 4)), causal=True)
    page = shown(steps)
    assert len(page.tables) == 5
    ends = [line[-1].text for line in page.tables[2][1:]]
    assert ends == ["→ 0 50%, sink 50%", "→ 0, 1 33%, sink 33%", "→ 3 keys 25%, sink 25%"]
    said = "rows sum to 0.5 to 0.75, and the sink takes the rest; effective keys "
    assert f"{said}(2^entropy, without the sink): 1.00 (0) to 3.00 (2) of 3" in page.lines
    alone = shown(steps["weights"])
    assert any(line.startswith(said) for line in alone.lines)
    assert any(line.startswith("projected = output·Wo") for line in page.lines)
