"""What a page shows where no JavaScript runs: a picture of each head, and tables of the first."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from qkvcli.core.config import MIXED, SCORES
from qkvcli.core.facts import left_to_sink
from qkvcli.core.operands import Array
from qkvcli.core.patches import Fit, patches
from qkvcli.core.problem import Problem
from qkvcli.core.views import Matrix, Selection, View, edges, views
from qkvcli.render.drawing import THEMES, escaped, heat_png
from qkvcli.render.heat import Heat
from qkvcli.render.summary import summary
from qkvcli.render.text import formatted, matrix_title, percent, title

_EDGE = 12
"""How many rows and columns of a table are shown."""
_LISTED = 8
"""How many heads are named one by one."""
_PICTURES, _FIT = 24, Fit(96, 96)
"""Of how many heads there are pictures, and how many dots each may have."""


def label(text: str) -> str:
    """A token's label as HTML, which keeps its direction to itself."""
    return f"<bdi>{escaped(text)}</bdi>"


def counted(count: int, one: str, many: str) -> str:
    """So many of something.

    >>> counted(1, "query", "queries"), counted(1000, "key", "keys")
    ('1 query', '1,000 keys')
    """
    return f"{count:,} {one if count == 1 else many}"


def listed(numbers: Sequence[int], whole: int) -> str:
    """Some heads of all; those that follow each other by the first and the last.

    >>> listed([6], 12), listed([0, 1, 2, 3], 12), listed([4, 1], 12)
    ('head 6 of 12', 'heads 0 to 3 of 12', 'heads 4, 1 of 12')
    """
    first, last, count = numbers[0], numbers[-1], len(numbers)
    if count == 1:
        return f"head {first} of {whole:,}"
    if count > 2 and list(numbers) == list(range(first, last + 1)):
        return f"heads {first} to {last} of {whole:,}"
    shown = ", ".join(map(str, numbers[:_LISTED])) + (", …" if count > _LISTED else "")
    return f"heads {shown} of {whole:,}"


def chosen_heads(problem: Problem, selection: Selection) -> str:
    """Which heads were chosen, where they are not all."""
    leading = problem.apart().leading
    if selection.heads is None or not leading or len(selection.heads) == leading[-1] == 1:
        return ""
    if len(selection.heads) == 1:
        return f"head {selection.heads[0]}"
    if sorted(selection.heads) == list(range(leading[-1])):
        return ""
    return listed(selection.heads, leading[-1])


def first_of(held: dict[str, Any]) -> str:
    """The matrix that the tables are of: " of head 0", and nothing where there is one alone."""
    place = tuple(axis["numbers"][0] for axis in held["leading"])
    return f" of {matrix_title(place)}" if place else ""


def static(problem: Problem, held: dict[str, Any], selection: Selection) -> Iterator[str]:
    """A picture of all heads, and of the first a table of each step; large ones by their edges.

    ``held`` is the page's data (`qkvcli.render.lesson.data.data_of`).
    """
    apart = replace(selection.of(problem).apart(), given=())
    yield from _pictures(apart, held)
    first = Selection(
        _cut(apart.shape[-2]),
        (0,) if apart.leading else None,
        (0,) if len(apart.leading) > 1 else None,
    )
    if len(apart.leading) > 2:  # the rows are chosen first, and then one of the matrices
        apart, first = apart.with_matrix((0,) * len(apart.leading)), first._replace(heads=None)
        first = first._replace(batches=None)
    names = tuple(name for name in (*SCORES, "weights", *MIXED) if name in held["steps"])
    place = tuple(axis["numbers"][0] for axis in held["leading"])
    for view in views(apart, held["until"], names, first):
        [matrix] = view.matrices()
        yield from _step(view, matrix, place, held)


def _pictures(problem: Problem, held: dict[str, Any]) -> Iterator[str]:
    """A small picture of each head's weights, or of the last step where none are computed."""
    known = {step.name for step in problem.outlines(held["until"])}
    name = "weights" if "weights" in known else held["steps"][-1]
    found = patches(problem, held["until"], (name,), Selection(), _FIT)
    [view] = [one.view for one in found]
    heat = Heat.of(name, view.array)
    yield '<figure>\n<div class="pictures">\n'
    for matrix in islice(view.matrices(), _PICTURES):
        numbers = [
            axis["numbers"][i] for axis, i in zip(held["leading"], matrix.place, strict=False)
        ]
        of = matrix_title(tuple(numbers)) if numbers else ""
        told = escaped(f"{name} of {of}" if of else name)
        caption = f"<figcaption>{escaped(of)}</figcaption>" if of else ""
        source = heat_png(matrix, heat, THEMES["light"])
        image = f'<img alt="{told}" title="{told}" src="{source}">'
        yield f"<figure>{image}{caption}</figure>\n"
    caption = escaped(summary(found, held["digits"]))
    count = math.prod(view.array.shape[:-2])
    more = f" (The first {_PICTURES} of {count:,} are pictured.)" if count > _PICTURES else ""
    yield f"</div>\n<figcaption>{caption}{more}</figcaption>\n</figure>\n"


def _cut(count: int) -> Array | None:
    """The rows at both ends, of many."""
    kept = [i for i in edges(count, _EDGE) if i is not None]
    return None if len(kept) == count else np.array(kept, np.intp)


def _step(
    view: View, matrix: Matrix, place: tuple[int, ...], held: dict[str, Any]
) -> Iterator[str]:
    """A step as a table of HTML, with its title."""
    step, numbers = view.step, matrix.array
    words = title(step)
    of = f"{escaped(matrix_title(place))}: " if place else ""
    yield '<section class="step">\n'
    yield f"<h2>{of}<strong>{words.name}</strong> = {escaped(words.formula)} "
    yield f"<small>{escaped(words.shapes)}</small></h2>\n"
    yield f"<p>{escaped(held['about'][step.name])}</p>\n"
    heat = Heat.of(step.name, numbers)
    columns = edges(numbers.shape[-1], _EDGE)
    rows = list(range(step.shape[-2])) if view.rows is None else view.rows.tolist()
    texts = formatted(numbers, held["digits"])
    header = "".join(
        "<td>…</td>" if c is None else f'<th scope="col">{label(step.column_names[c])}</th>'
        for c in columns
    )
    yield f'<div class="scroll"><table>\n<thead><tr><td></td>{header}</tr></thead>\n<tbody>\n'
    for i, number in enumerate(rows):
        if i and number != rows[i - 1] + 1:
            yield f"<tr><th>…</th>{'<td>…</td>' * len(columns)}</tr>\n"
        cells = "".join(_cell(matrix, heat, texts, i, c) for c in columns)
        if step.sinks:
            cells += f"<td>sink {percent(left_to_sink(numbers[i]))}</td>"
        yield f'<tr><th scope="row">{label(step.row_names[number])}</th>{cells}</tr>\n'
    yield "</tbody></table></div>\n</section>\n"


def _cell(matrix: Matrix, heat: Heat | None, texts: list[list[str]], i: int, c: int | None) -> str:
    if c is None:
        return "<td>…</td>"
    if matrix.hidden is not None and matrix.hidden[i, c]:
        return "<td>·</td>"
    style = None if heat is None else heat.style(float(matrix.array[i, c]), "truecolor")
    if style is None or style.bgcolor is None or style.color is None:
        return f"<td>{texts[i][c]}</td>"
    colours = f"background:{style.bgcolor.name};color:{style.color.name}"
    return f'<td style="{colours}">{texts[i][c]}</td>'
