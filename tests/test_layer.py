"""A model's whole attention layer, from its hidden states to the module's output."""

import io
import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx.backend.test.case.node as node_cases
import onnx.backend.test.case.node.flexattention
import onnx.backend.test.case.node.rotaryembedding
import onnx.helper
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qkvcli
from qkvcli.api import _asked
from qkvcli.cli.commands import OPTIONS
from qkvcli.core.compute import Sizes, output_into, steps_of
from qkvcli.core.config import NEEDS, PRESETS, AttentionConfig
from qkvcli.core.fitting import problem_of
from qkvcli.errors import DataError, ShapeError, UsageError
from tests import oracle
from tests.conftest import Program
from tests.layers import MODULES, file_of, words_of

THEIRS = {
    "query_rotated": "query_used",
    "key_rotated": "key_used",
    "weights": "weights",
    "output": "output",
    "projected": "projected",
}
"""What each of our steps is called in the samples."""


def steps_shown(qkv: Program, *words: object) -> dict[str, Any]:
    result = qkv(*words, "-f", "npz")
    assert (result.code, result.err) == (0, "")
    with np.load(io.BytesIO(result.data)) as saved:
        return dict(saved)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_from_its_hidden_states_to_its_output(qkv: Program, name: str) -> None:
    steps = steps_shown(qkv, "run", *words_of(name))
    with np.load(file_of(name)) as module:
        compared = [ours for ours in THEIRS if ours in steps]
        assert {"weights", "output", "projected"} <= set(compared)
        for ours in compared:
            expected = module[THEIRS[ours]]
            if ours == "key_rotated":  # without those of a cache
                expected = expected[..., -steps[ours].shape[-2] :, :]
            np.testing.assert_allclose(steps[ours], expected, rtol=0, atol=1e-5, err_msg=ours)


def test_there_are_fifteen_modules() -> None:
    assert len(MODULES) == 15
    assert {path.stem for path in file_of("llama").parent.glob("*.npz")} == set(MODULES)


# Against a loop


@st.composite
def norms(draw: Any, heads: int, shared: int, width: int, drawn: Any) -> dict[str, Any]:
    """Norms of each head, each with its own weights, or of the whole width; or none."""
    kind = draw(st.sampled_from(["none", "each", "own", "whole"]))
    if kind == "none":
        return {}
    query, key = (
        {"each": (width,), "own": (count, width), "whole": (count * width,)}[kind]
        for count in (heads, shared)
    )
    found = {"q_norm": drawn(*query), "k_norm": drawn(*key)}
    if draw(st.booleans()):
        found |= {"norm": "layer", "norm_eps": 1e-3, "q_norm_bias": drawn(*query)}
    return found


@st.composite
def rotations(draw: Any, width: int) -> dict[str, Any]:
    """A rotation of any kind, or none."""
    found: dict[str, Any] = {"rope": draw(st.sampled_from([3.0, 10000.0]))}
    if draw(st.booleans()):
        found["rope_pairs"] = "interleaved"
    if draw(st.booleans()):
        found["rope_dim"] = 2 * draw(st.integers(1, width // 2))
    return found if draw(st.booleans()) else {}


@st.composite
def layers(draw: Any) -> dict[str, Any]:
    """A layer of embeddings with any of the options, as keywords of `attend`."""
    shared, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    heads, tokens, width = shared * group, draw(st.integers(1, 4)), 2 * draw(st.integers(1, 3))
    m, past = draw(st.integers(1, 3)), draw(st.integers(0, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def drawn(*shape: int) -> Any:
        return rng.normal(size=shape)

    x = drawn(tokens, m)
    layer: dict[str, Any] = {"query": x, "key": x, "value": x, "heads": heads, "kv_heads": shared}
    for side, count in (("q", heads), ("k", shared), ("v", shared)):
        layer[f"w{side}"] = drawn(m, count * width)
        if draw(st.booleans()):
            layer[f"b{side}"] = drawn(count * width)
    if past:
        layer |= {f"past_{side}": drawn(shared, past, width) for side in ("key", "value")}
    if draw(st.booleans()):
        layer["clip"] = 0.7
    layer |= draw(norms(heads, shared, width, drawn)) | draw(rotations(width))
    optional = {
        "alibi": True,
        "causal": True,
        "scale": "sqrt",
        "softcap": 2.0,
        "offset": draw(st.integers(-2, 5)),
        "sinks": drawn(heads) * 3,
        "gate": drawn(m, draw(st.sampled_from([heads, heads * width]))),
        "wo": drawn(heads * width, 3),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(optional))))
    layer |= {name: optional[name] for name in sorted(chosen)}
    if "wo" in layer and draw(st.booleans()):
        layer["bo"] = drawn(3)
    return layer


def by_hand(layer: dict[str, Any]) -> dict[str, Any]:
    """The layer as a reader of the papers would write it."""
    heads, shared, x = layer["heads"], layer["kv_heads"], layer["query"].tolist()
    past = len(layer["past_key"][0]) if "past_key" in layer else 0
    offset = layer.get("offset", past)
    found: dict[str, Any] = {}
    sides = {
        side: made_by_hand(layer, side, count, offset)
        for side, count in (("q", heads), ("k", shared), ("v", shared))
    }
    width = len(sides["q"][0][0])

    def seen(i: int, j: int) -> bool:
        return not layer.get("causal") or j <= i + offset

    outputs, weights = [], []
    for h in range(heads):
        key, value = (
            [
                *layer[past_name][h // (heads // shared)].tolist(),
                *sides[side][h // (heads // shared)],
            ]
            if past
            else sides[side][h // (heads // shared)]
            for side, past_name in (("k", "past_key"), ("v", "past_value"))
        )
        bias = None
        if layer.get("alibi"):
            slope = oracle.slope(h, heads)
            bias = [[slope * (j - i - offset) for j in range(len(key))] for i in range(len(x))]
        one, mixed = oracle.attention(
            sides["q"][h],
            key,
            value,
            scale=1 / math.sqrt(width) if layer.get("scale") else 1.0,
            cap=layer.get("softcap"),
            bias=bias,
            sink=float(layer["sinks"][h]) if "sinks" in layer else None,
            seen=partial(seen),
        )
        weights.append(one)
        outputs.append(mixed)
    found["weights"] = weights
    joined = [[number for head in outputs for number in head[i]] for i in range(len(x))]
    found["output"] = joined
    if "gate" in layer:
        gates = oracle.projected(x, layer["gate"].tolist())
        each = len(joined[0]) // len(gates[0])
        joined = [
            [number / (1 + math.exp(-gates[i][c // each])) for c, number in enumerate(row)]
            for i, row in enumerate(joined)
        ]
        found["gated"] = joined
    if "wo" in layer:
        found["projected"] = oracle.projected(joined, layer["wo"].tolist(), layer.get("bo"))
    return found


def made_by_hand(layer: dict[str, Any], side: str, count: int, offset: int) -> list[Any]:
    """Q, K or V, head by head."""
    rows = oracle.projected(layer["query"].tolist(), layer[f"w{side}"], layer.get(f"b{side}"))
    if "clip" in layer:
        rows = oracle.clipped(rows, layer["clip"])
    norm, bias = layer.get(f"{side}_norm"), layer.get(f"{side}_norm_bias")
    normed = partial(
        oracle.normed, epsilon=layer.get("norm_eps", 1e-6), layer=layer.get("norm") == "layer"
    )
    width = len(rows[0]) // count
    if norm is not None and norm.shape == (count * width,) and count > 1:
        rows, norm = normed(rows, norm, bias), None
    heads = [[row[h * width : (h + 1) * width] for row in rows] for h in range(count)]
    if norm is not None:
        own = np.broadcast_to(norm, (count, width))
        more = [None] * count if bias is None else np.broadcast_to(bias, (count, width))
        heads = [normed(heads[h], own[h], more[h]) for h in range(count)]
    if "rope" in layer and side != "v":
        turned = layer.get("rope_dim", width)
        mixed = layer.get("rope_pairs") == "interleaved"
        heads = [oracle.rotated(head, layer["rope"], turned, mixed, offset) for head in heads]
    return heads


@given(layers())
def test_every_option_is_what_a_loop_would_do(layer: dict[str, Any]) -> None:
    steps = qkvcli.attend(**layer)
    expected = by_hand(layer)
    assert [name for name in steps.names if name in expected] == list(expected)
    for name, numbers in expected.items():
        np.testing.assert_allclose(steps[name], numbers, atol=1e-10, err_msg=name)


@given(layers(), st.integers(1, 3), st.integers(1, 3))
def test_blocks_do_the_same(layer: dict[str, Any], queries: int, keys: int) -> None:
    """Every step computed part by part, and the last one and its log-sum-exp by blocks."""
    steps = qkvcli.attend(**layer)
    problem = problem_of(*_asked(layer))
    sizes = Sizes(held=0, parts=4, queries=queries, keys=keys)
    for step in steps_of(problem, sizes=sizes):
        np.testing.assert_allclose(step, steps[step.name], atol=1e-10, err_msg=step.name)
    out = np.empty_like(steps[-1].array)
    found = np.empty((*problem.leading, problem.shape[-2]))
    output_into(problem, out, found, sizes)
    np.testing.assert_allclose(out, steps[-1], atol=1e-10)
    scores = steps[problem.last_score].array
    sinks = np.exp(layer["sinks"])[:, None] if "sinks" in layer else 0
    with np.errstate(divide="ignore"):
        expected = np.log(np.exp(scores).sum(axis=-1) + sinks)
    np.testing.assert_allclose(found, expected, atol=1e-10)


@given(layers(), st.data())
def test_parts_of_a_layer_are_parts_of_the_whole(layer: dict[str, Any], data: Any) -> None:
    """Some rows are those of the whole, and the heads' own parts add up to it."""
    steps = qkvcli.attend(**layer)
    rows = sorted(data.draw(st.sets(st.integers(0, len(layer["query"]) - 1), min_size=1)))
    for step in qkvcli.attend(**layer, rows=rows):
        whole = steps[step.name].array
        cut = whole[..., rows, :] if step.of_queries else whole
        np.testing.assert_allclose(step, cut, atol=1e-12, err_msg=step.name)
    problem = problem_of(*_asked(layer))
    heads = layer["heads"]
    some = tuple(data.draw(st.lists(st.integers(0, heads - 1), min_size=1, unique=True)))
    found = {step.name: step.array for step in steps_of(problem.with_heads(some))}
    width = steps.output.shape[-1] // heads
    for name in ("output", "gated"):
        if name in found:
            apart = steps[name].array.reshape(-1, heads, width).swapaxes(0, 1)
            np.testing.assert_allclose(found[name], apart[list(some)], atol=1e-12)
    np.testing.assert_allclose(found["weights"], steps.weights[list(some)], atol=1e-12)
    if "projected" in found:
        every = {
            step.name: step.array for step in steps_of(problem.with_heads(tuple(range(heads))))
        }
        total = every["projected"].sum(axis=0) + layer.get("bo", 0)
        np.testing.assert_allclose(total, steps["projected"], atol=1e-10)
        np.testing.assert_allclose(found["projected"], every["projected"][list(some)], atol=1e-12)


def test_heads_in_an_axis_of_their_own_are_the_same() -> None:
    """What a model hands to its kernel, (B, H, L, d), gives what `heads` gives."""
    rng = np.random.default_rng(0)
    x, wo = rng.normal(size=(2, 5, 24)), rng.normal(size=(24, 7))
    options: dict[str, Any] = {"rope": 100, "sinks": rng.normal(size=4), "alibi": True, "wo": wo}
    joined = qkvcli.attend(x, x, x, heads=4, **options)
    apart = x.reshape(2, 5, 4, 6).swapaxes(1, 2)
    steps = qkvcli.attend(apart, apart, apart, **options)
    assert steps["projected"].formula == "join(output)·Wo"
    for name in ("query_rotated", "weights", "projected"):
        np.testing.assert_allclose(steps[name], joined[name], atol=1e-12)


def test_numbers_for_heads_and_columns_come_from_text_too(qkv: Program, folder: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"q-norm": rng.normal(size=4), "sinks": rng.normal(size=2), "bo": rng.normal(size=8)}
    words: list[object] = ["run", "--seed", 1, "--dim", 8, "--heads", 2, "--wo", "wo.csv"]
    words += ["--scale", "sqrt"]
    np.savetxt("wo.csv", np.eye(8), delimiter=",")
    for name, array in arrays.items():
        np.savetxt(f"{name}.csv", array[None] if name == "bo" else array, delimiter=",")
        np.save(f"{name}.npy", array)
    one, other = (
        steps_shown(qkv, *words, *(w for n in arrays for w in (f"--{n}", f"{n}.{ending}")))
        for ending in ("csv", "npy")
    )
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


# Rotations


def turned(rows: Any, **options: Any) -> Any:
    return qkvcli.attend(rows, rows, rows, **options)["query_rotated"].array


def test_a_rotation_keeps_lengths_and_sees_only_distances() -> None:
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 6, 8))
    near = qkvcli.scores(query, key, rope=10000)
    np.testing.assert_allclose(qkvcli.scores(query, key, rope=10000, offset=1000), near, atol=1e-9)
    np.testing.assert_allclose(
        np.linalg.norm(turned(query, rope=10000), axis=-1), np.linalg.norm(query, axis=-1)
    )
    np.testing.assert_array_equal(turned(query, rope=10000)[0], query[0])  # at place 0


@pytest.mark.parametrize("count", [1, 4096, 4097, 9000])
@pytest.mark.parametrize("offset", [0, -3, 123456])
def test_long_rotations_are_exact(count: int, offset: int) -> None:
    rows = np.random.default_rng(0).normal(size=(count, 4))
    found = turned(rows, rope=10000, offset=offset)
    for i in {0, count // 2, count - 1}:
        expected = oracle.rotated(rows[[i]].tolist(), 10000, 4, False, offset + i)
        np.testing.assert_allclose(found[[i]], expected, atol=1e-9)


def tables(count: int, pairs: int, batches: int | None = None) -> Any:
    shape = (count, pairs) if batches is None else (batches, count, pairs)
    angles = np.random.default_rng(1).normal(size=shape)
    return {"cos": np.cos(angles), "sin": np.sin(angles)}


def test_a_table_has_a_row_for_each_token_or_each_position() -> None:
    rng = np.random.default_rng(0)
    rows, past = rng.normal(size=(3, 8)), rng.normal(size=(4, 8))
    cache = {"past_key": past, "past_value": past}
    whole = tables(20, 4)
    some = {name: table[4:7] for name, table in whole.items()}
    by_position, by_token = (turned(rows, **cache, **table) for table in (whole, some))
    np.testing.assert_array_equal(by_position, by_token)
    at_nine = {name: table[9:12] for name, table in whole.items()}
    np.testing.assert_array_equal(
        turned(rows, **cache, **whole, offset=9), turned(rows, **cache, **at_nine)
    )
    keys = qkvcli.attend(rows[:1], rows, rows, **whole)["key_rotated"].array
    np.testing.assert_array_equal(keys, turned(rows, **whole))


def test_a_table_may_have_a_part_for_each_batch() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 3, 5, 8))  # two batches of three heads
    table = tables(5, 2, 2)
    found = turned(rows, **table)
    assert (found[..., 4:] == rows[..., 4:]).all()  # two pairs are four columns
    for batch in (0, 1):
        own = {name: part[batch] for name, part in table.items()}
        np.testing.assert_array_equal(found[batch], turned(rows[batch], **own))
    flat = rows.swapaxes(1, 2).reshape(2, 5, 24)
    np.testing.assert_array_equal(turned(flat, heads=3, **table), found)
    with pytest.raises(ShapeError, match="part for each batch"):
        turned(flat[0], heads=3, **tables(5, 2, 3))  # three heads are no batches


def test_gemma_keeps_a_norm_weight_less_one() -> None:
    rng = np.random.default_rng(0)
    rows, kept = rng.normal(size=(4, 6)), rng.normal(size=6)
    found = qkvcli.attend(rows, rows, rows, q_norm=1 + kept)["query_normed"].array
    expected = rows / np.sqrt((rows**2).mean(axis=-1, keepdims=True) + 1e-6) * (1 + kept)
    np.testing.assert_allclose(found, expected)


def test_alibi_slopes_are_those_of_the_paper() -> None:
    zeros = np.zeros((12, 2, 4))
    biased = qkvcli.attend(zeros, zeros, zeros, alibi=True)["biased"].array[:, 1, 0]
    # the authors' own code gives these for 12 heads
    first = [2.0**-n for n in range(1, 9)]
    assert (-biased).tolist() == pytest.approx([*first, 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])
    cached = qkvcli.softmax(np.zeros((1, 1, 5)), alibi=True, offset=4)
    assert cached.argmax() == 4


# ONNX


def onnx_cases(prefix: str) -> Iterator[Any]:
    for case in node_cases._NodeTestCases:
        if case.name.startswith(prefix) and "_expanded" not in case.name:
            yield pytest.param(case, id=case.name.removeprefix("test_"))


ROTARY = list(onnx_cases("test_rotary_embedding"))


def test_there_are_eight_rotary_cases() -> None:
    assert len(ROTARY) == 8


@pytest.mark.parametrize("case", ROTARY)
def test_a_rotary_case_of_onnx(case: Any) -> None:
    [node] = case.model.graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    [(rows, cos, sin, *positions)], [(expected,)] = zip(*case.data_sets, strict=True)
    if positions:
        cos, sin = cos[positions[0]], sin[positions[0]]
    options: dict[str, Any] = {"cos": cos, "sin": sin}
    if attributes.get("interleaved"):
        options["rope_pairs"] = "interleaved"
    if attributes.get("rotary_embedding_dim"):
        options["rope_dim"] = attributes["rotary_embedding_dim"]
    if rows.ndim == 3:
        options["heads"] = attributes["num_heads"]
    found = turned(rows, **options)
    if rows.ndim == 3:
        found = found.swapaxes(1, 2).reshape(rows.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


FLEX: dict[str, dict[str, Any]] = {
    "flexattention": {},
    "flexattention_scaled": {"scale": 0.1},
    "flexattention_gqa": {},
    "flexattention_diff_head_sizes": {},
    "flexattention_score_mod": {"mask": np.full((3, 3), 0.5)},
    "flexattention_fp16": {},
    "flexattention_double": {},
    "flexattention_causal_mask": {"causal": True},
    "flexattention_soft_cap": {"softcap": 20.0},
    "flexattention_relative_positional": {
        "mask": np.subtract.outer(np.arange(4.0), np.arange(4.0))
    },
}
"""Those whose modifier is an option here, with the options; `prob_mod` is none."""


@pytest.mark.parametrize("case", list(onnx_cases("test_flexattention")))
def test_a_flexattention_case_of_onnx(case: Any) -> None:
    name = case.name.removeprefix("test_")
    if name == "flexattention_prob_mod":
        pytest.skip("weights that are changed after the softmax are no option here")
    [(arrays, [expected])] = case.data_sets
    options: dict[str, Any] = {"scale": "sqrt", **FLEX[name]}
    found = qkvcli.attend(*arrays, **options).output
    np.testing.assert_allclose(found, expected, rtol=case.rtol, atol=1e-6)


# What does not fit

ONES = np.ones((3, 8))


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"cos": np.ones((3, 4))}, UsageError, "cos without sin"),
        ({"rope_dim": 4}, UsageError, "rope dim without a rotation"),
        ({"rope_pairs": "interleaved"}, UsageError, "rope pairs without a rotation"),
        (
            {"rope": 10000, "rope_dim": 10},
            ShapeError,
            "a head has 8 columns, and rope dim says to turn 10",
        ),
        ({"rope": 10000, "rope_dim": 3}, UsageError, "rope dim 3 is odd"),
        ({"rope": 0}, UsageError, "rope 0.0 is not above 0"),
        ({"rope": 10, **tables(3, 4)}, UsageError, "rope and cos"),
        ({**tables(2, 4)}, ShapeError, "a row for each of the 3 tokens"),
        ({**tables(3, 5)}, ShapeError, r"8 columns, and cos \(3, 5\) says to turn 10"),
        ({**tables(3, 4), "rope_dim": 4}, ShapeError, "rope dim is 4"),
        (
            {n: np.tile(t, (1, 2)) for n, t in tables(3, 2).items()},
            DataError,
            "each angle stands there twice",
        ),
        (
            {n: np.repeat(t, 2, axis=1) for n, t in tables(3, 2).items()},
            DataError,
            "the even columns",
        ),
        ({"q_norm": np.ones(4)}, ShapeError, "one number for each of the 8 columns"),
        ({"q_norm": np.ones(4), "heads": 4}, ShapeError, r"\(4, 2\) with a row for each head"),
        ({"q_norm_bias": np.ones(8)}, UsageError, "q norm bias without q norm"),
        (
            {"q_norm": np.ones(8), "q_norm_bias": np.ones(8)},
            UsageError,
            "q norm bias is for a LayerNorm",
        ),
        ({"sinks": np.ones(2)}, ShapeError, r"one number for each head, \(1,\)"),
        ({"gate": np.ones((8, 8))}, UsageError, "gate is sigmoid"),
        ({"gate": np.ones((8, 3)), "wq": np.eye(8)}, ShapeError, "a gate has a column for each"),
        ({"wo": np.ones((4, 8))}, ShapeError, "a row for each of the output's columns, 8"),
        ({"bo": np.ones(8)}, UsageError, "bo without wo"),
        ({"wo": np.ones((8, 4)), "bo": np.ones(8)}, ShapeError, "one number for each column"),
        ({"norm": "layer"}, UsageError, "norm without q norm or k norm"),
        ({"norm_eps": 1e-5, "rope": 5}, UsageError, "norm eps without q norm"),
        ({"norm": "batch"}, UsageError, "norm 'batch' is not one of rms, layer"),
        ({"clip": -1}, UsageError, "clip -1.0 is not above 0"),
        ({"rope": 10, "valid_length": [1, 2]}, UsageError, "valid length names 2"),
    ],
)
def test_what_does_not_fit_is_said(options: dict[str, Any], kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        qkvcli.attend(ONES, ONES, ONES, **options)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("softmax - --rope 10000", "rope comes before the scores"),
        ("softmax - --q-norm m.npy", "q norm comes before the scores"),
        ("output - -v m.npy --sinks m.npy", "sinks comes before the weights"),
        ("output - -v m.npy --alibi", "alibi comes before the weights"),
        ("run -q m.npy -k m.npy -v m.npy --rope 5 --cos m.npy --sin m.npy", "keep one"),
    ],
)
def test_what_comes_too_late_is_refused(qkv: Program, folder: Any, line: str, message: str) -> None:
    np.save("m.npy", np.ones((2, 2)))
    result = qkv(*line.split(), stdin="1,0\n0,1\n")
    assert result.code == 2
    assert message in result.err


# Presets


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_options_that_help_names(qkv: Program, folder: Path, name: str) -> None:
    option = OPTIONS["preset"]
    told = option.abouts[option.words.index(name)]
    words = told.partition(";")[0].split()
    more: list[object] = ["--seed", 1, "--length", 4, "--dim", 128, "--heads", 2]
    if "--norm" in words:
        np.save("norm.npy", np.ones(64))
        more += ["--q-norm", "norm.npy", "--k-norm", "norm.npy"]
    if "rope" in NEEDS.get(name, ()):  # its base differs from size to size
        more += ["--rope", 8e6]
    one, other = (qkv("run", *more, *asked, "--digits", 9) for asked in (["--preset", name], words))
    assert (one.code, one.out) == (0, other.out)
    assert other.err == ""
    missing: list[str] = re.findall(r"--[a-z-]+", told.partition("; needs ")[2])
    assert all(field in OPTIONS for field in NEEDS.get(name, ()))
    left = [
        word
        for word in missing
        if word not in map(str, more) and not re.fullmatch("--b[qkvo]", word)
    ]
    if left:
        assert f"note: layers of {name} also have {', '.join(left)}" in one.err
    else:
        assert one.err == ""


def test_a_preset_gives_way(qkv: Program, folder: Path) -> None:
    words = ["--seed", 1, "--preset", "mistral"]
    plain = qkv("run", "--seed", 1, "--preset", "llama", "--rope", 1e6).out
    assert qkv("run", *words, "--rope", 1e6, "--window", "none").out == plain
    np.save("cos.npy", np.ones((5, 32)))
    np.save("sin.npy", np.zeros((5, 32)))
    tables = qkv("run", *words, "--cos", "cos.npy", "--sin", "sin.npy", "--show", "weights")
    unturned = qkv("run", "--seed", 1, "--preset", "gpt", "--window", 4095, "--show", "weights")
    assert tables.out == unturned.out
    refused = qkv("softmax", "-", "--preset", "llama", stdin="1,2\n3,4\n")
    assert "rope of preset llama comes before the scores" in refused.err


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("scores --rope 9 --offset 3", ""),
        ("scores --rope 9 --offset 3 --causal", "are turned from position 3 on"),
        ("scores --rope 9 --offset 0", ""),
        ("scores --rope 9 --offset 3 --key-length 7", ""),
        ("scores --rope 9 --key-length 7", "query 0 is taken to stand at key 0; --offset 2 has"),
        ("scores --causal --key-length 7", ""),
        ("scores --causal --length 1 --key-length 7", "--offset 6 has the last ones meet"),
        ("scores --valid-length 5 --offset 2 --rope 9 --key-length 7", ""),
        ("run --dim 1024 --rope 9", "1024 columns are read as one head"),
        ("run --dim 1024 --heads 8 --rope 9", ""),
        ("run --dim 1024", ""),
        ("run --rope 9 --alibi", "both a rotation and ALiBi"),
        ("run --preset bloom", ""),
        ("run --preset mpt --rope 9", "both a rotation and ALiBi"),
        ("run --preset mpt --rope 9 --no-alibi", ""),
        ("run --preset llama --rope none", ""),
        ("run --preset gpt-j --rope none", ""),
    ],
)
def test_what_may_be_meant_otherwise_is_noted(qkv: Program, line: str, note: str) -> None:
    scaled = [] if "--preset" in line else ["--scale", "sqrt"]
    result = qkv(*line.split(), "--seed", 1, *scaled)
    assert result.code == 0
    assert note in result.err if note else result.err == ""


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("scores -q q.npy -k q.npy --rope 9", "the scores are not scaled"),
        ("scores -q q.npy -k q.npy --rope 9 --scale none", ""),
        ("scores -q q.npy -k q.npy --scale sqrt --preset llama", "--rope none"),
        ("scores -q q.npy -k q.npy --rope 10000 --preset llama", ""),
        ("scores -q q.npy -k q.npy --heads 2 --preset gemma3 --rope 9 --q-norm w.npy", "1 + w"),
        ("scores -q q.npy -k q.npy --preset qwen3 --rope none --q-norm w.npy --k-norm w.npy", ""),
        ("scores --embeddings q.npy --wq f.npy --wk f.npy --scale sqrt", "are the same numbers"),
        ("scores -q q.npy -k q.npy --sinks no.npy", "--sinks: not read; nothing beyond the scores"),
        ("softmax -q q.npy -k q.npy --wo no.npy --bo no.npy", "--wo, --bo: not read"),
    ],
)
def test_what_a_layer_may_lack_is_noted(qkv: Program, folder: Path, line: str, note: str) -> None:
    rng = np.random.default_rng(0)
    np.save("q.npy", rng.normal(size=(2, 3, 4)))
    np.save("w.npy", rng.normal(scale=0.1, size=2 if "--heads" in line else 4))
    np.save("f.npy", rng.normal(size=(4, 12)))
    result = qkv(*line.split())
    assert result.code == 0
    assert note in result.err if note else result.err == ""


def test_what_a_preset_has_can_be_undone() -> None:
    gemma = AttentionConfig.of("gemma2", softcap="none", rope="none")
    assert (gemma.cap, gemma.base) == (None, None)
    dbrx = AttentionConfig.of("dbrx", clip="none")
    assert (dbrx.limit, dbrx.base) == (None, 500000)
    assert AttentionConfig.of("gpt-j", rope="none").rope_pairs is None


# At the edges


@pytest.mark.parametrize("sink", [-50.0, -104.0, -300.0, -900.0, 200.0, math.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_query_that_sees_its_sink_alone_gives_zeros(sink: float, kind: Any) -> None:
    rows = np.random.default_rng(0).normal(size=(1100, 4)).astype(kind)
    mask = np.ones((1100, 1), bool)
    mask[3] = False
    options: dict[str, Any] = {"mask": mask, "sinks": [sink]}
    blocks = qkvcli.attention(rows, rows, rows, **options)
    assert (blocks[3] == 0).all()
    some = qkvcli.attend(rows, rows, rows, **options, rows=[0, 3, 1099])
    np.testing.assert_allclose(blocks[[0, 3, 1099]], some.output, atol=1e-5)


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e25, 3e38])
def test_a_norm_holds_what_its_type_holds(size: float) -> None:
    rows = np.array([[1, -1], [1, 0.5]], np.float32) * np.float32(size)
    weight = np.ones(2, np.float32)
    exact = rows.astype(float)
    expected = exact / np.sqrt((exact**2).mean(axis=-1, keepdims=True) + 1e-6)
    found = qkvcli.attend(rows, rows, rows, q_norm=weight)["query_normed"].array
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-20)
    centred = exact - exact.mean(axis=-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
    found = qkvcli.attend(rows, rows, rows, q_norm=weight, norm="layer")["query_normed"].array
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-20)


def test_a_norm_of_no_columns_is_nothing() -> None:
    rows = np.ones((2, 0))
    steps = qkvcli.attend(rows, rows, np.ones((2, 1)), q_norm=np.ones(0))
    assert steps["query_normed"].shape == (2, 0)


@pytest.mark.parametrize("offset", [0, 50_000, 10**6, 10**9])
def test_alibi_tells_far_keys_apart(offset: int) -> None:
    rng = np.random.default_rng(0)
    query, key = (rng.normal(size=(2, n, 8)).astype(np.float32) for n in (3, 40))
    options: dict[str, Any] = {"alibi": True, "offset": offset, "scale": "sqrt"}
    wide = (array.astype(float) for array in (query, key, key))
    exact = qkvcli.attend(*wide, **options)
    steps = qkvcli.attend(query, key, key, **options)
    np.testing.assert_allclose(steps.weights, exact.weights, atol=1e-6)
    problem = problem_of(*_asked({"query": query, "key": key, "value": key, **options}))
    out = np.empty(steps.output.shape, np.float32)
    output_into(problem, out, None, Sizes(held=0, queries=2, keys=16))
    np.testing.assert_allclose(out, exact.output, atol=1e-5)


def test_a_norm_of_heads_of_one_column_is_theirs() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 4))
    steps = qkvcli.attend(rows, rows, rows, heads=4, q_norm=np.ones((4, 1)))
    np.testing.assert_allclose(steps["query_normed"], np.sign(rows).T[..., None], rtol=1e-2)


def test_the_output_may_lie_over_what_it_is_made_of() -> None:
    rng = np.random.default_rng(0)
    x, wo = rng.normal(size=(1500, 6)), rng.normal(size=(6, 6))
    given: dict[str, Any] = {name: np.eye(6) for name in ("wq", "wk", "wv")}
    given |= {"gate": rng.normal(size=(6, 6)), "wo": wo}
    expected = qkvcli.attention(x, x, x, **given)
    whole = np.zeros((1500, 6))
    whole[700:706] = wo
    over = {**given, "wo": whole[700:706]}
    np.testing.assert_array_equal(qkvcli.attention(x, x, x, **over, out=whole), expected)
    np.testing.assert_array_equal(qkvcli.attention(x, x, x, **given, out=x[::-1]), expected)


def test_one_table_is_read_in_one_way() -> None:
    rng = np.random.default_rng(0)
    query, key, past = (rng.normal(size=(n, 4)) for n in (2, 4, 2))
    cache: dict[str, Any] = {"past_key": past, "past_value": past}
    with pytest.raises(ShapeError, match="of all that are turned"):
        qkvcli.attend(query, key, key, **cache, **tables(4, 2))
    long = tables(6, 2)
    steps = qkvcli.attend(query, key, key, **cache, **long)
    alone = qkvcli.attend(key, key, key, **{n: t[2:] for n, t in long.items()})
    np.testing.assert_array_equal(steps["key_rotated"], alone["key_rotated"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("output - -v m.npy --gate m.npy", "gate is made of the queries' embeddings"),
        ("run -q m.npy -k m.npy -v m.npy --cos m.npy --sin m.npy", "both are the same numbers"),
        ("run -q n.npy -k n.npy -v n.npy --valid-length 1,2 --alibi", "both of axis -3"),
    ],
)
def test_what_would_be_ignored_or_guessed_is_refused(
    qkv: Program, folder: Path, line: str, message: str
) -> None:
    np.save("m.npy", np.eye(2))
    np.save("n.npy", np.ones((2, 2, 2)))
    result = qkv(*line.split(), stdin="1,0\n0,1\n")
    assert result.code in (2, 3)
    assert message in result.err


def test_presets_leave_out_what_is_for_others() -> None:
    ones = np.ones((2, 8))
    assert "query_normed" not in qkvcli.attend(ones, ones, ones, preset="persimmon", rope_dim=4)
    assert "query_rotated" not in qkvcli.attend(ones, ones, ones, preset="glm")
    clipped = qkvcli.output([[1.0, 0.0]], [[3.0], [4.0]], clip=2)
    assert clipped.tolist() == [[2.0]]
