"""Colours for numbers: weights from 0 up, scores and the rest on a scale around 0.

In 2^24 colours they are interpolated between anchors, in 256 they are entries 16 to 255 of
xterm's palette, which no theme changes; so is the text, black or white, whichever stands out
more: the worse of the two best contrasts is √21 = 4.58, and WCAG 2 asks for 4.5.
"""

import math
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple, TypeAlias

import numpy as np
from rich.color import Color
from rich.style import Style
from rich.text import Text

from qkvcli.core.operands import Array
from qkvcli.render.text import formatted

RGB: TypeAlias = tuple[int, int, int]

COLOURED = ("truecolor", "256")
"""The kinds of terminal that have colours enough; on others there are shades."""

CIVIDIS = (
    *("#00224e", "#003170", "#2a3f6d", "#434e6c", "#575d6d", "#6a6c71", "#7d7c78"),
    *("#918b78", "#a59c74", "#bcae6c", "#d2c060", "#e9d34e", "#fee838"),
)
"""From 0 up. Source: Nuñez, Anderton, Renslow, "Optimizing colormaps with consideration for
color vision deficiency" (2018)."""
DIVERGING = (
    *("#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7"),
    *("#fee0b6", "#fdb863", "#e08214", "#b35806", "#7f3b08"),
)
"""Around 0: the blue half of ColorBrewer's RdBu and the orange half of its PuOr. Source: Brewer,
colorbrewer2.org."""
CIVIDIS_256 = (17, 18, 19, 25, 60, 243, 101, 247, 144, 179, 185, 220)
"""Close to cividis, each entry lighter than the one before."""
DIVERGING_256 = (18, 25, 67, 74, 153, 255, 223, 215, 172, 130, 88)

SHADES, ASCII_SHADES = " ░▒▓█", " .:*#"
_CENTRE = 128
_LEVELS = {False: 256, True: 2 * _CENTRE + 1}  # around 0 one is exactly 0
_HALF, _NARROW = 8, 40  # cells of a legend to each side, and the columns that it keeps to


class Heat(NamedTuple):
    """From a number to a colour.

    The scale goes from 0 to ``largest``, or ``around_zero`` from −largest to it.

    >>> heat = Heat.of("scores", np.array([[-2.0, 4.0, -np.inf]]))
    >>> heat, heat.level(0.0), heat.level(-2.0), heat.level(-np.inf)
    (Heat(largest=4.0, around_zero=True), 128, 64, None)
    """

    largest: float
    around_zero: bool

    @classmethod
    def of(cls, name: str, array: Array, usual: float | None = None) -> "Heat | None":
        """The scale for the numbers of a step of this name; None where it has no number.

        Weights have one from 0 up, all other steps one around 0. Infinities and NaN do not
        stretch it. That of weights ends at the largest that is ``usual``, where that is known.
        """
        low, high = float(array.min(initial=0)), float(array.max(initial=0))
        if not (array.size and math.isfinite(low) and math.isfinite(high)):  # a NaN is both
            finite = array[np.isfinite(array)]
            if not finite.size and not np.isposinf(array).any():
                return None
            low, high = float(finite.min(initial=0)), float(finite.max(initial=0))
        if name == "weights":
            return cls(min(usual or high, high), False)
        return cls(max(high, -low), True)

    @classmethod
    def joined(cls, heats: "Iterable[Heat | None]") -> "Heat | None":
        """One scale for all that several are for; None where none of them has a number.

        >>> Heat.joined([Heat(1.0, True), None, Heat(3.0, True)])
        Heat(largest=3.0, around_zero=True)
        """
        return max((heat for heat in heats if heat is not None), default=None)

    def style(self, value: float, colours: str) -> Style:
        """The background for a number, and a text colour on it; ``colours`` is of `COLOURED`.

        Plain for NaN and for −∞, which a mask hides.
        """
        level = self.level(value)
        return _PLAIN if level is None else _styles(self.around_zero, colours)[level]

    def level(self, value: float) -> int | None:
        """Where on the scale a number stands: 0 to 255, around 0 to 256; None for no number."""
        share = self._share(value)
        if share is None:
            return None
        return round(_CENTRE * (1 + share)) if self.around_zero else round(255 * share)

    def levels(self, array: Array) -> Array:
        """The levels of many numbers, −1 for no number.

        >>> Heat(4.0, True).levels(np.array([0.0, -2.0, -np.inf])).tolist()
        [128, 64, -1]
        """
        known = ~(np.isnan(array) | np.isneginf(array))
        lowest = -self.largest if self.around_zero else 0.0
        shares = np.clip(np.where(known, array, 0.0).astype(np.float64), lowest, self.largest)
        if self.largest:
            shares /= self.largest
        else:
            shares = np.where(np.isposinf(array), 1.0, 0.0)
        levels = np.rint(_CENTRE * (1 + shares) if self.around_zero else 255 * shares)
        return np.where(known, levels, -1).astype(np.int16)

    @property
    def paints(self) -> "tuple[Paint, ...]":
        """The colours of every level, in 2^24 colours."""
        return _paints(self.around_zero)

    def shade(self, value: float, plain: bool) -> str:
        """A number without colours: a shade of grey, or a sign of ASCII; a blank for none.

        Around 0 the blank stands for no number.

        >>> "".join(Heat(1.0, False).shade(share / 10, plain=True) for share in range(11))
        '  ..::**###'
        """
        share = self._share(value)
        if share is None:
            return " "
        shades = ASCII_SHADES if plain else SHADES
        step = 1 + min(int(2 * (1 + share)), 3) if self.around_zero else min(int(5 * share), 4)
        return shades[step]

    def legend(self, colours: str | None, digits: int, plain: bool) -> Text:
        """The scale on one line of at most 40 columns, with its numbers.

        >>> Heat(0.63, False).legend(None, 2, plain=True).plain
        '0    ...:::***### 0.63'
        >>> Heat(19.48, True).legend(None, 2, plain=False).plain
        '-19.48 ░░░░▒▒▒▒0▓▓▓▓████ 19.48'
        """
        text = self._legend(colours, digits, plain)
        while text.cell_len > _NARROW and digits:
            digits -= 1
            text = self._legend(colours, digits, plain)
        return text

    def _share(self, value: float) -> float | None:
        """A number as a share of the largest, from 0 or −1 to 1."""
        if math.isnan(value) or value == -math.inf:
            return None
        if not self.largest:
            return 1.0 if value == math.inf else 0.0
        lowest = -self.largest if self.around_zero else 0.0
        return min(max(value, lowest), self.largest) / self.largest

    def _legend(self, colours: str | None, digits: int, plain: bool) -> Text:
        [[low, high]] = formatted(np.array([[-self.largest, self.largest]]), digits)
        text = Text(f"{low} " if self.around_zero else "0 ")
        cells = 2 * _HALF + 1 if self.around_zero else 3 * len(SHADES)
        for i in range(cells):
            share = (2 * i + 1) / cells - 1 if self.around_zero else (i + 0.5) / cells
            middle = self.around_zero and i == _HALF
            value = 0.0 if middle else share * self.largest
            if colours in COLOURED:
                text.append("0" if middle else " ", self.style(value, colours))
            else:
                text.append("0" if middle else self.shade(value, plain))
        return text.append(f" {high}")


class Paint(NamedTuple):
    """A background and the text on it: black or white."""

    background: RGB
    text: RGB


@cache
def _paints(around_zero: bool) -> tuple[Paint, ...]:
    return tuple(
        Paint(_components(style.bgcolor), _components(style.color))
        for style in _styles(around_zero, "truecolor")
    )


def _components(colour: Color | None) -> RGB:
    red, green, blue = (colour or Color.default()).get_truecolor()
    return red, green, blue


def hexadecimal(colour: RGB) -> str:
    """A colour as the web writes it.

    >>> hexadecimal((0, 34, 78))
    '#00224e'
    """
    return "#{:02x}{:02x}{:02x}".format(*colour)


_PLAIN = Style()


@cache
def _styles(around_zero: bool, colours: str) -> tuple[Style, ...]:
    """The style of every level."""
    count = _LEVELS[around_zero]
    if colours == "truecolor":
        anchors = list(map(rgb, DIVERGING if around_zero else CIVIDIS))
        return tuple(_style(_between(anchors, i / (count - 1))) for i in range(count))
    entries = DIVERGING_256 if around_zero else CIVIDIS_256
    shown = [_style(palette(entry), entry) for entry in entries]
    bands = len(entries) / count  # of as many levels each, so that the middle one is around 0
    return tuple(shown[int((i + 0.5) * bands)] for i in range(count))


def _style(background: RGB, entry: int | None = None) -> Style:
    """Text on a background, which is an entry of the palette where one is given."""
    black = contrast(background, (0, 0, 0)) > contrast(background, (255, 255, 255))
    if entry is None:
        text = (0, 0, 0) if black else (255, 255, 255)
        return Style.from_color(Color.from_rgb(*text), Color.from_rgb(*background))
    return Style.from_color(Color.from_ansi(16 if black else 231), Color.from_ansi(entry))


def rgb(hexadecimal: str) -> RGB:
    """A colour that is written as #rrggbb."""
    red, green, blue = bytes.fromhex(hexadecimal[1:])
    return red, green, blue


def _between(anchors: list[RGB], share: float) -> RGB:
    """The colour at a share of the way along evenly spaced anchors."""
    place = share * (len(anchors) - 1)
    i = min(int(place), len(anchors) - 2)
    pairs = zip(anchors[i], anchors[i + 1], strict=True)
    red, green, blue = (round(a + (b - a) * (place - i)) for a, b in pairs)
    return red, green, blue


def palette(entry: int) -> RGB:
    """The colour of an entry, 16 to 255, of xterm's palette: a cube of 6³, and 24 greys.

    >>> palette(16), palette(60), palette(231), palette(243)
    ((0, 0, 0), (95, 95, 135), (255, 255, 255), (118, 118, 118))
    """
    if entry >= 232:
        grey = 8 + 10 * (entry - 232)
        return grey, grey, grey
    cube = (0, 95, 135, 175, 215, 255)
    red, rest = divmod(entry - 16, 36)
    return cube[red], cube[rest // 6], cube[rest % 6]


def luminance(colour: RGB) -> float:
    """How light a colour is, 0 to 1 (WCAG 2, relative luminance).

    >>> luminance((0, 0, 0)), round(luminance((118, 118, 118)), 3)
    (0.0, 0.181)
    """
    shares = (part / 255 for part in colour)
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: RGB, other: RGB) -> float:
    """The contrast of two colours, 1 to 21 (WCAG 2).

    >>> round(contrast((255, 255, 255), (118, 118, 118)), 2)
    4.54
    """
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)
