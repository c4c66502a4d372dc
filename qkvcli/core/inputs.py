"""Q, K and V made ready for attention, in the one order.

Projected, clipped, normed, split into heads, turned by position, and after their cache. Each of
these that is asked for is a step, whose numbers are held.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from qkvcli.core import attention
from qkvcli.core.config import AttentionConfig
from qkvcli.core.dtypes import Float, converted, rounded, rounded_rows
from qkvcli.core.operands import PARTS, Array, Input, Labels, Operand, Shape
from qkvcli.core.positions import Rotation, written
from qkvcli.core.rows import each, joined
from qkvcli.core.shapes import (
    check_axes,
    check_norm,
    check_not_split,
    check_past,
    check_projection,
    check_split,
    vector,
)
from qkvcli.core.steps import Outline, Step, flat_rows
from qkvcli.errors import UsageError

_AXES = {"query": "L_q, d", "key": "L_k, d", "value": "L_k, d_v"}


def check_partners(
    config: AttentionConfig, query: Input | None, key: Input | None, value: Input | None
) -> None:
    """Raise UsageError for a part without the one that it belongs to."""
    normed = [side for side in (query, key) if side is not None and side.norm is not None]
    for option in ("norm", "norm_eps"):
        if getattr(config, option) is not None and not normed:
            raise UsageError(f"{option.replace('_', ' ')} without q norm or k norm")
    for name, side in (("query", query), ("key", key), ("value", value)):
        parts = PARTS[name]
        for one, other in (("bias", "weight"), ("norm_bias", "norm")):
            if side is not None and getattr(side, one) is not None and getattr(side, other) is None:
                said, needed = (parts[part].replace("_", " ") for part in (one, other))
                raise UsageError(f"{said} without {needed}")
    if key is not None and value is not None:
        if key.past is not None and value.past is None:
            raise UsageError("past key without past value")
        if value.past is not None and key.past is None:
            raise UsageError("past value without past key")


@dataclass
class _Making:
    """Q, K or V on its way: the operand as it is now, and the steps so far.

    ``heads`` says into how many heads it is split (None: not), and ``split`` whether it is by now;
    ``result`` is the type of the results, and ``after`` is done to each step.
    """

    operand: Operand
    heads: int | None
    result: Float
    after: Callable[[Array], Array]
    steps: list[Step] = field(default_factory=list)
    split: bool = False

    def step(self, name: str, formula: str, *terms: Shape | str) -> None:
        """Have the operand as it is now for a step."""
        now = self.operand = replace(self.operand, array=self.after(self.operand.array))
        self.steps.append(
            Step.held(
                name,
                converted(now.array, self.result),
                formula=formula,
                terms=terms,
                rows=now.rows,
                columns=now.columns,
                has_heads=self.split or self.heads is None,
                kind=self.result.name,
            )
        )

    @property
    def before(self) -> str:
        """The name of the last step."""
        return self.steps[-1].name


def prepared(
    side: Input,
    name: str,
    config: AttentionConfig,
    result: Float,
    rotation: Rotation | None = None,
    start: Array | None = None,
    after: Callable[[Array], Array] = lambda array: array,
) -> tuple[Operand, list[Step]]:
    """Q, K or V as it enters attention, in the working dtype, and the steps that make it.

    The first step is the matrix itself, as it was given or projected. Where there is a
    ``rotation``, the first token stands at ``start``; ``after`` is done to each step. Raises
    ShapeError where the shapes don't fit.
    """
    counts = config.head_counts
    heads = None if counts is None else counts[name != "query"]
    making = _Making(replace(rounded_rows(side.given, result), name=name), heads, result, after)
    with np.errstate(all="ignore"):  # what overflows is shown as inf, not warned of
        _begin(making, side, config)
        side = replace(
            side,
            norm=side.norm and _as_given(side.norm, making),
            norm_bias=side.norm_bias and _as_given(side.norm_bias, making),
        )
        whole = _is_whole(side.norm, making)
        if whole:
            _norm(making, side, config)
        _split(making)
        if not whole:
            _norm(making, side, config)
        if rotation is not None and start is not None:
            _rotate(making, rotation, start)
    if side.past is None:
        return making.operand, making.steps
    return _after(_past(side.past, making), making.operand), making.steps


def _begin(making: _Making, side: Input, config: AttentionConfig) -> None:
    """The matrix itself: as it is given, or X·W + b; and clipped."""
    now, name = making.operand, making.operand.name
    weight, bias = (
        None if part is None else rounded(part, making.result) for part in (side.weight, side.bias)
    )
    formula, terms = name[0].upper(), tuple[Shape | str, ...]()
    if weight is not None:
        check_axes(now, "L, m")
        check_projection(now, weight, bias)
        flat = None if bias is None else bias.array.reshape(-1)
        array = attention.projected(np.asarray(now.array), weight.array, flat)
        formula = f"X·W{name[0]}" + ("" if flat is None else f" + b{name[0]}")
        terms = (now.shape, "·", weight.shape, *(() if flat is None else (" + ", flat.shape)))
        origin = f"{now.origin}·{weight.origin}" if now.origin and weight.origin else ""
        making.operand = Operand(array, name, now.rows, weight.columns, origin)
    check_axes(making.operand, _AXES[name])
    if config.limit is not None:
        array = attention.clipped(np.asarray(making.operand.array), config.limit)
        formula, terms = f"clip({formula}, ±{config.limit:g})", terms or (now.shape,)
        making.operand = replace(making.operand, array=array)
    if terms:
        making.step(name, formula, *terms)
    else:
        making.steps.append(_given(side.given, making))


def _given(given: Operand, making: _Making) -> Step:
    """What was given as a step of its own, as it was before any split into heads."""
    array, dtype, name = given.array, making.result, making.operand.name
    alone = making.heads is None
    outline = Outline.typed(
        name, name[0].upper(), (), array.shape, dtype, given.rows, given.columns, alone
    )
    return outline.computed_by(lambda: iter([flat_rows(converted(array, dtype))]))


def _as_given(part: Operand, making: _Making) -> Operand:
    """Numbers of a norm: a row or column of text is a vector, unless it is (H, d)."""
    heads = making.heads or 0
    own = (heads, making.operand.shape[-1] // heads) if heads and making.operand.shape else ()
    return part if part.shape == own else vector(part)


def _is_whole(norm: Operand | None, making: _Making) -> bool:
    """Whether a norm is of all the heads together, before they are split."""
    if norm is None or making.heads in (None, 1):
        return False
    return norm.shape == making.operand.shape[-1:]


def _norm(making: _Making, side: Input, config: AttentionConfig) -> None:
    """Each row, or each row of each head, normed."""
    if side.norm is None:
        return
    now, centred = making.operand, config.norm == "layer"
    if side.norm_bias is not None and not centred:
        said = side.norm_bias.name.replace("_", " ")
        raise UsageError(f"{said} is for a LayerNorm; give norm layer")
    check_norm(side.norm, now, side.norm_bias)
    weight = _by_head(side.norm, making)
    bias = None if side.norm_bias is None else _by_head(side.norm_bias, making)
    array = attention.normed(
        np.asarray(now.array), weight, bias, epsilon=config.epsilon, centred=centred
    )
    making.operand = replace(now, array=array)
    before = making.before
    formula = f"({before} − mean) / std × w" if centred else f"{before} / rms({before}) × w"
    formula += "" if bias is None else " + b"
    more = () if side.norm_bias is None else (" + ", side.norm_bias.shape)
    making.step(f"{now.name}_normed", formula, now.shape, " × ", side.norm.shape, *more)


def _by_head(part: Operand, making: _Making) -> Array:
    """Numbers for the columns, (d,), or a row of them for each head, (H, 1, d)."""
    array = rounded(part, making.result).array
    return array[:, None, :] if array.ndim > 1 else array


def _split(making: _Making) -> None:
    """The heads as an axis of their own, where they are not yet."""
    now, heads = making.operand, making.heads
    if heads is None:
        return
    check_not_split(now, heads)
    check_split(now, heads)
    split = f"{now.origin}, in {heads} head" + ("" if heads == 1 else "s")
    array = each(now.array, partial(attention.split_heads, heads=heads))
    making.operand = replace(now, array=array, columns=None, origin=split if now.origin else "")
    making.split = True


def _rotate(making: _Making, rotation: Rotation, start: Array) -> None:
    """Each token turned by its position."""
    now = making.operand
    batched = making.heads is None or now.array.ndim > 3
    array = rotation.turned(now, start, batched)
    making.operand = replace(now, array=array)
    formula = f"rotate({making.before} by position, {rotation.written}){written(start)}"
    making.step(f"{now.name}_rotated", formula, now.shape)


def _past(past: Operand, making: _Making) -> Operand:
    """A cache with its heads an axis of their own, as those that it goes before."""
    past = rounded_rows(past, making.result)
    check_axes(past, "L, d")
    joined = past.layout or past.array.ndim < making.operand.array.ndim
    if making.split and making.heads is not None and joined:
        check_split(past, making.heads)
        split = partial(attention.split_heads, heads=making.heads)
        return replace(past, array=each(past.array, split))
    return past


def _after(past: Operand, now: Operand) -> Operand:
    """The tokens of a cache, and those that follow them."""
    check_past(past, now)
    array = joined(past.array, now.array)
    origin = " and ".join(filter(None, (past.origin, now.origin)))
    return replace(now, array=array, rows=_labels(past, now), origin=origin)


def _labels(past: Operand, now: Operand) -> Labels:
    if past.rows is None and now.rows is None:
        return None
    before = past.shape[-2]
    counted = tuple(map(str, range(before + now.shape[-2])))  # what has no label is counted
    return (past.rows or counted[:before]) + (now.rows or counted[before:])
