"""Numbers for a person's eye: so many decimals, decimal points in line."""

import numpy as np

from qkvcli.core.arrays import Array

DIGITS = 4


def formatted(block: Array, digits: int = DIGITS) -> list[list[str]]:
    """The numbers of a matrix, all in one notation.

    Scientific where fixed decimals would show nothing but zeros, or more than eight
    digits before the point.

    >>> formatted(np.array([[0.5, -np.inf], [12.25, -0.00001]]), 2)
    [['0.50', '-inf'], ['12.25', '0.00']]
    >>> formatted(np.array([[1e-9, 2e20]]), 2)
    [['1.00e-09', '2.00e+20']]
    """
    sizes = np.abs(block[np.isfinite(block) & (block != 0)].astype(np.float64))
    largest = sizes.max(initial=0)
    scientific = largest >= 1e8 or (0 < largest < 0.5 * 10.0**-digits)
    notation = f".{digits}{'e' if scientific else 'f'}"
    return [[_text(value, notation) for value in row] for row in block.tolist()]


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
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text
