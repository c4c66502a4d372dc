"""What is done to the output: each step written once, for joined heads or for heads apart.

Heads are apart where some of them are chosen, or computed one by one. A gate acts on each
number alone, and a projection of joined heads is the sum of what each head adds to it.
"""

from __future__ import annotations  # a step gives others of its own kind

from collections.abc import Callable
from copy import copy
from typing import ClassVar

import numpy as np

from qkvcli.core import attention
from qkvcli.core.operands import Array, Shape
from qkvcli.core.shapes import along, matrix_at


class OutputStep:
    """One step after the output."""

    name: ClassVar[str]
    of_rows: ClassVar[tuple[str, ...]] = ()
    """Its attributes that are arrays with a row for each query, (…, L_q, ·)."""
    of_heads: ClassVar[tuple[str, ...]] = ()
    """Those with leading axes, once it is apart."""

    def formula(self, before: str) -> str:
        """What is computed from the step ``before``, as a title has it."""
        raise NotImplementedError

    def terms(self, before: Shape) -> tuple[Shape | str, ...]:
        """The shapes that go in, with the signs between them."""
        raise NotImplementedError

    def shape(self, before: Shape) -> Shape:
        """The shape that it makes of the shape before."""
        return before

    @property
    def joins(self) -> bool:
        """Whether it joins heads that are still apart."""
        return False

    def apart(self) -> OutputStep:
        """The same for heads that are not joined."""
        return self

    def joined(self, heads: Array) -> Array:
        """What it makes of joined heads, from what it makes of each apart, (…, H, n, ·)."""
        return attention.merge_heads(heads)

    def work(self, width: int) -> int:
        """Multiply-adds for a row of a head of this width."""
        return width

    def for_rows(self, rows: Array) -> OutputStep:
        """The step for some of the queries alone."""
        return self._with(self.of_rows, lambda array: array[..., rows, :])

    def for_axis(self, axis: int, numbers: tuple[int, ...]) -> OutputStep:
        """The step, apart, for some indexes of a leading axis, which is counted from the end."""
        return self._with(self.of_heads, lambda array: along(array, axis, numbers))

    def for_matrix(self, index: tuple[int, ...]) -> OutputStep:
        """The step, apart, for one matrix among the leading axes."""
        return self._with(self.of_heads, lambda array: matrix_at(array, index))

    def _with(self, names: tuple[str, ...], change: Callable[[Array], Array]) -> OutputStep:
        other = copy(self)
        for name in names:
            setattr(other, name, change(getattr(self, name)))
        return other

    def changed(self, change: Callable[[Array], Array]) -> OutputStep:
        """The step with other numbers."""
        return self

    def __call__(self, output: Array) -> Array:
        """The step, done to the output, or to the step before."""
        raise NotImplementedError


class Gate(OutputStep):
    """The output × sigmoid(X·Wg) (Qiu et al., "Gated Attention for Large Language Models").

    ``gate`` (…, H, L_q, d_v or 1) is the sigmoid of each head; ``merged`` says whether the heads
    of the output are joined.
    """

    name = "gated"
    of_rows: ClassVar[tuple[str, ...]] = ("held",)
    of_heads: ClassVar[tuple[str, ...]] = ("held",)

    def __init__(self, gate: Array, merged: bool) -> None:
        self.held, self.merged = gate, merged

    @property
    def gate(self) -> Array:
        """How far each head is open, (…, H, L_q, d_v or 1)."""
        return self.held

    @property
    def opening(self) -> Shape:
        """The shape of the gate."""
        return self.held.shape

    def formula(self, before: str) -> str:
        return f"{before} × sigmoid(X·Wg)"

    def terms(self, before: Shape) -> tuple[Shape | str, ...]:
        *leading, rows, columns = self.opening
        if self.merged:
            return (before, " × ", (*leading[:-1], rows, leading[-1] * columns))
        return (before, " × ", self.opening)

    def changed(self, change: Callable[[Array], Array]) -> Gate:
        return Gate(change(self.gate), self.merged)

    def apart(self) -> Gate:
        other = copy(self)
        other.merged = False
        return other

    def __call__(self, output: Array) -> Array:
        gate = self.gate
        if self.merged:
            width = output.shape[-1] // gate.shape[-3]
            gate = attention.merge_heads(np.broadcast_to(gate, (*gate.shape[:-1], width)))
        return attention.gated(output, gate)


class GateOf(Gate):
    """A gate that is computed for the rows that are looked at.

    ``embeddings`` is X, (…, 1, L_q, m), and ``weight`` is Wg of each head, (H, m, d_v or 1);
    without heads they are (…, L_q, m) and (m, d_v or 1).
    """

    of_rows = ("embeddings",)
    of_heads = ("embeddings", "weight")

    def __init__(self, embeddings: Array, weight: Array, merged: bool) -> None:
        self.embeddings, self.weight, self.merged = embeddings, weight, merged

    @property
    def gate(self) -> Array:
        return attention.sigmoid(attention.projected(self.embeddings, self.weight))

    @property
    def opening(self) -> Shape:
        rows, columns = self.embeddings.shape[-2], self.weight.shape[-1]
        leading = np.broadcast_shapes(self.embeddings.shape[:-2], self.weight.shape[:-2])
        return (*leading, rows, columns)

    def work(self, width: int) -> int:
        return width + self.weight.shape[-2] * self.weight.shape[-1]


class Projection(OutputStep):
    """The output·Wo + bo (Vaswani et al., section 3.2.2).

    ``weight`` is (H·d_v, m), ``bias`` (m,) or None. ``heads`` is H, where they can be taken apart;
    with ``join`` they are apart when they come, and are joined here.
    """

    name = "projected"

    def __init__(
        self, weight: Array, bias: Array | None, heads: int | None, join: bool = False
    ) -> None:
        self.weight, self.bias, self.heads, self.join = weight, bias, heads, join

    @property
    def joins(self) -> bool:
        return self.join

    def formula(self, before: str) -> str:
        whole = f"join({before})" if self.join else before
        return f"{whole}·Wo" + ("" if self.bias is None else " + bo")

    def terms(self, before: Shape) -> tuple[Shape | str, ...]:
        bias = () if self.bias is None else (" + ", self.bias.shape)
        return (before, "·", self.weight.shape, *bias)

    def shape(self, before: Shape) -> Shape:
        *leading, rows, _ = before
        return (*(leading[:-1] if self.join else leading), rows, self.weight.shape[-1])

    def changed(self, change: Callable[[Array], Array]) -> Projection:
        bias = None if self.bias is None else change(self.bias)
        return Projection(change(self.weight), bias, self.heads, self.join)

    def apart(self) -> OutputStep:
        if self.heads is None:
            return self
        width, columns = len(self.weight) // self.heads, self.weight.shape[-1]
        return HeadProjection(self.weight.reshape(self.heads, width, columns))

    def joined(self, heads: Array) -> Array:
        total: Array = heads.sum(axis=-3)
        return total if self.bias is None else total + self.bias

    def work(self, width: int) -> int:
        return width * self.weight.shape[-1]

    def __call__(self, output: Array) -> Array:
        joined = attention.merge_heads(output) if self.join else output
        return attention.projected(joined, self.weight, self.bias)


class HeadProjection(OutputStep):
    """What each head adds to the projection: its output·its rows of Wo.

    The sum over the heads, and the bias, which belongs to none, is `Projection`'s. ``weight`` is
    (H, d_v, m).
    """

    name = "projected"
    of_heads = ("weight",)

    def __init__(self, weight: Array) -> None:
        self.weight = weight

    def formula(self, before: str) -> str:
        return f"{before}·Wo, what the head adds"

    def terms(self, before: Shape) -> tuple[Shape | str, ...]:
        return (before, "·", self.weight.shape)

    def shape(self, before: Shape) -> Shape:
        return (*before[:-1], self.weight.shape[-1])

    def work(self, width: int) -> int:
        return width * self.weight.shape[-1]

    def changed(self, change: Callable[[Array], Array]) -> HeadProjection:
        return HeadProjection(change(self.weight))

    def __call__(self, output: Array) -> Array:
        return attention.projected(output, self.weight)


class Taken(OutputStep):
    """Somebody's output, or what comes of a gate on it, in place of what is computed.

    ``array`` (…, H, L_q, d_v) has its heads apart; ``merged`` says whether they are to be joined.
    """

    name = "output"
    of_rows = of_heads = ("array",)

    def __init__(self, array: Array, merged: bool) -> None:
        self.array, self.merged = array, merged

    def formula(self, before: str) -> str:
        return "given"

    def terms(self, before: Shape) -> tuple[Shape | str, ...]:
        return ()

    def apart(self) -> Taken:
        return Taken(self.array, False)

    def __call__(self, output: Array) -> Array:
        return attention.merge_heads(self.array) if self.merged else self.array
