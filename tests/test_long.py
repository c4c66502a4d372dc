"""Any length: only the rows that are shown, files in parts, and the same numbers as ever."""

import io
import json
import subprocess
import sys
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qkvcli
from qkvcli import api
from qkvcli.core import compute, threads
from qkvcli.core.blocks import Blocks
from qkvcli.core.compute import SIZES, Sizes, output_into, steps_of
from qkvcli.core.dense import dense
from qkvcli.core.fitting import problem_of
from qkvcli.core.problem import Problem
from qkvcli.core.threads import CalledOffError, at_once, openblas, ordered
from qkvcli.core.views import rows_named
from qkvcli.errors import UsageError
from tests.conftest import Program, environment
from tests.test_models import problems

ARRAYS = {"query", "key", "value", "mask", "past_key", "past_value"}
HOLD_NOTHING = Sizes(held=0)


def fitted(given: dict[str, Any]) -> Problem:
    """What `attend` makes of its arguments."""
    return problem_of(*api._asked(given))


def in_parts(given: dict[str, Any], sizes: Sizes = HOLD_NOTHING) -> dict[str, Any]:
    """Every step as a file would get it, put together."""
    steps = steps_of(fitted(given), sizes=sizes)
    return {step.name: np.concatenate(list(step.parts())).reshape(step.shape) for step in steps}


def log_sum_exp(steps: qkvcli.Steps) -> Any:
    """The logarithm of each row's sum, by the longest way."""
    last = steps[steps.names.index("weights") - 1].array
    with np.errstate(divide="ignore"):
        return np.logaddexp.reduce(last, axis=-1)


@given(
    problems(), st.integers(1, 5), st.integers(1, 5), st.integers(1, 30), st.booleans(), st.data()
)
def test_blocks_of_any_size_give_the_dense_numbers(
    problem: dict[str, Any], queries: int, keys: int, part: int, flat: bool, data: Any
) -> None:
    if flat:
        heads, groups = len(problem["query"]), len(problem["key"])
        for name in ARRAYS & set(problem) - {"mask"}:
            problem[name] = problem[name].swapaxes(0, 1).reshape(problem[name].shape[1], -1)
        problem |= {"heads": heads, "kv_heads": groups}
    kind = data.draw(st.sampled_from([None, "float32", "float64"]))
    problem |= {"softmax_dtype": kind} if kind else {}
    sizes = Sizes(0, part, queries, keys)
    found = in_parts(problem, sizes)
    tolerance = 1e-5 if kind == "float32" else 1e-10
    steps = qkvcli.attend(**problem)
    for step in steps:
        np.testing.assert_allclose(found[step.name], step.array, atol=tolerance, err_msg=step.name)
    out, lse = np.empty(steps.output.shape), np.empty(steps.weights.shape[:-1])
    output_into(fitted(problem), out, lse, sizes)
    np.testing.assert_allclose(out, steps.output, atol=tolerance)
    np.testing.assert_allclose(lse, log_sum_exp(steps), atol=max(tolerance, 1e-6), rtol=1e-6)


@pytest.mark.parametrize("largest", [3, 80])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"causal": True},
        {"causal": True, "offset": -3000},  # rows wholly hidden
        {"window": (700, 300)},
        {"valid_length": 5000},
        {"softcap": 20.0},
    ],
)
def test_float32_blocks_are_close_to_float64(largest: float, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    n = 8192 - 77  # no multiple of a block
    query, key, value = (rng.standard_normal((n, 64), dtype=np.float32) for _ in range(3))
    query *= np.float32(largest / 6)  # the largest of the products is then about ±80
    rows = np.r_[0:5, 2990:3010, n - 20 : n]
    scale = 1 / 8
    found = in_parts({"query": query, "key": key, "value": value, "scale": scale, **options})
    exact = (array.astype(float) for array in (query, key, value))
    dense = qkvcli.attend(*exact, scale=scale, **options, rows=rows)
    if largest == 80 and not options:
        assert 60 < np.abs(dense["scaled"].array).max() < 100
    np.testing.assert_allclose(found["output"][rows], dense.output, atol=1e-5)


def test_float32_blocks_survive_what_is_extreme() -> None:
    """References that must move far, and up and down, keep every digit."""
    query = np.ones((2, 1), np.float32)
    levels = np.array([-500, -300, 0, 90, 200, 500, 499, -500], np.float32)
    key = np.repeat(levels, 300)[:, None]
    value = np.repeat(np.arange(8, dtype=np.float32), 300)[:, None]
    steps = qkvcli.attend(query, key, value)
    found = in_parts({"query": query, "key": key, "value": value})
    backwards = in_parts({"query": query, "key": key[::-1], "value": value[::-1]})
    np.testing.assert_allclose(found["output"], steps.output, rtol=2e-6)
    np.testing.assert_allclose(backwards["output"], steps.output, rtol=2e-6)


def test_what_spoils_a_block_spoils_only_those_who_see_it() -> None:
    rng = np.random.default_rng(0)
    query, key, value = rng.standard_normal((3, 700, 4))
    value[650] = [np.nan, np.inf, -np.inf, 1]
    key[660] = np.nan
    problem = {"query": query, "key": key, "value": value, "causal": True}
    found = in_parts(problem)["output"]
    np.testing.assert_allclose(found, qkvcli.attend(**problem).output, atol=1e-12)
    assert np.isfinite(found[:650]).all()
    assert np.isnan(found[660:]).all()


@pytest.fixture
def long(folder: Path) -> list[str]:
    """1,100 tokens in files, which is more than is held; as options."""
    rng = np.random.default_rng(0)
    for name in "qkv":
        np.save(f"{name}.npy", rng.standard_normal((1100, 8), dtype=np.float32))
    return ["-q", "q.npy", "-k", "k.npy", "-v", "v.npy"]


@pytest.mark.parametrize("options", ["", "--causal --scale sqrt", "--window 9,9", "--heads 2"])
def test_saved_files_hold_the_dense_numbers(qkv: Program, long: list[str], options: str) -> None:
    words = [*long, *options.split()]
    query, key, value = (np.load(f"{name}.npy") for name in "qkv")
    dense = qkvcli.attend(
        query,
        key,
        value,
        causal="causal" in options,
        heads=2 if "heads" in options else None,
        window=(9, 9) if "window" in options else None,
        scale="sqrt" if "sqrt" in options else None,
    )
    endings = ("npy", "npz", "csv", "json") if options == "--heads 2" else ("npy", "npz")
    for ending in endings:
        assert qkv("run", *words, "--quiet", "-o", f"all.{ending}").code == 0
    with np.load("all.npz") as archive:
        saved = dict(archive)
    assert set(saved) == set(dense.names)
    for step in dense:
        np.testing.assert_allclose(saved[step.name], step.array, atol=1e-5, err_msg=step.name)
    np.testing.assert_array_equal(np.load("all.npy"), saved["output"])
    if "csv" in endings:
        text = np.loadtxt("all.csv", delimiter=",").astype(np.float32)
        np.testing.assert_array_equal(text, saved["output"])
        read = json.loads(Path("all.json").read_text())
        assert read["weights"]["shape"] == list(dense.weights.shape)
        np.testing.assert_array_equal(np.float32(read["weights"]["data"]), saved["weights"])
    piped = qkv("softmax", *words, "-f", "npy").data
    np.testing.assert_array_equal(np.load(io.BytesIO(piped)), saved["weights"])
    np.save("w.npy", dense.weights)
    heads = options.split() if "heads" in options else []
    assert qkv("output", "w.npy", "-v", "v.npy", *heads, "-o", "o.npy", "--quiet").code == 0
    np.testing.assert_allclose(np.load("o.npy"), dense.output, atol=1e-5)


def test_tables_show_the_rows_asked_for(qkv: Program, long: list[str]) -> None:
    arrays = [np.load(f"{name}.npy") for name in "qkv"]
    dense = qkvcli.attend(*arrays, causal=True)
    shown = qkv("run", *long, "--causal", "--rows", "0:2,700,-1:", "--digits", 5).out
    for step in dense:
        table = shown.split(f"{step.name} = ")[1].split("\n\n")[0].splitlines()
        table = table[table.index(next(line for line in table if "─" in line)) :]
        lines = [line.split() for line in table if "─" not in line]
        heads = [line[0] for line in lines if line[0].isdigit()]
        assert heads == ["0", "1", "700", "1099"]
        assert "…" not in [line[0] for line in lines]  # rows that were chosen stand alone
        for line in lines:
            if line[0].isdigit():
                assert float(line[1].replace("·", "0").lstrip("*")) == pytest.approx(
                    step.array[int(line[0]), 0], abs=1e-5
                )
    edges = qkv("output", *long, "-f", "table").out.splitlines()
    assert edges[3].startswith("0 ")
    assert edges[-2].startswith("1099 ")
    assert len(edges) <= 24


def test_rows_choose_in_every_format(qkv: Program, folder: Path) -> None:
    words = ["softmax", "--seed", 42, "--labels", "The cat sat on mat"]
    whole = json.loads(qkv(*words, "-f", "json").out)["weights"]
    some = json.loads(qkv(*words, "--rows", "cat,-1", "-f", "json", "-o", "all.npy").out)["weights"]
    assert some["rows"] == ["cat", "mat"]
    np.testing.assert_allclose(some["data"], [whole["data"][1], whole["data"][4]], rtol=1e-12)
    np.testing.assert_allclose(np.load("all.npy"), some["data"], rtol=0)
    assert qkv(*words, "--rows", "cat").out.splitlines()[1].startswith("cat,")
    wrong = qkv(*words, "--rows", "dog")
    assert (wrong.code, "'dog' is not an index, a slice or a label" in wrong.err) == (2, True)
    assert qkv(*words, "--rows", 9).err == "qkvcli: --rows: there is no row 9; there are 5\n"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("0", [0]),
        ("-1", [9]),
        ("2:4", [2, 3]),
        (":2,8:", [0, 1, 8, 9]),
        ("::4", [0, 4, 8]),
        ("3,1,3", [1, 3]),
        ("8:99", [8, 9]),
        ("the", [0, 4]),
    ],
)
def test_rows_are_indexes_slices_and_labels(text: str, rows: list[int]) -> None:
    labels = ("the", "cat", "sat", "on", "the", *"abcde")
    assert rows_named(text, 10, labels).tolist() == rows
    with pytest.raises(UsageError):
        rows_named("::0", 10, labels)


MEASURED = """
import os, sys
pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-m", "qkvcli", *sys.argv[1:]])
_, status, usage = os.wait4(pid, 0)
assert status == 0, status
print(usage.ru_maxrss / 1000, file=sys.stderr)
"""


def peak_of(*words: str) -> float:
    """The most memory that the program had, in MB.

    A small process starts it: what is started counts the memory of what starts it.
    """
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, *words],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    return float(ended.stderr)


def test_memory_does_not_grow_with_the_scores(longer: list[str]) -> None:
    assert peak_of("output", *longer, "-o", "out.npy", "--quiet") < 250
    for name in "qk":
        np.save(f"{name}.npy", np.load(f"{name}.npy")[:7000])
    assert peak_of("softmax", *longer[:4], "-o", "weights.npy", "--quiet") < 250
    weights = np.load("weights.npy", mmap_mode="r")
    assert weights.shape == (7000, 7000)
    np.testing.assert_allclose(weights[::700].sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("low", [-1e9, -3e38, -65504.0, -1e4, 1e4, -50.0])
def test_a_large_bias_blurs_no_score(low: float) -> None:
    """Masks of a large negative number, as real models ship them."""
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((n, 16), dtype=np.float32) for n in (700, 900, 900))
    mask = np.zeros(900, np.float32)
    mask[:300] = low
    problem: dict[str, Any] = {"query": query, "key": key, "value": value, "mask": mask}
    problem["scale"] = "sqrt"
    found = in_parts(problem)["output"]
    wide = {name: one.astype(float) for name, one in problem.items() if name in ARRAYS}
    dense = qkvcli.attend(**wide, scale="sqrt").output
    if low < 1e4:
        np.testing.assert_allclose(found, dense, atol=1e-5)
    np.testing.assert_allclose(
        found, qkvcli.attend(**problem).output, atol=1e-5 if low < 1e4 else 1e-3
    )


@pytest.mark.parametrize("low", [-3e5, -200.0, -30.0])
def test_first_keys_far_below_the_rest_blur_no_score(low: float) -> None:
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((900, 16), dtype=np.float32) for _ in range(3))
    query = np.abs(query)
    key[:300] = low
    found = in_parts({"query": query, "key": key, "value": value, "scale": "sqrt"})["output"]
    dense = qkvcli.attend(*(a.astype(float) for a in (query, key, value)), scale="sqrt").output
    np.testing.assert_allclose(found, dense, atol=1e-5)


@pytest.mark.parametrize("size", [1e22, 1e28, 1e33])
def test_large_values_do_not_overflow(size: float) -> None:
    query, key = np.ones((600, 1), np.float32), np.full((600, 1), 14, np.float32)
    key[:256] = -14
    value = np.full((600, 1), size, np.float32)
    found = in_parts({"query": query, "key": key, "value": value})["output"]
    np.testing.assert_allclose(found, size, rtol=1e-5)


def test_values_without_columns_give_an_output_without() -> None:
    ones = np.ones((30, 4))
    found = in_parts({"query": ones, "key": ones, "value": np.ones((30, 0))})
    assert found["output"].shape == (30, 0)


def test_work_that_is_called_off_spoils_no_other() -> None:
    """Closing one result half way leaves another, computed meanwhile, as it is."""
    rng = np.random.default_rng(0)
    query, key, value = rng.standard_normal((3, 4_000, 16))
    given = {"query": query, "key": key, "value": value, "scale": "sqrt"}
    expected = qkvcli.attention(**given)
    sizes = Sizes(held=0, parts=4_000 * 200, queries=64, keys=64)
    for _ in range(5):
        step = steps_of(fitted(given), sizes=sizes)[-2]
        parts = step.parts()
        found = np.empty_like(expected)
        worker = Thread(target=output_into, args=(fitted(given), found, None, sizes))
        worker.start()
        next(parts)
        parts.close()  # type: ignore[attr-defined]
        worker.join()
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_block_that_is_called_off_raises() -> None:
    ones = np.ones((10, 2))
    blocks = Blocks(fitted({"query": ones, "key": ones, "value": ones}), 5)
    stop = Event()
    assert blocks.output(ones[:5], slice(0, 5), stop).output.tolist() == [[1, 1]] * 5
    stop.set()
    with pytest.raises(CalledOffError):
        blocks.output(ones[:5], slice(0, 5), stop)


def test_what_waits_is_dropped_when_a_piece_fails() -> None:
    begun = []

    def job(n: int, stop: Event) -> int:
        begun.append(n)
        if n == 3:
            raise ValueError("three")
        stop.wait(0.01)
        return n

    with pytest.raises(ValueError, match="three"):
        list(ordered(job, range(1000)))
    assert len(begun) < 100


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"softcap": 2.0, "window": (3, 1)}])
def test_some_heads_and_batches_are_those_of_the_whole(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "query": rng.normal(size=(3, 8, 5, 4)),
        "key": rng.normal(size=(3, 2, 6, 4)),
        "value": rng.normal(size=(3, 4, 6, 3)),
        "mask": rng.normal(size=(3, 8, 5, 6)),
        "valid_length": [6, 4, 2],
    }
    problem = fitted({**arrays, **options})
    whole = dense(problem)
    for heads in ((0,), (7,), (2, 3), (0, 4), (0, 1, 5), (0, 1, 2, 3, 4, 5, 6, 7), (6, 1)):
        some = dense(problem.with_heads(heads))
        for name, array in some.items():
            np.testing.assert_allclose(array, whole[name][:, list(heads)], atol=1e-12)
        both = dense(problem.with_batches((2, 0)).with_rows(np.array([4, 1])).with_heads(heads))
        for name, array in both.items():
            expected = whole[name][[2, 0]][:, list(heads)][:, :, [4, 1]]
            np.testing.assert_allclose(array, expected, atol=1e-12)


def test_shared_heads_are_not_copied(folder: Path) -> None:
    """One row of one of 8 query heads, over 2 heads of K and V: one of the two is read."""
    rng = np.random.default_rng(0)
    for name, heads in (("q", 8), ("k", 2), ("v", 2)):
        np.save(f"{name}.npy", rng.standard_normal((heads, 100_000, 32), dtype=np.float32))
    files = ["-q", "q.npy", "-k", "k.npy", "-v", "v.npy"]
    least = peak_of("run", "-f", "csv")
    part = 100_000 * 32 * 4 / 1e6  # a head of K, or of V
    assert peak_of("output", *files, "--rows", "0", "--head", "0") < least + 2 * part + 15
    assert peak_of("output", *files, "--rows", "0") < least + 4 * part + 30


@pytest.mark.parametrize(("dtype", "size"), [("f4", 1e36), ("f4", 3e38), ("f8", 1.7e308)])
def test_sums_of_the_largest_values_do_not_overflow(dtype: str, size: float) -> None:
    zeros, value = np.zeros((2000, 2), dtype), np.full((2000, 2), size, dtype)
    np.testing.assert_allclose(qkvcli.attention(zeros, zeros, value), value, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"hide": True}])
def test_values_that_are_not_finite_are_those_of_dense(bad: float, options: Any) -> None:
    """Also behind a weight that becomes 0 only after the value was summed."""
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((2000, 8), dtype=np.float32) for _ in range(3))
    value[100], value[1900, 3] = bad, -bad
    if "hide" in options:
        options = {"mask": np.where(np.arange(2000) < 200, np.finfo(np.float32).min, 0)}
    rows = [0, 50, 150, 1950]
    dense = qkvcli.attend(query, key, value, **options, rows=rows).output
    blocks = qkvcli.attention(query, key, value, **options)[rows]
    np.testing.assert_allclose(blocks, dense, atol=1e-5)


@pytest.mark.parametrize("place", ["query", "key"])
def test_one_nan_leaves_the_others_every_digit(place: str) -> None:
    rng = np.random.default_rng(0)
    arrays = {n: rng.standard_normal((2000, 16), dtype=np.float32) for n in ("query", "key")}
    arrays["query"] *= 4
    arrays[place][0] = np.nan
    value = rng.standard_normal((2000, 16), dtype=np.float32)
    seen = np.arange(2000) > 0 if place == "key" else np.ones(2000, bool)
    exact = {name: array.astype(float) for name, array in arrays.items()}
    dense = qkvcli.attend(exact["query"], exact["key"], value.astype(float), mask=seen).output
    blocks = qkvcli.attention(arrays["query"], arrays["key"], value, mask=seen)
    np.testing.assert_allclose(blocks[1:], dense[1:], atol=5e-6)


def test_blas_has_its_threads_again_when_calls_overlap() -> None:
    threads = openblas("get_num_threads")
    if threads is None:
        pytest.skip("NumPy's BLAS is not OpenBLAS")
    before = threads()
    first, second = (ordered(lambda n, stop: n, range(9)) for _ in range(2))
    assert (next(first), next(second)) == (0, 0)
    assert (list(first), list(second)) == (list(range(1, 9)),) * 2
    assert threads() == before


def test_more_batches_beside_large_scores_tell_the_width(qkv: Program, folder: Path) -> None:
    rng = np.random.default_rng(0)
    np.save("s.npy", rng.normal(size=(1100, 1100)))
    np.save("q.npy", rng.normal(size=(2, 3, 1100, 4)))
    shown = qkv("softmax", "s.npy", "-q", "q.npy", "--scale", "sqrt", "-f", "npy")
    assert (shown.code, shown.err) == (0, "")
    expected = qkvcli.softmax(np.load("s.npy"), scale=0.5)
    np.testing.assert_allclose(np.load(io.BytesIO(shown.data)), expected)


def test_values_may_have_more_batches_than_large_scores() -> None:
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=shape) for shape in ((1100, 4), (1100, 4), (2, 1100, 3)))
    steps = qkvcli.attend(query, key, value)
    assert (steps.weights.shape, steps.output.shape) == ((1100, 1100), (2, 1100, 3))
    np.testing.assert_allclose(steps.output, steps.weights @ value, atol=1e-12)


def test_labels_follow_their_rows_through_all_parts(qkv: Program, long: list[str]) -> None:
    """More than one part is written, and more than one matrix."""
    labels = [f"t{i}" for i in range(1100)]
    words = ["softmax", *long[:4], "--heads", 2, "--labels", " ".join(labels)]
    whole = qkvcli.attend(*(np.load(f"{name}.npy") for name in "qkv"), heads=2).weights
    for kind in ("csv", "txt"):
        shape, head, *lines = qkv(*words, "-f", kind).out.splitlines()
        parted = "," if kind == "csv" else None
        assert shape == "# shape 2 1100 1100"
        assert [cell for cell in head.split(parted) if cell] == labels
        assert [line.split(parted, 1)[0] for line in lines] == labels * 2
        for i in (0, 1099, 1100, 2199):
            row = np.array(lines[i].split(parted)[1:], np.float32)
            np.testing.assert_allclose(row, whole.reshape(2200, 1100)[i], rtol=1e-5)


@pytest.mark.parametrize("step", ["scores", "weights", "output"])
def test_progress_counts_every_part_once(step: str) -> None:
    """Of the output, blocks of keys: two threads may have counted more than one since last time."""
    calls: list[tuple[int, int]] = []
    ones = np.ones((2, 30, 4))
    problem = fitted({"query": ones, "key": ones, "value": ones})
    sizes = Sizes(held=0, parts=30 * 7 * at_once(), queries=7, keys=8)

    def advance(done: int, total: int) -> None:
        calls.append((done, total))

    [found] = [s for s in steps_of(problem, sizes=sizes, advance=advance) if s.name == step]
    assert not calls
    _ = found.array
    counts, totals = zip(*calls, strict=True)
    if step == "output":
        assert counts == tuple(sorted(counts))
        assert (counts[-1], set(totals)) == (40, {40})  # each part sees four blocks of keys
    else:
        assert calls == [(i, 10) for i in range(1, 11)]  # 30 rows are five parts, of two matrices


@pytest.mark.parametrize("faked", [1, 2, 16, 64])
def test_parts_that_wait_do_not_grow_with_the_cores(
    faked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: faked)
    ones = np.ones((5000, 4), np.float32)
    problem = fitted({"query": ones, "key": ones, "value": ones})
    under_way, most = set[int](), 0
    held = Lock()

    def job(item: int, stop: Event) -> int:
        nonlocal most
        with held:
            under_way.add(item)
            most = max(most, len(under_way))
        return item

    for item in ordered(job, range(300)):
        under_way.discard(item)
    rows = compute._rows_at_once(problem, SIZES)
    assert most <= at_once() == 2 * faked
    assert at_once() * rows * 5000 <= SIZES.parts


def test_numbers_beyond_the_type_are_no_nan(qkv: Program) -> None:
    """A factor or a cap that float32 does not hold is taken in float64."""
    rng = np.random.default_rng(0)
    query, key, value = rng.standard_normal((3, 30, 4)).astype(np.float32)
    wide = [array.astype(float) for array in (query, key, value)]
    for options in ({"scale": 1e39}, {"scale": 1e-50}, {"softcap": 1e39}, {"softcap": 1e-50}):
        given: dict[str, Any] = {"query": query, "key": key, "value": value, **options}
        expected = qkvcli.attend(*wide, **options).output  # type: ignore[arg-type]
        np.testing.assert_allclose(qkvcli.attend(**given).output, expected, atol=1e-5)
        found = in_parts(given, Sizes(held=0, queries=7, keys=5))
        np.testing.assert_allclose(found["output"], expected, atol=1e-5)


F4: Any = np.float32


@pytest.mark.parametrize(
    ("query", "key", "options"),
    [
        (F4(1e25), F4([0, 0, 1e-23]), {}),  # whose square float32 does not hold
        (F4(2e11), F4([0, 1, -1]), {"scale": 1e30}),  # a query × the scale overflows
        (F4(3e38), F4([0, 0, 1e-42]), {"scale": 1000}),
        (2e-308, [-np.inf, 0, 1], {"scale": 1e-30}),  # or vanishes
        (5e-324, [-np.inf, 0, 1], {"scale": "sqrt"}),
        (1.0, [0, 1, 2], {"scale": 0}),
        (1e-287, [0, 0.165, 0], {"scale": 1e300}),  # whose square no float holds
    ],
)
def test_blocks_of_hard_numbers_are_dense(query: Any, key: Any, options: dict[str, Any]) -> None:
    key = np.asarray(key)[:, None]
    value = np.array([[1], [2], [3]], key.dtype)
    given = {"query": np.array([[query]], key.dtype), "key": key, "value": value, **options}
    for keys in (1, 2):
        found = in_parts(given, Sizes(held=0, queries=2, keys=keys))["output"]
        np.testing.assert_allclose(found, qkvcli.attend(**given).output, rtol=1e-6)


@pytest.mark.parametrize(
    ("window", "offset", "seen"),
    [
        ((None, 2**62 - 1), -(2**62), [0, 0, 0]),
        ((2**61, None), 2**62, [0, 0, 0]),
        ((2**63, 2**70), -(2**62), [1, 1, 1]),
        ((2**80, 2**80), 0, [1, 1, 1]),
        ((0, 0), 1, [0, 1, 0]),
    ],
)
def test_positions_may_be_as_far_as_one_likes(window: Any, offset: int, seen: list[int]) -> None:
    zeros = np.zeros((3, 1))
    weights = qkvcli.attend(zeros[:1], zeros, zeros, window=window, offset=offset).weights
    assert (weights[0] > 0).astype(int).tolist() == seen


def test_small_keys_before_large_ones_blur_no_score() -> None:
    """The largest block of keys says how wide the products must be, not the smallest."""
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((900, 16), dtype=np.float32) for _ in range(3))
    query *= 16
    key[:256] *= np.float32(0.001)
    found = in_parts({"query": query, "key": key, "value": value})["output"]
    dense = qkvcli.attend(*(a.astype(float) for a in (query, key, value))).output
    np.testing.assert_allclose(found, dense, atol=5e-6)  # 4e-7 in float64, 4e-5 in float32


def test_no_step_after_the_one_asked_for_is_computed() -> None:
    ones = np.ones((2, 2))
    problem = fitted({"query": ones, "key": ones, "value": ones})
    assert list(dense(problem, "scores")) == ["scores"]
    assert list(dense(problem, "weights")) == ["scores", "weights"]


@pytest.mark.parametrize("command", ["softmax", "output"])
def test_rows_of_a_step_that_is_given(qkv: Program, folder: Path, command: str) -> None:
    """Some rows, heads and batches of scores and of weights from a file, as data and tables."""
    rng = np.random.default_rng(0)
    given, value = rng.random((2, 3, 7, 5)), rng.random((2, 3, 5, 4))
    given /= given.sum(axis=-1, keepdims=True)
    np.save("given.npy", given)
    np.save("value.npy", value)
    whole = qkvcli.softmax(given) if command == "softmax" else qkvcli.output(given, value)
    words = [command, "given.npy", *(["-v", "value.npy"] if command == "output" else [])]
    chosen = ["--rows", "2,5", "--head", "2,0", "--batch", 1]
    part = whole[1:][:, [2, 0]][..., [2, 5], :]
    found = np.load(io.BytesIO(qkv(*words, *chosen, "-f", "npy").data))
    np.testing.assert_allclose(found, part)
    table = qkv(*words, *chosen, "-f", "table", "--digits", 6).out
    for row in part.reshape(-1, part.shape[-1]):
        assert "  ".join(f"{number:.6f}" for number in row) in table.replace("*", " ")


def test_blocks_without_a_key() -> None:
    query, none = np.ones((3, 2)), np.ones((0, 2))
    output, logarithms = qkvcli.attention(query, none, none, lse=True)
    assert output.tolist() == [[0, 0]] * 3
    assert logarithms.tolist() == [-np.inf] * 3
