"""What real models do: heads, groups, masks, windows, caches, projections, precision."""

import json
import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qkvcli
from qkvcli.core.config import AttentionConfig
from qkvcli.core.fitting import problem_of
from qkvcli.core.operands import Input, Operand, Operands
from qkvcli.errors import DataError, ShapeError, UsageError
from tests import oracle
from tests.conftest import SAMPLES, Program

BERT = ("query", "key", "value", "weights", "output")


@st.composite
def problems(draw: Any) -> dict[str, Any]:
    """Arrays with a head axis, and any of the options that hide keys or bend scores."""
    groups, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    n, m, d, d_v, past = (draw(st.integers(low, 4)) for low in (1, 1, 1, 1, 0))
    # drawn number by number they would be mostly alike, and so would the weights
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def drawn(*shape: int) -> Any:
        return rng.normal(scale=2, size=shape)

    problem = {
        "query": drawn(groups * group, n, d),
        "key": drawn(groups, m, d),
        "value": drawn(groups, m, d_v),
    }
    if past:
        problem |= {"past_key": drawn(groups, past, d), "past_value": drawn(groups, past, d_v)}
    keys, heads = past + m, groups * group
    kind = draw(st.sampled_from(["none", "seen", "bias"]))
    shapes = [(n, keys), (heads, n, keys), (heads, 1, keys), (1, n, keys), (n, 1), (keys,)]
    shape = draw(st.sampled_from(shapes))
    if kind == "seen":
        problem["mask"] = rng.random(shape) < 0.7
    elif kind == "bias":
        problem["mask"] = np.where(rng.random(shape) < 0.7, drawn(*shape), -math.inf)
    sides = st.none() | st.integers(0, 3)
    optional = {
        "scale": st.sampled_from(["sqrt", 0.3]),
        "softcap": st.floats(0.5, 9),
        "causal": st.booleans(),
        "window": st.tuples(sides, sides),
        "offset": st.integers(-3, 5),
        "valid_length": st.integers(0, keys),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(optional))))
    return {**problem, **{name: draw(optional[name]) for name in sorted(chosen)}}


def expected(problem: dict[str, Any]) -> Any:
    """The oracle's weights and outputs, head by head."""
    query = problem["query"]
    key, value = (
        np.concatenate([problem.get(f"past_{name}", problem[name][:, :0]), problem[name]], axis=1)
        for name in ("key", "value")
    )
    n, keys = query.shape[1], key.shape[1]
    length: Any = problem.get("valid_length", keys)
    default = length - n if "valid_length" in problem else keys - problem["key"].shape[1]
    offset: Any = problem.get("offset", default)
    left, right = problem.get("window") or (None, None)
    mask = problem.get("mask")
    masks = None if mask is None else np.broadcast_to(mask, (len(query), n, keys))

    def seen(h: int, i: int, j: int) -> bool:
        place = i + offset
        return (
            j < length
            and (not problem.get("causal") or j <= place)
            and (left is None or j >= place - left)
            and (right is None or j <= place + right)
            and (masks is None or masks.dtype != bool or bool(masks[h, i, j]))
        )

    scale = {None: 1.0, "sqrt": 1 / math.sqrt(query.shape[2]), 0.3: 0.3}[problem.get("scale")]
    group = len(query) // len(key)
    heads = [
        oracle.attention(
            query[h].tolist(),
            key[h // group].tolist(),
            value[h // group].tolist(),
            scale=scale,
            cap=problem.get("softcap"),
            bias=None if masks is None or masks.dtype == bool else masks[h].tolist(),
            seen=partial(seen, h),
        )
        for h in range(len(query))
    ]
    return tuple(np.array(parts) for parts in zip(*heads, strict=True))


@given(problems())
def test_every_option_is_what_a_loop_would_do(problem: dict[str, Any]) -> None:
    weights, output = expected(problem)
    steps = qkvcli.attend(**problem)
    np.testing.assert_allclose(steps.weights, weights, atol=1e-12)
    np.testing.assert_allclose(steps.output, output, atol=1e-12)


@given(problems())
def test_heads_side_by_side_are_the_same(problem: dict[str, Any]) -> None:
    """``heads`` splits the last axis as a head axis would have it, and joins the output."""
    groups, heads = len(problem["key"]), len(problem["query"])
    flat = dict(problem)
    for name in ("query", "key", "value", "past_key", "past_value"):
        if name in problem:
            flat[name] = problem[name].swapaxes(0, 1).reshape(problem[name].shape[1], -1)
    whole = qkvcli.attend(**problem)
    steps = qkvcli.attend(**flat, heads=heads, kv_heads=groups)
    np.testing.assert_allclose(steps.weights, whole.weights, atol=1e-12)
    joined = whole.output.swapaxes(0, 1).reshape(len(steps.output), -1)
    np.testing.assert_allclose(steps.output, joined, atol=1e-12)


@given(problems(), st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(0, 7))
def test_what_is_hidden_cannot_be_seen(problem: dict[str, Any], poison: float, key: int) -> None:
    """A key that no query sees may hold anything, in K and in V."""
    keys = problem["key"].shape[1]
    past = problem["past_key"].shape[1] if "past_key" in problem else 0
    mask = problem.get("mask", np.ones(1, bool))
    hidden = np.arange(past + keys) == past + key % keys
    problem["mask"] = np.where(hidden, False if mask.dtype == bool else -math.inf, mask)
    steps = qkvcli.attend(**problem)
    for name in ("key", "value"):
        problem[name] = np.where(hidden[past:, None], poison, problem[name])
    again = qkvcli.attend(**problem)
    np.testing.assert_array_equal(again.weights, steps.weights)
    np.testing.assert_array_equal(again.output, steps.output)


def test_steps_come_in_the_one_order() -> None:
    options: dict[str, Any] = {"scale": 2, "softcap": 3, "causal": True, "window": (1, None)}
    steps = qkvcli.attend(*np.ones((3, 2, 2)), **options, mask=np.zeros((2, 2)), valid_length=2)
    assert [f"{step.name} = {step.formula}" for step in steps] == [
        "scores = Q·Kᵀ",
        "scaled = scores × 2",
        "capped = 3·tanh(scaled / 3)",
        "masked = capped + causal mask + window + valid length + mask",
        "weights = softmax(masked)",
        "output = weights·V",
    ]


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 4), (1, 4), (3, 1), (2, 1, 4), (2, 3, 4)])
@pytest.mark.parametrize("kind", [np.bool_, np.float64])
def test_masks_broadcast_from_the_right(shape: tuple[int, ...], kind: Any) -> None:
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 4, 5))
    mask = rng.integers(0, 2, shape).astype(kind) * kind(2)  # 0 and 1 would be refused
    whole = np.broadcast_to(mask, (2, 3, 4))
    plain = qkvcli.scores(query, key)
    expected = np.where(whole, plain, -np.inf) if kind is np.bool_ else plain + whole
    np.testing.assert_array_equal(qkvcli.scores(query, key, mask=mask), expected)


def test_a_mask_shorter_than_the_keys_hides_the_rest() -> None:
    masked = qkvcli.scores(np.ones((3, 1)), np.ones((4, 1)), mask=np.zeros((3, 2)))
    assert masked.tolist() == [[1, 1, -np.inf, -np.inf]] * 3
    seen = qkvcli.scores(np.ones((3, 1)), np.ones((4, 1)), mask=np.ones((3, 2), bool))
    assert seen.tolist() == masked.tolist()


def test_valid_lengths_are_one_a_batch() -> None:
    query = np.ones((2, 3, 2, 4))
    weights = qkvcli.attend(query, query, query, valid_length=[1, 2]).weights
    assert weights[0, 0].tolist() == [[1, 0], [1, 0]]
    assert weights[1, 2].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    alone = qkvcli.attend(query[:, 0], query[:, 0], query[:, 0], valid_length=[1, 2]).weights
    np.testing.assert_array_equal(alone, weights[:, 0])
    flat = query[:, 0]  # with heads to split, three axes are a batch's as well
    split = qkvcli.attend(flat, flat, flat, valid_length=[1, 2], heads=4).weights
    np.testing.assert_array_equal(split[:, 0], weights[:, 0])
    causal = qkvcli.attend(query, query, query, valid_length=[1, 2], causal=True).weights
    assert causal[0, 0].tolist() == [[0, 0], [1, 0]]  # offsets −1 and 0
    assert causal[1, 0].tolist() == [[1, 0], [0.5, 0.5]]


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_dtype_rounds_the_inputs(kind: Any) -> None:
    rng = np.random.default_rng(0)
    query, key, value = rng.normal(size=(3, 4, 5))
    steps = qkvcli.attend(query, key, value, dtype=kind, mask=np.zeros((4, 4)))
    rounded = qkvcli.attend(*(a.astype(kind) for a in (query, key, value)), mask=np.zeros((4, 4)))
    for one, other in zip(steps, rounded, strict=True):
        assert one.array.dtype == kind
        np.testing.assert_array_equal(one.array, other.array)
    for made in (np.float32, np.dtype("f4"), np.dtype(">f4")):
        assert qkvcli.softmax([[1, 2]], dtype=made).dtype == np.float32


def test_softmax_dtype_is_seen_in_the_weights() -> None:
    scores = np.array([[0.0, 1e-3, 3.0]])
    plain = qkvcli.softmax(scores)
    half = qkvcli.softmax(scores, softmax_dtype="float16")
    assert half.dtype == np.float64
    assert (half == half.astype(np.float16)).all()
    np.testing.assert_allclose(half, plain, rtol=1e-3)
    assert (half != plain).any()


def sample(model: str) -> Any:
    return tuple(np.load(SAMPLES / model / f"{name}.npy") for name in BERT)


def test_bert_computed_the_same() -> None:
    query, key, value, weights, output = sample("bert")
    steps = qkvcli.attend(query, key, value, heads=12, scale="sqrt")
    assert np.abs(steps.weights - weights).max() < 1e-6
    assert np.abs(steps.output - output).max() < 2e-6
    cat = steps.weights[6, 2]  # [CLS] the cat sat on the mat . [SEP]
    assert cat[[3, 6, 1, 5]].round(3).tolist() == pytest.approx([0.225, 0.131, 0.066, 0.073])


def test_gpt_computed_the_same() -> None:
    query, key, value, weights, output = sample("gpt")
    steps = qkvcli.attend(query, key, value, scale="sqrt", causal=True)
    assert np.abs(steps.weights - weights).max() < 1e-6
    assert np.abs(steps.output - output).max() < 2e-6


def test_a_cache_continues_where_gpt_stopped() -> None:
    """The last two tokens, with the five before them cached, see what they saw."""
    query, key, value, _, output = sample("gpt")
    steps = qkvcli.attend(
        query[:, 5:],
        key[:, 5:],
        value[:, 5:],
        past_key=key[:, :5],
        past_value=value[:, :5],
        scale="sqrt",
        causal=True,
    )
    assert np.abs(steps.output - output[:, 5:]).max() < 2e-6


def shown(qkv: Program, *words: object) -> dict[str, Any]:
    result = qkv(*words, "-f", "json")
    assert (result.code, result.err) == (0, "")
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_karims_worked_example(qkv: Program) -> None:
    folder = SAMPLES / "karim"
    files = [w for name in ("wq", "wk", "wv") for w in (f"--{name}", folder / f"{name}.csv")]
    steps = shown(qkv, "run", "--embeddings", folder / "x.csv", *files)
    assert list(steps) == ["query", "key", "value", "scores", "weights", "output"]
    assert steps["scores"]["data"] == [[2, 4, 4], [4, 16, 12], [4, 12, 10]]
    assert np.round(steps["output"]["data"], 4).tolist() == [
        [1.9366, 6.6831, 1.5951],
        [2.0, 7.9640, 0.0540],
        [1.9997, 7.7599, 0.3584],
    ]
    assert list(shown(qkv, "scores", "--embeddings", folder / "x.csv", *files[:4])) == ["scores"]


def test_tensorflows_worked_example(qkv: Program) -> None:
    files = [f"-{n[0]}{SAMPLES}/tensorflow/{n}.csv" for n in ("query", "key", "value")]
    steps = shown(qkv, "run", *files, "--scale", "sqrt")
    expected = {
        "weights": np.array([[0, 0, 0.5, 0.5], [0, 1, 0, 0], [0.5, 0.5, 0, 0]]),
        "output": np.array([[550, 5.5], [10, 0], [5.5, 0]]),
    }
    for name, array in expected.items():
        np.testing.assert_allclose(steps[name]["data"], array, rtol=1e-10, atol=1e-10)


def test_projections_take_a_bias_and_heads(qkv: Program, folder: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 6))
    names = ("wq", "wk", "wv", "bq", "bk", "bv")
    given: dict[str, Any] = {n: rng.normal(size=(6, 8) if n[0] == "w" else 8) for n in names}
    np.save("x.npy", x)
    words: list[object] = ["--embeddings", "x.npy", "--heads", 2, "--preset", "gpt"]
    for name, array in given.items():
        np.save(f"{name}.npy", array)
        words += [f"--{name}", f"{name}.npy"]
    query, key, value = (x @ given[f"w{n}"] + given[f"b{n}"] for n in "qkv")
    plain = qkvcli.attend(query, key, value, heads=2, scale="sqrt", causal=True)
    np.testing.assert_allclose(shown(qkv, "run", *words)["output"]["data"], plain.output)
    library = qkvcli.attend(x, x, x, **given, heads=2, scale="sqrt", causal=True)
    np.testing.assert_array_equal(library.output, plain.output)
    assert library["query"].formula == "X·Wq + bq"


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("--preset article", ""),
        ("--preset bert", "--scale sqrt"),
        ("--preset gpt", "--scale sqrt --causal"),
        ("--preset gpt --no-causal", "--scale sqrt"),
        ("--preset gpt --scale none", "--causal"),
        ("--scale 2 --preset bert", "--scale 2"),
    ],
)
def test_presets_stand_for_options_and_yield_to_them(qkv: Program, words: str, same: str) -> None:
    for command in ("scores", "softmax", "output", "run"):
        one, other = (qkv(command, "--seed", 3, *text.split()).out for text in (words, same))
        assert one == other


def test_every_command_takes_heads_masks_and_caches(qkv: Program, folder: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {"q": (3, 8), "k": (3, 4), "v": (3, 6), "pk": (2, 4), "pv": (2, 6)}
    for name, shape in shapes.items():
        np.save(f"{name}.npy", rng.normal(size=shape))
    np.savetxt("m.csv", np.zeros((3, 4)), delimiter=",")
    first: list[object] = ["-q", "q.npy", "-k", "k.npy", "--past-key", "pk.npy"]
    heads: list[object] = ["--heads", 4, "--kv-heads", 2]
    options = [*heads, "--softcap", 3, "--window", "2,0", "--mask", "m.csv", "--preset", "gpt"]
    values = ["-v", "v.npy", "--past-value", "pv.npy"]
    steps = shown(qkv, "run", *first, *values, *options)
    assert steps["weights"]["shape"] == [4, 3, 5]
    assert steps["output"]["shape"] == [3, 12]
    weights = qkv("softmax", *first, *options, "-f", "npy")
    np.save("w.npy", np.array(steps["weights"]["data"]))
    assert shown(qkv, "softmax", *first, *options)["weights"] == steps["weights"]
    assert weights.code == 0
    output = shown(qkv, "output", "w.npy", *values, *heads)["output"]
    np.testing.assert_allclose(output["data"], steps["output"]["data"])
    scores = qkv("scores", *first, *heads).out
    bent = ["--softcap", 3, "--window", "2,0", "--mask", "m.csv", "--causal", "--offset", 2]
    piped = json.loads(
        qkv("softmax", *bent, "--scale", 1 / math.sqrt(2), "-f", "json", stdin=scores).out
    )
    np.testing.assert_allclose(piped["weights"]["data"], steps["weights"]["data"])


def test_masks_come_in_any_format(qkv: Program, folder: Path) -> None:
    seen = np.tri(3, dtype=bool)
    np.save("m.npy", seen)
    np.savez("m.npz", mask=seen)
    Path("m.json").write_text(json.dumps(seen.tolist()))
    Path("m.csv").write_text("True,False,false\ntrue,TRUE,False\ntrue,true,true\n")
    causal = shown(qkv, "softmax", "--seed", 1, "--length", 3, "--causal")
    for ending in ("npy", "npz", "json", "csv"):
        masked = shown(qkv, "softmax", "--seed", 1, "--length", 3, "--mask", f"m.{ending}")
        assert masked == causal
    words = ["softmax", "--seed", 1, "--length", 3]
    piped = qkv(*words, "--mask", "-", stdin=Path("m.csv").read_bytes())
    assert piped.out == qkv(*words, "--causal").out


def test_head_and_batch_choose_what_is_shown(qkv: Program, folder: Path) -> None:
    np.save("q.npy", np.arange(48.0).reshape(2, 3, 2, 4))
    words = ["scores", "-q", "q.npy", "-k", "q.npy"]
    table = qkv(*words, "--head", "0,2", "--batch", 1, "-f", "table", "-o", "some.npy").out
    assert [line for line in table.splitlines() if line.startswith("batch")] == [
        "batch 1, head 0",
        "batch 1, head 2",
    ]
    assert qkv(*words, "-o", "all.npy", "--quiet").code == 0
    whole = np.load("all.npy")
    assert whole.shape == (2, 3, 2, 2)
    np.testing.assert_array_equal(np.load("some.npy"), whole[1:, [0, 2]])
    one = shown(qkv, *words, "--head", 2, "--batch", 1)["scores"]
    assert (one["shape"], one["data"]) == ([1, 1, 2, 2], whole[1:, 2:].tolist())
    some = shown(qkv, *words, "--head", "0,2")["scores"]["data"]
    assert some == whole[:, [0, 2]].tolist()
    wrong = qkv(*words, "--head", 3)
    assert (wrong.code, wrong.err) == (2, "qkvcli: --head: there is no head 3; they are 0 to 2\n")


def test_a_projection_may_have_fewer_heads_than_are_shown(qkv: Program, folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, shape in (("q", (4, 3, 4)), ("k", (2, 3, 4)), ("v", (2, 3, 4)), ("w", (4, 4))):
        np.save(f"{name}.npy", rng.normal(size=shape))
    words = ["run", "-q", "q.npy", "-k", "k.npy", "-v", "v.npy", "--wk", "w.npy", "--head", 3]
    shown = qkv(*words).out
    assert re.findall(r"^(\w+) =|^head (\d)", shown, re.M) == [
        *(("key", ""), ("", "1")),
        *(("", "3"), ("scores", ""), ("weights", ""), ("output", "")),
    ]
    assert json.loads(qkv(*words, "-f", "json").out)["key"]["shape"] == [1, 3, 4]


def test_caches_go_before_the_articles_tokens(qkv: Program, folder: Path) -> None:
    np.save("past.npy", np.ones((1, 64)))
    found = qkv("scores", "--past-key", "past.npy", "--past-value", "past.npy")
    assert (found.code, len(found.out.splitlines()[0].split(","))) == (0, 7)
    assert qkv("scores", "--labels", "").err.endswith(
        "example has 5 queries; add --seed 42 to draw as many\n"
    )
    wrong = qkv("scores", "--wv", "w.npy")
    assert (wrong.code, wrong.err) == (
        2,
        "qkvcli: --wv without anything to project; add --embeddings\n",
    )


def test_heads_are_shown_once_and_as_typed(qkv: Program, folder: Path) -> None:
    np.save("q.npy", np.random.default_rng(0).normal(size=(3, 2, 4)))
    words = ["scores", "-q", "q.npy", "-k", "q.npy", "--head", "2,0,2"]
    assert re.findall(r"^head \d", qkv(*words, "-f", "table").out, re.M) == ["head 2", "head 0"]
    some = json.loads(qkv(*words, "-f", "json").out)["scores"]["data"]
    whole = json.loads(qkv(*words[:5], "-f", "json").out)["scores"]["data"]
    np.testing.assert_allclose(some, [whole[2], whole[0]])


def test_labels_name_cached_keys_too(qkv: Program, folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, length in (("q", 1), ("k", 1), ("pk", 2)):
        np.save(f"{name}.npy", rng.normal(size=(length, 4)))
    words = ["scores", "-q", "q.npy", "-k", "k.npy", "--past-key", "pk.npy"]
    named = shown(qkv, *words, "--labels", "sat", "--key-labels", "the cat sat")["scores"]
    assert (named["rows"], named["columns"]) == (["sat"], ["the", "cat", "sat"])
    assert "there are 3 keys" in qkv(*words, "--key-labels", "sat").err


SHAPES = {
    "query (9, 4, 8) and key (2, 4, 8): the axes before": ((9, 4, 8), (2, 4, 8), (2, 4, 8), {}),
    "query (3, 4, 8) and value (2, 6, 8): the axes": ((3, 4, 8), (3, 6, 8), (2, 6, 8), {}),
    "query (4, 8) and key (4, 6): the last": ((4, 8), (4, 6), (4, 8), {}),
    "key (4, 8) and value (5, 8): there must be": ((4, 8), (4, 8), (5, 8), {}),
    "query (4, 8): 8 columns do not split into 3 heads": ((4, 8), (4, 9), (4, 9), {"heads": 3}),
    "mask (4, 3, 4) and scores (4, 4): the mask": ((4, 8),) * 3 + ({"mask": np.ones((4, 3, 4))},),
    "mask (4, 5) and scores (4, 4): the mask": ((4, 8),) * 3 + ({"mask": np.ones((4, 5))},),
    "valid length 5 is more than the 4 keys": ((4, 8),) * 3 + ({"valid_length": 5},),
    "past key (2, 7) and key (4, 8): all axes but": (
        *((4, 8),) * 3,
        {"past_key": np.ones((2, 7)), "past_value": np.ones((2, 8))},
    ),
    "query (4, 8) and wq (7, 2): the last axis": ((4, 8),) * 3 + ({"wq": np.ones((7, 2))},),
    "wq (8, 2) and bq (3,): there must be": (
        *((4, 8),) * 3,
        {"wq": np.ones((8, 2)), "bq": np.ones(3)},
    ),
}


@pytest.mark.parametrize(("message", "case"), SHAPES.items())
def test_shapes_that_disagree_are_named(message: str, case: Any) -> None:
    *shapes, options = case
    with pytest.raises(ShapeError) as raised:
        qkvcli.attend(*map(np.ones, shapes), **options)
    assert str(raised.value).startswith(message)


def test_where_shapes_came_from_is_said(qkv: Program, folder: Path) -> None:
    for name, shape in (("q", (4, 6)), ("k", (4, 6)), ("v", (4, 6)), ("m", (2, 3))):
        np.save(f"{name}.npy", np.ones(shape))
    words = ["run", "-q", "q.npy", "-k", "k.npy", "-v", "v.npy"]
    assert qkv(*words, "--mask", "m.npy").err.startswith(
        "qkvcli: mask (2, 3) from m.npy and scores (4, 4): "
    )
    said = qkv(*words, "--past-key", "m.npy", "--past-value", "m.npy").err
    assert said.startswith("qkvcli: past key (2, 3) from m.npy and key (4, 6) from k.npy: ")
    np.save("w.npy", np.ones((6, 5)))
    np.save("wk.npy", np.ones((6, 4)))
    projected = ["scores", "--embeddings", "q.npy", "--wq", "w.npy", "--wk", "wk.npy"]
    assert qkv(*projected).err.startswith(
        "qkvcli: query (4, 5) from q.npy·w.npy and key (4, 4) from q.npy·wk.npy: "
    )
    heads = qkv(*words, "--heads", 2, "--kv-heads", 1)
    assert (
        "query (2, 4, 3) from q.npy, in 2 heads and key (1, 4, 6) from k.npy, in 1 head: "
        in heads.err
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"softcap": 0}, "softcap 0.0 is not above 0"),
        ({"softcap": "a"}, "softcap 'a' is not a finite number"),
        ({"window": (1, 2, 3)}, "is not a left and a right"),
        ({"window": (-1, 2)}, "window -1 is less than 0"),
        ({"offset": 0.5}, "offset 0.5 is not a whole number"),
        ({"heads": 0}, "heads 0 is less than 1"),
        ({"kv_heads": 2}, "give the number of heads too"),
        ({"heads": 3, "kv_heads": 2}, "3 heads cannot share 2 of K and V evenly"),
        ({"dtype": "int8"}, "dtype 'int8' is not one of float16, bfloat16, float32"),
        ({"valid_length": [1, 2]}, "valid length names 2, one per batch"),
        ({"past_value": [[1.0, 2.0]]}, "past value without past key"),
        ({"past_key": [[1.0, 2.0]]}, "past key without past value"),
        ({"bq": [1.0]}, "bq without wq"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        qkvcli.attend(*np.ones((3, 2, 2)), **options)
    assert message in str(raised.value)


def test_piped_scores_are_scaled_by_the_width_of_one_head(qkv: Program) -> None:
    query, key = (f"-{name[0]}{SAMPLES}/bert/{name}.npy" for name in ("query", "key"))
    scores = qkv("scores", query, key, "--heads", 12).out
    unsaid = qkv("softmax", query, "--scale", "sqrt", stdin=scores)
    assert (unsaid.code, "say how many with --heads" in unsaid.err) == (2, True)
    words = ["softmax", query, "--scale", "sqrt", "--heads", 12, "-f", "json"]
    weights = json.loads(qkv(*words, stdin=scores).out)["weights"]["data"]
    assert np.abs(weights - sample("bert")[3]).max() < 1e-6


def test_head_and_batch_go_by_what_an_axis_is(qkv: Program, folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "qkv":
        np.save(f"{name}.npy", rng.normal(size=(2, 5, 16)))
    words = ["run", "-q", "q.npy", "-k", "k.npy", "-v", "v.npy", "--heads", 4]
    whole = shown(qkv, *words)
    part = shown(qkv, *words, "--head", 2, "--batch", 1)
    assert part["weights"]["data"] == [[whole["weights"]["data"][1][2]]]
    own = np.array(whole["output"]["data"])[1, :, 8:12]  # of the join, the part that is head 2's
    np.testing.assert_allclose(part["output"]["data"], [[own]])
    table = qkv(*words, "--head", 3, "--batch", 1).out
    assert re.findall(r"^(\w+) =|^(batch.*)", table, re.M) == [
        *(("", "batch 1, head 3"), ("scores", ""), ("weights", ""), ("output", ""))
    ]
    flat = ["-q", "q.npy", "-k", "k.npy", "--head", 3]
    there = "they are 0 to 1"
    assert qkv("scores", *flat).err == f"qkvcli: --head: there is no head 3; {there}\n"
    np.save("q.npy", np.ones((5, 16)))
    np.save("k.npy", np.ones((5, 16)))
    there = "what is shown has no head axis; --heads N splits the last axis into heads"
    assert qkv("scores", *flat).err == f"qkvcli: --head: there is no head 3; {there}\n"


def test_hidden_scores_that_are_read_stay_hidden(qkv: Program) -> None:
    scores = qkv("scores", "--seed", 1, "--causal").out
    for option in (["--softcap", 5], ["--scale", 0], ["--scale", -1]):
        weights = np.loadtxt(qkv("softmax", *option, stdin=scores).out.splitlines(), delimiter=",")
        assert weights[0].tolist() == [1, 0, 0, 0, 0]


def test_seeded_keys_are_as_many_heads_wide_as_asked(qkv: Program) -> None:
    steps = shown(qkv, "run", "--seed", 1, "--heads", 4, "--kv-heads", 2)
    assert steps["weights"]["shape"] == [4, 5, 5]
    assert steps["output"]["shape"] == [5, 64]


def test_masks_may_have_labels_and_only_one_kind_of_cell(qkv: Program, folder: Path) -> None:
    words = ["softmax", "--seed", 1, "--length", 2]
    plain = qkv(*words, "--mask", "-", stdin="true,false\nTrue,true\n").out
    labelled = qkv(*words, "--mask", "-", stdin=",a,b\nx,true,false\ny,true,true\n").out
    assert labelled == plain == qkv(*words, "--causal").out
    for text in ("true,1\nfalse,0\n", "1,true\ntrue,1\n"):
        assert qkv(*words, "--mask", "-", stdin=text).code == 3


@pytest.mark.parametrize(
    ("arrays", "options"),
    [
        (((1, 4, 8), (2, 4, 8), (3, 4, 8)), {}),
        (((1, 4, 8), (6, 4, 8), (4, 4, 8)), {}),
        (((4, 8), (4, 8), (4, 8)), {"past_key": np.ones(8), "past_value": np.ones((1, 8))}),
        (((4, 8), (4, 8), (4, 8)), {"mask": np.full((4, 4), "true")}),
        (((4, 8), (4, 8), (4, 8)), {"mask": np.ones((4, 4), complex)}),
    ],
)
def test_what_cannot_be_computed_is_bad_data(arrays: Any, options: Any) -> None:
    with pytest.raises(DataError):
        qkvcli.attend(*map(np.ones, arrays), **options)


def test_heads_of_no_tokens_are_none() -> None:
    empty = np.ones((0, 8))
    assert qkvcli.attend(empty, np.ones((3, 8)), np.ones((3, 8)), heads=2).output.shape == (0, 8)


def test_shared_heads_may_be_fewer_in_v_than_in_k() -> None:
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(n, 4, 8)) for n in (1, 6, 3))
    plain = qkvcli.attend(np.repeat(query, 6, 0), key, np.repeat(value, 2, 0))
    np.testing.assert_allclose(qkvcli.attend(query, key, value).output, plain.output)


@pytest.mark.parametrize("length", [3, np.int64(3), np.array(3), [3]])
def test_a_valid_length_is_a_number_of_any_make(length: Any) -> None:
    weights = qkvcli.softmax(np.zeros((2, 4)), valid_length=length)
    assert weights.tolist() == [[1 / 3] * 3 + [0]] * 2


def test_options_that_come_too_late_are_refused() -> None:
    for call in (
        lambda: qkvcli.attend([[1.0]], [[1.0]], [[1.0]], causal="no"),  # type: ignore[arg-type]
        lambda: qkvcli.output(np.ones((12, 5, 7)), np.ones((7, 16)), heads=4),
    ):
        with pytest.raises((UsageError, ShapeError)):
            call()


def test_names_of_some_keys_are_kept() -> None:
    ones = np.ones((2, 3))
    key = Input(Operand(ones, "key", rows=("cat", "sat")), past=Operand(ones[:1], "past_key"))
    operands = Operands(query=Input(Operand(ones, "query")), key=key)
    [scores] = problem_of(AttentionConfig(), operands, "scores").outlines("scores")
    assert scores.columns == ("0", "cat", "sat")


def test_a_step_that_is_given_needs_two_axes() -> None:
    with pytest.raises(ShapeError, match=r"scores \(2,\): needs the axes \(…, L_q, L_k\)"):
        qkvcli.softmax([1.0, 2.0])
    with pytest.raises(ShapeError, match=r"weights \(2,\): needs the axes \(…, L_q, L_k\)"):
        qkvcli.output([0.5, 0.5], [[1.0], [2.0]])
