"""What a picture shows, in words: for those who do not see it."""

from collections.abc import Iterator, Sequence
from itertools import islice
from math import prod

import numpy as np

from qkvcli.core.facts import largest, left_to_sink
from qkvcli.core.patches import Patches
from qkvcli.core.views import Matrix, View
from qkvcli.render.drawing import isolated
from qkvcli.render.grids import Room, cut
from qkvcli.render.text import SINKS, matrix_title, percent, share, title

_ROOM = Room(80)
_LONGEST = 40
"""How much of a label is said."""
_ROWS, _MATRICES = 24, 4
"""How many rows, and of how many heads, are said one by one."""
_TIED = 2


def named(name: str) -> str:
    """The name of a token among other words.

    >>> named("cat"), named("")
    ('cat', "''")
    """
    return isolated(cut(name, _LONGEST, _ROOM)) or "''"


def title_of(found: Sequence[Patches]) -> str:
    """What a picture is of, in a line."""
    names = [one.view.step.name for one in found]
    if not names:
        return "Attention: no steps"
    said = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"Attention: {said}"


def summary(found: Sequence[Patches], digits: int) -> str:
    """What there is to see: each step's title, and which keys weigh most for whom."""
    return " ".join(sentence for one in found for sentence in _sentences(one, digits))


def _sentences(one: Patches, digits: int) -> Iterator[str]:
    view = one.view
    yield f"{title(view.step)}."
    if view.step.name != "weights":
        return
    if view.step.sinks:
        yield f"{SINKS}.".capitalize()
    rows = view.step.shape[-2] if view.rows is None else len(view.rows)
    if view.array.shape[-2:] == (rows, view.step.shape[-1]) and rows <= _ROWS:
        count = prod(view.array.shape[:-2])
        if count > _MATRICES:
            kind = "heads" if len(view.axes) == 1 and view.step.has_heads else "matrices"
            yield f"The first {_MATRICES} of {count:,} {kind}:"
        for matrix in islice(view.matrices(), _MATRICES):
            place = f"{matrix_title(matrix.place, view.step.has_heads)}: " if matrix.place else ""
            yield f"{place}{', '.join(_ends(view, matrix))}."
    if one.strongest:
        yield f"Strongest: {', '.join(pairs(one, digits))}."


def _ends(view: View, matrix: Matrix) -> Iterator[str]:
    """For each query the keys that weigh most."""
    queries, keys = view.step.row_names, view.step.column_names
    numbers = range(view.step.shape[-2]) if view.rows is None else view.rows.tolist()
    for i, row in zip(numbers, matrix.array, strict=True):
        most = largest(row)
        who = " and ".join(named(keys[j]) for j in most[:_TIED].tolist())
        if most.size > _TIED:
            who = f"{most.size} keys"
        said = f"{who} {percent(float(row[most[0]]))}" if most.size else "no key"
        if view.step.sinks and not np.isnan(row).any():
            rest = f"sink {percent(left_to_sink(row))}"
            said = f"{said} ({rest})" if most.size else rest
        yield f"{named(queries[i])} → {said}"


def pairs(one: Patches, digits: int) -> Iterator[str]:
    """Each of the largest weights: its matrix, query and key."""
    step = one.view.step
    for pair in one.strongest:
        head = f"{matrix_title(pair.matrix, step.has_heads)}: " if pair.matrix else ""
        query, key = named(step.row_names[pair.query]), named(step.column_names[pair.key])
        yield f"{head}{query} → {key} {share(pair.weight, digits)}"
