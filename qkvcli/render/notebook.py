"""Steps as a notebook shows them: tables with heat in HTML, which needs no script, and as text."""

import re
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from itertools import groupby
from math import isfinite, prod
from shutil import get_terminal_size
from typing import NamedTuple

import numpy as np
from rich.console import Console

from qkvcli.core.compare.comparison import Comparison
from qkvcli.core.problem import Problem
from qkvcli.core.steps import Step
from qkvcli.core.views import Matrix, Selection, View, outlines
from qkvcli.render.drawing import MONO, escaped
from qkvcli.render.grids import Grid, Room, grids
from qkvcli.render.heat import CIVIDIS, DIVERGING, Heat, hexadecimal
from qkvcli.render.paper import Line, Part, Sheet
from qkvcli.render.tables import facts_line, heat_of, step_tables
from qkvcli.render.text import formatted, matrix_title, title
from qkvcli.render.verdicts import remarks, told_of, verdict

ROWS = 16
"""How many rows of a matrix are shown: the first and the last of more."""
_HEADS = 2
"""How many heads and batches are shown, together: of more the first alone."""
_ROOM = Room(100, ROWS, heat="truecolor")
_TEXT = Room(80, ROWS)

_TABLE = (
    "border-collapse:collapse;border:0;margin:.3em 0;width:auto;table-layout:auto;"
    f"font-family:{MONO};font-size:12px;color:inherit"
)
_PAGE = "overflow-x:auto;max-width:100%;color:inherit"
_VERDICT = "border:1px solid transparent;border-radius:3px;padding:0 5px"
_SAME, _WRONG = "#1a7f37", "#cf222e"  # with white text on them
_ROW = "background:none;border:0"
_CELL = "padding:2px 6px;border:0;white-space:nowrap;text-align:"
_POWER = re.compile(r"\be\^(-?(?:inf|score|\d[\d.]*(?:e[+-]\d+)?))")
"""An exponential of e, as it stands in a line of text."""
_BAR = (
    "display:inline-block;width:9em;height:.8em;margin:0 .3em;vertical-align:middle;"
    "background:linear-gradient"
)


class Shown(NamedTuple):
    """Parts of steps to be shown, and how many heads and batches are left out.

    ``paged`` says whether a page may have those too.
    """

    views: Sequence[View]
    more: int = 0
    paged: bool = False

    @classmethod
    def of(cls, views: Iterable[View], paged: bool = False) -> "Shown":
        """These views, of some of their heads and batches."""
        found = list(views)
        counts = [prod(view.step.shape[:-2]) for view in found]
        fewer = [_fewer(view) for view in found]
        left = [n - prod(view.shape[:-2]) for n, view in zip(counts, fewer, strict=True)]
        return cls(fewer, max(left, default=0), paged)

    @classmethod
    def held(cls, steps: Sequence[Step], problem: Problem | None) -> "Shown":
        """What is shown of steps whose numbers are here."""
        return cls.of((_held(step, problem) for step in steps), problem is not None)


def chosen(problem: Problem, names: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Selection]]:
    """Which steps are to be computed, with the rows, heads and batches that are shown.

    Those of few heads come apart from those that join all of them.
    """
    selection = Selection().shortened(problem.shape[-2], ROWS)
    steps = [step for step in outlines(problem, "output", selection) if step.name in names]
    for headed, run in groupby(steps, key=lambda step: step.axis("head") is not None):
        some = tuple(step.name for step in run)
        if headed and prod(problem.leading) > _HEADS:
            yield some, selection._replace(heads=(0,))
        else:
            yield some, selection


def text(shown: Shown, width: int | None = None) -> str:
    """Steps as the tables of a terminal without colours, which are as wide (None: as it is)."""
    width = width or get_terminal_size().columns
    file = StringIO()
    console = Console(
        file=file,
        color_system=None,
        highlight=False,
        emoji=False,
        markup=False,
        force_jupyter=False,  # or Rich shows each table in the notebook itself
    )
    for block in step_tables(shown.views, _TEXT._replace(width=width)):
        console.width = max(block.width, 1)
        console.print(block.content)
    lines = [line.rstrip() for line in file.getvalue().splitlines()] or _titles(shown)
    return "\n".join([*lines, *_more(shown)]).rstrip()


def page(shown: Shown) -> str:
    """Steps as HTML: for each its title, its scale and its tables; those of heads head by head."""
    parts: list[str] = []
    for many, run in groupby(shown.views, key=lambda view: len(view.shape) > 2 and view.axes):
        group = list(run)
        if many and len(group) > 1:
            for matrices in zip(*(view.matrices() for view in group), strict=True):
                parts.append(_place(group[0], matrices[0]))
                for view, matrix in zip(group, matrices, strict=True):
                    parts += [_title(view), *_matrix(view, matrix)]
            continue
        for view in group:
            parts.append(_title(view))
            for matrix in view.matrices():
                parts += [_place(view, matrix)] if matrix.place else []
                parts += _matrix(view, matrix)
    parts = parts or [f"<div>{escaped(line)}</div>" for line in _titles(shown)]
    parts += [f"<div>{escaped(line)}</div>" for line in _more(shown)]
    inner = "\n".join(parts)
    return f'<div style="{_PAGE}">\n{inner}\n</div>'


def compared(found: Comparison) -> str:
    """A comparison as HTML: a line for each step, its verdict in colour; then what is said below.

    A fault of its own has its verdict filled, one that follows from another is outlined.
    """
    lines = []
    for step in found.steps:
        colour = _SAME if step.same else _WRONG
        plain = step.same or not step.follows
        look = (
            f"background:{colour};color:#fff" if plain else f"color:inherit;border-color:{colour}"
        )
        word = f'<span style="{_VERDICT};{look}">{escaped(verdict(step))}</span>'
        lines.append(
            f'<tr style="{_ROW}"><th scope="row" style="{_CELL}left">{escaped(step.name)}</th>'
            f'<td style="{_CELL}left">{word}</td>'
            f'<td style="{_CELL}left;white-space:normal">{escaped(told_of(step, found))}</td></tr>'
        )
    table = f'<table style="{_TABLE}">\n<tbody>\n{"".join(lines)}\n</tbody>\n</table>'
    said = "\n".join(f"<div>{escaped(line)}</div>" for line in remarks(found))
    return f'<div style="{_PAGE}">\n{table}\n{said}\n</div>'


def explained(said: Iterable[Part]) -> str:
    """An explanation as HTML: its lines, its small tables, and bars for the weights."""
    inner = "\n".join(map(_part, said))
    return f'<div style="{_PAGE}">\n{inner}\n</div>'


def _part(part: Part) -> str:
    if isinstance(part, Line):
        text = _POWER.sub(r"e<sup>\1</sup>", escaped(part.text))
        return f"<div><b>{text}</b></div>" if part.heading else f"<div>{text}</div>"
    rows: Iterator[str]
    if isinstance(part, Sheet):
        rows = (_said(line, "th" if n == 0 else "td") for n, line in enumerate(_lines(part)))
    else:
        rows = (_barred(*line) for line in part.lines)
    return f'<table style="{_TABLE}">\n<tbody>\n{"".join(rows)}\n</tbody>\n</table>'


def _lines(sheet: Sheet) -> Iterator[tuple[str, ...]]:
    """The lines of a small table, from the one above its columns on."""
    yield sheet.header
    yield from sheet.lines


def _said(line: Sequence[str], kind: str) -> str:
    first, *others = map(escaped, line)
    cells = "".join(f'<{kind} style="{_CELL}right">{cell}</{kind}>' for cell in others)
    return f'<tr style="{_ROW}"><th style="{_CELL}left">{first}</th>{cells}</tr>\n'


def _barred(name: str, number: str, weight: float, part: str) -> str:
    """A key, its weight as text and as a bar, and what there is to say of it."""
    long = 16 * min(max(weight, 0.0), 1.0) if isfinite(weight) else 0.0
    size = f"display:inline-block;height:.8em;width:{long:.2f}em;vertical-align:middle"
    drawn = f'<span style="{size};background:{DIVERGING[2]}"></span>'
    return (
        f'<tr style="{_ROW}"><th scope="row" style="{_CELL}left">{escaped(name)}</th>'
        f'<td style="{_CELL}right">{escaped(number)}</td>'
        f'<td style="{_CELL}left;min-width:16em">{drawn}</td>'
        f'<td style="{_CELL}right">{escaped(part)}</td></tr>\n'
    )


def _titles(shown: Shown) -> list[str]:
    """What is there to be said where there is no head to be shown."""
    return [str(title(view.step)) for view in shown.views]


def _more(shown: Shown) -> Iterator[str]:
    if shown.more:
        of = "heads" if max(len(view.axes) for view in shown.views) == 1 else "heads and batches"
        page = "steps.page() has them all, " if shown.paged else ""
        rest = "them" if shown.paged else "them all"
        yield f"{shown.more:,} more {of}: {page}steps.save('steps.svg') draws {rest}"


def _held(step: Step, problem: Problem | None) -> View:
    """The rows that are shown of a step that is held; which keys are hidden, the problem knows."""
    selection = Selection().shortened(step.shape[-2], ROWS)
    rows, array = selection.rows, step.array
    axes = tuple(tuple(range(n)) for n in step.shape[:-2])
    if step.of_queries and rows is not None:
        array = array[..., rows, :]
    weights = problem if step.name == "weights" else None
    hidden = None if weights is None else selection.of(weights).hidden
    kept = rows if step.of_queries else None
    return View.held(step, array, kept, axes, selection.gaps, hidden)


def _fewer(view: View) -> View:
    """The same, of no more heads and batches than are shown."""
    few = prod(view.step.shape[:-2]) <= _HEADS
    kept = [count if few else min(count, 1) for count in view.shape[:-2]]
    which = tuple(slice(n) for n in kept)
    axes = tuple(axis[:n] for axis, n in zip(view.axes, kept, strict=True))
    hidden = view.hidden
    if hidden is not None:
        hidden = np.broadcast_to(hidden, view.shape)[which]
    return View.held(view.step, view.array[which], view.rows, axes, view.gaps, hidden)


def _place(view: View, matrix: Matrix) -> str:
    name = matrix_title(matrix.place, view.step.has_heads)
    return f'<div style="margin-top:.6em"><b>{escaped(name)}</b></div>'


def _title(view: View) -> str:
    """A step's title and, where its cells have colours, what they mean."""
    words = title(view.step)
    shapes = f'<span style="opacity:.7">{escaped(words.shapes)}</span>'
    line = f"<div><b>{escaped(words.name)}</b> = {escaped(words.formula)} &nbsp; {shapes}</div>"
    heat = heat_of(view, _ROOM)
    return line if heat is None else f"{line}\n{_legend(view, heat)}"


def _legend(view: View, heat: Heat) -> str:
    """The scale with its numbers, and what the signs in the table mean."""
    [[low, high]] = formatted(np.array([[-heat.largest, heat.largest]]), _ROOM.digits)
    colours = ",".join(DIVERGING if heat.around_zero else CIVIDIS)
    bar = f'<span style="{_BAR}(to right,{colours})"></span>'
    signs = ""
    if view.step.name == "weights":
        signs = " &nbsp; ★ largest of its row"
        if view.hidden is not None and view.hidden.any():
            signs += f" &nbsp; {_ROOM.dot} hidden"
    scale = f"{escaped(low if heat.around_zero else '0')} {bar} {escaped(high)}"
    return f'<div style="font-size:12px">{scale}{signs}</div>'


def _matrix(view: View, matrix: Matrix) -> Iterator[str]:
    """The table of one matrix, and what there is to say of it."""
    heat = heat_of(view, _ROOM)
    for grid in grids(view, matrix, _ROOM, ends=True):
        yield _table(grid, heat)
        facts = facts_line(view, matrix, _ROOM) if grid.ends else ""
        if facts:
            said = escaped(facts.replace("\n", " "))
            yield f'<div style="font-size:12px;opacity:.7;margin-bottom:.6em">{said}</div>'


def _table(grid: Grid, heat: Heat | None) -> str:
    heads = "".join(f'<th scope="col" style="{_CELL}right">{escaped(h)}</th>' for h in grid.header)
    more = f'<th style="{_CELL}left"></th>' if grid.ends else ""
    lines = [f'<thead><tr style="{_ROW}">{heads}{more}</tr></thead>', "<tbody>"]
    for i, (name, *cells) in enumerate(grid.lines):
        shown = "".join(_cell(grid, (i, j), cell, heat) for j, cell in enumerate(cells, 1))
        label = f'<th scope="row" style="{_CELL}left">{escaped(name)}</th>'
        end = f'<td style="{_CELL}left">{escaped(grid.ends[i])}</td>' if grid.ends else ""
        lines.append(f'<tr style="{_ROW}">{label}{shown}{end}</tr>')
    table = "\n".join([*lines, "</tbody>"])
    return f'<table style="{_TABLE}">\n{table}\n</table>'


def _cell(grid: Grid, place: tuple[int, int], content: str, heat: Heat | None) -> str:
    """A cell: the largest weight of a row is bold, and has a star before it."""
    said = escaped(content.strip())
    number = grid.numbers.get(place)
    level = None if heat is None or number is None else heat.level(number)
    if level is None or heat is None or place in grid.hidden:
        pale = ";opacity:.6" if place in grid.hidden or said in ("-inf", _ROOM.ellipsis) else ""
        colours = f";background:none{pale}"
    else:
        paint = heat.paints[level]
        colours = f";background:{hexadecimal(paint.background)};color:{hexadecimal(paint.text)}"
    if place in grid.strongest:
        said = f"<b>★{said}</b>"
    return f'<td style="{_CELL}right{colours}">{said}</td>'
