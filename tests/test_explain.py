"""Explanations: their numbers against a plain loop, and what a person reads."""

import io
import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

import qkvcli
from qkvcli.core.naming import Names
from qkvcli.errors import UsageError
from qkvcli.formats.explained import explained
from qkvcli.render.explanation import parts
from qkvcli.render.grids import Room
from qkvcli.render.paper import plain_text
from tests.conftest import SAMPLES, Program
from tests.layers import MODULES, file_of, words_of
from tests.test_layer import layers

CAT = """\
cat → sat: weight 0.6291, the largest of 6; equal shares would be 0.1667
1  score = q(cat)·k(sat)
           article  animal  action  place
   q(cat)        0       1       2      1
   k(sat)        0       0       2      0
   q×k           0       0       4      0  sum 4
2  weight = e^4 / (e^0 + e^2 + e^4 + e^1 + e^0 + e^3) = 54.60 / 86.79 = 0.6291
   sat     0.6291  █████████████████████████▏                  66% of output
   mat     0.2314  █████████▎                                  24% of output
   cat     0.0851  ███▍                                         9% of output
   3 more  0.0544  ██▏                                       0.33% of output
3  output(cat) = 0.6291·v(sat) + 0.2314·v(mat) + …
                  animal  action   place
   0.6291·v(sat)  0.0000  6.2908  0.0000
   0.2314·v(mat)  0.0000  0.0000  2.3142
   0.0851·v(cat)  0.8514  0.0000  0.0000
   3 more         0.0000  0.0000  0.0313
   output(cat)    0.8514  6.2908  2.3456

"""

WIDE = """\
head 4: mat → The: weight 0.1448, the 3rd largest of the 5 that it sees; equal
   shares would be 0.2000
1  score = q(mat)·k(The)
   column       31      46       63       48        7  59 more
   q(mat)   6.5730  6.9671  -0.1958   2.9754   5.9052
   k(The)   2.8712  0.0884  -1.9966  -0.0875  -0.0408
   q×k     18.8724  0.6160   0.3909  -0.2602  -0.2412  -0.9964  sum 18.3816
   scaled 18.3816 × 1/√64 = 2.2977
2  weight = e^2.2977 / (e^2.2977 + e^3.4883 + e^2.5723 + e^2.2045 + e^1.3534) =
   9.951 / 68.71 = 0.1448
   cat     0.4763  ███████████████████                       50% of output
   sat     0.1906  ███████▋                                  22% of output
   The     0.1448  █████▊                                     6% of output
   2 more  0.1883  ███████▌                                  22% of output
3  output(mat) = 0.4763·v(cat) + 0.1906·v(sat) + …
   column              60       16       42        8       17  … 59 more
   0.4763·v(cat)  -0.8315   1.0026   1.1899  -0.4602   0.6844
   0.1906·v(sat)  -0.3064   0.2593   0.2092  -0.4344   0.1606
   0.1448·v(The)  -0.0016  -0.0020  -0.0355   0.0973  -0.0355
   2 more         -0.3770   0.2367   0.1295  -0.4037   0.1859
   output(mat)    -1.5164   1.4967   1.4931  -1.2011   0.9954

"""


@st.composite
def problems(draw: Any) -> tuple[dict[str, Any], int, int, int]:
    """Q, K and V with heads, any of the options, and a head, a query and a key to explain."""
    group, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    queries, keys, d, width = (draw(st.integers(1, 6)) for _ in range(4))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    size = draw(st.sampled_from([1.0, 30.0]))
    given = {
        "query": size * rng.normal(size=(group * groups, queries, d)),
        "key": rng.normal(size=(groups, keys, d)),
        "value": rng.normal(size=(groups, keys, width)),
        "scale": draw(st.sampled_from([None, 0.5, "sqrt"])),
        "softcap": draw(st.sampled_from([None, 3.0])),
        "causal": draw(st.booleans()),
        "window": draw(st.sampled_from([None, (1, 1), (0, None)])),
        "mask": draw(st.sampled_from([None, "bias", "hide"])),
    }
    if given["mask"] == "bias":
        given["mask"] = rng.normal(size=(queries, keys))
    elif given["mask"] == "hide":
        given["mask"] = rng.random((queries, keys)) < 0.7
    places = (draw(st.integers(0, n - 1)) for n in (group * groups, queries, keys))
    return (given, *places)


class Loop(NamedTuple):
    """What a plain loop finds for one query."""

    scores: list[float]
    weights: list[float]
    added: list[float]
    reasons: list[set[str]]


def score_of(given: dict[str, Any], score: float) -> float:
    """A dot product, scaled and capped."""
    if given["scale"] is not None:
        width = given["query"].shape[-1]
        score *= 1 / math.sqrt(width) if given["scale"] == "sqrt" else given["scale"]
    if given["softcap"] is not None:
        score = given["softcap"] * math.tanh(score / given["softcap"])
    return score


def hidden_by(given: dict[str, Any], query: int, j: int) -> set[str]:
    """The masks that hide a key."""
    left, right = given["window"] or (None, None)
    mask = given["mask"]
    found = {
        "causal mask": given["causal"] and j > query,
        "window": (left is not None and j < query - left)
        or (right is not None and j > query + right),
        "mask": mask is not None and mask.dtype == np.bool_ and not mask[query, j],
    }
    return {name for name, hides in found.items() if hides}


def looped(given: dict[str, Any], head: int, query: int) -> Loop:
    group = len(given["query"]) // len(given["key"])
    keys, values = given["key"][head // group], given["value"][head // group]
    q, mask = given["query"][head, query], given["mask"]
    reasons = [hidden_by(given, query, j) for j in range(len(keys))]
    scores = []
    for j, k in enumerate(keys):
        score = score_of(given, math.fsum(a * b for a, b in zip(q, k, strict=True)))
        if mask is not None and mask.dtype != np.bool_:
            score += mask[query, j]
        scores.append(-math.inf if reasons[j] else score)
    peak = max(scores)
    powers = [0.0 if peak == -math.inf else math.exp(score - peak) for score in scores]
    weights = [power / (sum(powers) or 1) for power in powers]
    added = [w * math.sqrt(sum(x * x for x in v)) for w, v in zip(weights, values, strict=True)]
    return Loop(scores, weights, added, reasons)


@settings(max_examples=60)
@given(problems())
def test_every_number_is_that_of_a_plain_loop(problem: Any) -> None:
    given, head, query, key = problem
    scores, weights, added, reasons = looped(given, head, query)
    values = given["value"][head // (len(given["query"]) // len(given["key"]))]
    options = {name: value for name, value in given.items() if value is not None}
    which = head if len(given["query"]) > 1 else None
    found = qkvcli.attend(**options).explain(query, key, head=which)
    assert found.shares is not None
    assert found.output is not None
    assert found.products is not None
    assert found.products.sum() == pytest.approx(found.score, abs=1e-9)
    seen = [not hidden for hidden in reasons]
    assert found.visible.tolist() == seen
    np.testing.assert_allclose(found.scores[seen], np.array(scores)[seen], atol=1e-9)
    np.testing.assert_allclose(found.weights, weights, atol=1e-9)
    np.testing.assert_allclose(found.shares, np.array(added) / (sum(added) or 1), atol=1e-9)
    np.testing.assert_allclose(found.output, np.array(weights) @ values, atol=1e-9)
    assert {why.mask for why in found.hidden} == reasons[key]
    chain = [found.score, *(link.after for link in found.links)]
    assert [link.before for link in found.links] == chain[:-1]
    assert found.hidden or chain[-1] == pytest.approx(scores[key], abs=1e-9)
    assert found.seen == sum(seen)
    above = [sum(w > weights[key] * (1 + e) for w in weights) for e in (1e-9, -1e-9)]
    assert found.rank in ([None] if found.hidden else range(above[0] + 1, above[1] + 2))
    spoken = found.strongest(1).tolist()
    assert key in spoken
    assert max(added[j] for j in spoken) == pytest.approx(max(added))
    parts = [*([j] for j in spoken), found.rest(np.array(spoken))]
    whole = np.sum([found.added_by(np.array(part)) for part in parts], axis=0)
    np.testing.assert_allclose(whole, found.output, atol=1e-9)
    assert str(found).splitlines()[0].count("→") == (found.seen > 0)


@settings(max_examples=60)
@given(problems())
def test_json_has_the_numbers_of_the_loop(problem: Any) -> None:
    given, head, query, key = problem
    scores, weights, added, _ = looped(given, head, query)
    options = {name: value for name, value in given.items() if value is not None}
    which = head if len(given["query"]) > 1 else None
    found = qkvcli.attend(**options).explain(query, key, head=which)
    told = explained(found)
    fraction = told["numerator"] / told["denominator"] if told["denominator"] else 0
    assert told["weight"] == pytest.approx(fraction, abs=1e-9)
    peak = max(scores)
    assert told["shift"] == (pytest.approx(peak) if 20 < abs(peak) < math.inf else 0)
    assert told["equal_share"] == (1 / found.seen if found.seen else 0)
    parts = [told["rest"], *told["strongest"]]
    assert sum(part["weight"] for part in parts) == pytest.approx(sum(weights), abs=1e-9)
    assert sum(part["share"] for part in parts) == pytest.approx(1 if sum(added) else 0, abs=1e-9)
    for part in told["strongest"]:
        assert part["share"] == pytest.approx(added[part["number"]] / (sum(added) or 1), abs=1e-9)


def test_the_golden_explanation(qkv: Program) -> None:
    assert qkv("explain", "cat", "sat", "--example", "cat").out == CAT
    assert qkv("explain", "cat", "--example", "cat").out == CAT  # sat weighs most
    assert qkv("explain", 1, 2, "--example", "cat").out == CAT


def test_without_values_there_is_no_third_part(qkv: Program) -> None:
    files = [f"-{name[0]}{SAMPLES}/cat_sat_mat/{name}.csv" for name in ("query", "key")]
    shown = qkv("explain", "cat", *(word for file in files for word in (file[:2], file[2:]))).out
    head = CAT.split("3  output")[0]
    assert shown.rstrip().splitlines() == re.sub(" +[\\d.]+% of output", "", head).splitlines()


def test_a_head_of_bert_whose_heaviest_key_adds_little(qkv: Program) -> None:
    shown = " ".join(qkv("explain", "cat", "--example", "bert", "--head", 6).out.split())
    assert shown.startswith("head 6: cat → [CLS]: weight 0.2545, the largest of 9;")
    assert "scaled 10.1982 × 1/√32 = 1.8028" in shown
    assert (
        "[CLS] has the largest weight (0.25) and 6% of the output, sat 0.22 and 31%: a key adds "
        "its weight times its value" in shown
    )
    model = np.load(SAMPLES / "bert" / "weights.npy")
    told = json.loads(qkv("explain", "cat", "--example", "bert", "--head", 6, "-f", "json").out)
    assert told["weight"] == pytest.approx(model[6, 2, 0], abs=1e-5)


def test_a_key_that_a_mask_hides(qkv: Program) -> None:
    words = ["explain", "cat", "mat", "--example", "gpt", "--head", 4]
    shown = qkv(*words).out
    assert shown.startswith("head 4: cat → mat: weight 0, since mat is hidden\n")
    assert "   hidden by the causal mask: mat stands after cat\n" in shown
    assert "2  weight = 0: a hidden key has e^-inf = 0" in shown
    window = qkv(*words[:2], "The", *words[3:], "--window", 0).out
    reason = "The is 1 before cat, and the window reaches 0 before and any after"
    assert f"hidden by the window: {reason}" in " ".join(window.split())
    shifted = qkv(*words, "--offset", 1).out
    assert "hidden by the causal mask: mat stands after cat; cat stands at position 2" in shifted
    padded = qkv(*words, "--no-causal", "--valid-length", 3).out
    assert "hidden by the valid length: keys from 3 on are padding" in padded
    nobody = qkv("explain", "The", "--example", "gpt", "--head", 4, "--offset", -1).out
    assert nobody.startswith("head 4: The sees no key: its weights and its output are zeros\n")
    assert re.findall(r"^\d  \w+", nobody, re.M) == ["1  score"]


def test_given_scores(qkv: Program, folder: Path) -> None:
    scores = qkv("scores", "--example", "cat").out
    Path("s.csv").write_text(scores)
    shown = qkv(
        "explain", "cat", "sat", "--scores", "s.csv", "-v", SAMPLES / "cat_sat_mat/value.csv"
    )
    assert "1  score = 4, as given\n2  weight = e^4 / (e^0 + e^2" in shown.out
    assert shown.out.split("3  output")[1] == CAT.split("3  output")[1]
    piped = qkv("explain", "cat", "the", "--scores", "-", "--causal", stdin=scores).out
    assert "hidden by the causal mask: the stands after cat" in piped
    both = qkv("explain", "cat", "--scores", "s.csv", "-q", "s.csv")
    assert both.code == 2
    unread = qkv("explain", "cat", stdin=scores)
    assert (unread.code, unread.err) == (0, "")  # the article's


def test_large_scores_have_their_largest_taken_off(qkv: Program) -> None:
    shown = qkv("explain", 0, "--example", "tensorflow").out
    assert "weight = e^0 / (e^-57.7350 + e^-57.7350 + e^0 + e^0) = 1.000 / 2.000" in shown
    assert "the exponents are the scores less the largest, 57.7350" in shown
    assert "one of the 2 largest of 4" in shown
    assert "less the largest" not in qkv("explain", "cat").out  # of 18.41, within reach


def test_many_heads_are_a_line_each(qkv: Program) -> None:
    lines = qkv("explain", "cat", "sat", "--example", "bert").out.splitlines()
    assert lines[0] == "cat → sat in 12 heads; --head N explains one"
    assert [line.split()[1] for line in lines[1:13]] == list(map(str, range(12)))
    assert lines[7].endswith("2nd of 9")
    hidden = qkv("explain", "cat", "mat", "--example", "gpt").out.splitlines()[1:10]
    assert all(line.endswith("hidden by the causal mask") for line in hidden)
    every = qkv("explain", "cat", "--example", "bert", "--head", "all", "-f", "json").out
    assert [one["head"] for one in json.loads(every)] == list(range(12))
    two = qkv("explain", "cat", "--example", "bert", "--head", "6,0").out
    assert re.findall(r"^head (\d+): cat", two, re.M) == ["6", "0"]


def test_long_and_wide_labels_keep_to_the_screen(qkv: Program, folder: Path) -> None:
    labels = ("猫在垫子上", "😀 smile", f"super{'cali' * 30}", "New York")
    rows = "\n".join(f"{label},{i},{1 - i % 2}" for i, label in enumerate(labels))
    Path("q.csv").write_text(f"token,a,b\n{rows}\n")
    files = ["-q", "q.csv", "-k", "q.csv", "-v", "q.csv"]
    commands = (["explain", 2, 2], ["explain", 0], ["run"], ["softmax", "--top", 2])
    for width in (40, 60, 80):
        for command in commands:
            lines = qkv(*command, *files, "-f", "table", "--width", width).out.splitlines()
            assert [line for line in lines if cell_len(line) > width] == []


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize(
    "words", ["cat --example cat", "the#2 . --example bert --head 6", "mat --example gpt --head 4"]
)
def test_no_line_is_longer_than_the_screen(qkv: Program, width: int, words: str) -> None:
    shown = qkv("explain", *words.split(), "--width", width).out
    assert max(map(cell_len, shown.splitlines())) <= width


def test_plain_ascii(qkv: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    shown = qkv("explain", "mat", "--example", "gpt", "--head", 4).out
    assert shown.isascii()
    assert "mat -> cat" in shown
    assert "cat     0.4460  ##################  " in shown


def test_as_markdown_and_saved(qkv: Program, folder: Path) -> None:
    words = ["explain", "cat", "sat", "--example", "cat"]
    shown = qkv(*words, "-f", "markdown", "-o", "e.json", "--quiet")
    assert (shown.code, shown.out) == (0, "")
    assert json.loads(Path("e.json").read_text())["products"] == [0, 0, 4, 0]
    page = qkv(*words, "-f", "markdown", "-o", "e.md").out
    assert "| q×k | 0 | 0 | 4 | 0 | sum 4 |" in page
    assert Path("e.md").read_text() == page
    wrong = qkv(*words, "-o", "e.npy")
    assert wrong.err == "qkvcli: an explanation is saved as .json or .md, and not as .npy\n"
    assert (wrong.code, wrong.out) == (2, "")
    wrong = qkv(*words, "-f", "csv")
    assert wrong.code == 2
    assert "'csv' is not one of table, json, markdown" in wrong.err


def test_tokens_by_label_ordinal_and_number(qkv: Program) -> None:
    names = Names(("the", "cat", "the", "7", "a#1"), 5)
    assert list(names) == ["the#1", "cat", "the#2", "7", "a#1"]
    assert [names.find(text, "key") for text in (*names, "0", "4")] == [0, 1, 2, 3, 4, 0, 4]
    for text, said in {
        "the": "2 tokens are called 'the'; say the#1 or the#2",
        "the#3": "there is no key 'the#3'; the labels are the, cat, the, 7, a#1",
        "5": "there is no key '5'; the labels are",
    }.items():
        with pytest.raises(UsageError, match=re.escape(said)):
            names.find(text, "key")
    many = Names(tuple(f"token{i}" for i in range(100)), 100)
    with pytest.raises(UsageError, match="did you mean token9"):
        many.find("tokn99", "query")
    with pytest.raises(UsageError, match="they are 0 to 2"):
        Names(None, 3).find("3", "query")
    refused = qkv("explain", "the", "--example", "bert", "--head", 6)
    assert (refused.code, refused.err) == (
        2,
        "qkvcli: 2 tokens are called 'the'; say the#1 or the#2\n",
    )


def test_numbers_that_are_not_finite(qkv: Program, folder: Path) -> None:
    Path("q.csv").write_text("nan,1\n1,inf\n")
    Path("k.csv").write_text("1,2\n3,4\n")
    words = ["explain", "-q", "q.csv", "-k", "k.csv", "-v", "k.csv"]
    shown = qkv(*words, 0, 1)
    assert shown.code == 0
    assert shown.out.startswith("0 → 1: weight nan, since there is a NaN among the scores\n")
    assert "% of output" not in shown.out
    infinite = qkv(*words, 1, 1).out
    assert infinite.startswith("1 → 1: weight nan, since an infinite score has no share\n")
    told = json.loads(qkv(*words, 1, "-f", "json").out)
    assert told["score"] == "inf"


def test_in_python() -> None:
    query, key, value = (
        np.load(SAMPLES / "bert" / f"{name}.npy") for name in ("query", "key", "value")
    )
    labels = "[CLS] the cat sat on the mat . [SEP]"
    steps = qkvcli.attend(query, key, value, heads=12, preset="bert", labels=labels)
    found = steps.explain("cat", head=6)
    assert (found.key.name, found.rank) == ("[CLS]", 1)
    assert "| [CLS] | 0.2545 | 6% of output |" in found._repr_markdown_().replace("\\[", "[")
    assert repr(found).startswith("Explanation(head 6: cat → [CLS]: weight 0.2545, the largest")
    with pytest.raises(UsageError, match="there are 12 heads; say which with head=0 to 11"):
        steps.explain("cat")
    for head in (12, -1):
        with pytest.raises(UsageError, match=f"there is no head {head}; they are 0 to 11"):
            steps.explain("cat", head=head)
    with pytest.raises(UsageError, match=r"head 1\.5 is not a whole number"):
        steps.explain("cat", head=1.5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"batch 0: the axes before the heads are \(\)"):
        steps.explain("cat", head=6, batch=0)
    part = qkvcli.attend(query, key, value, labels=labels, rows="cat")
    assert part.explain("cat").query.number == 0


def test_values_beside_given_scores_have_to_fit(qkv: Program, folder: Path) -> None:
    np.save("s.npy", np.ones((1, 2)))
    np.save("v.npy", np.ones((3, 1)))
    for words in (["explain", 0, "--scores", "s.npy"], ["softmax", "s.npy", "--show", "output"]):
        wrong = qkv(*words, "-v", "v.npy")
        assert wrong.code == 3
        assert "scores (1, 2) from s.npy and value (3, 1) from v.npy" in wrong.err
    rng = np.random.default_rng(0)
    scores, values = rng.normal(size=(4, 3, 5)), rng.normal(size=(2, 5, 6))
    np.save("s.npy", scores)
    np.save("v.npy", values)  # each head of the values serves two of the scores
    told = qkv("explain", 1, "--scores", "s.npy", "-v", "v.npy", "--head", 3, "-f", "json").out
    weights = np.exp(scores[3, 1]) / np.exp(scores[3, 1]).sum()
    np.testing.assert_allclose(json.loads(told)["output"], weights @ values[1])
    np.save("v.npy", np.ones((8, 5, 6)))
    assert qkv("explain", 1, "--scores", "s.npy", "-v", "v.npy").code == 3


def test_batches_of_values_alone_are_explained_too(qkv: Program, folder: Path) -> None:
    rng = np.random.default_rng(0)
    query, key, value = rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), rng.normal(size=(2, 5, 3))
    for name, array in (("q", query), ("k", key), ("v", value)):
        np.save(f"{name}.npy", array)
    files = ["-q", "q.npy", "-k", "k.npy", "-v", "v.npy"]
    expected = qkvcli.attend(query, key, value).output
    for head in (0, 1):
        told = json.loads(qkv("explain", 2, *files, "--head", head, "-f", "json").out)
        assert told["head"] == head
        np.testing.assert_allclose(told["output"], expected[head, 2])
        found = qkvcli.attend(query, key, value).explain(2, head=head)
        assert found.output is not None
        np.testing.assert_allclose(found.output, expected[head, 2])
    for kind in ("table", "markdown", "heatmap", "csv"):
        assert qkv("run", *files, "--head", 1, "-f", kind).code == 0


def test_batches_and_heads(qkv: Program, folder: Path) -> None:
    q = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    np.save("q.npy", q)
    files = ["-q", "q.npy", "-k", "q.npy", "-v", "q.npy"]
    lines = qkv("explain", 1, 2, *files).out.splitlines()
    assert lines[0] == "1 → 2 in 6 matrices; --batch N --head N explains one"
    assert [line.split("  ")[1].strip() for line in lines[1:7]] == [
        f"batch {b}, head {h}" for b in range(2) for h in range(3)
    ]
    told = json.loads(qkv("explain", 1, *files, "--batch", 1, "--head", 2, "-f", "json").out)
    assert (told["batch"], told["head"]) == (1, 2)
    steps = qkvcli.attend(q, q, q)
    assert told["weight"] == pytest.approx(steps.explain(1, head=2, batch=1).weight)
    assert told["weight"] == pytest.approx(steps.weights[1, 2, 1].max())
    some = steps[:2].explain(1, head=2, batch=1)
    assert some.output is not None
    np.testing.assert_allclose(some.output, steps.output[1, 2, 1])
    with pytest.raises(UsageError, match=r"there are batches \(2,\); say which"):
        steps.explain(1, head=2)
    deep = qkvcli.attend(q[None], q[None], q[None]).explain(1, head=2, batch=(0, 1))
    assert deep.place == (0, 1, 2)
    assert deep.weight == pytest.approx(told["weight"])


def test_float16_hides_no_key_by_its_rounding(qkv: Program, folder: Path) -> None:
    """A score that float16 cannot hold is −inf there; the softmax is taken before that."""
    np.save("q.npy", np.array([[-300.0]], "f2"))
    np.save("k.npy", np.array([[300.0], [299.0], [240.0]], "f2"))
    files = ["-q", "q.npy", "-k", "k.npy", "-v", "k.npy"]
    shown = qkv("explain", 0, *files).out
    assert shown.startswith("0 → 2: weight 1.0000, the largest of 3;")
    table = qkv("softmax", *files[:4], "--causal", "--offset", 9, "-f", "table").out
    assert "0  0.0000  0.0000 *1.0000  → 2 100%" in table
    picture = qkv("softmax", *files[:4], "--causal", "--offset", 9, "-f", "heatmap").out
    assert "no number" not in picture


def test_what_there_is_nothing_to_say_of(qkv: Program, folder: Path) -> None:
    np.save("q.npy", np.ones((1, 4)))
    np.save("k.npy", np.ones((0, 4)))
    for more in ([], ["-f", "json"], ["-f", "markdown"]):
        empty = qkv("explain", 0, "-q", "q.npy", "-k", "k.npy", *more)
        assert (empty.code, empty.err) == (3, "qkvcli: there are no keys to explain a weight of\n")
    no_query = qkv("explain", 0, "-q", "k.npy", "-k", "q.npy")
    assert (no_query.code, no_query.err) == (2, "qkvcli: there is no query '0'; there are none\n")
    for text in ("0" * 5000, "000000000000000000999", f"The#{'1' * 5000}"):
        wrong = qkv("explain", text)
        assert wrong.code == 2
        assert len(wrong.err) < 200
    Path("s.csv").write_text("0,1,-inf\n")
    given = qkv("explain", 0, 2, "--scores", "s.csv").out
    assert given.startswith("0 → 2: weight 0, since 2 is hidden\n")
    assert "hidden: its score is -inf" in given


def test_values_of_any_size_have_their_shares(qkv: Program) -> None:
    query, key = np.ones((1, 1)), np.zeros((2, 1))
    for size in (1e-200, 1.0, 1e200):
        found = qkvcli.attend(query, key, size * np.array([[3.0], [1.0]])).explain(0)
        assert found.shares is not None
        np.testing.assert_allclose(found.shares, [0.75, 0.25])
    endless = np.array([[np.inf, 1], [0, 1]])
    assert "nan" not in str(qkvcli.attend(query, key, endless).explain(0))


def test_names_are_one_tokens_each() -> None:
    names = Names(("the", "the", "the#1", "7"), 4)
    assert list(names) == ["the#1", "the#2", "the#1#1", "7"]
    assert [names.find(name, "key") for name in names] == [0, 1, 2, 3]
    chosen = Names(("3", "4"), 2)  # rows that were chosen have their numbers
    assert chosen.find("3", "query") == 0
    with pytest.raises(UsageError, match="there is no query '0'; the labels are 3, 4"):
        chosen.find("0", "query")
    steps = qkvcli.attend(np.eye(3), np.eye(3), np.eye(3), labels="2 1 0")
    assert (steps.explain(0).query.name, steps.explain("0").query.name) == ("2", "0")


LABELS = st.lists(st.text("a1#", max_size=4), min_size=1, max_size=8)


@given(LABELS)
def test_any_names_are_one_tokens_each(labels: list[str]) -> None:
    names = Names(tuple(labels), len(labels))
    assert len(set(names)) == len(labels)
    assert [names.find(name, "key") for name in names] == list(range(len(labels)))


def test_hostile_labels_in_an_explanation(qkv: Program, folder: Path) -> None:
    label = "a\x1b[31m\nb|c"
    tokens = {"rows": [label, "d"], "shape": [2, 1], "data": [[1], [2]]}
    Path("q.json").write_text(json.dumps({"query": tokens}))
    Path("k.json").write_text(json.dumps({"key": tokens}))
    files = ["-q", "q.json", "-k", "k.json", "--causal"]
    for words in ([0], [0, "-f", "markdown"], [0, 1], [1, 0]):
        shown = qkv("explain", *words, *files).out
        assert "\x1b" not in shown
        assert "\\x1b[31m" in shown.replace("\\\\", "\\").replace("\\[", "[")
        assert shown.splitlines()[0].strip("*").count("→") == 1


def test_digits_round_json_too(qkv: Program) -> None:
    told = json.loads(qkv("explain", "cat", "--example", "cat", "-f", "json", "--digits", 2).out)
    assert (told["weight"], told["output"]) == (0.63, [0.85, 6.29, 2.35])
    whole = qkv("explain", "cat", "--example", "cat", "--digits", 0).out
    assert whole.startswith("cat → sat: weight 0.6, the largest of 6; equal shares would be 0.2\n")


def test_an_overview_as_markdown(qkv: Program) -> None:
    page = qkv("explain", "cat", "mat", "--example", "gpt", "-f", "markdown").out
    assert page.startswith("**cat → mat in 9 heads; --head N explains one**\n")
    assert "|  | weight |  |\n" in page
    assert "|  | weight | of output |\n" in qkv("explain", "cat", "-f", "markdown").out
    assert "| head 8 | 0.0000 | hidden by the causal mask |" in page


def test_scores_of_one_head_know_the_width_by_the_number_of_heads(
    qkv: Program, folder: Path
) -> None:
    """``--heads`` beside scores says how wide a head of the query is, and splits nothing."""
    words = ["-q", SAMPLES / "bert/query.npy", "--heads", 12, "--preset", "bert"]
    whole = ["-k", SAMPLES / "bert/key.npy", "--head", 6]
    one = qkv("scores", *words[:4], *whole, "-f", "npy").data
    weights = np.load(io.BytesIO(qkv("softmax", "-", *words, "-f", "npy", stdin=one).data))
    np.testing.assert_allclose(weights, np.load(SAMPLES / "bert/weights.npy")[[6]], atol=1e-5)
    np.save("s.npy", np.load(io.BytesIO(one)))
    told = qkv("explain", 2, "--scores", "s.npy", *words, "-f", "json")
    assert json.loads(told.out)["weight"] == pytest.approx(float(weights[0, 2].max()))


@pytest.mark.parametrize("kind", ["table", "markdown"])
def test_hostile_columns_in_an_explanation(qkv: Program, folder: Path, kind: str) -> None:
    Path("q.csv").write_text('token,"\x1b[31mA","b\nc"\na,1,2\nb,2,1\n')
    shown = qkv("explain", "a", "-q", "q.csv", "-k", "q.csv", "-v", "q.csv", "-f", kind).out
    assert "\x1b" not in shown
    assert "b\nc" not in shown
    assert "A" in shown


def test_ascii_keeps_to_the_screen_too(qkv: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    for words in ("0 --example bert", "cat sat --example bert --head 6", "mat --example gpt"):
        lines = qkv("explain", *words.split()).out.splitlines()
        assert max(map(len, lines)) <= 80


def test_the_golden_explanation_of_wide_vectors(qkv: Program) -> None:
    words = ["explain", "mat", "The", "--example", "gpt", "--head", 4, "--offset", -1]
    assert qkv(*words).out == WIDE


def test_the_golden_json(qkv: Program) -> None:
    words = ["explain", "cat", "mat", "--example", "cat", "--preset", "bert", "--causal"]
    told = json.loads(qkv(*words, "-f", "json", "--digits", 4).out)
    ranks = [("cat", 1, 1.0, 0.7311, 1.0), ("The", 0, 0.0, 0.2689, 0.0), ("mat", 5, "-inf", 0.0, 0)]
    assert list(told.items()) == [
        ("query", {"name": "cat", "number": 1}),
        ("key", {"name": "mat", "number": 5}),
        ("weight", 0.0),
        ("rank", None),
        ("keys", 6),
        ("seen", 2),
        ("equal_share", 0.5),
        ("columns", ["article", "animal", "action", "place"]),
        ("q", [0.0, 1.0, 2.0, 1.0]),
        ("k", [0.0, 0.0, 0.0, 3.0]),
        ("products", [0.0, 0.0, 0.0, 3.0]),
        ("score", 3.0),
        ("steps", [{"name": "scaled", "value": 1.5}]),
        ("hidden_by", ["causal mask"]),
        ("shift", 0.0),
        ("numerator", 0.0),
        ("denominator", 3.7183),
        (
            "strongest",
            [
                dict(zip(("name", "number", "score", "weight", "share"), rank, strict=True))
                for rank in ranks
            ],
        ),
        ("rest", {"keys": 0, "weight": 0.0, "share": 0.0}),
        ("output", [7.3106, 0.0, 0.0]),
    ]
    many = qkvcli.attend(np.ones((1, 1)), np.arange(12.0)[:, None], np.ones((12, 1)))
    told = explained(many.explain(0))
    assert [key["number"] for key in told["strongest"]] == list(range(11, 1, -1))
    assert told["rest"]["keys"] == 2
    deep = np.ones((2, 3, 4, 1, 1))
    assert explained(qkvcli.attend(deep, deep, deep).explain(0, head=3, batch=(1, 2)))["batch"] == [
        1,
        2,
    ]


def test_what_made_the_vectors_and_in_which_dtype(qkv: Program) -> None:
    shown = qkv("explain", 0, "--example", "karim").out
    assert "1  score = q(0)·k(1), q = X·Wq, k = X·Wk\n" in shown
    assert "3  output(0) = 0.4683·v(1) + 0.4683·v(2) + …, v = X·Wv\n" in shown
    words = ["explain", "cat", "--example", "cat", "--width", 99]
    seen = " = 54.60 / 86.79 = 0.6291"
    assert f"{seen}\n" in qkv(*words).out
    assert f"{seen}, in float32\n" in qkv(*words, "--softmax-dtype", "float32").out
    hidden = qkv(*words[:2], "mat", *words[2:], "--causal", "--softmax-dtype", "float64").out
    assert "a hidden key has e^-inf = 0, in float64\n" in hidden


def explained_lines(query: Any, key: Any, *which: int) -> list[str]:
    """The lines of an explanation of some matrices, the values a unit vector each."""
    keys = np.array(key, float)
    found = qkvcli.attend(np.array(query, float), keys, np.eye(len(keys)))
    return str(found.explain(0, *which)).splitlines()


def test_numbers_are_written_as_they_are(qkv: Program) -> None:
    two = explained_lines([[-1]], [[0], [-1]], 0)
    assert two[0] == "0 → 0: weight 0.2689, the smallest of 2; equal shares would be 0.5000"
    assert "   q×k      0  sum 0" in two  # and not -0
    assert "3  output(0) = 0.7311·v(1) + 0.2689·v(0)" in two  # that is all of it
    large = explained_lines([[4]], [[4], [3.9]])
    assert (
        "2  weight = e^16.0000 / (e^16.0000 + e^15.6000) = 8.886e+06 / 1.484e+07 = 0.5987" in large
    )
    tiny = " ".join(" ".join(explained_lines([[-6]], [[4], [3.9]])).split())
    assert "the largest, -23.4000: e^score itself may vanish, and the shares are the same" in tiny
    huge = " ".join(" ".join(explained_lines([[9]], [[4], [3.9]])).split())
    assert "the largest, 36: e^score itself may overflow, and the shares are the same" in huge
    given = qkv("explain", 0, 0, "--scores", "-", stdin="-0.0,1\n").out
    assert "1  score = 0, as given\n" in given
    endless = explained_lines([[1e200]], [[1e200], [-1]], 0)
    assert "   q×k        inf  sum inf" in endless
    assert "2  weight = e^inf / (e^inf + e^-1e+200) = inf / inf = nan" in endless
    both = explained_lines([[np.inf, 1]], [[1, -np.inf], [0, 0]], 0)
    assert "   q×k     inf  -inf  sum nan" in both
    for digits, power in ((2, "0.3333"), (4, "0.3333"), (6, "0.333333")):
        words = ["explain", 0, "--scores", "-", "--digits", digits]
        assert f" = e^{power} / (e^{power} + e^0)" in qkv(*words, stdin="0.33333333,0\n").out


@pytest.mark.parametrize(("keys", "written", "more"), [(8, 8, ""), (9, 3, "+ … 6 more)")])
def test_a_sum_of_up_to_8_powers_is_written_out(keys: int, written: int, more: str) -> None:
    lines = explained_lines([[1]], [[0.5]] + [[0]] * (keys - 1))
    text = " ".join(" ".join(lines).split())
    total = text[text.index("(e^") : text.index(") = ") + 1]
    assert total.count("e^") == written
    assert total.endswith(more)


def test_as_text_it_is_as_wide_as_80_columns(qkv: Program) -> None:
    query, key, value = (
        np.loadtxt(SAMPLES / "cat_sat_mat" / f"{name}.csv", str, delimiter=",")[1:, 1:].astype(
            float
        )
        for name in ("query", "key", "value")
    )
    found = qkvcli.attend(query, key, value, labels="The cat sat on the mat").explain("cat", "sat")
    named = re.sub("article|animal  action|action|animal|place", "", CAT)
    lines = str(found).splitlines()
    assert len(lines) == len(named.rstrip().splitlines())
    assert lines[0] == CAT.splitlines()[0]
    assert lines[7:11] == CAT.splitlines()[7:11]
    assert max(map(cell_len, lines)) <= 80


def test_bars_take_the_room_that_there_is(qkv: Program, folder: Path) -> None:
    np.save("q.npy", np.ones((1, 1)))
    words = ["explain", 0, "-q", "q.npy", "-k", "q.npy"]
    drawn = {width: qkv(*words, "--width", width).out for width in range(12, 81)}
    lengths = {shown.count("█") for shown in drawn.values()}
    assert lengths == {0, *range(4, 41)}  # of a share of 1; none of fewer than 4 columns
    for width, shown in drawn.items():
        if 0 < shown.count("█") < 40:
            assert max(map(len, shown.splitlines()[1:])) == width


def test_an_overview_says_of_each_head_what_there_is_to_say(qkv: Program, folder: Path) -> None:
    nobody = qkv("explain", "The", "--example", "gpt", "--offset", -1).out.splitlines()
    assert [line.split("  ")[-1].strip() for line in nobody[1:10]] == ["sees no key"] * 9
    q = np.zeros((2, 1, 2))
    q[:, 0] = [[1, 0], [0, 1]]
    np.save("q.npy", q)
    np.save("k.npy", np.broadcast_to(np.eye(2), (2, 2, 2)))
    shown = qkv("explain", 0, "-q", "q.npy", "-k", "k.npy").out.splitlines()
    assert shown[0] == "0, and the key that weighs most, in 2 heads; --head N explains one"
    assert [line.split()[:5] for line in shown[1:3]] == [
        ["head", str(h), "→", str(h), "0.7311"] for h in (0, 1)
    ]
    assert all(line.endswith("  largest of 2") for line in shown[1:3])
    k = np.ones((2, 2, 2))
    k[1] = np.nan
    np.save("k.npy", k)
    odd = qkv("explain", 0, 1, "-q", "q.npy", "-k", "k.npy").out.splitlines()
    assert odd[0].startswith("0 → 1 in 2 heads")
    assert odd[2].split() == ["head", "1", "nan"]
    np.save("s.npy", np.array([[[0, -np.inf]], [[1, 2]]]))
    given = qkv("explain", 0, 1, "--scores", "s.npy").out.splitlines()
    assert given[1].endswith("  hidden")
    assert given[2].endswith("  largest of 2")


def test_a_name_in_other_letters_is_found_again() -> None:
    with pytest.raises(UsageError, match=r"no key 'THE'; did you mean The\?$"):
        Names(("The", "cat"), 2).find("THE", "key")
    labels = tuple(f"token{i}" for i in range(21))
    with pytest.raises(UsageError, match=r"token19 and 1 more$"):
        Names(labels, 21).find("x", "query")
    with pytest.raises(UsageError, match=r"token19$"):
        Names(labels[:20], 20).find("x", "query")
    five = Names(("a",) * 5, 5)
    with pytest.raises(UsageError, match=r"5 tokens are called 'a'; say a#1 or a#2 or a#3 or a#4$"):
        five.find("a", "query")
    assert (five[-1], next(reversed(five))) == ("a#5", "a#5")
    for i in (5, -6):
        with pytest.raises(IndexError):
            five[i]
    with pytest.raises(UsageError, match="there is no key '1'; there are none"):
        Names(None, 0).find("1", "key")


def test_a_page_is_the_same_on_every_screen(qkv: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["explain", "cat", "--example", "bert", "--head", 6, "-f", "markdown"]
    page = qkv(*words).out
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LC_ALL", "C")
    assert qkv(*words).out == qkv(*words, "--width", 80).out == page
    assert len(qkv(*words, "--width", 60).out) < len(page)
    assert re.findall(r"[^\n]\n\n\*\*(\d)", page) == ["1", "2", "3"]


def test_labels_and_headings_have_their_colours(
    qkv: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    lines = qkv("explain", "cat", "sat", "--example", "cat", "--preset", "bert").out.splitlines()
    assert [i for i, line in enumerate(lines) if line.startswith("\x1b[1m")] == [0, 1, 7, 8, 13]
    assert lines[2] == "   \x1b[35m        article  animal  action  place\x1b[0m"
    assert lines[3] == "   \x1b[35mq(cat)\x1b[0m        0       1       2      1"
    assert lines[6] == "   scaled 4 × 1/√4 = 2"
    assert lines[9].startswith("   \x1b[35msat   \x1b[0m  0.")


def test_long_names_are_cut_alike(qkv: Program) -> None:
    words = ["explain", 0, 1, "--seed", 1, "--dim", 3, "--labels", f"{'x' * 30} y", "--width", 60]
    lines = qkv(*words).out.splitlines()
    assert lines[0].startswith("xxxxxxxxxxx… → y: weight 0.")
    assert lines[2] == "1  score = q(xxxxxxxxxxx…)·k(y)"
    assert lines[4].startswith("   q(xxxxxxxxxxx…)  0.")
    assert lines[7].startswith("   sum 0.")
    assert lines[-1] == ""
    assert any(line.startswith("   xxxxxxxxxxxxxx…  0.") for line in lines)


def test_many_small_weights_are_summed_exactly() -> None:
    ones = np.ones((3000, 1), np.float16)
    found = qkvcli.attend(ones[:1], ones, ones).explain(0)
    rest = explained(found)["rest"]
    assert rest["keys"] == 2990
    assert rest["weight"] == pytest.approx(math.fsum(found.weights.tolist()[10:]), rel=1e-12)
    others = math.fsum(found.weights.tolist()[3:])
    assert f"2,997 more {others:.4f} " in re.sub(" +", " ", str(found))


def test_what_is_no_number_is_shown_first() -> None:
    """Of wide vectors only some columns fit: the largest, and before them what is no number."""
    query, key = np.ones((1, 40)), np.full((2, 40), 0.5)
    value = np.full((2, 40), 0.25)
    key[1, 33], value[0, 35] = 7, 9
    found = qkvcli.attend(query, key, value)
    lines = str(found.explain(0, 1)).splitlines()
    headers = [line.split() for line in lines if line.startswith("   column")]
    assert [header[1] for header in headers] == ["33", "35"]
    key[0, 31], value[1, 37] = np.nan, np.nan
    odd = str(qkvcli.attend(query, key, value).explain(0, 0)).splitlines()
    headers = [line.split() for line in odd if line.startswith("   column")]
    assert headers[0][1] == "31"
    whole = str(qkvcli.attend(query, np.ones((2, 40)), value).explain(0, 0)).splitlines()
    headers = [line.split() for line in whole if line.startswith("   column")]
    assert headers[1][1:3] == ["37", "35"]
    assert headers[1][-3] == "…"


def test_what_is_said_of_equal_weights_and_of_a_mask(qkv: Program, folder: Path) -> None:
    assert ", as large as any of 3;" in explained_lines([[0]], [[1], [2], [3]])[0]
    tied = qkv("explain", 2, "--example", "tensorflow").out
    assert "91% of output" in tied
    assert "a key adds" not in tied  # since none weighs more, as far as one can see
    np.save("m.npy", np.array([[True, False]]))
    np.save("q.npy", np.ones((1, 2)))
    np.save("k.npy", np.ones((2, 2)))
    masked = qkv("explain", 0, 1, "-q", "q.npy", "-k", "k.npy", "--mask", "m.npy").out
    assert "   hidden by the mask\n" in masked


# Whole layers


def of_head(steps: Any, side: str, layer: dict[str, Any], head: int, row: int) -> Any:
    """A query or a key of one head, as it was before it was turned."""
    count = layer["heads" if side == "query" else "kv_heads"]
    own = head // (layer["heads"] // count)
    step = steps.get(f"{side}_normed", steps[side])
    if step.array.ndim > 2:
        return step[own, row]
    return np.split(step[row], count)[own]


def turned(vector: Any, layer: dict[str, Any], position: int) -> Any:
    """A vector turned by a position, each pair as one complex number."""
    if "rope" not in layer:
        return vector
    width = layer.get("rope_dim", len(vector))
    pairs = np.arange(width).reshape(2, -1)
    if layer.get("rope_pairs") == "interleaved":
        pairs = np.arange(width).reshape(-1, 2).T
    angles = position * layer["rope"] ** (-2 * np.arange(width // 2) / width)
    found = vector.copy()
    points = (vector[pairs[0]] + 1j * vector[pairs[1]]) * np.exp(1j * angles)
    found[pairs[0]], found[pairs[1]] = points.real, points.imag
    return found


def check_vectors(found: Any, layer: dict[str, Any], steps: Any, head: int) -> None:
    """Both vectors are turned by the positions that are told, but for one of a cache."""
    past = len(layer["past_key"][0]) if "past_key" in layer else 0
    query, key = (found.query.number, found.key.number)
    assert (found.positions is not None) == ("rope" in layer)
    at, other = found.positions or (0, 0)
    mine = turned(of_head(steps, "query", layer, head, query), layer, at)
    np.testing.assert_allclose(found.query_vector, mine, atol=1e-9)
    assert found.past == past
    if key >= past:
        theirs = turned(of_head(steps, "key", layer, head, key - past), layer, other)
        np.testing.assert_allclose(found.key_vector, theirs, atol=1e-9)
    else:
        own = layer["past_key"][head // (layer["heads"] // layer["kv_heads"])]
        assert found.key_vector.tolist() == own[key].tolist()
        assert other == (key if "rope" in layer else 0)


def check_weight(found: Any, layer: dict[str, Any], steps: Any, head: int) -> None:
    """The weight is a part of the sum of the powers, and all weights are 1 with the sink's."""
    query, key = (found.query.number, found.key.number)
    last = steps[steps.names.index("weights") - 1]
    chain = [found.score, *(link.after for link in found.links)]
    assert found.hidden or chain[-1] == pytest.approx(last[head, query, key])
    assert [link.before for link in found.links] == chain[:-1]
    assert found.weight == pytest.approx(steps.weights[head, query, key], abs=1e-12)
    whole = found.total or 1.0
    np.testing.assert_allclose(found.powers / whole, steps.weights[head, query], atol=1e-12)
    assert found.sink == (layer["sinks"][head] if "sinks" in layer else None)
    shared = found.weights.sum() + (found.sink_weight or 0.0)
    assert shared == pytest.approx(1.0 if found.seen or "sinks" in layer else 0.0)
    told = explained(found)
    assert found.weight == pytest.approx(told["numerator"] / (told["denominator"] or 1), abs=1e-12)


@settings(max_examples=100)
@given(layers(), st.data())
def test_an_explanation_of_a_layer_is_of_what_attend_computes(
    layer: dict[str, Any], data: Any
) -> None:
    steps = qkvcli.attend(**layer)
    heads, queries, keys = steps.weights.shape
    query, key = (data.draw(st.integers(0, n - 1)) for n in (queries, keys))
    explanations = [steps.explain(query, key, head=head) for head in range(heads)]
    for head, found in enumerate(explanations):
        check_vectors(found, layer, steps, head)
        check_weight(found, layer, steps, head)
        assert found.output is not None
        np.testing.assert_allclose(found.added_by(np.arange(keys)), found.output, atol=1e-12)
        for width in (40, 80):
            lines = plain_text(parts(found, Room(width)), Room(width)).splitlines()
            assert [line for line in lines if cell_len(line) > width] == []
    finished: list[Any] = [one.finish for one in explanations]
    outputs = np.concatenate([one.output for one in explanations])
    np.testing.assert_allclose(outputs, steps.output[query], atol=1e-12)
    if "gate" in layer:
        gated = np.concatenate([one.gated for one in finished])
        np.testing.assert_allclose(gated, steps["gated"][query], atol=1e-12)
        gates = [one.gate * found.output for one, found in zip(finished, explanations, strict=True)]
        np.testing.assert_allclose(np.concatenate(gates), gated, atol=1e-12)
    if "wo" in layer:
        whole = np.sum([one.projected for one in finished], axis=0) + layer.get("bo", 0)
        np.testing.assert_allclose(whole, steps["projected"][query], atol=1e-12)
        assert all(one.of_many for one in finished)


def layer_words(name: str, *words: object) -> list[object]:
    return ["explain", *words, *words_of(name), "--batch", 0, "--head", 1]


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("width", [40, 80, 120])
def test_each_module_is_explained(qkv: Program, name: str, width: int) -> None:
    shown = qkv(*layer_words(name, 0, "--width", width))
    assert (shown.code, shown.err) == (0, "")
    assert max(map(cell_len, shown.out.splitlines())) <= width
    assert re.findall(r"^\d  \w+", shown.out, re.M)[3:] == (
        ["4  gated", "5  projected"] if name == "qwen3_next" else ["4  projected"]
    )
    told = json.loads(qkv(*layer_words(name, 0, "-f", "json")).out)
    with np.load(file_of(name)) as module:
        own = module["weights"][0, 1, 0]
        np.testing.assert_allclose(told["output"], module["output"][0, 0, 16:32], atol=1e-5)
    assert told["weight"] == pytest.approx(own.max(), abs=1e-6)
    assert told["numerator"] / told["denominator"] == pytest.approx(own.max(), abs=1e-6)
    rest = 1 - float(own.sum())
    assert told.get("sink", {"weight": 0})["weight"] == pytest.approx(rest, abs=1e-5)


def test_where_a_query_and_a_key_stand(qkv: Program) -> None:
    qwen = qkv(*layer_words("qwen3", 4, 1)).out
    assert "1  score = q(4)·k(1)\n" in qwen
    assert (
        "   q = X·Wq → q / rms(q) × w → rotate(q by position, base 10000), at position 4\n" in qwen
    )
    assert (
        "   k = X·Wk → k / rms(k) × w → rotate(k by position, base 10000), at position 1\n" in qwen
    )
    apart = "only the difference between their rotations matters"
    assert f"k(1) stands 3 before q(4): {apart}" in " ".join(qwen.split())
    assert "   k(5) stands 1 after q(4): only" in qkv(*layer_words("qwen3", 4, 5)).out
    alone = qkv(*layer_words("qwen3", 4, 4)).out
    assert "   both stand at one position: they are turned alike\n" in alone
    narrow = qkv(*layer_words("bloom", 4, 1, "--width", 40)).out
    assert "1  score = q(4)·k(1)\n   q = X·Wq + bq\n   k = X·Wk + bk\n   column" in narrow
    cached = qkv(*layer_words("mistral_cache", 0, 2)).out
    assert "   q = X·Wq → rotate(q by position, base 10000), at position 10\n" in cached
    assert "   k is from the cache, turned already, at position 2\n" in cached
    assert "v = X·Wv after the cache\n" in cached
    new = qkv(*layer_words("mistral_cache", 0, 10)).out
    assert "   k = X·Wk → rotate(k by position, base 10000), at position 10\n" in new
    told = json.loads(qkv(*layer_words("mistral_cache", 0, 2, "-f", "json")).out)
    assert told["positions"] == {"query": 10, "key": 2}
    x, past = np.ones((2, 2)), np.ones((1, 2))
    plain = qkvcli.attend(x, x, x, wk=np.eye(2), wv=np.eye(2), past_key=past, past_value=past)
    assert "1  score = q(1)·k(0), k is from the cache\n" in str(plain.explain(1, 0))
    assert "1  score = q(1)·k(2), k = X·Wk\n" in str(plain.explain(1, 2))
    assert plain.explain(1, 0).positions is None


def test_rows_that_were_chosen_stand_where_they_stood() -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 4))
    steps = qkvcli.attend(x, x, x, rope=100.0, clip=1, rows="2:", labels="a b c d e")
    found = steps.explain("d", "b", head=1)
    assert (found.query.number, found.positions) == (1, (3, 1))
    assert found.made_by["value"] == "clip(V, ±1)"
    split = np.concatenate([x, x], axis=-1)
    steps = qkvcli.attend(split, split, split, rope=100.0, heads=2, rows=[3], valid_length=(5, 3))
    both = [steps.explain(0, 1, head=1, batch=batch) for batch in (0, 1)]
    assert [found.positions for found in both] == [(3, 1), (1, -1)]
    assert both[1].made_by == {
        "query": "rotate(Q by position, base 100)",
        "key": "rotate(K by position, base 100)",
    }


def test_each_step_is_made_of_the_one_before(qkv: Program) -> None:
    rng = np.random.default_rng(0)
    x, norm = rng.normal(size=(2, 4)), np.ones(4)
    options: dict[str, Any] = {"q_norm": norm, "norm": "layer", "rope": 9.0, "offset": 3}
    found = qkvcli.attend(x, x, x, wv=np.eye(4), **options).explain(1, 0)
    assert found.made_by == {
        "query": "(Q − mean) / std × w → rotate(q by position, base 9)",
        "key": "rotate(K by position, base 9)",
        "value": "X·Wv",
    }
    assert found.positions == (4, 3)
    shown = qkv(*layer_words("persimmon", 4, 2, "--width", 120)).out
    steps = "q = X·Wq + bq → (q − mean) / std × w + b → rotate(q by position, base 25000, first 8"
    assert f"   {steps} columns), at position 4\n" in shown


def test_alibi_is_written_with_its_numbers(qkv: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = qkv(*layer_words("bloom", 4, 1)).out
    found = re.search(r"   biased (-?[\d.]+) \+ 0\.0625·\(1 − 4\) = (-?[\d.]+)\n", shown)
    assert found is not None
    assert float(found[1]) - 3 / 16 == pytest.approx(float(found[2]), abs=1e-4)
    ahead = qkv("explain", "cat", "sat", "--alibi", "--offset", -3).out
    assert " + 0.00390625·(2 + 2) = " in ahead
    monkeypatch.setenv("LC_ALL", "C")
    assert " + 0.0625.(1 - 4) = " in qkv(*layer_words("bloom", 4, 1)).out


def test_a_mask_is_written_with_its_number() -> None:
    found = qkvcli.attend([[2.0]], [[1.0], [3.0]], [[1.0], [2.0]], mask=[[-0.5, -np.inf]])
    assert "   masked 2 + -0.5 (mask) = 1.5000\n" in str(found.explain(0, 0))
    assert "   hidden by the mask\n" in str(found.explain(0, 1))


def sunk(*scores: float, sink: float, **options: Any) -> Any:
    """The explanation of one query's largest weight, beside a sink."""
    keys = np.array(scores)[:, None]
    values = np.eye(len(keys))
    return qkvcli.attend(np.ones((1, 1)), keys, values, sinks=[sink], **options).explain(0)


def test_a_sink_is_a_part_of_the_sum() -> None:
    found = sunk(1, 2, sink=0.5)
    total = math.e + math.e**2 + math.e**0.5
    assert (found.total, found.weight) == pytest.approx((total, math.e**2 / total))
    assert found.sink_weight == pytest.approx(math.e**0.5 / total)
    lines = str(found).splitlines()
    first = "0 → 1: weight 0.6285, the largest of 2; equal shares with the sink would be 0.3333"
    assert " ".join(" ".join(lines).split()).startswith(f"{first} 1 score")
    assert (
        "2  weight = e^2.0000 / (e^1.0000 + e^2.0000 + e^0.5000 (sink)) = 7.389 / 11.76 =" in lines
    )
    assert [line.split()[:2] for line in lines if line.startswith("   sink")] == [
        ["sink", "0.1402"]
    ]
    assert explained(found)["equal_share"] == 1 / 3
    assert explained(found)["sink"] == pytest.approx({"score": 0.5, "weight": found.sink_weight})
    many = str(sunk(*range(9), sink=4))
    assert "(e^8 + e^7 + e^6 + … 6 more + e^4 (sink))" in many
    assert "the only key that it sees besides the sink" in " ".join(str(sunk(1, sink=2)).split())


def test_the_largest_score_may_be_the_sinks() -> None:
    found = sunk(710, 711, sink=712)
    assert found.shift == 712
    assert found.weight == pytest.approx(math.exp(-1) / (1 + math.exp(-1) + math.exp(-2)))
    text = " ".join(str(found).split())
    assert "e^-1 / (e^-2 + e^-1 + e^0 (sink)) = 0.3679 / 1.503 = 0.2447" in text
    assert "the exponents are the scores less the largest, 712: e^score itself may overflow" in text
    small = sunk(-700, sink=-60)
    assert (small.shift, small.weight) == (-60, pytest.approx(math.exp(-640)))
    above = sunk(0.25, sink=100)
    assert above.weight == pytest.approx(math.exp(-99.75))
    assert above.rank == 1


def test_a_sink_alone_leaves_nothing() -> None:
    nobody = sunk(1, 2, sink=0.5, mask=[[False, False]])
    assert str(nobody).startswith("0 sees no key: its weights and its output are zeros\n")
    assert "sink" not in str(nobody)
    assert (nobody.sink_weight, nobody.equal_share) == (1.0, 0.0)
    assert explained(nobody)["denominator"] == pytest.approx(math.e**0.5)
    assert sunk(1, 2, sink=-math.inf).weight == pytest.approx(1 / (1 + math.exp(-1)))
    lost = str(sunk(1, 2, sink=math.nan)).splitlines()[0]
    assert lost == "0 → 0: weight nan, since there is a NaN among the scores"
    for sink in (math.inf, 1e5):
        told = " ".join(str(sunk(1, 2, sink=sink)).split())
        assert told.startswith("0 → 0: weight 0.0000, as large as any of 2;"), told
        assert "sink 1.0000" in told


@pytest.mark.parametrize("sink", [None, 18.003])
def test_the_powers_are_of_the_scores_that_the_softmax_takes(sink: float | None) -> None:
    """Rounded to float16, a score of 18.3816 is 18.375: its power is 0.7% less."""
    query, key = np.array([[18.3816]]), np.array([[1.0], [0.99]])
    options: dict[str, Any] = {} if sink is None else {"sinks": [sink]}
    found = qkvcli.attend(query, key, key, softmax_dtype="float16", **options).explain(0)
    assert found.scores.tolist() == [18.375, 18.203125]
    assert found.sink == (None if sink is None else 18.0)
    told = explained(found)
    assert told["numerator"] / told["denominator"] == pytest.approx(found.weight, rel=2**-10)


def test_a_gate_and_what_follows_it(qkv: Program) -> None:
    shown = qkv(*layer_words("qwen3_next", 4)).out
    part = shown.split("4  gated(4) = output(4) × gate, gate = sigmoid(X·Wg)\n")[1]
    labels = ["column", "output(4)", "gate", "gated(4)"]
    assert [line.split()[0] for line in part.splitlines()[:4]] == labels
    output, gate, gated = ([float(x) for x in line.split()[1:]] for line in part.splitlines()[1:4])
    np.testing.assert_allclose(np.multiply(output, gate), gated, atol=2e-4)
    assert "5  projected(4) = gated(4)·Wo, with this head's rows of Wo\n" in part
    assert part.endswith("   what this head adds: the sum over all heads is the layer's output\n\n")
    rng = np.random.default_rng(0)
    x, square = rng.normal(size=(3, 4)), rng.normal(size=(4, 4))
    by_head = qkvcli.attend(x, x, x, wq=square, gate=square[:, :1], heads=1).explain(0, head=0)
    share = 1 / (1 + math.exp(-float(x[0] @ square[:, 0])))
    assert by_head.finish.gate is not None
    assert by_head.finish.gate.tolist() == [pytest.approx(share)]
    heading = f"4  gated(0) = output(0) × {share:.4f}, the head's sigmoid(X·Wg)\n"
    assert heading in str(by_head)
    assert "gated" in explained(by_head)
    assert "projected" not in explained(by_head)


def test_a_projection_without_heads_is_the_whole(qkv: Program, folder: Path) -> None:
    rng = np.random.default_rng(0)
    x, wo, bo = rng.normal(size=(3, 4)), rng.normal(size=(4, 2)), np.array([1.0, np.inf])
    steps = qkvcli.attend(x, x, x, wo=wo, bo=bo)
    found = steps.explain(1)
    assert found.finish.projected is not None
    assert found.finish.projected.tolist() == steps["projected"][1].tolist()
    assert not found.finish.of_many
    lines = str(found).split("4  projected(1) = output(1)·Wo + bo\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == ["column", "output(1)·Wo", "bo", "projected(1)"]
    assert lines[2].split()[1:] == ["1.0000", "inf"]
    bare = qkvcli.attend(x, x, x, wo=wo).explain(1)
    tail = str(bare).splitlines()[-3:]
    assert tail[0] == "4  projected(1) = output(1)·Wo"
    assert [line.split()[0] for line in tail[1:]] == ["column", "projected(1)"]
    heads = qkvcli.attend(x, x, x, heads=2, wo=wo, bo=np.ones(2)).explain(1, head=0)
    assert "what this head adds: the sum over all heads, and bo, is the layer's output" in str(
        heads
    )


def test_layers_in_an_overview_on_pages_and_in_notebooks(qkv: Program, folder: Path) -> None:
    many = qkv(*layer_words("gpt_oss_window", 4)[:-2]).out.splitlines()
    assert many[0] == "4, and the key that weighs most, in 4 heads; --head N explains one"
    assert len(many) == 6
    page = qkv(*layer_words("gpt_oss_window", 4, "-f", "markdown")).out
    assert "| sink | 0.2097 |  |\n" in page
    assert "**4  projected(4) = output(4)·Wo, with this head's rows of Wo**\n" in page
    found = sunk(1, 2, sink=0.5)
    assert "e<sup>0.5000</sup> (sink))" in found._repr_html_()
    assert repr(found).startswith("Explanation(0 → 1: weight 0.6285, the largest of 2;")
    qkv(*layer_words("gpt_oss_window", 4, "-f", "json", "-o", "e.json"))
    assert json.loads(Path("e.json").read_text())["sink"]["weight"] == pytest.approx(
        0.2097, abs=1e-4
    )
