"""The page to keep, as a file: what it holds and refuses, and what is read without a script."""

import json
import re
import subprocess
import sys
from base64 import b64decode
from hashlib import sha256
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import qkvcli
from qkvcli.cli.examples import EXAMPLES
from qkvcli.render.text import percent
from tests.conftest import ROOT, Program

HOSTILE = (
    "</script><script>window.hostile = 1</script>",
    '"><img src=x onerror=window.hostile=1>',
    "&amp;<b>",
    "<!--",
    "\u2028line\u2029",
    "\u202eright to left",
    "שלום",
    "😀",
    "${window.hostile = 1}",
    "'; window.hostile = 1; '",
)


class Parsed(HTMLParser):
    """A page's elements, and the cells of its tables without a script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.data = self.script = ""
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._in = tag if tag in ("script", "td", "th", "bdi") else ""
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            kept = "data" if dict(self.tags[-1][1]).get("id") == "data" else "script"
            setattr(self, kept, getattr(self, kept) + data)
        elif self._in:
            self.tables[-1][-1][-1] += data

    @property
    def held(self) -> dict[str, Any]:
        """What the page computes from."""
        found: dict[str, Any] = json.loads(self.data)
        return found


def array(held: dict[str, Any]) -> Any:
    """An array as the page holds it."""
    raw = b64decode(held["data"])
    if held["dtype"] == "bits":
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
        return bits[: np.prod(held["shape"])].reshape(held["shape"]).astype(bool)
    return np.frombuffer(
        raw, f"<{held['dtype'][0]}{held['dtype'][5:]}".replace("64", "8").replace("32", "4")
    ).reshape(held["shape"])


def drawn(length: int, width: int = 8, dtype: str = "float32", heads: int = 0) -> Any:
    shape = (3, *([heads] if heads else []), length, width)
    return np.random.default_rng(length).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_it_holds_q_k_and_v_and_nothing_of_their_product(dtype: str) -> None:
    sizes = []
    for length in (150, 300):
        query, key, value = drawn(length, dtype=dtype)
        page = str(qkvcli.attend(query, key, value).page())
        held = Parsed(page).held
        for name, given in (("query", query), ("key", key), ("value", value)):
            assert np.array_equal(array(held[name]), given)
        sizes.append(len(page))
    numbers = 3 * 150 * 8 * (8 if dtype == "float64" else 4) * 4 / 3
    assert sizes[1] - sizes[0] < numbers + 20_000  # and the places of 150 queries, and a picture


def test_grouped_heads_are_not_copied() -> None:
    query, [key, value] = drawn(5, heads=6)[0], drawn(5, heads=2)[1:]
    held = Parsed(str(qkvcli.attend(query, key, value).page())).held
    assert held["key"]["shape"] == [2, 5, 8]
    assert held["groups"] == {"key": 3, "value": 3}


def test_a_mask_is_as_small_as_it_broadcasts() -> None:
    query, key, value = drawn(6)
    mask = np.array([True, True, False, True, True, False])
    held = Parsed(str(qkvcli.attend(query, key, value, mask=mask).page())).held
    assert array(held["options"]["mask"]).tolist() == [mask.tolist()]
    assert held["options"]["mask"]["dtype"] == "bits"


@pytest.mark.parametrize("name", EXAMPLES)
def test_its_checks_are_what_the_program_computes(qkv: Program, folder: Path, name: str) -> None:
    saved = qkv("run", "--example", name, "--quiet", "-o", "lesson.html")
    assert (saved.code, saved.out, saved.err) == (0, "", "")
    held = Parsed((folder / "lesson.html").read_text("utf-8")).held
    qkv("run", "--example", name, "--quiet", "-o", "steps.npz")
    steps = np.load(folder / "steps.npz")
    last = [step for step in ("scores", "scaled", "masked") if step in steps][-1]
    assert held["checks"]
    for check in held["checks"]:
        at = (*check["place"], check["query"])
        for n, key in enumerate(check["keys"]):
            cell = (*at, key)
            assert check["weights"][n] == pytest.approx(steps["weights"][cell], rel=1e-5)
            assert float(check["scores"][n]) == pytest.approx(steps[last][cell], rel=1e-5)
        if steps["output"].ndim == len(at) + 1:  # else the heads are joined
            output = check["mixed"]["output"]
            found = steps["output"][at][output["columns"]]
            assert output["numbers"] == pytest.approx(found.tolist(), rel=1e-4, abs=1e-6)


def test_every_head_and_query_has_a_check_where_they_are_few() -> None:
    held = Parsed(str(qkvcli.attend(*drawn(6, heads=3)).page())).held
    assert {(tuple(check["place"]), check["query"]) for check in held["checks"]} == {
        ((head,), query) for head in range(3) for query in range(6)
    }


def test_tables_are_read_without_a_script(qkv: Program, folder: Path) -> None:
    qkv("run", "--example", "cat", "--preset", "gpt", "--quiet", "-o", "lesson.html")
    parsed = Parsed((folder / "lesson.html").read_text("utf-8"))
    scores, scaled, masked, weights, output = parsed.tables
    for table in (scores, scaled, masked, weights):
        assert table[0] == ["", *"The cat sat on the mat".split()]
        assert [row[0] for row in table[1:]] == table[0][1:]
    # cat sees The and cat: e^0 and e^1, of which e is e/(1 + e)
    assert weights[2][1:] == ["0.2689", "0.7311", "·", "·", "·", "·"]
    assert masked[1][1:] == ["0.0000", "-inf", "-inf", "-inf", "-inf", "-inf"]
    assert scaled[2][2] == "1.0000"
    assert output[2][1:] == ["7.3106", "0.0000", "0.0000"]


def test_large_steps_show_their_edges_without_a_script() -> None:
    parsed = Parsed(str(qkvcli.attend(*drawn(200)).page()))
    for table in parsed.tables[:-1]:
        assert len(table) == 1 + 12
        assert len(table[0]) == 1 + 12
        assert table[1][1:].count("…") == 1
    assert len(parsed.tables[-1][0]) == 1 + 8


def test_each_head_has_a_picture_without_a_script(qkv: Program, folder: Path) -> None:
    qkv("softmax", "--example", "bert", "--quiet", "-o", "lesson.html")
    parsed = Parsed((folder / "lesson.html").read_text("utf-8"))
    pictures = [attributes for tag, attributes in parsed.tags if tag == "img"]
    assert [one["alt"] for one in pictures] == [f"weights of head {n}" for n in range(12)]
    for one in pictures:
        source = str(one["src"])
        assert b64decode(source.removeprefix("data:image/png;base64,"))[:4] == b"\x89PNG"


def title(page: str) -> str:
    [found] = re.findall("<title>(.*)</title>", page)
    assert f"<h1>{found}</h1>" in page
    return str(found)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--example", "cat"], "The cat sat on the mat"),
        (["--example", "cat", "--rows", "sat,mat"], "sat, mat"),
        (["--example", "gpt", "--head", "4"], "The cat sat on the mat ., head 4"),
        (["--example", "gpt", "--head", "0:4"], "The cat sat on the mat ., heads 0 to 3 of 9"),
        (["--example", "gpt", "--head", "4,1"], "The cat sat on the mat ., heads 4, 1 of 9"),
        (["--seed", 1, "--length", 1], "1 query and 1 key"),
        (["--seed", 1, "--length", 1000, "--key-length", 2], "1,000 queries and 2 keys"),
    ],
)
def test_its_title_says_who_asks(
    qkv: Program, folder: Path, words: list[object], said: str
) -> None:
    qkv("run", *words, "--quiet", "-o", "lesson.html")
    assert title((folder / "lesson.html").read_text("utf-8")) == f"Attention of {said}"


def test_without_a_script_it_says_what_there_is(qkv: Program, folder: Path) -> None:
    qkv("run", "--example", "bert", "--head", "3,5", "--quiet", "-o", "lesson.html")
    page = (folder / "lesson.html").read_text("utf-8")
    assert re.findall("<figcaption>(head .*)</figcaption>", page) == ["head 3", "head 5"]
    [told] = re.findall("<noscript><p>(.*)</p></noscript>", page)
    assert "pictures, and tables of head 3 (of large" in told
    many = str(qkvcli.attend(*drawn(3, heads=30)).page())
    assert "The first 4 of 30 heads: head 0: 0 → " in re.sub("[\u2068\u2069]", "", many)
    assert many.count("<img") == 24
    assert "(The first 24 of 30 are pictured.)" in many
    assert "are pictured" not in page


def test_hostile_labels_stay_text() -> None:
    count = len(HOSTILE)
    text = str(qkvcli.attend(*drawn(count), labels=HOSTILE).page())
    parsed = Parsed(text)
    tags = [tag for tag, _ in parsed.tags]
    plain = [tag for tag, _ in Parsed(str(qkvcli.attend(*drawn(count)).page())).tags]
    assert tags.count("script") == 2
    assert [tag for tag in tags if tag != "bdi"] == [tag for tag in plain if tag != "bdi"]
    assert not any(name.startswith("on") for _, found in parsed.tags for name in found)
    assert parsed.held["queries"]["labels"] == list(HOSTILE)
    assert "<" not in parsed.data
    assert "\u2028" not in parsed.data


@pytest.mark.parametrize("label", ["a\0b", "\x1b[31m", "\ud800", "\x85"])
def test_labels_that_no_page_can_hold_are_told_apart(label: str) -> None:
    query, key, value = drawn(2)
    page = str(qkvcli.attend(query, key, value, labels=[label, "b"]).page())
    assert Parsed(page).held["queries"]["labels"] == [label, "b"]
    assert page.encode()  # a lone surrogate has no encoding
    assert not re.search("[\0-\x08\x0b-\x1f]", page)


def test_only_its_own_script_may_run_and_nothing_is_fetched() -> None:
    text = str(qkvcli.attend(*drawn(3)).page())
    parsed = Parsed(text)
    [policy] = [
        str(found["content"])
        for tag, found in parsed.tags
        if tag == "meta" and found.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    digest = b64decode(rules["script-src"].strip("'").removeprefix("sha256-"))
    assert digest == sha256(parsed.script.encode()).digest()
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "http" not in text.replace("http-equiv", "")
    assert ("html", {"lang": "en"}) in parsed.tags


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--length", 2049], "a page holds up to 2,048 queries, and there are 2,049; choose some"),
        (
            ["--length", 2, "--key-length", 2049],
            "a page holds up to 2,048 keys, and there are 2,049; give fewer",
        ),
        (
            ["--length", 2000, "--dim", 500],
            "a page holds up to 16 MB of numbers, and these are 23; choose some with --rows 0:300",
        ),
        (
            ["--length", 2000, "--dim", 600],  # K and V alone are too large
            "a page holds up to 16 MB of numbers, and these are 27; give fewer",
        ),
        (
            ["--show", "query"],
            "a page shows scores, scaled, capped, biased, masked, weights, output",
        ),
        (["--top", "2"], "--top is shown as table, csv, tsv, json, markdown, and not as html"),
    ],
)
def test_what_makes_no_page_is_refused(
    qkv: Program, folder: Path, words: list[object], said: str
) -> None:
    ended = qkv("run", "--seed", 1, *words, "--quiet", "-o", "lesson.html")
    assert ended.code == 2
    assert said in ended.err
    assert not (folder / "lesson.html").exists()


def test_rows_that_are_chosen_make_a_page_of_what_is_too_long(qkv: Program, folder: Path) -> None:
    words = ("--seed", 1, "--length", 2100, "--key-length", 40, "--dim", 4, "--quiet")
    assert qkv("run", *words, "--rows", "5,2050", "-o", "lesson.html").code == 0
    held = Parsed((folder / "lesson.html").read_text("utf-8")).held
    assert held["shape"] == [2, 40]
    assert held["queries"]["labels"] == ["5", "2050"]
    assert held["options"]["rows"] == [5, 2050]


def test_heads_that_are_chosen_keep_their_numbers(qkv: Program, folder: Path) -> None:
    qkv("run", "--example", "gpt", "--head", "4,1", "--quiet", "-o", "lesson.html")
    held = Parsed((folder / "lesson.html").read_text("utf-8")).held
    assert held["leading"] == [{"kind": "head", "numbers": [4, 1]}]
    assert held["key"]["shape"][0] == 2  # heads 4 and 1 share heads 1 and 0 of K


@pytest.mark.parametrize(
    ("words", "steps", "until"),
    [
        (["scores"], ["scores"], "scores"),
        (["scores", "--preset", "gpt"], ["scores", "scaled", "masked"], "scores"),
        (["softmax", "--preset", "bert"], ["weights"], "weights"),
        (["run", "--show", "weights"], ["weights"], "weights"),
        (["run", "--preset", "bert"], ["scores", "scaled", "weights", "output"], "output"),
    ],
)
def test_it_goes_through_the_steps_that_the_command_shows(
    qkv: Program, folder: Path, words: list[str], steps: list[str], until: str
) -> None:
    qkv(*words, "--example", "cat", "--quiet", "-o", "lesson.html")
    held = Parsed((folder / "lesson.html").read_text("utf-8")).held
    assert (held["steps"], held["until"]) == (steps, until)
    assert (held["value"] is None) == (until != "output")


SCORED = ["scores", "scaled", "biased", "masked", "weights"]


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (["run"], [*SCORED, "output", "gated", "projected"]),
        (["run", "--show", "projected"], ["projected"]),
        (["run", "--show", "gated"], ["gated"]),
        (["run", "--show", "biased"], ["biased"]),
        (["run", "--show", "query_rotated,weights"], ["weights"]),
    ],
)
def test_it_goes_through_the_steps_of_a_layer(
    qkv: Program, folder: Path, layer: list[str], words: list[str], steps: list[str]
) -> None:
    command, *shown = words
    qkv(command, *layer, "--scale", "sqrt", *shown, "--quiet", "-o", "lesson.html")
    parsed = Parsed((folder / "lesson.html").read_text("utf-8"))
    assert parsed.held["steps"] == steps
    assert len(parsed.tables) == len(steps)


@pytest.mark.parametrize("step", ["query_rotated", "key_normed"])
def test_how_vectors_are_made_is_no_page_alone(
    qkv: Program, folder: Path, layer: list[str], step: str
) -> None:
    ended = qkv("run", *layer, "--show", step, "--quiet", "-o", "lesson.html")
    assert ended.code == 2
    assert f"gated, projected, and not {step} alone" in ended.err
    assert not (folder / "lesson.html").exists()


def test_a_layer_is_read_without_a_script(qkv: Program, folder: Path, layer: list[str]) -> None:
    qkv("run", *layer, "--head", "1", "--quiet", "-o", "lesson.html")
    page = (folder / "lesson.html").read_text("utf-8")
    _, _, _, weights, output, gated, projected = Parsed(page).tables
    steps = np.load(BytesIO(qkv("run", *layer, "--head", "1", "-f", "npz").data))
    for table, name in ((output, "output"), (gated, "gated"), (projected, "projected")):
        numbers = np.array([row[1:] for row in table[1:]], float)
        assert numbers == pytest.approx(steps[name][0], abs=5e-5)
    for row, own in zip(weights[1:], steps["weights"][0], strict=True):
        assert row[-1] == f"sink {percent(float(1 - own.sum()))}"
    assert "The sink takes the rest of 1." in page


def test_a_projection_counts_in_what_a_page_holds() -> None:
    x, wo = np.ones((3, 4)), np.ones((4, 600_000))
    said = r"up to 16 MB of numbers, and these are 18; choose some with --head 0$"
    with pytest.raises(qkvcli.UsageError, match=said):
        qkvcli.attend(x, x, x, heads=2, wo=wo).page()
    with pytest.raises(qkvcli.UsageError, match=r"these are 18; give fewer$"):
        qkvcli.attend(x, x, x, wo=wo).page()


def test_where_queries_stand_is_known_without_a_mask() -> None:
    query, key, value = drawn(3)
    past = drawn(2)[1:]
    steps = qkvcli.attend(query, key, value, past_key=past[0], past_value=past[1])
    held = Parsed(str(steps.page())).held
    assert held["options"]["offset"]["numbers"] == [2]
    assert held["options"]["rows"] == [0, 1, 2]
    chosen = qkvcli.attend(query, key, value, rows=[2], labels="a b c")
    assert Parsed(str(chosen.page())).held["options"]["rows"] == [2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_theme_is_forced(qkv: Program, folder: Path, theme: Literal["light", "dark"]) -> None:
    qkv("run", "--theme", theme, "--quiet", "-o", "lesson.html")
    page = (folder / "lesson.html").read_text("utf-8")
    assert f'<html lang="en" data-theme="{theme}">' in page
    assert "prefers-color-scheme" not in page
    steps = qkvcli.attend(*drawn(2))
    assert str(steps.page(theme)).count("prefers-color-scheme") == 0
    assert str(steps.page()).count("prefers-color-scheme") == 1


def test_an_explanation_is_no_page(qkv: Program, folder: Path) -> None:
    ended = qkv("explain", "cat", "--example", "cat", "-o", "lesson.html")
    assert ended.code == 2
    assert "saved as .json or .md" in ended.err


def test_the_library_gives_the_same_page(folder: Path) -> None:
    query, key, value = drawn(4)
    steps = qkvcli.attend(query, key, value, scale="sqrt")
    page = steps.page()
    assert isinstance(page, qkvcli.Page)
    steps.save("one.html")
    page.save("two.htm")
    assert Path("one.html").read_text("utf-8") == Path("two.htm").read_text("utf-8") == str(page)
    shown = page._repr_html_()
    [(tag, found)] = Parsed(shown).tags
    assert (tag, found["sandbox"], found["srcdoc"]) == ("iframe", "allow-scripts", str(page))
    assert len(repr(page)) < 40
    steps.save("dark.html", theme="dark")
    assert 'data-theme="dark"' in Path("dark.html").read_text("utf-8")
    with pytest.raises(qkvcli.UsageError, match="theme 'grey'"):
        steps.page("grey")  # type: ignore[arg-type]
    with pytest.raises(qkvcli.UsageError, match="only the steps that attend gives"):
        qkvcli.Steps(list(steps)).page()
    with pytest.raises(qkvcli.ShapeError, match="no cell"):
        qkvcli.attend(np.ones((0, 2)), np.ones((1, 2)), np.ones((1, 2))).page()


def test_commands_without_a_page_do_not_load_it() -> None:
    script = (
        "import sys; from qkvcli.cli import main; sys.argv = ['qkvcli', 'run'];\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([name for name in sys.modules if 'lesson' in name], file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert ended.stderr == "[]\n"
