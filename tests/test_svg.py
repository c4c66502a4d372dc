"""Pictures in SVG: what each cell says and shows, what is embedded, and what stands around."""

import base64
import html
import json
import math
import re
import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qkvcli
from qkvcli.core.compute import steps_of
from qkvcli.core.patches import Fit, affordable, patches, patches_of
from qkvcli.core.steps import Step
from qkvcli.core.views import Selection
from qkvcli.errors import UsageError
from qkvcli.render.drawing import THEMES
from qkvcli.render.heat import CIVIDIS, DIVERGING, Heat, contrast, hexadecimal
from qkvcli.render.plate import Measure, Plate
from qkvcli.render.png import png
from qkvcli.render.svg import FIT, fit, picture
from tests.conftest import SAMPLES, Program
from tests.test_long import fitted
from tests.test_models import problems

TOKENS = "The cat sat on the mat".split()
Element = ElementTree.Element
ALL = ("scores", "scaled", "capped", "masked", "weights", "output")


def local(found: Element) -> str:
    return found.tag.removeprefix("{http://www.w3.org/2000/svg}")


def all_of(root: Element, name: str) -> list[Element]:
    return [found for found in root.iter() if local(found) == name]


def texts(root: Element) -> list[str]:
    return ["".join(found.itertext()) for found in all_of(root, "text")]


def said_by(root: Element) -> list[tuple[str, str]]:
    """What each cell says, and its colour."""
    return [
        (child.text or "", rect.attrib["fill"])
        for rect in all_of(root, "rect")
        for child in rect
        if local(child) == "title"
    ]


def cells(root: Element) -> dict[str, str]:
    """The colours of cells by what they say, which but for hidden ones is of one alone."""
    pairs = said_by(root)
    shown = [text for text, _ in pairs if not text.endswith(": hidden")]
    assert len(set(shown)) == len(shown)
    return dict(pairs)


def images(root: Element) -> Iterator[tuple[Any, list[tuple[int, ...]]]]:
    """Each embedded picture: indexes (height, width), and the palette, with its opacity."""
    for image in all_of(root, "image"):
        kind, _, data = image.attrib["href"].partition(",")
        assert kind == "data:image/png;base64"
        yield decoded(base64.b64decode(data, validate=True))


def decoded(data: bytes) -> tuple[Any, list[tuple[int, ...]]]:
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    assert next(iter(chunks)) == b"IHDR"
    assert [*chunks][-1] == b"IEND"
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, colour, rest) == (8, 3, [0, 0, 0])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()  # no filters
    plain = chunks[b"PLTE"]
    opacity = chunks.get(b"tRNS", b"").ljust(len(plain) // 3, b"\xff")
    palette = [(*plain[3 * i : 3 * i + 3], opacity[i]) for i in range(len(plain) // 3)]
    return rows[:, 1:], palette


def drawn(qkv: Program, folder: Path, *words: object) -> Element:
    """The picture that a command saves; it prints nothing beside it but notes."""
    done = qkv(*words, "--quiet", "-o", "steps.svg")
    assert (done.code, done.out) == (0, "")
    assert all(line.startswith("note: ") for line in done.err.splitlines())
    return checked((folder / "steps.svg").read_text(encoding="utf-8"))


def checked(document: str) -> Element:
    """A picture, which holds to what all of them do."""
    root = ElementTree.fromstring(document)
    assert local(root) == "svg"
    assert root.attrib["role"] == "img"
    width, height = int(root.attrib["width"]), int(root.attrib["height"])
    assert root.attrib["viewBox"] == f"0 0 {width} {height}"
    title, description = root[0], root[1]
    assert (local(title), local(description)) == ("title", "desc")
    assert title.text
    assert description.text
    fetched = document.replace('xmlns="http://www.w3.org/2000/svg"', "", 1)
    assert not re.search(r"""https?://|url\(|@import|<script|<style|<foreignObject""", fetched)
    for found in root.iter():
        assert not any(name.startswith("on") for name in found.attrib)
        where = [float(found.attrib[name]) for name in ("x", "y") if name in found.attrib]
        assert all(0 <= at <= size for at, size in zip(where, (width, height), strict=False))
    return root


def of_steps(*steps: Step, **settings: Any) -> Element:
    return checked(picture(patches_of(steps, None, FIT), **settings))


def test_every_cell_says_what_it_is_and_has_its_colour(qkv: Program, folder: Path) -> None:
    root = drawn(qkv, folder, "run", "--example", "cat", "--preset", "gpt")
    query, key, value = (
        np.genfromtxt(SAMPLES / "cat_sat_mat" / f"{n}.csv", delimiter=",", skip_header=1)[:, 1:]
        for n in ("query", "key", "value")
    )
    scores = query @ key.T
    masked = np.where(np.tri(6, dtype=bool), scores / 2, -np.inf)
    weights = np.exp(masked) / np.exp(masked).sum(axis=-1, keepdims=True)
    expected = []
    for name, array in (("scores", scores), ("scaled", scores / 2), ("masked", masked)):
        expected += keyed(name, array, " → ", TOKENS)
    expected += keyed("weights", np.where(np.isinf(masked), -np.inf, weights), " → ", TOKENS)
    expected += keyed("output", weights @ value, ", ", ["animal", "action", "place"])
    assert said_by(root) == expected


def keyed(name: str, array: Any, between: str, columns: list[str]) -> list[tuple[str, str]]:
    """What the cells of a step say, and their colours, by plain loops."""
    heat = Heat.of(name, array)
    assert heat is not None
    found = []
    for i, j in np.ndindex(*array.shape):
        level = heat.level(array[i, j])
        said = "hidden" if level is None else f"{name} {array[i, j]:.4f}"
        fill = "none" if level is None else hexadecimal(heat.paints[level].background)
        found.append((f"{TOKENS[i]}{between}{columns[j]}: {said}", fill))
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes(qkv: Program, folder: Path, theme: str) -> None:
    root = drawn(qkv, folder, "run", "--example", "cat", "--theme", theme)
    page = all_of(root, "rect")[0].attrib["fill"]
    ground = tuple(bytes.fromhex(page[1:]))
    assert (sum(ground) > 600) == (theme == "light")
    assert all_of(root, "rect")[0].attrib["width"] == root.attrib["width"]
    plain = [found for found in all_of(root, "text") if "font-size" in found.attrib]
    for found in plain:
        red, green, blue = bytes.fromhex(found.attrib["fill"][1:])
        assert contrast((red, green, blue), (ground[0], ground[1], ground[2])) >= 4.5
    other = drawn(qkv, folder, "run", "--example", "cat", "--theme", "dark")
    assert cells(root) == cells(other)  # numbers have the same colours on both


def test_light_is_the_default(qkv: Program, folder: Path) -> None:
    drawn(qkv, folder, "softmax", "--example", "cat")
    before = (folder / "steps.svg").read_bytes()
    drawn(qkv, folder, "softmax", "--example", "cat", "--theme", "light")
    assert (folder / "steps.svg").read_bytes() == before


@pytest.mark.parametrize("more", [(), ("-o", "steps.csv")])
def test_a_theme_wants_a_picture(qkv: Program, folder: Path, more: tuple[str, ...]) -> None:
    done = qkv("run", "--theme", "dark", *more)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("qkvcli: --theme is for a picture; add -o FILE.svg")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("run",), ["scores", "weights", "output"]),
        (("softmax",), ["weights"]),
        (("scores", "--causal"), ["scores", "masked"]),
        (("run", "--show", "query,key,value,weights"), ["query", "key", "value", "weights"]),
    ],
)
def test_the_steps_that_are_shown_from_left_to_right(
    qkv: Program, folder: Path, words: tuple[str, ...], names: list[str]
) -> None:
    root = drawn(qkv, folder, *words, "--example", "cat")
    heads = [
        (found[0].text, float(found.attrib["x"]))
        for found in all_of(root, "text")
        if len(found) and found[0].attrib.get("font-weight") == "bold"
    ]
    assert [name for name, _ in heads] == names
    places = [x for _, x in heads]
    assert places == sorted(set(places))
    assert "Q·Kᵀ" in (root[1].text or "") or "scores" not in names
    shown = qkv(*words, "--example", "cat", "-f", "markdown").out
    for name, formula, shapes in re.findall(r"\*\*(\w+)\*\* = (\S.*?)   (\(.*\))", shown):
        assert f"{name} = {formula}" in texts(root)
        assert shapes in " ".join(texts(root))


def test_numbers_stand_in_the_cells_of_small_matrices(qkv: Program, folder: Path) -> None:
    root = drawn(qkv, folder, "softmax", "--example", "cat")
    numbers = [text for text in texts(root) if re.fullmatch(r"0\.\d\d", text)]
    assert len(numbers) == 36
    root = drawn(qkv, folder, "softmax", "--example", "cat", "--digits", "3")
    assert len([text for text in texts(root) if re.fullmatch(r"0\.\d{3}", text)]) >= 36
    assert "cat → sat: weights 0.629" in cells(root)


def marks(root: Element) -> list[tuple[float, float]]:
    """The middles of what marks the largest weights."""
    outlines = [
        (
            float(found.attrib["x"]) + float(found.attrib["width"]) / 2,
            float(found.attrib["y"]) + float(found.attrib["height"]) / 2,
        )
        for group in all_of(root, "g")
        if group.attrib.get("pointer-events") == "none"
        for found in group
        if local(found) == "rect"
    ]
    dots = [
        (float(found.attrib["cx"]), float(found.attrib["cy"])) for found in all_of(root, "circle")
    ]
    return outlines + dots


@pytest.mark.parametrize("length", [6, 40])
def test_the_largest_weight_of_each_row_is_marked(length: int) -> None:
    rng = np.random.default_rng(length)
    weights = rng.dirichlet(np.ones(length), length)
    root = of_steps(Step.held("weights", weights, "softmax(scores)"))
    spots = {
        (title.text or "").partition(":")[0]: rect
        for rect in all_of(root, "rect")
        for title in rect
    }
    found = set()
    for x, y in marks(root):
        for name, rect in spots.items():
            left, top, width, height = (
                float(rect.attrib[key]) for key in ("x", "y", "width", "height")
            )
            if left < x < left + width and top < y < top + height:
                found.add(name)
    assert found == {f"{i} → {row.argmax()}" for i, row in enumerate(weights)}


def test_a_grid_of_heads_and_a_row_for_each_head(qkv: Program, folder: Path) -> None:
    one = drawn(qkv, folder, "softmax", "--example", "bert")
    assert len(said_by(one)) == 12 * 9 * 9
    names = [text for text in texts(one) if re.fullmatch(r"head \d+", text)]
    assert names == [f"head {n}" for n in range(12)]
    assert "head 11, cat → cat: weights 0.9261" in cells(one)
    several = drawn(qkv, folder, "run", "--example", "bert", "--head", "6,2")
    names = [text for text in texts(several) if re.fullmatch(r"head \d+", text)]
    assert names == [*["head 6"] * 4, *["head 2"] * 4]
    assert len(cells(several)) == 2 * (3 * 9 * 9 + 9 * 32)
    assert int(one.attrib["width"]) < 1300


def test_rows_are_those_that_were_chosen(qkv: Program, folder: Path) -> None:
    root = drawn(qkv, folder, "softmax", "--example", "cat", "--rows", "cat,4")
    assert {text.split()[0] for text in cells(root)} == {"cat", "the"}
    assert "cat → sat: weights 0.6291" in cells(root)


def test_large_matrices_are_embedded(qkv: Program, folder: Path) -> None:
    words = ("softmax", "--seed", 1, "--length", 80, "--dim", 8, "--causal")
    root = drawn(qkv, folder, *words)
    assert not cells(root)
    qkv(*words, "--quiet", "-o", "weights.npy")
    weights = np.load(folder / "weights.npy")
    largest = float(weights[4:].max())  # queries 0 to 3 see fewer than 80 / 16 keys
    heat = Heat(largest, False)
    said = f"queries that see few keys: up to 1.0000, shown as {largest:.4f}"
    assert said in re.sub(" +", " ", " ".join(texts(root)))
    [(indexes, palette)] = images(root)
    assert indexes.shape == weights.shape
    for i, j in np.ndindex(*weights.shape):
        red, green, blue, opacity = palette[indexes[i, j]]
        assert opacity == (0 if j > i else 255)
        if j <= i:
            level = heat.level(weights[i, j])
            assert level is not None
            assert (red, green, blue) == heat.paints[level // 2 * 2].background
    [image] = all_of(root, "image")
    assert image.attrib["style"] == "image-rendering:pixelated"


def test_the_scale_around_zero_keeps_its_centre_and_ends() -> None:
    array = np.linspace(-3, 3, 65 * 65).reshape(65, 65)
    array[0, 1] = np.nan
    root = of_steps(Step.held("scores", array, "Q·Kᵀ"))
    [(indexes, palette)] = images(root)
    assert hexadecimal(palette[indexes[0, 0]][:3]) == DIVERGING[0]
    assert hexadecimal(palette[indexes[32, 32]][:3]) == DIVERGING[5]
    assert hexadecimal(palette[indexes[-1, -1]][:3]) == DIVERGING[-1]
    assert hexadecimal(palette[indexes[0, 1]][:3]) not in DIVERGING
    assert "NaN" in texts(root)


def test_many_tokens_are_reduced_and_it_says_so(longer: list[str], qkv: Program) -> None:
    root = drawn(qkv, Path(), "run", *longer, "--rows", "0:10000")
    assert len(list(images(root))) == 4
    for indexes, _ in images(root):
        assert max(indexes.shape) <= FIT.rows
    said = " ".join(texts(root))
    assert re.search(r"each point: the peak of \d+ × about \d+ numbers", said)
    assert re.search(r"\d+ of (about )?[\d,]+ queries for each row", said)
    assert "strongest of these queries:" in said
    assert Path("steps.svg").stat().st_size < 4e6


@pytest.mark.parametrize(
    ("shapes", "side"),
    [([(5, 5)], 1024), ([(12, 9, 9), (9, 384)], 1024), ([(64, 2000, 2000)], 128), ([], 1024)],
)
def test_how_large_matrices_are_drawn(shapes: list[tuple[int, ...]], side: int) -> None:
    assert fit(shapes) == Fit(side, side)


def test_a_picture_of_more_than_fits_is_reduced_again() -> None:
    array = np.zeros((16, 500, 500))
    array[3, 250, 250] = 7
    root = of_steps(Step.held("scores", array, "Q·Kᵀ"))
    found = [indexes for indexes, _ in images(root)]
    assert sum(indexes.size for indexes in found) <= 2**21
    assert [int((indexes == 128).sum()) for indexes in found] == [0, 0, 0, 1, *[0] * 12]
    assert "each point: the peak of 1 or 2   × 1 or 2 numbers" in " ".join(texts(root))


def test_a_shape_is_never_broken(qkv: Program, folder: Path) -> None:
    for words in (("--example", "bert"), ("--example", "gpt", "--head", "0"), ("--example", "cat")):
        root = drawn(qkv, folder, "run", *words, "--show", "all")
        assert all(text.count("(") == text.count(")") for text in texts(root))
        if "bert" in words:
            assert "(12, 9, 32)·(12, 32, 9) → (12, 9, 9)" in texts(root)
    many = (12345, 67890, 12345)
    long = Step.held("weights", np.zeros((2, 3, 4)), "softmax", terms=(many, "·", many))
    said = [text.strip() for text in texts(of_steps(long))]
    assert said[1:3] == [f"{many}·{many} →", "(2, 3, 4)"]


@pytest.mark.parametrize("rows", ["cat", "cat,on", "0:6"])
def test_arrows_are_beside_the_matrices(qkv: Program, folder: Path, rows: str) -> None:
    """Also beside a matrix of one row, where that of the keys has more."""
    words = ("run", "--example", "cat", "--scale", "sqrt", "--show", "all", "--rows", rows)
    root = drawn(qkv, folder, *words)
    arrows = [
        re.match(r"M([\d.]+) ([\d.]+)H", found.attrib["d"])
        for found in all_of(root, "path")
        if "m-6 -4" in found.attrib["d"]
    ]
    assert len(arrows) == 3
    sides = [
        (float(rect.attrib["y"]), float(rect.attrib["y"]) + float(rect.attrib["height"]))
        for rect in all_of(root, "rect")
        if len(rect) and "weights" in (rect[0].text or "")
    ]
    middle = (min(top for top, _ in sides) + max(bottom for _, bottom in sides)) / 2
    assert [float(arrow[2]) for arrow in arrows if arrow] == pytest.approx([middle] * 3, abs=0.1)


def test_what_is_no_peak_is_not_called_one() -> None:
    """One query of several is computed for each row, and every key has its column."""
    array = np.random.default_rng(1).normal(size=(400, 4))
    problem = fitted({"query": array, "key": array[:50], "value": array[:50]})
    names = ("scores", "weights")
    found = patches(problem, "weights", names, Selection(), Fit(100, 100), budget=2**10)
    said = texts(checked(picture(found)))
    assert said.count("1 of 4 queries for each row") == 2
    assert not [text for text in said if "peak" in text]
    narrow = patches(problem, "weights", names, Selection(), Fit(100, 25), budget=2**10)
    assert "each point: the peak of 1 × 2   numbers" in " ".join(texts(checked(picture(narrow))))


def test_too_many_heads_are_said(qkv: Program, folder: Path) -> None:
    np.save("s.npy", np.zeros((500, 2, 2)))
    root = drawn(qkv, folder, "softmax", "s.npy")
    assert len(cells(root)) == 400 * 4
    assert "100 more heads are not drawn: --head chooses others" in texts(root)


NASTY = [
    "<script>alert(1)</script>",
    "a & \"b\" 'c'",
    "]]>",
    "日本語のラベル",
    "👩‍👩‍👧",
    "שלום",
    "\x00\x1b[31m\ud800\ufffe",
    "W" * 200,
    "",
    "a\nb\tc",
    "\u202eevil",
]


def test_labels_are_shown_and_not_obeyed(folder: Path) -> None:
    count = len(NASTY)
    steps = qkvcli.attend(*np.eye(count)[None].repeat(3, 0), labels=NASTY)
    steps.save("nasty.svg")
    root = checked((folder / "nasty.svg").read_text(encoding="utf-8"))
    assert len(cells(root)) == 3 * count * count
    assert "<script>alert(1)</script> → a & \"b\" 'c': scores 0.0000" in cells(root)
    assert "'' → ]]>: scores 0.0000" in cells(root)
    assert any(text.startswith("\\x00\\x1b[31m") for text in texts(root))
    assert all(len(text) <= 16 for text in texts(root) if text.startswith("W"))
    assert not [text for text in texts(root) if not text]
    assert "\u202e" not in ElementTree.tostring(root, "unicode")
    label = next(text for text in cells(root) if text.startswith("\u2068שלום"))
    assert label.startswith("\u2068שלום\u2069 → ")


@settings(max_examples=60)
@given(st.lists(st.text(max_size=12), min_size=2, max_size=2))
def test_any_label_makes_a_picture_that_can_be_read(labels: list[str]) -> None:
    weights = Step.held("weights", np.eye(2), rows=tuple(labels), columns=tuple(labels))
    of_steps(weights)


@pytest.mark.parametrize(
    ("query", "key", "value", "said"),
    [
        ((0, 3), (4, 3), (4, 2), "(0, 4)"),
        ((3, 3), (0, 3), (0, 2), "(3, 0)"),
        ((3, 3), (4, 3), (4, 0), "(3, 0)"),
        ((0, 2, 2), (0, 2, 2), (0, 2, 2), "(0, 2, 2)"),
    ],
)
def test_what_has_no_number_is_said(
    folder: Path, query: Any, key: Any, value: Any, said: str
) -> None:
    qkvcli.attend(np.ones(query), np.ones(key), np.ones(value)).save("empty.svg")
    root = checked((folder / "empty.svg").read_text())
    assert "nothing to draw: the shape is" in " ".join(texts(root))
    assert said in " ".join(texts(root))


def test_rows_that_are_none(qkv: Program, folder: Path) -> None:
    done = qkv("softmax", "--example", "cat", "--rows", "3:3", "--quiet", "-o", "none.svg")
    assert done.code == 0
    root = checked((folder / "none.svg").read_text())
    assert "nothing to draw: the shape is (0, 6)" in re.sub(" +", " ", " ".join(texts(root)))


def test_one_number() -> None:
    root = of_steps(Step.held("weights", np.ones((1, 1)), "softmax(scores)"))
    assert cells(root) == {"0 → 0: weights 1.0000": CIVIDIS[-1]}
    assert "largest of its row" not in texts(root)  # of one there is nothing to choose


def test_what_is_no_number(folder: Path) -> None:
    query = np.array([[np.nan, 1], [np.inf, 0], [1, 1]])
    mask = np.array([[True] * 3, [True] * 3, [False] * 3])
    qkvcli.attend(query, np.eye(3, 2) + 1, np.ones((3, 1)), mask=mask).save("odd.svg")
    root = checked((folder / "odd.svg").read_text())
    found = cells(root)
    assert found["0 → 0: scores nan"] != "none"
    assert found["2 → 0: hidden"] == "none"
    assert {"NaN", "hidden"} <= set(texts(root))
    nothing = of_steps(Step.held("scores", np.full((2, 2), np.nan), "Q·Kᵀ"))
    assert "no number to colour" in texts(nothing)


LEAST = "#1b9e77"


def with_infinities(length: int) -> dict[str, Any]:
    """Queries, keys and values of which key 1 has an inf, and value 2 a −inf."""
    query, key, value = np.random.default_rng(2).normal(size=(3, length, 3))
    query[:, 0] = -np.abs(query[:, 0])
    key[1, 0], value[2, 1] = np.inf, -np.inf
    return {"query": query, "key": key, "value": value}


def test_an_infinity_that_no_mask_made_is_not_hidden(folder: Path, qkv: Program) -> None:
    given = with_infinities(6)
    steps = qkvcli.attend(**given)
    steps.save("odd.svg")
    for name, array in given.items():
        np.save(f"{name}.npy", array)
    words = ("-q", "query.npy", "-k", "key.npy", "-v", "value.npy", "--show", "all")
    for root in (checked((folder / "odd.svg").read_text()), drawn(qkv, folder, "run", *words)):
        found = cells(root)
        assert all(found[f"{i} → 1: scores -inf"] == LEAST for i in range(6))
        assert "-inf" in texts(root)
        assert "hidden" not in "".join(root.itertext())
        assert all(found[f"{i}, 1: output -inf"] == LEAST for i in range(6))
    assert found["2, 1: value -inf"] == LEAST
    for heat in (False, True):
        shown = qkv("run", *words, "-f", *(["heatmap"] if heat else ["table"])).out
        assert "hidden" not in shown
        assert ("blank: -inf" in shown) == heat
    assert "hidden" not in steps._repr_html_()


@pytest.mark.parametrize("length", [8, 90])
def test_what_a_mask_hides_stands_apart_from_infinities(folder: Path, length: int) -> None:
    given = with_infinities(length)
    steps = qkvcli.attend(**given, causal=True)
    steps.save("odd.svg")
    root = checked((folder / "odd.svg").read_text())
    plain = [found.text for found in all_of(root, "text") if "font-size" in found.attrib]
    legends = [text for text in plain if text in ("hidden", "-inf")]
    assert legends == ["-inf", *("hidden", "-inf"), "hidden", "-inf"]  # the last in the output
    if length == 8:
        found = dict(said_by(root))
        assert found["2 → 1: masked -inf"] == found["1 → 1: scores -inf"] == LEAST
        assert found["1 → 2: hidden"] == "none"
        assert found["2 → 1: weights 0.0000"] == CIVIDIS[0]
        return
    scores, masked, weights, output = images(root)
    for i, j in np.ndindex(length, length):
        clear = j > i
        for (indexes, palette), hidden in ((scores, False), (masked, clear), (weights, clear)):
            assert (palette[indexes[i, j]][3] == 0) == hidden
    infinite = [
        {(i, j) for i, j in np.ndindex(n.shape) if hexadecimal(p[n[i, j]][:3]) == LEAST}
        for n, p in (scores, masked, weights, output)
    ]
    assert infinite[0] == {(i, 1) for i in range(length)}
    assert infinite[1] == {(i, 1) for i in range(1, length)}
    assert not infinite[2]


@pytest.mark.parametrize("fit", [Fit(3, 3), Fit(20, 4), Fit(5, 20)])
def test_a_point_is_hidden_where_nothing_else_is(fit: Fit) -> None:
    """Computed in pieces or held: no more than a mask hides, and no −inf that it does not."""
    given = with_infinities(20) | {"window": (4, 0), "scale": "sqrt"}
    problem = fitted(given)
    streamed = {
        one.view.step.name: one for one in patches(problem, "output", ALL, Selection(), fit)
    }
    held = {one.view.step.name: one for one in patches_of(steps_of(problem), problem, fit)}
    place = [np.arange(min(20, n)) * 20 // min(20, n) for n in fit]
    for name, step in ((step.name, step) for step in steps_of(problem)):
        for one in (streamed[name], held[name]):
            if name not in ("masked", "weights"):
                assert one.view.hidden is None
                continue
            assert one.view.hidden is not None
            for (i, j), hidden in np.ndenumerate(one.view.hidden):
                rows, columns = (
                    range(begins[n], [*begins, 20][n + 1])
                    for begins, n in zip(place, (i, j), strict=True)
                )
                cells = [(a, b) for a in rows for b in columns]
                assert hidden == all(not 0 <= a - b <= 4 for a, b in cells)
                if name == "masked" and np.isneginf(one.view.array[i, j]) and not hidden:
                    assert any(np.isneginf(step.array[c]) and 0 <= c[0] - c[1] <= 4 for c in cells)


def test_scores_that_were_given_hide_keys_at_every_step(qkv: Program, folder: Path) -> None:
    np.save("s.npy", np.array([[0.0, -np.inf], [2.0, 1.0]]))
    root = drawn(qkv, folder, "softmax", "s.npy", "--show", "all", "--scale", "0.5")
    assert [text for text in texts(root) if text in ("hidden", "-inf")] == ["hidden"] * 3


def test_a_row_that_sees_no_key_marks_none(qkv: Program, folder: Path) -> None:
    np.save("m.npy", np.array([[False] * 6] + [[True] * 6] * 5))
    root = drawn(qkv, folder, "softmax", "--example", "cat", "--mask", "m.npy")
    assert len(marks(root)) == 5
    assert "The → no key, cat → sat 63%" in (root[1].text or "")


def test_the_description_says_who_looks_at_whom(qkv: Program, folder: Path) -> None:
    root = drawn(qkv, folder, "run", "--example", "cat")
    said = root[1].text or ""
    assert "weights = softmax(scores)   (6, 6) → (6, 6)." in said
    assert "The → cat 60%, cat → sat 63%, sat → cat 68%, on → mat 61%" in said
    assert "Strongest: the → mat 0.7494" in said
    assert root[0].text == "Attention: scores, weights and output"


@pytest.mark.parametrize("array", [np.arange(12).reshape(3, 4) % 5, np.zeros((1, 300), int)])
def test_a_png_holds_what_went_in(array: Any) -> None:
    colours = [(i, 2 * i, 255 - i) for i in range(5)]
    indexes, palette = decoded(png(array, colours, clear=2))
    assert (indexes == array).all()
    assert palette == [(*c, 0 if i == 2 else 255) for i, c in enumerate(colours)]


ODD = st.one_of(st.floats(width=32), st.just(-math.inf), st.just(math.nan))


@given(st.lists(ODD, min_size=1, max_size=9), st.sampled_from(["weights", "scores"]))
def test_levels_of_many_numbers_are_those_of_each(numbers: list[float], name: str) -> None:
    array = np.array(numbers)
    heat = Heat.of(name, array)
    if heat is None:
        return
    each = [heat.level(number) for number in numbers]
    assert heat.levels(array).tolist() == [-1 if level is None else level for level in each]


@given(problems())
def test_held_steps_are_reduced_as_computed_ones(asked: dict[str, Any]) -> None:
    problem = fitted(asked)
    selection, most = Selection(), Fit(3, 3)
    streamed = {one.view.step.name: one for one in patches(problem, "output", ALL, selection, most)}
    steps = [step for step in steps_of(problem) if step.name in ALL]
    for one in patches_of(steps, problem, most):
        name = one.view.step.name
        other = streamed[name]
        np.testing.assert_allclose(one.view.array, other.view.array, rtol=1e-5, atol=1e-6)
        assert (one.view.hidden is None) == (other.view.hidden is None)
        if one.view.hidden is not None and other.view.hidden is not None:
            np.testing.assert_array_equal(one.view.hidden, other.view.hidden)
            np.testing.assert_array_equal(one.view.hidden, np.isneginf(one.view.array))
        weights = [pair.weight for pair in one.strongest]
        np.testing.assert_allclose(
            weights, [pair.weight for pair in other.strongest], rtol=1e-5, atol=1e-6
        )


MASKS = {
    "causal": np.tri(40, dtype=bool),
    "window": np.tri(40, dtype=bool) & ~np.tri(40, k=-3, dtype=bool),
    "one key each": np.eye(40, dtype=bool),
    "some see nothing": np.tri(40, k=-2, dtype=bool),
    "nothing": np.zeros((40, 40), bool),
    "few for one": np.arange(40) < np.array([40] * 39 + [2])[:, None],
}


@pytest.mark.parametrize("name", MASKS)
def test_the_scale_ends_at_weights_of_queries_that_see_many_keys(name: str) -> None:
    seen = MASKS[name]
    rng = np.random.default_rng(4)
    given = dict(zip(("query", "key", "value"), rng.normal(size=(3, 2, 40, 3)), strict=True))
    problem = fitted(given | {"mask": seen})
    steps = steps_of(problem)
    most = max(row.sum() for row in seen)
    expected = max(
        float(matrix[i].max())
        for matrix in steps[-2].array
        for i, row in enumerate(seen)
        if row.sum() * 16 >= most
    )
    streamed = patches(problem, "output", ("weights",), Selection(), Fit(9, 9))
    held = patches_of(steps[-2:-1], problem, Fit(9, 9))
    for one in (*streamed, *held):
        assert one.usual == pytest.approx(expected, rel=1e-12)
        heat = Plate(one, (40, 40), False, Measure(True, None, THEMES["light"])).heat
        assert heat is None if name == "nothing" else heat is not None
        if heat is not None:
            assert heat.largest == pytest.approx(expected, rel=1e-12)
        root = checked(picture([one]))
        said = [text for text in texts(root) if text.startswith("queries that see few keys")]
        whole = float(np.nanmax(steps[-2].array))
        assert bool(said) == (expected < whole and name != "nothing")
        if said and not said[0].endswith(","):
            assert f"up to {whole:.4f}" in said[0]


def test_where_no_mask_hides_a_key_the_scale_is_of_all(folder: Path) -> None:
    steps = qkvcli.attend(*np.random.default_rng(4).normal(size=(3, 40, 3)))
    [one] = patches_of(steps[1:2], None, FIT)
    assert one.usual is None
    assert not [text for text in texts(of_steps(steps["weights"])) if "few keys" in text]


def test_pictures_from_python(qkv: Program, folder: Path) -> None:
    query, key, value = np.random.default_rng(3).normal(size=(3, 5, 4))
    steps = qkvcli.attend(query, key, value, causal=True)
    steps.save("all.svg")
    before = cells(checked((folder / "all.svg").read_text()))
    query *= 0  # the steps are held
    steps.save("again.svg", theme="light")
    assert (folder / "again.svg").read_bytes() == (folder / "all.svg").read_bytes()
    shown = f"1 → 0: weights {steps.weights[1, 0]:.4f}"
    assert shown in before
    steps[2:3].save("one.svg", theme="dark")
    root = checked((folder / "one.svg").read_text())
    assert root[0].text == "Attention: weights"
    assert "1 → 2: hidden" in cells(root)


def test_a_picture_of_steps_that_are_not_held(folder: Path) -> None:
    """A large step is reduced while it is computed, and not held afterwards."""
    arrays = np.random.default_rng(3).normal(size=(3, 1100, 4)).astype(np.float32)
    steps = qkvcli.attend(*arrays, scale="sqrt")
    steps.save("large.svg")
    assert not any("array" in vars(step) for step in steps)
    root = checked((folder / "large.svg").read_text())
    weights = [indexes for indexes, _ in images(root)][2]
    assert weights.shape == (768, 768)
    peak = np.unravel_index(steps.weights.argmax(), (1100, 1100))
    begins = np.arange(768) * 1100 // 768
    row, column = (np.flatnonzero(begins <= place)[-1] for place in peak)
    assert weights[row, column] == weights.max() == 127


MEASURE = """<script>
const out = [];
for (const svg of document.querySelectorAll("svg")) {
  const page = svg.getBoundingClientRect();
  const found = [...svg.querySelectorAll("text")];
  const texts = found.map(text => [text.textContent, text.getBoundingClientRect()]);
  texts.forEach(([text, one], i) => {
    if (one.left < page.left || one.right > page.right || one.top < page.top
        || one.bottom > page.bottom) out.push(["cut", text]);
    for (const [other, two] of texts.slice(i + 1)) {
      const across = Math.min(one.right, two.right) - Math.max(one.left, two.left);
      const down = Math.min(one.bottom, two.bottom) - Math.max(one.top, two.top);
      if (across > 1 && down > 4) out.push([text, other]);
    }
  });
}
const count = document.querySelectorAll("svg text").length;
document.body.textContent = "";
document.title = "measured " + JSON.stringify([count, out]);
</script>"""
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no browser is here")
def test_no_text_is_cut_or_covered_in_a_browser(qkv: Program, folder: Path) -> None:
    assert BROWSER is not None
    rng = np.random.default_rng(0)
    nasty = qkvcli.attend(*rng.normal(size=(3, len(NASTY), 8)), causal=True, labels=NASTY)
    heads = qkvcli.attend(*rng.normal(size=(3, 5, len(NASTY), 8)), labels=NASTY, scale="sqrt")
    long = qkvcli.attend(*rng.normal(size=(3, 700, 8)), mask=np.arange(700) < 600)
    for name, steps in (("nasty", nasty), ("heads", heads), ("one", heads[2:3]), ("long", long)):
        steps.save(f"{name}.svg")
    for example in ("cat", "article", "bert", "gpt"):
        qkv("run", "--example", example, "--quiet", "-o", f"{example}.svg")
    drawings = "\n".join(f"<p>{path.read_text()}" for path in sorted(folder.glob("*.svg")))
    (folder / "page.html").write_text(f"<!doctype html><meta charset=utf-8>{drawings}{MEASURE}")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-quic"]
    words = [BROWSER, *options, f"--user-data-dir={folder / 'browser'}", "--dump-dom"]
    ended = subprocess.run(
        [*words, (folder / "page.html").as_uri()], capture_output=True, text=True, timeout=60
    )
    found = re.search(r"<title>measured (.*?)</title>", ended.stdout)
    assert found is not None, ended.stderr
    count, faults = json.loads(html.unescape(found[1]))
    assert count > 500
    assert faults == []


@pytest.mark.parametrize(
    ("name", "theme", "said"),
    [
        ("x.svg", "blue", "theme 'blue' is none of light, dark"),
        ("x.npz", "dark", "a theme is for pictures and pages: .svg, .html"),
        ("x.html", "blue", "theme 'blue' is none of light, dark"),
    ],
)
def test_what_python_refuses(folder: Path, name: str, theme: Any, said: str) -> None:
    steps = qkvcli.attend([[1.0]], [[1.0]], [[1.0]])
    with pytest.raises(UsageError, match=re.escape(said)):
        steps.save(name, theme=theme)
    assert not list(folder.iterdir())


def test_what_would_take_too_long_has_fewer_rows() -> None:
    array = np.zeros((200_000, 64), np.float32)
    problem = fitted({"query": array, "key": array, "value": array})
    most = affordable(problem, "output", ("scores", "weights", "output"), Selection(), FIT)
    assert most.columns == FIT.columns
    assert 40 <= most.rows < FIT.rows
    small = fitted(dict.fromkeys(("query", "key", "value"), array[:100]))
    assert affordable(small, "output", ("weights",), Selection(), FIT) == FIT


def test_a_layer_is_drawn_with_its_sinks(qkv: Program, layer: list[str], folder: Path) -> None:
    root = drawn(qkv, folder, "run", *layer)
    said = root[1].text or ""
    assert "weights = softmax(masked and sinks)   (2, 3, 3), (2,) → (2, 3, 3)." in said
    assert "Rows sum to less than 1: the sink takes the rest." in said
    assert "a → a 86% (sink 14%), b → b 99% (sink 1%), c → a 48% (sink 36%)" in said
    shown = " ".join(" ".join(texts(root)).split())
    assert "rows sum to less than 1: the sink takes the rest" in shown
    for arrow in ("+ slope·(j − i)", "softmax(masked and sinks)", "× sigmoid(X·Wg)", "·Wo + bo"):
        assert arrow in texts(root)
    steps = qkv("run", *layer, "-f", "json").out
    names = json.loads(steps).keys()
    told = {said.split(": ")[-1].split(" ")[0] for said, _ in said_by(root)}
    assert told == {*names, "hidden"} >= {"key_normed", "query_rotated", "biased", "projected"}


@pytest.mark.parametrize(
    ("names", "count"),
    [("key,key_rotated", 0), ("key,key_normed", 1), ("key_normed,key_rotated", 1)],
)
def test_an_arrow_is_from_the_step_itself(
    qkv: Program, layer: list[str], folder: Path, names: str, count: int
) -> None:
    """None from "key" to what is made of "key_normed"."""
    np.save("norm.npy", np.ones(4))
    words = ["--embeddings", "x.npy", "--wq", "wq.npy", "--wk", "wk.npy", "--wv", "wv.npy"]
    root = drawn(qkv, folder, "run", *words, "--k-norm", "norm.npy", "--rope", 9, "--show", names)
    arrows = [found for found in all_of(root, "path") if "m-6 -4" in found.attrib["d"]]
    assert len(arrows) == count
