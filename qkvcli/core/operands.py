"""What attention starts from: arrays with their labels and origins; Q, K and V as given."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np

from qkvcli.core.config import LAST, ORDER, Stage
from qkvcli.errors import UsageError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Labels: TypeAlias = tuple[str, ...] | None
Shape: TypeAlias = tuple[int, ...]


ACTS_ON = {
    **dict.fromkeys(("query", "wq", "bq", "key", "wk", "bk", "past_key"), ("scores",)),
    **dict.fromkeys(("q_norm", "q_norm_bias"), ("query_normed",)),
    **dict.fromkeys(("k_norm", "k_norm_bias"), ("key_normed",)),
    **dict.fromkeys(("cos", "sin"), ("query_rotated", "key_rotated")),
    "mask": ("masked",),
    "sinks": ("weights",),
    **dict.fromkeys(("value", "wv", "bv", "past_value"), ("output",)),
    "gate": ("gated",),
    **dict.fromkeys(("wo", "bo"), ("projected",)),
}
"""The step that each operand, by the name of its option, has a part in."""


def is_beyond(name: str, until: Stage) -> bool:
    """Whether an operand acts only on steps beyond the last that a stage computes.

    >>> is_beyond("value", "weights"), is_beyond("mask", "scores")
    (True, False)
    """
    last = ORDER.index(LAST[until])
    return all(ORDER.index(step) > last for step in ACTS_ON[name])


@dataclass(frozen=True, eq=False)
class Operand:
    """An array with what a person calls it.

    ``name`` says what it is used as ("query", "wq", "scaled"); ``rows`` and ``columns``
    label the last two axes, and where rows are ``numbered`` they came with 0, 1, 2, … for
    labels; ``origin`` says where it came from, in words that fit an error ("q.npy",
    "standard input", "seed 42"). A ``reading`` says what was taken for what, where its text
    could be read in two ways. ``layout`` is how its heads lie, where that was said: "hld" in an
    axis of their own, (…, H, L, d), or "l(hd)" side by side, (…, L, H·d).

    >>> import numpy as np
    >>> Operand(np.zeros((4, 5)), "query", origin="q.npy").described
    'query (4, 5) from q.npy'
    """

    array: Array
    name: str = ""
    rows: Labels = None
    columns: Labels = None
    origin: str = ""
    numbered: bool = False
    reading: str = ""
    layout: str = ""

    @property
    def shape(self) -> Shape:
        """The array's shape."""
        return self.array.shape

    @property
    def numbers(self) -> Array:
        """The array, converted whole where it is one of `rows.Rows`."""
        return np.asarray(self.array)

    @property
    def described(self) -> str:
        """The operand in an error's words."""
        name = self.name.replace("_", " ")
        return f"{name} {self.shape}" + (f" from {self.origin}" if self.origin else "")


@dataclass(frozen=True, eq=False)
class Input:
    """Q, K or V as it is given.

    ``given`` is the matrix itself, (…, L, d), or the embeddings X, (…, L, m), where there
    is a ``weight`` (m, d) to project them with, and perhaps a ``bias`` (d,). ``norm`` has the
    weights of a norm, (d,) of each head, (H·d,) of all together or (H, d), and ``norm_bias``
    what it adds. ``past`` is a cache of earlier tokens, which goes before it.
    """

    given: Operand
    weight: Operand | None = None
    bias: Operand | None = None
    norm: Operand | None = None
    norm_bias: Operand | None = None
    past: Operand | None = None

    def parts(self) -> Iterator[Operand]:
        """All that it is made of."""
        parts = (getattr(self, known.name) for known in fields(self))
        yield from (part for part in parts if part is not None)

    def changed(self, change: Callable[[Operand], Operand]) -> "Input":
        """The same with each part changed."""
        parts = {known.name: getattr(self, known.name) for known in fields(self)}
        return Input(**{name: part and change(part) for name, part in parts.items()})


PARTS = {
    "query": {"weight": "wq", "bias": "bq", "norm": "q_norm", "norm_bias": "q_norm_bias"},
    "key": {
        "weight": "wk",
        "bias": "bk",
        "norm": "k_norm",
        "norm_bias": "k_norm_bias",
        "past": "past_key",
    },
    "value": {"weight": "wv", "bias": "bv", "past": "past_value"},
}
"""What Q, K and V are made of, by the fields of `Input`, and what each is called."""
BIAS_OF = {**{parts["weight"]: parts["bias"] for parts in PARTS.values()}, "wo": "bo"}
"""The bias that belongs to each weight."""


def input_of(name: str, find: Callable[[str], Operand | None]) -> Input | None:
    """Q, K or V with its parts, each of which ``find`` has by its name, or None."""
    given = find(name)
    if given is None:
        return None
    return Input(given, **{field: find(part) for field, part in PARTS[name].items()})


@dataclass(frozen=True, eq=False)
class Operands:
    """All that is given: Q, K and V, or a step that was computed elsewhere.

    Given ``weights`` take the place of all steps before them, given ``scores`` that of
    Q·Kᵀ (or, by their name, of "scaled", "capped", "biased" or "masked"). ``mask`` is boolean
    (true may be seen) or numbers (added to the scores). ``cos`` and ``sin`` (L, N/2) or
    (B, L, N/2) stand in place of the angles of a rotation, ``sinks`` (H,) are scores that no
    key has. ``gate`` (m, H·d_v) or (m, H) is the weight of a gate on the output, ``wo``
    (H·d_v, m) and ``bo`` (m,) project it.
    """

    query: Input | None = None
    key: Input | None = None
    value: Input | None = None
    scores: Operand | None = None
    weights: Operand | None = None
    mask: Operand | None = None
    cos: Operand | None = None
    sin: Operand | None = None
    sinks: Operand | None = None
    gate: Operand | None = None
    wo: Operand | None = None
    bo: Operand | None = None

    @classmethod
    def of(cls, find: Callable[[str], Operand | None]) -> "Operands":
        """The operands, each of which ``find`` has by its name, or None."""
        sides: dict[str, Any] = {name: input_of(name, find) for name in PARTS}
        alone: dict[str, Any] = {name: find(name) for name in ALONE}
        return cls(**sides, **alone)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Those of Q, K and V that are given."""
        return tuple(side for side in (self.query, self.key, self.value) if side is not None)

    def all(self) -> Iterator[Operand]:
        """Every one that is given."""
        for side in self.inputs:
            yield from side.parts()
        yield from (part for part in (getattr(self, name) for name in ALONE) if part is not None)

    def numeric(self) -> Iterator[Operand]:
        """Those whose dtype decides the result's: not masks, sinks and tables of cosines."""
        for side in self.inputs:
            yield from side.parts()
        yield from (step for step in (getattr(self, name) for name in _DECIDES) if step is not None)

    def numbers(self, change: Callable[[Operand], Operand]) -> "Operands":
        """The operands, each of `numeric` changed."""
        names = ("query", "key", "value", *_DECIDES)
        found: dict[str, Any] = {
            name: part.changed(change) if isinstance(part, Input) else change(part)
            for name in names
            for part in (getattr(self, name),)
            if part is not None
        }
        return replace(self, **found)

    def labelled(
        self, rows: Labels, keys: Labels, said: tuple[str, str] = ("labels", "key_labels")
    ) -> "Operands":
        """The operands with labels for the queries and for the keys.

        Those of the queries name the keys too where there are as many, and those of the
        keys the values. ``said`` are the names of the two options in an error. Raises
        UsageError where there are more labels than tokens, or fewer.
        """
        found = self
        if rows is not None:
            query = found.query and replace(
                found.query, given=_named(found.query.given, "rows", rows, said[0])
            )
            found = replace(
                found,
                query=query,
                scores=found.scores and _named(found.scores, "rows", rows, said[0]),
                weights=found.weights and _named(found.weights, "rows", rows, said[0]),
            )
        if keys is not None:
            found = replace(
                found,
                scores=found.scores and _named(found.scores, "columns", keys, said[1]),
                weights=found.weights and _named(found.weights, "columns", keys, said[1]),
            )
            key = found.key and _named_keys(found.key, keys, said[1])
            return replace(found, key=key, value=_named_if_as_many(found.value, keys))
        if rows is None:
            return found
        return replace(
            found,
            key=_named_if_as_many(found.key, rows),
            value=_named_if_as_many(found.value, rows),
            scores=found.scores and _columns_named(found.scores, rows),
            weights=found.weights and _columns_named(found.weights, rows),
        )


ALONE = tuple(known.name for known in fields(Operands) if known.name not in PARTS)
"""The operands that are no part of Q, K and V."""
_DECIDES = ("scores", "weights", "gate", "wo", "bo")


def _named(operand: Operand, side: str, labels: tuple[str, ...], said: str) -> Operand:
    if operand.array.ndim < 2:  # the check of shapes says what is wrong with it
        return operand
    count = operand.shape[-2 if side == "rows" else -1]
    if count != len(labels):
        what = "queries" if side == "rows" else "keys"
        raise UsageError(f"{said} names {len(labels)}, and there are {count} {what}")
    return replace(operand, rows=labels) if side == "rows" else replace(operand, columns=labels)


def _columns_named(step: Operand, labels: tuple[str, ...]) -> Operand:
    """A step whose keys have the labels, if there are as many."""
    return replace(step, columns=labels) if step.shape[-1:] == (len(labels),) else step


def _named_keys(key: Input, labels: tuple[str, ...], said: str) -> Input:
    """The keys with their labels, those of a cache first."""
    before = _tokens(key.past)
    total = before + _tokens(key.given)
    if len(labels) != total:
        raise UsageError(f"{said} names {len(labels)}, and there are {total} keys")
    past = key.past and replace(key.past, rows=labels[:before])
    return replace(key, past=past, given=replace(key.given, rows=labels[before:]))


def _named_if_as_many(side: Input | None, labels: tuple[str, ...]) -> Input | None:
    """The keys or values with the labels, if there are as many."""
    if side is None or _tokens(side.past) + _tokens(side.given) != len(labels):
        return side
    return _named_keys(side, labels, "")


def _tokens(operand: Operand | None) -> int:
    return operand.shape[-2] if operand is not None and operand.array.ndim > 1 else 0
