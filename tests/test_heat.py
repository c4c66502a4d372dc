"""Colours for numbers: text that can be read on each, and scales that anybody can tell apart."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.color import Color, ColorType
from rich.style import Style

from qkvcli.render import heat
from qkvcli.render.heat import COLOURED, RGB, Heat, contrast, luminance, palette

WEIGHTS, SCORES = Heat(2.0, False), Heat(2.0, True)
GRID = {WEIGHTS: np.linspace(0, 2, 4001), SCORES: np.linspace(-2, 2, 8001)}
SCALES = [(scale, colours) for scale in GRID for colours in COLOURED]

# Machado, Oliveira, Fernandes (2009), severity 1, in linear RGB
BLINDNESS = {
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
}
TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
) / [[0.9505], [1.0], [1.089]]


def rgb(color: Color | None) -> RGB:
    """A colour as a terminal shows it."""
    assert color is not None
    if color.number is not None:
        return palette(color.number)
    assert color.triplet is not None
    red, green, blue = color.triplet
    return red, green, blue


def backgrounds(scale: Heat, colours: str) -> list[RGB]:
    """The colours of a scale, each once as long as it lasts."""
    shown: list[RGB] = []
    for value in GRID[scale].tolist():
        colour = rgb(scale.style(value, colours).bgcolor)
        if shown[-1:] != [colour]:
            shown.append(colour)
    return shown


def lab(colour: RGB, matrix: Any) -> Any:
    """A colour in CIE L*a*b*, as somebody sees it to whom ``matrix`` is done."""
    parts = np.array(colour) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(matrix) @ linear, 0, 1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize(("scale", "colours"), SCALES)
def test_text_can_be_read_on_every_number(scale: Heat, colours: str) -> None:
    styles = {scale.style(value, colours) for value in GRID[scale].tolist()}
    assert len(styles) > 9
    for style in styles:
        assert contrast(rgb(style.color), rgb(style.bgcolor)) >= 4.5
        assert rgb(style.color) in {(0, 0, 0), (255, 255, 255)}
        assert style.color is not None
        assert style.bgcolor is not None
        kinds = {style.color.type, style.bgcolor.type}  # of the terminal: Rich changes no colour
        if colours == "256":
            assert kinds == {ColorType.EIGHT_BIT}
            assert style.color.number in {16, 231}
            assert 16 <= (style.bgcolor.number or 0) <= 255
        else:
            assert kinds == {ColorType.TRUECOLOR}


@pytest.mark.parametrize("colours", COLOURED)
def test_larger_weights_are_lighter_and_no_colour_comes_again(colours: str) -> None:
    shown = backgrounds(WEIGHTS, colours)
    assert len(shown) == len(set(shown)) > 9
    steps = np.diff(list(map(luminance, shown)))
    assert steps.min() > (0 if colours == "256" else -5e-4)  # red, green, blue are whole numbers


@pytest.mark.parametrize("colours", COLOURED)
def test_around_0_both_sides_darken_from_a_neutral_0(colours: str) -> None:
    shown = backgrounds(SCORES, colours)
    zero = rgb(SCORES.style(0.0, colours).bgcolor)
    assert max(zero) - min(zero) == 0
    middle = shown.index(zero)
    assert middle == len(shown) // 2
    light = list(map(luminance, shown))
    assert light[: middle + 1] == sorted(light[: middle + 1])
    assert light[middle:] == sorted(light[middle:], reverse=True)
    assert all(blue > red for red, _, blue in shown[:middle])
    assert all(red > blue for red, _, blue in shown[middle + 1 :])
    assert len(set(shown)) == len(shown)


@given(st.floats(0, 3))
def test_a_number_and_its_negative_are_as_far_from_0(value: float) -> None:
    above, below = SCORES.level(value), SCORES.level(-value)
    assert above is not None
    assert below is not None
    assert above + below == 2 * 128


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize(("scale", "colours"), SCALES)
def test_the_colour_blind_tell_neighbours_apart(scale: Heat, colours: str, blindness: str) -> None:
    count = 11 if scale.around_zero else 12
    values = np.linspace(-2 if scale.around_zero else 0, 2, count).tolist()
    seen = [lab(rgb(scale.style(v, colours).bgcolor), BLINDNESS[blindness]) for v in values]
    for one, other in pairwise(seen):
        assert np.linalg.norm(one - other) > 9  # about 2 is just noticeable
    if scale.around_zero:
        for one, other in zip(seen[:5], seen[:5:-1], strict=True):
            assert np.linalg.norm(one - other) > 15


def test_the_scale_is_that_of_the_finite_numbers() -> None:
    odd = np.array([[np.nan, np.inf, -np.inf, -3.0, 2.0]])
    assert Heat.of("scores", odd) == Heat(3.0, True)
    assert Heat.of("output", odd) == Heat(3.0, True)
    assert Heat.of("weights", odd) == Heat(2.0, False)
    assert Heat.of("masked", np.zeros((2, 2))) == Heat(0.0, True)
    assert Heat.of("scores", np.full((1, 1), np.inf)) == Heat(0.0, True)
    for nothing in (np.zeros((0, 3)), np.full((2, 2), np.nan), np.full((2, 2), -np.inf)):
        assert Heat.of("masked", nothing) is None


@pytest.mark.parametrize(("scale", "colours"), SCALES)
def test_what_is_no_number_has_no_colour(scale: Heat, colours: str) -> None:
    for value in (math.nan, -math.inf):
        assert scale.style(value, colours) == Style()
        assert scale.shade(value, plain=False) == " "
    assert scale.style(math.inf, colours) == scale.style(2.0, colours) != Style()
    assert scale.style(5.0, colours) == scale.style(2.0, colours)
    nothing = scale._replace(largest=0.0)
    assert nothing.style(0.0, colours) == scale.style(0.0, colours)
    assert nothing.style(math.inf, colours) == scale.style(2.0, colours)


def test_shades_grow_with_the_number() -> None:
    for plain in (False, True):
        signs = heat.ASCII_SHADES if plain else heat.SHADES
        shown = "".join(WEIGHTS.shade(value, plain) for value in np.linspace(0, 2, 5))
        assert shown == signs
        shown = "".join(SCORES.shade(value, plain) for value in (-2, -1.1, -0.9, 0, 0.9, 1.1, 2))
        assert shown == "".join(signs[i] for i in (1, 1, 2, 3, 3, 4, 4))


@given(st.floats(0, 1e300), st.booleans(), st.sampled_from([None, *COLOURED]), st.integers(0, 17))
def test_a_legend_fits_40_columns(
    largest: float, around: bool, colours: str | None, digits: int
) -> None:
    scale = Heat(largest, around)
    text = scale.legend(colours, digits, plain=True)
    assert text.cell_len <= 40
    assert text.plain.isascii()
    assert text.plain.startswith("-" if around and float(text.plain.split()[-1]) else "0")
    assert float(text.plain.split()[-1]) == pytest.approx(largest, rel=0.51, abs=0.5)


def test_a_legend_shows_the_scale() -> None:
    text = SCORES.legend("256", 1, plain=False)
    assert text.plain == f"-2.0 {' ' * 8}0{' ' * 8} 2.0"
    numbers = [
        span.style.bgcolor.number
        for span in text.spans
        if isinstance(span.style, Style) and span.style.bgcolor is not None
    ]
    assert list(dict.fromkeys(numbers)) == list(heat.DIVERGING_256)
    text = WEIGHTS.legend("truecolor", 1, plain=False)
    assert text.plain == f"0 {' ' * 15} 2.0"
    assert len(text.spans) == 15


def test_the_palette_is_that_of_xterm() -> None:
    assert [palette(16 + 43 * i) for i in range(6)] == [
        (v, v, v) for v in (0, 95, 135, 175, 215, 255)
    ]
    assert (palette(196), palette(46), palette(21)) == ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    assert [palette(entry)[0] for entry in range(232, 256)] == list(range(8, 239, 10))
    assert all(len(set(palette(entry))) == 1 for entry in range(232, 256))


@pytest.mark.parametrize("scale", GRID)
def test_true_colours_pass_through_their_anchors(scale: Heat) -> None:
    anchors = heat.DIVERGING if scale.around_zero else heat.CIVIDIS
    low = -2 if scale.around_zero else 0
    for value, anchor in zip(np.linspace(low, 2, len(anchors)).tolist(), anchors, strict=True):
        shown = np.array(rgb(scale.style(value, "truecolor").bgcolor))
        expected = np.array(list(bytes.fromhex(anchor[1:])))
        exact = value in (low, 0, 2)
        assert np.abs(shown - expected).max() <= (0 if exact else 4)
