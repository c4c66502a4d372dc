"""What pictures in SVG are drawn with: elements, text and how wide it is, the colours of a page."""

from collections.abc import Iterator
from typing import NamedTuple
from unicodedata import bidirectional

import numpy as np
from rich.cells import cell_len

from qkvcli.core.views import Matrix
from qkvcli.render.heat import Heat, rgb
from qkvcli.render.png import data_uri, png
from qkvcli.render.screen import printable

SANS = "system-ui, -apple-system, 'Segoe UI', sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"


class Theme(NamedTuple):
    """The colours of a page; those of the numbers on it are the same on all.

    ``veil`` and ``hatch`` stand where a key is hidden, ``lost`` where a number is NaN, ``least``
    where it is −∞ though nothing hides it.
    """

    page: str
    ink: str
    quiet: str
    veil: str
    hatch: str
    lost: str
    least: str


THEMES = {
    "light": Theme("#ffffff", "#1f2328", "#59636e", "#eef0f2", "#aab1b9", "#e377c2", "#1b9e77"),
    "dark": Theme("#0f1216", "#e6edf3", "#9da7b3", "#1b2027", "#59626d", "#e377c2", "#1b9e77"),
}

_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})
_WIDEST, _NARROWEST = frozenset("MWmw@%…→"), frozenset("iIjlftr.,:;'`|!()[]{}/\\ -·")
_EM = {"widest": 1.0, "narrowest": 0.42, "upper": 0.76, "other": 0.66}
"""How much of its size a letter takes, of the widest fonts that systems have."""
_EM_A_CELL = 0.76  # of letters that are not ASCII, for each column that a terminal gives them
MONO_EM = 0.62
_BOLD = 1.1


def escaped(text: str) -> str:
    r"""A text as markup has it, on one line: what XML forbids is spelt out.

    >>> escaped('<b>&"\x00')
    '&lt;b&gt;&amp;&quot;\\x00'
    """
    return printable(text).translate(_MARKUP)


def isolated(name: str) -> str:
    """A name that is read from the right, kept from turning the words around it."""
    right = any(bidirectional(letter) in ("R", "AL") for letter in name)
    return f"\N{FIRST STRONG ISOLATE}{name}\N{POP DIRECTIONAL ISOLATE}" if right else name


def marked_up(text: str) -> str:
    """The same as `escaped`, of a text in which names are `isolated`."""
    parts = text.split("\N{FIRST STRONG ISOLATE}")
    ends = (part.split("\N{POP DIRECTIONAL ISOLATE}") for part in parts)
    marks = ("\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}")
    return marks[0].join(marks[1].join(map(escaped, end)) for end in ends)


def wide(text: str, size: float, bold: bool = False) -> float:
    """How wide a text may be at most, whatever font the system has.

    >>> wide("mat", 10) < wide("MAT", 10) < wide("日本語", 10)
    True
    """
    return sum(map(_ems, printable(text))) * size * (_BOLD if bold else 1)


def _ems(letter: str) -> float:
    if letter in _WIDEST:
        return _EM["widest"]
    if letter in _NARROWEST:
        return _EM["narrowest"]
    if not letter.isascii():
        return _EM_A_CELL * cell_len(letter)
    return _EM["upper" if letter.isupper() else "other"]


def number(value: float) -> str:
    """A coordinate, as short as it can be.

    >>> number(12.0), number(1 / 3)
    ('12', '0.33')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".")


def element(name: str, content: str | None = None, **attributes: float | str) -> str:
    """An element whose content is markup; numbers are coordinates, ``_`` is ``-`` in a name.

    >>> element("rect", x=1.0, stroke_width=2)
    '<rect x="1" stroke-width="2"/>'
    """
    words = "".join(
        f' {key.replace("_", "-")}="{value if isinstance(value, str) else number(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{words}/>" if content is None else f"<{name}{words}>{content}</{name}>"


def label(x: float, y: float, text: str, size: float, fill: str, **attributes: float | str) -> str:
    """A line of text, on its baseline."""
    return element("text", marked_up(text), x=x, y=y, font_size=size, fill=fill, **attributes)


def hatched(x: float, y: float, width: float, height: float, theme: Theme) -> Iterator[str]:
    """A ground of slanting lines, which shows where nothing is drawn on it."""
    yield element("rect", x=x, y=y, width=width, height=height, fill=theme.veil)
    lines = []
    for start in range(5, int(width + height), 5):  # each leaves at the left or below
        right, low = min(start, width), min(start, height)
        left, top = start - low, start - right
        ends = (x + left, y + low, x + right, y + top)
        lines.append("M{} {}L{} {}".format(*map(number, ends)))
    path = "".join(lines)
    yield element("path", d=path, stroke=theme.hatch, stroke_width=1, fill="none")


def heat_png(matrix: Matrix, heat: Heat | None, theme: Theme) -> str:
    """The numbers of a matrix as the address of a picture, a dot each; hidden ones are clear.

    A palette has 256 colours: every other level of the scale, and three for what has none.
    """
    array = matrix.array
    colours = [] if heat is None else [paint.background for paint in heat.paints[::2]]
    palette = [*colours, rgb(theme.lost), rgb(theme.least), (0, 0, 0)]
    lost, least, clear = range(len(palette) - 3, len(palette))
    levels = np.full(array.shape, -1) if heat is None else heat.levels(array)
    indexes = np.where(levels < 0, np.where(np.isneginf(array), least, lost), levels // 2)
    if matrix.hidden is not None:
        indexes[matrix.hidden] = clear
    return data_uri(png(indexes, palette, clear))
