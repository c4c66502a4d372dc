"""Numbers at the edges of their types: blocks, whole matrices and `exact` agree."""

from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

import numpy as np

from qkvcli import api
from qkvcli.core import attention
from qkvcli.core.compute import Sizes, output_into
from qkvcli.core.dense import dense, score_arrays
from qkvcli.core.dtypes import working_dtype
from qkvcli.core.fitting import problem_of
from qkvcli.core.operands import Array
from qkvcli.errors import QkvError
from tests.fuzz.exact import Expected, expected

OPTIONS: dict[str, list[Any]] = {
    "scale": ["sqrt", 0.3, -1.0, 0.0, 1e-30, 1e30, 1e-300, 1e300],
    "softcap": [1.0, 30.0, 1e-3, 1e-30, 1e30, 1e-300, 1e300],
    "causal": [True],
    "window": [(0, 0), (1, None), (None, 1), (2, 2**62), (2**62, 0), (2**63, 2**70)],
    "offset": [-3, -1, 1, 5, 2**61, 2**62 - 1, -(2**62), 2**63, -(2**80)],
    "dtype": ["float16", "bfloat16", "float32", "float64"],
    "softmax_dtype": ["float16", "bfloat16", "float32", "float64"],
}


class Asked(NamedTuple):
    """Arguments of `attention`, and how large the blocks are."""

    given: dict[str, Any]
    sizes: Sizes


class Blocks:
    """The output in blocks is that of whole matrices, and both are right as far as they can be."""

    def make(self, random: Random) -> Asked:
        rng = np.random.default_rng(random.getrandbits(64))
        groups, group = random.choice([(1, 1), (1, 2), (2, 1), (2, 3)])
        n, m = random.choice((1, 2, 5)), random.choice((0, 1, 3, 7))
        d, d_v, batches = (random.choice((1, 2, 4)) for _ in range(3))
        dtypes = random.choice([["f2"], ["f4"], ["f8"], ["f2", "f4", "f8"]])

        def array(*shape: int) -> Array:
            shape = (random.choice((batches, batches, 1)), *shape)
            return numbers(random, rng, random.choice(dtypes), shape[random.choice((0, 0, 1)) :])

        given: dict[str, Any] = {"query": array(groups * group, n, d)}
        given |= {"key": array(groups, m, d), "value": array(groups, m, d_v)}
        if random.random() < 0.5:
            given["mask"] = a_mask(random, rng, random.choice((n, 1)), m)
        if random.random() < 0.3:
            lengths = [random.randint(0, m) for _ in range(batches)]
            given["valid_length"] = lengths[: random.choice((1, None))]
        for name in random.sample(list(OPTIONS), random.choice((0, 1, 1, 2, 3))):
            given[name] = random.choice(OPTIONS[name])
        return Asked(given, Sizes(0, *(random.randint(1, 4) for _ in range(3))))

    def check(self, case: Asked) -> str:
        try:
            problem = problem_of(*api._asked(case.given))
        except QkvError as fault:
            return f"refused: {type(fault).__name__}"
        outline = problem.outlines()[-1]
        output = np.empty(outline.shape, outline.dtype)
        logarithms = np.empty(
            (*problem.leading, problem.shape[-2]), working_dtype(problem.dtype).carrier
        )
        output_into(problem, output, logarithms, case.sizes)
        whole = dense(problem)["output"]
        with np.errstate(all="ignore"):
            sums = attention.log_sum_exp(score_arrays(problem)[problem.last_score])
            right, right_sums = expected(problem, case.given)
            way = f"{problem.dtype.name}, {'blocks' if problem.in_blocks else 'rows'}"
            compare(f"{way}: the output", output, whole, right)
            compare(f"{way}: the log-sum-exp", logarithms, sums, right_sums)
        clear = ~np.isnan(right[1])
        return f"compared {'all' if clear.all() else 'a part' if clear.any() else 'nothing'}"

    def smaller(self, case: Asked) -> Iterator[Asked]:
        given = case.given
        for name in list(given)[3:]:  # all but Q, K and V
            yield case._replace(given={n: value for n, value in given.items() if n != name})
        for name in (name for name, value in given.items() if isinstance(value, np.ndarray)):
            size = 2 * given[name].size
            while size := size // 2:
                for i in range(0, given[name].size, size):
                    changed = given[name].copy()
                    changed.flat[i : i + size] = 0
                    if not np.array_equal(changed, given[name]):
                        yield case._replace(given={**given, name: changed})


def numbers(random: Random, rng: Any, dtype: str, shape: tuple[int, ...]) -> Array:
    """Numbers of one size, with some at the edges of their type among them."""
    info = np.finfo(dtype)
    size = random.choice([0, 0, 0, 1, 2, -2, random.uniform(-1, 1) * info.maxexp * 0.3])
    with np.errstate(all="ignore"):
        array: Array = (rng.standard_normal(shape) * 10.0**size).astype(dtype)
    hard = [info.max, -info.max, info.tiny, info.smallest_subnormal, np.inf, -np.inf, np.nan, -0.0]
    hit = rng.random(shape) < random.choice((0, 0, 0.05, 0.3, 1))
    array[hit] = rng.choice(np.array(random.sample(hard, 2), dtype), int(hit.sum()))
    return array


def a_mask(random: Random, rng: Any, rows: int, keys: int) -> Array:
    """A mask of true and false or of numbers, for all keys or fewer; some rows hide all."""
    shape = (rows, random.choice((keys, keys, max(keys - 1, 0))))
    hit = rng.random(shape) < random.choice((0.3, 0.8, 1))
    hit[:1] |= random.random() < 0.3
    if random.random() < 0.3:
        return np.asarray(~hit)
    low = random.choice([-np.inf, *(float(np.finfo(dtype).min) for dtype in ("f2", "f4")), 1e4])
    masked = np.where(hit, low, rng.standard_normal(shape))
    return masked.astype("f4") if random.random() < 0.5 else np.maximum(masked, 5 * low)


def compare(what: str, blocks: Array, whole: Array, right: Expected) -> None:
    """Hold two results against each other, and what is finite against what is right."""
    blocks, whole, numbers, bound = np.broadcast_arrays(blocks, whole, *right)
    clear = ~np.isnan(bound)
    for kind, found in (("nan", np.isnan), ("inf", np.isposinf), ("-inf", np.isneginf)):
        assert not (clear & (found(blocks) != found(whole))).any(), f"{what}: {kind} in one way"
    clear &= np.isfinite(whole)
    for way, array in (("blocks", blocks), ("whole", whole)):
        off = abs(array.astype(np.longdouble) - numbers)
        assert (off[clear] <= bound[clear]).all(), f"{what} of {way} is off"
