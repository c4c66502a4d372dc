"""The ONNX project's published cases of its Attention operator, all of them."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx.backend.test.case.node as node_cases
import onnx.backend.test.case.node.attention  # importing it fills the list of cases
import onnx.helper
import pytest

import qkvcli
from tests.conftest import Program

MODES = ("scaled", "capped", "masked", "weights")  # qk_matmul_output_mode 0, 1, 2, 3
NAMES = ("query", "key", "value", "mask", "past_key", "past_value", "valid_length")
OUTPUTS = ("output", "present_key", "present_value", "step")


class Case(NamedTuple):
    """A case in our words: arrays in, options, and what is to come out."""

    arrays: dict[str, Any]
    options: dict[str, Any]
    expected: dict[str, Any]
    step: str
    rtol: float
    atol: float


def cases() -> Iterator[Any]:
    for case in node_cases._NodeTestCases:
        if case.name.startswith("test_attention_") and "_expanded" not in case.name:
            yield pytest.param(in_our_words(case), id=case.name.removeprefix("test_attention_"))


def in_our_words(case: Any) -> Case:
    [node] = case.model.graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    inputs, outputs = case.data_sets[0]
    rtol, atol = case.rtol, case.atol
    if any(array.dtype.name == "bfloat16" for array in inputs):  # NumPy has no such type
        inputs, outputs = ([carried(array) for array in arrays] for arrays in (inputs, outputs))
        rtol = atol = 1e-2
    arrays = dict(zip(_filled(node.input, NAMES), inputs, strict=True))
    expected = dict(zip(_filled(node.output, OUTPUTS), outputs, strict=True))
    options: dict[str, Any] = {"scale": attributes.get("scale") or "sqrt"}
    if attributes.get("softcap"):
        options["softcap"] = attributes["softcap"]
    options["causal"] = bool(attributes.get("is_causal"))
    sides = [attributes.get(f"{side}_window_size", -1) for side in ("left", "right")]
    if sides != [-1, -1]:
        options["window"] = tuple(None if side < 0 else side for side in sides)
    if "q_num_heads" in attributes:
        options |= {"heads": attributes["q_num_heads"], "kv_heads": attributes["kv_num_heads"]}
    if "softmax_precision" in attributes:
        kind = onnx.helper.tensor_dtype_to_np_dtype(attributes["softmax_precision"])
        options["softmax_dtype"] = kind.name
    if "valid_length" in arrays:
        options["valid_length"] = arrays.pop("valid_length").tolist()
    return Case(
        arrays, options, expected, MODES[attributes.get("qk_matmul_output_mode", 0)], rtol, atol
    )


def _filled(places: Any, names: tuple[str, ...]) -> list[str]:
    return [name for place, name in zip(places, names, strict=False) if place]


def carried(array: Any) -> Any:
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


CASES = list(cases())


def test_there_are_93_cases() -> None:
    assert len(CASES) == 93


@pytest.mark.parametrize("case", CASES)
def test_a_published_case_through_the_library(case: Case) -> None:
    steps = qkvcli.attend(**case.arrays, **case.options)
    matches(case, {step.name: step.array for step in steps}, steps.output)


def matches(case: Case, steps: dict[str, Any], output: Any) -> None:
    close(output, case.expected["output"], case)
    if "step" in case.expected:
        # a step that nothing asks for does not exist; ONNX shows the one before it
        names = ["scores", *MODES[: MODES.index(case.step) + 1]]
        found = next(name for name in reversed(names) if name in steps)
        close(steps[found], case.expected["step"], case)
    for name in ("key", "value"):
        if f"present_{name}" in case.expected:
            now, past = case.arrays[name], case.arrays[f"past_{name}"]
            if now.ndim == 3:
                now = now.reshape(*now.shape[:2], past.shape[1], -1).swapaxes(1, 2)
            np.testing.assert_array_equal(
                np.concatenate([past, now], axis=2), case.expected[f"present_{name}"]
            )


def close(actual: Any, expected: Any, case: Case) -> None:
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=case.rtol, atol=case.atol)


@pytest.mark.parametrize("case", CASES)
def test_a_published_case_through_the_command_line(case: Case, qkv: Program, folder: Path) -> None:
    words: list[object] = []
    for name, array in case.arrays.items():
        np.save(f"{name}.npy", array)
        words += [f"--{name.replace('_', '-')}", f"{name}.npy"]
    for name, value in case.options.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [option] if value else []
        elif isinstance(value, (tuple, list)):
            words += [option, ",".join("none" if v is None else str(v) for v in value)]
        else:
            words += [option, value]
    result = qkv("run", *words, "-f", "npz")
    assert result.code == 0
    assert all("queries see nothing" in line for line in result.err.splitlines())  # two cases
    with np.load(io.BytesIO(result.data)) as saved:
        steps = dict(saved)
    matches(case, steps, steps["output"])
