"""The library: what its functions take, what they say, and what they hold."""

import inspect
import json
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qkvcli
from qkvcli.core.config import AttentionConfig
from qkvcli.core.operands import ALONE, PARTS
from tests.conftest import Program, environment

FUNCTIONS: tuple[Any, ...] = (
    qkvcli.attend,
    qkvcli.attention,
    qkvcli.scores,
    qkvcli.softmax,
    qkvcli.output,
)
CONFIG = {field.name for field in fields(AttentionConfig)}
CAT = [[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: str(function.__name__))
def test_every_parameter_is_explicit_and_typed(function: Any) -> None:
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        assert parameter.annotation is not parameter.empty
        required = parameter.default is parameter.empty
        assert parameter.kind is (
            parameter.POSITIONAL_OR_KEYWORD if required else parameter.KEYWORD_ONLY
        )
    text, _, examples = function.__doc__.partition(">>>")
    assert examples
    assert len(text.strip().splitlines()) < 14


def test_no_option_is_left_out_of_a_signature() -> None:
    parts = {part for name in PARTS for part in (name, *PARTS[name].values())}
    inputs = parts | set(ALONE) - {"scores", "weights"}
    for function in (qkvcli.attend, qkvcli.attention):
        parameters = set(inspect.signature(function).parameters)
        assert CONFIG | inputs | {"preset"} <= parameters
    for function in FUNCTIONS:
        known = CONFIG | inputs | {"preset", "scores", "weights"}
        more = {"rows", "labels", "key_labels", "out", "lse", "executor"}
        assert set(inspect.signature(function).parameters) <= known | more


SCRIPT = """
import numpy as np
import qkvcli
from qkvcli import AttentionConfig, Step, Steps

ones = np.ones((2, 2), np.float32)
steps: Steps = qkvcli.attend(ones, ones, ones, scale="sqrt", causal=True, window=(1, None))
step: Step = steps["weights"]
config: AttentionConfig = steps.config
print("weights" in steps)
total: float = float(qkvcli.attention(ones, ones, ones, preset="gpt", dtype=np.float32).sum())
out, lse = qkvcli.attention(ones, ones, ones, lse=True, valid_length=[1])
print(out.shape, lse.shape, qkvcli.softmax([[1, 2]], scale=0.5), dict(steps)["output"].shape)
"""
WRONG = """
qkvcli.attend(ones, ones, ones, scal="sqrt")
qkvcli.attend(ones, ones, ones, scale="sqr")
qkvcli.attend(ones, ones, ones, causal="yes")
qkvcli.attention(ones, ones, ones, scal="sqrt")
qkvcli.attention(ones, ones, ones, scale="sqr")
qkvcli.attention(ones, ones, ones, causal="yes", lse=True)
qkvcli.scores(ones, ones, scale="sqr")
qkvcli.softmax(ones, heads=2)
qkvcli.output(ones, ones, causal=True)
qkvcli.attend(ones, ones, ones, preset="bart")
AttentionConfig(dtype="int8")
"""


def test_a_type_checker_finds_what_is_wrong(tmp_path: Path) -> None:
    """``mypy --strict`` of a user's script: the right one passes, each wrong line is named."""
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + WRONG)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(script)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment())
    found = {int(line.split(":")[1]) for line in ended.stdout.splitlines() if ": error:" in line}
    first = SCRIPT.count("\n") + 2
    assert found == set(range(first, first + WRONG.count("\n") - 1)), ended.stdout


def test_the_right_script_runs() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment()
    )
    assert ran.stderr == ""
    assert ran.stdout.startswith("True\n(2, 2) (2,) [[0.37754067")


def test_steps_are_a_mapping_and_a_sequence(tmp_path: Path) -> None:
    steps = qkvcli.attend(CAT, CAT, CAT, preset="gpt")
    assert "masked" in steps
    assert "capped" not in steps
    assert steps[0] in steps
    assert isinstance(steps, Sequence)
    assert steps.index(steps[1]) == steps.count(steps[1]) == 1
    assert list(steps.keys()) == list(steps.names) == [step.name for step in steps]
    assert dict(steps) == dict(steps.items()) == dict(zip(steps.names, steps, strict=True))
    assert steps.values() == tuple(steps)
    arrays: dict[str, Any] = dict(steps)
    np.savez(tmp_path / "steps.npz", **arrays)
    with np.load(tmp_path / "steps.npz") as saved:
        assert list(saved) == list(steps.names)
    assert repr(steps["weights"]) == "Step(weights = softmax(masked), (3, 3) float64)"
    assert steps.config == AttentionConfig(scale="sqrt", causal=True)


def test_rows_without_labels_keep_their_numbers(tmp_path: Path) -> None:
    some = qkvcli.attend(CAT, CAT, CAT, rows=[2, 1])
    assert [step.rows for step in some] == [("2", "1")] * 3
    some.save(tmp_path / "some.json")
    assert json.loads((tmp_path / "some.json").read_text())["weights"]["rows"] == ["2", "1"]


def test_a_step_is_indexed_as_its_array() -> None:
    steps = qkvcli.attend(CAT, CAT, CAT)
    assert steps["weights"][0, 1] == steps.weights[0, 1]
    assert steps.get("masked") is None
    assert steps.get("output") is steps[-1]
    assert np.ones(3) not in steps
    with pytest.raises(ValueError, match="none of these steps"):
        steps.index(qkvcli.attend(CAT, CAT, CAT)[0])


def test_inputs_may_be_written_to_again() -> None:
    query = np.array(CAT)
    steps = qkvcli.attend(query, CAT, CAT)
    expected = qkvcli.attend(CAT, CAT, CAT).output
    query[:] = 0
    np.testing.assert_array_equal(steps.output, expected)


def test_steps_can_be_pickled() -> None:
    steps = qkvcli.attend(CAT, CAT, CAT, preset="gpt", labels="a b c")
    again = pickle.loads(pickle.dumps(steps))
    assert repr(again) == repr(steps)
    for step, copy in zip(steps, again, strict=True):
        np.testing.assert_array_equal(step, copy)
        assert (step.terms, step.rows, step.columns) == (copy.terms, copy.rows, copy.columns)


@pytest.mark.parametrize("ending", ["npz", "npy", "json", "csv", "tsv", "txt", "md"])
def test_steps_are_saved_as_the_command_line_writes(
    qkv: Program, folder: Path, ending: str
) -> None:
    np.save("a.npy", np.array(CAT))
    steps = qkvcli.attend(CAT, CAT, CAT, scale="sqrt", labels="the cat sat")
    steps.save(f"ours.{ending}")
    files = ["-qa.npy", "-ka.npy", "-va.npy", "--labels", "the cat sat"]
    assert qkv("run", *files, "--scale", "sqrt", "--quiet", "-o", f"its.{ending}").code == 0
    assert Path(f"ours.{ending}").read_bytes() == Path(f"its.{ending}").read_bytes()


def test_saving_says_what_is_wrong(folder: Path) -> None:
    steps = qkvcli.attend(CAT, CAT, CAT)
    with pytest.raises(qkvcli.UsageError, match="the ending says the format; use one of"):
        steps.save("out.pdf")
    with pytest.raises(OSError, match=r"gone/out\.npy: cannot be written") as raised:
        steps.save("gone/out.npy")
    assert isinstance(raised.value, qkvcli.WriteError)
    for name in ("a" * 300 + ".npz", "a\0.npz"):
        with pytest.raises(qkvcli.WriteError):
            steps.save(name)
    with pytest.raises(qkvcli.UsageError, match="no steps to save"):
        steps[:0].save("x.csv")
    assert list(folder.iterdir()) == []


def test_rows_are_computed_alone_and_labels_name_them() -> None:
    options: dict[str, Any] = {"preset": "gpt", "mask": np.zeros((3, 3)), "window": (1, None)}
    whole = qkvcli.attend(CAT, CAT, CAT, **options)
    for rows, numbers in (([2, 0], [2, 0]), (1, [1]), (slice(-2, None), [1, 2]), ("sat,0", [0, 2])):
        some = qkvcli.attend(CAT, CAT, CAT, **options, rows=rows, labels="the cat sat")
        for step in some:
            assert np.asarray(step).shape == step.shape
            np.testing.assert_allclose(step.array, whole[step.name].array[numbers], rtol=1e-12)
            assert step.rows == tuple("the cat sat".split()[i] for i in numbers)
        assert some["weights"].columns == ("the", "cat", "sat")
    with pytest.raises(qkvcli.UsageError, match="rows: index 3 is out of bounds"):
        qkvcli.attend(CAT, CAT, CAT, rows=[3])
    with pytest.raises(qkvcli.UsageError, match="rows: there is no row 7; there are 3"):
        qkvcli.attend(CAT, CAT, CAT, rows="7")
    with pytest.raises(qkvcli.UsageError, match="labels names 1, and there are 3 queries"):
        qkvcli.attend(CAT, CAT, CAT, labels="a")


def test_projected_queries_have_the_rows_too() -> None:
    some = qkvcli.attend(CAT, CAT, CAT, wq=np.eye(2), wk=np.eye(2), rows=[1], labels="a b c")
    assert [(step.name, step.shape) for step in some[:3]] == [
        ("query", (1, 2)),
        ("key", (3, 2)),
        ("scores", (1, 3)),
    ]
    assert some["query"].rows == ("b",)


def test_nothing_is_held_until_it_is_looked_at() -> None:
    arrays = np.random.default_rng(0).standard_normal((3, 12_000, 8), dtype=np.float32)
    tracemalloc.start()
    try:
        steps = qkvcli.attend(*arrays, preset="gpt")
        assert tracemalloc.get_traced_memory()[1] < 2e6
        assert steps["weights"].shape == (12_000, 12_000)
        assert steps.output.shape == (12_000, 8)  # by blocks: the weights would be 576 MB
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("length", [40, 2_000])
def test_attention_is_the_output_and_the_log_sum_exp(tmp_path: Path, length: int) -> None:
    rng = np.random.default_rng(0)
    query, key, value = rng.normal(size=(3, length, 8))
    options: dict[str, Any] = {"heads": 4, "kv_heads": 4, "scale": "sqrt", "window": (9, 0)}
    steps = qkvcli.attend(query, key, value, **options, valid_length=length - 2, offset=3)
    options |= {"valid_length": length - 2, "offset": 3}
    file = np.lib.format.open_memmap(
        tmp_path / "out.npy", "w+", dtype=np.float64, shape=(length, 8)
    )
    out, lse = qkvcli.attention(query, key, value, **options, out=file, lse=True)
    assert out is file
    np.testing.assert_allclose(file, steps.output, atol=1e-12)
    np.testing.assert_allclose(qkvcli.attention(query, key, value, **options), file)
    with np.errstate(divide="ignore"):
        expected = np.log(np.exp(steps["masked"].array).sum(axis=-1))
    np.testing.assert_allclose(lse, expected, atol=1e-10)
    late = qkvcli.attention(query, key, value, window=(0, 0), offset=length, lse=True)
    assert np.isneginf(late[1]).all()  # no query sees a key
    assert (late[0] == 0).all()


def test_out_must_hold_the_output() -> None:
    with pytest.raises(qkvcli.ShapeError, match=r"out \(3, 1\): the output is \(3, 2\)"):
        qkvcli.attention(CAT, CAT, CAT, out=np.empty((3, 1)))
    with pytest.raises(
        qkvcli.DtypeError, match="out holds int64, and the output is float64; give floats"
    ):
        qkvcli.attention(CAT, CAT, CAT, out=np.empty((3, 2), np.int64))
    wrong: Any = [[0.0]]
    with pytest.raises(qkvcli.DtypeError, match="out is a list, and no NumPy array"):
        qkvcli.attention(CAT, CAT, CAT, out=wrong)
    with pytest.raises(qkvcli.UsageError, match="out cannot be written to"):
        qkvcli.attention(CAT, CAT, CAT, out=np.broadcast_to(0.0, (3, 2)))
    narrow = np.empty((3, 2), np.float32)
    assert qkvcli.attention(CAT, CAT, CAT, out=narrow) is narrow


@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_out_may_be_an_input(name: str) -> None:
    rng = np.random.default_rng(0)
    given = dict(zip(("query", "key", "value"), rng.normal(size=(3, 1500, 4)), strict=True))
    query, key, value = given.values()
    expected = qkvcli.attention(query, key, value)
    np.testing.assert_array_equal(qkvcli.attention(query, key, value, out=given[name]), expected)


@pytest.mark.parametrize(
    ("rows", "shape"),
    [((0, 2), (2, 3)), ([], (0, 3)), (np.array([True, False, True]), (2, 3)), (slice(1), (1, 3))],
)
def test_rows_are_chosen_as_numpy_does(rows: Any, shape: tuple[int, ...]) -> None:
    assert qkvcli.attend(CAT, CAT, CAT, rows=rows).weights.shape == shape


@pytest.mark.parametrize("rows", [[[0, 1]], slice(0, 2, 0), slice("a", None), [0.5], "9" * 5000])
def test_rows_that_choose_nothing_are_refused(rows: Any) -> None:
    with pytest.raises(qkvcli.UsageError, match=r"^rows: "):
        qkvcli.attend(CAT, CAT, CAT, rows=rows)


@pytest.mark.parametrize("far", [2**61, sys.maxsize, 2**70])
def test_positions_do_not_overflow(far: int) -> None:
    ones = np.ones((3, 1))
    assert np.isfinite(qkvcli.scores(ones, ones, window=(far, far))).all()
    assert np.isfinite(qkvcli.scores(ones, ones, causal=True, offset=far)).all()
    assert np.isneginf(qkvcli.scores(ones, ones, causal=True, offset=-far)).all()


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 10**400},
        {"softcap": 10**400},
        {"preset": ["gpt"]},
        {"heads": 10**30},
        {"labels": 5},
    ],
)
def test_options_beyond_reason_are_refused(options: Any) -> None:
    with pytest.raises(qkvcli.QkvError):
        qkvcli.attend(CAT, CAT, CAT, **options)


def test_errors_are_the_built_in_ones_too_and_name_the_operand() -> None:
    cases: list[tuple[type[Exception], Any, str]] = [
        (ValueError, {"scale": "sqr"}, "scale 'sqr' is not none, sqrt or a finite number"),
        (ValueError, {"key": np.ones((3, 5))}, r"query \(3, 2\) and key \(3, 5\)"),
        (TypeError, {"value": [["a"]] * 3}, r"value \(3, 1\): numbers of type <U1 are not real"),
        (TypeError, {"mask": np.ones((3, 3), complex)}, r"mask \(3, 3\): numbers of type complex"),
        (ValueError, {"query": [[1], [2, 3]]}, "query cannot be read as an array: "),
        (ValueError, {"query": None}, "no query was given"),
        (ValueError, {"past_key": CAT, "past_value": np.ones(2)}, r"past value \(2,\): needs"),
    ]
    for kind, changed, message in cases:
        with pytest.raises(kind, match=message) as raised:
            qkvcli.attend(**{"query": CAT, "key": CAT, "value": CAT, **changed})
        assert isinstance(raised.value, qkvcli.QkvError)
    with pytest.raises(KeyError, match="no step 'weight'; there are scores, weights, output"):
        qkvcli.attend(CAT, CAT, CAT)["weight"]


class Tensor:
    """What PyTorch's tensors ask for before they become arrays."""

    def __init__(self, array: Any, dtype: str = "torch.float32", ready: bool = False) -> None:
        self.array, self.dtype, self.ready = array, dtype, ready

    def detach(self) -> "Tensor":
        return Tensor(self.array, self.dtype)

    def cpu(self) -> "Tensor":
        return Tensor(self.array, self.dtype, ready=True)

    def float(self) -> "Tensor":
        return Tensor(self.array, ready=self.ready)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if not self.ready or self.dtype != "torch.float32":
            raise TypeError("Can't convert this tensor to numpy")
        return np.asarray(self.array, np.float32)


def test_anything_that_is_an_array_is_taken(tmp_path: Path) -> None:
    expected = qkvcli.attend(CAT, CAT, CAT).weights
    np.save(tmp_path / "cat.npy", CAT)
    mapped = np.load(tmp_path / "cat.npy", mmap_mode="r")
    for query in (Tensor(CAT), Tensor(CAT, "torch.bfloat16"), mapped, tuple(map(tuple, CAT))):
        given: Any = query
        np.testing.assert_array_equal(qkvcli.attend(given, CAT, CAT).weights, expected)
    with pytest.raises(qkvcli.DataError, match="key: a masked array; fill it"):
        qkvcli.attend(CAT, np.ma.masked_less(CAT, 1), CAT)


def test_bfloat16_arrays_are_carried_in_float32() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    narrow: Any = np.array(CAT, ml_dtypes.bfloat16)
    steps = qkvcli.attend(narrow, narrow, narrow)
    assert steps.output.dtype == np.float32


def test_pandas_frames_are_taken() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(CAT, index=["the", "cat", "sat"])
    np.testing.assert_array_equal(
        qkvcli.attend(frame, frame, frame).output, qkvcli.attend(CAT, CAT, CAT).output
    )


def test_importing_the_library_imports_no_numpy() -> None:
    code = "import json, sys, qkvcli; print(json.dumps('numpy' in sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
    )
    assert json.loads(ran.stdout) is False


def test_markdown_has_a_table_for_each_head(folder: Path) -> None:
    qkvcli.attend(*np.ones((3, 2, 3, 4))).save("heads.md")
    assert Path("heads.md").read_text().count("head 1") == 3
