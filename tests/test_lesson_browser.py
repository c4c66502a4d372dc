"""The page to keep, in a real browser: what it computes, shows and says, and how it is moved in."""

import json
import math
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import qkvcli
from qkvcli.render.explanation import PAPER, parts
from qkvcli.render.lesson.data import ABOUT
from qkvcli.render.paper import Bars, Line
from qkvcli.render.text import formatted, percent
from tests.conftest import SAMPLES, Program
from tests.layers import MODULES, file_of, words_of
from tests.oracle import attention
from tests.test_lesson import HOSTILE

pytest.importorskip("fcntl", reason="a browser is driven over pipes, which Windows has not")
from tests.browser import Browser, Page, found

Write = Callable[..., Path]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One process for all pages of a worker."""
    program = found()
    if program is None:
        pytest.skip("no Chromium is installed")
    started = Browser(program)
    yield started
    started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page, which must fetch nothing and complain of nothing."""
    opened = browser.page()
    opened.size(1200)
    yield opened
    fetched = [event["request"]["url"] for event in opened.events("Network.requestWillBeSent")]
    assert not [url for url in fetched if not url.startswith(("file:", "data:", "about:"))]
    assert len({url.split("#")[0] for url in fetched if url.startswith("file:")}) <= 1
    assert not opened.events("Runtime.exceptionThrown")
    assert not [event for event in opened.events("Log.entryAdded") if not _icon(event)]
    assert not opened.events("Runtime.consoleAPICalled")
    opened.close()


def _icon(event: dict[str, Any]) -> bool:
    return "favicon" in str(event)


@pytest.fixture
def lesson(page: Page, tmp_path: Path, qkv: Program) -> Callable[..., Page]:
    """A page of what the program saves, opened at a link."""

    def opened(*words: object, link: str = "") -> Page:
        file = tmp_path / "lesson.html"
        ended = qkv(*words, "--quiet", "-o", file)
        assert (ended.code, ended.err) == (0, "")
        page.go(file, link)
        return page

    return opened


def given(name: str) -> tuple[Any, Any, Any]:
    """The query, key and value of a sample."""
    folder = SAMPLES / name
    if name == "cat_sat_mat":
        files = [
            np.genfromtxt(folder / f"{n}.csv", delimiter=",") for n in ("query", "key", "value")
        ]
        query, key, value = (array[1:, 1:] for array in files)
    else:
        query, key, value = (np.load(folder / f"{n}.npy") for n in ("query", "key", "value"))
    return query, key, value


def cells(page: Page) -> Any:
    """The numbers of the heat map as they are said; NaN for one that is hidden."""
    said = page.js(
        "[...document.querySelectorAll('#heat [data-row]')].map(cell => "
        "[cell.dataset.row, cell.dataset.column, cell.getAttribute('aria-label')])"
    )
    shape = (1 + max(int(i) for i, _, _ in said), 1 + max(int(j) for _, j, _ in said))
    numbers = np.full(shape, np.nan)
    for i, j, text in said:
        if "hidden" not in text:
            [number] = re.findall(r": (?:\w+ )?(-?[\d.]+(?:e[+-]\d+)?|-?inf|nan)", text)
            numbers[int(i), int(j)] = float(number)
    return numbers


def go(page: Page, link: str) -> None:
    page.js(f"location.hash = {json.dumps(link)}; new Promise(done => setTimeout(done, 30))")


def checked(page: Page) -> int:
    """How many numbers the page found equal. Fails where it says anything else."""
    told = re.fullmatch(
        r"The page's numbers equal those that qkvcli computed \((\d+) checked.*\)",
        page.text("#check"),
    )
    assert told, page.text("#check")
    return int(told[1])


class Case(NamedTuple):
    """An attention: what is given to qkvcli, and what the oracle is told of a place."""

    inputs: tuple[Any, Any, Any]
    options: dict[str, Any]
    oracle: Callable[[tuple[int, ...]], dict[str, Any]] = lambda place: {}
    groups: int = 1


def drawn(shape: tuple[int, ...], seed: int = 1) -> Any:
    return np.random.default_rng(seed).normal(size=shape)


def split(name: str, heads: int) -> tuple[Any, Any, Any]:
    def parted(array: Any) -> Any:
        return array.reshape(len(array), heads, -1).swapaxes(0, 1)

    query, key, value = map(np.squeeze, given(name))
    return parted(query), parted(key), parted(value)


def _bias() -> Any:
    bias = drawn((2, 1, 1, 6), 7)
    bias[1, ..., 2] = -np.inf
    return bias


SMALL = (drawn((5, 4)), drawn((7, 4), 2), drawn((7, 3), 3))
HEADS = (drawn((2, 4, 5, 3)), drawn((2, 2, 6, 3), 2), drawn((2, 2, 6, 2), 3))
SEEN = drawn((5, 7), 9) > -0.5
CASES = {
    "article": Case(given("article"), {}),
    "cat": Case(given("cat_sat_mat"), {"labels": "The cat sat on the mat"}),
    "bert": Case(split("bert", 12), {"preset": "bert"}, lambda _: {"scale": 1 / math.sqrt(32)}),
    "gpt": Case(
        given("gpt"),
        {"preset": "gpt"},
        lambda _: {"scale": 1 / 8, "seen": lambda i, j: j <= i},
        groups=3,
    ),
    "batches, heads that share": Case(HEADS, {"scale": 0.5}, lambda _: {"scale": 0.5}, groups=2),
    "batches share keys": Case((HEADS[0], drawn((4, 6, 3), 2), drawn((4, 6, 2), 3)), {}),
    "window and offset": Case(
        SMALL,
        {"window": (1, 2), "offset": 2},
        lambda _: {"seen": lambda i, j: i + 1 <= j <= i + 4},
    ),
    "causal after a cache": Case(
        SMALL, {"causal": True, "offset": 2}, lambda _: {"seen": lambda i, j: j <= i + 2}
    ),
    "valid length": Case(
        HEADS,
        {"valid_length": (3, 5)},
        lambda place: {"seen": lambda i, j: j < (3, 5)[place[0]]},
        groups=2,
    ),
    "mask": Case(SMALL, {"mask": SEEN}, lambda _: {"seen": lambda i, j: SEEN[i, j]}),
    "mask of numbers": Case(
        HEADS,
        {"mask": _bias()},
        lambda place: {"bias": np.broadcast_to(_bias()[place[0], 0, 0], (5, 6))},
        groups=2,
    ),
    "mask that is short": Case(
        SMALL,
        {"mask": SEEN[:, :5]},
        lambda _: {"seen": lambda i, j: j < 5 and SEEN[i, j]},
    ),
    "mask of one column": Case(
        SMALL, {"mask": SEEN[:, :1]}, lambda _: {"seen": lambda i, j: SEEN[i, 0]}
    ),
    "softcap": Case(SMALL, {"softcap": 1.5, "scale": 2}, lambda _: {"scale": 2.0, "cap": 1.5}),
    "negative scale": Case(SMALL, {"scale": -1.5}, lambda _: {"scale": -1.5}),
    "float32": Case(tuple(map(np.float32, SMALL)), {"preset": "bert"}, lambda _: {"scale": 0.5}),  # type: ignore[arg-type]
    "far from 0": Case((30 * SMALL[0], *SMALL[1:]), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_a_plain_loop_does(page: Page, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    query, key, value = case.inputs
    steps = qkvcli.attend(query, key, value, **case.options)
    file = tmp_path / "lesson.html"
    file.write_text(str(steps.page()).replace('"digits":4', '"digits":12'), "utf-8")
    page.go(file)
    assert checked(page) >= 20
    leading = query.shape[:-2]
    places = list(np.ndindex(leading))
    for place in {places[0], places[len(places) // 2], places[-1]}:
        shared = (*place[:-1], place[-1] // case.groups) if place else ()
        shared = shared[len(place) - (key.ndim - 2) :]  # what lacks an axis is shared along it
        weights, output = attention(query[place], key[shared], value[shared], **case.oracle(place))
        link = f"h={place[-1]}&b={place[0]}&s=" if place else "s="
        slack = 1e-9 if query.dtype == np.float64 else 1e-5
        go(page, f"#{link}weights")
        assert np.nan_to_num(cells(page)) == pytest.approx(np.array(weights), abs=slack)
        go(page, f"#{link}output")
        assert cells(page) == pytest.approx(np.array(output), abs=slack)
        go(page, f"#{link}scores")
        assert cells(page) == pytest.approx(query[place] @ key[shared].T, rel=1e-5, abs=slack)


def test_numbers_beyond_a_type_and_wide_values_are_computed(page: Page, tmp_path: Path) -> None:
    query, key, value = drawn((3, 3, 4)).astype(np.float32)
    wide = np.ones((3, 131_000), np.float32)
    for values, options in (
        (value, {"scale": 1e39, "mask": np.ones((3, 3), np.bool_)}),
        (value, {"mask": np.array([[0.0, 1.5, -np.inf]], np.longdouble)}),
        (wide, {"scale": "sqrt"}),
    ):
        asked: dict[str, Any] = options
        file = tmp_path / "lesson.html"
        qkvcli.attend(query, key, values, **asked).save(file)
        page.go(file, "#q=1&k=0")
        assert checked(page) >= 3


def test_scores_that_were_given_are_taken_from_there(
    page: Page, tmp_path: Path, qkv: Program
) -> None:
    scores = drawn((4, 5))
    scores[1, 3] = scores[2] = -np.inf
    np.save(tmp_path / "scores.npy", scores)
    file = tmp_path / "lesson.html"
    qkv("softmax", tmp_path / "scores.npy", "--scale", "-2", "--digits", 12, "--quiet", "-o", file)
    page.go(file)
    checked(page)
    powers = np.where(np.isneginf(scores), 0, np.exp(-2 * scores))
    sums = powers.sum(axis=1, keepdims=True)
    weights = np.divide(powers, sums, where=sums > 0, out=np.zeros_like(powers))
    assert np.nan_to_num(cells(page)) == pytest.approx(weights, abs=1e-9)
    go(page, "#q=1&k=3")
    assert page.text("#panel h2") == "1 → 3: weight 0, since 3 is hidden"
    assert "hidden: its score is -inf" in page.texts("#panel p")
    go(page, "#q=2&k=0")
    assert page.text("#panel h2") == "2 sees no key: its weights and its output are zeros"


def test_weights_that_were_given_are_taken_from_there(
    page: Page, tmp_path: Path, qkv: Program
) -> None:
    weights, value = np.array([[0.25, 0.75], [1, 0]]), drawn((2, 3))
    for name, array in (("weights", weights), ("value", value)):
        np.save(tmp_path / f"{name}.npy", array)
    file = tmp_path / "lesson.html"
    words = (tmp_path / "weights.npy", "-v", tmp_path / "value.npy")
    qkv("output", *words, "--digits", 12, "--quiet", "-o", file)
    page.go(file, "#q=0&k=1&s=output")
    checked(page)
    assert cells(page) == pytest.approx(weights @ value, abs=1e-9)
    assert page.texts("#panel h3")[0] == "2 weight = 0.750000000000, as given"
    assert not page.js("document.getElementById('causal')")


def says_what_explain_says(page: Page, explained: qkvcli.Explanation) -> None:
    """Hold the lines and the bars beside the heat map against those of the terminal."""
    told = list(parts(explained, PAPER))
    lines = [" ".join(part.text.split()) for part in told if isinstance(part, Line)]
    shown = page.texts("#panel h2, #panel h3, #panel p")
    assert [line for line in shown if not line.startswith("sum ")] == [
        line for line in lines if not line.startswith("sum ")
    ]
    bars = [line for part in told if isinstance(part, Bars) for line in part.lines]
    rows = page.js(
        "[...document.querySelectorAll('#panel .bars tr')].map(row => "
        "[...row.children].map(cell => cell.textContent))"
    )
    assert [(name, weight, part) for name, weight, _, part in rows] == [
        (name, weight, part) for name, weight, _, part in bars
    ]


@pytest.mark.parametrize(
    ("words", "options", "pairs"),
    [
        (["cat"], {}, [(1, 2), (0, 0), (4, 5)]),
        (["cat", "--preset", "gpt"], {"preset": "gpt"}, [(1, 1), (1, 2), (0, 0), (5, 2)]),
        (["article"], {}, [(4, 3), (0, 4)]),
        (["bert"], {"preset": "bert", "head": 6}, [(2, 0), (2, 3), (8, 8)]),
        (["gpt"], {"preset": "gpt", "head": 4}, [(5, 1), (2, 5), (6, 0)]),
        (["cat", "--scale", "30"], {"scale": 30}, [(1, 2), (1, 5)]),
        (
            ["cat", "--window", "1,1", "--offset", "2", "--valid-length", "5"],
            {"window": (1, 1), "offset": 2, "valid_length": 5},
            [(0, 5), (0, 1), (3, 4), (0, 0)],
        ),
        (["cat", "--softcap", "2"], {"softcap": 2}, [(1, 2)]),
    ],
)
def test_it_says_what_explain_says(
    lesson: Callable[..., Page], words: list[str], options: dict[str, Any], pairs: list[Any]
) -> None:
    page = lesson("run", "--example", *words)
    head = options.pop("head", None)
    labels, columns = "The cat sat on the mat", None
    if words[0] == "article":
        inputs, labels = given("article"), "The cat sat on mat"
    elif words[0] == "bert":
        inputs, labels = split("bert", 12), "[CLS] the cat sat on the mat . [SEP]"
    elif words[0] == "gpt":
        inputs, labels = given("gpt"), "The cat sat on the mat ."
    else:
        inputs = given("cat_sat_mat")
    del columns
    steps = qkvcli.attend(*inputs, **options, labels=labels)
    for query, key in pairs:
        go(page, f"#q={query}&k={key}&s=weights" + ("" if head is None else f"&h={head}"))
        says_what_explain_says(page, steps.explain(query, key, head=head))


X = drawn((2, 6, 5))
LAYER: dict[str, Any] = {"heads": 4, "kv_heads": 2, "scale": "sqrt", "causal": True} | {
    name: drawn((5, width), seed)
    for seed, (name, width) in enumerate({"wq": 24, "wk": 12, "wv": 12}.items(), 10)
}
LAYERS: dict[str, dict[str, Any]] = {
    "rotated": {"rope": 100.0, "rope_dim": 4, "offset": 2, "bq": drawn((24,))},
    "after a cache": {
        "rope": 100.0,
        "past_key": drawn((2, 2, 3, 6)),
        "past_value": drawn((2, 2, 3, 6), 2),
        "wo": drawn((24, 3)),
    },
    "normed": {"q_norm": drawn((6,)), "k_norm": drawn((12,)), "clip": 1.5},
    "ALiBi": {"alibi": True, "offset": 3, "causal": False, "softcap": 2.0},
    "ALiBi after a cache": {
        "alibi": True,
        "past_key": drawn((2, 2, 3, 6)),
        "past_value": drawn((2, 2, 3, 6), 2),
        "causal": False,
    },
    "sinks": {"sinks": np.array([2.0, -3.0, 0.5, 40.0])},
    "sinks in float16": {"sinks": np.ones(4), "softmax_dtype": "float16"},
    "sinks in bfloat16": {"sinks": np.ones(4), "softmax_dtype": "bfloat16"},
    "gate": {"gate": drawn((5, 24))},
    "gate of heads": {"gate": drawn((5, 4)), "wo": drawn((24, 7)), "bo": drawn((7,))},
    "all": {
        "rope": 100.0,
        "rope_pairs": "interleaved",
        "q_norm": drawn((4, 6)),
        "k_norm": drawn((2, 6)),
        "sinks": drawn((4,)),
        "alibi": True,
        "gate": drawn((5, 24)),
        "wo": drawn((24, 40)),
        "bo": drawn((40,)),
    },
}
LAYERS["all after a cache"] = LAYERS["all"] | {
    "past_key": drawn((2, 2, 3, 6)),
    "past_value": drawn((2, 2, 3, 6), 2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_whole_layer_is_computed_and_said_as_qkvcli_does(
    page: Page, tmp_path: Path, name: str
) -> None:
    layer: dict[str, Any] = {**LAYER, **LAYERS[name]}
    steps = qkvcli.attend(X, X, X, **layer)
    file = tmp_path / "lesson.html"
    file.write_text(str(steps.page()).replace('"digits":4', '"digits":12'), "utf-8")
    page.go(file)
    assert checked(page) >= 100
    there = page.texts("#steps button")
    assert there == [step for step in steps.names if step in ABOUT]
    # a softmax in 16 bits may round up where another rounds down
    slack = {"float16": 1e-3, "bfloat16": 8e-3}.get(layer.get("softmax_dtype", ""), 1e-9)
    for batch, head in ((0, 0), (1, 3)):
        for step in there:
            go(page, f"#b={batch}&h={head}&s={step}")
            theirs = steps[step].array[batch]
            if step in ("output", "gated"):
                theirs = theirs.reshape(6, 4, 6).swapaxes(0, 1)
            if step == "projected":
                theirs = by_head(steps, layer)[batch]
            expected = np.where(np.isneginf(theirs[head]), np.nan, theirs[head])
            found = np.nan_to_num(cells(page)) if step == "weights" else cells(page)
            np.testing.assert_allclose(found, expected, atol=slack, rtol=0)


@pytest.mark.parametrize("name", MODULES)
def test_it_computes_what_a_models_own_module_did(lesson: Callable[..., Page], name: str) -> None:
    page = lesson("run", *words_of(name), "--digits", 8)
    checked(page)
    own = np.load(file_of(name))
    total = own.get("bo", 0.0)
    for head in range(4):
        go(page, f"#b=0&h={head}&s=weights")
        weights = np.nan_to_num(cells(page))
        np.testing.assert_allclose(weights, own["weights"][0, head], atol=1e-5)
        go(page, f"#b=0&h={head}&s=projected")
        total = total + cells(page)
    np.testing.assert_allclose(total, own["projected"][0], atol=1e-4)


def test_what_is_switched_leaves_positions_as_they_are(page: Page, tmp_path: Path) -> None:
    layer: dict[str, Any] = {**LAYER, **LAYERS["all after a cache"], "causal": False}
    file = tmp_path / "lesson.html"
    text = str(qkvcli.attend(X, X, X, **layer).page())
    file.write_text(text.replace('"digits":4', '"digits":12'), "utf-8")
    page.go(file, "#b=1&h=2&s=weights")
    page.click("#causal")
    other = qkvcli.attend(X, X, X, **{**layer, "causal": True})
    found = np.nan_to_num(cells(page))
    np.testing.assert_allclose(found, other["weights"].array[1, 2], atol=1e-9)
    choose(page, "none")
    other = qkvcli.attend(X, X, X, **{**layer, "causal": True, "scale": None})
    go(page, "#b=1&h=2&s=projected")
    np.testing.assert_allclose(cells(page), by_head(other, layer)[1, 2], atol=1e-9)
    page.click("#reset")
    checked(page)


@pytest.mark.parametrize("name", LAYERS)
def test_its_formula_is_the_same_without_a_script(page: Page, tmp_path: Path, name: str) -> None:
    layer: dict[str, Any] = {**LAYER, **LAYERS[name]}
    file = tmp_path / "lesson.html"
    qkvcli.attend(X, X, X, **layer).page().save(file)
    page.go(file)
    computed = page.text("#formula")
    page.scripts(False)
    page.go(file)
    page.scripts(True)
    assert page.text("#formula") == computed
    assert ("and sinks" in computed) == ("sinks" in layer)
    for step, option in (("gated", "gate"), ("projected", "wo")):
        assert (f" → {step} = " in computed) == (option in layer)


def test_some_heads_and_rows_of_a_layer(
    page: Page, tmp_path: Path, qkv: Program, layer: list[str]
) -> None:
    words = ("run", *layer, "--digits", 9, "--quiet", "-o", tmp_path / "lesson.html")
    qkv(*words)
    page.go(tmp_path / "lesson.html", "#h=1&s=projected")
    whole = cells(page)
    qkv(*words, "--head", "1", "--rows", "b,c")
    page.go(tmp_path / "lesson.html", "#q=1&k=0&s=projected&c=1")
    checked(page)
    assert np.array_equal(cells(page), whole[1:])
    assert page.text("#panel h2").startswith("head 1: projected(c), column 1: ")
    lines = page.texts("#panel p")
    assert any(line.startswith("biased ") and "+ 0.00390625·(0 − 2) = " in line for line in lines)
    assert lines[-1] == "what this head adds: the sum over all heads, and bo, is the layer's output"


def test_what_a_sink_takes_stands_at_the_end_of_a_row(page: Page, tmp_path: Path) -> None:
    steps = qkvcli.attend(X, X, X, **{**LAYER, **LAYERS["sinks"]})
    file = tmp_path / "lesson.html"
    steps.page().save(file)
    page.go(file)
    for head in (0, 1):
        go(page, f"#b=0&h={head}&s=weights")
        for row, end in zip(
            steps["weights"].array[0, head], page.texts("#heat tbody .end"), strict=True
        ):
            peak = int(row.argmax())
            assert end == f"→ {peak} {percent(row[peak])}, sink {percent(1 - row.sum())}"
    assert page.text("#about").endswith("The sink takes the rest of 1.")
    page.size(920)  # with the explanation below there is room
    page.waited(lambda: any(box["width"] for box in boxes(page, "#heat .end .sink")))
    page.size(700)  # it gives way first
    page.waited(lambda: not any(box["width"] for box in boxes(page, "#heat .end .sink")))
    assert any(box["width"] for box in boxes(page, "#heat tbody .end"))
    go(page, "#b=0&h=3&s=weights")  # which no key outweighs
    assert {end[-9:] for end in page.texts("#heat tbody .end")} == {"sink 100%"}


def table_of(page: Page, part: str) -> list[list[str]]:
    """The rows of a table of the explanation, the header first."""
    found: list[list[str]] = page.js(
        f"[...document.querySelectorAll('#panel [data-part=\"{part}\"] tr')].map(row => "
        "[...row.children].map(cell => cell.textContent))"
    )
    return found


def test_the_products_of_a_projection_add_up(page: Page, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    steps = qkvcli.attend(
        *(rng.normal(size=(3, 20)) for _ in "qkv"), wo=rng.normal(size=(20, 4)), bo=[1.5, 0, 0, 0]
    )
    steps.page().save(tmp_path / "lesson.html")
    page.go(tmp_path / "lesson.html", "#q=1&k=0&s=projected&c=0")
    header, *_, products = table_of(page, "projected")
    assert header[-1] == "16 more"
    number = steps["projected"].array[1, 0]
    assert sum(map(float, products[1:])) + 1.5 == pytest.approx(number, abs=3e-4)
    assert page.texts("#panel [data-part=projected] p") == [f"sum, and bo 1.5000: {number:.4f}"]
    go(page, "#q=1&k=0&s=weights")
    _, before, bias, whole = table_of(page, "projected")
    assert [before[0], bias[0], whole[0]] == ["output(1)·Wo", "bo", "projected(1)"]
    for one, more, both in zip(before[1:-1], bias[1:-1], whole[1:-1], strict=True):
        assert float(one) + float(more) == pytest.approx(float(both), abs=2e-4)


def test_a_query_that_sees_no_key_has_the_bias_alone(page: Page, tmp_path: Path) -> None:
    steps = qkvcli.attend(*SMALL, wo=drawn((3, 2)), bo=[0.25, -1], causal=True, offset=-2)
    steps.page().save(tmp_path / "lesson.html")
    page.go(tmp_path / "lesson.html", "#q=0&k=0&s=projected&c=1")
    checked(page)
    assert page.text("#panel h2") == "projected(0), column 1: -1.0000"
    assert page.texts("#panel [data-part=projected] p") == ["sum, and bo -1: -1.0000"]


LAYER_SPOILT: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "sinks": lambda held: held["sinks"],
    "slopes": lambda held: held["options"]["alibi"],
    "gate": lambda held: held["after"][0]["gate"],
    "Wo": lambda held: held["after"][1]["weight"],
}


@pytest.mark.parametrize("what", LAYER_SPOILT)
def test_it_is_loud_where_a_number_of_a_layer_differs(
    page: Page, tmp_path: Path, what: str
) -> None:
    text = str(qkvcli.attend(X, X, X, **{**LAYER, **LAYERS["all"]}).page())
    [data] = re.findall(r'id="data">(.*)</script>', text)
    packed = LAYER_SPOILT[what](json.loads(data))["data"]
    numbers = np.frombuffer(b64decode(packed)).copy()
    numbers[0] += 1e-3
    file = tmp_path / "lesson.html"
    file.write_text(text.replace(packed, b64encode(numbers.tobytes()).decode()), "utf-8")
    page.go(file)
    assert page.text("#check").startswith("This page computes something else than qkvcli did.")


@pytest.mark.parametrize("width", [360, 400, 1024, 1280])
def test_a_layer_fits(page: Page, tmp_path: Path, width: int) -> None:
    qkvcli.attend(X, X, X, **{**LAYER, **LAYERS["all"]}).page().save(tmp_path / "lesson.html")
    page.size(width)
    page.go(tmp_path / "lesson.html")
    for step in ("biased", "weights", "gated", "projected"):
        go(page, f"#b=1&h=2&q=5&k=1&c=5&s={step}")
        assert page.js("document.documentElement.scrollWidth") <= width
        frames = "[...document.querySelectorAll('#panel .scroll')]"
        assert max(page.js(f"{frames}.map(e => e.scrollWidth - e.clientWidth)")) <= 0


def test_a_layer_prints_a_step_a_page(page: Page, tmp_path: Path) -> None:
    steps = qkvcli.attend(X, X, X, **{**LAYER, **LAYERS["all"]})
    steps.page().save(tmp_path / "lesson.html")
    page.go(tmp_path / "lesson.html", "#b=1&h=2&q=4&k=1&s=projected&c=30")
    page.media("print")
    page.js("dispatchEvent(new Event('beforeprint'))")
    titles = page.texts(".sheet > h2 strong")
    assert titles == [
        "scores",
        "scaled",
        "biased",
        "masked",
        "weights",
        "output",
        "gated",
        "projected",
    ]
    said = page.texts(".sheet .told h3")
    assert [line[:2] for line in said] == ["1 ", "1 ", "1 ", "1 ", "2 ", "3 ", "4 ", "5 "]


def test_what_is_edited_is_what_enters_the_dot_product(page: Page, tmp_path: Path) -> None:
    for name, said in (
        ("rotated", " (Q and K as they enter the dot product)"),
        ("normed", " (Q and K as they enter the dot product)"),
        ("sinks", ""),
    ):
        steps = qkvcli.attend(X, X, X, **{**LAYER, **LAYERS[name]})
        steps.page().save(tmp_path / "lesson.html")
        page.go(tmp_path / "lesson.html", "#b=0&h=1")
        assert page.text("#inputs summary") == (
            f"Q, K and V of batch 0, head 1{said}: change a number, and all is computed anew"
        )


def by_head(steps: qkvcli.Steps, layer: dict[str, Any]) -> Any:
    """What each head adds to the projection, (B, H, L, m)."""
    before = steps["gated" if "gated" in steps else "output"].array
    apart = before.reshape(2, 6, 4, 6).swapaxes(1, 2)
    return apart @ layer["wo"].reshape(4, 6, -1)


@pytest.mark.parametrize("name", LAYERS)
def test_it_explains_a_layer_as_explain_does(page: Page, tmp_path: Path, name: str) -> None:
    steps = qkvcli.attend(X, X, X, **{**LAYER, **LAYERS[name]})
    file = tmp_path / "lesson.html"
    steps.page().save(file)
    page.go(file)
    for batch, head, query, key in ((0, 0, 5, 2), (1, 3, 2, 0), (1, 1, 0, 0)):
        go(page, f"#b={batch}&h={head}&q={query}&k={key}&s=weights")
        says_what_explain_says(page, steps.explain(query, key, head=head, batch=batch))


def test_a_number_of_the_projection_is_a_sum(page: Page, tmp_path: Path) -> None:
    layer: dict[str, Any] = {**LAYER, **LAYERS["gate of heads"]}
    steps = qkvcli.attend(X, X, X, **layer)
    file = tmp_path / "lesson.html"
    steps.page().save(file)
    page.go(file, "#b=1&h=2&q=4&k=1&s=projected&c=6")
    number = by_head(steps, layer)[1, 2, 4, 6]
    assert page.text("#panel h2") == f"batch 1, head 2: projected(4), column 6: {number:.4f}"
    part = page.texts('#panel [data-part="projected"] p')
    assert part[0] == f"sum {number:.4f}"
    assert part[1].endswith("the sum over all heads, and bo, is the layer's output")
    rows = page.js(
        "[...document.querySelectorAll('#panel [data-part=\"projected\"] tbody tr')].map(row => "
        "[...row.children].map(cell => cell.textContent))"
    )
    gated, own, products = ([float(cell) for cell in line[1:] if cell] for line in rows)
    *products, rest = products
    assert sum(products) + rest == pytest.approx(number, abs=5e-4)
    assert products == pytest.approx([a * b for a, b in zip(gated, own, strict=True)], abs=1e-3)
    assert len(products) >= 2
    go(page, "#b=1&h=2&q=4&k=1&s=gated&c=3")
    number = steps["gated"].array[1, 4, 2 * 6 + 3]
    assert page.text("#panel h2") == f"batch 1, head 2: gated(4), column 3: {number:.4f}"


@pytest.mark.parametrize("digits", [2, 4])
def test_halves_and_small_shares_are_rounded_alike(page: Page, tmp_path: Path, digits: int) -> None:
    query = np.array([[0.03125], [0.09375], [1.0], [-0.03125], [0.625], [1e-7], [1e9]])
    steps = qkvcli.attend(query, [[1.0], [-8.0], [0.5]], [[1.0], [1.0], [2e-4]], scale=1)
    file = tmp_path / "lesson.html"
    file.write_text(str(steps.page()).replace('"digits":4', f'"digits":{digits}'), "utf-8")
    page.go(file)
    if digits == 4:
        for i in range(len(query)):
            go(page, f"#q={i}&k=0&s=weights")
            says_what_explain_says(page, steps.explain(i, 0))
    small = qkvcli.attend(query[:4], [[1.0], [-8.0]], [[1.0], [1.0]])
    file.write_text(str(small.page()).replace('"digits":4', f'"digits":{digits}'), "utf-8")
    page.go(file, "#s=scores")
    texts = np.reshape(page.texts("#heat [data-row]"), (4, 2)).tolist()
    assert texts == formatted(small.scores, digits)


def test_a_click_explains_and_makes_a_link(lesson: Callable[..., Page]) -> None:
    page = lesson("run", "--example", "cat")
    page.click('[data-row="1"][data-column="2"]')
    assert page.text("#panel h2").startswith("cat → sat: weight 0.6291, the largest of 6")
    assert page.js("location.hash") == "#q=1&k=2&s=weights"
    assert page.js("document.activeElement.getAttribute('aria-label')") == (
        "\u2068cat\u2069 → \u2068sat\u2069: weight 0.6291, the largest of its row"
    )
    products = page.js(
        "[...document.querySelectorAll('[data-part=score] tbody tr')].map(row => row.textContent)"
    )
    assert products == ["q(cat)0121", "k(sat)0020", "q×k0040"]
    output = page.js("[...document.querySelectorAll('tr.total td')].map(cell => cell.textContent)")
    assert output == ["0.8514", "6.2908", "2.3456"]


def test_what_is_pointed_at_is_said(lesson: Callable[..., Page]) -> None:
    page = lesson("run", "--example", "cat", link="#q=0&k=0")
    page.point('[data-row="1"][data-column="2"]')
    assert page.text("#readout") == "\u2068cat\u2069 → \u2068sat\u2069: weight 0.6291"
    page.point("h1")
    assert page.text("#readout").startswith("\u2068The\u2069 → \u2068The\u2069")
    assert page.text("#panel h2").startswith("The → The")


def test_keys_move_and_step(lesson: Callable[..., Page]) -> None:
    page = lesson("run", "--example", "cat", "--preset", "gpt", link="#q=0&k=0&s=scores")

    def link() -> str:
        return str(page.js("location.hash"))

    for key, after in (
        ("ArrowDown", "#q=1&k=0&s=scores"),
        ("ArrowRight", "#q=1&k=1&s=scores"),
        ("ArrowLeft", "#q=1&k=0&s=scores"),
        ("ArrowLeft", "#q=1&k=0&s=scores"),
        ("ArrowUp", "#q=0&k=0&s=scores"),
        ("ArrowUp", "#q=0&k=0&s=scores"),
        ("End", "#q=0&k=5&s=scores"),
        ("Home", "#q=0&k=0&s=scores"),
        (" ", "#q=0&k=0&s=scaled"),
        (" ", "#q=0&k=0&s=masked"),
        (" ", "#q=0&k=0&s=weights"),
        (" ", "#q=0&k=0&s=output&c=0"),
        ("ArrowRight", "#q=0&k=0&s=output&c=1"),
        ("End", "#q=0&k=0&s=output&c=2"),
        (" ", "#q=0&k=0&s=scores"),
        ("Escape", "#s=scores"),
        ("ArrowDown", "#q=1&k=0&s=scores"),
    ):
        page.press(key)
        assert link() == after, key
        assert page.text('[aria-current="step"]') == after.split("s=")[1].split("&")[0]
    page.press("ArrowDown", modifiers=2)  # with Ctrl a key is the browser's
    assert link() == "#q=1&k=0&s=scores"
    page.press(" ", modifiers=8)
    assert link() == "#q=1&k=0&s=output&c=2"
    assert page.js("document.querySelectorAll('#heat [tabindex=\"0\"]').length") == 1
    assert page.js("document.activeElement.dataset.row") == "1"


@pytest.mark.parametrize(
    ("link", "heading", "step"),
    [
        ("#q=2&k=3&h=6", "head 6: cat → sat: weight 0.2249", "weights"),
        ("#h=11&q=4&k=2&s=scores", "head 11: on → cat: weight", "scores"),
        ("#q=2&h=6", "head 6: cat → [CLS]: weight 0.2545, the largest", "weights"),
        ("#q=99&k=x&h=77&s=nothing", "head 0: ", "weights"),
        ("#q=2&k=3&h=6&s=output&c=9", "head 6: output(cat), column 9: 0.4709", "output"),
    ],
)
def test_a_link_leads_to_a_view(
    lesson: Callable[..., Page], link: str, heading: str, step: str
) -> None:
    page = lesson("run", "--example", "bert", link=link)
    assert page.text("#panel h2").startswith(heading)
    assert page.text('[aria-current="step"]') == step
    go(page, "#q=0&k=0&h=0&s=weights")
    assert page.text("#panel h2").startswith("head 0: [CLS] → [CLS]")
    go(page, link)
    assert page.text('[aria-current="step"]') == step
    assert page.js("location.hash") == link  # as the reader wrote it


def test_heads_are_chosen(lesson: Callable[..., Page]) -> None:
    page = lesson("run", "--example", "gpt", "--head", "4,8,0", link="#q=3&k=1")
    assert page.texts('[data-axis="0"]') == ["4", "8", "0"]
    assert page.text("#panel h2").startswith("head 4: ")
    first = cells(page)
    page.click('[data-index="1"]')
    assert page.text("#panel h2").startswith("head 8: ")
    assert page.text('[aria-pressed="true"]') == "8"
    assert page.js("location.hash") == "#q=3&k=1&h=8&s=weights"
    assert not np.allclose(np.nan_to_num(first), np.nan_to_num(cells(page)))
    page.press("ArrowLeft")
    assert page.js("location.hash") == "#q=3&k=0&h=8&s=weights"


def choose(page: Page, name: str) -> None:
    """Choose a scale by its name."""
    page.js(
        "(select => { select.value = [...select.options].findIndex(option => "
        f"option.text === {json.dumps(name)}); select.dispatchEvent(new Event('change')); }})"
        "(document.getElementById('scale'))"
    )


def test_scale_and_causal_mask_are_switched(lesson: Callable[..., Page]) -> None:
    page = lesson("run", "--example", "cat", "--digits", 10)
    query, key, value = given("cat_sat_mat")
    before = cells(page)
    assert page.js("document.getElementById('reset').hidden")
    page.click("#causal")
    weights, _ = attention(query, key, value, seen=lambda i, j: j <= i)
    assert np.nan_to_num(cells(page)) == pytest.approx(np.array(weights), abs=1e-9)
    assert page.text("#check").startswith("Changed here: not compared")
    assert page.text("#formula") == "output = softmax(Q·Kᵀ + causal mask)·V"
    assert page.texts("#steps button") == ["scores", "masked", "weights", "output"]
    choose(page, "1/√4")
    weights, _ = attention(query, key, value, scale=0.5, seen=lambda i, j: j <= i)
    assert np.nan_to_num(cells(page)) == pytest.approx(np.array(weights), abs=1e-9)
    assert page.text("#formula") == "output = softmax(Q·Kᵀ × 1/√4 + causal mask)·V"
    page.click("#reset")
    checked(page)
    assert cells(page) == pytest.approx(before)
    assert page.js("document.getElementById('scale').selectedOptions[0].text") == "none"
    assert not page.js("document.getElementById('causal').checked")


def test_the_scale_that_was_given_is_among_them(lesson: Callable[..., Page]) -> None:
    page = lesson("run", "--example", "cat", "--scale", "0.3")
    assert page.texts("#scale option") == ["none", "1/√4", "0.3"]
    choose(page, "none")
    assert page.text("#check").startswith("Changed here")
    choose(page, "0.3")
    checked(page)


def test_numbers_are_edited(lesson: Callable[..., Page]) -> None:
    page = lesson("run", "--example", "cat", "--digits", 10, link="#q=1&k=2")
    query, key, value = given("cat_sat_mat")
    page.js("document.getElementById('inputs').open = true")
    for side, array, row, column, typed in (
        ("query", query, 1, 2, "-1.5"),
        ("key", key, 2, 3, "2"),
        ("value", value, 5, 0, "0,25"),
    ):
        field = (
            f'[data-side="{side}"] tbody tr:nth-child({row + 1}) td:nth-of-type({column + 1}) input'
        )
        assert (
            float(page.js(f"document.querySelector({json.dumps(field)}).value"))
            == array[row, column]
        )
        page.fill(field, typed)
        array[row, column] = float(typed.replace(",", "."))
    weights, output = attention(query, key, value)
    assert cells(page) == pytest.approx(np.array(weights), abs=1e-9)
    go(page, "#s=output")
    assert cells(page) == pytest.approx(np.array(output), abs=1e-9)
    assert page.text("#check").startswith("Changed here")
    field = '[data-side="query"] input'
    page.fill(field, "word")
    assert page.js(f"document.querySelector('{field}').getAttribute('aria-invalid')") == "true"
    assert cells(page) == pytest.approx(np.array(output), abs=1e-9)
    page.js("scrollTo(0, 0)")
    page.click("#reset")
    checked(page)
    assert page.js(f"document.querySelector('{field}').value") == "0"


def test_what_is_no_number_is_said_so(lesson: Callable[..., Page]) -> None:
    page = lesson("run", "--example", "cat")
    page.js("document.getElementById('inputs').open = true")
    before = cells(page)
    field = '[data-side="query"] input'
    for text in ("0x10", "1,000,000", "", "Infinity", "1e999", "--1", "word"):
        page.fill(field, "5")
        page.fill(field, "0")
        page.fill(field, text) if text else page.js(
            f"(input => {{ input.value = ''; input.dispatchEvent(new Event('input')); }})"
            f"(document.querySelector('{field}'))"
        )
        assert page.text(f"{field} + .fault") == "not a number; 0 is still used", text
        assert np.array_equal(cells(page), before)
    for text in ("-1.5", "2e0", "−0,25", ".5", "3."):
        page.fill(field, text)
        assert page.text(f"{field} + .fault") == ""
        assert page.js(f"document.querySelector('{field}').getAttribute('aria-invalid')") == "false"


def test_heads_that_share_keys_are_named(page: Page, tmp_path: Path) -> None:
    query, key, value = drawn((6, 4, 3)), drawn((2, 4, 3), 2), drawn((2, 4, 3), 3)
    qkvcli.attend(query, key, value).page().save(tmp_path / "lesson.html")
    page.go(tmp_path / "lesson.html", "#h=1")
    captions = ["Q (4, 3)", "K (4, 3) shared by heads 0–2", "V (4, 3) shared by heads 0–2"]
    assert page.texts("#inputs caption") == captions
    page.click('[data-index="4"]')
    assert page.texts("#inputs caption")[1] == "K (4, 3) shared by heads 3–5"
    steps = qkvcli.attend(*HEADS[:1], drawn((4, 6, 3), 2), drawn((4, 6, 2), 3))
    steps.page().save(tmp_path / "lesson.html")
    page.go(tmp_path / "lesson.html")
    assert page.texts("#inputs caption")[1] == "K (6, 3) shared by batches 0, 1"


def test_a_page_of_one_step_has_no_way_to_another(lesson: Callable[..., Page]) -> None:
    visible = "document.getElementById('steps').getClientRects().length"
    page = lesson("softmax", "--example", "cat")
    assert page.js(visible) == 0
    page.click("#causal")  # which is a step more
    assert page.js(visible) == 1


@pytest.mark.parametrize("command", ["run", "scores"])
def test_a_hidden_score_is_headed_so(lesson: Callable[..., Page], command: str) -> None:
    page = lesson(command, "--example", "cat", "--preset", "gpt", link="#q=1&k=3&s=masked")
    assert page.text("#panel h2") == "cat → on: hidden"
    go(page, "#q=3&k=1&s=masked")
    assert not page.text("#panel h2").endswith("hidden")


def test_no_decimals_are_none(lesson: Callable[..., Page]) -> None:
    page = lesson("run", "--example", "article", "--digits", 0)
    for step in ("scores", "weights"):
        go(page, f"#s={step}")
        assert all(re.fullmatch(r"-?\d+", text) for text in page.texts("#heat [data-row]"))


@pytest.mark.parametrize(("length", "selector"), [(6, "[aria-selected=true]"), (40, ".marker")])
def test_the_cell_explained_is_marked_on_paper(
    page: Page, tmp_path: Path, length: int, selector: str
) -> None:
    inputs = (drawn((length, 3), n) for n in range(3))
    qkvcli.attend(*inputs).page().save(tmp_path / "lesson.html")
    page.go(tmp_path / "lesson.html", "#q=4&k=2&c=1&s=output")
    page.media("print")
    page.js("dispatchEvent(new Event('beforeprint'))")
    marked = boxes(page, f".sheet {selector}")
    assert [mark["width"] > 0 for mark in marked] == [True] * (3 if length == 6 else 2)
    if length == 6:
        said = f"[...document.querySelectorAll('.sheet {selector}')].map(e => e.dataset.column)"
        assert page.js(said) == ["2", "2", "1"]


def test_large_inputs_are_not_edited(lesson: Callable[..., Page]) -> None:
    page = lesson("run", "--example", "article")
    assert page.js("document.getElementById('inputs').hidden")


def _spoilt_check(text: str) -> str:
    return re.sub(r'("weights":\[)0\.7310\d+', r"\g<1>0.7312", text, count=1)


def _spoilt_query(text: str) -> str:
    [found] = re.findall(r'"query":\{[^}]*"data":"([^"]+)"', text)
    numbers = np.frombuffer(b64decode(found)).copy()
    numbers[5] += 1e-3
    return text.replace(found, b64encode(numbers.tobytes()).decode())


SPOILT: dict[str, Callable[[str], str]] = {
    "a check": _spoilt_check,
    "a number of Q": _spoilt_query,
    "the scale": lambda text: text.replace('"factor":0.5', '"factor":0.501'),
    "the mask": lambda text: text.replace('"causal":true', '"causal":false'),
    "the place": lambda text: text.replace('"rows":[0,1,2', '"rows":[0,2,2'),
}


@pytest.mark.parametrize("what", SPOILT)
def test_it_is_loud_where_numbers_differ(
    lesson: Callable[..., Page], tmp_path: Path, what: str
) -> None:
    page = lesson("run", "--example", "cat", "--preset", "gpt")
    checked(page)
    file = tmp_path / "lesson.html"
    text = file.read_text("utf-8")
    spoilt = SPOILT[what](text)
    assert spoilt != text
    file.write_text(spoilt, "utf-8")
    page.go(file)
    told = page.text("#check")
    assert told.startswith("This page computes something else than qkvcli did.")
    assert re.search(r"The (masked score|weight) of .* is \S+ here, and was \S+: do not", told)
    assert (
        page.js("getComputedStyle(document.getElementById('check')).color") == "rgb(255, 255, 255)"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "float16"},
        {"dtype": "bfloat16"},
        {"softmax_dtype": "float16"},
        {"softmax_dtype": "bfloat16"},
    ],
)
def test_checks_know_how_the_program_rounds(
    page: Page, tmp_path: Path, options: dict[str, Any]
) -> None:
    inputs = [drawn((3, 9, 16), n).astype(np.float32) for n in range(3)]
    qkvcli.attend(*inputs, preset="gpt", **options).page().save(tmp_path / "lesson.html")
    page.go(tmp_path / "lesson.html")
    checked(page)
    go(page, "#h=1&q=8&s=weights")
    narrow = f" in {options.get('softmax_dtype', '')}"
    assert (narrow in page.text("#step-title")) == ("softmax_dtype" in options)


def test_numbers_that_are_no_numbers_are_shown(page: Page, tmp_path: Path) -> None:
    query, key, value = (drawn((4, 3), n) for n in range(3))
    key[1, 0], value[2, 1], query[3, 2] = np.inf, np.nan, np.nan
    qkvcli.attend(query, key, value).page().save(tmp_path / "lesson.html")
    page.go(tmp_path / "lesson.html", "#q=3&k=0")
    checked(page)
    assert "weight nan, since there is a NaN among the scores" in page.text("#panel h2")
    value[3] = np.inf  # of a key that the others do not see
    qkvcli.attend(drawn((4, 3)), drawn((4, 3)), value, causal=True).page().save(
        tmp_path / "lesson.html"
    )
    page.go(tmp_path / "lesson.html", "#s=output")
    checked(page)
    assert np.isfinite(cells(page)).sum(axis=1).tolist() == [3, 3, 2, 0]


def test_hostile_labels_run_nothing(page: Page, tmp_path: Path) -> None:
    count = len(HOSTILE)
    inputs = (drawn((count, 3), n) for n in range(3))
    steps = qkvcli.attend(*inputs, labels=HOSTILE, causal=True)
    steps.page().save(tmp_path / "lesson.html")
    page.go(tmp_path / "lesson.html")
    for step in ("scores", "masked", "weights", "output"):
        for query in range(count):
            go(page, f"#q={query}&k={(query + 1) % count}&s={step}")
    page.js("document.getElementById('inputs').open = true")
    page.js("dispatchEvent(new Event('beforeprint'))")
    assert page.js("window.hostile") is None
    assert page.js("document.querySelectorAll('script').length") == 2
    assert page.js("document.querySelectorAll('img[onerror], #lesson img').length") == 0
    rows = page.js("[...document.querySelectorAll('#heat tbody th')].map(th => th.textContent)")
    assert rows == list(HOSTILE)
    page.scripts(False)
    page.go(tmp_path / "lesson.html")
    page.scripts(True)
    assert page.js("window.hostile") is None
    assert page.js("document.querySelectorAll('[onerror], b').length") == 0


@pytest.mark.parametrize(("preset", "sheets"), [("article", 3), ("gpt", 5)])
def test_it_prints_a_step_a_page(lesson: Callable[..., Page], preset: str, sheets: int) -> None:
    page = lesson("run", "--example", "cat", "--preset", preset)
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf())) == sheets
    assert page.js("document.getElementById('print').children.length") == 0  # and it goes again
    page.media("print")
    page.js("dispatchEvent(new Event('beforeprint'))")
    titles = page.texts(".sheet > h2 strong")
    assert titles == page.texts("#steps button")
    for hidden in ("#controls", "#steps", "#inputs", "footer"):
        assert page.js(f"document.querySelector('{hidden}').getClientRects().length") == 0
    said = page.texts(".sheet .told h3")
    assert said[0].startswith("1 score = ")
    assert said[-1].startswith("3 output(")
    page.js("dispatchEvent(new Event('afterprint'))")


def test_it_prints_without_a_script_too(lesson: Callable[..., Page], page: Page) -> None:
    page.scripts(False)
    lesson("run", "--example", "cat")
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf())) >= 3


def test_without_a_script_the_tables_are_shown(lesson: Callable[..., Page], page: Page) -> None:
    page.scripts(False)
    lesson("run", "--example", "bert")
    page.scripts(True)  # to look at it
    assert page.js("document.getElementById('lesson').getClientRects().length") == 0
    assert page.js("document.querySelector('noscript').innerText").startswith("Without JavaScript")
    assert "computes" not in page.js("document.querySelector('footer').innerText")
    assert page.js("document.querySelectorAll('#static table').length") == 4
    shown = "[...document.querySelectorAll('#static img')].filter(img => img.naturalWidth === 9)"
    assert page.js(f"{shown}.length") == 12


def test_a_script_that_fails_leaves_the_tables(lesson: Callable[..., Page], tmp_path: Path) -> None:
    page = lesson("run", "--example", "cat")
    assert page.js("document.getElementById('static').getClientRects().length") == 0
    file = tmp_path / "lesson.html"
    text = file.read_text("utf-8")
    file.write_text(re.sub(r'"data":"[^"]+"', '"data":"!"', text, count=1), "utf-8")
    page.go(file)
    assert page.js("document.getElementById('static').getClientRects().length") == 1
    assert page.text("#static p").startswith("This browser cannot compute the page (")
    assert page.events("Runtime.exceptionThrown")
    page.forget("Runtime.exceptionThrown")


def test_it_follows_the_readers_light_or_dark(lesson: Callable[..., Page], page: Page) -> None:
    def ground() -> list[int]:
        told = page.js("getComputedStyle(document.documentElement).backgroundColor")
        return [int(part) for part in re.findall(r"\d+", told)][:3]

    lesson("run", "--example", "cat")
    page.media("", "light")
    assert min(ground()) > 240
    page.media("", "dark")
    assert max(ground()) < 40
    lesson("run", "--example", "cat", "--theme", "light")
    assert min(ground()) > 240
    lesson("run", "--example", "cat", "--theme", "dark")
    page.media("", "light")
    assert max(ground()) < 40
    page.media("print", "dark")
    assert min(ground()) == 255  # paper is white


@pytest.mark.parametrize("link", ["#s=scores", "#s=weights", "#s=output"])
@pytest.mark.parametrize("name", ["cat", "gpt", "article"])
def test_it_fits_a_telephone(lesson: Callable[..., Page], name: str, link: str) -> None:
    page = lesson("run", "--example", name)
    page.size(360)
    go(page, link)
    assert page.js("document.documentElement.scrollWidth") <= 360


SENTENCE = "Die Katze saß gestern auf der Matte und schaute dem kleinen Hund lange zu .".split()


@pytest.fixture
def sentence(page: Page, tmp_path: Path) -> Callable[..., Page]:
    """The page of a sentence, in a window of some size."""

    def opened(width: int, height: int, link: str = "") -> Page:
        inputs = (drawn((len(SENTENCE), 8), n) for n in range(3))
        steps = qkvcli.attend(*inputs, labels=SENTENCE, preset="gpt")
        steps.page().save(tmp_path / "lesson.html")
        page.size(width, height)
        page.go(tmp_path / "lesson.html", link)
        return page

    return opened


def boxes(page: Page, selector: str) -> list[dict[str, float]]:
    """Where the elements of a selector are in the window."""
    found: list[dict[str, float]] = page.js(
        f"[...document.querySelectorAll({json.dumps(selector)})]"
        ".map(element => element.getBoundingClientRect().toJSON())"
    )
    return found


def is_within(inner: dict[str, float], outer: dict[str, float]) -> bool:
    return (
        outer["left"] - 1 <= inner["left"]
        and inner["right"] <= outer["right"] + 1
        and outer["top"] - 1 <= inner["top"]
        and inner["bottom"] <= outer["bottom"] + 1
    )


def window(width: int, height: int) -> dict[str, float]:
    return {"left": 0, "top": 0, "right": width, "bottom": height}


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1280, 720), (1024, 768)])
def test_a_sentence_fits_a_screen(sentence: Callable[..., Page], width: int, height: int) -> None:
    page = sentence(width, height, "#q=14&k=14&s=weights")
    [frame] = boxes(page, "#heat .scroll")
    cells = boxes(page, "#heat [data-row]")
    assert len(cells) == len(SENTENCE) ** 2
    assert all(is_within(cell, frame) for cell in cells)
    [chosen] = boxes(page, '#heat [aria-selected="true"]')
    assert is_within(chosen, window(width, height))
    ends = boxes(page, "#heat tbody .end")
    assert any(end["width"] for end in ends) == (width == 1920)  # these give way first


def test_the_cell_explained_is_in_sight(sentence: Callable[..., Page]) -> None:
    page = sentence(360, 500, "#q=14&k=14")
    frame = boxes(page, "#heat .scroll")[0]
    assert frame["width"] < 360
    for key in ("", "Home", "End", "PageUp", "ArrowLeft", "PageDown"):
        if key:
            page.press(key)
        [chosen] = boxes(page, '#heat [aria-selected="true"]')
        [frame] = boxes(page, "#heat .scroll")
        assert is_within(chosen, window(360, 500)), key
        assert is_within(chosen, frame), key
        row = page.js("Number(document.activeElement.dataset.row ?? 14)")
        name = boxes(page, "#heat tbody th")[row]
        assert chosen["left"] >= name["right"] - 1, key  # and not under its row's name


@pytest.mark.parametrize("step", ["scores", "weights", "output"])
def test_the_part_that_is_asked_for_is_in_sight(lesson: Callable[..., Page], step: str) -> None:
    lesson("run", "--example", "bert").size(1280, 720)
    page = lesson("run", "--example", "bert", link=f"#h=6&q=2&k=3&c=9&s={step}")
    [part], [panel] = boxes(page, "#panel .now"), boxes(page, "#panel")
    assert is_within(part, panel)
    assert is_within(panel, window(1280, 720))
    page.press("ArrowDown")
    [part] = boxes(page, "#panel .now")
    assert is_within(part, panel)


@pytest.mark.parametrize("width", [360, 420, 1024, 1200])
def test_no_table_of_the_explanation_is_cut(lesson: Callable[..., Page], width: int) -> None:
    page = lesson("run", "--example", "bert")
    page.size(width)
    for link in ("#h=6&q=2&k=3&s=scores", "#h=6&q=2&k=3&s=output&c=9"):
        go(page, link)
        frames = "[...document.querySelectorAll('#panel .scroll')]"
        assert max(page.js(f"{frames}.map(e => e.scrollWidth - e.clientWidth)")) <= 0


def test_another_width_is_another_layout(lesson: Callable[..., Page], page: Page) -> None:
    page.size(360)
    lesson("run", "--example", "cat", link="#q=1&k=2")
    cell = '[data-row="1"][data-column="2"]'
    assert page.text(cell) == "0.63"
    page.js(f"document.querySelector('{cell}').focus()")
    page.size(1200)
    page.waited(lambda: page.text(cell) == "0.6291")
    assert page.js("document.activeElement.dataset.column") == "2"
    page.size(360)
    page.waited(lambda: page.text(cell) == "0.63")


@pytest.mark.parametrize(("length", "step"), [(36, 1), (48, 2), (64, 2), (300, 10), (900, 50)])
def test_rows_and_columns_of_a_picture_have_the_same_labels(
    page: Page, tmp_path: Path, length: int, step: int
) -> None:
    inputs = (drawn((length, 2), n) for n in range(3))
    qkvcli.attend(*inputs).page().save(tmp_path / "lesson.html")
    page.go(tmp_path / "lesson.html")
    across, down = page.texts(".across span"), page.texts(".down span")
    assert across == down == [str(i) for i in range(0, length, step)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (range(3, 300), [str(i) for i in range(10, 300, 10)]),
        ([7], ["7"]),
        (range(5, 64, 2), [str(i) for i in range(5, 64, 2)]),
    ],
)
def test_rows_that_were_chosen_have_round_labels_too(
    page: Page, tmp_path: Path, rows: Any, said: list[str]
) -> None:
    inputs = (drawn((300, 2), n) for n in range(3))
    qkvcli.attend(*inputs, rows=list(rows)).page().save(tmp_path / "lesson.html")
    page.go(tmp_path / "lesson.html")
    down = page.texts(".down span")
    step = max(len(said) // max(len(down), 1), 1)
    assert down == said[::step]
    assert len(down) >= min(len(said), 3)


def test_numbers_of_columns_stand_apart(lesson: Callable[..., Page]) -> None:
    page = lesson("run", "--example", "bert")
    page.size(360)
    go(page, "#s=output")
    page.waited(lambda: page.texts("#heat thead th")[:2] == ["0", ""])
    found = boxes(page, "#heat thead bdi")
    assert len(found) > 3
    for left, right in pairwise(found):
        assert left["right"] < right["left"]


def test_queries_that_see_few_keys_do_not_dim_the_others(page: Page, tmp_path: Path) -> None:
    query, key, value = (drawn((80, 4), n) for n in range(3))
    steps = qkvcli.attend(query, key, value, causal=True, scale=0.2)
    steps.page().save(tmp_path / "lesson.html")
    page.go(tmp_path / "lesson.html")
    weights, _ = attention(query, key, value, scale=0.2, seen=lambda i, j: j <= i)
    most = np.array(weights)[10:].max()  # 10 keys are an eighth of 80
    told = page.text("#legend")
    assert told.startswith(f"0{most:.4f} and more hidden● largest of its row")
    assert told.endswith("(queries that see up to 10 keys do not count for the scale)")
    row, column = divmod(int(np.argmax(np.where(np.arange(80)[:, None] < 10, 0, weights))), 80)
    first, best = page.js(
        f"(pixels => [0, 4 * (80 * {row} + {column})].map(at => [...pixels.slice(at, at + 3)]))"
        "(document.querySelector('canvas').getContext('2d').getImageData(0, 0, 80, 80).data)"
    )
    assert first == best  # both have the last colour
    dots = page.js(
        "[...document.querySelectorAll('.picture circle')]"
        ".map(dot => [dot.getAttribute('cy'), dot.getAttribute('cx')].map(parseFloat))"
    )
    found = [(round(y * 0.8 - 0.5), round(x * 0.8 - 0.5)) for y, x in dots]
    assert found == list(enumerate(np.argmax(weights, axis=1)))


def test_where_each_query_sees_one_key_all_count(page: Page, tmp_path: Path) -> None:
    inputs = (drawn((6, 2), n) for n in range(3))
    qkvcli.attend(*inputs, window=(0, 0)).page().save(tmp_path / "lesson.html")
    page.go(tmp_path / "lesson.html")
    assert page.text("#legend") == "01 hiddenbold largest of its row"


def test_the_legend_says_what_no_colour_does(page: Page, tmp_path: Path) -> None:
    query, key, value = (drawn((4, 3), n) for n in range(3))
    qkvcli.attend(query, key, value).page().save(tmp_path / "lesson.html")
    page.go(tmp_path / "lesson.html")
    assert "hidden" not in page.text("#legend")
    assert "NaN" not in page.text("#legend")
    query[2, 1] = np.nan
    qkvcli.attend(query, key, value, causal=True).page().save(tmp_path / "lesson.html")
    for link, said in (
        ("#s=scores", ["NaN"]),
        ("#s=masked", ["hidden", "NaN"]),
        ("#s=output", ["NaN"]),
    ):
        page.go(tmp_path / "lesson.html", link)
        assert page.texts("#legend > :not(.scale)") == said
    go(page, "#s=weights")
    assert page.texts("#legend > :not(.scale)")[:3] == ["hidden", "NaN", "bold largest of its row"]
    for kind, count in (("hidden", 6), ("lost", 3)):
        ground = (
            "e => { const s = getComputedStyle(e); return s.backgroundColor + s.backgroundImage }"
        )
        marked = f"#heat td.{kind}, #legend b.{kind}"
        looks = page.js(f"[...document.querySelectorAll('{marked}')].map({ground})")
        assert len(looks) == count + 1
        assert len(set(looks)) == 1


def test_labels_on_their_side_are_so_in_every_script(page: Page, tmp_path: Path) -> None:
    inputs = (drawn((3, 2), n) for n in range(3))
    labels = ["猫坐在垫子上面看着那只很小的狗", "👨‍👩‍👧‍👦" * 9, "שלום עולם ארוך מאוד"]
    qkvcli.attend(*inputs, labels=labels).page().save(tmp_path / "lesson.html")
    page.go(tmp_path / "lesson.html")
    found = boxes(page, "#heat thead bdi")
    assert all(box["height"] > box["width"] for box in found)
    style = "getComputedStyle(document.querySelector('#heat thead bdi'))"
    assert page.js(f"[{style}.writingMode, {style}.textOrientation]") == ["vertical-rl", "sideways"]


def test_text_stands_out_from_its_ground(lesson: Callable[..., Page]) -> None:
    page = lesson("run", "--example", "gpt", link="#h=4")
    colours = page.js(
        "[...document.querySelectorAll('#heat [data-row]:not(.hidden)')].map(cell => "
        "[cell.style.color, cell.style.background].map(text => text.match(/\\d+/g).map(Number)))"
    )
    from qkvcli.render.heat import contrast

    assert len(colours) == 28
    for ink, ground in colours:
        assert contrast(tuple(ink), tuple(ground)) >= 4.5


def test_readers_of_screens_are_told_what_is_where(lesson: Callable[..., Page]) -> None:
    page = lesson("run", "--example", "cat", "--preset", "gpt", link="#q=1&k=1")
    page.command("Accessibility.enable")
    tree = page.command("Accessibility.getFullAXTree")["nodes"]
    said = {
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node["ignored"]
    }
    said = {(role, re.sub("[\u2068\u2069]", "", name)) for role, name in said}
    assert {
        ("gridcell", "cat → cat: weight 0.7311, the largest of its row"),
        ("gridcell", "cat → sat: hidden by the causal mask"),
        ("grid", "weights: a row for each query, a column for each key"),
        ("rowheader", "cat"),
        ("columnheader", "sat"),
        ("checkbox", "causal mask"),
        ("combobox", "scale"),
        ("button", "weights"),
        ("button", "Close the explanation"),
        ("navigation", "Steps"),
        ("region", "Explanation"),
    } <= said
    assert len({name for role, name in said if role == "gridcell"}) == 36


def test_a_long_input_is_a_picture_to_point_at(page: Page, tmp_path: Path) -> None:
    query, key, value = (drawn((80, 4), n).astype(np.float32) for n in range(3))
    qkvcli.attend(query, key, value).page().save(tmp_path / "lesson.html")
    page.go(tmp_path / "lesson.html", "#s=scores")
    checked(page)
    scores = query.astype(float) @ key.astype(float).T
    page.click(".picture", at=(30.5 / 80, 12.5 / 80))
    assert page.js("location.hash") == "#q=12&k=30&s=scores"
    said = page.text("#readout").replace("\u2068", "").replace("\u2069", "")
    assert said == f"12 → 30: score {scores[12, 30]:.4f}"
    page.press("ArrowDown")
    page.press("PageDown")
    page.press("ArrowLeft")
    assert page.js("location.hash") == "#q=23&k=29&s=scores"
    assert page.js("document.activeElement.getAttribute('role')") == "application"
    dots = page.js(
        "(canvas => [...canvas.getContext('2d').getImageData(0, 0, 80, 80).data])"
        "(document.querySelector('canvas'))"
    )
    found = np.array(dots).reshape(80, 80, 4)
    assert (found[..., 3] == 255).all()
    for extreme, warm in ((scores.argmax(), True), (scores.argmin(), False)):
        red, _, blue, _ = found[np.unravel_index(extreme, scores.shape)]
        if np.abs(scores.flat[extreme]) > 0.9 * np.abs(scores).max():
            assert (red > blue) == warm


def test_of_several_cells_a_dot_is_the_largest(page: Page, tmp_path: Path) -> None:
    query = np.zeros((1300, 1))
    query[701] = 40
    keys = np.zeros((1300, 1))
    keys[100], keys[300] = 1, -1
    qkvcli.attend(query, keys, np.ones((1300, 1))).page().save(tmp_path / "lesson.html")
    page.go(tmp_path / "lesson.html", "#s=weights")
    wide, place = page.js(
        "(canvas => [canvas.width, [...new Uint32Array(canvas.getContext('2d')"
        ".getImageData(0, 0, canvas.width, canvas.height).data.buffer)]"
        ".reduce((best, dot, i, all) => (dot & 255) > (all[best] & 255) ? i : best, 0)])"
        "(document.querySelector('canvas'))"
    )
    by = math.ceil(1300 / wide)
    assert divmod(place, wide) == (701 // by, 100 // by)
    go(page, "#s=scores")
    at = f"{300 // by}, {701 // by}, 1, 1"
    red, _, blue, _ = page.js(
        f"[...document.querySelector('canvas').getContext('2d').getImageData({at}).data]"
    )
    assert blue > red  # -40 is larger than the zeros beside it


def test_a_notebook_shows_the_page(page: Page, tmp_path: Path) -> None:
    steps = qkvcli.attend(*given("cat_sat_mat"))
    (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html>{steps.page()._repr_html_()}", "utf-8")
    page.go(tmp_path / "notebook.html")
    frame = page.frame()
    frame.waited(lambda: frame.js("!document.getElementById('lesson').hidden"))
    checked(frame)
    assert frame.js("document.querySelectorAll('#heat [data-row]').length") == 36
    frame.js('document.querySelector(\'[data-row="1"][data-column="2"]\').click()')
    assert frame.text("#panel h2").startswith("1 → 2: weight 0.6291")
