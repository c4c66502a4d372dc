"""What people get wrong in a model's layer: its rotation and norms, ALiBi, sinks, gate and Wo.

What is done to Q and K is said by a `Recipe`, and made again. Each of the other kinds takes a
problem, so that two hypotheses may be tried together.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from qkvcli.core import attention
from qkvcli.core.compare.hypothesis import Hypothesis
from qkvcli.core.compare.plain import opened
from qkvcli.core.compare.reference import Recipe, Reference
from qkvcli.core.operands import PARTS, Array, Input, Operand
from qkvcli.core.output_steps import Gate, OutputStep, Projection
from qkvcli.core.positions import slopes
from qkvcli.core.problem import Problem
from qkvcli.core.score_steps import Alibi, Scale

Otherwise: TypeAlias = Iterator[tuple[str, str, Recipe]]
"""Other recipes: what is said of each, what it means, and the recipe."""

SPLIT = (
    "with the heads split by a reshape alone",
    "(L, H·d) is laid out as (H, L, d) and its axes not swapped",
)
"""What is said of heads that are split so."""
_BASES = (10000, 500000, 1000000)
_MOST = 2**24
"""Q, K and V of more numbers are not made again."""


def sides(reference: Reference) -> Iterator[Hypothesis]:
    """Q, K and V that are made in another way."""
    problem = reference.whole
    given = (problem.query, problem.key, problem.value)
    if sum(0 if side is None else side.array.size for side in given) > _MOST:
        return
    kinds = (_rotations, _places, _norms, _norm_widths, _norms_after, _clips, _splits)
    for kind in kinds:
        yield from _made(reference, kind(reference.recipe))
    if not reference.begun:
        yield from _made(reference, _projections(reference.written))


def _made(reference: Reference, others: Otherwise) -> Iterator[Hypothesis]:
    for said, meaning, recipe in others:
        with np.errstate(all="ignore"):
            problem = reference.made(recipe)
        if problem is not None:
            yield Hypothesis(said, meaning, problem)


def _rotations(recipe: Recipe) -> Otherwise:
    """Other pairs, other columns, another base, or none."""
    rotation = recipe.rotation
    if rotation is None:
        return
    asked = "--rope" if rotation.table is None else "--cos and --sin"
    other, columns = (
        ("interleaved", "2i and 2i + 1") if rotation.pairs == "half" else ("half", "i and i + N/2")
    )
    pairs = rotation._replace(pairs="interleaved" if rotation.pairs == "half" else "half")
    said = f"with --rope-pairs {other}"
    yield said, f"columns {columns} are turned together", replace(recipe, rotation=pairs)
    meaning = "queries and keys are not turned by their position"
    yield f"without {asked}", meaning, replace(recipe, starts={})
    for name, words in (("query", "queries"), ("key", "keys")):
        rest = {side: start for side, start in recipe.starts.items() if side != name}
        yield f"with the {words} not turned", f"{asked} for one side", replace(recipe, starts=rest)
    if rotation.table is None and rotation.width is not None:
        meaning = "all columns of a head are turned"
        yield "without --rope-dim", meaning, replace(recipe, rotation=rotation._replace(width=None))
    place = "" if rotation.table is None else f" in place of {asked}"
    for base in _BASES:
        if base != rotation.base:
            turned = rotation._replace(base=float(base), table=None)
            meaning = "the angles are those of another base"
            yield f"with --rope {base}{place}", meaning, replace(recipe, rotation=turned)


def _places(recipe: Recipe) -> Otherwise:
    """Queries and keys that are turned as if they stood elsewhere."""
    if recipe.rotation is None or not {"query", "key"} <= set(recipe.starts):
        return
    query, key = recipe.starts["query"], recipe.starts["key"]
    zero = np.zeros_like(query)
    past = recipe.sides["key"].past
    if np.any(query != 0):
        meaning = "where they stand is left out" if past is None else "the cache is left out"
        nowhere = replace(recipe, starts={"query": zero, "key": np.zeros_like(key)})
        yield "with queries and keys turned from position 0 on", meaning, nowhere
        alone = replace(recipe, starts={"query": zero, "key": key})
        yield "with the queries turned from position 0 on", f"{meaning} for them", alone
    for shift, words in ((1, "further on"), (-1, "further back")):
        said = f"with the queries turned one position {words}"
        meaning = "queries and keys are not counted from the same token"
        yield said, meaning, replace(recipe, starts={"query": query + shift, "key": key})
        said = f"with queries and keys turned one position {words}"
        meaning = f"the first token stands at {'one more' if shift > 0 else 'one less'}"
        both = {"query": query + shift, "key": key + shift}
        yield said, meaning, replace(recipe, starts=both)
    count = recipe.sides["key"].given.shape[-2] - recipe.sides["query"].given.shape[-2]
    if count:
        meaning = "the last query is turned as the last key"
        said = f"with the queries turned from position {count} on"
        yield said, meaning, replace(recipe, starts={"query": zero + count, "key": key})


def _normed(recipe: Recipe) -> list[str]:
    return [name for name, side in recipe.sides.items() if side.norm is not None]


def _with_norm(recipe: Recipe, change: Callable[[Operand], Operand]) -> Recipe:
    """The recipe with other weights of each norm."""

    def other(_: str, side: Input) -> Input:
        return replace(side, norm=change(side.norm)) if side.norm is not None else side

    return recipe.changed(other)


def _norms(recipe: Recipe) -> Otherwise:
    """No norm, one of the two alone, other weights, or the other kind."""
    names = _normed(recipe)
    if not names:
        return
    options = {name: f"--{name[0]}-norm" for name in names}
    for left_out in (names, *([name] for name in names if len(names) > 1)):
        rest = recipe.without("norm", *left_out).without("norm_bias", *left_out)
        said = " and ".join(options[name] for name in left_out)
        yield f"without {said}", "the norm is left out", rest
    for shift, written in ((1, "1 + w"), (-1, "w − 1")):
        other = _with_norm(recipe, lambda norm, s=shift: replace(norm, array=norm.array + s))  # type: ignore[misc]
        meaning = "weights that are kept as w are used as 1 + w"
        if shift < 0:
            meaning = "weights that are kept less 1 are used as they are kept"
        yield f"with {written} in place of the norm's weights w", meaning, other
    if recipe.config.norm == "layer":
        rms = replace(recipe, config=replace(recipe.config, norm="rms")).without("norm_bias")
        yield "with --norm rms", "the mean is not taken off, and no bias added", rms
    else:
        layer = replace(recipe, config=replace(recipe.config, norm="layer"))
        yield "with --norm layer", "the mean is taken off first", layer


def _norm_widths(recipe: Recipe) -> Otherwise:
    """A norm of each head that is taken of all together, or the reverse."""
    counts = recipe.config.head_counts
    if counts is None or counts[0] == 1 or not _normed(recipe):
        return

    def other(name: str, side: Input) -> Input:
        heads = counts[name != "query"]

        def turned(part: Operand | None) -> Operand | None:
            if part is None or heads == 1:
                return part
            array = part.array
            if array.ndim == 1 and array.size == side.given.shape[-1]:
                return replace(part, array=array.reshape(heads, -1))
            whole = np.tile(array, heads) if array.ndim == 1 else array.reshape(-1)
            return replace(part, array=whole)

        return replace(side, norm=turned(side.norm), norm_bias=turned(side.norm_bias))

    names = _normed(recipe)
    side = recipe.sides[names[0]]
    whole = side.norm is not None and side.norm.shape == side.given.shape[-1:]
    said, meaning = (
        ("with the norm of each head", "not of the whole width")
        if whole
        else ("with the norm over the whole width", "not of each head")
    )
    yield said, meaning, recipe.changed(other)


def _norms_after(recipe: Recipe) -> Otherwise:
    """A rotation before the norm."""
    if not _normed(recipe) or not recipe.starts:
        return
    bare = recipe.without("norm").without("norm_bias")
    split = recipe.config.head_counts is not None

    def other(name: str, side: Input) -> Input:
        if name not in recipe.starts:
            return side
        _, steps = bare.prepared(name)
        array = attention.merge_heads(steps[-1].array) if split else steps[-1].array
        return replace(side, given=replace(side.given, array=array, columns=None))

    turned = replace(
        recipe.changed(other), starts={}, clipped=recipe.clipped - frozenset(recipe.starts)
    )
    yield "with the rotation before the norm", "it is the norm that comes first", turned


def _clips(recipe: Recipe) -> Otherwise:
    if recipe.config.limit is not None:
        rest = replace(recipe, config=replace(recipe.config, clip=None))
        yield "without --clip", "the projections are not clipped", rest


def _splits(recipe: Recipe) -> Otherwise:
    """Heads that are split by a reshape, before they are normed or turned."""
    counts = recipe.config.head_counts
    if counts is None or counts[0] == 1 or not (recipe.starts or _normed(recipe)):
        return

    def other(name: str, side: Input) -> Input:
        *leading, rows, width = side.given.shape
        heads = counts[name != "query"]
        apart = side.given.array.reshape(*leading, heads, rows, width // heads)
        return replace(side, given=replace(side.given, array=attention.merge_heads(apart)))

    said, meaning = SPLIT
    yield said, meaning, recipe.changed(other)


def _projections(recipe: Recipe) -> Otherwise:
    """Biases left out, and weights as PyTorch keeps them."""
    biased = [PARTS[name]["bias"] for name, side in recipe.sides.items() if side.bias is not None]
    if biased:
        options = " and ".join(f"--{name}" for name in biased)
        yield f"without {options}", "the bias is left out", recipe.without("bias")

    def square(side: Input) -> bool:
        return side.weight is not None and side.weight.shape[0] == side.weight.shape[1]

    def turned(_: str, side: Input) -> Input:
        if side.weight is None or not square(side):
            return side
        return replace(side, weight=replace(side.weight, array=side.weight.array.T))

    names = [name for name, side in recipe.sides.items() if square(side)]
    if names:
        listed = " and ".join(PARTS[name]["weight"].title() for name in names)
        meaning = "as nn.Linear keeps it, (out, in)"
        yield f"with {listed} transposed", meaning, recipe.changed(turned, *names)


def biases(reference: Reference, problem: Problem) -> Iterator[Hypothesis]:
    """ALiBi left out, turned, or with other slopes."""
    now = next((step for step in problem.score_steps if isinstance(step, Alibi)), None)
    if now is None:
        return
    rest = tuple(step for step in problem.score_steps if step is not now)
    left_out = replace(problem, score_steps=rest)
    yield Hypothesis("without --alibi", "the bias by distance is left out", left_out)
    heads = reference.whole.leading[-1] if reference.whole.leading else 1
    for said, meaning, change in (
        ("with slope·(i − j) in place of slope·(j − i)", "keys further back gain", np.negative),
        ("with the slopes of the heads in reverse", "the last head has the steepest", np.flip),
        (
            "with slopes 2^(−8h/H) for any number of heads",
            f"{heads} is no power of 2",
            lambda own: (2.0 ** (-8 * np.arange(1, heads + 1) / heads)).reshape(own.shape),
        ),
        (
            "with slopes 2^(−8h/H) from h = 0 on",
            "the first head has a slope of 1",
            lambda own: (2.0 ** (-8 * np.arange(heads) / heads)).reshape(own.shape),
        ),
    ):
        if not np.array_equal(change(slopes(heads)), slopes(heads)):
            yield Hypothesis(said, meaning, _sloped(reference, problem, change))


def _sloped(reference: Reference, problem: Problem, change: Callable[[Array], Array]) -> Problem:
    """The problem with other slopes, of those heads that were chosen."""

    def other(whole: Problem) -> Problem:
        steps = (
            Alibi(change(step.slopes), step.positions, step.ahead)
            if isinstance(step, Alibi)
            else step
            for step in whole.score_steps
        )
        return replace(whole, score_steps=tuple(steps))

    chosen = reference.changed(other).score_steps
    [alibi] = [step for step in chosen if isinstance(step, Alibi)]
    steps = (alibi if isinstance(step, Alibi) else step for step in problem.score_steps)
    return replace(problem, score_steps=tuple(steps))


def sinks(reference: Reference, problem: Problem) -> Iterator[Hypothesis]:
    """Sinks left out, or scaled with the scores."""
    own = problem.sinks
    if own is None:
        return
    steps = (*problem.score_steps, *reference.whole.score_steps)  # the scale may be done already
    meaning = "each row of the weights sums to 1"
    yield Hypothesis("without --sinks", meaning, replace(problem, sinks=None))
    factor = next((s.factor for s in steps if isinstance(s, Scale)), 1.0)
    if not math.isclose(factor, 1):
        meaning = f"they are multiplied by {factor:.4g} too"
        scaled = replace(problem, sinks=own * factor)
        yield Hypothesis("with the sinks scaled as the scores are", meaning, scaled)


def outputs(reference: Reference, problem: Problem) -> Iterator[Hypothesis]:
    """A gate or a projection left out, or done in another way."""
    for step in problem.output_steps:
        if isinstance(step, Gate):
            yield from _gates(reference, problem, step)
        elif step.name == "projected":
            yield from _projected(reference, problem, step)


def _put(problem: Problem, step: OutputStep, other: OutputStep | None) -> Problem:
    """The problem with another step in the place of one of its own, or with none."""
    steps = (other if known is step else known for known in problem.output_steps)
    return replace(problem, output_steps=tuple(known for known in steps if known is not None))


def _gates(reference: Reference, problem: Problem, step: Gate) -> Iterator[Hypothesis]:
    yield Hypothesis("without --gate", "the gate is left out", _put(problem, step, None))
    query, gate = reference.operands.query, reference.operands.gate
    if query is None or gate is None:
        return
    with np.errstate(all="ignore"):
        opening = attention.projected(query.given.array, gate.array)
        silu = opening * attention.sigmoid(opening)
    for said, meaning, array in (
        ("with the gate X·Wg itself", "the sigmoid is left out", opening),
        ("with the gate's SiLU, X·Wg × sigmoid(X·Wg)", "the sigmoid alone opens it", silu),
    ):
        chosen = reference.changed(lambda whole, to=array: opened(whole, to))  # type: ignore[misc]
        other = next(known for known in chosen.output_steps if isinstance(known, Gate))
        yield Hypothesis(said, meaning, _put(problem, step, other))


class _Reshaped(Projection):
    """A projection of heads that are joined by a reshape alone."""

    def __call__(self, output: Array) -> Array:
        *leading, heads, rows, width = output.shape
        joined = output.reshape(*leading, rows, heads * width)
        return attention.projected(joined, self.weight, self.bias)


def _projected(reference: Reference, problem: Problem, step: OutputStep) -> Iterator[Hypothesis]:
    yield Hypothesis("without --wo", "the output is not projected", _put(problem, step, None))
    if isinstance(step, Projection):
        weight, bias, heads = step.weight, step.bias, step.heads
        if bias is not None:
            rest = Projection(weight, None, heads, step.join)
            yield Hypothesis("without --bo", "the bias is left out", _put(problem, step, rest))
        if step.joins:
            reshaped = _put(problem, step, _Reshaped(weight, bias, heads, True))
            meaning = "(H, L, d) is laid out as (L, H·d) and its axes not swapped"
            said = "with the heads joined by a reshape alone"
            yield Hypothesis(said, meaning, reshaped, joins=True)
    whole = next(s for s in reference.whole.output_steps if isinstance(s, Projection))
    if whole.weight.shape[0] == whole.weight.shape[1]:
        turned = Projection(whole.weight.T, whole.bias, whole.heads, whole.join)
        chosen = reference.changed(lambda problem: _put(problem, whole, turned))
        other = next(s for s in chosen.output_steps if s.name == "projected")
        meaning = "as nn.Linear keeps it, (out, in)"
        yield Hypothesis("with Wo transposed", meaning, _put(problem, step, other))
