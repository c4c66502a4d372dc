"""How Q, K and V lie in their files: read to (…, H, L, d), and results written as they lay.

Nothing is copied when they are read: the axes of the arrays are named in another order.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from shlex import quote
from typing import Any, NamedTuple

import numpy as np

from qkvcli.cli.commands import Line
from qkvcli.cli.declare import given, typed
from qkvcli.cli.examples import EXAMPLES
from qkvcli.core.compare.expected import Expected
from qkvcli.core.compare.turned import fitting
from qkvcli.core.config import AttentionConfig
from qkvcli.core.operands import PARTS, Array, Operand, Operands
from qkvcli.core.rows import each
from qkvcli.core.steps import Outline, Step
from qkvcli.errors import ShapeError, UsageError

_OF = {"query": "query", "key": "key", "past_key": "key", "value": "value", "past_value": "value"}
"""What has a layout: Q, K, V and the caches; and whose heads each has."""


class Layout(NamedTuple):
    """The order of the axes of Q, K and V, and of the results that have heads.

    ``three`` are the axes, from the end, that may count Q, K and V where they are one array: 0 is
    the first of all. ``tokens_first`` says that each of them has its tokens before its heads,
    (…, L, H, d), and ``joined`` that its heads are side by side, (…, L, H·d).
    """

    name: str
    axes: str
    tokens_first: bool = False
    joined: bool = False
    three: tuple[int, ...] = ()

    def parts(self, fused: Operand, roles: Iterable[str]) -> dict[str, Operand]:
        """Q, K and V, those of them that are asked for, as views of the array that has them.

        >>> fused = Operand(np.zeros((2, 7, 3, 4, 8)), "qkv")
        >>> LAYOUTS["l3hd"].parts(fused, ["key"])["key"].shape
        (2, 7, 4, 8)

        Raises ShapeError where no axis, or more than one, may be that of the three.
        """
        apart = np.moveaxis(fused.array, self._axis(fused), 0)
        return {
            role: replace(fused, array=apart[list(PARTS).index(role)], name=role) for role in roles
        }

    def _axis(self, fused: Operand) -> int:
        """The axis of Q, K and V. Raises ShapeError."""
        axes = _threes(self, fused)
        if len(axes) > 1:
            raise ShapeError(
                f"{fused.described}: its first axis and axis -4 both count 3, and each may be "
                "that of Q, K and V; name them apart, with --layout hld: -q 'FILE[0]' and so on "
                "where it is the first, else -q 'FILE[..., 0, :, :, :]'"
            )
        if not axes:
            others = [known for known in LAYOUTS.values() if known.three and known is not self]
            fits = [known for known in others if _threes(known, fused)]
            which = ", ".join(f"layout {known.name} {known.axes}" for known in fits or others)
            raise ShapeError(
                f"{fused.described}: no axis of 3 where layout {self.name} has it, {self.axes}; "
                + (f"it fits {which}" if fits else f"neither does it fit {which}")
            )
        return axes[0]

    def read(self, operand: Operand, role: str, config: AttentionConfig) -> Operand:
        """An operand as it is computed with: (…, H, L, d), or as it is where heads are joined.

        >>> lhd, given = LAYOUTS["lhd"], Operand(np.zeros((2, 7, 4, 8)), "query")
        >>> lhd.read(given, "query", AttentionConfig(heads=4)).shape
        (2, 4, 7, 8)

        What has no heads of its own, such as a mask, stays as it is. Raises ShapeError where
        axes are missing, or where there are not as many heads as the config says.
        """
        if role not in _OF:
            return operand
        if self.joined:
            return replace(operand, layout=self.name, reading="")
        self._check(operand, _OF[role], config)
        found = replace(operand, layout="hld", reading="")  # what it says was told
        if not self.tokens_first:
            return found
        named = operand.rows is not None
        return replace(
            found,
            array=each(operand.array, partial(np.swapaxes, axis1=-2, axis2=-3)),
            rows=None,
            numbered=False,
            origin=f"{operand.origin}, heads before tokens" if operand.origin else "",
            reading="the labels of its rows are of heads, and left out" if named else "",
        )

    def _check(self, operand: Operand, role: str, config: AttentionConfig) -> None:
        """Raise ShapeError unless there are as many axes as it takes, and as many heads."""
        order = "(…, L, H, d)" if self.tokens_first else "(…, H, L, d)"
        if operand.array.ndim < 3:
            raise ShapeError(
                f"{operand.described}: layout {self.name} needs the axes {order}; one head has an "
                "axis of 1, and heads side by side are layout l(hd)"
            )
        if config.head_counts is None:
            return
        heads, asked = config.head_counts[role != "query"], "--heads"
        if role != "query" and config.kv_heads is not None:
            asked = "--kv-heads"
        axis, other = (-2, -3) if self.tokens_first else (-3, -2)
        count = operand.shape[axis]
        if count == heads:
            return
        hint = ""
        if operand.shape[other] == heads:
            hint = f"; axis {other} counts {heads}: layout {'hld' if self.tokens_first else 'lhd'}"
        elif role != "query" and asked == "--heads":
            hint = f"; --kv-heads {count} says how many K and V have"
        raise ShapeError(
            f"{operand.described}: axis {axis} of layout {self.name} counts the heads, {count}, "
            f"and {asked} says {heads}{hint}"
        )

    def config(self, config: AttentionConfig, operands: Operands) -> AttentionConfig:
        """The config for what was read: heads that have an axis of their own are not split.

        Raises UsageError for what has a part for each batch, where there is no axis of batches.
        """
        if self.joined:
            return config
        sides = [side.given for side in operands.inputs]
        lengths: Any = config.valid_length
        tables = (operands.cos, operands.sin)
        batched = {
            "valid length": lengths is not None and len(lengths) > 1,
            "a table": any(t is not None and t.array.ndim > 2 and len(t.array) > 1 for t in tables),
        }
        several = [name for name, by_batch in batched.items() if by_batch]
        if several and all(given.array.ndim == 3 for given in sides):
            what = f"{sides[0].described} has an axis of heads, and none of batches"
            raise UsageError(f"{what}; {several[0]} has a part for each of several")
        return replace(config, heads=None, kv_heads=None)

    def moves(self, step: Outline) -> bool:
        """Whether a step lies otherwise than it is computed: its tokens come before its heads.

        Scores and weights, whose columns are keys, have their heads first in any layout.
        """
        apart = step.has_heads and len(step.shape) > 2
        return self.tokens_first and apart and not step.columns_are_keys

    def written(self, step: Step) -> Step:
        """A step as it is written."""
        return step.tokens_first() if self.moves(step) else step

    def expected(self, one: Expected, step: Outline) -> Expected:
        """Somebody's numbers for a step, in this layout, as ours are computed."""
        if not self.moves(step):
            return one
        *leading, heads, rows, width = step.shape
        turn = fitting(one.array.shape, (*leading, rows, heads, width))  # it may lack axes of 1
        if turn is None and one.array.ndim != len(step.shape):
            return one  # the comparison says what is wrong with its shape

        def turned(array: Array) -> Array:
            return (array if turn is None else turn(array)).swapaxes(-2, -3)

        return replace(one.turned(turned), rows=None)


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("hld", "(…, H, L, d)"),
        Layout("lhd", "(…, L, H, d)", tokens_first=True),
        Layout("l(hd)", "(…, L, H·d)", joined=True),
        Layout("l3hd", "(…, L, 3, H, d)", tokens_first=True, three=(-3,)),
        Layout("3hld", "(…, 3, H, L, d)", three=(-4, 0)),
    )
}
"""The layouts by name: FlashAttention has lhd, and l3hd for its packed functions; timm permutes
its fused projection to (3, B, H, L, d)."""
_LEAST = 4
"""An array with Q, K and V in it has so many axes: theirs, and one of 3."""


def _threes(layout: Layout, fused: Operand) -> list[int]:
    """The axes of an array that may be that of Q, K and V, from its first on."""
    axes = fused.array.ndim
    if axes < _LEAST:
        return []
    return [axis for axis in sorted({at % axes for at in layout.three}) if fused.shape[axis] == 3]


def check_layout(line: Line) -> None:
    """Raise UsageError where the layout of a command line is of nothing, or of something else."""
    layout = LAYOUTS[line.sources.layout or "hld"]
    named = given(line.sources)
    said = f"--layout {quote(layout.name)}"
    fault = _of_what(line, named)
    if fault:
        raise UsageError(f"{said} says how Q, K and V lie in their files; {fault}")
    if layout.three and "qkv" not in named:
        raise UsageError(f"{said} is of one array with Q, K and V in it; give it as --qkv FILE")
    if layout.joined and line.attention.heads is None:
        raise UsageError(f"{said} has the heads side by side; --heads N says how many they are")


def _of_what(line: Line, named: dict[str, Any]) -> str:
    """Why there are no files whose layout it could be; "" where there are."""
    example = line.sources.example
    if line.takes_step:
        return f"beside {line.command.takes or 'scores'} that are given, it has no meaning"
    if example is not None:
        own = EXAMPLES[example].layout
        its = f"those of example {example} are {own}" if own else f"example {example} has no heads"
        return "" if own == line.sources.layout else f"{its}; leave it out"
    if "seed" in named:
        return "those of --seed are drawn; leave it out"
    if "embeddings" in named:
        return "X·Wq is l(hd), which --heads splits; leave it out"
    if not any(name in named for name in (*PARTS, "qkv")):
        return f"name them: {', '.join(map(typed, PARTS))}, or --qkv"
    return ""
