"""A lesson: a page of HTML that holds Q, K and V, computes attention, and explains each number."""

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from qkvcli import __version__
from qkvcli.core.config import SCORES
from qkvcli.core.operands import Array
from qkvcli.core.problem import Problem
from qkvcli.core.views import Matrix, Selection, View, edges, views
from qkvcli.render.heat import Heat
from qkvcli.render.lesson.data import data_of
from qkvcli.render.text import formatted, matrix_title, title

_FOLDER = Path(__file__).parent
_EDGE = 12
"""How many rows and columns a table has that is read without JavaScript."""
_TITLE = 80
_DARK = """\
  --page: #0d1117; --text: #e6edf3; --quiet: #9aa4af; --line: #3a424c; --raised: #161b22;
  --accent: #79b8ff; --on-accent: #0d1117; --mark: #5a4a00; --bar: #4393c3; --wrong: #a40e26;
  color-scheme: dark;
"""


def lesson(
    problem: Problem,
    names: Sequence[str],
    selection: Selection = Selection(),  # noqa: B008 -- it is frozen
    theme: str | None = None,
    digits: int | None = None,
) -> str:
    """The page, as one text of HTML that needs nothing besides itself.

    ``names`` are the steps that it goes through, ``theme`` is "light", "dark", or None for the
    reader's own. Raises UsageError for what is too large for a page (`data_of`), ShapeError
    where there is nothing to show.
    """
    held = data_of(problem, names, selection, digits)
    script = _read("lesson.js")
    told = _said(problem, selection)
    return Template(_read("lesson.html")).substitute(
        theme="" if theme is None else f' data-theme="{theme}"',
        scheme=theme or "light dark",
        hash=f"sha256-{b64encode(sha256(f'{chr(10)}{script}'.encode()).digest()).decode()}",
        version=__version__,
        title=_text(told),
        style=_read("lesson.css").replace("$dark", _dark(theme)),
        formula=_text(_formula(problem, held)),
        static="".join(_static(problem, held, selection)),
        data=embedded(held),
        script=script,
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _dark(theme: str | None) -> str:
    """The colours of a dark page, where it is one or may be one."""
    if theme == "light":
        return ":root { color-scheme: light; }"
    if theme == "dark":
        return f":root {{\n{_DARK}}}"
    return (
        ":root { color-scheme: light dark; }\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{\n{_DARK}}} }}"
    )


def embedded(held: Any) -> str:
    r"""JSON that can stand within a page: no text in it ends the script that it stands in.

    >>> print(embedded(["</script>", "\u2028"]))
    ["\u003c/script\u003e","\u2028"]
    """
    text = json.dumps(held, allow_nan=False, separators=(",", ":"))  # ASCII alone
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _text(text: str) -> str:
    """A text as HTML: signs of HTML escaped, and those that it has no place for shown as such.

    >>> _text("<b>&\\0")
    '&lt;b&gt;&amp;\ufffd'
    """
    kept = "".join(c if c.isprintable() or c == "\n" or ord(c) > 0x9F else "\ufffd" for c in text)
    return escape(kept.encode("utf-8", "replace").decode())


def _label(text: str) -> str:
    return f"<bdi>{_text(text)}</bdi>"


def _said(problem: Problem, selection: Selection) -> str:
    """The title: the tokens that ask, as far as they fit."""
    chosen = selection.of(problem)
    queries, keys = chosen.shape[-2:]
    counts = f"{queries} queries and {keys} keys"
    if chosen.labels is None or all(map(str.isdecimal, chosen.labels)):
        return f"Attention of {counts}"
    told = " ".join(chosen.labels)
    return f"Attention of {told if len(told) <= _TITLE else told[: _TITLE - 1] + '…'}"


def _formula(problem: Problem, held: dict[str, Any]) -> str:
    """All that is computed, in one line, as the page itself writes it."""
    if problem.weights is not None:
        told = "weights"
    else:
        told = "Q·Kᵀ" if problem.scores is None else problem.first_score
        for step in problem.score_steps:
            told = step.formula(told)
        if held["until"] == "scores":
            return f"scores = {told}"
        told = f"softmax({told})"
    return f"output = {told}·V" if held["value"] else f"weights = {told}"


def _static(problem: Problem, held: dict[str, Any], selection: Selection) -> Iterator[str]:
    """What is read where no JavaScript runs: a table of each step, of the first head."""
    apart = selection.of(problem).apart()
    first = Selection(
        _cut(apart.shape[-2]),
        (0,) if apart.leading else None,
        (0,) if len(apart.leading) > 1 else None,
    )
    if len(apart.leading) > 2:  # the rows are chosen first, and then one of the matrices
        apart, first = apart.with_matrix((0,) * len(apart.leading)), first._replace(heads=None)
        first = first._replace(batches=None)
    names = tuple(name for name in (*SCORES, "weights", "output") if name in held["steps"])
    place = tuple(axis["numbers"][0] for axis in held["leading"])
    for view in views(replace(apart, given=()), held["until"], names, first):
        [matrix] = view.matrices()
        yield from _step(view, matrix, place, held["digits"])


def _cut(count: int) -> Array | None:
    """The rows at both ends, of many."""
    kept = [i for i in edges(count, _EDGE) if i is not None]
    return None if len(kept) == count else np.array(kept, np.intp)


def _step(view: View, matrix: Matrix, place: tuple[int, ...], digits: int) -> Iterator[str]:
    """A step as a table of HTML, with its title."""
    step, numbers = view.step, matrix.array
    words = title(step)
    of = f"{_text(matrix_title(place))}: " if place else ""
    yield '<section class="step">\n'
    yield f"<h2>{of}<strong>{words.name}</strong> = {_text(words.formula)} "
    yield f"<small>{_text(words.shapes)}</small></h2>\n"
    heat = Heat.of(step.name, numbers)
    columns = edges(numbers.shape[-1], _EDGE)
    rows = list(range(step.shape[-2])) if view.rows is None else view.rows.tolist()
    texts = formatted(numbers, digits)
    header = "".join(
        '<td>…</td>' if c is None else f'<th scope="col">{_label(step.column_names[c])}</th>'
        for c in columns
    )
    yield f'<div class="scroll"><table>\n<thead><tr><td></td>{header}</tr></thead>\n<tbody>\n'
    for i, number in enumerate(rows):
        if i and number != rows[i - 1] + 1:
            yield f"<tr><th>…</th>{'<td>…</td>' * len(columns)}</tr>\n"
        cells = "".join(_cell(matrix, heat, texts, i, c) for c in columns)
        yield f'<tr><th scope="row">{_label(step.row_names[number])}</th>{cells}</tr>\n'
    yield "</tbody></table></div>\n</section>\n"


def _cell(
    matrix: Matrix, heat: Heat | None, texts: list[list[str]], i: int, c: int | None
) -> str:
    if c is None:
        return "<td>…</td>"
    if matrix.hidden is not None and matrix.hidden[i, c]:
        return "<td>·</td>"
    style = None if heat is None else heat.style(float(matrix.array[i, c]), "truecolor")
    if style is None or style.bgcolor is None or style.color is None:
        return f"<td>{texts[i][c]}</td>"
    colours = f"background:{style.bgcolor.name};color:{style.color.name}"
    return f'<td style="{colours}">{texts[i][c]}</td>'
