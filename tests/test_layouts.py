"""How Q, K and V lie in their files: every layout is the same attention, and is given back."""

import json
import math
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkvcli.cli import layouts
from qkvcli.cli.options import LAYOUTS
from qkvcli.core import steps
from qkvcli.core.config import AttentionConfig
from qkvcli.core.operands import Array, Operand
from qkvcli.core.steps import Step
from qkvcli.errors import ShapeError
from tests.conftest import SAMPLES, Program, Result


class Three(NamedTuple):
    """Q, K and V in FlashAttention's layout, (B, L, H, d)."""

    query: Array
    key: Array
    value: Array

    @property
    def fused(self) -> Array:
        """All three as (B, L, 3, H, d), as flash_attn_qkvpacked_func takes them."""
        return np.stack(self, axis=2)


def drawn(batches: int, rows: int, keys: int, heads: int, shared: int, width: int) -> Three:
    generator = np.random.default_rng(rows + 10 * keys)
    shapes = ((rows, heads), (keys, shared), (keys, shared))
    return Three(*(generator.standard_normal((batches, *shape, width)) for shape in shapes))


def flash(three: Three, causal: bool = False) -> Array:
    """FlashAttention's convention by a loop: out[b, i, h] of q[b, i, h] and each k[b, j, h]."""
    batches, rows, heads, width = three.query.shape
    group = heads // three.key.shape[2]
    out = np.zeros((batches, rows, heads, three.value.shape[-1]))
    for b, i, h in np.ndindex(batches, rows, heads):
        seen = range(min(i + 1, three.key.shape[1]) if causal else three.key.shape[1])
        query = three.query[b, i, h]
        scores = [query @ three.key[b, j, h // group] / math.sqrt(width) for j in seen]
        powers = [math.exp(score - max(scores)) for score in scores]
        for j, power in zip(seen, powers, strict=True):
            out[b, i, h] += power / sum(powers) * three.value[b, j, h // group]
    return out


def save(three: Three) -> None:
    """The three in each layout, a file each, and fused."""
    for name, array in three._asdict().items():
        np.save(f"{name}.lhd.npy", array)
        np.save(f"{name}.hld.npy", array.swapaxes(1, 2))
        np.save(f"{name}.l(hd).npy", array.reshape(*array.shape[:2], -1))
    if three.query.shape == three.key.shape:
        np.save("l3hd.npy", three.fused)
        np.save("3hld.npy", three.fused.transpose(0, 2, 3, 1, 4))
        np.save("timm.npy", three.fused.transpose(2, 0, 3, 1, 4))


def files(layout: str) -> list[str]:
    """The options that name Q, K and V in a layout."""
    named = [(f"--{name}", f"{name}.{layout}.npy") for name in Three._fields]
    return [word for pair in named for word in pair]


def said(layout: str) -> list[str]:
    """The options that name Q, K and V in a layout, and the layout."""
    own = {"timm": "3hld"}.get(layout, layout)
    where = files(layout) if own in ("hld", "lhd", "l(hd)") else ["--qkv", f"{layout}.npy"]
    return [*where, "--layout", own]


def as_lhd(layout: str, output: Array, heads: int) -> Array:
    """An output in a layout as (B, L, H, d)."""
    if layout in ("lhd", "l3hd"):
        return output
    if layout == "l(hd)":
        return output.reshape(*output.shape[:2], heads, -1)
    return output.swapaxes(1, 2)


def right(found: Result) -> Result:
    assert (found.code, found.err) == (0, "")
    return found


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shared", [6, 3, 1])
def test_lhd_is_flash_attention(qkv: Program, folder: Path, shared: int, causal: bool) -> None:
    three = drawn(2, 5, 5, 6, shared, 4)
    save(three)
    flags = ["--scale", "sqrt", *(["--causal"] if causal else [])]
    right(qkv("output", *said("lhd"), *flags, "-o", "out.npy", "--quiet"))
    np.testing.assert_allclose(np.load("out.npy"), flash(three, causal), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("layout", ["hld", "lhd", "l(hd)", "l3hd", "3hld", "timm"])
@pytest.mark.parametrize("causal", [False, True])
def test_every_layout_is_the_same_attention(
    qkv: Program, folder: Path, layout: str, causal: bool
) -> None:
    three = drawn(2, 5, 5, 4, 4, 8)
    save(three)
    flags = ["--scale", "sqrt", *(["--causal"] if causal else [])]
    heads = ["--heads", "4"]  # which the others are checked against
    right(qkv("output", *said(layout), *flags, *heads, "-o", "out.npy", "--quiet"))
    right(qkv("output", *files("hld"), *flags, "-o", "ours.npy", "--quiet"))
    output = as_lhd(layout, np.load("out.npy"), 4)
    np.testing.assert_array_equal(output.swapaxes(1, 2), np.load("ours.npy"))
    np.testing.assert_allclose(output, flash(three, causal), rtol=1e-9, atol=1e-12)


@settings(max_examples=25)
@given(
    batches=st.integers(1, 3),
    rows=st.integers(1, 9),
    shared=st.integers(1, 3),
    group=st.integers(1, 3),
    width=st.integers(1, 5),
    kind=st.sampled_from([np.float16, np.float32, np.float64]),
    causal=st.booleans(),
)
def test_shapes_of_all_kinds(
    tmp_path_factory: pytest.TempPathFactory,
    batches: int,
    rows: int,
    shared: int,
    group: int,
    width: int,
    kind: type,
    causal: bool,
) -> None:
    """Read to one order and written back, whatever the sizes, and in whatever type."""
    three = drawn(batches, rows, rows, shared * group, shared, width)
    config = AttentionConfig(heads=shared * group, kv_heads=shared, causal=causal)
    for name, array in three._asdict().items():
        array = array.astype(kind)
        lhd = layouts.LAYOUTS["lhd"].read(Operand(array, name), name, config)
        hld = layouts.LAYOUTS["hld"].read(Operand(array.swapaxes(1, 2), name), name, config)
        np.testing.assert_array_equal(lhd.array, hld.array)
        assert np.shares_memory(lhd.array, array)  # nothing is copied
        step = Step.held("output", lhd.array)
        np.testing.assert_array_equal(layouts.LAYOUTS["lhd"].written(step).array, array)
        np.testing.assert_array_equal(layouts.LAYOUTS["hld"].written(step).array, lhd.array)
        assert step.tokens_first().dtype == kind
    if group == 1:
        for layout, order in (("l3hd", (0, 1, 2, 3, 4)), ("3hld", (0, 2, 3, 1, 4))):
            fused = Operand(np.ascontiguousarray(three.fused.transpose(order)), "qkv")
            if layout == "3hld" and batches == 3:  # the three may be the batches
                with pytest.raises(ShapeError, match="both count 3"):
                    layouts.LAYOUTS[layout].parts(fused, Three._fields)
                continue
            found = layouts.LAYOUTS[layout].parts(fused, Three._fields)
            for name, array in three._asdict().items():
                read = layouts.LAYOUTS[layout].read(found[name], name, config)
                np.testing.assert_array_equal(read.array, array.swapaxes(1, 2))
                assert np.shares_memory(read.array, fused.array)


@pytest.mark.parametrize("ending", ["npy", "npz", "json", "csv", "tsv", "txt"])
@pytest.mark.parametrize("layout", ["hld", "lhd", "l(hd)", "l3hd", "3hld"])
def test_what_is_saved_is_compared_as_the_same(
    qkv: Program, folder: Path, layout: str, ending: str
) -> None:
    save(drawn(2, 5, 5, 4, 4, 3))
    line = ["output", *said(layout), "--heads", "4", "--scale", "sqrt"]
    right(qkv(*line, "-o", f"out.{ending}", "--quiet"))
    found = right(qkv(*line, "--expect", f"out.{ending}"))
    assert "same" in found.out


@pytest.mark.parametrize("ending", ["npz", "json"])
def test_every_step_is_saved_and_compared(qkv: Program, folder: Path, ending: str) -> None:
    """Also of as many heads as tokens, where no shape tells what is what."""
    save(drawn(2, 4, 4, 4, 2, 8))
    np.save("norm.npy", np.linspace(0.5, 2, 8))
    made = ["--q-norm", "norm.npy", "--k-norm", "norm.npy", "--rope", "100", "--rows", "1:"]
    line = ["run", *said("lhd"), "--scale", "sqrt", "--causal", *made]
    right(qkv(*line, "--show", "all", "-o", f"all.{ending}", "--quiet"))
    found = qkv(*line, "--expect", f"all.{ending}")
    assert found.code == 0
    for step in ("query_normed", "key_rotated", "scaled", "weights", "output"):
        assert f"{step} " in found.out.replace("\n", " ")
    theirs = ["run", *said("hld"), "--scale", "sqrt", "--causal", *made]
    assert qkv(*theirs, "--expect", f"all.{ending}").code == 1


def test_which_steps_are_moved(qkv: Program, folder: Path) -> None:
    save(drawn(2, 5, 7, 4, 2, 8))
    np.save("wo.npy", np.ones((32, 6)))
    line = ["run", *said("lhd"), "--scale", "sqrt", "--rope", "100", "--wo", "wo.npy"]
    right(qkv(*line, "--offset", "2", "--show", "all", "-o", "all.npz", "--quiet"))
    with np.load("all.npz") as found:
        assert {name: found[name].shape for name in found} == {
            "query": (2, 5, 4, 8),
            "key": (2, 7, 2, 8),
            "value": (2, 7, 2, 8),
            "query_rotated": (2, 5, 4, 8),
            "key_rotated": (2, 7, 2, 8),
            "scores": (2, 4, 5, 7),
            "scaled": (2, 4, 5, 7),
            "weights": (2, 4, 5, 7),
            "output": (2, 5, 4, 8),
            "projected": (2, 5, 6),
        }
        np.testing.assert_array_equal(found["key"], np.load("key.lhd.npy"))
        joined = found["output"].reshape(2, 5, 32)
        np.testing.assert_allclose(found["projected"], joined @ np.load("wo.npy"))


def test_rows_heads_and_batches_are_those_of_the_moved_array(qkv: Program, folder: Path) -> None:
    three = drawn(3, 5, 5, 4, 4, 8)
    save(three)
    chosen = ["--rows", "1,3:", "--head", "2,0", "--batch", "1"]
    line = ["output", *said("lhd"), "--scale", "sqrt", "--labels", "a b c d e"]
    found = right(qkv(*line, *chosen, "-f", "npy"))
    Path("part.npy").write_bytes(found.data)
    part = np.load("part.npy")
    np.testing.assert_allclose(part, flash(three)[1:2, [1, 3, 4]][:, :, [2, 0]], rtol=1e-9)
    right(qkv(*line, *chosen, "--expect", "part.npy"))
    right(qkv(*line, "-o", "whole.npy", "--quiet"))
    right(qkv(*line, *chosen, "--expect", "whole.npy"))


def test_labels_name_tokens_and_never_heads(qkv: Program, folder: Path) -> None:
    """Five tokens of five heads: the names of the tokens would fit the heads too."""
    save(drawn(1, 5, 5, 5, 5, 2))
    line = ["run", *said("lhd"), "--labels", "a b c d e"]
    right(qkv(*line, "-o", "all.json", "--quiet"))
    text = Path("all.json").read_text()
    output = text[text.index('"output"') :]
    assert '"rows"' not in output
    assert '"rows": ["a", "b", "c", "d", "e"]' in text[: text.index('"output"')]
    found = right(qkv("output", *line[1:], "-f", "csv"))
    assert found.out.startswith("# shape 1 5 5 2\n")
    assert not {"a", "b"} & set(found.out.replace("\n", ",").split(","))
    np.testing.assert_array_equal(
        np.loadtxt(found.out.splitlines(), delimiter=",", comments="#").reshape(1, 5, 5, 2),
        np.array(json.loads(text)["output"]["data"]),
    )


def test_labels_of_heads_in_a_file_are_left_out_and_that_is_said(
    qkv: Program, folder: Path
) -> None:
    Path("q.json").write_text('{"rows": ["one", "two"], "data": [[[1], [2]], [[3], [4]]]}')
    found = qkv("scores", "-q", "q.json", "-k", "q.json", "--layout", "lhd", "-f", "json")
    assert found.code == 0
    assert "the labels of its rows are of heads, and left out" in found.err
    assert "one" not in found.out


def test_a_cache_lies_as_its_keys_do(qkv: Program, folder: Path) -> None:
    three = drawn(2, 5, 5, 4, 2, 8)
    save(three)
    for layout in ("hld", "lhd", "l(hd)"):
        heads = ["--heads", "4", "--kv-heads", "2"] if layout == "l(hd)" else []
        axis = ":, 2:" if layout == "hld" else "2:"
        past = "[:, :, :2]" if layout == "hld" else "[:, :2]"
        rest = f"[:, {axis}]"
        line = [
            *("-q", f"query.{layout}.npy{rest}", "-k", f"key.{layout}.npy{rest}"),
            *("-v", f"value.{layout}.npy{rest}", "--past-key", f"key.{layout}.npy{past}"),
            *("--past-value", f"value.{layout}.npy{past}", "--layout", layout, *heads),
        ]
        right(qkv("output", *line, "--causal", "--scale", "sqrt", "-o", "out.npy", "--quiet"))
        output = as_lhd(layout, np.load("out.npy"), 4)
        np.testing.assert_allclose(output, flash(three, causal=True)[:, 2:], rtol=1e-9)


@pytest.mark.parametrize("where", ["folder", "member", "pattern", "slice", "pipe"])
def test_where_a_fused_array_may_be(qkv: Program, folder: Path, where: str) -> None:
    three = drawn(2, 5, 5, 4, 4, 8)
    fused = np.ascontiguousarray(three.fused)
    np.save("alone.npy", fused)
    Path("layer").mkdir()
    np.save("layer/qkv_states.npy", fused)
    named: dict[str, Any] = {"h.0.packed": fused, "others": np.zeros((2, 2)), "qkv": fused}
    np.savez("all.npz", **named)
    np.save("stack.npy", np.stack([fused * 0, fused]))
    address = {
        "folder": "layer",
        "member": "all.npz",
        "pattern": "all.npz:*.packed",
        "slice": "stack.npy[1]",
        "pipe": "-",
    }[where]
    stdin = Path("alone.npy").read_bytes() if where == "pipe" else b""
    line = ["output", "--qkv", address, "--layout", "l3hd", "--scale", "sqrt", "-f", "npy"]
    Path("out.npy").write_bytes(right(qkv(*line, stdin=stdin)).data)
    np.testing.assert_allclose(np.load("out.npy"), flash(three), rtol=1e-9)


def test_a_fused_array_gives_what_a_command_needs(qkv: Program, folder: Path) -> None:
    three = drawn(1, 5, 5, 2, 2, 8)
    save(three)
    right(qkv("scores", *said("l3hd"), "-o", "scores.npy", "--quiet"))
    scores = np.einsum("bihd,bjhd->bhij", three.query, three.key)
    np.testing.assert_allclose(np.load("scores.npy"), scores, rtol=1e-9)
    found = right(qkv("explain", "0", *said("l3hd"), "--head", "1", "--scale", "sqrt"))
    assert "output" in found.out


def test_a_large_output_is_computed_once_and_moved_in_parts(
    qkv: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(drawn(1, 1100, 1100, 2, 2, 4))
    monkeypatch.setattr(steps, "_MOVED", 1000)
    right(qkv("output", *files("hld"), "--causal", "-o", "hld.npy", "--quiet"))
    right(qkv("output", *said("lhd"), "--causal", "-o", "lhd.npy", "--quiet"))
    np.testing.assert_array_equal(np.load("lhd.npy").swapaxes(1, 2), np.load("hld.npy"))
    made = []

    def make() -> "steps.Parts":
        made.append(1)
        return iter([np.arange(5000.0).reshape(-1, 1)])

    known = Step.held("output", np.zeros((5, 1000, 1)))
    moved = known.computed_by(make).tokens_first()
    assert len(list(moved.parts())) == 5
    assert made == [1]


def test_tables_are_by_head(qkv: Program, folder: Path) -> None:
    """A person reads a table for each head, whatever the layout."""
    save(drawn(2, 5, 5, 4, 4, 8))
    for options in (["-f", "table"], ["-f", "markdown"], ["--top", "2"], ["-f", "heatmap"]):
        words = [*options, "--scale", "sqrt"]
        command = "softmax" if "--top" in options else "output"
        ours, theirs = (qkv(command, *known, *words).out for known in (files("hld"), said("lhd")))
        assert ours == theirs
        assert ours


def test_an_output_in_another_layout_differs(qkv: Program, folder: Path) -> None:
    """Where the layout is said, nothing is guessed: not even of as many heads as tokens."""
    three = drawn(2, 4, 4, 4, 4, 8)
    save(three)
    np.save("lhd.npy", flash(three))
    np.save("hld.npy", flash(three).swapaxes(1, 2))
    for own, other in (("lhd", "hld"), ("hld", "lhd")):
        line = ["output", *said(own), "--scale", "sqrt", "--expect"]
        right(qkv(*line, f"{own}.npy"))
        found = qkv(*line, f"{other}.npy")
        assert found.code == 1
        assert "its axes fit in the order (0, 2, 1, 3)" in found.out


def test_axes_of_one_may_be_missing_from_what_is_compared(qkv: Program, folder: Path) -> None:
    three = drawn(1, 1, 6, 4, 4, 8)
    save(three)
    for output in (flash(three)[0], flash(three)[:, 0], flash(three)[0, 0]):
        np.save("mine.npy", output)
        right(qkv("output", *said("lhd"), "--scale", "sqrt", "--expect", "mine.npy"))


def test_heads_of_more_than_is_said(qkv: Program, folder: Path) -> None:
    save(drawn(2, 5, 5, 6, 3, 4))
    line = ["output", *said("lhd"), "-f", "npy", "--heads", "6", "--kv-heads", "3"]
    right(qkv(*line))
    assert "--kv-heads says 2" in qkv(*line[:-1], "2").err


REFUSED = {
    "output {lhd} --heads 8": (
        3,
        "query (2, 7, 4, 8) from query.lhd.npy: axis -2 of layout lhd counts the heads, 4, and "
        "--heads says 8",
    ),
    "output {lhd} --heads 7": (3, "; axis -3 counts 7: layout hld"),
    "output {hld} --heads 7": (3, "; axis -2 counts 7: layout lhd"),
    "output {lhd} --heads 4": (3, "; --kv-heads 2 says how many K and V have"),
    "output {l(hd)}": (2, "--layout 'l(hd)' has the heads side by side; --heads N says"),
    "scores -q one.npy -k one.npy --layout lhd": (
        3,
        "query (7, 8) from one.npy: layout lhd needs the axes (…, L, H, d)",
    ),
    "scores -q one.npy -k one.npy --layout hld": (3, "layout hld needs the axes (…, H, L, d)"),
    "output {lhd3}": (2, "--layout l3hd is of one array with Q, K and V in it; give it as --qkv"),
    "run --layout lhd": (2, "--layout lhd says how Q, K and V lie in their files; name them"),
    "run --layout lhd --seed 1": (2, "those of --seed are drawn; leave it out"),
    "run --layout lhd --embeddings one.npy": (2, "X·Wq is l(hd), which --heads splits"),
    "run --layout lhd --example gpt": (2, "those of example gpt are hld; leave it out"),
    "run --layout lhd --example cat": (2, "example cat has no heads; leave it out"),
    "softmax one.npy --layout lhd": (2, "beside scores that are given, it has no meaning"),
    "output one.npy -v one.npy --layout lhd": (2, "beside weights that are given"),
    "explain 0 --scores one.npy --layout lhd": (2, "beside scores that are given"),
    "run --layout lh {names}": (2, "in a shell, l(hd) stands in quotes: 'l(hd)'"),
    "run --qkv fused.npy": (3, "or one of a fused layout: --layout l3hd or 3hld"),
    "run --qkv fused.npz": (3, "fused.npz: holds qkv; --qkv takes a file of three, or one of a"),
    "run --qkv fused.npz:qkv": (3, "--layout l3hd or 3hld"),
    "run --qkv fused.npy --layout 3hld": (
        3,
        "qkv (2, 7, 3, 4, 8) from fused.npy: no axis of 3 where layout 3hld has it, "
        "(…, 3, H, L, d); it fits layout l3hd (…, L, 3, H, d)",
    ),
    "run --qkv one.npy --layout l3hd": (3, "neither does it fit layout 3hld (…, 3, H, L, d)"),
    "run --qkv threes.npy --layout 3hld": (3, "its first axis and axis -4 both count 3"),
    "run --qkv folder --layout l3hd": (3, "there is no file called qkv or qkv_states in it"),
    "run --qkv one.npz --layout l3hd": (3, "there is no qkv or qkv_states in it"),
    "output {lhd} --valid-length 3,4": (0, ""),
    "output {h3} --valid-length 3,4": (2, "has an axis of heads, and none of batches; valid"),
    "output {lhd-as-hld}": (3, "if axis -2 counts the heads, (…, L, H, d), that is layout lhd"),
    "output {names} --heads 4": (
        3,
        "axis -2 already counts 4; if those are the heads, layout lhd, (…, L, H, d), say so, or "
        "swap the two axes before the last and leave heads out; if the last axis holds them, "
        "layout l(hd), (…, L, H·d), say so, or give it as (14, 4, 8)",
    ),
}


@pytest.fixture
def arrays(folder: Path) -> Callable[[str], list[str]]:
    """Files in all layouts, and what makes words of a line that names them."""
    three = drawn(2, 7, 7, 4, 2, 8)
    save(three)
    np.save("one.npy", np.ones((7, 8)))
    np.savez("one.npz", q=np.ones((7, 8)), k=np.ones((7, 8)), v=np.ones((7, 8)))
    np.save("fused.npy", np.ones((2, 7, 3, 4, 8)))
    np.savez("fused.npz", qkv=np.ones((2, 7, 3, 4, 8)), more=np.ones(2))
    np.save("threes.npy", np.ones((3, 3, 4, 7, 8)))
    np.save("h3.npy", np.ones((2, 7, 8)))
    np.save("9.npy", np.ones((2, 9, 4, 8)))
    Path("folder").mkdir()
    np.save("folder/query.npy", np.ones((2, 2)))
    known = {layout: shlex.join(said(layout)) for layout in ("hld", "lhd", "l(hd)")}
    known |= {
        "names": shlex.join(files("lhd")),
        "lhd3": shlex.join([*files("lhd"), "--layout", "l3hd"]),
        "h3": "-q h3.npy -k h3.npy -v h3.npy --layout hld",
        "lhd-as-hld": "-q query.lhd.npy -k 9.npy -v 9.npy",
    }

    def words(line: str) -> list[str]:
        for name, text in known.items():
            line = line.replace(f"{{{name}}}", text)
        return shlex.split(line)

    return words


@pytest.mark.parametrize(("line", "told"), REFUSED.items(), ids=REFUSED)
def test_what_does_not_lie_so_is_refused(
    qkv: Program, arrays: Callable[[str], list[str]], line: str, told: tuple[int, str]
) -> None:
    code, message = told
    found = qkv(*arrays(line))
    assert message in found.err
    assert found.code == code
    assert bool(found.out) == (code == 0)


NOTED = {
    (7, 4, 64): ("--heads 4", "7 batches, each to be split into 4 heads (--layout 'l(hd)'); if its "
                 "second axis counts the heads, say --layout lhd"),
    (4, 7, 64): ("--heads 4", "if its first axis counts the heads, say --layout hld"),
    (2, 90, 4, 8): ("", "is read as (…, H, L, d) with H = 90 (--layout hld); if it is "
                    "(…, L, H, d) with H = 4, say --layout lhd"),
}  # fmt: skip


@pytest.mark.parametrize("shape", NOTED, ids=str)
def test_what_may_lie_otherwise_is_noted_until_it_is_said(
    qkv: Program, folder: Path, shape: tuple[int, ...]
) -> None:
    options, note = NOTED[shape]
    np.save("q.npy", np.ones(shape))
    line = ["scores", "-q", "q.npy", "-k", "q.npy", "-f", "npy"]
    found = qkv(*line, *options.split())
    assert found.code == 0
    assert note in found.err
    right(qkv(*line, "--layout", "l(hd)" if options else "hld", *options.split()))


@pytest.mark.parametrize(
    ("query", "key", "noted"),
    [
        ((2, 1, 8, 64), (2, 30, 8, 64), True),  # one query's heads over a cache, as lhd has them
        ((2, 30, 8, 64), (2, 30, 2, 64), True),  # eight heads that share two
        ((2, 8, 30, 64), (2, 8, 30, 64), False),
        ((2, 8, 30, 64), (2, 2, 30, 64), False),
        ((2, 8, 12, 64), (2, 8, 6, 64), False),  # twelve tokens look at six
        ((2, 32, 8, 64), (2, 32, 8, 64), False),
        ((2, 32, 1, 64), (2, 8, 100, 64), False),  # one query over a cache, as hld has them
        ((2, 12, 12, 64), (2, 12, 12, 64), False),
        ((90, 4, 8), (90, 4, 8), False),  # batches without heads
    ],
)
def test_which_arrays_look_like_tokens_before_heads(
    qkv: Program, folder: Path, query: tuple[int, ...], key: tuple[int, ...], noted: bool
) -> None:
    np.save("q.npy", np.ones(query))
    np.save("k.npy", np.ones(key))
    found = qkv("scores", "-q", "q.npy", "-k", "k.npy", "-f", "npy")
    assert found.code == 0
    assert ("say --layout lhd" in found.err) == noted
    assert (found.err == "") != noted


def test_as_many_tokens_as_heads_are_no_heads_where_the_keys_are_not(
    qkv: Program, folder: Path
) -> None:
    np.save("q.npy", np.ones((3, 4, 32)))
    np.save("k.npy", np.ones((3, 6, 16)))
    right(
        qkv("scores", "-q", "q.npy", "-k", "k.npy", "--heads", "4", "--kv-heads", "2", "-f", "npy")
    )


@pytest.mark.parametrize("example", ["bert", "gpt"])
def test_an_example_has_a_layout_of_its_own(qkv: Program, example: str) -> None:
    own = {"bert": "l(hd)", "gpt": "hld"}[example]
    bare = right(qkv("output", "--example", example))
    assert right(qkv("output", "--example", example, "--layout", own)).out == bare.out
    names = [f"--{name}={SAMPLES / example / name}.npy" for name in ("query", "key", "value")]
    options = ["--heads", "12"] if example == "bert" else ["--preset", "gpt"]
    right(qkv("output", *names, *options, "-f", "npy"))


def test_a_split_last_axis_is_what_was_said(qkv: Program, folder: Path) -> None:
    """Two axes of batches, the second as many as the heads: refused, until the layout is said."""
    generator = np.random.default_rng(1)
    np.save("q.npy", generator.standard_normal((3, 4, 5, 8)))
    line = ["output", "-q", "q.npy", "-k", "q.npy", "-v", "q.npy", "--heads", "4"]
    assert "already counts 4" in qkv(*line).err
    right(qkv(*line, "--layout", "l(hd)", "-o", "all.npy", "--quiet"))
    np.save("q.npy", np.load("q.npy").reshape(12, 5, 8))
    right(qkv(*line, "-o", "each.npy", "--quiet"))
    np.testing.assert_array_equal(np.load("all.npy").reshape(12, 5, 8), np.load("each.npy"))


def test_the_words_are_the_layouts() -> None:
    assert list(LAYOUTS) == list(layouts.LAYOUTS)
    for name, layout in layouts.LAYOUTS.items():
        assert LAYOUTS[name].startswith(layout.axes)


def test_a_bare_run_needs_none_of_it(qkv: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qkvcli.cli.layouts", None)  # importing it would fail
    right(qkv("run"))


def test_an_output_whose_heads_are_joined_is_told(qkv: Program, folder: Path) -> None:
    rng = np.random.default_rng(3)
    q, k, v = rng.normal(size=(3, 2, 6, 7, 4))  # (B, H, L, d) each
    np.savez("hld.npz", q=q, k=k, v=v)
    np.savez(
        "lhd.npz", **{name: a.swapaxes(1, 2) for name, a in zip("qkv", (q, k, v), strict=True)}
    )
    weights = np.exp(q @ k.swapaxes(-1, -2))
    output = weights / weights.sum(axis=-1, keepdims=True) @ v
    np.save("joined.npy", output.swapaxes(1, 2).reshape(2, 7, 24))
    for words in (["hld.npz"], ["lhd.npz", "--layout", "lhd"]):
        told = qkv("output", "--qkv", *words, "--expect", "joined.npy")
        said = "(2, 7, 24): its heads are side by side; then all of it is the same"
        assert (told.code, said in told.out) == (1, True)


@pytest.mark.parametrize(
    ("query", "key", "noted"),
    [
        ((1, 1, 32, 8), (1, 900, 8, 8), True),  # one new token, heads that share, a cache
        ((1, 1, 8, 8), (1, 900, 8, 8), True),
        ((20, 8, 4), (20, 2, 4), False),  # batches of 8 queries and 2 keys, most likely
        ((2, 8, 20, 4), (2, 2, 20, 4), False),
        ((8, 20, 4), (2, 20, 4), False),
        ((8, 3, 4), (8, 5, 4), False),
        ((3, 4), (5, 4), False),
    ],
)
def test_what_is_likely_tokens_first_is_noted(
    qkv: Program, folder: Path, query: tuple[int, ...], key: tuple[int, ...], noted: bool
) -> None:
    np.save("q.npy", np.ones(query))
    np.save("k.npy", np.ones(key))
    found = qkv("softmax", "-q", "q.npy", "-k", "k.npy", "--quiet")
    assert (found.code, "say --layout lhd" in found.err) == (0, noted)


def test_flashattentions_causal_mask_is_noted(qkv: Program, folder: Path) -> None:
    np.save("q.npy", np.ones((1, 10, 2, 4)))
    np.save("k.npy", np.ones((1, 16, 2, 4)))
    words = ["softmax", "-q", "q.npy", "-k", "k.npy", "--causal", "--quiet", "--layout"]
    told = qkv(*words, "lhd").err
    assert "of 10 queries and 16 keys, query 0 is taken to stand at key 0; --offset 6" in told
    assert "offset" not in qkv(*words, "lhd", "--offset", 6).err
    assert "offset" not in qkv(*words, "hld").err
