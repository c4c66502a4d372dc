"""The text that stands in tables: numbers, labels and titles, as a person reads them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from qkvcli.core.operands import Array
from qkvcli.core.steps import Outline
from qkvcli.core.views import View

DIGITS = 4
SINKS = "rows sum to less than 1: the sink takes the rest"
"""What is said of weights with sinks, where their rows are not summed one by one."""


def formatted(block: Array, digits: int = DIGITS, notation: str | None = None) -> list[list[str]]:
    """The numbers of a matrix, all in one `notation`: that of their own peak, or the one given.

    >>> formatted(np.array([[0.5, -np.inf], [12.25, -0.00001]]), 2)
    [['0.50', '-inf'], ['12.25', '0.00']]
    >>> formatted(np.array([[1e-9, 2e20]]), 2)
    [['1.00e-09', '2.00e+20']]
    """
    if notation is None:
        notation = notation_of(peak_of(block), digits)
    return [[_text(value, notation) for value in row] for row in block.tolist()]


def peak_of(block: Array) -> float:
    """The largest size of the numbers of a block that are finite; 0 where there is none."""
    sizes = np.abs(block[np.isfinite(block)].astype(np.float64))
    return float(sizes.max(initial=0))


def notation_of(peak: float, digits: int) -> str:
    """How numbers up to ``peak`` are written.

    Scientific where fixed decimals would show nothing but zeros, or more than eight
    digits before the point.

    >>> notation_of(0.5, 2), notation_of(1e-9, 2), notation_of(0, 2)
    ('.2f', '.2e', '.2f')
    """
    scientific = peak >= 1e8 or (0 < peak < 0.5 * 10.0**-digits)
    return f".{digits}{'e' if scientific else 'f'}"


def aligned(column: list[str]) -> list[str]:
    """The texts padded on the right so that, flush right, their decimal points line up.

    >>> aligned(["1.5e+9", "1.5e+10", "-inf"])
    ['1.5e+9 ', '1.5e+10', '-inf']
    """
    tails = [len(text) - text.index(".") if "." in text else 0 for text in column]
    longest = max(tails, default=0)
    return [
        text + " " * (longest - tail if tail else 0)
        for text, tail in zip(column, tails, strict=True)
    ]


def _text(value: float, notation: str) -> str:
    text = f"{value:{notation}}"
    # a small negative number rounds to "-0.00", which reads as a mistake
    return text[1:] if text.startswith("-") and float(text) == 0 else text


def ordinal(number: int) -> str:
    """Which of many, counted from 1.

    >>> [ordinal(number) for number in (1, 2, 3, 11, 22)]
    ['1st', '2nd', '3rd', '11th', '22nd']
    """
    teens = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def share(weight: float, digits: int = DIGITS) -> str:
    """A weight with this many decimals; a small one with three digits that count.

    >>> share(0.62911), share(0.0001234), share(0.0), share(0.3, 1)
    ('0.6291', '0.000123', '0.0000', '0.3')
    """
    if 0 < weight < 10.0 ** (1 - digits) and digits > 2:
        return f"{weight:.3g}"
    return f"{weight:.{digits}f}"


def percent(share: float) -> str:
    """A share of 1 in hundredths, as short as it can be.

    >>> percent(0.6291), percent(1), percent(0.9999), percent(0.00123), percent(1e-9)
    ('63%', '100%', '99.99%', '0.12%', '<0.01%')
    """
    hundredths = 100 * share
    if 0 < hundredths < 0.01:
        return "<0.01%"
    whole = f"{hundredths:.0f}"
    if share and (whole == "0" or (whole == "100" and hundredths < 99.995)):
        return f"{hundredths:.2g}%" if whole == "0" else f"{hundredths:.2f}%"
    return f"{whole}%"


class Title(NamedTuple):
    """The three parts of "scores = Q·Kᵀ   (5, 64)·(64, 5) → (5, 5)"."""

    name: str
    formula: str
    shapes: str

    def __str__(self) -> str:
        return f"{self.name} = {self.formula}   {self.shapes}"


def title(step: Outline) -> Title:
    """The title of a step.

    >>> step = Outline("scores", "Q·Kᵀ", ((5, 64), "·", (64, 5)), (5, 5), np.dtype(float))
    >>> str(title(step))
    'scores = Q·Kᵀ   (5, 64)·(64, 5) → (5, 5)'
    """
    terms = f"{''.join(map(str, step.terms))} → " if step.terms else ""  # none: it was given
    return Title(step.name, step.formula, f"{terms}{step.shape}")


def matrix_title(index: tuple[int, ...], heads: bool = True) -> str:
    """Which of a step's matrices one is: the last leading axis counts heads, if it has them.

    >>> matrix_title((3,)), matrix_title((0, 3)), matrix_title((1, 0), heads=False)
    ('head 3', 'batch 0, head 3', 'batch 1 0')
    """
    *batches, head = index if heads else (*index, 0)
    named = [f"batch {' '.join(map(str, batches))}"] if batches else []
    return ", ".join([*named, *([f"head {head}"] if heads else [])])


def without_colour(view: View) -> Iterator[str]:
    """What there is in a picture that has no place on a scale: "hidden", "-inf", "NaN".

    A −∞ is hidden where a mask made it, and nowhere else.

    >>> scores = np.array([[-np.inf, -np.inf]])
    >>> step = Outline("scores", "", (), (1, 2), np.dtype(float))
    >>> view = View.held(step, scores, hidden=np.array([[True, False]]))
    >>> list(without_colour(view)), list(without_colour(View.held(step, scores)))
    (['hidden', '-inf'], ['-inf'])
    """
    hidden = np.False_ if view.hidden is None else view.hidden
    if np.any(hidden):
        yield "hidden"
    if (np.isneginf(view.array) & ~hidden).any():
        yield "-inf"
    if np.isnan(view.array).any():
        yield "NaN"


def beyond(usual: float | None, array: Array, digits: int) -> str:
    """What is said where a scale ends at the weights that are usual, and some are larger.

    >>> beyond(0.02, np.array([1.0, 0.02]), 2), beyond(None, np.array([1.0]), 2)
    ('queries that see few keys: up to 1.00, shown as 0.02', '')
    """
    largest = array[np.isfinite(array)].max(initial=0)
    if usual is None or not 0 < usual < largest:
        return ""
    few = "queries that see few keys"
    return f"{few}: up to {share(float(largest), digits)}, shown as {share(usual, digits)}"


def markdown_cell(text: str) -> str:
    r"""A text with the signs that Markdown would read as its own set off.

    >>> print(markdown_cell("a|b [x] "))
    a\|b \[x]
    """
    return "".join("\\" + c if c in r"\|*_`<[" else c for c in text.strip())
