"""The attention asked for, as one frozen value."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from qkvcli.errors import ShapeError, UsageError

Scale: TypeAlias = float | Literal["none", "sqrt"] | None


@dataclass(frozen=True)
class Attention:
    """What is done between Q·Kᵀ and the softmax.

    ``scale``: None or "none" for the article's bare dot products, "sqrt" for 1/√d
    (Vaswani et al., section 3.2.1), or a number. ``causal``: query i sees keys 0…i.

    >>> Attention(scale="sqrt").scale_of(64)
    0.125
    """

    scale: Scale = None
    causal: bool = False

    def __post_init__(self) -> None:
        if self.scale in (None, "none", "sqrt"):
            return
        if isinstance(self.scale, str) or not math.isfinite(self.scale):
            raise UsageError(f"scale {self.scale!r} is not none, sqrt or a finite number")

    @property
    def scales(self) -> bool:
        """Whether the scores are multiplied by anything."""
        return self.scale not in (None, "none")

    def scale_of(self, width: int | None) -> float:
        """The factor for queries that are ``width`` wide.

        Raises UsageError where 1/√d is asked for and nothing says what d is, ShapeError
        where d is 0.
        """
        if isinstance(self.scale, (int, float)):
            return float(self.scale)
        if width is None:
            raise UsageError(
                "scale sqrt needs the queries' width d, and scores alone don't tell it; "
                "give the query too, or the number itself (for d = 64 it is 0.125)"
            )
        if width == 0:
            raise ShapeError("scale sqrt is 1/√d, and the queries have no columns: d is 0")
        return 1 / math.sqrt(width)

    def scale_formula(self, width: int | None) -> str:
        """The factor as a title writes it.

        >>> Attention(scale="sqrt").scale_formula(64), Attention(scale=0.5).scale_formula(64)
        ('1/√64', '0.5')
        """
        return f"1/√{width}" if self.scale == "sqrt" else f"{self.scale_of(width):g}"
