"""Large results, computed part by part on all cores, and never held whole."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product

import numpy as np

from qkvcli.core import attention as arithmetic
from qkvcli.core import blocks as sizes
from qkvcli.core.arrays import Array
from qkvcli.core.blocks import Blocks, Head
from qkvcli.core.engine import Stage, take
from qkvcli.core.flow import Advance
from qkvcli.core.parallel import ordered
from qkvcli.core.precision import converted
from qkvcli.core.prepared import Prepared
from qkvcli.core.steps import Step

_PART = 2**21  # numbers in a part of a matrix that flows


def rows(work: Prepared, step: Step, until: Stage, advance: Advance) -> Iterator[Array]:
    """A step's rows, one leading index after the other, so many at a time as fit."""
    *leading, queries, _ = step.shape
    part = max(_PART // max(work.keys, 1), 1)
    starts = range(0, queries, part)
    total = int(np.prod(leading)) * len(starts)
    for done, index in enumerate(np.ndindex(*leading)):
        one = work.at(index)

        def job(start: int, one: Prepared = one) -> Array:
            picked = np.arange(start, min(start + part, queries))
            return take(one, until, picked)[step.name].array

        for i, taken in enumerate(ordered(job, starts)):
            advance(done * len(starts) + i + 1, total)
            yield taken


def output(work: Prepared, step: Step, advance: Advance) -> Iterator[Array]:
    """The output, which is small enough to hold: L_q · d_v of each head."""
    shape = step.shape
    joined = work.attention.heads is not None
    if joined:  # a head at a time, side by side only at the end
        heads = work.attention.heads or 1
        shape = (*shape[:-2], heads, shape[-2], shape[-1] // heads)
    whole = np.empty(shape, work.result)
    if work.in_blocks:
        for place, mixed in _by_blocks(work, shape, advance):
            whole[place] = converted(mixed, work.result)
    else:
        one_head = replace(step, whole=shape)
        flat = whole.reshape(math.prod(shape[:-1]), shape[-1])
        done = 0
        for taken in rows(work.unjoined(), one_head, "output", advance):
            flat[done : done + len(taken)] = taken
            done += len(taken)
    if joined:
        whole = arithmetic.joined(whole)
    yield whole.reshape(math.prod(whole.shape[:-1]), whole.shape[-1])


def _by_blocks(
    work: Prepared, shape: tuple[int, ...], advance: Advance
) -> Iterator[tuple[tuple[int | slice, ...], Array]]:
    """Every block of queries of every head, with its place in the whole."""

    @lru_cache(maxsize=4)  # a few heads are under way at once
    def blocks(index: tuple[int, ...]) -> Blocks:
        return Blocks(_head(work.at(index)), sizes.QUERIES, sizes.KEYS)

    indexes = list(np.ndindex(*shape[:-2]))
    parts = blocks(indexes[0]).parts() if indexes else []
    places = list(product(indexes, parts))

    def job(place: tuple[tuple[int, ...], slice]) -> Array:
        index, part = place
        return blocks(index).output(part)

    for done, (place, mixed) in enumerate(zip(places, ordered(job, places), strict=True)):
        advance(done + 1, len(places))
        index, part = place
        yield (*index, part), mixed


def _head(work: Prepared) -> Head:
    query, key, value = (work.needed(role).array for role in ("query", "key", "value"))
    scale = 1.0 if work.attention.scale is None else work.attention.scale_of(work.width)
    frame = work.frame((len(query), len(key)))
    return Head(query, key, value, scale, work.attention.softcap, frame)
