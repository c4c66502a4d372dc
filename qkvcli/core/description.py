"""The attention asked for, as one frozen value."""

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

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
        """Bring what a person may write to one form. Raises UsageError."""
        scale = None if self.scale in (None, "none") else self.scale
        object.__setattr__(self, "scale", scale if scale in (None, "sqrt") else _number(scale))

    @property
    def scales(self) -> bool:
        """Whether the scores are multiplied by anything."""
        return self.scale is not None

    def scale_of(self, width: int | None) -> float:
        """The factor for queries that are ``width`` wide.

        Raises UsageError where 1/√d is asked for and nothing says what d is, ShapeError
        where d is 0.
        """
        if self.scale != "sqrt":
            return float(self.scale or 0)
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


def _number(scale: Any) -> float:
    """A number of any make (NumPy's too) as a float."""
    try:
        value = math.nan if isinstance(scale, bool) else float(scale)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"scale {scale!r} is not none, sqrt or a finite number")
    return value
